"""Detectors side by side: a published table, a grid of cells, maps of bins."""

from collections import Counter
from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from rcnn_tutorial.course.draw.kernels import numbered
from rcnn_tutorial.course.draw.pictures import boxes, picture
from rcnn_tutorial.course.draw.style import BAD, COLORS, GOOD, PALE, Style, ink, on_cpu
from rcnn_tutorial.course.literature import Published

TINTS = (  # of equal entries of the last three columns
    ("#CFE3F1", "#9CC4E4", "#EDF4FA"),
    ("#F8E3BD", "#EFC272", "#FDF5E5"),
    ("#C5E8DC", "#86CBB2", "#E9F6F1"),
)
OWN = tuple(color for color in COLORS if color not in (GOOD, BAD))  # of objects, beside cells that are good or bad
DASHES = ("-", "--", ":")  # for objects that share a colour
PARTS = ("upper left", "upper right", "lower left", "lower right")  # of 2 x 2
HEADS = ("detector", "accuracy, %", "images a second", "tested on", "trained on", "GPU")


def published(rows: Sequence[Published], hidden: bool = False) -> None:
    """A table of results; equal entries of the last three columns have one colour.

    Args:
        rows: of the table, from top to bottom.
        hidden: whether the last two columns are left out, as overviews leave them out.
    """
    assert rows, "nothing was drawn"
    columns = len(HEADS) - 2 * hidden
    _, ax = plt.subplots(figsize=(10.9, 0.52 * (len(rows) + 1) + 0.2))
    wide = torch.tensor([0.0, 1.55, 1.5, 1.7, 1.25, 1.45, 1.2])[: columns + 1].cumsum(0).tolist()
    places = dict(ha="center", va="center", fontsize=15)
    for column, head in enumerate(HEADS[:columns]):
        middle = (wide[column] + wide[column + 1]) / 2
        ax.text(middle, 0.5, head, weight="bold", **places)
        seen: dict[str, str] = {}
        for row, each in enumerate(rows, start=1):
            texts = (each.name, f"{each.accuracy:.1f} {each.measure}", f"{each.per_second:g}", each.test, each.training,
                     each.gpu)  # fmt: skip
            if column > 2:
                if texts[column] not in seen:
                    seen[texts[column]] = TINTS[column - 3][len(seen)]
                corner = (wide[column] + 0.03, row + 0.04)
                ax.add_patch(Rectangle(corner, wide[column + 1] - wide[column] - 0.06, 0.92, fc=seen[texts[column]]))
            ax.text(middle, row + 0.5, texts[column], **places)
    ax.hlines(range(1, len(rows) + 1), 0, wide[-1], color=PALE, lw=0.8)
    ax.set(xlim=(0, wide[-1]), ylim=(len(rows) + 1, 0))
    ax.set_axis_off()


@on_cpu
def grid_cells(image: Tensor, objects: Tensor, cells: Sequence[int], side: int) -> None:
    """A grid over a picture: the cells that hold one object's centre, and those that hold several.

    The box of an object and its centre have one colour. The centre of an object that is left out, since an earlier one
    has its cell, is a cross.

    Args:
        image: (3, H, W).
        objects: (G, 4), pixels.
        cells: of each object the number of its cell, row by row.
        side: cells along each side.
    """
    assert len(objects), "nothing was drawn"
    height, width = image.shape[1:]
    _, ax = plt.subplots(figsize=(9, 9 * height / width + 0.5))
    picture(image, ax, faint=True)
    down, across = height / side, width / side
    centers = (objects[:, :2] + objects[:, 2:]) / 2
    for cell, count in Counter(cells).items():
        row, column = divmod(cell, side)
        color = GOOD if count == 1 else BAD
        place = (column * across, row * down)
        ax.add_patch(Rectangle(place, across, down, fc=color, alpha=0.55, ec="none", label=f"{count} in cell {cell}"))
        corners = torch.tensor([(x, y) for x in (0.12, 0.88) for y in (0.17, 0.83)]) * torch.tensor([across, down])
        corners += torch.tensor(place)
        free = corners[torch.cdist(corners, centers).amin(dim=1).argmax()].tolist()  # farthest from all centres
        ax.text(*free, count, ha="center", va="center", fontsize=18, weight="bold", color=ink(color))
    ax.vlines([k * across for k in range(1, side)], 0, height, color="black", lw=1)
    ax.hlines([k * down for k in range(1, side)], 0, width, color="black", lw=1)
    styles = [Style(OWN[i % len(OWN)], 3, DASHES[i // len(OWN) % len(DASHES)]) for i in range(len(objects))]
    boxes(ax, objects, styles=styles)
    for i, (center, style) in enumerate(zip(centers.tolist(), styles, strict=True)):
        marker, size = ("X", 17) if cells[i] in cells[:i] else ("o", 12)
        ax.plot(*center, marker, ms=size, color=style.color, mec="black", mew=1.5)
    lost = len(cells) - len(set(cells))
    ax.set_title(f"{len(cells)} centres in {len(set(cells))} cells: {lost} left out", fontsize=18)


@on_cpu
def sensitive_maps(maps: Tensor, window: Sequence[int], pooled: Tensor) -> None:
    """By hand: k k maps of numbers, on each the bin that is read from it, and beside them the bins and their mean.

    Args:
        maps: (k k, H, W), whole numbers; bin (i, j) reads map k i + j.
        window: x1, y1, x2, y2 in cells.
        pooled: (k, k) the mean of each bin.
    """
    k = len(pooled)
    x1, y1, x2, y2 = window
    rows, columns = maps.shape[1:]
    ratios = (*(columns for _ in maps), 1.6 * k)
    high = 10.9 / (sum(ratios) + 1.2) * rows + 1.1
    _, axes = plt.subplots(1, len(maps) + 1, figsize=(10.9, high), width_ratios=ratios)
    down, across = (y2 - y1) / k, (x2 - x1) / k
    for number, (ax, each) in enumerate(zip(axes, maps, strict=False)):
        i, j = divmod(number, k)
        corner = (x1 + j * across, y1 + i * down)
        ax.add_patch(Rectangle(corner, across, down, fc=COLORS[number % len(COLORS)], alpha=0.6, ec="none"))
        numbered(each, ax)
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec="black", lw=3, ls="--"))
        ax.set_title(PARTS[number] if k == 2 else f"row {i}, column {j}", fontsize=16)
    result = axes[-1]
    for number, value in enumerate(pooled.flatten().tolist()):
        i, j = divmod(number, k)
        result.add_patch(Rectangle((j, i), 1, 1, fc=COLORS[number % len(COLORS)], alpha=0.6, ec="black"))
        result.text(j + 0.5, i + 0.5, f"{value:g}", ha="center", va="center", fontsize=18)
    result.set(xlim=(-0.05, k + 0.05), ylim=(k + 0.05, -0.05), aspect="equal")
    result.set_axis_off()
    result.set_title(f"vote {pooled.mean().item():g}", fontsize=16)
