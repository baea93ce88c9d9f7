"""Right answers pass; each wrong answer gets its own hint and no other."""

import math

import pytest
import torch
from torch.nn.functional import adaptive_max_pool1d

from rcnn_tutorial.course.exercises import check, e02, e02_places
from rcnn_tutorial.course.exercises.e02 import EXERCISES
from tests.course.exercises.judging import judging, with_

EQUAL, FACTOR = EXERCISES["02-1"]
(LENGTH,) = EXERCISES["02-2"]
(BINS,) = EXERCISES["02-3"]
(PLACES,) = EXERCISES["02-4"]
(SCALE,) = EXERCISES["02-5"]


def bins_of_torch(a, n):
    """Bin i holds cell c where pooling a map that is 1 in c alone gives 1 in i."""
    member = adaptive_max_pool1d(torch.eye(a)[:, None], n)[:, 0]  # (cell, bin)
    return [(int(cells.argmax()), int(cells.sum() + cells.argmax())) for cells in member.T]


def bins_in_floats(a, n):
    return [(math.floor(i * (a / n)), math.ceil((i + 1) * (a / n))) for i in range(n)]


def sliding(a, n):
    window, stride = math.ceil(a / n), a // n
    return [(i, i + window) for i in range(0, a - window + 1, stride)]


def floor_width(a, n):
    return [(i * (a // n), (i + 1) * (a // n)) for i in range(n)]


def remainder_last(a, n):
    bins = floor_width(a, n)
    return [*bins[:-1], (bins[-1][0], a)]


def trip(inwards=0, to=None, back=None, exchange=(), outer=0, rounding=True):
    """A pair (to_map, to_image). `to`, `back`: factor on each way instead of the scale's."""

    def to_map(box, scale, stride):
        x1, y1, x2, y2 = (v * (scale if to is None else to(scale)) / stride for v in box.tolist())
        low, high = (
            (math.floor, math.ceil) if not inwards else (lambda v: math.floor(v) + 1, lambda v: math.ceil(v) - 1)
        )
        cells = [low(x1), low(y1), high(x2), high(y2)] if rounding else [x1, y1, x2, y2]
        return torch.tensor([cells[i] for i in ((1, 0, 3, 2) if "to" in exchange else range(4))])

    def to_image(cells, scale, stride):
        shift = torch.tensor([1, 1, -1, -1]) * (inwards == 2) + torch.tensor([-1, -1, 1, 1]) * outer
        box = (cells + shift) * stride / (scale if back is None else back(scale))
        return box[[1, 0, 3, 2]] if "back" in exchange else box

    return to_map, to_image


def published(box, scale, stride):
    """SPPnet's rule: number of the first and of the last cell whose centre, at stride * number, lies inside."""
    x1, y1, x2, y2 = (box * scale / stride).tolist()
    return torch.tensor([math.floor(x1) + 1, math.floor(y1) + 1, math.ceil(x2) - 1, math.ceil(y2) - 1])


def in_lists(box, scale, stride):
    return [round(float(v) * scale / stride) for v in box]


def scale_loop(window, image, scales, shorter=min, measure=lambda w, h: w * h, goal=224 * 224, power=1):
    best, nearest = None, None
    for s in scales:
        k = (s / shorter(image)) ** power
        distance = abs(measure(window[0] * k, window[1] * k) - goal)
        if best is None or distance < nearest:
            best, nearest = s, distance
    return best


def one(scale):
    return 1


RIGHT = [
    (EQUAL, 40),
    (FACTOR, 50),
    (FACTOR, 2000 * 64**2 / (512 * 320)),
    (LENGTH, 1792),
    (BINS, bins_of_torch),
    (BINS, bins_in_floats),
    (BINS, lambda a, n: torch.tensor(bins_of_torch(a, n))),
    (PLACES, trip()),
    (PLACES, (published, trip()[1])),
    (PLACES, (in_lists, lambda cells, scale, stride: [c * stride / scale for c in cells])),
    (PLACES, (in_lists, lambda cells, scale, stride: [round(c * stride / scale) for c in cells])),
    (SCALE, scale_loop),
    (SCALE, with_(scale_loop, measure=lambda w, h: math.sqrt(w * h), goal=224)),
]

WRONG = [
    (EQUAL, 5, "one row"),
    (EQUAL, 8, "one row"),
    (EQUAL, 50, "far cheaper"),
    (FACTOR, 40, "saves more"),
    (FACTOR, 400, "too high"),
    (FACTOR, 250, "too high"),
    (LENGTH, 768, "3 * 128"),
    (LENGTH, 1152, "finest"),
    (LENGTH, 14, "one channel"),
    (BINS, sliding, "9 bins"),
    (BINS, floor_width, "last four"),
    (BINS, remainder_last, "takes half"),
    (BINS, lambda a, n: [(i * a // n, (i + 1) * a // n + 1) for i in range(n)], "ends at 11"),
    (BINS, lambda a, n: [(s, e + 1) for s, e in bins_of_torch(a, n)], "ends at 11"),
    (BINS, lambda a, n: [(s, e - 1) for s, e in bins_of_torch(a, n)], "ends at 9"),
    (BINS, lambda a, n: [(i * a // n, (i + 1) * a // n) for i in range(n)], "share"),
    (BINS, lambda a, n: [(round(i * a / n), round((i + 1) * a / n)) for i in range(n)], "share"),
    (PLACES, trip(to=one), "farther"),
    (PLACES, trip(to=one, back=one), "farther"),
    (PLACES, trip(back=one), "farther"),
    (PLACES, trip(to=lambda scale: 1 / scale), "farther"),
    (PLACES, trip(back=lambda scale: 1 / scale), "farther"),
    (PLACES, trip(exchange=("to",)), "diagonal"),
    (PLACES, trip(exchange=("back",)), "diagonal"),
    (PLACES, trip(exchange=("to", "back")), "diagonal"),
    (PLACES, trip(inwards=2), "smaller"),
    (PLACES, trip(rounding=False), "no whole numbers"),
    (SCALE, with_(scale_loop, shorter=max), "500 x 375"),
    (SCALE, with_(scale_loop, measure=lambda w, h: max(w, h), goal=224), "same area"),
    (SCALE, with_(scale_loop, measure=lambda w, h: min(w, h), goal=224), "same area"),
    (SCALE, with_(scale_loop, power=0), "same scale"),
    (SCALE, lambda window, image, scales: max(scales), "same scale"),
    (SCALE, with_(scale_loop, power=0.5), "twice the area"),
]

OTHER = [
    (EQUAL, 192),
    (FACTOR, 2),
    (LENGTH, 4704),
    (BINS, lambda a, n: [(i * math.ceil(a / n), (i + 1) * math.ceil(a / n)) for i in range(n)]),
    (PLACES, trip(outer=1)),
    (PLACES, (lambda box, scale, stride: trip()[0](box, scale, stride) * 0, trip()[1])),
    (SCALE, with_(scale_loop, shorter=sum)),
]

TWICE = [
    ("02-1", (5, 40)),
    ("02-2", (768,)),
    ("02-3", (sliding,)),
    ("02-4", (trip(to=one),)),
    ("02-5", (with_(scale_loop, shorter=max),)),
]

CAUSES = [
    (EQUAL, "one row", "divide 512 * 320"),
    (EQUAL, "far cheaper", "the other question"),
    (FACTOR, "too high", "divide 2,000 * 64 * 64"),
    (FACTOR, "saves more", "the other question"),
    (LENGTH, "3 * 128", "n * n"),
    (LENGTH, "finest", "joined end to end"),
    (LENGTH, "one channel", "times 128"),
    (BINS, "9 bins", "by luck"),
    (BINS, "last four", "All bins are floor(a / n) wide"),
    (BINS, "takes half", "what floor(a / n) leaves over"),
    (BINS, "ends at 11", "not the end less one"),
    (BINS, "ends at 9", "as in range(start, end)"),
    (BINS, "share", "reaches to 1.67"),
    (PLACES, "farther", "multiply by scale"),
    (PLACES, "diagonal", "x and y are exchanged"),
    (PLACES, "smaller", "rounded inwards on the way there"),
    (PLACES, "no whole numbers", "Half a cell"),
    (SCALE, "500 x 375", "s / 375"),
    (SCALE, "same area", "A side is compared"),
    (SCALE, "same scale", "as it lies in the picture given"),
    (SCALE, "twice the area", "its square into the area"),
]

NEARLY = [
    (EQUAL, 40.5),
    (FACTOR, 51),
    (LENGTH, 1793),
]

TestJudging = judging(EXERCISES, RIGHT, WRONG, OTHER, TWICE, CAUSES, NEARLY)


def test_numbers_of_the_questions():
    assert 512 * 320 == 40 * 64 * 64
    assert sum(n * n * 128 for n in (3, 2, 1)) == 1792
    assert bins_of_torch(10, 6) == [(0, 2), (1, 4), (3, 5), (5, 7), (6, 9), (8, 10)]
    first = (180, 120), (500, 375), e02_places.SCALES
    assert scale_loop(*first) == 576 and scale_loop(*first, shorter=max) == 688
    assert scale_loop(*first, measure=max, goal=224) == 480


def test_cases_are_twenty_and_of_several_kinds():
    assert len(e02._BIN_CASES) == len(e02_places._TRIPS) == len(e02_places._SCALE_CASES) == 20
    assert any(n > a for a, n in e02._BIN_CASES) and any(a % n for a, n in e02._BIN_CASES)
    assert {scale_loop(*case) for case in e02_places._SCALE_CASES} == set(e02_places.SCALES)
    assert all(0 <= x1 < x2 <= 800 and 0 <= y1 < y2 <= 400 for (x1, y1, x2, y2), _, _ in e02_places._TRIPS)


@pytest.mark.parametrize("pair", [(lambda *case: ..., trip()[1]), (trip()[0], lambda *case: ...), (..., ...)])
def test_half_a_pair_is_open(pair, capsys):
    check("02-4", pair)
    assert capsys.readouterr().out == "02-4: open\n"


def test_no_result_is_told(capsys):
    check("02-4", (lambda *case: None, trip()[1]))
    assert "returns nothing" in capsys.readouterr().out
