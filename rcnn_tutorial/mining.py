"""R-CNN's hard negative mining: the few windows of many that an SVM has to see.

A window that is on its side of the margin costs an SVM nothing, and leaving it out changes nothing. Of a million
windows a few hundred matter, and mining finds them: train on some, look for negatives above the margin, add them,
drop those that have become easy, train again. A pass over all images that finds none proves that the SVM is that
of all windows.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnn_tutorial.linear import SVM, SVMSettings, fit_svm, svm_objective


def mine(scores: Tensor, is_positive: Tensor, margin: float = -1.0) -> Tensor:
    """Which windows are hard negatives: those that violate the margin.

    Args:
        scores: (...) of the SVM.
        is_positive: (...) bool, windows that are no negatives.
        margin: a negative is hard above this score. It need not be a false alarm; that begins at 0.
    Returns:
        (...) bool.
    Raises:
        ValueError: shapes that differ.
    Source: R-CNN, section 2.3 (RCNN-12).
    """
    if scores.shape != is_positive.shape or is_positive.dtype != torch.bool:
        expected = f"bool of shape {tuple(scores.shape)}"
        raise ValueError(f"is_positive: expected {expected}, got {is_positive.dtype} {tuple(is_positive.shape)}")
    return (scores > margin) & ~is_positive


class Pass(NamedTuple):
    """What one pass over the images found: A windows, each mined for one of K classes. On the CPU."""

    image: Tensor  # (A,) int64, the image's place in the stream
    window: Tensor  # (A,) int64, the window's row among those of the image
    label: Tensor  # (A,) int64, the class that it is no example of, 1 to K
    score: Tensor  # (A,) by that class's SVM when the window was met; inf before there is one
    dropped: Tensor  # (K,) int64, negatives that became easy and left the cache
    cached: Tensor  # (K,) int64, negatives in the cache afterwards
    objective: Tensor  # (K,) float64, of the positives and the cache; never falls from pass to pass


class Miner:
    """K SVMs that are trained while the images pass by.

    Args:
        positives: (P, D), features of the true boxes alone, no proposals (RCNN-10).
        labels: (P,) int64, their classes, 1 to K.
        classes: K.
        settings: of the SVMs and the mining.
    Raises:
        ValueError: labels of another shape, or outside 1 to K.

    Attributes:
        weight, bias: of the SVMs, (K, D) and (K,); none before the first `fit`.
        cache: {image: (window (M,), features (M, D), hard (M, K))}; a window hard for two classes is there once.
    """

    def __init__(self, positives: Tensor, labels: Tensor, classes: int, settings: SVMSettings = SVM):
        if labels.shape != positives.shape[:1]:
            raise ValueError(f"labels: expected ({len(positives)},), one per positive, got {tuple(labels.shape)}")
        if labels.device.type == "cpu" and not ((labels >= 1) & (labels <= classes)).all():
            raise ValueError(f"labels: expected 1 to {classes}, got {labels.min()} to {labels.max()}")
        self.positives, self.settings = positives, settings
        self.own = labels[:, None] == torch.arange(1, classes + 1, device=labels.device)  # (P, K)
        self.weight = self.bias = self.objective = None
        self.cache: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self._begin()

    def look(self, image: int, features: Tensor, is_negative: Tensor) -> None:
        """Take an image's hard negatives into the cache, all its negatives before there is an SVM; `fit` if many.

        Args:
            image: a number of its own.
            features: (M, D) of its windows.
            is_negative: (M, K) bool, is the window a negative of the class (IoU < 0.3 with its objects; RCNN-11).
        Raises:
            ValueError: `is_negative` of another shape or type.
        """
        if is_negative.shape != (len(features), self.own.shape[1]) or is_negative.dtype != torch.bool:
            expected = f"bool of shape ({len(features)}, {self.own.shape[1]})"
            raise ValueError(f"is_negative: expected {expected}, got {is_negative.dtype} {tuple(is_negative.shape)}")
        if self.weight is None:
            scores = features.new_full(is_negative.shape, torch.inf)
        else:
            scores = F.linear(features.to(self.weight.dtype), self.weight, self.bias)  # (M, K)
        known = torch.zeros_like(is_negative)
        if image in self.cache:
            window, _, hard = self.cache[image]
            known[window] = hard
        new = mine(scores, ~is_negative, self.settings.margin) & ~known
        window = (new | known).any(dim=1).nonzero()[:, 0]
        self.cache[image] = window, features[window], (new | known)[window]
        window, label = new.nonzero(as_tuple=True)
        self.mined.append((torch.full_like(window, image), window, label + 1, scores[new]))
        self.fresh += new.sum(dim=0)
        if self.fresh.max() >= self.settings.refit:
            self.fit()

    def fit(self) -> None:
        """Train all SVMs on the positives and the cache, then drop the negatives that have become easy."""
        _, parts, hard = zip(*self.cache.values(), strict=True)
        features, hard = torch.cat((self.positives, *parts)), torch.cat((self.own, *hard))
        positive = torch.zeros_like(hard)
        positive[: len(self.own)] = self.own
        self.weight, self.bias = fit_svm(features, positive, hard, self.settings)
        self.objective = svm_objective(features, positive, self.weight, self.bias, hard, self.settings)
        self.fresh.zero_()
        for image, (window, part, hard) in self.cache.items():
            stays = hard & (F.linear(part.to(self.weight.dtype), self.weight, self.bias) >= self.settings.easy)
            self.dropped += (hard & ~stays).sum(dim=0)
            rows = stays.any(dim=1)
            self.cache[image] = window[rows], part[rows], stays[rows]

    def end_pass(self) -> Pass:
        """`fit` what is new, and say what was found since the last call."""
        if self.weight is None or self.fresh.any():
            self.fit()
        found = [torch.cat(column).cpu() for column in zip(*self.mined, strict=True)]
        cached = sum(hard.sum(dim=0) for _, _, hard in self.cache.values())
        report = Pass(*found, self.dropped.cpu(), cached.cpu(), self.objective.cpu())
        self._begin()
        return report

    def _begin(self):
        self.mined = []
        self.dropped = torch.zeros_like(self.own[:0].sum(dim=0))  # (K,) int64
        self.fresh = self.dropped.clone()  # negatives added since the last fit


def mining_passes(
    positives: Tensor, labels: Tensor, images: Iterable[tuple[Tensor, Tensor]], settings: SVMSettings = SVM
) -> Iterator[tuple[Tensor, Tensor, Pass]]:
    """`train_svms`, one pass at a time.

    Args:
        positives, labels, images, settings: as `train_svms` takes them.
    Returns:
        After each pass weight (K, D), bias (K,), and what it found.
    Raises:
        ValueError: as `train_svms`.
    """
    if iter(images) is images:
        raise ValueError("images: expected what can be gone through several times, such as a list, got an iterator")
    first = next(iter(images), None)
    if first is None:
        raise ValueError("images: expected at least one, got none")
    miner = Miner(positives, labels, first[1].shape[1], settings)
    miner.look(0, *first)
    report = miner.end_pass()
    yield miner.weight, miner.bias, report
    for _ in range(settings.passes):
        for index, (features, is_negative) in enumerate(images):
            miner.look(index, features, is_negative)
        report = miner.end_pass()
        yield miner.weight, miner.bias, report
        if not len(report.score):
            break


def train_svms(
    positives: Tensor, labels: Tensor, images: Iterable[tuple[Tensor, Tensor]], settings: SVMSettings = SVM
) -> tuple[Tensor, Tensor, list[Pass]]:
    """One SVM per class, with hard negative mining; ends early once a pass finds nothing.

    Args:
        positives: (P, D), features of the true boxes.
        labels: (P,) int64, 1 to K.
        images: gives, each time it is gone through, (features (M, D), is_negative (M, K) bool) per image.
        settings: of the SVMs and the mining.
    Returns:
        weight (K, D), bias (K,), and what each pass found; the first "pass" is the first image, before any SVM.
    Raises:
        ValueError: no image, an iterator that ends after one pass, or other shapes.
    Source: R-CNN, section 2.3 (RCNN-10, RCNN-12).
    """
    weights, biases, log = zip(*mining_passes(positives, labels, images, settings), strict=True)
    return weights[-1], biases[-1], list(log)
