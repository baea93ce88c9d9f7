"""The exercises of 02_sppnet: cost, length and bins here, places and scales in `e02_places`."""

from collections.abc import Callable
from functools import partial

import torch

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, near
from rcnn_tutorial.course.exercises.e02_places import PLACES, SCALE


def _one_of(*values: float, tol: float) -> Callable:
    """A test for numbers: is it one of these?"""
    return lambda answer: any(near(value, tol)(answer) for value in values)


# 02-1: cost

_about = partial(_one_of, tol=0.7)
_EXCHANGED = "That is the answer to the other question."

COST = (
    Part(
        "windows of equal cost",
        _one_of(40, tol=0.01),
        (
            Mistake(
                "So many windows cover one row or one column of the picture.",
                "Cost goes with the area: divide 512 * 320 by 64 * 64.",
                _one_of(5, 8, tol=0.01),
            ),
            Mistake("With so many windows one pass is far cheaper.", _EXCHANGED, _about(2000 / 40)),
        ),
        "Count the pixels of the picture, and those of one window.",
    ),
    Part(
        "factor at 2,000",
        _about(2000 / 40),
        (
            Mistake(
                "The factor is too high: it counts one row or one column of pixels.",
                "Cost goes with the area: divide 2,000 * 64 * 64 by 512 * 320.",
                _about(2000 / 5, 2000 / 8),
            ),
            Mistake("With 2,000 windows one pass saves more than that.", _EXCHANGED, _one_of(40, tol=0.01)),
        ),
        "Count the pixels of 2,000 windows, and divide by those of the picture.",
    ),
)


# 02-2: length of a pyramid

_exactly = partial(_one_of, tol=0.01)

LENGTH = (
    Part(
        "the length",
        _exactly(1792),
        (
            Mistake(
                "Level 3 gives 3 * 128 numbers.", "A level has n bins along x and n along y: n * n.", _exactly(768)
            ),
            Mistake(
                "It is the length of the finest level.",
                "The vectors of all levels are joined end to end: add their lengths.",
                _exactly(1152),
            ),
            Mistake(
                "It is the length for a map with one channel.",
                "Each of the 128 channels is pooled by itself: times 128.",
                _exactly(14),
            ),
        ),
        "Draw the bins of each level over one channel and count them.",
    ),
)


# 02-3: bins

_generator = torch.Generator().manual_seed(2)
_BIN_CASES = [(10, 6)] + [
    (int(torch.randint(1, 21, (), generator=_generator)), int(torch.randint(1, 8, (), generator=_generator)))
    for _ in range(19)
]


def _bins(cells: int, n: int) -> list[tuple[int, int]]:
    return [(i * cells // n, -(-(i + 1) * cells // n)) for i in range(n)]


def _ten_in_six(test: Callable[[list[tuple[int, int]]], bool]) -> Callable[[Callable], bool]:
    """A test for functions: what do they make of 10 cells and 6 bins?"""
    return lambda function: test([(int(start), int(end)) for start, end in function(10, 6)])


def _share_nothing(bins: list[tuple[int, int]]) -> bool:
    """Do the bins follow each other, none much longer than the others?"""
    ends = [0, *(end for _, end in bins)]
    return ends[-1] == 10 and bins[-1][0] > 5 and all(start == end for (start, _), end in zip(bins, ends, strict=False))


BINS = (
    Part(
        "the function",
        agrees(lambda a, n: torch.tensor(_bins(a, n)), _BIN_CASES),
        (
            Mistake(
                "10 cells give 9 bins, and not 6.",
                "A window of ceil(a / n) that moves by floor(a / n) gives n bins by luck. Compute both ends from i.",
                _ten_in_six(lambda bins: len(bins) == 9),
            ),
            Mistake(
                "Of 10 cells the last four are in none of 6 bins.",
                "All bins are floor(a / n) wide. The width is a / n, and only the two ends are rounded.",
                _ten_in_six(lambda bins: len(bins) == 6 and bins[-1][1] == 6),
            ),
            Mistake(
                "Of 10 cells the last of 6 bins takes half.",
                "The last bin takes what floor(a / n) leaves over. The width is a / n; only the two ends are rounded.",
                _ten_in_six(lambda bins: len(bins) == 6 and bins[-1] == (5, 10)),
            ),
            Mistake(
                "The last bin ends at 11, where there are 10 cells.",
                "The end is exclusive: where (i + 1) a / n is whole it is the end already, and not the end less one.",
                _ten_in_six(lambda bins: bins[-1][1] == 11),
            ),
            Mistake(
                "The last bin ends at 9: cell 9 is not in it.",
                "The end is exclusive, as in range(start, end).",
                _ten_in_six(lambda bins: len(bins) == 6 and bins[-1][1] == 9),
            ),
            Mistake(
                "Of 10 cells no two bins share one.",
                "The first bin reaches to 1.67, so that it touches cell 1: round the start down and the end up.",
                _ten_in_six(lambda bins: len(bins) == 6 and _share_nothing(bins)),
            ),
        ),
        "Bin i of n reaches from i a / n to (i + 1) a / n. Write down both numbers for 10 cells and 6 bins.",
    ),
)

EXERCISES = {"02-1": COST, "02-2": LENGTH, "02-3": BINS, "02-4": PLACES, "02-5": SCALE}
