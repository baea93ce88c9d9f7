"""Statements of the papers and texts, each held against what the code here computes.

`claim` stands in notebook cells and in tests. It prints one line for the reader, raises where the check fails, and
appends to the file that RCNN_CLAIMS_LOG names. `python -m rcnn_tutorial.course.claims LOG` makes docs/claims.json and
docs/claims.md of such a log. What each row of the ledger states is told in statements.json.
"""

import json
import math
import os
import re
import sys
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

from rcnn_tutorial.evaluation.resampling import student_interval

Verdict = Literal["computed", "shown", "measured", "not decided here"]
Agreement = Literal["agrees", "differs", "does not decide", "the source is silent"]
Expected = float | tuple[float, float] | str

STATEMENTS: dict[str, str] = json.loads((resources.files(__package__) / "statements.json").read_text("utf-8"))
GROUPS = {
    "RCNN": "R-CNN",
    "SPP": "SPPnet",
    "FAST": "Fast R-CNN",
    "FRCNN": "Faster R-CNN",
    "FPN": "FPN",
    "MASK": "Mask R-CNN",
    "RET": "RetinaNet",
    "CMP": "Comparisons",
    "X": "All of them",
}
RULE = """\
What the sources say, and what the notebooks and tests of this project find. Made by `make claims`.

The **verdict** says how a statement was checked: *computed* is a number, *shown* a property that holds or does not,
*measured* a mean over several runs, ± the half of its 95 % interval by Student's t, and *not decided here* a figure at
the scale of a paper. The **agreement** says whether what was found is what the source says:

- A number agrees if it lies within the source's rounding ("about" is read as within 5 %), and differs otherwise.
- A direction, such as "more than 0", agrees if the whole interval lies on that side, and differs if it lies on the
  other one. An interval that includes the bound does not decide.
- A figure of a source differs if the interval leaves it out. It agrees if the interval includes it and leaves out 0, or
  lies so near to it that the source would write the same. An interval that includes both does not decide.
- Where the source says nothing of what was measured, *the source is silent*. Where it speaks of a property, whether
  the property shown is the source's is stated with the check.

A difference does not refute a paper: its networks, data and machines are others, and most trainings here take minutes.
It says that the figure, or the direction, is not what this scale shows. A figure in the column *source* without a word
beside it is what the statement comes to when it is worked out."""


def claim(
    id: str,
    measured: float | None = None,
    expected: Expected | None = None,
    *,
    tol: float = 0.0,
    spread: float | None = None,
    runs: int | None = None,
    within: tuple[float, float] | None = None,
    condition: bool | None = None,
    agrees: Agreement | None = None,
    source: str = "",
    note: str = "",
) -> None:
    """Check one row of the claims ledger, and say whether the finding agrees with the source.

    Four kinds of call, and the verdict of each:

    - `claim(id, measured, expected, tol=...)`: a number, *computed*.
    - `claim(id, condition=..., note=...)`: a property, *shown*; the condition holds.
    - `claim(id, measured, expected, spread=..., runs=...)`: a mean over runs, *measured*.
    - `claim(id, source=..., note=...)`: a figure at the paper's scale, *not decided here*.

    The agreement of a number and of a mean is computed, by the rule at the head of docs/claims.md, and the check fails
    where it is not the one that the caller states. So a check that knows of a difference fails when the difference
    goes away.

    Args:
        id: the row, such as "X-01".
        measured: what was computed or measured here.
        expected: what the source says: a figure, the two ends of a range, or a direction such as "> 0". None for a mean
            of which the source says nothing, and for a number where `agrees` alone tells.
        tol: how far from the figure the source would still write the same.
        spread, runs: standard deviation of `measured` over the runs, and their number.
        within: where the number, or the whole interval of the mean, lies.
        condition: what must be true.
        agrees: the agreement that the caller knows of; "agrees" if it is not given.
        source: what the source says, in words.
        note: what is looked at, in a few words.
    Raises:
        AssertionError: the check fails.
        ValueError: an unknown row, or a call of none of the four kinds.
    """
    if id not in STATEMENTS:
        raise ValueError(f'id: expected a row of statements.json such as "X-01", got {id!r}')
    stated: Agreement = agrees or "agrees"
    verdict: Verdict
    finding, why, holds = stated, "", True
    if measured is not None and spread is not None and runs is not None and condition is None:
        low, high = student_interval(measured, spread, runs)
        verdict, text = "measured", _mean(measured, high - measured)
        finding, why = judge(low, high, expected, tol)
        holds = math.isfinite(spread) and _inside(low, high, within)
    elif measured is not None and spread is runs is condition is None and (expected is not None or (agrees and within)):
        verdict, text = "computed", _number(measured)
        if expected is not None:
            finding, _ = judge(measured, measured, expected, tol)
        holds = _inside(measured, measured, within)
    elif condition is not None and measured is expected is within is None:
        verdict, holds, text = "shown", bool(condition), "holds" if condition else "does not hold"
    elif source and measured is expected is condition is agrees is None:
        verdict, finding, stated, text = "not decided here", "does not decide", "does not decide", "-"
    else:
        raise ValueError(f"claim({id!r}): expected one of the four kinds of call that its docstring lists")
    said = _said(expected, source)
    line = f"{id}: {note + ': ' if note else ''}{text}"
    line += f", source: {_number(said)}" if said != "" else ""
    line += f" ({verdict})" if verdict == "not decided here" else f" ({verdict}, {finding}{': ' + why if why else ''})"
    if not holds or finding != stated or (measured is not None and not math.isfinite(measured)):
        lies = f", expected within {within[0]:g} to {within[1]:g}" if within else ""
        raise AssertionError(f"not as stated: {line}; stated: {stated}{lies}, tolerance {tol:g}")
    if log := os.environ.get("RCNN_CLAIMS_LOG"):
        entry = {"id": id, "where": _where(), "note": note, "measured": text, "expected": None if said == "" else said}
        entry |= {"verdict": verdict, "agrees": finding, "why": why, "holds": True}
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    print(line)


def judge(low: float, high: float, expected: Expected | None, tol: float = 0.0) -> tuple[Agreement, str]:
    """Whether an interval agrees with what a source says, and why.

    Args:
        low, high: ends of the interval; equal for a number that is known.
        expected, tol: as for `claim`.
    Raises:
        ValueError: a text that is no direction.
    """
    if expected is None:
        return "the source is silent", ""
    if isinstance(expected, str):
        side, bound = _direction(expected)
        above, below = low > bound, high < bound
        if not above and not below:
            return ("does not decide", f"the interval includes {bound:g}") if low < high else ("differs", "")
        word = f"the interval lies {'above' if above else 'below'} {bound:g}"
        return ("agrees" if above == (side == ">") else "differs"), word
    first, last = expected if isinstance(expected, tuple) else (expected, expected)
    figure = _number(expected)
    if first - tol <= low and high <= last + tol:
        return "agrees", f"the interval lies within {tol:g} of {figure}" if tol else "the interval lies in the range"
    effect, seen = first > 0 or last < 0, low > 0 or high < 0
    if low > last or high < first:
        if not effect:
            return "differs", f"the interval leaves out {figure}"
        side = f"both lie {'above' if low > 0 else 'below'} 0" if (low > 0) == (first > 0) else "0 lies between them"
        return "differs", f"the interval leaves out {figure}; {side if seen else 'it includes 0'}"
    if effect and seen:
        return "agrees", f"the interval includes {figure} and leaves out 0"
    return (
        "does not decide",
        f"the interval includes {figure}{' and 0' if effect else f', and more than {tol:g} around it'}",
    )


def _direction(text: str) -> tuple[str, float]:
    found = re.fullmatch(r"([<>]) ?(-?\d+(?:\.\d+)?)", text)
    if not found:
        raise ValueError(f'expected: a figure, a range or a direction such as "> 0", got {text!r}')
    return found[1], float(found[2])


def _inside(low: float, high: float, within: tuple[float, float] | None) -> bool:
    return within is None or (within[0] <= low and high <= within[1])


def _number(value: Expected) -> str:
    if isinstance(value, tuple):
        return f"{_number(value[0])} to {_number(value[1])}"
    return f"{value + 0.0:.6g}" if isinstance(value, float) else f"{value}"


def _mean(mean: float, half: float) -> str:
    """With two digits of the half of the interval."""
    digits = max(0, 1 - math.floor(math.log10(half))) if 0 < half < math.inf else 3
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def _said(expected: Expected | None, source: str) -> Expected:
    if expected is None:
        return source
    figure = _number(expected)
    if not source:
        return expected if isinstance(expected, int | float) else figure
    told = {figure, f"{expected:,}"} if isinstance(expected, int | float) else {figure}
    return source if told & set(source.split()) else f"{source} ({figure})"


def _where() -> str:
    # pytest sets the variable for each test, and a notebook's kernel inherits it from the notebook's first cell.
    current = os.environ.get("PYTEST_CURRENT_TEST", "").rsplit(" (", 1)[0]
    return current.split("::")[0] if ".ipynb" in current else current


def collect(log: Path) -> list[dict]:
    """The entries of a log in the ledger's order, those of one place as they came; a repeated run counts once.

    Raises:
        ValueError: two entries look at the same in the same place, and say different things.
    """
    unique: dict[tuple[str, str, str], dict] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        key = entry["id"], entry["where"], entry["note"]
        if unique.setdefault(key, entry) != entry:
            raise ValueError(
                f"{log}: {entry['id']} in {entry['where']}, {entry['note']!r}, has two findings, "
                f"{unique[key]['measured']} ({unique[key]['agrees']}) and {entry['measured']} ({entry['agrees']}): "
                "their notes must say what sets them apart"
            )
    rows = list(STATEMENTS)
    return [unique[key] for key in sorted(unique, key=lambda key: (rows.index(key[0]), key[1]))]


def render(entries: list[dict]) -> str:
    """docs/claims.md: the rule, the differences, what is not decided, and all rows with their statements."""
    rows = len({e["id"] for e in entries})
    agree, differ, open_, silent = (sum(e["agrees"] == word for e in entries) for word in get_args(Agreement))
    counts = f"{agree} agree with the source, {differ} differ, {open_} do not decide, of {silent} the source is silent"
    checked = f"{rows} of {len(STATEMENTS)} rows are checked, in {len(entries)} checks"
    lines = ["# Claims", "", RULE, "", f"{checked}: {counts}."]
    findings = _findings(entries)
    titles = "Where the findings differ", "What is not decided", "Of what the source is silent"
    for title, agreement in zip(titles, get_args(Agreement)[1:], strict=True):
        lines += ["", f"## {title}", "", "| row | statement | what is looked at | here | source | why | where |"]
        lines += ["|---|---|---|---|---|---|---|"]
        last = None
        for e in (e for e in findings if e["agrees"] == agreement):
            lines.append(
                _line(e["id"], "" if e["id"] == last else STATEMENTS[e["id"]], *_cells(e), e["why"], e["where"])
            )
            last = e["id"]
    group = None
    for id, statement in STATEMENTS.items():
        if group != (group := id.split("-")[0]):
            lines += ["", f"## {GROUPS.get(group, group)}"]
        lines += ["", f"**{id}** {statement}", ""]
        checks = [e for e in findings if e["id"] == id]
        if not checks:
            lines.append("Not checked yet.")
            continue
        lines += ["| what is looked at | here | source | verdict | agreement | where |", "|---|---|---|---|---|---|"]
        lines += [_line(*_cells(e), e["verdict"], e["agrees"], e["where"]) for e in checks]
    return "\n".join(lines) + "\n"


def _findings(entries: list[dict]) -> list[dict]:
    """The entries, those that say the same in several places as one."""
    places: dict[str, list[dict]] = {}
    for entry in entries:
        places.setdefault(json.dumps(entry | {"where": ""}), []).append(entry)
    return [same[0] | {"where": ", ".join(f"`{e['where']}`" for e in same)} for same in places.values()]


def _cells(entry: dict) -> tuple[str, str, str]:
    said = entry["expected"]
    return entry["note"], entry["measured"], "" if said is None else _number(said)


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main(log: str) -> None:
    """Write docs/claims.json and docs/claims.md, of the working folder, from a log."""
    entries, folder = collect(Path(log)), Path("docs")
    (folder / "claims.json").write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "claims.md").write_text(render(entries), encoding="utf-8")
    print(f"{len({e['id'] for e in entries})} rows, {len(entries)} checks: docs/claims.json, docs/claims.md")


if __name__ == "__main__":
    main(sys.argv[1])
