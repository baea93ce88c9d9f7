"""What the programs of GPU kernels read and write: a tile of pairs, a scan of bits, cells of bins, points of bins."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from rcnn_tutorial.course.draw.maps import cell_map
from rcnn_tutorial.course.draw.pictures import boxes
from rcnn_tutorial.course.draw.style import BAD, COLORS, GOOD, PALE, Style, on_cpu

LIGHT = "#E5E5E5"


@on_cpu
def mask_words(above: Tensor, compared: Tensor, words: Tensor, tile: tuple[int, int]) -> None:
    """Which box would suppress which, a bit for each pair, the tile of one program framed, and the words as numbers.

    Args:
        above: (N, N) bool, whether the IoU of two boxes is above the threshold.
        compared: (N, N) bool, of which pairs a bit is kept.
        words: (N / bits, N) integers, the words of each box.
        tile: row and column of the program whose tile is framed.
    """
    count, n = words.shape
    bits = n // count
    _, (left, right) = plt.subplots(1, 2, figsize=(10.9, 6), width_ratios=(2, 1))
    for i, j in torch.cartesian_prod(torch.arange(n), torch.arange(n)).tolist():
        face = COLORS[5] if above[i, j] and compared[i, j] else "white" if compared[i, j] else LIGHT
        left.add_patch(Rectangle((j, i), 1, 1, fc=face, ec=PALE, lw=0.8))
        if compared[i, j]:
            left.text(j + 0.5, i + 0.5, str(int(above[i, j])), ha="center", va="center")
    for place in range(0, n + 1, bits):
        left.plot([place, place], [0, n], color="black", lw=1.5)
        left.plot([0, n], [place, place], color="black", lw=1.5)
    left.add_patch(Rectangle((tile[1] * bits, tile[0] * bits), bits, bits, fill=False, ec=BAD, lw=5, zorder=3))
    left.set_title(f"1: row would suppress column. Framed: program {tile}", pad=10)
    left.set_xlabel("box that may be suppressed")
    left.set_ylabel("box that may suppress")
    left.xaxis.set_label_position("top")
    _grid(left, n, n, range(n), range(n))
    for w, column in enumerate(words.tolist()):
        for i, word in enumerate(column):
            in_tile = (i // bits, w) == tile
            right.text(w + 0.5, i + 0.5, str(word), ha="center", va="center", weight="bold" if in_tile else "normal",
                       color=BAD if in_tile else "black")  # fmt: skip
    right.set_title("what is written", pad=10)
    _grid(right, n, count, range(n), [f"word {w}" for w in range(count)])


def _grid(ax: Axes, rows: int, columns: int, row_names: Sequence, column_names: Sequence) -> None:
    """Room for a table, with a name at the middle of each row and column."""
    ax.set(xlim=(-0.05, columns + 0.05), ylim=(rows + 0.05, -0.05))
    ax.set_xticks([i + 0.5 for i in range(columns)], column_names)
    ax.set_yticks([i + 0.5 for i in range(rows)], row_names)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


@on_cpu
def mask_scan(bits: Tensor, keep: Tensor) -> None:
    """What the scan knows after each box: a kept box sets the bits of its row, a dropped one sets none.

    Args:
        bits: (N, N) bool, who would suppress whom.
        keep: (N,) bool, what the scan has decided.
    """
    n = len(keep)
    _, ax = plt.subplots(figsize=(10.9, 6))
    dropped = torch.zeros(n, dtype=torch.bool)
    for i in range(n):
        new = bits[i] & ~dropped if keep[i] else torch.zeros_like(dropped)
        dropped = dropped | new
        for j in range(n):
            face = BAD if new[j] else "#F2C9A8" if dropped[j] else "white"
            ax.add_patch(Rectangle((j, i), 1, 1, fc=face, ec=PALE, lw=0.8))
            ax.text(j + 0.5, i + 0.5, str(int(dropped[j])), ha="center", va="center",
                    weight="bold" if new[j] else "normal")  # fmt: skip
        ax.add_patch(Rectangle((i, i), 1, 1, fill=False, ec=GOOD if keep[i] else "black", lw=4, zorder=3))
    names = [f"box {i} {'is kept: OR with its word' if keep[i] else 'is dropped: nothing'}" for i in range(n)]
    _grid(ax, n, n, names, [f"bit {j}" for j in range(n)])
    ax.set_title("dropped boxes after each step. Framed: the bit that is asked", pad=10)


@on_cpu
def pool_steps(feature_map: Tensor, bins: Sequence[Sequence[int]], steps: Sequence[int]) -> None:
    """The cells that one program reads, one of every bin at a time, and the largest so far.

    Args:
        feature_map: (H, W), whole numbers.
        bins: x1, y1, x2, y2 in cells of each bin, x2 and y2 exclusive; all of one width.
        steps: which steps to show, from 1.
    """
    assert steps, "nothing was drawn"
    rows = -(-len(steps) // 3)
    height, width = feature_map.shape
    figure, axes = plt.subplots(rows, 3, figsize=(10.9, rows * (4 * height / width + 0.5)), squeeze=False)
    for ax in axes.flat[len(steps) :]:
        ax.set_axis_off()
    for ax, step in zip(axes.flat, steps, strict=False):
        numbered(feature_map, ax)
        boxes(ax, torch.tensor(bins).float(), styles=Style("black", 2))
        for x1, y1, x2, _ in bins:
            cells = [(y1 + k // (x2 - x1), x1 + k % (x2 - x1)) for k in range(step)]
            row, column = cells[-1]
            ax.add_patch(Rectangle((column, row), 1, 1, fc=COLORS[5], alpha=0.7, ec="none"))
            values = [feature_map[cell].item() for cell in cells]
            row, column = cells[values.index(max(values))]
            ax.add_patch(Rectangle((column + 0.08, row + 0.08), 0.84, 0.84, fill=False, ec=GOOD, lw=4, zorder=3))
        ax.set_title(f"step {step}")
    handles = [
        Rectangle((0, 0), 1, 1, fc=COLORS[5], alpha=0.7, label="read in this step"),
        Rectangle((0, 0), 1, 1, fill=False, ec=GOOD, lw=4, label="largest so far: value and switch"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)


def numbered(feature_map: Tensor, ax: Axes, plates: bool = False) -> None:
    """A map (H, W) with its numbers in its cells, on plates where lines cross them."""
    plate = dict(boxstyle="round,pad=0.15", fc="white", ec="none", alpha=0.8) if plates else None
    cell_map(torch.zeros_like(feature_map), ax, (0, 1))
    for row, numbers in enumerate(feature_map.tolist()):
        for column, number in enumerate(numbers):
            ax.text(column + 0.5, row + 0.5, f"{number:.3g}", ha="center", va="center", zorder=4, bbox=plate)


@on_cpu
def align_points(
    feature_map: Tensor, region: Sequence[float], bins: tuple[int, int], points: int, shares: Tensor
) -> None:
    """The points of one bin and the cells that the last of them reads, and what the bin's gradient adds to the cells.

    Args:
        feature_map: (H, W), whole numbers; a cell's value lies at its centre.
        region: x1, y1, x2, y2 in cells, where the first cell's centre lies at 0.
        bins: down and across.
        points: of each bin on an axis.
        shares: (H, W), the gradient of the first bin's mean with respect to the map.
    """
    _, axes = plt.subplots(1, 2, figsize=(10.9, 0.5 + 6 * feature_map.shape[0] / feature_map.shape[1]))
    left, right = axes
    x1, y1, x2, y2 = (c + 0.5 for c in region)  # the centre of the first cell is drawn at 0.5
    width, height = (x2 - x1) / bins[1], (y2 - y1) / bins[0]
    steps = [(k + 0.5) / points for k in range(points)]
    at = [(x1 + u * width, y1 + v * height) for v in steps for u in steps]
    for ax, numbers in zip(axes, (feature_map, shares), strict=True):
        numbered(numbers, ax, plates=True)
        for i, j in [(i, j) for i in range(bins[0]) for j in range(bins[1])][::-1]:
            color, line = (BAD, 4) if i == j == 0 else ("black", 1.5)
            ax.add_patch(Rectangle((x1 + j * width, y1 + i * height), width, height, fill=False, ec=color, lw=line))
        ax.plot(*zip(*at, strict=True), "o", color=BAD, ms=10, mec="white", zorder=5)
    x, y = at[-1]
    for column in (int(x - 0.5), int(x - 0.5) + 1):
        for row in (int(y - 0.5), int(y - 0.5) + 1):
            left.add_patch(Rectangle((column, row), 1, 1, fc=COLORS[5], alpha=0.6, ec="none", zorder=0.6))
            left.plot([x, column + 0.5], [y, row + 0.5], color="black", lw=1.5, zorder=3)
    for row, column in shares.nonzero().tolist():
        depth = (0.9 * shares[row, column] / shares.max()).item()
        right.add_patch(Rectangle((column, row), 1, 1, fc=COLORS[5], alpha=depth, ec="none", zorder=0.6))
    left.set_title("forward: the last point reads four cells")
    right.set_title("backward: what a gradient of 1 adds")
