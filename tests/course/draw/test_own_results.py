import matplotlib.pyplot as plt
import pytest
import torch

from rcnn_tutorial.course import draw
from tests.course.draw.figures import CLASSES, IMAGE, TARGET, edges, extents, panels, pixels, rectangles, texts, titles

SMALL = {"boxes": torch.tensor([[2, 12, 22, 38.0]]), "labels": torch.tensor([1])}
BEFORE = [
    {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64), "scores": torch.empty(0)},
    {
        "boxes": torch.tensor([[2, 12, 22, 38], [0, 10, 9, 39.0]]),
        "labels": torch.tensor([2, 1]),
        "scores": torch.tensor([0.75, 0.4]),
    },
]
AFTER = [
    {
        "boxes": torch.tensor([[5, 5, 20, 20], [30, 10, 70, 50], [5, 6, 20, 20.0]]),
        "labels": torch.tensor([1, 2, 1]),
        "scores": torch.tensor([0.9, 0.8, 0.6]),
    },
    {"boxes": SMALL["boxes"], "labels": SMALL["labels"], "scores": torch.tensor([0.5])},
]
IMAGES = [IMAGE, IMAGE[:, 10:50, :30]]


def shown(**changes):
    draw.own_results(
        **dict(images=IMAGES, targets=[TARGET, SMALL], before=BEFORE, after=AFTER, classes=CLASSES) | changes
    )
    return panels()


def test_a_row_for_each_picture_and_titles_that_count():
    axes = shown()
    assert titles() == ["truth: 3 objects", "before: 0 right, 1 wrong", "after: 2 right, 1 wrong", "", "", ""]
    assert [pixels(ax)[0] for ax in axes] == [image.permute(1, 2, 0).tolist() for image in IMAGES for _ in range(3)]


def test_without_an_answer_before_its_column_is_left_out():
    axes = shown(before=None)
    assert titles() == ["truth: 3 objects", "after: 2 right, 1 wrong", "", ""]
    assert texts(axes[0]) == ["disc", "ring?"] and texts(axes[3]) == ["disc 0.50"]
    with pytest.raises(ValueError, match="as many targets and detections as images"):
        shown(before=None, after=AFTER[:1])


def test_the_columns_may_have_other_names():
    shown(names=("05", "07"))
    assert titles() == ["truth: 3 objects", "05: 0 right, 1 wrong", "07: 2 right, 1 wrong", "", "", ""]
    shown(before=None, names=("05", "07"))
    assert titles() == ["truth: 3 objects", "07: 2 right, 1 wrong", "", ""]


def test_the_truth_is_black_and_dotted():
    first, _, _, second, _, _ = shown()
    assert texts(first) == ["disc", "ring?"] and texts(second) == ["disc"]
    assert extents(first) == TARGET["boxes"].tolist() and set(edges(first)) == {"#000000"} == {draw.TRUTH}
    assert {r.get_linestyle() for r in rectangles(first)} == {":"}


def test_detections_are_green_when_right_and_vermillion_when_wrong():
    _, none, after, _, wrong, right = shown()
    assert not rectangles(none) and not texts(none)
    assert texts(wrong) == ["ring 0.75"] and edges(wrong) == [draw.MISTAKE]  # the one of 0.4 is not drawn
    assert texts(right) == ["disc 0.50"] and edges(right) == [draw.DETECTION]
    # ignored: its object is difficult; the duplicate is wrong; what is right lies on top
    assert texts(after) == ["ring 0.80", "disc 0.60", "disc 0.90"]
    assert edges(after) == [draw.IGNORED, draw.MISTAKE, draw.DETECTION]
    assert extents(after)[-1] == TARGET["boxes"][0].tolist()


def test_the_truth_may_lie_below_the_detections():
    _, none, after, _, wrong, right = shown(everywhere=True)
    assert extents(none) == TARGET["boxes"].tolist() and edges(none) == [draw.TRUTH] * len(TARGET["boxes"])
    assert extents(wrong) == [SMALL["boxes"][0].tolist(), BEFORE[1]["boxes"][0].tolist()]
    for ax, count in ((none, 2), (after, 2), (wrong, 1), (right, 1)):
        dashes = [r.get_linestyle() for r in rectangles(ax)]
        assert dashes == [":"] * count + ["-"] * (len(dashes) - count)
    assert texts(none) == [] and texts(wrong) == ["ring 0.75"]


def test_the_threshold_decides_what_is_drawn_and_counted():
    axes = shown(threshold=0.3)
    assert titles()[1] == "before: 0 right, 2 wrong" and texts(axes[4]) == ["ring 0.75", "disc 0.40"]


def test_no_word_lies_on_another():
    axes = shown(threshold=0.3)
    plt.gcf().canvas.draw()
    for ax in axes:
        places = [text.get_window_extent() for text in ax.texts]
        assert not any(a.overlaps(b) for i, a in enumerate(places) for b in places[:i])


def test_a_label_begins_at_its_box_where_there_is_room():
    target = {"boxes": torch.tensor([[51, 30, 57, 45.0]]), "labels": torch.tensor([1])}
    answer = target | {"scores": torch.tensor([0.9])}
    *_, after = shown(images=[IMAGE], targets=[target], before=[answer], after=[answer])
    (text,) = after.texts
    assert (text.get_position()[0], text.get_ha()) == (51, "left")


@pytest.mark.parametrize("changes", [dict(images=[], targets=[], before=[], after=[]), dict(after=AFTER[:1])])
def test_as_many_answers_as_pictures(changes):
    with pytest.raises(ValueError, match="as many targets and detections as images"):
        shown(**changes)
