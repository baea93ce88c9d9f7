"""Regions of interest: the network that reads them, their grid, where the gradient lands, their loss, what is left."""

from collections.abc import Sequence
from math import copysign

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Patch, Rectangle
from matplotlib.ticker import MaxNLocator, MultipleLocator
from torch import Tensor

from rcnn_tutorial.course.draw.maps import LIT, bins, cell_map, range_of
from rcnn_tutorial.course.draw.network_map import NetworkMap
from rcnn_tutorial.course.draw.pictures import boxes
from rcnn_tutorial.course.draw.style import COLORS, PALE, PROPOSAL, Style, ink, on_cpu, style_handles, words
from rcnn_tutorial.ops.losses import smooth_l1

FAST_RCNN = NetworkMap(
    {
        "picture": (0, 0),
        "conv\nnet": (1.13, 0),
        "RoIs": (1.13, 1.2),
        "RoI\npooling": (2.1, 0.6),
        "fc6\nfc7": (3.37, 0.6),
        "class\nscores": (4.27, 0),
        "box\noffsets": (4.27, 1.2),
        "loss": (5.17, 0.6),
    },
    (
        ("picture", "conv\nnet", "(3, H, W)"),
        ("conv\nnet", "RoI\npooling", "(C, h, w)"),
        ("RoIs", "RoI\npooling", "(R, 4)"),
        ("RoI\npooling", "fc6\nfc7", "(R, C, 4, 4)"),
        ("fc6\nfc7", "class\nscores", ""),
        ("fc6\nfc7", "box\noffsets", "(R, 256)"),
        ("class\nscores", "loss", "(R, K+1)"),
        ("box\noffsets", "loss", "(R, 4K)"),
    ),
)
EXACT, CELLS, CHOSEN, POINT = Style(PROPOSAL, 3, "--"), Style("black", 3), COLORS[6], COLORS[3]
LATER = Style(COLORS[1], 3, "--")
MEANINGS = {  # of the kinds of `failures`
    "class": "wrong class,\nIoU 0.5 or more",
    "place": "right class,\nIoU 0.1 to 0.5",
    "duplicate": "a second box\nof an object",
    "background": "all other\nwrong boxes",
    "missed": "an object that\nno box hits",
}


def rounded(roi: Sequence[float]) -> list[int]:
    """The cells that RoI pooling takes for x1, y1, x2, y2: halves away from zero; x2 and y2 exclusive."""
    x1, y1, x2, y2 = (int(c + copysign(0.5, c)) for c in roi)
    return [x1, y1, max(x1, x2) + 1, max(y1, y2) + 1]


@on_cpu
def roi_numbers(
    values: Tensor,
    roi: Sequence[float],
    pooled: Tensor,
    switches: Tensor,
    titles: Sequence[str] = ("the map", "pooled"),
) -> None:
    """A small map with its numbers, an RoI on it with its bins, the cell that each bin chose, and beside it the bins.

    The same picture shows the way back: then the map holds its gradient, and the bins hold theirs. The first and the
    last column of the RoI are named.

    Args:
        values: (H, W).
        roi: x1, y1, x2, y2 in cells, not rounded; whole numbers are the middles of cells.
        pooled: (h, w), a number of each bin.
        switches: (h, w, 2), row and column of the cell that each bin chose.
        titles: of the map and of the bins.
    """
    rows, columns = values.shape
    high = 10.9 * rows / (columns + 2 * pooled.shape[1] + 0.6) + 1.6
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.9, high), width_ratios=(columns, 2 * pooled.shape[1]))
    for row, column in switches.flatten(0, 1).tolist():
        left.add_patch(Rectangle((column + 0.15, row + 0.15), 0.7, 0.7, fc=CHOSEN, ec="black", zorder=2))
    bins(rounded(roi), tuple(pooled.shape), left)
    _numbers(left, values, 18, counted=True)
    first, _, end, _ = rounded(roi)
    named = {first: f"$c_1$ = {first}", end - 1: f"$c_2$ = {end - 1}"}
    ticks = left.set_xticks([c + 0.5 for c in range(columns)], [named.get(c, str(c)) for c in range(columns)])
    for tick in (ticks[first], ticks[end - 1]):
        tick.label2.set_color("black")
    boxes(left, torch.tensor([rounded(roi)]), styles=CELLS)
    boxes(left, torch.tensor([roi]) + 0.5, styles=EXACT)
    _numbers(right, pooled, 26)
    for ax, title in zip((left, right), titles, strict=True):
        ax.set_title(title)
    handles = [*style_handles({"RoI": EXACT, "rounded": CELLS}), Patch(color=CHOSEN, label="chosen by a bin")]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


def _numbers(
    ax: Axes, values: Tensor, size: float, counted: bool = False, place: tuple[float, float] = (0.5, 0.5)
) -> None:
    """A table of cells with a number in each, zeros in grey; if `counted`, its columns and rows have theirs.

    `place` is that of a number in its cell, in cells from the upper left corner.
    """
    rows, columns = values.shape
    ax.hlines(range(rows + 1), 0, columns, color=PALE, lw=0.8, zorder=0.5)
    ax.vlines(range(columns + 1), 0, rows, color=PALE, lw=0.8, zorder=0.5)
    for row, numbers in enumerate(values.tolist()):
        for column, number in enumerate(numbers):
            ax.text(column + place[0], row + place[1], f"{number:.3g}", ha="center", va="center", fontsize=size,
                    color="black" if number else PALE, zorder=4)  # fmt: skip
    ax.set(xlim=(-0.05, columns + 0.05), ylim=(rows + 0.05, -0.05), aspect="equal")
    ax.set_xticks([column + 0.5 for column in range(columns)], range(columns) if counted else [""] * columns)
    ax.set_yticks([row + 0.5 for row in range(rows)], range(rows) if counted else [""] * rows)
    ax.xaxis.tick_top()
    ax.tick_params(length=0, labelcolor=PALE)
    ax.spines[:].set_visible(False)


@on_cpu
def roi_steps(
    feature_map: Tensor,
    rois: Sequence[Sequence[float]],
    starts: Sequence[float],
    changed: Sequence[int],
    image: Tensor | None = None,
) -> None:
    """An RoI on a real map, as it is and rounded, and how many pooled numbers change when it moves on by a pixel.

    Args:
        feature_map: (H, W).
        rois: x1, y1, x2, y2 in cells, of one RoI at its first place and, if there are two, at its last.
        starts: left borders, pixels.
        changed: for each of them how many numbers are others one pixel further to the right.
        image: (3, h, w), of which the map was made: it shines through.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.9, 4.6), width_ratios=(1, 1.1))
    low, high = range_of(feature_map)
    cell_map(feature_map, left, (low, low + (high - low) / 1.7))  # to black, since few cells are strong
    if image is not None:
        rows, columns = feature_map.shape
        left.images[0].set(alpha=0.65, zorder=0.2)
        left.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(), extent=(0, columns, rows, 0), zorder=0.1)
    places = {f"RoI at {starts[0]}": EXACT, f"at {starts[-1] + 1}": LATER}
    boxes(left, torch.tensor([rounded(rois[0])]), styles=CELLS)
    boxes(left, torch.tensor(rois) + 0.5, styles=list(places.values())[: len(rois)])
    left.set_title("one map" + ", and the scene" * (image is not None))
    handles = style_handles(dict(list(places.items())[: len(rois)]) | {"rounded": CELLS})
    left.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, frameon=False)
    right.bar(starts, changed, color=COLORS[0], width=0.8)
    right.set(xlabel="left border of the RoI, pixels", ylabel="numbers that change", ylim=(0, max(*changed, 4) + 0.5))
    right.yaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_title(f"{sum(count > 0 for count in changed)} of {len(changed)} steps change something")
    assert left.patches and right.patches, "nothing was drawn"


@on_cpu
def interpolation(corners: Tensor, across: float, down: float) -> None:
    """A point between the middles of four cells, and the weight of each cell: the area opposite to it.

    Args:
        corners: (2, 2), the numbers of the four cells.
        across, down: how far the point is from the upper left middle, both in (0, 1).
    """
    _, ax = plt.subplots(figsize=(8.8, 5.6))
    for (row, column), color in zip(((0, 0), (0, 1), (1, 0), (1, 1)), COLORS, strict=False):
        wide = across if column else 1 - across
        high = down if row else 1 - down
        x, y = (0 if column else across), (0 if row else down)  # the opposite area
        ax.add_patch(Rectangle((x, y), wide, high, fc=color, alpha=0.35, ec="white", lw=2))
        ax.text(x + wide / 2, y + high / 2, f"{wide * high:.3g}", ha="center", va="center", fontsize=18)
        ax.add_patch(Circle((column, row), 0.11, fc=color, ec="black", zorder=3))
        ax.text(column, row, f"{corners[row, column].item():g}", ha="center", va="center", fontsize=20, zorder=4,
                color=ink(color), weight="bold")  # fmt: skip
    ax.plot(across, down, "o", color="black", ms=16, mec="white", zorder=5)
    ax.set(xlim=(-0.35, 1.35), ylim=(1.13, -0.13), aspect="equal")
    ax.set_axis_off()


@on_cpu
def align_numbers(values: Tensor, roi: Sequence[float], pooled: Tensor, points: int) -> None:
    """A small map with its numbers, an RoI that is not rounded, the points of its bins, and the mean of each bin.

    Args:
        values: (H, W); a cell's number lies at its middle.
        roi: x1, y1, x2, y2 in cells; whole numbers are the middles of cells.
        pooled: (h, w), the mean of each bin.
        points: of each bin, along each side.
    """
    rows, columns = values.shape
    high = 10.9 * rows / (columns + 2 * pooled.shape[1] + 0.6) + 1.6
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.9, high), width_ratios=(columns, 2 * pooled.shape[1]))
    _numbers(left, values, 15, counted=True, place=(0.62, 0.15))  # beside the points and the middles
    grid = torch.cartesian_prod(torch.arange(columns), torch.arange(rows)) + 0.5
    (middles,) = left.plot(*grid.T, ".", color="black", ms=7, label="middle of a cell")
    x1, y1, x2, y2 = (c + 0.5 for c in roi)
    across, down = pooled.shape[1], pooled.shape[0]
    left.vlines([x1 + j * (x2 - x1) / across for j in range(1, across)], y1, y2, color=PROPOSAL, lw=2)
    left.hlines([y1 + i * (y2 - y1) / down for i in range(1, down)], x1, x2, color=PROPOSAL, lw=2)
    boxes(left, torch.tensor([[x1, y1, x2, y2]]), styles=EXACT)
    x = [x1 + (k + 0.5) * (x2 - x1) / (across * points) for k in range(across * points)]
    y = [y1 + (k + 0.5) * (y2 - y1) / (down * points) for k in range(down * points)]
    places = [(a, b) for b in y for a in x]
    (dots,) = left.plot(*zip(*places, strict=True), "o", color=POINT, ms=10, label="point", zorder=2)
    _numbers(right, pooled, 24)
    left.set_title("the map")
    right.set_title("mean of each bin")
    figure.legend(
        handles=[*style_handles({"RoI": EXACT}), dots, middles], loc="outside lower center", ncols=3, frameon=False
    )


@on_cpu
def slide(shifts: Tensor, pooled: Sequence[Tensor], borders: Sequence[Tensor]) -> None:
    """What a window gives while it slides: one pooled number of it, and the border that a detector finds from it.

    Args:
        shifts: (S,) pixels.
        pooled: (S,) values of one bin, by RoI pooling and by RoIAlign.
        borders: (S,) errors of the left border, pixels, of a detector with each.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.9, 4.8))
    for ax, curves in ((left, pooled), (right, borders)):
        for values, name, color in zip(curves, ("RoI pooling", "RoIAlign"), (COLORS[1], COLORS[0]), strict=True):
            step = values.diff().abs().max().item()
            ax.plot(shifts, values, ".", color=color, ms=9, label=f"{name}: steps of the border up to {step:.1f}")
        ax.set(xlabel="shift of the window, pixels")
        ax.xaxis.set_major_locator(MultipleLocator(4))
    rounded_one = borders[0]
    last = int(rounded_one.diff().abs().argmax()) + 1  # where the largest step ends
    low, high = sorted(rounded_one[last - 1 : last + 1].tolist())
    middle = (shifts[last - 1 : last + 1].sum() / 2).item()
    right.annotate("", (middle, low), (middle, high), arrowprops={"arrowstyle": "<|-|>", "color": "black", "lw": 2})
    beside = (middle - 0.4, low + 0.25 * (high - low))
    right.text(*beside, f"jump {high - low:.1f}", ha="right", va="center", weight="bold")
    left.set(title="one number: maximum or mean", ylabel="pooled number", ylim=(0, None))
    right.set(title="left border that is found", ylabel="error, pixels")
    right.axhline(0, color=PALE, lw=1.5, ls=":")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, markerscale=2)


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
    """Smooth L1 and L2 of an error from -10 to 10, and the slopes of both; what they are at 10 is written there."""
    _, axes = plt.subplots(1, 2, figsize=(10.9, 4.6))
    x = torch.linspace(-10, 10, 1001)
    curves = {"L2": (x * x / 2, x, COLORS[1]), "smooth L1": (smooth_l1(x), x.clamp(-1, 1), COLORS[0])}
    for ax, which, title in zip(axes, (0, 1), ("loss", "slope"), strict=True):
        for name, (*values, color) in curves.items():
            last = values[which][-1].item()
            ax.plot(x, values[which], color=color, lw=4, label=name)
            ax.plot(10, last, "o", color=color, ms=11, clip_on=False)
            ax.annotate(f"{last:g}", (10, last), xytext=(12, 0), textcoords="offset points", va="center",
                        color=words(color), weight="bold", annotation_clip=False)  # fmt: skip
        for edge in (-1, 1):
            ax.axvline(edge, color=PALE, lw=1.5, ls=":")
        ax.set(xlabel="error (dotted: -1 and 1)", title=title, xticks=range(-10, 11, 5), xlim=(-10, 10))
        ax.grid(axis="y", color=PALE, alpha=0.3)
    axes[1].set_yticks(range(-10, 11, 5))
    axes[1].legend(frameon=False, loc="upper left")
    assert axes[1].lines, "nothing was drawn"


def kind_groups(kinds: dict[str, Sequence[dict[str, int]]], ax: Axes | None = None) -> None:
    """What several detectors get wrong, kind beside kind: the mean over seeds, and as a line its standard deviation.

    Below the name of each kind stands what it means.

    Args:
        kinds: for each detector and each seed the `counts` of its `failures`; what is correct is not drawn.
    """
    ax = ax or plt.subplots(figsize=(10.9, 5.2))[1]
    names = list(dict.fromkeys(k for seeds in kinds.values() for each in seeds for k in each if k != "correct"))
    width = 0.8 / len(kinds)
    for i, ((name, seeds), color) in enumerate(zip(kinds.items(), COLORS, strict=False)):
        counts = torch.tensor([[each.get(kind, 0) for kind in names] for each in seeds], dtype=torch.float64)
        spread = counts.std(dim=0).tolist() if len(seeds) > 1 else None
        places = [column + (i - (len(kinds) - 1) / 2) * width for column in range(len(names))]
        ax.bar(places, counts.mean(dim=0).tolist(), 0.92 * width, yerr=spread, color=color, label=name, capsize=5,
               error_kw={"lw": 2, "capthick": 2})  # fmt: skip
    ax.set_xticks(range(len(names)), names, weight="bold")
    for column, name in enumerate(names):
        ax.annotate(MEANINGS.get(name, ""), (column, 0), xycoords=("data", "axes fraction"), xytext=(0, -24),
                    textcoords="offset points", ha="center", va="top", fontsize=14)  # fmt: skip
    ax.set(ylabel="detections" + " (missed: objects)" * ("missed" in names), ylim=(0, None))
    ax.tick_params(axis="x", length=0)
    runs = max(map(len, kinds.values()))
    told = f"bar: mean of {runs} trainings\nblack line: ± 1 standard deviation" if runs > 1 else None
    ax.legend(frameon=False, title=told, title_fontsize=13, alignment="left")
    assert ax.patches, "nothing was drawn"
