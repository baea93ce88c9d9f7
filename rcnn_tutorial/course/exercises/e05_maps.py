"""Exercises of 05_fpn on maps: merge those of a pyramid, and pool RoIs from several of them."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any

_generator = torch.Generator().manual_seed(5)


def _draw(low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=_generator)


def _fails(function: Callable, cases: Sequence[tuple]) -> bool:
    """Does the function raise in one of these cases?"""
    try:
        for case in cases:
            function(*(c.clone() if torch.is_tensor(c) else c for c in case))
    except Exception:  # the learner's own function may raise anything
        return True
    return False


# 05-2: merge


def _smooth(map: Tensor) -> Tensor:
    """In place of the 3 x 3 convolution: the mean of 3 x 3 cells."""
    return F.avg_pool2d(map, 3, stride=1, padding=1)


def _maps(height: int, width: int, levels: int) -> tuple:
    """Maps of whole numbers, the finest first, each next one half as high and wide, rounded up."""
    sizes = [(-(-height // 2**k), -(-width // 2**k)) for k in range(levels)]
    return [_draw(0, 10, 1, 2, *size).float() for size in sizes], _smooth


_EVEN = [_maps(*(8 * _draw(2, 4, 2)).tolist(), 3 + n % 2) for n in range(10)]
_ODD = [_maps(75, 10, 3)] + [_maps(*(8 * _draw(1, 4, 2) + 1 + n % 3).tolist(), 3 + n % 2) for n in range(9)]


def _repeated(map: Tensor, size: Sequence[int]) -> Tensor:
    rows, columns = (torch.arange(n) // 2 for n in size)
    return map[..., rows[:, None], columns]


def _merged(
    maps: Sequence[Tensor],
    smooth: Callable[[Tensor], Tensor],
    up: Callable[[Tensor, Sequence[int]], Tensor] = _repeated,
    handed: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda map, total, smoothed: total,
) -> list[Tensor]:
    """P from the maps, with the mistakes one can make as options; `handed` chooses what goes down to the next map."""
    found, above = [], None
    for map in maps[::-1]:
        total = map if above is None else map + up(above, map.shape[-2:])
        found.insert(0, smooth(total))
        above = handed(map, total, found[0])
    return found


def _in_a_row(function: Callable) -> Callable:
    """The same function with its maps as one row of numbers, each map after its shape."""

    def numbers(maps: Sequence[Tensor], smooth: Callable) -> object:
        found = function([each.clone() for each in maps], smooth)
        if found is ... or found is None:
            return found
        if not isinstance(found, list | tuple) or len(found) != len(maps) or not all(map(torch.is_tensor, found)):
            raise ValueError(f"expected a list of {len(maps)} maps, a tensor for each that was given")
        return torch.cat([part for each in found for part in (torch.tensor(each.shape), each.flatten())])

    return numbers


def _merges(cases: Sequence[tuple], *references: Callable) -> Callable[[Callable], bool]:
    same = agrees_any(cases, *map(_in_a_row, references or (_merged,)))
    return lambda function: same(_in_a_row(function))


def _blurred(mode: str, **options) -> Callable:
    return partial(_merged, up=lambda map, size: F.interpolate(map, size=tuple(size), mode=mode, **options))


_merges_even = _merges(_EVEN)

MERGE = (
    Part(
        "the function",
        lambda f: _merges_even(f) and not _fails(_in_a_row(f), _ODD) and _merges(_ODD)(f),
        (
            Mistake(
                "An edge of a coarse map is soft in the finer one.",
                "Upsampling only repeats cells here: mode nearest, and not bilinear.",
                _merges(_EVEN, _blurred("bilinear"), _blurred("bilinear", align_corners=True), _blurred("bicubic")),
            ),
            Mistake(
                "The coarsest map is right. The others are smoother than they should be.",
                "What goes down is the sum as it is. `smooth` makes the maps that are returned, and only those.",
                _merges(_EVEN, partial(_merged, handed=lambda map, total, smoothed: smoothed)),
            ),
            Mistake(
                "What changes in a coarse map changes no finer one.",
                "The top-down path is missing: upsample the coarser sum and add it.",
                _merges(
                    _EVEN,
                    partial(_merged, handed=lambda map, total, smoothed: torch.zeros_like(map)),
                    lambda maps, smooth: maps,
                ),
            ),
            Mistake(
                "What changes in a map changes the next finer one, and none after it.",
                "What goes down is the sum, and not the map that was given.",
                _merges(_EVEN, partial(_merged, handed=lambda map, total, smoothed: map)),
            ),
            Mistake(
                "It fails at a map of 75 rows with one of 38 above it.",
                "Twice 38 is 76. Upsample to the height and width of the finer map.",
                lambda f: _merges_even(f) and _fails(_in_a_row(f), _ODD),
            ),
        ),
        "Begin with maps of 1, 2 x 2 and 4 x 4 cells, and a `smooth` that changes nothing. Go from the coarsest map to "
        "the finest; return the finest first.",
    ),
)


# 05-4: pool in order


def _pool(level: int, rois: Tensor) -> Tensor:
    """2 x 2 numbers for each RoI that tell which RoI and which level they are from; stack takes no empty list."""
    return torch.stack([roi.reshape(2, 2) * int(level) for roi in rois])


def _rois(levels: Tensor) -> tuple:
    corners = _draw(0, 500, len(levels), 2)
    return torch.cat((corners, corners + _draw(8, 500, len(levels), 2)), dim=1).float(), levels, _pool


def _shuffled(levels: Tensor) -> Tensor:
    return levels[torch.randperm(len(levels), generator=_generator)]


_ALL_LEVELS = [_rois(_shuffled(torch.cat((torch.arange(2, 6), _draw(2, 6, 4 + n))))) for n in range(10)]
_SOME_LEVELS = [_rois(_shuffled(torch.arange(2, 6))[:k][_draw(0, k, 5 + k)]) for k in (1, 2, 3) * 3 + (3,)]


def _one_by_one(rois: Tensor, levels: Tensor, pool: Callable) -> Tensor:
    return torch.cat([pool(level, roi[None]) for level, roi in zip(levels.tolist(), rois, strict=True)])


_pools_all = agrees(_one_by_one, _ALL_LEVELS)


def _same_rows(function: Callable) -> bool:
    """Are the rows right, whatever their order?"""
    for rois, levels, pool in _ALL_LEVELS:
        mine, theirs = torch.as_tensor(function(rois.clone(), levels.clone(), pool)), _one_by_one(rois, levels, pool)
        if mine.shape != theirs.shape or sorted(mine.tolist()) != sorted(theirs.tolist()):
            return False
    return True


POOL = (
    Part(
        "the function",
        lambda f: _pools_all(f) and not _fails(f, _SOME_LEVELS) and agrees(_one_by_one, _SOME_LEVELS)(f),
        (
            Mistake(
                "Every row is right, but most are not where they belong.",
                "Joined level after level they lie in the order of the levels. Row i must be that of RoI i.",
                lambda f: not _pools_all(f) and _same_rows(f),
            ),
            Mistake(
                "It fails where a level has no RoI.",
                "`pool` needs at least one RoI: go through the levels that occur.",
                lambda f: _pools_all(f) and _fails(f, _SOME_LEVELS),
            ),
        ),
        "Take three RoIs on the levels 3, 2, 3 and write down which rows each call of `pool` gives.",
    ),
)
