"""Maxima of rectangles of a map, with their gradient, in one of two ways.

Few cells: the first cell of every rectangle is read, then the second of every rectangle that has two, and so on. That
is as many steps as the largest rectangle has cells, each over many rectangles and all channels at once.

Many cells: the maxima of all windows of 1, 2, 4, ... by 1, 2, 4, ... cells are computed once, a sparse table; any
rectangle is the maximum of four of them, one in each corner, overlap allowed.

The backward pass needs the switch of each rectangle, the cell that won. So that a table's maximum finds it, the cells'
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
# What one more step over the rectangles costs, in cells read: the choice between the two ways.
STEP_COST = 100


def maxima(features: Tensor, image: Tensor, rectangles: Tensor) -> Tensor:
    """Find the largest number of each rectangle; of equal ones the first in row order gets the gradient.

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
    if _are_few(features, rectangles):
        return _cell_by_cell(features, image, rectangles, False)[0]
    return _from_tables(features, image, rectangles)


class _Maxima(torch.autograd.Function):
    """Maxima of rectangles that remember their switches."""

    @staticmethod
    def forward(ctx, features: Tensor, image: Tensor, rectangles: Tensor) -> Tensor:
        if _are_few(features, rectangles):
            values, switches = _cell_by_cell(features, image, rectangles, True)
            ctx.spare = features[0].numel(), 0
        else:
            places = torch.arange(features.numel(), dtype=torch.int32, device=features.device).view(features.shape)
            switches = _from_tables(features, image, rectangles, places)
            cells = F.pad(F.pad(features.flatten(), (0, 1)), (0, 1), value=_lowest(features))
            values = cells.index_select(0, switches.flatten()).view(switches.shape)
            ctx.spare = 0, 2
        ctx.save_for_backward(switches)
        ctx.shape = features.shape
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (switches,) = ctx.saved_tensors
        exact = torch.promote_types(grad.dtype, torch.float32)
        before, behind = ctx.spare  # places outside the map, where bins without a winner send their gradients
        total = grad.new_zeros(before + ctx.shape.numel() + behind, dtype=exact)
        total.index_add_(0, switches.flatten(), grad.flatten().to(exact))
        return total[before : len(total) - behind].view(ctx.shape).to(grad.dtype), None, None


def _lowest(features: Tensor) -> float:
    return max(LOWEST, torch.finfo(features.dtype).min)


def _are_few(features: Tensor, rectangles: Tensor) -> bool:
    """Whether to go cell by cell is less work than to make tables, on a CPU; a GPU would have to be waited for."""
    n, _, height, width = features.shape
    if features.device.type != "cpu" or not rectangles.numel() or features.numel() >= 2**23:  # float32 counts to 2^24
        return False
    sides = (rectangles[..., 2:] - rectangles[..., :2]).clamp(min=0).flatten(0, 1)  # (R * S, 2)
    area = sides[:, 0] * sides[:, 1]
    tables = math.prod(side.bit_length() for side in sides.amax(0).tolist()) * n * height * width
    few = int(area.sum()) + STEP_COST * int(area.max()) < tables + 4 * len(area)
    return few and bool(features.amin() > _lowest(features))  # neither NaN nor what counts as none


def _cell_by_cell(features: Tensor, image: Tensor, rectangles: Tensor, switch: bool) -> tuple[Tensor, Tensor]:
    """(R, C, S) maxima and, if `switch`, where they are: C * H * W to C * H * W + numel - 1, or less for nowhere."""
    (n, channels, height, width), (count, s) = features.shape, rectangles.shape[:2]
    cells = height * width
    rows = features.new_empty(n, cells, channels, dtype=torch.promote_types(features.dtype, torch.float32))
    for row, one in zip(rows, features.flatten(2), strict=True):  # each a matrix: torch transposes those faster
        row.copy_(one.t())
    rows = rows.flatten(0, 1)  # (N * H * W, C)
    rectangles, image = rectangles.flatten(0, 1).int(), image.int().repeat_interleave(s)  # (R * S, 4), (R * S,)
    sides = (rectangles[:, 2:] - rectangles[:, :2]).clamp(min=0)
    area, order = (sides[:, 0] * sides[:, 1]).sort(descending=True)
    first = (image * cells + rectangles[:, 1] * width + rectangles[:, 0])[order]
    shift = (image * ((channels - 1) * cells) + channels * cells)[order]  # from a row to its switch in channel 0
    across = sides[:, 0].clamp(min=1)[order]
    best, winner = rows.new_zeros(count * s, channels), rows.new_zeros(count * s if switch else 0, channels)
    piece = max(1, CPU_BYTES[1] // (rows.element_size() * max(1, channels)))
    values, ahead = rows.new_empty(2, min(piece, count * s), channels).unbind()
    for start in range(0, int((area > 0).sum()), piece):
        part = slice(start, start + piece)
        k = torch.arange(int(area[start]), dtype=torch.int32)[:, None]
        down = ((k + 0.5) / across[part]).int()
        places = first[part] + k + down * (width - across[part])  # (K, B), in row order
        numbers = (places + shift[part]).to(rows.dtype) if switch else places
        largest, last = best[part], winner[part]
        many, *counts = (k < area[part]).sum(1).tolist()
        torch.index_select(rows, 0, places[0, :many], out=largest[:many])
        if switch:
            last[:many] = numbers[0, :many, None]
        for many, place, number in zip(counts, places[1:], numbers[1:], strict=True):
            top = largest[:many]
            new = torch.index_select(rows, 0, place[:many], out=values[:many])
            if switch:  # numbers rise with k, so that of the last cell above all before it is the largest
                torch.maximum(
                    last[:many], torch.gt(new, top, out=ahead[:many]).mul_(number[:many, None]), out=last[:many]
                )
            torch.maximum(top, new, out=top)

    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))

    def in_order(x: Tensor, dtype: torch.dtype) -> Tensor:  # (R * S, C) -> (R, C, S)
        x = x.index_select(0, back).view(count, s, channels).transpose(1, 2)
        return torch.empty(x.shape, dtype=dtype).copy_(x)

    if switch:
        winner = in_order(winner.add_(torch.arange(channels, dtype=winner.dtype) * cells), torch.int32)
    return in_order(best, features.dtype), winner


def _from_tables(features: Tensor, image: Tensor, rectangles: Tensor, places: Tensor | None = None) -> Tensor:
    """(R, C, S) maxima, or the `places` (N, C, H, W) where they are: 0 to numel - 1, and two more.

    Place numel stands for a rectangle without a cell, numel + 1 for one of nothing but NaN.
    """
    (n, channels, height, width), (count, s) = features.shape, rectangles.shape[:2]
    rows, depth = _look_ups(image, rectangles, features.shape)
    dtype, item = (features.dtype, features.element_size()) if places is None else (torch.int32, 8)
    largest = features.new_empty(count, channels, s, dtype=dtype)
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
            largest[r : r + chunk, c : c + block] = best.view(-1, s, best.shape[1]).transpose(1, 2)
    return largest


def _look_ups(image: Tensor, rectangles: Tensor, shape: torch.Size) -> tuple[Tensor, tuple[int, int]]:
    """Rows (4, R * S) of the tables whose maximum is that of each rectangle, and how many tables (high, wide)."""
    n, _, height, width = shape
    x1, y1, x2, y2 = rectangles.flatten(0, 1).unbind(-1)  # (R * S,) each
    sides = torch.stack((y2 - y1, x2 - x1))
    empty = (sides <= 0).any(0)
    power = torch.frexp(sides.masked_fill(empty, 1).float()).exponent.long() - 1  # floor(log2)
    # The largest rectangle decides how many tables are made; on a GPU the map does, which need not be waited for.
    depth = (F.pad(power, (0, 1)).amax(1) + 1).tolist() if power.device.type == "cpu" else None
    high, wide = depth or (max(1, height).bit_length(), max(1, width).bit_length())
    table = (power[0] * wide + power[1]) * n + image.repeat_interleave(rectangles.shape[1])
    h, w = 1 << power
    rows = torch.stack([(table * height + y) * width + x for y in (y1, y2 - h) for x in (x1, x2 - w)])
    return rows.masked_fill(empty, high * wide * n * height * width), (high, wide)


def _tables(features: Tensor, places: Tensor | None, numel: int, depth: tuple[int, int]) -> Tensor:
    """(high * wide * N * H * W + 1, c) maxima of the windows of 2^i x 2^j cells at each place, of values or of keys.

    No rectangle asks for windows that reach beyond the map. The last row is for rectangles without a cell.
    """
    cells = features.permute(0, 2, 3, 1).contiguous()  # (N, H, W, c)
    lowest = _lowest(features)
    real = cells > lowest  # not so for NaN
    cells = torch.where(real, cells, lowest)
    if places is not None:
        cells = _keys(cells, torch.where(real, places.permute(0, 2, 3, 1), numel + 1))
    tables = cells.new_empty(math.prod(depth) * cells[..., 0].numel() + 1, cells.shape[3])
    tables[-1].fill_(0 if places is None else -numel)
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
