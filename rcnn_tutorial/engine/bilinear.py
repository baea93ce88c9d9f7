"""Means of bilinearly interpolated points of a map, differentiable in the map and in where the points lie.

A bin's mean is a weighted sum of cells, and the weights are products: a point weighs two rows of the map on one axis
and two columns on the other. The cells of a bin are one bag of `F.embedding_bag`, which sums them without a copy.
"""

from collections.abc import Iterator

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
    channels, height, width = features.shape[1:]
    if isinstance(points, int):
        order, grids, counts = torch.arange(len(image), device=image.device), [[points, points]], [len(image)]
    else:
        distinct, group, counts = points.unique(dim=0, return_inverse=True, return_counts=True)
        # On a GPU this waits: regions with the same grid are computed together.
        order, grids, counts = group.argsort(stable=True), distinct.tolist(), counts.tolist()
    cells, weights = [image[:0].int()], [start[:0].flatten()]
    for regions, (across, down) in zip(order.split(counts), grids, strict=True):
        x, weights_x = _axis(start[regions, 0], size[regions, 0], bins[1], across, width)  # (r, w, 2 across)
        y, weights_y = _axis(start[regions, 1], size[regions, 1], bins[0], down, height)  # (r, h, 2 down)
        y = (image[regions].int()[:, None, None] * height + y) * width
        cells.append((y[:, :, None, :, None] + x[:, None, :, None, :]).flatten())  # (r * h * w * 4 down across,)
        weights.append((weights_y[:, :, None, :, None] * weights_x[:, None, :, None, :]).flatten())
    rows = features.permute(0, 2, 3, 1).flatten(0, 2).to(start.dtype).contiguous()  # (N * H * W, C)
    limit = CPU_BYTES if rows.device.type == "cpu" else GPU_BYTES
    step = max(1, limit // (rows.element_size() * max(1, channels) * bins[0] * bins[1]))
    groups = zip(counts, grids, strict=True)
    pieces = [(min(step, n - r), 4 * across * down) for n, (across, down) in groups for r in range(0, n, step)]
    entries = torch.cat(cells), torch.cat(weights)
    return _BagSums.apply(rows, *entries, order, pieces, bins[0] * bins[1], features.dtype).unflatten(2, bins)


def _axis(start: Tensor, size: Tensor, n: int, points: int, limit: int) -> tuple[Tensor, Tensor]:
    """Cells (R, n, 2 points) that n bins touch on an axis of `limit` cells, and their weights in the bins' means."""
    length = (size / n)[:, None, None]
    i = torch.arange(n, device=start.device, dtype=start.dtype)[:, None]
    k = torch.arange(points, device=start.device, dtype=start.dtype)
    at = start[:, None, None] + i * length + (k + 0.5) * length / points  # (R, n, points)
    inside = (at >= -1) & (at <= limit)
    at = at.clamp(0, limit - 1)
    low = at.int().clamp(0, limit - 1)  # NaN, which is not looked for on a GPU, becomes a cell
    cells = torch.stack((low, (low + 1).clamp(max=limit - 1)), dim=-1)
    share = at - low
    weights = torch.stack((1 - share, share), dim=-1) * (inside.to(at.dtype) / points)[..., None]
    return cells.flatten(2), weights.flatten(2)


class _BagSums(torch.autograd.Function):
    """(R, C, bins) weighted sums of rows (M, C), of the bags `cells` and `weights` (E,), one after the other.

    Those of region order[0] come first. `pieces` says how many regions to take at a time and how long their bags are.
    """

    @staticmethod
    def forward(ctx, rows, cells, weights, order, pieces, bins, dtype):
        ctx.save_for_backward(rows, cells, weights, order)
        ctx.pieces, ctx.bins = pieces, bins
        sums = rows.new_empty(len(order), rows.shape[1], bins, dtype=dtype)
        for regions, *bags in _split(order, cells, weights, pieces, bins):
            sums.index_copy_(0, regions, _sum(rows, *bags).unflatten(0, (-1, bins)).transpose(1, 2).to(dtype))
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, cells, weights, order = ctx.saved_tensors
        grad_rows, grad_weights = torch.zeros_like(rows), [weights[:0]]
        for regions, c, w, first in _split(order, cells, weights, ctx.pieces, ctx.bins):
            part = grad[regions].transpose(1, 2).flatten(0, 1).to(rows.dtype)  # (bags, C)
            if ctx.needs_input_grad[0]:  # the transposed sum
                bag = torch.arange(len(first), device=c.device).repeat_interleave(len(c) // len(first))
                size = len(rows), len(first)
                grad_rows.addmm_(torch.sparse_coo_tensor(torch.stack((c, bag)), w, size, check_invariants=False), part)
            if ctx.needs_input_grad[2]:
                with torch.enable_grad():
                    w = w.detach().requires_grad_()
                    grad_weights += torch.autograd.grad(_sum(rows.detach(), c, w, first), w, part)
        return grad_rows, None, torch.cat(grad_weights), None, None, None, None


def _split(order, cells, weights, pieces, bins) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Of each piece the regions (r,), the cells and weights of its bags, and where each bag begins (r * bins,)."""
    entries = [count * bins * length for count, length in pieces]
    parts = order.split([count for count, _ in pieces]), cells.split(entries), weights.split(entries)
    for regions, c, w, (count, length) in zip(*parts, pieces, strict=True):
        yield regions, c, w, torch.arange(count * bins, device=c.device, dtype=c.dtype) * length


def _sum(rows: Tensor, cells: Tensor, weights: Tensor, first: Tensor) -> Tensor:
    return F.embedding_bag(cells, rows, first, mode="sum", per_sample_weights=weights)
