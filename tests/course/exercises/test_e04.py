"""Right answers pass; each wrong answer gets its own hint and no other."""

import itertools
import math

import pytest
import torch

from rcnn_tutorial.course.exercises import check, e04, e04_labels, e04_proposals
from rcnn_tutorial.course.exercises.e04 import EXERCISES
from rcnn_tutorial.ops import assign, boxes
from tests.course.exercises.judging import hints, judging, nudged

(ANCHORS,) = EXERCISES["04-1"]
NUMBER, INSIDE = EXERCISES["04-2"]
(LABELS,) = EXERCISES["04-3"]
BOX, DECODE = EXERCISES["04-4"]
(SAMPLE,) = EXERCISES["04-5"]
(REACHED,) = EXERCISES["04-6"]


def anchors(sides=lambda s, r: (s / r**0.5, s * r**0.5), corner=False, reach=0.5, order=(0, 1, 2, 3), middle=0):
    """A function of scale and ratios; `sides` gives width and height."""

    def make(scale, ratios):
        w, h = sides(scale, ratios)
        w, h = torch.broadcast_tensors(torch.as_tensor(w), torch.as_tensor(h))
        low = (0 * w, 0 * h) if corner else (-w * reach, -h * reach)
        high = (w, h) if corner else (w * reach, h * reach)
        return (torch.stack((*low, *high), dim=1) + middle)[:, list(order)]

    return make


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
    above=torch.ge, below=torch.lt, rescue="object", between=-1, negatives="first", low="best", axis=1, only_if=False
):
    """A function of iou (N, M), as one would write it with tensors."""

    def label(iou):
        best = iou.max(dim=axis).values
        out = torch.full_like(best, between)
        is_low = below(best if low == "best" else iou.min(dim=1).values, torch.tensor(0.3, dtype=iou.dtype))
        if negatives == "first":
            out[is_low] = 0
        out[above(best, torch.tensor(0.7, dtype=iou.dtype))] = 1
        if axis == 0:
            return out
        most = iou.max(dim=0).values
        if rescue == "object":
            wanted = (iou == most) & (iou > 0) & (most < 0.7 if only_if else torch.ones_like(most).bool())
            out[wanted.any(dim=1)] = 1
        elif rescue == "unguarded":
            out[(iou == most).any(dim=1)] = 1
        elif rescue == "if none" and best.max() < 0.7:
            out[((iou == most) & (iou > 0)).any(dim=1)] = 1
        elif rescue == "image":
            out[best == best.max()] = 1
        elif rescue == "argmax":
            out[iou.argmax(dim=0)] = 1
        elif rescue == "last argmax":
            out[len(iou) - 1 - iou.flip(0).argmax(dim=0)] = 1
        elif rescue == "wrong axis":
            out[(iou == iou.max(dim=1, keepdim=True).values).any(dim=1)] = 1
        elif rescue == "wrong axis, guarded":
            out[((iou == best[:, None]) & (iou > 0)).any(dim=1)] = 1
        if negatives == "last":
            out[is_low] = 0
        return out

    return label


def labels_of_the_package(iou):
    return assign.match(iou, 0.7, (0.0, 0.3), allow_low_quality=True).state


def decoded(grow=torch.exp, corner=False, unit="anchor", form="corners", flip=(), columns=(0, 1, 2, 3)):
    """A function of offsets and anchors (N, 4)."""

    def decode(offsets, anchors):
        shift, growth = offsets[:, columns[:2]], offsets[:, columns[2:]]
        side = anchors[:, 2:] - anchors[:, :2]
        new = grow(growth) * (side.flip(1) if "growth" in flip else side)
        step = {"anchor": side.flip(1) if "shift" in flip else side, "new": new, "pixels": 1}[unit]
        if corner:
            first = anchors[:, :2] + shift * step
            return torch.cat((first, first + new), dim=1)
        centre = anchors[:, :2] + side / 2 + shift * step
        if form == "sides":
            return torch.cat((centre, new), dim=1)
        return torch.cat((centre - new / 2, centre + new / 2), dim=1)

    return decode


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
    "objectness": {"trunk", "3x3", "score"},
    "rpn_box": {"trunk", "3x3", "offsets"},
    "class": {"trunk", "head"},
    "box": {"trunk", "head"},
}


def with_more(**layers):
    return {loss: named | set(layers.get(loss, "").split()) for loss, named in ANSWER.items()}


def without(**layers):
    return {loss: named - set(layers.get(loss, "").split()) for loss, named in ANSWER.items()}


LN2 = math.log(2)

RIGHT = [
    (ANCHORS, anchors()),
    (ANCHORS, lambda scale, ratios: anchors()(scale, ratios).tolist()),
    (NUMBER, 10_800),
    (NUMBER, 40 * 30 * 9),
    (INSIDE, inside()),
    (INSIDE, lambda anchors, size: int((boxes.clip_boxes_to_image(anchors, size) == anchors).all(dim=1).sum())),
    (LABELS, labels()),
    (LABELS, labels(only_if=True)),
    (LABELS, labels_of_the_package),
    (LABELS, lambda iou: labels()(iou).tolist()),
    (LABELS, lambda iou: labels()(iou.float())),
    (BOX, (84, 92, 212, 156)),
    (BOX, torch.tensor([84.0, 92, 212, 156])),
    (DECODE, boxes.decode),
    (DECODE, decoded()),
    (SAMPLE, sample()),
    (SAMPLE, sample_of_the_package),
    (SAMPLE, lambda *case: sample()(*case).tolist()),
    (REACHED, ANSWER),
    (REACHED, {loss: sorted(named) for loss, named in ANSWER.items()}),
]

WRONG = [
    (ANCHORS, anchors(corner=True), "not (0, 0)"),
    (ANCHORS, anchors(middle=8), "not (0, 0)"),
    *(
        (ANCHORS, anchors(sides), "different areas")
        for sides in (
            lambda s, r: (s, s * r),
            lambda s, r: (s / r, s),
            lambda s, r: (s * r, s),
            lambda s, r: (s, s * r**0.5),
        )
    ),
    (ANCHORS, anchors(reach=1), "square of the scale"),
    (ANCHORS, anchors(lambda s, r: (s**0.5 / r**0.5, s**0.5 * r**0.5)), "square of the scale"),
    (ANCHORS, anchors(lambda s, r: (s * r**0.5, s / r**0.5)), "wider than high"),
    (ANCHORS, anchors(order=(1, 0, 3, 2)), "wider than high"),
    (ANCHORS, anchors(lambda s, r: (s / r, s * r)), "four times"),
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
    (LABELS, labels(axis=0), "for each object"),
    (LABELS, labels(above=torch.gt), "exactly 0.7"),
    (LABELS, labels(below=torch.le), "exactly 0.7"),
    (LABELS, labels(above=torch.gt, below=torch.le), "exactly 0.7"),
    (LABELS, labels(rescue="unguarded"), "no anchor touches"),
    (BOX, (116, 92, 244, 156), "right of"),
    (BOX, (125.8, 124, 170.2, 124), "narrower"),
    (BOX, (116, 92, 160.4, 92), "narrower"),
    (BOX, (93.8, 92, 202.2, 156), "108 px"),
    (BOX, (100, 92, 228, 156), "32 px"),
    (BOX, (68.25, 99.875, 196.25, 163.875), "less than a pixel"),
    (BOX, (148, 124, 128, 64), "it is no box"),
    (BOX, (84, 92, 128, 64), "it is no box"),
    (DECODE, decoded(corner=True), "keeps its corner"),
    (DECODE, decoded(grow=lambda t: t), "no area"),
    (DECODE, decoded(grow=lambda t: t, corner=True), "no area"),
    (DECODE, decoded(grow=lambda t: 1 + t), "1.69"),
    (DECODE, decoded(grow=lambda t: 1 + t, corner=True), "1.69"),
    (DECODE, decoded(unit="new"), "farther"),
    (DECODE, decoded(unit="pixels"), "equally far"),
    (DECODE, decoded(form="sides"), "does not come back"),
    *((DECODE, decoded(flip=what), "square anchors") for what in (("shift",), ("growth",), ("shift", "growth"))),
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
    (REACHED, with_more(box="offsets"), "changes a layer of the RPN"),
    (REACHED, with_more(box="offsets 3x3", **{"class": "offsets 3x3"}), "changes a layer of the RPN"),
    (REACHED, without(box="trunk", **{"class": "trunk"}), "leaves the trunk"),
    (REACHED, without(box="trunk"), "leaves the trunk"),
    (REACHED, with_more(objectness="head", rpn_box="head"), "changes the head"),
    (REACHED, with_more(objectness="offsets", rpn_box="score"), "both of its last layers"),
    (REACHED, without(objectness="3x3", rpn_box="3x3"), "is missing"),
    (REACHED, without(objectness="trunk"), "is missing"),
    (REACHED, without(box="head"), "is missing"),
]

OTHER = [
    (ANCHORS, lambda scale, ratios: anchors()(scale, ratios).round()),
    (ANCHORS, lambda scale, ratios: anchors()(scale, ratios)[0]),
    (ANCHORS, lambda scale, ratios: anchors()(64, ratios)),
    (ANCHORS, lambda scale, ratios: torch.cat((anchors()(scale, ratios)[:, :2], anchors(reach=1)(scale, ratios)), 1)),
    (NUMBER, 3600),
    (INSIDE, inside(how="mask")),
    (INSIDE, lambda anchors, size: len(anchors)),
    (LABELS, lambda iou: (iou.max(dim=1).values >= 0.5).int()),
    (LABELS, lambda iou: torch.zeros(len(iou))),
    (LABELS, lambda iou: 1 - labels()(iou)),
    (BOX, (84, 100, 212, 164)),
    (DECODE, decoded(grow=lambda t: 2**t)),
    (DECODE, decoded(columns=(1, 0, 3, 2))),
    (DECODE, lambda offsets, anchors: anchors),
]

TWICE = [
    ("04-1", (anchors(corner=True),)),
    ("04-2", (1200, inside(what="centres"))),
    ("04-3", (labels(rescue=None),)),
    ("04-4", ((116, 92, 244, 156), decoded(corner=True))),
    ("04-5", (sample(fill=False),)),
    ("04-6", (with_more(box="offsets"),)),
]

CAUSES = [
    (ANCHORS, "not (0, 0)", "x1 = -w / 2"),
    (ANCHORS, "different areas", "changes one side alone"),
    (ANCHORS, "square of the scale", "distance from the middle"),
    (ANCHORS, "wider than high", "The ratio is height to width"),
    (ANCHORS, "four times", "counts twice"),
    (NUMBER, "places", "Each place has 9"),
    (NUMBER, "every pixel", "A place is a cell of the map"),
    (NUMBER, "wide or as high", "counts along both sides"),
    (INSIDE, "middle", "question about the corners"),
    (INSIDE, "wide image", "(height, width)"),
    (INSIDE, "ends where", "x2 and y2 are exclusive"),
    (INSIDE, "one side", "Four comparisons"),
    (INSIDE, "only a part", "What clipping would leave"),
    (LABELS, "none is positive", "whatever its IoU"),
    (LABELS, "second object", "object by object"),
    (LABELS, "one is not positive", "argmax gives one of a tie"),
    (LABELS, "stays below 0.3", "written last"),
    (LABELS, "IoU 0.45", "no loss sees it"),
    (LABELS, "far from another", "its highest IoU decides"),
    (LABELS, "Every anchor", "each object has a best anchor"),
    (LABELS, "for each object", "a row is an anchor"),
    (LABELS, "exactly 0.7", ">= and <"),
    (LABELS, "no anchor touches", "ask for more than 0"),
    (BOX, "right of", "grow about the new centre"),
    (BOX, "narrower", "logarithm of the ratio"),
    (BOX, "108 px", "near 0 alone"),
    (BOX, "32 px", "and not of the new box"),
    (BOX, "less than a pixel", "are no pixels"),
    (BOX, "it is no box", "and not width and height"),
    (DECODE, "keeps its corner", "grow about the new centre"),
    (DECODE, "no area", "logarithm of the ratio"),
    (DECODE, "1.69", "near 0 alone"),
    (DECODE, "farther", "and not of the new box"),
    (DECODE, "equally far", "are no pixels"),
    (DECODE, "does not come back", "and not width and height"),
    (DECODE, "square anchors", "Width and height are exchanged"),
    (SAMPLE, "twice", "randperm repeats none"),
    (SAMPLE, "label -1", "and index that"),
    (SAMPLE, "fewer than 128", "Draw each kind by itself"),
    (SAMPLE, "More than half", "Half is the most"),
    (SAMPLE, "fewer than 256", "one negative for each positive"),
    (SAMPLE, "too many negatives", "counts both kinds"),
    (SAMPLE, "every call", "Nothing is drawn"),
    (SAMPLE, "same seed", "The generator is not used"),
    (REACHED, "changes a layer of the RPN", "corners are constants"),
    (REACHED, "leaves the trunk", "not the features that are pooled"),
    (REACHED, "changes the head", "comes after the RPN"),
    (REACHED, "both of its last layers", "stand side by side"),
    (REACHED, "is missing", "follow each loss back"),
]

NEARLY = [
    (ANCHORS, nudged(anchors())),
    (NUMBER, 10_801),
    (INSIDE, nudged(inside())),
    (BOX, (84, 92.1, 212, 156)),
    (DECODE, nudged(boxes.decode)),
]

TestJudging = judging(EXERCISES, RIGHT, WRONG, OTHER, TWICE, CAUSES, NEARLY)


def test_numbers_of_the_questions():
    sides = [(round(x2 - x1, 1), round(y2 - y1, 1)) for x1, y1, x2, y2 in e04._anchors(*e04._ANCHOR_CASES[0]).tolist()]
    assert sides == [(90.5, 45.3), (64.0, 64.0), (45.3, 90.5)]
    assert 640 // 16 * (480 // 16) * 9 == 10_800 and 640 * 480 * 9 == 2_764_800
    given = torch.tensor([[0.25, -0.125, LN2, 0]]), torch.tensor([[100, 100, 164, 164.0]])
    found = {
        name: [round(v, 2) for v in rule(*given)[0].tolist()]
        for name, rule in {
            "right": boxes.decode,
            "corner": decoded(corner=True),
            "no exp": decoded(grow=lambda t: t),
            "1 + t": decoded(grow=lambda t: 1 + t),
            "new": decoded(unit="new"),
            "pixels": decoded(unit="pixels"),
            "sides": decoded(form="sides"),
            "exchanged": decoded(flip=("shift", "growth")),
        }.items()
    }
    assert found == {
        "right": [84, 92, 212, 156],
        "corner": [116, 92, 244, 156],
        "no exp": [125.82, 124, 170.18, 124],
        "1 + t": [93.82, 92, 202.18, 156],
        "new": [100, 92, 228, 156],
        "pixels": [68.25, 99.88, 196.25, 163.88],
        "sides": [148, 124, 128, 64],
        "exchanged": [84, 92, 212, 156],
    }


def test_labels_of_the_two_images_of_the_question():
    rules = {
        "right": {},
        "forgotten": {"rescue": None},
        "per image": {"rescue": "if none"},
        "best of the image": {"rescue": "image"},
        "tie": {"rescue": "argmax"},
        "last": {"negatives": "last"},
        "between": {"between": 0},
        "axis": {"rescue": "wrong axis"},
    }
    found = {
        name: [labels(**each)(iou).int().tolist() for (iou,) in e04_labels._TOUCHED[:2]] for name, each in rules.items()
    }
    assert found == {
        "right": [[1, -1, 1, 1, 1, 1, 0], [0, -1, 1, 1, 1, 0, 0]],
        "forgotten": [[1, -1, 0, -1, -1, 1, 0], [0, -1, 0, -1, -1, 0, 0]],
        "per image": [[1, -1, 0, -1, -1, 1, 0], [0, -1, 1, 1, 1, 0, 0]],
        "best of the image": [[1, -1, 0, -1, -1, 1, 0], [0, -1, 0, 1, 1, 0, 0]],
        "tie": [[1, -1, 1, 1, -1, 1, 0], [0, -1, 1, 1, -1, 0, 0]],
        "last": [[1, -1, 0, 1, 1, 1, 0], [0, -1, 0, 1, 1, 0, 0]],
        "between": [[1, 0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0, 0]],
        "axis": [[1] * 7, [1] * 7],
    }


@pytest.mark.parametrize(("positives", "expected"), [(300, (128, 128)), (50, (50, 206)), (0, (0, 256))])
def test_batches_of_the_question(positives, expected):
    case = next(case for case in e04_labels._SAMPLE_CASES if (case[0] == 1).sum() == positives)
    assert case[1] == 256 and e04_labels._quota(*case) == [*expected, 0, 0]
    drawn = case[0][sample_of_the_package(*case[:2], torch.Generator().manual_seed(0))]
    assert ((drawn == 1).sum(), (drawn == 0).sum()) == expected


def test_cases_are_twenty_and_of_several_kinds():
    iou = e04_labels._TOUCHED + e04_labels._UNTOUCHED
    for cases in (e04._ANCHOR_CASES, e04._IMAGES, iou, e04_proposals._DECODE_CASES, e04_labels._SAMPLE_CASES):
        assert len(cases) == 20
    assert {len(ratios) for _, ratios in e04._ANCHOR_CASES} == {2, 3, 4, 5}
    assert {height > width for _, (height, width) in e04._IMAGES} == {True, False}
    assert all(each.shape[0] > each.shape[1] for (each,) in iou) and {each.shape[1] for (each,) in iou} == {1, 2, 3, 4}
    assert all((each.max(dim=0).values > 0).all() for (each,) in e04_labels._TOUCHED)
    assert all((each.max(dim=0).values == 0).any() for (each,) in e04_labels._UNTOUCHED)
    assert {bool(each.max() >= 0.7) for (each,) in e04_labels._TOUCHED} == {True, False}
    few = [
        ((labels == 1).sum() < size // 2, (labels == 0).sum() < size // 2)
        for labels, size, _ in e04_labels._SAMPLE_CASES
    ]
    assert {tuple(map(bool, each)) for each in few} == set(itertools.product((True, False), repeat=2))


def test_gradients_are_those_of_the_table_and_follow_the_network():
    assert e04_proposals._reached() == ANSWER
    # the class of a moving proposal has no slope, as pooling rounds its corners; its target offsets have one
    assert e04_proposals._reached(constant=False) == with_more(box="3x3 offsets")


def test_the_check_computes_its_gradients(monkeypatch):
    monkeypatch.setattr(e04_proposals, "_reached", lambda: with_more(box="3x3 offsets"))
    assert REACHED.right(with_more(box="3x3 offsets")) and not REACHED.right(ANSWER)


def test_the_network_of_the_check_leaves_the_random_numbers_alone():
    e04_proposals._reached.cache_clear()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    e04_proposals._reached()
    assert torch.equal(torch.get_rng_state(), before)


def test_of_the_answers_with_one_or_two_layers_changed_each_has_one_hint():
    entries = list(itertools.product(e04_proposals.LOSSES, e04_proposals.LAYERS))
    for changed in itertools.chain(itertools.combinations(entries, 1), itertools.combinations(entries, 2)):
        answer = {loss: named ^ {layer for of, layer in changed if of == loss} for loss, named in ANSWER.items()}
        assert not REACHED.right(answer) and len(hints(REACHED, answer)) == 1


@pytest.mark.parametrize(
    ("part", "answer"),
    [
        (BOX, (1, 2)),
        (SAMPLE, lambda labels, size, generator: labels == 1),
        (SAMPLE, lambda labels, size, generator: torch.rand(size)),
        (SAMPLE, lambda labels, size, generator: (labels == 1).nonzero()),
        (REACHED, {"trunk"}),
        (REACHED, {**ANSWER, "total": set()}),
        (REACHED, {**ANSWER, "box": "trunk"}),
        (REACHED, {**ANSWER, "box": {"trunk", "neck"}}),
    ],
)
def test_another_form_is_told(part, answer):
    with pytest.raises(ValueError, match="expected"):
        part.right(answer)


def test_untouched_is_open(capsys):
    check("04-1", lambda scale, ratios: ...)
    check("04-2", ..., lambda anchors, size: ...)
    check("04-3", lambda iou: ...)
    check("04-4", ..., lambda offsets, anchors: ...)
    check("04-5", lambda labels, size, generator: ...)
    check("04-6", dict.fromkeys(ANSWER, ...))
    check("04-6", {**ANSWER, "box": ...})
    check("04-6", {**dict.fromkeys(ANSWER, ...), "objectness": {"head"}})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and all(line.endswith(": open") for line in lines)


def test_no_result_is_told(capsys):
    check("04-5", lambda labels, size, generator: None)
    assert "returns nothing" in capsys.readouterr().out
