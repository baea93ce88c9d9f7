"""Exercises of 01_rcnn about training: the hinge and hard negatives, and offsets that lead back."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees_any, near, near_all
from rcnn_tutorial.detectors.svm import mine

_generator = torch.Generator().manual_seed(1)


# 01-D: the hinge, and hard negatives

_MINE_CASES = [
    (
        torch.randint(-12, 9, (40 + n,), generator=_generator) / 4,
        torch.rand(40 + n, generator=_generator) < 0.2,
        *((-0.5, 0.25, -2.0)[n % 3] for _ in range(n % 2)),
    )
    for n in range(20)
]


def _mines(*rules: Callable[[Tensor, Tensor, float], Tensor]) -> Callable[[Callable], bool]:
    return agrees_any(_MINE_CASES, *(lambda s, p, m=-1.0, rule=rule: rule(s, p, m) for rule in rules))


def _by_rank(function: Callable) -> bool:
    """Is the choice the same when all scores fall far below the margin?"""
    scores, is_positive = _MINE_CASES[0]
    chosen, again = (torch.as_tensor(function(s, is_positive.clone())).bool() for s in (scores + 0, scores - 100))
    return bool(chosen.any()) and torch.equal(chosen, again)


SVM = (
    Part(
        "the sum",
        near(2.9, 0.02),
        (
            Mistake(
                "Only the window on the wrong side of 0 costs something.",
                "The margin is 1 and -1: a score of 0.4 is not enough for a positive.",
                near(0.5, 0.02),
            ),
            Mistake(
                "A negative of -1.3 costs more than one of 0.5.",
                "A negative pays for a high score: its hinge is max(0, 1 + score).",
                near(4.6, 0.02),
            ),
            Mistake(
                "Windows beyond the margin lower the sum.",
                "They cost nothing, and not less than nothing: max(0, ...).",
                near(2.1, 0.02),
            ),
            Mistake("That is the mean of the five.", "The question is about the sum.", near(0.58, 0.006)),
        ),
        "Write the hinge of each window in a column. Two of the five are 0.",
    ),
    Part(
        "hard negatives",
        agrees_any(_MINE_CASES, mine),
        (
            Mistake(
                "Only false alarms are in your mask.",
                "The margin is forgotten: a negative between -1 and 0 is on the right side and costs something.",
                _mines(lambda s, p, m: (s > 0) & ~p, lambda s, p, m: (s >= 0) & ~p),
            ),
            Mistake(
                "Positives are in your mask.",
                "The mask of the positives is not used: a high score is what they should have.",
                _mines(lambda s, p, m: s > m),
            ),
            Mistake(
                "Take 100 from every score, and the same windows are in your mask.",
                "A fixed number of them, or all, are chosen whatever their score. Hard is what lies above the margin.",
                _by_rank,
            ),
            Mistake(
                "A window with a score of exactly the margin is in your mask.",
                "There the hinge is 0 already: > and not >=.",
                _mines(lambda s, p, m: (s >= m) & ~p),
            ),
            Mistake(
                "The worst false alarms stay out.",
                "There is no upper bound: the higher a negative scores, the more it violates the margin.",
                _mines(*(lambda s, p, m, top=top: (s > m) & (s < top) & ~p for top in (0, 1))),
            ),
            Mistake(
                "It is right for the margin -1 alone.",
                "A number stands where `margin` should.",
                _mines(lambda s, p, m: (s > -1) & ~p),
            ),
        ),
        "Two conditions on a window, one on its score and one on what it is, give a mask of shape (M,).",
    ),
)


# 01-E: offsets that lead back

_OFFSETS = [(torch.randn(n % 6 + 1, 4, generator=_generator),) for n in range(20)]
_four = partial(near_all, tol=0.006)
_leads_back = partial(agrees_any, _OFFSETS)


def _back(shift: Callable[[Tensor], Tensor], sides: Callable[[Tensor], Tensor] = torch.neg) -> Callable:
    """A way back, with the mistakes one can make: by what tx and ty are multiplied, and what becomes of tw and th."""

    def back(offsets: Tensor) -> Tensor:
        return torch.cat((offsets[..., :2] * shift(offsets[..., 2:]), sides(offsets[..., 2:])), dim=-1)

    return back


_UNIT = (
    "tx and ty have only changed their sign.",
    "They count sides of the box that is moved. That is now G, whose sides are not those of P.",
)
_LARGER = (
    "tx and ty are multiplied by the growth of the sides.",
    "The unit has grown by that factor, so that the same shift counts fewer units: divide.",
)
_FORWARD = "These offsets move on in the same direction.", "The way back turns the shift round: its sign changes."
_RECIPROCAL = (
    "tx and ty are right, tw and th are not.",
    "The ratio of the sides turns over, and so its logarithm changes its sign.",
)

BACK = (
    Part(
        "the four numbers",
        _four((-0.25, -0.25, 0, -0.693)),
        (
            Mistake(*_UNIT, _four((-0.25, -0.5, 0, -0.693))),
            Mistake(*_LARGER, _four((-0.25, -1, 0, -0.693))),
            Mistake(*_FORWARD, _four((0.25, 0.5, 0, 0.693), (0.25, 0.25, 0, -0.693), (0.25, 0.5, 0, -0.693))),
            Mistake(*_RECIPROCAL, _four((-0.25, -0.25, 0, 0.693), (-0.25, -0.25, 1, 0.5), (-0.25, -0.25, 0, 0.5))),
        ),
        "Move P first and write G down. Then ask for the offsets from G to P.",
    ),
    Part(
        "the function",
        _leads_back(_back(lambda growth: -torch.exp(-growth))),
        (
            Mistake(*_UNIT, _leads_back(_back(lambda growth: -torch.ones_like(growth)))),
            Mistake(*_LARGER, _leads_back(_back(lambda growth: -torch.exp(growth)))),
            Mistake(
                *_FORWARD,
                _leads_back(
                    lambda offsets: offsets,
                    _back(lambda growth: torch.exp(-growth)),
                    _back(lambda growth: torch.ones_like(growth)),
                ),
            ),
            Mistake(
                *_RECIPROCAL,
                _leads_back(
                    *(
                        _back(lambda growth: -torch.exp(-growth), sides)
                        for sides in (lambda t: t, lambda t: torch.exp(-t), lambda t: 1 / t)
                    )
                ),
            ),
        ),
        "Decode with your offsets what `decode` made of a box: the box itself has to come out.",
    ),
)
