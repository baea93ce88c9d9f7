"""Maxima of rectangles of a map, with their gradient.

Those of all windows of 1, 2, 4, ... by 1, 2, 4, ... cells are computed once; any rectangle is the maximum of four of
them, one in each corner, overlap allowed.

The backward pass needs the switch of each rectangle, the cell that won. So that the maximum finds it, the cells'
values are replaced by distinct integers, which sort by value first and by place second.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

LOWEST = torch.finfo(torch.float32).min
# Bytes of the tables made at a time and of the maxima looked up at a time. On a CPU both stay in the cache.
CPU_BYTES, GPU_BYTES = (2**22, 2**19), (2**30, 2**28)


def maxima(features: Tensor, image: Tensor, rectangles: Tensor) -> Tensor:
    """Maxima of rectangles; of equal maxima the first in row order gets the gradient.

    Args:
        features: (N, C, H, W), fewer than 2^31 - 1 numbers.
        image: (R,) int64 indices.
        rectangles: (R, S, 4) int64 x1, y1, x2, y2 in cells, x2 and y2 exclusive, within the map.
    Returns:
        (R, C, S). A rectangle without a cell gives 0, one of nothing but NaN the lowest float32.
    Raises:
        None: `roi_pool` and `spatial_pyramid_pool` have checked.
    """
    if features.requires_grad and torch.is_grad_enabled():
        return _Maxima.apply(features, image, rectangles)
    return _search(features, image, rectangles)


class _Maxima(torch.autograd.Function):
    """Maxima of rectangles that remember their switches."""

    @staticmethod
    def forward(ctx, features: Tensor, image: Tensor, rectangles: Tensor) -> Tensor:
        places = torch.arange(features.numel(), dtype=torch.int32, device=features.device).view(features.shape)
        switches = _search(features, image, rectangles, places)
        ctx.save_for_backward(switches)
        ctx.shape = features.shape
        values = F.pad(features.flatten(), (0, 2))
        values[-1] = max(LOWEST, torch.finfo(features.dtype).min)
        return values.index_select(0, switches.flatten()).view(switches.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (switches,) = ctx.saved_tensors
        exact = torch.promote_types(grad.dtype, torch.float32)
        total = grad.new_zeros(ctx.shape.numel() + 2, dtype=exact)
        total.index_add_(0, switches.flatten(), grad.flatten().to(exact))
        return total[:-2].view(ctx.shape).to(grad.dtype), None, None


def _search(features: Tensor, image: Tensor, rectangles: Tensor, places: Tensor | None = None) -> Tensor:
    """(R, C, S) maxima, or the `places` (N, C, H, W) where they are: 0 to numel - 1, and two more.

    Place numel stands for a rectangle without a cell, numel + 1 for one of nothing but NaN.
    """
    (n, channels, height, width), (count, s) = features.shape, rectangles.shape[:2]
    rows, depth = _look_ups(image, rectangles, features.shape)
    dtype, item = (features.dtype, features.element_size()) if places is None else (torch.int32, 8)
    found = features.new_empty(count, channels, s, dtype=dtype)
    tables_bytes, piece_bytes = CPU_BYTES if features.device.type == "cpu" else GPU_BYTES
    block = max(1, min(channels, tables_bytes // max(1, item * math.prod(depth) * n * height * width)))
    chunk = max(1, piece_bytes // (item * block * s))
    for c in range(0, channels, block):
        part = slice(c, c + block)
        tables = _tables(features[:, part], None if places is None else places[:, part], features.numel(), depth)
        for r in range(0, count, chunk):
            corners = rows[:, r * s : (r + chunk) * s]
            best = tables.index_select(0, corners[0])  # (r * S, c)
            for corner in corners[1:]:
                torch.maximum(best, tables.index_select(0, corner), out=best)
            best = best if places is None else best.neg_()  # the lower half of a key is minus its place
            found[r : r + chunk, c : c + block] = best.view(-1, s, best.shape[1]).transpose(1, 2)
    return found


def _look_ups(image: Tensor, rectangles: Tensor, shape: torch.Size) -> tuple[Tensor, tuple[int, int]]:
    """Rows (4, R * S) of the tables whose maximum is that of each rectangle, and how many tables (high, wide)."""
    n, _, height, width = shape
    x1, y1, x2, y2 = rectangles.flatten(0, 1).unbind(-1)  # (R * S,) each
    sides = torch.stack((y2 - y1, x2 - x1))
    empty = (sides <= 0).any(0)
    power = torch.frexp(sides.masked_fill(empty, 1).float()).exponent.long() - 1  # floor(log2)
    # On a GPU this waits: the largest rectangle decides how many tables are made, and most maps need few.
    high, wide = (power.amax(1) + 1).tolist() if power.numel() else (1, 1)
    table = (power[0] * wide + power[1]) * n + image.repeat_interleave(rectangles.shape[1])
    h, w = 1 << power
    rows = torch.stack([(table * height + y) * width + x for y in (y1, y2 - h) for x in (x1, x2 - w)])
    return rows.masked_fill(empty, high * wide * n * height * width), (high, wide)


def _tables(features: Tensor, places: Tensor | None, numel: int, depth: tuple[int, int]) -> Tensor:
    """(high * wide * N * H * W + 1, c) maxima of the windows of 2^i x 2^j cells at each place, of values or of keys.

    No rectangle asks for windows that reach beyond the map. The last row is for rectangles without a cell.
    """
    cells = features.permute(0, 2, 3, 1).contiguous()  # (N, H, W, c)
    lowest = max(LOWEST, torch.finfo(cells.dtype).min)
    real = cells > lowest  # not so for NaN
    cells = torch.where(real, cells, lowest)
    if places is not None:
        cells = _keys(cells, torch.where(real, places.permute(0, 2, 3, 1), numel + 1))
    tables = cells.new_empty(math.prod(depth) * cells[..., 0].numel() + 1, cells.shape[3])
    tables[-1] = 0 if places is None else -numel
    grid = tables[:-1].view(*depth, *cells.shape)  # (high, wide, N, H, W, c)
    grid[0, 0] = cells
    for i in range(1, depth[0]):
        half, h = grid[i - 1, 0], 2 ** (i - 1)
        torch.maximum(half[:, :-h], half[:, h:], out=grid[i, 0, :, :-h])
    for j in range(1, depth[1]):
        half, w = grid[:, j - 1], 2 ** (j - 1)
        torch.maximum(half[:, :, :, :-w], half[:, :, :, w:], out=grid[:, j, :, :, :-w])
    return tables


def _keys(cells: Tensor, places: Tensor) -> Tensor:
    """Integers that sort as the cells do, of equal cells the one with the lower place above."""
    if cells.dtype == torch.float64:  # too wide to share an integer with its place; on a GPU this waits
        order = torch.unique(cells, return_inverse=True)[1]
    else:  # the bits of a float sort as integers do, those of a negative one backwards
        bits = (cells.float() + 0.0).view(torch.int32)  # + 0.0: -0.0 becomes 0.0
        order = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return order.long().bitwise_left_shift_(32).sub_(places)
