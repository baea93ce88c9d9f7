"""The exercises of 03_fast_rcnn: RoI pooling, there and back, and the search for a fault.

The loss and the head are in `e03_head`, RoIAlign is in `e03_align`.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any, each_once, near_all
from rcnn_tutorial.course.exercises.e03_align import SPREAD
from rcnn_tutorial.course.exercises.e03_head import HEAD, LOSS

_generator = torch.Generator().manual_seed(3)


def _draw(low: int, high: int, n: int = 1) -> list[int]:
    return torch.randint(low, high, (n,), generator=_generator).tolist()


def _half_up(value: float) -> int:
    return math.floor(value + 0.5)


# 03-A: RoI pooling


def _bins(roi: Tensor, shape: tuple, grid: tuple, stride: int, to_cell: Callable = _half_up, last: int = 1) -> list:
    """The bins (y1, y2, x1, x2) of an RoI on the map, row by row, with the mistakes one can make as options."""
    left, top, right, bottom = (to_cell(v / stride) for v in roi.tolist())

    def cut(first: int, end: int, n: int, cells: int) -> list[tuple]:
        width = end - first + last
        edges = ((first + i * width // n, first - (-(i + 1) * width // n)) for i in range(n))
        return [(min(max(a, 0), cells), min(max(b, 0), cells)) for a, b in edges]

    return [(*y, *x) for y in cut(top, bottom, grid[0], shape[0]) for x in cut(left, right, grid[1], shape[1])]


def _pool(feature_map: Tensor, roi: Tensor, grid: tuple, stride: int, of: Callable = torch.amax, **options) -> Tensor:
    cells = (feature_map[y1:y2, x1:x2] for y1, y2, x1, x2 in _bins(roi, feature_map.shape, grid, stride, **options))
    return torch.stack([of(each) if each.numel() else torch.tensor(0.0) for each in cells]).reshape(grid)


def _pool_clipped(feature_map: Tensor, roi: Tensor, grid: tuple, stride: int) -> Tensor:
    """The mistake of cutting into bins what is left of the RoI on the map."""
    ends = feature_map.shape[1] - 1, feature_map.shape[0] - 1
    inside = [min(max(_half_up(v / stride), 0), end) * stride for v, end in zip(roi.tolist(), 2 * ends, strict=True)]
    return _pool(feature_map, torch.tensor(inside), grid, stride)


def _rois(reach: int) -> Iterator[tuple]:
    """Maps, square and not, with an RoI: corners on quarters of cells, up to `reach` of them over the edge."""
    for k in range(1000):
        height, width = _draw(6, 11, 2) if k % 2 else _draw(6, 11) * 2
        x1, x2, y1, y2 = (4 * v for size in (width, height) for v in sorted(_draw(-reach, 4 * size + reach, 2)))
        feature_map = torch.randint(0, 1000, (height, width), generator=_generator).float()
        yield feature_map, torch.tensor([x1, y1, x2, y2]).float(), (2 + k % 3, 2 + k // 2 % 3), 16


def _has_cells(bin: tuple) -> bool:
    return bin[0] < bin[1] and bin[2] < bin[3]


def _is_full(feature_map: Tensor, roi: Tensor, *rest) -> bool:
    """Has every bin a cell, even where the last row and column are forgotten?"""
    return all(_has_cells(b) for last in (0, 1) for b in _bins(roi, feature_map.shape, *rest, last=last))


def _reaches_beyond(feature_map: Tensor, roi: Tensor, grid: tuple, stride: int) -> bool:
    """Lies a part of the RoI on the map, at least two cells wide and high, and a part beyond it?"""
    cells = [_half_up(v / stride) for v in roi.tolist()]
    height, width = feature_map.shape
    (x1, x2), (y1, y2) = ((max(cells[i], 0), min(cells[i + 2], n - 1)) for i, n in ((0, width), (1, height)))
    return x1 < x2 and y1 < y2 and [x1, y1, x2, y2] != cells


_DIGITS = ("10213012", "02413520", "13281261", "20137102", "01521429", "31024130")  # the map of section 2
MAP = torch.tensor([[float(digit) for digit in row] for row in _DIGITS])
_GIVEN = (MAP, torch.tensor([12.0, 12.0, 52.0, 40.0]), (2, 3), 8)
_INSIDE = list(islice((case for case in _rois(0) if _is_full(*case)), 12))
_BEYOND = list(islice((case for case in _rois(12) if _reaches_beyond(*case)), 8))
_POOL_CASES = [_GIVEN, *_INSIDE, *_BEYOND]
_ON_SQUARES = [case for case in _POOL_CASES if case[0].shape[0] == case[0].shape[1] and case[2][0] == case[2][1]]


def _six(**options) -> Callable:
    """A test for the six numbers of the first part, as a mistake would make them."""
    return near_all(_pool(*_GIVEN, **options).flatten().tolist(), tol=0.006)


_CUT_OFF = (
    "A border at 1.5 cells goes to cell 1.",
    "It is cut off. Round to the nearest cell, half upwards: floor(v + 0.5).",
)
_TO_EVEN = (
    "A border at 1.5 cells goes to cell 2, but one at 6.5 goes to cell 6.",
    "round() sends a half to the even number: take floor(v + 0.5).",
)
_NO_LAST = "The RoI has one row and one column too few.", "The cells of both borders belong to it: w = c2 - c1 + 1."

POOL = (
    Part(
        "the six numbers",
        _six(),
        (
            Mistake(*_CUT_OFF, _six(to_cell=math.floor)),
            Mistake(*_TO_EVEN, _six(to_cell=round)),
            Mistake(*_NO_LAST, _six(last=0)),
        ),
        "The borders lie at 1.5, 1.5, 6.5 and 5 cells. Write down which columns and which rows the RoI has.",
    ),
    Part(
        "the function",
        agrees(_pool, _POOL_CASES),
        (
            Mistake(*_CUT_OFF, agrees_any(_POOL_CASES, lambda *case: _pool(*case, to_cell=math.floor))),
            Mistake(*_TO_EVEN, agrees_any(_POOL_CASES, lambda *case: _pool(*case, to_cell=round))),
            Mistake(*_NO_LAST, agrees_any(_POOL_CASES, lambda *case: _pool(*case, last=0))),
            Mistake(
                "RoIs on the map are right, those that reach beyond it are not.",
                "The whole RoI is cut into bins. Only then the cells beyond the map are left out.",
                agrees_any(_POOL_CASES, _pool_clipped),
            ),
            Mistake(
                "On a square map with a square grid an RoI on the diagonal is right, others are not.",
                "x and y are exchanged: the RoI is (x1, y1, x2, y2), the map and the result are read by [y, x].",
                agrees_any(
                    _ON_SQUARES,
                    lambda m, roi, *rest: _pool(m, roi[[1, 0, 3, 2]], *rest),
                    lambda m, roi, *rest: _pool(m.T, roi, *rest),
                    lambda m, *rest: _pool(m, *rest).T,
                ),
            ),
            Mistake(
                "A single high cell hardly shows in the result.",
                "Each bin gives its maximum, and not its mean.",
                agrees_any(_POOL_CASES, lambda *case: _pool(*case, of=torch.mean)),
            ),
        ),
        "Try it on the map and the RoI of the first part. Then move the RoI so far up that a row of bins is empty.",
    ),
)


# 03-B: backward


def _backward(gradient: Tensor, feature_map: Tensor, bins: list[tuple], offset: bool = True) -> Tensor:
    """The gradient at the map; without `offset` with the mistake of taking a place in the bin for one on the map."""
    out = torch.zeros_like(feature_map)
    for g, (y1, y2, x1, x2) in zip(gradient, bins, strict=True):
        if y1 < y2 and x1 < x2:
            y, x = divmod(int(feature_map[y1:y2, x1:x2].argmax()), x2 - x1)
            out[(y1 + y, x1 + x) if offset else (y, x)] += g
    return out


def _gradients(rois: Iterator[tuple], ties: bool) -> Iterator[tuple]:
    """Three RoIs on one map, and a gradient for each bin."""
    for feature_map, roi, n, stride in rois:
        cells = feature_map.numel()
        values = torch.randperm(cells, generator=_generator) // (cells // 3 if ties else 1)
        bins = [b for shift in (0, 16, -16) for b in _bins(roi + shift, feature_map.shape, n, stride)]
        gradient = torch.randint(1, 9, (len(bins),), generator=_generator).float()
        yield gradient, values.reshape(feature_map.shape).float(), bins


def _without_empty(case: tuple) -> tuple:
    gradient, feature_map, bins = case
    keep = [i for i, b in enumerate(bins) if _has_cells(b)]
    return gradient[keep], feature_map, [bins[i] for i in keep]


_DISTINCT = [_without_empty(case) for case in islice(_gradients(_rois(0), False), 7)]
_TIED = [_without_empty(case) for case in islice(_gradients(_rois(0), True), 7)]
_EMPTY = list(islice((c for c in _gradients(_rois(4), False) if not all(map(_has_cells, c[2]))), 6))


def _where(cells: Callable[[Tensor], Tensor], cases: list[tuple]) -> Callable[[Callable], bool]:
    """Is the gradient right at the cells chosen by the number of bins that they won?"""

    def right(function: Callable) -> bool:
        for gradient, feature_map, bins in cases:
            chosen = cells(_backward(torch.ones_like(gradient), feature_map, bins))
            mine = torch.as_tensor(function(gradient.clone(), feature_map.clone(), bins))
            if not torch.allclose(mine[chosen].float(), _backward(gradient, feature_map, bins)[chosen]):
                return False
        return True

    return right


_winners_right = _where(lambda won: won == 1, _DISTINCT + _TIED)
_losers_right = _where(lambda won: won == 0, _DISTINCT)
_distinct_right = agrees(_backward, _DISTINCT)
_full_right = agrees(_backward, _DISTINCT + _TIED)
_forgets_offset = agrees(partial(_backward, offset=False), _DISTINCT + _TIED)


def _several_win(function: Callable) -> bool:
    """Has a flat map one bin and several cells with a gradient?"""
    return int((torch.as_tensor(function(torch.ones(1), torch.zeros(4, 4), [(0, 3, 1, 3)])) != 0).sum()) > 1


BACKWARD = (
    Part(
        "the function",
        agrees(_backward, _DISTINCT + _TIED + _EMPTY),
        (
            Mistake(
                "A cell that wins two bins gets the gradient of one of them.",
                "It counts in both: add with +=, and not =.",
                lambda f: not _full_right(f) and _winners_right(f),
            ),
            Mistake(
                "All gradients land near the upper left corner of the map.",
                "argmax counts within the bin. Add y1 and x1 to get to the place on the map.",
                _forgets_offset,
            ),
            Mistake(
                "A cell that wins no bin gets a gradient.",
                "That is the backward pass of a mean or a sum. Each bin has one winner, and it gets all.",
                lambda f: not _losers_right(f) and not _forgets_offset(f),
            ),
            Mistake(
                "On a flat map several cells of a bin get a gradient.",
                "All cells that equal the maximum are taken. One wins: the first.",
                lambda f: _distinct_right(f) and _several_win(f),
            ),
            Mistake(
                "A bin without cells changes the gradient at the map.",
                "Its output was 0 whatever the map holds: skip it.",
                lambda f: _full_right(f) and not agrees(_backward, _EMPTY)(f),
            ),
        ),
        "Take a map of 2 x 2 cells with one bin over all of it, then the same bin twice, then a flat map.",
    ),
)


# 03-E: which fault has which detector?

FAULTS = ("exchange", "twice", "class")  # of the detectors A, B, C


def _names(test: Callable[[tuple], bool]) -> Callable[[object], bool]:
    """A test for the faults of A, B and C, in this order."""
    return lambda answer: test(each_once(answer, FAULTS))


def _finds(fault: str, named: tuple) -> bool:
    return named.index(fault) == FAULTS.index(fault)


FIND = (
    Part(
        "the faults of A, B, C",
        _names(lambda named: named == FAULTS),
        (
            Mistake(
                "One detector is named rightly, the other two are exchanged.",
                "Which boxes hardly leave their proposals? The deviations are 0.1 to 0.2: scaled back two times "
                "in a row, offsets are far too small.",
                _names(lambda named: named != FAULTS and _finds("exchange", named)),
            ),
            Mistake(
                "The detector that exchanges x and y is another one.",
                "Look at a wide object: which box moves up or down, where it should move sideways?",
                _names(lambda named: not _finds("exchange", named)),
            ),
        ),
        "Compare AP50 with AP75, then each box with its proposal.",
    ),
)

EXERCISES = {"03-A": POOL, "03-B": BACKWARD, "03-C": LOSS, "03-D": SPREAD, "03-E": FIND, "03-F": HEAD}
