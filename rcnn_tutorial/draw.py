"""The pictures of the notebooks: each function draws one idea, large enough for the last row of a lecture hall."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from time import monotonic
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from rcnn_tutorial.evaluation.curves import envelope
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.ops.nms import Step
from rcnn_tutorial.training import History

# Okabe and Ito's colours, which colour-blind people can tell apart
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
GOOD, BAD, PALE = "#009E73", "#D55E00", "#999999"
KIND_COLORS = {"correct": GOOD, "class": "#E69F00", "place": "#56B4E9", "duplicate": "#CC79A7", "background": BAD}


class Style(NamedTuple):
    """How a box is drawn."""

    color: str
    width: float = 2.5
    dashes: str = "-"


PLAIN = Style(GOOD)


def setup() -> None:
    """Style of all figures, and in a notebook JPEG for figures that show a photograph, PNG for the others."""
    plt.rcParams.update(
        {
            "figure.dpi": 75,
            "figure.constrained_layout.use": True,
            "font.size": 14,
            "axes.titlesize": 15,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "lines.linewidth": 2.5,
        }
    )
    try:
        from IPython import get_ipython
        from IPython.core.pylabtools import print_figure
    except ImportError:
        return
    if (shell := get_ipython()) is None:
        return
    formatters = shell.display_formatter.formatters
    plt.close(plt.figure())  # the first figure sets up the inline backend, which would take the formats back
    formatters["image/png"].for_type(Figure, lambda f: None if _has_photo(f) else print_figure(f, "png"))
    formatters["image/jpeg"].for_type(
        Figure, lambda f: print_figure(f, "jpeg", pil_kwargs={"quality": 85}) if _has_photo(f) else None
    )


def _has_photo(figure: Figure) -> bool:
    return any(image.get_array().size > 20_000 for ax in figure.axes for image in ax.images)


def boxes(ax: Axes, boxes: Tensor, texts: Sequence[str] | None = None, styles: Sequence[Style] | Style = PLAIN) -> None:
    """Boxes (N, 4) in the coordinates of the axes, each with its text and style."""
    styles = [styles] * len(boxes) if isinstance(styles, Style) else styles
    for i, ((x1, y1, x2, y2), style) in enumerate(zip(boxes.tolist(), styles, strict=True)):
        halo = [withStroke(linewidth=style.width + 2, foreground="white", alpha=0.8)]
        ax.add_patch(
            Rectangle(
                (x1, y1),
                x2 - x1,
                y2 - y1,
                fill=False,
                ec=style.color,
                lw=style.width,
                ls=style.dashes,
                path_effects=halo,
            )  # fmt: skip
        )
        if texts:
            label(ax, x1, y1, texts[i], style.color)


def label(ax: Axes, x: float, y: float, text: str, color: str) -> None:
    """A word at the upper left corner of a box, readable on any picture; inside the picture where that is cut."""
    x, below = (max(x, 0) if ax.images else x), ax.images and y < 0.08 * ax.images[0].get_array().shape[0]
    ax.text(x, y, text, color="white", fontsize=12, va="top" if below else "bottom", clip_on=True,
            bbox={"facecolor": color, "edgecolor": "none", "pad": 1.5})  # fmt: skip


def picture(image: Tensor, ax: Axes | None = None, faint: bool = False) -> Axes:
    """An image (3, H, W) without ticks."""
    ax = ax or plt.figure(figsize=(8, 8 * image.shape[1] / image.shape[2])).gca()
    ax.imshow(
        image.permute(1, 2, 0).clamp(0, 1).numpy(),
        alpha=0.35 if faint else 1,
        extent=(0, image.shape[2], image.shape[1], 0),
    )
    ax.set(xlim=(0, image.shape[2]), ylim=(image.shape[1], 0))
    ax.set_axis_off()
    return ax


def scene(image: Tensor, target: dict[str, Tensor], classes: Sequence[str], ax: Axes | None = None) -> Axes:
    """An image with its objects; difficult ones dashed, with a question mark."""
    ax = picture(image, ax)
    difficult = target.get("difficult", torch.zeros(len(target["boxes"]), dtype=torch.bool)).tolist()
    labels = target["labels"].tolist()
    boxes(
        ax,
        target["boxes"],
        [classes[k] + "?" * d for k, d in zip(labels, difficult, strict=True)],
        [
            Style(COLORS[(k - 1) % len(COLORS)], dashes="--" if d else "-")
            for k, d in zip(labels, difficult, strict=True)
        ],
    )
    assert ax.images, "nothing was drawn"
    return ax


def close_up(image: Tensor, target: dict[str, Tensor], classes: Sequence[str], box: int, margin: int = 3) -> None:
    """A scene, and beside it one of its boxes, pixel by pixel."""
    _, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), width_ratios=(1.35, 1))
    scene(image, target, classes, left)
    x1, y1, x2, y2 = (int(v) for v in target["boxes"][box].tolist())
    x0, y0 = max(0, x1 - margin), max(0, y1 - margin)
    x3, y3 = min(image.shape[2], x2 + margin), min(image.shape[1], y2 + margin)
    right.imshow(image[:, y0:y3, x0:x3].permute(1, 2, 0).numpy(), extent=(x0, x3, y3, y0))
    right.set_xticks(range(x0, x3 + 1), minor=True)
    right.set_yticks(range(y0, y3 + 1), minor=True)
    right.set_xticks([x1, x2])
    right.set_yticks([y1, y2])
    right.grid(which="minor", color="white", lw=0.6, alpha=0.5)
    color = COLORS[(int(target["labels"][box]) - 1) % len(COLORS)]
    boxes(right, target["boxes"][[box]], styles=Style(color, 4))
    right.set_title(f"{x2} - {x1} = {x2 - x1} wide, {y2} - {y1} = {y2 - y1} high")


def iou_slide(shift: float, size: float = 10) -> None:
    """One box slid over its twin by `shift`, and the IoU against every shift."""
    _, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2))
    pair = torch.tensor([[0, 0, size, size], [shift, 0, shift + size, size]])
    boxes(left, pair, styles=[Style(COLORS[0], 4), Style(COLORS[1], 4)])
    both = max(size - abs(shift), 0)
    left.add_patch(Rectangle((max(shift, 0), 0), both, size, color=GOOD, alpha=0.35))
    left.set(xlim=(-1, 2 * size + 1), ylim=(size + 1, -1), aspect="equal")
    iou = box_iou(pair[:1], pair[1:]).item()
    left.set_title(f"in both {both * size:g}, in either {(2 * size - both) * size:g}")
    shifts = torch.linspace(0, 2 * size, 201)
    zero = torch.zeros_like(shifts)
    moved = torch.stack((shifts, zero, shifts + size, zero + size), dim=1)
    right.plot(shifts, box_iou(pair[:1], moved)[0], color="black")
    right.plot(shift, iou, "o", ms=13, color=GOOD)
    right.set(xlabel="shift, pixels", ylabel="IoU", ylim=(-0.03, 1.05), title=f"shift {shift:g}: IoU {iou:.3f}")
    right.axhline(0.5, color=PALE, lw=1, ls=":")
    right.set(xticks=range(0, int(2 * size) + 1, 5), yticks=[0, 0.25, 0.5, 0.75, 1])


def iou_table(iou: Tensor, rows: Sequence[str], columns: Sequence[str], state: Tensor | None = None) -> None:
    """IoU (N, M) as a heat map, the largest of each row framed, coloured by what `match` made of the row."""
    _, ax = plt.subplots(figsize=(1.6 * len(columns) + 4, 0.55 * len(rows) + 1.2))
    ax.imshow(iou.numpy(), cmap="Greys", vmin=0, vmax=2, aspect="auto")
    best = iou.argmax(dim=1).tolist()
    names = {1: ("foreground", GOOD), 0: ("background", BAD), -1: ("unused", PALE)}
    for i, row in enumerate(iou.tolist()):
        for j, value in enumerate(row):
            ax.text(j, i, f"{value:.2f}", ha="center", va="center")
        word, color = names[int(state[i])] if state is not None else ("", COLORS[0])
        ax.add_patch(Rectangle((best[i] - 0.47, i - 0.45), 0.94, 0.9, fill=False, ec=color, lw=4))
        ax.text(len(columns) - 0.4, i, word, color=color, va="center", weight="bold")
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    assert len(ax.patches) == len(rows) > 0, "nothing was drawn"


def nms_strip(boxes: Tensor, scores: Tensor, steps: Sequence[Step], names: Sequence[str]) -> None:
    """The decisions of `nms_steps`, one panel each."""
    rows = -(-len(steps) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(12, 3.4 * rows), squeeze=False)
    for i, ax in enumerate(axes.flat):
        nms_step(boxes, scores, steps, names, i, ax) if i < len(steps) else ax.set_axis_off()
    assert figure.axes, "nothing was drawn"


def nms_step(
    boxes_: Tensor, scores: Tensor, steps: Sequence[Step], names: Sequence[str], now: int, ax: Axes | None = None
) -> None:
    """The state of the suppression after decision `now`: kept boxes solid, dropped ones dashed, later ones pale."""
    ax = ax or plt.subplots(figsize=(7, 5))[1]
    styles, texts = [Style(PALE, 1)] * len(boxes_), [""] * len(boxes_)
    for i, step in enumerate(steps[: now + 1]):
        styles[step.box] = Style(
            GOOD if step.by is None else BAD, 4 if i == now else 2, "-" if step.by is None else "--"
        )
        texts[step.box] = names[step.box]
    order = sorted(range(len(boxes_)), key=lambda i: styles[i].width)
    boxes(ax, boxes_[order], styles=[styles[i] for i in order])
    for i in order:
        ax.text(*(boxes_[i, :2] + 0.6).tolist(), texts[i], color=styles[i].color, va="top", weight="bold")
    low, high = boxes_[:, :2].min(dim=0).values.tolist(), boxes_[:, 2:].max(dim=0).values.tolist()
    ax.set(xlim=(low[0] - 1, high[0] + 1), ylim=(high[1] + 1, low[1] - 1), aspect="equal", xticks=[], yticks=[])
    step = steps[now]
    name = f"{names[step.box]} ({scores[step.box]:.2f})"
    ax.set_title(f"{name}: kept" if step.by is None else f"{name}: dropped by {names[step.by]}, IoU {step.iou:.2f}",
                 color=GOOD if step.by is None else BAD)  # fmt: skip


def precision_recall(
    recall: Tensor, precision: Tensor, ax: Axes | None = None, title: str = "", points: Sequence[str] | None = None
) -> None:
    """Precision against recall after each detection, the envelope, and the area under it."""
    ax = ax or plt.subplots(figsize=(7, 4.4))[1]
    edges, heights = torch.cat((recall.new_zeros(1), recall)), envelope(precision)
    for (a, b), height in zip(pairwise(edges.tolist()), heights.tolist(), strict=True):
        ax.fill_between([a, b], height, color=GOOD, alpha=0.2, lw=0)
    ax.stairs(heights, edges, color=GOOD, lw=3, baseline=None, label="envelope")
    ax.plot(recall, precision, "o-" if points else "-", color="black", lw=1.5, ms=8, label="after each detection")
    for i, point in enumerate(points or ()):
        ax.annotate(point, (recall[i], precision[i]), xytext=(8, -16), textcoords="offset points")
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.05), title=title)
    ax.legend(loc="lower left", frameon=False, fontsize=12)


def kinds(image: Tensor, detection: dict[str, Tensor], kinds: Sequence[str], target: dict[str, Tensor], missed: Tensor,
          classes: Sequence[str], ax: Axes | None = None) -> Axes:  # fmt: skip
    """Detections coloured by what `failures` calls them, with the missed objects dotted in black."""
    ax = picture(image, ax)
    shown = [i for i, kind in enumerate(kinds) if kind in KIND_COLORS]
    boxes(ax, target["boxes"][missed], styles=Style("black", dashes=":"))
    for x1, _, _, y2 in target["boxes"][missed].tolist():  # at the lower corner: the upper one belongs to detections
        label(ax, x1, y2, "missed", "black")
    labels = detection["labels"].tolist()
    boxes(ax, detection["boxes"][shown], [f"{kinds[i]}: {classes[labels[i]]}" for i in shown],
          [Style(KIND_COLORS[kinds[i]]) for i in shown])  # fmt: skip
    assert ax.images, "nothing was drawn"
    return ax


def kind_bars(counts: dict[str, int]) -> None:
    """How many detections are of each kind, and how many objects missed."""
    _, ax = plt.subplots(figsize=(9, 3.2))
    bars = ax.barh(list(counts), list(counts.values()), color=[KIND_COLORS.get(k, "black") for k in counts])
    ax.bar_label(bars, padding=4)
    ax.invert_yaxis()
    ax.set_xlabel("detections (missed: objects)")


def losses(history: History, ax: Axes | None = None, smooth: int = 20) -> None:
    """Every loss of a training against the step, faint as it was and strong as its running mean."""
    ax = ax or plt.subplots(figsize=(9, 4))[1]
    for (name, values), color in zip(history.losses.items(), COLORS, strict=False):
        values = torch.tensor(values)
        window = min(smooth, len(values))
        ax.plot(values, color=color, alpha=0.2, lw=1)
        ax.plot(range(window - 1, len(values)), values.unfold(0, window, 1).mean(dim=1), color=color, label=name)
    ax.set(xlabel="step", ylabel="loss", ylim=(0, None))
    ax.legend(frameon=False, fontsize=12)
    assert ax.lines, "nothing was drawn"


def live_losses(every: float = 2.0) -> Callable[[History], None]:
    """A function for `train(on_log=...)` that draws the losses, anew at most every `every` seconds."""
    from IPython.display import display

    handle = display(display_id=True)
    last = -every

    def update(history: History) -> None:
        nonlocal last
        if monotonic() - last >= every:
            figure, ax = plt.subplots(figsize=(9, 4))
            losses(history, ax)
            handle.update(figure)
            plt.close(figure)
            last = monotonic()

    return update
