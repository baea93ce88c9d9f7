"""A detector as a whole: where it looks, what it says, how long each stage takes."""

from collections.abc import Sequence
from textwrap import fill

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

from rcnn_tutorial.course.draw.pictures import boxes, characters, outlines, part_labels, picture
from rcnn_tutorial.course.draw.style import COLORS, PROPOSAL, Style, class_color, ink, on_cpu, percent


@on_cpu
def pipeline(image: Tensor, windows: Tensor, detection: dict[str, Tensor], classes: Sequence[str]) -> None:
    """An image with all windows that a detector looks at, and beside it with what the detector answers.

    Args:
        image: (3, H, W).
        windows: (N, 4), pixels; thin lines on a faint picture.
        detection: the answer: `boxes` (M, 4), `labels` (M,).
        classes: their names, the background first.
    """
    _, (left, right) = plt.subplots(1, 2, figsize=(10.9, 5.4 * image.shape[1] / image.shape[2] + 0.5))
    picture(image, left, faint=True).set_title(f"{len(windows)} windows")
    outlines(left, windows, PROPOSAL, 0.8)
    labels = detection["labels"].tolist()
    picture(image, right).set_title(f"{len(labels)} detections")
    boxes(right, detection["boxes"], [classes[k] for k in labels], [Style(class_color(k), 3) for k in labels])
    part_labels(right)


def time_bar(seconds: dict[str, float], ax: Axes | None = None) -> None:
    """The stages of one run as one bar, each with its share; those too narrow for their name are named below."""
    ax = ax or plt.subplots(figsize=(9, 2))[1]
    total, left = sum(seconds.values()), 0.0
    assert total > 0, "nothing was drawn"
    for i, (name, value) in enumerate(seconds.items()):
        share, color = value / total, COLORS[i % len(COLORS)]
        room = int(share * characters(ax)) - 1
        fits = max(map(len, [*name.split(), "99 %"])) <= room
        ax.barh(0, share, left=left, color=color, label=None if fits else f"{name} {percent(share)}")
        if fits:
            text = f"{fill(name, room)}\n{percent(share)}"
            ax.text(left + share / 2, 0, text, ha="center", va="center", color=ink(color))
        left += share
    ax.set(xlim=(0, 1), ylim=(-0.4, 0.4), title=f"{total:.1f} s" if total >= 1 else f"{1000 * total:.0f} ms")
    ax.set_axis_off()
    if below := ax.get_legend_handles_labels()[1]:
        columns = max(1, int(characters(ax) / (max(map(len, below)) + 5)))
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=columns, frameon=False, fontsize=12,
                  handlelength=1)  # fmt: skip
