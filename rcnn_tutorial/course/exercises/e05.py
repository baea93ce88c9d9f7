"""The exercises of 05_fpn: numbers, the level rule and the search for a fault here, work on maps in `e05_maps`."""

import math
from collections.abc import Callable
from functools import partial
from itertools import product

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any, each_once, near, near_all
from rcnn_tutorial.course.exercises.e05_maps import BOTTOM_UP, RETINA

_whole = partial(near, tol=0.4)


def _any_of(*values: float) -> Callable[[object], bool]:
    return lambda answer: any(_whole(value)(answer) for value in values)


# 05-A: the level rule, forwards and backwards


def _sides(
    k: int,
    k0: int,
    s0: float,
    factor: float = 2,
    shift: float = 0,
    bottom: int | None = 2,
    top: int | None = 5,
    given: bool = True,
) -> tuple[float, float]:
    """The sides of the squares that level k reads, with the mistakes one can make as options."""
    k0, s0 = (k0, s0) if given else (4, 224)
    low, high = (s0 * factor ** (each - k0 + shift) for each in (k, k + 1))
    return 0 if k == bottom else low, math.inf if k == top else high


_LEVELS = [(k, k0, s0) for k, k0, s0 in product((2, 3, 4, 5), (3, 4, 5), (112.0, 224.0))][:20]


def _sides_any(*options: dict) -> Callable[[Callable], bool]:
    return agrees_any(_LEVELS, *(partial(_sides, **each) for each in options))


LEVEL = (
    Part(
        "the level",
        _whole(3),
        (
            Mistake(
                "The region is read from a coarser level than it should be.",
                "k is 3.68, and the rule rounds down.",
                _whole(4),
            ),
            Mistake(
                "A region of 180 x 180 has as many pixels and is read from another level.",
                "The rule takes the root of the area. The longer side alone does not count, nor does the area itself.",
                _whole(5),
            ),
            Mistake(
                "The region is read from a finer level than one of 180 x 180 with as many pixels.",
                "The rule takes the root of the area, and not the shorter side.",
                _any_of(1, 2),
            ),
        ),
        "Multiply width and height, take the root, divide by 224, take the logarithm to base 2, add 4, round down.",
    ),
    Part(
        "the sides",
        agrees(_sides, _LEVELS),
        (
            Mistake(
                "Some sides are read from no level.",
                "Level 2 reads all that is smaller, from side 0 on. Level 5 reads all that is larger, up to math.inf.",
                _sides_any({"bottom": None}, {"top": None}, {"bottom": None, "top": None}),
            ),
            Mistake(
                "A square of s0 belongs to level k0 - 1.",
                "At a side of exactly s0 the logarithm is 0, and the level is k0: level k0 begins at s0.",
                _sides_any({"shift": -1}),
            ),
            Mistake(
                "A square of s0 lies in the middle of its level.",
                "These are the bounds for rounding to the nearest level. The rule rounds down.",
                _sides_any({"shift": -0.5}),
            ),
            Mistake(
                "From one level to the next the bound does not double.",
                "One level more means twice the side. The area grows by a factor of 4, the side by a factor of 2.",
                _sides_any({"factor": 4}, {"factor": math.sqrt(2)}, {"factor": math.e}),
            ),
            Mistake(
                "The answer does not depend on k0 and s0.",
                "The function gets its own k0 and s0. Do not write 4 and 224 into it.",
                _sides_any({"given": False}),
            ),
        ),
        "Solve k = k0 + log2(side / s0) for the side, once for k and once for k + 1.",
    ),
)


# 05-B: anchors of another pyramid

_PLACES = (40 * 32, 20 * 16, 10 * 8, 5 * 4, 3 * 2)

ANCHORS = (
    Part(
        "how many",
        _whole(9 * sum(_PLACES)),
        (
            Mistake(
                "One level has too few places.",
                "At a stride of 128 the width of 320 gives 2.5 cells, which is rounded up to 3.",
                _whole(9 * (sum(_PLACES) - 2)),
            ),
            Mistake(
                "A level is missing.",
                "P3, P4, P5, P6 and P7 are five levels, with strides from 8 to 128.",
                _any_of(*(9 * (sum(_PLACES) - places) for places in _PLACES)),
            ),
            Mistake(
                "That is one level alone.",
                "Every level has anchors of its own. Add them up.",
                _any_of(*(9 * places for places in _PLACES)),
            ),
            Mistake(
                "The number of anchors at a place is that of this notebook.",
                "Here each place has 9 anchors, and not 3.",
                _whole(3 * sum(_PLACES)),
            ),
            Mistake("That is the number of places.", "Each place has 9 anchors.", _whole(sum(_PLACES))),
            Mistake(
                "The strides are those of P2 to P6.",
                "P3 has a stride of 8 pixels, and P7 one of 128.",
                _whole(9 * (80 * 64 + sum(_PLACES[:4]))),
            ),
        ),
        "Write down width and height of each level in cells, rounded up. Multiply, add up, and multiply by 9.",
    ),
    Part(
        "the level",
        _whole(5),
        (
            Mistake(
                "64 is nearer to 95 in pixels, but the overlap decides.",
                "The IoU of two squares with one centre is the smaller area divided by the larger one.",
                _whole(4),
            ),
        ),
        "Compute the IoU of the object with each level's square: the smaller area divided by the larger one.",
    ),
    Part(
        "the IoU",
        near((95 / 128) ** 2, 0.003),
        (
            Mistake(
                "That is the ratio of the sides.",
                "An IoU compares areas: square the ratio.",
                near(95 / 128, 0.003),
            ),
            Mistake(
                "That is the IoU with the square of P4.",
                "Another level has a square that overlaps the object more.",
                near((64 / 95) ** 2, 0.003),
            ),
        ),
        "Divide the smaller area by the larger one, for the square that fits best.",
    ),
)


# 05-D: what one cell of C4 changes

_cells = partial(near_all, tol=0.4)

REACH = (
    Part(
        "the cells of P2, P3, P4, P5",
        _cells((36, 16, 9, 0)),
        (
            Mistake(
                "Each level counts too few cells.",
                "These are the cells of the sums. The 3 x 3 convolution spreads them by one cell on every side.",
                _cells((16, 4, 1, 0)),
            ),
            Mistake(
                "The finer a level is, the more cells are counted that stay the same.",
                "What goes down is the sum, and not the map after the 3 x 3 convolution.",
                _cells((324, 64, 9, 0)),
            ),
            Mistake(
                "Nothing comes down from the level of C4.",
                "The sum of each level is upsampled and added to the next finer one.",
                _cells((0, 0, 9, 0), (0, 0, 1, 0)),
            ),
            Mistake(
                "The change stops after one level.",
                "The sum of P3 holds the change, too, and is handed down to P2.",
                _cells((0, 16, 9, 0), (0, 4, 1, 0)),
            ),
            Mistake(
                "P5 changes.",
                "C5 stays as it is, and the path of the sums leads down: nothing goes from M4 to P5.",
                _cells(*((36, 16, 9, up) for up in (1, 4, 9))),
            ),
            Mistake(
                "These are cells along one side.",
                "A square of 3 x 3 cells has 9 cells.",
                _cells((6, 4, 3, 0)),
            ),
        ),
        "Follow the cell through the sums first: 1 cell, then 2 x 2, then 4 x 4. Then add the 3 x 3 convolution.",
    ),
)


# 05-E: which fault has which pyramid?

FAULTS = ("no top-down", "wrong level rule", "no lateral")  # of the pyramids A, B, C


def _names(test: Callable[[tuple], bool]) -> Callable[[object], bool]:
    """A test for the faults of A, B and C, in this order."""
    return lambda answer: test(each_once(answer, FAULTS))


def _level_rule_found(named: tuple) -> bool:
    return named.index("wrong level rule") == FAULTS.index("wrong level rule")


FIND = (
    Part(
        "the faults of A, B, C",
        _names(lambda named: named == FAULTS),
        (
            Mistake(
                "The level rule is named rightly, the other two faults are exchanged.",
                "Look at the finest maps: are they sharp without meaning, or have they meaning without place?",
                _names(lambda named: named != FAULTS and _level_rule_found(named)),
            ),
            Mistake(
                "The pyramid with the wrong level rule is another one.",
                "Its large objects suffer, and not its small ones.",
                _names(lambda named: not _level_rule_found(named)),
            ),
        ),
        "Compare AP by size first, then the maps.",
    ),
)


EXERCISES = {"05-A": LEVEL, "05-B": ANCHORS, "05-C": BOTTOM_UP, "05-D": REACH, "05-E": FIND, "05-F": RETINA}
