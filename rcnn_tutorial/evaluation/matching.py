"""Which detection hits which object: the rule of the VOC development kit."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rcnn_tutorial.evaluation.curves import best_f1, precision_recall
from rcnn_tutorial.evaluation.inputs import Boxes, DetectedBoxes, TrueBoxes, check_iou_threshold, gather, pair_overlaps


@dataclass(frozen=True)
class MatchedDetections:
    """All D detections and G truths of a data set, laid end to end in the order of the images, and who hits whom.

    Attributes:
        image, labels, scores: (D,) each; `image` is the index in the list.
        iou: (D,) overlap with the truth of the same class and image that it overlaps most, 0 without one.
        truth: (D,) index of that truth among all G if `iou` reaches the threshold, otherwise -1.
        hits: (D,) bool, the first detection of a truth that counts.
        ignored: (D,) bool, the detections of a truth that does not count.
        truth_image, truth_labels: (G,) each.
        truth_ignored: (G,) bool, difficult or crowd.
        found: (G,) bool, the truths with a hit.
    """

    image: Tensor
    labels: Tensor
    scores: Tensor
    iou: Tensor
    truth: Tensor
    hits: Tensor
    ignored: Tensor
    truth_image: Tensor
    truth_labels: Tensor
    truth_ignored: Tensor
    found: Tensor

    def positives(self, label: int) -> int:
        """Count the objects of a class that are to be found, difficult and crowd left out."""
        return int(((self.truth_labels == label) & ~self.truth_ignored).sum())

    def precision_recall(self, label: int) -> tuple[Tensor, Tensor]:
        """Give the curve of one class, over all images at once; see `evaluation.precision_recall`."""
        of_class = self.labels == label
        return precision_recall(
            self.scores[of_class], self.hits[of_class], self.positives(label), self.ignored[of_class]
        )

    def best_f1(self, label: int) -> tuple[float, float]:
        """Give the best F1 of one class and the least score that reaches it; see `evaluation.curves.best_f1`."""
        if not self.positives(label):
            return float("nan"), float("nan")
        counted = (self.labels == label) & ~self.ignored
        return best_f1(self.scores[counted].sort(descending=True).values, *self.precision_recall(label))


def match_detections(
    detections: Sequence[dict[str, Tensor]], targets: Sequence[dict[str, Tensor]], iou_threshold: float = 0.5
) -> MatchedDetections:
    """Decide for each detection whether it is a hit.

    A detection looks at one truth only, that of its class which it overlaps most (the first of several). It is
    a hit if their IoU reaches the threshold and no detection of higher score, or of the same score and earlier, took
    that truth before. If one did, it is a duplicate and counts as wrong, even where a second truth would have
    been free. If the truth is difficult or a crowd, the detection counts as neither.

    Args:
        detections: per image a dict of `boxes` (D, 4), `labels` (D,) and `scores` (D,).
        targets: per image a dict of `boxes` (N, 4), `labels` (N,) and, where there are any, `difficult` (N,) and
            `iscrowd` (N,).
        iou_threshold: the least IoU of a hit.
    Raises:
        ValueError: lists of different length, malformed dicts, a threshold outside (0, 1].
    Source: Everingham et al., The PASCAL Visual Object Classes Challenge, 2010, section 4.2, and the development kit.
    """
    check_iou_threshold(iou_threshold)
    return match(*gather(detections, targets), iou_threshold)


def match(detections: DetectedBoxes, truths: TrueBoxes, iou_threshold: float) -> MatchedDetections:
    """Do what `match_detections` does, on tables."""
    iou, truth = _best_truth(detections, truths)
    truth = truth.where(iou >= iou_threshold, -1)
    ignored = (truth >= 0) & truths.ignored[truth] if len(truths) else torch.zeros_like(truth, dtype=torch.bool)

    # of the detections of one truth, the hit is the one with the lowest rank
    rank = detections.scores.argsort(descending=True, stable=True).argsort()
    claims = ((truth >= 0) & ~ignored).nonzero()[:, 0]
    first = torch.full((len(truths),), len(rank)).scatter_reduce(0, truth[claims], rank[claims], "amin")
    hits = torch.zeros_like(ignored)
    hits[claims] = rank[claims] == first[truth[claims]]
    return MatchedDetections(
        image=detections.image,
        labels=detections.labels,
        scores=detections.scores,
        iou=iou,
        truth=truth,
        hits=hits,
        ignored=ignored,
        truth_image=truths.image,
        truth_labels=truths.labels,
        truth_ignored=truths.ignored,
        found=first < len(rank),
    )


def _best_truth(detections: Boxes, truths: Boxes) -> tuple[Tensor, Tensor]:
    """(D,) largest IoU with a truth of the same image and class, and (D,) the first truth that has it."""
    best = torch.zeros(len(detections), dtype=torch.float64)
    truth = torch.full((len(detections),), len(truths))
    for i, j, iou in pair_overlaps(detections, truths, same_label=True):
        best.scatter_reduce_(0, i, iou, "amax")
        top = iou == best[i]
        truth.scatter_reduce_(0, i[top], j[top], "amin")
    return best, truth
