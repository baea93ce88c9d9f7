"""What every reader of a data set on disk shares: cleaned boxes, one report of all bad files, images with targets."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.data.images import FileError, read_image
from rcnn_tutorial.data.masks import decode
from rcnn_tutorial.engine.checks import LEAST_SIDE

LISTED = 10  # bad files that an error message names


def clean_boxes(
    boxes: ArrayLike, size: tuple[int, int], file: str | PathLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clip the boxes of a file to their image, and say which are left with an area and which were clipped.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in pixels, as stated in the file.
        size: (width, height) of the image, pixels.
        file: named in the error.
    Returns:
        (N, 4) float32 clipped boxes, (N,) bool: has area, (N,) bool: was clipped.
    Raises:
        FileError: a coordinate that is not finite, or x2 < x1, or y2 < y1.
    """
    stated = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    for box in stated:
        if not np.isfinite(box).all():
            raise FileError(file, f"box {box.tolist()} is not finite")
        if box[2] < box[0] or box[3] < box[1]:
            raise FileError(file, f"box x1, y1, x2, y2 = {box.tolist()} has its corners exchanged")
    inside = np.clip(stated, 0, [*size, *size]).astype(np.float32)
    has_area = np.all(inside[:, 2:] > inside[:, :2], axis=1)
    return inside, has_area, np.any(inside != stated.astype(np.float32), axis=1)


@dataclass
class Sample:
    """One image and the N objects that its annotation states."""

    image_id: str | int  # what the data set itself calls the image
    path: Path
    size: tuple[int, int]  # width, height
    boxes: np.ndarray  # (N, 4), clipped to the image
    keep: np.ndarray  # (N,) bool, the objects that stay in the data set
    clipped: np.ndarray  # (N,) bool
    labels: Sequence[int]
    difficult: Sequence[bool]
    iscrowd: Sequence[bool] | None = None  # None where the data set has no such field, here and below
    area: Sequence[float] | None = None
    segmentations: Sequence | None = None  # as `parse_segmentation` returns them
    left_out: Mapping[str, int] = field(default_factory=dict)  # {class: number of objects}
    annotated: bool = True  # False where the image has no annotation file

    def kept(self, name: str) -> list:
        """A field of the objects that stay."""
        return [value for value, keep in zip(getattr(self, name), self.keep, strict=True) if keep]


class DetectionDataset(Dataset):
    """Images with boxes. `dataset[i]` reads pixels, `dataset.target(i)` the annotation alone.

    Args:
        classes: names in the order of their labels 1..K, without background.
        transform: called as transform(image, target), returns the two.
        other_classes: "raise" refuses objects of classes that are not in `classes`; "skip" leaves them out and counts
            them in `left_out`.

    Attributes:
        classes: names, "background" first, so that `classes[label]` names a label.
        ids: what the data set itself calls its images.
        skipped: {file: reason} of what `on_error="skip"` left out; a warning of the logger says how many.
        clipped, dropped: numbers of boxes that were clipped to their image, and left out for want of area.
        clipped_files, dropped_files: {image file: number of boxes}.
        left_out: number of objects of classes that were not asked for.
        left_out_classes: {class: number of objects}.
        unannotated: number of images without an annotation file, which count as images without objects.
    """

    def __init__(self, classes: Sequence[str], transform: Callable | None, other_classes: str = "raise"):
        if isinstance(classes, str) or "background" in classes or len(set(classes)) != len(classes):
            raise ValueError(f"classes must be different names without background, got {classes!r}")
        if other_classes not in ("raise", "skip"):
            raise ValueError(f'other_classes must be "raise" or "skip", got {other_classes!r}')
        self.classes = ("background", *classes)
        self.transform, self._other_classes = transform, other_classes

    def _others(self, names: Iterable[str], file: str | PathLike) -> Counter:
        """How many objects of a file are of classes that were not asked for; refused unless they are to be skipped."""
        others = Counter(name for name in names if name not in self.classes[1:])
        if others and self._other_classes == "raise":
            raise FileError(file, f"class {next(iter(others))!r} is none of {', '.join(self.classes[1:])}")
        return others

    def _load(
        self, items: Iterable, read: Callable[..., Sample], on_error: str, problems: Sequence[FileError] = ()
    ) -> None:
        """Read the samples of all items, so that one error tells every bad file, and keep what was read.

        Args:
            items: what `read` takes, one for each image.
            read: gives the sample of an item, or raises a FileError.
            on_error: "raise" or "skip".
            problems: what was wrong before; it is refused or skipped with the rest.
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip", got {on_error!r}')
        samples, problems = [], list(problems)
        for item in items:
            try:
                sample = read(item)
                if min(sample.size) < LEAST_SIDE:
                    size = "x".join(map(str, sample.size))
                    raise FileError(sample.path, f"{size} pixels, expected at least {LEAST_SIDE} on each side")
                if on_error == "skip":
                    read_image(sample.path, sample.size)
                samples.append(sample)
            except FileError as error:
                problems.append(error)
            except OSError as error:  # a file that may not be read, or a name longer than any file has
                problems.append(FileError(error.filename or str(item), error.strerror or str(error)))
        self.skipped = {error.file: error.reason for error in problems}
        if problems and on_error == "raise":
            raise ValueError(_summary(self.skipped))
        if problems:
            logging.getLogger(__name__).warning("left out: %s", _summary(self.skipped))
        self._pack(samples)

    def _pack(self, samples: Sequence[Sample]) -> None:
        """Keep the objects of all images in a few large tensors: a DataLoader sends thousands of small ones badly."""
        self.ids = tuple(s.image_id for s in samples)
        self._files = [(str(s.path), s.size) for s in samples]
        self._starts = np.cumsum([0, *(int(s.keep.sum()) for s in samples)])
        boxes = [np.zeros((0, 4), np.float32), *(s.boxes[s.keep] for s in samples)]
        self._fields = {
            "boxes": torch.from_numpy(np.concatenate(boxes)),
            "labels": torch.tensor(_column(samples, "labels"), dtype=torch.int64),
            "difficult": torch.tensor(_column(samples, "difficult"), dtype=torch.bool),
        }
        iscrowd, area = _column(samples, "iscrowd"), _column(samples, "area")
        if iscrowd is not None:
            self._fields["iscrowd"] = torch.tensor(iscrowd, dtype=torch.bool)
        if area is not None:
            self._fields["area"] = _rounded(torch.tensor(area, dtype=torch.float64))
        self._segmentations = _column(samples, "segmentations")
        self.clipped_files = {str(s.path): count for s in samples if (count := int((s.clipped & s.keep).sum()))}
        self.dropped_files = {str(s.path): count for s in samples if (count := int((~s.keep).sum()))}
        self._left_out_files = {str(s.path): s.left_out for s in samples if s.left_out}
        self._unannotated_files = {str(s.path) for s in samples if not s.annotated}
        self._count()

    def _count(self) -> None:
        """Add up over the images what was clipped, dropped and left out."""
        self.clipped, self.dropped = sum(self.clipped_files.values()), sum(self.dropped_files.values())
        self.left_out_classes = dict(sum((Counter(counts) for counts in self._left_out_files.values()), Counter()))
        self.left_out = sum(self.left_out_classes.values())
        self.unannotated = len(self._unannotated_files)

    def part(self, indices: Sequence[int]) -> Self:
        """Make a data set of some of the images, in this order, which counts theirs alone; `skipped` stays as it is."""
        part = copy(self)
        rows = [row for i in indices for row in range(self._starts[i], self._starts[i + 1])]
        part.ids, part._files = tuple(self.ids[i] for i in indices), [self._files[i] for i in indices]
        part._starts = np.cumsum([0, *(self._starts[i + 1] - self._starts[i] for i in indices)])
        part._fields = {name: values[rows] for name, values in self._fields.items()}
        part._segmentations = None if self._segmentations is None else [self._segmentations[row] for row in rows]
        paths = {path for path, _ in part._files}
        part._unannotated_files = self._unannotated_files & paths
        for name in ("clipped_files", "dropped_files", "_left_out_files"):
            setattr(part, name, {path: value for path, value in getattr(self, name).items() if path in paths})
        part._count()
        return part

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        path, size = self._files[range(len(self))[index]]
        image, target = read_image(path, size), self.target(index)
        return (image, target) if self.transform is None else self.transform(image, target)

    def target(self, index: int) -> dict[str, Tensor]:
        """Give the annotation of one image, without reading its pixels."""
        index = range(len(self))[index]
        rows = slice(self._starts[index], self._starts[index + 1])
        target = {name: values[rows].clone() for name, values in self._fields.items()}
        target["image_id"] = torch.tensor(index)
        if self._segmentations is not None:
            width, height = size = self._files[index][1]
            masks = [decode(segmentation, size) for segmentation in self._segmentations[rows]]
            target["masks"] = torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, height, width))
        return target

    def class_counts(self) -> dict[str, int]:
        """Count the objects of each class, without reading pixels or masks."""
        counts = torch.bincount(self._fields["labels"], minlength=len(self.classes))
        return dict(zip(self.classes[1:], counts[1:].tolist(), strict=True))

    def object_counts(self) -> list[int]:
        """Count the objects of each image, without reading pixels or masks."""
        return np.diff(self._starts).tolist()

    def segmentations(self, index: int) -> list | None:
        """Give the masks of one image as they are stated: for each object a list of polygons, or the runs of an RLE."""
        rows = slice(self._starts[index], self._starts[index + 1])
        return None if self._segmentations is None else list(self._segmentations[rows])

    def path(self, index: int) -> Path:
        """Name the file of one image."""
        return Path(self._files[index][0])

    def size(self, index: int) -> tuple[int, int]:
        """Give (width, height) of one image, pixels, without reading it."""
        return self._files[index][1]


def _column(samples, name):
    """A field of all objects that stay, or None where a sample lacks it."""
    if any(getattr(sample, name) is None for sample in samples):
        return None
    return [value for sample in samples for value in sample.kept(name)]


def _rounded(areas: Tensor) -> Tensor:
    """Areas as float32, none of which lands on a whole number that it is not.

    The bounds between small, medium and large are whole numbers, and an object on a bound counts on both sides of it:
    rounding must not bring it there.
    """
    rounded = areas.float()
    landed = (rounded == rounded.round()) & (rounded.double() != areas)
    back = torch.where(areas > rounded, torch.inf, -torch.inf).float()
    return torch.where(landed, rounded.nextafter(back), rounded)


def _summary(problems: dict[str, str]) -> str:
    lines = [f"  {file}: {reason}" for file, reason in list(problems.items())[:LISTED]]
    if len(problems) > LISTED:
        lines.append(f"  and {len(problems) - LISTED} more")
    return "\n".join([f"{len(problems)} bad file{'s' * (len(problems) != 1)}:", *lines])
