"""An exercise of 04_faster_rcnn: a mini-batch of anchors."""

from collections.abc import Callable

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees

_generator = torch.Generator().manual_seed(4)


def _draw(low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=_generator)


# 04-D: a mini-batch


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
