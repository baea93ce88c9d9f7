"""COCO's layout: a folder of images and one JSON file with boxes, masks, crowds and categories.

A box is stated as [x, y, width, height], 0-based, in fractions of pixels. A mask is stated as polygons, or as the
lengths of its runs down the columns (RLE), plain or compressed.

Labelling tools write the same in many ways. What has one plain meaning is read: whole numbers as 64.0 or "64", flags as
"0" or "false", one polygon without the outer list or as a list of corners, four numbers for a rectangle that the box
confirms, backslashes in file names, a size or a list of annotations that is missing. All else is refused by name.
"""

import json
import math
import os
import re
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from torch import Tensor, tensor

from rcnn_tutorial.data.dataset import DetectionDataset, Sample, clean_boxes
from rcnn_tutorial.data.files import check_known, flag, is_text, read_file
from rcnn_tutorial.data.images import FileError, check_image
from rcnn_tutorial.data.masks import box_of, decode, parse_segmentation


class CocoDetection(DetectionDataset):
    """A data set in COCO's layout; images without annotations are part of it.

    Targets have `iscrowd`, `difficult` (COCO itself has no such field; where an annotation has one, it counts), `area`
    and, where every annotation of the file has a segmentation, `masks`. `image_id` is COCO's. The area of an object is
    the one that the file states, else that of its mask, else that of its box; AP by size depends on it.

    Attributes:
        category_ids: COCO's ids of the classes 1..K, so that `category_ids[label - 1]` is a label's; None for a class
            that the file has no category of.

    Args:
        images: folder that the JSON's file names start from.
        annotations: the JSON file.
        transform, other_classes: as in `DetectionDataset`.
        on_error: "raise" refuses a data set with bad files, naming them; "skip" decodes every image once and leaves the
            bad ones out, and annotations of images that are not listed, all listed in `skipped`.
        classes: names in the order of their labels 1..K, without background; by default those of the file in the order
            of its ids. Two files that number their categories differently need it.
    Raises:
        ValueError: malformed JSON, two categories of one name, or bad files: missing, of another size than stated, or
            annotated with an unknown category, a malformed segmentation, area or flag, or coordinates that are not
            finite or of negative width or height.
    """

    def __init__(
        self,
        images: str | PathLike,
        annotations: str | PathLike,
        transform: Callable | None = None,
        on_error: str = "raise",
        classes: Sequence[str] | None = None,
        other_classes: str = "raise",
    ):
        self.images, self.annotations = Path(images), Path(annotations)
        content = _read_json(self.annotations)
        categories = sorted(_by_id(content["categories"], self.annotations, "categories").items())
        self._names = {number: _text(category, "name", self.annotations) for number, category in categories}
        if no_text := [name for name in self._names.values() if not is_text(name)]:
            raise FileError(self.annotations, f"a category is named {no_text[0]!r}, which is no text")
        listed = tuple(self._names.values())
        names = listed if classes is None else classes
        if repeated := [name for name in names if listed.count(name) > 1]:
            numbers = [number for number, name in self._names.items() if name == repeated[0]]
            raise FileError(self.annotations, f"the categories {numbers} have one name, {repeated[0]!r}")
        if classes is None and "background" in listed:
            raise FileError(
                self.annotations, 'a category is named "background" as label 0 is; leave it out by `classes`'
            )
        super().__init__(names, transform, other_classes)
        numbers = {name: number for number, name in self._names.items()}
        self.category_ids = tuple(numbers.get(name) for name in names)
        if other_classes == "skip":  # else a name in vain leads to an annotation that is refused
            check_known(names, listed, self.annotations)

        entries = _by_id(content["images"], self.annotations, "images")
        objects, strays = {number: [] for number in entries}, []
        for annotation in content["annotations"]:
            image_id = _as_whole(annotation.get("image_id"))
            if image_id in objects:
                objects[image_id].append(annotation)
            else:
                strays.append(annotation.get("image_id"))
        self._has_masks = all(
            _segmentation(annotation)
            for annotations in objects.values()
            for annotation in annotations
            if _as_whole(annotation.get("category_id")) in self.category_ids
        )
        self._load(entries, lambda number: self._read(number, entries[number], objects[number]), on_error,
                   [FileError(self.annotations, _strays(strays))] if strays else [])  # fmt: skip

    def _read(self, number, entry, annotations):
        path = self._path(entry)
        size = _check_size(path, entry)
        names = [self._name(annotation, path) for annotation in annotations]
        left_out = self._others(names, path)
        annotations = [a for a, name in zip(annotations, names, strict=True) if name not in left_out]
        labels = [self.classes.index(name) for name in names if name not in left_out]
        parsed = [self._parse(annotation, size, path) for annotation in annotations]
        stated = [_box(a, s, size, path) for a, s in zip(annotations, parsed, strict=True)]
        boxes, keep, clipped = clean_boxes(stated, size, path)
        precise = boxes.astype(np.float64)
        areas = [_area(a, s, box, size, path) for a, s, box in zip(annotations, parsed, precise, strict=True)]
        return Sample(
            image_id=number,
            path=path,
            size=size,
            boxes=boxes,
            keep=keep,
            clipped=clipped,
            labels=labels,
            difficult=[_flag(a, "difficult", path) for a in annotations],
            iscrowd=[_flag(a, "iscrowd", path) for a in annotations],
            area=areas,
            segmentations=parsed if self._has_masks else None,
            left_out=left_out,
        )

    def _path(self, entry):
        name = _text(entry, "file_name", self.annotations)
        path = self.images / name
        return path if "\\" not in name or os.path.exists(path) else self.images / name.replace("\\", "/")

    def _name(self, annotation, path):
        category_id = _whole(annotation, "category_id", path)
        if category_id not in self._names:
            raise FileError(path, f"category {category_id} is not listed in {self.annotations}")
        return self._names[category_id]

    def _parse(self, annotation, size, path):
        """The segmentation, where something depends on it."""
        segmentation = _segmentation(annotation)
        needed = self._has_masks or "bbox" not in annotation or annotation.get("area") is None
        return parse_segmentation(segmentation, size, path) if segmentation and needed else None

    def target(self, index: int) -> dict[str, Tensor]:
        """Give the annotation of one image, without reading its pixels."""
        return super().target(index) | {"image_id": tensor(self.ids[index])}


def _read_json(file):
    try:
        content = json.loads(read_file(file), object_pairs_hook=_unambiguous)
    except FileNotFoundError:
        raise FileError(file, "no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(file, f"not a readable JSON file ({error})") from None
    if isinstance(content, dict):
        content.setdefault("annotations", [])  # COCO's own test images come without
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise FileError(file, f'no list of "{key}"')
        if not all(isinstance(entry, dict) for entry in content[key]):
            raise FileError(file, f'"{key}" must be a list of objects')
    return content


def _unambiguous(pairs):
    """An object of JSON; json alone would take the last of two values that one key has."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"an object has the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return values


def _by_id(entries, file, what):
    by_id = {_whole(entry, "id", file): entry for entry in entries}
    if len(by_id) != len(entries):
        raise FileError(file, f"ids of {what} must differ")
    return by_id


def _strays(image_ids):
    more = f", and {len(image_ids) - 1} more such annotations" if len(image_ids) > 1 else ""
    return f"an annotation of image {image_ids[0]}, which is not listed{more}"


def _text(entry, key, file):
    value = entry.get(key)
    if not isinstance(value, str):
        raise FileError(file, f"{key} is {value!r}, expected str")
    return value


def _whole(entry, key, file):
    number = _as_whole(entry.get(key))
    if number is None:
        raise FileError(file, f"{key} is {entry.get(key)!r}, expected int")
    return number


def _as_whole(value):
    """A whole number of 64 bits, also one that is written as 64.0 or "64"; None where it is none."""
    if isinstance(value, str):
        value = int(value) if re.fullmatch(r"-?[0-9]{1,18}", value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 or abs(value) >= 2**63:
        return None
    return int(value)


def _check_size(path, entry):
    """(width, height) of the picture, which must be what the file states of it."""
    missing = [key for key in ("width", "height") if entry.get(key) is None]
    if entry.get("width") == entry.get("height") == 0:
        missing = ["width", "height"]
    stated = {key: _whole(entry, key, path) for key in ("width", "height") if key not in missing}
    size = check_image(path, None if missing else (stated["width"], stated["height"]))
    for key, side in zip(("width", "height"), size, strict=True):
        if stated.get(key, side) != side:
            raise FileError(path, f"{key} is {stated[key]}, but the image is {size[0]}x{size[1]} pixels")
    return size


def _flag(annotation, key, file):
    value = flag(annotation.get(key, 0))
    if value is None:
        raise FileError(file, f"{key} is {annotation[key]!r}, expected 0, 1, true or false")
    return value


def _segmentation(annotation):
    """What is stated, as a list of polygons or an RLE; None where nothing is."""
    stated = annotation.get("segmentation")
    if not isinstance(stated, list):
        return stated or None
    stated = [polygon for polygon in stated if polygon != []]
    if stated and all(isinstance(v, int | float) for v in stated):
        stated = [stated]
    elif len(stated) > 1 and all(isinstance(corner, list) and len(corner) == 2 for corner in stated):
        stated = [[v for corner in stated for v in corner]]
    return _rectangle(stated, annotation.get("bbox")) or stated or None


def _rectangle(stated, box):
    """The polygon of a rectangle that is stated by four numbers, or None.

    Four numbers may be x, y, width, height, as pycocotools counts boxes, or two corners, or a stroke: the box decides.
    """
    if not _four_numbers(box) or len(stated) != 1 or not _four_numbers(stated[0]):
        return None
    a, b, c, d = stated[0]
    x, y, width, height = box
    for box_in_words, (x1, y1, x2, y2) in ((box, (a, b, a + c, b + d)), ((x, y, x + width, y + height), stated[0])):
        if np.allclose(stated[0], box_in_words, rtol=0, atol=1):  # tools round one of the two
            return [[x1, y1, x1, y2, x2, y2, x2, y1]]
    return None


def _four_numbers(values):
    return isinstance(values, list) and len(values) == 4 and all(map(_is_number, values))


def _is_number(value):
    """Whether it can be a coordinate: true is no number here, and a whole number may be too long for a float."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)


def _box(annotation, segmentation, size, file):
    if "bbox" not in annotation and segmentation is not None:
        return box_of(segmentation, size)
    box = annotation.get("bbox")
    if not _four_numbers(box):
        raise FileError(file, f"bbox is {box!r}, expected [x, y, width, height]")
    x, y, width, height = box
    return x, y, x + width, y + height


def _area(annotation, segmentation, box, size, file):
    stated = annotation.get("area")
    if stated is None:
        return decode(segmentation, size).sum() if segmentation is not None else (box[2:] - box[:2]).prod()
    try:
        area = math.nan if isinstance(stated, bool) else float(stated)
    except (TypeError, ValueError, OverflowError):
        area = math.nan
    if not 0 <= area < math.inf:
        raise FileError(file, f"area is {stated!r}, expected a number of at least 0")
    return area
