"""Finding pictures that are there twice, also where the second one was saved again with another compression."""

from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32  # pixels of the small grey picture that is compared
STEP = 8  # grey values that are one step of brightness
CLOSE = 1.5  # grey values of 255 by which the small pictures of one picture may differ, on average
FAR = 20  # grey values by which none of their pixels may differ: else something in the picture moved


def same_pictures(files: Iterable[Path], progress: Callable[[int], object]) -> list[tuple[int, int]]:
    """Find files with the same picture.

    Two files hold the same picture where they have the same sides, and where their small grey versions agree. So a copy
    counts, and one that was compressed again, but not the next picture of a series.

    Args:
        files: of pictures that can be read.
        progress: is told how many more were looked at.
    Returns:
        Pairs (first place, place of the copy) in the order of the files.
    """
    seen: dict[tuple, list[tuple[int, np.ndarray]]] = {}
    pairs = []
    for place, file in enumerate(files):
        size, small = _small(file)
        keys = [(size, *steps) for steps in _brightness(small)]
        candidates = [candidate for key in keys for candidate in seen.get(key, ())]
        first = next((other for other, known in candidates if _agree(known, small)), None)
        if first is None:
            seen.setdefault(keys[0], []).append((place, small))
        else:
            pairs.append((first, place))
        progress(1)
    return pairs


def _agree(one: np.ndarray, other: np.ndarray) -> bool:
    difference = np.abs(one - other)
    return bool(difference.mean() <= CLOSE and difference.max() <= FAR)


def _small(file: Path) -> tuple[tuple[int, int], np.ndarray]:
    """The sides of a picture, and a small grey one (SIDE, SIDE)."""
    with Image.open(file) as image:
        size = image.size
        image.draft("L", (4 * SIDE, 4 * SIDE))  # a JPEG is decoded at a part of its size, which is enough
        grey = image.point(lambda value: value / 256, "L") if image.mode.startswith("I") else image.convert("L")
        return size, np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)


def _brightness(small: np.ndarray) -> list[tuple[int, ...]]:
    """The brightness of the four quarters of a picture in steps, by which candidates are found.

    Where a quarter lies near the end of a step, the next step is given, too: a picture that was compressed again may
    lie there. What it is itself comes first.
    """
    steps = small.reshape(2, SIDE // 2, 2, SIDE // 2).mean(axis=(1, 3)).flatten() / STEP  # (4,)
    spread = CLOSE / STEP
    near = [sorted({int(s), int(s - spread), int(s + spread)}, key=lambda n, own=int(s): n != own) for s in steps]
    return list(product(*near))
