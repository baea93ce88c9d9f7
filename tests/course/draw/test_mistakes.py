import matplotlib.pyplot as plt
import torch
from matplotlib.colors import to_hex

from rcnn_tutorial.course import draw
from rcnn_tutorial.evaluation import failures
from tests.course.draw.figures import (
    CLASSES,
    IMAGE,
    TARGET,
    edges,
    extents,
    fills,
    panels,
    pixels,
    rectangles,
    render,
    texts,
    titles,
)


def test_kinds_are_numbered_and_listed():
    detection = {"boxes": TARGET["boxes"][:1], "labels": torch.tensor([2]), "scores": torch.tensor([0.9])}
    target = TARGET | {"difficult": torch.tensor([False, False])}
    found = failures([detection], [target])
    ax = draw.kinds(IMAGE, detection, found.kinds[0], target, found.missed[0], CLASSES)
    render()
    assert texts(ax) == ["1", "2", "3", "1  class: ring", "2  missed: disc", "3  missed: ring"]
    beside = [t for t in ax.texts if "  " in t.get_text()]
    assert [to_hex(t.get_color()).upper() for t in beside] == [
        draw.words(c).upper() for c in (draw.KIND_COLORS["class"], draw.TRUTH, draw.TRUTH)
    ]
    assert all(t.get_position()[0] > 1 for t in beside)
    heights = [t.get_position()[1] for t in beside]
    assert heights == sorted(heights, reverse=True) and 0 < heights[-1] < heights[0] < 1
    assert pixels(ax)[0] == IMAGE.permute(1, 2, 0).tolist()


def test_kinds_draw_missed_objects_dotted_and_failures_on_top():
    detection = {
        "boxes": torch.tensor([[30, 10, 68, 48], [50, 5, 78, 20], [5, 30, 20, 45.0]]),
        "labels": torch.tensor([2, 1, 2]),
    }
    ax = draw.kinds(IMAGE, detection, ("correct", "background", "below"), TARGET, torch.tensor([True, False]), CLASSES)
    render()
    *found, missed = extents(ax)
    difficult, *found = found
    assert difficult == TARGET["boxes"][1].tolist()
    assert missed == TARGET["boxes"][0].tolist() and found == detection["boxes"][:2].tolist()
    assert edges(ax) == [draw.IGNORED, draw.GOOD, draw.BAD, "#000000"]
    assert [r.get_linestyle() for r in rectangles(ax)] == ["-", "-", "-", ":"]
    assert texts(ax)[3:] == [
        "1  correct: ring",
        "2  background: disc",
        "3  missed: disc",
        "difficult: ring",
    ]  # not what is below the score
    ax = draw.kinds(IMAGE, detection, ("place", "correct", "below"), TARGET, torch.tensor([False, False]), CLASSES)
    assert extents(ax)[1:] == detection["boxes"][[1, 0]].tolist()  # the failure on top
    assert edges(ax)[1:] == [draw.GOOD, draw.KIND_COLORS["place"]]
    assert texts(ax)[2:] == [
        "1  correct: disc",
        "2  place: ring",
        "difficult: ring",
    ]


def test_each_number_stands_in_a_corner_of_its_box():
    boxes = torch.tensor([[5, 5, 20, 20], [6, 6, 20, 21], [60, 40, 90, 80.0]])
    detection = {"boxes": boxes, "labels": torch.tensor([1, 2, 1])}
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    ax = draw.kinds(IMAGE, detection, ("background",) * 3, none, torch.zeros(0, dtype=torch.bool), CLASSES)
    render()
    for text, (x1, y1, x2, y2) in zip(ax.texts, boxes.clamp(max=torch.tensor([80, 60, 80, 60])).tolist(), strict=False):
        (x, y), across, up = text.get_position(), text.get_ha(), text.get_va()
        assert (x, across) in ((x1, "left"), (x2, "right")) and (y, up) in ((y1, "top"), (y2, "bottom"))
    first, second, third = (t.get_window_extent() for t in ax.texts[:3])
    assert not first.overlaps(second) and third.x1 <= ax.bbox.x1 + 2 and third.y0 >= ax.bbox.y0 - 2


def test_kinds_draw_difficult_objects_without_a_number():
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    target = TARGET | {"difficult": torch.tensor([True, False])}
    ax = draw.kinds(IMAGE, none, (), target, torch.tensor([False, True]), CLASSES)
    assert edges(ax) == [draw.IGNORED, "#000000"] and extents(ax) == TARGET["boxes"].tolist()
    assert texts(ax) == ["1", "1  missed: ring", "difficult: disc"]


def test_kind_bars_give_each_failure_a_panel():
    counts = {
        "CNN": {"correct": 90, "class": 50, "place": 30, "duplicate": 0},
        "+ SVM": {"correct": 95, "class": 40, "place": 2, "duplicate": 1},
    }
    draw.kind_bars(counts)
    render()
    assert titles() == ["class", "place", "duplicate"]
    assert plt.gcf().get_suptitle() == "false detections by kind"
    for ax, kind in zip(panels(), ("class", "place", "duplicate"), strict=True):
        values = [each[kind] for each in counts.values()]
        assert [p.get_width() for p in ax.patches] == values and texts(ax) == [str(value) for value in values]
        assert set(fills(ax)) == {draw.KIND_COLORS[kind]} and ax.get_xlim()[0] == 0 and ax.get_xlim()[1] > 50
        assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first detector on top
    assert [t.get_text() for t in panels()[0].get_yticklabels()] == ["CNN", "+ SVM"]
