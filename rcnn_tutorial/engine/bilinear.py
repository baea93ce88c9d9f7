"""Means of bilinearly interpolated points of a map, differentiable in the map and in where the points lie.

And means of whole cells, for position-sensitive RoI pooling.

A bin's mean is a weighted sum of cells, and the weights are products: a point weighs two rows of the map on one axis
and two columns on the other. The cells of a bin are one bag of `F.embedding_bag`, which sums them without a copy.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Bytes of the sums made at a time. On a CPU they stay in the cache while they are transposed.
CPU_BYTES, GPU_BYTES = 2**20, 2**28


def bin_means(
    features: Tensor, image: Tensor, start: Tensor, size: Tensor, bins: tuple[int, int], points: int | Tensor
) -> Tensor:
    """Means over the bins of regions, each of points spread evenly.

    A point beyond the map by at most one cell has the value at its border, one further out 0.

    Args:
        features: (N, C, H, W); a cell's value lies at its index.
        image: (R,) int64 indices.
        start, size: (R, 2) of the regions, x and y, in cells.
        bins: h, w.
        points: of each bin on an axis; one number, or (R, 2) int64, x and y. A bin without points has the mean 0.
    Returns:
        (R, C, h, w), of the map's type.
    Raises:
        None: `roi_align` has checked.
    """
    count, (channels, height, width), (h, w) = len(image), features.shape[1:], bins
    if isinstance(points, int):
        across, down, wide, high = points, points, points, points
    else:
        across, down = points.clamp(min=1)[:, :, None, None].unbind(1)  # (R, 1, 1) each; 0 would make a gradient NaN
        # On a GPU this waits: the most points of any region decide how many get room.
        wide, high = F.pad(points, (0, 0, 0, 1)).amax(0).tolist()
    x, weights_x = _axis(start[:, 0], size[:, 0], w, across, wide, width)  # (R, w, 2 wide)
    y, weights_y = _axis(start[:, 1], size[:, 1], h, down, high, height)  # (R, h, 2 high)
    y = (image.int()[:, None, None] * height + y) * width
    if isinstance(points, int):
        cells = (y[:, :, None, :, None] + x[:, None, :, None, :]).flatten()  # (R * h * w * 4 points^2,)
        weights = (weights_y[:, :, None, :, None] * weights_x[:, None, :, None, :]).flatten()
        first = torch.arange(count * h * w, dtype=torch.int32, device=x.device) * (4 * points**2)
        lengths = [4 * points**2 * h * w] * count
    else:
        of_y, of_x, first, lengths = _entries(points, bins, 2 * high, 2 * wide)
        cells = y.flatten().index_select(0, of_y) + x.flatten().index_select(0, of_x)
        weights = weights_y.flatten().index_select(0, of_y) * weights_x.flatten().index_select(0, of_x)
    rows = features.permute(0, 2, 3, 1).flatten(0, 2).to(start.dtype).contiguous()  # (N * H * W, C)
    limit = CPU_BYTES if rows.device.type == "cpu" else GPU_BYTES
    step = max(1, limit // (rows.element_size() * max(1, channels) * h * w))
    pieces = [(min(step, count - r), sum(lengths[r : r + step])) for r in range(0, count, step)]
    return _BagSums.apply(rows, cells, weights, first, pieces, features.dtype).view(count, channels, h, w)


def cell_means(features: Tensor, image: Tensor, rectangles: Tensor) -> Tensor:
    """Means over the whole cells of rectangles: bags without weights.

    Args:
        features: (N, C, H, W).
        image: (M,) int64 indices.
        rectangles: (M, 4) int64 x1, y1, x2, y2 in cells, x2 and y2 exclusive, within the map.
    Returns:
        (M, C), in float32 at least. A rectangle without a cell gives 0.
    Raises:
        None: `ps_roi_pool` has checked.
    """
    (channels, height, width), (left, top, right, bottom) = features.shape[1:], rectangles.unbind(1)
    across = (right - left).clamp(min=0)
    length = across * (bottom - top).clamp(min=0)  # (M,)
    first = length.cumsum(0) - length
    of = torch.repeat_interleave(length)  # (E,); on a GPU this waits
    k = torch.arange(len(of), device=of.device) - first[of]
    cells = (image[of] * height + top[of] + k // across[of]) * width + left[of] + k % across[of]
    exact = torch.promote_types(features.dtype, torch.float32)
    rows = features.permute(0, 2, 3, 1).reshape(-1, channels).to(exact)  # (N, C, H, W) -> (N H W, C)
    return F.embedding_bag(cells, rows, first, mode="mean")


def _axis(start: Tensor, size: Tensor, n: int, points: int | Tensor, most: int, limit: int) -> tuple[Tensor, Tensor]:
    """Cells (R, n, 2 most) that n bins touch on an axis of `limit` cells, and their weights in the bins' means.

    Where `points` is not `most` but (R, 1, 1), only the first 2 `points` of the cells count.
    """
    length = (size / n)[:, None, None]
    i = torch.arange(n, device=start.device, dtype=start.dtype)[:, None]
    k = torch.arange(most, device=start.device, dtype=start.dtype)
    at = start[:, None, None] + i * length + (k + 0.5) * length / points  # (R, n, most)
    inside = (at >= -1) & (at <= limit)
    at = at.clamp(0, limit - 1)
    low = at.int().clamp(0, limit - 1)  # NaN, which is not looked for on a GPU, becomes a cell
    cells = torch.stack((low, (low + 1).clamp(max=limit - 1)), dim=-1)
    share = at - low
    weights = torch.stack((1 - share, share), dim=-1) * (inside.to(at.dtype) / points)[..., None]
    return cells.flatten(2), weights.flatten(2)


def _entries(points: Tensor, bins: tuple[int, int], high: int, wide: int) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Where the cells of each bag stand in (R, h, high) and in (R, w, wide), both (E,), one bag after the other.

    And where each bag begins (R * h * w,), and how many cells each region has.
    """
    h, w = bins
    across, down = (2 * points.int()).repeat_interleave(h * w, 0).unbind(1)  # (R * h * w,) each
    length = across * down
    first = length.cumsum(0, dtype=torch.int32) - length
    bag = torch.arange(len(length), dtype=torch.int32, device=points.device)
    row = bag // w  # of bins
    column = row // h * w + bag % w
    of = torch.repeat_interleave(length)  # (E,); on a GPU this waits
    begin, side, at_y, at_x = (x.index_select(0, of) for x in (first, across, row * high, column * wide))
    k = torch.arange(len(of), dtype=torch.int32, device=points.device) - begin
    j = k // side
    return at_y + j, at_x + k - j * side, first, (4 * h * w * points.prod(1)).tolist()


class _BagSums(torch.autograd.Function):
    """(R, C, bins) weighted sums of rows (M, C), of the bags `cells` and `weights` (E,), one after the other.

    `first` (R * bins,) is where the bags begin, `pieces` how many regions to take at a time and how many entries.
    """

    @staticmethod
    def forward(ctx, rows, cells, weights, first, pieces, dtype):
        ctx.save_for_backward(rows, cells, weights, first)
        ctx.pieces = pieces
        regions = sum(count for count, _ in pieces)
        sums = rows.new_empty(regions, rows.shape[1], len(first) // max(1, regions), dtype=dtype)
        for part, *bags in _split(sums, cells, weights, first, pieces):
            part.copy_(_sum(rows, *bags).view(len(part), -1, rows.shape[1]).transpose(1, 2))
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, cells, weights, begin = ctx.saved_tensors
        grad_rows, grad_weights = torch.zeros_like(rows), [weights[:0]]
        for part, c, w, first in _split(grad, cells, weights, begin, ctx.pieces):
            part = part.transpose(1, 2).flatten(0, 1).to(rows.dtype)  # (bags, C)
            if ctx.needs_input_grad[0] and rows.device.type == "cpu":  # the transposed sum
                lengths = first.diff(append=first.new_full((1,), len(c)))
                bag = torch.arange(len(first), device=c.device).repeat_interleave(lengths, output_size=len(c))
                size = len(rows), len(first)
                grad_rows.addmm_(torch.sparse_coo_tensor(torch.stack((c, bag)), w, size, check_invariants=False), part)
            elif ctx.needs_input_grad[0]:  # a GPU would wait while the sparse matrix is sorted
                grad_rows += _gradient(rows, part, lambda rows, bags=(c, w, first): _sum(rows, *bags))
            if ctx.needs_input_grad[2]:
                grad_weights.append(_gradient(w, part, lambda w, c=c, first=first: _sum(rows.detach(), c, w, first)))
        return grad_rows, None, torch.cat(grad_weights), None, None, None


def _split(
    regions: Tensor, cells: Tensor, weights: Tensor, first: Tensor, pieces: list[tuple[int, int]]
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Of each piece the regions, the cells and weights of its bags, and where each bag begins among them."""
    counts, entries = [count for count, _ in pieces], [entry for _, entry in pieces]
    bins, done = regions.shape[2], 0
    parts = regions.split(counts), cells.split(entries), weights.split(entries), first.split([bins * n for n in counts])
    for part, c, w, begin in zip(*parts, strict=True):
        yield part, c, w, begin - done
        done += len(c)


def _gradient(at: Tensor, grad: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        return torch.autograd.grad(of(at), at, grad)[0]


def _sum(rows: Tensor, cells: Tensor, weights: Tensor, first: Tensor) -> Tensor:
    return F.embedding_bag(cells, rows, first, mode="sum", per_sample_weights=weights)
