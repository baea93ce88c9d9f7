"""Images, and boxes on them."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox
from torch import Tensor

from rcnn_tutorial.course.draw.style import COLORS, PLAIN, Style, class_color, ink, on_cpu

CORNERS = ((0, 1, "left", "top"), (2, 1, "right", "top"), (0, 3, "left", "bottom"), (2, 3, "right", "bottom"))


@on_cpu
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
            label(ax, x1, y1, texts[i], style.color, y2)


def label(ax: Axes, x: float, y: float, text: str, color: str, below: float | None = None) -> None:
    """A word at the upper left corner of a box, readable on any picture.

    Where the picture's upper edge would cut it, it stands in the box, or at `below` a box that it would hide.
    """
    across, up = "left", "bottom"
    if ax.images:
        height, width = ax.images[0].get_array().shape[:2]
        x = max(x, 0.008 * width)
        if y < 0.08 * height:
            up, y = "top", y if below is None or below - y > 0.2 * height else below
        if x + len(text) / characters(ax) * width > width:
            x, across = width, "right"
    ax.text(x, y, text, color=ink(color), fontsize=12, ha=across, va=up, clip_on=True,
            bbox={"facecolor": color, "edgecolor": "none", "pad": 1.5})  # fmt: skip


def part_labels(ax: Axes) -> None:
    """Move the words on a picture so that none lies on one that was written before it.

    A word that has to move goes to the nearest free place above or below, within the picture.
    """
    ax.figure.draw_without_rendering()  # from here on the words have their places
    taken: list[Bbox] = []
    for text in ax.texts:
        where = text.get_window_extent().padded(3)
        moves = [0.0, *(shift for word in taken for shift in (word.y1 - where.y0, word.y0 - where.y1))]
        spots = [where.translated(0, 1.01 * shift) for shift in sorted(moves, key=abs)]
        inside = [spot for spot in spots if ax.bbox.y0 <= spot.y0 and spot.y1 <= ax.bbox.y1]
        spot = next((spot for spot in inside if not spot.count_overlaps(taken)), where)
        if spot is not where:
            x, y = ax.transData.transform(text.get_position())
            text.set_position(ax.transData.inverted().transform((x, y + spot.y0 - where.y0)))
        taken.append(spot)


def corner_labels(ax: Axes, boxes: Tensor, texts: Sequence[str], colors: Sequence[str], fontsize: float = 12) -> None:
    """A text inside a corner of each box (N, 4), as far away as it can be from the texts before it.

    What a box has outside of the picture does not count.
    """
    (left, right), (low, high) = (sorted(limits) for limits in (ax.get_xlim(), ax.get_ylim()))
    boxes = boxes.float().clamp(boxes.new_tensor((left, low) * 2).float(), boxes.new_tensor((right, high) * 2).float())
    taken = torch.empty(0, 2)
    for box, text, color in zip(boxes, texts, colors, strict=True):
        places = torch.stack([box[[x, y]] for x, y, _, _ in CORNERS])  # (4, 2)
        free = torch.cdist(places, taken).min(dim=1).values if len(taken) else torch.zeros(4)
        _, _, across, up = CORNERS[best := int(free.argmax())]
        ax.text(*places[best].tolist(), text, ha=across, va=up, color=ink(color), fontsize=fontsize,
                bbox={"facecolor": color, "edgecolor": "none", "pad": 1.5})  # fmt: skip
        taken = torch.cat((taken, places[[best]]))


def characters(ax: Axes) -> float:
    """About how many characters of 12 points fit beside each other."""
    return ax.bbox.width / ax.figure.dpi / 0.11


@on_cpu
def picture(image: Tensor, ax: Axes | None = None, faint: bool = False) -> Axes:
    """An image (3, H, W) without ticks."""
    ax = ax or plt.figure(figsize=(8.8, 8.8 * image.shape[1] / image.shape[2])).gca()
    ax.imshow(
        image.permute(1, 2, 0).clamp(0, 1).numpy(),
        alpha=0.35 if faint else 1,
        extent=(0, image.shape[2], image.shape[1], 0),
    )
    ax.set(xlim=(0, image.shape[2]), ylim=(image.shape[1], 0))
    ax.set_axis_off()
    return ax


def greyed(image: Tensor) -> Tensor:
    """An image (3, H, W) in light grey, on which the colours of boxes and masks stand out."""
    return (0.35 + 0.6 * image.mean(dim=0, keepdim=True)).expand(3, -1, -1)


@on_cpu
def scene(image: Tensor, target: dict[str, Tensor], classes: Sequence[str], ax: Axes | None = None) -> Axes:
    """An image with its objects; difficult ones dashed, with a question mark."""
    ax = picture(image, ax)
    difficult = target.get("difficult", torch.zeros(len(target["boxes"]), dtype=torch.bool)).tolist()
    labels = target["labels"].tolist()
    boxes(
        ax,
        target["boxes"],
        [classes[k] + "?" * d for k, d in zip(labels, difficult, strict=True)],
        [Style(class_color(k), dashes="--" if d else "-") for k, d in zip(labels, difficult, strict=True)],
    )
    assert ax.images, "nothing was drawn"
    return ax


@on_cpu
def crowd(
    image: Tensor, *answers: tuple[str, dict[str, Tensor]], part: tuple[float, float, float, float] | None = None
) -> None:
    """All boxes of some answers, in the colours of their classes, without words; the titles count them.

    Where there are more than 30, the lines are thin and the image is pale, so that they can be told apart.

    Args:
        image: (3, H, W).
        answers: a name, and `boxes` (N, 4) and `labels` (N,) in pixels, of each; they stand side by side.
        part: x1, y1, x2, y2 of the part of the image that is shown, and whose boxes are counted; None for all of it.
    """
    assert answers, "nothing was drawn"
    x1, y1, x2, y2 = part or (0, 0, image.shape[2], image.shape[1])
    width = 10.9 / len(answers) if len(answers) > 1 else 9.0
    high = width * (y2 - y1) / (x2 - x1) + 0.5
    _, axes = plt.subplots(1, len(answers), figsize=(width * len(answers), high), squeeze=False)
    shown = [_centred_in(answer, (x1, y1, x2, y2)) for _, answer in answers]
    many = max(len(answer["boxes"]) for answer in shown) > 30
    for ax, (name, _), answer in zip(axes[0], answers, shown, strict=True):
        picture(image, ax, faint=many).set_title(f"{name}: {len(answer['boxes'])} boxes")
        ax.set(xlim=(x1, x2), ylim=(y2, y1))
        for label in answer["labels"].unique().tolist():
            outlines(ax, answer["boxes"][answer["labels"] == label], class_color(label), 1.5 if many else 2)


def _centred_in(answer: dict[str, Tensor], part: tuple[float, float, float, float]) -> dict[str, Tensor]:
    """The boxes whose middle lies in a part of an image, and their labels."""
    middle = (answer["boxes"][:, :2] + answer["boxes"][:, 2:]) / 2
    inside = ((middle >= middle.new_tensor(part[:2])) & (middle <= middle.new_tensor(part[2:]))).all(dim=1)
    return {key: answer[key][inside] for key in ("boxes", "labels")}


@on_cpu
def pixel_grid(image: Tensor, box: Sequence[int]) -> None:
    """A few pixels with the grey value written into each, and a box on them; its numbers stand along the axes.

    Args:
        image: (3, H, W) in [0, 1], a dozen pixels at most in each direction.
        box: x1, y1, x2, y2, whole pixels.
    """
    grey = (image.mean(dim=0) * 255).round().int()
    rows, columns = grey.shape
    _, ax = plt.subplots(figsize=(8.8, 8.8 * rows / columns))
    ax.imshow(grey.numpy(), cmap="gray", vmin=0, vmax=255, extent=(0, columns, rows, 0))
    for y, row in enumerate(grey.tolist()):
        for x, value in enumerate(row):
            color = "black" if value > 117 else "white"  # either has a contrast of at least 4.5 : 1
            ax.text(x + 0.5, y + 0.5, value, color=color, ha="center", va="center")
    boxes(ax, torch.tensor([box]), styles=Style(COLORS[6], 5))
    ax.set(xticks=range(columns + 1), yticks=range(rows + 1), xlabel="x, pixels", ylabel="y, pixels")


@on_cpu
def outlines(ax: Axes, boxes: Tensor, color: str, width: float, alpha: float = 1) -> None:
    """Many boxes (N, 4) as thin lines, without text."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].view(-1, 4, 2).numpy()
    ax.add_collection(PolyCollection(corners, facecolors="none", edgecolors=color, linewidths=width, alpha=alpha))


@on_cpu
def contact_sheet(
    rows: dict[str, Tensor],
    titles: dict[str, Sequence[str]] | None = None,
    frame: float | dict[str, float] | None = None,
) -> None:
    """Rows of crops, each row with its name.

    Args:
        rows: for each name crops (n, 3, s, s); n may differ, and be 0.
        titles: for some names a text above each crop.
        frame: where the box ends within its crop, pixels from the edge, one number or one for some names; drawn in
            white.
    """
    titles = titles or {}
    frames = frame if isinstance(frame, dict) else dict.fromkeys(rows, frame)
    columns = max(len(crops) for crops in rows.values())
    assert columns, "nothing was drawn"
    side = min(1.9, 10.5 / columns)
    height = side + (0.5 if titles else 0.05)
    _, axes = plt.subplots(len(rows), columns, figsize=(side * columns + 1.5, height * len(rows)), squeeze=False)
    for line, (name, crops) in zip(axes, rows.items(), strict=True):
        line[0].text(-0.1, 0.5, name, transform=line[0].transAxes, ha="right", va="center")
        for ax in line:
            ax.set_axis_off()
        if not len(crops):
            line[0].text(0, 0.5, "none", va="center")
        for i, (ax, crop) in enumerate(zip(line, crops, strict=False)):
            picture(crop, ax)
            if name in titles:
                ax.set_title(titles[name][i], fontsize=14)
            if frames.get(name) is not None:
                _frame(ax, frames[name], crop.shape[-1] - frames[name])


def _frame(ax: Axes, low: float, high: float) -> None:
    halo = [withStroke(linewidth=3, foreground="black", alpha=0.6)]
    side = high - low
    ax.add_patch(Rectangle((low, low), side, side, fill=False, ec="white", lw=1.5, path_effects=halo))
