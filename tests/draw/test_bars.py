import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex

from rcnn_tutorial import draw
from tests.draw.figures import rectangles, render, texts


def test_shares_print_their_value():
    draw.shares({"all windows": 0.0912, "mini-batch": 0.25, "one of many": 0.0012, "all": 1.0})
    render()
    ax = plt.gca()
    assert [t.get_text() for t in ax.get_yticklabels()] == ["all windows", "mini-batch", "one of many", "all"]
    assert texts(ax) == ["9.1 % positive", "25 % positive", "0.12 % positive", "100 % positive"]
    assert [r.get_width() for r in rectangles(ax)] == [1, 1, 1, 1, 0.0912, 0.25, 0.0012, 1]


def test_ablation_shows_seeds_and_means():
    draw.ablation({"0.3": [0.5, 0.7, 0.6], "no pre-training": [0.2, 0.3, 0.1]}, "AP50", reference="0.3")
    render()
    ax = plt.gca()
    dots, mean, across, others, other_mean = ax.lines
    assert list(dots.get_ydata()) == [0.5, 0.7, 0.6] and list(others.get_ydata()) == [0.2, 0.3, 0.1]
    assert mean.get_ydata() == pytest.approx([0.6, 0.6]) and other_mean.get_ydata() == pytest.approx([0.2, 0.2])
    assert across.get_ydata() == pytest.approx([0.6, 0.6]) and across.get_linestyle() == ":"
    assert [round(float(x)) for x in others.get_xdata()] == [1, 1, 1]
    assert texts(ax) == ["0.600", "0.200"] and ax.get_ylabel() == "AP50"
    assert to_hex(dots.get_color()) != to_hex(others.get_color())
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0.3", "no pre-training"]


def test_eight_variants_do_not_run_into_each_other():
    draw.ablation({f"negatives below 0.{k}": [12.3, 12.4] for k in range(8)}, "milliseconds")
    render()
    names = [t.get_window_extent() for t in plt.gca().get_xticklabels()]
    assert all(a.x1 < b.x0 for a, b in zip(names, names[1:], strict=False))
    assert set(texts(plt.gca())) <= {"12.3", "12.4"}
