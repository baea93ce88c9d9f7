"""What the pooling operators accept: maps, windows, regions of interest in two forms, and sizes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnn_tutorial.ops.checks import expect


def is_count(n: object) -> bool:
    """Tell whether this is a whole number of at least 1.

    Args:
        n: anything.
    Returns:
        Whether it is.
    Raises:
        None.
    """
    return isinstance(n, int) and n >= 1


def height_and_width(output_size: int | tuple[int, int]) -> tuple[int, int]:
    """Read an output size in either form.

    Args:
        output_size: (h, w), or one number for both.
    Returns:
        Height and width.
    Raises:
        ValueError: something else.
    """
    pair = tuple(output_size) if isinstance(output_size, Sequence) else (output_size, output_size)
    good = len(pair) == 2 and all(map(is_count, pair))
    expect(good, "output_size", "one or two whole numbers of at least 1", output_size)
    return pair[0], pair[1]


def as_rois(boxes: Tensor | Sequence[Tensor], input: Tensor) -> Tensor:
    """Bring boxes of either form into one, in the precision in which they are cut.

    Args:
        boxes: (R, 5) with the image's index first, or a list of (R_i, 4).
        input: (N, C, H, W), the map that they are about.
    Returns:
        (R, 5), at least float32.
    Raises:
        ValueError: something else.
    """
    exact = torch.promote_types(input.dtype, torch.float32)
    columns, parts = (5, [boxes]) if isinstance(boxes, Tensor) else (4, list(boxes))
    for part in parts:
        good = part.ndim == 2 and part.shape[1] == columns and part.is_floating_point()
        expect(good, "boxes", "floats (R, 5) or list of (R_i, 4)", part)
    if columns == 4:
        expect(len(parts) == len(input), "boxes", f"one tensor for each of {len(input)} images", len(parts))
        parts = [input.new_zeros(0, 5), *(F.pad(part.to(exact), (1, 0), value=i) for i, part in enumerate(parts))]
    rois = torch.cat(parts).to(exact)
    if rois.device.type == "cpu":
        wrong = ~(rois.isfinite().all(1) & (rois[:, 0] >= 0) & (rois[:, 0] < len(input)))
        if wrong.any():
            expect(False, "boxes", f"finite numbers, first an index in [0, {len(input)})", rois[wrong][0].tolist())
    return rois


def validate_map(features: Tensor, name: str) -> None:
    """Refuse what is no map.

    Args:
        features: expected to be (N, C, H, W) floats.
        name: what the error message calls it.
    Returns:
        Nothing.
    Raises:
        ValueError: something else.
    """
    good = features.ndim == 4 and features.is_floating_point()
    expect(good, name, "floats of shape (N, C, H, W)", features)
    expect(features.numel() < 2**31 - 1, name, "fewer than 2^31 - 1 numbers", features.numel())  # switches are int32


def validate_windows(windows: Tensor, features: Tensor) -> None:
    """Refuse windows that do not lie on their map.

    Args:
        windows: expected to be (R, 5) integers.
        features: (N, C, H, W).
    Returns:
        Nothing.
    Raises:
        ValueError: something else.
    """
    good = windows.ndim == 2 and windows.shape[1] == 5 and windows.dtype in (torch.int16, torch.int32, torch.int64)
    expect(good, "windows", "integers of shape (R, 5)", windows)
    if windows.device.type == "cpu":
        n, _, height, width = features.shape
        low, high = windows[:, :3], windows[:, [0, 3, 4]] + windows.new_tensor([1, 0, 0])
        wrong = ~((low >= 0) & (low < high) & (high <= windows.new_tensor([n, width, height]))).all(1)
        if wrong.any():
            need = f"an index below {n}, 0 <= x1 < x2 <= {width} and 0 <= y1 < y2 <= {height}"
            expect(False, "windows", need, windows[wrong][0].tolist())
