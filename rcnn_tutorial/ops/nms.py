"""Non-maximum suppression: of boxes that overlap too much, the one with the highest score stays.

The rule is greedy and sequential: take the best box left, drop what overlaps it, repeat. The fast form keeps the
rule and changes the order of the arithmetic. Boxes are taken in blocks, best scores first; the overlaps inside a
block are one matrix, the rule runs over that matrix alone, and what the block keeps is then held against all
the boxes behind it at once. Only the small loop inside a block is sequential.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rcnn_tutorial.ops.boxes import box_area, box_iou, validate


class Step(NamedTuple):
    """One decision of `nms_steps`: box `box` is kept (`by` is None), or dropped by the kept box `by`."""

    box: int
    by: int | None
    iou: float


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression; exactly torchvision's indices.

    Args:
        boxes: (N, 4), pixels.
        scores: (N,). Of equal scores the lower index goes first.
        iou_threshold: in [0, 1]; a box is dropped where its IoU with a kept one is larger.
    Returns:
        (K,) int64, indices of the kept boxes, by decreasing score.
    Raises:
        ValueError: other shapes, boxes that are none, a threshold outside [0, 1].
    Source: RCNN-14, X-02.
    """
    _validate(boxes, scores, iou_threshold)
    order = scores.argsort(descending=True, stable=True)
    return order[_greedy(boxes[order], None, iou_threshold)]


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`nms` within each group: boxes of different groups (classes, levels, images) never suppress each other.

    Args:
        boxes: (N, 4), pixels.
        scores: (N,).
        idxs: (N,) integers, the group of each box.
        iou_threshold: in [0, 1].
    Returns:
        (K,) int64, indices of the kept boxes of all groups, by decreasing score.
    Raises:
        ValueError: as `nms`; `idxs` not (N,).
    Source: RCNN-14, X-02.
    """
    _validate(boxes, scores, iou_threshold)
    if idxs.shape != scores.shape:
        raise ValueError(f"idxs: expected {tuple(scores.shape)}, one group per box, got {tuple(idxs.shape)}")
    by_score = scores.argsort(descending=True, stable=True)
    groups, by_group = idxs[by_score].sort(stable=True)  # groups in a row, by score within each
    kept = by_group[_greedy(boxes[by_score[by_group]], groups, iou_threshold)]
    return by_score[kept.sort().values]


def nms_steps(boxes: Tensor, scores: Tensor, iou_threshold: float) -> list[Step]:
    """The same algorithm, one decision at a time, written as it is told.

    Args:
        boxes: (N, 4), pixels.
        scores: (N,).
        iou_threshold: in [0, 1].
    Returns:
        One `Step` per box, by decreasing score; `iou` is the overlap with the kept box that drops it, or for a
        kept box its largest overlap with a box kept before (0 for the first).
    Raises:
        ValueError: as `nms`.
    Source: X-02.
    """
    _validate(boxes, scores, iou_threshold)
    iou = box_iou(boxes, boxes).double()  # torchvision too holds a float32 IoU against a float64 threshold
    kept: list[int] = []
    steps = []
    for box in scores.argsort(descending=True, stable=True).tolist():
        dropper = next((k for k in kept if iou[k, box] > iou_threshold), None)
        if dropper is None:
            overlap = max((iou[k, box].item() for k in kept), default=0.0)
            kept.append(box)
        else:
            overlap = iou[dropper, box].item()
        steps.append(Step(box, dropper, overlap))
    return steps


def _greedy(boxes: Tensor, groups: Tensor | None, threshold: float) -> Tensor:
    """Positions kept, of boxes (N, 4) that come sorted by score, within ascending `groups` where there are any."""
    # On a CPU the overlaps of a tile (256 x 1024 float32) stay in the cache; a GPU wants few, large pieces.
    block, tile = (256, 1024) if boxes.device.type == "cpu" else (1024, 65536)
    boxes = boxes.float() if boxes.dtype in (torch.float16, torch.bfloat16) else boxes
    threshold = _as_compared(threshold, boxes)
    rows = [boxes.t(), box_area(boxes)[None]]
    if groups is not None:  # numbered 0, 1, 2, ... in their order
        rows.append((groups.diff(prepend=groups[:1]) != 0).cumsum(0).to(boxes.dtype)[None])
    left = torch.cat(rows)  # (5 or 6, N): x1, y1, x2, y2, area and group, each a contiguous row
    position = torch.arange(len(boxes), device=boxes.device)
    kept = [position[:0]]
    start, n = 0, len(boxes)
    while start < n:
        stop = min(start + block, n)
        # Boxes behind the last group of this block cannot be touched by it.
        end = n if groups is None else int(torch.searchsorted(left[5], left[5, stop - 1], right=True))
        head = left[:, start:stop]
        stays = _sequential(_iou(head, head) > threshold).to(boxes.device)
        kept.append(position[start:stop][stays])
        head = head[:, stays]
        # per box behind the block, its highest IoU with a kept one
        highest = [_iou(head, left[:, i : min(i + tile, end)]).amax(0) for i in range(stop, end, tile)]
        start = end
        if highest:  # move the survivors up against the boxes of later groups
            survivors = (~(torch.cat(highest) > threshold)).nonzero()[:, 0] + stop
            start = end - len(survivors)
            left[:, start:end] = left[:, survivors]
            position[start:end] = position[survivors]
    return torch.cat(kept)


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """(R, C) IoU of the columns of a (5 or 6, R) and b (5 or 6, C) of `_greedy`; 0 between different groups.

    Two boxes without area give NaN, two that are apart may give a negative number; neither is above any threshold.
    """
    width = torch.minimum(a[2, :, None], b[2]).sub_(torch.maximum(a[0, :, None], b[0])).clamp_(min=0)
    height = torch.minimum(a[3, :, None], b[3]).sub_(torch.maximum(a[1, :, None], b[1]))
    inter = width.mul_(height)
    union = (a[4, :, None] + b[4]).sub_(inter)
    if len(a) == 6:  # times 1 in the same group, else 0; arithmetic, since comparisons are slower
        inter.mul_((a[5, :, None] - b[5]).abs_().neg_().add_(1).clamp_(min=0))
    return inter.div_(union)


def _sequential(over: Tensor) -> Tensor:
    """The greedy rule on a block: (B, B) bool, who overlaps whom, to the (K,) positions that stay."""
    # This is the part that cannot be parallel. A row of the matrix becomes one long integer, and "drop all that
    # this box overlaps" one OR. From a GPU it is the only copy to the host, one per 1,024 boxes.
    rows = np.packbits(over.cpu().numpy(), axis=1, bitorder="little")
    dropped, stays = 0, []
    for i, row in enumerate(rows):
        if not dropped >> i & 1:
            stays.append(i)
            dropped |= int.from_bytes(row.tobytes(), "little")
    return torch.tensor(stays)


def _as_compared(threshold: float, boxes: Tensor) -> float:
    """The threshold in the precision in which torchvision compares it."""
    if boxes.dtype == torch.float64:
        return threshold
    single = np.float32(threshold)
    if boxes.device.type == "cpu" and float(single) > threshold:
        # Its CPU operator compares in float64: the float32 next below the threshold is then the same test.
        single = np.nextafter(single, np.float32(-1))
    return float(single)


def _validate(boxes: Tensor, scores: Tensor, iou_threshold: float) -> None:
    if boxes.ndim != 2 or not boxes.is_floating_point():
        raise ValueError(f"boxes: expected floats of shape (N, 4), got {boxes.dtype} {tuple(boxes.shape)}")
    validate(boxes)
    if scores.shape != boxes.shape[:1]:
        raise ValueError(f"scores: expected ({len(boxes)},), one per box, got {tuple(scores.shape)}")
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold: expected a number in [0, 1], got {iou_threshold}")
