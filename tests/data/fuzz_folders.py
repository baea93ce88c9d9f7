"""Small valid folders for the fuzzer, and what stands in them by an independent reading.

A folder is a dict from a relative path to its content: bytes, or one of `Special`. Each has three pictures of 16 x 12
pixels, `a`, `b` and `c`, whose objects are known. The readings here share no line with the package: they know one
spelling of each layout, and give None for what they do not understand.
"""

import io
import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.data.coco import CocoDetection
from rcnn_tutorial.data.voc import VOCDetection
from rcnn_tutorial.data.yolo import YoloDetection

WIDTH, HEIGHT = 16, 12
NAMES = ("ant", "cat")
OBJECTS = {  # class, x1, y1, x2, y2
    "a": [("cat", 1, 2, 9, 10), ("ant", 8, 0, 16, 6)],
    "b": [("ant", 4, 4, 12, 12)],
    "c": [("cat", 0, 0, 8, 6), ("cat", 10, 2, 15, 11)],
}
Content = dict[str, object]


@dataclass(frozen=True)
class Special:
    """Something in the place of a file: "folder", "fifo", "link" (to a target) or "locked" (content, not readable)."""

    kind: str
    target: object = None


@dataclass
class Outcome:
    """What a mutation may lead to.

    Attributes:
        expect: "read", "refused" or "either".
        stem: the one picture that is hit, or None for all.
        renamed: {stem: its new name}.
    """

    expect: str
    stem: str | None = None
    renamed: tuple[str, str] | None = None


@dataclass
class Layout:
    """A valid folder in memory.

    Attributes:
        name: of the layout.
        files: its content.
        annotations: path of the annotation file of each picture, or of the one file of all of them.
        pictures: path of each picture.
        shared: files that concern all pictures.
        load: (root, on_error, public) gives the data set, by `load_dataset` where `public`, else by its class.
        reading: (files, stem, size) gives the objects of a picture, or None for what it does not understand.
    """

    name: str
    files: Content
    annotations: dict[str, str]
    pictures: dict[str, str]
    shared: list[str]
    load: Callable
    reading: Callable
    masks: Callable = field(default=lambda files, stem, size: None)


@cache
def picture(mode="RGB", size=(WIDTH, HEIGHT), kind="JPEG", **options):
    """The bytes of a picture whose pixels differ from each other."""
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(values).convert(mode).save(out, kind, **options)
    return out.getvalue()


def xml(objects):
    """One annotation as VOC writes it, 1-based and inclusive."""
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = "x.jpg"
    size = ET.SubElement(root, "size")
    for tag, value in (("width", WIDTH), ("height", HEIGHT), ("depth", 3)):
        ET.SubElement(size, tag).text = str(value)
    for name, x1, y1, x2, y2 in objects:
        element = ET.SubElement(root, "object")
        ET.SubElement(element, "name").text = name
        ET.SubElement(element, "difficult").text = "0"
        box = ET.SubElement(element, "bndbox")
        for tag, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            ET.SubElement(box, tag).text = str(value)
    return ET.tostring(root, encoding="utf-8")


def voc():
    """PASCAL VOC's folders."""
    files: Content = {f"JPEGImages/{stem}.jpg": picture() for stem in OBJECTS}
    files |= {f"Annotations/{stem}.xml": xml(objects) for stem, objects in OBJECTS.items()}
    files["ImageSets/Main/train.txt"] = b"a\nb\nc\n"

    def load(root, on_error, public):
        if public:
            return load_dataset(root, "train", on_error=on_error)
        return VOCDetection(root, "train", NAMES, on_error=on_error)

    return Layout(
        "voc", files, _paths("Annotations/{}.xml"), _paths("JPEGImages/{}.jpg"),
        ["ImageSets/Main/train.txt"], load, _read_voc("Annotations/{}.xml"),
    )  # fmt: skip


def labelimg():
    """Pictures with their XML beside them, in the subfolder of a split."""
    files: Content = {f"train/{stem}.jpg": picture() for stem in OBJECTS}
    files |= {f"train/{stem}.xml": xml(objects) for stem, objects in OBJECTS.items()}

    def load(root, on_error, public):
        if public:
            return load_dataset(root, "train", on_error=on_error)
        return VOCDetection(root, "train", NAMES, on_error=on_error)

    return Layout(
        "labelimg", files, _paths("train/{}.xml"), _paths("train/{}.jpg"), [], load, _read_voc("train/{}.xml")
    )


def _paths(pattern):
    return {stem: pattern.format(stem) for stem in OBJECTS}


def _read_voc(pattern):
    def reading(files, stem, size):
        path = pattern.format(stem)
        if path not in files:
            return []
        content = _bytes(files, path)
        if content is None or b"<!" in content:
            return None
        objects = []
        for element in ET.fromstring(content).findall("object"):
            box = [_number(element.findtext(f"bndbox/{tag}")) for tag in ("xmin", "ymin", "xmax", "ymax")]
            name = (element.findtext("name") or "").strip()
            if (box[0], box[1]) != (box[2], box[3]):
                objects.append((name, box[0] - 1, box[1] - 1, box[2], box[3]))
        return clipped(objects, size)

    return reading


def coco():
    """Pictures and one JSON file with polygons and an RLE."""
    files: Content = {f"images/{stem}.jpg": picture() for stem in OBJECTS}
    content = {
        "images": [
            {"id": 5 + i, "file_name": f"{stem}.jpg", "width": WIDTH, "height": HEIGHT}
            for i, stem in enumerate(OBJECTS)
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 2, "name": "ant"}],
        "annotations": [],
    }
    for i, objects in enumerate(OBJECTS.values()):
        for name, x1, y1, x2, y2 in objects:
            inside = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
            inside[y1:y2, x1:x2] = 1
            polygon = [[x1, y1, x2, y1, x2, y2, x1, y2]]
            code = coco_mask.encode(inside)
            runs = {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()}
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1, "image_id": 5 + i, "category_id": 3 if name == "cat" else 2,
                    "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0,
                    "segmentation": runs if name == "ant" else polygon,
                }
            )  # fmt: skip
    files["a.json"] = json.dumps(content).encode()

    def load(root, on_error, public):
        return CocoDetection(root / "images", root / "a.json", on_error=on_error, classes=None if public else NAMES)

    return Layout(
        "coco", files, dict.fromkeys(OBJECTS, "a.json"), _paths("images/{}.jpg"), ["a.json"], load,
        _read_coco, _coco_masks,
    )  # fmt: skip


def _coco_annotations(files, stem):
    content = json.loads(_bytes(files, "a.json"))
    entries = [e for e in content["images"] if Path(e["file_name"].replace("\\", "/")).stem == stem]
    if len(entries) != 1:
        return None
    return content, [a for a in content["annotations"] if _number(a["image_id"]) == _number(entries[0]["id"])]


def _read_coco(files, stem, size):
    content, annotations = _coco_annotations(files, stem)
    names = {int(category["id"]): category["name"] for category in content["categories"]}
    objects = []
    for a in annotations:
        x, y, w, h = (_number(v) for v in a["bbox"])
        objects.append((names[int(a["category_id"])], x, y, x + w, y + h))
    return clipped(objects, size)


def _coco_masks(files, stem, size):
    """The masks of a picture as pycocotools draws them, (N, H, W); None where a box was dropped or one has no mask."""
    _, annotations = _coco_annotations(files, stem)
    if len(_read_coco(files, stem, size)) != len(annotations):
        return None
    width, height = size
    masks = []
    for a in annotations:
        stated = a["segmentation"]
        if isinstance(stated, dict) and isinstance(stated["counts"], list):
            stated = coco_mask.frPyObjects(stated, height, width)
        elif isinstance(stated, list):
            if not all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in stated):
                return None
            stated = coco_mask.merge(coco_mask.frPyObjects(stated, height, width))
        if stated["size"] != [height, width] or int(np.sum(coco_mask.area(stated))) > height * width:
            return None
        masks.append(stated)
    return [int(coco_mask.area(m)) for m in masks]


def yolo(polygons=False):
    """Pictures, a text file for each, and data.yaml."""
    files: Content = {f"images/train/{stem}.jpg": picture() for stem in OBJECTS}
    for stem, objects in OBJECTS.items():
        lines = []
        for name, x1, y1, x2, y2 in objects:
            corners = (x1, y1, x2, y1, x2, y2, x1, y2)
            box = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
            values = [v / (HEIGHT if i % 2 else WIDTH) for i, v in enumerate(corners if polygons else box)]
            lines.append(" ".join(map(str, [NAMES.index(name), *values])) + "\n")
        files[f"labels/train/{stem}.txt"] = "".join(lines).encode()
    files["data.yaml"] = b"path: .\ntrain: images/train\nval: images/train\nnc: 2\nnames:\n  0: ant\n  1: cat\n"

    def load(root, on_error, public):
        return (load_dataset if public else YoloDetection)(root, "train", on_error=on_error)

    return Layout(
        "polygons" if polygons else "yolo", files, _paths("labels/train/{}.txt"), _paths("images/train/{}.jpg"),
        ["data.yaml"], load, _read_yolo,
    )  # fmt: skip


def _read_yolo(files, stem, size):
    names = _parsed(_bytes(files, "data.yaml"))["names"]
    names = dict(enumerate(names)) if isinstance(names, list) else names
    path = f"labels/train/{stem}.txt"
    content = _bytes(files, path) if path in files else b""
    objects = []
    for line in content.decode("utf-8-sig").splitlines():
        if not line.strip():
            continue
        kind, *shares = (_number(word) for word in line.split())
        name, sides = str(names[int(kind)]).strip(), np.array(size * (len(shares) // 2))
        values = np.clip(shares, 0, 1) * sides
        if len(shares) == 4:
            (x, y, w, h) = values
            objects.append((name, x - w / 2, y - h / 2, x + w / 2, y + h / 2))
        else:
            objects.append((name, min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])))
    return clipped(objects, size)


@cache
def _parsed(content):
    return yaml.safe_load(content)


def _number(value):
    """A number as plainly as it can be written; all else is not understood."""
    if isinstance(value, bool) or "_" in str(value):
        raise ValueError(value)
    return float(value)


def _bytes(files, path):
    content = files.get(path)
    return content if isinstance(content, bytes) else None


def clipped(objects, size):
    """The objects within the picture that have an area there."""
    width, height = size
    inside = [
        (name, *np.clip((x1, y1), 0, size).tolist(), *np.clip((x2, y2), 0, size).tolist())
        for name, x1, y1, x2, y2 in objects
        if np.isfinite((x1, y1, x2, y2)).all() and x1 <= x2 and y1 <= y2
    ]
    if len(inside) < len(objects):
        raise ValueError("a box that no reader may take")
    return [
        row for row in inside if np.float32(row[1]) < np.float32(row[3]) and np.float32(row[2]) < np.float32(row[4])
    ]


@cache
def _layouts():
    made = [voc(), labelimg(), coco(), yolo(), yolo(polygons=True)]
    return {layout.name: layout for layout in made}


LAYOUTS = ("voc", "labelimg", "coco", "yolo", "polygons")


def layout_of(name: str) -> Layout:
    """A valid folder that can be changed."""
    made = _layouts()[name]
    return replace(made, files=dict(made.files))


def is_bytes(layout: Layout, path: str) -> bool:
    """Whether there is still a file, which a mutation can change further."""
    return isinstance(layout.files.get(path), bytes)


def write(files: Content, root: Path) -> None:
    """Put a folder on the disk."""
    for path, content in files.items():
        place = os.path.join(root, path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if isinstance(content, bytes):
            _write_bytes(place, content)
        elif isinstance(content, Special) and content.kind == "folder":
            os.mkdir(place)
        elif isinstance(content, Special) and content.kind == "fifo":
            os.mkfifo(place)
        elif isinstance(content, Special) and content.kind == "locked":
            _write_bytes(place, content.target)
            os.chmod(place, 0)
        else:
            target = content.target
            if isinstance(target, bytes):  # a link to another place with this content
                _write_bytes(f"{place}.elsewhere", target)
                target = f"{place}.elsewhere"
            os.symlink(target, place)


def _write_bytes(place, content):
    with open(place, "wb") as file:
        file.write(content)
