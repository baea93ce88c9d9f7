"""Pictures of the loss of a dense detector: how many anchors are positive, and how much each answer weighs."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch

from rcnn_tutorial.course.draw.style import BAD, COLORS, GOOD, IGNORED

NEGATIVE = "#DDDDDD"  # the many


def anchor_bar(counts: dict[str, int]) -> None:
    """The anchors of one picture as a bar to scale, and their numbers above it.

    Args:
        counts: how many are "positive", "ignored" and "negative".
    """
    _, ax = plt.subplots(figsize=(10.9, 2.2))
    total, left = sum(counts.values()), 0
    assert total > 0, "nothing was drawn"
    for (name, count), color in zip(counts.items(), (GOOD, IGNORED, NEGATIVE), strict=True):
        ax.barh(0, count / total, left=left, height=0.6, color=color, label=f"{count:,} {name}")
        left += count / total
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
    ax.set(xlim=(0, 1), yticks=[], xlabel="share of all anchors")


def focal_curves(points: Sequence[float], gamma: float = 2.0) -> None:
    """The log loss and the focal loss over the probability of the right answer, with a dot at each of some points."""
    _, ax = plt.subplots(figsize=(10.9, 4.6))
    p = torch.linspace(0.02, 1, 400, dtype=torch.float64)
    marks = torch.tensor(points, dtype=torch.float64)
    for name, power, color in (("log loss", 0.0, BAD), (f"focal loss, gamma = {gamma:g}", gamma, COLORS[0])):
        ax.plot(p, -((1 - p) ** power) * p.log(), lw=3, color=color, label=name)
        ax.plot(marks, -((1 - marks) ** power) * marks.log(), "o", ms=9, color=color)
    ax.set(xlim=(0, 1.02), ylim=(0, 3), xlabel="p of the right answer", ylabel="loss")
    ax.legend(frameon=False)


def first_losses(curves: dict[str, Sequence[float]]) -> None:
    """The loss of the first steps of several trainings, on a logarithmic axis."""
    _, ax = plt.subplots(figsize=(10.9, 4.4))
    for (name, values), color in zip(curves.items(), COLORS, strict=False):
        ax.plot(range(1, len(values) + 1), values, "o-", lw=2.5, color=color, label=name)
    ax.set(yscale="log", xlabel="step", ylabel="class loss (logarithmic)")
    ax.legend(frameon=False)
    assert curves, "nothing was drawn"
