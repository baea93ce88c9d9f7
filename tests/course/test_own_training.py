"""The learner's own AP beside records."""

import pytest
import torch

from rcnn_tutorial.course import own_training
from rcnn_tutorial.course.own_training import clearest, fullest, gradient_norms, report, strongest, with_objects

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


def test_pictures_are_chosen_by_their_objects():
    some = [{"boxes": BOXES[:n], "labels": torch.ones(n, dtype=torch.int64)} for n in (0, 2, 0, 3, 1, 3)]
    assert fullest(some) == 3
    data = [(torch.zeros(3, 8, 8), target) for target in some]
    assert with_objects(data, 2).indices == [1, 3] and with_objects(data[:3], 2).indices == [1]


def test_gradient_norms_tell_which_layers_a_loss_reaches():
    first, second, apart = (torch.nn.Linear(2, 2) for _ in range(3))
    x = first(torch.ones(1, 2))
    losses = {"short": x.sum(), "long": second(x).sum(), "cut": second(x.detach()).sum()}
    norms = gradient_norms(losses, [first, second, apart])
    assert (norms > 0).tolist() == [[True, False, False], [True, True, False], [False, True, False]]
    assert norms[0, 0] == pytest.approx(2 + 2**0.5)  # of the weights, all 1, and of the bias


def test_the_clearest_pictures_have_about_three_objects_that_do_not_overlap():
    crowded = torch.tensor([[0, 0, 8, 8], [0, 0, 8, 9], [40, 0, 80, 40.0]])
    found = [{"boxes": boxes} for boxes in (BOXES[:0], crowded, BOXES[:2], BOXES, BOXES[:1])]
    assert clearest(found, 3) == [3, 1, 2] and clearest(found, 9) == [3, 1, 2, 4, 0]


def test_the_strongest_detections_of_each_picture():
    answers = [
        {
            "boxes": torch.arange(12.0).view(3, 4),
            "labels": torch.tensor([1, 2, 3]),
            "scores": torch.tensor([0.2, 0.9, 0.5]),
        },
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)},
    ]
    best, none = strongest(answers, 2)
    assert best["labels"].tolist() == [2, 3] and best["boxes"].tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]
    assert len(none["boxes"]) == 0
