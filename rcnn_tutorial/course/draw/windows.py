"""Windows: where they come from, what they are examples of, how often they see each pixel, where they go."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from torch import Tensor

from rcnn_tutorial.course.draw.pictures import boxes, corner_labels, label, part_labels, picture
from rcnn_tutorial.course.draw.style import GOOD, PALE, PROPOSAL, STATES, Style, on_cpu, style_handles, words
from rcnn_tutorial.ops.boxes import box_iou

DOTTED = Style("black", 2, ":")


@on_cpu
def grouping(*rows: tuple[Tensor, Sequence[tuple[Tensor, int]]]) -> None:
    """Pictures, one to a row, and beside each some moments of its grouping, every region in its mean colour.

    Args:
        rows: a picture (3, H, W), and its moments: labels (H, W) int64 as `labels_at` gives them, and how many regions
            they have. Every picture has equally many moments.
    """
    assert rows and rows[0][1], "nothing was drawn"
    columns, ratios = 1 + len(rows[0][1]), [image.shape[1] / image.shape[2] for image, _ in rows]
    height = sum(10.9 / columns * ratio + 0.4 for ratio in ratios)
    _, axes = plt.subplots(len(rows), columns, figsize=(10.9, height), height_ratios=ratios, squeeze=False)
    for line, (image, moments) in zip(axes, rows, strict=True):
        picture(image, line[0]).set_title("picture")
        for ax, (labels, regions) in zip(line[1:], moments, strict=True):
            picture(_mean_colours(image, labels), ax)
            ax.set_title(f"{regions} region{'s' * (regions > 1)}")


@on_cpu
def region_map(image: Tensor, labels: Tensor, values: dict[str, float]) -> None:
    """A picture of few pixels with the letter of its region in each, and a bar for each pair of neighbours.

    Args:
        image: (3, H, W).
        labels: (H, W) int64, 0 for A.
        values: how similar each pair is; the largest is lit.
    """
    _, (left, right) = plt.subplots(1, 2, figsize=(10.9, 4.2), width_ratios=(1.35, 1))
    picture(0.5 + image / 2, left)  # pale, so that black letters can be read
    left.set_axis_on()
    height, width = labels.shape
    left.set(xticks=range(width + 1), yticks=range(height + 1), xlabel="x, pixels", ylabel="y, pixels")
    for y, row in enumerate(labels.tolist()):
        for x, region in enumerate(row):
            left.text(x + 0.5, y + 0.5, chr(ord("A") + region), ha="center", va="center", fontsize=18)
    best = max(values, key=values.__getitem__)
    bars = right.barh(list(values), list(values.values()), color=[GOOD if pair == best else PALE for pair in values])
    right.bar_label(bars, [f"{value:.2f}" for value in values.values()], padding=5)
    right.invert_yaxis()
    right.margins(x=0.2)
    right.set(xlabel="similarity")
    right.tick_params(axis="y", length=0)


def _mean_colours(image: Tensor, labels: Tensor) -> Tensor:
    """(3, H, W) the image with each pixel in the mean colour of its region."""
    region = labels.unique(return_inverse=True)[1].flatten()
    sums = image.new_zeros(3, int(region.max()) + 1).index_add_(1, region, image.flatten(1))
    return (sums / region.bincount())[:, region].view_as(image)


@on_cpu
def windows_by_iou(
    image: Tensor,
    target: dict[str, Tensor],
    windows: Tensor,
    iou: Tensor,
    state: Tensor,
    bounds: Sequence[float],
    xlabel: str,
) -> None:
    """Numbered windows on a picture, and beside it the IoU of each as a bar, in the colour of what a rule makes of it.

    Args:
        image: (3, H, W).
        target: its `boxes` (M, 4), dotted.
        windows: (N, 4), pixels.
        iou: (N,) by which the rule decides.
        state: (N,) int64, FOREGROUND, BACKGROUND or UNUSED by the rule.
        bounds: of the rule, IoU.
        xlabel: with what the IoU is.
    """
    height = 6 * image.shape[1] / image.shape[2] + 0.7
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.9, height), width_ratios=(1.35, 1))
    order = state.argsort(stable=True)  # unused ones at the bottom, foreground on top
    boxes(picture(image, left), target["boxes"], styles=DOTTED)
    boxes(left, windows[order], styles=[Style(STATES[s][1], 3) for s in state[order].tolist()])
    numbers, colors = [str(i + 1) for i in range(len(windows))], [STATES[s][1] for s in state.tolist()]
    corner_labels(left, windows, numbers, colors, 18)
    bars = right.barh(numbers, iou.tolist(), color=colors, height=0.65)
    for bound in bounds:
        right.axvline(bound, color="black", lw=2, ls="--")
    for text in right.bar_label(bars, [f"{value:.2f}" for value in iou.tolist()], padding=5):
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})  # no bound crosses a number
    right.invert_yaxis()
    right.set(xlim=(0, 1.2), xticks=sorted({0, *bounds, 1}), xlabel=xlabel, ylabel="window")
    right.tick_params(axis="y", length=0, labelsize=18)
    for number, color in zip(right.get_yticklabels(), colors, strict=True):  # a bar of 0.00 shows no colour
        number.set(color=words(color), weight="bold")
    counts = {word: int((state == s).sum()) for s, (word, _) in STATES.items()}
    left.set_title(", ".join(f"{count} {word}" for word, count in counts.items() if count))
    styles = {word: Style(color, 3) for word, color in STATES.values() if counts[word]} | {"object": DOTTED}
    figure.legend(handles=style_handles(styles), loc="outside lower center", ncols=4, frameon=False)
    assert left.texts, "nothing was drawn"


@on_cpu
def numbered_crops(image: Tensor, windows: Tensor, rows: dict[str, Tensor], frame: dict[str, float]) -> None:
    """A picture with a few numbered windows, and beside it the crops of them, one row for each way to cut.

    Args:
        image: (3, H, W).
        windows: (N, 4), pixels.
        rows: for each way its name and the crops (N, 3, s, s).
        frame: for each way where the box ends within the crop, pixels from the edge; drawn in white.
    """
    assert len(windows) and rows, "nothing was drawn"
    columns, texts = 3, [str(number + 1) for number in range(len(windows))]
    lines = -(-len(windows) // columns)
    figure = plt.figure(figsize=(10.9, max(4.4, 1.5 * lines * len(rows) + 0.4)))
    grid = figure.add_gridspec(lines * len(rows), columns + 1, width_ratios=[columns * 1.2, *[1] * columns])
    ax = picture(image, figure.add_subplot(grid[:, 0]))
    boxes(ax, windows, texts, Style(PROPOSAL, 2.5))
    for place, (name, crops) in enumerate(rows.items()):
        for number, crop in enumerate(crops):
            panel = figure.add_subplot(grid[place * lines + number // columns, 1 + number % columns])
            picture(crop, panel).set_title(name if number == 1 else "")
            label(panel, 0, 0, texts[number], PROPOSAL)
            if frame[name]:
                box = torch.tensor([[frame[name]] * 2 + [crop.shape[-1] - frame[name]] * 2])
                boxes(panel, box, styles=Style("white", 1.5))
    part_labels(ax)


@on_cpu
def coverage(count: Tensor, image: Tensor) -> None:
    """An image, and beside it how many windows cover each pixel, count (H, W)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.9, 5.2 * image.shape[1] / image.shape[2] + 0.5))
    picture(image, left)
    height, width = count.shape
    heat = right.imshow(count.numpy(), cmap="inferno", vmin=0, extent=(0, width, height, 0))
    right.set_axis_off()
    right.set_title(f"up to {count.max():.0f} windows, {count.double().mean():.0f} on average")
    figure.colorbar(heat, ax=right, label="windows that cover the pixel", shrink=0.9)
    assert count.max() > 0, "nothing was drawn"


@on_cpu
def moves(image: Tensor, before: Tensor, after: Tensor, truths: Tensor, ax: Axes | None = None) -> Axes:
    """Where two corners of each proposal went: before (N, 4) dashed, after (N, 4) solid, objects (M, 4) dotted.

    The part of the image around them is cut out; of the objects those are drawn that some proposal overlaps most.
    """
    ax = picture(image, ax or plt.subplots(figsize=(8.8, 8.8 * image.shape[1] / image.shape[2] + 0.4))[1])
    iou, nearest = box_iou(before, truths).max(dim=1)
    refined = box_iou(after, truths)[torch.arange(len(after)), nearest]
    truths = truths[nearest.unique()]
    around = torch.cat((before, after, truths))
    (x1, y1), (x2, y2) = around[:, :2].amin(dim=0).tolist(), around[:, 2:].amax(dim=0).tolist()
    ax.set(xlim=(max(x1 - 8, 0), min(x2 + 8, image.shape[2])), ylim=(min(y2 + 8, image.shape[1]), max(y1 - 8, 0)))
    ax.set_title("IoU " + ", ".join(f"{a:.2f} to {b:.2f}" for a, b in zip(iou.tolist(), refined.tolist(), strict=True)))
    styles = {"proposal": Style(PROPOSAL, 2, "--"), "refined": Style(GOOD, 3), "object": DOTTED}
    for each, style in zip((before, after, truths), styles.values(), strict=True):
        boxes(ax, each, styles=style)
    arrow = {"arrowstyle": "-|>", "color": "black", "lw": 2, "mutation_scale": 14, "shrinkA": 0, "shrinkB": 0,
             "path_effects": [withStroke(linewidth=4, foreground="white")]}  # fmt: skip
    for start, end in zip(before.reshape(-1, 2).tolist(), after.reshape(-1, 2).tolist(), strict=True):
        ax.annotate("", end, start, arrowprops=arrow)
    ax.legend(handles=style_handles(styles), loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, frameon=False)
    assert ax.texts, "nothing was drawn"
    return ax


@on_cpu
def iou_histogram(before: Tensor, after: Tensor, ax: Axes | None = None) -> None:
    """How well windows fit their object before (N,) and after (N,) regression, as IoU; the means marked."""
    ax = ax or plt.subplots(figsize=(9, 4.2))[1]
    edges = torch.linspace(0, 1, 21)
    for values, name, color in ((before, "before", PALE), (after, "after", GOOD)):
        counts = torch.histogram(values.float(), edges).hist
        mean = values.double().mean().item()
        filled = {"fill": True, "alpha": 0.4} if name == "before" else {"lw": 3}
        ax.stairs(counts, edges, color=color, label=f"{name}, mean {mean:.2f}", **filled)
        ax.axvline(mean, color=color, ls="--", lw=3)
    ax.set(xlabel="IoU with the object", ylabel="windows", xlim=(0, 1))
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=12)
    assert len(before) and ax.patches, "nothing was drawn"
