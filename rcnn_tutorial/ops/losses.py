"""The loss of Fast R-CNN and of all that follow it: one mini-batch, one sum for the class and for the box."""

import torch
import torch.distributed as dist
from torch import Tensor

PADDING = -1  # label of a row that is no RoI


def smooth_l1(x: Tensor, beta: float = 1.0) -> Tensor:
    """A parabola near 0 that goes on as a straight line: an outlier pulls no harder than a slope of 1.

    Args:
        x: (...) differences.
        beta: |x| from which on it is linear.
    Returns:
        (...), 0.5 x^2 / beta where |x| < beta, else |x| - 0.5 beta.
    Raises:
        ValueError: beta <= 0.
    Source: Fast R-CNN, equation 3 (FAST-08).
    """
    if not beta > 0:
        raise ValueError(f"beta: expected a number above 0, got {beta}")
    size = x.abs()
    return torch.where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta)


def count_drawn(drawn: Tensor) -> Tensor:
    """How many samples a mini-batch holds: what its losses are divided by.

    Fewer may be drawn than were asked for, where an image has few proposals. Divided by the number asked for, the
    losses of such a mini-batch would be several times too small.

    Where several processes train together, a mini-batch is all that they draw in one step. They average their
    gradients, so each divides by the mean number of a process: then P processes together take the step that one would
    take with all the images. Without gradients the other processes are not asked, since they may not take part.

    Args:
        drawn: (...) bool, False for rows of padding.
    Returns:
        () float32, at least 1 over all processes together; a GPU is not waited for.
    Raises:
        ValueError: not booleans.
    """
    if drawn.dtype != torch.bool:
        raise ValueError(f"drawn: expected booleans, got {drawn.dtype}")
    count = drawn.sum().float()
    if not (dist.is_available() and dist.is_initialized() and torch.is_grad_enabled()):
        return count.clamp(min=1)
    dist.all_reduce(count)
    return count.clamp(min=1) / dist.get_world_size()


def multi_task_loss(
    class_scores: Tensor,
    offsets: Tensor,
    labels: Tensor,
    targets: Tensor,
    normalizer: float | None = None,
    beta: float = 1.0,
) -> dict[str, Tensor]:
    """Log loss of the class u, and smooth L1 of the offsets that were predicted for u; background has no box.

    Args:
        class_scores: (R, K+1) before the softmax; column 0 is the background.
        offsets: (R, K, 4) predicted for each class but the background.
        labels: (R,) int64: 0 is background, 1..K the classes, -1 padding, which counts in neither sum.
        targets: (R, 4) offsets to be predicted, normalised (FAST-09); read where the label is a class.
        normalizer: what both sums are divided by; by default the number of RoIs drawn, see `count_drawn`.
        beta: that of `smooth_l1`.
    Returns:
        "class" and "box", scalars, to be added (lambda = 1). Without RoIs both are 0, and still have a gradient.
    Raises:
        ValueError: other shapes, labels of another type or outside -1..K, normalizer <= 0 or beta <= 0.
    Source: Fast R-CNN, equations 1 to 3 (FAST-07).
    """
    _check(class_scores, offsets, labels, targets, normalizer)
    valid, foreground = labels != PADDING, labels > 0
    # what is not looked at becomes 0 before the logarithm: whatever stands there, no NaN comes back as a gradient
    log_p = torch.where(valid[:, None], class_scores, 0).log_softmax(dim=1)
    log_loss = -log_p.gather(1, labels.clamp(min=0)[:, None])[:, 0] * valid  # (R,)

    row = torch.arange(len(labels), device=labels.device)
    chosen = offsets[row, (labels - 1).clamp(min=0)]  # (R, K, 4) -> (R, 4)
    difference = torch.where(foreground[:, None], chosen - targets, 0)

    count = count_drawn(valid) if normalizer is None else normalizer
    return {"class": log_loss.sum() / count, "box": smooth_l1(difference, beta).sum() / count}


def _check(class_scores: Tensor, offsets: Tensor, labels: Tensor, targets: Tensor, normalizer: float | None) -> None:
    if class_scores.ndim != 2 or class_scores.shape[1] < 2:
        raise ValueError(f"class_scores: expected (R, K+1) with K >= 1, got {tuple(class_scores.shape)}")
    rois, classes = class_scores.shape[0], class_scores.shape[1] - 1
    for name, value, shape in (
        ("offsets", offsets, (rois, classes, 4)),
        ("labels", labels, (rois,)),
        ("targets", targets, (rois, 4)),
    ):
        if value.shape != shape:
            raise ValueError(
                f"{name}: expected {shape}, as class_scores are {(rois, classes + 1)}, got {tuple(value.shape)}"
            )
    if labels.dtype != torch.int64:
        raise ValueError(f"labels: expected int64, got {labels.dtype}")
    if labels.device.type == "cpu" and ((labels < PADDING) | (labels > classes)).any():
        raise ValueError(f"labels: expected -1 to {classes}, got {labels.min().item()} to {labels.max().item()}")
    if normalizer is not None and not normalizer > 0:
        raise ValueError(f"normalizer: expected a number above 0, got {normalizer}")
