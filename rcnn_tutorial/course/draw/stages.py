"""Networks and trainings stage by stage: which layer fails, which tensors learn, what goes where, what it costs."""

from collections.abc import Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch
from matplotlib.path import Path

from rcnn_tutorial.course.draw.network_map import NetworkMap
from rcnn_tutorial.course.draw.pictures import characters
from rcnn_tutorial.course.draw.style import BAD, COLORS, GOOD, PALE, PROPOSAL, ink, percent, words

LAYER_STATES = {"ok": GOOD, "fails": BAD, "not reached": PALE}
SPPNET = NetworkMap(
    {
        "picture": (0, 1),
        "conv net": (1, 1),
        "pyramid": (2, 1),
        "fc6, fc7": (3, 1),
        "SVMs": (4, 1),
        "NMS": (5, 1),
        "ridge": (2, 0),
        "windows": (0, 2),
        "scale,\nproject": (1, 2),
    },
    (
        ("picture", "conv net", "(3, H, W)"),
        ("conv net", "pyramid", "map\n(C, h, w)"),
        ("windows", "scale,\nproject", "(P, 4)"),
        ("scale,\nproject", "pyramid", "cells\n(P, 4)"),
        ("pyramid", "fc6, fc7", "(P, 21 C)"),
        ("fc6, fc7", "SVMs", "fc7\n(P, 256)"),
        ("SVMs", "NMS", "scores\n(P, K)"),
        ("pyramid", "ridge", "(P, 21 C)"),
        ("ridge", "NMS", "boxes (P, K, 4)"),
    ),
    letters=14,
    high=1.1,
)
STAGE_COLORS = {  # of a detector's time, the same in all pictures
    "proposals": PROPOSAL,
    "convolutions": COLORS[5],
    "pooling": COLORS[3],
    "fully connected": COLORS[1],
    "regions": COLORS[6],
    "outputs": COLORS[2],
}


def layer_table(rows: Sequence[tuple[str, str, str]], ax: Axes | None = None) -> None:
    """A network as a stack of layers, the output's shape beside each.

    Args:
        rows: name, what to write beside it (the shape, or of the layer that fails the error), and its state: "ok",
            "fails" or "not reached".
    """
    ax = ax or plt.subplots(figsize=(8.8, 0.7 * len(rows) + 0.1))[1]
    room = int(0.6 * characters(ax))  # of what is written beside the layers
    for i, (name, text, state) in enumerate(rows):
        color = LAYER_STATES[state]
        _box(ax, (0, i), (3, 0.62), name, color, filled=state != "not reached")
        ax.text(1.7, i, fill(text, room), va="center", color=BAD if state == "fails" else "black",
                weight="bold" if state == "fails" else "normal")  # fmt: skip
        if i:
            _arrow(ax, (0, i - 0.69), (0, i - 0.31), PALE if state == "not reached" else "black")
    ax.set(xlim=(-1.6, 6.4), ylim=(len(rows) - 0.6, -0.4))
    ax.set_axis_off()
    assert ax.patches, "nothing was drawn"


def _box(ax: Axes, middle: tuple[float, float], size: tuple[float, float], text: str, color: str, filled: bool = True,
         fontsize: int = 14) -> None:  # fmt: skip
    (x, y), (width, height) = middle, size
    style = "round,pad=0,rounding_size=0.08"
    face = color if filled else "white"
    ax.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, style, fc=face, ec=color, lw=2))
    ax.text(x, y, text, ha="center", va="center", color=ink(color) if filled else "#555555", fontsize=fontsize)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str, width: float = 2) -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10 + 2 * width, color=color, lw=width,
                                 shrinkA=0, shrinkB=0))  # fmt: skip


def _lock(is_open: bool) -> Path:
    """A padlock as a marker; where it is open, the shackle is lifted and stands beside the body."""
    angle = torch.linspace(0, torch.pi, 16)
    arc = torch.stack((angle.cos(), angle.sin()), dim=1)
    lift, aside = (0.75, 0.7) if is_open else (0.5, 0)
    foot = 0.35 if is_open else 0  # of the leg on the right
    shackle = torch.cat(
        (
            torch.tensor([[0.45, foot - lift]]),
            0.45 * arc,
            torch.tensor([[-0.45, -lift], [-0.24, -lift]]),
            0.24 * arc.flip(0),
            torch.tensor([[0.24, foot - lift], [0.45, foot - lift]]),
        )
    )
    body = torch.tensor([[-0.65, 0], [0.65, 0], [0.65, -1], [-0.65, -1], [-0.65, 0]])
    return Path.make_compound_path(Path(body), Path(shackle + torch.tensor([aside, lift])))


LOCKS = {
    True: dict(marker=_lock(True), color=GOOD, ms=22, mew=0, lw=0, label="trained"),
    False: dict(marker=_lock(False), color=PALE, ms=22, mew=0, lw=0, label="kept"),
}


def locks(stages: dict[str, dict[str, bool]], ax: Axes | None = None) -> None:
    """Which tensors each stage of a training changes: an open lock for those, a shut one for the others.

    Args:
        stages: for each stage, of each tensor that there is by then, whether it is trained.
    """
    names = list(dict.fromkeys(name for tensors in stages.values() for name in tensors))
    ax = ax or plt.subplots(figsize=(min(10.9, 2 * len(stages) + 3), 0.42 * len(names) + 1.5))[1]
    for column, tensors in enumerate(stages.values()):
        for name, trained in tensors.items():
            ax.plot(column, names.index(name), **LOCKS[trained])
    ax.hlines([i + 0.5 for i in range(len(names) - 1)], -0.5, len(stages) - 0.5, color=PALE, lw=0.5, alpha=0.6)
    ax.set_xticks(range(len(stages)), [fill(name, 14) for name in stages])
    ax.set_yticks(range(len(names)), names)
    ax.set(xlim=(-0.5, len(stages) - 0.5), ylim=(len(names) - 0.4, -0.6))
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    handles = [Line2D([], [], **look) for look in LOCKS.values()]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, frameon=False)
    assert ax.lines, "nothing was drawn"


def flow(steps: dict[str, Sequence[tuple[str, float | None]]]) -> None:
    """The steps of each training as boxes in a row, what one hands to the next on the arrow between them.

    Args:
        steps: for each training its steps in order: a name, and the bytes that it writes to disk for the next step,
            or None where it hands them on in memory. The bytes of the last step have no arrow, and count for nothing.
    """
    _, ax = plt.subplots(figsize=(10.9, 1.7 * len(steps) + 0.5))
    longest = max(map(len, steps.values()))
    fontsize = 14 if longest <= 6 else 12
    room = int(12 / longest * 0.72 / (0.0095 * fontsize))
    for y, (title, row) in enumerate(steps.items()):
        total = sum(size or 0 for _, size in row[:-1])
        ax.text(-0.36, y - 0.48, f"{title}: {readable(total)} on disk", va="bottom", weight="bold", fontsize=15)
        for x, (name, _) in enumerate(row):
            _box(ax, (x, y), (0.72, 0.5), fill(name, room, break_long_words=False), COLORS[5], fontsize=fontsize)
        for x, (_, size) in enumerate(row[:-1]):
            color = PALE if size is None else BAD
            _arrow(ax, (x + 0.37, y), (x + 0.63, y), color, 2 if size is None else 4)
            if size is not None:
                ax.text(x + 0.5, y - 0.27, readable(size), ha="center", va="bottom", color=color, weight="bold")
    handles = [Line2D([], [], color=BAD, lw=4, label="through the disk"),
               Line2D([], [], color=PALE, lw=2, label="in memory")]  # fmt: skip
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, frameon=False)
    ax.set(xlim=(-0.38, longest - 0.62), ylim=(len(steps) - 0.7, -0.72))
    ax.set_axis_off()
    assert ax.patches, "nothing was drawn"


def readable(size: float) -> str:
    """A number of bytes with three digits, in units of thousands."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            return f"{size:.3g} {unit}"
        size /= 1000


def cost_curves(
    counts: Sequence[float], costs: dict[str, Sequence[float]], crossing: float | None = None, ax: Axes | None = None
) -> None:
    """Multiply-adds of an image against its number of windows.

    Args:
        counts: C numbers of windows.
        costs: for each way (C,) multiply-adds.
        crossing: the number of windows from which on the second way is cheaper than the first.
    """
    ax = ax or plt.subplots(figsize=(10, 5))[1]
    ax.set(xscale="log", yscale="log", xlabel="windows", ylabel="multiply-adds")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    _name(ax, _lines(ax, counts, costs))
    if crossing is not None:
        ax.axvline(crossing, color="black", lw=1.5, ls=":")
        ax.text(crossing, 0.98, f" {crossing:,.3g} windows", transform=ax.get_xaxis_transform(), va="top")


def _lines(
    ax: Axes, counts: Sequence[float], values: dict[str, Sequence[float]], marker: str = "-"
) -> list[tuple[str, float, float, str]]:
    """The name, end and colour of each line drawn."""
    named = []
    for (name, each), color in zip(values.items(), COLORS, strict=False):
        ax.plot(counts, each, marker, color=color, ms=8)
        named.append((name, counts[-1], each[-1], words(color)))
    assert named, "nothing was drawn"
    return named


def _name(ax: Axes, named: Sequence[tuple[str, float, float, str]]) -> None:
    """Write names to the right of their points, pushed up where they would touch."""
    ax.autoscale_view()
    below = -float("inf")
    for name, x, y, color in sorted(named, key=lambda each: each[2]):
        place = ax.transData.transform((x, y))[1] * 72 / ax.figure.dpi  # points
        below = max(place, below + 20)
        ax.annotate(name, (x, y), xytext=(12, below - place), textcoords="offset points", va="center", color=color,
                    weight="bold", annotation_clip=False)  # fmt: skip


def gradient_norms(norms: dict[str, float]) -> None:
    """How strong a gradient reaches each layer.

    Points and not bars: the axis is logarithmic, so it has no 0 from which a bar could grow.

    Args:
        norms: for each layer the norm of its gradient; one without a gradient has no point, and says so.
    """
    assert norms, "nothing was drawn"
    _, ax = plt.subplots(figsize=(9, 4.4))
    lowest = min((norm for norm in norms.values() if norm > 0), default=1.0)
    for column, norm in enumerate(norms.values()):
        if norm > 0:
            ax.plot(column, norm, "o", ms=14, color=COLORS[0])
        ax.annotate(f"{norm:.2g}" if norm > 0 else "none", (column, norm or lowest), xytext=(14, 0),
                    textcoords="offset points", va="center")  # fmt: skip
    ax.set(yscale="log", ylabel="norm of the gradient (log scale)", xlim=(-0.5, len(norms) - 0.3),
           ylim=(lowest / 3, 3 * max(*norms.values(), lowest)))  # fmt: skip
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_xticks(range(len(norms)), list(norms))
    ax.minorticks_off()
    ax.grid(axis="y", color=PALE, alpha=0.3)


def cost_bars(costs: dict[str, float], what: str = "", ax: Axes | None = None) -> None:
    """Costs beside each other, as multiples of the first.

    Args:
        costs: with their names.
        what: costs, and of what.
    """
    ax = ax or plt.subplots(figsize=(9, 0.8 * len(costs) + 0.4))[1]
    first = next(iter(costs.values()))
    ratios = [cost / first for cost in costs.values()]
    colors = [GOOD if ratio < 2 else BAD for ratio in ratios]
    bars = ax.barh([fill(name, 16) for name in costs], ratios, color=colors, height=0.6)
    ax.bar_label(bars, [f"{ratio:.3g} x" for ratio in ratios], padding=6)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.22 * max(ratios)), xticks=[], xlabel=what)
    ax.tick_params(length=0)
    ax.spines["bottom"].set_visible(False)
    assert ax.patches, "nothing was drawn"


def time_shares(seconds: dict[str, dict[str, float]], highlight: str, ax: Axes | None = None) -> None:
    """How each detector's time divides among its stages, each in its own colour, one of them in bold letters.

    Args:
        seconds: for each detector the seconds of its stages. Of a single detector the legend says the small shares.
        highlight: the stage in bold letters.
    """
    ax = ax or plt.subplots(figsize=(10.9, 0.95 * len(seconds) + 1.1))[1]
    stages = list(dict.fromkeys(stage for each in seconds.values() for stage in each))
    colors = {stage: STAGE_COLORS.get(stage, PALE) for stage in stages}
    names = {stage: stage for stage in stages}
    for row, each in enumerate(seconds.values()):
        total, left = sum(each.values()), 0.0
        for stage, value in each.items():
            share = value / total
            ax.barh(row, share, 0.7, left, color=colors[stage])
            if share > 0.06:
                ax.text(left + share / 2, row, percent(share), ha="center", va="center", color=ink(colors[stage]),
                        weight="bold" if stage == highlight else "normal")  # fmt: skip
            elif len(seconds) == 1:
                names[stage] += f" {percent(share)}"
            left += share
        ax.text(1.01, row, f"{total:.1f} s" if total >= 1 else f"{1000 * total:.0f} ms", va="center")
    ax.set_yticks(range(len(seconds)), list(seconds))
    ax.set(xlim=(0, 1), ylim=(len(seconds) - 0.5, -0.5), xticks=[])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    handles = [Patch(color=colors[stage], label=names[stage]) for stage in stages]
    columns = len(stages) if len(stages) < 5 else 3
    legend = ax.figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    legend.get_texts()[stages.index(highlight)].set_weight("bold")
    assert ax.patches, "nothing was drawn"
