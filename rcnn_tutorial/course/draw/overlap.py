"""What two boxes have in common, and which of them stays."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from rcnn_tutorial.course.draw.pictures import boxes, corner_labels, part_labels, picture
from rcnn_tutorial.course.draw.style import (
    BAD,
    COLORS,
    GOOD,
    KIND_COLORS,
    PALE,
    STATES,
    TRUTH,
    Style,
    ink,
    on_cpu,
    style_handles,
    words,
)
from rcnn_tutorial.course.nms_steps import Step
from rcnn_tutorial.evaluation import failures
from rcnn_tutorial.ops.boxes import box_iou


def iou_slide(shift: float, size: float = 10) -> None:
    """One box slid over its twin by `shift`, and the IoU against every shift."""
    _, (left, right) = plt.subplots(1, 2, figsize=(10.9, 4.2))
    pair = torch.tensor([[0, 0, size, size], [shift, 0, shift + size, size]])
    boxes(left, pair, styles=[Style(COLORS[0], 4), Style(COLORS[1], 4)])
    both = max(size - abs(shift), 0)
    left.add_patch(Rectangle((max(shift, 0), 0), both, size, color=GOOD, alpha=0.35))
    left.set(xlim=(-1, 2 * size + 1), ylim=(size + 1, -1), aspect="equal", xlabel="x, pixels", ylabel="y, pixels")
    left.set(xticks=range(0, int(2 * size) + 1, 5), yticks=range(0, int(size) + 1, 5))
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


@on_cpu
def iou_table(iou: Tensor, rows: Sequence[str], columns: Sequence[str], state: Tensor | None = None) -> None:
    """IoU (N, M) as a heat map, the largest of each row framed, coloured by what `match` made of the row."""
    _, ax = plt.subplots(figsize=(1.6 * len(columns) + 4, 0.55 * len(rows) + 1.2))
    ax.imshow(iou.numpy(), cmap="Greys", vmin=0, vmax=2, aspect="auto")
    best = iou.argmax(dim=1).tolist()
    for i, row in enumerate(iou.tolist()):
        for j, value in enumerate(row):
            ax.text(j, i, f"{value:.2f}", ha="center", va="center")
        word, color = STATES[int(state[i])] if state is not None else ("", COLORS[0])
        ax.add_patch(Rectangle((best[i] - 0.47, i - 0.45), 0.94, 0.9, fill=False, ec=color, lw=4))
        ax.text(len(columns) - 0.4, i, word, color=ink(color), va="center",
                bbox={"facecolor": color, "edgecolor": "none", "pad": 4})  # fmt: skip
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    assert len(ax.patches) == len(rows) > 0, "nothing was drawn"


@on_cpu
def rivals(boxes_: Tensor, scores: Tensor, names: Sequence[str]) -> None:
    """Boxes (N, 4) of which some will suppress others, each with its name and score in a corner."""
    _, ax = plt.subplots(figsize=(9, 5.4))
    boxes(ax, boxes_, styles=Style(COLORS[0]))
    right, low = boxes_[:, 2:].amax(dim=0).tolist()
    ax.set(xlim=(0, right + 2), ylim=(low + 2, 0), aspect="equal")
    texts = [f"{name} {score:.2f}" for name, score in zip(names, scores.tolist(), strict=True)]
    corner_labels(ax, boxes_, texts, [COLORS[0]] * len(names))
    ax.set(xlabel="x, pixels", ylabel="y, pixels")
    assert len(ax.patches) == len(names) > 0, "nothing was drawn"


@on_cpu
def nms_strip(boxes: Tensor, scores: Tensor, steps: Sequence[Step], names: Sequence[str]) -> None:
    """The decisions of `nms_steps`, one panel each."""
    rows = -(-len(steps) // 3)
    wide, high = (boxes[:, 2:].amax(dim=0) - boxes[:, :2].amin(dim=0) + 2).tolist()
    figure, axes = plt.subplots(rows, 3, figsize=(10.9, (3.6 * high / wide + 0.5) * rows), squeeze=False)
    for i, ax in enumerate(axes.flat):
        nms_step(boxes, scores, steps, names, i, ax) if i < len(steps) else ax.set_axis_off()
    assert figure.axes, "nothing was drawn"


@on_cpu
def nms_step(
    boxes_: Tensor, scores: Tensor, steps: Sequence[Step], names: Sequence[str], now: int, ax: Axes | None = None
) -> None:
    """The state of the suppression after decision `now`: kept boxes solid, dropped ones dashed, later ones pale."""
    ax = ax or plt.subplots(figsize=(8.8, 5))[1]
    styles, texts = [Style(PALE, 1)] * len(boxes_), [""] * len(boxes_)
    for i, step in enumerate(steps[: now + 1]):
        styles[step.box] = Style(
            GOOD if step.by is None else BAD, 4 if i == now else 2, "-" if step.by is None else "--"
        )
        texts[step.box] = names[step.box]
    order = sorted(range(len(boxes_)), key=lambda i: styles[i].width)
    boxes(ax, boxes_[order], styles=[styles[i] for i in order])
    for i in order:
        ax.text(*(boxes_[i, :2] + 0.6).tolist(), texts[i], color=ink(styles[i].color), va="top", weight="bold",
                bbox={"facecolor": styles[i].color, "edgecolor": "none", "pad": 2} if texts[i] else None)  # fmt: skip
    low, high = boxes_[:, :2].min(dim=0).values.tolist(), boxes_[:, 2:].max(dim=0).values.tolist()
    ax.set(xlim=(low[0] - 1, high[0] + 1), ylim=(high[1] + 1, low[1] - 1), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    step = steps[now]
    name = f"{names[step.box]} ({scores[step.box]:.2f})"
    ax.set_title(f"{name}: kept" if step.by is None else f"{name}: dropped by {names[step.by]}, IoU {step.iou:.2f}")


@on_cpu
def threshold_curve(
    ap: dict[float, float],
    chosen: float,
    image: Tensor,
    truths: Tensor,
    detections: dict[float, dict[str, Tensor]],
) -> None:
    """AP against the threshold of NMS, and beside it what stays of one pair of objects at some thresholds.

    True boxes are black and dotted. Into each detection its IoU and its score are written; its colour is that of what
    `failures` calls it.

    Args:
        ap: for each threshold.
        chosen: the threshold that the detector keeps, one of `ap`.
        image: (3, H, W) with the pair.
        truths: (M, 4), the pair's.
        detections: for each threshold to show, what stays: `boxes` (N, 4), `scores` (N,) and `iou` (N,).
            The panels show the part of the image around all of these boxes.
    """
    figure, (ax, *panels) = plt.subplots(
        1, 1 + len(detections), figsize=(10.9, 6.2), width_ratios=(1.2, *[1] * len(detections))
    )
    ax.plot(list(ap), list(ap.values()), "o-", color="black", ms=8)
    ax.plot(chosen, ap[chosen], "o", ms=16, color=GOOD)
    ax.annotate(f"{chosen:g}: AP50 {ap[chosen]:.2f}", (chosen, ap[chosen]), xytext=(0, 14), textcoords="offset points",
                ha="center", color=words(GOOD), weight="bold")  # fmt: skip
    ax.margins(x=0.08, y=0.4)
    ax.set(xlabel="IoU above which the\nlower score is dropped", ylabel="AP50", xticks=list(ap))
    ax.set_title("the axis of AP50\ndoes not start at 0", fontsize=13, loc="right")

    around = torch.cat((truths, *(stays["boxes"] for stays in detections.values())))
    low, high = (around[:, :2].amin(dim=0) - 8).tolist(), (around[:, 2:].amax(dim=0) + 8).tolist()
    shown = {"object": Style(TRUTH, 3, ":")}
    for panel, (threshold, stays) in zip(panels, detections.items(), strict=True):
        picture(image, panel).set(xlim=(low[0], high[0]), ylim=(high[1], low[1]))
        boxes(panel, truths, styles=Style(TRUTH, 3, ":"))
        kinds = _kinds(stays, truths)
        shown |= {kind: Style(KIND_COLORS[kind], 3) for kind in kinds}
        colors = [KIND_COLORS[kind] for kind in kinds]
        boxes(panel, stays["boxes"], styles=[Style(color, 3) for color in colors])
        rows = zip(stays["iou"].tolist(), stays["scores"].tolist(), strict=True)
        corner_labels(panel, stays["boxes"], [f"{iou:.2f} / {score:.2f}" for iou, score in rows], colors)
        part_labels(panel)
        panel.set_title(f"{threshold:g}: {len(colors)} box{'es' * (len(colors) != 1)}\nIoU / score")
    figure.legend(handles=style_handles(shown), loc="outside lower center", ncols=len(shown), frameon=False)
    assert ax.lines and panels[0].patches, "nothing was drawn"


def _kinds(stays: dict[str, Tensor], truths: Tensor) -> list[str]:
    """Of detections and objects of one class, what is each detection?"""
    one = {"labels": torch.ones(len(stays["boxes"]), dtype=torch.int64)}
    target = {"boxes": truths, "labels": torch.ones(len(truths), dtype=torch.int64)}
    return list(failures([stays | one], [target], score_threshold=-torch.inf).kinds[0])
