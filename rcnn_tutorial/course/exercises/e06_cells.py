"""Exercises of 06_mask_rcnn on cells and pixels: between four numbers, one bin, a target, and what is pasted."""

from collections.abc import Callable, Sequence
from functools import partial
from math import floor

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any, near, near_all
from rcnn_tutorial.ops.masks import cut_masks

_generator = torch.Generator().manual_seed(6)


# 06-A: between four numbers


def _read(plane: Tensor, x: float, y: float, half: float = 0.5, way: str = "near") -> float:
    """The number of a map at a point in pixels, with the mistakes one can make as options."""
    if way == "exchanged":
        x, y = y, x
    column, row = floor(x - half), floor(y - half)
    a, b = x - half - column, y - half - row
    if way == "nearest":
        return plane[floor(y), floor(x)].item()
    if way == "far":
        a, b = 1 - a, 1 - b
    total = 0.0
    for i, j, weight in ((0, 0, (1 - a) * (1 - b)), (0, 1, a * (1 - b)), (1, 0, (1 - a) * b), (1, 1, a * b)):
        total += weight * plane[min(row + i, plane.shape[0] - 1), min(column + j, plane.shape[1] - 1)].item()
    return total


def _point(rows: int, columns: int) -> tuple[Tensor, float, float]:
    """A map and a point on it whose two fractions differ, so that no two mistakes give one number."""
    plane = torch.rand(rows, columns, generator=_generator)
    places = torch.randint(0, min(rows, columns) - 2, (2,), generator=_generator).tolist()
    return plane, places[0] + 1 + 0.2, places[1] + 1 + 0.9


_POINTS = [_point(4 + k % 3, 5 + k % 2) for k in range(12)]

_CORNER = (
    "The point is taken half a pixel too far to the lower right.",
    "The number of the first pixel holds at its middle, which lies at (0.5, 0.5). Subtract 0.5 first.",
)
_EXCHANGED = "x and y are exchanged.", "x counts columns, the second index of the map, and y counts rows."
_FAR = (
    "The nearest of the four numbers weighs least.",
    "Its weight is (1 - a)(1 - b), which is large if a and b are small.",
)
_NEAREST = (
    "That is the number of the pixel in which the point lies.",
    "Four pixels have a say, unless the point lies in the middle of one.",
)

READ = (
    Part(
        "the number",
        near(4.95),
        (
            Mistake(*_CORNER, near(2.625)),
            Mistake(*_EXCHANGED, near(2.85)),
            Mistake(*_FAR, near(3.0)),
            Mistake(*_NEAREST, near(9)),
        ),
        "In cells the point lies at x = 1.75 and y = 1.4, between the columns 1 and 2 and the rows 1 and 2.",
    ),
    Part(
        "the function",
        agrees(_read, _POINTS),
        (
            Mistake(*_CORNER, agrees_any(_POINTS, partial(_read, half=0.0))),
            Mistake(*_EXCHANGED, agrees_any(_POINTS, partial(_read, way="exchanged"))),
            Mistake(*_FAR, agrees_any(_POINTS, partial(_read, way="far"))),
            Mistake(*_NEAREST, agrees_any(_POINTS, partial(_read, way="nearest"))),
        ),
        "Try it on the map of the first part: read(numbers, 2.25, 1.9) is 4.95.",
    ),
)


# 06-B: one bin of RoIAlign


def _bin(
    plane: Tensor, box: Sequence[float], points: int = 2, half: float = 0.5, corners: bool = False, of: Callable = sum
) -> float:
    """The number of one bin, with the mistakes one can make as options; `of` the values is divided by their number."""
    x1, y1, x2, y2 = box
    shares = [k / max(points - 1, 1) if corners else (k + 0.5) / points for k in range(points)]
    values = [_read(plane, x1 + s * (x2 - x1), y1 + t * (y2 - y1), half) for t in shares for s in shares]
    return of(values) / len(values)


def _largest(values: Sequence[float]) -> float:
    return max(values) * len(values)


def _bins(k: int) -> tuple[Tensor, tuple[float, ...], int]:
    plane = torch.rand(6 + k % 2, 7, generator=_generator)
    x, y = (1 + torch.rand(2, generator=_generator)).tolist()
    return plane, (x, y, x + 2.3 + k % 3 / 2, y + 2.6), 2 + k % 2


_BINS = [_bins(k) for k in range(12)]

_MAXIMUM = "That is the largest of the points.", "RoI pooling keeps the maximum. RoIAlign takes the mean."
_MIDDLE = (
    "Only the middle of the bin is read.",
    "With two points along each side they lie at 1/4 and 3/4 of the side.",
)
_AT_CORNERS = (
    "The points lie on the border of the bin.",
    "They are spread evenly inside: with n points along a side, number k lies at (k + 0.5) / n of it.",
)

ALIGN = (
    Part(
        "the number",
        near(4.25),
        (
            Mistake(*_CORNER, near(4.5)),
            Mistake(*_MAXIMUM, near(6)),
            Mistake(*_MIDDLE, near(5.5)),
            Mistake(*_AT_CORNERS, near(4.125)),
        ),
        "The four points are (1.5, 1), (2.5, 1), (1.5, 2) and (2.5, 2). Read the map at each, and take the mean.",
    ),
    Part(
        "the function",
        agrees(_bin, _BINS),
        (
            Mistake(*_CORNER, agrees_any(_BINS, partial(_bin, half=0.0))),
            Mistake(*_MAXIMUM, agrees_any(_BINS, partial(_bin, of=_largest))),
            Mistake(*_MIDDLE, agrees_any(_BINS, lambda plane, box, points: _bin(plane, box, 1))),
            Mistake(*_AT_CORNERS, agrees_any(_BINS, partial(_bin, corners=True))),
            Mistake(
                "It always takes four points.",
                "`points` says how many lie along each side.",
                agrees_any(_BINS, lambda plane, box, points: _bin(plane, box, 2)),
            ),
        ),
        "Try it on the map of 06-A: align_bin(numbers, (1, 0.5, 3, 2.5), 2) is 4.25.",
    ),
)


# 06-D: the target of a shifted box


def _target(mask: Tensor, box: Sequence[int], m: int, way: str = "share") -> Tensor:
    """The share of each cell of a box that a mask covers, with the mistakes one can make as options."""
    x1, y1, x2, y2 = box
    high, wide = (y2 - y1) // m, (x2 - x1) // m  # of a cell, pixels
    cells = mask[y1:y2, x1:x2].float().unflatten(0, (m, high)).unflatten(2, (m, wide)).sum(dim=(1, 3))  # (m, m)
    if way == "half":
        return cut_masks(mask[None], torch.tensor([box]).float(), m, aligned=False)[0]
    cells = cells if way == "sum" else cells / (high * wide)
    cells = (cells > 0.5).float() if way == "rounded" else cells
    return cells.T if way == "exchanged" else cells


def _objects(k: int) -> tuple[Tensor, tuple[int, ...], int]:
    """A mask and a box whose sides are multiples of m."""
    mask = torch.rand(12, 14, generator=_generator) > 0.45
    m = 2 + k % 2
    x, y = torch.randint(0, 4, (2,), generator=_generator).tolist()
    return mask, (x, y, x + 3 * m, y + 2 * m), m


_OBJECTS = [_objects(k) for k in range(12)]

_SHARES = (
    "The cells are rounded to 0 and 1.",
    "A cell holds the share of it that the mask covers. Only the answer of the network is cut at 0.5.",
)
_SWAPPED = "Rows and columns are exchanged.", "The four numbers go row by row: first the two upper cells."
_COUNTED = "The cells hold numbers of pixels.", "Divide by the number of pixels of a cell."

_PIXEL = "The mask lies half a pixel too far to the lower right.", "The middle of pixel number c lies at c + 0.5."

_four = partial(near_all, tol=0.006)

TARGET = (
    Part(
        "the four cells",
        _four((0.5, 0.25, 0.75, 0.25)),
        (
            Mistake(*_SHARES, _four((0, 0, 1, 0), (1, 0, 1, 0))),
            Mistake(*_SWAPPED, _four((0.5, 0.75, 0.25, 0.25))),
            Mistake(*_COUNTED, _four((2, 1, 3, 1))),
            Mistake(
                "That is the target of the box that fits the object.",
                "The target belongs to the proposal, which lies one pixel further right and one higher.",
                _four((1, 1, 1, 0)),
            ),
        ),
        "Each cell covers 2 x 2 pixels. Write down which of the four pixels are #, and divide by 4.",
    ),
    Part(
        "the function",
        agrees(_target, _OBJECTS, tol=1e-4),
        (
            Mistake(*_SHARES, agrees_any(_OBJECTS, partial(_target, way="rounded"))),
            Mistake(*_SWAPPED, agrees_any(_OBJECTS, partial(_target, way="exchanged"))),
            Mistake(*_COUNTED, agrees_any(_OBJECTS, partial(_target, way="sum"))),
            Mistake(*_PIXEL, agrees_any(_OBJECTS, partial(_target, way="half"))),
        ),
        "Try it on the mask of the first part, with the box (3, 0, 7, 4) and m = 2.",
    ),
)


# 06-E: paste and count


def _paste(
    cells: Tensor,
    box: Sequence[float],
    size: tuple[int, int],
    half: float = 0.5,
    way: str = "bilinear",
    whole: bool = False,
    threshold: float = 0.5,
) -> Tensor:
    """The pixels (H, W) that a mask of m x m cells covers, with the mistakes one can make as options."""
    m = len(cells)
    x1, y1, x2, y2 = (round(c) for c in box) if whole else box
    padded = torch.nn.functional.pad(cells, (1, 1, 1, 1))
    inside = torch.zeros(size, dtype=torch.bool)
    for r in range(size[0]):
        for c in range(size[1]):
            v, u = (r + half - y1) / (y2 - y1) * m, (c + half - x1) / (x2 - x1) * m  # in cells
            if way == "nearest":
                within = 0 <= u < m and 0 <= v < m
                inside[r, c] = within and bool(cells[int(v), int(u)] > threshold)
            elif -0.5 < u < m + 0.5 and -0.5 < v < m + 0.5:
                if way == "repeated" and not (0 <= u < m and 0 <= v < m):
                    continue
                if way == "repeated":
                    u, v = (min(max(place, 0.5), m - 0.5) for place in (u, v))
                inside[r, c] = _read(padded, u + 1, v + 1) > threshold
    return inside


def _pasted(k: int) -> tuple:
    cells = torch.rand(2 + k % 3, 2 + k % 3, generator=_generator)
    x, y = (1 + 3 * torch.rand(2, generator=_generator)).tolist()
    return cells, (x, y, x + 5.3 + k % 4, y + 4.6 + k % 3), (12, 14)


_PASTED = [_pasted(k) for k in range(12)]
CELLS, BOX, SIZE = torch.tensor([[0.4, 0.4], [1.0, 1.0]]), (2, 1, 6, 5), (6, 8)


def count(**options) -> int:
    """How many pixels the mask of the first part covers, with the mistakes one can make as options."""
    return int(_paste(CELLS, BOX, SIZE, **options).sum())


_STEPS = (
    "Each pixel takes the number of the one cell in which it lies.",
    "It reads four cells, bilinearly, as in 06-A. That makes the border smooth.",
)
_FULL = (
    "At the border of the box the mask is too large.",
    "Beyond the box there are cells of 0. Between the middle of the outer cell and theirs the number falls.",
)
_WHOLE = "The box is rounded to whole pixels.", "Take it as it is. Only the pixels have whole places."

PASTE = (
    Part(
        "how many",
        near(count(), 0.4),
        (
            Mistake(*_STEPS, near(count(way="nearest"), 0.4)),
            Mistake(*_FULL, near(count(way="repeated"), 0.4)),
            Mistake(
                "All pixels that the mask touches are counted.",
                "A pixel is inside if its number is above 0.5.",
                near(count(threshold=0.0), 0.4),
            ),
            Mistake(*_PIXEL, near(count(half=0.0), 0.4)),
        ),
        "Write down where the middles of the pixels lie in cells, for x and for y. Then read the cells at each.",
    ),
    Part(
        "the function",
        agrees(_paste, _PASTED),
        (
            Mistake(*_STEPS, agrees_any(_PASTED, partial(_paste, way="nearest"))),
            Mistake(*_FULL, agrees_any(_PASTED, partial(_paste, way="repeated"))),
            Mistake(*_WHOLE, agrees_any(_PASTED, partial(_paste, whole=True))),
            Mistake(*_PIXEL, agrees_any(_PASTED, partial(_paste, half=0.0))),
        ),
        "Try it on the cells of the first part, and print what it returns as zeros and ones.",
    ),
)
