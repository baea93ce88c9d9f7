"""Outlines of the generated shapes, and the pixels inside them.

A shape is a list of closed contours; a point is inside when a ray from it crosses them an odd number of times, so that
a second contour cuts a hole. Vertices are rounded to 1/96 px and pixels are tested in whole numbers: the masks, and
with them the annotations, are the same on every machine.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import RandomState

UNIT = 96  # vertex positions per pixel

Contours = list[np.ndarray]  # each (n, 2), x right, y down


class Raster(NamedTuple):
    """The pixels of a shape within an image.

    Attributes:
        window: rows and columns of the part of the image that holds the shape.
        alpha: (h, w) float32, the share of each pixel of the window that is covered.
        mask: (h, w) bool, True where the pixel's centre is inside.
    """

    window: tuple[slice, slice]
    alpha: np.ndarray
    mask: np.ndarray


def integer(random: RandomState, low: int, high: int) -> int:
    """A whole number in low..high - 1; unlike `randint`, of the same width on every system."""
    return int(random.uniform(low, high))


def _polar(angles: np.ndarray, radii: np.ndarray | float) -> np.ndarray:
    radians = np.deg2rad(angles)
    return np.stack((radii * np.cos(radians), radii * np.sin(radians)), axis=1)


def _arc(start: float = 0.0, stop: float = 360.0, radius: float = 1.0) -> np.ndarray:
    count = max(8, round(abs(stop - start) / 5))
    return _polar(np.linspace(start, stop, count, endpoint=abs(stop - start) < 360), radius)


def _regular(corners: int) -> np.ndarray:
    return _polar(np.arange(corners) * 360 / corners - 90, 1.0)


def _star(points: int, inner: float) -> np.ndarray:
    radii = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return _polar(np.arange(2 * points) * 180 / points - 90, radii)


def _points(*flat: float) -> np.ndarray:
    return np.array(flat, dtype=np.float64).reshape(-1, 2)


def _bar(random: RandomState) -> Contours:
    aspect = random.uniform(2.2, 3.6)
    width, height = (aspect, 1.0) if random.uniform() < 0.5 else (1.0, aspect)
    return [_points(0, 0, width, 0, width, height, 0, height)]


def _broken_ring(random: RandomState) -> Contours:
    gap, hole = random.uniform(55, 110), random.uniform(0.45, 0.62)
    return [np.concatenate((_arc(gap, 359.9), _arc(359.9, gap, hole)))]


def _heart(random: RandomState) -> Contours:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [np.stack((x, -y), axis=1)]


def _crescent(random: RandomState) -> Contours:
    bite = random.uniform(0.45, 0.65)  # centre of the second circle, which meets the first at -50 and 50 degrees
    tip = _polar(np.array([50.0]), 1.0)[0] - [bite, 0.0]
    angle = np.rad2deg(np.arctan2(tip[1], tip[0]))
    inner = _arc(360 - angle, angle, np.hypot(*tip)) + [bite, 0.0]
    return [np.concatenate((_arc(50, 310), inner))]


def _drop(random: RandomState) -> Contours:
    return [np.concatenate((_arc(-35, 215), _points(0, -random.uniform(1.8, 2.3))))]


def _gear(random: RandomState) -> Contours:
    teeth = integer(random, 8, 11)
    corners = np.arange(4 * teeth) + np.tile([0.35, 0.0, 0.0, -0.35], teeth)
    radii = np.tile([0.75, 1.0, 1.0, 0.75], teeth)
    return [_polar(corners * 90 / teeth, radii), _arc(radius=0.3)]


def _clover(random: RandomState) -> Contours:
    angles = np.arange(120) * 3.0
    return [_polar(angles, 0.68 + 0.32 * np.cos(np.deg2rad(angles) * integer(random, 3, 5)))]


def _polygon(*flat: float) -> Callable[[RandomState], Contours]:
    return lambda random: [_points(*flat)]


# Sizes and angles do not matter here: `fit` turns and scales.
OUTLINES: dict[str, Callable[[RandomState], Contours]] = {
    "square": _polygon(0, 0, 1, 0, 1, 1, 0, 1),
    "bar": _bar,
    "ring": lambda random: [_arc(), _arc(radius=random.uniform(0.42, 0.65))],
    "disc": lambda random: [_arc()],
    "star5": lambda random: [_star(5, random.uniform(0.34, 0.42))],
    "star6": lambda random: [_star(6, random.uniform(0.5, 0.58))],
    "broken_ring": _broken_ring,
    "half_disc": lambda random: [_arc(0, 180)],
    "hexagon": lambda random: [_regular(6)],
    "star4": lambda random: [_star(4, random.uniform(0.34, 0.46))],
    "triangle": lambda random: [_regular(3)],
    "ellipse": lambda random: [_arc() * [1.0, random.uniform(0.45, 0.6)]],
    "pentagon": lambda random: [_regular(5)],
    "trapezium": _polygon(0.25, 0, 0.75, 0, 1, 0.7, 0, 0.7),
    "parallelogram": _polygon(0.4, 0, 1.2, 0, 0.8, 0.65, 0, 0.65),
    "kite": _polygon(0, -0.5, 0.5, 0, 0, 1.1, -0.5, 0),
    "cross": _polygon(1, 0, 2, 0, 2, 1, 3, 1, 3, 2, 2, 2, 2, 3, 1, 3, 1, 2, 0, 2, 0, 1, 1, 1),
    "arrow": _polygon(0, 1, 2, 1, 2, 0, 4, 1.6, 2, 3.2, 2, 2.2, 0, 2.2),
    "chevron": _polygon(0, 0, 1, 0, 2, 1.2, 1, 2.4, 0, 2.4, 1, 1.2),
    "heart": _heart,
    "crescent": _crescent,
    "drop": _drop,
    "gear": _gear,
    "clover": _clover,
    "house": _polygon(0, 1, 1, 0, 2, 1, 1.7, 1, 1.7, 2.1, 0.3, 2.1, 0.3, 1),
    "ell": _polygon(0, 0, 1, 0, 1, 2, 2.2, 2, 2.2, 3, 0, 3),
    "tee": _polygon(0, 0, 3, 0, 3, 1, 2, 1, 2, 3, 1, 3, 1, 1, 0, 1),
    "lightning": _polygon(1, 0, 2.2, 0, 1.4, 1.3, 2.1, 1.3, 0.3, 3.6, 0.8, 1.9, 0, 1.9),
    "hourglass": _polygon(0, 0, 1.5, 0, 0.9, 1, 1.5, 2, 0, 2, 0.6, 1),
    "pie": lambda random: [np.concatenate((_points(0, 0), _arc(0, 285)))],
}


def fit(contours: Contours, angle: float, stretch: float, size: float) -> Contours:
    """Widen the contours by `stretch`, turn them by `angle` degrees, and scale them to a box of longer side `size`.

    Returns:
        Contours whose box is centred on the origin.
    """
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turn = np.array([[cosine, sine], [-sine, cosine]])
    turned = [contour * [stretch, 1.0] @ turn for contour in contours]
    low, high = turned[0].min(0), turned[0].max(0)  # the first contour is the outer one
    scale = size / (high - low).max()
    return [(contour - (low + high) / 2) * scale for contour in turned]


def area(contours: Contours) -> float:
    """Area in square pixels: that of the first contour, less the holes."""
    doubled = []
    for contour in contours:
        x, y = np.rint(contour * UNIT).astype(np.int64).T
        doubled.append(abs(int((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())))
    return (2 * doubled[0] - sum(doubled)) / (2 * UNIT**2)


def rasterise(contours: Contours, height: int, width: int, samples: int = 3) -> Raster | None:
    """The pixels of an image of `height` by `width` that the contours enclose; None where they enclose none.

    `samples` points per pixel and axis, an odd number, are tested; the mask is that of the middle one, the centre.
    """
    points = np.concatenate(contours)
    left, top = np.maximum(np.floor(points.min(0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(points.max(0)).astype(int), [width, height])
    if left >= right or top >= bottom:
        return None
    rows, columns = samples * (bottom - top), samples * (right - left)
    step = UNIT // samples
    sample_y = step * np.arange(rows) + step // 2
    crossings = np.zeros((rows, columns + 1), dtype=np.uint8)
    for contour in contours:
        start = np.rint(contour * UNIT).astype(np.int64) - [left * UNIT, top * UNIT]
        stop = np.roll(start, -1, axis=0)
        # A row crosses an edge when exactly one of its ends is above the row: (edges, rows)
        edge, row = np.nonzero((start[:, 1:] <= sample_y) != (stop[:, 1:] <= sample_y))
        x, y = start[edge].T
        run, rise = (stop - start)[edge].T
        # First sample not left of the crossing x + (sample_y - y) run / rise, rounded up in whole numbers
        numerator = (x - step // 2) * rise + (sample_y[row] - y) * run
        column = -(-numerator * np.sign(rise) // (step * np.abs(rise)))
        np.add.at(crossings, (row, np.clip(column, 0, columns)), 1)
    inside = crossings.cumsum(1, dtype=np.uint8)[:, :-1] & 1  # odd counts stay odd when a uint8 runs over
    mask = inside[samples // 2 :: samples, samples // 2 :: samples] == 1
    if not mask.any():
        return None
    hits = inside.reshape(bottom - top, samples, right - left, samples).sum(axis=(1, 3), dtype=np.uint8)  # (h, w)
    alpha = np.multiply(hits, 1 / samples**2, dtype=np.float32)
    return Raster((slice(top, bottom), slice(left, right)), alpha, mask)
