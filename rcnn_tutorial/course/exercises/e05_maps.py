"""Exercises of 05_fpn on maps: a path from the bottom up, and the pyramid of RetinaNet."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees_any

_generator = torch.Generator().manual_seed(5)


def _draw(low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=_generator)


def _fails(function: Callable, cases: Sequence[tuple]) -> bool:
    """Does the function raise in one of these cases?"""
    try:
        for case in cases:
            function(*case)
    except Exception:  # the learner's own function may raise anything
        return True
    return False


def _in_a_row(function: Callable) -> Callable:
    """The same function with its maps as one row of numbers, each map after its shape."""

    def numbers(*case: object) -> object:
        given = [[each.clone() for each in part] if isinstance(part, list) else part for part in case]
        found = function(*given)
        if found is ... or found is None:
            return found
        if not isinstance(found, list | tuple) or not all(map(torch.is_tensor, found)):
            raise ValueError("expected a list of maps")
        return torch.cat([part.detach() for each in found for part in (torch.tensor(each.shape), each.flatten())])

    return numbers


def _same_maps(cases: Sequence[tuple], *references: Callable) -> Callable[[Callable], bool]:
    same = agrees_any(cases, *map(_in_a_row, references))
    return lambda function: same(_in_a_row(function))


# 05-C: a path from the bottom up


def _maps(height: int, width: int, levels: int) -> tuple:
    """Maps of whole numbers, the finest first, each next one half as high and wide, rounded up."""
    sizes = [(-(-height // 2**k), -(-width // 2**k)) for k in range(levels)]
    return ([_draw(0, 10, 1, 2, *size).float() for size in sizes],)


_EVEN = [_maps(*(8 * _draw(2, 4, 2)).tolist(), 3 + n % 2) for n in range(10)]
_ODD = [_maps(75, 10, 3)] + [_maps(*(8 * _draw(1, 4, 2) + 1 + n % 3).tolist(), 3 + n % 2) for n in range(9)]


def _second(map: Tensor) -> Tensor:
    return map[..., ::2, ::2]


def _climb(
    maps: Sequence[Tensor],
    down: Callable[[Tensor], Tensor] = _second,
    handed: Callable[[Tensor, Tensor], Tensor] = lambda map, total: total,
) -> list[Tensor]:
    """N from P, with the mistakes one can make as options; `handed` chooses what goes up to the next map."""
    found = [maps[0]]
    below = maps[0]
    for map in maps[1:]:
        found.append(map + down(below))
        below = handed(map, found[-1])
    return found


def _descend(maps: Sequence[Tensor]) -> list[Tensor]:
    """The path of the notebook, from the top down."""
    found = [maps[-1]]
    for map in maps[-2::-1]:
        repeated = found[0].repeat_interleave(2, -2).repeat_interleave(2, -1)
        found.insert(0, map + repeated[..., : map.shape[-2], : map.shape[-1]])
    return found


_climbs_even = _same_maps(_EVEN, _climb)

BOTTOM_UP = (
    Part(
        "the function",
        lambda f: _climbs_even(f) and not _fails(_in_a_row(f), _ODD) and _same_maps(_ODD, _climb)(f),
        (
            Mistake(
                "The finest map changes, and the coarsest does not.",
                "That is the path from the top down. Here the finest map comes first and is handed up.",
                _same_maps(_EVEN, _descend),
            ),
            Mistake(
                "What changes in a map changes the next coarser one, and none after it.",
                "What goes up is the sum, and not the map that was given.",
                _same_maps(_EVEN, partial(_climb, handed=lambda map, total: map)),
            ),
            Mistake(
                "The maps come back as they were.",
                "Add to each map what comes from the finer sum.",
                _same_maps(_EVEN, lambda maps: maps),
            ),
            Mistake(
                "A cell mixes four cells of the finer map.",
                "Take every second cell of every second row. Nothing is averaged, and no maximum is taken.",
                _same_maps(
                    _EVEN,
                    partial(_climb, down=lambda map: F.avg_pool2d(map, 2)),
                    partial(_climb, down=lambda map: F.max_pool2d(map, 2)),
                    partial(_climb, down=lambda map: F.interpolate(map, scale_factor=0.5, mode="bilinear")),
                ),
            ),
            Mistake(
                "The first row and the first column of a finer map are never read.",
                "The cells that go up begin with the first one: ::2 and not 1::2.",
                _same_maps(_EVEN, partial(_climb, down=lambda map: map[..., 1::2, 1::2])),
            ),
            Mistake(
                "It fails at a map of 75 rows with one of 38 after it.",
                "Of 75 rows every second one, beginning with the first, makes 38: let the slice ::2 count.",
                lambda f: _climbs_even(f) and _fails(_in_a_row(f), _ODD),
            ),
        ),
        "Begin with maps of 4 x 4, 2 x 2 and 1 x 1 cells. Go from the finest map to the coarsest and return the finest "
        "first.",
    ),
)


# 05-F: RetinaNet's pyramid


def _layers() -> dict[str, nn.Conv2d]:
    """Convolutions for maps of 2, 3 and 4 channels, and 4 of every level."""
    inputs = {"3": 2, "4": 3, "5": 4}
    layer = {f"lateral{k}": nn.Conv2d(n, 4, 1) for k, n in inputs.items()}
    layer |= {f"smooth{k}": nn.Conv2d(4, 4, 3, padding=1) for k in inputs}
    layer |= {k: nn.Conv2d(4, 4, 3, stride=2, padding=1) for k in ("P6", "P7")}
    for each in layer.values():
        each.requires_grad_(False)
        for values in each.parameters():
            values.copy_(torch.randn(values.shape, generator=_generator) / 2)
    return layer


def _stages(height: int, width: int) -> tuple:
    """C3, C4 and C5, where C4 has that size, C3 about twice and C5 half of it, and the layers."""
    sizes = ((2 * height, 2 * width), (height, width), (-(-height // 2), -(-width // 2)))
    maps = [torch.randn(1, c, *size, generator=_generator) for c, size in zip((2, 3, 4), sizes, strict=True)]
    return *maps, _layers()


_EVEN_STAGES = [_stages(*(2 * _draw(3, 9, 2)).tolist()) for _ in range(8)]
_ODD_STAGES = [_stages(*(2 * _draw(3, 9, 2) + 1).tolist()) for _ in range(4)]


def _nearest(map: Tensor, size: Sequence[int]) -> Tensor:
    rows, columns = (torch.arange(n) // 2 for n in size)
    return map[..., rows[:, None], columns]


def _retina(
    c3: Tensor,
    c4: Tensor,
    c5: Tensor,
    layer: dict[str, nn.Module],
    up: Callable[[Tensor, Sequence[int]], Tensor] = _nearest,
    top_down: str = "sums",
    smooth: bool = True,
    sixth: str = "C5",
    relu: str = "before P7",
) -> list[Tensor]:
    """P3 to P7, with the mistakes one can make as options."""
    found: list[Tensor] = []
    above = None
    for k, stage in ((5, c5), (4, c4), (3, c3)):
        total = layer[f"lateral{k}"](stage)
        if above is not None and top_down != "none":
            total = total + up(above, total.shape[-2:])
        found.insert(0, layer[f"smooth{k}"](total) if smooth else total)
        above = found[0] if top_down == "smoothed" else total
    six = layer["P6"](c5 if sixth == "C5" else found[-1])
    seven = layer["P7"](six if relu == "none" else six.relu())
    return [*found, six.relu() if relu == "on P6" else six, seven]


def _builds(*options: dict) -> Callable[[Callable], bool]:
    return _same_maps(_EVEN_STAGES, *(partial(_retina, **each) for each in options))


_builds_even = _builds({})

RETINA = (
    Part(
        "the function",
        lambda f: _builds_even(f) and not _fails(_in_a_row(f), _ODD_STAGES) and _same_maps(_ODD_STAGES, _retina)(f),
        (
            Mistake(
                "P6 and P7 are wrong, the others are right.",
                "P6 is made from C5, and not from P5.",
                _builds({"sixth": "P5"}, {"sixth": "P5", "relu": "none"}),
            ),
            Mistake(
                "P7 alone is wrong.",
                "A ReLU stands between P6 and the convolution that makes P7.",
                _builds({"relu": "none"}),
            ),
            Mistake(
                "P6 has no negative numbers.",
                "The ReLU stands before the next convolution. P6 itself is returned without it.",
                _builds({"relu": "on P6"}),
            ),
            Mistake(
                "P5 is right, P4 and P3 are not.",
                "What goes down is the sum, and not the map after its 3 x 3 convolution.",
                _builds({"top_down": "smoothed"}),
            ),
            Mistake(
                "What changes in C5 changes neither P4 nor P3.",
                "The top-down path is missing: upsample the coarser sum and add it.",
                _builds({"top_down": "none"}),
            ),
            Mistake(
                "P3, P4 and P5 are the sums.",
                "Each of them still goes through its 3 x 3 convolution, layer['smooth3'] and so on.",
                _builds({"smooth": False}),
            ),
            Mistake(
                "An edge of a coarse map is soft in the finer one.",
                "Upsampling only repeats cells: mode nearest, and not bilinear.",
                _builds(
                    *(
                        {"up": partial(lambda map, size, how: F.interpolate(map, size=tuple(size), **how), how=how)}
                        for how in (
                            {"mode": "bilinear"},
                            {"mode": "bilinear", "align_corners": True},
                        )
                    )
                ),
            ),
            Mistake(
                "It fails at a map of 15 rows with one of 8 above it.",
                "Twice 8 is 16. Crop to the height and width of the finer map.",
                lambda f: _builds_even(f) and _fails(_in_a_row(f), _ODD_STAGES),
            ),
        ),
        "Compare with section 3 level by level: laterals first, then sums from C5 downwards, then the 3 x 3 "
        "convolutions. Return P3 first.",
    ),
)
