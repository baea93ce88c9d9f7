"""Kinds of failure: one scene with each, the order of the rules, and agreement with the matching."""

import pytest
import torch

from rcnn_tutorial.evaluation import failures, match_detections
from tests.evaluation.test_coco import random_scene

DISC, BAR = 1, 2


def scene(detections, truths, **flags):
    detections = torch.tensor(detections, dtype=torch.float32).reshape(-1, 6)
    truths = torch.tensor(truths, dtype=torch.float32).reshape(-1, 5)
    found = {"scores": detections[:, 0], "labels": detections[:, 1].long(), "boxes": detections[:, 2:]}
    target = {"labels": truths[:, 0].long(), "boxes": truths[:, 1:]}
    return [found], [target | {name: torch.tensor(flag) for name, flag in flags.items()}]


def test_each_kind_once():
    found, targets = scene(
        [
            (0.60, DISC, 0, 0, 10, 9),  # second on the first disc
            (0.90, DISC, 0, 0, 10, 10),
            (0.80, BAR, 20, 0, 30, 10),  # on a disc
            (0.70, DISC, 40, 0, 50, 4),  # IoU 0.4
            (0.95, DISC, 80, 80, 90, 90),  # on nothing
            (0.85, DISC, 60, 0, 70, 10),  # on a difficult disc
            (0.49, DISC, 20, 0, 30, 10),  # right, but too low
        ],
        [(DISC, 0, 0, 10, 10), (DISC, 20, 0, 30, 10), (DISC, 40, 0, 50, 10), (DISC, 60, 0, 70, 10)],
        difficult=[False, False, False, True],
    )
    result = failures(found, targets)
    assert result.kinds == [("duplicate", "correct", "class", "place", "background", "ignored", "below")]
    assert result.counts == {"correct": 1, "class": 1, "place": 1, "duplicate": 1, "background": 1, "missed": 2}
    assert [missed.tolist() for missed in result.missed] == [[False, True, True, False]]


@pytest.mark.parametrize(
    ("kind", "detection", "truths"),
    [
        ("class", (DISC, 0, 0, 10, 10), [(BAR, 0, 0, 10, 8), (DISC, 0, 5, 10, 14)]),  # before place
        ("duplicate", (DISC, 0, 0, 10, 10), [(DISC, 0, 0, 10, 10), (BAR, 0, 0, 10, 10)]),  # before class
        ("place", (DISC, 0, 0, 10, 10), [(DISC, 0, 0, 10, 1)]),  # IoU 0.1
        ("background", (DISC, 0, 0, 10, 10), [(DISC, 0, 0, 10, 0.99)]),
        ("background", (DISC, 0, 0, 10, 10), [(BAR, 0, 0, 10, 4.9)]),  # near another class only
        ("class", (DISC, 0, 0, 10, 10), [(BAR, 0, 0, 10, 5)]),  # IoU 0.5
        ("correct", (DISC, 0, 0, 10, 10), [(DISC, 0, 0, 10, 5)]),
    ],
)
def test_precedence(kind, detection, truths):
    rows = [(0.5, *detection)]
    if kind == "duplicate":
        rows.append((0.9, DISC, 0, 0, 10, 10))
    result = failures(*scene(rows, truths))
    assert result.kinds[0][0] == kind


def test_ignored_objects_play_no_other_part():
    near_difficult = scene([(0.9, DISC, 0, 0, 10, 4)], [(DISC, 0, 0, 10, 10)], difficult=[True])
    on_other_crowd = scene([(0.9, DISC, 0, 0, 10, 10)], [(BAR, 0, 0, 10, 10)], iscrowd=[True])
    for found, targets in (near_difficult, on_other_crowd):
        result = failures(found, targets)
        assert result.kinds == [("background",)] and result.counts["missed"] == 0


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_matching(seed):
    detections, targets = random_scene(seed, crowds=True)
    for threshold in (0.5, 0.75):
        matches = match_detections(detections, targets, threshold)
        result = failures(detections, targets, score_threshold=0, iou_threshold=threshold)
        kinds = [kind for image in result.kinds for kind in image]
        assert [kind == "correct" for kind in kinds] == matches.hits.tolist()
        assert [kind == "ignored" for kind in kinds] == matches.ignored.tolist()
        missed = torch.cat(result.missed)
        assert torch.equal(missed, ~matches.found & ~matches.truth_ignored)
        assert [len(image) for image in result.kinds] == [len(d["boxes"]) for d in detections]
        assert min(result.counts.values()) > 0 and result.counts["correct"] == int(matches.hits.sum())


def test_an_object_found_under_the_score_threshold_is_missed():
    result = failures(*scene([(0.4, DISC, 0, 0, 10, 10)], [(DISC, 0, 0, 10, 10)]))
    assert result.counts["missed"] == 1 and result.kinds == [("below",)]


def test_empty():
    nothing = failures([], [])
    assert set(nothing.counts.values()) == {0} and nothing.kinds == [] and nothing.missed == []
    result = failures(*scene([], [(DISC, 0, 0, 10, 10)]))
    assert result.kinds == [()] and result.counts["missed"] == 1
    result = failures(*scene([(0.9, DISC, 0, 0, 10, 10)], []))
    assert result.kinds == [("background",)] and result.counts["missed"] == 0
