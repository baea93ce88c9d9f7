"""Exercises of 03_fast_rcnn about its head: smooth L1, the loss of class and box, a layer in two thin ones."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any, near, near_all
from rcnn_tutorial.detectors.fast_rcnn import truncated_svd
from rcnn_tutorial.ops.losses import smooth_l1

_generator = torch.Generator().manual_seed(3)


# 03-3: smooth L1

_four = partial(near_all, tol=0.006)


def _four_with(test: Callable[[list[float]], bool]) -> Callable:
    """A test for four numbers, those at -2, -0.5, 1 and 10."""
    return lambda answer: len(answer) == 4 and test([float(number) for number in answer])


SMOOTH = (
    Part(
        "the values",
        _four((1.5, 0.125, 0.5, 9.5)),
        (
            Mistake(
                "At 10 the loss is 50 or more.",
                "That is the square. From 1 on the curve is a straight line of slope 1.",
                _four_with(lambda v: v[3] >= 50),
            ),
            Mistake(
                "At 1 the curve jumps, and at 10 it is 10.",
                "The straight line is |x| - 0.5: the 0.5 makes it meet the parabola.",
                _four_with(lambda v: abs(v[3] - 10) < 0.006 and abs(v[1] - 0.125) < 0.006),
            ),
        ),
        "Draw it: half the square of x where |x| is below 1, then straight on.",
    ),
    Part(
        "the slopes",
        _four((-1, -0.5, 1, 1)),
        (
            Mistake(
                "Left of 0 the loss rises to the right.",
                "The slope has the sign of x: the curve falls towards 0 from both sides.",
                _four_with(lambda v: (v[0] > 0 or v[1] > 0) and v[3] < 10),
            ),
            Mistake(
                "At 10 the slope is 10 or more.",
                "That is the slope of the square. From 1 on the slope is 1, however large the error.",
                _four_with(lambda v: v[3] >= 10),
            ),
        ),
        "Differentiate the two pieces, and mind the sign of |x| left of 0.",
    ),
)


# 03-4: class and box


def _loss(p: Tensor, u: Tensor, offsets: Tensor, targets: Tensor, boxes_over: Callable = len) -> Tensor:
    """The loss over both answers; `boxes_over(u)` divides the part of the boxes."""
    rows = torch.arange(len(u))
    box = smooth_l1(offsets[rows, u - 1] - targets).sum(1)[u > 0].sum()
    return -p[rows, u].log().sum() / len(u) + box / boxes_over(u)


def _rois(n: int, classes: int, highest: int) -> tuple[Tensor, ...]:
    """One RoI of background, one of class 1, the rest of classes 0 to `highest`."""
    p = torch.rand(n, classes + 1, generator=_generator) + 0.1
    u = torch.cat((torch.tensor([0, 1]), torch.randint(0, highest + 1, (n - 2,), generator=_generator)))
    offsets = 3 * torch.randn(n, classes, 4, generator=_generator)
    return p / p.sum(1, keepdim=True), u, offsets, torch.randn(n, 4, generator=_generator)


# Without the last class first: there an index that is one too high raises no error.
_LOSS_CASES = [_rois(3 + n % 5, 2 + n % 3, 1 + n % 3) for n in range(15)]
_LAST_CLASS = [_rois(8, 3, 3) for _ in range(5)]


def _reads(background: bool) -> Callable[[Callable], bool]:
    """Does the loss change with offsets of background, or with those of another class than the RoI's?"""

    def changes(function: Callable) -> bool:
        for p, u, offsets, targets in _LOSS_CASES:
            empty = (u == 0)[:, None, None]
            own = nn.functional.one_hot(u, p.shape[1])[:, 1:, None] == 1  # (R, K, 1)
            moved = torch.where(empty if background else ~own & ~empty, offsets + 5, offsets)
            losses = (torch.as_tensor(function(p, u, o.clone(), targets)).float() for o in (offsets, moved))
            if not torch.allclose(*losses):
                return True
        return False

    return changes


_BACKGROUND = "u = 0 has no box: its offsets are left out."
_OVER_ALL = "The sum over the boxes is divided by all RoIs, as that over the classes."
_OWN_CLASS = "The network gives four offsets for each class. Class u has row u - 1, since background has none."

LOSS = (
    Part(
        "the number",
        near(1.1327, 0.003),
        (
            Mistake("It is too high: a box of background is in it.", _BACKGROUND, near(2.2993, 0.003)),
            Mistake("It is too high, though the boxes are the right ones.", _OVER_ALL, near(1.4868, 0.003)),
            Mistake("It is too high: RoI 1 has an error of 0.5, and not of 3.", _OWN_CLASS, near(1.2577, 0.003)),
        ),
        "Write down for each RoI -ln p_u and, unless it is background, smooth L1 of the four offsets of its class. Add "
        "all up and divide by 3.",
    ),
    Part(
        "the function",
        agrees(_loss, _LOSS_CASES + _LAST_CLASS, tol=1e-4),
        (
            Mistake("The offsets of background RoIs change the loss.", _BACKGROUND, _reads(background=True)),
            Mistake(
                "With more background in the batch the boxes count as much as before.",
                _OVER_ALL,
                agrees_any(_LOSS_CASES, lambda *case: _loss(*case, boxes_over=torch.count_nonzero)),
            ),
            Mistake(
                "The offsets of a class that the RoI does not have change the loss.",
                _OWN_CLASS,
                _reads(background=False),
            ),
        ),
        "Try it on the three RoIs of the first part.",
    ),
)


# 03-5: two thin layers


def _case(u: int, v: int, t: int) -> tuple:
    """Weight and bias of a layer from v to u, how many singular values are kept, and six rows to send through."""
    weight, bias, x = (torch.randn(*shape, generator=_generator) for shape in ((u, v), (u,), (6, v)))
    return weight, bias, t, x


_SIZES = zip((6, 9, 12, 8, 15) * 4, (20, 9, 7, 30, 11) * 4, (1, 2, 3, 4) * 5, strict=True)
_FACTOR_CASES = [_case(*sizes) for sizes in _SIZES]


def _layer(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(*reversed(weight.shape))
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def _output(function: Callable) -> Callable:
    """What the two layers make of x, as a function of one case."""

    def output(weight: Tensor, bias: Tensor, t: int, x: Tensor) -> object:
        made = function(_layer(weight, bias), t)
        return made if made is ... or made is None else made(x).detach()

    return output


_truncated = _output(truncated_svd)


def _is_thin(function: Callable) -> bool:
    weight, bias, t, _ = _FACTOR_CASES[0]
    made = function(_layer(weight, bias), t)
    return sum(p.numel() for p in made.parameters()) <= t * (sum(weight.shape) + 1) + len(bias)


def _is_off_by_a_constant(function: Callable) -> bool:
    errors = [_output(function)(*case) - _truncated(*case) for case in _FACTOR_CASES]
    return all((e - e[0]).abs().max() < 1e-3 < e[0].abs().max() for e in errors)


def _bends(function: Callable) -> bool:
    """Do x and -x come out elsewhere than opposite each other, seen from the output for 0?"""
    weight, bias, t, x = _FACTOR_CASES[0]
    there, back, middle = (_output(function)(weight, bias, t, sign * x) for sign in (1, -1, 0))
    return not torch.allclose(there + back, 2 * middle, atol=1e-3)


FACTOR = (
    Part(
        "the largest t",
        near(77, 0.01),
        (
            Mistake(
                "With this t the two layers have more than a third of the weights.",
                "They have t (256 + 2400) weights: t alone, as a share of 256, does not count them.",
                near(85, 0.4),
            ),
            Mistake(
                "With this t nothing is saved yet.",
                "There the two layers have as many weights as the one: ask for a third of them.",
                near(231, 0.4),
            ),
        ),
        "Count the weights of a layer from 2400 to t and of one from t to 256. t is a whole number.",
    ),
    Part(
        "the function",
        lambda function: agrees(_truncated, _FACTOR_CASES, tol=1e-4)(_output(function)) and _is_thin(function),
        (
            Mistake(
                "The output is off by the same amounts, whatever comes in.",
                "The bias of the layer belongs to the second one. The first has none: bias=False.",
                _is_off_by_a_constant,
            ),
            Mistake(
                "The outputs for x and for -x do not lie opposite each other.",
                "There is a ReLU between the two layers. Only without it they are one product of matrices.",
                _bends,
            ),
            Mistake(
                "The layers have more weights than t (u + v).",
                "Keep t singular values, and the two thin matrices apart.",
                lambda function: not _is_thin(function),
            ),
        ),
        "weight is about U[:, :t] @ diag(S[:t]) @ Vh[:t]: which of these does x meet first?",
    ),
)
