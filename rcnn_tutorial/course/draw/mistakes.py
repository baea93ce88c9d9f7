"""What a detector gets wrong, kind by kind."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from rcnn_tutorial.course.draw.pictures import boxes, corner_labels, picture
from rcnn_tutorial.course.draw.style import IGNORED, KIND_COLORS, TRUTH, Style, on_cpu, words

HIGH, BESIDE = 5.4, 3.4  # inches: of the picture, and of the words beside it


@on_cpu
def kinds(image: Tensor, detection: dict[str, Tensor], kinds: Sequence[str], target: dict[str, Tensor], missed: Tensor,
          classes: Sequence[str], ax: Axes | None = None) -> Axes:  # fmt: skip
    """Detections and missed objects, numbered; beside the picture stands what `failures` calls each of them.

    Difficult objects are framed in grey, and the list names them without a number.
    """
    wide, high = image.shape[2] / image.shape[1] * HIGH, HIGH
    ax = picture(image, ax or plt.subplots(figsize=(wide + BESIDE, high))[1])
    difficult = target.get("difficult", torch.zeros(len(target["boxes"]), dtype=torch.bool))
    boxes(ax, target["boxes"][difficult], styles=Style(IGNORED, 3))
    shown = [i for i, kind in enumerate(kinds) if kind in KIND_COLORS]
    shown.sort(key=lambda i: kinds[i] != "correct")  # failures on top
    labels, names = detection["labels"].tolist(), target["labels"][missed].tolist()
    told = [(f"{kinds[i]}: {classes[labels[i]]}", KIND_COLORS[kinds[i]], detection["boxes"][i], "-") for i in shown]
    told += [(f"missed: {classes[k]}", TRUTH, box, ":") for k, box in zip(names, target["boxes"][missed], strict=True)]
    framed = torch.stack([box for _, _, box, _ in told]) if told else torch.zeros(0, 4)
    boxes(ax, framed, styles=[Style(color, dashes=dashes) for _, color, _, dashes in told])
    corner_labels(ax, framed, [str(number + 1) for number in range(len(told))], [color for _, color, _, _ in told])
    lines = [(f"{number}  {text}", color) for number, (text, color, _, _) in enumerate(told, start=1)]
    lines += [(f"difficult: {classes[k]}", IGNORED) for k in target["labels"][difficult].tolist()]
    for place, (text, color) in enumerate(lines, start=1):
        ax.text(1.03, 1 - (place - 0.5) / max(12, len(lines)), text, transform=ax.transAxes, va="center",
                color=words(color))  # fmt: skip
    assert ax.images, "nothing was drawn"
    return ax


def kind_bars(counts: dict[str, dict[str, int]]) -> None:
    """The failures of several detectors, one panel for each kind and one bar for each detector.

    Args:
        counts: for each detector the `counts` of its `failures`; what is correct is not drawn.
    """
    kinds = [kind for kind in next(iter(counts.values())) if kind != "correct"]
    figure, axes = plt.subplots(1, len(kinds), figsize=(10.9, 0.6 * len(counts) + 1.6), sharex=True, sharey=True,
                           squeeze=False)  # fmt: skip
    for ax, kind in zip(axes[0], kinds, strict=True):
        values = [each[kind] for each in counts.values()]
        bars = ax.barh(list(counts), values, 0.7, color=KIND_COLORS.get(kind, "black"))
        ax.bar_label(bars, padding=4)
        ax.set(title=kind, xticks=[])
        ax.tick_params(axis="y", length=0)
        ax.spines["bottom"].set_visible(False)
    figure.suptitle("false detections by kind")
    axes[0, 0].invert_yaxis()
    axes[0, 0].margins(x=0.3)
    assert axes[0, 0].patches, "nothing was drawn"
