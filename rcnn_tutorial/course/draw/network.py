"""A network that proposes: its map, its proposals step by step, what trains it."""

from collections.abc import Sequence
from string import ascii_uppercase
from textwrap import fill

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from rcnn_tutorial.course.draw.anchors import DARK, some, surround
from rcnn_tutorial.course.draw.network_map import NetworkMap
from rcnn_tutorial.course.draw.pictures import boxes, outlines, picture
from rcnn_tutorial.course.draw.stages import STAGE_COLORS
from rcnn_tutorial.course.draw.style import BAD, COLORS, GOOD, PALE, PROPOSAL, Style, ink, on_cpu, style_handles
from rcnn_tutorial.course.draw.windows import DOTTED
from rcnn_tutorial.ops.boxes import box_iou

NEAR = 0.5  # IoU from which on a proposal is near an object
FASTER_RCNN = NetworkMap(
    {
        "picture": (0, 0.6),
        "convs": (0, 2.75),
        "3 x 3": (0.7, 0.6),
        "objectness\nlog loss": (1.5, 0),
        "offsets\nsmooth L1": (1.5, 1.2),
        "anchors": (1.5, 1.95),
        "filter": (2.45, 0.6),
        "RoIAlign": (3.3, 2.75),
        "head\n2 losses": (4.35, 2.75),
    },
    (
        ("picture", "convs", "(3, H, W)"),
        ("convs", "3 x 3", ""),
        ("convs", "RoIAlign", "map (C, h, w)"),
        ("3 x 3", "objectness\nlog loss", ""),
        ("3 x 3", "offsets\nsmooth L1", ""),
        ("objectness\nlog loss", "filter", "(A, h, w)"),
        ("offsets\nsmooth L1", "filter", "(4A, h, w)"),
        ("anchors", "filter", "(hwA, 4)"),
        ("filter", "RoIAlign", "(≤ 300, 4)"),
        ("RoIAlign", "head\n2 losses", "RoIs"),
    ),
    letters=14.5,
    high=1.02,
)


def _panels(image: Tensor, count: int, legend: dict[str, Style], room: float = 0, lines: int = 1) -> Sequence[Axes]:
    """The faint image `count` times, in two rows if more than three, with a legend and a share of room around it.

    Titles have so many `lines`.
    """
    rows = 1 if count <= 3 else 2
    columns = -(-count // rows)
    high = 11 / columns * (image.shape[1] / image.shape[2])
    figure, axes = plt.subplots(rows, columns, figsize=(10.9, (high + 0.1 + 0.3 * lines) * rows + 0.5), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax in axes.flat[:count]:
        picture(image, ax, faint=True)
        if room:
            surround(ax, image, room * image.shape[2], room * image.shape[1])
    handles = style_handles(legend)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return axes.flat[:count]


@on_cpu
def filter_steps(
    image: Tensor, steps: dict[str, Tensor], truths: Tensor, threshold: float = 0.7, shown: int = 15
) -> None:
    """The boxes of one image after each step of the filter; an object that none of them covers is dashed and lettered.

    Args:
        image: (3, H, W).
        steps: for the name of each step its boxes (N, 4), pixels; they may reach beyond the image.
        truths: (M, 4), pixels, of at most 26 objects; each keeps its letter.
        threshold: the IoU from which on a box covers an object.
        shown: so many boxes are drawn at most, evenly spread over their order.
    """
    assert steps, "nothing was drawn"
    missed = Style(BAD, 4, "--")
    legend = {
        f"box ({shown} of each step drawn)": Style(PROPOSAL, 1),
        f"covered (IoU of {threshold:g})": Style(GOOD, 4),
        "not covered": missed,
    }
    for ax, (name, found) in zip(_panels(image, len(steps), legend, room=0.15), steps.items(), strict=True):
        outlines(ax, some(found, shown), PROPOSAL, 1, alpha=0.7)
        covered = _near(truths, found, threshold)
        boxes(ax, truths[covered], styles=Style(GOOD, 4))
        boxes(ax, truths[~covered], [ascii_uppercase[i] for i in (~covered).nonzero()[:, 0]], missed)
        ax.set_title(f"{name}: {len(found):,} boxes, {int(covered.sum())} of {len(truths)} covered")


@on_cpu
def proposals_strip(image: Tensor, moments: Sequence[tuple[str, Tensor]], truths: Tensor) -> None:
    """The proposals at some moments of a training, strong those near an object, and how many these are.

    Args:
        image: (3, H, W).
        moments: a name and proposals (N, 4) in pixels of each.
        truths: (M, 4), pixels.
    """
    assert moments, "nothing was drawn"
    legend = {f"IoU of at least {NEAR} with an object": Style(GOOD, 2.5), "less": Style(DARK, 1), "object": DOTTED}
    for ax, (name, proposals) in zip(_panels(image, len(moments), legend), moments, strict=True):
        near = _near(proposals, truths)
        outlines(ax, proposals[~near], DARK, 1, alpha=0.4)
        outlines(ax, proposals[near], GOOD, 2.5)
        boxes(ax, truths, styles=DOTTED)
        ax.set_title(f"{name}: {int(near.sum())} of {len(near)} near an object")


def _near(boxes: Tensor, others: Tensor, threshold: float = NEAR) -> Tensor:
    """(N,) bool, which boxes (N, 4) have at least that IoU with one of the others (M, 4)."""
    return (box_iou(boxes, others) >= threshold).any(dim=1)


@on_cpu
def gradient_table(reached: Tensor, losses: Sequence[str], layers: Sequence[str], ax: Axes | None = None) -> None:
    """Which loss moves which layer: a cell is filled where a gradient arrives, and empty where none does.

    Args:
        reached: (losses, layers) bool, or the norm of each gradient, which is then written.
        losses: names of the rows.
        layers: names of the columns.
    """
    assert reached.numel(), "nothing was drawn"
    ax = ax or plt.subplots(figsize=(min(10.9, 1.7 * len(layers) + 2.5), 0.75 * len(losses) + 1))[1]
    for row, line in enumerate(reached.tolist()):
        for column, value in enumerate(line):
            color = GOOD if value else "white"
            ax.add_patch(Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, fc=color, ec=GOOD if value else PALE, lw=2))
            if value and reached.dtype != torch.bool:
                ax.text(column, row, f"{value:.2g}", ha="center", va="center", color=ink(GOOD), fontsize=13)
    ax.set_xticks(range(len(layers)), [fill(name, 14) for name in layers])
    ax.set_yticks(range(len(losses)), losses)
    ax.set(xlim=(-0.5, len(layers) - 0.5), ylim=(len(losses) - 0.5, -0.5))
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    handles = [Patch(fc=GOOD, ec=GOOD, label="a gradient arrives"), Patch(fc="white", ec=PALE, label="none")]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, frameon=False)


def stage_times(seconds: dict[str, dict[str, float]]) -> None:
    """How long the stages of each detector take, as bars to one scale; behind each bar stand its milliseconds.

    Args:
        seconds: for each detector the seconds of its stages.
    """
    assert seconds, "nothing was drawn"
    figure, ax = plt.subplots(figsize=(10.9, 0.85 * len(seconds) + 1.5))
    longest = 1000 * max(sum(each.values()) for each in seconds.values())
    stages = list(dict.fromkeys(stage for each in seconds.values() for stage in each))
    for row, each in enumerate(seconds.values()):
        left = 0.0
        for stage, value in each.items():
            ax.barh(row, 1000 * value, 0.7, left, color=STAGE_COLORS[stage])
            left += 1000 * value
        parts = " + ".join(f"{1000 * value:.0f}" for value in each.values())
        ax.text(left + 0.012 * longest, row, f"{left:.0f} ms\n({parts})", va="center")
    ax.set_yticks(range(len(seconds)), list(seconds))
    ax.set(xlim=(0, 1.2 * longest), ylim=(len(seconds) - 0.5, -0.5), xlabel="milliseconds for a picture")
    ax.tick_params(axis="y", length=0)
    handles = [Patch(color=STAGE_COLORS[stage], label=stage) for stage in stages]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(stages), frameon=False)


def missed_by_group(sizes: dict[str, int], missed: dict[str, dict[str, int]]) -> None:
    """How many objects of each group several detectors miss: a bar for the share, and behind it the counts.

    Args:
        sizes: of each group the number of its objects, one at least.
        missed: for each detector, and each group, how many it misses.
    """
    assert sizes and missed, "nothing was drawn"
    figure, ax = plt.subplots(figsize=(10.9, 0.95 * len(sizes) + 1.6))
    high = 0.8 / len(missed)
    for i, (name, counts) in enumerate(missed.items()):
        rows = [row + (i - (len(missed) - 1) / 2) * high for row in range(len(sizes))]
        shares = [counts[group] / size for group, size in sizes.items()]
        bars = ax.barh(rows, shares, 0.92 * high, color=COLORS[i], label=name)
        told = [f"{share:.2f} ({counts[group]} of {sizes[group]})" for share, group in zip(shares, sizes, strict=True)]
        ax.bar_label(bars, told, padding=6)
    ax.set_yticks(range(len(sizes)), list(sizes))
    ax.set(xlim=(0, 1), ylim=(len(sizes) - 0.5, -0.5), xlabel="share of these objects that is missed")
    ax.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=len(missed), frameon=False)
