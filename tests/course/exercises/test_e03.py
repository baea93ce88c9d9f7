"""Right answers pass; each wrong answer gets its own hint and no other."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import roi_pool

from rcnn_tutorial.course.exercises import check, e03, e03_head
from rcnn_tutorial.course.exercises.e03 import EXERCISES
from tests.course.exercises.judging import hints, judging, nudged, with_

(POOL,) = EXERCISES["03-1"]
(BACKWARD,) = EXERCISES["03-2"]
VALUES, SLOPES = EXERCISES["03-3"]
NUMBER, LOSS = EXERCISES["03-4"]
LARGEST, FACTOR = EXERCISES["03-5"]
(FIND,) = EXERCISES["03-6"]


def half_up(v):
    return int(v + 0.5)


def pool_loop(feature_map, roi, n, stride, to_cell=half_up, last=1, exchange="", of=max):
    x1, y1, x2, y2 = (to_cell(v / stride) for v in roi.tolist())
    if exchange == "roi":
        x1, y1, x2, y2 = y1, x1, y2, x2
    rows = feature_map.T.tolist() if exchange == "map" else feature_map.tolist()
    w, h = x2 - x1 + last, y2 - y1 + last
    out = torch.zeros(n, n)
    for i, j in itertools.product(range(n), range(n)):
        found = [
            v
            for row in rows[y1 + math.floor(i * h / n) : y1 + math.ceil((i + 1) * h / n)]
            for v in row[x1 + math.floor(j * w / n) : x1 + math.ceil((j + 1) * w / n)]
        ]
        out[(j, i) if exchange == "out" else (i, j)] = of(found)
    return out


def pool_of_torchvision(feature_map, roi, n, stride):
    return roi_pool(feature_map[None, None], [roi[None]], n, 1 / stride)[0, 0]


def mean(values):
    return sum(values) / len(values)


def backward_of_torch(gradient, feature_map, bins):
    """Autograd through the pooling of each bin by itself."""
    leaf = feature_map.clone().requires_grad_()
    for g, (y1, y2, x1, x2) in zip(gradient, bins, strict=True):
        if y1 < y2 and x1 < x2:
            (g * F.adaptive_max_pool2d(leaf[None, y1:y2, x1:x2], 1).sum()).backward()
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def backward_loop(gradient, feature_map, bins, add=True, first=True, who="one", empty=None):
    out, rows = torch.zeros_like(feature_map), feature_map.tolist()
    where = None
    for g, (y1, y2, x1, x2) in zip(gradient.tolist(), bins, strict=True):
        cells = list(itertools.product(range(y1, y2), range(x1, x2)))
        if not cells:
            if empty == "kept" and where:
                out[where[0]] += g
            elif empty == "corner":
                out[0, 0] += g
            elif empty == "last":
                out.view(-1)[-1] += g
            continue
        top = max(rows[y][x] for y, x in cells)
        where = [(y, x) for y, x in cells if rows[y][x] == top]
        if who in ("share", "all"):
            where, g = cells, g / len(cells) if who == "share" else g
        elif who == "split":
            g = g / len(where)
        elif who == "one":
            where = where[:1] if first else where[-1:]
        for y, x in where:
            out[y, x] = (out[y, x] if add else 0) + g
    return out


def loss_of_torch(p, u, offsets, targets, background=False, over="all", which=lambda u, k: u - 1, of=F.smooth_l1_loss):
    total = F.nll_loss(p.log(), u, reduction="sum") / len(u)
    boxes = 0
    for r, c in enumerate(u.tolist()):
        if c or background:
            boxes += of(offsets[r, which(c, offsets.shape[1])], targets[r], reduction="sum")
    return total + boxes / (len(u) if over == "all" else sum(c > 0 for c in u.tolist()))


def every_class(p, u, offsets, targets):
    box = F.smooth_l1_loss(offsets, targets[:, None].expand_as(offsets), reduction="none").sum((1, 2))
    return F.nll_loss(p.log(), u) + (box * (u > 0)).mean()


def two_layers(layer, t, first_bias=False, second_bias=True, between=(), keep=None, square=False):
    u, s, v = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
    t = keep(s) if keep else t
    first, second = nn.Linear(v.shape[1], t, bias=first_bias), nn.Linear(t, len(u), bias=second_bias)
    with torch.no_grad():
        first.weight.copy_(s[:t].sqrt()[:, None] * v[:t] if square else s[:t, None] * v[:t])
        second.weight.copy_(u[:, :t] * s[:t].sqrt() if square else u[:, :t])
        if first_bias:
            first.bias.copy_(torch.arange(1, t + 1))
        if second_bias:
            second.bias.copy_(layer.bias)
    return nn.Sequential(first, *between, second)


def bias_on_the_first(layer, t):
    """The first layer keeps the bias that it was made with, the second has none."""
    return two_layers(layer, t, first_bias=True, second_bias=False)


def product_of_both(layer, t):
    thin = two_layers(layer, t)
    made = nn.Linear(layer.in_features, layer.out_features)
    made.load_state_dict({"weight": thin[1].weight @ thin[0].weight, "bias": layer.bias})
    return made


def twice_the_values(layer, t):
    made = two_layers(layer, t)
    made[0].weight.data *= 2
    return made


RIGHT = [
    (POOL, pool_of_torchvision),
    (POOL, pool_loop),
    (POOL, lambda *case: pool_loop(*case).tolist()),
    (BACKWARD, backward_of_torch),
    (BACKWARD, backward_loop),
    (VALUES, F.smooth_l1_loss(torch.tensor([-2, -0.5, 1, 10]), torch.zeros(4), reduction="none")),
    (VALUES, [1.5, 0.125, 0.5, 9.5]),
    (SLOPES, (-1, -0.5, 1, 1)),
    (NUMBER, 1.133),
    (LOSS, loss_of_torch),
    (LARGEST, 77),
    (FACTOR, two_layers),
    (FACTOR, with_(two_layers, square=True)),
    (FIND, e03.FAULTS),
    (FIND, list(e03.FAULTS)),
]

WRONG = [
    (POOL, with_(pool_loop, to_cell=math.floor), "goes to cell 1"),
    (POOL, with_(pool_loop, to_cell=round), "so does one at 2.5"),
    (POOL, with_(pool_loop, last=0), "4 cells wide"),
    *((POOL, with_(pool_loop, exchange=what), "diagonal") for what in ("roi", "map", "out")),
    (POOL, with_(pool_loop, of=mean), "single high cell"),
    (BACKWARD, with_(backward_loop, add=False), "wins two bins"),
    (BACKWARD, with_(backward_loop, who="share"), "wins no bin"),
    (BACKWARD, with_(backward_loop, who="all"), "wins no bin"),
    (BACKWARD, with_(backward_loop, who="share", add=False), "wins no bin"),
    (BACKWARD, with_(backward_loop, who="tied"), "flat map"),
    (BACKWARD, with_(backward_loop, who="split"), "flat map"),
    *((BACKWARD, with_(backward_loop, empty=where), "without cells") for where in ("kept", "corner", "last")),
    (VALUES, (2, 0.125, 0.5, 50), "50 or more"),
    (VALUES, (4, 0.25, 1, 100), "50 or more"),
    (VALUES, (2, 0.125, 1, 10), "jumps"),
    (VALUES, (2, 0.125, 0.5, 10), "jumps"),
    (SLOPES, (1, -0.5, 1, 1), "Left of 0"),
    (SLOPES, (1, 0.5, 1, 1), "Left of 0"),
    (SLOPES, (-1, 0.5, 1, 1), "Left of 0"),
    (SLOPES, (-2, -0.5, 1, 10), "10 or more"),
    (SLOPES, (2, 0.5, 1, 10), "10 or more"),
    (NUMBER, 2.299, "of background"),
    (NUMBER, 1.487, "right ones"),
    (NUMBER, 1.258, "not of 3"),
    (LOSS, with_(loss_of_torch, background=True), "of background"),
    (LOSS, with_(loss_of_torch, over="foreground"), "more background"),
    (LOSS, with_(loss_of_torch, which=lambda u, k: u), "does not have"),
    (LOSS, with_(loss_of_torch, which=lambda u, k: u % k), "does not have"),
    (LOSS, with_(loss_of_torch, which=lambda u, k: k - u), "does not have"),
    (LOSS, every_class, "does not have"),
    (LARGEST, 85, "more than a third"),
    (LARGEST, 85.33, "more than a third"),
    (LARGEST, 231, "nothing is saved"),
    (FACTOR, with_(two_layers, first_bias=True), "same amounts"),
    (FACTOR, with_(two_layers, second_bias=False), "same amounts"),
    (FACTOR, bias_on_the_first, "same amounts"),
    (FACTOR, with_(two_layers, between=[nn.ReLU()]), "opposite"),
    (FACTOR, with_(two_layers, between=[nn.ReLU()], square=True), "opposite"),
    (FACTOR, product_of_both, "more weights"),
    (FACTOR, with_(two_layers, keep=len), "more weights"),
    (FIND, ("exchange", "class", "twice"), "the other two"),
    (FIND, ("twice", "exchange", "class"), "another one"),
]

OTHER = [
    (POOL, with_(pool_loop, to_cell=math.ceil)),
    (BACKWARD, with_(backward_loop, first=False)),
    (BACKWARD, lambda gradient, feature_map, bins: torch.zeros_like(feature_map)),
    (VALUES, (1.5, 0.5, 0.5, 9.5)),
    (VALUES, (2, 0.5, 1, 10)),
    (SLOPES, (-1, -1, 1, 1)),
    (NUMBER, 3.398),
    (LOSS, with_(loss_of_torch, of=F.l1_loss)),
    (LARGEST, 78),
    (FACTOR, twice_the_values),
]

TWICE = [
    ("03-1", (with_(pool_loop, of=mean),)),
    ("03-2", (with_(backward_loop, add=False),)),
    ("03-3", ((2, 0.125, 0.5, 50), (1, 0.5, 1, 1))),
    ("03-4", (2.299, every_class)),
    ("03-5", (85, with_(two_layers, second_bias=False))),
    ("03-6", ((e03.FAULTS[1], e03.FAULTS[0], e03.FAULTS[2]),)),
]

CAUSES = [
    (POOL, "goes to cell 1", "cut off"),
    (POOL, "so does one at 2.5", "to the even number"),
    (POOL, "4 cells wide", "cell of the far corner"),
    (POOL, "diagonal", "x and y are exchanged"),
    (POOL, "single high cell", "not its mean"),
    (BACKWARD, "wins two bins", "add with +="),
    (BACKWARD, "wins no bin", "of a mean or a sum"),
    (BACKWARD, "flat map", "One wins: the first"),
    (BACKWARD, "without cells", "skip it"),
    (VALUES, "50 or more", "That is the square."),
    (VALUES, "jumps", "meet the parabola"),
    (SLOPES, "Left of 0", "sign of x"),
    (SLOPES, "10 or more", "slope of the square"),
    (NUMBER, "of background", "u = 0 has no box"),
    (NUMBER, "right ones", "divided by all RoIs"),
    (NUMBER, "not of 3", "row u - 1"),
    (LOSS, "of background", "u = 0 has no box"),
    (LOSS, "more background", "divided by all RoIs"),
    (LOSS, "does not have", "row u - 1"),
    (LARGEST, "more than a third", "as a share of 256"),
    (LARGEST, "nothing is saved", "ask for a third"),
    (FACTOR, "same amounts", "bias=False"),
    (FACTOR, "opposite", "ReLU between"),
    (FACTOR, "more weights", "two thin matrices apart"),
    (FIND, "the other two", "leave their proposals"),
    (FIND, "another one", "wide object"),
]

NEARLY = [
    (POOL, nudged(pool_of_torchvision)),
    (BACKWARD, nudged(backward_of_torch)),
    (VALUES, (1.5, 0.135, 0.5, 9.5)),
    (SLOPES, (-1, -0.49, 1, 1)),
    (NUMBER, 1.1377),
    (LOSS, nudged(loss_of_torch)),
    (LARGEST, 77.5),
    (FACTOR, nudged(two_layers)),
]

TestJudging = judging(EXERCISES, RIGHT, WRONG, OTHER, TWICE, CAUSES, NEARLY)


def test_of_all_permutations_one_is_right_and_the_others_have_one_hint():
    for answer in itertools.permutations(e03.FAULTS):
        assert len(hints(FIND, answer)) + FIND.right(answer) == 1
        exchange_found = answer.index("exchange") == e03.FAULTS.index("exchange")
        assert FIND.right(answer) or ("another one" in hints(FIND, answer)[0]) != exchange_found


@pytest.mark.parametrize(
    ("part", "answer"),
    [
        (VALUES, (1, 2)),
        (SLOPES, 1),
        (FIND, ("class", "twice", "twice")),
        (FIND, ("A", "B", "C")),
        (FIND, e03.FAULTS * 2),
    ],
)
def test_another_form_is_told(part, answer):
    with pytest.raises(ValueError, match="expected"):
        part.right(answer)


def test_numbers_of_the_questions():
    told = {"right": {}, "floor": dict(to_cell=math.floor), "even": dict(to_cell=round), "swap": dict(exchange="roi")}
    told["last"] = dict(last=0)
    rois = e03._GIVEN[0][:2], e03._GIVEN[1][:2]
    found = {k: [pool_loop(*roi, 2, 16, **o).flatten().tolist() for roi in rois] for k, o in told.items()}
    assert found == {
        "right": [[44, 46, 60, 62], [18, 20, 34, 36]],
        "floor": [[35, 37, 51, 53], [18, 20, 34, 36]],
        "even": [[36, 38, 52, 54], [18, 20, 34, 36]],
        "swap": [[37, 39, 53, 55], [18, 20, 34, 36]],
        "last": [[35, 37, 51, 53], [9, 11, 25, 27]],
    }
    x = torch.tensor([-2, -0.5, 1, 10], requires_grad=True)
    F.smooth_l1_loss(x, torch.zeros(4), reduction="sum").backward()
    assert SLOPES.right(x.grad)
    p = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    offsets = torch.tensor([[[0.5, 0, 0, 0], [3, 0, 0, 0]], [[4, 0, 0, 0], [4, 0, 0, 0]], [[0, 0, 0, 0], [2, 0, 0, 1]]])
    case = p, torch.tensor([1, 0, 2]), offsets, torch.zeros(3, 4)
    assert loss_of_torch(*case).item() == pytest.approx(1.1327, abs=1e-4)
    assert loss_of_torch(*case, background=True).item() == pytest.approx(2.2993, abs=1e-4)
    assert loss_of_torch(*case, over="foreground").item() == pytest.approx(1.4868, abs=1e-4)
    assert loss_of_torch(*case, which=lambda u, k: k - u).item() == pytest.approx(1.2577, abs=1e-4)
    assert max(t for t in range(1, 257) if 3 * t * (256 + 2400) <= 256 * 2400) == 77
    assert max(t for t in range(1, 257) if t * (256 + 2400) <= 256 * 2400) == 231


def test_the_bins_of_the_package_are_those_of_roi_pooling():
    """The gradient through all bins of an RoI is torchvision's, RoIs beyond the map included."""
    generator = torch.Generator().manual_seed(5)
    for _ in range(20):
        leaf = torch.randperm(63, generator=generator).reshape(7, 9).float().requires_grad_()
        rois = torch.randint(0, 21, (3, 2), generator=generator) * 8
        rois = torch.cat((rois, rois + 8 * torch.randint(0, 9, (3, 2), generator=generator)), dim=1).float()
        bins = [b for roi in rois for b in e03._bins(roi, (7, 9), 3, 16)]
        gradient = torch.rand(len(bins), generator=generator)
        pooled = roi_pool(leaf[None, None], [rois], 3, 1 / 16)
        pooled.backward(gradient.reshape(pooled.shape))
        assert torch.allclose(backward_loop(gradient, leaf.detach(), bins), leaf.grad)
        assert torch.allclose(backward_of_torch(gradient, leaf.detach(), bins), leaf.grad)


@pytest.mark.parametrize("case", e03._DISTINCT[:2] + e03._EMPTY[:1])
def test_the_gradient_is_that_of_finite_differences(case):
    gradient, feature_map, bins = case
    rows = feature_map.double()

    def loss(m):
        full = ((g, m[y1:y2, x1:x2]) for g, (y1, y2, x1, x2) in zip(gradient, bins, strict=True))
        return sum(g * cells.max() for g, cells in full if cells.numel())

    steps = torch.eye(rows.numel()).double().reshape(-1, *rows.shape) * 1e-3
    slopes = torch.stack([(loss(rows + step) - loss(rows - step)) / 2e-3 for step in steps]).reshape(rows.shape)
    assert torch.allclose(slopes, backward_loop(*case).double(), atol=1e-6)


def test_cases_are_twenty_and_of_several_kinds():
    assert len(e03._POOL_CASES) == len(e03._DISTINCT + e03._TIED + e03._EMPTY) == 20
    assert len(e03_head._LOSS_CASES + e03_head._LAST_CLASS) == len(e03_head._FACTOR_CASES) == 20
    assert {case[2] for case in e03._POOL_CASES} == {2, 3, 4}
    assert min(sum(m.shape[0] != m.shape[1] for m, *_ in e03._POOL_CASES), len(e03._ON_SQUARES)) >= 5
    shared = [e03._backward(torch.ones(len(bins)), m, bins).max() > 1 for _, m, bins in e03._DISTINCT]
    assert sum(shared) >= 5


def test_untouched_is_open(capsys):
    check("03-1", lambda *case: ...)
    check("03-2", lambda *case: ...)
    check("03-4", ..., lambda *case: ...)
    check("03-5", ..., lambda *case: ...)
    check("03-6", (..., ..., ...))
    assert all(line.endswith(": open") for line in capsys.readouterr().out.splitlines())
