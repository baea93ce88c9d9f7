"""The pyramid, and the detectors before it, in numbers: levels by size, AP by size, AP against time."""

from collections.abc import Sequence
from statistics import mean, stdev
from textwrap import fill

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter
from torch import Tensor

from rcnn_tutorial.course.draw.style import BAD, COLORS, GOOD, PALE, ink, on_cpu, percent, words
from rcnn_tutorial.evaluation.resampling import student_interval

BLUES = ("#C6DBEF", "#8DBDE0", "#4F94C9", "#1B5C9E", "#08306B")  # of the levels, the finest first
ARROW = dict(arrowstyle="-|>", color=PALE, lw=2.5, shrinkA=13, shrinkB=13, mutation_scale=22)
BESIDE = [  # where a name may stand, in points from its own
    dict(position=(dx, dy), ha=ha, va=va)
    for dx, dy, ha, va in (
        (15, 0, "left", "center"), (-15, 0, "right", "center"), (0, 15, "center", "bottom"), (0, -15, "center", "top"),
        (10, 10, "left", "bottom"), (10, -10, "left", "top"), (-10, 10, "right", "bottom"), (-10, -10, "right", "top"),
        (-20, 15, "left", "bottom"), (-20, -15, "left", "top"), (20, 15, "right", "bottom"), (20, -15, "right", "top"),
    )
]  # fmt: skip
CHANGES = {"more": GOOD, "less": BAD, "not decided: the interval includes 0": PALE}  # by the 95 % interval of the mean
TURNED = {"more": "less", "less": "more"}  # where less is better


@on_cpu
def staircase(sides: Tensor, levels: dict[str, Tensor], side: float | None = None) -> None:
    """The level that a region is read from, against its side; with a marker for one side.

    Args:
        sides: (S,), pixels, in ascending order.
        levels: for each rule (S,) the level k of each side.
        side: pixels; on each staircase the marker lies at the last of `sides` that is not above it.
    """
    assert levels, "nothing was drawn"
    _, ax = plt.subplots(figsize=(10.9, 4.8))
    at = None if side is None else max(int((sides <= side).sum()) - 1, 0)
    for i, (name, each) in enumerate(levels.items()):  # ever thinner: where staircases coincide, all are seen
        ax.plot(sides, each, drawstyle="steps-post", color=COLORS[i], lw=4 + 6 * (len(levels) - 1 - i), label=name,
                solid_joinstyle="miter")  # fmt: skip
        if at is not None:
            ax.plot(side, each[at], "o", color=COLORS[i], ms=18, mec="black", mew=2, zorder=4 + i)
    if at is not None:
        ax.axvline(side, color="black", lw=1.5, ls=":")
        ax.set_title(f"{side:g} px: " + ", ".join(f"P{int(each[at])} with {name}" for name, each in levels.items()))
    every = torch.stack(list(levels.values())).unique().tolist()
    ticks = [2**i for i in range(14) if sides[0] <= 2**i <= sides[-1]]
    ax.set(xscale="log", xlabel="side of the region, pixels (log scale)", ylabel="level read")
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.set_yticks(every, [f"P{k}" for k in every])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(y=0.12)
    ax.grid(color=PALE, alpha=0.3)
    ax.legend(frameon=False, loc="lower right")


def level_shares(shares: dict[str, dict[str, float]]) -> None:
    """How each rule spreads the regions over the levels.

    Args:
        shares: for each rule the share of each level in [0, 1], the finest first.
    """
    assert shares, "nothing was drawn"
    figure, ax = plt.subplots(figsize=(10.9, 0.95 * len(shares) + 0.8))
    names = list(dict.fromkeys(name for each in shares.values() for name in each))
    colors = dict(zip(names, BLUES, strict=False))
    for row, each in enumerate(shares.values()):
        left = 0.0
        for name, share in each.items():
            ax.barh(row, share, 0.7, left, color=colors[name], ec="white", lw=1)
            if share > 0.05:
                ax.text(left + share / 2, row, percent(share), ha="center", va="center", color=ink(colors[name]))
            left += share
    ax.set_yticks(range(len(shares)), list(shares))
    ax.set(xlim=(0, 1), ylim=(len(shares) - 0.5, -0.5), xticks=[])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    handles = [Patch(color=color, label=name) for name, color in colors.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def by_size(
    values: dict[str, Sequence[Sequence[float]]],
    sizes: Sequence[str] = ("small", "medium", "large"),
    ylabel: str = "AP",
    dots: bool = True,
    named: bool = False,
) -> None:
    """What detectors reach on objects of each size: the mean over seeds, its standard deviation, a dot for each seed.

    Args:
        values: for each detector (sizes, seeds).
        sizes: names of the groups.
        ylabel: what was measured.
        dots: whether the seeds are drawn; without them where there is one alone.
        named: whether each bar has its name below it, and the sizes stand above; else the legend has the names.
    """
    assert values, "nothing was drawn"
    figure, ax = plt.subplots(figsize=(10.9, 5.2))
    width = 0.84 / len(values)
    for i, (name, each) in enumerate(values.items()):
        each = torch.as_tensor(each, dtype=torch.float64)
        places = torch.arange(len(sizes)) + (i - (len(values) - 1) / 2) * width
        spread = each.std(dim=1).tolist() if each.shape[1] > 1 else None
        lines = {"yerr": spread, "capsize": 5, "error_kw": {"lw": 2, "capthick": 2}}
        ax.bar(places.tolist(), each.mean(dim=1).tolist(), 0.9 * width, color=COLORS[i], label=name, **lines)
        if dots:
            aside = torch.linspace(-0.25, 0.25, each.shape[1]) * width
            ax.plot((places[:, None] + aside).flatten(), each.flatten(), "o", ms=6, color="white", mec="black", mew=1.2)
        for place, height in zip(places.tolist(), each.mean(dim=1).tolist(), strict=True):
            # at the foot of its own bar, where no dot lies
            ax.annotate(f"{height:.2f}", (place, 0), xytext=(0, 6), textcoords="offset points", ha="center",
                        color=ink(COLORS[i]), weight="bold")  # fmt: skip
    ax.set(ylabel=ylabel, ylim=(0, None))
    ax.tick_params(axis="x", length=0)
    if named:
        every = [group + (i - (len(values) - 1) / 2) * width for group in range(len(sizes)) for i in range(len(values))]
        ax.set_xticks(every, [*values] * len(sizes), rotation=35, ha="right", rotation_mode="anchor")
        for group, size in enumerate(sizes):
            ax.text(group, 1.04, size, transform=ax.get_xaxis_transform(), ha="center", weight="bold")
        return
    ax.set_xticks(range(len(sizes)), sizes)
    columns = len(values) if len(values) < 6 else 3
    figure.legend(loc="outside lower center", ncols=columns, frameon=False)


def paired(
    panels: dict[str, dict[str, Sequence[float]]],
    xlabel: str = "difference in AP",
    shares: bool = False,
    costs: Sequence[str] = (),
) -> None:
    """Differences between two variants, seed by seed: a dot for each seed, the mean and its 95 % interval.

    An interval that includes 0 is grey, since its difference is not decided; the others are green or vermillion.

    Args:
        panels: for each title, and for each pair of variants, the difference with every seed, two seeds at least; all
            panels have the same pairs and one scale.
        xlabel: what was measured.
        shares: whether the differences are shares, which are written in percent.
        costs: the titles of panels in which less is better. With them green stands for better and not for more.
    """
    assert panels and all(panels.values()), "nothing was drawn"
    names = list(next(iter(panels.values())))
    size = (10.9, 0.8 * len(names) + 1.9)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharex=True, sharey=True, squeeze=False)
    for ax, (title, gains) in zip(axes[0], panels.items(), strict=True):
        ax.axvline(0, color="black", lw=2)
        for row, seeds in enumerate(gains.values()):
            low, high, kind = _decided(seeds)
            color = CHANGES[TURNED.get(kind, kind) if title in costs else kind]
            ax.plot([low, high], [row, row], color=color, lw=9, alpha=0.45, solid_capstyle="butt")
            aside = torch.linspace(-0.14, 0.14, len(seeds)).tolist()
            ax.plot(list(seeds), [row + dy for dy in aside], "o", ms=7, color="white", mec="black", mew=1.5)
            ax.plot(mean(seeds), row, "D", ms=10, color=color, mec="black", mew=1.5)
            told = f"{100 * mean(seeds):+.0f} %" if shares else f"{mean(seeds):+.2f}"
            ax.annotate(told, (0.98, row), xycoords=ax.get_yaxis_transform(), ha="right",
                        va="center", weight="bold", color=words(color))  # fmt: skip
        ax.set_title(title)
        ax.grid(axis="x", color=PALE, alpha=0.25)
        ax.tick_params(axis="y", length=0)
        if shares:
            ax.xaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
    axes[0, 0].set_yticks(range(len(names)), [fill(name, 14) for name in names])
    low, high = axes[0, 0].get_xlim()
    axes[0, 0].set(xlim=(low, high + 0.4 * (high - low)), ylim=(len(names) - 0.5, -0.5))  # room for the numbers
    figure.supxlabel(f"{xlabel}: a dot for each seed, bar = 95 % interval of the mean", fontsize=14)
    kinds = ("better", "worse") if costs else ()
    figure.legend(handles=_change_patches(*kinds), loc="outside upper center", ncols=len(CHANGES), frameon=False)


def _decided(seeds: Sequence[float]) -> tuple[float, float, str]:
    """The 95 % interval of a mean difference, and which of CHANGES it is."""
    low, high = student_interval(mean(seeds), stdev(seeds), len(seeds))
    more, less, unclear = CHANGES
    return low, high, more if low > 0 else less if high < 0 else unclear


def _change_patches(more: str = "more", less: str = "less") -> list[Patch]:
    names = more, less, *list(CHANGES)[2:]
    return [Patch(color=color, label=name) for name, color in zip(names, CHANGES.values(), strict=True)]


def trade_off(
    points: dict[str, dict[str, Sequence[float]]],
    table: dict[str, dict[str, str]],
    xlabel: str,
    ylabel: str = "AP",
    ladder: bool = True,
) -> None:
    """Accuracy against time, one point per detector, an arrow from each to the next; under it what each of them does.

    Without a table the picture is the points alone.

    Args:
        points: for each detector, in their order, "x" (time) and "y" (accuracy) of each seed; lines show the standard
            deviations.
        table: for each property what it is for each detector; it may be empty.
        xlabel, ylabel: what was measured.
        ladder: whether each detector improves on the one before it; else there are no arrows, a dashed line joins those
            that no other one beats in both, and the axis of y begins at 0.
    """
    assert points, "nothing was drawn"
    table = {row: {name: fill(text, 12) for name, text in values.items()} for row, values in table.items()}
    heights = [0.45 + 0.25 * max(text.count("\n") for text in values.values()) for values in table.values()]
    lower = 0.45 + sum(heights) if table else 0  # inches
    ratios = (6, lower) if table else (6,)
    figure, axes = plt.subplots(len(ratios), 1, figsize=(10.9, 6 + lower), height_ratios=ratios, squeeze=False)
    ax = axes[0, 0]
    names, lines = [], []
    for (name, each), color in zip(points.items(), COLORS, strict=False):
        (x, across), (y, up) = (_spread(each[axis]) for axis in "xy")
        ax.errorbar(x, y, up, across, fmt="o", color=color, ms=16, mec="white", mew=2, elinewidth=3, zorder=3)
        lines += [((x - across, y), (x + across, y)), ((x, y - up), (x, y + up))]
        style = dict(color=words(color), weight="bold", fontsize=18, zorder=4,
                     path_effects=[withStroke(linewidth=4, foreground="white")])  # fmt: skip
        names.append(ax.annotate(name, (x, y), xytext=(0, 0), textcoords="offset points", **style))
    for start, end in zip(names, names[1:] if ladder else (), strict=False):
        ax.annotate("", end.xy, start.xy, arrowprops=ARROW)
        lines.append((start.xy, end.xy))
    if not ladder:
        front = _front([name.xy for name in names])
        ax.plot(*zip(*front, strict=True), color=PALE, lw=2, ls="--", zorder=1, label="Pareto front")
        ax.legend(frameon=False, loc="upper left")
        lines += zip(front, front[1:], strict=False)
    ax.set(xscale="log", xlabel=xlabel)
    ax.margins(x=0.42, y=0.14)
    if not ladder:
        ax.set_ylim(bottom=0)
    ax.set_ylabel(_from(ax, ylabel) if ladder else ylabel)
    first, last = ax.get_xlim()
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if last < 1000 * first else (1,)))
    ax.xaxis.set_major_formatter("{x:,.10g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(color=PALE, alpha=0.25)
    if table:
        _table(axes[1, 0], names, table, heights)
    figure.draw_without_rendering()  # from here on the axes have their place
    _place(ax, names, lines)


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points, from the left to the right, that lie higher than all to the left of them."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return front


def _from(ax: Axes, label: str) -> str:
    """The label of an axis of y that does not begin at 0, and says so."""
    return f"{label} (axis from {ax.get_ylim()[0]:.2f})"


def _spread(seeds: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation."""
    seeds = torch.tensor(seeds, dtype=torch.float64)
    return seeds.mean().item(), seeds.std().item() if len(seeds) > 1 else 0.0


def _table(ax: Axes, heads: Sequence[Annotation], table: dict[str, dict[str, str]], heights: Sequence[float]) -> None:
    """Properties in rows of these heights, detectors in columns, in the colours of their names."""
    y, middle = 0.45, dict(ha="center", va="center", fontsize=15)
    for column, head in enumerate(heads):
        ax.text(column, y / 2, head.get_text(), color=head.get_color(), weight="bold", **(middle | dict(fontsize=14)))
    for (row, values), height in zip(table.items(), heights, strict=True):
        ax.axhline(y, color=PALE, lw=1, alpha=0.6)
        ax.text(-0.6, y + height / 2, row, ha="right", va="center", fontsize=15)
        for column, head in enumerate(heads):
            ax.text(column, y + height / 2, values[head.get_text()], **middle)
        y += height
    ax.set(xlim=(-1.9, len(heads) - 0.4), ylim=(y, 0))
    ax.set_axis_off()


def _place(ax: Axes, names: Sequence[Annotation], lines: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Each name beside its point, where it covers least of the lines and no other name."""
    along = torch.linspace(0, 1, 40, dtype=torch.float64)[:, None]
    ends = [torch.from_numpy(ax.transData.transform(line)) for line in lines]
    dots, taken = torch.cat([start + along * (end - start) for start, end in ends]).numpy(), []
    for name in names:
        costs = []
        for spot in BESIDE:
            name.set(**spot)
            box = name.get_window_extent().padded(4)
            beyond = any(not ax.bbox.contains(*corner) for corner in box.corners())
            costs.append(box.count_contains(dots) + 1000 * (box.count_overlaps(taken) + beyond))
        name.set(**BESIDE[costs.index(min(costs))])
        taken.append(name.get_window_extent())


def gains(start: tuple[str, float], steps: dict[str, Sequence[float]], ylabel: str = "AP") -> None:
    """What each change adds to what was reached before it, each bar where the last one ended.

    A line is the 95 % interval of the mean; the colours are those of `paired`.

    Args:
        start: the first detector and what it reaches.
        steps: for each change the difference with every seed, two seeds at least.
        ylabel: what was measured.
    """
    assert steps, "nothing was drawn"
    figure, ax = plt.subplots(figsize=(10.9, 5.4))
    first, level = start
    ax.plot([-0.4, 1.4], [level, level], color="black", lw=2)
    ax.annotate(f"{level:.3f}", (0, level), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=16)
    for column, seeds in enumerate(steps.values(), start=1):
        low, high, kind = _decided(seeds)
        difference, spread = mean(seeds), (high - low) / 2
        ax.bar(column, difference, 0.8, level, color=CHANGES[kind])
        top = max(level, level + difference + spread)
        level += difference
        ax.errorbar(column, level, spread, color="black", lw=2, capsize=6, capthick=2)
        ax.plot([column - 0.4, column + (1.4 if column < len(steps) else 0.4)], [level, level], color="black", lw=2)
        ax.annotate(f"{difference:+.3f}", (column, top), xytext=(0, 5), textcoords="offset points", ha="center",
                    fontsize=16, weight="bold")  # fmt: skip
    ax.annotate(f"{level:.3f}", (len(steps) + 0.45, level), va="center", fontsize=16)
    ax.margins(y=0.15)
    ax.set_xticks(range(len(steps) + 1), [fill(name, 84 // (len(steps) + 1)) for name in (first, *steps)])
    ax.set(ylabel=_from(ax, ylabel), xlim=(-0.5, len(steps) + 0.9))
    ax.tick_params(axis="x", length=0)
    figure.legend(handles=_change_patches(), loc="outside lower center", ncols=len(CHANGES), frameon=False)
