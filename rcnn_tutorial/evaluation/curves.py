"""From a ranking to one number: precision, recall, and the area under their curve."""

import torch
from torch import Tensor


def precision_recall(
    scores: Tensor, hits: Tensor, positives: int, ignored: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Measure precision and recall of the first 1, 2, ... detections of a ranking.

    Args:
        scores: (D,) in any order; equal scores keep the order that they come in.
        hits: (D,) bool, which detections found an object. A second detection of one object is no hit.
        positives: how many objects there are to be found, found or not.
        ignored: (D,) bool, which detections count neither as right nor as wrong; they are left out.
    Returns:
        precision and recall, (D - ignored,) float64 each, by descending score. Recall is NaN without objects.
    Raises:
        ValueError: shapes that differ, or more hits than positives.
    Source: Everingham et al., The PASCAL Visual Object Classes Challenge, 2010, section 4.2.
    """
    if ignored is None:
        ignored = torch.zeros_like(hits, dtype=torch.bool)
    if scores.ndim != 1 or not scores.shape == hits.shape == ignored.shape:
        shapes = [tuple(x.shape) for x in (scores, hits, ignored)]
        raise ValueError(f"scores, hits, ignored: expected three of shape (D,), got {shapes}")
    scores, hits = scores[~ignored], hits[~ignored]
    hits_so_far = hits[scores.argsort(descending=True, stable=True)].double().cumsum(0)
    if len(hits_so_far) and hits_so_far[-1] > positives:
        raise ValueError(f"positives: expected at least the {int(hits_so_far[-1])} hits, got {positives}")
    ranks = torch.arange(1, len(hits_so_far) + 1, device=hits.device)
    return hits_so_far / ranks, hits_so_far / hits_so_far.new_tensor(positives)


def best_f1(scores: Tensor, precision: Tensor, recall: Tensor) -> tuple[float, float]:
    """Find the score from which on detections are best kept, if precision and recall count alike.

    F1 is the harmonic mean of the two. A threshold keeps all detections of equal score or none of them.

    Args:
        scores: (D,) descending.
        precision, recall: (D,) of the first 1, 2, ... detections, as `precision_recall` gives them.
    Returns:
        The largest F1 and the least score that is kept for it; 0 and NaN without detections, NaN twice without objects.
    """
    if recall.isnan().any():
        return float("nan"), float("nan")
    if not len(scores):
        return 0.0, float("nan")
    f1 = 2 * precision * recall / (precision + recall).clamp(min=torch.finfo(precision.dtype).tiny)
    last_of_equal = scores.diff(append=scores.new_tensor([-torch.inf])) != 0
    best = int(torch.where(last_of_equal, f1, -1).argmax())
    return float(f1[best]), float(scores[best])


def envelope(precision: Tensor) -> Tensor:
    """Raise each precision (D,) to the best one from its rank on: what a lower rank reaches, no higher one misses."""
    return precision.flip(0).cummax(0).values.flip(0)


def average_precision(recall: Tensor, precision: Tensor, method: str = "all") -> float:
    """Measure the area under the precision-recall curve, after precision is raised to its envelope.

    The envelope at recall r is the best precision at any recall of r or more; past the last recall it is 0.

    Args:
        recall: (D,) ascending.
        precision: (D,).
        method: "all", the area under the envelope (VOC from 2010 on), or "11", the mean of the envelope at the eleven
            levels of recall k / 10, k from 0 to 10 (VOC until 2009). A recall of 3 of 10 objects reaches the level 0.3:
            both are the same float64. Levels counted up in steps of 0.1 would lie a rounding error above it.
    Returns:
        In [0, 1]; NaN where recall is; 0 without detections.
    Raises:
        ValueError: another method, shapes that differ, or recall that falls (the two exchanged?).
    Source: Everingham et al., The PASCAL Visual Object Classes Challenge, 2010, section 4.2.
    """
    if method not in ("all", "11"):
        raise ValueError(f'method: expected "all" or "11", got {method!r}')
    if recall.ndim != 1 or recall.shape != precision.shape:
        raise ValueError(f"recall, precision: expected (D,) twice, got {tuple(recall.shape)}, {tuple(precision.shape)}")
    if recall.isnan().any():
        return float("nan")
    step = recall.diff(prepend=recall.new_zeros(1))
    if (step < 0).any():
        raise ValueError("recall: expected ascending values, got some that fall")
    heights = envelope(precision)
    if method == "all":
        return float((step * heights).sum())
    levels = recall.new_tensor([k / 10 for k in range(11)])  # not linspace: its 0.3 is above 3 / 10
    reached = torch.searchsorted(recall, levels)  # first place with recall >= level, D where there is none
    return float(torch.cat((heights, heights.new_zeros(1)))[reached].mean())
