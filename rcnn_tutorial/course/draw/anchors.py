"""Anchors: where they lie, how sure the network is of each, which objects they fit, what the training makes of them."""

from collections.abc import Sequence
from fractions import Fraction

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon, Rectangle
from matplotlib.ticker import NullLocator
from torch import Tensor

from rcnn_tutorial.course.draw.pictures import boxes, outlines, picture
from rcnn_tutorial.course.draw.style import (
    BAD,
    COLORS,
    GOOD,
    PALE,
    PROPOSAL,
    TRUTH,
    Style,
    ink,
    on_cpu,
    percent,
    style_handles,
)
from rcnn_tutorial.course.draw.windows import DOTTED
from rcnn_tutorial.ops.boxes import box_iou

DARK = "#555555"
MOVED_FROM = COLORS[3]
DASHES = ("-", "--", ":", "-.")
HEAT_STEPS = (("#FFE28A", 0), ("#F5A623", 0.6), ("#D55E00", 0.85), ("#5A0F00", 0.95))  # colour and opacity, 0 to 1
HEAT = LinearSegmentedColormap.from_list("heat", [(*to_rgb(color), alpha) for color, alpha in HEAT_STEPS])
ANCHOR_COLORS = {"ignored": PALE, "positive": GOOD, "negative": BAD}


def surround(ax: Axes, image: Tensor, across: float, up: float) -> None:
    """Room of `across` and `up` pixels around the picture, whose border is drawn."""
    height, width = image.shape[1:]
    ax.set(xlim=(-across, width + across), ylim=(height + up, -up))
    ax.add_patch(Rectangle((0, 0), width, height, fill=False, ec="black", lw=1.5, clip_on=False))


def some(boxes: Tensor, at_most: int) -> Tensor:
    """Boxes (N, 4), or `at_most` of them, evenly spread over their order."""
    return boxes[torch.linspace(0, len(boxes) - 1, min(len(boxes), at_most)).long()]


@on_cpu
def anchors_at(
    image: Tensor,
    anchors: Tensor,
    centres: Tensor,
    place: tuple[float, float],
    chosen: Sequence[int] | None = None,
    ax: Axes | None = None,
    close: float | None = None,
) -> Axes:
    """The anchors of one place, coloured by scale and dashed by shape, and the centres of all places.

    The axes hold the picture and these anchors.

    Args:
        image: (3, H, W).
        anchors: (A, 4) around the place, pixels, of at most 7 scales and 4 shapes; those of one scale have one area.
        centres: (N, 2) x and y of every place.
        place: x and y.
        chosen: the anchors to show strongly; by default all.
        close: the side of a square around the place, pixels, that a second panel enlarges.
    """
    sides = (anchors[:, 2:] - anchors[:, :2]).double()
    scales = sides.prod(dim=1).sqrt().round().long().tolist()
    shapes = [str(Fraction(h / w).limit_denominator(8)) for w, h in sides.tolist()]
    colors = dict(zip(sorted(set(scales)), COLORS, strict=False))
    dashes = dict(zip(sorted(set(shapes), key=Fraction), DASHES, strict=False))
    styles = [Style(colors[scale], 3.5, dashes[shape]) for scale, shape in zip(scales, shapes, strict=True)]
    height, width = image.shape[1:]
    left, top = (min(0, low - 2) for low in anchors[:, :2].amin(dim=0).tolist())
    right, bottom = (
        max(n, far + 2) for n, far in zip((width, height), anchors[:, 2:].amax(dim=0).tolist(), strict=True)
    )
    shown = (bottom - top) / (right - left)
    if close:
        _, (ax, part) = plt.subplots(1, 2, figsize=(10.9, 6.6 * shown + 0.9), width_ratios=(1, shown))
    ax = ax or plt.subplots(figsize=(10.9, min(8.2 * shown, 8) + 0.4))[1]
    for each in (ax, part) if close else (ax,):
        picture(image, each, faint=True)
        if each is ax:
            surround(ax, image, 0, 0)
        each.scatter(*centres.T, s=7, color="black", lw=0, alpha=0.7, zorder=2)
        for i in sorted(range(len(anchors)), key=lambda i: -scales[i]):
            if chosen is None or i in chosen:
                boxes(each, anchors[[i]], styles=styles[i])
            else:
                outlines(each, anchors[[i]], styles[i].color, 1.5, alpha=0.35)
        each.plot(*place, "o", color="black", ms=12, mec="white", mew=2, zorder=4)
    ax.set(xlim=(left, right), ylim=(bottom, top))
    ax.set_title(f"{len(centres):,} places, {len(anchors)} anchors at each: {len(centres) * len(anchors):,}")
    if close:
        (x, y), half = place, close / 2
        part.set(xlim=(x - half, x + half), ylim=(y + half, y - half), title=f"{close:g} x {close:g} pixels of it")
    handles = [Line2D([], [], color=color, lw=4, label=f"scale {scale}") for scale, color in colors.items()]
    handles += [
        Line2D([], [], color="black", lw=2.5, ls=line, label=f"height / width {shape}")
        for shape, line in dashes.items()
    ]
    where = dict(loc="outside lower center", ncols=4) if close else dict(loc="outside right center")
    ax.figure.legend(handles=handles, **where, frameon=False, handlelength=2.5)
    assert len(anchors) and len(centres), "nothing was drawn"
    return ax


@on_cpu
def objectness(image: Tensor, maps: Tensor, names: Sequence[str], columns: int = 3, title: str = "") -> None:
    """How sure the network is that an object is there: a heat map per anchor shape over the faint image.

    Args:
        image: (3, H, W).
        maps: (A, h, w) in [0, 1]; their cells cover the image.
        names: of the A anchor shapes.
        columns: how many of them beside each other.
        title: of the whole figure, such as "untrained".
    """
    height, width = image.shape[1:]
    rows = -(-len(maps) // columns)
    size = (11, 10 / columns * height / width * rows + 0.35 * rows + 0.4 * bool(title))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    grey = image.mean(dim=0, keepdim=True).expand(3, -1, -1)
    for ax, heat, name in zip(axes.flat, maps, names, strict=False):
        picture(grey, ax, faint=True)
        drawn = ax.imshow(heat.detach().numpy(), cmap=HEAT, vmin=0, vmax=1, extent=(0, width, height, 0))
        ax.set_title(name)
    figure.colorbar(drawn, ax=axes, label="objectness", shrink=0.9, aspect=30)
    figure.suptitle(title, weight="bold")
    assert len(maps) == len(names) > 0, "nothing was drawn"


@on_cpu
def best_iou(
    sizes: Tensor, curves: dict[str, Tensor], line: float = 0.7, objects: Tensor | None = None, ax: Axes | None = None
) -> None:
    """The best IoU that an anchor can have with a centred object, against the object's side; objects as strokes below.

    Args:
        sizes: (S,) sides, pixels, in ascending order.
        curves: for each set of anchors (S,) the IoU.
        line: from which IoU on an anchor is positive.
        objects: (G,) sides of the data's objects, pixels.
    """
    ax = ax or plt.subplots(figsize=(10.9, 5))[1]
    for i, (name, iou) in enumerate(curves.items()):  # ever thinner: where curves coincide, all are seen
        ax.plot(sizes, iou, color=COLORS[i], lw=3 + 2 * (len(curves) - 1 - i), label=name)
    ax.axhline(line, color="black", lw=2, ls="--", label=f"IoU {line:g}: positive from here on")
    low = 0.0
    if objects is not None:
        low = -0.14
        strength = min(1, max(0.06, 40 / len(objects)))
        ax.vlines(objects, -0.12, -0.03, color="black", lw=1.5, alpha=strength)
        ax.plot([], [], "|", color="black", ms=16, mew=1.5, label="objects of the data")
    first, last = sizes[0].item(), sizes[-1].item()
    ticks = [2**i for i in range(1, 14) if first <= 2**i <= last]
    ax.set(xscale="log", xlim=(first, last), ylim=(low, 1.02), yticks=[0, 0.25, 0.5, line, 1])
    ax.set(xlabel="side of the object, pixels (log scale)", ylabel="best IoU of an anchor")
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.yaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(color=PALE, alpha=0.3)
    ax.figure.legend(loc="outside lower center", ncols=2, frameon=False)
    assert curves, "nothing was drawn"


@on_cpu
def labelled_anchors(image: Tensor, anchors: Tensor, state: Tensor, truths: Tensor, shown: int = 4) -> None:
    """What the training makes of an image's anchors: in one panel the positive ones, in another a few of the others.

    Of the positive ones those are drawn that fit an object best, of the others such that lie within the picture. The
    objects are dotted in both.

    Args:
        image: (3, H, W).
        anchors: (A, 4), pixels.
        state: (A,) int64, 1 for positive, 0 for negative, -1 for ignored.
        truths: (M, 4), pixels.
        shown: at most so many negative ones, and so many ignored ones.
    """
    assert len(anchors), "nothing was drawn"
    positive, negative, ignored = (anchors[state == s] for s in (1, 0, -1))
    fitting = positive[box_iou(positive, truths).argmax(dim=0).unique()] if len(positive) and len(truths) else positive
    height, width = image.shape[1:]
    corners = torch.cat((fitting, anchors.new_tensor([[0, 0, width, height]])))
    beyond = torch.stack((-corners[:, :2], corners[:, 2:] - corners.new_tensor([width, height]))).amax(dim=(0, 1))
    across, up = (beyond + 2).tolist()
    figure, axes = plt.subplots(1, 2, figsize=(10.9, 5.4 * (height + 2 * up) / (width + 2 * across) + 1.2))
    few, others = (some(_within(each, image), shown) for each in (negative, ignored))
    looks = {"positive": (positive, fitting, Style(GOOD, 3.5)), "negative": (negative, few, Style(BAD)),
             "ignored": (ignored, others, Style(DARK, dashes="--"))}  # fmt: skip
    for ax, names in zip(axes, (("positive",), ("negative", "ignored")), strict=True):
        picture(image, ax, faint=True)
        surround(ax, image, across, up)
        for name in names:
            boxes(ax, looks[name][1], styles=looks[name][2])
        boxes(ax, truths, styles=DOTTED)
        ax.set_title(", ".join(f"{name}: {len(looks[name][0]):,}" for name in names))
    styles = {f"{name} ({len(drawn)} drawn)": style for name, (_, drawn, style) in looks.items()}
    handles = style_handles(styles | {"object": DOTTED})
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def _within(boxes: Tensor, image: Tensor) -> Tensor:
    """Those boxes (N, 4) that do not leave the picture."""
    height, width = image.shape[1:]
    return boxes[((boxes >= 0) & (boxes <= boxes.new_tensor([width, height, width, height]))).all(dim=1)]


@on_cpu
def moved_anchors(image: Tensor, before: Tensor, after: Tensor, truths: Tensor) -> None:
    """Anchors before their offsets move them, dashed, and after it, solid, with the objects dotted in black.

    Args:
        image: (3, H, W).
        before, after: (N, 4), pixels.
        truths: (M, 4), pixels.
    """
    assert len(before) == len(after) > 0, "nothing was drawn"
    figure, ax = plt.subplots(figsize=(9.6, 9.6 * image.shape[1] / image.shape[2]))
    picture(image, ax, faint=True)
    surround(ax, image, 0.12 * image.shape[2], 0.12 * image.shape[1])
    looks = {
        "anchor": (before, Style(MOVED_FROM, 2, "--")),
        "moved by its offsets": (after, Style(PROPOSAL, 2.5)),
        "object": (truths, Style(TRUTH, 3, ":")),
    }
    for each, style in looks.values():
        boxes(ax, each, styles=style)
    handles = style_handles({name: style for name, (_, style) in looks.items()})
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


def sample_bar(counts: dict[str, int], sample: dict[str, int]) -> None:
    """An image's anchors as a bar to scale, and below it, through a lens, the mini-batch drawn from them.

    Args:
        counts: how many are positive, ignored, negative.
        sample: how many positive and how many negative ones are in the mini-batch.
    """
    _, ax = plt.subplots(figsize=(10.9, 4.2))
    everything, drawn, left = sum(counts.values()), sum(sample.values()), 0.0
    assert everything and drawn, "nothing was drawn"
    for name, color in ANCHOR_COLORS.items():
        ax.barh(0, counts[name] / everything, 0.7, left, color=color)
        left += counts[name] / everything
    middle = (counts["ignored"] + counts["positive"]) / everything  # from here on they are negative
    part = (middle - sample["positive"] / everything, middle + sample["negative"] / everything)
    ax.add_patch(Polygon([(part[0], 0.35), (part[1], 0.35), (1, 1.6), (0, 1.6)], fc=PALE, alpha=0.2))
    for start, end in zip(part, (0, 1), strict=True):
        ax.plot([start, end], [0.35, 1.6], color="black", lw=1.5)
    left = 0.0
    for name in ("positive", "negative"):
        share, color = sample[name] / drawn, ANCHOR_COLORS[name]
        ax.barh(2.1, share, 1, left, color=color)
        if share > 0.03:
            text = f"{sample[name]}" + f" {name}" * (share > 0.2)
            ax.text(left + share / 2, 2.1, text, ha="center", va="center", fontsize=22, color=ink(color))
        left += share
    ax.text(0, -0.5, f"the image's {everything:,} anchors", va="bottom", weight="bold")
    ax.text(1, -0.5, f"the mini-batch of {drawn} is {percent(drawn / everything)} of them", va="bottom", ha="right")
    handles = [Patch(color=ANCHOR_COLORS[name], label=f"{name}: {counts[name]:,}" +
                     (f", sampled {sample[name]}" if name in sample else "")) for name in ANCHOR_COLORS]  # fmt: skip
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, frameon=False)
    ax.set(xlim=(-0.002, 1.002), ylim=(2.65, -0.9))
    ax.set_axis_off()
