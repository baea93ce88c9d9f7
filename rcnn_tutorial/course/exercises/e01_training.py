"""Exercises of 01_rcnn about training: hard negatives, offsets."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees_any, near_all
from rcnn_tutorial.detectors.svm import mine
from rcnn_tutorial.ops.boxes import encode

_generator = torch.Generator().manual_seed(1)


def _boxes(*shape: int) -> Tensor:
    corner = 200 * torch.rand(*shape, 2, generator=_generator)
    return torch.cat((corner, corner + 10 + 90 * torch.rand(*shape, 2, generator=_generator)), dim=-1)


# 01-3: hard negatives

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


MINE = (
    Part(
        "the function",
        agrees_any(_MINE_CASES, mine),
        (
            Mistake(
                "Only false alarms enter the cache.",
                "The margin is forgotten: a negative between -1 and 0 is on the right side and costs something.",
                _mines(lambda s, p, m: (s > 0) & ~p, lambda s, p, m: (s >= 0) & ~p),
            ),
            Mistake(
                "Positives enter the cache.",
                "The mask of the positives is not used: a high score is what they should have.",
                _mines(lambda s, p, m: s > m),
            ),
            Mistake(
                "Take 100 from every score, and the same windows enter.",
                "A fixed number of them, or all, enter whatever their score. Hard is what lies above the margin.",
                _by_rank,
            ),
            Mistake(
                "A window with a score of exactly the margin enters.",
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


# 01-4: offsets

_PAIRS = [(_boxes(n % 6 + 1), _boxes(n % 6 + 1)) for n in range(20)]
_four = partial(near_all, tol=0.006)
_encodes = partial(agrees_any, _PAIRS)


def _offsets(corners: bool = False, by_truth: bool = False, side: Callable = torch.log) -> Callable:
    """A rule for the offsets, with the mistakes one can make as options."""

    def offsets(p: Tensor, g: Tensor) -> Tensor:
        size_p, size_g = p[:, 2:] - p[:, :2], g[:, 2:] - g[:, :2]
        shift = g[:, :2] - p[:, :2] + (0 if corners else (size_g - size_p) / 2)
        return torch.cat((shift / (size_g if by_truth else size_p), side(size_g / size_p)), dim=1)

    return offsets


def _in_pixels(function: Callable) -> bool:
    """Do the offsets change when both boxes are twice as large?"""
    return not any(torch.allclose(*(torch.as_tensor(function(k * p, k * g)) for k in (1, 2))) for p, g in _PAIRS)


_CORNERS = "The shift leads from centre to centre, and not from corner to corner."
_UNIT = "The unit is the proposal's side: the truth's is not known when the offsets are applied."
_SWAPPED = "P and G are exchanged. The offsets move the proposal P onto the truth G."
_RATIO = "The ratio is that of the truth to the proposal, and not the other way round."
_NO_LOG = "tw and th are the natural logarithms of the ratios of the sides."
_PIXELS = "A difference is not divided: tx and ty count sides of the proposal, tw and th compare sides by their ratio."

OFFSETS = (
    Part(
        "the four numbers",
        _four((0.25, 0.5, 0, 0.693)),
        (
            Mistake("ty is 0, but the middle of G lies below that of P.", _CORNERS, _four((0.25, 0, 0, 0.693))),
            Mistake("ty is too small.", _UNIT, _four((0.25, 0.25, 0, 0.693))),
            Mistake("tx points to the left.", _SWAPPED, _four((-0.25, -0.25, 0, -0.693), (-0.25, -0.5, 0, -0.693))),
            Mistake("th is negative, but G is higher than P.", _RATIO, _four((0.25, 0.5, 0, -0.693))),
            Mistake(
                "tx and ty are right, tw or th is not.",
                _NO_LOG,
                _four((0.25, 0.5, 1, 2), (0.25, 0.5, 0, 1), (0.25, 0.5, 0, 0.301)),
            ),
            Mistake(
                "There are pixels among the four numbers.",
                _PIXELS,
                _four((10, 0, 10, 40), (10, 20, 0, 40), (10, 0, 0, 40), (10, 20, 0, 0.693), (0.25, 0.5, 0, 40)),
            ),
        ),
        "Write down centre, width and height of both boxes, then one offset after the other: tx, ty, tw, th.",
    ),
    Part(
        "the function",
        _encodes(lambda p, g: encode(g, p)),
        (
            Mistake(
                "A truth that is larger and has the same centre gets a shift.",
                _CORNERS,
                _encodes(_offsets(corners=True)),
            ),
            Mistake("The same shift counts less where the truth is larger.", _UNIT, _encodes(_offsets(by_truth=True))),
            Mistake("The offsets lead back from the truth to the proposal.", _SWAPPED, _encodes(encode)),
            Mistake(
                "A truth that is larger gets negative tw and th.", _RATIO, _encodes(_offsets(side=lambda r: -r.log()))
            ),
            Mistake(
                "tx and ty are right, tw and th are not.",
                _NO_LOG,
                _encodes(*(_offsets(side=s) for s in (lambda r: r, lambda r: r - 1, torch.log2, torch.log10))),
            ),
            Mistake("Draw both boxes twice as large, and the offsets change.", _PIXELS, _in_pixels),
        ),
        "Try it on the boxes of the first part, each as a (1, 4) tensor. The columns are tx, ty, tw, th.",
    ),
)
