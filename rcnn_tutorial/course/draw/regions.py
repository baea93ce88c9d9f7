"""Regions of interest: their grid, where the gradient lands, the loss that they are trained with, what is left over."""

from collections.abc import Sequence
from math import copysign

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from rcnn_tutorial.course.draw.maps import LIT, WINNER, bins, cell_map, range_of, winners
from rcnn_tutorial.course.draw.pictures import boxes
from rcnn_tutorial.course.draw.style import BAD, COLORS, GOOD, PALE, Style, on_cpu, percent
from rcnn_tutorial.ops.losses import smooth_l1

EXACT, ROUNDED = Style("black", 2.5, "--"), Style(GOOD, 4)


def rounded(roi: Sequence[float]) -> list[int]:
    """The cells that RoI pooling takes for x1, y1, x2, y2: halves away from zero; x2 and y2 exclusive."""
    x1, y1, x2, y2 = (int(c + copysign(0.5, c)) for c in roi)
    return [x1, y1, max(x1, x2) + 1, max(y1, y2) + 1]


@on_cpu
def roi_grid(
    feature_map: Tensor,
    roi: Sequence[float],
    switches: Tensor,
    before: Tensor | None = None,
    view: Sequence[float] | None = None,
) -> None:
    """An RoI on a map as it is and as it is rounded, its bins and their maxima, and what is pooled.

    Args:
        feature_map: (H, W).
        roi: x1, y1, x2, y2 in cells, not rounded.
        switches: (h, w, 2) row and column of each bin's maximum; -1 for a bin without a cell.
        before: (h, w) pooled values to compare with; those that changed are framed.
        view: x1, y1, x2, y2 in cells, the part of the map to show; by default the RoI and two cells around it.
    """
    rows, columns = switches.shape[:2]
    cells = rounded(roi)
    x1, y1, x2, y2 = cells
    view = view or (x1 - 2, y1 - 2, x2 + 2, y2 + 2)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.9, 6.2), width_ratios=(1.3, 1))
    cell_map(feature_map, left)
    bins(cells, (rows, columns), left)
    boxes(left, torch.tensor([cells]), styles=ROUNDED)
    boxes(left, torch.tensor([roi]), styles=EXACT)
    winners(switches, left)
    left.set(xlim=(view[0], view[2]), ylim=(view[3], view[1]))
    left.set_title(f"{x2 - x1} x {y2 - y1} cells into {columns} x {rows} bins")

    row, column = switches.unbind(dim=2)
    pooled = torch.where(row < 0, 0, feature_map.detach()[row, column])
    cell_map(pooled, right, range_of(feature_map))
    right.set_title("pooled")
    if before is not None:
        changed = (pooled != before).nonzero().tolist()
        for i, j in changed:
            right.add_patch(Rectangle((j + 0.06, i + 0.06), 0.88, 0.88, fill=False, ec=BAD, lw=3))
        right.set_title(f"pooled: {len(changed)} of {pooled.numel()} changed")
    handles = [Line2D([], [], color=s.color, lw=s.width, ls=s.dashes, label=name)
               for s, name in ((EXACT, "RoI"), (ROUNDED, "rounded"))]  # fmt: skip
    figure.legend(handles=[*handles, WINNER], loc="outside lower center", ncols=3, frameon=False)
    assert left.patches, "nothing was drawn"


@on_cpu
def landing(
    gradient: Tensor, rois: Sequence[Sequence[float]], switches: Sequence[Tensor], ax: Axes | None = None
) -> Axes:
    """Where the gradient of RoI pooling lands on a map: in the cells that the switches name, and there it adds up.

    Args:
        gradient: (H, W), of the loss with respect to the map.
        rois: x1, y1, x2, y2 in cells of each RoI.
        switches: for each (h, w, 2) row and column of each bin's maximum; -1 for a bin without a cell.
    """
    cells = torch.tensor([rounded(roi) for roi in rois])
    (x1, y1), (x2, y2) = cells[:, :2].amin(dim=0).tolist(), cells[:, 2:].amax(dim=0).tolist()
    width, height = x2 - x1 + 2, y2 - y1 + 2
    ax = ax or plt.subplots(figsize=(10.9, min(9, 11 * height / width) + 0.6))[1]
    cell_map(torch.zeros_like(gradient), ax, (0, 1))
    chosen = torch.stack([_chosen(own, gradient.shape) for own in switches])  # (RoIs, H, W)
    for i, own in enumerate(chosen):
        boxes(ax, cells[[i]], styles=Style(COLORS[i], 4))
        for row, column in own.nonzero().tolist():
            ax.add_patch(Rectangle((column, row), 1, 1, fc=COLORS[i], alpha=0.5, ec="none"))
    for row, column in (chosen.sum(dim=0) > 1).nonzero().tolist():
        ax.add_patch(Rectangle((column, row), 1, 1, fc=LIT, ec="none"))
    for row, column in gradient.nonzero().tolist():
        shared = chosen[:, row, column].sum() > 1
        ax.text(column + 0.5, row + 0.5, f"{gradient[row, column]:.2g}", ha="center", va="center",
                fontsize=12 if width > 12 else 16, weight="bold" if shared else "normal")  # fmt: skip
    ax.set(xlim=(x1 - 1, x2 + 1), ylim=(y2 + 1, y1 - 1))
    handles = [Patch(color=COLORS[i], alpha=0.5, label=f"chosen by RoI {i + 1}") for i in range(len(rois))]
    handles.append(Patch(color=LIT, label="by both: added up" if len(rois) == 2 else "by several: added up"))
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=len(handles), frameon=False)
    assert ax.texts, "nothing was drawn"
    return ax


def _chosen(switches: Tensor, shape: tuple[int, int]) -> Tensor:
    """(H, W) bool, which cells the switches name."""
    places = switches.reshape(-1, 2)
    chosen = torch.zeros(shape, dtype=torch.bool)
    chosen[tuple(places[(places >= 0).all(dim=1)].T)] = True
    return chosen


def loss_curves() -> None:
    """Smooth L1 and L2 of an error, and the slopes of both."""
    _, axes = plt.subplots(1, 2, figsize=(10.9, 4.6))
    x = torch.linspace(-4, 4, 401)
    curves = {"L2": (x * x / 2, x, COLORS[1]), "smooth L1": (smooth_l1(x), x.clamp(-1, 1), COLORS[0])}
    for ax, which, title in zip(axes, (0, 1), ("loss", "slope"), strict=True):
        for name, (*values, color) in curves.items():
            ax.plot(x, values[which], color=color, lw=4, label=name)
        for edge in (-1, 1):
            ax.axvline(edge, color=PALE, lw=1.5, ls=":")
        ax.set(xlabel="error", title=title, xticks=range(-4, 5))
        ax.grid(axis="y", color=PALE, alpha=0.3)
    axes[1].legend(frameon=False, loc="lower right")
    assert axes[1].lines, "nothing was drawn"


@on_cpu
def target_histograms(before: Tensor, after: Tensor) -> None:
    """Regression targets (N, 4) before and after they are normalised: one column per number, the same scale for all."""
    assert len(before) and len(after), "nothing was drawn"
    figure, axes = plt.subplots(2, 4, figsize=(10.9, 5.2), sharex=True)
    edges = torch.linspace(-3, 3, 61)
    for line, targets, color, name in zip(axes, (before, after), (PALE, GOOD), ("before", "after"), strict=True):
        for ax, column, title in zip(line, targets.T, ("tx", "ty", "tw", "th"), strict=True):
            ax.stairs(torch.histogram(column.float().clamp(-3, 3), edges).hist, edges, color=color, fill=True)
            mean = round(column.mean().item(), 2) + 0.0  # + 0.0: -0.0 becomes 0.0
            ax.set_title(f"{title}: mean {mean:.2f}, std {column.std(correction=0):.2f}", fontsize=12)
            ax.set(yticks=[], xticks=(-2, 0, 2))
            ax.spines["left"].set_visible(False)
        line[0].set_ylabel(name)
    figure.supxlabel("target", fontsize=14)


@on_cpu
def singular_values(values: dict[str, Tensor], ranks: dict[str, int], ax: Axes | None = None) -> None:
    """The singular values of some layers, largest first; strong what a rank of t keeps, faint what it drops.

    Args:
        values: of each layer, in descending order.
        ranks: t of each layer.
    """
    ax = ax or plt.subplots(figsize=(10, 4.8))[1]
    for (name, each), color in zip(values.items(), COLORS, strict=False):
        each, rank = each.tolist(), ranks[name]
        places = range(1, len(each) + 1)
        ax.plot(places, each, color=color, lw=1.5, alpha=0.6)
        ax.plot(places[:rank], each[:rank], color=color, lw=5, label=f"{name}: t = {rank} of {len(each)}")
        ax.plot(rank, each[rank - 1], "o", color=color, ms=13, mec="black")
    ax.set(yscale="log", xlabel="singular value number", ylabel="singular value")
    ax.legend(frameon=False)
    assert ax.lines, "nothing was drawn"


def compression(
    ranks: Sequence[int | None], ap: Sequence[float], milliseconds: Sequence[float], parameters: Sequence[float]
) -> None:
    """AP and time of a detector whose head was made smaller, against the share of the parameters that is left.

    The steps of the axis are equal, whatever the shares.

    Args:
        ranks: t; None for the head as it was.
        ap: with each.
        milliseconds: per image.
        parameters: share of the head's parameters, in (0, 1].
    """
    _, axes = plt.subplots(1, 2, figsize=(10.9, 4.6))
    order = sorted(range(len(ranks)), key=lambda i: parameters[i])
    ticks = [f"{percent(parameters[i])}\n" + ("full" if ranks[i] is None else f"t={ranks[i]}") for i in order]
    for ax, values, title, color in zip(axes, (ap, milliseconds), ("AP", "ms per image"), COLORS, strict=False):
        if None in ranks:
            ax.axhline(values[ranks.index(None)], color=PALE, lw=1.5, ls=":")
        ax.plot(range(len(order)), [values[i] for i in order], "o-", color=color, ms=10)
        ax.set(xlabel="parameters of the head", title=title, ylim=(0, 1.15 * max(values)))
        ax.set_xticks(range(len(order)), ticks, fontsize=12)
    assert order, "nothing was drawn"


def kind_groups(kinds: dict[str, Sequence[dict[str, int]]], ax: Axes | None = None) -> None:
    """What several detectors get wrong, kind beside kind: the mean over seeds, and as a line its standard deviation.

    Args:
        kinds: for each detector and each seed the `counts` of its `failures`; what is correct is not drawn.
    """
    ax = ax or plt.subplots(figsize=(10.9, 4.8))[1]
    words = list(dict.fromkeys(k for seeds in kinds.values() for each in seeds for k in each if k != "correct"))
    width = 0.8 / len(kinds)
    for i, ((name, seeds), color) in enumerate(zip(kinds.items(), COLORS, strict=False)):
        counts = torch.tensor([[each.get(word, 0) for word in words] for each in seeds], dtype=torch.float64)
        spread = counts.std(dim=0).tolist() if len(seeds) > 1 else None
        places = [column + (i - (len(kinds) - 1) / 2) * width for column in range(len(words))]
        ax.bar(places, counts.mean(dim=0).tolist(), 0.92 * width, yerr=spread, color=color, label=name, capsize=5,
               error_kw={"lw": 2, "capthick": 2})  # fmt: skip
    ax.set_xticks(range(len(words)), words)
    ax.set(ylabel="detections" + " (missed: objects)" * ("missed" in words), ylim=(0, None))
    ax.tick_params(axis="x", length=0)
    ax.legend(frameon=False)
    assert ax.patches, "nothing was drawn"
