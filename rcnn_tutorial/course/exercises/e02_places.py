"""The exercise of 02_sppnet about places: from the picture to the map and back."""

from collections.abc import Callable

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees

_generator = torch.Generator().manual_seed(2)


# 02-E: to the map and back, in a picture of 800 x 400


def _window() -> Tensor:
    corner = torch.rand(2, generator=_generator) * torch.tensor([600, 200])
    return torch.cat((corner, corner + 70 + 130 * torch.rand(2, generator=_generator))).round()


_TRIPS = [(_window(), (1.5, 0.75, 2.25, 1.2)[n % 4], 16) for n in range(20)]
_XY = [1, 0, 3, 2]


def _every(test: Callable[[Tensor, float, Tensor, Tensor], bool]) -> Callable[[tuple[Callable, Callable]], bool]:
    """A test for the pair (to_map, to_image): does it hold for every window?

    `test` sees the window, the scale, the cells and the window that comes back, all in strides of the resized picture.
    """

    def holds(pair: tuple[Callable, Callable]) -> bool:
        to_map, to_image = pair

        def one(box: Tensor, scale: float, stride: int) -> object:
            cells = to_map(box.clone(), scale, stride)
            if cells is ... or cells is None:
                return cells
            placed = torch.as_tensor(cells).double().clone()
            back = to_image(cells, scale, stride)
            if back is ... or back is None:
                return back
            back = torch.as_tensor(back).double() * scale / stride
            return placed.shape == back.shape == (4,) and test(box.double() * scale / stride, scale, placed, back)

        return agrees(lambda *case: True, _TRIPS)(one)

    return holds


def _meet(a: Tensor, b: Tensor) -> bool:
    """Is each side within one stride of the other's?"""
    return bool(((a - b).abs() < 1.001).all())


def _whole(cells: Tensor) -> bool:
    return torch.equal(cells, cells.round())


def _inside(small: Tensor, large: Tensor) -> bool:
    return bool(((small - large) * torch.tensor([1, 1, -1, -1]) > -1e-3).all())


_right = _every(lambda box, scale, cells, back: _whole(cells) and _meet(cells, box) and _meet(back, box))
_no_scale = (
    _every(lambda box, scale, cells, back: _meet(cells, box / scale)),
    _every(lambda box, scale, cells, back: _meet(cells, box / scale**2)),
    _every(lambda box, scale, cells, back: _meet(cells, box) and _meet(back / scale, box)),
    _every(lambda box, scale, cells, back: _meet(cells, box) and _meet(back / scale**2, box)),
)
_exchanged = (
    _every(lambda box, scale, cells, back: _meet(cells, box[_XY])),
    _every(lambda box, scale, cells, back: _meet(cells, box) and _meet(back, box[_XY])),
)
_shrinks = _every(lambda box, scale, cells, back: _whole(cells) and _inside(cells, box) and _inside(back, box))
_in_fractions = _every(lambda box, scale, cells, back: _meet(cells, box) and _meet(back, box) and not _whole(cells))

PLACES = (
    Part(
        "there and back",
        _right,
        (
            Mistake(
                "The farther from the corner of the picture, the farther off.",
                "The map is that of the resized picture: multiply by scale on the way there, divide on the way back.",
                lambda pair: any(test(pair) for test in _no_scale),
            ),
            Mistake(
                "Square windows on the diagonal are right, others are not.",
                "x and y are exchanged: the order is (x1, y1, x2, y2), there and back.",
                lambda pair: any(test(pair) for test in _exchanged),
            ),
            Mistake(
                "The window comes back smaller, on some side by more than one stride.",
                "It is rounded inwards on the way there and again on the way back. Round inwards once, or outwards.",
                lambda pair: _shrinks(pair) and not _right(pair),
            ),
            Mistake(
                "The cells are no whole numbers.", "Half a cell cannot be pooled: round in `to_map`.", _in_fractions
            ),
        ),
        "Cell 0 of the map begins at pixel 0 of the resized picture, cell 1 at `stride`. Send (160, 80, 320, 160) "
        "there and back at scale 2 and stride 16.",
    ),
)
