"""What the pictures of the focal loss say."""

import matplotlib.pyplot as plt
import pytest

from rcnn_tutorial.course import draw


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
