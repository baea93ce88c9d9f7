"""The pictures of a training as its detector wants them: with proposals, changed at random, without the unreadable."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from rcnn_tutorial.app.planning import PROPOSED, Plan
from rcnn_tutorial.app.recipes import recipe_named
from rcnn_tutorial.cache import FeatureCache, fingerprint
from rcnn_tutorial.data.images import FileError
from rcnn_tutorial.data.transforms import Augment
from rcnn_tutorial.data.wrappers import classes_of, length, target_of
from rcnn_tutorial.proposals.dataset import WithProposals

TOP = 200  # proposals of a picture


class Skipping(Dataset):
    """A data set in which the next picture stands in for one that can no longer be read, and a warning names the file.

    Args:
        dataset: of (image, target).
    """

    def __init__(self, dataset: Dataset):
        self.dataset, self.classes = dataset, classes_of(dataset)
        self._named: set[str] = set()

    def __len__(self) -> int:
        return length(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        for place in range(len(self)):
            try:
                return self.dataset[(index + place) % len(self)]
            except FileError as error:
                if error.file not in self._named:
                    self._named.add(error.file)
                    logging.getLogger(__name__).warning("left out: %s", error)
        raise ValueError(f"none of the {len(self)} pictures can be read")

    def target(self, index: int) -> dict[str, Tensor]:
        """Give the annotation of one picture, without reading its pixels."""
        return target_of(self.dataset, index, area=False)


def prepared(dataset: Dataset, plan: Plan, folder: Path, training: bool) -> Dataset:
    """Give the pictures as the detector of a plan reads them.

    Args:
        dataset: of (image, target).
        plan: of the training.
        folder: of the run; proposals are kept in it.
        training: whether they are to be trained on; otherwise nothing is random.
    """
    if plan.recipe is not None:
        return recipe_named(plan.recipe).prepared(dataset, training, FeatureCache(folder / "proposals"))
    if plan.on_error == "skip":
        dataset = Skipping(dataset)
    if plan.detector in PROPOSED:
        dataset = WithProposals(dataset, cache=FeatureCache(folder / "proposals"), top=TOP)
    if training and plan.augment:
        dataset = Augment(dataset, plan.training.seed)
    return dataset


def data_fingerprint(dataset: Dataset) -> str | None:
    """Hash the names, sizes and annotations of a data set; None for one that changes its pictures."""
    try:
        return fingerprint(dataset)
    except (ValueError, OSError):
        return None


def evenly(dataset: Dataset, count: int) -> Subset:
    """Take some pictures of a data set, evenly from its first to its last; all of them where it has fewer."""
    places: Sequence[int] = range(length(dataset))
    if len(places) > count:
        places = torch.linspace(0, len(places) - 1, count).round().long().tolist()
    return Subset(dataset, places)
