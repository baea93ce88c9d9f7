"""Curves: of precision against recall, and of a training."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from time import monotonic

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rcnn_tutorial.course.draw.style import COLORS, GOOD, PALE, on_cpu, words
from rcnn_tutorial.evaluation.curves import envelope
from rcnn_tutorial.training import History

RPN_LOSSES = ("objectness", "rpn_box")


@on_cpu
def precision_recall(
    recall: Tensor, precision: Tensor, ax: Axes | None = None, title: str = "", points: Sequence[str] | None = None
) -> None:
    """Precision against recall after each detection, the envelope, and the area under it."""
    ax = ax or plt.subplots(figsize=(8.8, 4.4))[1]
    edges, heights = torch.cat((recall.new_zeros(1), recall)), envelope(precision)
    for (a, b), height in zip(pairwise(edges.tolist()), heights.tolist(), strict=True):
        ax.fill_between([a, b], height, color=GOOD, alpha=0.2, lw=0)
    heights, edges = torch.cat((heights, heights.new_zeros(1))), torch.cat((edges, edges.new_ones(1)))  # then it is 0
    ax.stairs(heights, edges, color=GOOD, lw=3, baseline=None, label="envelope")
    ax.plot(recall, precision, "o-" if points else "-", color="black", lw=1.5, ms=8, label="after each detection")
    for i, point in enumerate(points or ()):
        ax.annotate(point, (recall[i], precision[i]), xytext=(8, -16), textcoords="offset points")
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.05), title=title)
    ax.legend(loc="lower left", frameon=False, fontsize=12)


def losses(history: History, smooth: int = 20) -> Figure:
    """Every loss of a training against the step, faint as it was and strong as its running mean.

    The RPN's losses have a panel of their own, with a logarithmic axis: one of them is much smaller than all others. If
    there is one loss alone, the axis has its name, and the legend says what the two lines are.
    """
    of_rpn = [name for name in history.losses if name in RPN_LOSSES]
    of_head = [name for name in history.losses if name not in RPN_LOSSES]
    panels = {title: names for title, names in (("RPN", of_rpn), ("head", of_head)) if names}
    alone = len(history.losses) == 1
    figure, axes = plt.subplots(1, max(len(panels), 1), figsize=(10.9 if of_rpn else 9, 4), squeeze=False)
    for ax, (title, names) in zip(axes[0], panels.items(), strict=False):
        for name in names:
            color = COLORS[list(history.losses).index(name)]
            values = torch.tensor(history.losses[name])
            window = min(smooth, len(values))
            ax.plot(values, color=color, alpha=0.4, lw=1, label="each step" if alone else None)
            mean = values.unfold(0, window, 1).mean(dim=1)
            label = f"mean of {window} steps" if alone else name
            ax.plot(range(window - 1, len(values)), mean, color=color, label=label)
        ax.set(xlabel="step", ylabel=names[0] if alone else "loss", title=title if of_rpn else "")
        if title == "RPN":
            ax.set(yscale="log", ylabel="loss (log scale)")
            ax.yaxis.set_major_formatter("{x:g}")
        else:
            ax.set_ylim(bottom=0)
        ax.legend(frameon=False)
    assert axes[0, 0].lines, "nothing was drawn"
    return figure


def live_losses(every: float = 2.0) -> Callable[[History], None]:
    """A function for `train(on_log=...)` that draws the losses, anew at most every `every` seconds.

    Outside of a notebook it draws nothing.
    """
    from IPython.display import display

    handle = display(display_id=True)
    last = -every

    def update(history: History) -> None:
        nonlocal last
        if handle and monotonic() - last >= every:
            figure = losses(history)
            handle.update(figure)
            plt.close(figure)
            last = monotonic()

    return update


@on_cpu
def recall_curves(
    counts: Sequence[int],
    recalls: dict[str, Tensor],
    thresholds: Sequence[float] = (0.5, 0.7),
    ends: dict[str, float] | None = None,
) -> None:
    """Recall against the number of boxes, one panel per IoU threshold, one line per proposer.

    Args:
        counts: C numbers of boxes per image.
        recalls: for each proposer (C, T), as `evaluation.recall` gives them.
        thresholds: T, of IoU.
        ends: for some proposers how many boxes they have in all: there their lines end, and the number is written.
    """
    _, axes = plt.subplots(1, len(thresholds), figsize=(10.9, 4.4), sharey=True, squeeze=False)
    for panel, (ax, threshold) in enumerate(zip(axes[0], thresholds, strict=True)):
        for (name, recall), color, marker in zip(recalls.items(), COLORS, "osD^vP*", strict=False):
            places, heights, end = list(counts), recall[:, panel].tolist(), (ends or {}).get(name)
            if end is not None:
                below = [place for place in places if place < end]
                places, heights = [*below, end], [*heights[: len(below)], heights[-1]]
                text = dict(xytext=(6, -20), textcoords="offset points", color=words(color))
                ax.annotate(f"all {end:,.0f}", (end, heights[-1]), **text)
            ax.plot(places, heights, marker + "-", color=color, ms=9, label=name)
        ax.set(xscale="log", xlabel="boxes per image", ylim=(0, 1.02), title=f"IoU of at least {threshold:g}")
        ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.grid(color=PALE, alpha=0.3)
    axes[0, 0].set_ylabel("recall")
    axes[0, -1].legend(frameon=False)
    assert axes[0, 0].lines, "nothing was drawn"
