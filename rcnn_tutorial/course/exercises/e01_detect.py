"""The exercise of 01_rcnn that builds a working part: from the features of the windows to the detections of a class."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees
from rcnn_tutorial.ops.boxes import decode
from rcnn_tutorial.ops.nms import nms

_generator = torch.Generator().manual_seed(4)


def _case(windows: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, float]:
    """Windows about three places, so that most of them have rivals; one in five is a little off its object."""
    place = torch.tensor([[20, 20, 60, 60], [50, 30, 90, 70], [120, 40, 150, 100.0]])
    proposals = place[torch.randint(3, (windows,), generator=_generator)]
    proposals = proposals + 6 * torch.randn(windows, 4, generator=_generator)
    offsets = 0.25 * torch.randn(windows, 4, generator=_generator)
    features, weight = torch.randn(windows, 5, generator=_generator), torch.randn(5, generator=_generator)
    return features, weight, torch.tensor(-0.7), offsets, proposals, 0.3


CASES = [_case(windows) for windows in (12, 20, 30, 16, 24, 40)]


def _detect(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    offsets: Tensor,
    proposals: Tensor,
    threshold: float,
    above: float = 0.0,
    with_bias: bool = True,
    refined: bool = True,
    suppress: str = "refined",
    ranked: bool = True,
) -> Tensor:
    """The boxes of one class that remain, with the mistakes one can make as options."""
    scores = features @ weight + (bias if with_bias else 0)
    boxes = decode(offsets, proposals)
    certain = scores > above
    scores, boxes, proposals = scores[certain], boxes[certain], proposals[certain]
    if suppress == "none":
        kept = scores.argsort(descending=True)
    else:
        kept = nms(boxes if suppress == "refined" and refined else proposals, scores, threshold)
    kept = kept if ranked else kept.sort().values
    return (boxes if refined else proposals)[kept]


def _swapped(function: Callable) -> bool:
    """Does it give `decode` the offsets in the place of the boxes, which `decode` refuses?"""
    try:
        agrees(_detect, CASES)(function)
    except ValueError as error:
        return str(error).startswith("reference: ")
    return False


def _like(**mistake: object) -> Callable[[Callable], bool]:
    """A test for functions: same boxes as with this mistake, without one if none is named."""
    same = agrees(partial(_detect, **mistake), CASES, tol=1e-3)
    return lambda function: not _swapped(function) and same(function)


DETECT = (
    Part(
        "the function",
        _like(),
        (
            Mistake(
                "`decode` gets its arguments in the wrong order.",
                "The offsets come first: `decode(offsets, proposals)`.",
                _swapped,
            ),
            Mistake(
                "The boxes are the proposals, as they were.",
                "The offsets are not used: `decode(offsets, proposals)` moves the boxes.",
                _like(refined=False),
            ),
            Mistake(
                "Two of the boxes overlap by more than the threshold.",
                "Suppression compared the proposals. It has to compare the boxes after they were moved.",
                _like(suppress="proposals"),
            ),
            Mistake(
                "One object has many boxes.",
                "Non-maximum suppression is missing.",
                _like(suppress="none"),
            ),
            Mistake(
                "There are boxes that the SVM says no to.",
                "Keep a window only if its score is above 0.",
                _like(above=-torch.inf),
            ),
            Mistake(
                "There are boxes between the margin and 0.",
                "-1 is where a negative costs something in training. The class begins at 0.",
                _like(above=-1.0),
            ),
            Mistake(
                "Windows with a score a little below 0 are there.",
                "The score is w . x + b: the bias is missing.",
                _like(with_bias=False),
            ),
            Mistake(
                "The boxes are right, and their order is not.",
                "The best box comes first, as `nms` returns them.",
                _like(ranked=False),
            ),
        ),
        "Four steps: score the windows, move the boxes, drop scores of 0 and less, suppress.",
    ),
)
