"""The exercises of 00_boxes: overlap, suppression, average precision."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any, near
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.ops.nms import nms

_generator = torch.Generator().manual_seed(0)


def _boxes(n: int) -> Tensor:
    corner = torch.randint(0, 30, (n, 2), generator=_generator)
    return torch.cat((corner, corner + torch.randint(4, 25, (n, 2), generator=_generator)), dim=1).float()


# 00-1: intersection over union


def _iou(a: Tensor, b: Tensor, extra: float = 0, clamp: str = "sides", by: str = "union") -> Tensor:
    """Pairwise IoU, with the mistakes one can make as options."""
    size = torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2]) + extra
    inter = (size.clamp(min=0) if clamp == "sides" else size).prod(-1)
    if clamp == "product":
        inter = inter.clamp(min=0)
    first, second = ((x[:, 2:] - x[:, :2] + extra).prod(-1) for x in (a, b))
    both = first[:, None] + second
    return inter / {"union": both - inter, "first": first[:, None], "sum": both}[by]


_IOU_CASES = [(_boxes(n % 5 + 1), _boxes(n % 4 + 2)) for n in range(20)]

_COUNTED_INSIDE = "Every width is one too large.", "x2 is not part of the box: its width is x2 - x1."
_ONE_AREA = "The number is the share of one box that is covered.", "Divide by the area of the union of both."
_SUM = "The common part is counted twice.", "The union is the sum of both areas without the intersection."

IOU = (
    Part(
        "the number",
        near(48 / 152),
        (
            Mistake(*_COUNTED_INSIDE, near(63 / 179)),
            Mistake(*_ONE_AREA, near(0.48)),
            Mistake(*_SUM, near(0.24)),
        ),
        "Draw both boxes on squared paper and count squares: those in both, and those in either.",
    ),
    Part(
        "all pairs",
        agrees(box_iou, _IOU_CASES),
        (
            Mistake(
                "Two boxes that are apart in x and in y overlap.",
                "Two negative sides make a positive area: clamp each side at 0 before the product.",
                agrees_any(_IOU_CASES, *(partial(_iou, clamp=what) for what in ("nothing", "product"))),
            ),
            Mistake(
                "The table lies on its side: (M, N) where (N, M) is asked for.",
                "Give the first boxes the new axis behind theirs, and the second boxes one in front.",
                agrees(lambda a, b: box_iou(b, a), _IOU_CASES),
            ),
            Mistake(*_COUNTED_INSIDE, agrees(partial(_iou, extra=1), _IOU_CASES)),
            Mistake(*_ONE_AREA, agrees(partial(_iou, by="first"), _IOU_CASES)),
            Mistake(*_SUM, agrees(partial(_iou, by="sum"), _IOU_CASES)),
        ),
        "Some pairs are wrong. Try it on the two boxes of the first part, then on two that are apart.",
    ),
)


# 00-2: non-maximum suppression


def _letters(expected: str) -> Callable[[str | Iterable[str]], bool]:
    return lambda answer: {c for c in "".join(answer).upper() if c.isalpha()} == set(expected)


def _nms(boxes: Tensor, scores: Tensor, threshold: float, dropped_drop=False, at_least=False, sort=True) -> list[int]:
    """Greedy NMS, with the mistakes one can make as options."""
    order = scores.argsort(descending=True, stable=True).tolist() if sort else range(len(boxes))
    iou = box_iou(boxes, boxes).double()
    seen: list[int] = []
    kept: list[int] = []
    for i in order:
        overlaps = (iou[i, j] for j in (seen if dropped_drop else kept))
        if not any(o >= threshold if at_least else o > threshold for o in overlaps):
            kept.append(i)
        seen.append(i)
    return kept


SIX = torch.tensor(
    [[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10], [0, 0, 10, 5], [40, 40, 50, 50], [41, 40, 51, 50.0]]
)
SIX_SCORES = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.55])
_NMS_CASES = [(SIX, SIX_SCORES, 0.5)] + [
    (_boxes(12), torch.rand(12, generator=_generator), t) for t in (0.2, 0.3, 0.5, 0.25) for _ in range(5)
]

_BY_DROPPED = (
    "C is gone, though nothing that stays overlaps it too much.",
    "B overlaps C, but B was dropped by A before: a dropped box drops nobody.",
)
_AT_LEAST = "A box at exactly the threshold is gone.", "The rule drops above the threshold: > and not >=."
_UNSORTED = (
    "Of the two boxes at the far end the weaker one stays.",
    "The list is not sorted: F has the higher score and decides first.",
)

NMS = (
    Part(
        "who stays",
        _letters("ACDF"),
        (
            Mistake(*_BY_DROPPED, _letters("ADF")),
            Mistake(*_AT_LEAST, _letters("ACF")),
            Mistake(*_UNSORTED, _letters("ACDE")),
        ),
        "Go down the scores: keep the best box left, strike out what overlaps it by more than 0.5, repeat.",
    ),
    Part(
        "who stays, E of another class",
        _letters("ACDEF"),
        (
            Mistake(
                "E is gone, dropped by a box of another class.",
                "Suppression runs within a class: a cat does not drop the dog behind it.",
                _letters("ACDF"),
            ),
        ),
        "Only E changed: everything that does not meet E stays as it was.",
    ),
    Part(
        "the function",
        agrees(nms, _NMS_CASES),
        (
            Mistake(*_BY_DROPPED, agrees(lambda *c: _nms(*c, dropped_drop=True), _NMS_CASES)),
            Mistake(*_AT_LEAST, agrees(lambda *c: _nms(*c, at_least=True), _NMS_CASES)),
            Mistake(*_UNSORTED, agrees(lambda *c: _nms(*c, sort=False), _NMS_CASES)),
        ),
        "Compare with your own list for A to F; return the indices of the kept boxes, best score first.",
    ),
)


# 00-3: average precision

_DUPLICATE = "The ranking counts four hits.", "A second box on an object that is found already is a false positive."
_LEFT_OUT = "The ranking has only four places.", "A duplicate is a false positive, and stays in the ranking."
_FOUND_ONLY = (
    "One object is missing from the count.",
    "Recall divides by the objects that exist, and not by those found.",
)

AP = (
    Part(
        "all points",
        near(0.4833, 0.001),
        (
            Mistake(*_DUPLICATE, near(0.8)),
            Mistake(*_LEFT_OUT, near(0.5625)),
            Mistake(
                "That is COCO's mean at 101 recalls.",
                "All points: add up width times height of each step of the envelope.",
                near(0.4851, 0.0005),
            ),
            Mistake(
                "The staircase still goes up and down.",
                "Take the envelope first: at each recall the best precision at that recall or beyond.",
                near(0.4417),
            ),
            Mistake(*_FOUND_ONLY, near(0.6444)),
        ),
        "Write precision and recall after each of the five detections, then take the envelope from the right.",
    ),
    Part(
        "11 points",
        near(0.4727, 0.001),
        (
            Mistake(*_DUPLICATE, near(0.8)),
            Mistake(*_LEFT_OUT, near(0.5455)),
            Mistake(*_FOUND_ONLY, near(0.6424)),
            Mistake(
                "Ten recalls were looked at.",
                "The eleven recalls are 0, 0.1, ..., 1.0: recall 0 counts too.",
                near(0.4533),
            ),
        ),
        "Look up the envelope at recall 0, 0.1, ..., 1.0. Beyond the last recall it is 0.",
    ),
)

EXERCISES = {"00-1": IOU, "00-2": NMS, "00-3": AP}
