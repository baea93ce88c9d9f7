"""Non-maximum suppression: of boxes that overlap too much, the one with the highest score stays.

R-CNN applies it to the scored regions of each class (section 2.2), Faster R-CNN to the proposals of its RPN as well
(section 3.3). The rule is greedy: keep the best box left, drop what overlaps a kept one by more than a threshold, go on
with the next. The papers set the threshold per detector, 0.3 for classes and 0.7 for proposals.

What is done otherwise here: the loop below runs only with RCNN_PLAIN=1. Otherwise `engine.nms` makes the same decisions
in blocks of boxes, and on a GPU `engine.kernels` with masks of bits, because a loop over 6,000 proposals takes seconds.
Boxes of several classes, levels or images go through in one call, `batched_nms`.

Where equality with torchvision was lost: of equal scores the lower index must go first, so the sort is stable, since
another order keeps other boxes wherever scores are whole steps. The IoU of two float32 boxes is compared with a
threshold in float64 on a CPU and in float32 on a GPU: an IoU of exactly 0.7 decides differently. torchvision separates
the groups by moving their boxes apart, which rounds the coordinates and mixes groups where coordinates are negative;
here groups are numbers of their own. Half precision has too few digits for an area, so overlaps are float32.
"""

import torch
from torch import Tensor

from rcnn_tutorial.engine import plain
from rcnn_tutorial.engine.checks import expect, validate_scored
from rcnn_tutorial.engine.nms import survivors
from rcnn_tutorial.ops.boxes import box_iou


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Keep the best of every crowd of overlapping boxes; on a CPU the indices are exactly torchvision's.

    On a GPU only a pair of boxes whose IoU lies within 1e-6 of the threshold may be decided otherwise than on a CPU or
    by torchvision: there the threshold is a float32, and torchvision's kernel rounds a product and a sum in one step.

    Args:
        boxes: (N, 4), pixels.
        scores: (N,). Of equal scores the lower index goes first.
        iou_threshold: in [0, 1]; a box is dropped where its IoU with a kept one is larger.
    Returns:
        (K,) int64, indices of the kept boxes, by decreasing score.
    Raises:
        ValueError: other shapes, boxes that are none, a threshold outside [0, 1].
    Source: R-CNN, section 2.2; Faster R-CNN, section 3.3.
    """
    validate_scored(boxes, scores, iou_threshold)
    order = scores.argsort(descending=True, stable=True)
    if not plain():
        return order[survivors(boxes[order], None, iou_threshold)]
    kept = [order[:0]]
    while len(order):
        best, order = order[:1], order[1:]
        kept.append(best)
        overlap = box_iou(boxes[best], boxes[order])[0].double()
        order = order[overlap <= iou_threshold]
    return torch.cat(kept)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Apply `nms` within each group: boxes of different groups (classes, levels, images) never suppress each other.

    Args:
        boxes: (N, 4), pixels.
        scores: (N,).
        idxs: (N,) integers, the group of each box.
        iou_threshold: in [0, 1].
    Returns:
        (K,) int64, indices of the kept boxes of all groups, by decreasing score.
    Raises:
        ValueError: as `nms`; `idxs` not (N,).
    Source: R-CNN, section 2.2; Faster R-CNN, section 3.3.
    """
    kept = nms_mask(boxes, scores, idxs, iou_threshold).nonzero()[:, 0]
    return kept[scores[kept].argsort(descending=True, stable=True)]


def nms_mask(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float, most: int | None = None) -> Tensor:
    """Tell which boxes `batched_nms` keeps: how many they are would make a GPU wait, a mask does not.

    Args:
        boxes, scores, idxs, iou_threshold: as for `batched_nms`.
        most: where only the best so many kept boxes of each group are asked for, the mask may leave out others.
    Returns:
        (N,) bool.
    Raises:
        ValueError: as `batched_nms`.
    """
    validate_scored(boxes, scores, iou_threshold)
    expect(idxs.shape == scores.shape, "idxs", f"{tuple(scores.shape)}, one group per box", idxs)
    mask = torch.zeros_like(scores, dtype=torch.bool)
    if plain():
        for group in idxs.unique():
            members = (idxs == group).nonzero()[:, 0]
            mask[members[nms(boxes[members], scores[members], iou_threshold)]] = True
        return mask
    order = scores.argsort(descending=True, stable=True)
    groups, by_group = idxs[order].sort(stable=True)
    order = order[by_group]  # groups in a row, by score within each
    return mask.scatter(0, order, survivors(boxes[order], groups, iou_threshold, most))
