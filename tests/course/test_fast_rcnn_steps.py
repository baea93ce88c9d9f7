"""What 03_fast_rcnn computes besides the lesson."""

import pytest
import torch

from rcnn_tutorial.course import fast_rcnn_steps as steps
from rcnn_tutorial.course import records
from rcnn_tutorial.course.pooling import boxes_from, slid_borders
from rcnn_tutorial.course.records import by_variant
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors import load
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.ops.pooling import roi_align, roi_pool

PLANE, ROI = torch.rand(6, 8, generator=torch.Generator().manual_seed(1)), (12.0, 4.0, 50.0, 34.0)


def by_operator(own, box, n, stride):
    return roi_pool(own[None, None], torch.tensor([[0, *box]]), n, 1 / stride)[0, 0]


def test_a_rule_that_pools_alike_and_rules_that_do_not():
    assert steps.pool_alike(by_operator, roi_pool, PLANE, ROI)
    assert steps.pool_alike(lambda *a: (by_operator(*a), "switches"), roi_pool, PLANE, ROI)
    assert not steps.pool_alike(by_operator, roi_align, PLANE, ROI)
    assert not steps.pool_alike(lambda *a: by_operator(*a) + 1e-4, roi_pool, PLANE, ROI)
    assert steps.pool_alike(lambda *a: by_operator(*a) + 1e-4, roi_pool, PLANE, ROI, atol=1e-3)
    wrong_once = lambda own, *a: by_operator(own, *a) + (own.shape == (6, 8))  # noqa: E731
    assert not steps.pool_alike(wrong_once, roi_pool, PLANE, ROI)
    wrong_elsewhere = lambda own, *a: by_operator(own, *a) + (own.shape != (6, 8))  # noqa: E731
    assert not steps.pool_alike(wrong_elsewhere, roi_pool, PLANE, ROI)


@pytest.fixture(scope="module")
def scene():
    image, target = load_dataset("shapes", "test")[29]
    generator = torch.Generator().manual_seed(0)
    around = target["boxes"].repeat(12, 1) + 12 * torch.randn(12 * len(target["boxes"]), 4, generator=generator)
    return image, target | {"proposals": around[(around[:, 2:] > around[:, :2] + 2).all(dim=1)]}


def test_the_windows_of_a_step_and_their_crops(scene):
    image, target = scene
    samples, boxes = steps.mini_batch(load("fast_rcnn"), [image, image], [target, target])
    labels = samples.labels[0]
    assert samples.labels.shape == (2, 64) and boxes[0].shape == (64, 4)
    assert boxes[0].max() <= 256.5 < samples.boxes.max()  # pixels of the picture, not of the input
    best = box_iou(boxes[0], target["boxes"]).amax(dim=1)
    assert (best[labels > 0] > 0.48).all() and 1 <= (labels > 0).sum() <= 16
    sheet, ious = steps.crops_by_kind(image, target, boxes[0], labels, most=3)
    kinds = {"foreground": labels > 0, "background": labels == 0}
    assert list(sheet) == list(ious) == [f"{int(chosen.sum())} {kind}" for kind, chosen in kinds.items()]
    for (name, crops), chosen in zip(sheet.items(), kinds.values(), strict=True):
        assert crops.shape == (3, 3, 64, 64) and ious[name] == [f"IoU {v:.2f}" for v in best[chosen][:3].tolist()]


def test_the_stages_of_a_detector_are_timed(scene):
    seconds = steps.stage_seconds(load("fast_rcnn"), scene[0])
    assert list(seconds) == ["proposals", "convolutions", "pooling", "fully connected"]
    assert min(seconds.values()) > 0 and max(seconds, key=seconds.get) == "proposals"


def test_the_most_probable_detections():
    answer = {"boxes": torch.rand(3, 4), "labels": torch.tensor([1, 2, 3]), "scores": torch.tensor([0.9, 0.5, 0.1])}
    for options, count in (({"count": 2}, 2), ({"least": 0.5}, 2), ({"count": 1, "least": 0.4}, 1), ({}, 3)):
        (kept,) = steps.most_probable([answer], **options)
        assert (
            kept["labels"].tolist() == [1, 2, 3][:count] and kept["boxes"].tolist() == answer["boxes"][:count].tolist()
        )


def test_offsets_move_foreground_windows_towards_their_objects(scene):
    image, target = scene
    model = load("fast_rcnn")
    before, after = steps.foreground_iou(model, [scene, (image, target | {"boxes": torch.empty(0, 4)})])
    iou, nearest = box_iou(target["proposals"], target["boxes"]).max(dim=1)
    assert before == pytest.approx(iou[iou >= 0.5].mean().item(), rel=1e-5)
    assert after > before
    own, nearest = target["proposals"][iou >= 0.5], nearest[iou >= 0.5]
    moved = boxes_from(model, image, own, target["labels"][nearest])
    overlaps = [box_iou(m[None], target["boxes"][j][None]).item() for m, j in zip(moved, nearest.tolist(), strict=True)]
    assert after == pytest.approx(sum(overlaps) / len(overlaps), rel=1e-4)
    assert steps.foreground_iou(model, [scene], least=0.7)[0] >= 0.7


def test_the_records_stand_side_by_side():
    head, *lines = steps.side_by_side(("SPPnet", "Fast R-CNN"))
    assert head.split("  ")[-2:] == ["SPPnet", "Fast R-CNN"]
    told = {line[:22].strip(): line[22:].split() for line in lines}
    assert all(len(cells) == 2 for cells in told.values()) and len({len(line) for line in (head, *lines)}) == 1
    for name, record, metric, digits in (
        ("800 steps, AP50", "fast_24", "AP50", 2),
        ("800 steps, AP75", "fast_24", "AP75", 2),
        ("equal seconds, AP50", "ladder_shapes", "AP50", 2),
        ("equal seconds, AP75", "ladder_shapes", "AP75", 2),
        ("these seconds", "ladder_shapes", "seconds", 0),
        ("milliseconds an image", "ladder_shapes", "milliseconds", 0),
    ):
        values = by_variant(records.load(record), metric)
        expected = [sum(values[who]) / len(values[who]) for who in ("SPPnet", "Fast R-CNN")]
        assert told.pop(name) == [f"{value:.{digits}f}" for value in expected]
    assert told == {"1,000 scenes, AP50": ["0.667", "0.749"], "1,000 scenes, AP75": ["0.396", "0.464"]}


def test_kinds_are_compared_seed_by_seed():
    before = [{"correct": 5, "class": 3, "place": 4}, {"correct": 5, "class": 1, "place": 4}]
    after = [{"correct": 1, "class": 1, "place": 9}, {"correct": 1, "class": 1, "place": 6}]
    assert steps.more_of_each_kind(before, after) == {"class": -1, "place": round(3.5)}


def test_the_median_jump_is_that_of_all_objects(scene):
    image, target = scene
    shifts, pair = torch.arange(-4, 4.01, 0.5), (load("fast_rcnn"), load("faster_rcnn"))
    rounded, aligned = steps.median_jumps(pair, [scene, scene], [0], shifts)
    jumps = slid_borders(pair[0], image, target, shifts).diff().abs().amax(dim=1)
    assert rounded == pytest.approx(jumps.median().item(), rel=1e-4) and rounded > 2 * aligned
