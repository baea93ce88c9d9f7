"""A small scene, and what a test asks of a figure."""

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

IMAGE = torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(0))
TARGET = {
    "boxes": torch.tensor([[5, 5, 20, 20], [30, 10, 70, 50.0]]),
    "labels": torch.tensor([1, 2]),
    "difficult": torch.tensor([False, True]),
}
CLASSES = ("background", "disc", "ring")


def panels():
    return plt.gcf().axes


def rectangles(ax):
    return [p for p in ax.patches if isinstance(p, Rectangle)]


def extents(ax):
    """Corners of the boxes on it, in the order of drawing."""
    return [r.get_bbox().extents.tolist() for r in rectangles(ax)]


def edges(ax):
    """Colours of the boxes' lines, as the palette writes them."""
    return [to_hex(r.get_edgecolor()).upper() for r in rectangles(ax)]


def fills(ax):
    return [to_hex(r.get_facecolor()).upper() for r in rectangles(ax)]


def texts(ax):
    return [t.get_text() for t in ax.texts]


def titles():
    return [ax.get_title() for ax in panels()]


def legend(legend):
    return [t.get_text() for t in legend.get_texts()]


def render():
    plt.gcf().canvas.draw()
