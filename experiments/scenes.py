"""What all experiments share: the scenes of each seed, and what is kept between runs."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from torch.utils.data import Dataset, Subset

from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.data import data_root, load_dataset
from rcnn_tutorial.proposals.dataset import WithProposals

TRAIN, TEST, PROPOSALS = 150, 150, 200
DEVICE = "RCNN_TUTORIAL_EXPERIMENTS_DEVICE"  # the variable that `--device` sets, for the processes too


@dataclass(frozen=True)
class Experiment:
    """What is asked, which rows it carries, and `run(seed)`, which gives for each variant what `measure` gives."""

    what: str
    rows: tuple[str, ...]
    run: Callable[[int], dict[str, dict]]
    settings: dict


def scenes(split: str, first: int, count: int) -> Dataset:
    """Some scenes of a split, with their proposals."""
    dataset = load_dataset("shapes", split)
    return WithProposals(Subset(dataset, range(first, first + count)), cache=kept("proposals"), top=PROPOSALS)


def training(seed: int) -> Dataset:
    """The scenes of a seed."""
    return scenes("train", seed * TRAIN, TRAIN)


def device() -> str:
    """Where the detectors are trained and tested."""
    return os.environ.get(DEVICE, "cpu")


def named(name: str) -> str:
    """The name of a record or folder: on a CPU as it is, elsewhere with the device behind it."""
    return name if device() == "cpu" else f"{name}-{device().replace(':', '')}"


def kept(name: str) -> FeatureCache:
    """What one experiment computes and the next one needs."""
    return FeatureCache(data_root() / "experiments" / named(name))
