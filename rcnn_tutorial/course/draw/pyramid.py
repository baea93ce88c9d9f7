"""Feature pyramids: what each level knows, how maps are added, what each level shows."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.patches import ConnectionPatch, Polygon, Rectangle
from matplotlib.transforms import Affine2D
from torch import Tensor

from rcnn_tutorial.course.draw.anchors import DARK, surround
from rcnn_tutorial.course.draw.maps import LIT, range_of
from rcnn_tutorial.course.draw.pictures import boxes, picture
from rcnn_tutorial.course.draw.style import BAD, COLORS, GOOD, PALE, Style, ink, on_cpu, style_handles
from rcnn_tutorial.course.draw.windows import DOTTED
from rcnn_tutorial.nets.fpn import level_of, upsample

ARROW = dict(arrowstyle="-|>", color="black", lw=2.5, mutation_scale=24, shrinkA=0, shrinkB=0)
BELOW_ABOVE = LinearSegmentedColormap.from_list("below and above", (BAD, "white", COLORS[0]))


@on_cpu
def level_table(tables: dict[str, dict[str, Tensor]], columns: Sequence[str], chance: float) -> None:
    """Shares that were measured on each level, as tables of numbers, the coarsest level on top; darker is more.

    Args:
        tables: for each title a table: for each level, the finest first, the shares in [0, 1] of the columns.
        columns: their names.
        chance: the share of somebody who only guesses, which is white.
    """
    assert tables, "nothing was drawn"
    rows = max(len(table) for table in tables.values())
    figure, axes = plt.subplots(1, len(tables), figsize=(10.9, 0.72 * rows + 1.2), squeeze=False)
    shades = colormaps["Blues"]
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        names = list(table)[::-1]
        for row, name in enumerate(names):
            for column, share in enumerate(table[name].tolist()):
                color = to_hex(shades(min(max((share - chance) / (1 - chance), 0), 1)))
                ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fc=color, ec="white", lw=3))
                ax.text(column, row, f"{share:.2f}", ha="center", va="center", color=ink(color), fontsize=20)
        ax.set_xticks(range(len(columns)), columns)
        ax.set_yticks(range(len(names)), names)
        ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(names) - 0.5, -0.5), title=title)
        ax.tick_params(length=0, labelsize=16)
        ax.spines[:].set_visible(False)
    figure.supxlabel(
        f"share whose class is named rightly, by third of the objects; guessing gives {chance:.2f}", fontsize=14
    )


@on_cpu
def designs(
    image: Tensor,
    box: Tensor,
    maps: dict[str, Sequence[Tensor]],
    read: dict[str, int] | None = None,
    resized: dict[str, Sequence[float]] | None = None,
    added: Sequence[str] = (),
) -> None:
    """The maps of several designs, stacked over the image, the coarsest on top; framed the one that reads an object.

    Args:
        image: (3, H, W).
        box: (4,) of the object, pixels.
        maps: for each design its maps (h, w), the finest first; their cells cover the image.
        read: for each design which of them reads the object; by default the finest.
        resized: for a design that reads the image at several sizes, of each of its maps the factor: the image stands in
            that size beside the map, and not once below them.
        added: designs in which every map is added to the next finer one, which an arrow with a plus shows.
    """
    assert maps, "nothing was drawn"
    read, resized = read or dict.fromkeys(maps, 0), resized or {}
    height, width = image.shape[1:]
    levels = sorted({level_of(width / each.shape[1]) for stack in maps.values() for each in stack})
    sizes = dict(zip(levels, torch.linspace(1, 0.42, max(len(levels), 2)).tolist(), strict=False))
    top, floors = 0.82 * height, {}  # of the planes, upwards from that of the image
    for level, each in sizes.items():
        floors[level] = top
        top += (0.08 + 0.62 * each) * height
    ratios = [0.3, *(2.3 if name in resized else 1 for name in maps)]
    wide = 10.9 / sum(ratios)
    size = (12, wide * (top + 0.06 * height) / (1.32 * width) + 0.4)
    _, (left, *axes) = plt.subplots(1, len(maps) + 1, figsize=size, width_ratios=ratios, sharey=True)
    pixels = image.permute(1, 2, 0).clamp(0, 1).numpy()
    for ax, (name, stack), ratio in zip(axes, maps.items(), ratios[1:], strict=True):
        shift = 1.32 * width * (ratio - 1)  # room for the resized images on the left
        factors = resized.get(name, ())
        if not factors:
            _plane(ax, pixels, image, 1, (0, 0), box, False)
        for i, each in enumerate(stack):
            level = level_of(width / each.shape[1])
            place = (shift, floors[level])
            _plane(ax, each.detach().numpy(), image, sizes[level], place, box, i == read[name])
            if factors:
                side = factors[i] / max(factors)
                _plane(ax, pixels, image, side, (0, floors[level]), box, False)
                middle = floors[level] + 0.31 * min(side, sizes[level]) * height
                start, end = 0.6 * side * width, shift - 0.68 * sizes[level] * width
                ax.annotate("", (end, middle), (start, middle), arrowprops=ARROW)
                ax.annotate(f"x {factors[i]:g}", (0.6 * start + 0.4 * end, middle), xytext=(0, 5), ha="center",
                            textcoords="offset points", fontsize=16)  # fmt: skip
        if name in added:
            for fine, coarse in zip(levels, levels[1:], strict=False):
                start = 0.66 * sizes[coarse] * width, floors[coarse] + 0.31 * sizes[coarse] * height
                end = 0.62 * sizes[fine] * width, floors[fine] + 0.62 * sizes[fine] * height
                ax.annotate("", end, start, arrowprops=ARROW | {"connectionstyle": "arc3,rad=-0.4"})
                ax.annotate("+", start, xytext=(16, 0), textcoords="offset points", va="center", fontsize=16)
        ax.set(xlim=(-0.66 * width, 0.66 * width + shift), ylim=(-0.06 * height, top), aspect="equal")
        ax.set_title(name)
        ax.set_axis_off()
    left.set_axis_off()
    for level in levels:
        left.text(0, floors[level] + 0.31 * sizes[level] * height, f"stride\n{2**level}", va="center")


def _plane(
    ax: Axes, pixels: np.ndarray, image: Tensor, size: float, place: tuple[float, float], box: Tensor, strong: bool
) -> None:
    """A map of the image's extent as if it lay flat, the middle of its lower edge at a place, with an object on it."""
    (height, width), (middle, floor) = image.shape[1:], place
    across, up = 0.3 * size, 0.62 * size  # how far a row is moved, how high it is
    left = middle + (across * height - size * width) / 2
    matrix = [[size, -across, left], [0, -up, floor + up * height], [0, 0, 1]]
    to = Affine2D(matrix) + ax.transData
    low, high = pixels.min(), pixels.max()
    ax.imshow(pixels, cmap="Greys", vmin=low, vmax=high + 0.3 * (high - low), extent=(0, width, height, 0),
              transform=to, interpolation="nearest")  # fmt: skip
    for (x1, y1, x2, y2), style in (
        ((0, 0, width, height), Style(GOOD, 5) if strong else Style(PALE, 1)),
        (box.tolist(), Style(LIT, 2.5 if strong else 1.5)),
    ):
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        ax.add_patch(Polygon(corners, fill=False, ec=style.color, lw=style.width, transform=to))


@on_cpu
def addition(coarse: Tensor, fine: Tensor) -> None:
    """By hand: the numbers of a coarse map, repeated to the size of a fine one, and added to its numbers.

    Args:
        coarse: (h, w).
        fine: (H, W), the lateral map.
    """
    above = upsample(coarse[None, None], fine.shape)[0, 0]
    owner = upsample(torch.arange(coarse.numel()).view(1, 1, *coarse.shape).float(), fine.shape)[0, 0].long()
    own = torch.arange(coarse.numel()).view_as(coarse)
    parts = [("coarse map", coarse, own), ("upsampled", above, owner), ("lateral", fine, None),
             ("sum", above + fine, owner)]  # fmt: skip
    longest = max(len(f"{value:g}") for _, grid, _ in parts for value in grid.flatten().tolist())
    ratios = (1, 0.32, 1, 0.22, 1, 0.22, 1)
    _, axes = plt.subplots(1, 7, figsize=(10.9, 10.9 / sum(ratios) * fine.shape[0] / fine.shape[1] + 0.4),
                           width_ratios=ratios)  # fmt: skip
    for ax, (title, grid, colors) in zip(axes[::2], parts, strict=True):
        _numbers(ax, grid, colors, min(30, 90 / grid.shape[1], 215 / (grid.shape[1] * longest)))
        ax.set_title(title)
    for ax, sign in zip(axes[1::2], ("", "+", "="), strict=True):
        ax.text(0.5, 0.5, sign, ha="center", va="center", fontsize=34)
        ax.set_axis_off()
    _arrow(axes[1])
    assert axes[0].texts, "nothing was drawn"


def _numbers(ax: Axes, grid: Tensor, colors: Tensor | None, fontsize: float) -> None:
    """A map as a table of numbers, cells in the light colour of that number, or white."""
    (height, width), light = grid.shape, [tuple(0.45 + 0.55 * c for c in to_rgb(color)) for color in COLORS]
    for i, row in enumerate(grid.tolist()):
        for j, value in enumerate(row):
            face = "white" if colors is None else light[int(colors[i, j]) % len(light)]
            ax.add_patch(Rectangle((j, i), 1, 1, fc=face, ec=DARK, lw=1.5))
            ax.text(j + 0.5, i + 0.5, f"{value:g}", ha="center", va="center", fontsize=fontsize)
    ax.set(xlim=(-0.03, width + 0.03), ylim=(height + 0.03, -0.03), aspect="equal")
    ax.set_axis_off()


def _arrow(ax: Axes) -> None:
    ax.annotate("", (1, 0.5), (0, 0.5), arrowprops=ARROW)


@on_cpu
def merging(image: Tensor, levels: dict[str, Sequence[Tensor | None]]) -> None:
    """An image, and its real maps on their way through the pyramid: the sum of each level goes down to the next.

    White is the mean of a map, blue is above and vermillion below it. A row's first three maps have one scale, on which
    their colours add up as their numbers do; the last has its own.

    Args:
        image: (3, H, W).
        levels: for each level, the finest first, one channel (h, w) of the lateral map, of the map upsampled from above
            (None for the coarsest), of their sum, and of the map after the 3 x 3 convolution.
    """
    assert levels, "nothing was drawn"
    rows = list(levels.items())[::-1]
    height, width = rows[-1][1][0].shape
    size = (11, 10 / 5.9 * height / width * len(rows) + 0.25 * len(rows) + 0.3)
    figure = plt.figure(figsize=size)
    grid = figure.add_gridspec(len(rows), 9, width_ratios=(1, 0.35) + (1, 0.2) * 3 + (1,))
    axes = np.array([[figure.add_subplot(grid[row, 2 + column]) for column in range(7)] for row in range(len(rows))])
    picture(image, figure.add_subplot(grid[:, 0])).set_title("the input")
    for line, (name, maps) in zip(axes, rows, strict=True):
        around = [None if each is None else each - each.mean() for each in maps]
        summands = torch.cat([each.flatten() for each in around[:3] if each is not None])
        for ax, each, numbers in zip(line[::2], around, (summands, summands, summands, around[3]), strict=True):
            if each is None:
                ax.set_box_aspect(height / width)
                ax.set_axis_off()
            else:
                far = numbers.abs().quantile(0.99).item()  # a few larger numbers get the full colour, too
                _map(ax, each, (-far, far), BELOW_ABOVE)
        for ax, sign in zip(line[1::2], ("+" if maps[1] is not None else "", "=", ""), strict=True):
            ax.text(0.5, 0.5, sign, ha="center", va="center", fontsize=26)
            ax.set_axis_off()
        _arrow(line[5])
        line[0].text(-0.08, 0.5, name, transform=line[0].transAxes, ha="right", va="center", weight="bold")
    for ax, title in zip(axes[0, ::2], ("lateral", "from above", "sum", "after 3 x 3"), strict=True):
        ax.set_title(title)
    for above, below in zip(axes, axes[1:], strict=False):
        figure.add_artist(ConnectionPatch((0, 0), (1, 1), *["axes fraction"] * 2, axesA=above[4], axesB=below[2],
                                          arrowstyle="-|>", mutation_scale=24, color=LIT, lw=3, zorder=5))  # fmt: skip


def _map(ax: Axes, feature_map: Tensor, limits: tuple[float, float], shades: str | Colormap) -> Axes:
    low, high = limits
    ax.imshow(feature_map.detach().numpy(), cmap=shades, vmin=low, vmax=high, interpolation="nearest")
    ax.add_patch(Rectangle((0, 0), 1, 1, transform=ax.transAxes, fill=False, ec=PALE, lw=1))
    ax.set_axis_off()
    return ax


@on_cpu
def level_anchors(image: Tensor, box: Tensor, anchors: Tensor, ious: Sequence[float], strides: Sequence[int]) -> None:
    """One object and on every level the anchor that fits it best, over the cells of that level.

    Args:
        image: (3, H, W).
        box: (4,) of the object, pixels.
        anchors: (L, 4) the best anchor of each level, pixels.
        ious: (L,) of each with the object.
        strides: (L,) of the levels, the finest first.
    """
    assert len(anchors), "nothing was drawn"
    height, width = image.shape[1:]
    columns = -(-len(anchors) // 2) if len(anchors) > 3 else len(anchors)
    rows = -(-len(anchors) // columns)
    beyond = torch.stack((-anchors[:, :2], anchors[:, 2:] - anchors.new_tensor([width, height]))).amax(dim=(0, 1))
    across, up = (beyond + 4).clamp(min=4).minimum(beyond.new_tensor([width, height]) / 8).tolist()
    size = (10.9, 10.9 / columns * (height + 2 * up) / (width + 2 * across) * rows + 0.5 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    legend = {"best anchor of the level": Style(COLORS[0], 3), "best of all": Style(GOOD, 4.5), "object": DOTTED}
    best = max(range(len(anchors)), key=lambda i: ious[i])
    for ax in axes.flat:
        ax.set_axis_off()
    for i, (ax, stride) in enumerate(zip(axes.flat, strides, strict=False)):
        surround(picture(image, ax, faint=True), image, across, up)
        ax.vlines(range(stride, width, stride), 0, height, color=DARK, lw=0.5, alpha=0.3)
        ax.hlines(range(stride, height, stride), 0, width, color=DARK, lw=0.5, alpha=0.3)
        boxes(ax, anchors[[i]], styles=legend["best of all" if i == best else "best anchor of the level"])
        boxes(ax, box[None], styles=DOTTED)
        ax.set_title(f"P{level_of(stride)}, stride {stride}: IoU {ious[i]:.2f}",
                     weight="bold" if i == best else "normal")  # fmt: skip
    handles = style_handles(legend)
    if len(anchors) < axes.size:
        axes.flat[-1].legend(handles=handles, loc="center", frameon=False, fontsize=15, labelspacing=1)
    else:
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


@on_cpu
def responses(
    image: Tensor, maps: dict[str, Sequence[Tensor]], levels: Sequence[str] = ("P2", "P3", "P4", "P5")
) -> None:
    """An image, and how strongly the levels of several pyramids respond to it.

    Args:
        image: (3, H, W).
        maps: for each pyramid its maps (h, w), the finest first.
        levels: their names.
    """
    assert maps, "nothing was drawn"
    layout = [["image", *(f"{row} {level}" for level in levels)] for row in maps]
    high = 10.9 / (len(levels) + 1.6) * image.shape[1] / image.shape[2] + 0.05
    size = (12, high * len(maps) + 0.4)
    _, axes = plt.subplot_mosaic(layout, figsize=size, width_ratios=(1.6, *[1] * len(levels)))
    picture(image, axes["image"])
    for line, stack in zip(layout, maps.values(), strict=True):
        for name, each in zip(line[1:], stack, strict=True):
            _map(axes[name], each, range_of(each), "Greys")
    for (_, first, *_), row in zip(layout, maps, strict=True):
        axes[first].text(-0.1, 0.5, row, transform=axes[first].transAxes, ha="right", va="center", weight="bold",
                         fontsize=20)  # fmt: skip
    for name, level in zip(layout[0][1:], levels, strict=True):
        axes[name].set_title(level)
