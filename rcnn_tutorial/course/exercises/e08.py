"""The exercises of 08_which_detector: an error in a table, filled cells, default boxes, R-FCN's votes, a front."""

from collections.abc import Callable, Sequence
from math import exp
from typing import Any

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, _Open, agrees, agrees_any, near

_generator = torch.Generator().manual_seed(8)

Row = tuple[str, float, float, float]


# 08-A: an error in a table

TABLE: tuple[Row, ...] = (
    ("Larch", 6, 158, 52.1),
    ("Alder", 22, 45, 63.4),
    ("Birch", 50, 20, 71.8),
    ("Elm", 62, 12, 73.0),
    ("Cedar", 125, 8, 69.5),
)  # name, milliseconds for a picture, pictures in a second, mAP


def _inconsistent(
    rows: Sequence[Row], tolerance: float, share: bool = True, sides: bool = True, second: float = 1000
) -> list[str]:
    """The names of the rows that contradict themselves, with the mistakes one can make as options."""
    names = []
    for name, ms, fps, _ in rows:
        expected = second / ms
        difference = abs(fps - expected) if sides else fps - expected
        if difference > tolerance * (expected if share else 1):
            names.append(name)
    return names


_TABLES = [
    (TABLE, 0.1),
    ((("Fir", 10, 100, 40.0), ("Oak", 10, 130, 41.0), ("Yew", 200, 5.1, 39.0), ("Ash", 100, 6, 44.0)), 0.2),
    ((("Fir", 40, 25, 40.0), ("Oak", 500, 2.5, 48.0), ("Yew", 4, 240, 39.0), ("Ash", 80, 20, 44.0)), 0.15),
]
_ABSOLUTE = (
    "A difference in FPS is taken for a share.",
    "10 of 160 is little, and 4 of 16 is much: divide by 1000 / ms.",
)
_FALLING = "Accuracy is no part of the question.", "A slow detector may well be inaccurate. Compare ms and FPS alone."


def _is(name: str) -> Callable[[Any], bool]:
    return lambda answer: str(answer).strip().lower() == name.lower()


def _names(**options: Any) -> Callable[[Callable], bool]:
    """A test for functions from tables to names, in any order."""

    def same(function: Callable) -> bool:
        for rows, tolerance in _TABLES:
            mine = function(list(rows), tolerance)
            if mine is ...:
                raise _Open
            if mine is None or isinstance(mine, str):
                raise ValueError("return a list of names")
            if sorted(mine) != sorted(_inconsistent(rows, tolerance, **options)):
                return False
        return True

    return same


ERROR = (
    Part(
        "the name",
        _is("Elm"),
        (Mistake(*_ABSOLUTE, _is("Larch")), Mistake(*_FALLING, _is("Cedar"))),
        "Compute 1000 / ms for each row. Rounding explains a few percent, and no more.",
    ),
    Part(
        "the function",
        _names(),
        (
            Mistake(*_ABSOLUTE, _names(share=False)),
            Mistake(
                "Rows with too few FPS are missing.",
                "Take the absolute value: an error goes to either side.",
                _names(sides=False),
            ),
            Mistake(
                "Every row is among them.",
                "A second has 1000 milliseconds, so FPS is 1000 / ms and not 1 / ms.",
                _names(second=1),
            ),
        ),
        "With the table above and a tolerance of 0.1 the list has one name.",
    ),
)


# 08-B: filled cells


def _cells(objects: int, side: int) -> float:
    return side**2 * (1 - (1 - 1 / side**2) ** objects)


_DRAWS = [(1, 3), (10, 5), (20, 7), (50, 4), (200, 13)]
_ALL = "No two objects share a cell here.", "A second object may fall into a filled cell, which counts once."
_SATURATED = (
    "That rises and levels off, but it is no probability.",
    "Ask of one cell: how likely is it that all the objects miss it?",
)
_EMPTY = "These are the empty cells.", "(1 - 1 / cells) ** objects is how likely a cell stays empty."
_ONE_SIDE = "That is one row of the grid.", "The grid has side * side cells."
_LIMIT = (
    "That is nearly right.",
    "An exponential is the limit for very many cells. One object misses a cell with probability 1 - 1 / cells.",
)
_CELL_MISTAKES: tuple[tuple[tuple[str, str], tuple[Callable[[int, int], float], ...]], ...] = (
    (_ALL, (lambda objects, side: objects, lambda objects, side: min(objects, side**2))),
    (_SATURATED, (lambda objects, side: side**2 * objects / (objects + side**2),)),
    (_EMPTY, (lambda objects, side: side**2 - _cells(objects, side),)),
    (_ONE_SIDE, (lambda objects, side: side * (1 - (1 - 1 / side) ** objects),)),
    (_LIMIT, (lambda objects, side: side**2 * (1 - exp(-objects / side**2)),)),
)

CELLS = (
    Part(
        "the number",
        near(_cells(20, 7), 0.05),
        tuple(Mistake(*told, near(wrong[0](20, 7), 0.05)) for told, wrong in _CELL_MISTAKES),
        "Begin with one cell: an object misses it with probability 48 / 49. How likely do all 20 miss it?",
    ),
    Part(
        "the function",
        agrees(_cells, _DRAWS),
        tuple(Mistake(*told, agrees_any(_DRAWS, *wrong)) for told, wrong in _CELL_MISTAKES),
        "One object fills one cell, and two objects fill 2 - 1 / cells.",
    ),
)


# 08-C: the default boxes of SSD512

SIDES, EACH = (64, 32, 16, 8, 4, 2, 1), (4, 6, 6, 6, 6, 4, 4)


def _share(sides: Sequence[int], each: Sequence[int], power: int = 2, finest: int | None = None) -> float:
    """The share of the default boxes that stands on the finest map, or on another one."""
    boxes = [side**power * own for side, own in zip(sides, each, strict=True)]
    return boxes[sides.index(max(sides)) if finest is None else finest] / sum(boxes)


_MAPS = [(SIDES, EACH), ((38, 19, 10, 5, 3, 1), (4, 6, 6, 6, 4, 4)), ((5, 20, 10), (6, 3, 2)), ((3, 7), (9, 2))]
_BOX_MISTAKES: tuple[tuple[tuple[str, str], Callable[[Sequence[int], Sequence[int]], float]], ...] = (
    (
        ("The cells of one row are counted.", "A map with a side of 64 has 64 * 64 cells."),
        lambda sides, each: _share(sides, each, power=1),
    ),
    (
        (
            "That is the share of the cells.",
            "The maps differ in the boxes at a cell: read the second row of the table.",
        ),
        lambda sides, each: _share(sides, [1] * len(sides)),
    ),
    (
        ("That is the share of the other maps.", "The finest map has the most cells, so its share is the large one."),
        lambda sides, each: 1 - _share(sides, each),
    ),
    (
        (
            "The finest map is compared with the others.",
            "A share is a part of the whole: divide by the boxes of all maps.",
        ),
        lambda sides, each: _share(sides, each) / (1 - _share(sides, each)),
    ),
)
_FIRST = "The first map is taken for the finest.", "The maps may stand in any order: the finest has the most cells."

DEFAULTS = (
    Part(
        "the number",
        near(_share(SIDES, EACH), 0.004),
        tuple(Mistake(*told, near(wrong(SIDES, EACH), 0.004)) for told, wrong in _BOX_MISTAKES),
        "The finest map has 16,384 boxes, and the next one 6,144. Write the share as a number below 1.",
    ),
    Part(
        "the function",
        agrees(_share, _MAPS),
        (
            *(Mistake(*told, agrees_any(_MAPS, wrong)) for told, wrong in _BOX_MISTAKES),
            Mistake(*_FIRST, agrees_any(_MAPS, lambda sides, each: _share(sides, each, finest=0))),
        ),
        "share_of_finest([1, 2], [4, 3]) is 12 / 16 = 0.75.",
    ),
)


# 08-D: R-FCN's vote


def four_maps() -> Tensor:
    """The four maps (4, 4, 5) of exercise 08-D: one class and 2 x 2 bins, with numbers from 0 to 9."""
    return torch.tensor(
        [
            [[0, 1, 2, 0, 1], [8, 6, 1, 3, 0], [2, 0, 4, 0, 1], [1, 0, 0, 2, 3]],
            [[1, 0, 1, 2, 0], [0, 2, 9, 5, 1], [3, 1, 1, 3, 0], [0, 2, 0, 1, 0]],
            [[2, 1, 0, 0, 3], [1, 1, 0, 2, 2], [4, 2, 5, 1, 0], [0, 0, 1, 1, 2]],
            [[0, 3, 1, 1, 0], [2, 0, 3, 5, 4], [1, 2, 9, 9, 2], [3, 1, 0, 0, 1]],
        ]
    ).float()


_FOUR = (four_maps(), (0, 1, 4, 3), 2)


def _vote(maps: Tensor, box: Sequence[int], k: int, turned: bool = False, same: bool = False, sums: str = "") -> float:
    """The mean of bins that each read their own map, with the mistakes one can make as options."""
    x1, y1, x2, y2 = box
    height, width = (y2 - y1) // k, (x2 - x1) // k
    bins = []
    for i in range(k):
        for j in range(k):
            own = maps[0 if same else k * j + i if turned else k * i + j]
            cells = own[y1 + i * height : y1 + (i + 1) * height, x1 + j * width : x1 + (j + 1) * width]
            bins.append((cells.sum() if sums == "cells" else cells.mean()).item())
    return sum(bins) if sums == "bins" else sum(bins) / len(bins)


def _window(maps: Tensor, side: int, k: int, inner: bool = False, **options: Any) -> list[int]:
    """Where the window of the highest vote begins; `inner` leaves out those at the right and the lower border."""
    _, height, width = maps.shape
    corners = [(x, y) for y in range(height - side + 1 - inner) for x in range(width - side + 1 - inner)]
    votes = [_vote(maps, (x, y, x + side, y + side), k, **options) for x, y in corners]
    return list(corners[votes.index(max(votes))])


def _search(k: int, side: int, x: int, y: int) -> tuple[Tensor, int, int]:
    """Maps on which the window of this side votes highest at (x, y): noise, and each part at its place."""
    maps = torch.rand(k * k, 9, 11, generator=_generator)
    part = side // k
    for i in range(k):
        for j in range(k):
            maps[k * i + j, y + i * part : y + (i + 1) * part, x + j * part : x + (j + 1) * part] += 0.8
    return maps, side, k


_SEARCHES = [_search(2, 4, 3, 1), _search(2, 6, 5, 3), _search(3, 3, 8, 2), _search(3, 6, 0, 3)]
_TURNED = "Rows and columns of the bins are exchanged.", "Map i k + j belongs to row i and column j."
_SAME = "All bins read the same map.", "Each bin has a map of its own: that is the idea."
_SUM = "That is a sum.", "A bin is the mean of its cells, and the vote is the mean of the bins."


def _is_vote(*ways: dict) -> Callable[[Any], bool]:
    return lambda answer: any(near(_vote(*_FOUR, **way), 0.005)(answer) for way in ways)


VOTE = (
    Part(
        "the number",
        _is_vote({}),
        (
            Mistake(*_TURNED, _is_vote(dict(turned=True))),
            Mistake(*_SAME, _is_vote(dict(same=True))),
            Mistake(*_SUM, _is_vote(dict(sums="bins"), dict(sums="cells"))),
        ),
        "The upper left bin is the mean of 8 and 6, which is 7.",
    ),
    Part(
        "the function",
        agrees(_window, _SEARCHES),
        (
            Mistake(*_TURNED, agrees_any(_SEARCHES, lambda *case: _window(*case, turned=True))),
            Mistake(*_SAME, agrees_any(_SEARCHES, lambda *case: _window(*case, same=True))),
            Mistake(
                "x and y are exchanged.",
                "The corner is (x, y), and the map's rows, which are y, come before its columns.",
                agrees_any(_SEARCHES, lambda *case: _window(*case)[::-1]),
            ),
            Mistake(
                "Windows at the right and at the lower border are missing.",
                "A map W cells wide has W - side + 1 windows beside each other.",
                agrees_any(_SEARCHES, lambda *case: _window(*case, inner=True)),
            ),
        ),
        "Compute the vote of every window that lies in the maps, and keep the corner [x, y] of the highest.",
    ),
)


# 08-E: the Pareto front

MS, AP = (12, 45, 60, 110, 30), (24.0, 31.5, 29.0, 36.0, 22.5)


def _pareto(ms: Sequence[float], ap: Sequence[float], ties: bool = True) -> list[int]:
    """The detectors that none beats in both; without `ties`, of two that are equal in one the better one alone."""

    def beats(i: int, j: int) -> bool:
        if ties:
            return ms[i] < ms[j] and ap[i] > ap[j]
        return ms[i] <= ms[j] and ap[i] >= ap[j] and (ms[i], ap[i]) != (ms[j], ap[j])

    return [j for j in range(len(ms)) if not any(beats(i, j) for i in range(len(ms)))]


def _by_ratio(ms: Sequence[float], ap: Sequence[float]) -> list[int]:
    """As many as belong to the front, but those with the most AP for each millisecond."""
    best = sorted(range(len(ms)), key=lambda i: -ap[i] / ms[i])
    return sorted(best[: len(_pareto(ms, ap))])


def _without_the_slowest(ms: Sequence[float], ap: Sequence[float]) -> list[int]:
    front = _pareto(ms, ap)
    return [i for i in front if i != max(front, key=lambda i: ms[i])]


def _beaten(ms: Sequence[float], ap: Sequence[float]) -> list[int]:
    return [i for i in range(len(ms)) if i not in _pareto(ms, ap)]


_FIELDS = [
    (MS, AP),
    ((90, 10, 40, 40, 25, 70), (41.0, 20.0, 33.0, 35.0, 19.0, 35.0)),
    ((5, 80, 20, 15), (12.0, 30.0, 22.0, 25.0)),
    ((30, 20, 10), (40.0, 30.0, 20.0)),
]
_RATIO = "That ranks by AP per millisecond.", "A ratio favours the fast ones. Compare two detectors at a time, in both."
_SLOWEST = "The most accurate one is missing.", "It is slow, but none that is faster is as accurate."
_BEATEN = "These are the ones to leave out.", "Wanted are those that no other one beats in both."


def _numbers(*wrong: Sequence[int]) -> Callable[[Any], bool]:
    """A test for a list of whole numbers of any length: is it one of those?"""
    return lambda answer: [int(i) for i in answer] in [list(each) for each in wrong]


FRONT = (
    Part(
        "the detectors",
        _numbers(_pareto(MS, AP)),
        (
            Mistake(*_RATIO, _numbers(_by_ratio(MS, AP), [0])),
            Mistake(*_SLOWEST, _numbers(_without_the_slowest(MS, AP))),
            Mistake(*_BEATEN, _numbers(_beaten(MS, AP))),
        ),
        "Go through the table: is another one faster and more accurate than this one? Count from 0.",
    ),
    Part(
        "the function",
        agrees(_pareto, _FIELDS),
        (
            Mistake(
                *_RATIO,
                agrees_any(_FIELDS, _by_ratio, lambda ms, ap: [max(range(len(ms)), key=lambda i: ap[i] / ms[i])]),
            ),
            Mistake(*_SLOWEST, agrees_any(_FIELDS, _without_the_slowest)),
            Mistake(*_BEATEN, agrees_any(_FIELDS, _beaten)),
            Mistake(
                "One that is equal to another in time or in AP is missing.",
                "To drop a detector, the other one must be strictly better in both.",
                agrees_any(_FIELDS, lambda ms, ap: _pareto(ms, ap, ties=False)),
            ),
            Mistake(
                "The detectors are right, and their order is not.",
                "Return the numbers in ascending order, whatever the times are.",
                agrees_any(_FIELDS, lambda ms, ap: sorted(_pareto(ms, ap), key=lambda i: ms[i])),
            ),
        ),
        "Try it on the five detectors above.",
    ),
)

EXERCISES = {"08-A": ERROR, "08-B": CELLS, "08-C": DEFAULTS, "08-D": VOTE, "08-E": FRONT}
