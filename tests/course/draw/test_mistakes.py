import matplotlib.pyplot as plt
import pytest
import torch

from rcnn_tutorial.course import draw
from rcnn_tutorial.evaluation import failures
from tests.course.draw.figures import (
    CLASSES,
    IMAGE,
    TARGET,
    edges,
    extents,
    fills,
    key,
    labels,
    pixels,
    rectangles,
    render,
    texts,
    ticks,
    written,
)


def test_kinds_and_bars():
    detection = {"boxes": TARGET["boxes"][:1], "labels": torch.tensor([2]), "scores": torch.tensor([0.9])}
    target = TARGET | {"difficult": torch.tensor([False, False])}
    found = failures([detection], [target])
    ax = draw.kinds(IMAGE, detection, found.kinds[0], target, found.missed[0], CLASSES)
    render()
    assert texts(ax) == ["missed", "missed", "class: ring"]
    assert pixels(ax)[0] == IMAGE.permute(1, 2, 0).tolist()
    draw.kind_bars(found.counts | {"correct": 7})
    render()
    ax = plt.gca()
    assert ticks(ax.yaxis) == dict(enumerate(found.counts)) and ax.get_ylim()[0] > ax.get_ylim()[1]
    assert [r.get_width() for r in rectangles(ax)] == [7, *list(found.counts.values())[1:]]
    assert texts(ax) == [str(r.get_width()) for r in rectangles(ax)]
    assert fills(ax) == [*draw.KIND_COLORS.values(), "#000000"] and labels(ax) == ("detections (missed: objects)", "")


def test_kinds_draw_missed_objects_dotted_and_failures_on_top():
    detection = {
        "boxes": torch.tensor([[30, 10, 68, 48], [50, 5, 78, 20], [5, 30, 20, 45.0]]),
        "labels": torch.tensor([2, 1, 2]),
    }
    ax = draw.kinds(IMAGE, detection, ("correct", "background", "below"), TARGET, torch.tensor([True, False]), CLASSES)
    render()
    missed, *found = extents(ax)
    assert missed == TARGET["boxes"][0].tolist() and found == detection["boxes"][:2].tolist()
    assert edges(ax) == ["#000000", draw.GOOD, draw.BAD] and rectangles(ax)[0].get_linestyle() == ":"
    assert [r.get_linestyle() for r in rectangles(ax)[1:]] == ["-", "-"]
    assert written(ax)[:2] == [("missed", (5, 20)), ("correct: ring", (30, 10))]
    assert texts(ax)[2:] == ["background: disc"]  # what is below the score is not drawn
    ax = draw.kinds(IMAGE, detection, ("place", "correct", "below"), TARGET, torch.tensor([False, False]), CLASSES)
    assert extents(ax) == detection["boxes"][[1, 0]].tolist()  # the failure on top
    assert edges(ax) == [draw.GOOD, draw.KIND_COLORS["place"]] and texts(ax) == ["correct: disc", "place: ring"]


def test_kind_stacks_pile_up_the_failures():
    counts = {
        "CNN": {"correct": 90, "class": 50, "place": 30, "missed": 20},
        "+ SVM": {"correct": 95, "class": 40, "place": 2, "missed": 10},
    }
    draw.kind_stacks(counts)
    render()
    ax = plt.gca()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["CNN", "+ SVM"]
    assert [(p.get_y(), p.get_height()) for p in ax.patches[::2]] == [(0, 50), (50, 30), (80, 20)]
    assert [(p.get_y(), p.get_height()) for p in ax.patches[1::2]] == [(0, 40), (40, 2), (42, 10)]
    assert fills(ax)[::2] == [draw.KIND_COLORS["class"], draw.KIND_COLORS["place"], "#000000"]
    assert texts(ax) == ["50", "40", "30", "", "20", "10"]  # no room for the 2
    colors = draw.KIND_COLORS
    assert key(ax.get_legend()) == {"missed": "#000000", "place": colors["place"], "class": colors["class"]}
    assert [r.get_x() + r.get_width() / 2 for r in rectangles(ax)] == pytest.approx([0, 1] * 3)
    assert labels(ax) == ("", "detections (missed: objects)")
    assert ax.texts[-1].get_color() == "white" and ax.texts[0].get_color() == "black"
    draw.kind_stacks({"CNN": {"correct": 90, "class": 50}})
    assert labels(plt.gca()) == ("", "detections")
