import matplotlib.pyplot as plt
import pytest
import torch

from rcnn_tutorial.course import draw
from tests.course.draw.figures import fills, key, labels, looks, rectangles, render, texts, ticks, written


def test_shares_print_their_value():
    draw.shares({"all windows": 0.0912, "mini-batch": 0.25, "one of many": 0.0012, "all": 1.0})
    render()
    ax = plt.gca()
    assert [t.get_text() for t in ax.get_yticklabels()] == ["all windows", "mini-batch", "one of many", "all"]
    assert texts(ax) == ["9.1 % positive", "25 % positive", "0.12 % positive", "100 % positive"]
    assert [r.get_width() for r in rectangles(ax)] == [1, 1, 1, 1, 0.0912, 0.25, 0.0012, 1]
    assert ax.get_xlim() == (0, 1) and ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row on top
    assert fills(ax) == [draw.PALE] * 4 + [draw.GOOD] * 4
    assert [place for _, place in written(ax)] == [(0.0912, 0), (0.25, 1), (0.0012, 2), (1, 3)]
    draw.shares({"objects": 0.5}, what="found")
    assert texts(plt.gca()) == ["50 % found"]
    draw.shares({"log": 0.9, "focal": 0.1}, colors=draw.LOSSES, title="of the loss")
    assert fills(plt.gca())[2:] == list(draw.LOSSES) and plt.gca().get_title(loc="left") == "of the loss"


def test_the_words_of_a_long_share_stand_in_its_bar():
    draw.shares({"many": 0.94, "few": 0.1}, what="from the easy")
    render()
    ax = plt.gca()
    inside, outside = (text.get_window_extent() for text in ax.texts)
    many, few = (bar.get_window_extent() for bar in rectangles(ax)[2:])
    assert many.x0 < inside.x0 and inside.x1 < many.x1 and few.x1 < outside.x0


def test_ablation_says_where_its_axis_does_not_start_at_0():
    draw.ablation({"one": [0.5, 0.6], "two": [0.55, 0.58]}, "AP")
    assert plt.gca().get_title(loc="right") == "the axis does not start at 0"
    draw.ablation({"one": [0.5, 0.6], "two": [0.55, 0.58]}, "AP", zero=True)
    assert plt.gca().get_title(loc="right") == "" and plt.gca().get_ylim()[0] == 0


def test_ablation_shows_seeds_and_means():
    draw.ablation({"0.3": [0.5, 0.7, 0.6], "no pre-training": [0.2, 0.4, 0.0, 0.2]}, "AP50", reference="0.3")
    render()
    ax = plt.gca()
    dots, mean, across, others, other_mean = ax.lines
    assert list(dots.get_ydata()) == [0.5, 0.7, 0.6] and list(others.get_ydata()) == [0.2, 0.4, 0.0, 0.2]
    assert mean.get_ydata() == pytest.approx([0.6, 0.6]) and other_mean.get_ydata() == pytest.approx([0.2, 0.2])
    assert across.get_ydata() == pytest.approx([0.6, 0.6]) and across.get_linestyle() == ":"
    assert [round(float(x)) for x in others.get_xdata()] == [1, 1, 1, 1]
    assert [round(float(x)) for x in dots.get_xdata()] == [0, 0, 0]
    assert [list(line.get_xdata()) for line in (mean, other_mean)] == [[-0.3, 0.3], [0.7, 1.3]]
    assert written(ax) == [("0.600", (0, 0.7)), ("0.200", (1, 0.4))] and labels(ax) == ("", "AP50")
    assert (looks(dots)[0], looks(others)[0]) == (draw.PALE, draw.COLORS[0])
    assert ticks(ax.xaxis) == {0: "0.3", 1: "no pre-training"}


def test_ablation_from_0_has_a_bar_for_each_mean_and_says_so():
    draw.ablation({"one": [0.1, 0.2, 0.9], "two": [0.3, 0.5]}, "AP", zero=True)
    ax = plt.gca()
    bars = rectangles(ax)
    assert [bar.get_height() for bar in bars] == pytest.approx([0.4, 0.4]) and [bar.get_y() for bar in bars] == [0, 0]
    draw.ablation({"one": [0.0666], "two": [0.496]}, "AP", "two", zero=True, digits=2)
    assert texts(plt.gca()) == ["0.07", "0.50"]
    assert plt.gca().get_title(loc="left") == "bar: mean, dot: one seed, dotted line: the mean of two"
    plt.close()
    assert [list(line.get_ydata()) for line in ax.lines] == [[0.1, 0.2, 0.9], [0.3, 0.5]]
    assert ax.get_title(loc="left") == "bar: mean, dot: one seed"
    assert written(ax) == [("0.400", (0, 0.9)), ("0.400", (1, 0.5))]


def test_the_mean_is_not_the_middle_value():
    draw.ablation({"one": [0.1, 0.2, 0.9]}, "AP")
    assert plt.gca().lines[1].get_ydata() == pytest.approx([0.4, 0.4]) and texts(plt.gca()) == ["0.400"]


def test_eight_variants_do_not_run_into_each_other():
    draw.ablation({f"negatives below 0.{k}": [12.3, 12.4] for k in range(8)}, "milliseconds")
    render()
    names = [t.get_window_extent() for t in plt.gca().get_xticklabels()]
    assert all(a.x1 < b.x0 for a, b in zip(names, names[1:], strict=False))
    assert set(texts(plt.gca())) <= {"12.3", "12.4"}


def test_measures_have_their_number_at_the_end_of_their_bar():
    draw.measures({"before NMS": 0.312, "after NMS": 0.806})
    render()
    ax = plt.gca()
    assert [t.get_text() for t in ax.get_yticklabels()] == ["before NMS", "after NMS"]
    assert [(r.get_x(), r.get_width()) for r in rectangles(ax)] == [(0, 0.312), (0, 0.806)]
    assert written(ax) == [("0.31", (0.312, 0)), ("0.81", (0.806, 1))]
    assert labels(ax) == ("AP", "") and ax.get_xlim() == (0, 1) and ax.get_ylim()[0] > ax.get_ylim()[1]
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.measures({})


def test_missed_by_size_counts_every_object():
    sides = torch.tensor([5, 16, 20, 31, 200.0])
    found = {"one": torch.tensor([False, True, False, False, True]), "other": torch.tensor([True] * 4 + [False])}
    draw.missed_by_size(sides, found, [16, 32, 64])
    render()
    ax = plt.gca()
    named = ["below 16\n1 object", "16 to 32\n3 objects", "32 to 64\n0 objects", "64 and more\n1 object"]
    assert [t.get_text() for t in ax.get_xticklabels()] == named
    assert labels(ax) == ("side of the object, pixels", "share missed")
    assert [t.get_text() for t in ax.get_yticklabels()][:2] == ["0 %", "20 %"]
    assert [round(r.get_x() + r.get_width() / 2, 6) for r in rectangles(ax)] == [-0.2, 0.8, 2.8, 0.2, 1.2, 3.2]
    assert [r.get_height() for r in rectangles(ax)] == pytest.approx([1, 2 / 3, 0, 0, 0, 1])
    assert texts(ax) == ["100 %", "67 %", "0 %", "0 %", "0 %", "100 %"]
    assert fills(ax) == [draw.COLORS[0]] * 3 + [draw.COLORS[1]] * 3
    assert key(ax.get_legend()) == {"one": draw.COLORS[0], "other": draw.COLORS[1]}
    assert max(t.get_window_extent().y1 for t in ax.texts) <= plt.gcf().bbox.y1


def test_missed_by_size_names_its_groups_and_enlarges_small_shares():
    found = {"one": torch.tensor([True] * 9 + [False] + [True] * 10)}
    draw.missed_by_size(torch.arange(20.0), found, [10], ("small", "large"))
    render()
    ax = plt.gca()
    named = ["small: below 10\n10 objects", "large: 10 and more\n10 objects"]
    assert [t.get_text() for t in ax.get_xticklabels()] == named
    assert ax.get_ylim() == pytest.approx((0, 0.135))  # a tenth is missed, or none


def test_missed_by_size_of_one_detector():
    draw.missed_by_size(torch.tensor([5, 50.0]), {"one": torch.tensor([False, True])}, [32])
    assert plt.gca().get_legend() is None
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.missed_by_size(torch.zeros(0), {"one": torch.zeros(0, dtype=torch.bool)}, [32])
