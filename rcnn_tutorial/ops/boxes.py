"""Boxes: area, overlap, clipping, and the four offsets that move one box onto another.

A box is (x1, y1, x2, y2) in pixels; x2 and y2 are exclusive, so its width is x2 - x1.
"""

import math

import torch
from torch import Tensor

from rcnn_tutorial.engine.checks import expect, expect_boxes, lifted, validate
from rcnn_tutorial.engine.devices import constant

Size = tuple[int, int]  # height, width
Weights = tuple[float, float, float, float]  # of tx, ty, tw and th
MAX_LOG_GROWTH = math.log(1000 / 16)  # a decoded side grows at most 62.5 times: exp() cannot overflow


def box_area(boxes: Tensor) -> Tensor:
    """Compute the area of each box.

    Args:
        boxes: (..., 4), pixels.
    Returns:
        (...), square pixels; at least float32 or int32, so that boxes in half precision or small integers do not
        overflow.
    Raises:
        ValueError: not (..., 4).
    """
    validate(boxes)
    boxes = lifted(boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Compute the intersection over union of every pair.

    Args:
        boxes1: (..., N, 4), pixels.
        boxes2: (..., M, 4), pixels.
    Returns:
        (..., N, M) in [0, 1]; 0 for two boxes without area, where torchvision gives NaN.
    Raises:
        ValueError: not (..., N, 4) and (..., M, 4).
    Source: Everingham et al., The PASCAL Visual Object Classes Challenge, 2010, section 4.2.
    """
    for boxes in (boxes1, boxes2):
        expect(boxes.ndim >= 2, "boxes", "(N, 4) and (M, 4)", boxes)
        validate(boxes)
    boxes1, boxes2 = lifted(boxes1)[..., :, None, :], lifted(boxes2)[..., None, :, :]  # (..., N, 1, 4), (..., 1, M, 4)
    sides = (boxes[..., 2:] - boxes[..., :2] for boxes in (boxes1, boxes2))
    area, other_area = (side[..., 0] * side[..., 1] for side in sides)  # (..., N, 1) and (..., 1, M)
    left, top, right, bottom = boxes1.unbind(-1)
    other_left, other_top, other_right, other_bottom = boxes2.unbind(-1)
    # in place: of many pairs, new memory costs more than the numbers
    width = torch.minimum(right, other_right).sub_(torch.maximum(left, other_left))  # (..., N, M)
    height = torch.minimum(bottom, other_bottom).sub_(torch.maximum(top, other_top))
    inter = width.clamp_(min=0).mul_(height.clamp_(min=0))  # disjoint: two negative sides must not make an area
    del width, height
    union = (area + other_area).sub_(inter)
    return (inter / union).nan_to_num_(nan=0.0)


def clip_boxes_to_image(boxes: Tensor, size: Size) -> Tensor:
    """Cut off what lies outside the image.

    Args:
        boxes: (..., 4), pixels.
        size: height and width of the image, pixels.
    Returns:
        (..., 4) with 0 <= x <= width and 0 <= y <= height. A box wholly outside is left without area.
    Raises:
        ValueError: not (..., 4).
    """
    expect_boxes(boxes)
    height, width = size
    x = boxes[..., 0::2].clamp(0, width)
    y = boxes[..., 1::2].clamp(0, height)
    return torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), dim=-1)


def remove_small_boxes(boxes: Tensor, min_size: float) -> Tensor:
    """Find the boxes that are at least `min_size` wide and high.

    Args:
        boxes: (N, 4), pixels.
        min_size: pixels.
    Returns:
        (K,) int64, the indices of the boxes that stay, ascending.
    Raises:
        ValueError: not (N, 4).
    """
    expect_boxes(boxes, ndim=2)
    boxes = lifted(boxes)
    return ((boxes[:, 2:] - boxes[:, :2]) >= min_size).all(dim=1).nonzero()[:, 0]


def encode(boxes: Tensor, reference: Tensor, weights: Weights = (1, 1, 1, 1)) -> Tensor:
    """Compute the offsets that move `reference` onto `boxes`.

    Args:
        boxes: (..., 4) targets, pixels.
        reference: (..., 4) proposals or anchors, pixels.
        weights: each offset is multiplied by its weight; 1 / standard deviation gives targets of unit variance.
    Returns:
        (..., 4) offsets (tx, ty, tw, th); tx and ty in units of the reference's size, tw and th natural logarithms.
    Raises:
        ValueError: not (..., 4), or a box or a reference without area.
    Source: R-CNN, appendix C; Faster R-CNN, section 3.1.2, equation 2.
    """
    validate(boxes, "boxes", area=True)
    validate(reference, "reference", area=True)
    size, center = _size_and_center(boxes)
    reference_size, reference_center = _size_and_center(reference)
    offsets = torch.cat(((center - reference_center) / reference_size, torch.log(size / reference_size)), dim=-1)
    return offsets * constant(weights, offsets)


def decode(
    offsets: Tensor, reference: Tensor, weights: Weights = (1, 1, 1, 1), clamp: float | None = MAX_LOG_GROWTH
) -> Tensor:
    """Move `reference` by `offsets`: the inverse of `encode`.

    Args:
        offsets: (..., 4) offsets (tx, ty, tw, th); for K boxes per reference (N, K, 4).
        reference: (..., 4) proposals or anchors, pixels, of a shape that broadcasts: (N, 1, 4) for (N, K, 4).
        weights: those given to `encode`; each offset is divided by its weight.
        clamp: upper bound of tw and th after the weights, against overflow; None for none.
    Returns:
        (..., 4) boxes, pixels; not clipped to the image.
    Raises:
        ValueError: not (..., 4).
    Source: R-CNN, appendix C; Faster R-CNN, section 3.1.2, equation 2.
    """
    expect_boxes(offsets, "offsets")
    validate(reference, "reference")
    offsets = offsets / constant(weights, offsets)
    shift, growth = offsets[..., :2], offsets[..., 2:]
    if clamp is not None:
        growth = growth.clamp(max=clamp)
    size, center = _size_and_center(reference)
    center = center + shift * size
    half = 0.5 * torch.exp(growth) * size
    return torch.cat((center - half, center + half), dim=-1)


def _size_and_center(boxes: Tensor) -> tuple[Tensor, Tensor]:
    boxes = boxes if boxes.is_floating_point() else boxes.float()
    size = boxes[..., 2:] - boxes[..., :2]
    return size, boxes[..., :2] + 0.5 * size
