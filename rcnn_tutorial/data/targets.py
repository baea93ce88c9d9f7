"""Targets, the annotations of one image each: the one check of them, and what the loaders share to make them."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from rcnn_tutorial.data.images import FileError, read_image
from rcnn_tutorial.data.masks import decode
from rcnn_tutorial.ops.boxes import validate
from rcnn_tutorial.ops.warp import LEAST_SIDE

LISTED = 10  # bad files that an error message names
PER_OBJECT = ("boxes", "labels", "masks", "difficult", "iscrowd", "area")  # one row for each object
FLAGS = ("difficult", "iscrowd")
PER_IMAGE = ("image_id", "proposals", "size", "orig_size")  # and every number, word or tensor without a dimension


def check_target(
    target: dict[str, Tensor], name: str, classes: Sequence[str] | None = None, area: bool = True
) -> dict[str, Tensor]:
    """The target itself, once it is known to be one; called wherever a target enters.

    Shapes and types are always checked, values only on the CPU, since looking at them would make a GPU wait.

    Args:
        target: `boxes` (N, 4) and `labels` (N,), also where N is 0; `difficult`, `iscrowd`, `area`, `masks` and tensors
            of other names have N rows too. `image_id`, `proposals` (M, 4), `size` and `orig_size` are about the image.
        name: what the error message calls it, such as "dataset[3]".
        classes: names of the labels, background first; without them labels have no upper bound.
        area: ask for boxes of positive width and height, as training does.
    Returns:
        A dict of the same fields: labels as int64, flags as booleans, boxes as floating-point numbers.
    Raises:
        ValueError: a field that is missing, of another type or of another length than the boxes, a box or a label that
            is none, a flag other than 0 and 1. The message names the target, and the `image_id` where it has one.
    """
    try:
        return _checked(target, classes, area)
    except ValueError as error:
        id = target.get("image_id") if isinstance(target, dict) else None
        about = "" if id is None else f" (image_id {id.tolist() if isinstance(id, Tensor) else id})"
        raise ValueError(f"{name}{error}{about}") from None


def select_objects(target: dict[str, Tensor], keep: Tensor) -> dict[str, Tensor]:
    """A checked target with some of its objects: (N,) bool says which, in every field that has a row for each."""
    return {key: value[keep] if is_per_object(key, value) else value for key, value in target.items()}


def is_per_object(key: str, value: object) -> bool:
    """Whether a field of a target has a row for each object."""
    return isinstance(value, Tensor) and value.ndim > 0 and key not in PER_IMAGE


def trained_on(target: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checked target without its difficult and crowd objects, which training leaves out."""
    flags = [target[flag] for flag in FLAGS if flag in target]
    return select_objects(target, ~torch.stack(flags).any(dim=0)) if flags else target


def _checked(target, classes, area):
    if not isinstance(target, dict):
        raise ValueError(f": expected a dict, got {type(target).__name__}")
    missing = [key for key in ("boxes", "labels") if key not in target]
    if missing:
        raise ValueError(
            f": expected the keys {missing}, got {sorted(map(str, target))}; "
            "an image without objects has boxes (0, 4) and labels (0,)"
        )
    checked = dict(target)
    boxes = target["boxes"]
    if isinstance(boxes, BoundingBoxes) and boxes.format != BoundingBoxFormat.XYXY:
        raise ValueError(f"['boxes']: expected x1, y1, x2, y2, got {boxes.format.value}")
    if not isinstance(boxes, Tensor) or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"['boxes']: expected (N, 4), got {_shape(boxes)}")
    checked["boxes"] = boxes = boxes.as_subclass(Tensor) if boxes.is_floating_point() else boxes.float()
    validate(boxes, "['boxes']", area=area)
    for key, value in target.items():
        if key in PER_OBJECT or is_per_object(key, value):
            if not isinstance(value, Tensor) or value.shape[:1] != boxes.shape[:1]:
                raise ValueError(f"['{key}']: expected a tensor of {len(boxes)} rows, as boxes, got {_shape(value)}")
        elif isinstance(value, list | tuple | dict | np.ndarray) and key not in PER_IMAGE:
            raise ValueError(f"['{key}']: expected a tensor, a number or a word, got {type(value).__name__}")
    for key in ("labels", *FLAGS, "area"):
        if key in target and target[key].ndim != 1:
            raise ValueError(f"['{key}']: expected ({len(boxes)},), got {_shape(target[key])}")
    if "masks" in target and target["masks"].ndim != 3:
        raise ValueError(f"['masks']: expected ({len(boxes)}, H, W), got {_shape(target['masks'])}")
    checked["labels"] = _labels(target["labels"], classes)
    for flag in FLAGS:
        if flag in target:
            checked[flag] = _flags(flag, target[flag])
    if "proposals" in target:
        validate(target["proposals"], "['proposals']")
    return checked


def _labels(labels, classes):
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"['labels']: expected integers, got {labels.dtype}")
    if labels.device.type == "cpu" and len(labels):
        first, last = labels.min().item(), labels.max().item()
        most = last if classes is None else len(classes) - 1
        if first < 1 or last > most:
            bound = "on" if classes is None else f"to {most} (classes)"
            raise ValueError(
                f"['labels']: expected labels from 1 {bound}, 0 is background, got {first if first < 1 else last}"
            )
    return labels.long()


def _flags(key, flags):
    if flags.is_floating_point() or flags.is_complex():
        raise ValueError(f"['{key}']: expected booleans, got {flags.dtype}")
    if flags.dtype != torch.bool and flags.device.type == "cpu" and ((flags != 0) & (flags != 1)).any():
        raise ValueError(f"['{key}']: expected booleans, or 0 and 1, got {flags.tolist()}")
    return flags.bool()


def _shape(value):
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


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
    """One image and its objects, cleaned; N objects, and how many were clipped or left out on the way."""

    id: str | int
    path: Path
    size: tuple[int, int]  # width, height
    boxes: np.ndarray  # (N, 4)
    labels: Sequence[int]
    difficult: Sequence[bool]
    clipped: int
    dropped: int
    iscrowd: Sequence[bool] | None = None  # None where the data set has no such field, here and below
    area: Sequence[float] | None = None
    segmentations: Sequence | None = None  # as `parse_segmentation` returns them
    left_out: Mapping[str, int] = field(default_factory=dict)  # {class: number of objects}


class DetectionDataset(Dataset):
    """Images with boxes. `dataset[i]` reads pixels, `dataset.target(i)` the annotation alone.

    Attributes:
        classes: names, "background" first, so that `classes[label]` names a label.
        ids: what the data set itself calls its images.
        skipped: {file: reason} of what `on_error="skip"` left out; a warning of the logger says how many.
        clipped, dropped: numbers of boxes that were clipped to their image, and left out for want of area.
        clipped_files, dropped_files: {image file: number of boxes}.
        left_out: number of objects of classes that were not asked for.
        left_out_classes: {class: number of objects}.
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
        self.skipped = {error.file: error.reason for error in problems}
        if problems and on_error == "raise":
            raise ValueError(_summary(self.skipped))
        if problems:
            logging.getLogger(__name__).warning("left out: %s", _summary(self.skipped))
        self._pack(samples)

    def _pack(self, samples):
        """Keep the objects of all images in a few large tensors: a DataLoader sends thousands of small ones badly."""
        self.ids = tuple(s.id for s in samples)
        self._files = [(str(s.path), s.size) for s in samples]
        self._starts = np.cumsum([0, *(len(s.labels) for s in samples)])
        self._boxes = torch.from_numpy(np.concatenate([np.zeros((0, 4), np.float32), *(s.boxes for s in samples)]))
        self._labels = torch.tensor([v for s in samples for v in s.labels], dtype=torch.int64)
        self._difficult = torch.tensor([v for s in samples for v in s.difficult], dtype=torch.bool)
        iscrowd, area, segmentations = (_column(samples, name) for name in ("iscrowd", "area", "segmentations"))
        self._more = {}  # fields that not every data set has
        if iscrowd is not None:
            self._more["iscrowd"] = torch.tensor(iscrowd, dtype=torch.bool)
        if area is not None:  # in float32 an area just above a bound would lie on it
            self._more["area"] = torch.tensor(area, dtype=torch.float64)
        self._segmentations = segmentations
        self.clipped_files = {str(s.path): s.clipped for s in samples if s.clipped}
        self.dropped_files = {str(s.path): s.dropped for s in samples if s.dropped}
        self.clipped, self.dropped = sum(self.clipped_files.values()), sum(self.dropped_files.values())
        self.left_out_classes = dict(sum((Counter(s.left_out) for s in samples), Counter()))
        self.left_out = sum(self.left_out_classes.values())

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        path, size = self._files[range(len(self))[index]]
        image, target = read_image(path, size), self.target(index)
        return (image, target) if self.transform is None else self.transform(image, target)

    def target(self, index: int) -> dict[str, Tensor]:
        """The annotation of one image, without reading its pixels."""
        index = range(len(self))[index]
        target = {
            "boxes": self._of(self._boxes, index),
            "labels": self._of(self._labels, index),
            "difficult": self._of(self._difficult, index),
            "image_id": torch.tensor(index),
        }
        target |= {name: self._of(values, index) for name, values in self._more.items()}
        if self._segmentations is not None:
            (_, size), rows = self._files[index], slice(self._starts[index], self._starts[index + 1])
            masks = [decode(segmentation, size) for segmentation in self._segmentations[rows]]
            target["masks"] = torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, *size[::-1]))
        return target

    def path(self, index: int) -> Path:
        """The file of one image."""
        return Path(self._files[index][0])

    def _of(self, values, index):
        return values[self._starts[index] : self._starts[index + 1]].clone()


def _column(samples, name):
    """A field of all objects, or None where a sample lacks it."""
    values = [getattr(sample, name) for sample in samples]
    return None if any(v is None for v in values) else [v for objects in values for v in objects]


def _summary(problems: dict[str, str]) -> str:
    lines = [f"  {file}: {reason}" for file, reason in list(problems.items())[:LISTED]]
    if len(problems) > LISTED:
        lines.append(f"  and {len(problems) - LISTED} more")
    return "\n".join([f"{len(problems)} bad file{'s' * (len(problems) != 1)}:", *lines])
