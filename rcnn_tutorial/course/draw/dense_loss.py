"""Pictures of the loss of a dense detector: how many anchors are positive, and how much each answer weighs."""

from collections.abc import Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from rcnn_tutorial.course.draw.style import COLORS, GOOD, IGNORED, MISTAKE, on_cpu, percent

NEGATIVE = "#DDDDDD"  # the many
LOSSES = LOG, FOCAL = COLORS[1], COLORS[0]


def anchor_bar(counts: dict[str, int]) -> None:
    """The anchors of one picture as a bar to scale, and below it the bar's left end, enlarged.

    Args:
        counts: how many are "positive", "ignored" and "negative".
    """
    total = sum(counts.values())
    assert total > 0, "nothing was drawn"
    end = min(1.0, 1.25 * (total - counts["negative"]) / total) or 1.0  # of what is enlarged
    figure, (whole, part) = plt.subplots(2, 1, figsize=(10.9, 3.6), layout="constrained")
    for ax, right, xlabel in ((whole, 1.0, "share of all anchors"), (part, end, "the left end of the bar, enlarged")):
        left = 0.0
        for (name, count), color in zip(counts.items(), (GOOD, IGNORED, NEGATIVE), strict=True):
            ax.barh(0, count / total, left=left, height=0.6, color=color, label=f"{count:,} {name}")
            left += count / total
        ax.set(xlim=(0, right), ylim=(-0.3, 0.3), yticks=[], xlabel=xlabel)
        ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    figure.legend(*whole.get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False)


def focal_curves(points: Sequence[float], gamma: float = 2.0) -> None:
    """The log loss and the focal loss over the probability of the right answer, with a dot at each of some points.

    The right panel shows the right half of the left one on a logarithmic axis. The left one has the dots up to 0.9.
    """
    _, axes = plt.subplots(1, 2, figsize=(10.9, 4.6), layout="constrained")
    p = torch.linspace(0.02, 0.999, 800, dtype=torch.float64)
    for ax, marks in zip(axes, ([p_t for p_t in points if p_t <= 0.9], points), strict=True):
        marks = torch.tensor(marks, dtype=torch.float64)
        for name, power, color in (("log loss", 0.0, LOG), (f"focal loss, gamma = {gamma:g}", gamma, FOCAL)):
            ax.plot(p, -((1 - p) ** power) * p.log(), lw=3, color=color, label=name)
            ax.plot(marks, -((1 - marks) ** power) * marks.log(), "o", ms=8, color=color, clip_on=False, zorder=3)
        ax.set(xlabel="p of the right answer", ylabel="loss")
    axes[0].set(xlim=(0, 1), ylim=(0, 3))
    axes[1].set(xlim=(0.5, 1), ylim=(1e-7, 1), yscale="log", ylabel="loss (logarithmic)")
    axes[0].legend(frameon=False)


@on_cpu
def loss_by_difficulty(p_t: Tensor, edges: Sequence[float], gamma: float = 2.0) -> None:
    """Where the sums of the log loss and of the focal loss come from: shares by how easy the answers are.

    Below each pair of bars stands how many answers it has.

    Args:
        p_t: (Q,), the probability of the right answer to each question.
        edges: ascending, of the groups; an answer on an edge belongs to the group above it, 1 to the last.
    """
    assert len(p_t), "nothing was drawn"
    figure, ax = plt.subplots(figsize=(10.9, 4.8))
    p_t = p_t.double()
    group = torch.bucketize(p_t, torch.tensor(edges[1:-1], dtype=torch.float64), right=True)  # (Q,)
    counts = group.bincount(minlength=len(edges) - 1).tolist()
    for side, name, power, color in ((-0.2, "log loss", 0.0, LOG), (0.2, "focal loss", gamma, FOCAL)):
        loss = -((1 - p_t) ** power) * p_t.log()
        sums = group.bincount(weights=loss, minlength=len(counts))  # (G,)
        places, shares = [k + side for k in range(len(counts))], (sums / sums.sum()).tolist()
        bars = ax.bar(places, shares, 0.38, color=color, label=f"{name}, sum {sums.sum():,.0f}")
        ax.bar_label(bars, [percent(share) for share in shares], padding=3)
    ranges = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    ax.set_xticks(range(len(counts)), [f"{text}\n{n:,} answers" for text, n in zip(ranges, counts, strict=True)])
    ax.set(xlabel="p of the right answer", ylabel="share of the sum", ylim=(0, 1.1), yticks=[0, 0.5, 1])
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    ax.tick_params(axis="x", length=0)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)


def first_losses(curves: dict[str, Sequence[float]]) -> None:
    """The loss of the first steps of several trainings, on a logarithmic axis; the last is a mistake."""
    _, ax = plt.subplots(figsize=(10.9, 4.4))
    for (name, values), color in zip(curves.items(), (COLORS[3], GOOD, MISTAKE), strict=False):
        ax.plot(range(1, len(values) + 1), values, "o-", lw=2.5, color=color, label=name)
    ax.set(yscale="log", xlabel="step", ylabel="class loss (logarithmic)")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(frameon=False)
    assert curves, "nothing was drawn"
