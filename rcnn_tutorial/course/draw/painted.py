"""Detections painted into the pixels of a picture, at its own size: what is written to a file or a video.

Pillow draws, which takes milliseconds; a figure of matplotlib takes half a second and has a size of its own.
"""

from collections.abc import Sequence
from functools import cache
from os import PathLike
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from rcnn_tutorial.course.draw.style import class_color, ink, on_cpu
from rcnn_tutorial.data.images import as_viewed, read_image
from rcnn_tutorial.data.masks import decode_masks, mask_areas
from rcnn_tutorial.engine.checks import expect
from rcnn_tutorial.evaluation.detected import Detected

LETTERS = 0.026  # their size, as a share of the mean of the picture's sides
LEAST_LETTERS = 10  # pixels; smaller ones cannot be read
LINE = 0.003  # the width of a line, as the same share
COVER = 0.4  # how much of the picture a mask hides
REACH = 3  # heights of a label between it and its box at most

Box = tuple[float, float, float, float]


@on_cpu
def painted(
    image: Tensor | Image.Image | str | PathLike, detected: Detected, names: bool = True, scores: bool = True
) -> Image.Image:
    """Paint the boxes of a picture's detections, their masks, names and scores, in the colours of their classes.

    The better detection lies on top, and its label is placed first. No label lies on another one or leaves the
    picture; where there is no free place near a box, its label is left out.

    Args:
        image: (3, H, W) RGB in [0, 1], a picture of Pillow, or a file.
        detected: what `rcnn_tutorial.detect` gave for it.
        names, scores: whether a label names the class, and tells the score.
    Returns:
        A picture of the same size.
    Raises:
        ValueError: the detections are those of a picture of another size.
    """
    pixels = pixels_of(image, detected)
    height, width = pixels.shape[1:]
    raster = pixels.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()  # (H, W, 3)
    colors = [class_color(label) for label in detected.labels.tolist()]
    canvas = Image.fromarray(_tinted(raster, detected, colors))
    pen, side = ImageDraw.Draw(canvas), (width + height) / 2
    line = max(2, round(LINE * side))
    for box, color in reversed(list(zip(detected.boxes.tolist(), colors, strict=True))):
        _frame(pen, box, color, line)
    texts = label_texts(detected, names, scores)
    _write(pen, detected.boxes.tolist(), texts, colors, max(LEAST_LETTERS, round(LETTERS * side)))
    return canvas


def pixels_of(image: Tensor | Image.Image | str | PathLike, detected: Detected) -> Tensor:
    """Give a picture as (3, H, W) float32 on the CPU, as a viewer shows it.

    Raises:
        ValueError: it is not of the size that the detections are about.
    """
    if isinstance(image, Tensor):
        pixels = image.detach().cpu().float()
    else:
        pixels = as_viewed(image) if isinstance(image, Image.Image) else read_image(image)
    width, height = detected.size
    got = f"{pixels.shape[2]}x{pixels.shape[1]}"
    expect(pixels.shape == (3, height, width), "image", f"{width}x{height} pixels, as detected", got)
    return pixels


def label_texts(detected: Detected, names: bool = True, scores: bool = True) -> list[str]:
    """Give the words of each detection's label, empty where nothing is to be told."""
    columns = zip(detected.names, detected.scores.tolist(), strict=True)
    return [" ".join([name] * names + [f"{score:.2f}"] * scores) for name, score in columns]


def place_labels(
    boxes: Sequence[Box], sizes: Sequence[tuple[int, int]], picture: tuple[int, int]
) -> list[tuple[int, int] | None]:
    """Find places for labels that neither lie on each other nor leave the picture.

    A label goes above its box, else inside, below, to the box's right edge, or to the nearest place that others leave.

    Args:
        boxes: of each label x1, y1, x2, y2, in the order in which the labels choose.
        sizes: (width, height) of each label, pixels.
        picture: (width, height), pixels.
    Returns:
        The upper left corner of each label, or None where it finds no place.
    """
    taken, places = np.empty((0, 4), int), []
    for box, size in zip(boxes, sizes, strict=True):
        corner = _place(box, size, picture, taken)
        places.append(corner)
        if corner is not None:
            taken = np.vstack((taken, (*corner, corner[0] + size[0], corner[1] + size[1])))
    return places


def _place(box, size, picture, taken):
    (width, height), room = size, np.subtract(picture, size)
    if not width or (room < 0).any():
        return None
    x1, y1, x2, y2 = (round(v) for v in box)
    usual = [(x, y) for x in (x1, x2 - width) for y in (y1 - height, y1, y2, y2 - height)]
    beside = [*taken[:, 2], *(taken[:, 0] - width)], [*(taken[:, 1] - height), *taken[:, 3]]
    shifted = [(x, y) for x in (x1, x2 - width, *beside[0]) for y in (y1 - height, *beside[1])]
    home = np.array((x1, y1 - height))
    for options in (usual, shifted):
        spots = np.clip(np.array(options, int).reshape(-1, 2), 0, room)  # (S, 2)
        spots = spots[_gaps(spots, size, (x1, y1, x2, y2)) <= REACH * height]
        spots = spots[~_overlap(spots, size, taken)]
        if len(spots):
            nearest = 0 if options is usual else int(np.abs(spots - home).sum(axis=1).argmin())
            return int(spots[nearest, 0]), int(spots[nearest, 1])
    return None


def _gaps(spots, size, box):
    """How far labels at these corners lie from a box, pixels."""
    low, high = np.array(box[:2]), np.array(box[2:])
    return np.maximum(np.maximum(low - spots - size, spots - high), 0).max(axis=1)


def _overlap(spots, size, taken):
    """Whether labels at these corners (S, 2) would lie on one of those that are there (T, 4)."""
    ends, corners = spots + size, spots[:, None]  # (S, 1, 2)
    meets = (corners < taken[None, :, 2:]) & (ends[:, None] > taken[None, :, :2])  # (S, T, 2)
    return meets.all(axis=2).any(axis=1)


def _tinted(raster, detected, colors):
    """The picture with the masks in it, small ones on top."""
    if not detected.runs:
        return raster
    mixed, (width, height) = raster.astype(np.float32), detected.size
    for i in mask_areas(detected.runs).argsort(descending=True, stable=True).tolist():
        inside = decode_masks(detected.runs[i : i + 1], (height, width))[0].numpy()
        mixed[inside] = (1 - COVER) * mixed[inside] + COVER * 255 * np.array(to_rgb(colors[i]), np.float32)
    return mixed.round().astype(np.uint8)


def _frame(pen, box, color, line):
    """A box with a thin white rim on both sides, which stands out from any picture."""
    x1, y1, x2, y2 = (round(v) for v in box)
    x2, y2 = max(x2 - 1, x1), max(y2 - 1, y1)  # Pillow's box includes its last pixel
    rim = max(1, line // 3)
    pen.rectangle((x1 - rim, y1 - rim, x2 + rim, y2 + rim), outline="white", width=line + 2 * rim)
    pen.rectangle((x1, y1, x2, y2), outline=color, width=line)


def _write(pen, boxes, texts, colors, letters):
    font, pad = _font(letters), max(2, letters // 5)
    up, down = font.getmetrics()
    texts = [_fitting(text, font, pen.im.size[0] - 2 * pad) for text in texts]
    sizes = [(round(font.getlength(text)) + 2 * pad if text else 0, up + down + pad) for text in texts]
    for corner, size, text, color in zip(place_labels(boxes, sizes, pen.im.size), sizes, texts, colors, strict=True):
        if corner is not None:
            x, y = corner
            pen.rectangle((x, y, x + size[0] - 1, y + size[1] - 1), fill=color)
            pen.text((x + pad, y + pad // 2), text, fill=ink(color), font=font)


def _fitting(text, font, width):
    """The text, or as many of its first letters as fit into the picture."""
    if font.getlength(text) <= width:
        return text
    count = next((n for n in range(len(text) - 1, 0, -1) if font.getlength(f"{text[:n]}…") <= width), 0)
    return f"{text[:count]}…" if count else ""


@cache
def _font(size):
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), size)
