import matplotlib.pyplot as plt
import torch

from rcnn_tutorial import draw
from rcnn_tutorial.ops.assign import match
from rcnn_tutorial.ops.nms import nms_steps
from tests.draw.figures import IMAGE, edges, extents, panels, rectangles, render, texts, titles

SIX = torch.tensor(
    [[4, 4, 24, 24], [7, 5, 27, 25], [12, 6, 32, 26], [15, 7, 35, 27], [30, 12, 46, 28], [5, 10, 21, 30.0]]
)
SCORES = torch.tensor([0.95, 0.9, 0.8, 0.7, 0.6, 0.5])


def test_iou_slide_marks_the_overlap():
    draw.iou_slide(5)
    render()
    left, right = plt.gcf().axes
    assert left.get_title() == "in both 50, in either 150" and right.get_title() == "shift 5: IoU 0.333"
    draw.iou_slide(15)
    assert plt.gcf().axes[0].get_title() == "in both 0, in either 200"


def test_iou_table_names_every_row():
    iou = torch.tensor([[0.9, 0.1], [0.2, 0.4], [0.1, 0.0]])
    draw.iou_table(iou, "ABC", "XY", match(iou, 0.5, (0.0, 0.3)).state)
    render()
    assert [t for t in texts(plt.gca()) if t.isalpha()] == ["foreground", "unused", "background"]


def test_nms_strip_has_a_panel_per_decision():
    steps = nms_steps(SIX, SCORES, 0.5)
    draw.nms_strip(SIX, SCORES, steps, "ABCDEF")
    render()
    titles = [ax.get_title() for ax in plt.gcf().axes]
    assert titles[0] == "A (0.95): kept" and titles[1] == "B (0.90): dropped by A, IoU 0.68"
    last = plt.gcf().axes[-1]
    assert sum(r.get_linestyle() == "--" for r in rectangles(last)) == 2


def test_threshold_curve_marks_the_choice_and_keeps_colours():
    kept = {0.1: {"boxes": SIX[:1]}, 0.3: {"boxes": SIX[[0, 2]]}, 0.7: {"boxes": SIX[[2, 0, 4]]}}
    draw.threshold_curve({0.1: 0.4, 0.3: 0.55, 0.7: 0.2}, 0.3, IMAGE, kept)
    render()
    curve, low, middle, high = panels()
    assert texts(curve) == ["0.3: AP50 0.55"] and curve.texts[0].xy == (0.3, 0.55)
    assert list(curve.lines[0].get_ydata()) == [0.4, 0.55, 0.2]
    assert titles() == ["", "0.1: 1 box", "0.3: 2 boxes", "0.7: 3 boxes"]
    assert extents(high) == SIX[[2, 0, 4]].tolist()
    assert edges(low)[0] == edges(middle)[0] == edges(high)[1] and edges(middle)[1] == edges(high)[0]
    assert len(set(edges(high))) == 3
    assert all(ax.get_xlim() == (-4, 54) and ax.get_ylim() == (36, -4) for ax in (low, middle, high))
