"""Masks as files state them: polygons, or the lengths of runs down the columns (RLE), plain or compressed."""

from os import PathLike

import numpy as np
from pycocotools import mask as coco_mask

from rcnn_tutorial.data.images import FileError


def parse_segmentation(segmentation: object, size: tuple[int, int], file: str | PathLike) -> list | np.ndarray:
    """The polygons, or the runs of an RLE, checked: pycocotools reads past the end of runs that fall short.

    Args:
        segmentation: a list of polygons x, y, x, y, ..., or a dict of `size` and `counts`.
        size: (width, height) of the image, pixels.
        file: named in the error.
    Returns:
        The list of polygons, or the array of runs.
    Raises:
        FileError: neither of the two, polygons far from the image, or runs that do not cover it.
    """
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


def decode(segmentation: list | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask, (H, W) bool, of what `parse_segmentation` returns."""
    width, height = size
    runs = segmentation
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]  # fewer than three corners have no area
        if not polygons:
            return np.zeros((height, width), dtype=bool)
        rle = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
        runs = _decompress(rle["counts"].decode())
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)  # background first
    return pixels.reshape(width, height).T  # runs go down the columns


def box_of(segmentation: list | np.ndarray, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The least box x1, y1, x2, y2 around the polygons, or around the pixels of an RLE."""
    if isinstance(segmentation, list):
        x, y = ([v for polygon in segmentation for v in polygon[start::2]] for start in (0, 1))
        return min(x), min(y), max(x), max(y)
    rows, columns = np.nonzero(decode(segmentation, size))
    if not len(rows):
        return 0, 0, 0, 0
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
