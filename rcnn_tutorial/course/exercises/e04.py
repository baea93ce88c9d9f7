"""The exercises of 04_faster_rcnn: anchors here, the others in `e04_*`."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any, near, near_all
from rcnn_tutorial.course.exercises.e04_gradients import GRADIENTS
from rcnn_tutorial.course.exercises.e04_labels import LABELS
from rcnn_tutorial.course.exercises.e04_rpn import BUILD
from rcnn_tutorial.course.exercises.e04_sample import SAMPLE

_generator = torch.Generator().manual_seed(4)


def _draw(low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=_generator)


# 04-A: the name of an anchor


def _place(number: int, rows: int, columns: int, per_place: int, order: str = "right") -> list[int]:
    """Row, column and number at its place of an anchor, with the mistakes one can make as options."""
    if order == "anchors first":
        return [number % (rows * columns) // columns, number % columns, number // (rows * columns)]
    place = number // per_place
    if order == "columns first":
        return [place % rows, place // rows, number % per_place]
    row, column = divmod(place, rows if order == "by rows" else columns)
    return [column, row, number % per_place] if order == "x, y" else [row, column, number % per_place]


def _numbered() -> tuple[int, int, int, int]:
    """An anchor of a map that is wider than high, or higher than wide, and what the map and its places have."""
    sides = torch.tensor([int(_draw(3, 20)), int(_draw(21, 40))])[torch.randperm(2, generator=_generator)].tolist()
    each = int(_draw(2, 13))
    return int(_draw(0, sides[0] * sides[1] * each)), *sides, each


_PLACES = [(5000, 24, 32, 12)] + [_numbered() for _ in range(19)]

NAME = (
    Part(
        "scale and ratio",
        near_all((80, 4), tol=0.01),
        (
            Mistake(
                "That anchor would be wider than high.",
                "The ratio is height to width: 160 / 40.",
                near_all((80, 0.25), tol=0.01),
            ),
            Mistake(
                "That is the area of the anchor, or not its root.",
                "The scale is the side of a square of equal area: the root of 40 * 160.",
                near_all((6400, 4), (6400, 0.25), tol=0.01),
            ),
            Mistake(
                "A square of that side has another area.",
                "The mean of the sides is no scale: w h = s * s.",
                near_all((100, 4), (100, 0.25), tol=0.01),
            ),
        ),
        "Two equations for two numbers: s * s = w h, and r = h / w.",
    ),
    Part(
        "the function",
        agrees(_place, _PLACES),
        (
            Mistake(
                "The anchors of one kind stand together.",
                "That is the order of a convolution's output, (A, h, w). In the grid the anchors of a place follow "
                "each other: the last number counts fastest.",
                agrees(partial(_place, order="anchors first"), _PLACES),
            ),
            Mistake(
                "Places are counted down the columns.",
                "The grid goes row by row: the column counts faster than the row.",
                agrees(partial(_place, order="columns first"), _PLACES),
            ),
            Mistake(
                "Some rows lie beyond the map.",
                "A row has as many places as the map has columns: divide by columns.",
                agrees(partial(_place, order="by rows"), _PLACES),
            ),
            Mistake(
                "Row and column come in the other order.",
                "The function returns the row first, as maps are indexed.",
                agrees(partial(_place, order="x, y"), _PLACES),
            ),
        ),
        "Anchor 5,000 of 24 x 32 places with 12 anchors each stands in row 13 and column 0, as number 8 of its place.",
    ),
)


# 04-B: how many

_whole = partial(near, tol=0.4)


def _image() -> tuple[Tensor, tuple[int, int]]:
    """Anchors on a grid of 8 px, some at the border and some beyond it, and the image's height and width."""
    height, width = (torch.tensor([12, 20])[torch.randperm(2, generator=_generator)] + _draw(0, 5, 2)).tolist()
    corner = torch.stack((_draw(-3, width, 60), _draw(-3, height, 60)), dim=1)
    return 8.0 * torch.cat((corner, corner + _draw(1, 9, 60, 2)), dim=1), (8 * height, 8 * width)


_IMAGES = [_image() for _ in range(20)]


def _fits(x1: float, y1: float, x2: float, y2: float, width: float, height: float) -> bool:
    return x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height


def _counts(rule: Callable) -> Callable:
    """A way to count: the rule sees the corners of an anchor, and the image's width and height."""
    return lambda anchors, size: sum(rule(*box, size[1], size[0]) for box in anchors.tolist())


def _counts_any(*rules: Callable) -> Callable[[Callable], bool]:
    return agrees_any(_IMAGES, *map(_counts, rules))


INSIDE = (
    Part(
        "anchors of the image",
        _whole(10_800),
        (
            Mistake("That is the number of places.", "Each place has 9 anchors.", _whole(1200)),
            Mistake(
                "That is an anchor for every pixel, and 9 of them.",
                "A place is a cell of the map: one in 16 pixels along x, and one in 16 along y.",
                _whole(2_764_800),
            ),
            Mistake(
                "The map would be as wide or as high as the image.",
                "The stride counts along both sides: 640 / 16 places in a row, 480 / 16 rows.",
                _whole(172_800),
            ),
        ),
        "How many cells wide is the map, how many high? Each is a place with 9 anchors.",
    ),
    Part(
        "the function",
        agrees(_counts(_fits), _IMAGES),
        (
            Mistake(
                "An anchor that reaches beyond the image counts, if its middle lies inside.",
                "Wholly inside is a question about the corners.",
                _counts_any(
                    lambda x1, y1, x2, y2, w, h: 0 <= x1 + x2 <= 2 * w and 0 <= y1 + y2 <= 2 * h,
                    lambda x1, y1, x2, y2, w, h: 0 <= x1 + x2 < 2 * w and 0 <= y1 + y2 < 2 * h,
                    lambda x1, y1, x2, y2, w, h: 0 < x1 + x2 < 2 * w and 0 < y1 + y2 < 2 * h,
                ),
            ),
            Mistake(
                "In a wide image an anchor at the right end does not count.",
                "size is (height, width): x is compared with the second of them.",
                _counts_any(lambda *box: _fits(*box[:4], box[5], box[4])),
            ),
            Mistake(
                "An anchor that ends where the image ends does not count.",
                "It does not cross the border. x2 and y2 are exclusive, so that they may equal width and height.",
                _counts_any(
                    lambda x1, y1, x2, y2, w, h: x1 > 0 and y1 > 0 and x2 < w and y2 < h,
                    lambda x1, y1, x2, y2, w, h: x1 >= 0 and y1 >= 0 and x2 < w and y2 < h,
                ),
            ),
            Mistake(
                "An anchor counts that crosses the border on one side.",
                "Four comparisons, and all must hold: x1, y1 with 0, x2 with the width, y2 with the height.",
                _counts_any(
                    lambda x1, y1, x2, y2, w, h: x1 >= 0 and y1 >= 0,
                    lambda x1, y1, x2, y2, w, h: x2 <= w and y2 <= h,
                    lambda x1, y1, x2, y2, w, h: 0 <= x1 < w and 0 <= y1 < h,
                ),
            ),
            Mistake(
                "An anchor counts that has only a part inside.",
                "What clipping would leave of it does not matter here: its own corners decide.",
                _counts_any(lambda x1, y1, x2, y2, w, h: x1 < w and y1 < h and x2 > 0 and y2 > 0),
            ),
        ),
        "Draw an image of 20 x 10 and four anchors by hand. The result is one number.",
    ),
)


EXERCISES = {
    "04-A": NAME,
    "04-B": INSIDE,
    "04-C": LABELS,
    "04-D": SAMPLE,
    "04-E": GRADIENTS,
    "04-F": BUILD,
}
