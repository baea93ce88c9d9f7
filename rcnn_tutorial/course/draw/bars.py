"""Bars: shares, and recorded experiments."""

from collections.abc import Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from rcnn_tutorial.course.draw.style import COLORS, GOOD, PALE, ink, on_cpu, percent


def shares(
    rows: dict[str, float],
    ax: Axes | None = None,
    what: str = "positive",
    colors: Sequence[str] | None = None,
    title: str = "",
) -> None:
    """The share of each set, of windows or objects, in [0, 1], that is `what`; words for a long bar stand in it.

    Args:
        rows: for each set its share.
        what: is counted.
        colors: one for each set; by default all are green.
        title: what the sets are.
    """
    colors = colors or [GOOD] * len(rows)
    ax = ax or plt.subplots(figsize=(9, 0.7 * len(rows) + 0.6))[1]
    ax.barh(list(rows), 1, color=PALE, alpha=0.3, height=0.6)
    bars = ax.barh(list(rows), list(rows.values()), color=colors, height=0.6)
    for bar, share, own in zip(bars, rows.values(), colors, strict=True):
        color, ha, gap = (ink(own), "right", -6) if share > 0.5 else ("black", "left", 6)
        end = (share, bar.get_y() + bar.get_height() / 2)
        text = f"{percent(share)} {what}"
        ax.annotate(text, end, (gap, 0), textcoords="offset points", ha=ha, va="center", color=color)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xticks=[])
    ax.set_title(title, loc="left")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    assert rows, "nothing was drawn"


def measures(rows: dict[str, float], xlabel: str = "AP", ax: Axes | None = None) -> None:
    """A number in [0, 1] for each of several measurements, as a bar and in two digits."""
    ax = ax or plt.subplots(figsize=(10.9, 0.6 * len(rows) + 1))[1]
    bars = ax.barh(list(rows), list(rows.values()), color=COLORS[0], height=0.7)
    ax.bar_label(bars, [f"{value:.2f}" for value in rows.values()], padding=6)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel=xlabel)
    ax.tick_params(axis="y", length=0)
    assert rows, "nothing was drawn"


def ablation(
    values: dict[str, Sequence[float]],
    ylabel: str,
    reference: str | None = None,
    zero: bool = False,
    ax: Axes | None = None,
    digits: int | None = None,
) -> None:
    """A recorded experiment: a dot for each seed of each variant, and their mean, as a bar where the axis starts at 0.

    Args:
        values: for each variant what was measured with each seed.
        ylabel: what was measured.
        reference: the variant to compare with; its mean is drawn across all columns.
        zero: whether the axis starts at 0; where it does not, the picture says so.
        digits: behind the point of a mean; by default it has three digits that are not 0 at the left.
    """
    ax = ax or plt.subplots(figsize=(10.9, 4.4))[1]
    for column, (name, seeds) in enumerate(values.items()):
        color = PALE if name == reference else COLORS[0]
        mean = sum(seeds) / len(seeds)
        aside = column + torch.linspace(-0.15, 0.15, len(seeds))
        if zero:
            ax.bar(column, mean, 0.6, color=color)
            ax.plot(aside, seeds, "o", ms=8, color="white", mec="black", mew=1.5)
        else:
            ax.plot(aside, seeds, "o", ms=9, color=color, alpha=0.7)
            ax.plot([column - 0.3, column + 0.3], [mean, mean], color="black", lw=4, solid_capstyle="butt")
        text = f"{mean:#.3g}".rstrip(".") if digits is None else f"{mean:.{digits}f}"
        ax.annotate(text, (column, max(mean, *seeds)), xytext=(0, 10), textcoords="offset points", ha="center")
        if name == reference:
            ax.axhline(mean, color="black", lw=1, ls=":")
    ax.set_xticks(range(len(values)), [fill(name, 96 // len(values)) for name in values])
    ax.set(ylabel=ylabel, xlim=(-0.6, len(values) - 0.4))
    ax.margins(y=0.2)
    ax.tick_params(axis="x", length=0)
    if zero:
        ax.set_ylim(bottom=0)
        line = f", dotted line: the mean of {reference}" if reference else ""
        ax.set_title(f"bar: mean, dot: one seed{line}", fontsize=14, loc="left")
    if ax.get_ylim()[0] > 0:
        ax.set_title("the axis does not start at 0", fontsize=13, loc="right")
    assert ax.lines, "nothing was drawn"


@on_cpu
def missed_by_size(
    sides: Tensor,
    found: dict[str, Tensor],
    bins: Sequence[float],
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> None:
    """The share of objects that each detector misses, by their size.

    Args:
        sides: (G,) of the objects, pixels.
        found: for each detector (G,) bool.
        bins: sides in ascending order that divide the objects; those below the first and from the last on count too.
        names: of the groups, one more than bins.
    """
    ax = ax or plt.subplots(figsize=(10.9, 4.8))[1]
    own = torch.bucketize(sides, torch.tensor(bins, dtype=sides.dtype), right=True)
    counts = own.bincount(minlength=len(bins) + 1)
    width = 0.8 / len(found)
    for i, ((name, each), color) in enumerate(zip(found.items(), COLORS, strict=False)):
        missed = own[~each].bincount(minlength=len(bins) + 1)
        full = [k for k, count in enumerate(counts.tolist()) if count]
        share = (missed / counts)[full].tolist()
        places = [k + (i - (len(found) - 1) / 2) * width for k in full]
        bars = ax.bar(places, share, 0.92 * width, color=color, label=name)
        ax.bar_label(bars, [percent(value) for value in share], padding=3)
    ranges = [f"below {bins[0]:g}", *(f"{a:g} to {b:g}" for a, b in zip(bins, bins[1:], strict=False)),
              f"{bins[-1]:g} and more"]  # fmt: skip
    if names:
        ranges = [f"{name}: {text}" for name, text in zip(names, ranges, strict=True)]
    ax.set_xticks(
        range(len(ranges)),
        [f"{text}\n{n:,} object{'s' * (n != 1)}" for text, n in zip(ranges, counts.tolist(), strict=True)],
    )
    assert ax.patches, "nothing was drawn"
    most = max(bar.get_height() for bar in ax.patches)
    ax.set(xlabel="side of the object, pixels", ylabel="share missed", ylim=(0, min(1.02, 1.35 * most) or 1))
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    ax.tick_params(axis="x", length=0)
    if len(found) > 1:
        ax.legend(frameon=False)
