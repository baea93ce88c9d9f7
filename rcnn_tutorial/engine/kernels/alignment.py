"""RoIAlign on a GPU: every number of the result is the mean of points that it interpolates itself.

`_means` is the forward pass. One program computes BLOCK numbers of one region: a number is the mean of one bin in one
channel. All bins of a region have the same size and the same number of points, so the program takes the first point of
all its bins at once, then the second, and so on. A point reads the four cells around it and weighs them.

`_spread` is the backward pass, the same walk in the other direction: a point adds its share of the gradient to the four
cells that it has read. Nearby points, and regions that overlap, meet in the same cells, hence the atomic addition. Both
kernels ask `_between` where a point lies, so that they cannot disagree.

What decides equality with torchvision: a point up to one cell outside the map takes the value at the border, one
further out counts as 0, and the mean is taken over all points. Without `aligned` a region is at least one cell long.
Half precision is read and written, but what lies between is float32. The order in which a GPU adds gradients is not
fixed, and so their last bits are not. Boxes get no gradient here: where they ask for one, `engine.bilinear` is used.
"""

# pyright: reportMissingImports=false, reportArgumentType=false, reportGeneralTypeIssues=false
# (Triton comes with torch on Linux alone, and what its compiler reads is not quite Python.)

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import cdiv

from rcnn_tutorial.engine.kernels.common import assigned, launch, quotient

BLOCK = 256  # numbers that a program computes


@triton.jit
def _means(
    maps, regions, values, channels, height, width, stride_n, stride_c, stride_y, stride_x,
    POINTS: tl.constexpr, ALIGNED: tl.constexpr,
    BINS_Y: tl.constexpr, BINS_X: tl.constexpr, CHANNELS_LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK numbers of one region."""
    r = tl.program_id(0).to(tl.int64)
    channel, bin_index, real = assigned(channels, BINS_Y * BINS_X, CHANNELS_LAST, BLOCK)
    region = regions + 5 * r  # index of the image, x1, y1, x2, y2 in cells
    left, bin_width, across = _bins(region + 1, bin_index % BINS_X, BINS_X, POINTS, ALIGNED)
    top, bin_height, down = _bins(region + 2, bin_index // BINS_X, BINS_Y, POINTS, ALIGNED)

    corner = maps + tl.load(region).to(tl.int64) * stride_n + channel * stride_c
    total = tl.zeros((BLOCK,), left.dtype)
    for i in range(down):
        y1, y2, above, below = _between(top, bin_height, i, down, height)
        for j in range(across):
            x1, x2, before, behind = _between(left, bin_width, j, across, width)
            met = real & (above + below > 0) & (before + behind > 0)  # points without a value read nothing
            total += above * before * tl.load(corner + y1 * stride_y + x1 * stride_x, mask=met, other=0)
            total += above * behind * tl.load(corner + y1 * stride_y + x2 * stride_x, mask=met, other=0)
            total += below * before * tl.load(corner + y2 * stride_y + x1 * stride_x, mask=met, other=0)
            total += below * behind * tl.load(corner + y2 * stride_y + x2 * stride_x, mask=met, other=0)
    place = (r * channels + channel) * (BINS_Y * BINS_X) + bin_index  # in the result (R, C, h, w)
    tl.store(values + place, total / tl.maximum(down * across, 1), mask=real)


@triton.jit
def _spread(
    total, regions, gradients, channels, height, width, stride_n, stride_c, stride_y, stride_x,
    POINTS: tl.constexpr, ALIGNED: tl.constexpr,
    BINS_Y: tl.constexpr, BINS_X: tl.constexpr, CHANNELS_LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program takes the gradients of BLOCK numbers of one region back to the cells of the map."""
    r = tl.program_id(0).to(tl.int64)
    channel, bin_index, real = assigned(channels, BINS_Y * BINS_X, CHANNELS_LAST, BLOCK)
    region = regions + 5 * r
    left, bin_width, across = _bins(region + 1, bin_index % BINS_X, BINS_X, POINTS, ALIGNED)
    top, bin_height, down = _bins(region + 2, bin_index // BINS_X, BINS_Y, POINTS, ALIGNED)

    place = (r * channels + channel) * (BINS_Y * BINS_X) + bin_index
    share = tl.load(gradients + place, mask=real, other=0).to(left.dtype) / tl.maximum(down * across, 1)
    corner = total + tl.load(region).to(tl.int64) * stride_n + channel * stride_c
    for i in range(down):
        y1, y2, above, below = _between(top, bin_height, i, down, height)
        for j in range(across):
            x1, x2, before, behind = _between(left, bin_width, j, across, width)
            met = real & (above + below > 0) & (before + behind > 0)
            tl.atomic_add(corner + y1 * stride_y + x1 * stride_x, above * before * share, mask=met, sem="relaxed")
            tl.atomic_add(corner + y1 * stride_y + x2 * stride_x, above * behind * share, mask=met, sem="relaxed")
            tl.atomic_add(corner + y2 * stride_y + x1 * stride_x, below * before * share, mask=met, sem="relaxed")
            tl.atomic_add(corner + y2 * stride_y + x2 * stride_x, below * behind * share, mask=met, sem="relaxed")


@triton.jit
def _bins(corner, i, BINS: tl.constexpr, POINTS: tl.constexpr, ALIGNED: tl.constexpr):
    """Of one axis of a region: where the bins i start (BLOCK,), how long a bin is, and how many points it has."""
    start, end = tl.load(corner), tl.load(corner + 2)
    if ALIGNED:  # the first cell's centre lies at 0.5
        start, end = start - 0.5, end - 0.5
        size = end - start
    else:
        size = tl.maximum(end - start, 1)
    length = quotient(size, tl.full((), BINS, size.dtype))
    # without a number: as many as a bin is cells long
    points = tl.full((), POINTS, tl.int32) if POINTS > 0 else tl.maximum(tl.ceil(length), 0).to(tl.int32)
    return start + i * length, length, points


@triton.jit
def _between(start, length, k, points, limit):
    """The two cells around point k of each bin, on an axis of `limit` cells, and their weights."""
    at = start + quotient((k + 0.5) * length, points.to(length.dtype))
    valued = (at >= -1) & (at <= limit)
    at = tl.clamp(at, 0, limit - 1)
    low = at.to(tl.int32)
    share = at - low
    return low, tl.minimum(low + 1, limit - 1), tl.where(valued, 1 - share, 0), tl.where(valued, share, 0)


@torch.library.custom_op("rcnn_tutorial::roi_means", mutates_args=())
def roi_means(maps: Tensor, regions: Tensor, height: int, width: int, points: int, aligned: bool) -> Tensor:
    """Pool every region into height x width means of interpolated points.

    Args:
        maps: (N, C, H, W) in any memory layout.
        regions: (R, 5) index of the image, x1, y1, x2, y2 in cells; of the map's type, at least float32.
        height, width: bins.
        points: of each bin on an axis; 0 or below for as many as a bin is cells long.
        aligned: whether the first cell's centre lies at 0.5 in `regions`, or at 0.
    Returns:
        (R, C, height, width), of the map's type.
    Raises:
        None: `roi_align` has checked.
    """
    values = maps.new_empty(len(regions), maps.shape[1], height, width)
    _walk(_means, maps, regions, values, points, aligned)
    return values


@roi_means.register_fake
def _(maps: Tensor, regions: Tensor, height: int, width: int, points: int, aligned: bool) -> Tensor:
    return maps.new_empty(len(regions), maps.shape[1], height, width)


@torch.library.custom_op("rcnn_tutorial::roi_means_backward", mutates_args=())
def roi_means_backward(gradients: Tensor, maps: Tensor, regions: Tensor, points: int, aligned: bool) -> Tensor:
    """Add the share of every gradient (R, C, h, w) to the cells of a map like `maps` that its mean was taken over."""
    total = torch.zeros_like(maps, dtype=regions.dtype)
    _walk(_spread, total, regions, gradients.contiguous(), points, aligned)
    return total.to(maps.dtype)


@roi_means_backward.register_fake
def _(gradients: Tensor, maps: Tensor, regions: Tensor, points: int, aligned: bool) -> Tensor:
    return torch.empty_like(maps)


def _walk(kernel, maps: Tensor, regions: Tensor, pooled: Tensor, points: int, aligned: bool) -> None:
    """Start the programs for all numbers of `pooled` (R, C, h, w)."""
    count, channels, height, width = pooled.shape
    grid = count, cdiv(channels * height * width, BLOCK)
    launch(
        kernel, grid, maps, regions, pooled, *maps.shape[1:], *maps.stride(),
        max(points, 0), aligned, height, width, maps.stride(1) == 1, BLOCK,
    )  # fmt: skip


def _remember(ctx, inputs, output) -> None:
    maps, regions, _, _, ctx.points, ctx.aligned = inputs
    ctx.save_for_backward(maps, regions)


def _backward(ctx, gradients: Tensor) -> tuple[Tensor | None, ...]:
    return roi_means_backward(gradients, *ctx.saved_tensors, ctx.points, ctx.aligned), None, None, None, None, None


roi_means.register_autograd(_backward, setup_context=_remember)
