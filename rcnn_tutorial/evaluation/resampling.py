"""How far can a measured number be trusted? Draw the images again, or look at how far the runs scatter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.special import stdtrit
from torch import Tensor

PerImage = Sequence[dict[str, Tensor]]


@dataclass(frozen=True)
class Interval:
    """A number and its spread over bootstrap samples.

    Attributes:
        value: on the images as they are.
        mean: over the samples.
        low, high: 2.5 % and 97.5 % of the samples' values.
        samples: (S,) float64, the values.
    """

    value: float
    mean: float
    low: float
    high: float
    samples: Tensor

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def student_interval(mean: float, spread: float, runs: int, share: float = 0.95) -> tuple[float, float]:
    """Say where the true mean lies, judged by few runs: Student's t interval.

    Args:
        mean, spread: of the runs; the spread is their standard deviation.
        runs: how many.
        share: of such intervals that hold the true mean, if the runs scatter like a normal distribution.
    Raises:
        ValueError: fewer than 2 runs.
    """
    if runs < 2:
        raise ValueError(f"runs: expected at least 2, got {runs}")
    half = float(stdtrit(runs - 1, (1 + share) / 2)) * spread / runs**0.5
    return mean - half, mean + half


def bootstrap(
    metric: Callable[[PerImage, PerImage], float],
    detections: PerImage,
    targets: PerImage,
    samples: int = 200,
    generator: torch.Generator | None = None,
    *,
    against: PerImage | None = None,
) -> Interval:
    """Measure a metric on data sets drawn from the images with replacement.

    Args:
        metric: called as metric(detections, targets), such as `lambda d, t: voc_ap(d, t, classes).map`.
        detections, targets: one dict per image each.
        samples: how many times to draw.
        generator: of the draws; torch's default without one.
        against: detections of a second detector for the same images. The result is then the first detector's metric
            minus the second's, both on the same draws, and the two differ where the interval leaves out 0.
    Raises:
        ValueError: lists of different length or without images, samples under 1.
    """
    for name, other in (("detections", detections), ("against", targets if against is None else against)):
        if len(other) != len(targets):
            raise ValueError(f"{name}: expected one dict per image, {len(targets)}, got {len(other)}")
    if not len(targets) or samples < 1:
        raise ValueError(f"targets, samples: expected at least 1 of each, got {len(targets)} and {samples}")

    def measure(images: Sequence[int]) -> float:
        drawn = [targets[i] for i in images]
        value = metric([detections[i] for i in images], drawn)
        return value if against is None else value - metric([against[i] for i in images], drawn)

    values = [measure(draw) for draw in draw_images(len(targets), samples, generator).tolist()]
    return interval(measure(range(len(targets))), torch.tensor(values, dtype=torch.float64))


def draw_images(count: int, samples: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw data sets of `count` images from `count` images with replacement: (samples, count) int64."""
    return torch.randint(count, (samples, count), generator=generator)


def interval(value: float, samples: Tensor) -> Interval:
    """Sum up what was measured on the images as they are, and on each of the data sets drawn from them."""
    low, high = samples.nanquantile(samples.new_tensor([0.025, 0.975])).tolist()
    return Interval(value, float(samples.nanmean()), low, high, samples)
