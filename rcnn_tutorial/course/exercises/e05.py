"""The exercises of 05_fpn: numbers, guesses and the search for a fault here, work on maps in `e05_maps`."""

import math
from collections.abc import Callable
from functools import partial
from itertools import combinations
from statistics import mean, stdev

import torch

from rcnn_tutorial.course import records
from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any, each_once, near
from rcnn_tutorial.course.exercises.e05_maps import MERGE, POOL

_generator = torch.Generator().manual_seed(5)


# 05-1: the level of an RoI


def _roi(n: int) -> tuple[float, float]:
    """Width and height of the nth of twenty, up to 9 : 1; the root of their product grows from 16 to 1600 pixels."""
    size, shape = torch.rand(2, generator=_generator).tolist()
    side, stretch = 16 * 100 ** ((n + size) / 20), 3 ** (2 * shape - 1)
    return round(side * stretch, 1), round(side / stretch, 1)


_GIVEN = [(side, side) for side in (224.0, 223.9, 160.0, 32.0, 448.0, 800.0)]
_SIZES = _GIVEN + [_roi(n) for n in range(20)]


def _level(
    width: float,
    height: float,
    log: Callable[[float], float] = math.log2,
    of: Callable[[float], float] = math.sqrt,
    to_level: Callable[[float], float] = math.floor,
    least: float = 2,
    most: float = 5,
    s0: float = 224,
) -> float:
    """The level of an RoI, with the mistakes one can make as options; `of` sees its area."""
    return min(max(to_level(4 + log(of(width * height) / s0)), least), most)


def _levels_any(*options: dict) -> Callable[[Callable], bool]:
    return agrees_any(_SIZES, *(partial(_level, **each) for each in options))


LEVEL = (
    Part(
        "the function",
        agrees(_level, _SIZES),
        (
            Mistake(
                "An RoI of 160 x 160 is read from level 4.",
                "Its k is 3.51, and the next lower whole number is 3: floor, and not round.",
                _levels_any({"to_level": round}, {"to_level": math.ceil}),
            ),
            Mistake(
                "An RoI of 448 x 448 is read from level 4.",
                "A level more has cells of twice the side: the logarithm is that of base 2.",
                _levels_any({"log": math.log}, {"log": math.log10}),
            ),
            Mistake(
                "An RoI of 112 x 112 is read from level 4.",
                "Here s0 is the paper's, 224 pixels. 112 belongs to the small pictures of the notebook.",
                _levels_any({"s0": 112}),
            ),
            Mistake(
                "Nearly all RoIs are read from level 5.",
                "An area is divided by 224 pixels. Take its square root first.",
                _levels_any({"of": lambda area: area}),
            ),
            Mistake(
                "An RoI of 112 x 112 goes two levels lower than one of 224 x 224.",
                "Half the side is a quarter of the area: take the square root of the area.",
                _levels_any({"of": lambda area: area / 224}),
            ),
            Mistake(
                "Levels below 2 or above 5 come out.",
                "RoIs are read from P2 to P5: smaller ones go to P2, larger ones to P5.",
                _levels_any({"least": -math.inf}, {"most": math.inf}, {"least": -math.inf, "most": math.inf}),
            ),
        ),
        "Take 224 x 224, 112 x 448 and 448 x 448 through the formula, one step after the other.",
    ),
)


# 05-3: how many anchors

_whole = partial(near, tol=0.4)

NUMBER = (
    Part(
        "the number",
        _whole(12_276),
        (
            Mistake(
                "That is 15 anchors at each place.",
                "The five scales lie on five levels. Each level has one of them, in three shapes.",
                _whole(61_380),
            ),
            Mistake(
                "That is the finest level alone.",
                "Every level has anchors of its own, the coarse ones too.",
                _whole(9216),
            ),
            Mistake(
                "One of the levels is missing.",
                "Strides 4, 8, 16, 32 and 64 are five levels. The last, P6, is there for its anchors.",
                lambda answer: any(_whole(12_276 - 3 * places)(answer) for places in (3072, 768, 192, 48, 12)),
            ),
            Mistake("That is the number of places.", "Each place has 3 anchors.", _whole(4092)),
        ),
        "How many cells wide and high is each level? Add up the cells, then the anchors.",
    ),
)


# 05-5: five designs in order

DESIGNS = ("single", "hierarchy", "no laterals", "finest", "top-down")


def _right_pairs(answer: object) -> int:
    """How many of the ten pairs stand in the order of the record; a pair closer than its spread does either way."""
    order = each_once(answer, DESIGNS)
    values = records.by_variant(records.load("fpn_07"), "AP_small_third")
    gains = [[a - b for a, b in zip(values[x], values[y], strict=True)] for x, y in combinations(order, 2)]
    return sum(mean(gain) >= -stdev(gain) for gain in gains)


def _has_right(pairs: int) -> Callable[[object], bool]:
    return lambda answer: _right_pairs(answer) == pairs


ORDER = (
    Part(
        "the order",
        _has_right(10),
        tuple(
            Mistake(
                f"In the right order: {pairs} of 10 pairs.",
                "Compare two designs at a time: whose cells are smaller, whose features have come through more layers?",
                _has_right(pairs),
            )
            for pairs in range(10)
        ),
        "Compare two designs at a time.",
    ),
)


# 05-6: which fault has which pyramid?

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
                "Are the fine maps sharp without meaning, or have they meaning without place?",
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


EXERCISES = {"05-1": LEVEL, "05-2": MERGE, "05-3": NUMBER, "05-4": POOL, "05-5": ORDER, "05-6": FIND}
