"""What the pictures of the focal loss say."""

import matplotlib.pyplot as plt
import pytest
import torch

from rcnn_tutorial.course import draw
from tests.course.draw.figures import labels, looks, rectangles, texts, ticks


def test_the_bar_is_to_scale():
    draw.anchor_bar({"positive": 10, "ignored": 30, "negative": 960})
    ax = plt.gca()
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0.01, 0.03, 0.96])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["10 positive", "30 ignored", "960 negative"]


def test_the_curves_have_the_losses_at_their_dots():
    draw.focal_curves([0.5, 0.9])
    _, log_dots, _, focal_dots = plt.gca().lines
    assert log_dots.get_ydata() == pytest.approx([0.6931, 0.1054], abs=1e-4)
    assert focal_dots.get_ydata() == pytest.approx([0.6931 / 4, 0.1054 / 100], abs=1e-4)


def test_each_training_has_its_line():
    draw.first_losses({"prior 0.5": [3.0, 2.0], "prior 0.01": [1.0, 0.5]})
    ax = plt.gca()
    assert [list(line.get_ydata()) for line in ax.lines] == [[3.0, 2.0], [1.0, 0.5]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["prior 0.5", "prior 0.01"]
    assert ax.get_yscale() == "log"


def test_the_three_parts_of_the_bar_have_three_colours():
    draw.anchor_bar({"positive": 10, "ignored": 30, "negative": 960})
    assert len({bar.get_facecolor() for bar in plt.gca().patches}) == 3


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
    assert [looks(line)[0] for line in plt.gca().lines] == 2 * [draw.COLORS[1]] + 2 * [draw.COLORS[0]]
