"""The exercise of 03_fast_rcnn about RoIAlign: where the gradient of a point goes."""

from functools import partial
from math import floor

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any, near_all

_generator = torch.Generator().manual_seed(3)


# 03-D: backwards through bilinear interpolation


def _spread(gradient: Tensor, x: Tensor, y: Tensor, shape: tuple, to: str = "near", add: bool = True) -> Tensor:
    """The gradient (H, W) of a map from those of points, with the mistakes one can make as options."""
    out = torch.zeros(shape)
    for g, across, down in zip(gradient.tolist(), x.tolist(), y.tolist(), strict=True):
        column, row = floor(across), floor(down)
        a, b = across - column, down - row
        if to == "far":
            a, b = 1 - a, 1 - b
        if to == "exchanged":
            a, b = b, a
        weights = {(0, 0): (1 - a) * (1 - b), (0, 1): a * (1 - b), (1, 0): (1 - a) * b, (1, 1): a * b}
        if to == "nearest":
            weights = {(int(b >= 0.5), int(a >= 0.5)): 1.0}
        if to == "quarters":
            weights = dict.fromkeys(weights, 0.25)
        for (i, j), weight in weights.items():
            if weight and row + i < shape[0] and column + j < shape[1]:
                out[row + i, column + j] = g * weight + (out[row + i, column + j] if add else 0)
    return out


def _points(n: int, shape: tuple, last: bool) -> tuple:
    """Gradients of points between the cells of a map, on eighths; some of them on its last row and column."""
    x, y = (torch.randint(1, 8 * size - 8, (n,), generator=_generator) / 8 for size in (shape[1], shape[0]))
    x, y = ((place + 0.125 * (place == place.floor())) for place in (x, y))  # none in the middle of a cell
    if last:
        x[0], y[1] = shape[1] - 1, shape[0] - 1
    return torch.randint(1, 9, (n,), generator=_generator).float(), x, y, shape


def _by_index(gradient: Tensor, x: Tensor, y: Tensor, shape: tuple) -> Tensor:
    """The mistake of += with an index that names a cell twice."""
    out, column, row = torch.zeros(shape), x.floor().long(), y.floor().long()
    a, b = x - column, y - row
    for i, j, weight in ((0, 0, (1 - a) * (1 - b)), (0, 1, a * (1 - b)), (1, 0, (1 - a) * b), (1, 1, a * b)):
        out[row + i, column + j] += gradient * weight
    return out


_INNER = [_points(3 + k % 4, (4 + k % 3, 5 + k % 4), last=False) for k in range(14)]
_LAST = [_points(4, (4, 6), last=True) for _ in range(6)]

_FAR = (
    "The cell next to the point gets the least.",
    "The weight of a cell is large if the point is near: 1 - a for x = 4.",
)
_EXCHANGED = "The upper and the right cell got each other's share.", "a belongs to x and b to y."
_QUARTERS = "All four cells get the same.", "Each cell gets the gradient times the weight with which it was read."
_NEAREST = (
    "Only one cell gets a gradient.",
    "Nothing is rounded: the point was read from four cells, and all four share.",
)

_four = partial(near_all, tol=0.006)

SPREAD = (
    Part(
        "the four gradients",
        _four((1, 3, 1, 3)),
        (
            Mistake(*_FAR, _four((3, 1, 3, 1))),
            Mistake(*_EXCHANGED, _four((1, 1, 3, 3))),
            Mistake(*_QUARTERS, _four((2, 2, 2, 2))),
            Mistake(*_NEAREST, _four((0, 8, 0, 0), (0, 0, 0, 8))),
        ),
        "The shares are the four weights of section 9 with a = 0.75 and b = 0.5. They add up to 1.",
    ),
    Part(
        "the function",
        agrees(_spread, _INNER + _LAST),
        (
            Mistake(*_FAR, agrees_any(_INNER, partial(_spread, to="far"))),
            Mistake(*_EXCHANGED, agrees_any(_INNER, partial(_spread, to="exchanged"))),
            Mistake(*_QUARTERS, agrees_any(_INNER, partial(_spread, to="quarters"))),
            Mistake(*_NEAREST, agrees_any(_INNER, partial(_spread, to="nearest"))),
            Mistake(
                "Where two points share a cell, one of them is lost.",
                "What arrives at a cell adds up: += and not =. An index that names a cell twice keeps one even with "
                "+=: index_put_ with accumulate=True adds.",
                agrees_any(_INNER, partial(_spread, add=False), _by_index),
            ),
        ),
        "Try one point with a gradient of 8 at (4.75, 1.5). A point may lie on the last row or column of the map: the "
        "cells beyond have no weight.",
    ),
)
