"""Putting samples of different sizes into one batch."""

from collections.abc import Sequence

from torch import Tensor


def collate(batch: Sequence[tuple[Tensor, dict[str, Tensor]]]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """The `collate_fn` of a DataLoader: a list of (image, target) becomes a list of images and a list of targets."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)
