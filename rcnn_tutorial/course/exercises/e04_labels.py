"""Exercises of 04_faster_rcnn about training the RPN: labels of the anchors, a mini-batch of them."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any

_generator = torch.Generator().manual_seed(4)


def _draw(low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=_generator)


# 04-3: labels


def _overlaps(anchors: int, objects: int) -> Tensor:
    """IoUs in steps of 0.05, the bounds among them; each object touches an anchor."""
    iou = _draw(-9, 17, anchors, objects).clamp(min=0)
    iou[_draw(0, anchors), (iou == 0).all(0)] = 3
    return iou.double() / 20


def _and_one_untouched(iou: Tensor) -> Tensor:
    return torch.cat((iou, torch.zeros_like(iou[:, :1])), dim=1)


_G0 = (0.75, 0.45, 0.20, 0.10, 0.05, 0.72, 0.10)
_G1 = (0.10, 0.30, 0.10, 0.45, 0.45, 0.05, 0.00)
_G2 = (0.00, 0.10, 0.25, 0.05, 0.00, 0.00, 0.10)
_GIVEN = torch.tensor([_G0, _G1, _G2], dtype=torch.float64).T  # (7, 3)
_LOW = _GIVEN[:, 1:]  # no anchor of this image reaches 0.7
_TOUCHED = [(_GIVEN,), (_LOW,)] + [(_overlaps(6 + n % 5, 1 + n % 4),) for n in range(12)]
_UNTOUCHED = [(_and_one_untouched(_overlaps(6 + n, 1 + n % 2)),) for n in range(6)]


def _closest(objects: list[list[float]]) -> set[int]:
    """The anchors that overlap an object most, if they overlap it at all."""
    return {n for overlaps in objects for n, v in enumerate(overlaps) if v == max(overlaps) > 0}


def _labels(
    iou: Tensor,
    rescued: Callable[[list[list[float]]], set[int]] = _closest,
    positive: Callable[[list[float]], bool] = lambda overlaps: max(overlaps) >= 0.7,
    negative: Callable[[list[float]], bool] = lambda overlaps: max(overlaps) < 0.3,
    between: int = -1,
    negatives_last: bool = False,
) -> Tensor:
    """Labels of the anchors, with the mistakes one can make as options."""
    saved, labels = rescued(iou.T.tolist()), []
    for n, overlaps in enumerate(iou.tolist()):
        label = 1 if positive(overlaps) or n in saved else 0 if negative(overlaps) else between
        labels.append(0 if negatives_last and negative(overlaps) else label)
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
                "argmax gives one of a tie. Compare the column with its maximum: all that equal it are positive.",
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
                "The maximum goes along the wrong axis: a row is an anchor, and has one label.",
                lambda function: torch.as_tensor(function(_GIVEN.clone())).shape == (3,),
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


# 04-5: a mini-batch


def _case(positives: int, negatives: int, unused: int, size: int, seed: int) -> tuple[Tensor, int, int]:
    counts = torch.tensor([positives, negatives, unused])
    labels = torch.tensor([1, 0, -1]).repeat_interleave(counts)
    return labels[torch.randperm(len(labels), generator=_generator)], size, seed


_SAMPLE_CASES = [
    _case(*counts, 256, seed)
    for seed, counts in enumerate(((300, 1200, 400), (50, 1200, 400), (0, 1200, 400), (300, 100, 40)))
] + [_case(*_draw(0, 200, 2).tolist(), 90, (32, 64, 256)[n % 3], n) for n in range(16)]


def _quota(labels: Tensor, size: int, seed: int) -> list[int]:
    """How many positives and negatives are drawn, how many of neither, and how many twice."""
    numbers = labels.tolist()
    positives = min(size // 2, numbers.count(1))
    return [positives, min(size - positives, numbers.count(0)), 0, 0]


def _drawn(function: Callable, labels: Tensor, size: int, seed: int) -> object:
    chosen = function(labels.clone(), size, torch.Generator().manual_seed(seed))
    if chosen is ... or chosen is None:
        return chosen
    chosen = torch.as_tensor(chosen)
    if chosen.ndim != 1 or (len(chosen) and chosen.dtype not in (torch.int64, torch.int32)):
        raise ValueError(f"expected indices of shape (K,), got {chosen.dtype} of shape {tuple(chosen.shape)}")
    return chosen.long()


def _counts(function: Callable) -> Callable:
    """What `_quota` says, of a learner's sample."""

    def counts(labels: Tensor, size: int, seed: int) -> object:
        chosen = _drawn(function, labels, size, seed)
        if chosen is ... or chosen is None:
            return chosen
        found = labels[chosen].tolist()
        return [*map(found.count, (1, 0, -1)), len(found) - len(set(chosen.tolist()))]

    return counts


_counts_right = agrees(_quota, _SAMPLE_CASES)


def _is_fixed(function: Callable) -> bool:
    """Are the positives or the negatives the same for every seed, though there are more than are drawn?"""
    labels, size, _ = _SAMPLE_CASES[0]
    samples = [set(_drawn(function, labels, size, seed).tolist()) for seed in range(3)]
    return any(
        samples[0] & group == samples[1] & group == samples[2] & group
        for group in (set((labels == value).nonzero()[:, 0].tolist()) for value in (1, 0))
    )


def _repeats(function: Callable) -> bool:
    """Does the same seed give the same sample?"""
    first, second = (set(_drawn(function, *_SAMPLE_CASES[0]).tolist()) for _ in range(2))
    return first == second


def _fault(function: Callable) -> str:
    """What is wrong with the samples, the worst first; an empty text if nothing is."""
    counts = _counts(function)
    pairs = [(counts(*case), _quota(*case)) for case in _SAMPLE_CASES]
    positives, negatives, unused, twice = zip(
        *([mine - right for mine, right in zip(*pair, strict=True)] for pair in pairs), strict=True
    )
    found = {
        "unused": any(unused),
        "twice": any(twice),
        "few positives": min(positives) < 0,
        "many positives": max(positives) > 0,
        "short": min(negatives) < 0,
        "long": max(negatives) > 0,
        "fixed": _is_fixed(function),
        "global": not _repeats(function),
    }
    return next((name for name, is_so in found.items() if is_so), "")


def _has(fault: str) -> Callable[[Callable], bool]:
    return lambda function: _fault(function) == fault


SAMPLE = (
    Part(
        "the function",
        lambda function: _counts_right(_counts(function)) and not _fault(function),
        (
            Mistake(
                "An anchor is drawn twice.",
                "Where positives are too few negatives fill the batch, and none is repeated. randperm repeats none.",
                _has("twice"),
            ),
            Mistake(
                "Anchors of label -1 are drawn.",
                "Only those of label 1 and 0 take part: draw from (labels == 0).nonzero(), and index that.",
                _has("unused"),
            ),
            Mistake(
                "Of 300 positives fewer than 128 are drawn.",
                "A batch drawn from all anchors has few positives, as the image has. Draw each kind by itself.",
                _has("few positives"),
            ),
            Mistake(
                "More than half of the batch is positive.",
                "Half is the most, even where negatives are too few: then the batch is smaller.",
                _has("many positives"),
            ),
            Mistake(
                "With 50 positives the batch has fewer than 256 anchors.",
                "It has one negative for each positive. Negatives fill what positives leave open: 256 - 50.",
                _has("short"),
            ),
            Mistake(
                "There are too many negatives in the batch.",
                "`size` counts both kinds: positives leave size - positives for the negatives.",
                _has("long"),
            ),
            Mistake(
                "The batch has the same positives or the same negatives at every call.",
                "Nothing is drawn, or the seed is fixed within: torch.randperm(n, generator=generator).",
                _has("fixed"),
            ),
            Mistake(
                "Two generators of the same seed give different batches.",
                "The generator is not used, or not for all that is drawn: torch.randperm(n, generator=generator).",
                _has("global"),
            ),
        ),
        "Draw from the positives first, then from the negatives what is left, and join the indices.",
    ),
)
