"""What was measured beforehand, and how to read it: data_scripts and experiments write these files, nobody else."""

import json
from importlib import resources
from math import nan
from statistics import mean, stdev
from typing import NamedTuple

import torch

from rcnn_tutorial.evaluation.resampling import student_interval


class Difference(NamedTuple):
    """How two variants of an experiment differ.

    Attributes:
        mean, spread: of the metric's difference over the paired seeds; the spread is the standard deviation.
        low, high: 2.5 % and 97.5 % of the difference in objects found per object, over draws of the test images;
            NaN for an experiment that finds no objects.
        seeds: how many.
    """

    mean: float
    spread: float
    low: float
    high: float
    seeds: int

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.spread / self.seeds**0.5

    @property
    def interval(self) -> tuple[float, float]:
        """The mean's 95 % interval over the seeds, by Student's t."""
        return student_interval(self.mean, self.spread, self.seeds)


def load(name: str) -> dict:
    """A record of the package, such as "shapes", "rcnn" or "rcnn_11".

    Raises:
        ValueError: no such record.
    """
    file = resources.files(__name__) / f"{name}.json"
    if not file.is_file():
        raise ValueError(f"name: no record {name!r}")
    return json.loads(file.read_text(encoding="utf-8"))


def exists(name: str) -> bool:
    """Whether the package has a record of that name."""
    return (resources.files(__name__) / f"{name}.json").is_file()


def by_variant(record: dict, metric: str = "AP50") -> dict[str, list[float]]:
    """For each variant of an experiment that has the metric, its value with every seed."""
    runs = [run["variants"] for run in record["runs"].values()]
    return {variant: [run[variant][metric] for run in runs] for variant in runs[0] if metric in runs[0][variant]}


def difference(record: dict, variant: str, against: str, metric: str = "AP50", draws: int = 1000) -> Difference:
    """How much better a variant is than another one, seed by seed and image by image.

    Args:
        record: of an experiment, with at least two seeds.
        variant, against: names of two variants.
        metric: for the seeds; the images are compared by the objects found.
        draws: of the test images, with replacement, from a fixed seed.
    """
    values = by_variant(record, metric)
    gains = [a - b for a, b in zip(values[variant], values[against], strict=True)]
    if not all("hits" in variants for variants in next(iter(record["runs"].values()))["variants"].values()):
        return Difference(mean(gains), stdev(gains), nan, nan, len(gains))
    hits = by_variant(record, "hits")
    found, other = (torch.tensor(hits[name], dtype=torch.float64).mean(0) for name in (variant, against))  # (images,)
    kinds = by_variant(record, "kinds")[variant][0]
    objects = kinds["correct"] + kinds["missed"]
    drawn = torch.randint(len(found), (draws, len(found)), generator=torch.Generator().manual_seed(0))
    low, high = ((found - other)[drawn].sum(1) / objects).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return Difference(mean(gains), stdev(gains), low, high, len(gains))
