"""One annotation file of Pascal VOC: what it states of a picture and its objects, read and written.

Its coordinates are 1-based and inclusive: the first pixel is 1, and xmax is the last pixel of the object. Here
they become 0-based and exclusive, so that only the upper left corner moves: x1 = xmin - 1, x2 = xmax.
"""

import math
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from os import PathLike
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import defusedxml.ElementTree
import numpy as np
import torch
from torch import Tensor

from rcnn_tutorial.data.files import FLAGS, flag, read_file
from rcnn_tutorial.data.images import FileError

DIFFICULT = FLAGS | {"no": False, "yes": True, "": False, "unspecified": False}


def parse(file: Path) -> ElementTree.Element:
    """Read an annotation file as a tree; a FileError names what is no annotation."""
    try:
        root = defusedxml.ElementTree.fromstring(read_file(file))
    except (OSError, SyntaxError, ValueError, LookupError) as error:  # ParseError is a SyntaxError
        raise FileError(file, f"not a readable XML file ({error})") from None
    if root.tag != "annotation":
        raise FileError(file, f"the outer element is <{root.tag}>, expected <annotation>")
    return root


def stated_size(root: ElementTree.Element, file: Path) -> tuple[int, int] | None:
    """Read (width, height); None where the annotation leaves the size out, or states labelImg's 0 x 0."""
    element = _only(root, "size", file)
    if element is None:
        return None
    width, height = (_number(element, tag, file, missing="0") for tag in ("width", "height"))
    if width == height == 0:
        return None
    if not all(1 <= v < 2**31 and v % 1 == 0 for v in (width, height)):
        raise FileError(file, f"size {width}x{height} is not in whole pixels")
    return int(width), int(height)


class VocObject(NamedTuple):
    """What an annotation states of one object."""

    name: str
    box: list[float]  # x1, y1, x2, y2
    difficult: bool
    click: bool  # the box is the trace of a click without a drag


def stated_object(element: ElementTree.Element, file: Path) -> VocObject:
    """Read one <object>; a FileError says what is missing or wrong."""
    name, box = _text(element, "name", file), _only(element, "bndbox", file)
    if not name or box is None:
        raise FileError(file, "an object without <name> or <bndbox>")
    xmin, ymin, xmax, ymax = (_number(box, tag, file) for tag in ("xmin", "ymin", "xmax", "ymax"))
    corners = [float(v) for v in (xmin - 1, ymin - 1, xmax, ymax)]
    return VocObject(name, corners, _difficult(element, file), xmin == xmax and ymin == ymax)


def check_pixels(objects: Sequence[VocObject], file: Path) -> None:
    """Refuse a file whose numbers all lie between 0 and 1: some converters write shares of the picture's sides.

    Read as pixels, all objects would be dropped or lie in the first pixel, and nothing would fail.

    Raises:
        FileError: such a file; clicks without a drag do not count.
    """
    shares = np.array([o.box for o in objects if not o.click]).reshape(-1, 4) + [1, 1, 0, 0]  # xmin = x1 + 1
    if shares.size and (abs(shares - 0.5) <= 0.501).all():  # converters round
        raise FileError(
            file,
            "all its boxes lie between 0 and 1, as shares of the picture's sides do; expected pixels: "
            "multiply them by its width and height",
        )


def _difficult(element, file):
    text = _text(element, "difficult", file)
    value = flag(text, DIFFICULT)
    if value is None:
        raise FileError(file, f"<difficult> is {text!r}, expected 0, 1, true, false, yes, no or Unspecified")
    return value


def _only(element, tag, file):
    """The inner element of a name; None where there is none. Of two it cannot be known which is meant."""
    first, *others = element.findall(tag) or [None]
    if others:
        raise FileError(file, f"<{element.tag}> has {len(others) + 1} <{tag}>, expected one")
    return first


def _text(element, tag, file):
    inner = _only(element, tag, file)
    return ("" if inner is None else inner.text or "").strip()


def _number(element, tag, file, missing=""):
    text = _text(element, tag, file) or missing
    if "_" in text:  # which Python takes for 1000 in 1_000
        raise FileError(file, f"<{tag}> is {text!r}, expected a number")
    try:
        value = Decimal(text)  # decimal, because 1.1 - 1 is not 0.1 in binary
    except InvalidOperation:
        raise FileError(file, f"<{tag}> is {text!r}, expected a number") from None
    if not value.is_finite() or not math.isfinite(value):  # a decimal may be too large for a float
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
    rows = np.asarray(torch.as_tensor(boxes).detach().cpu(), dtype=np.float32)
    flags = [False] * len(rows) if difficult is None else difficult
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise ValueError(f"boxes must have shape (N, 4), got {rows.shape}")
    if not len(rows) == len(names) == len(flags):
        raise ValueError(f"{len(rows)} boxes, {len(names)} names and {len(flags)} difficult flags disagree")

    root = ElementTree.Element("annotation")
    _add(root, "filename", _check_text("filename", filename))
    _add_numbers(root, "size", {"width": width, "height": height, "depth": 3})
    for box, name, hard in zip(rows, names, flags, strict=True):
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
