"""From scored boxes to detections: what every detector of the series ends with."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rcnn_tutorial.engine.devices import grouped
from rcnn_tutorial.ops.boxes import clip_boxes_to_image
from rcnn_tutorial.ops.nms import nms_mask


def select(
    scores: Sequence[Tensor],
    boxes: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
    nms_threshold: float,
    least_score: float,
    detections: int,
    least_side: float = 0.0,
) -> list[dict[str, Tensor]]:
    """Clip the boxes of each image, suppress within each of its classes, and keep the best.

    All images go through together: a GPU is waited for twice, however many they are.

    Args:
        scores: (R_i, K) of each image for the K classes, background left out.
        boxes: (R_i, K, 4) of each image, or (R_i, 1, 4) where all classes share a box; pixels.
        sizes: height and width of each image, pixels.
        nms_threshold: IoU above which the lower scored of two boxes goes.
        least_score: only higher scores are returned.
        detections: most boxes returned of an image.
        least_side: smaller boxes are dropped before NMS, pixels.
    Returns:
        For each image `boxes` (D, 4), `labels` (D,) in 1 to K and `scores` (D,), best first. Boxes that clipping
        leaves without area are not among them.
    """
    image = torch.cat([torch.full_like(part[:, 0], i, dtype=torch.int64) for i, part in enumerate(scores)])  # (R,)
    probability, k = torch.cat(list(scores)), scores[0].shape[1]  # (R, K)
    clipped = torch.cat([clip_boxes_to_image(part, size) for part, size in zip(boxes, sizes, strict=True)])
    sides = (clipped[..., 2:] - clipped[..., :2]).amin(dim=-1)  # (R, K) or (R, 1)
    likely = (probability > least_score) & (sides > 0) & (sides >= least_side)
    row, column = likely.nonzero().unbind(dim=1)  # (S,) each; a GPU is waited for
    image, score, box = image[row], probability[row, column], clipped.expand(-1, k, -1)[row, column]
    kept = nms_mask(box, score, image * k + column, nms_threshold)
    owner = image.masked_fill(~kept, len(sizes))  # what was suppressed forms a last group
    order = score.argsort(descending=True, stable=True)
    by_image, counts = grouped(owner[order], len(sizes) + 1)  # in each the best first
    best = [part[:detections] for part in order[by_image].split(counts.tolist())[:-1]]  # waits again
    return [{"boxes": box[part], "labels": column[part] + 1, "scores": score[part]} for part in best]
