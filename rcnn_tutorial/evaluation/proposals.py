"""How good are proposals, before any classifier has seen them?"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rcnn_tutorial.evaluation.inputs import TrueBoxes, check_iou_threshold, gather_targets
from rcnn_tutorial.ops.boxes import box_iou


def best_overlaps(
    proposals: Sequence[Tensor], targets: Sequence[dict[str, Tensor]], top: int | Sequence[int] | None = None
) -> Tensor:
    """Measure for each object the IoU of the proposal that fits it best.

    Args:
        proposals: per image (M, 4), pixels, the best first.
        targets: per image a dict of `boxes` (N, 4), `labels` (N,); difficult and crowd objects are left out.
        top: how many proposals of an image to look at, or several such numbers; None for all.
    Returns:
        (G,) for the G objects of all images, in order; with several numbers (len(top), G). 0 without proposals.
    Raises:
        ValueError: lists of different length, malformed boxes, a number under 1.
    """
    return _best_overlaps(proposals, targets, top)[0]


def recall(
    proposals: Sequence[Tensor],
    targets: Sequence[dict[str, Tensor]],
    iou_thresholds: Sequence[float] = (0.5, 0.7),
    top: int | Sequence[int] | None = None,
) -> Tensor:
    """Measure the share of objects that some proposal covers.

    Args:
        proposals: per image (M, 4), pixels, the best first.
        targets: per image a dict of `boxes` (N, 4), `labels` (N,); difficult and crowd objects are left out.
        iou_thresholds: T numbers, the least IoU of a proposal that covers an object.
        top: how many proposals of an image to look at, or several such numbers for a curve; None for all.
    Returns:
        (T,) float64; with several numbers (len(top), T). NaN without objects.
    Raises:
        ValueError: lists of different length, malformed boxes, a number under 1, a threshold outside (0, 1].
    Source: Hosang et al., What Makes for Effective Detection Proposals?, 2016, section 4.
    """
    for threshold in iou_thresholds:
        check_iou_threshold(threshold)
    best = best_overlaps(proposals, targets, top)
    covered = best[..., None, :] >= torch.tensor(iou_thresholds, dtype=best.dtype)[:, None]  # (..., T, G)
    return covered.double().mean(-1)


def average_best_overlap(
    proposals: Sequence[Tensor], targets: Sequence[dict[str, Tensor]], top: int | Sequence[int] | None = None
) -> Tensor:
    """Average `best_overlaps`, which takes the same arguments, over all objects (ABO).

    Returns:
        () float64; with several numbers (len(top),). NaN without objects.
    Source: Uijlings et al., Selective Search for Object Recognition, 2013, section 5.
    """
    return best_overlaps(proposals, targets, top).mean(-1)


def mean_average_best_overlap(
    proposals: Sequence[Tensor], targets: Sequence[dict[str, Tensor]], top: int | Sequence[int] | None = None
) -> Tensor:
    """Average the best overlaps of each class, and then over the classes that have objects (MABO).

    Takes and returns what `average_best_overlap` does.

    Source: Uijlings et al., Selective Search for Object Recognition, 2013, section 5.
    """
    best, truths = _best_overlaps(proposals, targets, top)
    labels = truths.labels[~truths.ignored]
    if not len(labels):
        return best.mean(-1)
    return torch.stack([best[..., labels == label].mean(-1) for label in labels.unique()]).mean(0)


def _best_overlaps(
    proposals: Sequence[Tensor], targets: Sequence[dict[str, Tensor]], top: int | Sequence[int] | None
) -> tuple[Tensor, TrueBoxes]:
    if len(proposals) != len(targets):
        raise ValueError(f"proposals: expected one tensor per image, {len(targets)}, got {len(proposals)}")
    limits = [top] if top is None or isinstance(top, int) else [int(limit) for limit in top]
    if any(limit is not None and limit < 1 for limit in limits):
        raise ValueError(f"top: expected numbers from 1 on, got {top}")
    truths = gather_targets(targets)
    counts = ~truths.ignored
    sizes = [len(target["boxes"]) for target in targets]
    columns = [torch.empty(len(limits), 0, dtype=torch.float64)]
    for windows, boxes, keep in zip(proposals, truths.boxes.split(sizes), counts.split(sizes), strict=True):
        iou = box_iou(windows.detach().cpu().double(), boxes[keep])  # (M, N)
        so_far = torch.cat((iou.new_zeros(1, iou.shape[1]), iou.cummax(0).values))  # row m: the first m proposals
        rows = [len(windows) if limit is None else min(limit, len(windows)) for limit in limits]
        columns.append(so_far[rows])  # (len(top), N)
    best = torch.cat(columns, dim=1)
    return best[0] if top is None or isinstance(top, int) else best, truths
