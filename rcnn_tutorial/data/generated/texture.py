"""Colours, textures and brushes of the generated pictures. Nothing here decides a box or a mask."""

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.random import RandomState

from rcnn_tutorial.data.generated.outline import Raster, rasterise

CONTRAST_FLOOR = 40.0  # least RGB distance, of 441, between an object and most of what its border touches
TWO_COLOURED = 0.8  # share of the larger objects painted in two parts
Texture = Callable[[RandomState, np.ndarray, np.ndarray], np.ndarray]


def clouds(random: RandomState, height: int, width: int, cell: float) -> np.ndarray:
    """(height, width) float32 smooth noise in [-1, 1] whose blobs are about `cell` pixels wide."""

    def position(length: int) -> tuple[np.ndarray, np.ndarray]:
        steps = np.arange(length, dtype=np.float32) / np.float32(cell)
        whole = steps.astype(int)
        part = steps - whole
        return whole, part * part * (3 - 2 * part)

    (row, down), (column, across) = position(height), position(width)
    grid = random.uniform(-1, 1, (row[-1] + 2, column[-1] + 2)).astype(np.float32)
    lines = grid[row] + (grid[row + 1] - grid[row]) * down[:, None]
    return lines[:, column] + (lines[:, column + 1] - lines[:, column]) * across


def _turned(random: RandomState, y: np.ndarray, x: np.ndarray, period: float) -> tuple[np.ndarray, np.ndarray]:
    """Two phases, one along and one across a random direction."""
    angle = random.uniform(0, 2 * np.pi)
    cosine, sine = (np.float32(f(angle) * 2 * np.pi / period) for f in (np.cos, np.sin))
    return x * cosine + y * sine, y * cosine - x * sine


def _sharp(wave: np.ndarray, slope: float) -> np.ndarray:
    return np.clip(wave * np.float32(slope), -1, 1)


def _stripes(random: RandomState, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    along, _ = _turned(random, y, x, random.uniform(5, 18))
    return _sharp(np.sin(along), random.uniform(1, 5))


def _checks(random: RandomState, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    along, across = _turned(random, y, x, random.uniform(9, 26))
    return _sharp(np.sin(along) * np.sin(across), 5)


def _dots(random: RandomState, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    along, across = _turned(random, y, x, random.uniform(7, 18))
    return _sharp(np.cos(along) + np.cos(across) - random.uniform(0.4, 1.2), 3)


def _ripples(random: RandomState, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    distance = np.hypot(y - random.uniform(-40, 200), x - random.uniform(-40, 260))
    return _sharp(np.sin(distance * np.float32(2 * np.pi / random.uniform(7, 20))), random.uniform(1, 4))


def _marble(random: RandomState, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    along, _ = _turned(random, y, x, random.uniform(14, 40))
    return np.sin(along + 3 * clouds(random, y.size, x.size, random.uniform(10, 24)))


def _camouflage(random: RandomState, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return _sharp(clouds(random, y.size, x.size, random.uniform(7, 22)), 6)


def _haze(random: RandomState, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return clouds(random, y.size, x.size, random.uniform(16, 60))


def _grain(random: RandomState, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return random.uniform(-1, 1, (y.size, x.size)).astype(np.float32)


TEXTURES: tuple[Texture, ...] = (_stripes, _checks, _dots, _ripples, _marble, _camouflage, _haze, _grain)


def texture(random: RandomState, window: tuple[slice, slice]) -> np.ndarray:
    """(h, w) float32 in [-1, 1]: one of the textures, in the window's part of the image."""
    y = np.arange(window[0].start, window[0].stop, dtype=np.float32)[:, None]
    x = np.arange(window[1].start, window[1].stop, dtype=np.float32)[None, :]
    return TEXTURES[random.randint(len(TEXTURES))](random, y, x)


def colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """(3,) float32 RGB in [0, 255]; the hue is in turns and wraps around."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), dtype=np.float32) * 255


def strong_colour(random: RandomState) -> np.ndarray:
    """A colour for an object: mostly saturated, now and then nearly white or nearly black."""
    hue, kind = random.uniform(), random.uniform()
    if kind < 0.08:
        return colour(hue, random.uniform(0.0, 0.15), random.uniform(0.88, 1.0))
    if kind < 0.16:
        return colour(hue, random.uniform(0.2, 0.6), random.uniform(0.1, 0.25))
    return colour(hue, random.uniform(0.5, 0.95), random.uniform(0.5, 1.0))


def soft_colour(random: RandomState, hue: float) -> np.ndarray:
    """A colour for a background: near the given hue, of lower saturation."""
    return colour(hue + random.normal(0, 0.07), random.uniform(0.12, 0.6), random.uniform(0.4, 0.97))


def _border(raster: Raster) -> np.ndarray:
    """(h, w) bool: covered pixels with a neighbour that is not wholly covered."""
    full = np.pad(raster.alpha > 0.99, 1)
    inner = full[1:-1, 1:-1] & full[:-2, 1:-1] & full[2:, 1:-1] & full[1:-1, :-2] & full[1:-1, 2:]
    return (raster.alpha > 0) & ~inner


def contrasting_colour(
    random: RandomState, canvas: np.ndarray, raster: Raster, floor: float, faint: bool
) -> np.ndarray:
    """A colour that three quarters of the shape's border differ from by at least `floor` (RGB distance in 0..441).

    Of the colours tried, the faintest that reaches the floor where `faint`, else the first.
    """
    around = canvas[raster.window][_border(raster)]
    around = around[:: 1 + len(around) // 150]  # (P, 3)
    tried = np.stack([strong_colour(random) for _ in range(6)])
    if faint:  # closer to what surrounds it
        tried = around.mean(0) + (tried - around.mean(0)) * random.uniform(0.2, 0.6)
    distance = np.sqrt(((tried[:, None] - around) ** 2).sum(2))  # (6, P)
    contrast = np.sort(distance, axis=1)[:, len(around) // 4]
    enough = np.flatnonzero(contrast >= floor)
    if len(enough) == 0:
        return tried[contrast.argmax()]
    return tried[enough[contrast[enough].argmin()] if faint else enough[0]]


def brush(
    random: RandomState, canvas: np.ndarray, raster: Raster, first: np.ndarray, second: np.ndarray, opacity: float
) -> None:
    """Paint a shape onto the canvas in place, in a texture that runs from the first colour to the second."""
    share = (texture(random, raster.window) + 1)[..., None] / 2  # (h, w, 1)
    part = canvas[raster.window]  # a view
    change = share * (second - first)  # (h, w, 3)
    change += first
    change -= part
    change *= raster.alpha[..., None] * np.float32(opacity)
    part += change


def paint_object(random: RandomState, canvas: np.ndarray, raster: Raster, faint: bool) -> None:
    """Paint an object onto the canvas in place: in one textured colour, or in two on either side of a line."""

    def dye(part: Raster, faint: bool) -> None:
        first = contrasting_colour(random, canvas, part, CONTRAST_FLOOR * (1 if faint else 2.5), faint)
        second = first + (strong_colour(random) - first) * np.float32(random.uniform(0, 0.6))
        brush(random, canvas, part, first, second, 1.0)

    dye(raster, faint)
    height, width = raster.mask.shape
    if min(height, width) > 24 and random.uniform() < TWO_COLOURED:
        angle, offset = random.uniform(0, 2 * np.pi), random.uniform(-0.2, 0.0)
        down, across = np.mgrid[:height, :width] / [[[height]], [[width]]] - 0.5
        side = np.clip((down * np.cos(angle) + across * np.sin(angle) + offset) * min(height, width) + 0.5, 0, 1)
        part = Raster(raster.window, raster.alpha * side.astype(np.float32), raster.mask & (side > 0.5))
        if part.mask.any():
            dye(part, random.uniform() < 0.7)


def random_polygon(random: RandomState, height: int, width: int, size: float) -> Raster | None:
    """An irregular polygon of three to seven corners, about `size` pixels wide, somewhere in the image."""
    angles = np.sort(random.uniform(0, 2 * np.pi, random.randint(3, 8)))
    radii = size / 2 * random.uniform(0.6, 1.2, len(angles))
    centre = random.uniform(0, 1, 2) * [width, height]
    return rasterise([np.stack((np.cos(angles), np.sin(angles)), 1) * radii[:, None] + centre], height, width)


def background(random: RandomState, height: int, width: int, patches: int) -> np.ndarray:
    """(height, width, 3) float32 canvas: a textured ground and `patches` textured polygons of kindred colours."""
    hue = random.uniform()
    everywhere = (slice(0, height), slice(0, width))
    whole = Raster(everywhere, np.ones((height, width), np.float32), np.ones((height, width), bool))
    canvas = np.zeros((height, width, 3), np.float32)
    canvas += soft_colour(random, hue)
    brush(random, canvas, whole, soft_colour(random, hue), soft_colour(random, hue), random.uniform(0.1, 0.65))
    for _ in range(patches):
        raster = random_polygon(random, height, width, random.uniform(30, 150))
        if raster is not None:
            tint = hue + random.uniform(-0.25, 0.25)
            brush(
                random, canvas, raster, soft_colour(random, tint), soft_colour(random, tint), random.uniform(0.3, 0.8)
            )
    return canvas


def veil(random: RandomState, canvas: np.ndarray, count: int) -> None:
    """Lay `count` translucent textured polygons over the canvas, in place."""
    height, width = canvas.shape[:2]
    for _ in range(count):
        raster = random_polygon(random, height, width, random.uniform(40, 140))
        if raster is not None:
            hue = random.uniform()
            brush(random, canvas, raster, soft_colour(random, hue), soft_colour(random, hue), random.uniform(0.12, 0.3))


def develop(random: RandomState, canvas: np.ndarray) -> np.ndarray:
    """The canvas as a photograph, (height, width, 3) uint8: uneven light, and noise of the sensor."""
    height, width = canvas.shape[:2]
    light = 1 + 0.12 * clouds(random, height, width, 120.0)[..., None]
    # The sum of two random bytes is a cheap bell, of mean 255 and standard deviation 104.5
    dice = np.frombuffer(random.bytes(2 * canvas.size), dtype=np.uint8).reshape(2, *canvas.shape)
    noise = (dice[0] + dice[1].astype(np.float32) - 255) * np.float32(random.uniform(1.5, 6) / 104.5)
    return np.clip(canvas * light + noise, 0, 255).round().astype(np.uint8)
