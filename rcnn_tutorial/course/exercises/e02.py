"""The exercises of 02_sppnet by hand and on bins: receptive field, scale, length and bins, the cells that win."""

from collections.abc import Callable

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any, near
from rcnn_tutorial.course.exercises.e02_build import BUILD
from rcnn_tutorial.course.exercises.e02_places import PLACES

_generator = torch.Generator().manual_seed(2)


def _one_of(*values: float, tol: float = 0.01) -> Callable:
    """A test for numbers: is it one of these?"""
    return lambda answer: any(near(value, tol)(answer) for value in values)


# 02-A: receptive field of: 5 x 5 with stride 2, 3 x 3, pooling 2 x 2 with stride 2, 3 x 3

FIELD = (
    Part(
        "the side",
        _one_of(19),
        (
            Mistake(
                "It is the side for a network whose strides are all 1.",
                "What a layer adds is counted in steps of the map below it: multiply k - 1 by the strides before it.",
                _one_of(10),
            ),
            Mistake(
                "Each layer adds too much where its own stride is 2.",
                "Add (k - 1) * step first, and multiply step by the layer's stride afterwards.",
                _one_of(25),
            ),
            Mistake(
                "Each layer adds one step too many.",
                "A kernel of k cells reaches k - 1 cells farther than one cell: start at 1, and add (k - 1) * step.",
                _one_of(27, 28),
            ),
        ),
        "Keep two numbers, size = 1 and step = 1, and write both down after each of the four layers.",
    ),
    Part(
        "the stride",
        _one_of(4),
        (
            Mistake("It is the sum of the strides.", "Strides multiply: 2 * 1 * 2 * 1.", _one_of(6)),
            Mistake(
                "One of the layers that step by two is missing.",
                "A pooling counts as a layer with a stride, too.",
                _one_of(2),
            ),
        ),
        "Multiply the strides of all four layers.",
    ),
    Part(
        "more layers",
        _one_of(11),
        (
            Mistake(
                "The cell then looks at 99 pixels.",
                "At least 100 are asked for: round the number of layers up.",
                _one_of(10),
            ),
            Mistake(
                "So many layers would be needed if each added 2 pixels.",
                "A layer adds (k - 1) * step pixels, and step is 4 by now.",
                _one_of(40, 41),
            ),
            Mistake(
                "So many layers would be needed if each added 4 pixels.",
                "A 3 x 3 kernel reaches one step farther on both sides: it adds two steps.",
                _one_of(20, 21),
            ),
            Mistake(
                "So many layers would be needed if they began at one pixel.",
                "The four layers look at a part already: only what is missing to 100 is to be added.",
                _one_of(12, 13),
            ),
        ),
        "How many pixels does one more 3 x 3 layer add, and how many are missing?",
    ),
)


# 02-B: which squares in 500 x 375 are read at 864?

_GOAL = 224 * 375
_WHOLE, _SIDES, _RATIO, _EXACT, _LONGER, _OTHER = (
    ("It is right to a whole pixel.", "The border is asked for to one digit after the point."),
    (
        "It is the border where two sides are equally near to 224.",
        "The areas are compared: w * w * (s / 375) ** 2 with 224 * 224 at both sizes.",
    ),
    (
        "It is the border where the two ratios of areas are equal.",
        "The rule takes the difference of the areas, and not their ratio.",
    ),
    (
        "At this side a window has exactly 224 x 224 pixels at one of the sizes.",
        "Between two sizes the border is where both areas miss 224 * 224 by equally much.",
    ),
    (
        "The picture was resized by its longer side.",
        "s is the shorter side of the resized picture: the factor is s / 375, and not s / 500.",
    ),
    ("That is the answer to the other question.", "A small window is read at a large size: look at both neighbours."),
)


def _border(low: int, high: int) -> float:
    """Side of the square that is read equally well at two sizes: (w s / 375)^2 misses 224^2 by as much at both."""
    return _GOAL * (2 / (low**2 + high**2)) ** 0.5


def _border_part(asks: str, low: int, high: int, other: float) -> Part:
    right = _border(low, high)
    return Part(
        asks,
        near(right, 0.3),
        (
            Mistake(*_WHOLE, near(round(right), 0.05)),
            Mistake(*_SIDES, near(_GOAL * 2 / (low + high), 0.2)),
            Mistake(*_RATIO, near(_GOAL / (low * high) ** 0.5, 0.3)),
            Mistake(*_EXACT, _one_of(*(_GOAL / s for s in (688, 864, 1200)), tol=0.3)),
            Mistake(*_LONGER, near(right * 500 / 375, 0.2)),
            Mistake(*_OTHER, near(other, 0.2)),
        ),
        "Write the area at both sizes as w * w times a number. Where do they lie equally far from 224 * 224?",
    )


_SMALLEST, _LARGEST = _border(864, 1200), _border(688, 864)
SCALE = (
    _border_part("the smallest side", 864, 1200, _LARGEST),
    _border_part("the largest side", 688, 864, _SMALLEST),
)


# 02-C: length of a pyramid, and the bins of a cell


def _bins_of(cell: int, a: int, n: int) -> list[int]:
    return [i for i in range(n) if i * a // n <= cell < -(-(i + 1) * a // n)]


def _end_included(cell: int, a: int, n: int) -> list[int]:
    return [i for i in range(n) if i * a // n <= cell <= -(-(i + 1) * a // n)]


def _cells_of(cell: int, a: int, n: int) -> list[int]:
    return list(range(cell * a // n, -(-(cell + 1) * a // n)))


_BIN_CASES = [(3, 7, 2), (4, 8, 2), (0, 3, 5), (2, 3, 5)] + [
    (int(torch.randint(0, a, (), generator=_generator)), a, int(torch.randint(1, 9, (), generator=_generator)))
    for a in range(3, 19)
]


def _one_bin_each(function: Callable) -> bool:
    """Does it put every cell of 7 into one of 2 bins alone?"""
    return all(len(list(function(cell, 7, 2))) == 1 for cell in range(7))


BINS = (
    Part(
        "the length",
        _one_of(1792),
        (
            Mistake("Level 3 gives 3 * 128 numbers.", "A level has n bins along x and n along y: n * n.", _one_of(768)),
            Mistake(
                "It is the length of the finest level.",
                "The vectors of all levels are joined end to end: add their lengths.",
                _one_of(1152),
            ),
            Mistake(
                "It is the length for a map with one channel.",
                "Each of the 128 channels is pooled by itself: times 128.",
                _one_of(14),
            ),
        ),
        "Draw the bins of each level over one channel and count them.",
    ),
    Part(
        "the bins of a cell",
        agrees(lambda *case: torch.tensor(_bins_of(*case)), _BIN_CASES),
        (
            Mistake(
                "It gives cells of the map, and not bins.",
                "The question goes the other way: the cell is known. Try every bin i, and ask whether it holds it.",
                agrees_any(_BIN_CASES, lambda *case: torch.tensor(_cells_of(*case))),
            ),
            Mistake(
                "Of 8 cells and 2 bins it puts cell 4 into both.",
                "The end of a bin is exclusive: start <= cell < end.",
                agrees_any(_BIN_CASES, lambda *case: torch.tensor(_end_included(*case))),
            ),
            Mistake(
                "Of 7 cells and 2 bins it puts cell 3 into one alone.",
                "Bin 0 ends at 3.5 and bin 1 begins there, so that both touch cell 3: starts go down, ends go up.",
                _one_bin_each,
            ),
        ),
        "Write the start and the end of every bin down for 7 cells and 2 bins, then return all i that hold the cell.",
    ),
)


# 02-D: how often each cell is kept


def _times_kept(
    channel: Tensor, n: int, add: bool = True, offset: bool = True, shared: bool = True, by: str = "width"
) -> Tensor:
    """In how many of n x n bins each cell is the largest, with the mistakes one can make as options."""
    (height, width), kept = channel.shape, torch.zeros(channel.shape, dtype=torch.int64)
    for i in range(n):
        for j in range(n):
            top, left = i * height // n, j * width // n
            bottom, right = (
                (-(-(i + 1) * height // n), -(-(j + 1) * width // n))
                if shared
                else ((i + 1) * height // n, (j + 1) * width // n)
            )
            part = channel[top:bottom, left:right]
            side = part.shape[1] if by == "width" else part.shape[0]
            y, x = divmod(int(part.argmax()), side)
            y, x = (y + top, x + left) if offset else (y, x)
            if 0 <= y < height and 0 <= x < width:
                kept[y, x] = kept[y, x] + 1 if add else 1
    return kept


_CHANNELS = [
    (torch.randperm(h * w, generator=_generator).view(h, w).float(), n)
    for h, w, n in ((5, 7, 2), (5, 7, 3), (4, 9, 2), (8, 5, 3), (7, 11, 4), (9, 9, 4), (6, 13, 5), (10, 4, 3))
]
_peak = torch.zeros(5, 7)
_peak[2, 3] = 1.0  # in all four of 2 x 2 bins
_CHANNELS.append((_peak + 0.001 * torch.rand(5, 7, generator=_generator), 2))

KEPT = (
    Part(
        "the function",
        agrees(_times_kept, _CHANNELS),
        (
            Mistake(
                "A cell that is the largest of two bins counts once.",
                "Add 1 for every bin that keeps the cell: += and not =.",
                agrees_any(_CHANNELS, lambda *case: _times_kept(*case, add=False)),
            ),
            Mistake(
                "All counts lie near the upper left corner.",
                "The place of the maximum is counted from the bin's corner: add the bin's top and left.",
                agrees_any(_CHANNELS, lambda *case: _times_kept(*case, offset=False)),
            ),
            Mistake(
                "No two bins share a cell.",
                "The end of a bin is rounded up, as in section 4.",
                agrees_any(_CHANNELS, lambda *case: _times_kept(*case, shared=False)),
            ),
            Mistake(
                "Where a bin is not square, its maximum is somewhere else.",
                "argmax counts row by row: divide by the bin's width to get the row.",
                agrees_any(_CHANNELS, lambda *case: _times_kept(*case, by="height")),
            ),
        ),
        "Take the map of section 4 and 2 x 2 bins: the 11 counts 2, the 9 and the 10 count 1, and all others 0.",
    ),
)

EXERCISES = {"02-A": FIELD, "02-B": SCALE, "02-C": BINS, "02-D": KEPT, "02-E": PLACES, "02-F": BUILD}
