"""The exercises of 00_boxes on boxes: overlap, a side that moves, suppression by class, the best window."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any, near
from rcnn_tutorial.course.exercises.e00_score import AP, SCORE
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.ops.nms import batched_nms

_generator = torch.Generator().manual_seed(0)


def _boxes(n: int) -> Tensor:
    corner = torch.randint(0, 30, (n, 2), generator=_generator)
    return torch.cat((corner, corner + torch.randint(4, 25, (n, 2), generator=_generator)), dim=1).float()


# 00-A: intersection over union


def _iou(a: Tensor, b: Tensor, extra: float = 0, clamp: str = "sides", by: str = "union") -> Tensor:
    """IoU of box i with box i, with the mistakes one can make as options."""
    size = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2]) + extra
    inter = (size.clamp(min=0) if clamp == "sides" else size).prod(-1)
    if clamp == "product":
        inter = inter.clamp(min=0)
    first, second = ((x[:, 2:] - x[:, :2] + extra).prod(-1) for x in (a, b))
    both = first + second
    return inter / {"union": both - inter, "first": first, "sum": both}[by]


_IOU_CASES = [(_boxes(n % 5 + 2), _boxes(n % 5 + 2)) for n in range(20)]

_COUNTED_INSIDE = "Every width is one too large.", "x2 is not part of the box: its width is x2 - x1."
_ONE_AREA = "The number is the share of one box that is covered.", "Divide by the area of the union of both."
_SUM = "The common part is counted twice.", "The union is the sum of both areas without the intersection."

IOU = (
    Part(
        "the number",
        near(16 / 56, 0.005),
        (
            Mistake(*_COUNTED_INSIDE, near(25 / 73, 0.004)),
            Mistake(*_ONE_AREA, lambda answer: near(16 / 48, 0.004)(answer) or near(16 / 24, 0.004)(answer)),
            Mistake(*_SUM, near(16 / 72, 0.004)),
        ),
        "Draw both boxes on squared paper and count squares: those in both, and those in either.",
    ),
    Part(
        "box by box",
        agrees(_iou, _IOU_CASES),
        (
            Mistake(
                "Two boxes that are apart in x and in y overlap.",
                "Two negative sides make a positive area: clamp each side at 0 before the product.",
                agrees_any(_IOU_CASES, *(partial(_iou, clamp=what) for what in ("nothing", "product"))),
            ),
            Mistake(
                "The function compares every box with every other one.",
                "Row i of a meets row i of b alone, so that no new axis is needed and (N,) comes out.",
                agrees(box_iou, _IOU_CASES),
            ),
            Mistake(*_COUNTED_INSIDE, agrees(partial(_iou, extra=1), _IOU_CASES)),
            Mistake(*_ONE_AREA, agrees(partial(_iou, by="first"), _IOU_CASES)),
            Mistake(*_SUM, agrees(partial(_iou, by="sum"), _IOU_CASES)),
        ),
        "Some pairs are wrong. Try it on the two boxes of the first part, then on two that are apart.",
    ),
)


# 00-B: how far may a side move?

_ONE_SIDE = "The IoU falls below 0.8.", "The new box is larger than the old one, and the union grows with it."
_OTHER_WAY = "The box could move further.", "The new box lies inside the old one, so the union does not grow."

SIDES = (
    Part(
        "outwards",
        near(10, 0.1),
        (
            Mistake("That is the answer for a side that moves inwards.", _ONE_SIDE[1], near(8, 0.1)),
            Mistake(*_ONE_SIDE, lambda answer: 10.1 < float(answer) <= 40),
        ),
        "Write the IoU as a fraction: the area of the old box over the area of the new one.",
    ),
    Part(
        "inwards",
        near(8, 0.1),
        (
            Mistake("That is the answer for a side that moves outwards.", _OTHER_WAY[1], near(10, 0.1)),
            Mistake(*_OTHER_WAY, lambda answer: 0 <= float(answer) < 7.9),
        ),
        "Write the IoU as a fraction: the area of the new box over the area of the old one.",
    ),
    Part(
        "the whole box",
        near(40 / 9, 0.06),
        (
            Mistake(
                "That is the answer for a side that moves inwards.",
                "What leaves the overlap at one end is added to the union at the other end.",
                near(8, 0.1),
            ),
            Mistake(
                "That is the answer for a side that moves outwards.",
                "The overlap shrinks here, too, because the other side comes along.",
                near(10, 0.1),
            ),
        ),
        "With a shift of d the overlap is 40 - d pixels wide and the union is 40 + d pixels wide.",
    ),
)


# 00-C: non-maximum suppression


def _letters(expected: str) -> Callable[[str | Iterable[str]], bool]:
    return lambda answer: {c for c in "".join(answer).upper() if c.isalpha()} == set(expected)


def _nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    threshold: float,
    dropped_drop: bool = False,
    at_least: bool = False,
    sort: bool = True,
    by_class: bool = True,
    result: str = "ranked",
) -> list[int]:
    """Greedy NMS within each class, with the mistakes one can make as options."""
    if result != "ranked":  # class after class: with the indices of all boxes, or with those within the class
        groups = [(labels == label).nonzero()[:, 0] for label in labels.unique()]
        kept_by_class = [_nms(boxes[group], scores[group], labels[group], threshold) for group in groups]
        return [
            int(group[i]) if result == "by class" else i
            for group, kept in zip(groups, kept_by_class, strict=True)
            for i in kept
        ]
    order = scores.argsort(descending=True, stable=True).tolist() if sort else range(len(boxes))
    iou = box_iou(boxes, boxes).double()
    seen: list[int] = []
    kept: list[int] = []
    for i in order:
        rivals = [j for j in (seen if dropped_drop else kept) if labels[i] == labels[j] or not by_class]
        if not any(iou[i, j] >= threshold if at_least else iou[i, j] > threshold for j in rivals):
            kept.append(i)
        seen.append(i)
    return kept


SIX = torch.tensor(
    [[0, 0, 12, 12], [0, 3, 12, 15], [0, 6, 12, 18], [6, 0, 12, 12], [50, 20, 60, 30], [50, 21, 60, 31.0]]
)
SIX_SCORES = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.55])
SIX_LABELS = torch.tensor([1, 1, 1, 1, 2, 1])
_NMS_CASES = [(SIX, SIX_SCORES, torch.ones(6).long(), 0.5), (SIX, SIX_SCORES, SIX_LABELS, 0.5)] + [
    (_boxes(12), torch.rand(12, generator=_generator), torch.randint(1, 3, (12,), generator=_generator), t)
    for t in (0.2, 0.3, 0.5, 0.25)
    for _ in range(5)
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
        "the function",
        agrees(batched_nms, _NMS_CASES),
        (
            Mistake(
                "A box is gone that only a box of another class overlaps.",
                "Suppression runs within a class: compare the two labels as well.",
                agrees(partial(_nms, by_class=False), _NMS_CASES),
            ),
            Mistake(
                "The right boxes stay, but one class comes after the other.",
                "Sort what stays by its score at the end.",
                agrees(partial(_nms, result="by class"), _NMS_CASES),
            ),
            Mistake(
                "The indices count within a class.",
                "Translate them: boxes[labels == k] numbers its boxes anew.",
                agrees(partial(_nms, result="within"), _NMS_CASES),
            ),
            Mistake(*_BY_DROPPED, agrees(partial(_nms, dropped_drop=True), _NMS_CASES)),
            Mistake(*_AT_LEAST, agrees(partial(_nms, at_least=True), _NMS_CASES)),
            Mistake(*_UNSORTED, agrees(partial(_nms, sort=False), _NMS_CASES)),
        ),
        "Compare with your own list for A to F; return the indices of all kept boxes, best score first.",
    ),
)


# 00-D: the best window of each object


def _best_windows(iou: Tensor, least: float = 0.5, along: int = 0, strict: bool = False, none: bool = True) -> Tensor:
    """For each object the window that overlaps it most, with the mistakes one can make as options."""
    best, index = iou.max(dim=along)
    reached = best > least if strict else best >= least
    return torch.where(reached, index, -1) if none else index


_tables = [torch.rand(5, m, generator=_generator) ** 2 for m in (2, 3, 4, 2, 3, 4)]
_TABLES = [(torch.tensor([[0.5, 0.1, 0.2], [0.3, 0.4, 0.9]]),), *((table,) for table in _tables)]

WINDOWS = (
    Part(
        "the function",
        agrees(_best_windows, _TABLES),
        (
            Mistake(
                "There is one answer for each window.",
                "The question is about objects: look for the maximum of each column, along dim=0.",
                agrees_any(_TABLES, *(partial(_best_windows, along=1, none=none) for none in (True, False))),
            ),
            Mistake(
                "An object that no window reaches has a window.",
                "Write -1 where the highest IoU of the object is below 0.5.",
                agrees(partial(_best_windows, none=False), _TABLES),
            ),
            Mistake(
                "An object at exactly 0.5 is lost.",
                "An IoU of at least 0.5 is enough: >= and not >.",
                agrees(partial(_best_windows, strict=True), _TABLES),
            ),
        ),
        "Take the table of section 5: object 0 belongs to window 0, and object 1 to window 2.",
    ),
)

EXERCISES = {"00-A": IOU, "00-B": SIDES, "00-C": NMS, "00-D": WINDOWS, "00-E": AP, "00-F": SCORE}
