import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from rcnn_tutorial.course import draw
from rcnn_tutorial.training import History
from tests.course.draw.figures import key, labels, looks, panels, points, render, titles, written


def test_precision_recall_draws_the_envelope():
    recall, precision = torch.tensor([0.2, 0.2, 0.4]), torch.tensor([1.0, 0.5, 2 / 3])
    draw.precision_recall(recall, precision, points=["hit", "false", "hit again"], title="disc")
    render()
    ax = plt.gca()
    assert labels(ax) == ("recall", "precision") and ax.get_title() == "disc"
    assert ax.get_xlim() == (0, 1.02) and ax.get_ylim() == (0, 1.05)
    assert points(ax.lines[0]) == [pytest.approx(p) for p in ((0.2, 1), (0.2, 0.5), (0.4, 2 / 3))]
    assert written(ax) == [
        (word, pytest.approx(place))
        for word, place in (("hit", (0.2, 1)), ("false", (0.2, 0.5)), ("hit again", (0.4, 2 / 3)))
    ]
    shaded = [c.get_paths()[0].get_extents().extents.tolist() for c in ax.collections]
    assert shaded == [pytest.approx(s) for s in ((0, 0, 0.2, 1), (0.2, 0, 0.2, 2 / 3), (0.2, 0, 0.4, 2 / 3))]
    assert key(ax.get_legend()) == {"envelope": (draw.GOOD, "-"), "after each detection": ("#000000", "-")}
    assert to_hex(ax.patches[0].get_edgecolor()).upper() == draw.GOOD and looks(ax.lines[0]) == ("#000000", "-")
    assert ax.lines[0].get_marker() == "o"
    stairs = plt.gca().patches[0].get_data()
    assert stairs.values.tolist() == pytest.approx([1, 2 / 3, 2 / 3, 0]) and stairs.edges[
        -2:
    ].tolist() == pytest.approx([0.4, 1])


def test_losses_and_their_live_figure(monkeypatch):
    history = History()
    for step in range(50):
        history.add({"box": float(step**2), "class": 2.0}, lr=0.1, seconds=0.01)
    draw.losses(history)
    render()
    ax = plt.gca()
    faint, strong, other_faint, other_strong = ax.lines
    assert key(ax.get_legend()) == {"box": (draw.COLORS[0], "-"), "class": (draw.COLORS[1], "-")}
    assert looks(faint) == looks(strong) == (draw.COLORS[0], "-") and faint.get_alpha() < 0.5 and not strong.get_alpha()
    assert looks(other_faint) == looks(other_strong) == (draw.COLORS[1], "-")
    assert points(faint) == [(step, step**2) for step in range(50)]
    means = [(step, sum(k**2 for k in range(step - 19, step + 1)) / 20) for step in range(19, 50)]
    assert points(strong) == [pytest.approx(mean) for mean in means]  # over the 20 steps that end there
    assert set(other_strong.get_ydata()) == {2} and labels(ax) == ("step", "loss") and ax.get_ylim()[0] == 0

    shown = []
    handle = type("Handle", (), {"update": lambda self, figure: shown.append(figure)})()
    monkeypatch.setattr("IPython.display.display", lambda **kwargs: handle)
    plt.close("all")
    update = draw.live_losses(every=1000)
    update(history)
    update(history)
    assert len(shown) == 1 and not plt.get_fignums()  # bounded rate, and no figure left open
    assert points(shown[0].axes[0].lines[1]) == points(strong)
    update = draw.live_losses(every=0)
    update(history)
    update(history)
    assert len(shown) == 3


def test_the_losses_of_an_rpn_have_an_axis_of_their_own():
    history = History()
    for step in range(30):
        history.add({"objectness": 0.5, "rpn_box": 0.01, "class": 1.0, "box": float(step)}, lr=0.1, seconds=0.01)
    draw.losses(history)
    render()
    rpn, head = panels()
    assert titles() == ["RPN", "head"] and labels(rpn) == ("step", "loss (log scale)") and labels(head)[1] == "loss"
    assert key(rpn.get_legend()) == {"objectness": (draw.COLORS[0], "-"), "rpn_box": (draw.COLORS[1], "-")}
    assert key(head.get_legend()) == {"class": (draw.COLORS[2], "-"), "box": (draw.COLORS[3], "-")}
    assert rpn.get_yscale() == "log" and head.get_yscale() == "linear" and head.get_ylim()[0] == 0
    assert [line.get_ydata().tolist() for line in rpn.lines[1::2]] == [[0.5] * 11, pytest.approx([0.01] * 11)]
    assert points(head.lines[2]) == [(step, step) for step in range(30)]


def test_outside_of_a_notebook_no_losses_are_drawn(monkeypatch):
    monkeypatch.setattr("IPython.display.display", lambda **options: None)
    history = History()
    history.add({"box": 1.0}, lr=0.1, seconds=0.01)
    draw.live_losses(every=0)(history)
    assert not plt.get_fignums()


def test_the_first_steps_have_the_mean_of_all():
    history = History()
    for value in (1.0, 3.0, 8.0):
        history.add({"box": value}, lr=0.1, seconds=0.01)
    draw.losses(history, smooth=20)
    assert points(plt.gca().lines[1]) == [(2, 4)] and labels(plt.gca()) == ("step", "box")
    faint, strong = plt.gca().lines
    assert key(plt.gca().get_legend()) == {"each step": looks(faint), "mean of 3 steps": looks(strong)}
    draw.losses(history, smooth=2)
    assert points(plt.gca().lines[1]) == [(1, 2), (2, 5.5)]


def test_recall_curves_have_a_panel_per_threshold():
    searched = torch.tensor([[0.2, 0.1], [0.6, 0.3], [0.9, 0.7]])
    draw.recall_curves([1, 10, 1000], {"selective search": searched, "random boxes": searched / 2})
    render()
    left, right = panels()
    assert titles() == ["IoU of at least 0.5", "IoU of at least 0.7"]
    assert [line.get_xdata().tolist() for line in (*left.lines, *right.lines)] == [[1, 10, 1000]] * 4
    assert left.lines[0].get_ydata().tolist() == searched[:, 0].tolist()
    assert labels(left) == ("boxes per image", "recall") and labels(right) == ("boxes per image", "")
    assert key(right.get_legend()) == {"selective search": (draw.COLORS[0], "-"), "random boxes": (draw.COLORS[1], "-")}
    assert [looks(line)[0] for line in (*left.lines, *right.lines)] == [*draw.COLORS[:2]] * 2
    assert len({line.get_marker() for line in left.lines}) == 2 and left.get_ylim() == (0, 1.02)
    assert right.lines[1].get_ydata().tolist() == (searched[:, 1] / 2).tolist()
    assert left.get_xscale() == right.get_xscale() == "log"
    assert "1,000" in [t.get_text() for t in left.get_xticklabels()]


def test_a_proposer_that_has_no_more_boxes_ends_there():
    searched = torch.tensor([[0.2, 0.1], [0.6, 0.3], [0.9, 0.7], [0.9, 0.7]])
    recalls = {"selective search": searched, "random boxes": searched / 2}
    draw.recall_curves([1, 10, 100, 1000], recalls, ends={"selective search": 76.4})
    render()
    for column, ax in enumerate(panels()):
        ended, random = ax.lines
        *_, (place, height) = points(ended)
        assert ended.get_xdata().tolist() == [1, 10, 76.4] and random.get_xdata().tolist() == [1, 10, 100, 1000]
        assert height == pytest.approx(searched[-1, column].item())
        ((text, (x, y)),) = written(ax)
        assert (text, x) == ("all 76", place) and y == pytest.approx(height)
