"""Non-maximum suppression one decision after the other, for a picture of each."""

from typing import NamedTuple

from torch import Tensor

from rcnn_tutorial.engine.checks import validate_scored
from rcnn_tutorial.ops.boxes import box_iou


class Step(NamedTuple):
    """One decision of `nms_steps`: box `box` is kept (`by` is None), or dropped by the kept box `by`."""

    box: int
    by: int | None
    iou: float


def nms_steps(boxes: Tensor, scores: Tensor, iou_threshold: float) -> list[Step]:
    """Tell every decision of `nms`: which box is kept, which is dropped, and by whom.

    Args:
        boxes: (N, 4), pixels.
        scores: (N,).
        iou_threshold: in [0, 1].
    Returns:
        One `Step` per box, by decreasing score; `iou` is the overlap with the kept box that drops it, or for a
        kept box its largest overlap with a box kept before (0 for the first).
    Raises:
        ValueError: as `nms`.
    Source: R-CNN, section 2.2.
    """
    validate_scored(boxes, scores, iou_threshold)
    iou = box_iou(boxes, boxes).double()  # torchvision too holds a float32 IoU against a float64 threshold
    steps: list[Step] = []
    for box in scores.argsort(descending=True, stable=True).tolist():
        kept = [step.box for step in steps if step.by is None]
        dropper = next((k for k in kept if iou[k, box] > iou_threshold), None)
        rivals = kept if dropper is None else [dropper]
        steps.append(Step(box, dropper, max((iou[k, box].item() for k in rivals), default=0.0)))
    return steps
