"""A rule of pooling that a notebook compares with `ops.pooling`, and what pooling does to a moving window."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnn_tutorial.detectors.two_stage import TwoStage, given
from rcnn_tutorial.engine.checks import expect, validate_map


def sliding_pyramid_pool(features: Tensor, n: int) -> Tensor:
    """Pool by SPPnet's rule for training at a fixed size: a window of ceil(a / n) and a stride of floor(a / n).

    Meant to give n x n, and often does: a = 13 gives 6, 3, 2, 1 for n = 6, 3, 2, 1. But a = 10, n = 6 gives 9 x 9.

    Args:
        features: (B, C, H, W), at least n cells on each side.
        n: bins per side.
    Returns:
        (B, C, h, w), h = floor((H - ceil(H / n)) / floor(H / n)) + 1, w likewise.
    Raises:
        ValueError: another shape or type, n not in [1, min(H, W)].
    Source: SPPnet, section 2.3.
    """
    validate_map(features, "features")
    sides = features.shape[2:]
    expect(1 <= n <= min(sides), "n", f"1 to {min(sides)} bins for a map of {tuple(sides)}", n)
    window, stride = [-(-a // n) for a in sides], [a // n for a in sides]
    return F.max_pool2d(features, window, stride)


def boxes_from(detector: TwoStage, image: Tensor, windows: Tensor, labels: Tensor) -> Tensor:
    """Move each window as a detector says for one class.

    Args:
        detector: trained, in eval mode.
        image: (3, H, W).
        windows: (N, 4) pixels.
        labels: (N,) the class of each, 1 or more.
    Returns:
        (N, 4), pixels.
    """
    batch, maps = detector.maps([image])
    rois = given(batch, [windows])
    offsets = detector.head(detector.pool(maps, rois))[1]
    rows = torch.arange(len(labels), device=labels.device)
    return batch.to_original(detector.decode(offsets, rois[0])[rows, labels - 1][None])[0]


def slid_borders(detector: TwoStage, image: Tensor, target: dict[str, Tensor], shifts: Tensor) -> Tensor:
    """Slide the true box of each object sideways, and let a detector find the left border from every place.

    Args:
        detector: trained, in eval mode.
        image: (3, H, W).
        target: `boxes` (M, 4) and `labels` (M,) of its objects.
        shifts: (S,) pixels to the right.
    Returns:
        (M, S) how far the border that is found lies to the right of the true one, pixels of the image.
    """
    boxes, labels = target["boxes"], target["labels"].repeat_interleave(len(shifts))
    windows = boxes[:, None] + shifts[:, None] * shifts.new_tensor([1, 0, 1, 0])  # (M, S, 4)
    moved = boxes_from(detector, image, windows.flatten(0, 1), labels)  # (M * S, 4)
    return moved[:, 0].view(len(boxes), -1) - boxes[:, :1]
