"""Right answers pass; each wrong answer gets its own hint and no other."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import roi_align, roi_pool

from rcnn_tutorial.course.exercises import check, e03, e03_align, e03_head
from rcnn_tutorial.course.exercises.e03 import EXERCISES
from rcnn_tutorial.ops.losses import multi_task_loss
from tests.course.exercises.judging import hints, judging, nudged, with_

SIX, POOL = EXERCISES["03-A"]
(BACKWARD,) = EXERCISES["03-B"]
NUMBER, LOSS = EXERCISES["03-C"]
FOUR, SPREAD = EXERCISES["03-D"]
(FIND,) = EXERCISES["03-E"]
(HEAD,) = EXERCISES["03-F"]


def half_up(v):
    return math.floor(v + 0.5)


def pool_loop(feature_map, roi, grid, stride, to_cell=half_up, last=1, exchange="", of=max):
    x1, y1, x2, y2 = (to_cell(v / stride) for v in roi.tolist())
    if exchange == "roi":
        x1, y1, x2, y2 = y1, x1, y2, x2
    rows = feature_map.T.tolist() if exchange == "map" else feature_map.tolist()
    w, h = x2 - x1 + last, y2 - y1 + last
    out = torch.zeros(grid[::-1] if exchange == "out" else grid)
    for i, j in itertools.product(range(grid[0]), range(grid[1])):
        found = [
            rows[y][x]
            for y in range(y1 + math.floor(i * h / grid[0]), y1 + math.ceil((i + 1) * h / grid[0]))
            for x in range(x1 + math.floor(j * w / grid[1]), x1 + math.ceil((j + 1) * w / grid[1]))
            if 0 <= y < len(rows) and 0 <= x < len(rows[0])
        ]
        out[(j, i) if exchange == "out" else (i, j)] = of(found) if found else 0
    return out


def pool_of_torchvision(feature_map, roi, grid, stride):
    corrected = roi / stride
    corrected = torch.floor(corrected + 0.5)  # torchvision rounds halves below 0 the other way
    return roi_pool(feature_map[None, None], [corrected[None]], grid, 1)[0, 0]


def pool_what_is_left(feature_map, roi, grid, stride):
    """The wrong answer that looks like the right one: the bins of what lies on the map."""
    x1, y1, x2, y2 = (max(half_up(v / stride), 0) for v in roi.tolist())
    return F.adaptive_max_pool2d(feature_map[None, y1 : y2 + 1, x1 : x2 + 1], grid)[0]


def mean(values):
    return sum(values) / len(values)


def backward_of_torch(gradient, feature_map, bins):
    """Autograd through the pooling of each bin by itself."""
    leaf = feature_map.clone().requires_grad_()
    for g, (y1, y2, x1, x2) in zip(gradient, bins, strict=True):
        if y1 < y2 and x1 < x2:
            (g * F.adaptive_max_pool2d(leaf[None, y1:y2, x1:x2], 1).sum()).backward()
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def backward_loop(gradient, feature_map, bins, add=True, first=True, who="one", empty=None, offset=True):
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
            if not offset:
                y, x = y - y1, x - x1
            out[y, x] = (out[y, x] if add else 0) + g
    return out


def loss_of_torch(
    scores, u, offsets, targets, background=False, over=len, which=lambda u, k: u - 1, of=F.smooth_l1_loss,
    log_p=F.log_softmax, reduction="sum",
):  # fmt: skip
    total = F.nll_loss(log_p(scores, 1), u)
    boxes = 0
    for r, c in enumerate(u.tolist()):
        if c or background:
            boxes += of(offsets[r, which(c, offsets.shape[1])], targets[r], reduction=reduction)
    return total + boxes / over(u)


def loss_by_library(scores, u, offsets, targets):
    """A learner's whole answer with the default reduction: the mean over the foreground's numbers."""
    chosen = offsets[torch.arange(len(u)), u - 1]
    return F.cross_entropy(scores, u) + F.smooth_l1_loss(chosen[u > 0], targets[u > 0])


def every_class(scores, u, offsets, targets):
    box = F.smooth_l1_loss(offsets, targets[:, None].expand_as(offsets), reduction="none").sum((1, 2))
    return F.cross_entropy(scores, u) + (box * (u > 0)).mean()


def spread_by_autograd(gradient, x, y, shape):
    """The gradient of what RoIAlign reads at the points: an RoI of one bin around each, with one point in it."""
    leaf = torch.zeros(1, 1, *shape, requires_grad=True)
    rois = torch.stack((torch.zeros_like(x), x - 0.5, y - 0.5, x + 0.5, y + 0.5), dim=1)
    (roi_align(leaf, rois, 1, 1, 1).flatten() * gradient).sum().backward()
    return leaf.grad[0, 0]


def spread_loop(gradient, x, y, shape, far=False, exchange=False, weights=None, add=True):
    out = torch.zeros(shape)
    for g, across, down in zip(gradient, x, y, strict=True):
        a, b = across - int(across), down - int(down)
        a, b = (1 - a, 1 - b) if far else (b, a) if exchange else (a, b)
        table = weights(a, b) if weights else [[(1 - a) * (1 - b), a * (1 - b)], [(1 - a) * b, a * b]]
        for i, j in itertools.product(range(2), range(2)):
            row, column = int(down) + i, int(across) + j
            if table[i][j] and row < shape[0] and column < shape[1]:
                out[row, column] = g * table[i][j] + (out[row, column] if add else 0)
    return out


def spread_by_index(gradient, x, y, shape):
    out = torch.zeros(shape)
    column, row = x.long(), y.long()
    for i, j in itertools.product(range(2), range(2)):
        weight = (1 - (x - column - j).abs()) * (1 - (y - row - i).abs())
        out[(row + i).clamp(max=shape[0] - 1), (column + j).clamp(max=shape[1] - 1)] += gradient * weight
    return out


def one_cell(a, b):
    return [[float(i == (b >= 0.5) and j == (a >= 0.5)) for j in range(2)] for i in range(2)]


class Net(nn.Module):
    """A head with the mistakes that one can make as options."""

    def __init__(self, classes, scores=1, rows=0, after_scores=None, after_offsets=None, flat=False):
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(1536, 128), nn.ReLU())
        self.score, self.offsets = nn.Linear(128, classes + scores), nn.Linear(128, 4 * (classes + rows))
        self.after = after_scores or nn.Identity(), after_offsets or nn.Identity()
        self.flat = flat

    def forward(self, pooled):
        features = self.hidden(pooled)
        scores, offsets = self.after[0](self.score(features)), self.after[1](self.offsets(features))
        return scores, offsets if self.flat else offsets.unflatten(1, (-1, 4))


def fit(pooled, labels, targets, steps=150, losses=("class", "box"), **options):
    head = Net(int(labels.max()), **options)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    for _ in range(steps):
        found = multi_task_loss(*head(pooled), labels, targets)
        optimizer.zero_grad()
        sum(found[name] for name in losses).backward()
        optimizer.step()
    return head


RIGHT = [
    (SIX, [8, 7, 6, 5, 4, 9]),
    (SIX, torch.tensor([8, 7, 6, 5, 4, 9])),
    (POOL, pool_of_torchvision),
    (POOL, pool_loop),
    (POOL, lambda *case: pool_loop(*case).tolist()),
    (BACKWARD, backward_of_torch),
    (BACKWARD, backward_loop),
    (NUMBER, 1.133),
    (LOSS, loss_of_torch),
    (FOUR, (1, 3, 1, 3)),
    (SPREAD, spread_by_autograd),
    (SPREAD, spread_loop),
    (FIND, e03.FAULTS),
    (FIND, list(e03.FAULTS)),
    (HEAD, fit),
]

GIVEN = e03._GIVEN
WRONG = [
    (SIX, pool_loop(*GIVEN, to_cell=math.floor).flatten().tolist(), "goes to cell 1"),
    (SIX, pool_loop(*GIVEN, to_cell=round).flatten().tolist(), "one at 6.5 goes to cell 6"),
    (SIX, pool_loop(*GIVEN, last=0).flatten().tolist(), "too few"),
    (POOL, with_(pool_loop, to_cell=math.floor), "goes to cell 1"),
    (POOL, with_(pool_loop, to_cell=round), "one at 6.5 goes to cell 6"),
    (POOL, with_(pool_loop, last=0), "too few"),
    (POOL, pool_what_is_left, "reach beyond it are not"),
    *((POOL, with_(pool_loop, exchange=what), "diagonal") for what in ("roi", "map", "out")),
    (POOL, with_(pool_loop, of=mean), "single high cell"),
    (BACKWARD, with_(backward_loop, offset=False), "upper left corner"),
    (BACKWARD, with_(backward_loop, add=False), "wins two bins"),
    (BACKWARD, with_(backward_loop, who="share"), "wins no bin"),
    (BACKWARD, with_(backward_loop, who="all"), "wins no bin"),
    (BACKWARD, with_(backward_loop, who="share", add=False), "wins no bin"),
    (BACKWARD, with_(backward_loop, who="tied"), "flat map"),
    (BACKWARD, with_(backward_loop, who="split"), "flat map"),
    *((BACKWARD, with_(backward_loop, empty=where), "without cells") for where in ("kept", "corner", "last")),
    (NUMBER, 2.299, "of background"),
    (NUMBER, 1.487, "right ones"),
    (NUMBER, 1.258, "not of 3"),
    (NUMBER, 0.601, "four times"),
    (NUMBER, 0.690, "four times"),
    (LOSS, with_(loss_of_torch, background=True), "of background"),
    (LOSS, with_(loss_of_torch, over=torch.count_nonzero), "more background"),
    (LOSS, with_(loss_of_torch, which=lambda u, k: u % k), "does not have"),
    (LOSS, with_(loss_of_torch, which=lambda u, k: k - u), "does not have"),
    (LOSS, every_class, "does not have"),
    (LOSS, with_(loss_of_torch, reduction="mean"), "four times"),
    (LOSS, loss_by_library, "four times"),
    (LOSS, with_(loss_of_torch, log_p=lambda z, dim: z.softmax(dim).log_softmax(dim)), "class is certain"),
    (LOSS, with_(loss_of_torch, log_p=F.softmax), "negative"),
    (FOUR, (3, 1, 3, 1), "gets the least"),
    (FOUR, (1, 1, 3, 3), "each other's share"),
    (FOUR, (2, 2, 2, 2), "get the same"),
    (FOUR, (0, 8, 0, 0), "Only one cell"),
    (FOUR, (0, 0, 0, 8), "Only one cell"),
    (SPREAD, with_(spread_loop, far=True), "gets the least"),
    (SPREAD, with_(spread_loop, exchange=True), "each other's share"),
    (SPREAD, with_(spread_loop, weights=lambda a, b: [[0.25] * 2] * 2), "get the same"),
    (SPREAD, with_(spread_loop, weights=one_cell), "Only one cell"),
    (SPREAD, with_(spread_loop, add=False), "share a cell"),
    (SPREAD, spread_by_index, "share a cell"),
    (FIND, ("exchange", "class", "twice"), "the other two"),
    (FIND, ("twice", "exchange", "class"), "another one"),
    (HEAD, lambda *case: Net(int(case[1].max()), scores=0), "(R, K + 1)"),
    (HEAD, lambda *case: Net(int(case[1].max()), flat=True), "(R, K, 4)"),
    (HEAD, lambda *case: Net(int(case[1].max()), rows=1), "(R, K, 4)"),
    (HEAD, with_(fit, after_scores=nn.Softmax(dim=1)), "add up to 1"),
    (HEAD, with_(fit, after_offsets=nn.ReLU()), "No offset is negative"),
    (HEAD, with_(fit, losses=("class",)), "the boxes are not"),
    (HEAD, with_(fit, losses=("box",)), "the classes are not"),
]

OTHER = [
    (SIX, [8, 6, 7, 7, 4, 9]),
    (POOL, with_(pool_loop, to_cell=math.ceil)),
    (BACKWARD, with_(backward_loop, first=False)),
    (BACKWARD, lambda gradient, feature_map, bins: torch.zeros_like(feature_map)),
    (NUMBER, 3.398),
    (LOSS, with_(loss_of_torch, of=F.l1_loss)),
    (FOUR, (0.125, 0.375, 0.125, 0.375)),
    (SPREAD, lambda gradient, x, y, shape: torch.zeros(shape)),
    (HEAD, with_(fit, steps=2)),
]

TWICE = [
    ("03-A", (pool_loop(*GIVEN, last=0).flatten().tolist(), with_(pool_loop, of=mean))),
    ("03-B", (with_(backward_loop, add=False),)),
    ("03-C", (2.299, every_class)),
    ("03-D", ((3, 1, 3, 1), with_(spread_loop, add=False))),
    ("03-E", ((e03.FAULTS[1], e03.FAULTS[0], e03.FAULTS[2]),)),
    ("03-F", (lambda *case: Net(int(case[1].max()), flat=True),)),
]

CAUSES = [
    (SIX, "goes to cell 1", "cut off"),
    (SIX, "one at 6.5 goes to cell 6", "to the even number"),
    (SIX, "too few", "cells of both borders"),
    (POOL, "goes to cell 1", "cut off"),
    (POOL, "one at 6.5 goes to cell 6", "to the even number"),
    (POOL, "too few", "cells of both borders"),
    (POOL, "reach beyond it are not", "Only then"),
    (POOL, "diagonal", "x and y are exchanged"),
    (POOL, "single high cell", "not its mean"),
    (BACKWARD, "upper left corner", "counts within the bin"),
    (BACKWARD, "wins two bins", "add with +="),
    (BACKWARD, "wins no bin", "of a mean or a sum"),
    (BACKWARD, "flat map", "One wins: the first"),
    (BACKWARD, "without cells", "skip it"),
    (NUMBER, "of background", "u = 0 has no box"),
    (NUMBER, "right ones", "divided by all RoIs"),
    (NUMBER, "not of 3", "row u - 1"),
    (NUMBER, "four times", "divides by them"),
    (LOSS, "of background", "u = 0 has no box"),
    (LOSS, "more background", "divided by all RoIs"),
    (LOSS, "does not have", "row u - 1"),
    (LOSS, "four times", "divides by them"),
    (LOSS, "class is certain", "and not probabilities"),
    (LOSS, "negative", "takes log-probabilities"),
    (FOUR, "gets the least", "if the point is near"),
    (FOUR, "each other's share", "a belongs to x"),
    (FOUR, "get the same", "with which it was read"),
    (FOUR, "Only one cell", "Nothing is rounded"),
    (SPREAD, "gets the least", "if the point is near"),
    (SPREAD, "each other's share", "a belongs to x"),
    (SPREAD, "get the same", "with which it was read"),
    (SPREAD, "Only one cell", "Nothing is rounded"),
    (SPREAD, "share a cell", "+= and not ="),
    (FIND, "the other two", "leave their proposals"),
    (FIND, "another one", "wide object"),
    (HEAD, "(R, K + 1)", "is column 0"),
    (HEAD, "(R, K, 4)", "unflatten"),
    (HEAD, "add up to 1", "softmax in the head"),
    (HEAD, "No offset is negative", "ReLU behind"),
    (HEAD, "the boxes are not", "box loss added to"),
    (HEAD, "the classes are not", "class loss added to"),
]

NEARLY = [
    (SIX, [8, 7, 6, 5, 4, 9.01]),
    (POOL, nudged(pool_of_torchvision)),
    (BACKWARD, nudged(backward_of_torch)),
    (NUMBER, 1.1377),
    (LOSS, nudged(loss_of_torch)),
    (FOUR, (1, 3, 1, 3.01)),
    (SPREAD, nudged(spread_by_autograd)),
    (HEAD, with_(fit, steps=5)),
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
        (SIX, (1, 2)),
        (FOUR, (1, 2, 3)),
        (FIND, ("class", "twice", "twice")),
        (FIND, ("A", "B", "C")),
        (FIND, e03.FAULTS * 2),
    ],
)
def test_another_form_is_told(part, answer):
    with pytest.raises(ValueError, match="expected"):
        part.right(answer)


def test_numbers_of_the_questions():
    assert pool_of_torchvision(*GIVEN).flatten().tolist() == [8, 7, 6, 5, 4, 9]
    p = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    offsets = torch.tensor([[[0.5, 0, 0, 0], [3, 0, 0, 0]], [[4, 0, 0, 0], [4, 0, 0, 0]], [[0, 0, 0, 0], [2, 0, 0, 1]]])
    case = p.log(), torch.tensor([1, 0, 2]), offsets, torch.zeros(3, 4)
    assert loss_of_torch(*case).item() == pytest.approx(1.1327, abs=1e-4)
    assert loss_of_torch(*case, background=True).item() == pytest.approx(2.2993, abs=1e-4)
    assert loss_of_torch(*case, over=torch.count_nonzero).item() == pytest.approx(1.4868, abs=1e-4)
    assert loss_of_torch(*case, which=lambda u, k: k - u).item() == pytest.approx(1.2577, abs=1e-4)
    assert loss_of_torch(*case, reduction="mean").item() == pytest.approx(0.6014, abs=1e-4)
    assert loss_by_library(*case).item() == pytest.approx(0.6899, abs=1e-4)
    point = (torch.tensor([each]) for each in (8, 4.75, 1.5))
    assert spread_by_autograd(*point, (6, 8))[1:3, 4:6].flatten().tolist() == pytest.approx([1, 3, 1, 3])


def test_the_bins_of_the_package_are_those_of_roi_pooling():
    """The gradient through all bins of an RoI is torchvision's, RoIs beyond the map included."""
    generator = torch.Generator().manual_seed(5)
    for _ in range(20):
        leaf = torch.randperm(63, generator=generator).reshape(7, 9).float().requires_grad_()
        rois = torch.randint(0, 21, (3, 2), generator=generator) * 8
        rois = torch.cat((rois, rois + 8 * torch.randint(0, 9, (3, 2), generator=generator)), dim=1).float()
        bins = [b for roi in rois for b in e03._bins(roi, (7, 9), (3, 3), 16)]
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
    assert len(e03._POOL_CASES) == 21 and len(e03._DISTINCT + e03._TIED + e03._EMPTY) == 20
    assert len(e03_head._LOSS_CASES + e03_head._LAST_CLASS) == len(e03_align._INNER + e03_align._LAST) == 20
    assert len({case[2] for case in e03._POOL_CASES}) >= 5
    assert min(sum(m.shape[0] != m.shape[1] for m, *_ in e03._POOL_CASES), len(e03._ON_SQUARES)) >= 5
    assert sum(not torch.equal(pool_what_is_left(*case), pool_loop(*case)) for case in e03._BEYOND) >= 5
    shared = [e03._backward(torch.ones(len(bins)), m, bins).max() > 1 for _, m, bins in e03._DISTINCT]
    assert sum(shared) >= 5


def test_eight_pictures_hold_objects_of_several_classes_and_background():
    pooled, labels, targets = e03_head.eight_pictures()
    assert pooled.shape == (len(labels), 96, 4, 4) and targets.shape == (len(labels), 4) and not pooled.requires_grad
    assert (labels == 0).sum() >= 10 and len(labels[labels > 0].unique()) >= 3 and labels.min() == 0
    assert 0.1 < targets[labels > 0].std() < 3 and pooled.max() > 0


def test_untouched_is_open(capsys):
    check("03-A", [...] * 6, lambda *case: ...)
    check("03-B", lambda *case: ...)
    check("03-C", ..., lambda *case: ...)
    check("03-D", [...] * 4, lambda *case: ...)
    check("03-E", (..., ..., ...))
    check("03-F", lambda *case: ...)
    assert all(line.endswith(": open") for line in capsys.readouterr().out.splitlines())
