"""The small R-FCN: a vote over bins that read maps of their own, with nothing learned behind it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from rcnn_tutorial.course.relatives import SmallRFCN
from rcnn_tutorial.course.relatives.rfcn import Vote
from rcnn_tutorial.detectors import load
from rcnn_tutorial.ops.pooling import ps_roi_align, ps_roi_pool
from tests.course.relatives.training import overfitted
from tests.detectors.scenes import CLASSES, batch

K = len(CLASSES) - 1


@pytest.fixture(scope="module")
def model():
    return SmallRFCN(load("faster_rcnn"))


def test_a_vote_is_a_mean():
    pooled = torch.arange(2.0 * 7 * 4).view(2, 7, 2, 2)
    scores, offsets = Vote(3)(pooled)
    torch.testing.assert_close(scores, pooled[:, :3].mean((2, 3)))
    assert offsets.shape == (2, 2, 4)
    for k in range(2):
        torch.testing.assert_close(offsets[:, k], pooled[:, 3:].mean((2, 3)))
    torch.testing.assert_close(Vote(3, 5.0)(pooled)[0], 5 * scores)
    assert not list(Vote(3).parameters())


def test_shapes(model):
    images, _ = batch(2)
    _, maps = model.maps(images)
    assert [features.shape for features in maps] == [(2, 96, 24, 32)]
    assert model.places(maps[0]).shape == (2, (K + 1 + 4) * 9, 24, 32)
    boxes = torch.tensor([[[8.0, 8, 80, 90], [0, 0, 256, 192], [100, 50, 120, 70]]]).expand(2, -1, -1)
    scores, offsets = model.head(model.pool(maps, boxes))
    assert scores.shape == (6, K + 1) and offsets.shape == (6, K, 4)


def test_an_object_in_its_place_wins_the_vote(model):
    """Each of the 3 x 3 maps of class 2 lights up in its ninth of one region: moved by a third it loses votes."""
    maps = torch.zeros(1, (K + 1 + 4) * 9, 24, 32)
    for i in range(3):
        for j in range(3):
            maps[0, 2 * 9 + 3 * i + j, 6 + 3 * i : 9 + 3 * i, 9 + 3 * j : 12 + 3 * j] = 1
    boxes = torch.tensor([[[72.0, 48, 144, 120], [96, 48, 168, 120], [72, 72, 144, 144]]])  # 9 x 9 cells of 8 pixels
    places, model.places = model.places, torch.nn.Identity()
    rounded = model.settings
    try:
        model.settings = replace(rounded, sampling_ratio=None)
        scores, _ = model.head(model.pool([maps], boxes))
        aligned = replace(rounded, sampling_ratio=2)
        model.settings = aligned
        smooth, _ = model.head(model.pool([maps], boxes))
    finally:
        model.places, model.settings = places, rounded
    scores, smooth = scores / model.head.gain, smooth / model.head.gain
    torch.testing.assert_close(scores[:, 2], torch.tensor([1.0, 0, 0]))
    assert not scores[:, [0, 1, 3]].any()
    assert smooth[0, 2] > 0.7 and smooth[1:, 2].max() < 0.35


def test_pooling_is_position_sensitive(model):
    images, _ = batch(1)
    _, maps = model.maps(images)
    boxes = torch.tensor([[[8.0, 8, 80, 90], [30, 20, 200, 150]]])
    torch.testing.assert_close(model.pool(maps, boxes), ps_roi_align(model.places(maps[0]), list(boxes), 3, 1 / 8, 2))
    settings = model.settings
    model.settings = replace(settings, sampling_ratio=None)
    try:
        pooled = model.pool(maps, boxes)
    finally:
        model.settings = settings
    torch.testing.assert_close(pooled, ps_roi_pool(model.places(maps[0]), list(boxes), 3, 1 / 8))


def test_the_loss_by_hand(model):
    images, targets = batch(1)
    model.train().generator.manual_seed(0)
    losses = model(images, targets, proposals=[targets[0]["boxes"] + 1])
    assert losses.keys() == {"class", "box"}
    boxes = torch.cat((targets[0]["boxes"] + 1, targets[0]["boxes"]))
    scores, _ = model.head(model.pool(model.maps(images)[1], boxes[None]))
    labels = targets[0]["labels"].repeat(2)  # every proposal overlaps its object by more than a half
    assert len(boxes) <= 32  # a quarter of 128: all are drawn
    torch.testing.assert_close(losses["class"], F.cross_entropy(scores, labels))


def test_every_layer_is_trained(model):
    images, targets = batch(2)
    model.zero_grad()
    losses = model.train()(images, targets)
    assert losses.keys() == {"objectness", "rpn_box", "class", "box"}
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_images_of_different_sizes_and_without_objects(model):
    images = [torch.rand(3, 192, 256), torch.rand(3, 100, 120)]
    targets = [{"boxes": torch.tensor([[10.0, 10, 60, 60]]), "labels": torch.tensor([1])}]
    targets.append({"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)})
    for some in (targets, targets[1:] * 2):
        assert all(loss.isfinite() for loss in model.train()(images, some).values())
    for image, one in zip(images, model.eval()(images), strict=True):
        assert (one["boxes"][:, 2] <= image.shape[2]).all() and (one["boxes"][:, 3] <= image.shape[1]).all()


def test_it_overfits_eight_pictures():
    losses, ap50 = overfitted(SmallRFCN(load("faster_rcnn")), lr=0.02)
    assert losses[-1] < 0.7 * losses[0] and ap50 > 0.25
