"""How far COCO's AP can be trusted, for the price of one comparison.

`bootstrap` measures a metric anew on every data set that it draws. But which detection takes which object is decided
within an image, so AP needs that only once. A data set in which an image was drawn twice counts its detections and its
objects twice.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rcnn_tutorial.evaluation.coco import compared
from rcnn_tutorial.evaluation.resampling import Interval, draw_images, interval

MOST = 20_000_000  # numbers of one table; more draws than fit into it take turns


def coco_intervals(
    detections: Sequence[dict[str, Tensor]],
    targets: Sequence[dict[str, Tensor]],
    classes: Sequence[str],
    samples: int = 200,
    generator: torch.Generator | None = None,
    kind: str = "bbox",
) -> dict[str, Interval]:
    """Measure COCO's AP and AP50 on data sets drawn from the images with replacement.

    The intervals are those of `bootstrap` with `coco_ap`, from the same draws. Only detections of equal score may take
    another order.

    Args:
        detections, targets, classes, kind: as `coco_ap` takes them.
        samples: how many times to draw.
        generator: of the draws; torch's default without one.
    Returns:
        The intervals of "AP" and "AP50".
    Raises:
        ValueError: what `coco_ap` refuses, no image, or samples under 1.
    """
    if not len(targets) or samples < 1:
        raise ValueError(f"targets, samples: expected at least 1 of each, got {len(targets)} and {samples}")
    evaluation = compared(detections, targets, classes, [[0, np.inf]], kind)
    draws = draw_images(len(targets), samples, generator)
    counts = torch.zeros(samples, len(targets), dtype=torch.int64).scatter_add_(1, draws, torch.ones_like(draws))
    counts = np.concatenate((np.ones((1, len(targets)), dtype=np.int64), counts.numpy()))  # first all images, once
    images = len(targets)
    parts = [evaluation.evalImgs[start : start + images] for start in range(0, len(evaluation.evalImgs), images)]
    levels = evaluation.params.recThrs
    of_classes = np.stack([_class_ap(part, counts, levels) for part in parts])  # (K, 1 + samples, 10 IoU)
    values = torch.from_numpy(of_classes).nanmean(dim=0)  # a class without an object in a draw does not count there
    numbers = {"AP": values.mean(dim=1), "AP50": values[:, 0]}
    return {name: interval(float(column[0]), column[1:]) for name, column in numbers.items()}


def _class_ap(per_image: Sequence[Any], counts: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """AP of one class on each data set and at each IoU threshold, (S, 10); NaN where there is nothing to find.

    Args:
        per_image: what pycocotools decided for each image; None where there is neither a detection nor an object.
        counts: (S, N) how often each image was drawn.
        levels: of recall.
    """
    known = [(image, decided) for image, decided in enumerate(per_image) if decided is not None]
    objects = np.zeros(len(per_image), dtype=np.int64)
    for image, decided in known:
        objects[image] = np.count_nonzero(np.asarray(decided["gtIgnore"]) == 0)
    positives = counts @ objects  # (S,)
    if not known:
        return np.full((len(counts), 10), np.nan)
    scores = np.concatenate([decided["dtScores"] for _, decided in known])
    order = np.argsort(-scores, kind="stable")
    image = np.concatenate([np.full(len(decided["dtScores"]), image) for image, decided in known])[order]
    matched, ignored = (
        np.concatenate([decided[key] for _, decided in known], axis=1)[:, order].astype(bool)
        for key in ("dtMatches", "dtIgnore")
    )  # (10, D) each
    values = np.full((len(counts), len(matched)), np.nan)
    step = max(1, MOST // max(1, len(order)))
    for start in range(0, len(counts), step):
        rows = slice(start, start + step)
        times = counts[rows][:, image]  # (S, D)
        for threshold, (hit, counted) in enumerate(zip(matched, ~ignored, strict=True)):
            right, wrong = np.cumsum(times * (hit & counted), axis=1), np.cumsum(times * (~hit & counted), axis=1)
            values[rows, threshold] = _average_precision(right, wrong, positives[rows], levels)
    return values


def _average_precision(right: np.ndarray, wrong: np.ndarray, positives: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(S,) means over the levels of recall, from how many of the first detections are right and wrong, (S, D)."""
    precision = right / (right + wrong + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    values = np.full(len(positives), np.nan)
    for row in np.flatnonzero(positives):
        reached = np.searchsorted(right[row] / positives[row], levels, side="left")
        values[row] = np.append(envelope[row], 0.0)[reached].mean()  # beyond the last recall precision is 0
    return values
