import matplotlib.pyplot as plt
import pytest
import torch

from rcnn_tutorial.course import draw
from tests.course.draw.figures import IMAGE, edges, extents, key, panels, rectangles, render, titles

TARGET = {"boxes": torch.tensor([[5, 5, 20, 20], [30, 10, 70, 50.0]]), "labels": torch.tensor([1, 2])}
GOOD_ONE = {"boxes": torch.tensor([[5, 5, 20, 21.0]]), "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}
BAD_ONE = {
    "boxes": torch.tensor([[30, 10, 70, 50], [0, 0, 9, 9], [5, 5, 20, 20.0]]),
    "labels": torch.tensor([1, 2, 1]),
    "scores": torch.tensor([0.8, 0.7, 0.3]),
}


def test_what_is_right_wrong_and_missed():
    draw.judged(IMAGE, TARGET, {"one": GOOD_ONE, "other": BAD_ONE})
    render()
    left, right = panels()
    assert titles() == ["one: 1 of 2 found, 0 wrong", "other: 0 of 2 found, 2 wrong"]
    assert extents(left) == [[5, 5, 20, 21], [30, 10, 70, 50]] and edges(left) == [draw.GOOD, draw.TRUTH]
    assert extents(right) == [*BAD_ONE["boxes"][:2].tolist(), *TARGET["boxes"].tolist()]  # a score of 0.3 is left out
    assert edges(right) == [draw.BAD] * 2 + [draw.TRUTH] * 2
    assert [r.get_linestyle() for r in rectangles(left)] == ["-", ":"]
    shown = {"right": (draw.GOOD, "-"), "wrong": (draw.BAD, "-"), "missed object": (draw.TRUTH, ":")}
    assert key(plt.gcf().legends[0]) == shown


def test_the_threshold_counts_as_well():
    draw.judged(IMAGE, TARGET, {"other": BAD_ONE}, threshold=0.2)
    assert titles() == ["other: 1 of 2 found, 2 wrong"] and extents(panels()[0])[0] == [5, 5, 20, 20]
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.judged(IMAGE, TARGET, {})
