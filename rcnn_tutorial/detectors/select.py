"""From scored boxes to detections: what every detector of the series ends with."""

import torch
from torch import Tensor

from rcnn_tutorial.ops.boxes import clip_boxes_to_image
from rcnn_tutorial.ops.nms import batched_nms


def select(
    scores: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    nms_threshold: float,
    least_score: float,
    detections: int,
    least_side: float = 0.0,
) -> dict[str, Tensor]:
    """Clip the boxes of an image, suppress within each class, and keep the best.

    Args:
        scores: (R, K) of the K classes, background left out.
        boxes: (R, K, 4), or (R, 1, 4) where all classes share a box; pixels.
        size: height and width of the image, pixels.
        nms_threshold: IoU above which the lower scored of two boxes goes.
        least_score: only higher scores are returned.
        detections: most boxes returned.
        least_side: smaller boxes are dropped before NMS, pixels.
    Returns:
        `boxes` (D, 4), `labels` (D,) in 1 to K and `scores` (D,), best first. Boxes that clipping leaves without area
        are not among them.
    """
    k = scores.shape[1]
    boxes = clip_boxes_to_image(boxes, size).expand(-1, k, -1).reshape(-1, 4)  # (R, K, 4) -> (R K, 4)
    sides = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1)
    labels = torch.arange(1, k + 1, device=scores.device).repeat(len(scores))
    scores = scores.reshape(-1)
    likely = ((scores > least_score) & (sides > 0) & (sides >= least_side)).nonzero()[:, 0]
    kept = likely[batched_nms(boxes[likely], scores[likely], labels[likely], nms_threshold)][:detections]
    return {"boxes": boxes[kept], "labels": labels[kept], "scores": scores[kept]}
