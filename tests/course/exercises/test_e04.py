"""Right answers pass; each wrong answer gets its own hint and no other."""

import itertools

import pytest
import torch

from rcnn_tutorial.course.exercises import check, e04, e04_gradients, e04_labels, e04_rpn, e04_sample
from rcnn_tutorial.course.exercises.e04 import EXERCISES
from rcnn_tutorial.nets.rpn import RPNHead
from rcnn_tutorial.ops import assign, boxes
from rcnn_tutorial.ops.anchors import anchor_grid, exact_anchors
from tests.course.exercises.judging import hints, judging, nudged

SIDES, NAME = EXERCISES["04-A"]
NUMBER, INSIDE = EXERCISES["04-B"]
(LABELS,) = EXERCISES["04-C"]
(SAMPLE,) = EXERCISES["04-D"]
(REACHED,) = EXERCISES["04-E"]
HEAD, LOSS, EIGHT = EXERCISES["04-F"]


def place(anchor="last", divide="columns", order="row, column"):
    """A function of a number, rows, columns and anchors at a place, as one would write it."""

    def of(number, rows, columns, per_place):
        if anchor == "first":
            kind, where = divmod(number, rows * columns)
        else:
            where, kind = divmod(number, per_place)
        if divide == "columns first":
            column, row = divmod(where, rows)
        else:
            row, column = divmod(where, {"columns": columns, "rows": rows}[divide])
        return (row, column, kind) if order == "row, column" else (column, row, kind)

    return of


def inside(near=torch.ge, far=torch.le, what="corners", exchange=False, which=("near", "far"), how="count"):
    """A function of anchors and size that counts."""

    def count(anchors, size):
        height, width = reversed(size) if exchange else size
        low, high = anchors[:, :2], anchors[:, 2:]
        if what == "centres":
            low = high = (low + high) / 2
        if what == "overlap":
            low, high, first, second = high, low, torch.gt, torch.lt
        else:
            first, second = near, far
        fits = torch.ones(len(anchors), dtype=torch.bool)
        if "near" in which:
            fits &= first(low, torch.zeros(2)).all(dim=1)
        if "far" in which:
            fits &= second(high, torch.tensor([width, height])).all(dim=1)
        return fits.sum() if how == "count" else fits

    return count


def labels(
    above=torch.ge,
    below=torch.lt,
    rescue="object",
    between=-1,
    negatives="first",
    low="best",
    only_if=False,
    mask="first",
    transposed=False,
):
    """A function of iou (M, N) and inside (N,), as one would write it with tensors."""

    def label(iou, inside):
        if transposed:  # a row is taken for an anchor
            return label_of(iou.T, torch.ones(len(iou), dtype=torch.bool))
        return label_of(iou, inside)

    def label_of(iou, inside):
        plain = iou
        iou = iou.masked_fill(~inside, -1) if mask == "first" else iou
        best = plain.max(dim=0).values
        out = torch.full_like(best, between)
        is_low = below(best if low == "best" else plain.min(dim=0).values, torch.tensor(0.3, dtype=iou.dtype))
        if negatives == "first":
            out[is_low] = 0
        out[above(best, torch.tensor(0.7, dtype=iou.dtype))] = 1
        most = iou.max(dim=1, keepdim=True).values
        if rescue == "object":
            out[((iou == most) & (iou > 0) & ((most < 0.7) | (not only_if))).any(dim=0)] = 1
        elif rescue == "unguarded":
            out[((iou == most) & inside).any(dim=0)] = 1
        elif rescue == "if none" and iou.max() < 0.7:
            out[((iou == most) & (iou > 0)).any(dim=0)] = 1
        elif rescue == "image":
            out[(iou == iou.max()).any(dim=0)] = 1
        elif rescue == "argmax":
            out[iou.argmax(dim=1)] = 1
        elif rescue == "last argmax":
            out[iou.shape[1] - 1 - iou.flip(1).argmax(dim=1)] = 1
        elif rescue == "wrong axis":
            out[:] = 1
        elif rescue == "wrong axis, guarded":
            out[best > 0] = 1
        if negatives == "last":
            out[is_low] = 0
        if mask != "none":
            out[~inside] = -1
        return out

    return label


def labels_of_the_package(iou, inside):
    state = assign.match(iou.masked_fill(~inside, -1).T, 0.7, (0.0, 0.3), allow_low_quality=True).state
    return state.masked_fill(~inside, -1)


def sample(
    share=0.5, fill=True, more_positives=False, among=(1, 0), replace=False, draw="generator", size_of_rest="left"
):
    """A function of labels, size and generator; `draw` says where the luck comes from, for each kind."""
    sources = (draw, draw) if isinstance(draw, str) else draw

    def pick(pool, count, source, generator):
        if replace and count > len(pool) > 0:
            return pool[torch.randint(len(pool), (count,), generator=generator)]
        if source == "none":
            return pool[:count]
        if source == "own":
            generator = torch.Generator().manual_seed(0)
        luck = torch.randperm(len(pool), generator=None if source == "global" else generator)
        return pool[luck[:count]]

    def draw_batch(labels, size, generator):
        positive, negative = ((labels == value).nonzero()[:, 0] for value in among)
        if among[1] == -1:
            negative = (labels != 1).nonzero()[:, 0]
        wanted = int(share * size)
        if more_positives:
            wanted = max(wanted, size - len(negative))
        first = pick(positive, wanted, sources[0], generator)
        rest = {"left": size - len(first), "whole": size}[size_of_rest] if fill else len(first)
        return torch.cat((first, pick(negative, rest, sources[1], generator)))

    return draw_batch


def from_all(labels, size, generator):
    used = (labels >= 0).nonzero()[:, 0]
    return used[torch.randperm(len(used), generator=generator)[:size]]


def places_in_the_group(labels, size, generator):
    """The permutation of a group taken for indices of anchors."""
    positive, negative = ((labels == value).sum() for value in (1, 0))
    first = torch.randperm(positive, generator=generator)[: size // 2]
    return torch.cat((first, torch.randperm(negative, generator=generator)[: size - len(first)]))


def sample_of_the_package(labels, size, generator):
    index, drawn = assign.sample(labels, size, 0.5, generator)
    return index[drawn]


ANSWER = {
    "objectness": {"convs", "3 x 3", "objectness"},
    "rpn_box": {"convs", "3 x 3", "offsets"},
    "class": {"convs", "3 x 3", "offsets", "head"},
    "box": {"convs", "3 x 3", "offsets", "head"},
}
DETACHED = ANSWER | {"class": {"convs", "head"}, "box": {"convs", "head"}}


class Head(torch.nn.Module):
    """A head of an RPN, with the mistakes one can make as options."""

    def __init__(self, channels, per_place, reach=1, relu=True, order="places", offsets="places", sigmoid=False):
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, channels, 2 * reach + 1, padding=reach)
        self.score = torch.nn.Conv2d(channels, per_place, 1)
        self.offsets = torch.nn.Conv2d(channels, 4 * per_place, 1)
        self.relu, self.order, self.moves, self.sigmoid = relu, order, offsets, sigmoid

    def forward(self, maps):
        hidden = self.conv(maps)
        hidden = hidden.relu() if self.relu else hidden
        logits, offsets = self.score(hidden), self.offsets(hidden)
        if self.order == "places":
            logits = logits.permute(0, 2, 3, 1)
        if self.moves == "mixed":
            offsets = offsets.flatten(1).unflatten(1, (-1, 4))
        else:
            order = (0, 3, 4, 1, 2) if self.moves == "places" else (0, 1, 3, 4, 2)
            offsets = offsets.unflatten(1, (-1, 4)).permute(*order).flatten(1, 3)
        return logits.flatten(1).sigmoid() if self.sigmoid else logits.flatten(1), offsets


def build(**options):
    return lambda channels, per_place: Head(channels, per_place, **options)


def head_of_the_package(channels, per_place):
    """Its forward takes a list of maps."""
    net = RPNHead(channels, per_place)
    plain = net.forward
    net.forward = lambda maps: plain([maps])
    return net


def loss(ignored=None, of="positive", over="used", beta=1 / 9, coordinates=1, least=0.0):
    """A function of logits, offsets, labels and wanted offsets, written with probabilities."""

    def of_picture(logits, offsets, labels, wanted):
        labels = labels if ignored is None else torch.where(labels == -1, ignored, labels)
        used, positive = (labels >= 0).float(), (labels == 1).float()
        p = logits.sigmoid()
        log_loss = -(positive * p.log() + (1 - positive) * (1 - p).log())
        off = (offsets - wanted).abs()
        smooth = torch.where(off < beta, off**2 / (2 * beta), off - beta / 2).sum(dim=1) / coordinates
        weight = {"positive": positive, "used": used, "all": torch.ones_like(used)}[of]
        first, second = (used * log_loss).sum(), (weight * smooth).sum()
        if over == "own":
            return first / used.sum() + second / positive.sum().clamp(min=1)
        return (first + second) / {"used": used.sum(), "all": len(labels), "sum": 1}[over]

    return of_picture


def named(text):
    return {layer for layer in text.split(", ") if layer}


def with_more(**layers):
    return {loss: right | named(layers.get(loss, "")) for loss, right in ANSWER.items()}


def without(**layers):
    return {loss: right - named(layers.get(loss, "")) for loss, right in ANSWER.items()}


RIGHT = [
    (SIDES, (80, 4)),
    (SIDES, torch.tensor([80.0, 4])),
    (NAME, place()),
    (NAME, lambda *case: list(place()(*case))),
    (NUMBER, 10_800),
    (NUMBER, 40 * 30 * 9),
    (INSIDE, inside()),
    (INSIDE, lambda anchors, size: int((boxes.clip_boxes_to_image(anchors, size) == anchors).all(dim=1).sum())),
    (LABELS, labels()),
    (LABELS, labels(only_if=True)),
    (LABELS, labels_of_the_package),
    (LABELS, lambda *case: labels()(*case).tolist()),
    (LABELS, lambda iou, inside: labels()(iou.float(), inside)),
    (SAMPLE, sample()),
    (SAMPLE, sample_of_the_package),
    (SAMPLE, lambda *case: sample()(*case).tolist()),
    (REACHED, ANSWER),
    (REACHED, {loss: sorted(named) for loss, named in ANSWER.items()}),
    (HEAD, build()),
    (HEAD, Head),
    (HEAD, head_of_the_package),
    (LOSS, loss()),
]

WRONG = [
    (SIDES, (80, 0.25), "wider than high"),
    (SIDES, (6400, 4), "not its root"),
    (SIDES, (6400, 0.25), "not its root"),
    (SIDES, (100, 4), "another area"),
    (SIDES, (100, 0.25), "another area"),
    (NAME, place(anchor="first"), "stand together"),
    (NAME, place(divide="columns first"), "down the columns"),
    (NAME, place(divide="rows"), "beyond the map"),
    (NAME, place(order="x, y"), "other order"),
    (NUMBER, 1200, "places"),
    (NUMBER, 2_764_800, "every pixel"),
    (NUMBER, 172_800, "wide or as high"),
    (INSIDE, inside(what="centres"), "middle"),
    (INSIDE, inside(what="centres", far=torch.lt), "middle"),
    (INSIDE, inside(what="centres", near=torch.gt, far=torch.lt), "middle"),
    (INSIDE, inside(exchange=True), "wide image"),
    (INSIDE, inside(far=torch.lt), "ends where"),
    (INSIDE, inside(near=torch.gt, far=torch.lt), "ends where"),
    (INSIDE, inside(which=("near",)), "one side"),
    (INSIDE, inside(which=("far",)), "one side"),
    (INSIDE, inside(what="overlap"), "only a part"),
    (LABELS, labels(mask="last"), "loses its positive"),
    (LABELS, labels(mask="none"), "take part"),
    (LABELS, labels(rescue=None), "none is positive"),
    (LABELS, labels(rescue="if none"), "second object"),
    (LABELS, labels(rescue="image"), "second object"),
    (LABELS, labels(rescue="argmax"), "one is not positive"),
    (LABELS, labels(rescue="last argmax"), "one is not positive"),
    (LABELS, labels(negatives="last"), "stays below 0.3"),
    (LABELS, labels(between=0), "IoU 0.45"),
    (LABELS, labels(low="any"), "far from another"),
    (LABELS, labels(rescue="wrong axis"), "Every anchor"),
    (LABELS, labels(rescue="wrong axis, guarded"), "Every anchor"),
    (LABELS, labels(transposed=True), "for each object"),
    (LABELS, labels(above=torch.gt), "exactly 0.7"),
    (LABELS, labels(below=torch.le), "exactly 0.7"),
    (LABELS, labels(above=torch.gt, below=torch.le), "exactly 0.7"),
    (LABELS, labels(rescue="unguarded"), "no anchor touches"),
    (SAMPLE, sample(replace=True), "twice"),
    (SAMPLE, sample(among=(1, -1)), "label -1"),
    (SAMPLE, places_in_the_group, "label -1"),
    (SAMPLE, from_all, "fewer than 128"),
    (SAMPLE, sample(share=0.25), "fewer than 128"),
    (SAMPLE, sample(more_positives=True), "More than half"),
    (SAMPLE, sample(share=1), "More than half"),
    (SAMPLE, sample(fill=False), "fewer than 256"),
    (SAMPLE, sample(size_of_rest="whole"), "too many negatives"),
    *((SAMPLE, sample(draw=draw), "every call") for draw in ("none", "own", ("none", "generator"))),
    *((SAMPLE, sample(draw=draw), "every call") for draw in (("generator", "own"), ("global", "none"))),
    *((SAMPLE, sample(draw=draw), "same seed") for draw in ("global", ("generator", "global"))),
    (REACHED, with_more(**{"class": "objectness"}), "the objectness"),
    (REACHED, with_more(box="objectness", **{"class": "objectness"}), "the objectness"),
    (REACHED, DETACHED, "does not reach the layer"),
    (REACHED, without(**{"class": "offsets"}), "does not reach the layer"),
    (REACHED, without(box="convs", **{"class": "convs"}), "leaves the convolutions"),
    (REACHED, without(box="convs"), "leaves the convolutions"),
    (REACHED, with_more(objectness="head", rpn_box="head"), "changes the head"),
    (REACHED, with_more(objectness="offsets", rpn_box="objectness"), "both of its last layers"),
    (REACHED, without(objectness="3 x 3", rpn_box="3 x 3"), "is missing"),
    (REACHED, without(objectness="convs"), "is missing"),
    (REACHED, without(box="head"), "is missing"),
    (REACHED, without(**{"class": "3 x 3"}), "is missing"),
    (HEAD, build(order="kinds"), "one kind of anchor"),
    (HEAD, build(order="kinds", offsets="kinds"), "one kind of anchor"),
    (HEAD, build(offsets="kinds"), "one kind of anchor"),
    (HEAD, build(reach=0), "own cell"),
    (HEAD, build(offsets="mixed"), "different places"),
    (HEAD, build(sigmoid=True), "between 0 and 1"),
    (HEAD, build(relu=False), "linear function"),
    (LOSS, loss(ignored=0), "label -1"),
    (LOSS, loss(ignored=1), "label -1"),
    (LOSS, loss(of="used"), "Negatives are asked"),
    (LOSS, loss(of="all"), "Negatives are asked"),
    (LOSS, loss(over="all"), "ignored, too"),
    (LOSS, loss(over="sum"), "is a sum"),
    (LOSS, loss(over="own"), "number of positives"),
    (LOSS, loss(over="own", beta=1.0), "number of positives"),
    (LOSS, loss(over="own", coordinates=4), "number of positives"),
    (LOSS, loss(coordinates=4), "four times"),
    (LOSS, loss(beta=1.0), "too little"),
]

OTHER = [
    (SIDES, (40, 160)),
    (NAME, lambda number, rows, columns, per_place: (number, 0, 0)),
    (NUMBER, 3600),
    (INSIDE, inside(how="mask")),
    (INSIDE, lambda anchors, size: len(anchors)),
    (LABELS, lambda iou, inside: (iou.max(dim=0).values >= 0.5).int()),
    (LABELS, lambda iou, inside: torch.zeros(iou.shape[1])),
    (LABELS, lambda *case: 1 - labels()(*case)),
    (HEAD, build(reach=2)),
    (HEAD, lambda channels, per_place: Head(channels, 2 * per_place)),
    (LOSS, loss(beta=0.5)),
    (LOSS, lambda logits, offsets, labels, wanted: logits.sum()),
]

TWICE = [
    ("04-A", ((80, 0.25), place(anchor="first"))),
    ("04-B", (1200, inside(what="centres"))),
    ("04-C", (labels(rescue=None),)),
    ("04-D", (sample(fill=False),)),
    ("04-E", (DETACHED,)),
]

CAUSES = [
    (SIDES, "wider than high", "160 / 40"),
    (SIDES, "not its root", "root of 40 * 160"),
    (SIDES, "another area", "mean of the sides"),
    (NAME, "stand together", "counts fastest"),
    (NAME, "down the columns", "row by row"),
    (NAME, "beyond the map", "divide by columns"),
    (NAME, "other order", "as maps are indexed"),
    (NUMBER, "places", "Each place has 9"),
    (NUMBER, "every pixel", "A place is a cell of the map"),
    (NUMBER, "wide or as high", "counts along both sides"),
    (INSIDE, "middle", "question about the corners"),
    (INSIDE, "wide image", "(height, width)"),
    (INSIDE, "ends where", "x2 and y2 are exclusive"),
    (INSIDE, "one side", "Four comparisons"),
    (INSIDE, "only a part", "What clipping would leave"),
    (LABELS, "loses its positive", "and not at the end"),
    (LABELS, "take part", "whatever it overlaps"),
    (LABELS, "none is positive", "whatever its IoU"),
    (LABELS, "second object", "object by object"),
    (LABELS, "one is not positive", "argmax gives one of a tie"),
    (LABELS, "stays below 0.3", "written last"),
    (LABELS, "IoU 0.45", "no loss sees it"),
    (LABELS, "far from another", "its highest IoU decides"),
    (LABELS, "Every anchor", "each object has a best anchor"),
    (LABELS, "for each object", "a column is an anchor"),
    (LABELS, "exactly 0.7", ">= and <"),
    (LABELS, "no anchor touches", "ask for more than 0"),
    (SAMPLE, "twice", "randperm repeats none"),
    (SAMPLE, "label -1", "and index that"),
    (SAMPLE, "fewer than 128", "Draw each kind by itself"),
    (SAMPLE, "More than half", "Half is the most"),
    (SAMPLE, "fewer than 256", "one negative for each positive"),
    (SAMPLE, "too many negatives", "counts both kinds"),
    (SAMPLE, "every call", "Nothing is drawn"),
    (SAMPLE, "same seed", "The generator is not used"),
    (REACHED, "the objectness", "A choice is no number"),
    (REACHED, "does not reach the layer", "the box keeps its history"),
    (REACHED, "leaves the convolutions", "and so do the boxes"),
    (REACHED, "changes the head", "comes after the RPN"),
    (REACHED, "both of its last layers", "stand side by side"),
    (REACHED, "is missing", "follow each loss back"),
    (HEAD, "one kind of anchor", "before you flatten"),
    (HEAD, "own cell", "padding of 1"),
    (HEAD, "different places", "Split the channels"),
    (HEAD, "between 0 and 1", "belongs to the loss"),
    (HEAD, "linear function", "A ReLU stands"),
    (LOSS, "label -1", "do not count them"),
    (LOSS, "Negatives are asked", "p* is 0"),
    (LOSS, "ignored, too", "N counts"),
    (LOSS, "is a sum", "Divide both sums"),
    (LOSS, "number of positives", "same N"),
    (LOSS, "four times", "are added up"),
    (LOSS, "too little", "The parabola ends"),
]

NEARLY = [
    (SIDES, (80.1, 4)),
    (NUMBER, 10_801),
    (INSIDE, nudged(inside())),
    (LOSS, nudged(loss())),
]

TestJudging = judging(EXERCISES, RIGHT, WRONG, OTHER, TWICE, CAUSES, NEARLY)


def test_numbers_of_the_questions():
    (anchor,) = exact_anchors((80,), (4,), 0)
    assert (anchor[2:] - anchor[:2]).tolist() == [40, 160]
    assert 640 // 16 * (480 // 16) * 9 == 10_800 and 640 * 480 * 9 == 2_764_800
    assert e04._place(5000, 24, 32, 12) == [13, 0, 8] and "row 13 and column 0, as number 8" in NAME.otherwise


def test_the_name_of_an_anchor_is_that_of_the_grid():
    cell, rows, columns = exact_anchors((16, 32), (0.5, 1), 8), 3, 5
    grid = anchor_grid(cell, (rows, columns), 8)
    for number, anchor in enumerate(grid):
        row, column, kind = e04._place(number, rows, columns, len(cell))
        corner = torch.tensor([8.0 * column, 8 * row])
        assert torch.equal(anchor, cell[kind] + corner.repeat(2))


def test_labels_of_two_images_in_which_an_anchor_crosses_the_border():
    rules = {"right": {}, "forgotten": {"rescue": None}, "last": {"mask": "last"}, "none": {"mask": "none"}}
    cases = e04_labels._TOUCHED[:2]
    assert {
        name: [labels(**each)(*case).int().tolist() for case in cases] for name, each in rules.items()
    } == {
        "right": [[1, 1, -1, 1, 1, 1, 1], [0, 1, -1, 1, 1, 0, 1]],
        "forgotten": [[1, -1, -1, -1, -1, 1, 0], [0, -1, -1, -1, -1, 0, 0]],
        "last": [[1, -1, -1, 1, 1, 1, 0], [0, -1, -1, 1, 1, 0, 0]],
        "none": [[1, -1, 1, 1, 1, 1, 0], [0, -1, 1, 1, 1, 0, 0]],
    }  # fmt: skip


@pytest.mark.parametrize(("positives", "expected"), [(300, (128, 128)), (50, (50, 206)), (0, (0, 256))])
def test_batches_of_the_question(positives, expected):
    case = next(case for case in e04_sample._SAMPLE_CASES if (case[0] == 1).sum() == positives)
    assert case[1] == 256 and e04_sample._quota(*case) == [*expected, 0, 0]
    drawn = case[0][sample_of_the_package(*case[:2], torch.Generator().manual_seed(0))]
    assert ((drawn == 1).sum(), (drawn == 0).sum()) == expected


def test_cases_are_twenty_and_of_several_kinds():
    iou = e04_labels._TOUCHED + e04_labels._UNTOUCHED
    for cases in (e04._PLACES, e04._IMAGES, iou, e04_sample._SAMPLE_CASES):
        assert len(cases) == 20
    assert {rows > columns for _, rows, columns, _ in e04._PLACES} == {True, False}
    assert {height > width for _, (height, width) in e04._IMAGES} == {True, False}
    assert {each.shape[0] for each, _ in iou} == {1, 2, 3, 4} and all(each.shape[0] < each.shape[1] for each, _ in iou)
    assert all(not inside.all() for _, inside in iou[:2]) and any(inside.any() for _, inside in iou)
    assert all(((each * inside).max(dim=1).values > 0).all() for each, inside in e04_labels._TOUCHED)
    assert all((each.max(dim=1).values == 0).any() for each, _ in e04_labels._UNTOUCHED)
    assert {bool(each.max() >= 0.7) for each, _ in e04_labels._TOUCHED} == {True, False}
    few = [
        ((labels == 1).sum() < size // 2, (labels == 0).sum() < size // 2)
        for labels, size, _ in e04_sample._SAMPLE_CASES
    ]
    assert {tuple(map(bool, each)) for each in few} == set(itertools.product((True, False), repeat=2))


def test_gradients_with_and_without_detaching():
    assert e04_gradients._reached() == ANSWER
    assert e04_gradients._reached(constant=True) == DETACHED


def test_the_check_computes_its_gradients(monkeypatch):
    monkeypatch.setattr(e04_gradients, "_reached", lambda: DETACHED)
    assert REACHED.right(DETACHED) and not REACHED.right(ANSWER)


def test_the_network_of_the_check_leaves_the_random_numbers_alone():
    e04_gradients._reached.cache_clear()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    e04_gradients._reached()
    assert torch.equal(torch.get_rng_state(), before)


def test_of_the_answers_with_one_or_two_layers_changed_each_has_one_hint():
    entries = list(itertools.product(e04_gradients.LOSSES, e04_gradients.LAYERS))
    for changed in itertools.chain(itertools.combinations(entries, 1), itertools.combinations(entries, 2)):
        answer = {loss: named ^ {layer for of, layer in changed if of == loss} for loss, named in ANSWER.items()}
        assert not REACHED.right(answer) and len(hints(REACHED, answer)) == 1


@pytest.mark.parametrize(
    ("part", "answer"),
    [
        (SIDES, (1, 2, 3)),
        (SAMPLE, lambda labels, size, generator: labels == 1),
        (SAMPLE, lambda labels, size, generator: torch.rand(size)),
        (SAMPLE, lambda labels, size, generator: (labels == 1).nonzero()),
        (REACHED, {"convs"}),
        (REACHED, {**ANSWER, "total": set()}),
        (REACHED, {**ANSWER, "box": "convs"}),
        (REACHED, {**ANSWER, "box": {"convs", "neck"}}),
    ],
)
def test_another_form_is_told(part, answer):
    with pytest.raises(ValueError, match="expected"):
        part.right(answer)


def test_untouched_is_open(capsys):
    nothing = [lambda *case: ... for _ in range(7)]
    check("04-A", (..., ...), nothing[0])
    check("04-B", ..., nothing[0])
    check("04-C", nothing[0])
    check("04-D", nothing[0])
    check("04-E", dict.fromkeys(ANSWER, ...))
    check("04-E", {**ANSWER, "box": ...})
    check("04-E", {**dict.fromkeys(ANSWER, ...), "objectness": {"head"}})
    check("04-F", nothing[0], nothing[0], (nothing[0], nothing[0]))
    check("04-F", Head, nothing[0], (Head, nothing[0]))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 15 and sum(line.endswith(": open") for line in lines) == 14
    assert lines[12] == "04-F: the head: right"


def test_no_result_is_told(capsys):
    check("04-D", lambda labels, size, generator: None)
    check("04-F", lambda channels, per_place: None, loss(), ...)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert "returns nothing" in first and "returns nothing" in second


@pytest.fixture
def small(monkeypatch):
    """Three of the eight scenes, which a head learns in a second."""
    maps, anchors, truths, states, wanted = (part[:3] if i != 1 else part for i, part in enumerate(e04_rpn._eight()))
    monkeypatch.setattr(e04_rpn, "_eight", lambda: (maps, anchors, truths, states, wanted))


def test_eight_pictures_are_learned_by_a_right_head_and_its_loss(small):
    assert e04_rpn.overfit(Head, loss(), steps=0) < 0.5
    assert EIGHT.right((Head, loss()))


def test_eight_pictures_are_not_learned_without_a_loss_of_the_boxes(small):
    def objectness(logits, offsets, labels, wanted):
        return loss()(logits, wanted, labels, wanted) + 0 * offsets.sum()

    assert not EIGHT.right((Head, objectness)) and not hints(EIGHT, (Head, objectness))
    assert "too few objects" in EIGHT.otherwise


def test_eight_pictures_learned_by_heart_by_a_wrong_head_are_not_right(small):
    unordered = build(order="kinds", offsets="kinds")
    assert e04_rpn.overfit(unordered, loss()) >= e04_rpn.ENOUGH
    assert not EIGHT.right((unordered, loss()))


def test_building_a_head_leaves_the_random_numbers_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert HEAD.right(Head)
    assert torch.equal(torch.get_rng_state(), before)


def test_eight_scenes_have_objects():
    maps, anchors, truths, states, wanted = e04_rpn._eight()
    assert maps.shape == (8, 96, 12, 16) and states.shape == (8, len(anchors)) == wanted.shape[:2]
    assert all(len(boxes) for boxes in truths) and all((state == 1).any() for state in states)
