"""Non-maximum suppression in blocks: the greedy rule with its arithmetic in another order.

Boxes are taken in blocks, best scores first. The overlaps inside a block are one matrix, the rule runs over that matrix
alone, and what the block keeps is then held against all the boxes behind it at once. Only the small loop inside a block
is sequential. On a GPU where Triton works, `kernels.suppression` takes the same decisions instead.
"""

import numpy as np
import torch
from torch import Tensor

from rcnn_tutorial.engine import kernels


def survivors(boxes: Tensor, groups: Tensor | None, threshold: float, most: int | None = None) -> Tensor:
    """Mark the boxes that no better box of their group suppresses.

    Args:
        boxes: (N, 4) floats, pixels, sorted by decreasing score; where there are groups, within each.
        groups: (N,) integers in ascending order, or None for one group.
        threshold: a box is dropped where its IoU with a kept one is larger.
        most: of each group only the best so many survivors are asked for. Those behind them may stay unmarked.
    Returns:
        (N,) bool. The kernels do not wait for a GPU, the blocks do.
    Raises:
        None: `nms` and `nms_mask` have checked.
    """
    if kernels.usable(boxes) and len(boxes) <= kernels.MOST_BOXES:
        return kernels.survivors(boxes, groups, threshold)
    positions = _keep(boxes, groups, threshold, most)
    return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device).scatter(0, positions, True)


def _keep(boxes: Tensor, groups: Tensor | None, threshold: float, most: int | None = None) -> Tensor:
    """The positions (K,) of the boxes that stay, ascending."""
    # On a CPU the overlaps of a tile (256 x 1024 float32) stay in the cache; a GPU wants few, large pieces.
    block, tile = (256, 1024) if boxes.device.type == "cpu" else (1024, 65536)
    boxes = boxes.float() if boxes.dtype in (torch.float16, torch.bfloat16) else boxes
    threshold = _as_compared(threshold, boxes)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    rows = [boxes.t(), area[None]]
    if groups is not None:  # numbered 0, 1, 2, ... in their order
        rows.append((groups.diff(prepend=groups[:1]) != 0).cumsum(0).to(boxes.dtype)[None])
    left = torch.cat(rows)  # (5 or 6, N): x1, y1, x2, y2, area and group, each a contiguous row
    position = torch.arange(len(boxes), device=boxes.device)
    kept = [position[:0]]
    start, n = 0, len(boxes)
    last, count = None, 0  # the group in which the latest block ended, and its survivors so far
    while start < n:
        stop = min(start + block, n)
        # Boxes behind the last group of this block cannot be touched by it.
        end = n if groups is None else int(torch.searchsorted(left[5], left[5, stop - 1], right=True))
        head = left[:, start:stop]
        stays = _sequential(_iou(head, head) > threshold).to(boxes.device)
        kept.append(position[start:stop][stays])
        head = head[:, stays]
        if most is not None:
            group = 0 if groups is None else left[5, stop - 1].item()
            here = len(stays) if groups is None else int((head[5] == group).sum())
            last, count = group, here + (count if group == last else 0)
            if count >= most:  # what is left of this group need not be decided
                start = end
                continue
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
    """(R, C) IoU of the columns of a (5 or 6, R) and b (5 or 6, C) of `keep`; 0 between different groups.

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
    dropped, stays, packed, wide = 0, [], rows.tobytes(), rows.shape[1]
    for i in range(len(rows)):
        if not dropped >> i & 1:
            stays.append(i)
            dropped |= int.from_bytes(packed[i * wide : (i + 1) * wide], "little")
    return torch.tensor(stays)


def _as_compared(threshold: float, boxes: Tensor) -> float:
    """The threshold in the precision in which torchvision compares it."""
    single = np.float32(threshold)
    if boxes.device.type != "cpu":
        return float(single)  # its CUDA operator takes a float32, also for boxes in float64
    if boxes.dtype == torch.float64:
        return threshold
    # Its CPU operator compares in float64: the float32 next below the threshold is then the same test.
    return float(np.nextafter(single, np.float32(-1)) if float(single) > threshold else single)
