"""The exercises of 04_faster_rcnn: anchors here, the others in `e04_labels` and `e04_proposals`."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any, near
from rcnn_tutorial.course.exercises.e04_labels import LABELS, SAMPLE
from rcnn_tutorial.course.exercises.e04_proposals import DECODE, GRADIENTS

_generator = torch.Generator().manual_seed(4)


def _draw(low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=_generator)


# 04-1: anchors of one place

_ANCHOR_CASES = [(64.0, torch.tensor([0.5, 1.0, 2.0]))] + [
    (float(_draw(8, 513)), (torch.randperm(16, generator=_generator)[: 2 + n % 4] + 1) / 4) for n in range(19)
]


def _anchors(scale: float, ratios: Tensor) -> Tensor:
    boxes = []
    for ratio in ratios.tolist():
        width = (scale * scale / ratio) ** 0.5
        height = ratio * width
        boxes.append((-width / 2, -height / 2, width / 2, height / 2))
    return torch.tensor(boxes)


def _same(a: Tensor, b: Tensor | float) -> bool:
    return torch.allclose(a, torch.as_tensor(b, dtype=a.dtype), rtol=1e-3, atol=1e-3)


def _all_anchors(test: Callable[[Tensor, Tensor, Tensor], bool], centred: bool = True) -> Callable[[Callable], bool]:
    """A test for functions: does it hold for the anchors of every case, once it is known whether they are centred?

    `test` sees areas in units of the scale's square, height / width, and the ratios asked for.
    """

    def holds(function: Callable) -> bool:
        for scale, ratios in _ANCHOR_CASES:
            boxes = torch.as_tensor(function(scale, ratios.clone())).double() / scale
            if boxes.shape != (len(ratios), 4) or _same(boxes[:, :2], -boxes[:, 2:]) != centred:
                return False
            width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
            if not test(width * height, height / width, ratios.double()):
                return False
        return True

    return holds


ANCHORS = (
    Part(
        "the function",
        agrees_any(_ANCHOR_CASES, _anchors),
        (
            Mistake(
                "The middle of an anchor is not (0, 0).",
                "Half of the width lies left of it and half right of it: x1 = -w / 2, x2 = w / 2, and so with y.",
                _all_anchors(lambda area, shape, ratios: True, centred=False),
            ),
            Mistake(
                "The anchors of one scale have different areas.",
                "The ratio changes one side alone. Both sides share it: one times its square root, the other divided.",
                _all_anchors(lambda area, shape, ratios: not _same(area, area[0])),
            ),
            Mistake(
                "The area is not the square of the scale.",
                "The distance from the middle to a side is half of the width or height.",
                _all_anchors(lambda area, shape, ratios: _same(area, area[0]) and not _same(area, 1.0)),
            ),
            Mistake(
                "The anchor of ratio 2 is wider than high.",
                "The ratio is height to width, and a box is x1, y1, x2, y2.",
                _all_anchors(lambda area, shape, ratios: _same(area, 1.0) and _same(shape, 1 / ratios)),
            ),
            Mistake(
                "The anchor of ratio 2 is four times as high as wide.",
                "One side is divided by the ratio and the other multiplied, so it counts twice: take its square root.",
                _all_anchors(lambda area, shape, ratios: _same(area, 1.0) and _same(shape, ratios**2)),
            ),
        ),
        "Two equations for two sides: w h = scale * scale, h / w = ratio. One row (x1, y1, x2, y2) for each ratio.",
    ),
)


# 04-2: how many

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
    "04-1": ANCHORS,
    "04-2": INSIDE,
    "04-3": LABELS,
    "04-4": DECODE,
    "04-5": SAMPLE,
    "04-6": GRADIENTS,
}
