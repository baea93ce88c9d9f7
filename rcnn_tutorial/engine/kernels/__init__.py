"""Kernels for a GPU, written in Triton: three operators whose vectorised forms wait for the device or copy too much.

A kernel is what one program does, written for a block of numbers at a time; a GPU runs thousands of programs at once,
and the grid of a launch says how many. Each file begins with what its programs read and write, and why.

- `suppression`: NMS without a copy to the host, in the place of the blocks of `engine.nms`;
- `pooling`: RoI pooling and its gradient, in the place of the tables of `engine.maxima`;
- `alignment`: RoIAlign and its gradient, in the place of the bags of `engine.bilinear`.

To torch each is an operator of its own, with a gradient and a rule for shapes, so that `torch.compile` takes it as it
is. Triton comes with torch on Linux. Where it is missing or cannot work, on a CPU, with RCNN_PLAIN=1, and where torch
is asked for deterministic algorithms, which atomic additions are not, the callers go on without these kernels.

Triton's interpreter runs the same kernels on a CPU, slowly, if TRITON_INTERPRET=1 is set before Triton is imported.
The tests do that.
"""

from functools import cache

import torch
from torch import Tensor

from rcnn_tutorial.engine import plain

MOST_BOXES = 2**16  # their bit masks take half a gigabyte


def usable(tensor: Tensor) -> bool:
    """Tell whether the kernels can take this tensor.

    Args:
        tensor: anything.
    Returns:
        Whether they can.
    Raises:
        None.
    """
    wanted = tensor.is_cuda and not plain() and not torch.are_deterministic_algorithms_enabled()
    # torch.compile needs Triton itself, and must not trace the trial
    return wanted and (torch.compiler.is_compiling() or _can_launch(tensor.device))


@cache
def _can_launch(device: torch.device) -> bool:
    """Whether Triton is installed, finds the C compiler that it wants, and knows the device: it tries."""
    try:
        from rcnn_tutorial.engine.kernels.pooling import roi_maxima_backward

        gradient = torch.ones(1, device=device)
        return bool(roi_maxima_backward(gradient, torch.zeros(1, dtype=torch.int32, device=device), [1]) == 1)
    except Exception:  # whatever is missing, the callers do without
        return False


def survivors(boxes: Tensor, groups: Tensor | None, threshold: float) -> Tensor:
    """Mark the boxes that stay, (N,) bool: `suppression.survivors`."""
    from rcnn_tutorial.engine.kernels.suppression import survivors

    return survivors(boxes, groups, threshold)


def roi_pool(input: Tensor, rois: Tensor, bins: tuple[int, int], spatial_scale: float) -> Tensor:
    """Pool maxima, as `ops.pooling.roi_pool` documents them.

    Args:
        input: (N, C, H, W).
        rois: (R, 5) with the image's index first, pixels; of the input's type, at least float32.
        bins: h, w.
        spatial_scale: cells per pixel.
    Returns:
        (R, C, h, w), of the input's type.
    Raises:
        None: `roi_pool` has checked.
    """
    from rcnn_tutorial.engine.kernels.pooling import roi_maxima

    return roi_maxima(input, _in_cells(rois, spatial_scale), *bins)[0]


def roi_align(
    input: Tensor, rois: Tensor, bins: tuple[int, int], spatial_scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    """Average interpolated points, as `ops.pooling.roi_align` documents them; the boxes get no gradient.

    Args:
        input, rois, bins, spatial_scale: as for `roi_pool`.
        sampling_ratio: points of each bin on an axis; 0 or below for as many as a bin is cells long.
        aligned: whether the first cell's centre lies at 0.5.
    Returns:
        (R, C, h, w), of the input's type.
    Raises:
        None: `roi_align` has checked.
    """
    from rcnn_tutorial.engine.kernels.alignment import roi_means

    return roi_means(input, _in_cells(rois, spatial_scale), *bins, sampling_ratio, aligned)


def _in_cells(rois: Tensor, spatial_scale: float) -> Tensor:
    """(R, 5) regions with corners in cells, each a contiguous row. A kernel would take the scale as a float32."""
    return torch.cat((rois[:, :1], rois[:, 1:] * spatial_scale), dim=1).detach()
