"""Masks as files state them, and masks kept small: polygons, or the lengths of runs down the columns (RLE).

A dense mask takes a byte for each pixel: the masks of a hundred detections in each of 5,000 pictures of 640 x 480 would
take 150 GB. `encode_masks` keeps the lengths of their runs, as pycocotools counts them: about a thousandth of that.
"""

import re
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from rcnn_tutorial.data.images import FileError

# What `_decompress` understands: all but a number's last character have the bit of 32, and no run has 30 bits
RUNS = re.compile("([P-o]{0,6}[0-O])*")


def encode_masks(masks: Tensor) -> list[dict]:
    """Keep masks as run lengths.

    Args:
        masks: (N, H, W), or (N, 1, H, W) as torchvision's detectors give them; booleans, 0 and 1, or probabilities, of
            which those above 0.5 are inside.
    Returns:
        N dicts of `size`, [H, W], and `counts`, pycocotools' bytes.
    Raises:
        ValueError: another shape.
    """
    if masks.ndim == 4 and masks.shape[1] == 1:
        masks = masks[:, 0]  # (N, 1, H, W) -> (N, H, W)
    if masks.ndim != 3:
        raise ValueError(f"masks: expected (N, H, W) or (N, 1, H, W), got {tuple(masks.shape)}")
    inside = (masks > 0.5).cpu().numpy().view(np.uint8)
    # (N, H, W) -> (H, W, N), column by column in memory, as the runs are
    codes: Any = coco_mask.encode(np.asfortranarray(inside.transpose(1, 2, 0)))
    return codes


def decode_masks(codes: Sequence[dict], size: tuple[int, int] = (0, 0)) -> Tensor:
    """Give the masks that `encode_masks` kept.

    Args:
        codes: N dicts of `size` and `counts`.
        size: (height, width) of the result where there is no mask.
    Returns:
        (N, H, W) bool.
    """
    height, width = codes[0]["size"] if codes else size
    masks = [decode(_runs(code), (width, height)) for code in codes]
    return torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, height, width))


def runs_of(mask: np.ndarray) -> np.ndarray:
    """Give the lengths of the runs down the columns of a mask (H, W) bool, as `parse_segmentation` does."""
    return _runs(coco_mask.encode(np.asfortranarray(mask.view(np.uint8))))


def mask_areas(masks: Tensor | Sequence[Any]) -> Tensor:
    """Count the pixels inside each mask.

    Args:
        masks: (N, H, W), or N codes of `encode_masks`.
    Returns:
        (N,) int64, on the CPU.
    """
    if isinstance(masks, Tensor):
        return (masks > 0.5).flatten(1).sum(1).cpu()
    return torch.tensor([int(coco_mask.area(code)) for code in masks], dtype=torch.int64)


def parse_segmentation(segmentation: object, size: tuple[int, int], file: str | PathLike) -> list | np.ndarray:
    """Check the polygons or the runs that a file states: pycocotools reads past the end of runs that fall short.

    Args:
        segmentation: a list of polygons x, y, x, y, ..., or a dict of `size` and `counts`.
        size: (width, height) of the image, pixels.
        file: named in the error.
    Returns:
        The list of polygons, or the array of runs.
    Raises:
        FileError: neither of the two, polygons far from the image, none of three corners or more, or runs that do not
            cover the image.
    """
    width, height = size
    if isinstance(segmentation, list):
        for polygon in segmentation:
            if not _is_polygon(polygon, reach=max(size)):
                raise FileError(file, f"polygon {polygon} must be numbers x, y, x, y, ... near the image")
        if not _with_area(segmentation):
            raise FileError(
                file,
                f"the segmentation {segmentation} has fewer than three corners; "
                "four numbers are read where they state the annotation's bbox",
            )
        return segmentation
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        raise FileError(file, f"a segmentation must be polygons, or RLE of size {[height, width]}")
    counts = segmentation.get("counts")
    if isinstance(counts, str) and RUNS.fullmatch(counts):
        counts = _decompress(counts)
    runs = counts
    if not isinstance(runs, list) or not all(type(v) is int and v >= 0 for v in runs) or sum(runs) != width * height:
        raise FileError(file, f"the runs of an RLE must be whole numbers and cover {width * height} pixels")
    return np.array(runs)


def _is_polygon(polygon, reach):
    if not isinstance(polygon, list) or len(polygon) % 2:
        return False
    return all(type(v) in (int, float) and -reach <= v <= 2 * reach for v in polygon)  # a boolean is no number


def _with_area(polygons):
    """The polygons of three corners or more: beside them tools write specks of one pixel and strokes of two points."""
    return [polygon for polygon in polygons if len(polygon) >= 6]


def _runs(code):
    """The run lengths of pycocotools' code; its own decoder warns with the present numpy."""
    return np.array(_decompress(code["counts"].decode()))


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
    """Draw the mask, (H, W) bool, of what `parse_segmentation` returns."""
    width, height = size
    if isinstance(segmentation, list):
        segmentation = _runs(coco_mask.merge(coco_mask.frPyObjects(_with_area(segmentation), height, width)))
    pixels = np.repeat(np.arange(len(segmentation)) % 2 == 1, segmentation)  # background first
    return pixels.reshape(width, height).T  # runs go down the columns


def box_of(segmentation: list | np.ndarray, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Find the least box x1, y1, x2, y2 around the polygons, or around the pixels of an RLE."""
    if isinstance(segmentation, list):
        x, y = ([v for polygon in segmentation for v in polygon[start::2]] for start in (0, 1))
        return min(x), min(y), max(x), max(y)
    rows, columns = np.nonzero(decode(segmentation, size))
    if not len(rows):
        return 0, 0, 0, 0
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
