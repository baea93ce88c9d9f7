"""The learner's own AP beside records."""

import pytest
import torch

from rcnn_tutorial.course import own_training
from rcnn_tutorial.course.own_training import report

CLASSES = ("background", "disc", "ring")
BOXES = torch.tensor([[0, 0, 8, 8], [10, 0, 30, 20], [40, 0, 80, 40.0]])
TARGETS = [{"boxes": BOXES, "labels": torch.tensor([1, 1, 1])}]
NONE = [{"boxes": BOXES[:0], "labels": torch.tensor([], dtype=torch.int64), "scores": torch.tensor([])}]
LARGE = [{"boxes": BOXES[2:], "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}]


@pytest.fixture
def record(monkeypatch):
    runs = {}
    for seed, ap in enumerate((0.2, 0.4)):
        metrics = {"AP50": ap, "AP": ap / 2, "AP_small_third": 0.1, "AP_middle_third": 0.3, "AP_large_third": ap}
        runs[str(seed)] = {"variants": {"FPN": metrics, "other": dict.fromkeys(metrics, 9.0)}}
    monkeypatch.setattr(own_training, "load", {"mine": {"runs": runs}}.get)


def test_own_rows_stand_above_the_mean_and_spread_of_a_record(record, capsys):
    ap = report(TARGETS, CLASSES, {"before": NONE, "after": LARGE}, {"three seeds": ("mine", "FPN")})
    head, before, after, seeds = capsys.readouterr().out.splitlines()
    assert head.split() == ["AP50", "AP", "small", "middle", "large"]
    assert before.split() == ["before", "0.00", "0.00", "0.00", "0.00", "0.00"]
    name, ap50, whole, *thirds = after.split()
    assert name == "after" and thirds == ["0.00", "0.00", "1.00"]
    assert float(ap50) == float(whole) == pytest.approx(1 / 3, abs=0.02) and ap == pytest.approx(1 / 3, abs=0.02)
    assert seeds == "three seeds 0.30 ± 0.14 0.15 ± 0.07 0.10 ± 0.00 0.30 ± 0.00 0.30 ± 0.14"


def test_columns_can_be_chosen_and_stand_below_each_other(record, capsys):
    report(TARGETS, CLASSES, {"after": LARGE}, {"three seeds": ("mine", "FPN")}, ("AP50",))
    lines = capsys.readouterr().out.splitlines()
    assert {len(line) for line in lines} == {len("three seeds") + 12} and lines[0].split() == ["AP50"]
