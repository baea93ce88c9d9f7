"""What torch's wrappers (`Subset`, `ConcatDataset`, `random_split`) and ours hide of the data set inside them.

A wrapper passes on `dataset[i]` alone. Class names, epochs and targets without pixels are looked up here, so that
wrapping changes nothing else.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset

from rcnn_tutorial.data.targets import check_target
from rcnn_tutorial.engine.devices import mapped


def length(dataset: Dataset) -> int:
    """Count the images of a data set; torch's own class promises none."""
    return len(cast(Sized, dataset))


def layers(dataset: Dataset) -> Iterator[Dataset]:
    """Go through a data set, then through all that lie inside it."""
    yield dataset
    for part in inner(dataset):
        yield from layers(part)


def inner(dataset: Dataset) -> list[Dataset]:
    """List the data sets that a wrapper wraps."""
    parts = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    return [part for part in parts if isinstance(part, Dataset)]


def at_most(dataset: Dataset, count: int) -> Subset:
    """Take the first pictures of a data set; all of them where it has fewer."""
    return Subset(dataset, range(min(count, length(dataset))))


class OnDevice(Dataset):
    """A data set whose pictures and targets lie on a device, to look at them there one by one.

    `train` and `predict` move what they read by themselves.

    Args:
        dataset: of (image, target).
        device: such as "cuda".
    """

    def __init__(self, dataset: Dataset, device: torch.device | str):
        self.dataset, self.device = dataset, device

    def __len__(self) -> int:
        return length(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image, target = self.dataset[index]
        return image.to(self.device), mapped(target, lambda tensor: tensor.to(self.device))

    def target(self, index: int) -> dict[str, Tensor]:
        """Give the target of one image, without its pixels where the data set can do so."""
        return mapped(target_of(self.dataset, index, area=False), lambda tensor: tensor.to(self.device))


def set_epoch(dataset: Dataset, epoch: int) -> None:
    """Say which epoch comes next to all data sets that change with it, wherever they are wrapped."""
    for layer in layers(dataset):
        announce = getattr(layer, "set_epoch", None)
        if announce is not None:
            announce(epoch)


def classes_of(dataset: Dataset) -> tuple[str, ...] | None:
    """Find the class names of a data set, background first, wherever it is wrapped; None where it has none.

    Raises:
        ValueError: data sets with different class names, one behind the other.
    """
    classes = getattr(dataset, "classes", None)
    if classes is not None:
        return tuple(classes)
    names = {classes for part in inner(dataset) if (classes := classes_of(part)) is not None}
    if len(names) > 1:
        raise ValueError(f"dataset: expected the same classes in all its parts, got {sorted(names)}")
    return names.pop() if names else None


def check_classes(model: object, dataset: Dataset) -> tuple[str, ...] | None:
    """Compare the class names of a model and its data set, which must be equal where both have some.

    A label is a number: with another order of the names it would mean another class, and nothing would fail.

    Raises:
        ValueError: different names, or another order.
    """
    expected, classes = getattr(model, "classes", None), classes_of(dataset)
    if expected is not None and classes is not None and tuple(expected) != classes:
        raise ValueError(f"dataset: expected the model's classes {tuple(expected)}, got {classes}")
    return classes if expected is None else tuple(expected)


def prepare(dataset: Any, indices: Sequence[int]) -> None:
    """Let a data set compute now, in this process, what each worker would compute for itself in each epoch."""
    if hasattr(type(dataset), "prepare"):
        dataset.prepare(indices)
    elif isinstance(dataset, Subset):
        prepare(dataset.dataset, [dataset.indices[index] for index in indices])
    elif isinstance(dataset, ConcatDataset):
        places = [_place(dataset, index) for index in indices]
        for number, part in enumerate(dataset.datasets):
            prepare(part, [index for where, index in places if where == number])
    else:
        for part in inner(dataset):
            prepare(part, indices)


def target_of(
    dataset: Dataset, index: int, classes: Sequence[str] | None = None, area: bool = True
) -> dict[str, Tensor]:
    """Give the checked target of one image, without its pixels where the data set can do so, wherever it is wrapped.

    Args:
        dataset: of (image, target).
        index: of the image.
        classes, area: as `check_target` takes them.
    Raises:
        ValueError: what `check_target` refuses.
    """
    return check_target(_target(dataset, index), f"dataset[{index}]", classes, area)


def _target(dataset, index):
    if isinstance(dataset, Subset):
        return _target(dataset.dataset, dataset.indices[index])
    if isinstance(dataset, ConcatDataset):
        part, index = _place(dataset, index)
        return _target(dataset.datasets[part], index)
    return dataset.target(index) if hasattr(dataset, "target") else dataset[index][1]


def _place(dataset, index):
    """Which part of a ConcatDataset an image is in, and its index there."""
    part = bisect_right(dataset.cumulative_sizes, index)
    return part, index - [0, *dataset.cumulative_sizes][part]
