"""Masks: on the pictures, in their boxes, cut to cells and pasted back, and what the loss asks of each cell."""

from collections.abc import Sequence
from statistics import median

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MultipleLocator
from torch import Tensor

from rcnn_tutorial.course.draw.maps import cut
from rcnn_tutorial.course.draw.masks import dense
from rcnn_tutorial.course.draw.pictures import boxes, greyed, picture
from rcnn_tutorial.course.draw.regions import POINT, rounded
from rcnn_tutorial.course.draw.style import (
    COLORS,
    DETECTION,
    MISTAKE,
    PALE,
    PROPOSAL,
    TRUTH,
    Style,
    class_color,
    ink,
    on_cpu,
    words,
)

WIDE = 10.9  # inches
POOLED, ALIGNED = COLORS[1], COLORS[0]  # RoI pooling, RoIAlign
RED, BLUE = "#B2182B", "#2166AC"  # near the ends of the colours RdBu_r, for gradients above 0 and below


@on_cpu
def paint(ax: Axes, masks: Tensor, colors: Sequence[str], strength: float = 0.5) -> None:
    """Lay masks over a picture, each in its colour, with its border.

    Args:
        ax: of a picture.
        masks: (N, H, W) bool, of the picture's size.
        colors: of each.
        strength: of the colour, from 0 to 1; 0 leaves the border alone.
    """
    for mask, color in zip(masks, colors, strict=True):
        if strength:
            layer = torch.zeros(*mask.shape, 4)
            layer[mask] = torch.tensor((*to_rgb(color), strength))
            ax.imshow(layer.numpy(), extent=(0, mask.shape[1], mask.shape[0], 0), zorder=1.5)
        border(ax, mask, color, 1.5)


def border(ax: Axes, mask: Tensor, color: str, width: float, dashes: str = "solid") -> None:
    """The border of a mask (H, W), along the sides of its pixels' middles."""
    if mask.any() and not mask.all():
        x, y = (torch.arange(side) + 0.5 for side in (mask.shape[1], mask.shape[0]))
        ax.contour(x, y, mask.float(), levels=[0.5], colors=color, linewidths=width, linestyles=dashes)


def true_border(ax: Axes, mask: Tensor) -> None:
    """The border of a true mask (H, W): dotted, on white, so that it is seen on every colour."""
    border(ax, mask, "white", 4)
    border(ax, mask, TRUTH, 2.5, "dotted")


@on_cpu
def instances(answers: dict[str, tuple[Tensor, dict[str, Tensor], Sequence[str]]], threshold: float = 0.7) -> None:
    """Detections with their masks, on several pictures in grey side by side; boxes are faint.

    A mask has the colour of its class, which the legend names.

    Args:
        answers: for each title an image (3, H, W), its detections with `masks`, and the names of the classes.
        threshold: the least score of a detection that is drawn.
    """
    assert answers, "nothing was drawn"
    ratios = [image.shape[2] / image.shape[1] for image, _, _ in answers.values()]
    figure, axes = plt.subplots(
        1, len(answers), figsize=(WIDE, WIDE / sum(ratios) + 0.9), width_ratios=ratios, squeeze=False
    )
    seen: dict[int, str] = {}
    for ax, (title, (image, answer, classes)) in zip(axes[0], answers.items(), strict=True):
        sure = answer["scores"] >= threshold
        labels = answer["labels"][sure].tolist()
        colors = [class_color(k) for k in labels]
        seen |= {k: classes[k] for k in labels}
        picture(greyed(image), ax).set_title(f"{title}: {len(labels)} masks")
        boxes(ax, answer["boxes"][sure], styles=[Style(color, 1, ":") for color in colors])
        paint(ax, dense(answer["masks"], tuple(image.shape[1:]))[sure], colors, 0.65)
    handles = [Patch(color=class_color(k), label=seen[k]) for k in sorted(seen)]
    figure.legend(handles=handles, loc="outside lower center", ncols=max(len(seen), 1), frameon=False)


def fill_shares(shares: dict[str, Sequence[float]]) -> None:
    """How much of its box an object fills: a dot for each object, a bar for the median of each class.

    Args:
        shares: for each class those of its objects, in [0, 1].
    """
    assert shares, "nothing was drawn"
    _, ax = plt.subplots(figsize=(WIDE, 4.8))
    for column, (each, color) in enumerate(zip(shares.values(), COLORS, strict=False)):
        ax.bar(column, median(each), 0.8, color=color)
        aside = torch.linspace(-0.3, 0.3, len(each)).tolist()
        ax.plot([column + dx for dx in aside], list(each), "o", ms=5, color="white", mec="black", mew=1)
        ax.text(column, 0.03, f"{median(each):.2f}", ha="center", color=ink(color), weight="bold", fontsize=16)
    ax.set_xticks(range(len(shares)), list(shares))
    ax.set(ylabel="share of its box that it fills", ylim=(0, 1.02))
    ax.tick_params(axis="x", length=0)


def two_readings(ramp: Sequence[float], region: tuple[float, float], read: dict[str, Sequence[float]],
                 points: int = 2) -> None:  # fmt: skip
    """One region of a ramp, read in two ways: above the whole cells of RoI pooling's bins, below RoIAlign's points.

    A cell lies where its number says, so that places along the picture are pixels.

    Args:
        ramp: a number for each cell, evenly spaced: the place of its middle, pixels.
        region: its left and its right border, pixels.
        read: for "RoI pooling" and "RoIAlign" where each of the n bins looks, pixels.
        points: of RoIAlign in each bin, along one side.
    """
    (x1, x2), stride = region, ramp[1] - ramp[0]
    first, _, end, _ = rounded((x1 / stride, 0, x2 / stride, 0))
    n = len(read["RoIAlign"])
    exact = [(x1 + j * (x2 - x1) / n, x1 + (j + 1) * (x2 - x1) / n) for j in range(n)]
    whole = [(ramp[low] - stride / 2, ramp[high - 1] + stride / 2) for low, high in cut(first, end, n)]
    figure, axes = plt.subplots(2, 1, figsize=(WIDE, 6), sharex=True)
    for ax, name, bins, color in zip(axes, read, (whole, exact), (POOLED, ALIGNED), strict=True):
        for low, high in bins:
            ax.add_patch(Rectangle((low, 0), high - low, 1, fc=(*to_rgb(color), 0.3), ec=words(color), lw=3))
        ax.vlines([number - stride / 2 for number in (*ramp, ramp[-1] + stride)], 0, 1, color=PALE, lw=0.8)
        ax.hlines((0, 1), ramp[0] - stride / 2, ramp[-1] + stride / 2, color=PALE, lw=0.8)
        for number in ramp:
            ax.text(number + 0.2 * stride, 0.72, f"{number:g}", ha="center", va="center", fontsize=17)
        (middles,) = ax.plot(ramp, [0.5] * len(ramp), ".", color="black", ms=7)
        right = ax.vlines([sum(each) / 2 for each in exact], -0.2, 1.2, color=TRUTH, ls=":", lw=3)
        boxes(ax, torch.tensor([[x1, -0.1, x2, 1.1]]), styles=Style(PROPOSAL, 3, "--"))
        (place,) = ax.plot(read[name], [1.36] * n, "v", color=color, mec="black", ms=14)
        for at in read[name]:
            ax.text(at, 1.56, f"{at:g}", ha="center", va="bottom", fontsize=17, weight="bold")
        ax.set(xlim=(ramp[0] - stride / 2 - 1, ramp[-1] + stride / 2 + 1), ylim=(-0.25, 1.9))
        ax.set_title(name, loc="left")
        ax.set_axis_off()
    across = [low + (k + 0.5) * (high - low) / points for low, high in exact for k in range(points)]
    (dots,) = axes[1].plot(across, [0.3] * len(across), "o", color=POINT, mec="black", ms=12)
    signs = {"region": Line2D([], [], color=PROPOSAL, lw=3, ls="--"), "middle of its bins": right,
             "where a bin looks": place, "point": dots, "middle of a cell": middles}  # fmt: skip
    figure.legend(signs.values(), signs.keys(), loc="outside lower center", ncols=5, frameon=False,
                  columnspacing=1.2, handlelength=1.6)  # fmt: skip


@on_cpu
def ramp_slide(starts: Tensor, centre: Tensor, read: dict[str, Tensor]) -> None:
    """Where a bin of a sliding window looks, by RoI pooling and by RoIAlign, and where it should.

    Args:
        starts: (S,) left borders of the window, pixels.
        centre: (S,) the middle of the bin, pixels.
        read: for "RoI pooling" and "RoIAlign" (S,) what the bin reads from a ramp, pixels.
    """
    figure, ax = plt.subplots(figsize=(WIDE, 5.2))
    for (name, values), color in zip(read.items(), (POOLED, ALIGNED), strict=True):
        worst = (values - centre).abs().max().item()
        ax.plot(starts, values, "o-", color=color, ms=7, lw=2, label=f"{name}: off by up to {worst:.0f}")
    ax.plot(starts, centre, ":", color=TRUTH, lw=3, label="middle of the bin", zorder=4)
    ax.set(xlabel="left border of the window, pixels", ylabel="where the bin looks, pixels")
    ax.xaxis.set_major_locator(MultipleLocator(8))
    ax.yaxis.set_major_locator(MultipleLocator(8))
    ax.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)


@on_cpu
def border_shifts(borders: Tensor, shifts: dict[str, Tensor]) -> None:
    """How far a border moves when it is put on a whole cell.

    Args:
        borders: (S,) pixels, in ascending order.
        shifts: for each rule (S,) pixels; the titles tell the largest and the mean.
    """
    assert shifts, "nothing was drawn"
    _, axes = plt.subplots(1, len(shifts), figsize=(WIDE, 4.2), sharey=True, squeeze=False)
    for ax, (name, values) in zip(axes[0], shifts.items(), strict=True):
        ax.fill_between(borders, values, color=MISTAKE, alpha=0.35, lw=0)
        ax.plot(borders, values, color=MISTAKE, lw=3)
        ax.axhline(0, color="black", lw=1.5)
        size = values.abs()
        ax.set_title(f"{name}: up to {size.max():.1f}, mean {size.mean():.1f}")
        ax.set_xlabel("a border, pixels")
        ax.xaxis.set_major_locator(MultipleLocator(16))
    axes[0, 0].set_ylabel("it moves by, pixels")


@on_cpu
def mask_questions(
    crop: Tensor, truth: Tensor, logits: Tensor, gradients: dict[str, Tensor], classes: Sequence[str]
) -> None:
    """One RoI: what the masks of some classes answer, and beside each answer which cells the losses pull at.

    Args:
        crop: (3, h, w), the pixels under the RoI.
        truth: (h, w) bool, which of them belong to the object.
        logits: (K, m, m) before the sigmoid.
        gradients: for each loss (K, m, m), that of the loss with respect to the logits.
        classes: K names. Two fit.
    """
    assert gradients, "nothing was drawn"
    rows, columns = len(classes), 2 + len(gradients)
    figure = plt.figure(figsize=(WIDE, 2.6 * rows + 0.7))
    grid = figure.add_gridspec(rows, columns)
    left = picture(crop, figure.add_subplot(grid[:, 0]))
    left.set_title("RoI")
    true_border(left, truth)
    most = max(each.abs().max().item() for each in gradients.values())
    for k, name in enumerate(classes):
        ax = figure.add_subplot(grid[k, 1])
        _cells(ax, logits[k].sigmoid(), "Greys", (0, 1))
        ax.set_title(f"mask of {name}")
        for column, (loss, each) in enumerate(gradients.items(), start=2):
            ax = figure.add_subplot(grid[k, column])
            _cells(ax, each[k], "RdBu_r", (-most, most))
            total = each[k].abs().sum().item()
            ax.set_title(f"{loss}: sum {total:.2f}" if total else f"{loss}: all 0")
    key = {"black": "mask: yes", RED: "a step lowers the logit", BLUE: "a step raises the logit"}
    handles = [Patch(color=color, label=told) for color, told in key.items()]
    handles += left.plot([], [], ":", color=TRUTH, lw=2.5, label="true border")
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


def _cells(ax: Axes, values: Tensor, colors: str, limits: tuple[float, float]) -> None:
    """A small map with a frame, without numbers."""
    ax.imshow(values.detach().numpy(), cmap=colors, vmin=limits[0], vmax=limits[1])
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(True)


@on_cpu
def cut_and_paste(objects: dict[str, tuple[Tensor, Tensor, Tensor]]) -> None:
    """Masks cut to m x m cells and pasted back: where the border errs.

    Args:
        objects: for each name the true mask (h, w) bool in its part of the picture, the cells (m, m) in [0, 1], and
            what was pasted, (h, w) bool.
    """
    assert objects, "nothing was drawn"
    figure, axes = plt.subplots(len(objects), 4, figsize=(WIDE, 2.9 * len(objects) + 0.7), squeeze=False)
    for line, (name, (truth, cells, pasted)) in zip(axes, objects.items(), strict=True):
        for ax, values in zip(line[:3], (truth.float(), cells, pasted.float()), strict=True):
            _cells(ax, values, "Greys", (0, 1))
        wrong = truth ^ pasted
        shown = torch.ones(*truth.shape, 3)
        shown[truth & pasted] = torch.tensor(to_rgb(DETECTION))
        shown[wrong] = torch.tensor(to_rgb(MISTAKE))
        line[3].imshow(shown.numpy())
        line[3].set(xticks=[], yticks=[])
        line[3].spines[:].set_visible(True)
        line[0].set_ylabel(name)
        share = (truth & pasted).sum().item() / (truth | pasted).sum().item()
        line[3].set_title(f"IoU {share:.2f}, {int(wrong.sum())} wrong")
        for ax, title in zip(line[:3], ("mask", f"cut to {len(cells)} x {len(cells)}", "pasted"), strict=True):
            ax.set_title(title)
    handles = [Patch(color=DETECTION, label="right"), Patch(color=MISTAKE, label="wrong pixels")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)


def mask_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of each of some masks (N, H, W) with each of others (M, H, W), (N, M)."""
    one, other = (each.flatten(1).double() for each in (first, second))
    common = one @ other.T
    return common / (one.sum(dim=1)[:, None] + other.sum(dim=1) - common).clamp(min=1)


def right_masks(answer: dict, target: dict, image: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Which detections above a score have the mask of an object of their class, at an IoU of at least 0.5.

    Returns:
        the masks (D, H, W) of the detections above the score, and for each whether it is right.
    """
    sure = answer["scores"] >= threshold
    masks, truths = dense(answer["masks"], tuple(image.shape[1:]))[sure], dense(target["masks"], tuple(image.shape[1:]))
    same = answer["labels"][sure][:, None] == target["labels"]
    overlaps, right = torch.where(same, mask_iou(masks, truths), 0.0), []
    for row in range(len(masks)):  # the best come first
        best = overlaps[row].max(dim=0) if len(truths) else None
        right.append(best is not None and best.values.item() >= 0.5)
        if right[-1]:
            overlaps[:, best.indices] = 0  # an object is found once
    return masks, torch.tensor(right, dtype=torch.bool)


@on_cpu
def own_masks(image: Tensor, target: dict, before: dict, after: dict, threshold: float = 0.5) -> None:
    """The learner's own masks on one picture, before the training and after it.

    A mask is green if it has an IoU of at least 0.5 with an object of its class, and vermillion if not. The picture
    is grey, and the borders of the true masks dotted.

    Args:
        image: (3, H, W).
        target: its `masks` and `labels`.
        before, after: `masks`, `labels` and `scores` of detections, best first.
        threshold: the least score of a detection that is drawn and counted.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDE, WIDE / 2 * image.shape[1] / image.shape[2] + 0.9))
    for ax, (name, answer) in zip(axes, {"before": before, "after": after}.items(), strict=True):
        masks, right = right_masks(answer, target, image, threshold)
        picture(greyed(image), ax)
        paint(ax, masks, [DETECTION if r else MISTAKE for r in right.tolist()], 0.75)
        for mask in dense(target["masks"], tuple(image.shape[1:])):
            true_border(ax, mask)
        ax.set_title(f"{name}: {int(right.sum())} right, {int((~right).sum())} wrong")
    handles = [Patch(color=DETECTION, label="right"), Patch(color=MISTAKE, label="wrong")]
    handles += axes[0].plot([], [], ":", color=TRUTH, lw=2.5, label="true border")
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


@on_cpu
def worst_masks(items: Sequence[tuple[Tensor, Tensor, Tensor, str]]) -> None:
    """Masks that went wrong: parts of pictures, in grey, with the mask that was found and the border of the true one.

    Args:
        items: for each the picture's part (3, h, w), the true mask and the found one (h, w) bool, and a title.
    """
    assert items, "nothing was drawn"
    ratios = [part.shape[2] / part.shape[1] for part, *_ in items]
    figure, axes = plt.subplots(
        1, len(items), figsize=(WIDE, WIDE / sum(ratios) + 0.9), width_ratios=ratios, squeeze=False
    )
    for ax, (part, truth, found, title) in zip(axes[0], items, strict=True):
        picture(greyed(part), ax).set_title(title)
        paint(ax, found[None], [MISTAKE], 0.85)
        true_border(ax, truth)
    handles = [Patch(color=MISTAKE, label="mask that was found")]
    handles += axes[0, 0].plot([], [], ":", color=TRUTH, lw=2.5, label="true border")
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
