"""What pooling does to a window that moves."""

import pytest
import torch

from rcnn_tutorial.course.pooling import boxes_from, slid_borders
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors import load
from rcnn_tutorial.detectors.two_stage import given

SHIFTS = torch.arange(-4, 4.01, 0.5)


@pytest.fixture(scope="module")
def scene():
    image, target = load_dataset("shapes", "test")[29]
    return image, {key: target[key][4:6] for key in ("boxes", "labels")}


def test_a_border_is_the_one_that_the_head_finds_for_its_own_object(scene):
    detector, (image, target) = load("fast_rcnn"), scene
    errors = slid_borders(detector, image, target, SHIFTS)
    assert errors.shape == (2, 17)
    window = target["boxes"][1] + torch.tensor([-3.5, 0, -3.5, 0])
    batch, maps = detector.maps([image])
    rois = given(batch, [window[None]])
    found = detector.decode(detector.head(detector.pool(maps, rois))[1], rois[0])  # (1, K, 4)
    label = target["labels"][1] - 1
    left = batch.to_original(found[:, label][None])[0][0, 0]
    assert errors[1, 1].item() == pytest.approx((left - target["boxes"][1, 0]).item(), abs=1e-2)


def test_a_window_becomes_the_box_of_its_own_class(scene):
    detector, (image, _) = load("fast_rcnn"), scene
    windows, labels = torch.tensor([[10, 20, 60, 90], [100, 60, 180, 150.0]]), torch.tensor([3, 1])
    batch, maps = detector.maps([image])
    rois = given(batch, [windows])
    every = detector.decode(detector.head(detector.pool(maps, rois))[1], rois[0])  # (2, K, 4)
    expected = batch.to_original(torch.stack([every[0, 2], every[1, 0]])[None])[0]
    assert torch.allclose(boxes_from(detector, image, windows, labels), expected, atol=1e-3)


def test_rounding_makes_the_border_jump(scene):
    steps = [slid_borders(load(name), *scene, SHIFTS).diff().abs().amax() for name in ("fast_rcnn", "faster_rcnn")]
    assert steps[0] > 2 > 1 > steps[1]
