import json

import pytest

from rcnn_tutorial import claims
from rcnn_tutorial.claims import claim


def row(number):
    return f"T-{number}"  # none of the ledger


@pytest.fixture(autouse=True)
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("RCNN_CLAIMS_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def test_one_line_for_the_reader(capsys):
    claim(row(1), 1 / 3, 1 / 3, note="half overlap")
    claim(row(2), condition=True, note="symmetric")
    claim(row(3), 0.52, "about 0.5", spread=0.01, condition=True)
    claim(row(4), expected="53.3 % mAP", note="VOC 2012")
    assert capsys.readouterr().out.splitlines() == [
        "T-1: half overlap: 0.333333, source 0.333333 (computed)",
        "T-2: symmetric: holds (shown)",
        "T-3: 0.52 ± 0.01, source about 0.5 (measured)",
        "T-4: VOC 2012: -, source 53.3 % mAP (not decided here)",
    ]


@pytest.mark.parametrize(
    "call",
    [
        lambda: claim(row(1), 1.01, 1.0, tol=0.005),
        lambda: claim(row(1), float("nan"), 1.0, tol=1.0),
        lambda: claim(row(1), condition=False),
        lambda: claim(row(1), 0.5, spread=0.1, condition=False),
    ],
)
def test_a_failed_check_raises_and_is_not_logged(call, log):
    with pytest.raises(AssertionError, match="contradicted: T-1"):
        call()
    assert not log.exists()


@pytest.mark.parametrize("call", [lambda: claim(row(1)), lambda: claim(row(1), 1.0), lambda: claim("x1", 1.0, 1.0)])
def test_other_calls_are_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()


def test_the_log_becomes_json_and_a_table(log, tmp_path, monkeypatch):
    for _ in range(2):
        claim(row(10), 2, 2, note="twice logged, once listed")
    claim(row(9), condition=True, note="before ten")
    monkeypatch.chdir(tmp_path)
    claims.main(str(log))
    entries = json.loads((tmp_path / "claims.json").read_text())
    assert [e["id"] for e in entries] == [row(9), row(10)]
    assert all(e["holds"] and e["where"].startswith("tests/test_claims.py::test_the_log") for e in entries)
    table = (tmp_path / "CLAIMS.md").read_text()
    assert "| T-10 | twice logged, once listed | 2 | 2 | computed | `tests/test_claims.py" in table


def test_a_notebook_is_named_by_its_file(log, monkeypatch):
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "notebooks/00_boxes.ipynb::Cell 0 (setup)")
    claim(row(1), condition=True)
    assert json.loads(log.read_text())["where"] == "notebooks/00_boxes.ipynb"
