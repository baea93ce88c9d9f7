import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.patches import Rectangle

from rcnn_tutorial import draw
from rcnn_tutorial.evaluation import failures
from rcnn_tutorial.ops.assign import match
from rcnn_tutorial.ops.nms import nms_steps
from rcnn_tutorial.training import History

IMAGE = torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(0))
TARGET = {
    "boxes": torch.tensor([[5, 5, 20, 20], [30, 10, 70, 50.0]]),
    "labels": torch.tensor([1, 2]),
    "difficult": torch.tensor([False, True]),
}
CLASSES = ("background", "disc", "ring")
SIX = torch.tensor(
    [[4, 4, 24, 24], [7, 5, 27, 25], [12, 6, 32, 26], [15, 7, 35, 27], [30, 12, 46, 28], [5, 10, 21, 30.0]]
)
SCORES = torch.tensor([0.95, 0.9, 0.8, 0.7, 0.6, 0.5])


@pytest.fixture(autouse=True)
def close_figures():
    draw.setup()
    yield
    plt.close("all")


def rectangles(ax):
    return [p for p in ax.patches if isinstance(p, Rectangle)]


def texts(ax):
    return [t.get_text() for t in ax.texts]


def render():
    plt.gcf().canvas.draw()


def test_scene_marks_difficult_objects():
    ax = draw.scene(IMAGE, TARGET, CLASSES)
    render()
    assert texts(ax) == ["disc", "ring?"]
    assert [r.get_linestyle() for r in rectangles(ax)] == ["-", "--"]
    assert rectangles(ax)[0].get_bbox().extents.tolist() == [5, 5, 20, 20]


def test_scene_without_objects():
    ax = draw.scene(IMAGE, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}, CLASSES)
    render()
    assert not rectangles(ax) and ax.images


def test_close_up_shows_the_box_and_its_size():
    draw.close_up(IMAGE, TARGET, CLASSES, box=0)
    render()
    right = plt.gcf().axes[1]
    assert right.get_title() == "20 - 5 = 15 wide, 20 - 5 = 15 high"
    assert right.images[0].get_array().shape[:2] == (21, 21)


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


def test_precision_recall_draws_the_envelope():
    recall, precision = torch.tensor([0.2, 0.2, 0.4]), torch.tensor([1.0, 0.5, 2 / 3])
    draw.precision_recall(recall, precision, points=["hit", "false", "hit"])
    render()
    assert plt.gca().patches[0].get_data().values.tolist() == pytest.approx([1, 2 / 3, 2 / 3])
    assert texts(plt.gca()) == ["hit", "false", "hit"]


def test_kinds_and_bars():
    detection = {"boxes": TARGET["boxes"][:1], "labels": torch.tensor([2]), "scores": torch.tensor([0.9])}
    target = TARGET | {"difficult": torch.tensor([False, False])}
    found = failures([detection], [target])
    ax = draw.kinds(IMAGE, detection, found.kinds[0], target, found.missed[0], CLASSES)
    render()
    assert texts(ax) == ["missed", "missed", "class: ring"]
    draw.kind_bars(found.counts)
    render()
    assert [t.get_text() for t in plt.gca().get_yticklabels()] == list(found.counts)


def test_losses_and_their_live_figure(monkeypatch):
    history = History()
    for step in range(50):
        history.add({"box": 1 / (step + 1), "class": 2.0}, lr=0.1, seconds=0.01)
    draw.losses(history)
    render()
    assert [t.get_text() for t in plt.gca().get_legend().get_texts()] == ["box", "class"]
    assert len(plt.gca().lines[1].get_xdata()) == 31  # a running mean over 20 of 50

    shown = []
    handle = type("Handle", (), {"update": lambda self, figure: shown.append(figure)})()
    monkeypatch.setattr("IPython.display.display", lambda **kwargs: handle)
    plt.close("all")
    update = draw.live_losses(every=1000)
    update(history)
    update(history)
    assert len(shown) == 1 and not plt.get_fignums()  # bounded rate, and no figure left open
