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
from rcnn_tutorial.course.draw.style import BAD, COLORS, PALE, PROPOSAL, TRUTH, Style, on_cpu
from rcnn_tutorial.nets.backbones import Field

LIT = COLORS[4]
BIN_COLORS = (COLORS[0], COLORS[1], COLORS[2], COLORS[3], COLORS[5], COLORS[4])
KEPT = {  # a cell that is the maximum of one bin, and one that is that of several: rings, so that its grey is seen
    False: dict(color=LIT, marker="o", ms=9, mfc="none", mew=2.5, lw=0, label="kept by one bin"),
    True: dict(color=LIT, marker="D", ms=11, mfc="none", mew=3.5, lw=0, label="kept by several bins"),
}


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
def receptive(image: Tensor, feature_map: Tensor, cell: tuple[int, int], field: Field) -> None:
    """The part of an image that one cell of a map looks at; a dot for the centre of every other cell.

    The map is a middle grey where 95 % of its numbers are not larger: otherwise a few large ones leave the rest white.
    The cell is outlined, and its own grey stays.

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
    limits = feature_map.min().item(), feature_map.quantile(0.95).item()
    cell_map(feature_map, right, limits).add_patch(Rectangle((column, row), 1, 1, fc="none", ec=LIT, lw=2.5, zorder=3))
    right.set_title(f"row {row}, column {column}")
    assert left.patches and right.patches, "nothing was drawn"


@on_cpu
def moving_patch(rows: dict[str, tuple[float, Tensor]], side: float, field: Field) -> None:
    """A patch that moves over a grid of cells that stays where it is, and the numbers of one row of the map.

    Args:
        rows: for each place of the patch its name, the pixel where the patch begins, and a number of each cell (n,).
        side: of the patch, pixels.
        field: of the cells; cell i reaches half a stride to either side of its centre.
    """
    assert rows, "nothing was drawn"
    _, ax = plt.subplots(figsize=(10.9, 1.5 * len(rows) + 0.5))
    most = max(each.max().item() for _, each in rows.values())
    left = field.first - field.stride / 2
    for y, (name, (start, values)) in enumerate(rows.items()):
        ax.add_patch(Rectangle((start, y), side, 0.26, fc=COLORS[1], ec="black", lw=1.5))
        ax.text(start + side / 2, y + 0.13, name, ha="center", va="center", fontsize=13)
        for i, value in enumerate(values.tolist()):
            shade = 1 - 0.35 * value / most  # light enough for black letters
            corner = left + i * field.stride, y + 0.32
            ax.add_patch(Rectangle(corner, field.stride, 0.5, fc=(shade, shade, 1), ec="black", lw=1))
            ax.text(corner[0] + field.stride / 2, y + 0.57, f"{value:.1f}", ha="center", va="center", fontsize=13)
    cells = len(next(iter(rows.values()))[1])
    words = "centre of the cell, pixels"
    ax.set(xlim=(left, left + cells * field.stride), ylim=(len(rows), -0.1), xlabel=words, yticks=[])
    ax.set_xticks([field.first + i * field.stride for i in range(cells)])
    ax.spines["left"].set_visible(False)


@on_cpu
def patch_curves(centres: Tensor, lines: dict[str, Tensor], strongest: Tensor, stride: int) -> None:
    """Where a map says that a patch is, and how strongly it answers, while the patch moves pixel by pixel.

    Args:
        centres: (N,) of the patch, pixels.
        lines: for each way to read a place from the map the places (N,), pixels; the true place is dotted.
        strongest: (N,) the largest number of the map.
        stride: of the map; a thin line stands wherever the patch has moved by so much.
    """
    assert lines, "nothing was drawn"
    _, (above, below) = plt.subplots(2, 1, figsize=(10.9, 6.6), sharex=True, height_ratios=(2.2, 1))
    above.plot(centres, centres, ":", color=TRUTH, label="the patch itself")
    for (name, places), color in zip(lines.items(), (BAD, COLORS[0]), strict=False):
        above.plot(centres, places, "o-", ms=5, color=color, label=name)
    above.set(ylabel="place, pixels")
    above.legend(frameon=False, loc="upper left")
    below.plot(centres, strongest, "o-", ms=5, color=BAD)
    above.set_title("these axes do not start at 0", fontsize=13, loc="right")
    words = "centre of the patch, pixels"
    below.set(xlabel=words, ylabel="its response", ylim=(0, 1.15 * strongest.max().item()))
    for ax in (above, below):
        for x in range(int(centres[0]), int(centres[-1]) + 1, stride):
            ax.axvline(x, color=PALE, lw=1, alpha=0.6, zorder=0)
    below.set_xticks(range(int(centres[0]), int(centres[-1]) + 1, stride))


@on_cpu
def projection(image: Tensor, window: Tensor, cells: Tensor, field: Field, size: tuple[int, int]) -> None:
    """A window on an image, the centres of all cells, those of the window's cells lit, and what comes back dashed.

    Args:
        image: (3, H, W).
        window: (4,) pixels.
        cells: (4,) x1, y1, x2, y2 in cells, x2 and y2 exclusive.
        field: of the cells.
        size: height and width of the map.
    """
    _, ax = plt.subplots(figsize=(9, 9 * image.shape[1] / image.shape[2] + 0.5))
    picture(image, ax, faint=True)
    x1, y1, x2, y2 = cells.tolist()
    groups: dict[bool, list] = {False: [], True: []}
    for row in range(size[0]):
        for column in range(size[1]):
            centre = field.first + column * field.stride, field.first + row * field.stride
            groups[x1 <= column < x2 and y1 <= row < y2].append(centre)
    ax.scatter(*zip(*groups[False], strict=True), s=9, color=PALE, lw=0)
    ax.scatter(*zip(*groups[True], strict=True), s=60, color=LIT, lw=0, zorder=5)
    left = field.first - field.stride / 2
    back = cells[None].float() * field.stride + left
    boxes(ax, back, styles=Style(LIT, 3, "--"))
    boxes(ax, window[None], styles=Style(PROPOSAL, 3))
    handles = [
        Line2D([], [], color=PROPOSAL, lw=3, label="window"),
        Line2D([], [], color=LIT, marker="o", ms=8, lw=0, label=f"its {y2 - y1} x {x2 - x1} cells"),
        Line2D([], [], color=LIT, lw=3, ls="--", label="back in pixels"),
    ]
    ax.figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


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


def winners(cells: Tensor, ax: Axes) -> int:
    """Mark the cells that are the maximum of a bin, (h, w, 2) row and column, and count them."""
    flat = cells.reshape(-1, 2)
    places, counts = flat[(flat >= 0).all(dim=1)].unique(dim=0, return_counts=True)
    for (row, column), count in zip(places.tolist(), counts.tolist(), strict=True):
        ax.plot(column + 0.5, row + 0.5, **KEPT[count > 1], zorder=4)
    return len(places)


@on_cpu
def pool_by_hand(numbers: Tensor, levels: Sequence[int]) -> None:
    """A map of printed numbers cut into bins, each framed in its colour, and beside it the maxima of every level.

    The bins are those of the first level. The largest number of a bin is circled in the bin's colour. Where two bins
    share cells, both frames go around them.

    Args:
        numbers: (h, w), whole numbers.
        levels: bins along each side, 3 at most, for each level.
    """
    rows, columns = numbers.shape
    wide = [1.15 * n for n in levels]
    width = 10.9 / (columns + sum(wide) + 0.6)  # inches of a cell
    _, axes = plt.subplots(1, 1 + len(levels), figsize=(10.9, width * rows + 0.7), width_ratios=(columns, *wide))
    _number_grid(axes[0], numbers)
    axes[0].set_title(f"{rows} x {columns} cells in {levels[0]} x {levels[0]} bins")
    for level, (ax, n) in enumerate(zip(axes[1:], levels, strict=True)):
        places = bin_maxima(numbers, (0, 0, columns, rows), n)
        pooled = numbers[places[..., 0], places[..., 1]]  # (n, n)
        _number_grid(ax, pooled)
        ax.set_title(f"{n} x {n}")
        if level:
            continue
        for i, (top, bottom) in enumerate(cut(0, rows, n)):
            for j, (first, last) in enumerate(cut(0, columns, n)):
                color = BIN_COLORS[(i * n + j) % len(BIN_COLORS)]
                gap = 0.05 + 0.09 * ((i * n + j) % 4)  # so that all frames around a shared cell are seen
                corner, size = (first + gap, top + gap), (last - first - 2 * gap, bottom - top - 2 * gap)
                axes[0].add_patch(Rectangle(corner, *size, fill=False, ec=color, lw=4))
                row, column = places[i, j].tolist()
                ring = 42 - 9 * ((i + j) % 2)
                axes[0].plot(column + 0.5, row + 0.5, "o", ms=ring, mfc="none", mec=color, mew=3.5)
                ax.add_patch(Rectangle((j + 0.05, i + 0.05), 0.9, 0.9, fill=False, ec=color, lw=4))


def _number_grid(ax: Axes, numbers: Tensor) -> None:
    """A table (h, w) of numbers, one unit of the axes per cell."""
    height, width = numbers.shape
    ax.hlines(range(height + 1), 0, width, color=PALE, lw=1)
    ax.vlines(range(width + 1), 0, height, color=PALE, lw=1)
    for y, row in enumerate(numbers.tolist()):
        for x, value in enumerate(row):
            ax.text(x + 0.5, y + 0.5, f"{value:g}", ha="center", va="center", fontsize=18)
    ax.set(xlim=(-0.05, width + 0.05), ylim=(height + 0.05, -0.05), aspect="equal")
    ax.set_axis_off()


@on_cpu
def pyramid_bins(examples: Sequence[tuple[Tensor, Tensor, Tensor, Sequence[int]]], n: int) -> None:
    """Windows on images, and beside each its part of the map, cut by n x n bins, the maximum of each bin marked.

    A cell through which a border goes belongs to the bins on both sides of it.

    Args:
        examples: image (3, H, W), window (4,) in pixels, map (h, w), and the window's cells x1, y1, x2, y2, x2 and y2
            exclusive.
        n: bins along each side.
    """
    assert examples, "nothing was drawn"
    figure, axes = plt.subplots(len(examples), 2, figsize=(10.9, 3.3 * len(examples) + 0.5), squeeze=False)
    for (left, right), (image, window, feature_map, cells) in zip(axes, examples, strict=True):
        boxes(picture(image, left), window[None], styles=Style(PROPOSAL, 4))
        x1, y1, x2, y2 = (int(v) for v in cells)
        cell_map(feature_map, right)
        right.vlines([x1 + j * (x2 - x1) / n for j in range(n + 1)], y1, y2, color=PROPOSAL, lw=3, zorder=3)
        right.hlines([y1 + i * (y2 - y1) / n for i in range(n + 1)], x1, x2, color=PROPOSAL, lw=3, zorder=3)
        kept = winners(bin_maxima(feature_map, (x1, y1, x2, y2), n), right)
        right.set(xlim=(x1 - 0.3, x2 + 0.3), ylim=(y2 + 0.3, y1 - 0.3))
        right.set_title(f"{y2 - y1} x {x2 - x1} cells: {n * n} bins keep {kept} of them")
    handles = [Line2D([], [], **look) for look in KEPT.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)


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
