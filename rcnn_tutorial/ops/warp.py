"""Windows of an image, each with some context, stretched to one size: what R-CNN's network looks at.

The stretch is anisotropic: a window twice as wide as high becomes a square, and so does everything in it. The box
itself does not fill the square. It is grown first, such that `context` pixels of the result lie on each side of it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnn_tutorial.engine.checks import expect, validate

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB in [0, 1]
Colour = float | Sequence[float] | Tensor  # one number, or one for each channel


def dilate(boxes: Tensor, context: float = 16, size: float = 227) -> Tensor:
    """Grow boxes about their centres so that `context` pixels surround them once they are warped to `size`.

    Args:
        boxes: (..., 4), pixels.
        context: pixels of the warped window on each side of the box.
        size: sides of the warped window, pixels.
    Returns:
        (..., 4) boxes, each side size / (size - 2 context) times as long; not clipped to the image.
    Raises:
        ValueError: not (..., 4), or a context that leaves no room for the box.
    Source: R-CNN, appendix A.
    """
    validate(boxes)
    expect(0 <= 2 * context < size, "context", f"0 <= 2 * context < size = {size}", context)
    grown = size / (size - 2 * context)
    center = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = (boxes[..., 2:] - boxes[..., :2]) / 2 * grown
    return torch.cat((center - half, center + half), dim=-1)


def warp(image: Tensor, boxes: Tensor, size: int = 227, context: float = 16, fill: Colour = IMAGENET_MEAN) -> Tensor:
    """Stretch every box, with its context, to a square.

    All windows are one `grid_sample`. It is bilinear and does not smooth first, so a window that shrinks a lot skips
    pixels, as in R-CNN's code. That code rounds the grown box to whole pixels; here nothing is rounded: the box itself
    ends at exactly [context, size - context) of the result, wherever it lies.

    The result takes R * 3 * size^2 numbers and the work three times that; hand over `boxes.split(n)` to bound it.

    Args:
        image: (3, H, W).
        boxes: (R, 4), pixels.
        size: sides of the result, pixels.
        context: pixels of the result on each side of the box.
        fill: of what lies outside the image; the paper takes the mean.
    Returns:
        (R, 3, size, size) in the order of the boxes, of the image's type; computed in float32 at least.
    Raises:
        ValueError: other shapes or types, a box without area, a context that is too large.
    Source: R-CNN, section 2.1 and appendix A.
    """
    expect(image.ndim == 3 and image.is_floating_point(), "image", "floats of shape (3, H, W)", image)
    expect(boxes.ndim == 2, "boxes", "(R, 4)", boxes)
    exact = torch.promote_types(image.dtype, torch.float32)
    colour = torch.as_tensor(fill, dtype=exact, device=image.device)
    expect(colour.ndim <= 1 and colour.numel() in (1, len(image)), "fill", f"one number or {len(image)}", colour)
    colour = colour.reshape(-1, 1, 1)
    windows = dilate(validate(boxes, area=True).to(exact), context, size)
    return _stretch(image.to(exact) - colour, windows, size).add_(colour).to(image.dtype)


def _stretch(image: Tensor, windows: Tensor, size: int) -> Tensor:
    """(R, 3, size, size) of one image (3, H, W) and windows (R, 4) on it; 0 outside the image."""
    steps = (torch.arange(size, device=image.device, dtype=image.dtype) + 0.5) / size
    low, side = windows[:, :2], windows[:, 2:] - windows[:, :2]
    x, y = (low[..., None] + side[..., None] * steps).unbind(1)  # (R, size) each
    x, y = _normalised(x, image.shape[2]), _normalised(y, image.shape[1])
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)  # (R, size, size, 2)
    grid = grid.reshape(1, -1, size, 2)  # one tall picture of all windows: the image is not repeated
    stacked = F.grid_sample(image[None], grid, align_corners=False)[0]  # (3, R * size, size)
    return stacked.unflatten(1, (len(windows), size)).transpose(0, 1).contiguous()


def _normalised(place: Tensor, length: int) -> Tensor:
    """Pixels as `grid_sample` counts them, -1 and 1 at the image's borders.

    Inside the image nothing beyond the centre of the outermost pixel is asked for, outside nothing near it: the
    zeros that surround the image do not blend into it.
    """
    inside = (place >= 0) & (place < length)
    return torch.where(inside, 2 * place.clamp(0.5, length - 0.5) / length - 1, 3.0)
