"""From scored boxes to detections: what every detector of the series ends with."""

import torch
from torch import Tensor

from rcnn_tutorial.ops.nms import batched_nms


def select(
    scores: Tensor,
    boxes: Tensor,
    image: Tensor,
    sizes: Tensor,
    nms_threshold: float,
    least_score: float,
    detections: int,
    shown: Tensor | None = None,
    least_side: float = 0.0,
) -> list[dict[str, Tensor]]:
    """Clip the boxes, suppress within each image and class, and keep the best.

    Args:
        scores: (R, K) of the K classes, background left out.
        boxes: (R, K, 4), or (R, 1, 4) where all classes share a box; pixels.
        image: (R,) int64, which image each row belongs to.
        sizes: (B, 2) height and width of each image, pixels.
        nms_threshold: IoU above which the lower scored of two boxes goes (RCNN-14).
        least_score: only higher scores are returned.
        detections: most boxes returned per image.
        shown: boxes of the same form, to be returned in place of those that NMS compares.
        least_side: smaller boxes are dropped before NMS, pixels.
    Returns:
        For each of the B images `boxes` (D, 4), `labels` (D,) in 1 to K and `scores` (D,), best first. Boxes that
        clipping leaves without area are not among them.
    """
    k = scores.shape[1]
    limit = sizes.to(boxes)[image][:, None, [1, 0, 1, 0]]  # (R, 1, 4)
    compared, shown = (
        each.expand(-1, k, -1).clamp(min=0).minimum(limit).reshape(-1, 4)  # (R, K, 4) -> (R K, 4)
        for each in (boxes, boxes if shown is None else shown)
    )
    labels = torch.arange(1, k + 1, device=scores.device).repeat(len(scores))
    image, scores = image.repeat_interleave(k), scores.reshape(-1)
    sides = (shown[:, 2:] - shown[:, :2]).amin(dim=1)
    likely = ((scores > least_score) & (sides > 0) & (sides >= least_side)).nonzero()[:, 0]
    compared, shown, labels, scores, image = (part[likely] for part in (compared, shown, labels, scores, image))
    kept = batched_nms(compared, scores, image * (k + 1) + labels, nms_threshold)
    found = []
    for i in range(len(sizes)):
        own = kept[image[kept] == i][:detections]
        found.append({"boxes": shown[own], "labels": labels[own], "scores": scores[own]})
    return found
