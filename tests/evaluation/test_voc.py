"""Matching and VOC AP: worked examples, and a slow implementation in exact arithmetic."""

import math
import random
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.evaluation import coco_ap, failures, inputs, kinds, match_detections, matching, voc_ap

CLASSES = ("background", "disc", "bar", "star")
THRESHOLDS = [Fraction(1, 10), Fraction(1, 2), Fraction(7, 10), Fraction(1)]


def detected(*rows):
    """Detections of one image from rows of (score, label, x1, y1, x2, y2)."""
    rows = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return {"scores": rows[:, 0], "labels": rows[:, 1].long(), "boxes": rows[:, 2:]}


def truth(*rows, **flags):
    """The target of one image from rows of (label, x1, y1, x2, y2)."""
    rows = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    return {"labels": rows[:, 0].long(), "boxes": rows[:, 1:], **{k: torch.tensor(v) for k, v in flags.items()}}


# -- matching ------------------------------------------------------------------------------------------------------


def test_a_second_detection_of_an_object_is_wrong():
    found = [detected((0.6, 1, 0, 0, 10, 10), (0.9, 1, 0, 0, 10, 8))]
    matches = match_detections(found, [truth((1, 0, 0, 10, 10))])
    assert matches.hits.tolist() == [False, True]  # the better score, not the better box
    assert matches.truth.tolist() == [0, 0] and matches.ignored.tolist() == [False, False]
    assert matches.iou.tolist() == [1, 0.8] and matches.found.tolist() == [True]


def test_of_equal_scores_the_first_takes_the_object():
    found = [detected(*[(0.5, 1, 0, 0, 10, 10)] * 100)]
    assert match_detections(found, [truth((1, 0, 0, 10, 10))]).hits.tolist() == [True] + [False] * 99


def test_a_detection_looks_at_its_best_truth_only():
    # both detections overlap the first truth most; the second truth stays free, although IoU with it is 0.6
    found = [detected((0.9, 1, 0, 0, 10, 10), (0.8, 1, 0, 1, 10, 10))]
    matches = match_detections(found, [truth((1, 0, 0, 10, 10), (1, 0, 4, 10, 10))])
    assert matches.hits.tolist() == [True, False] and matches.found.tolist() == [True, False]


def test_iou_at_the_threshold_is_a_hit():
    # 7 / 10 is below 0.7 in float32 divisions that are then compared in float64
    for side, threshold in ((5, 0.5), (7, 0.7), (9, 0.9)):
        at = match_detections([detected((0.9, 1, 0, 0, 1, side))], [truth((1, 0, 0, 1, 10))], threshold)
        assert at.hits.tolist() == [True]
        under = match_detections([detected((0.9, 1, 0, 0, 1, side - 0.01))], [truth((1, 0, 0, 1, 10))], threshold)
        assert under.hits.tolist() == [False] and under.truth.tolist() == [-1]


@pytest.mark.parametrize("flag", ["difficult", "iscrowd"])
def test_difficult_and_crowd_count_neither_way(flag):
    target = truth((1, 0, 0, 10, 10), (1, 20, 0, 30, 10), **{flag: [True, False]})
    found = detected((0.9, 1, 0, 0, 10, 10), (0.8, 1, 0, 0, 10, 10), (0.7, 1, 20, 0, 30, 10))
    matches = match_detections([found], [target])
    assert matches.ignored.tolist() == [True, True, False] and matches.hits.tolist() == [False, False, True]
    result = voc_ap([found], [target], CLASSES)
    assert result.ap["disc"] == 1 and result.objects["disc"] == 1


def test_classes_and_images_stay_apart():
    box = (0, 0, 10, 10)
    found = [detected((0.9, 2, *box)), detected((0.8, 1, *box)), detected((0.7, 1, *box))]
    matches = match_detections(found, [truth((1, *box)), truth((1, *box)), truth()])
    assert matches.image.tolist() == [0, 1, 2] and matches.truth_image.tolist() == [0, 1]
    assert matches.hits.tolist() == [False, True, False] and matches.found.tolist() == [False, True]


def test_images_without_detections_do_not_shift_the_others():
    found = [detected(), detected((0.9, 1, 0, 0, 10, 10)), detected(), detected((0.8, 1, 5, 5, 9, 9))]
    targets = [truth((1, 7, 7, 9, 9)), truth((1, 0, 0, 10, 10)), truth((1, 0, 0, 2, 2)), truth((1, 5, 5, 9, 9))]
    matches = match_detections(found, targets)
    assert matches.truth.tolist() == [1, 3] and matches.found.tolist() == [False, True, False, True]


# -- VOC AP --------------------------------------------------------------------------------------------------------


def test_one_ranking_over_all_images():
    # within each image the best detection is right; over both, a wrong one comes second
    box, elsewhere = (0, 0, 10, 10), (50, 50, 60, 60)
    found = [detected((0.9, 1, *box), (0.8, 1, *elsewhere)), detected((0.7, 1, *box), (0.6, 1, *elsewhere))]
    targets = [truth((1, *box)), truth((1, *box))]
    assert voc_ap(found, targets, CLASSES).ap["disc"] == pytest.approx((1 + 2 / 3) / 2)


def test_class_without_objects_has_no_ap_and_no_share_in_the_mean():
    found = [detected((0.9, 1, 0, 0, 10, 10), (0.9, 2, 0, 0, 10, 10))]
    result = voc_ap(found, [truth((1, 0, 0, 10, 10), (3, 0, 0, 10, 10))], CLASSES)
    assert result.ap["disc"] == 1 and math.isnan(result.ap["bar"]) and result.ap["star"] == 0
    assert result.map == 0.5 and result.objects == {"disc": 1, "bar": 0, "star": 1}
    only_difficult = voc_ap(found, [truth((2, 0, 0, 10, 10), difficult=[True])], CLASSES)
    assert math.isnan(only_difficult.ap["bar"]) and math.isnan(only_difficult.map)


def test_empty_inputs_pass():
    assert math.isnan(voc_ap([], [], CLASSES).map)
    assert math.isnan(voc_ap([detected()], [truth()], CLASSES).map)
    assert voc_ap([detected(), detected()], [truth((1, 0, 0, 5, 5)), truth()], CLASSES).map == 0
    assert match_detections([detected((0.5, 1, 0, 0, 5, 5))], [truth()]).hits.tolist() == [False]


def test_table():
    result = voc_ap([detected((0.9, 1, 0, 0, 10, 10))], [truth((1, 0, 0, 10, 10))], CLASSES, method="11")
    lines = str(result).splitlines()
    assert lines[1].split() == ["disc", "1", "1.000"] and lines[2].split() == ["bar", "0", "nan"]
    assert lines[4].split() == ["mean", "1", "1.000"] and "11 points" in lines[5]


def test_three_average_precisions_differ():
    # four objects; the ranking is wrong, right, right, duplicate, right; the last one fits with IoU 0.72 only
    targets = [truth(*((1, x, 0, x + 100, 100) for x in (0, 200, 400, 600)))]
    found = [
        detected(
            (0.9, 1, 0, 500, 100, 600),
            (0.8, 1, 0, 0, 100, 100),
            (0.7, 1, 200, 0, 300, 100),
            (0.6, 1, 200, 0, 300, 100),
            (0.5, 1, 400, 0, 500, 72),
        )
    ]
    classes = CLASSES[:2]
    every_point, eleven = (voc_ap(found, targets, classes, method=method).map for method in ("all", "11"))
    coco = coco_ap(found, targets, classes)
    assert every_point == pytest.approx(0.25 * (2 / 3 + 2 / 3 + 3 / 5))  # 0.4833
    assert eleven == pytest.approx((6 * 2 / 3 + 2 * 3 / 5) / 11)  # 0.4727: recall 0 to 0.5, then 0.6 and 0.7
    at_50 = (51 * 2 / 3 + 25 * 3 / 5) / 101  # 0.4851: recall 0 to 0.50, then 0.51 to 0.75
    assert coco["AP50"] == pytest.approx(at_50)
    strict = 51 * 2 / 3 / 101  # 0.3366: above IoU 0.72 the last one is wrong
    assert coco["AP75"] == pytest.approx(strict)
    assert coco["AP"] == pytest.approx((5 * at_50 + 5 * strict) / 10)  # 0.4109: five thresholds on either side
    claim("X-04", every_point, 29 / 60, tol=1e-9, note="one ranking, all-point AP")
    claim("X-04", eleven, 26 / 55, tol=1e-9, note="the same ranking, 11-point AP")
    claim("X-04", coco["AP"], (5 * at_50 + 5 * strict) / 10, tol=1e-9, note="the same ranking, COCO AP")


@pytest.mark.parametrize(
    ("detections", "targets", "message"),
    [
        ([detected()], [], "detections: expected one dict per image, 0, got 1"),
        ([{"boxes": torch.zeros(0, 4)}], [truth()], r"detections\[0\]: expected the keys \['labels', 'scores'\]"),
        ([detected()], [{"labels": torch.zeros(0)}], r"targets\[0\]: expected the keys \['boxes'\]"),
        ([detected()], [truth() | {"boxes": torch.zeros(0)}], r"targets\[0\]\['boxes'\]: expected \(N, 4\)"),
        ([detected() | {"scores": torch.zeros(2)}], [truth()], r"detections\[0\]\['scores'\]: .*\(2,\)"),
        ([detected((0.9, 4, 0, 0, 1, 1))], [truth()], r"detections\[0\]: expected labels 1 to 3 \(classes\), got 4"),
        ([detected((0.9, 0, 0, 0, 1, 1))], [truth()], r"detections\[0\]: expected labels 1 to 3 \(classes\), got 0"),
        ([detected()], [truth((4, 0, 0, 1, 1))], r"targets\[0\]: expected labels 1 to 3 \(classes\), got 4"),
        ([detected((0.9, 1, 5, 0, 1, 1))], [truth()], "detections' boxes: .*5.0"),
        ([detected((math.nan, 1, 0, 0, 1, 1))], [truth()], "detections: .*NaN"),
    ],
)
def test_refused_inputs(detections, targets, message):
    for measure in (voc_ap, coco_ap):
        with pytest.raises(ValueError, match=message):
            measure(detections, targets, CLASSES)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, math.nan])
def test_refused_threshold(threshold):
    with pytest.raises(ValueError, match="iou_threshold"):
        voc_ap([], [], CLASSES, iou_threshold=threshold)


# -- against the definition, in exact arithmetic ---------------------------------------------------------------------


def exact_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return Fraction(inter, area - inter)


def slow_outcomes(scene, label, threshold):
    """True, False or None (ignored) per detection of a class, best first; and how many objects there are."""
    ranked = [(score, image, box) for image, (dets, _) in enumerate(scene) for score, k, box in dets if k == label]
    ranked.sort(key=lambda row: -row[0])
    taken, outcomes = set(), []
    for _, image, box in ranked:
        best, chosen = Fraction(0), None
        for index, (k, other, ignored) in enumerate(scene[image][1]):
            overlap = exact_iou(box, other)
            if k == label and overlap > best:
                best, chosen = overlap, (index, ignored)
        if best < threshold:
            outcomes.append(False)
        elif chosen[1]:
            outcomes.append(None)
        else:
            outcomes.append((image, chosen[0]) not in taken)
            taken.add((image, chosen[0]))
    objects = sum(k == label and not ignored for _, truths in scene for k, _, ignored in truths)
    return outcomes, objects


def slow_ap(outcomes, objects, method):
    points, hits = [], 0  # (hits so far, precision)
    for place, hit in enumerate((o for o in outcomes if o is not None), start=1):
        hits += hit
        points.append((hits, Fraction(hits, place)))

    def best_from(least):  # best precision at recall least or more, with recall = hits / objects
        return max((p for h, p in points if Fraction(h, objects) >= least), default=Fraction(0))

    if method == "11":
        return sum(best_from(Fraction(k, 10)) for k in range(11)) / 11
    return sum(best_from(Fraction(k, objects)) for k in range(1, objects + 1)) / objects


def random_scene(seed, images):
    """Few places, sizes, scores and classes, so that ties are common; images without truths or without detections."""
    draw = random.Random(seed)

    def box():
        x, y = draw.randrange(4), draw.randrange(4)
        return x, y, x + draw.randint(1, 5), y + draw.randint(1, 5)

    scene = []
    for _ in range(images):
        truths = [(draw.randint(1, 2), box(), draw.random() < 0.2) for _ in range(draw.randrange(5))]
        near = [other for _, other, _ in truths]
        detections = [
            (draw.randint(1, 4) / 4, draw.randint(1, 2), draw.choice(near) if near and draw.random() < 0.5 else box())
            for _ in range(draw.choice((0, 3, 6, 9)))
        ]
        scene.append((detections, truths))
    return scene


@settings(max_examples=150)
@given(st.integers(0, 2**31), st.integers(1, 4), st.sampled_from(THRESHOLDS), st.booleans())
def test_equals_the_definition(seed, images, threshold, crowd):
    scene = random_scene(seed, images)
    found = [detected(*((score, k, *box) for score, k, box in dets)) for dets, _ in scene]
    flag = "iscrowd" if crowd else "difficult"
    targets = [truth(*((k, *b) for k, b, _ in ts), **{flag: [i for _, _, i in ts]}) for _, ts in scene]
    targets = [t | {flag: t[flag].bool()} for t in targets]
    matches = match_detections(found, targets, float(threshold))
    for label in (1, 2):
        outcomes, objects = slow_outcomes(scene, label, threshold)
        own = matches.labels == label
        order = matches.scores[own].argsort(descending=True, stable=True)
        assert matches.hits[own][order].tolist() == [outcome is True for outcome in outcomes]
        assert matches.ignored[own][order].tolist() == [outcome is None for outcome in outcomes]
        for method in ("all", "11"):
            ap = voc_ap(found, targets, CLASSES, float(threshold), method).ap[CLASSES[label]]
            if objects:
                assert ap == pytest.approx(float(slow_ap(outcomes, objects, method)), abs=1e-12)
            else:
                assert math.isnan(ap)


def test_pairs_are_looked_at_in_portions_and_nothing_changes(monkeypatch):
    """Never many more pairs at once than a portion holds: a data set of 129 million pairs would take 15 GB."""
    generator = torch.Generator().manual_seed(0)

    def some(count):
        corner = torch.rand(count, 2, generator=generator) * 60
        labels = torch.randint(1, 4, (count,), generator=generator)
        boxes = torch.cat((corner, corner + 5 + 30 * torch.rand(count, 2, generator=generator)), dim=1)
        return {"boxes": boxes, "labels": labels, "scores": torch.rand(count, generator=generator)}

    detections, targets = [some(count) for count in (30, 0, 7, 50, 12)], [some(count) for count in (9, 4, 0, 11, 3)]
    classes = ("background", "a", "b", "c")

    def everything():
        found = failures(detections, targets)
        return voc_ap(detections, targets, classes).ap, found.counts, found.kinds

    whole, held, original = everything(), [], inputs.pair_overlaps

    def portions(*args, **kwargs):
        for portion in original(*args, most=20, **kwargs):
            held.append(len(portion[0]))
            yield portion

    for module in (matching, kinds):
        monkeypatch.setattr(module, "pair_overlaps", portions)
    assert everything() == whole
    assert max(held) <= 20 and len(held) > 60 and math.isfinite(sum(whole[0].values()))
    alone = [len(portion[0]) for portion in original(*inputs.gather(detections[3:4], targets[3:4]), most=5)]
    assert alone == [11] * 50  # a detection with more pairs than a portion is one
