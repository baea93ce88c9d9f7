"""Statements of the papers and texts, each held against what the code here computes.

`claim` stands in notebook cells and in tests. It prints one line for the reader, raises where the check fails, and
appends to the file that RCNN_CLAIMS_LOG names. `python -m rcnn_tutorial.claims LOG` makes claims.json and CLAIMS.md
of such a log.
"""

import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Literal

Verdict = Literal["computed", "shown", "measured", "not decided here"]


def claim(
    id: str,
    measured: float | None = None,
    expected: float | str | None = None,
    *,
    tol: float = 0.0,
    spread: float | None = None,
    condition: bool | None = None,
    note: str = "",
) -> None:
    """Check one row of the claims ledger and say so.

    Four kinds of call, and the verdict of each:

    - `claim(id, measured, expected, tol=...)`: a sum, *computed*; |measured - expected| <= tol.
    - `claim(id, condition=..., note=...)`: a mechanism, *shown*; the condition holds.
    - `claim(id, measured, expected, spread=..., condition=...)`: a figure over seeds, *measured* as mean and spread;
      the condition is what it is taken to show.
    - `claim(id, expected=..., note=...)`: a figure at the paper's scale, *not decided here*.

    Args:
        id: the row, such as "X-01".
        measured: what was computed or measured here.
        expected: what the source says.
        tol: largest difference allowed.
        spread: standard deviation of `measured` over the seeds.
        condition: what must be true.
        note: what is looked at, in a few words.
    Raises:
        AssertionError: the check fails.
        ValueError: the call is none of the four kinds.
    """
    if not re.fullmatch(r"[A-Z]+-\d+", id):
        raise ValueError(f'id: expected a row such as "X-01", got {id!r}')
    verdict: Verdict
    if spread is not None and measured is not None and condition is not None:
        verdict, holds, text = "measured", bool(condition), f"{_number(measured)} ± {_number(spread)}"
    elif condition is not None and measured is None:
        verdict, holds, text = "shown", bool(condition), "holds" if condition else "does not hold"
    elif isinstance(measured, int | float) and isinstance(expected, int | float) and condition is None:
        verdict, holds, text = (
            "computed",
            math.isfinite(measured) and abs(measured - expected) <= tol,
            _number(measured),
        )
    elif measured is None and expected is not None:
        verdict, holds, text = "not decided here", True, "-"
    else:
        raise ValueError(f"claim({id!r}): expected one of the four kinds of call that its docstring lists")
    source = "" if expected is None else f", source {_number(expected)}"
    line = f"{id}: {note + ': ' if note else ''}{text}{source} ({verdict})"
    if not holds:
        raise AssertionError(f"contradicted: {line}" + (f", tolerance {tol:g}" if verdict == "computed" else ""))
    if log := os.environ.get("RCNN_CLAIMS_LOG"):
        entry = {"id": id, "where": _where(), "note": note, "measured": text, "expected": expected}
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps({**entry, "verdict": verdict, "holds": holds}) + "\n")
    print(line)


def _number(value: float | str) -> str:
    return f"{value + 0.0:.6g}" if isinstance(value, float) else f"{value}"


def _where() -> str:
    # pytest sets the variable for each test, and a notebook's kernel inherits it from the notebook's first cell.
    current = os.environ.get("PYTEST_CURRENT_TEST", "").split(" ")[0]
    return current.split("::")[0] if ".ipynb" in current else re.sub(r"\[.*", "", current)


def collect(log: Path) -> list[dict]:
    """The entries of a log, one per row, place and note, in the ledger's order; a repeated run counts once."""
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    unique = {(e["id"], e["where"], e["note"]): e for e in entries}

    def order(key: tuple[str, str, str]) -> tuple:
        group, number = key[0].split("-")
        return (group, int(number), *key[1:])

    return [unique[key] for key in sorted(unique, key=order)]


def render(entries: list[dict]) -> str:
    """CLAIMS.md: a table of the entries."""
    lines = [
        "# Claims",
        "",
        "What the sources say, and what the notebooks and tests of this project find. Made by `make claims`.",
        "",
        "| row | what is looked at | here | source says | verdict | where |",
        "|---|---|---|---|---|---|",
    ]
    for e in entries:
        said = "" if e["expected"] is None else _number(e["expected"])
        lines.append(f"| {e['id']} | {e['note']} | {e['measured']} | {said} | {e['verdict']} | `{e['where']}` |")
    return "\n".join(lines) + "\n"


def main(log: str) -> None:
    """Write claims.json and CLAIMS.md, in the working folder, from a log."""
    entries = collect(Path(log))
    Path("claims.json").write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    Path("CLAIMS.md").write_text(render(entries), encoding="utf-8")
    print(f"{len({e['id'] for e in entries})} rows, {len(entries)} checks: claims.json, CLAIMS.md")


if __name__ == "__main__":
    main(sys.argv[1])
