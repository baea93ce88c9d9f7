"""Anchors: the boxes from which a region proposal network starts, the same few at every cell of a map.

An anchor is a box in pixels of the network's input, not of the map. `*_anchors` give those of one cell, measured from
the cell's upper left corner; `anchor_grid` puts them at every cell. Their order: ratios outside, scales inside.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rcnn_tutorial.engine.checks import expect
from rcnn_tutorial.engine.devices import constant
from rcnn_tutorial.ops.boxes import Size


def exact_anchors(scales: Sequence[float], ratios: Sequence[float], stride: float) -> Tensor:
    """Make anchors of area scale^2 about the middle of a cell, as the paper describes them.

    Args:
        scales: square roots of the areas, pixels.
        ratios: height / width.
        stride: side of a cell, pixels.
    Returns:
        (R S, 4), pixels from the cell's corner.
    Raises:
        ValueError: a scale or ratio that is not above 0, or none.
    Source: Faster R-CNN, section 3.1.1.
    """
    return _about(_sides(scales, ratios), stride / 2)


def caffe_anchors(scales: Sequence[float], ratios: Sequence[float], stride: float) -> Tensor:
    """Make the anchors of the released Caffe code.

    It rounds the sides of a box as large as a cell, then multiplies them: 184 x 96 and not 181 x 90.5. Its corners
    belong to the box, so its x2 = 99 is 100 here; its table is often printed counting from 1.

    Args:
        scales, ratios, stride: as for `exact_anchors`; scales are multiples of the stride in that code.
    Returns:
        (R S, 4), pixels from the cell's corner.
    Raises:
        ValueError: a scale or ratio that is not above 0, or none.
    Source: Faster R-CNN, section 3.1.1; generate_anchors.py of its released code.
    """
    base = _sides([stride], ratios)[:, 0, 0].round()  # the height follows from the rounded width
    height = (base * torch.tensor(ratios, dtype=base.dtype)).round()
    cell = torch.stack((base, height), dim=1)  # (R, 2)
    factors = _sides(scales, [1.0])[0, :, 0] / stride
    return _about((cell[:, None] * factors[:, None]).flatten(0, 1), stride / 2)


def torchvision_anchors(scales: Sequence[float], ratios: Sequence[float], stride: float) -> Tensor:
    """Make the anchors of torchvision: corners rounded, halves to even, about the corner of a cell.

    Args:
        scales, ratios, stride: as for `exact_anchors`; the stride plays no part.
    Returns:
        (R S, 4), pixels from the cell's corner.
    Raises:
        ValueError: a scale or ratio that is not above 0, or none.
    Source: Faster R-CNN, section 3.1.1; torchvision's AnchorGenerator.
    """
    return _about(_sides(scales, ratios), 0.0).round()


ANCHORS = {"exact": exact_anchors, "caffe": caffe_anchors, "torchvision": torchvision_anchors}


def grid_size(size: Size, stride: int, ceil: bool = False) -> Size:
    """Compute height and width of the map of an image of this height and width, pixels.

    Args:
        size: height and width, pixels.
        stride: pixels, all of it by halvings.
        ceil: whether each halving rounds up, as Caffe's poolings do.
    Returns:
        Cells.
    Raises:
        ValueError: a stride that is no power of two.
    Source: Faster R-CNN, section 3.1.1.
    """
    expect(stride >= 1 and not stride & (stride - 1), "stride", "a power of two", stride)
    height, width = (-(-side // stride) if ceil else side // stride for side in size)
    return height, width


def anchor_grid(
    cell: Tensor, size: Size, stride: float | tuple[float, float], dtype: torch.dtype = torch.float32, device=None
) -> Tensor:
    """Lay the anchors of one cell over every cell of a map.

    Args:
        cell: (A, 4) those of one cell, pixels from its corner.
        size: height and width of the map, cells.
        stride: from one cell to the next, pixels; or two, down and across.
        dtype, device: of the result.
    Returns:
        (H W A, 4), pixels: row by row, cell by cell, the A of a cell together. They may reach beyond the image.
    Raises:
        ValueError: not (A, 4).
    Source: Faster R-CNN, sections 3.1 and 3.1.1.
    """
    expect(cell.ndim == 2 and cell.shape[1] == 4, "cell", "(A, 4)", cell)
    strides = stride if isinstance(stride, tuple) else (stride, stride)
    y, x = (step * torch.arange(n, dtype=dtype, device=device) for step, n in zip(strides, size, strict=True))
    corner = torch.stack(torch.meshgrid(x, y, indexing="xy") * 2, dim=-1)  # (H, W, 4)
    return (corner[:, :, None] + cell.to(corner, non_blocking=True)).flatten(0, 2)  # (H, W, A, 4) -> (H W A, 4)


def inside(boxes: Tensor, size: Tensor | Size) -> Tensor:
    """Tell which boxes do not cross the border of the image.

    Args:
        boxes: (..., N, 4), pixels.
        size: height and width, pixels; or (B, 2) of B images, for N boxes common to all of them.
    Returns:
        (..., N) bool, or (B, N).
    Raises:
        ValueError: not (..., N, 4).
    Source: Faster R-CNN, section 3.3.
    """
    expect(boxes.ndim >= 2 and boxes.shape[-1] == 4, "boxes", "(..., N, 4)", boxes)
    sizes = size if isinstance(size, Tensor) else constant(size, boxes)
    height, width = sizes[..., None, :].unbind(-1)  # (1,) or (B, 1)
    return (boxes[..., 0] >= 0) & (boxes[..., 1] >= 0) & (boxes[..., 2] <= width) & (boxes[..., 3] <= height)


def _sides(scales: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """(R, S, 2) width and height."""
    for name, values in (("scales", scales), ("ratios", ratios)):
        expect(len(values) > 0 and min(values) > 0, name, "numbers above 0", tuple(values))
    scale, root = torch.tensor(scales, dtype=torch.float32), torch.tensor(ratios, dtype=torch.float32).sqrt()[:, None]
    return torch.stack((1 / root * scale, root * scale), dim=-1)


def _about(sides: Tensor, center: float) -> Tensor:
    """(..., 2) widths and heights to (A, 4) boxes about (center, center)."""
    sides = sides.reshape(-1, 2)
    return torch.cat((-sides, sides), dim=1) / 2 + center
