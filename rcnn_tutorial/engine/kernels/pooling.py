"""RoI pooling on a GPU: every number of the result looks for its own maximum.

`_largest` is the forward pass. One program computes BLOCK numbers of one region: a number is the maximum of one bin in
one channel. It reads the region, rounds its borders to cells, cuts it into bins, and then walks over the cells of all
its bins at once: first the upper left cell of each, then the cell to the right of it, and so on in row order. A bin
that is smaller than the largest one sits out the steps that it does not need. Nothing is shared between programs, and
a cell that lies in several regions is read again for each; the cache makes that cheap.

Beside each maximum the program writes its switch, the place in the map where it was found. `_send_back` is the backward
pass and needs nothing else: one program takes BLOCK gradients and adds each to the place that its switch names. Two
regions may name the same cell at the same time, hence the atomic addition.

What decides equality with torchvision: halves are rounded away from zero, both borders belong to the region, and bins
are cut in the type of the boxes. A cell counts only if it is larger than what was found before, so the first of equal
maxima wins, and NaN never does. A bin without a cell gives 0, one of nothing but NaN the lowest float32. The order in
which a GPU adds gradients is not fixed, and so their last bits are not.
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
LOWEST = torch.finfo(torch.float32).min


@triton.jit
def _largest(
    maps, regions, values, switches, channels, height, width, stride_n, stride_c, stride_y, stride_x, lowest,
    BINS_Y: tl.constexpr, BINS_X: tl.constexpr, CHANNELS_LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK numbers of one region."""
    r = tl.program_id(0).to(tl.int64)
    channel, bin_index, real = assigned(channels, BINS_Y * BINS_X, CHANNELS_LAST, BLOCK)
    region = regions + 5 * r  # index of the image, x1, y1, x2, y2 in cells
    image = tl.load(region).to(tl.int64)
    x1, x2 = _cut(tl.load(region + 1), tl.load(region + 3), bin_index % BINS_X, BINS_X, width)  # (BLOCK,) each
    y1, y2 = _cut(tl.load(region + 2), tl.load(region + 4), bin_index // BINS_X, BINS_Y, height)

    corner = maps + image * stride_n + channel * stride_c
    best = tl.zeros((BLOCK,), regions.dtype.element_ty) + lowest
    switch = tl.full((BLOCK,), -1, tl.int32)
    for down in range(tl.max(y2 - y1)):
        for right in range(tl.max(x2 - x1)):
            y, x = y1 + down, x1 + right
            inside = real & (y < y2) & (x < x2)
            cell = tl.load(corner + y * stride_y + x * stride_x, mask=inside, other=0).to(best.dtype)
            larger = inside & (cell > best)
            best = tl.where(larger, cell, best)
            switch = tl.where(larger, y * width + x, switch)

    best = tl.where((y1 < y2) & (x1 < x2), best, 0)
    plane = (image * channels + channel) * height * width  # switches count through the whole map
    place = (r * channels + channel) * (BINS_Y * BINS_X) + bin_index  # in the result (R, C, h, w)
    tl.store(values + place, best, mask=real)
    tl.store(switches + place, tl.where(switch >= 0, plane + switch, -1), mask=real)


@triton.jit
def _cut(first, last, i, BINS: tl.constexpr, limit):
    """Bin i of the cells `first` to `last`, which are not rounded yet: its first cell, and the one behind its last."""
    first, last = _nearest(first), _nearest(last)
    length = quotient(tl.maximum(last - first + 1, 1), tl.full((), BINS, first.dtype))
    low, high = tl.floor(i * length) + first, tl.ceil((i + 1) * length) + first
    return tl.clamp(low, 0, limit).to(tl.int32), tl.clamp(high, 0, limit).to(tl.int32)


@triton.jit
def _nearest(x):
    """The nearest whole number, and of a half the one further from zero."""
    whole = tl.where(x < 0, tl.ceil(x), tl.floor(x))
    return whole + tl.where(tl.abs(x - whole) >= 0.5, tl.where(x < 0, -1, 1), 0)


@triton.jit
def _send_back(gradients, switches, total, n, BLOCK: tl.constexpr):
    """One program adds BLOCK gradients to the cells that their maxima came from."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    switch = tl.load(switches + k, mask=k < n, other=-1)
    gradient = tl.load(gradients + k, mask=k < n, other=0)
    tl.atomic_add(total + switch, gradient.to(total.dtype.element_ty), mask=switch >= 0, sem="relaxed")


@torch.library.custom_op("rcnn_tutorial::roi_maxima", mutates_args=())
def roi_maxima(maps: Tensor, regions: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Pool every region into height x width maxima, and tell where each was found.

    Args:
        maps: (N, C, H, W) in any memory layout.
        regions: (R, 5) index of the image, x1, y1, x2, y2 in cells, not rounded; of the map's type, at least float32.
        height, width: bins.
    Returns:
        Maxima (R, C, height, width) of the map's type, and their switches, int32: a place in the flat map, or -1.
    Raises:
        None: `roi_pool` has checked.
    """
    values, switches = _empty(maps, regions, height, width)
    channels, last = maps.shape[1], maps.stride(1) == 1
    grid = len(regions), cdiv(channels * height * width, BLOCK)
    lowest = max(LOWEST, torch.finfo(maps.dtype).min)
    launch(
        _largest, grid, maps, regions, values, switches, *maps.shape[1:], *maps.stride(), lowest,
        height, width, last, BLOCK,
    )  # fmt: skip
    return values, switches


def _empty(maps: Tensor, regions: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    values = maps.new_empty(len(regions), maps.shape[1], height, width)
    return values, torch.empty_like(values, dtype=torch.int32)


roi_maxima.register_fake(_empty)


@torch.library.custom_op("rcnn_tutorial::roi_maxima_backward", mutates_args=())
def roi_maxima_backward(gradients: Tensor, switches: Tensor, shape: list[int]) -> Tensor:
    """Add every gradient to the place of the map (N, C, H, W) that its switch names."""
    exact = torch.promote_types(gradients.dtype, torch.float32)
    total = gradients.new_zeros(shape, dtype=exact)
    n = gradients.numel()
    launch(_send_back, (cdiv(n, BLOCK),), gradients.contiguous(), switches, total, n, BLOCK)
    return total.to(gradients.dtype)


@roi_maxima_backward.register_fake
def _(gradients: Tensor, switches: Tensor, shape: list[int]) -> Tensor:
    return gradients.new_empty(shape)


def _remember(ctx, inputs, output) -> None:
    ctx.save_for_backward(output[1])
    ctx.shape = list(inputs[0].shape)


def _backward(ctx, gradients: Tensor, _) -> tuple[Tensor, None, None, None]:
    return roi_maxima_backward(gradients, *ctx.saved_tensors, ctx.shape), None, None, None


roi_maxima.register_autograd(_backward, setup_context=_remember)
