"""The size of the input at which the anchors of the laptop's settings fit the objects of somebody's pictures."""

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, Subset

from rcnn_tutorial.data.images import check_image
from rcnn_tutorial.data.wrappers import inner, length, target_of

SCENE = (192, 256)  # shorter and longer side of the generated scenes, for which `tiny()` was made
SMALLEST_ANCHOR = 16  # of `tiny()`, pixels of the input
SIDES = (256, 512)  # least and greatest shorter side that `fitting_size` gives, pixels


def fitting_size(dataset: Dataset, largest: float = 256.0) -> int | None:
    """Find the shorter side of the input at which the anchors of `tiny()` fit the objects of a data set.

    Pictures no larger than the generated scenes stay as they are. Others are resized, such that nine of ten objects
    are at least as large as the smallest anchor, 16 pixels, by the square roots of their areas. But the shorter side is
    at least 256 pixels, and at most 512 and no more than that of most pictures; and if nine of ten objects would not
    be smaller than 1.4 times the largest anchor, it is less, down to 256 pixels.

    Args:
        dataset: of pictures with `dataset.target(i)`; at most 500, evenly chosen, are looked at.
        largest: side of the largest anchor, pixels.
    Returns:
        The shorter side in pixels, a multiple of 16; None for pictures as they are.
    """
    shorter, sides = [], []
    longest = 0
    for index in torch.linspace(0, length(dataset) - 1, min(length(dataset), 500)).round().long().tolist():
        width, height = _size(dataset, index)
        boxes = target_of(dataset, index, area=False)["boxes"]
        shorter.append(min(width, height))
        longest = max(longest, width, height)
        sides.append((boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt() / shorter[-1])
    if max(shorter) <= SCENE[0] and longest <= SCENE[1]:
        return None
    usual = torch.tensor(shorter, dtype=torch.float32).median().item()
    low, high = SIDES[0], min(SIDES[1], usual)
    relative = torch.cat(sides)
    if len(relative):
        small, large = torch.quantile(relative, torch.tensor([0.1, 0.9])).tolist()
        wanted = min(SMALLEST_ANCHOR / small, 1.4 * largest / large)
    else:
        wanted = low
    return max(16, 16 * round(min(max(wanted, low), max(high, SCENE[0])) / 16))


def _size(dataset: Dataset, index: int) -> tuple[int, int]:
    """Width and height of a picture, without its pixels where its file is known."""
    if path := path_of(dataset, index):
        return check_image(path)
    height, width = dataset[index][0].shape[-2:]
    return width, height


def path_of(dataset: Any, index: int) -> Path | None:
    """Name the file of a picture, wherever its data set is wrapped; None where it is known to none."""
    if isinstance(dataset, Subset):
        return path_of(dataset.dataset, dataset.indices[index])
    if hasattr(dataset, "path"):
        return dataset.path(index)
    parts = inner(dataset)
    return path_of(parts[0], index) if len(parts) == 1 else None
