"""The samples that a training reads, checked."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.data.targets import check_target, trained_on

Sample = tuple[int, Tensor, Any]  # index in the data set, image, target


class CheckedSamples(Dataset):
    """A data set as a training reads it: targets are checked, difficult and crowd objects left out.

    Args:
        dataset: of (image, target).
        classes: names that the labels must be of, or None.
    """

    def __init__(self, dataset: Any, classes: Sequence[str] | None):
        self.dataset, self.classes = dataset, classes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        image, target = self.dataset[index]
        if isinstance(target, Tensor):  # labels of crops: a classifier's, not a detector's
            return index, image, target
        return index, image, trained_on(check_target(target, f"dataset[{index}]", self.classes, size=image.shape[-2:]))
