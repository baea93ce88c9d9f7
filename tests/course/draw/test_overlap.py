import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw.style import ink
from rcnn_tutorial.course.nms_steps import nms_steps
from rcnn_tutorial.ops.assign import match
from tests.course.draw.figures import (
    IMAGE,
    edges,
    extents,
    fills,
    is_darker_where_higher,
    key,
    labels,
    looks,
    panels,
    pixels,
    points,
    rectangles,
    render,
    texts,
    ticks,
    titles,
    written,
)

SIX = torch.tensor(
    [[4, 4, 24, 24], [7, 5, 27, 25], [12, 6, 32, 26], [15, 7, 35, 27], [30, 12, 46, 28], [5, 10, 21, 30.0]]
)
SCORES = torch.tensor([0.95, 0.9, 0.8, 0.7, 0.6, 0.5])


def test_iou_slide_marks_the_overlap():
    draw.iou_slide(5)
    render()
    left, right = plt.gcf().axes
    assert left.get_title() == "in both 50, in either 150" and right.get_title() == "shift 5: IoU 0.333"
    assert extents(left) == [[0, 0, 10, 10], [5, 0, 15, 10], [5, 0, 10, 10]]  # the two boxes, what both have
    assert edges(left)[:2] == list(draw.COLORS[:2]) and fills(left)[2] == draw.GOOD
    assert [r.get_fill() for r in rectangles(left)] == [False, False, True]
    assert labels(left) == ("x, pixels", "y, pixels") and left.get_ylim()[0] > left.get_ylim()[1]
    curve, marker, half = right.lines
    assert labels(right) == ("shift, pixels", "IoU") and points(marker) == [(5, pytest.approx(1 / 3))]
    assert points(curve) == [
        (pytest.approx(s, abs=1e-5), pytest.approx(max(10 - s, 0) / (20 - max(10 - s, 0)), abs=1e-5))
        for s in torch.linspace(0, 20, 201).tolist()
    ]
    assert list(half.get_ydata()) == [0.5, 0.5] and looks(marker)[0] == draw.GOOD
    draw.iou_slide(15)
    assert plt.gcf().axes[0].get_title() == "in both 0, in either 200"
    draw.iou_slide(2, size=4)
    assert extents(plt.gcf().axes[0])[2] == [2, 0, 4, 4] and plt.gcf().axes[0].get_title() == "in both 8, in either 24"


def test_iou_table_names_every_row():
    iou = torch.tensor([[0.9, 0.1], [0.2, 0.4], [0.1, 0.0]])
    draw.iou_table(iou, "ABC", "XY", match(iou, 0.5, (0.0, 0.3)).state)
    render()
    ax = plt.gca()
    assert [(t, place) for t, place in written(ax) if not t.isalpha()] == [
        (f"{iou[row, column]:.2f}", (column, row)) for row in range(3) for column in range(2)
    ]
    named = [("foreground", (1.6, 0)), ("unused", (1.6, 1)), ("background", (1.6, 2))]
    assert [(t, place) for t, place in written(ax) if t.isalpha()] == named
    assert pixels(ax)[0] == iou.tolist() and ax.images[0].get_clim() == (0, 2)  # black numbers are seen on it
    assert ticks(ax.xaxis) == {0: "X", 1: "Y"} and ticks(ax.yaxis) == {0: "A", 1: "B", 2: "C"}
    assert is_darker_where_higher(ax) and ax.xaxis.get_ticks_position() == "top"
    middles = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in extents(ax)]
    assert middles == [pytest.approx(place) for place in ((0, 0), (1, 1), (0, 2))]  # the highest of each row
    assert edges(ax) == [draw.GOOD, draw.PALE, draw.BAD]
    words = [t for t in ax.texts if t.get_text().isalpha()]
    assert [to_hex(t.get_bbox_patch().get_facecolor()).upper() for t in words] == edges(ax)
    assert [t.get_color() for t in words] == [ink(color) for color in edges(ax)]
    draw.iou_table(iou, "ABC", "XY")
    assert edges(plt.gca()) == [draw.COLORS[0]] * 3


def test_nms_strip_has_a_panel_per_decision():
    steps = nms_steps(SIX, SCORES, 0.5)
    draw.nms_strip(SIX, SCORES, steps, "ABCDEF")
    render()
    titles = [ax.get_title() for ax in plt.gcf().axes]
    assert titles[0] == "A (0.95): kept" and titles[1] == "B (0.90): dropped by A, IoU 0.68"
    last = plt.gcf().axes[-1]
    assert sum(r.get_linestyle() == "--" for r in rectangles(last)) == 2


def test_nms_step_shows_what_is_decided_by_then():
    steps = nms_steps(SIX, SCORES, 0.5)
    assert [(step.box, step.by) for step in steps[:4]] == [(0, None), (1, 0), (2, None), (3, 2)]
    order = [3, 0, 5, 1, 2, 4]  # of the boxes by decreasing score, as they come
    shuffled, scores = SIX[order], SCORES[order]
    steps = nms_steps(shuffled, scores, 0.5)
    for now, decided in ((0, "A"), (1, "AB"), (2, "ABC"), (3, "ABCD")):
        ax = plt.figure().gca()
        draw.nms_step(shuffled, scores, steps, "DAFBCE", now, ax)
        found = {tuple(box): r for box, r in zip(extents(ax), rectangles(ax), strict=True)}
        kept = {letter: steps[i].by is None for i, letter in enumerate("ABCD")}
        for letter, box in zip("ABCDEF", SIX.tolist(), strict=True):
            shown, is_now = found[tuple(box)], letter == decided[-1]
            color = draw.PALE if letter not in decided else draw.GOOD if kept[letter] else draw.BAD
            assert to_hex(shown.get_edgecolor()).upper() == color
            assert shown.get_linestyle() == ("--" if color == draw.BAD else "-")
            assert shown.get_linewidth() == (1 if color == draw.PALE else 4 if is_now else 2)
        corners = {letter: tuple(v + 0.6 for v in SIX["ABCDEF".index(letter), :2].tolist()) for letter in decided}
        assert {t: place for t, place in written(ax) if t} == {c: pytest.approx(p) for c, p in corners.items()}
        assert extents(ax)[-1] == SIX["ABCDEF".index(decided[-1])].tolist()  # on top
        assert ax.get_xlim() == (3, 47) and ax.get_ylim() == (31, 3)  # around all six
        signs = {t.get_text(): to_hex(t.get_bbox_patch().get_facecolor()).upper() for t in ax.texts if t.get_text()}
        assert signs == {letter: draw.GOOD if kept[letter] else draw.BAD for letter in decided}
        assert ax.get_title().endswith("kept") == kept[decided[-1]]


def test_threshold_curve_marks_the_choice_and_judges_what_stays():
    truths = SIX[[0, 4]]
    near = SIX[0] + torch.tensor([0, 0, -1, 0.0])
    kept = {
        0.1: {"boxes": SIX[:1], "scores": torch.tensor([1.25]), "iou": torch.tensor([0.876])},
        0.7: {
            "boxes": torch.stack((SIX[0], near, SIX[4])),
            "scores": torch.tensor([1.25, 0.5, 0.375]),
            "iou": torch.tensor([1, 0.95, 1]),
        },
    }
    draw.threshold_curve({0.1: 0.4, 0.3: 0.55, 0.7: 0.2}, 0.3, IMAGE, truths, kept)
    render()
    curve, low, high = panels()
    assert texts(curve) == ["0.3: AP50 0.55"] and curve.texts[0].xy == (0.3, 0.55)
    assert points(curve.lines[0]) == [(0.1, 0.4), (0.3, 0.55), (0.7, 0.2)] and points(curve.lines[1]) == [(0.3, 0.55)]
    assert looks(curve.lines[1])[0] == draw.GOOD and curve.texts[0].get_color() == draw.words(draw.GOOD)
    assert curve.get_ylim()[0] > 0 and curve.get_title("right") == "the axis of AP50\ndoes not start at 0"
    assert labels(curve) == ("IoU above which the\nlower score is dropped", "AP50")
    assert all(pixels(ax)[0] == IMAGE.permute(1, 2, 0).tolist() for ax in (low, high))
    assert titles() == ["", "0.1: 1 box\nIoU / score", "0.7: 3 boxes\nIoU / score"]
    assert extents(low) == [*truths.tolist(), SIX[0].tolist()]
    assert extents(high) == [*truths.tolist(), *kept[0.7]["boxes"].tolist()]
    assert edges(high) == [draw.TRUTH] * 2 + [draw.GOOD, draw.KIND_COLORS["duplicate"], draw.GOOD]
    assert [r.get_linestyle() for r in rectangles(high)] == [":", ":", "-", "-", "-"]
    assert texts(low) == ["0.88 / 1.25"] and texts(high) == ["1.00 / 1.25", "0.95 / 0.50", "1.00 / 0.38"]
    assert [to_hex(t.get_bbox_patch().get_facecolor()).upper() for t in high.texts] == edges(high)[2:]
    assert all(ax.get_xlim() == (-4, 54) and ax.get_ylim() == (36, -4) for ax in (low, high))
    assert key(plt.gcf().legends[0]) == {
        "object": (draw.TRUTH, ":"), "correct": (draw.GOOD, "-"), "duplicate": (draw.KIND_COLORS["duplicate"], "-"),
    }  # fmt: skip


def test_rivals_have_their_names_and_scores_apart_in_corners():
    names = "ABCDEF"
    draw.rivals(SIX, SCORES, names)
    render()
    ax = plt.gca()
    assert extents(ax) == SIX.tolist()
    assert texts(ax) == [f"{name} {score:.2f}" for name, score in zip(names, SCORES.tolist(), strict=True)]
    for text, (x1, y1, x2, y2) in zip(ax.texts, SIX.tolist(), strict=True):
        assert text.get_position() in {(x, y) for x in (x1, x2) for y in (y1, y2)}
    places = [t.get_window_extent() for t in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(places) for b in places[:i])
    assert ax.get_xlim() == (0, 48) and ax.get_ylim() == (32, 0) and labels(ax) == ("x, pixels", "y, pixels")
