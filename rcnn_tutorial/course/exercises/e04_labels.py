"""An exercise of 04_faster_rcnn: the labels of the anchors, where those that cross the border are left out."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any

_generator = torch.Generator().manual_seed(4)


def _draw(low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=_generator)


# 04-C: labels, from the objects' side, with anchors that cross the border


def _overlaps(anchors: int, objects: int) -> tuple[Tensor, Tensor]:
    """IoUs (M, N) in steps of 0.05, the bounds among them, and (N,) which anchors are inside; each object has one."""
    iou = _draw(-9, 17, objects, anchors).clamp(min=0)
    inside = _draw(0, 4, anchors) > 0
    inside[0] = True
    iou[(iou * inside == 0).all(1), 0] = 3
    return iou.double() / 20, inside


def _and_one_untouched(iou: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat((iou, torch.zeros_like(iou[:1]))), inside


_G0 = (0.75, 0.45, 0.20, 0.10, 0.05, 0.72, 0.10)
_G1 = (0.10, 0.30, 0.10, 0.45, 0.45, 0.05, 0.00)
_G2 = (0.00, 0.10, 0.25, 0.05, 0.00, 0.00, 0.10)
_GIVEN = torch.tensor([_G0, _G1, _G2], dtype=torch.float64)  # (3, 7)
_INSIDE = torch.tensor([True, True, False, True, True, True, True])
_LOW = _GIVEN[1:]  # no anchor of this image reaches 0.7
_TOUCHED = [(_GIVEN, _INSIDE), (_LOW, _INSIDE)] + [_overlaps(7 + n % 5, 1 + n % 4) for n in range(12)]
_UNTOUCHED = [_and_one_untouched(*_overlaps(6 + n, 1 + n % 2)) for n in range(6)]


def _closest(objects: list[list[float]]) -> set[int]:
    """The anchors that overlap an object most, if they overlap it at all."""
    return {n for overlaps in objects for n, v in enumerate(overlaps) if v == max(overlaps) > 0}


def _labels(
    iou: Tensor,
    inside: Tensor,
    rescued: Callable[[list[list[float]]], set[int]] = _closest,
    positive: Callable[[list[float]], bool] = lambda overlaps: max(overlaps) >= 0.7,
    negative: Callable[[list[float]], bool] = lambda overlaps: max(overlaps) < 0.3,
    between: int = -1,
    negatives_last: bool = False,
    mask: str = "first",
) -> Tensor:
    """Labels of the anchors, with the mistakes one can make as options; `mask` says when those outside are left out."""
    used = iou.masked_fill(~inside, -1) if mask == "first" else iou
    saved, labels = rescued(used.tolist()), []
    for n, overlaps in enumerate(iou.T.tolist()):
        label = 1 if positive(overlaps) or n in saved else 0 if negative(overlaps) else between
        label = 0 if negatives_last and negative(overlaps) else label
        labels.append(label if inside[n] or mask == "none" else -1)
    return torch.tensor(labels)


def _labels_any(*options: dict) -> Callable[[Callable], bool]:
    return agrees_any(_TOUCHED, *(partial(_labels, **each) for each in options))


def _without_any(objects: list[list[float]]) -> set[int]:
    """The rescue asked once for the whole image."""
    return set() if max(map(max, objects)) >= 0.7 else _closest(objects)


def _closest_of_image(objects: list[list[float]]) -> set[int]:
    best = max(map(max, objects))
    return {n for overlaps in objects for n, v in enumerate(overlaps) if v == best}


def _one_of_a_tie(objects: list[list[float]]) -> set[int]:
    return {overlaps.index(max(overlaps)) for overlaps in objects}


def _last_of_a_tie(objects: list[list[float]]) -> set[int]:
    return {len(overlaps) - 1 - overlaps[::-1].index(max(overlaps)) for overlaps in objects}


_right_where_touched = agrees(_labels, _TOUCHED)

LABELS = (
    Part(
        "the function",
        agrees(_labels, _TOUCHED + _UNTOUCHED),
        (
            Mistake(
                "An object loses its positive to an anchor that crosses the border.",
                "Leave the anchors outside out before you look for the best of an object, and not at the end.",
                _labels_any({"mask": "last"}),
            ),
            Mistake(
                "Anchors that cross the border take part.",
                "An anchor where `inside` is False has the label -1, whatever it overlaps.",
                _labels_any({"mask": "none"}),
            ),
            Mistake(
                "In an image whose anchors all stay below 0.7 none is positive.",
                "The best anchor of each object is positive, whatever its IoU.",
                _labels_any({"rescued": lambda objects: set()}),
            ),
            Mistake(
                "With a second object in the image, the first may be left without an anchor.",
                "The best anchor is asked for object by object, and not once for the image.",
                _labels_any({"rescued": _without_any}, {"rescued": _closest_of_image}),
            ),
            Mistake(
                "Of two anchors that overlap an object equally well, and best of all, one is not positive.",
                "argmax gives one of a tie. Compare the row with its maximum: all that equal it are positive.",
                _labels_any({"rescued": _one_of_a_tie}, {"rescued": _last_of_a_tie}),
            ),
            Mistake(
                "The best anchor of an object is negative, if it stays below 0.3.",
                "The negatives are written last. Write them first: the positives overrule them.",
                _labels_any({"negatives_last": True}),
            ),
            Mistake(
                "An anchor of IoU 0.45 is negative, though it is the best of no object.",
                "From 0.3 to 0.7 an anchor is neither: -1, and no loss sees it.",
                _labels_any({"between": 0}),
            ),
            Mistake(
                "An anchor on one object is negative, since it is far from another.",
                "Negative is what stays below 0.3 with every object: its highest IoU decides.",
                _labels_any({"negative": lambda overlaps: min(overlaps) < 0.3}),
            ),
            Mistake(
                "Every anchor that touches an object is positive.",
                "The maximum goes along the wrong axis: each object has a best anchor, and not each anchor an object.",
                _labels_any(
                    {"positive": lambda overlaps: max(overlaps) > 0},
                    {"positive": lambda overlaps: True},
                ),
            ),
            Mistake(
                "There is one label for each object.",
                "The maximum goes along the wrong axis: here a column is an anchor, and has one label.",
                lambda function: torch.as_tensor(function(_GIVEN.clone(), _INSIDE.clone())).shape == (3,),
            ),
            Mistake(
                "An anchor of exactly 0.7 is not positive, or one of exactly 0.3 is negative.",
                "At least 0.7, and below 0.3: >= and <.",
                _labels_any(
                    {"positive": lambda overlaps: max(overlaps) > 0.7},
                    {"negative": lambda overlaps: max(overlaps) <= 0.3},
                    {
                        "positive": lambda overlaps: max(overlaps) > 0.7,
                        "negative": lambda overlaps: max(overlaps) <= 0.3,
                    },
                ),
            ),
            Mistake(
                "An object that no anchor touches makes anchors positive.",
                "Its highest IoU is 0, and many have that: ask for more than 0 too.",
                lambda function: _right_where_touched(function) and not agrees(_labels, _UNTOUCHED)(function),
            ),
        ),
        "Take one object and four anchors of IoU 0.8, 0.5, 0.5 and 0.1 with it. Then take the first anchor away.",
    ),
)
