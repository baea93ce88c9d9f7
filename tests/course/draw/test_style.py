import matplotlib.pyplot as plt
import pytest
import torch

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw.style import _has_photo, ink, percent
from rcnn_tutorial.ops.assign import BACKGROUND, FOREGROUND, UNUSED


def test_ink_has_the_higher_contrast_by_wcag():
    def luminance(color):
        channels = torch.tensor([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = torch.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return (linear @ torch.tensor([0.2126, 0.7152, 0.0722])).item()

    for color in (*draw.COLORS, draw.PALE, "#000000"):
        over = {"black": (luminance(color) + 0.05) / 0.05, "white": 1.05 / (luminance(color) + 0.05)}
        assert ink(color) == max(over, key=over.get), color


@pytest.mark.parametrize(
    "share, text", [(0, "0 %"), (1e-6, "<0.01 %"), (0.0039, "0.39 %"), (0.0912, "9.1 %"), (0.25, "25 %"), (1, "100 %")]
)
def test_percent(share, text):
    assert percent(share) == text


def test_a_colour_has_its_meaning():
    """Green is right and foreground, orange-red wrong and background, grey what plays no part."""
    assert draw.STATES == {
        FOREGROUND: ("foreground", draw.GOOD), BACKGROUND: ("background", draw.BAD), UNUSED: ("unused", draw.PALE),
    }  # fmt: skip
    assert {
        "correct": draw.GOOD, "class": draw.COLORS[1], "place": draw.COLORS[5], "duplicate": draw.COLORS[3],
        "background": draw.BAD,
    } == draw.KIND_COLORS  # fmt: skip
    assert (draw.GOOD, draw.BAD, draw.PALE, draw.PLAIN.color) == ("#009E73", "#D55E00", "#999999", draw.GOOD)


def test_class_colours_start_over():
    assert draw.class_color(1) == draw.COLORS[0] == draw.class_color(len(draw.COLORS) + 1)


def test_many_crops_are_a_photograph():
    draw.contact_sheet({"one": torch.rand(1, 3, 64, 64)})
    assert not _has_photo(plt.gcf())
    draw.contact_sheet({"four": torch.rand(4, 3, 64, 64)})
    assert _has_photo(plt.gcf())
