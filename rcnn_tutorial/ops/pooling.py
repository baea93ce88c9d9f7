"""Pooling of windows into a fixed number of bins: the spatial pyramid of SPPnet, RoI pooling, RoIAlign.

And position-sensitive pooling, of R-FCN, whose bins each read maps of their own.

A fully connected layer wants one length, a window of a map has any size. SPPnet (section 2.2) takes the maxima of n x n
bins for several n, Fast R-CNN (section 2.1) of one n, 7 for VGG16, and sends gradients back through the cells that won
(section 2.3). Mask R-CNN (section 3) rounds nothing: RoIAlign averages points interpolated between cells. R-FCN
(section 2) has a map of scores for each place in a region: its upper left bin reads the map that learns upper left
corners. So nothing needs to be learned behind the pooling.

What is done otherwise here: `_maxima`, `_means` and `_averages` are the rules, loops over bins and over regions. They
run with RCNN_PLAIN=1; otherwise `engine.maxima` and `engine.bilinear` do the same for all bins at once, and on a GPU
`engine.kernels` for the pooling and the alignment of regions.
RoIAlign gives the boxes a gradient too, which torchvision's does not.

Where equality with torchvision was lost: halves round away from zero, not to even, or a border moves by one cell. A
region's last cell belongs to it. Bins are cut in the boxes' floating-point type: 57 cells into 7 bins end at cell 58 in
float32. Of equal maxima, which after a ReLU are many, the first in row order gets the whole gradient; `amax` would
share it. `aligned` moves every region by half a cell: a detector is run with the setting it was trained with.
Position-sensitive RoI pooling leaves a region's last cell out, and never reads the map's last row and column.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnn_tutorial.engine import kernels, plain
from rcnn_tutorial.engine.bilinear import bin_means, cell_means
from rcnn_tutorial.engine.checks import as_rois, expect, height_and_width, is_count, validate_map, validate_windows
from rcnn_tutorial.engine.maxima import LOWEST, maxima
from rcnn_tutorial.ops.boxes import Size

Regions = Tensor | Sequence[Tensor]  # (R, 5) with the image's index first, or a list of (R_i, 4); pixels
Bins = int | Size  # (h, w), or one number for both


def spatial_pyramid_pool(features: Tensor, levels: Sequence[int], windows: Tensor | None = None) -> Tensor:
    """Pool every window into grids of n x n bins, one grid for each n in `levels`: one length for every size.

    Bin i of a side of a cells is [floor(i a / n), ceil((i + 1) a / n)): no bin is empty, every cell is in one, and
    where n does not divide a, neighbours share cells. These are the bins of `F.adaptive_max_pool2d` too.

    Args:
        features: (B, C, H, W).
        levels: the n of each level, such as (4, 2, 1).
        windows: (R, 5) integers: image's index, x1, y1, x2, y2 in cells, x2 and y2 exclusive; None for whole maps.
    Returns:
        (R, C * sum n^2), or B rows for whole maps: level after level, each a flat (C, n, n). NaN and ties are
        treated as in `roi_pool`, and so is the gradient.
    Raises:
        ValueError: other shapes or types, a level below 1, a window without a cell or beyond its map.
    Source: SPPnet, section 2.2.
    """
    validate_map(features, "features")
    expect(len(levels) > 0 and all(map(is_count, levels)), "levels", "whole numbers of at least 1", levels)
    if windows is None:
        windows = F.pad(torch.arange(len(features), device=features.device)[:, None], (0, 4))  # (B, 5)
        windows[:, 3], windows[:, 4] = features.shape[3], features.shape[2]
    validate_windows(windows, features)
    image, corner, size = windows[:, 0], windows[:, None, 1:3], windows[:, None, 3:] - windows[:, None, 1:3]
    bins = []
    for n in levels:
        i = torch.arange(n, device=features.device)[:, None]
        low, high = corner + i * size // n, corner - (-(i + 1) * size // n)  # (R, n, 2) each: x and y
        bins.append(_grid(low[..., 0], low[..., 1], high[..., 0], high[..., 1]))
    pooled = _maxima(features, image, torch.cat(bins, dim=1))  # (R, C, sum n^2)
    return torch.cat([level.flatten(1) for level in pooled.split([n * n for n in levels], dim=2)], dim=1)


def roi_pool(input: Tensor, boxes: Regions, output_size: Bins, spatial_scale: float = 1.0) -> Tensor:
    """Pool every region of interest to one size; values and gradients of torchvision's.

    A region's borders are rounded to whole cells, halves away from zero, and both belong to it. It is cut into
    h x w bins as in `spatial_pyramid_pool`, but in floating point, as torchvision does: for a few sizes (57 cells
    into 7 in float32) a bin is one cell longer. The part of a bin that lies outside the map does not count.

    Cells that are NaN are passed over. A bin of nothing else gives the lowest float32, one without a cell 0; both
    have no gradient. Of equal maxima the first in row order gets the gradient. The boxes get none.

    Args:
        input: (N, C, H, W).
        boxes: (R, 5) with the image's index first, or a list of N (R_i, 4); pixels.
        output_size: bins (h, w), or one number for both.
        spatial_scale: cells per pixel, such as 1 / 16.
    Returns:
        (R, C, h, w), of the input's type. Half-precision boxes are scaled and cut in float32.
    Raises:
        ValueError: other shapes or types, a coordinate that is not finite, an index of no image.
    Source: Fast R-CNN, sections 2.1 and 2.3.
    """
    validate_map(input, "input")
    height, width = height_and_width(output_size)
    rois = as_rois(boxes, input)
    if kernels.usable(input):
        return kernels.roi_pool(input, rois, (height, width), spatial_scale)
    cells = _rounded(rois[:, 1:].detach() * spatial_scale)
    x1, x2 = _cut(cells[:, 0], cells[:, 2], width, input.shape[3], rois.dtype)
    y1, y2 = _cut(cells[:, 1], cells[:, 3], height, input.shape[2], rois.dtype)
    return _maxima(input, rois[:, 0].long(), _grid(x1, y1, x2, y2)).unflatten(2, (height, width))


def roi_align(
    input: Tensor,
    boxes: Regions,
    output_size: Bins,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Average every region of interest to one size without rounding; values and gradients of torchvision's.

    A region is cut into h x w equal bins. Each gives the mean of points spread evenly over it, s x s of them, whose
    values are interpolated between the four cells around. A point beyond the map by at most one cell takes the value
    at its border, one further out counts as 0.

    The boxes get a gradient too, where they require one; torchvision gives them none. There is no second derivative.

    Args:
        input: (N, C, H, W).
        boxes: (R, 5) with the image's index first, or a list of N (R_i, 4); pixels.
        output_size: bins (h, w), or one number for both.
        spatial_scale: cells per pixel, such as 1 / 16.
        sampling_ratio: s; 0 or below for as many as a bin is cells long, rounded up, on each axis and in each region.
        aligned: whether the first cell's centre lies at 0.5, as the first pixel's does. Otherwise it lies at 0, and
            a region shorter than one cell is taken to be one long.
    Returns:
        (R, C, h, w), of the input's type. Half precision is computed in float32.
    Raises:
        ValueError: other shapes or types, a coordinate that is not finite, an index of no image.
    Source: Mask R-CNN, section 3.
    """
    validate_map(input, "input")
    height, width = height_and_width(output_size)
    expect(isinstance(sampling_ratio, int), "sampling_ratio", "a whole number", sampling_ratio)
    rois = as_rois(boxes, input)
    if kernels.usable(input) and not rois.requires_grad:
        return kernels.roi_align(input, rois, (height, width), spatial_scale, sampling_ratio, aligned)
    start, end = (rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)).split(2, dim=1)
    size = end - start if aligned else (end - start).clamp(min=1)  # (R, 2): x and y
    length = (size / size.new_tensor([width, height])).detach()  # of a bin
    points = sampling_ratio if sampling_ratio > 0 else length.ceil().long().clamp(min=0)
    return (_means if plain() else bin_means)(input, rois[:, 0].long(), start, size, (height, width), points)


def ps_roi_pool(input: Tensor, boxes: Regions, output_size: Bins, spatial_scale: float = 1.0) -> Tensor:
    """Average the cells of every bin of a region, each bin from maps of its own; torchvision's values.

    Borders are rounded as in `roi_pool`, and bins are cut as there, but the cell at a region's right and lower border
    does not belong to it: 2 to 4 are two cells. Bins end before the last row and column of the map, as in torchvision,
    whose gradient nevertheless goes there too; here it goes to the cells that were read. A bin without a cell gives 0.
    The boxes get no gradient.

    Args:
        input: (N, C h w, H, W); bin (i, j) of output channel c reads channel (c h + i) w + j.
        boxes: (R, 5) with the image's index first, or a list of N (R_i, 4); pixels.
        output_size: bins (h, w), or one number for both.
        spatial_scale: cells per pixel, such as 1 / 16.
    Returns:
        (R, C, h, w), of the input's type. Half precision is computed in float32.
    Raises:
        ValueError: other shapes or types, channels that are no multiple of h w, a coordinate that is not finite, an
            index of no image.
    Source: Dai et al., R-FCN: Object Detection via Region-based Fully Convolutional Networks, section 2, equation 1.
    """
    rois, maps, image, bins = _by_bin(input, boxes, output_size)
    cells = _rounded(rois[:, 1:].detach() * spatial_scale)
    x1, x2 = _cut(cells[:, 0], cells[:, 2] - 1, bins[1], input.shape[3] - 1, rois.dtype)
    y1, y2 = _cut(cells[:, 1], cells[:, 3] - 1, bins[0], input.shape[2] - 1, rois.dtype)
    rectangles = _grid(x1, y1, x2, y2).flatten(0, 1)  # (R h w, 4)
    pooled = (_averages if plain() else cell_means)(maps, image, rectangles)  # (R h w, C)
    return pooled.to(input.dtype).view(len(rois), *bins, maps.shape[1]).permute(0, 3, 1, 2).contiguous()


def ps_roi_align(
    input: Tensor, boxes: Regions, output_size: Bins, spatial_scale: float = 1.0, sampling_ratio: int = -1
) -> Tensor:
    """Average points of every bin of a region, each bin from maps of its own; values and gradients of torchvision's.

    The points are those of `roi_align` where it is `aligned`: what `ps_roi_pool` is to `roi_pool`, without rounding.
    The boxes get a gradient too, where they require one; torchvision gives them none. A bin without points gives 0,
    and in torchvision NaN.

    Args:
        input: (N, C h w, H, W); bin (i, j) of output channel c reads channel (c h + i) w + j.
        boxes, output_size, spatial_scale, sampling_ratio: as for `roi_align`.
    Returns:
        (R, C, h, w), of the input's type. Half precision is computed in float32.
    Raises:
        ValueError: as `roi_align`, and channels that are no multiple of h w.
    Source: R-FCN, section 2, equation 1, with the points of Mask R-CNN, section 3.
    """
    expect(isinstance(sampling_ratio, int), "sampling_ratio", "a whole number", sampling_ratio)
    rois, maps, image, (height, width) = _by_bin(input, boxes, output_size)
    start, end = (rois[:, 1:] * spatial_scale - 0.5).split(2, dim=1)
    size = ((end - start) / rois.new_tensor([width, height]))[:, None]  # of a bin, (R, 1, 2): x and y
    size = size.expand(-1, height * width, 2)
    place = torch.arange(height * width, device=rois.device)
    start = start[:, None] + torch.stack((place % width, place // width), dim=1) * size  # (R, h w, 2)
    start, size = start.flatten(0, 1), size.flatten(0, 1)
    points = sampling_ratio if sampling_ratio > 0 else size.detach().ceil().long().clamp(min=0)
    pooled = (_means if plain() else bin_means)(maps, image, start, size, (1, 1), points)  # (R h w, C, 1, 1)
    return pooled.view(len(rois), height, width, maps.shape[1]).permute(0, 3, 1, 2).contiguous()


def _maxima(features: Tensor, image: Tensor, rectangles: Tensor) -> Tensor:
    """(R, C, S) maxima of rectangles (R, S, 4), x1, y1, x2, y2 in cells; 0 where there is no cell."""
    if not plain():
        return maxima(features, image, rectangles)
    lowest = max(LOWEST, torch.finfo(features.dtype).min)
    features = torch.where(features > lowest, features, lowest)  # passes NaN over
    pooled = [features[:0, :, 0, 0]]
    for number, corners in zip(image.tolist(), rectangles.tolist(), strict=True):
        for x1, y1, x2, y2 in corners:
            cells = features[number, :, y1:y2, x1:x2].flatten(1)  # (C, cells)
            # to the first of equal cells goes the gradient; `amax` would share it
            largest = cells.max(1).values if cells.shape[1] else features.new_zeros(len(cells))
            pooled.append(largest[None])
    return torch.cat(pooled).unflatten(0, rectangles.shape[:2]).transpose(1, 2).contiguous()  # (R S, C) -> (R, C, S)


def _means(features: Tensor, image: Tensor, start: Tensor, size: Tensor, bins: Size, points: int | Tensor) -> Tensor:
    """(R, C, h, w) means over the bins of regions, as `bin_means` documents them."""
    exact = features.to(start.dtype)
    pooled = [exact[:0, :, :1, :1].expand(-1, -1, *bins)]
    for r, number in enumerate(image.tolist()):
        across, down = (points, points) if isinstance(points, int) else points[r].tolist()
        n_x, n_y = bins[1] * across, bins[0] * down
        if n_x and n_y:
            x = start[r, 0] + (torch.arange(n_x).to(start) + 0.5) * size[r, 0] / n_x
            y = start[r, 1] + (torch.arange(n_y).to(start) + 0.5) * size[r, 1] / n_y
            pooled.append(F.avg_pool2d(_interpolate(exact[number], y, x)[None], (down, across)))
        else:
            pooled.append(exact.new_zeros(1, len(exact[0]), *bins))
    return torch.cat(pooled).to(features.dtype)


def _averages(features: Tensor, image: Tensor, rectangles: Tensor) -> Tensor:
    """(M, C) means over the cells of rectangles (M, 4), x1, y1, x2, y2 in cells; 0 where there is no cell."""
    exact = features.to(torch.promote_types(features.dtype, torch.float32))
    pooled = [exact[:0, :, 0, 0]]
    for number, (x1, y1, x2, y2) in zip(image.tolist(), rectangles.tolist(), strict=True):
        cells = exact[number, :, y1:y2, x1:x2].flatten(1)  # (C, cells)
        pooled.append((cells.mean(1) if cells.shape[1] else exact.new_zeros(len(cells)))[None])
    return torch.cat(pooled)


def _by_bin(input: Tensor, boxes: Regions, output_size: Bins) -> tuple[Tensor, Tensor, Tensor, Size]:
    """The regions (R, 5), what each bin reads as an image of its own, whose that is, (R h w,), and (h, w)."""
    validate_map(input, "input")
    bins = height_and_width(output_size)
    count = bins[0] * bins[1]
    expect(input.shape[1] % count == 0, "input", f"channels for each of {bins[0]} x {bins[1]} bins", input)
    rois = as_rois(boxes, input)
    maps = input.unflatten(1, (-1, count)).transpose(1, 2).flatten(0, 1)  # (N, C h w, H, W) -> (N h w, C, H, W)
    image = rois[:, 0].long()[:, None] * count + torch.arange(count, device=rois.device)
    return rois, maps, image.flatten(), bins


def _interpolate(features: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """(C, h, w) values of a map (C, H, W) at rows y (h,) and columns x (w,): bilinear, 0 beyond a cell outside."""
    for axis, place in ((1, y[:, None]), (2, x)):
        last = features.shape[axis] - 1
        inside, place = (place >= -1) & (place <= last + 1), place.clamp(0, last)
        low = place.detach().long().flatten()
        below, above = (features.index_select(axis, cell) for cell in (low, (low + 1).clamp(max=last)))
        features = torch.lerp(below, above, (place - place.detach().long()).expand_as(below)) * inside
    return features


def _rounded(cells: Tensor) -> Tensor:
    """The nearest whole numbers, int64, of halves the one further from zero; torch.round takes them to even."""
    whole = cells.trunc()
    return (whole + cells.sign() * ((cells - whole).abs() >= 0.5)).long()


def _cut(first: Tensor, last: Tensor, n: int, limit: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Low and high ends (R, n) of the n bins of the cells `first` to `last` (R,), on a map of `limit` cells."""
    size = ((last - first + 1).clamp(min=1).to(dtype) / n)[:, None]
    i = torch.arange(n, device=first.device, dtype=dtype)
    low, high = (i * size).floor().long(), ((i + 1) * size).ceil().long()
    return (low + first[:, None]).clamp(0, limit), (high + first[:, None]).clamp(0, limit)


def _grid(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> Tensor:
    """(R, h * w, 4) rectangles in row order, of ends x (R, w) and y (R, h)."""
    ends = torch.broadcast_tensors(x1[:, None, :], y1[:, :, None], x2[:, None, :], y2[:, :, None])  # (R, h, w) each
    return torch.stack(ends, dim=-1).flatten(1, 2)
