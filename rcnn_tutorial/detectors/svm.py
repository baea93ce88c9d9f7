"""What R-CNN trains on fixed features: a linear SVM per class on mined negatives, and a ridge regression of offsets.

A linear SVM minimises, over its weight w and bias b,

    (|w|^2 + (b / B)^2) / 2 + sum over the windows of C * max(0, 1 - y * (w . x + b)),      y = 1 or -1,

where a positive's C is larger. The bias is the weight of one more feature with the constant value B, and is
penalised as any other: so liblinear does it, and with a large B hardly.

A window on its side of the margin costs an SVM nothing, and leaving it out changes nothing. Of a million windows a
few hundred matter, and hard negative mining finds them: train on some, look for negatives above the margin, add
them, drop those that have become easy, train again. A pass over all images that finds none proves that the SVM is
that of all windows.

Two things cost accuracy when they are wrong: features of another mean norm than 20, which make another SVM of the
same C; and the code's C for positives, twice that of negatives, where a class has only few of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnn_tutorial.engine import plain
from rcnn_tutorial.engine.checks import expect, validate_labels, validate_mask, validate_svm
from rcnn_tutorial.engine.coordinate_ascent import coordinate_ascent
from rcnn_tutorial.engine.interior_point import interior_point
from rcnn_tutorial.engine.least_squares import ridge


@dataclass(frozen=True)
class SVMSettings:
    """Settings of the SVMs, for features of mean norm 20; the defaults are those of R-CNN's code."""

    cost: float = 1e-3  # C of a negative
    positive_weight: float = 2.0  # C of a positive is so many times larger
    bias_feature: float = 10.0  # B
    margin: float = -1.0  # a negative is hard above this score (the code says -1.0001)
    easy: float = -1.2  # and leaves the cache below this one
    refit: int = 2000  # train again as soon as some class has so many new negatives
    passes: int = 1  # over the images, after a first SVM from the first image

    def __post_init__(self):
        for name in ("cost", "positive_weight", "bias_feature", "refit", "passes"):
            expect(getattr(self, name) > 0, name, "a number above 0", getattr(self, name))
        expect(self.easy <= self.margin, "easy", f"at most margin = {self.margin}", self.easy)


SVM = SVMSettings()
Negatives = tuple[Tensor, Tensor]  # features (M, D) of an image's windows, and of which classes they are none (M, K)


def feature_scale(features: Tensor) -> Tensor:
    """Find the factor, (), that gives features (N, D) the mean norm of 20 that C and the ridge's penalty are meant for.

    Raises:
        ValueError: not (N, D), or on a CPU only zeros.
    """
    expect(features.ndim == 2 and len(features) > 0, "features", "(N, D) with N > 0", features)
    mean = features.float().norm(dim=1).mean()
    if features.device.type == "cpu":
        expect(0 < mean.item() < torch.inf, "features", "a finite mean norm above 0", mean.item())
    return 20 / mean


def fit_svm(
    features: Tensor, positive: Tensor, used: Tensor | None = None, settings: SVMSettings = SVM
) -> tuple[Tensor, Tensor]:
    """Train K linear SVMs, each to tell one class from the rest; to the optimum that liblinear converges to (`-s 3`).

    Args:
        features: (N, D) of N windows, as scaled by `feature_scale`.
        positive: (N, K) bool, is the window an example of the class.
        used: (N, K) bool, is it in the training set of the class at all; without it all are.
        settings: cost, positive_weight and bias_feature count here.
    Returns:
        weight (K, D) and bias (K,), as `F.linear` takes them; solved in float64, float32 for half precision.
    Raises:
        ValueError: other shapes or types; on a CPU also features that are not finite.
    Source: R-CNN, section 2.3.
    """
    used = torch.ones_like(positive) if used is None else used
    validate_svm(features, positive, used)
    solve = coordinate_ascent if plain() else interior_point
    x = F.pad(features.double(), (0, 1), value=settings.bias_feature)  # (N, D + 1)
    solved = []
    for is_positive, rows in zip(positive.t(), used.t(), strict=True):  # every class has rows of its own
        y = torch.where(is_positive[rows], 1.0, -1.0).double()
        limit = settings.cost * torch.where(is_positive[rows], settings.positive_weight, 1.0).double()
        solved.append(solve(y[:, None] * x[rows], limit))
    solved = torch.stack(solved).to(torch.promote_types(features.dtype, torch.float32))  # (K, D + 1)
    return solved[:, :-1], solved[:, -1] * settings.bias_feature


def mine(scores: Tensor, is_positive: Tensor, margin: float = -1.0) -> Tensor:
    """Pick the hard negatives, (...) bool: the negatives that violate the margin.

    Args:
        scores: (...) of the SVM.
        is_positive: (...) bool, windows that are no negatives.
        margin: a negative is hard above this score. It need not be a false alarm; that begins at 0.
    """
    validate_mask(is_positive, "is_positive", scores.shape)
    return (scores > margin) & ~is_positive


class Pass(NamedTuple):
    """What one pass over the images found: A negatives, each hard for one of K classes. On the CPU."""

    image: Tensor  # (A,) int64, the image's place in the stream
    window: Tensor  # (A,) int64, the window's row among those of the image
    label: Tensor  # (A,) int64, the class that it is no example of, 1 to K
    score: Tensor  # (A,) by that class's SVM when the window was met; inf before there is one
    cached: Tensor  # (K,) int64, negatives in the cache afterwards


class Miner:
    """Trains K SVMs, `classes`, while the images pass by; the other arguments are as in `mining_passes`.

    Attributes:
        weight, bias: of the SVMs, (K, D) and (K,); before the first `fit` the bias is inf, so that all look hard.
        cache: {image: (window (M,), features (M, D), hard (M, K))}; a window hard for two classes is there once.
    """

    def __init__(self, positives: Tensor, labels: Tensor, classes: int, settings: SVMSettings = SVM):
        validate_labels(labels, len(positives), classes)
        self.positives, self.settings, self.mined = positives, settings, []
        self.positive = labels[:, None] == torch.arange(1, classes + 1, device=labels.device)  # (P, K)
        dtype = torch.promote_types(positives.dtype, torch.float32)
        self.weight = positives.new_zeros(classes, positives.shape[1], dtype=dtype)
        self.bias = positives.new_full((classes,), torch.inf, dtype=dtype)
        self.cache: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.fresh = labels.new_zeros(classes)  # negatives added since the last fit

    def look(self, image: int, features: Tensor, is_negative: Tensor) -> None:
        """Take an image's hard negatives into the cache; `fit` if there are many new ones.

        Args:
            image: its place in the stream.
            features: (M, D) of its windows.
            is_negative: (M, K) bool, is the window a negative of the class.
        """
        validate_mask(is_negative, "is_negative", (len(features), len(self.bias)))
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
        features, used = torch.cat((self.positives, *parts)), torch.cat((self.positive, *hard))
        positive = torch.zeros_like(used)
        positive[: len(self.positive)] = self.positive
        self.weight, self.bias = fit_svm(features, positive, used, self.settings)
        self.fresh.zero_()
        for image, (window, part, hard) in self.cache.items():
            hard = hard & (F.linear(part.to(self.weight.dtype), self.weight, self.bias) >= self.settings.easy)
            rows = hard.any(dim=1)
            self.cache[image] = window[rows], part[rows], hard[rows]

    def end_pass(self) -> Pass:
        """`fit` what is new, and say what was found since the last call."""
        if self.fresh.any() or self.bias.isinf().any():
            self.fit()
        image, window, label, score = (torch.cat(column).cpu() for column in zip(*self.mined, strict=True))
        self.mined = []
        cached = torch.stack([hard.sum(dim=0) for _, _, hard in self.cache.values()]).sum(dim=0)
        return Pass(image, window, label, score, cached.cpu())


def mining_passes(
    positives: Tensor, labels: Tensor, images: Callable[[], Iterator[Negatives]], settings: SVMSettings = SVM
) -> Iterator[tuple[Tensor, Tensor, Pass]]:
    """Train one SVM per class with hard negative mining, one pass at a time, until a pass finds nothing.

    Args:
        positives: (P, D), features of the true boxes alone, no proposals.
        labels: (P,) int64, their classes, 1 to K.
        images: each call begins a pass and gives (features (M, D), is_negative (M, K) bool) image by image.
        settings: of the SVMs and the mining.
    Returns:
        After each pass weight (K, D), bias (K,), and what it found; the first "pass" is the first image alone.
    Raises:
        ValueError: no image, labels outside 1 to K, or other shapes.
    Source: R-CNN, section 2.3.
    """
    first = next(images(), None)
    if first is None:
        raise ValueError("images: expected at least one, got none")
    miner = Miner(positives, labels, first[1].shape[1], settings)
    for number in range(settings.passes + 1):
        for index, (features, is_negative) in enumerate(images() if number else [first]):
            miner.look(index, features, is_negative)
        report = miner.end_pass()
        yield miner.weight, miner.bias, report
        if number and not len(report.score):
            break


def fit_ridge(features: Tensor, targets: Tensor, penalty: float = 1000.0) -> tuple[Tensor, Tensor]:
    """Find the linear functions of the features that come closest to the targets with small weights, in closed form.

    As in R-CNN's code the targets are centred, so that the penalty pulls towards their mean, and the bias is the
    weight of a constant feature 1, penalised too. (That code also decorrelates the targets: it changes nothing.)

    Args:
        features: (N, D) of proposals near an object of one class, as scaled by `feature_scale`.
        targets: (N, T); for boxes T = 4, the offsets of `encode`.
        penalty: factor of the squared weights.
    Returns:
        weight (T, D) and bias (T,), as `F.linear` takes them; zeros where N = 0. Solved in float64.
    Raises:
        ValueError: other shapes, or a penalty that is not above 0.
    Source: R-CNN, appendix C.
    """
    shapes = tuple(features.shape), tuple(targets.shape)
    good = features.ndim == targets.ndim == 2 and len(features) == len(targets)
    expect(good, "features, targets", "(N, D) and (N, T)", shapes)
    expect(penalty > 0, "penalty", "a number above 0", penalty)
    mean = targets.double().sum(dim=0) / max(len(targets), 1)
    x, t = F.pad(features.double(), (0, 1), value=1.0), targets.double() - mean
    solved = ridge(x, t, penalty)  # (D + 1, T)
    dtype = torch.promote_types(features.dtype, torch.float32)
    return solved[:-1].t().to(dtype), (solved[-1] + mean).to(dtype)
