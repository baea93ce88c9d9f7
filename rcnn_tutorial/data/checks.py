"""The checks of what enters a detector: its images, and the samples that a training reads.

`targets.py` has the check of a target.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.data.targets import check_target, trained_on
from rcnn_tutorial.ops.warp import LEAST_SIDE

Sample = tuple[int, Tensor, Any]  # index in the data set, image, target


def check_images(images: Sequence[Tensor], least: int = LEAST_SIDE) -> None:
    """Refuse what is no batch of images, before a network fails on it with a message about something else.

    Args:
        images: (3, H, W) each, floats, RGB in [0, 1]; sizes may differ.
        least: shortest side, pixels.
    Raises:
        ValueError: no image, one of another shape, a side that is too short, or a type or device that differs; on the
            CPU also one with a pixel that is not finite, or far from [0, 1].
    """
    if not len(images):
        raise ValueError("images: expected at least one")
    for i, image in enumerate(images):
        if problem := _problem(image, images[0]):
            raise ValueError(f"images[{i}]: expected {problem}")
    check_sides(images, least)


def check_sides(images: Sequence[Tensor], least: int = LEAST_SIDE) -> None:
    """Refuse images of a few pixels, in which nothing can be detected.

    Args:
        images: (3, H, W) each.
        least: shortest side, pixels.
    Raises:
        ValueError: an image with a shorter side.
    """
    for i, image in enumerate(images):
        height, width = image.shape[-2:]
        if min(height, width) < least:
            raise ValueError(
                f"images[{i}]: expected {least} pixels at least on each side, got {height} x {width} (height x width)"
            )


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


def _problem(image: object, first: Tensor) -> str | None:
    """What is expected of an image and what it is instead, or None."""
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        return f"a tensor of shape (3, H, W), got {got}"
    if not image.is_floating_point():
        return f"floats in [0, 1], got {image.dtype}"
    if (image.dtype, image.device) != (first.dtype, first.device):
        return f"{first.dtype} on {first.device} as the first, got {image.dtype} on {image.device}"
    if image.device.type == "cpu":  # a GPU is not waited for
        least, most = torch.aminmax(image.detach())
        if not (least.isfinite() and most.isfinite()):
            return f"finite pixels, got {(~torch.isfinite(image)).sum()} NaN or infinite"
        if most > 16:  # far from any normalisation, and from rounding
            return f"RGB in [0, 1], got up to {most:.0f}: divide by 255"
    return None
