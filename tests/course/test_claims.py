import json
import re

import pytest

from rcnn_tutorial.course import claims
from rcnn_tutorial.course.claims import claim, judge


def row(number):
    return f"T-{number}"  # none of the ledger


@pytest.fixture(autouse=True)
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("RCNN_CLAIMS_LOG", str(tmp_path / "log"))
    monkeypatch.setattr(claims, "STATEMENTS", {row(n): f"Statement {n} | of none." for n in (1, 2, 3, 4, 5, 9, 10)})
    return tmp_path / "log"


def entries(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_one_line_for_the_reader(capsys, log):
    claim(row(1), 1 / 3, 1 / 3, note="half overlap")
    claim(row(1), 8151, 6000, tol=300, within=(8151, 8151), agrees="differs", source="about 6,000", note="anchors")
    claim(row(2), condition=True, note="symmetric")
    claim(row(3), 0.52, 0.5, spread=0.01, runs=3, source="half")
    claim(row(3), 0.52, "< 0", spread=0.01, runs=3, agrees="differs", note="AP")
    claim(row(4), source="53.3 % mAP", note="VOC 2012")
    assert capsys.readouterr().out.splitlines() == [
        "T-1: half overlap: 0.333333, source: 0.333333 (computed, agrees)",
        "T-1: anchors: 8151, source: about 6,000 (computed, differs)",
        "T-2: symmetric: holds (shown, agrees)",
        "T-3: 0.520 ± 0.025, source: half (0.5) (measured, agrees: the interval includes 0.5 and leaves out 0)",
        "T-3: AP: 0.520 ± 0.025, source: < 0 (measured, differs: the interval lies above 0)",
        "T-4: VOC 2012: -, source: 53.3 % mAP (not decided here)",
    ]
    agreements = [(e["verdict"], e["agrees"]) for e in entries(log)]
    assert agreements[1:] == [
        ("computed", "differs"), ("shown", "agrees"), ("measured", "agrees"), ("measured", "differs"),
        ("not decided here", "does not decide"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "expected", "tol", "agreement", "why"),
    [
        (0.1, 0.3, "> 0", 0, "agrees", "above 0"),
        (-0.3, -0.1, "> 0", 0, "differs", "below 0"),
        (-0.1, 0.3, "> 0", 0, "does not decide", "includes 0"),
        (-0.3, -0.1, "< 0", 0, "agrees", "below 0"),
        (0.1, 0.3, "<0", 0, "differs", "above 0"),
        (120, 150, "> 100", 0, "agrees", "above 100"),
        (90, 150, "> 100", 0, "does not decide", "includes 100"),
        (0.1, 0.3, 0.2, 0, "agrees", "includes 0.2 and leaves out 0"),
        (-0.1, 0.3, 0.2, 0, "does not decide", "includes 0.2 and 0"),
        (-0.1, 0.1, 0.2, 0, "differs", "leaves out 0.2; it includes 0"),
        (0.3, 0.4, 0.2, 0, "differs", "leaves out 0.2; both lie above 0"),
        (-0.4, -0.3, 0.2, 0, "differs", "leaves out 0.2; 0 lies between them"),
        (-0.4, -0.3, -0.2, 0, "differs", "leaves out -0.2; both lie below 0"),
        (0.1, 0.3, (0.25, 0.5), 0, "agrees", "includes 0.25 to 0.5"),
        (0.26, 0.3, (0.25, 0.5), 0, "agrees", "in the range"),
        (-0.1, 0.24, (0.25, 0.5), 0, "differs", "leaves out 0.25 to 0.5"),
        (-0.005, 0.004, 0.0, 0.01, "agrees", "within 0.01 of 0"),
        (-0.005, 0.04, 0.0, 0.01, "does not decide", "more than 0.01 around it"),
        (0.005, 0.04, 0.0, 0.01, "differs", "leaves out 0"),
        (5944, 5944, 6000, 300, "agrees", ""),
        (8151, 8151, 6000, 300, "differs", ""),
        (-0.1, 0.3, None, 0, "the source is silent", ""),
    ],
)
def test_what_an_interval_says(low, high, expected, tol, agreement, why):
    found, reason = judge(low, high, expected, tol)
    assert found == agreement and why in reason


@pytest.mark.parametrize(
    "call",
    [
        lambda: claim(row(1), 1.01, 1.0, tol=0.005),
        lambda: claim(row(1), float("nan"), 1.0, tol=1.0),
        lambda: claim(row(1), float("nan"), 1.0, agrees="differs"),
        lambda: claim(row(1), float("nan"), "> 0", agrees="differs"),
        lambda: claim(row(1), float("nan"), "> 0", spread=0.1, runs=3, agrees="differs"),
        lambda: claim(row(1), condition=False),
        lambda: claim(row(1), condition=False, agrees="differs"),
        lambda: claim(row(1), 8151, 6000, agrees="differs", within=(8150, 8150)),
        lambda: claim(row(1), 6000, 6000, agrees="differs"),
        lambda: claim(row(1), 8151, agrees="differs", within=(8150, 8150)),
        lambda: claim(row(1), 0.5, "> 0", spread=0.1, runs=3, within=(0, 0.6)),
        lambda: claim(row(1), 0.5, "< 0", spread=0.1, runs=3),
        lambda: claim(row(1), 0.1, "> 0", spread=0.1, runs=3),
        lambda: claim(row(1), 0.5, spread=0.1, runs=3),
        lambda: claim(row(1), 0.5, "> 0", spread=float("nan"), runs=3, agrees="does not decide"),
    ],
)
def test_a_failed_check_raises_and_is_not_logged(call, log):
    with pytest.raises(AssertionError, match="not as stated: T-1"):
        call()
    assert not log.exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda: claim(row(1)),
        lambda: claim(row(1), 1.0),
        lambda: claim(row(1), 1.0, agrees="differs"),
        lambda: claim(row(1), 1.0, 1.0, spread=0.1),
        lambda: claim(row(1), 1.0, 1.0, spread=0.1, runs=1),
        lambda: claim(row(1), 1.0, "much", spread=0.1, runs=3),
        lambda: claim(row(1), 1.0, condition=True),
        lambda: claim(row(1), expected=1.0),
        lambda: claim(row(1), source="14 s", agrees="agrees"),
        lambda: claim("T-6", 1.0, 1.0),
        lambda: claim("x1", 1.0, 1.0),
    ],
)
def test_other_calls_and_unknown_rows_are_refused(call, log):
    with pytest.raises(ValueError, match="expected"):
        call()
    assert not log.exists()


def test_the_log_becomes_json_and_a_page(log, tmp_path, monkeypatch):
    for _ in range(2):
        claim(row(10), 2, 2, note="twice logged, once listed")
    claim(row(9), condition=True, note="before ten")
    claim(row(2), -0.06, "> 0", spread=0.01, runs=3, agrees="differs", source="needed", note="AP, a | b")
    claim(row(2), 3, 20, agrees="differs", note="another difference of the row")
    claim(row(3), 0.01, "> 0", spread=0.02, runs=3, agrees="does not decide", source="better", note="AP")
    claim(row(4), source="14 s", note="of an image")
    claim(row(5), 0.01, spread=0.002, runs=3, agrees="the source is silent", note="AP")
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    claims.main(str(log))
    found = json.loads((tmp_path / "docs/claims.json").read_text())
    assert [e["id"] for e in found] == [row(n) for n in (2, 2, 3, 4, 5, 9, 10)]
    assert all(e["holds"] and e["where"].startswith("tests/course/test_claims.py::test_the_log") for e in found)
    assert [e["agrees"] for e in found] == [
        *2 * ["differs"],
        *2 * ["does not decide"],
        "the source is silent",
        *2 * ["agrees"],
    ]
    page = (tmp_path / "docs/claims.md").read_text()
    assert "6 of 7 rows are checked, in 7 checks: 2 agree with the source, 2 differ, 2 do not decide, of 1 the" in page
    where = "`tests/course/test_claims.py::test_the_log_becomes_json_and_a_page`"
    parts = re.split(r"^## .*\n", page, flags=re.MULTILINE)
    head, differ, undecided, silent, rows = parts
    assert "Student's t" in head
    assert [line for line in differ.splitlines() if "T-" in line] == [
        r"| T-2 | Statement 2 \| of none. | AP, a \| b | -0.060 ± 0.025 | needed (> 0) | the interval lies below 0 | "
        f"{where} |",
        f"| T-2 |  | another difference of the row | 3 | 20 |  | {where} |",
    ]
    assert [line[:7] for line in undecided.splitlines() if "T-" in line] == ["| T-3 |", "| T-4 |"]
    assert [line[:7] for line in silent.splitlines() if "T-" in line] == ["| T-5 |"]
    assert "**T-1** Statement 1 | of none.\n\nNot checked yet.\n" in rows
    assert "**T-10** Statement 10 | of none.\n\n| what is looked at |" in rows
    assert f"| twice logged, once listed | 2 | 2 | computed | agrees | {where} |" in rows
    assert f"| before ten | holds |  | shown | agrees | {where} |" in rows
    assert rows.count("twice logged") == 1


def test_what_several_places_find_alike_is_one_line_of_the_page(log, monkeypatch):
    for place, measured in (("notebooks/00.ipynb::a", 2), ("tests/b.py::c (call)", 2), ("tests/b.py::d (call)", 3)):
        monkeypatch.setenv("PYTEST_CURRENT_TEST", place)
        claim(row(1), measured, measured, note="boxes")
    lines = [line for line in claims.render(claims.collect(log)).splitlines() if "boxes" in line]
    assert lines == [
        "| boxes | 2 | 2 | computed | agrees | `notebooks/00.ipynb`, `tests/b.py::c` |",
        "| boxes | 3 | 3 | computed | agrees | `tests/b.py::d` |",
    ]


def test_the_order_of_a_place_is_that_of_its_calls(log):
    for note in ("widths", "the same of heights", "areas"):
        claim(row(1), condition=True, note=note)
    assert [e["note"] for e in claims.collect(log)] == ["widths", "the same of heights", "areas"]


def test_a_zero_stays_a_figure_of_the_source(log):
    claim(row(1), 0, 0)
    claim(row(2), 0.0, 0.0)
    claim(row(3), condition=True)
    assert [e["expected"] for e in entries(log)] == [0, 0.0, None]


@pytest.mark.parametrize("data", ["shapes", "blood cells"])
def test_no_entry_overwrites_another(log, data, tmp_path):
    """The parameter of a test stays in its place, and what differs by its note stays beside the other."""
    claim(row(1), 1, 1, note=f"AP of {data}")
    claim(row(1), 2, 2, note="the same of another data set")
    claim(row(1), 2, 2, note="the same of another data set")
    found = claims.collect(log)
    assert [e["measured"] for e in found] == ["1", "2"]
    assert all(e["where"] == f"tests/course/test_claims.py::test_no_entry_overwrites_another[{data}]" for e in found)
    other = [e | {"where": e["where"].replace(data, "another")} for e in entries(log)]
    with open(log, "a") as file:
        file.writelines(json.dumps(e) + "\n" for e in other)
    assert len(claims.collect(log)) == 4


@pytest.mark.parametrize("change", [{"measured": "2"}, {"agrees": "differs"}, {"expected": 3}])
def test_two_findings_under_one_name_are_refused(log, change):
    claim(row(1), 1, 1, note="AP")
    with open(log, "a") as file:
        file.write(json.dumps(entries(log)[0] | change) + "\n")
    with pytest.raises(ValueError, match="T-1 in tests/course/.*::.*'AP', has two findings, 1 .agrees. and"):
        claims.collect(log)


def test_a_notebook_is_named_by_its_file(log, monkeypatch):
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "notebooks/00_boxes.ipynb::Cell 0 (setup)")
    claim(row(1), condition=True)
    assert json.loads(log.read_text())["where"] == "notebooks/00_boxes.ipynb"


def test_every_row_of_the_ledger_has_a_statement(monkeypatch):
    monkeypatch.undo()
    groups = dict(RCNN=19, SPP=19, FAST=25, FRCNN=37, FPN=16, MASK=8, RET=18, CMP=19, X=9)
    assert list(claims.STATEMENTS) == [f"{name}-{n:02}" for name, count in groups.items() for n in range(1, count + 1)]
    assert list(claims.GROUPS) == list(groups)
    for id, statement in claims.STATEMENTS.items():
        assert statement[-1] in ".?" and len(statement.split()) > 5 and "|" not in statement, id
    assert len(set(claims.STATEMENTS.values())) == 170
