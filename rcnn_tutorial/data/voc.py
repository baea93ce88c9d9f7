"""Pascal VOC's layout: JPEGImages/*.jpg, Annotations/*.xml, ImageSets/Main/*.txt; or the XML beside the pictures.

Its coordinates are 1-based and inclusive: the first pixel is 1, and xmax is the last pixel of the object. Here
they become 0-based and exclusive, so that only the upper left corner moves: x1 = xmin - 1, x2 = xmax.
"""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from os import PathLike
from pathlib import Path
from xml.etree import ElementTree

import defusedxml.ElementTree
import numpy as np
import torch
from torch import Tensor

from rcnn_tutorial.data.files import (
    FLAGS,
    SUFFIXES,
    check_annotated,
    find_images,
    flag,
    id_of,
    pick_split,
    read_lines,
    split_names,
    visible_files,
)
from rcnn_tutorial.data.images import FileError, check_image
from rcnn_tutorial.data.targets import DetectionDataset, Sample, clean_boxes

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
DIFFICULT = FLAGS | {"no": False, "yes": True, "": False, "unspecified": False}


class VOCDetection(DetectionDataset):
    """A data set in VOC's layout, or a folder as labelImg leaves it, with the XML beside each picture.

    The image of an id is JPEGImages/<id>.jpg, or another usual suffix where there is no .jpg; the file name inside the
    annotation is often stale and is not read. An id may lie in a subfolder ("cam/1"). A line of a split is an id, with
    or without a suffix, or an id and the flag of a class-wise split (-1, 0, 1), which is not read either: images
    without the class belong to the split.

    A picture without an XML has no objects: some tools write none then. A split whose pictures all lack it is refused.

    Where XML and pictures share their folder, a subfolder "train", "val" or "test" is that split. Without such
    subfolders the pictures are divided at random, always alike: 70 % "train", 15 % "val", 15 % "test".

    A box of exactly one pixel (xmin == xmax and ymin == ymax) is the trace of a click without a drag and is dropped.

    Args:
        root: folder with JPEGImages, Annotations and ImageSets; or with pictures and XML.
        split: name of a file in ImageSets/Main, without ".txt"; "val" and "valid" are one.
        classes: names in the order of their labels 1..K, without background.
        transform: called as transform(image, target), returns the two.
        on_error: "raise" refuses a data set with bad files, naming them; "skip" decodes every image once and leaves the
            bad ones out, listed in `skipped`.
        other_classes: "raise" refuses objects of classes that are not in `classes`; "skip" leaves them out and counts
            them in `left_out`.
    Raises:
        ValueError: no such split, or bad files: missing, malformed, of an unlisted class, of another size than stated,
            with coordinates that are not finite or exchanged.
    """

    def __init__(
        self,
        root: str | PathLike,
        split: str,
        classes: Sequence[str] = VOC_CLASSES,
        transform: Callable | None = None,
        on_error: str = "raise",
        other_classes: str = "raise",
    ):
        super().__init__(classes, transform, other_classes)
        self.root, self.split = Path(root), split
        ids, images = _find(self.root, split)
        files = {name: _annotations(self.root) / f"{name}.xml" for name in ids}
        check_annotated([files[name] for name in ids if name in images], split)
        self._load(ids, lambda name: self._read(name, images, files[name]), on_error)

    def _read(self, name, images, file):
        if name not in images and file.parent.name != "Annotations" and file.is_file():
            raise FileError(file, "there is no picture beside it")
        if name not in images:
            path = self.root / "JPEGImages" / name
            path = path if path.suffix.lower() in SUFFIXES else path.with_name(f"{path.name}.jpg")
            raise FileError(path, f"no such file, but {self.split} names it")
        root = _parse(file) if file.is_file() else ElementTree.Element("annotation")
        size = check_image(images[name], _size(root, file))
        objects = [_object(element, file) for element in root.findall("object")]
        left_out = self._others([name for name, *_ in objects], file)
        objects = [row for row in objects if row[0] not in left_out]
        boxes, keep, clipped = clean_boxes([box for _, box, _, _ in objects], size, file)
        keep &= ~np.array([click for *_, click in objects], dtype=bool)
        labels = np.array([self.classes.index(name) for name, *_ in objects], dtype=np.int64)
        difficult = np.array([difficult for _, _, difficult, _ in objects], dtype=bool)
        return Sample(
            id=name,
            path=images[name],
            size=size,
            boxes=boxes[keep],
            labels=labels[keep],
            difficult=difficult[keep],
            clipped=int((clipped & keep).sum()),
            dropped=int((~keep).sum()),
            left_out=left_out,
        )


def find_classes(root: str | PathLike, on_error: str = "raise") -> tuple[str, ...]:
    """The sorted names of all objects in a folder in VOC's layout, for data that comes without a list of classes.

    Args:
        root: folder as `VOCDetection` takes it.
        on_error: "skip" passes over malformed annotations.
    Raises:
        ValueError: no annotations, or one that is malformed.
    """
    folder, names = _annotations(Path(root)), set()
    for file in visible_files(folder, "*.xml"):
        try:
            names |= {_object(element, file)[0] for element in _parse(file).findall("object")}
        except FileError:
            if on_error == "raise":
                raise
    if not names:
        raise ValueError(f"no objects in {folder}")
    return tuple(sorted(names))


def _annotations(root):
    return root / "Annotations" if (root / "Annotations").is_dir() else root


def _find(root, split):
    """The ids of a split, and {id: picture}."""
    if (root / "JPEGImages").is_dir():
        images = find_images(root / "JPEGImages")
        return _read_split(root / "ImageSets" / "Main", split, images), images
    files = visible_files(_annotations(root), "*.xml")
    if (root / "Annotations").is_dir() or not files:
        raise ValueError(
            f"root must hold JPEGImages, Annotations and ImageSets/Main, or pictures with their XML, got {root}"
        )
    images = find_images(root)
    ids = images.keys() | {id_of(file, root) for file in files}
    return pick_split(ids, split, root), images


def _read_split(folder, split, images):
    paths = [folder / f"{name}.txt" for name in split_names(split)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        there = ", ".join(sorted(p.stem for p in folder.glob("*.txt"))) or "none"
        raise ValueError(f"split {split!r} is not in {folder}; there: {there}")
    return [_listed(line.replace("\\", "/"), images) for line in read_lines(path) if line]


def _listed(line, images):
    """The id that a line of a split means."""
    plain = re.sub(r"\s+(-1|0|1)$", "", line)
    names = [name.strip('"') for name in (line, plain)]  # Datumaro puts names with spaces in quotation marks
    names += [re.sub(r"\.\w+$", "", name) for name in names if Path(name).suffix.lower() in (*SUFFIXES, ".xml")]
    return next((name for name in names if name in images), names[1])


def _parse(file):
    try:
        root = defusedxml.ElementTree.fromstring(file.read_bytes())
    except (OSError, SyntaxError, ValueError, LookupError) as error:  # ParseError is a SyntaxError
        raise FileError(file, f"not a readable XML file ({error})") from None
    if root.tag != "annotation":
        raise FileError(file, f"the outer element is <{root.tag}>, expected <annotation>")
    return root


def _size(root, file):
    """(width, height), or None where the annotation leaves the size out, or states labelImg's 0 x 0."""
    element = root.find("size")
    if element is None:
        return None
    width, height = (_number(element, tag, file, missing="0") for tag in ("width", "height"))
    if width == height == 0:
        return None
    if not all(1 <= v < 2**31 and v % 1 == 0 for v in (width, height)):
        raise FileError(file, f"size {width}x{height} is not in whole pixels")
    return int(width), int(height)


def _object(element, file):
    """Name, box (x1, y1, x2, y2), difficult flag, and whether the box is a click without a drag."""
    name = (element.findtext("name") or "").strip()
    box = element.find("bndbox")
    if not name or box is None:
        raise FileError(file, "an object without <name> or <bndbox>")
    xmin, ymin, xmax, ymax = (_number(box, tag, file) for tag in ("xmin", "ymin", "xmax", "ymax"))
    corners = [float(v) for v in (xmin - 1, ymin - 1, xmax, ymax)]
    return name, corners, _difficult(element, file), xmin == xmax and ymin == ymax


def _difficult(element, file):
    text = (element.findtext("difficult") or "").strip()
    value = flag(text, DIFFICULT)
    if value is None:
        raise FileError(file, f"<difficult> is {text!r}, expected 0, 1, true, false, yes, no or Unspecified")
    return value


def _number(element, tag, file, missing=""):
    text = (element.findtext(tag) or missing).strip()
    try:
        value = Decimal(text)  # decimal, because 1.1 - 1 is not 0.1 in binary
    except InvalidOperation:
        raise FileError(file, f"<{tag}> is {text!r}, expected a number") from None
    if not value.is_finite():
        raise FileError(file, f"<{tag}> is {text!r}, expected a finite number")
    return value


def write_annotation(
    path: str | PathLike,
    filename: str,
    size: tuple[int, int],
    boxes: Tensor,
    names: Sequence[str],
    difficult: Sequence[bool] | None = None,
) -> None:
    """Write one image's objects as a VOC annotation file.

    Args:
        path: the XML file to write.
        filename: name of the image, as the annotation states it.
        size: (width, height) of the image, pixels.
        boxes: (N, 4) x1, y1, x2, y2 in pixels, 0-based, x2 and y2 exclusive; written 1-based and inclusive.
        names: N class names.
        difficult: N flags; none means that no object is difficult.
    Raises:
        ValueError: lengths that disagree, names that XML cannot keep, a box that is not finite, leaves the image or
            has no area, or a box of exactly one pixel, which `VOCDetection` would take for a stray click.
    """
    width, height = _check_size(size)
    boxes = np.asarray(torch.as_tensor(boxes).detach().cpu(), dtype=np.float32)
    difficult = [False] * len(boxes) if difficult is None else difficult
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must have shape (N, 4), got {boxes.shape}")
    if not len(boxes) == len(names) == len(difficult):
        raise ValueError(f"{len(boxes)} boxes, {len(names)} names and {len(difficult)} difficult flags disagree")

    root = ElementTree.Element("annotation")
    _add(root, "filename", _check_text("filename", filename))
    _add_numbers(root, "size", {"width": width, "height": height, "depth": 3})
    for box, name, hard in zip(boxes, names, difficult, strict=True):
        _check_box(box, width, height)
        element = _add(root, "object")
        _add(element, "name", _check_text("names", name))
        _add(element, "difficult", str(int(hard)))
        x1, y1, x2, y2 = (Decimal(np.format_float_positional(v, trim="-")) for v in box)
        _add_numbers(element, "bndbox", {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2})
    ElementTree.indent(root)
    Path(path).write_bytes(ElementTree.tostring(root, encoding="utf-8") + b"\n")


def _add(parent, tag, text=None):
    element = ElementTree.SubElement(parent, tag)
    element.text = text
    return element


def _add_numbers(parent, tag, numbers):
    element = _add(parent, tag)
    for name, value in numbers.items():
        _add(element, name, str(value))


def _check_size(size):
    if len(size) != 2 or any(v != int(v) or v < 1 for v in size):
        raise ValueError(f"size must be (width, height) in whole pixels, got {size}")
    return int(size[0]), int(size[1])


def _check_text(argument, text):
    if not text or text != text.strip() or not text.isprintable():
        raise ValueError(f"{argument} must be printable text without outer spaces, got {text!r}")
    return text


def _check_box(box, width, height):
    x1, y1, x2, y2 = box
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        raise ValueError(f"boxes must have area and lie in the {width}x{height} image, got {box.tolist()}")
    if x2 - x1 == 1 and y2 - y1 == 1:
        raise ValueError(f"boxes of one pixel read back as stray clicks, got {box.tolist()}")
