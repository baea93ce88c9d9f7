import matplotlib.pyplot as plt
import pytest
import torch

from rcnn_tutorial import draw
from rcnn_tutorial.training import History
from tests.draw.figures import legend, panels, render, texts, titles


def test_precision_recall_draws_the_envelope():
    recall, precision = torch.tensor([0.2, 0.2, 0.4]), torch.tensor([1.0, 0.5, 2 / 3])
    draw.precision_recall(recall, precision, points=["hit", "false", "hit"])
    render()
    stairs = plt.gca().patches[0].get_data()
    assert stairs.values.tolist() == pytest.approx([1, 2 / 3, 2 / 3, 0]) and stairs.edges[
        -2:
    ].tolist() == pytest.approx([0.4, 1])
    assert texts(plt.gca()) == ["hit", "false", "hit"]


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


def test_recall_curves_have_a_panel_per_threshold():
    searched = torch.tensor([[0.2, 0.1], [0.6, 0.3], [0.9, 0.7]])
    draw.recall_curves([1, 10, 1000], {"selective search": searched, "random boxes": searched / 2})
    render()
    left, right = panels()
    assert titles() == ["IoU of at least 0.5", "IoU of at least 0.7"]
    assert left.lines[0].get_ydata().tolist() == searched[:, 0].tolist()
    assert right.lines[1].get_ydata().tolist() == (searched[:, 1] / 2).tolist()
    assert left.get_xscale() == right.get_xscale() == "log"
    assert "1,000" in [t.get_text() for t in left.get_xticklabels()]
    assert legend(right.get_legend()) == ["selective search", "random boxes"]
