"""The exercises of 03_fast_rcnn: RoI pooling and the search for a fault here, losses and layers in `e03_head`."""

import math
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any, each_once
from rcnn_tutorial.course.exercises.e03_head import FACTOR, LOSS, SMOOTH

_generator = torch.Generator().manual_seed(3)


def _draw(low: int, high: int, n: int = 1) -> list[int]:
    return torch.randint(low, high, (n,), generator=_generator).tolist()


def _half_up(value: float) -> int:
    return math.floor(value + 0.5)


# 03-1: RoI pooling


def _bins(roi: Tensor, shape: tuple, n: int, stride: int, to_cell: Callable = _half_up, last: int = 1) -> list[tuple]:
    """The bins (y1, y2, x1, x2) of an RoI on the map, row by row, with the mistakes one can make as options."""
    left, top, right, bottom = (to_cell(v / stride) for v in roi.tolist())

    def cut(first: int, end: int, cells: int) -> list[tuple]:
        width = end - first + last
        edges = ((first + i * width // n, first - (-(i + 1) * width // n)) for i in range(n))
        return [(min(max(a, 0), cells), min(max(b, 0), cells)) for a, b in edges]

    return [(*y, *x) for y in cut(top, bottom, shape[0]) for x in cut(left, right, shape[1])]


def _pool(feature_map: Tensor, roi: Tensor, n: int, stride: int, of: Callable = torch.amax, **options) -> Tensor:
    bins = _bins(roi, feature_map.shape, n, stride, **options)
    return torch.stack([of(feature_map[y1:y2, x1:x2]) for y1, y2, x1, x2 in bins]).reshape(n, n)


def _rois(reach: int) -> Iterator[tuple]:
    """Maps, square and not, with an RoI: corners on quarters of cells, up to `reach` of them over the edge."""
    for k in range(1000):
        height, width = _draw(6, 11, 2) if k % 2 else _draw(6, 11) * 2
        x1, x2, y1, y2 = (4 * v for size in (width, height) for v in sorted(_draw(-reach, 4 * size + reach, 2)))
        feature_map = torch.randint(0, 1000, (height, width), generator=_generator).float()
        yield feature_map, torch.tensor([x1, y1, x2, y2]).float(), 2 + k % 3, 16


def _has_cells(bin: tuple) -> bool:
    return bin[0] < bin[1] and bin[2] < bin[3]


def _is_full(feature_map: Tensor, roi: Tensor, *rest: int) -> bool:
    """Has every bin a cell, even where the last row and column are forgotten?"""
    return all(_has_cells(b) for last in (0, 1) for b in _bins(roi, feature_map.shape, *rest, last=last))


_GIVEN = [
    (torch.arange(64.0).reshape(8, 8), torch.tensor(roi), 2, 16)
    for roi in ((24.0, 40.0, 88.0, 104.0), (0.0, 0.0, 64.0, 64.0))
]
_POOL_CASES = _GIVEN + list(islice((case for case in _rois(0) if _is_full(*case)), 18))
_ON_SQUARES = [case for case in _POOL_CASES if case[0].shape[0] == case[0].shape[1]]

POOL = (
    Part(
        "the function",
        agrees(_pool, _POOL_CASES),
        (
            Mistake(
                "A corner at 1.5 cells goes to cell 1.",
                "It is cut off. Round to the nearest cell, half upwards: floor(v + 0.5).",
                agrees_any(_POOL_CASES, lambda *case: _pool(*case, to_cell=math.floor)),
            ),
            Mistake(
                "A corner at 1.5 cells goes to cell 2, and so does one at 2.5.",
                "round() sends a half to the even number: take floor(v + 0.5).",
                agrees_any(_POOL_CASES, lambda *case: _pool(*case, to_cell=round)),
            ),
            Mistake(
                "The RoI (0, 0, 64, 64) is 4 cells wide.",
                "Cells 0 to 4 are five: the cell of the far corner belongs to the RoI.",
                agrees_any(_POOL_CASES, lambda *case: _pool(*case, last=0)),
            ),
            Mistake(
                "On a square map an RoI on the diagonal is right, others are not.",
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
        "On the map of 0 to 63 the RoI (24, 40, 88, 104) goes from cell (2, 3) to cell (6, 7). Which cells are in the "
        "first bin?",
    ),
)


# 03-2: backward


def _backward(gradient: Tensor, feature_map: Tensor, bins: list[tuple]) -> Tensor:
    out = torch.zeros_like(feature_map)
    for g, (y1, y2, x1, x2) in zip(gradient, bins, strict=True):
        if y1 < y2 and x1 < x2:
            y, x = divmod(int(feature_map[y1:y2, x1:x2].argmax()), x2 - x1)
            out[y1 + y, x1 + x] += g
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
                "A cell that wins no bin gets a gradient.",
                "That is the backward pass of a mean or a sum. Each bin has one winner, and it gets all.",
                lambda f: not _losers_right(f),
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


# 03-6: which fault has which detector?

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
                "Do the boxes leave their proposals at all?",
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

EXERCISES = {"03-1": POOL, "03-2": BACKWARD, "03-3": SMOOTH, "03-4": LOSS, "03-5": FACTOR, "03-6": FIND}
