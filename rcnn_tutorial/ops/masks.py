"""Masks cut to m x m cells and pasted back: what a mask branch is to predict, and which pixels its answer covers.

The branch predicts m x m cells for a region of any size. For the training the mask of the true object is cut to the
same cells, by RoIAlign on the mask itself. For a detection the cells are stretched over its box again, and every pixel
reads the four cells around its middle.

Where accuracy was lost: the middle of the first pixel lies at 0.5, and not at 0. Cells cut without that half pixel are
those of a mask beside the true one, and a box that is rounded to whole pixels before the paste moves all borders in it.
torchvision does both (`aligned=False`), and weights trained so are run so.
"""

import torch
from torch import Tensor

from rcnn_tutorial.engine.checks import expect, lifted, validate
from rcnn_tutorial.ops.boxes import Size
from rcnn_tutorial.ops.pooling import roi_align

MOST = 2**21  # pixels of masks that are computed at a time: 8 MB in float32, whatever their number


def cut_masks(masks: Tensor, boxes: Tensor, size: int, aligned: bool = True) -> Tensor:
    """Cut every mask to the cells of its box: a cell holds the share of it that the mask covers.

    Args:
        masks: (R, H, W) bool, or 0 and 1.
        boxes: (R, 4), pixels; each mask has its own. Beyond the picture a mask covers nothing.
        size: m, cells along each side of a box.
        aligned: whether the middle of the first pixel lies at 0.5. Otherwise it lies at 0, as in torchvision, and what
            is cut lies half a pixel to the lower right of the box.
    Returns:
        (R, m, m) in [0, 1], of the boxes' type.
    Raises:
        ValueError: other shapes, boxes that are none.
    Source: Mask R-CNN, section 3.1; the mean of the points of RoIAlign, as many as a cell is pixels long.
    """
    expect(masks.ndim == 3 and len(masks) == len(boxes), "masks", f"(R, H, W) of {len(boxes)} boxes", masks)
    parts = [boxes.new_zeros(0, size, size)]
    for part in _portions(masks):
        maps = masks[part, None].to(boxes.dtype)  # (r, 1, H, W), a map for each box
        index = torch.arange(len(maps), device=boxes.device, dtype=boxes.dtype)
        rois = torch.column_stack((index, boxes[part]))  # (r, 5)
        parts.append(roi_align(maps, rois, size, aligned=aligned)[:, 0].clamp(max=1))  # 1 + 1e-7 is no share
    return torch.cat(parts)


def paste_masks(
    masks: Tensor, boxes: Tensor, size: Size, aligned: bool = True, threshold: float | None = 0.5
) -> Tensor:
    """Stretch the cells of every mask over its box: a pixel reads the cells around its middle, bilinearly.

    Beyond the outer cells' middles the values fall to 0 within one cell, so that a mask may leave its box by half of
    one. The interpolation is one matrix for the rows and one for the columns: A M B^T.

    Args:
        masks: (R, m, m) probabilities.
        boxes: (R, 4), pixels.
        size: height and width of the picture.
        aligned: whether the box is taken as it is. Otherwise it is first grown by a cell on each side and then cut to
            whole pixels, as in torchvision.
        threshold: probability above which a pixel is inside; None for the probabilities themselves.
    Returns:
        (R, H, W) bool, or probabilities. They are computed in portions: beside the result there is little memory.
    Raises:
        ValueError: other shapes, boxes that are none.
    Source: Mask R-CNN, section 3.1, "Inference".
    """
    good = masks.ndim == 3 and len(masks) == len(boxes) and masks.shape[1] == masks.shape[2]
    expect(good, "masks", f"(R, m, m) of {len(boxes)} boxes", masks)
    masks, m = lifted(masks), masks.shape[1]
    middle = (boxes[:, 2:] + boxes[:, :2]) * 0.5
    half = (validate(boxes)[:, 2:] - boxes[:, :2]) * 0.5 * ((m + 2) / m)  # with a cell of zeros on each side
    start, end = middle - half, middle + half  # (R, 2) each: x and y
    if not aligned:
        start, end = start.trunc(), end.trunc() + 1
    result = masks.new_zeros(len(masks), *size, dtype=masks.dtype if threshold is None else torch.bool)
    for part in _portions(result):
        columns, rows = (_weights(start[part, i], end[part, i], m, size[1 - i]) for i in (0, 1))
        pasted = rows @ masks[part] @ columns.mT  # (r, H, m) (r, m, m) (r, m, W)
        result[part] = pasted if threshold is None else pasted > threshold
    return result


def _weights(start: Tensor, end: Tensor, m: int, pixels: int) -> Tensor:
    """How much each pixel (r, n) takes of each cell (.., m), of m + 2 between start and end the inner ones."""
    pixel, cell = (torch.arange(n, device=start.device, dtype=start.dtype) for n in (pixels, m))
    place = (pixel + 0.5 - start[:, None]) / (end - start)[:, None]  # (r, n), 0 at the start and 1 at the end
    distance = place[..., None] * (m + 2) - 1.5 - cell  # (r, n, m)
    return (1 - distance.abs()).clamp(min=0)


def _portions(masks: Tensor) -> list[slice]:
    """Parts of (R, H, W), each of about `MOST` numbers, or of one mask."""
    count = max(1, MOST // max(1, masks.shape[1] * masks.shape[2]))
    return [slice(i, i + count) for i in range(0, len(masks), count)]
