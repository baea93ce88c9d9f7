"""Right answers pass; each wrong answer gets its own hint and no other."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rcnn_tutorial.course.exercises import check, e02, e02_places
from rcnn_tutorial.course.exercises.e02 import EXERCISES
from rcnn_tutorial.course.exercises.e02_build import SIZES, eight_pictures
from rcnn_tutorial.detectors.sppnet import closest_scale
from tests.course.exercises.judging import judging, with_

FIELD, SCALE, BINS, KEPT, PLACES, BUILD = (EXERCISES[f"02-{letter}"] for letter in "ABCDEF")
FOUR = [(5, 2), (3, 1), (2, 2), (3, 1)]


def field(layers, first=False, whole=False, strides=True):
    """The side and the stride of the last map after layers of (kernel, stride)."""
    size, step = 1, 1
    for kernel, stride in layers:
        if first and strides:
            step *= stride
        size += (kernel - (not whole)) * step
        if not first and strides:
            step *= stride
    return size, step


def bins_of_torch(cell, a, n):
    """Bin i holds the cell where pooling a map that is 1 in it alone gives 1 in i."""
    one = torch.zeros(1, a)
    one[0, cell] = 1
    return F.adaptive_max_pool1d(one, n)[0].nonzero()[:, 0].tolist()


def bins_rounded(cell, a, n, start=math.floor, end=math.ceil, last=0):
    return [i for i in range(n) if start(i * a / n) <= cell < end((i + 1) * a / n) + last]


def kept_of_torch(channel, n):
    indices = F.adaptive_max_pool2d(channel[None], n, return_indices=True)[1]
    return indices.flatten().bincount(minlength=channel.numel()).view(channel.shape)


def kept_loop(channel, n, slip=""):
    h, w = channel.shape
    end = math.floor if slip == "own bins" else math.ceil
    kept = [[0] * w for _ in range(h)]
    for i in range(n):
        for j in range(n):
            top, left = math.floor(i * h / n), math.floor(j * w / n)
            part = channel[top : end((i + 1) * h / n), left : end((j + 1) * w / n)]
            place = int(part.argmax())
            side = part.shape[0] if slip == "rows" else part.shape[1]
            y, x = place // side, place % side
            if slip != "corner":
                y, x = y + top, x + left
            if y < h and x < w:
                kept[y][x] = 1 if slip == "once" else kept[y][x] + 1
    return torch.tensor(kept)


class Classifier(nn.Module):
    """What the last exercise asks for, with the mistakes one can make."""

    def __init__(self, classes, slip=""):
        super().__init__()
        self.slip, self.levels = slip, (1,) if slip == "where" else (2, 1)
        self.conv = nn.Conv2d(1 if slip == "grey" else 3, 8, 5, stride=2, padding=2)
        inputs = 8 * 20 * 26 if slip == "flat" else 8 * sum(n * n for n in self.levels)
        self.last = nn.Linear(inputs, classes + (slip == "outputs"))

    def forward(self, pictures):
        features = self.conv(pictures).relu()
        if self.slip == "detach":
            features = features.detach()
        if self.slip == "flat":
            return self.last(features.flatten(1))
        pooled = [F.adaptive_max_pool2d(features, n).flatten(1) for n in self.levels]
        scores = self.last(torch.cat(pooled, dim=1))
        if self.slip == "squeeze":
            return scores[0]
        return scores.softmax(dim=1) if self.slip == "softmax" else scores


class Dull(nn.Module):
    """It takes all sizes and learns, but never says the last class."""

    def __init__(self, classes):
        super().__init__()
        self.network = Classifier(classes)

    def forward(self, pictures):
        return self.network(pictures) - torch.tensor([0, 0, 0, 1000.0])


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


def one(scale):
    return 1


RIGHT = [
    (FIELD[0], field(FOUR)[0]),
    (FIELD[1], field(FOUR)[1]),
    (FIELD[2], math.ceil((100 - 19) / 8)),
    (SCALE[0], 80.34),
    (SCALE[0], 80.3),
    (SCALE[1], 107.6),
    (BINS[0], 1792),
    (BINS[1], bins_of_torch),
    (BINS[1], bins_rounded),
    (BINS[1], lambda *case: torch.tensor(bins_of_torch(*case))),
    (KEPT[0], kept_of_torch),
    (KEPT[0], kept_loop),
    (KEPT[0], lambda *case: kept_loop(*case).float()),
    (PLACES[0], trip()),
    (PLACES[0], (published, trip()[1])),
    (PLACES[0], (in_lists, lambda cells, scale, stride: [c * stride / scale for c in cells])),
    (PLACES[0], (in_lists, lambda cells, scale, stride: [round(c * stride / scale) for c in cells])),
    (BUILD[0], Classifier),
]

WRONG = [
    (FIELD[0], field(FOUR, strides=False)[0], "strides are all 1"),
    (FIELD[0], field(FOUR, first=True)[0], "its own stride"),
    (FIELD[0], field(FOUR, whole=True)[0], "one step too many"),
    (FIELD[0], field(FOUR, whole=True)[0] - 1, "one step too many"),
    (FIELD[1], 6, "sum of the strides"),
    (FIELD[1], 2, "is missing"),
    (FIELD[2], 10, "99 pixels"),
    (FIELD[2], 41, "each added 2"),
    (FIELD[2], 21, "each added 4"),
    (FIELD[2], 13, "began at one pixel"),
    (SCALE[0], 80, "whole pixel"),
    (SCALE[0], 81.4, "sides are equally near"),
    (SCALE[0], 82.5, "two ratios"),
    (SCALE[0], 97.2, "exactly 224 x 224"),
    (SCALE[0], 70, "exactly 224 x 224"),
    (SCALE[0], 107.1, "longer side"),
    (SCALE[0], 107.6, "the other question"),
    (SCALE[1], 108, "whole pixel"),
    (SCALE[1], 108.3, "sides are equally near"),
    (SCALE[1], 108.9, "two ratios"),
    (SCALE[1], 122.1, "exactly 224 x 224"),
    (SCALE[1], 143.4, "longer side"),
    (SCALE[1], 80.3, "the other question"),
    (BINS[0], 768, "3 * 128"),
    (BINS[0], 1152, "finest"),
    (BINS[0], 14, "one channel"),
    (BINS[1], lambda cell, a, n: list(range(cell * a // n, -(-(cell + 1) * a // n))), "cells of the map"),
    (BINS[1], with_(bins_rounded, last=1), "cell 4 into both"),
    (BINS[1], lambda cell, a, n: [cell * n // a], "cell 3 into one"),
    (BINS[1], with_(bins_rounded, end=math.floor), "cell 3 into one"),
    (BINS[1], with_(bins_rounded, start=round, end=round), "cell 3 into one"),
    (KEPT[0], with_(kept_loop, slip="once"), "counts once"),
    (KEPT[0], with_(kept_loop, slip="corner"), "upper left corner"),
    (KEPT[0], with_(kept_loop, slip="own bins"), "share a cell"),
    (KEPT[0], with_(kept_loop, slip="rows"), "not square"),
    (PLACES[0], trip(to=one), "farther"),
    (PLACES[0], trip(to=one, back=one), "farther"),
    (PLACES[0], trip(back=one), "farther"),
    (PLACES[0], trip(to=lambda scale: 1 / scale), "farther"),
    (PLACES[0], trip(back=lambda scale: 1 / scale), "farther"),
    (PLACES[0], trip(exchange=("to",)), "diagonal"),
    (PLACES[0], trip(exchange=("back",)), "diagonal"),
    (PLACES[0], trip(exchange=("to", "back")), "diagonal"),
    (PLACES[0], trip(inwards=2), "smaller"),
    (PLACES[0], trip(rounding=False), "no whole numbers"),
    (BUILD[0], with_(Classifier, slip="grey"), "three channels"),
    (BUILD[0], with_(Classifier, slip="flat"), "one size alone"),
    (BUILD[0], with_(Classifier, slip="outputs"), "do not have the shape"),
    (BUILD[0], with_(Classifier, slip="squeeze"), "do not have the shape"),
    (BUILD[0], with_(Classifier, slip="softmax"), "add up to 1"),
    (BUILD[0], with_(Classifier, slip="where"), "in one corner"),
    (BUILD[0], with_(Classifier, slip="detach"), "no gradient"),
]

OTHER = [
    (FIELD[0], 90),
    (FIELD[1], 8),
    (FIELD[2], 100),
    (SCALE[0], 60),
    (SCALE[1], 100),
    (BINS[0], 4704),
    (BINS[1], lambda cell, a, n: list(range(n))),
    (KEPT[0], lambda channel, n: torch.zeros(channel.shape)),
    (PLACES[0], trip(outer=1)),
    (PLACES[0], (lambda box, scale, stride: trip()[0](box, scale, stride) * 0, trip()[1])),
    (BUILD[0], Dull),
]

TWICE = [
    ("02-A", (10, 6, 10)),
    ("02-B", (81.4, 80.3)),
    ("02-C", (768, lambda cell, a, n: [cell * n // a])),
    ("02-D", (with_(kept_loop, slip="corner"),)),
    ("02-E", (trip(to=one),)),
    ("02-F", (with_(Classifier, slip="softmax"),)),
]

_SCALES = [
    ("whole pixel", "one digit after the point"),
    ("sides are equally near", "w * w * (s / 375)"),
    ("two ratios", "and not their ratio"),
    ("exactly 224 x 224", "miss 224 * 224 by equally much"),
    ("longer side", "and not s / 500"),
    ("the other question", "look at both neighbours"),
]
CAUSES = [
    (FIELD[0], "strides are all 1", "by the strides before it"),
    (FIELD[0], "its own stride", "multiply step by the layer's stride afterwards"),
    (FIELD[0], "one step too many", "start at 1"),
    (FIELD[1], "sum of the strides", "Strides multiply"),
    (FIELD[1], "is missing", "A pooling counts"),
    (FIELD[2], "99 pixels", "round the number of layers up"),
    (FIELD[2], "each added 2", "step is 4 by now"),
    (FIELD[2], "each added 4", "it adds two steps"),
    (FIELD[2], "began at one pixel", "only what is missing"),
    *((part, symptom, words) for part in SCALE for symptom, words in _SCALES),
    (BINS[0], "3 * 128", "n * n"),
    (BINS[0], "finest", "joined end to end"),
    (BINS[0], "one channel", "times 128"),
    (BINS[1], "cells of the map", "goes the other way"),
    (BINS[1], "cell 4 into both", "start <= cell < end"),
    (BINS[1], "cell 3 into one", "both touch cell 3"),
    (KEPT[0], "counts once", "+= and not ="),
    (KEPT[0], "upper left corner", "add the bin's top and left"),
    (KEPT[0], "share a cell", "rounded up, as in section 4"),
    (KEPT[0], "not square", "argmax counts row by row"),
    (PLACES[0], "farther", "multiply by scale"),
    (PLACES[0], "diagonal", "x and y are exchanged"),
    (PLACES[0], "smaller", "rounded inwards on the way there"),
    (PLACES[0], "no whole numbers", "Half a cell"),
    (BUILD[0], "three channels", "begin with Conv2d(3"),
    (BUILD[0], "one size alone", "sees the flattened map"),
    (BUILD[0], "do not have the shape", "along dim=1"),
    (BUILD[0], "add up to 1", "does the softmax itself"),
    (BUILD[0], "in one corner", "add a level of 2 x 2"),
    (BUILD[0], "no gradient", "without detach"),
]

NEARLY = [
    (FIELD[0], 19.2),
    (FIELD[2], 11.1),
    (SCALE[0], 80.7),
    (SCALE[1], 107.2),
    (BINS[0], 1793),
    (KEPT[0], lambda channel, n: kept_loop(channel, n) + 0.005),
]

TestJudging = judging(EXERCISES, RIGHT, WRONG, OTHER, TWICE, CAUSES, NEARLY)


def test_numbers_of_the_questions():
    assert field(FOUR) == (19, 4) and field([*FOUR, *10 * [(3, 1)]])[0] == 99
    assert field([*FOUR, *11 * [(3, 1)]])[0] >= 100
    assert sum(n * n * 128 for n in (3, 2, 1)) == 1792


def test_the_borders_are_those_of_the_package():
    sides = torch.arange(60, 130, 0.1)
    windows = torch.stack((torch.zeros_like(sides), torch.zeros_like(sides), sides, sides), dim=1)
    read = sides[closest_scale(windows, (375, 500), (480, 576, 688, 864, 1200)) == 3]  # at 864
    assert read.min().item() == pytest.approx(e02._SMALLEST, abs=0.11)
    assert read.max().item() == pytest.approx(e02._LARGEST, abs=0.11)


def test_cases_are_of_several_kinds():
    assert len(e02._BIN_CASES) == len(e02_places._TRIPS) == 20
    assert {len(bins_of_torch(*case)) for case in e02._BIN_CASES} >= {1, 2}
    assert all(0 <= cell < a for cell, a, _ in e02._BIN_CASES) and any(n > a for _, a, n in e02._BIN_CASES)
    assert max(kept_loop(*case).max() for case in e02._CHANNELS) == 4
    assert all(len(channel.unique()) == channel.numel() for channel, _ in e02._CHANNELS)
    assert all(0 <= x1 < x2 <= 800 and 0 <= y1 < y2 <= 400 for (x1, y1, x2, y2), _, _ in e02_places._TRIPS)


def test_the_eight_pictures_differ_in_size_and_in_the_quarter():
    pictures, labels = eight_pictures()
    assert [tuple(p.shape[2:]) for p in pictures] == list(SIZES) and len(set(SIZES)) == 8
    for picture, label in zip(pictures, labels.tolist(), strict=True):
        (ys, xs), (h, w) = picture[0, 0].nonzero().T, picture.shape[2:]
        assert (int(ys.float().mean() > h / 2), int(xs.float().mean() > w / 2)) == divmod(label, 2)


@pytest.mark.parametrize("answer", [lambda classes: ..., ...])
def test_no_network_is_open(answer, capsys):
    check("02-F", answer)
    assert capsys.readouterr().out == "02-F: open\n"


def test_a_network_is_asked_for(capsys):
    check("02-F", lambda classes: 3)
    assert "expected a torch.nn.Module" in capsys.readouterr().out


@pytest.mark.parametrize("pair", [(lambda *case: ..., trip()[1]), (trip()[0], lambda *case: ...), (..., ...)])
def test_half_a_pair_is_open(pair, capsys):
    check("02-E", pair)
    assert capsys.readouterr().out == "02-E: open\n"


def test_no_result_is_told(capsys):
    check("02-E", (lambda *case: None, trip()[1]))
    assert "returns nothing" in capsys.readouterr().out
