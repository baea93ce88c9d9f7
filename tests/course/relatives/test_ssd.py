"""The small SSD: its default boxes, its negatives, and its loss by hand."""

import pytest
import torch
import torch.nn.functional as F

from rcnn_tutorial.course.relatives import SmallSSD, shipped_stages
from rcnn_tutorial.course.relatives.ssd import WEIGHTS, default_boxes, hard_negatives
from rcnn_tutorial.ops.boxes import encode
from rcnn_tutorial.ops.losses import smooth_l1
from tests.course.relatives.training import overfitted
from tests.detectors.scenes import CLASSES, batch


@pytest.fixture(scope="module")
def model():
    return SmallSSD(shipped_stages(), CLASSES)


def test_the_default_boxes_of_the_paper():
    cells, few, many = (38, 19, 10, 5, 3, 1), (1, 2, 0.5), (1, 2, 3, 0.5, 1 / 3)
    scales = [30, 60, 111, 162, 213, 264, 315]
    ratios = [few, many, many, many, few, few]
    boxes = default_boxes([(n, n) for n in cells], [300 / n for n in cells], scales, ratios)
    assert boxes.shape == (8732, 4)
    last = boxes[-4:]  # of the one cell of the last map
    torch.testing.assert_close((last[:, :2] + last[:, 2:]) / 2, torch.full((4, 2), 150.0))
    sides = last[:, 2:] - last[:, :2]
    torch.testing.assert_close(sides.prod(1).sqrt(), torch.tensor([264.0, 264, 264, (264 * 315) ** 0.5]))
    torch.testing.assert_close(sides[:, 1] / sides[:, 0], torch.tensor([1.0, 2, 0.5, 1]))


def test_negatives_are_the_worst_of_the_background():
    log_loss = torch.tensor([9.0, 1, 5, 3, 8, 2, 7, 6])
    labels = torch.tensor([2, 0, 0, 0, -1, 0, 0, 0])
    assert hard_negatives(log_loss, labels).nonzero().flatten().tolist() == [2, 6, 7]  # losses 5, 7 and 6
    assert hard_negatives(log_loss, labels, 1).nonzero().flatten().tolist() == [6]
    assert hard_negatives(log_loss, labels, 9).sum() == 6  # all that there are
    assert not hard_negatives(log_loss, labels.clamp(max=0)).any()


def test_a_prediction_belongs_to_its_default_box(model):
    """A weight that looks at one cell of a map changes the scores of the boxes around that cell, of their own kind."""
    images = torch.zeros(1, 3, 192, 256)
    scores, offsets, boxes = model.predict(images)
    assert scores.shape == (1, len(boxes), len(CLASSES)) and offsets.shape == (1, len(boxes), 4)
    assert len(boxes) == 4 * (48 * 64 + 24 * 32 + 12 * 16 + 6 * 8)
    with torch.no_grad():
        bias = model.heads[1].bias
        of_box = len(CLASSES) + 4
        bias[2 * of_box + 3] += 5  # class 3 of the third box of each cell of C3: ratio 2, scale 32
        changed = model.predict(images)[0] - scores
        bias[2 * of_box + 3] -= 5
    moved = changed[0, :, 3] > 1
    sides = (boxes[moved, 2:] - boxes[moved, :2]).unique(dim=0)
    assert moved.sum() == 24 * 32 and not changed[0, :, :3].any()
    torch.testing.assert_close(sides, torch.tensor([[32 / 2**0.5, 32 * 2**0.5]]).expand_as(sides))


def test_the_loss_by_hand(model):
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 70, 70], [0, 100, 8, 108], [30, 0, 40, 10], [0, 30, 10, 40]])
    boxes = torch.cat((boxes, torch.tensor([[90.0, 90, 99, 99]])))
    target = {"boxes": torch.tensor([[0.0, 0, 10, 8]]), "labels": torch.tensor([4])}
    g = torch.Generator().manual_seed(0)
    scores, offsets = torch.randn(1, 6, len(CLASSES), generator=g), torch.randn(1, 6, 4, generator=g)
    on_image = torch.tensor([[True] * 5 + [False]])
    scores[0, 5, 1] = 50.0  # the worst of all, but on the padding
    losses = model.losses(scores, offsets, boxes, on_image, [target])
    log_p = scores[0].log_softmax(1)
    negatives = -log_p[1:5, 0].sort().values[:3]
    assert losses["class"].item() == pytest.approx((negatives.sum() - log_p[0, 4]).item(), rel=1e-5)
    wanted = encode(target["boxes"], boxes[:1], WEIGHTS)
    assert losses["box"].item() == pytest.approx(smooth_l1(offsets[0, :1] - wanted).sum().item(), rel=1e-5)
    torch.testing.assert_close(wanted, torch.tensor([[0, -1, 0, 5 * torch.log(torch.tensor(0.8))]]))


def test_two_images_are_divided_by_all_positives(model):
    images, targets = batch(2)
    predicted = model.predict(model.preprocess(images).tensor)
    scores, offsets, boxes = (part.detach() for part in predicted)
    on_image = torch.ones(2, len(boxes), dtype=torch.bool)
    both = model.losses(scores, offsets, boxes, on_image, targets)
    alone = [model.losses(scores[[i]], offsets[[i]], boxes, on_image[:1], [targets[i]]) for i in range(2)]
    for name in both:
        low, high = sorted(one[name].item() for one in alone)
        assert low < both[name].item() < high  # a mean, weighted by the positives of each


def test_images_of_different_sizes_and_without_objects(model):
    images = [torch.rand(3, 192, 256), torch.rand(3, 100, 120)]
    targets = [{"boxes": torch.tensor([[10.0, 10, 60, 60]]), "labels": torch.tensor([1])}]
    targets.append({"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)})
    for some in (targets, targets[1:] * 2):
        losses = model.train()(images, some)
        assert losses.keys() == {"class", "box"}
        sum(losses.values()).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert sum(losses.values()).item() == 0  # nothing positive, and so no negatives
    found = model.eval()(images)
    for image, one in zip(images, found, strict=True):
        assert {"boxes", "labels", "scores"} == one.keys() and len(one["boxes"])
        assert (one["boxes"][:, 2] <= image.shape[2]).all() and (one["boxes"][:, 3] <= image.shape[1]).all()
        assert (one["scores"].diff() <= 0).all() and one["labels"].min() >= 1


def test_detections_are_the_softmax_of_the_scores(model):
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    scores, offsets, boxes = (part.detach() for part in model.predict(model.preprocess([image]).tensor))
    best = F.softmax(scores[0], dim=1)[:, 1:].max()
    (found,) = model.eval()([image])
    assert found["scores"][0].item() == pytest.approx(best.item())


def test_it_overfits_eight_pictures():
    losses, ap50 = overfitted(SmallSSD(shipped_stages(), CLASSES), lr=0.03)
    assert losses[-1] < 0.2 * losses[0] and ap50 > 0.8
