"""Feature maps: where a cell looks, what moves on the map, which bins a window is pooled in, at which scale."""

from collections.abc import Sequence
from math import isfinite

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from rcnn_tutorial.course.draw.pictures import boxes, picture
from rcnn_tutorial.course.draw.style import COLORS, GOOD, PALE, Style, on_cpu
from rcnn_tutorial.nets.backbones import Field

LIT = COLORS[4]
FRAMES = (GOOD, COLORS[3], "black", COLORS[5])
WINNER = Line2D(
    [], [], color=LIT, marker="o", ms=11, mec="white", lw=0, label="maximum of a bin; with a number, of that many"
)


def cell_map(feature_map: Tensor, ax: Axes, limits: tuple[float, float] | None = None) -> Axes:
    """A feature map (H, W) in grey levels, one unit of the axes per cell; the higher limit is a middle grey."""
    height, width = feature_map.shape
    low, high = limits or range_of(feature_map)
    assert isfinite(low) and isfinite(high), "the map has numbers that are not finite"
    ax.imshow(
        feature_map.detach().numpy(),
        cmap="Greys",
        vmin=low,
        vmax=low + 1.7 * (high - low),
        extent=(0, width, height, 0),
    )
    ax.hlines(range(height + 1), 0, width, color=PALE, lw=0.5, alpha=0.5, zorder=0.5)
    ax.vlines(range(width + 1), 0, height, color=PALE, lw=0.5, alpha=0.5, zorder=0.5)
    ax.set_axis_off()
    return ax


def range_of(*maps: Tensor) -> tuple[float, float]:
    """The smallest and the largest number of some maps."""
    return min(each.min().item() for each in maps), max(each.max().item() for each in maps)


@on_cpu
def map_strip(maps: dict[str, Tensor]) -> None:
    """Maps (H, W) side by side, each in its own grey levels, under its name."""
    assert maps, "nothing was drawn"
    _, axes = plt.subplots(1, len(maps), figsize=(10.9, 10.9 / len(maps) + 0.4), squeeze=False)
    for ax, (name, each) in zip(axes[0], maps.items(), strict=True):
        cell_map(each, ax).set_title(name)


def light(ax: Axes, row: int, column: int, color: str = LIT, filled: bool = True, dashes: str = "-") -> None:
    """One cell of a map, filled or framed."""
    face = color if filled else "none"
    ax.add_patch(Rectangle((column, row), 1, 1, fc=face, ec=color, lw=2, ls=dashes, zorder=3))


@on_cpu
def receptive(image: Tensor, feature_map: Tensor, cell: tuple[int, int], field: Field) -> None:
    """The part of an image that one cell of a map looks at; a dot for the centre of every other cell.

    Args:
        image: (3, H, W).
        feature_map: (h, w), one channel, or a mean of channels.
        cell: its row and column.
        field: of the map's cells. What of the cell's field lies outside the image is padding; it is drawn too.
    """
    height, width = image.shape[1:]
    _, (left, right) = plt.subplots(1, 2, figsize=(10.9, 5.6 * height / width + 0.8))
    picture(image, left)
    rows, columns = feature_map.shape
    x, y = ([field.first + i * field.stride for i in range(n)] for n in (columns, rows))
    left.scatter(*torch.meshgrid(torch.tensor(x), torch.tensor(y), indexing="xy"), s=5, color="white", lw=0)
    row, column = cell
    x, y, half = x[column], y[row], field.size / 2
    boxes(left, torch.tensor([[x - half, y - half, x + half, y + half]]), styles=Style(LIT, 4))
    left.plot(x, y, "o", color=LIT, ms=9, mec="white")
    left.set(
        xlim=(min(0, x - half - 2), max(width, x + half + 2)), ylim=(max(height, y + half + 2), min(0, y - half - 2))
    )
    left.set_title(f"sees {field.size} x {field.size} pixels around ({x:g}, {y:g})")
    light(cell_map(feature_map, right), row, column)
    right.set_title(f"row {row}, column {column}")
    assert left.patches and right.patches, "nothing was drawn"


@on_cpu
def shift_strip(images: Sequence[Tensor], maps: Sequence[Tensor], names: Sequence[str]) -> None:
    """Images whose content moves, and under each its map, the strongest cell lit; dashed, where the first map has it.

    Args:
        images: (3, H, W) each.
        maps: (h, w) each.
        names: written above the images.
    """
    ratio = images[0].shape[1] / images[0].shape[2]
    side = min(10.9 / len(images), 4)
    _, axes = plt.subplots(2, len(images), figsize=(side * len(images), 2 * side * ratio + 1), squeeze=False)
    peaks = [divmod(int(feature_map.argmax()), feature_map.shape[1]) for feature_map in maps]
    for (above, below), image, feature_map, peak, name in zip(axes.T, images, maps, peaks, names, strict=True):
        picture(image, above).set_title(name)
        cell_map(feature_map, below, range_of(*maps))
        light(below, *peaks[0], color="black", filled=False, dashes="--")
        light(below, *peak)
        below.set_title(f"row {peak[0]}, column {peak[1]}: {feature_map.max():.2f}", fontsize=13)
    assert peaks, "nothing was drawn"


def cut(low: int, high: int, n: int) -> list[tuple[int, int]]:
    """The n bins of the cells low to high - 1; neighbours share one where n does not divide their number (SPP-05)."""
    size = high - low
    return [(low + i * size // n, low - (-(i + 1) * size // n)) for i in range(n)]


def bins(window: tuple[int, int, int, int], shape: tuple[int, int], ax: Axes) -> None:
    """Rows and columns of bins of a window (x1, y1, x2, y2) in cells; where they share cells, they overlap."""
    x1, y1, x2, y2 = window
    for i, (top, bottom) in enumerate(cut(y1, y2, shape[0])):
        for j, (left, right) in enumerate(cut(x1, x2, shape[1])):
            gap = 0.06 + 0.1 * ((i + j) % 2)  # neighbours that share cells keep their own lines
            corner, size = (left + gap, top + gap), (right - left - 2 * gap, bottom - top - 2 * gap)
            ax.add_patch(Rectangle(corner, *size, fc=(*to_rgb(COLORS[0]), 0.4 / max(shape)), ec=COLORS[0], lw=1.5))


def winners(cells: Tensor, ax: Axes) -> None:
    """The cells that are the maximum of a bin, (h, w, 2) row and column; with a number, of that many bins."""
    flat = cells.reshape(-1, 2)
    places, counts = flat[(flat >= 0).all(dim=1)].unique(dim=0, return_counts=True)
    for (row, column), count in zip(places.tolist(), counts.tolist(), strict=True):
        ax.plot(column + 0.5, row + 0.5, "o", color=LIT, ms=15 if count > 1 else 9, mec="white", zorder=4)
        if count > 1:
            ax.text(column + 0.5, row + 0.5, str(count), color="white", ha="center", va="center_baseline",
                    fontsize=12, weight="bold", zorder=5)  # fmt: skip


@on_cpu
def pyramid_bins(feature_map: Tensor, windows: Sequence[tuple[int, int, int, int]], n: int) -> None:
    """A map with windows of different size, and each of them cut into n x n bins, the maximum of each bin marked.

    Args:
        feature_map: (H, W).
        windows: x1, y1, x2, y2 in cells, x2 and y2 exclusive.
        n: bins along each side.
    """
    rows = 1 if len(windows) < 3 else 2
    columns = -(-(len(windows) + 1) // rows)
    figure, axes = plt.subplots(rows, columns, figsize=(10.9, 3.9 * rows + 0.3), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    axes = axes.flatten()
    whole = cell_map(feature_map, axes[0])
    whole.set_title("the map")
    for i, window in enumerate(windows):
        ax, color, (x1, y1, x2, y2) = axes[i + 1], FRAMES[i % len(FRAMES)], window
        boxes(whole, torch.tensor([window]), styles=Style(color, 3))
        cell_map(feature_map, ax)
        bins(window, (n, n), ax)
        boxes(ax, torch.tensor([window]), styles=Style(color, 4))
        winners(bin_maxima(feature_map, window, n), ax)
        ax.set(xlim=(x1 - 0.5, x2 + 0.5), ylim=(y2 + 0.5, y1 - 0.5))
        ax.set_title(f"{x2 - x1} x {y2 - y1} cells: {n * n} bins")
    figure.legend(handles=[WINNER], loc="outside lower center", frameon=False)
    assert windows, "nothing was drawn"


def bin_maxima(feature_map: Tensor, window: tuple[int, int, int, int], n: int) -> Tensor:
    """(n, n, 2) row and column of each bin's largest cell, of equal ones the first in row order; -1 beyond the map."""
    x1, y1, x2, y2 = window
    places = torch.full((n, n, 2), -1)
    for i, (top, bottom) in enumerate(cut(y1, y2, n)):
        for j, (left, right) in enumerate(cut(x1, x2, n)):
            first_row, first_column = max(top, 0), max(left, 0)
            cells = feature_map[first_row : max(bottom, 0), first_column : max(right, 0)]
            if cells.numel():
                row, column = divmod(int(cells.argmax()), cells.shape[1])
                places[i, j] = torch.tensor([first_row + row, first_column + column])
    return places


@on_cpu
def by_scale(image: Tensor, windows: Tensor, scale: Tensor, names: Sequence[str]) -> None:
    """Windows in the colour of the scale that they read.

    Args:
        image: (3, H, W).
        windows: (N, 4), pixels of the image.
        scale: (N,) int64, which scale each reads.
        names: of the scales.
    """
    figure, ax = plt.subplots(figsize=(9, 6.6 * image.shape[1] / image.shape[2] + 0.1))
    picture(image, ax)
    for i in range(len(names)):
        boxes(ax, windows[scale == i], styles=Style(COLORS[i % len(COLORS)], 3))
    counts = scale.bincount(minlength=len(names)).tolist()
    handles = [
        Line2D([], [], color=COLORS[i % len(COLORS)], lw=4, label=f"{name}: {count} window{'s' * (count != 1)}")
        for i, (name, count) in enumerate(zip(names, counts, strict=True))
    ]
    figure.legend(handles=handles, loc="outside right center", frameon=False, title="scale read")
    assert ax.patches, "nothing was drawn"
