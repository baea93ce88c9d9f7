import matplotlib.pyplot as plt
import pytest
import torch

from rcnn_tutorial.course import draw
from rcnn_tutorial.ops.boxes import box_iou
from tests.course.draw.figures import (
    CLASSES,
    IMAGE,
    TARGET,
    edges,
    extents,
    is_grey,
    key,
    panels,
    rectangles,
    render,
    texts,
    titles,
)

EASY = {"boxes": TARGET["boxes"], "labels": TARGET["labels"]}
FOUND = {
    "boxes": torch.tensor([[6, 5, 20, 20], [30, 10, 70, 50], [0, 0, 9, 9.0]]),
    "labels": torch.tensor([1, 1, 2]),
    "scores": torch.tensor([0.9, 0.7, 0.2]),
}


def test_an_answer_shows_what_is_right_what_is_wrong_and_the_objects():
    draw.answer(IMAGE, FOUND, EASY, CLASSES)
    render()
    (ax,) = panels()
    assert titles() == ["1 of 2 objects found, 1 box wrong"] and is_grey(ax)
    objects, (wrong, right) = rectangles(ax)[:2], rectangles(ax)[2:]
    assert extents(ax)[:2] == EASY["boxes"].tolist() and {r.get_linestyle() for r in objects} == {":"}
    assert objects[0].get_linewidth() < objects[1].get_linewidth()  # the second is missed
    assert edges(ax) == [draw.TRUTH] * 2 + [draw.MISTAKE, draw.DETECTION]
    assert wrong.get_bbox().x0 == 30 and right.get_bbox().x0 == 6 and texts(ax) == ["disc 0.70", "disc 0.90"]
    assert key(plt.gcf().legends[0]) == {
        "object": (draw.TRUTH, ":"), "right": (draw.GOOD, "-"), "wrong": (draw.MISTAKE, "-"),
    }  # fmt: skip


def test_the_threshold_decides_what_counts():
    draw.answer(IMAGE, FOUND, EASY, CLASSES, threshold=0.1)
    assert titles() == ["1 of 2 objects found, 2 boxes wrong"]


def test_the_objects_that_are_missed_are_named():
    draw.answer(IMAGE, FOUND, EASY, CLASSES, named=True)
    render()
    (ax,) = panels()
    missed = [t for t in ax.texts if t.get_text().startswith("missed")]
    assert texts(ax) == ["disc 0.70", "disc 0.90", "missed: ring"]
    assert missed[0].get_position()[0] == pytest.approx(EASY["boxes"][1, 0].item())
    draw.answer(IMAGE, FOUND, EASY, CLASSES, threshold=0.95, named=True)
    assert sorted(texts(plt.gca())) == ["missed: disc", "missed: ring"]


def test_closeups_have_the_same_part_for_all_detectors():
    windows = torch.tensor([[10, 10, 30, 20], [40, 20, 60, 50.0]])
    answers = {"no fault": windows + 2, "A": windows - torch.tensor([8.0, 0, 8, 0])}
    truths = windows + torch.tensor([3.0, 3, 7, 7])
    draw.closeups(IMAGE, windows, answers, truths)
    render()
    axes = panels()
    assert titles() == ["no fault", "A", "", ""]
    for row in range(2):
        for column, found in enumerate(answers.values()):
            ax = axes[2 * row + column]
            assert extents(ax) == [found[row].tolist(), windows[row].tolist(), truths[row].tolist()]
            assert edges(ax) == [draw.DETECTION, draw.PROPOSAL, draw.TRUTH]
            assert [r.get_linestyle() for r in rectangles(ax)] == ["-", "--", ":"]
            start, end = (box_iou(b[row][None], truths[row][None]).item() for b in (windows, found))
            assert texts(ax) == [f"IoU {start:.2f} to {end:.2f}"] and start != end
        first, second = axes[2 * row : 2 * row + 2]
        assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()
        low, high = first.get_xlim()
        bottom, top = first.get_ylim()
        boxes = extents(first) + extents(second)
        assert low < min(b[0] for b in boxes) and max(b[2] for b in boxes) < high
        assert top < min(b[1] for b in boxes) and max(b[3] for b in boxes) < bottom
        assert high - low < 1.6 * (max(b[2] for b in boxes) - min(b[0] for b in boxes)) + 8  # drawn large
    assert key(plt.gcf().legends[0]) == {
        "proposal": (draw.PROPOSAL, "--"), "box made of it": (draw.DETECTION, "-"), "object": (draw.TRUTH, ":"),
    }  # fmt: skip
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.closeups(IMAGE, windows, {}, truths)
