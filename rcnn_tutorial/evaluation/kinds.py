"""What a detector gets wrong: every false detection has one kind."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rcnn_tutorial.evaluation.inputs import DetectedBoxes, TrueBoxes, check_iou_threshold, gather, pair_overlaps
from rcnn_tutorial.evaluation.matching import match

NEAR = 0.1  # IoU from which a box that misses an object is still about that object
KINDS = ("correct", "class", "place", "duplicate", "background", "ignored", "below")


@dataclass(frozen=True)
class Failures:
    """What `failures` says of a data set's detections.

    Attributes:
        counts: how many detections are correct, class, place, duplicate, background, and how many objects missed.
        kinds: per image one kind per detection, in the detections' order.
        missed: per image (N,) bool, the objects without a correct detection.
    """

    counts: dict[str, int]
    kinds: list[tuple[str, ...]]
    missed: list[Tensor]


def failures(
    detections: Sequence[dict[str, Tensor]],
    targets: Sequence[dict[str, Tensor]],
    score_threshold: float = 0.5,
    iou_threshold: float = 0.5,
) -> Failures:
    """Sort detections by what is wrong with them. The first line that holds decides:

    1. below: the score is under the threshold.
    2. ignored: the truth of its class that it overlaps most, at IoU >= threshold, is difficult or a crowd.
    3. correct: that truth counts, and no detection of higher score took it (`match_detections`).
    4. duplicate: one did.
    5. class: IoU >= threshold with a truth of another class.
    6. place: 0.1 <= IoU < threshold with a truth of its own class.
    7. background: all the rest.

    Difficult and crowd objects play no part in 3 to 7 and are never missed.

    Args:
        detections: per image a dict of `boxes` (D, 4), `labels` (D,) and `scores` (D,).
        targets: per image a dict of `boxes` (N, 4), `labels` (N,) and, where there are any, `difficult` (N,) and
            `iscrowd` (N,).
        score_threshold: the least score of a detection that is looked at.
        iou_threshold: the least IoU of a hit.
    Raises:
        ValueError: lists of different length, malformed dicts, an IoU threshold outside (0, 1].
    """
    check_iou_threshold(iou_threshold)
    detected, truths = gather(detections, targets)
    matches = match(detected, truths, iou_threshold)
    iou_same_class, iou_other_class = _nearest(detected, truths)
    below = detected.scores < score_threshold
    at_truth = matches.truth >= 0
    rules = (  # in the docstring's order
        ("below", below),
        ("ignored", matches.ignored),
        ("correct", matches.hits),
        ("duplicate", at_truth),
        ("class", iou_other_class >= iou_threshold),
        ("place", iou_same_class >= NEAR),
    )
    code = torch.full((len(detected),), KINDS.index("background"))
    for kind, holds in reversed(rules):
        code[holds] = KINDS.index(kind)

    taken = torch.zeros_like(truths.ignored)
    taken[matches.truth[matches.hits & ~below]] = True
    missed = ~taken & ~truths.ignored
    tally = Counter(KINDS[k] for k in code.tolist())
    counts = {kind: tally[kind] for kind in ("correct", "class", "place", "duplicate", "background")}
    return Failures(
        counts={**counts, "missed": int(missed.sum())},
        kinds=[tuple(KINDS[k] for k in part.tolist()) for part in code.split([len(d["boxes"]) for d in detections])],
        missed=list(missed.split([len(t["boxes"]) for t in targets])),
    )


def _nearest(detected: DetectedBoxes, truths: TrueBoxes) -> tuple[Tensor, Tensor]:
    """(D,) largest IoU with a truth that counts, of the detection's class and of any other."""
    same_class, other_class = torch.zeros(2, len(detected), dtype=torch.float64)
    for i, j, iou in pair_overlaps(detected, truths):
        iou = iou.where(~truths.ignored[j], 0)
        same = detected.labels[i] == truths.labels[j]
        same_class.scatter_reduce_(0, i[same], iou[same], "amax")
        other_class.scatter_reduce_(0, i[~same], iou[~same], "amax")
    return same_class, other_class
