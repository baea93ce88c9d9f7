"""A network that proposes: its proposals step by step and epoch by epoch, what trains it, what it misses."""

from collections.abc import Sequence
from io import BytesIO
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from rcnn_tutorial.course.draw.anchors import DARK, some, surround
from rcnn_tutorial.course.draw.pictures import boxes, outlines, picture
from rcnn_tutorial.course.draw.style import BAD, COLORS, GOOD, PALE, Style, class_color, ink, on_cpu, percent
from rcnn_tutorial.course.draw.windows import DOTTED
from rcnn_tutorial.ops.boxes import box_iou

NEAR = 0.5  # IoU from which on a proposal is near an object
SHADES = 16  # of grey in a GIF; behind them in its palette follow the pens
BLACK, WHITE, FAINT, NEARBY, CLEAR = range(SHADES, SHADES + 5)
BAND = 30  # pixels of a GIF for its text


@on_cpu
def side_by_side(
    image: Tensor, runs: dict[str, tuple[Tensor, dict[str, Tensor], dict[str, float]]], classes: Sequence[str]
) -> None:
    """Detectors on one image: where each looks and what it says, and under it its time; the bars have one scale.

    Args:
        image: (3, H, W).
        runs: for each detector its proposals (N, 4), its answer (`boxes` (M, 4), `labels` (M,)), and the seconds of its
            stages in order; stages of one name share a colour.
        classes: their names, the background first.
    """
    high = 10.9 / len(runs) * image.shape[1] / image.shape[2]
    figure, axes = plt.subplots(2, len(runs), figsize=(10.9, high + 1.9), height_ratios=(high, 0.8), squeeze=False)
    longest = max(sum(seconds.values()) for _, _, seconds in runs.values())
    stages = list(dict.fromkeys(stage for _, _, seconds in runs.values() for stage in seconds))
    for (above, below), (name, (proposals, detection, seconds)) in zip(axes.T, runs.items(), strict=True):
        picture(image, above).set_title(f"{name}: {len(proposals)} proposal{'s' * (len(proposals) != 1)}")
        outlines(above, proposals, "white", 0.5, alpha=0.25)
        labels = detection["labels"].tolist()
        boxes(above, detection["boxes"], [classes[k] for k in labels], [Style(class_color(k), 3) for k in labels])
        left = 0.0
        for stage, value in seconds.items():
            below.barh(0, value, 0.8, left, color=COLORS[stages.index(stage)])
            left += value
        text = f" {left:.2g} s" if left >= 1 else f" {1000 * left:.0f} ms"
        below.text(left, 0, text, va="center", weight="bold")
        below.set(xlim=(0, 1.2 * longest), ylim=(-0.5, 0.5))
        below.set_axis_off()
    handles = [Patch(color=COLORS[i], label=stage) for i, stage in enumerate(stages)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(stages)), frameon=False)
    assert runs, "nothing was drawn"


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
    handles = [Line2D([], [], color=s.color, lw=s.width, ls=s.dashes, label=name) for name, s in legend.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return axes.flat[:count]


@on_cpu
def filter_strip(
    image: Tensor, steps: Sequence[tuple[str, Tensor, float]], truths: Tensor, threshold: float = NEAR
) -> None:
    """The boxes of one image after each step of the filter, at most 300 of them, and which objects they still find.

    Args:
        image: (3, H, W).
        steps: name, boxes (N, 4) in pixels, and recall of each.
        truths: (M, 4), pixels.
        threshold: the IoU from which on a box finds an object.
    """
    assert steps, "nothing was drawn"
    legend = {
        "box, at most 300": Style(COLORS[0], 1),
        "object found": Style(GOOD, 4),
        "object not found": Style(BAD, 4, "--"),
    }
    for ax, (name, each, recall) in zip(_panels(image, len(steps), legend, room=0.12, lines=2), steps, strict=True):
        found = _near(truths, each, threshold)
        outlines(ax, some(each, 300), COLORS[0], 0.7, alpha=0.4)
        boxes(ax, truths[found], styles=legend["object found"])
        boxes(ax, truths[~found], styles=legend["object not found"])
        ax.set_title(f"{name}\n{len(each):,} boxes, recall {recall:.2f}")


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
        ax.set_title(f"{name}: {int(near.sum())} of {len(near)}")


def _near(boxes: Tensor, others: Tensor, threshold: float = NEAR) -> Tensor:
    """(N,) bool, which boxes (N, 4) have at least that IoU with one of the others (M, 4)."""
    return (box_iou(boxes, others) >= threshold).any(dim=1)


@on_cpu
def proposals_gif(
    image: Tensor,
    moments: Sequence[tuple[str, Tensor]],
    truths: Tensor,
    width: int = 512,
    seconds: float = 0.5,
    at_most: int = 30,
) -> bytes:
    """The same as an animated GIF: the objects alone, then one frame for each moment, the last one for longer.

    Args:
        image, moments, truths: as for `proposals_strip`.
        width: of the GIF, pixels.
        seconds: that a frame stays.
        at_most: so many proposals are drawn, the first ones. The text counts all.
    Returns:
        the file; `IPython.display.Image(data=..., format="gif")` shows it.
    """
    assert moments, "nothing was drawn"
    scale = width / image.shape[2]
    background = _greys(image, width)
    _rectangles(background, truths * scale, BLACK, 2)
    _write(background, "the objects")
    frames = [background]
    for i, (name, proposals) in enumerate(moments):
        near = _near(proposals, truths)
        frame = _paletted(np.full_like(np.asarray(background), CLEAR))
        first, certain = proposals[:at_most] * scale, near[:at_most]
        _rectangles(frame, first[~certain], FAINT, 1)
        _rectangles(frame, first[certain], NEARBY, 2)
        _write(frame, f"{name}: {int(near.sum())} of {len(near)} near an object")
        for corner in ((0, 0), (width - 1, frame.height - 1)):  # Pillow cuts off what equals the frame before
            frame.putpixel(corner, background.getpixel(corner) if i % 2 else CLEAR)
        frames.append(frame)
    file = BytesIO()
    durations = [int(1000 * seconds)] * len(moments) + [int(4000 * seconds)]
    back_to_objects = [1] + [3] * len(moments)
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0,
                   transparency=CLEAR, disposal=back_to_objects, optimize=False)  # fmt: skip
    return file.getvalue()


def _rectangles(frame: Image.Image, boxes: Tensor, pen: int, width: int) -> None:
    """Boxes (N, 4) in the pixels of the frame; Pillow counts the last pixel in."""
    for x1, y1, x2, y2 in boxes.round().int().tolist():
        ImageDraw.Draw(frame).rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=pen, width=width)


def _write(frame: Image.Image, text: str) -> None:
    """A line of text in the band below the picture."""
    top, draw = frame.height - BAND, ImageDraw.Draw(frame)
    draw.rectangle((0, top, frame.width, frame.height), fill=BLACK)
    draw.text((8, top + 3), text, WHITE, ImageFont.load_default(19))


def _greys(image: Tensor, width: int) -> Image.Image:
    """The image in light shades of grey, which compress well, with a dark band below for text."""
    grey = Image.fromarray((image.mean(dim=0).clamp(0, 1) * 255).byte().numpy())
    small = np.asarray(grey.resize((width, round(width * grey.height / grey.width))))
    return _paletted(np.pad(small // (256 // SHADES), ((0, BAND), (0, 0)), constant_values=BLACK))


def _paletted(pixels: np.ndarray) -> Image.Image:
    """Indices (H, W) of the shades and of the pens as an image."""
    shades = [(90 + 150 * i // (SHADES - 1),) * 3 for i in range(SHADES)]
    pens = [[round(255 * c) for c in to_rgb(color)] for color in ("black", "white", COLORS[0], GOOD, "white")]
    found = Image.frombytes("P", pixels.shape[::-1], pixels.tobytes())
    found.putpalette([c for color in (*shades, *pens) for c in color])
    return found


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


@on_cpu
def missed_by_size(sides: Tensor, found: dict[str, Tensor], bins: Sequence[float], ax: Axes | None = None) -> None:
    """The share of objects that each detector misses, by their size.

    Args:
        sides: (G,) of the objects, pixels.
        found: for each detector (G,) bool.
        bins: sides in ascending order that divide the objects; those below the first and from the last on count too.
    """
    ax = ax or plt.subplots(figsize=(10.9, 4.8))[1]
    own = torch.bucketize(sides, torch.tensor(bins, dtype=sides.dtype), right=True)
    counts = own.bincount(minlength=len(bins) + 1)
    width = 0.8 / len(found)
    for i, ((name, each), color) in enumerate(zip(found.items(), COLORS, strict=False)):
        missed = own[~each].bincount(minlength=len(bins) + 1)
        full = [k for k, count in enumerate(counts.tolist()) if count]
        share = (missed / counts)[full].tolist()
        places = [k + (i - (len(found) - 1) / 2) * width for k in full]
        bars = ax.bar(places, share, 0.92 * width, color=color, label=name)
        ax.bar_label(bars, [percent(value) for value in share], padding=3, fontsize=12)
    ranges = [f"below {bins[0]:g}", *(f"{a:g} to {b:g}" for a, b in zip(bins, bins[1:], strict=False)),
              f"{bins[-1]:g} and more"]  # fmt: skip
    ax.set_xticks(
        range(len(ranges)),
        [f"{text}\n{n:,} object{'s' * (n != 1)}" for text, n in zip(ranges, counts.tolist(), strict=True)],
    )
    ax.set(xlabel="side of the object, pixels", ylabel="share missed", ylim=(0, 1.02))
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    ax.tick_params(axis="x", length=0)
    if len(found) > 1:
        ax.legend(frameon=False)
    assert ax.patches, "nothing was drawn"
