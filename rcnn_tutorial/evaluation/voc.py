"""Average precision as PASCAL VOC defines it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from rcnn_tutorial.evaluation.curves import average_precision
from rcnn_tutorial.evaluation.inputs import check_iou_threshold, check_labels, gather
from rcnn_tutorial.evaluation.matching import match


@dataclass(frozen=True)
class VocAP:
    """Average precision per class; `print` shows it as a table.

    Attributes:
        ap: class name to AP, NaN for a class without objects.
        objects: class name to how many objects count.
        iou_threshold: the least IoU of a hit.
        method: "all" or "11", see `average_precision`.
    """

    ap: dict[str, float]
    objects: dict[str, int]
    iou_threshold: float
    method: str

    @property
    def map(self) -> float:
        """Average over the classes that have objects; NaN if none has."""
        values = [value for value in self.ap.values() if not math.isnan(value)]
        return sum(values) / len(values) if values else math.nan

    def __str__(self) -> str:
        rows = [(name, self.objects[name], self.ap[name]) for name in self.ap]
        rows.append(("mean", sum(self.objects.values()), self.map))
        width = max(len("class"), *(len(name) for name, _, _ in rows))
        points = {"all": "all points", "11": "11 points"}[self.method]
        lines = [f"{'class':<{width}}  objects     AP", *(f"{n:<{width}}  {k:7d}  {ap:5.3f}" for n, k, ap in rows)]
        return "\n".join([*lines, f"(IoU {self.iou_threshold:g}, {points})"])


def voc_ap(
    detections: Sequence[dict[str, Tensor]],
    targets: Sequence[dict[str, Tensor]],
    classes: Sequence[str],
    iou_threshold: float = 0.5,
    method: str = "all",
) -> VocAP:
    """Compute VOC's average precision of every class: one ranking per class over all images.

    Args:
        detections: per image a dict of `boxes` (D, 4), `labels` (D,) and `scores` (D,).
        targets: per image a dict of `boxes` (N, 4), `labels` (N,) and, where there are any, `difficult` (N,) and
            `iscrowd` (N,): such objects need not be found, and finding them costs nothing.
        classes: name of each label; classes[0] is the background.
        iou_threshold: the least IoU of a hit.
        method: "all" or "11", see `average_precision`.
    Raises:
        ValueError: lists of different length, malformed dicts, a label that has no class, a threshold outside (0, 1].
    Source: Everingham et al., The PASCAL Visual Object Classes Challenge, 2010, section 4.2.
    """
    check_iou_threshold(iou_threshold)
    detected, truths = gather(detections, targets)
    check_labels(detected, classes, "detections")
    check_labels(truths, classes, "targets")
    matches = match(detected, truths, iou_threshold)
    ap, objects = {}, {}
    for label, name in enumerate(classes[1:], start=1):
        objects[name] = matches.positives(label)
        precision, recall = matches.precision_recall(label)
        ap[name] = average_precision(recall, precision, method) if objects[name] else math.nan
    return VocAP(ap, objects, iou_threshold, method)
