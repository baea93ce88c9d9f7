"""COCO's layout: a folder of images and one JSON file with boxes, masks, crowds and categories.

A box is stated as [x, y, width, height], 0-based, in fractions of pixels. A mask is stated as polygons, or as the
lengths of its runs down the columns (RLE), plain or compressed.
"""

import json
from collections.abc import Callable
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from rcnn_tutorial.data.images import FileError, check_image
from rcnn_tutorial.data.targets import DetectionDataset, Sample, clean_boxes


class CocoDetection(DetectionDataset):
    """A data set in COCO's layout; images without annotations are part of it.

    Targets have `iscrowd`, `difficult` (COCO itself has no such field; where an annotation has one, it counts) and,
    where every annotation of the file has a segmentation, `masks`. `image_id` is COCO's.

    Attributes:
        category_ids: COCO's ids of the classes 1..K, so that `category_ids[label - 1]` is a label's.

    Args:
        images: folder that the JSON's file names start from.
        annotations: the JSON file.
        transform: called as transform(image, target), returns the two.
        on_error: "raise" refuses a data set with bad files, naming them; "skip" decodes every image once and leaves the
            bad ones out, listed in `skipped`.
    Raises:
        ValueError: malformed JSON, or bad files: missing, of another size than stated, or annotated with an unknown
            category, a malformed segmentation, or coordinates that are not finite or of negative width or height.
    """

    def __init__(
        self,
        images: str | PathLike,
        annotations: str | PathLike,
        transform: Callable | None = None,
        on_error: str = "raise",
    ):
        self.images, self.annotations = Path(images), Path(annotations)
        content = _read_json(self.annotations)
        categories = _by_id(content["categories"], self.annotations, "categories")
        names = [_entry(category, "name", str, self.annotations) for _, category in sorted(categories.items())]
        super().__init__(names, transform)
        self.category_ids = tuple(sorted(categories))

        entries = _by_id(content["images"], self.annotations, "images")
        objects = {id: [] for id in entries}
        for annotation in content["annotations"]:
            image_id = _entry(annotation, "image_id", int, self.annotations)
            if image_id not in objects:
                raise FileError(self.annotations, f"an annotation of image {image_id}, which is not listed")
            objects[image_id].append(annotation)
        self._has_masks = all(annotation.get("segmentation") for annotation in content["annotations"])
        samples = self._load(entries, lambda id: self._read(entries[id], objects[id]), on_error)
        self._iscrowd = torch.tensor([v for s in samples for v in s.iscrowd], dtype=torch.bool)
        self._segmentations = [v for s in samples for v in s.segmentations]

    def _read(self, entry, annotations):
        path = self.images / _entry(entry, "file_name", str, self.annotations)
        width, height = (_entry(entry, key, int, path) for key in ("width", "height"))
        size = check_image(path, (width, height))
        labels = [self._label(_entry(a, "category_id", int, path), path) for a in annotations]
        boxes, keep, clipped = clean_boxes([_box(a, path) for a in annotations], size, path)
        segmentations = [_parse_segmentation(a["segmentation"], size, path) for a in annotations if self._has_masks]
        return Sample(
            id=entry["id"],
            path=path,
            size=size,
            boxes=boxes[keep],
            labels=_kept(labels, keep),
            difficult=_kept([bool(a.get("difficult", 0)) for a in annotations], keep),
            clipped=int((clipped & keep).sum()),
            dropped=int((~keep).sum()),
            iscrowd=_kept([bool(a.get("iscrowd", 0)) for a in annotations], keep),
            segmentations=_kept(segmentations, keep),
        )

    def _label(self, category_id, path):
        if category_id not in self.category_ids:
            raise FileError(path, f"category {category_id} is not listed in {self.annotations}")
        return self.category_ids.index(category_id) + 1

    def target(self, index: int) -> dict[str, Tensor]:
        """The annotation of one image, without reading its pixels."""
        index = range(len(self))[index]
        target = super().target(index)
        target["image_id"] = torch.tensor(self.ids[index])
        target["iscrowd"] = self._of(self._iscrowd, index)
        if self._has_masks:
            width, height = self._files[index][1]
            rows = slice(self._starts[index], self._starts[index + 1])
            masks = [_decode(segmentation, width, height) for segmentation in self._segmentations[rows]]
            target["masks"] = torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, height, width))
        return target


def _read_json(file):
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise FileError(file, "no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(file, f"not a readable JSON file ({error})") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise FileError(file, f'no list of "{key}"')
        if not all(isinstance(entry, dict) for entry in content[key]):
            raise FileError(file, f'"{key}" must be a list of objects')
    return content


def _by_id(entries, file, what):
    by_id = {_entry(entry, "id", int, file): entry for entry in entries}
    if len(by_id) != len(entries):
        raise FileError(file, f"ids of {what} must differ")
    return by_id


def _entry(entry, key, kind, file):
    value = entry.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise FileError(file, f"{key} is {value!r}, expected {kind.__name__}")
    return value


def _kept(values, keep):
    return [value for value, kept in zip(values, keep, strict=False) if kept]


def _box(annotation, file):
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
        raise FileError(file, f"bbox is {box!r}, expected [x, y, width, height]")
    x, y, width, height = box
    return x, y, x + width, y + height


def _parse_segmentation(segmentation, size, file):
    """The polygons, or the runs of an RLE, checked: pycocotools reads past the end of runs that fall short."""
    width, height = size
    if isinstance(segmentation, list):
        for polygon in segmentation:
            if not _is_polygon(polygon, reach=max(size)):
                raise FileError(file, f"polygon {polygon} must be numbers x, y, x, y, ... near the image")
        return segmentation
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        raise FileError(file, f"a segmentation must be polygons, or RLE of size {[height, width]}")
    counts = segmentation.get("counts")
    runs = _decompress(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(v) is int and v >= 0 for v in runs) or sum(runs) != width * height:
        raise FileError(file, f"the runs of an RLE must be whole numbers and cover {width * height} pixels")
    return np.array(runs)


def _is_polygon(polygon, reach):
    try:
        return len(polygon) % 2 == 0 and all(-reach <= v <= 2 * reach for v in polygon)
    except TypeError:
        return False


def _decompress(text):
    """Run lengths from COCO's string: 5 bits a character, low ones first; from the fourth on less the last but one."""
    runs, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the number's last character; its bit 4 is the sign
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    return runs


def _decode(segmentation, width, height):
    """(H, W) bool from what `_parse_segmentation` gives."""
    runs = segmentation
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]  # fewer than three corners have no area
        if not polygons:
            return np.zeros((height, width), dtype=bool)
        rle = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
        runs = _decompress(rle["counts"].decode())
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)  # background first
    return pixels.reshape(width, height).T  # runs go down the columns
