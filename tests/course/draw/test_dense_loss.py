"""What the pictures of the focal loss say."""

import matplotlib.pyplot as plt
import pytest
import torch

from rcnn_tutorial.course import draw
from tests.course.draw.figures import fills, key, labels, looks, panels, rectangles, render, texts, ticks


def test_the_bar_is_to_scale_and_its_left_end_is_enlarged():
    draw.anchor_bar({"positive": 10, "ignored": 30, "negative": 960})
    render()
    whole, part = panels()
    for ax in (whole, part):
        assert [bar.get_width() for bar in rectangles(ax)] == pytest.approx([0.01, 0.03, 0.96])
        assert [bar.get_x() for bar in rectangles(ax)] == pytest.approx([0, 0.01, 0.04])
        assert fills(ax) == [draw.GOOD, draw.IGNORED, "#DDDDDD"]
    assert whole.get_xlim() == (0, 1) and part.get_xlim() == pytest.approx((0, 0.05))
    assert [ax.get_xlabel() for ax in panels()] == ["share of all anchors", "the left end of the bar, enlarged"]
    assert list(ticks(whole.xaxis).values()) == ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]
    (names,) = plt.gcf().legends
    assert key(names) == {"10 positive": draw.GOOD, "30 ignored": draw.IGNORED, "960 negative": "#DDDDDD"}


def test_a_bar_of_negatives_alone():
    draw.anchor_bar({"positive": 0, "ignored": 0, "negative": 5})
    assert panels()[1].get_xlim() == (0, 1)


def test_the_curves_have_the_losses_at_their_dots():
    draw.focal_curves([0.5, 0.9, 0.99])
    whole, half = panels()
    _, log_dots, _, focal_dots = whole.lines
    assert log_dots.get_ydata() == pytest.approx([0.6931, 0.1054], abs=1e-4)
    assert focal_dots.get_ydata() == pytest.approx([0.6931 / 4, 0.1054 / 100], abs=1e-4)
    _, log_dots, _, focal_dots = half.lines
    assert list(log_dots.get_xdata()) == list(focal_dots.get_xdata()) == [0.5, 0.9, 0.99]
    assert log_dots.get_ydata() == pytest.approx([0.69315, 0.10536, 0.01005], rel=1e-3)
    assert focal_dots.get_ydata() == pytest.approx([0.17329, 0.0010536, 1.005e-6], rel=1e-3)
    assert not any(dots.get_clip_on() for dots in (log_dots, focal_dots))
    assert [ax.get_yscale() for ax in panels()] == ["linear", "log"] and half.get_xlim() == (0.5, 1)
    assert labels(whole) == ("p of the right answer", "loss")
    assert labels(half) == ("p of the right answer", "loss (logarithmic)")


def test_each_training_has_its_line():
    draw.first_losses({"prior 0.5": [3.0, 2.0], "prior 0.01": [1.0, 0.5], "over all anchors": [1.0, 0.9]})
    ax = plt.gca()
    assert [list(line.get_ydata()) for line in ax.lines] == [[3.0, 2.0], [1.0, 0.5], [1.0, 0.9]]
    colors = {name: color for name, (color, _) in key(ax.get_legend()).items()}
    assert colors == {"prior 0.5": "#CC79A7", "prior 0.01": draw.GOOD, "over all anchors": draw.MISTAKE}
    assert [looks(line)[0] for line in ax.lines] == list(colors.values())
    assert ax.get_yscale() == "log" and labels(ax) == ("step", "class loss (logarithmic)")
    render()
    assert all(place == round(place) for place in ticks(ax.xaxis))


def test_the_sums_are_divided_by_difficulty():
    p_t = torch.tensor([0.25, 0.5, 0.5, 0.9, 1.0], dtype=torch.float64)
    draw.loss_by_difficulty(p_t, (0, 0.5, 0.9, 1))
    ax = plt.gca()
    log = torch.tensor([1.3863, 2 * 0.6931, 0.1054])
    focal = torch.tensor([0.75**2 * 1.3863, 2 * 0.25 * 0.6931, 0.01 * 0.1054])
    heights = [bar.get_height() for bar in rectangles(ax)]
    assert heights == pytest.approx([*(log / log.sum()).tolist(), *(focal / focal.sum()).tolist()], abs=1e-4)
    assert texts(ax) == ["48 %", "48 %", "3.7 %", "69 %", "31 %", "0.093 %"]
    answers = ["0 to 0.5\n1 answers", "0.5 to 0.9\n2 answers", "0.9 to 1\n2 answers"]
    assert list(ticks(ax.xaxis).values()) == answers and labels(ax) == ("p of the right answer", "share of the sum")
    (legend,) = plt.gcf().legends
    assert [text.get_text() for text in legend.get_texts()] == ["log loss, sum 3", "focal loss, sum 1"]
    assert [looks(bar) for bar in rectangles(ax)] == 3 * [draw.COLORS[1]] + 3 * [draw.COLORS[0]]


def test_the_two_losses_have_the_same_colours_as_curves():
    draw.focal_curves([0.5])
    for ax in panels():
        assert [looks(line)[0] for line in ax.lines] == 2 * [draw.COLORS[1]] + 2 * [draw.COLORS[0]]
    names = key(panels()[0].get_legend())
    assert [color for color, _ in names.values()] == [draw.COLORS[1], draw.COLORS[0]]
    assert list(names) == ["log loss", "focal loss, gamma = 2"]
