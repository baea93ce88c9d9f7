"""The three layouts as they are written, each with what it cannot hold counted."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from rcnn_tutorial.data.masks import box_of, decode
from rcnn_tutorial.data.splits import many
from rcnn_tutorial.data.voc_xml import write_annotation

DIGITS = 8  # decimals of a share in YOLO's text: a thousandth of a pixel in a picture of 50,000
SAME_BOX = 0.01  # pixels by which a box may differ from that of its polygon, since COCO's files have two decimals
BORDER = 255  # number of the pixels between objects in VOC's masks of 8 bits


@dataclass(frozen=True)
class Picture:
    """A picture with its N objects, as a writer takes it.

    Attributes:
        split, name, id: of the picture; `name` is its file name, unlike that of any other.
        size: (width, height).
        boxes: (N, 4) x1, y1, x2, y2, pixels.
        labels, difficult, crowd: N each; labels from 1 on.
        areas: N, or None where the data set states none.
        segmentations: N lists of polygons or runs, or None.
    """

    split: str
    name: str
    id: str | int
    size: tuple[int, int]
    boxes: np.ndarray
    labels: Sequence[int]
    difficult: Sequence[bool]
    crowd: Sequence[bool]
    areas: Sequence[float] | None
    segmentations: Sequence[Any] | None


class Writer(Protocol):
    """One layout."""

    def __init__(self, folder: Path, classes: Sequence[str]): ...

    def add(self, picture: Picture) -> Path:
        """Write what is known of a picture, and say where its file belongs."""
        ...

    def finish(self) -> list[str]:
        """Write what is about all pictures, and say what could not be held."""
        ...


class VocWriter:
    """JPEGImages, Annotations, ImageSets/Main and, where there are masks, SegmentationObject."""

    def __init__(self, folder: Path, classes: Sequence[str]):
        self.folder, self.classes = folder, classes
        self.splits: dict[str, list[str]] = {}
        self.lost: Counter[str] = Counter()
        self.seen: set[int] = set()
        (folder / "Annotations").mkdir()

    def add(self, picture: Picture) -> Path:
        """Write the XML of a picture, and its masks."""
        sides = picture.boxes[:, 2:] - picture.boxes[:, :2]
        kept = [i for i, side in enumerate(sides) if side.tolist() != [1, 1]]  # the reader takes them for clicks
        stem = Path(picture.name).stem
        self.splits.setdefault(picture.split, []).append(stem)
        self.seen.update(picture.labels[i] for i in kept)
        self.lost["clicks"] += len(sides) - len(kept)
        self.lost["crowds"] += sum(picture.crowd[i] for i in kept)
        self.lost["areas"] += _has_own_areas(picture)
        write_annotation(
            self.folder / "Annotations" / f"{stem}.xml",
            picture.name,
            picture.size,
            picture.boxes[kept],  # pyright: ignore[reportArgumentType]  # as_tensor takes arrays
            [self.classes[picture.labels[i] - 1] for i in kept],
            [picture.difficult[i] or picture.crowd[i] for i in kept],
        )
        if picture.segmentations is not None:
            masks = [decode(picture.segmentations[i], picture.size) for i in kept]
            self._write_masks(stem, masks, picture.boxes[kept], picture.size)
        return self.folder / "JPEGImages" / picture.name

    def _write_masks(self, stem, masks, boxes, size):
        """One picture of numbers. Of masks that overlap the smaller one is on top, and each has one pixel at least."""
        numbers = np.zeros(size[::-1], dtype=np.uint16)  # (H, W)
        for i in sorted(range(len(masks)), key=lambda i: -int(masks[i].sum())):
            numbers[masks[i]] = i + 1
        for i, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
            if not (numbers == i + 1).any():
                rows, columns = np.nonzero(mask)
                middle = ((box[:2] + box[2:]) / 2).astype(int)
                x, y = (columns[0], rows[0]) if len(rows) else middle
                numbers[y, x] = i + 1
        self.lost["overlaps"] += sum(not np.array_equal(numbers == i + 1, mask) for i, mask in enumerate(masks))
        place = self.folder / "SegmentationObject" / f"{stem}.png"
        place.parent.mkdir(exist_ok=True)
        if len(masks) >= BORDER:
            Image.fromarray(numbers).save(place)
            return
        image = Image.fromarray(numbers.astype(np.uint8))
        image.putpalette(_palette())  # so that a viewer shows the objects
        image.save(place)

    def finish(self) -> list[str]:
        """Write the lists of the splits."""
        lists = self.folder / "ImageSets" / "Main"
        lists.mkdir(parents=True)
        both = self.splits.get("train", []) + self.splits.get("val", [])
        for split, stems in {**self.splits, "trainval": both}.items():
            (lists / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
        unseen = [name for label, name in enumerate(self.classes, start=1) if label not in self.seen]
        notes = ["VOC's layout has no list of classes: whoever reads it sorts the names that it finds."]
        notes += [f"No object is of the class {name!r}, so it is not in the new data set." for name in unseen]
        return notes + _sentences(
            self.lost,
            {
                "clicks": ("box", "of a single pixel left out, because VOC's readers take such boxes for stray clicks"),
                "crowds": ("crowd", "marked as difficult, because VOC's layout has no crowds"),
                "areas": ("picture", "written without the stated areas of objects, which VOC's layout cannot hold"),
                "overlaps": ("mask", "changed where it lies under another one, because a pixel has one number"),
            },
        )


class CocoWriter:
    """A folder of pictures for each split, and annotations/instances_<split>.json."""

    def __init__(self, folder: Path, classes: Sequence[str]):
        self.folder, self.classes = folder, classes
        self.contents: dict[str, dict[str, list]] = {}

    def add(self, picture: Picture) -> Path:
        """Note a picture and its objects."""
        content = self.contents.setdefault(picture.split, {"images": [], "annotations": []})
        number = picture.id if isinstance(picture.id, int) else len(content["images"]) + 1
        width, height = picture.size
        content["images"].append({"id": number, "file_name": picture.name, "width": width, "height": height})
        for i, box in enumerate(picture.boxes):
            x1, y1, x2, y2 = (_decimal(value) for value in box)
            annotation = {
                "id": len(content["annotations"]) + 1,
                "image_id": number,
                "category_id": picture.labels[i],
                "bbox": [_number(value) for value in (x1, y1, x2 - x1, y2 - y1)],
                "area": self._area(picture, i),
                "iscrowd": int(picture.crowd[i]),
            }
            if picture.difficult[i]:
                annotation["difficult"] = 1
            if picture.segmentations is not None:
                annotation["segmentation"] = _coco_segmentation(picture.segmentations[i], picture.size)
            content["annotations"].append(annotation)
        return self.folder / picture.split / picture.name

    def _area(self, picture, i):
        if picture.areas is not None:
            return _number(_decimal(picture.areas[i]))
        if picture.segmentations is not None:
            return int(decode(picture.segmentations[i], picture.size).sum())
        x1, y1, x2, y2 = (_decimal(value) for value in picture.boxes[i])
        return _number((x2 - x1) * (y2 - y1))

    def finish(self) -> list[str]:
        """Write the JSON files."""
        categories = [{"id": label, "name": name} for label, name in enumerate(self.classes, start=1)]
        (self.folder / "annotations").mkdir()
        for split, content in self.contents.items():
            file = self.folder / "annotations" / f"instances_{split}.json"
            file.write_text(json.dumps({**content, "categories": categories}), encoding="utf-8")
        return []


class YoloWriter:
    """Folders images/<split> and labels/<split>, and data.yaml."""

    def __init__(self, folder: Path, classes: Sequence[str]):
        self.folder, self.classes = folder, classes
        self.splits: dict[str, None] = {}
        self.lost: Counter[str] = Counter()
        self.waiting: list[tuple[Path, list[str], list[str] | None]] = []  # file, lines of boxes, of polygons

    def add(self, picture: Picture) -> Path:
        """Note the lines of a picture: whether they are of boxes or of polygons depends on all pictures."""
        kept = [i for i, crowd in enumerate(picture.crowd) if not crowd]
        self.splits[picture.split] = None
        self.lost["crowds"] += len(picture.crowd) - len(kept)
        self.lost["difficult"] += sum(picture.difficult[i] for i in kept)
        self.lost["areas"] += _has_own_areas(picture)
        boxes = [_line(picture, i, _centred(picture.boxes[i])) for i in kept]
        polygons = None
        if picture.segmentations is not None:
            shapes = [_polygon(picture, i) for i in kept]
            self.lost["masks"] += sum(shape is None for shape in shapes)
            polygons = [_line(picture, i, shape) for i, shape in zip(kept, shapes, strict=True) if shape is not None]
        file = self.folder / "labels" / picture.split / Path(picture.name).with_suffix(".txt")
        self.waiting.append((file, boxes, polygons))
        return self.folder / "images" / picture.split / picture.name

    def finish(self) -> list[str]:
        """Write the labels and data.yaml."""
        for file, boxes, polygons in self.waiting:
            file.parent.mkdir(parents=True, exist_ok=True)
            lines = boxes if polygons is None or self.lost["masks"] else polygons
            file.write_text("".join(lines), encoding="utf-8")
        content = {split: f"images/{split}" for split in self.splits} | {"names": dict(enumerate(self.classes))}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (self.folder / "data.yaml").write_text(text, encoding="utf-8")
        return _sentences(
            self.lost,
            {
                "crowds": ("crowd", "left out, because YOLO's layout has none"),
                "difficult": ("difficult object", "kept without that mark, because YOLO's layout has none"),
                "areas": ("picture", "written without the stated areas of objects, which YOLO's layout cannot hold"),
                "masks": (
                    "object", "not a single polygon with the object's box, so all masks are left out and boxes written",
                ),
            },
        )  # fmt: skip


WRITERS: dict[str, type[Writer]] = {"voc": VocWriter, "coco": CocoWriter, "yolo": YoloWriter}


def _sentences(counts, told):
    return [
        f"{many(counts[key], noun)} {'is' if counts[key] == 1 else 'are'} {what}."
        for key, (noun, what) in told.items()
        if counts[key]
    ]


def _decimal(value: float) -> Decimal:
    """The shortest decimal number that float32 reads as this value."""
    return Decimal(np.format_float_positional(np.float32(value), trim="-"))


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _coco_segmentation(segmentation, size):
    if isinstance(segmentation, list):
        return segmentation
    runs = {"size": [size[1], size[0]], "counts": segmentation.tolist()}
    code = cast(Any, coco_mask).frPyObjects(runs, size[1], size[0])
    return {"size": runs["size"], "counts": code["counts"].decode()}


def _has_own_areas(picture: Picture) -> bool:
    """Whether an area is stated that neither a mask nor the box of its object gives."""
    if picture.areas is None or picture.segmentations is not None:
        return False
    return not np.allclose((picture.boxes[:, 2:] - picture.boxes[:, :2]).prod(axis=1), picture.areas, rtol=0.01)


def _centred(box):
    x1, y1, x2, y2 = (float(value) for value in box)
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def _polygon(picture: Picture, i: int) -> list[float] | None:
    """The corners of an object that is one polygon within its picture and its box; None for any other."""
    assert picture.segmentations is not None
    segmentation = picture.segmentations[i]
    if not isinstance(segmentation, list) or len(segmentation) != 1 or len(segmentation[0]) < 6:
        return None
    corners = np.array(segmentation[0], dtype=float)
    inside = (corners >= 0).all() and (corners.reshape(-1, 2) <= picture.size).all()
    close = np.abs(np.array(box_of(segmentation, picture.size)) - picture.boxes[i]).max() <= SAME_BOX
    return corners.tolist() if inside and close else None


def _line(picture: Picture, i: int, lengths: Sequence[float]) -> str:
    """A line of YOLO's text: the number of the class, from 0 on, and lengths as shares of the picture's sides."""
    sides = picture.size * (len(lengths) // 2)
    shares = [f"{length / side:.{DIGITS}f}" for length, side in zip(lengths, sides, strict=True)]
    return f"{picture.labels[i] - 1} {' '.join(shares)}\n"


def _palette() -> list[int]:
    """VOC's colours: the bits of a number, from the lowest on, go to red, green and blue in turn."""
    colors = []
    for number in range(256):
        for channel in range(3):
            colors.append(sum((number >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)))
    return colors
