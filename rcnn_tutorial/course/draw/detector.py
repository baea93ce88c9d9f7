"""A detector as a whole: where it looks, what it says, how long each stage takes."""

from collections.abc import Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Patch
from torch import Tensor

from rcnn_tutorial.course.draw.own_results import judged
from rcnn_tutorial.course.draw.pictures import boxes, characters, greyed, outlines, part_labels, picture
from rcnn_tutorial.course.draw.style import (
    COLORS,
    GOOD,
    MISTAKE,
    PROPOSAL,
    TRUTH,
    Style,
    ink,
    on_cpu,
    percent,
    style_handles,
)
from rcnn_tutorial.evaluation import failures
from rcnn_tutorial.ops.boxes import box_iou


@on_cpu
def pipeline(
    image: Tensor, windows: Tensor, detection: dict[str, Tensor], target: dict[str, Tensor], classes: Sequence[str]
) -> None:
    """An image with all windows that a detector looks at, and beside it what it answers, right or wrong.

    Of the windows the one that fits each object best has a thick line.

    Args:
        image: (3, H, W).
        windows: (N, 4), pixels; thin lines on a faint picture. Both pictures are grey.
        detection: the answer: `boxes` (M, 4), `labels` (M,) and `scores` (M,).
        target: the truth: `boxes` (G, 4) and `labels` (G,); dotted in both panels.
        classes: their names, the background first.
    """
    height = 5.4 * image.shape[1] / image.shape[2] + 0.9
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.9, height))
    picture(greyed(image), left, faint=True).set_title(f"{len(windows)} windows")
    outlines(left, windows, PROPOSAL, 0.6, 0.2)
    truth = Style(TRUTH, 1.5, ":")
    told = failures([detection], [target], score_threshold=-torch.inf)
    found, objects = told.counts["correct"], len(target["boxes"])
    wrong = len(detection["boxes"]) - found
    picture(greyed(image), right).set_title(
        f"{found} of {objects} objects found, {wrong} box{'es' * (wrong != 1)} wrong"
    )
    for ax in (left, right):
        boxes(ax, target["boxes"], styles=truth)
    best = Style(PROPOSAL, 3)
    if len(windows) and objects:
        boxes(left, windows[box_iou(windows, target["boxes"]).argmax(dim=0).unique()], styles=best)
    judged(right, detection, told.kinds[0], classes)
    part_labels(right)
    looks = {"object": truth, "best window of an object": best, "right": Style(GOOD, 3), "wrong": Style(MISTAKE, 3)}
    handles = style_handles(looks)
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


def time_bar(seconds: dict[str, float]) -> None:
    """The stages of one run as one bar, each with its share; those too narrow for their name are named below."""
    _, ax = plt.subplots(figsize=(9, 2))
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


def time_bars(runs: dict[str, dict[str, float]]) -> None:
    """The stages of several runs, one bar for each on one axis of milliseconds; a stage has one colour in all of them.

    The milliseconds of a stage stand in its part of the bar, where there is room.

    Args:
        runs: for each run the seconds of its stages.
    """
    _, ax = plt.subplots(figsize=(10.9, 0.9 * len(runs) + 1.7), layout="constrained")
    colors = dict(zip({stage: None for stages in runs.values() for stage in stages}, COLORS, strict=False))
    longest = 1000 * max((sum(stages.values()) for stages in runs.values()), default=0)
    for name, stages in runs.items():
        left = 0.0
        for stage, seconds in stages.items():
            ms = 1000 * seconds
            ax.barh(name, ms, left=left, height=0.6, color=colors[stage])
            if ms > 0.05 * longest:
                ax.text(left + ms / 2, name, f"{ms:.0f}", ha="center", va="center", color=ink(colors[stage]))
            left += ms
        ax.text(left, name, f" {left:.0f} ms", va="center")
    ax.margins(x=0.12)
    ax.invert_yaxis()
    ax.set(xlim=(0, None), xlabel="milliseconds for a picture")
    ax.tick_params(axis="y", length=0)
    handles = [Patch(color=color, label=stage) for stage, color in colors.items()]
    ax.figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False, handlelength=1)
    assert runs, "nothing was drawn"
