"""What the loaders of VOC and COCO share: cleaning boxes, keeping annotations, reporting bad files."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.data.images import FileError, read_image

LISTED = 10  # bad files that an error message names


def clean_boxes(boxes: Sequence, size: tuple[int, int], file: str | PathLike) -> tuple[np.ndarray, ...]:
    """Clip boxes to their image and find those that are left without area.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in pixels, as stated in the file.
        size: (width, height) of the image, pixels.
        file: named in the error.
    Returns:
        (N, 4) float32 clipped boxes, (N,) bool: has area, (N,) bool: was clipped.
    Raises:
        FileError: a coordinate that is not finite, or x2 < x1, or y2 < y1.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    for box in boxes:
        if not np.isfinite(box).all():
            raise FileError(file, f"box {box.tolist()} is not finite")
        if box[2] < box[0] or box[3] < box[1]:
            raise FileError(file, f"box x1, y1, x2, y2 = {box.tolist()} has its corners exchanged")
    inside = np.clip(boxes, 0, [*size, *size]).astype(np.float32)
    has_area = (inside[:, 2:] > inside[:, :2]).all(axis=1)
    return inside, has_area, (inside != boxes.astype(np.float32)).any(axis=1)


@dataclass
class Sample:
    """One image and its objects, cleaned; N objects, and how many were clipped or dropped on the way."""

    id: str | int
    path: Path
    size: tuple[int, int]  # width, height
    boxes: np.ndarray  # (N, 4)
    labels: Sequence[int]
    difficult: Sequence[bool]
    clipped: int
    dropped: int
    iscrowd: Sequence[bool] = ()
    segmentations: Sequence = ()


class DetectionDataset(Dataset):
    """Images with boxes. `dataset[i]` reads pixels, `dataset.target(i)` the annotation alone.

    Attributes:
        classes: names, "background" first, so that `classes[label]` names a label.
        ids: what the data set itself calls its images.
        skipped: {file: reason} of what `on_error="skip"` left out.
        clipped, dropped: numbers of boxes that were clipped to their image, and left out for want of area.
        clipped_files, dropped_files: {image file: number of boxes}.
    """

    def __init__(self, classes: Sequence[str], transform: Callable | None):
        self.classes = ("background", *classes)
        self.transform = transform

    def _load(self, items: Iterable, read: Callable[..., Sample], on_error: str) -> list[Sample]:
        """Read the samples of all items, so that one error tells every bad file, and keep what was read."""
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip", got {on_error!r}')
        samples, self.skipped = [], {}
        for item in items:
            try:
                sample = read(item)
                if on_error == "skip":
                    read_image(sample.path, sample.size)
                samples.append(sample)
            except FileError as error:
                self.skipped[error.file] = error.reason
        if self.skipped and on_error == "raise":
            raise ValueError(_summary(self.skipped))
        self._pack(samples)
        return samples

    def _pack(self, samples):
        """Keep the objects of all images in a few large tensors: a DataLoader sends thousands of small ones badly."""
        self.ids = tuple(s.id for s in samples)
        self._files = [(str(s.path), s.size) for s in samples]
        self._starts = np.cumsum([0, *(len(s.labels) for s in samples)])
        self._boxes = torch.from_numpy(np.concatenate([np.zeros((0, 4), np.float32), *(s.boxes for s in samples)]))
        self._labels = torch.tensor([v for s in samples for v in s.labels], dtype=torch.int64)
        self._difficult = torch.tensor([v for s in samples for v in s.difficult], dtype=torch.bool)
        self.clipped_files = {str(s.path): s.clipped for s in samples if s.clipped}
        self.dropped_files = {str(s.path): s.dropped for s in samples if s.dropped}
        self.clipped, self.dropped = sum(self.clipped_files.values()), sum(self.dropped_files.values())

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        path, size = self._files[range(len(self))[index]]
        image, target = read_image(path, size), self.target(index)
        return (image, target) if self.transform is None else self.transform(image, target)

    def target(self, index: int) -> dict[str, Tensor]:
        """The annotation of one image, without reading its pixels."""
        index = range(len(self))[index]
        return {
            "boxes": self._of(self._boxes, index),
            "labels": self._of(self._labels, index),
            "difficult": self._of(self._difficult, index),
            "image_id": torch.tensor(index),
        }

    def path(self, index: int) -> Path:
        """The file of one image."""
        return Path(self._files[index][0])

    def _of(self, values, index):
        return values[self._starts[index] : self._starts[index + 1]].clone()


def _summary(problems: dict[str, str]) -> str:
    lines = [f"  {file}: {reason}" for file, reason in list(problems.items())[:LISTED]]
    if len(problems) > LISTED:
        lines.append(f"  and {len(problems) - LISTED} more")
    return "\n".join([f"{len(problems)} bad file{'s' * (len(problems) != 1)}:", *lines])
