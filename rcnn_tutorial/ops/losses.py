"""The losses: Fast R-CNN's for class and box, Mask R-CNN's for masks, and those of SVMs and of dense detectors."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from rcnn_tutorial.engine.checks import PADDING, expect, lifted, validate_head, validate_labels, validate_mask
from rcnn_tutorial.engine.processes import process_rank


def smooth_l1(x: Tensor, beta: float = 1.0) -> Tensor:
    """Measure a difference by a parabola near 0 that goes on as a straight line, so that outliers pull no harder.

    Args:
        x: (...) differences.
        beta: |x| from which on it is linear.
    Returns:
        (...), 0.5 x^2 / beta where |x| < beta, else |x| - 0.5 beta.
    Raises:
        ValueError: beta <= 0.
    Source: Fast R-CNN, equation 3.
    """
    expect(beta > 0, "beta", "a number above 0", beta)
    size = x.abs()
    return torch.where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta)


def count_drawn(drawn: Tensor) -> Tensor:
    """Count the samples that a mini-batch holds, which its losses are divided by.

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
    expect(drawn.dtype == torch.bool, "drawn", "booleans", drawn.dtype)
    count = drawn.sum().float()
    if process_rank()[1] == 1 or not torch.is_grad_enabled():
        return count.clamp(min=1)
    dist.all_reduce(count)
    return count.clamp(min=1) / dist.get_world_size()


def multi_task_loss(
    scores: Tensor, offsets: Tensor, labels: Tensor, targets: Tensor, normalizer: float | None = None, beta: float = 1.0
) -> dict[str, Tensor]:
    """Add up the log loss of the true class u and the smooth L1 loss of the offsets predicted for u, if u has a box.

    Args:
        scores: (R, K+1) before the softmax; column 0 is the background.
        offsets: (R, K, 4) predicted for each class but the background.
        labels: (R,) int64: 0 is background, 1..K the classes, -1 padding, which counts in neither sum.
        targets: (R, 4) offsets to be predicted, normalised to unit variance; read where the label is a class.
        normalizer: what both sums are divided by; by default the number of RoIs drawn, see `count_drawn`.
        beta: that of `smooth_l1`.
    Returns:
        "class" and "box", scalars, to be added (lambda = 1); float32 where the scores are in half precision, in which
        a sum would lose the small ones. Without RoIs both are 0, and still have a gradient.
    Raises:
        ValueError: other shapes, labels of another type or outside -1..K, normalizer <= 0 or beta <= 0.
    Source: Fast R-CNN, equations 1 to 3.
    """
    validate_head(scores, offsets, labels, targets, normalizer)
    valid, foreground = labels != PADDING, labels > 0
    # what is not looked at becomes 0 before the logarithm: whatever stands there, no NaN comes back as a gradient
    log_p = torch.where(valid[:, None], lifted(scores), 0).log_softmax(dim=1)
    log_loss = -log_p.gather(1, labels.clamp(min=0)[:, None])[:, 0] * valid  # (R,)

    row = torch.arange(len(labels), device=labels.device)
    chosen = offsets[row, (labels - 1).clamp(min=0)]  # (R, K, 4) -> (R, 4)
    difference = torch.where(foreground[:, None], lifted(chosen) - targets, 0)

    count = count_drawn(valid) if normalizer is None else normalizer
    return {"class": log_loss.sum() / count, "box": smooth_l1(difference, beta).sum() / count}


def mask_loss(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Take the log loss of each cell of the true class's mask, and leave the masks of the other classes alone.

    Each cell of each class is a yes-or-no question of its own, with a sigmoid, so that classes do not compete.

    Args:
        logits: (R, K, m, m) before the sigmoid, of positive RoIs alone.
        labels: (R,) int64, 1 to K.
        targets: (R, m, m) in [0, 1], see `cut_masks`.
    Returns:
        A scalar: the mean over the cells of a mask, summed over the RoIs and divided by their number, see
        `count_drawn`. Without RoIs it is 0, and still has a gradient.
    Raises:
        ValueError: other shapes, labels outside 1..K.
    Source: Mask R-CNN, section 3.
    """
    expect(logits.ndim == 4, "logits", "(R, K, m, m)", logits)
    validate_labels(labels, len(logits), logits.shape[1])
    shape = (len(logits), *logits.shape[2:])
    expect(targets.shape == shape, "targets", f"{shape}, as the logits", targets)
    chosen = lifted(logits[torch.arange(len(labels), device=labels.device), labels - 1])  # (R, K, m, m) -> (R, m, m)
    loss = F.binary_cross_entropy_with_logits(chosen, targets, reduction="sum")
    return loss / (shape[1] * shape[2]) / count_drawn(labels > 0)


def sigmoid_focal_loss(
    inputs: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Tensor:
    """Weigh the log loss of each yes-or-no question down the better it is answered, so that the hard ones count.

    Args:
        inputs: (...) logits.
        targets: (...) 1 for yes, 0 for no, of a floating-point type.
        alpha: weight of the yes, 1 - alpha that of the no; below 0 for no weights.
        gamma: how fast the weight falls with p_t, the probability of the right answer; 0 for the log loss.
        reduction: "none", "mean" or "sum".
    Returns:
        (...), or a scalar: -alpha_t (1 - p_t)^gamma log p_t.
    Raises:
        ValueError: other shapes, alpha above 1, an unknown reduction.
    Source: Lin et al., Focal Loss for Dense Object Detection, section 3, equations 3 to 5.
    """
    expect(inputs.shape == targets.shape, "targets", f"{tuple(inputs.shape)}, as the inputs", targets)
    expect(alpha <= 1, "alpha", "at most 1", alpha)
    expect(reduction in ("none", "mean", "sum"), "reduction", "'none', 'mean' or 'sum'", reduction)
    p = inputs.sigmoid()
    p_t = p * targets + (1 - p) * (1 - targets)
    loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none") * (1 - p_t) ** gamma
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    return loss if reduction == "none" else getattr(loss, reduction)()


def generalized_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Measure how badly boxes overlap: 1 less the IoU, and more for boxes apart, by the gap in the box about both.

    Args:
        boxes1, boxes2: (..., 4) in pairs.
        reduction: "none", "mean" or "sum"; the mean of no pair is 0.
        eps: added to what is divided by.
    Returns:
        (...), or a scalar: 0 for equal boxes, up to 2.
    Raises:
        ValueError: other shapes, an unknown reduction.
    Source: Rezatofighi et al., Generalized Intersection over Union, 2019, algorithm 1.
    """
    expect(boxes1.shape == boxes2.shape, "boxes2", f"{tuple(boxes1.shape)}, as boxes1", boxes2)
    expect(reduction in ("none", "mean", "sum"), "reduction", "'none', 'mean' or 'sum'", reduction)
    one, other = lifted(boxes1), lifted(boxes2)
    area = sum((each[..., 2:] - each[..., :2]).prod(dim=-1) for each in (one, other))
    shared = (torch.minimum(one, other)[..., 2:] - torch.maximum(one, other)[..., :2]).clamp(min=0).prod(dim=-1)
    about = (torch.maximum(one, other)[..., 2:] - torch.minimum(one, other)[..., :2]).prod(dim=-1)
    union = area - shared
    loss = 1 - shared / (union + eps) + (about - union) / (about + eps)
    if reduction == "none":
        return loss
    return loss.sum() / (max(1, loss.numel()) if reduction == "mean" else 1)


def hinge(scores: Tensor, positive: Tensor) -> Tensor:
    """Measure how far each score falls short of its side of the margin: 1 and more for positives, -1 and less else.

    Args:
        scores: (...) of a linear classifier.
        positive: (...) bool.
    Returns:
        (...), max(0, 1 - y s) with y = 1 for positives and -1 for the others.
    Raises:
        ValueError: other shapes, or not booleans.
    Source: R-CNN, section 2.3; Cortes and Vapnik, Support-Vector Networks, 1995.
    """
    validate_mask(positive, "positive", scores.shape)
    return (1 - torch.where(positive, scores, -scores)).clamp(min=0)
