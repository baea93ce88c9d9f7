"""Targets: what is known of one image's objects, and what is done to them as a whole. `check_target` is passed on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rcnn_tutorial.engine.targets import FLAGS, is_per_object
from rcnn_tutorial.engine.targets import PER_OBJECT as PER_OBJECT
from rcnn_tutorial.engine.targets import check_target as check_target


def select_objects(target: dict[str, Tensor], keep: Tensor) -> dict[str, Tensor]:
    """Keep some objects of a checked target: (N,) bool says which, in every field that has a row for each."""
    return {key: value[keep] if is_per_object(key, value) else value for key, value in target.items()}


def trained_on(target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the difficult and the crowd objects of a checked target, as training does."""
    flags = [target[flag] for flag in FLAGS if flag in target]
    return select_objects(target, ~torch.stack(flags).any(dim=0)) if flags else target


def collate(batch: Sequence[tuple[Tensor, dict[str, Tensor]]]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Make a batch of pairs (image, target) a list of images and a list of targets: a DataLoader's `collate_fn`.

    Images of different sizes could not be stacked.
    """
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)
