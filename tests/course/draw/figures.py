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


def looks(artist):
    """Colour of a line or an area as the palette writes it, and of a line how it is dashed."""
    if hasattr(artist, "get_facecolor"):
        return to_hex(artist.get_facecolor()).upper()
    return to_hex(artist.get_color()).upper(), artist.get_linestyle()


def key(legend):
    """What a legend says: for each of its words the looks of its sign."""
    return {t.get_text(): looks(h) for t, h in zip(legend.get_texts(), legend.legend_handles, strict=True)}


def labels(ax):
    """What is written along the axes."""
    return ax.get_xlabel(), ax.get_ylabel()


def ticks(axis):
    """Words at the places of an axis that has words."""
    return {
        round(tick.get_loc(), 6): tick.label1.get_text() or tick.label2.get_text() for tick in axis.get_major_ticks()
    }


def points(line):
    return [tuple(point) for point in line.get_xydata().tolist()]


def written(ax):
    """Texts with the places that they are about, in the coordinates of the axes."""
    return [(t.get_text(), tuple(round(float(v), 6) for v in getattr(t, "xy", t.get_position()))) for t in ax.texts]


def pixels(ax, image=0):
    """What is shown as a picture, as lists, and the corners that it takes: left, right, bottom, top."""
    shown = ax.images[image]
    return shown.get_array().tolist(), list(shown.get_extent())


def is_grey(ax):
    """Does it show `IMAGE` without colours, bright where that is bright?"""
    shown = torch.as_tensor(ax.images[0].get_array()).to(IMAGE)
    return torch.allclose(shown, (0.35 + 0.6 * IMAGE.mean(dim=0))[..., None].expand(-1, -1, 3), atol=1e-4)


def is_darker_where_higher(ax, image=0):
    """Does its picture of a map become darker as the numbers grow?"""
    shades = [sum(ax.images[image].get_cmap()(share)[:3]) for share in (0.0, 0.5, 1.0)]
    return shades == sorted(shades, reverse=True)


def thin(collection):
    """Corners of the boxes that `outlines` has drawn."""
    return [path.get_extents().extents.tolist() for path in collection.get_paths()]


def render():
    plt.gcf().canvas.draw()
