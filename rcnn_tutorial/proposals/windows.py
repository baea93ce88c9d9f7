"""Proposals that do not look at the image: what selective search has to beat."""

from collections.abc import Sequence
from math import floor, sqrt

import torch
from torch import Tensor

from rcnn_tutorial.ops.boxes import clip_boxes_to_image

RATIOS = (0.5, 1.0, 2.0)  # height / width


def sliding_windows(size: tuple[int, int], n: int, smallest: float = 24.0, ratios: Sequence[float] = RATIOS) -> Tensor:
    """Lay the densest grid of at most n windows of many sizes and shapes over an image.

    Sides grow by a factor of sqrt(2), up to the shorter side of the image. Every window moves by the same share of
    its own width and height, and that share is as small as n allows.

    Args:
        size: (height, width) of the image, pixels.
        n: how many windows at most.
        smallest: side of the smallest windows, as the square root of their area, pixels.
        ratios: height / width.
    Returns:
        (M, 4) pixels, M <= n, the largest first. Where no window fits, the whole image.
    Raises:
        ValueError: a size, side or ratio that is not positive, or n under one window of each shape.
    """
    _check(size, n)
    if not smallest > 0 or not ratios or not min(ratios) > 0:
        raise ValueError(f"smallest, ratios: expected positive numbers, got {smallest} and {tuple(ratios)}")
    shapes = _shapes(size, smallest, ratios) or [(float(size[0]), float(size[1]))]
    if n < len(shapes):
        raise ValueError(f"n: expected at least {len(shapes)}, one window of each shape, got {n}")
    too_small, share = 0.0, max(size) / min(map(min, shapes))  # so large a share leaves one window of each shape
    for _ in range(50):
        middle = (too_small + share) / 2
        if sum(rows * columns for rows, columns in _counts(size, shapes, middle)) <= n:
            share = middle
        else:
            too_small = middle
    counts = _counts(size, shapes, share)
    return torch.cat([_grid(size, shape, count) for shape, count in zip(shapes, counts, strict=True)])


def random_boxes(size: tuple[int, int], n: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw boxes between two corners anywhere in the image.

    Args:
        size: (height, width) of the image, pixels.
        n: how many.
        generator: of the CPU.
    Returns:
        (n, 4) pixels.
    Raises:
        ValueError: a size or number that is not positive.
    """
    _check(size, n)
    corners = torch.rand(n, 2, 2, generator=generator) * torch.tensor([size[1], size[0]])
    return torch.cat(corners.aminmax(dim=1), dim=1)


def _shapes(size: tuple[int, int], smallest: float, ratios: Sequence[float]) -> list[tuple[float, float]]:
    """(height, width) of all windows that fit, the largest first."""
    shapes, side, step = [], smallest, 0
    while side <= min(size):
        shapes = [(side * sqrt(ratio), side / sqrt(ratio)) for ratio in ratios] + shapes
        step += 1
        side = smallest * 2 ** (step / 2)
    return [(height, width) for height, width in shapes if height <= size[0] and width <= size[1]]


def _counts(size: tuple[int, int], shapes: Sequence[tuple[float, float]], share: float) -> list[tuple[int, int]]:
    """(rows, columns) of each shape's grid, when it moves by a share of its height and width."""
    return [
        (
            floor((size[0] - height) / (share * height)) + 1,
            floor((size[1] - width) / (share * width)) + 1,
        )
        for height, width in shapes
    ]


def _grid(size: tuple[int, int], shape: tuple[float, float], count: tuple[int, int]) -> Tensor:
    y, x = ((whole - side) * (torch.arange(n) + 0.5) / n for whole, side, n in zip(size, shape, count, strict=True))
    y1, x1 = torch.meshgrid(y, x, indexing="ij")
    boxes = torch.stack((x1, y1, x1 + shape[1], y1 + shape[0]), dim=-1).flatten(0, 1)  # (rows, columns, 4) -> (M, 4)
    return clip_boxes_to_image(boxes, size)


def _check(size: tuple[int, int], n: int) -> None:
    if len(size) != 2 or not min(size) > 0:
        raise ValueError(f"size: expected (height, width) of at least one pixel, got {tuple(size)}")
    if n < 1:
        raise ValueError(f"n: expected a number from 1 on, got {n}")
