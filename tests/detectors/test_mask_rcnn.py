"""Mask R-CNN: a third branch beside FPN's two, what it learns from, and what it gives."""

from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.data.transforms import flip
from rcnn_tutorial.detectors import load
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.detectors.mask_rcnn import MaskRCNN, MaskRCNNSettings
from rcnn_tutorial.detectors.two_stage import Samples, draw_samples, to_input
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.nets.preprocess import Batch
from rcnn_tutorial.ops.losses import mask_loss
from rcnn_tutorial.ops.masks import cut_masks, paste_masks
from rcnn_tutorial.training import TrainSettings, train
from tests.detectors.scenes import CLASSES, MaskedScenes, batch, scene_masks
from tests.peers import mask_iou
from tests.test_memory import Memory

NONE = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def untrained(seed=0, **changes):
    return MaskRCNN(tiny_net(pretrained=True), CLASSES, MaskRCNNSettings.tiny(**changes), seed=seed)


def masked(count=2, first=0):
    """Images and targets of some scenes, with masks."""
    images, targets = batch(count, first)
    return images, [target | {"masks": scene_masks(first + i)} for i, target in enumerate(targets)]


@cache
def shipped():
    """Not to be changed."""
    return load("mask_rcnn")


# A third branch


def test_the_branch_leaves_class_and_box_as_they_are():
    """Of the same seed both draw the same, in training too."""
    model, (images, targets) = untrained(), masked()
    plain = FPN(tiny_net(pretrained=True), CLASSES, FPNSettings.tiny())
    plain.load_state_dict({name: v for name, v in model.state_dict().items() if not name.startswith("mask_head")})
    losses, fewer = model(images, targets), plain(images, targets)
    same = all(torch.equal(losses[name], value) for name, value in fewer.items())
    claim("MASK-01", condition=set(losses) - set(fewer) == {"mask"}, note="the branch adds one loss to FPN's four")
    assert same and model.generator.get_state().equal(plain.generator.get_state())
    model.settings = plain.settings = replace(model.settings, least_score=0.1)
    found, expected = model.eval()(images), plain.eval()(images)
    same = [one[name].equal(other[name]) for one, other in zip(found, expected, strict=True) for name in other]
    claim("MASK-01", condition=all(same) and len(same) == 6, note="without the branch boxes and classes are bit-equal")
    assert all(one.keys() - other.keys() == {"masks"} for one, other in zip(found, expected, strict=True))
    assert sum(len(one["boxes"]) for one in found) > 10


def test_the_stages_one_by_one_are_forward():
    model, (images, targets) = untrained(min_size=120, max_size=1000), masked(2, first=1)
    state = model.generator.get_state()
    whole = model(images, targets)
    model.generator.set_state(state)
    data, maps = model.maps(images)
    inside = to_input(data, targets)
    said = model.rpn(maps)
    truths = [target["boxes"] for target in inside]
    model.rpn.sample(said.anchors, truths, data.sizes, model.generator)
    samples = draw_samples(model.propose(said, data), inside, data.sizes, model.settings, model.generator)
    positive = [labels > 0 for labels in samples.labels]
    boxes = [own[rows] for own, rows in zip(samples.boxes, positive, strict=True)]
    matched = [own[rows] for own, rows in zip(samples.matched, positive, strict=True)]
    labels = torch.cat([own[rows] for own, rows in zip(samples.labels, positive, strict=True)])
    wanted = model.mask_targets(boxes, matched, inside, data.sizes)
    assert torch.equal(mask_loss(model.mask_logits(maps, boxes), labels, wanted), whole["mask"])
    assert data.sizes != data.originals and len(labels) > 5


@pytest.mark.parametrize(("m", "outputs"), [(14, 15_680), (28, 62_720)])
def test_a_mask_for_each_class(m, outputs):
    classes = ("background", *map(str, range(80)))
    model = MaskRCNN(tiny_net(), classes, MaskRCNNSettings.tiny(mask_head=(1, 4, m)))
    with torch.no_grad():
        masks = model.mask_logits(model.maps([torch.rand(3, 64, 64)])[1], [torch.tensor([[3.0, 5, 40, 50]])])
    assert masks.shape == (1, 80, m, m)
    claim("MASK-04", masks[0].numel(), outputs, note=f"numbers for a region of 80 classes at m = {m}")


def test_the_published_head():
    settings = MaskRCNNSettings()
    assert settings.mask_head == (4, 256, 28) and settings.training.steps == 160_000 and settings.rois == 512
    model = MaskRCNN(tiny_net(), ("background", *map(str, range(80))), settings)
    shapes = [tuple(parameter.shape) for name, parameter in model.mask_head.named_parameters() if "weight" in name]
    assert shapes == [(256, 256, 3, 3)] * 4 + [(256, 256, 2, 2), (80, 256, 1, 1)]
    with pytest.raises(ValueError, match="mask_head: expected an even number of cells, got 27"):
        MaskRCNN(tiny_net(), CLASSES, MaskRCNNSettings.tiny(mask_head=(1, 4, 27)))


# The loss


def questions(rois=5, classes=4, m=6):
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(rois, classes, m, m, generator=g, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(1, classes + 1, (rois,), generator=g)
    return logits, labels, (torch.rand(rois, m, m, generator=g) > 0.5).double()


def test_the_loss_is_the_cross_entropy_of_the_true_class_s_mask():
    logits, labels, targets = questions()
    loss = mask_loss(logits, labels, targets)
    by_hand = 0.0
    for own, label, target in zip(logits.detach(), labels.tolist(), targets, strict=True):
        p = 1 / (1 + (-own[label - 1]).exp())
        by_hand += -(target * p.log() + (1 - target) * (1 - p).log()).sum().item() / 36 / 5
    claim("MASK-05", loss.item(), by_hand, tol=1e-12, note="five regions of 6 x 6 cells, cell by cell")
    loss.backward()
    others = torch.ones(5, 4, dtype=torch.bool).scatter(1, labels[:, None] - 1, False)
    claim("MASK-05", logits.grad[others].abs().max().item(), 0, note="largest gradient on the other classes' masks")
    assert (logits.grad[~others] != 0).all()


def test_masks_of_classes_do_not_compete():
    logits, labels, targets = questions()
    raised = logits.detach().clone()
    other = labels % 4  # the class after the true one
    raised[torch.arange(5), other] += 10
    change = mask_loss(raised, labels, targets) - mask_loss(logits, labels, targets)
    claim("MASK-06", change.item(), 0, note="change of the loss where another class's mask is raised by 10")
    softmax = [F.cross_entropy(each, (labels - 1)[:, None, None].expand(5, 6, 6)).item() for each in (logits, raised)]
    claim("MASK-06", condition=softmax[1] > softmax[0] + 5, note="with a softmax over the classes the loss rises")


def test_the_loss_without_regions_is_0_and_has_a_gradient():
    logits, labels, targets = questions(rois=0)
    loss = mask_loss(logits, labels, targets)
    loss.backward()
    assert loss.item() == 0 and logits.grad.shape == logits.shape


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda o, y, t: (o[:, 0], y, t), r"logits: expected \(R, K, m, m\)"),
        (lambda o, y, t: (o, y - 1, t), "labels: expected 1 to 4, got 0 to 3"),
        (lambda o, y, t: (o, y[:3], t), "labels: expected .5,."),
        (lambda o, y, t: (o, y, t[:, :3]), r"targets: expected \(5, 6, 6\), as the logits"),
    ],
)
def test_a_loss_of_something_else_is_refused(change, words):
    logits, _, targets = questions()
    with pytest.raises(ValueError, match=words):
        mask_loss(*change(logits, torch.tensor([1, 2, 3, 4, 1]), targets))


def test_the_loss_is_a_sum_and_positive_regions_alone_have_masks():
    model, (images, targets) = untrained(), masked()
    losses = model(images, targets)
    claim("MASK-07", condition=set(losses) == {"objectness", "rpn_box", "class", "box", "mask"},
          note="the losses that are added: FPN's four and that of the masks")  # fmt: skip
    data, maps = model.maps(images)
    inside = to_input(data, targets)
    boxes = torch.tensor([[5.0, 5, 60, 60]]).expand(2, 4, 4)
    none = Samples(boxes, torch.tensor([[0, 0, -1, -1], [0, 0, 0, 0]]), torch.full((2, 4), -1))
    loss = model.roi_losses(data, maps, none, inside)["mask"]
    claim("MASK-07", loss.item(), 0, note="loss of the masks where no region is positive")
    loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.mask_head.parameters())
    one = none._replace(
        labels=torch.tensor([[0, 2, -1, -1], [0, 0, 0, 0]]), matched=torch.tensor([[-1, 0, -1, -1], [-1] * 4])
    )
    alone = mask_loss(
        model.mask_logits(maps, [boxes[0, 1:2], boxes[0, :0]]),
        torch.tensor([2]),
        cut_masks(targets[0]["masks"][:1], boxes[0, 1:2], model.mask_size),
    )
    assert torch.allclose(model.roi_losses(data, maps, one, inside)["mask"], alone) and alone > 0


def test_the_branch_maps_pixels_to_pixels():
    model = untrained()
    layers = [type(layer).__name__ for layer in model.mask_head.modules() if list(layer.parameters(recurse=False))]
    claim("MASK-08", condition=set(layers) == {"Conv2d", "ConvTranspose2d"}, agrees="differs",
          note="its layers are convolutions, and none is fully connected")  # fmt: skip
    features = torch.randn(1, 64, 7, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model.mask_head(F.pad(features, (3, 3, 3, 3)))
        moved = model.mask_head(F.pad(features, (4, 2, 3, 3)))
    gap = (moved[..., 6:-4, 8:-2] - whole[..., 6:-4, 6:-4]).abs().max().item()
    claim("MASK-08", condition=gap < 1e-4, note="features moved by a cell move the mask by two")
    assert (moved - whole).abs().max() > 0.1


# What it learns from


def test_targets_follow_the_boxes_into_the_input():
    """In a picture of twice the size, as in the picture itself; each region has the mask of its own object."""
    model, (_, targets) = untrained(), masked(1, first=1)
    (target,) = targets
    boxes, matched = target["boxes"] + torch.tensor([0, 0, 3.0, 2.0]), torch.arange(len(target["boxes"])).flip(0)
    same = model.mask_targets([boxes], [matched], targets, [(192, 256)])
    assert torch.equal(same, cut_masks(target["masks"].flip(0), boxes, model.mask_size)) and len(boxes) > 2
    doubled = model.mask_targets([boxes * 2], [matched], targets, [(384, 512)])
    assert (doubled - same).abs().max() < 0.3 and (doubled - same).abs().mean() < 0.03
    assert (doubled.mean((1, 2)) - same.mean((1, 2))).abs().max() < 0.02


def test_a_mirrored_picture_has_mirrored_targets():
    """Red where an augmentation moves boxes and leaves masks."""
    model, (images, targets) = untrained(), masked(1, first=1)
    mirrored = flip(images[0], targets[0])[1]
    matched = [torch.arange(len(targets[0]["boxes"]))]
    first, second = (model.mask_targets([t["boxes"]], matched, [t], [(192, 256)]) for t in (targets[0], mirrored))
    assert torch.allclose(second, first.flip(2), atol=1e-5)


def test_objects_without_masks_are_named():
    model, (images, targets) = untrained(), masked()
    del targets[1]["masks"]
    words = r"targets\[1\]: expected masks of its objects, which Mask R-CNN learns from, got \['boxes', 'labels'\]"
    with pytest.raises(ValueError, match=words):
        model(images, targets)


@pytest.mark.parametrize("masks", [{}, {"masks": torch.zeros(0, 192, 256, dtype=torch.bool)}])
def test_images_without_objects_need_no_masks(masks):
    model, (images, targets) = untrained(), masked()
    losses = model(images, [NONE | masks, targets[1]])
    assert losses["mask"] > 0
    losses = model(images, [NONE | masks] * 2)
    sum(losses.values()).backward()
    assert losses["mask"] == 0 and all(p.grad is not None for p in model.mask_head.parameters())


def test_objects_of_one_pixel_and_masks_beyond_their_boxes_are_learnt_from():
    model, (images, _) = untrained(), masked(1)
    masks = torch.zeros(2, 192, 256, dtype=torch.bool)
    masks[0, 50, 60] = True
    masks[1, 20:150, 30:200] = True  # leaves the box on all sides
    target = {"boxes": torch.tensor([[60.0, 50, 61, 51], [90, 80, 130, 120]]), "labels": torch.tensor([1, 2])}
    losses = model(images, [target | {"masks": masks}])
    assert losses["mask"] > 0 and all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.mask_head.parameters())


def test_300_objects():
    model, (images, _) = untrained(), masked(1)
    corner = torch.stack(torch.meshgrid(torch.arange(20.0) * 12, torch.arange(15.0) * 12, indexing="ij"), -1).view(
        -1, 2
    )
    boxes = torch.cat((corner, corner + 12), dim=1)
    y, x = torch.meshgrid(torch.arange(192) + 0.5, torch.arange(256) + 0.5, indexing="ij")
    x1, y1, x2, y2 = (boxes[:, i, None, None] for i in range(4))
    target = {"boxes": boxes, "labels": torch.ones(300, dtype=torch.int64)}
    target["masks"] = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    losses = model(images, [target])
    assert 0 < losses["mask"] < 10
    found = model.mask_targets([boxes], [torch.arange(300)], [target], [(192, 256)])
    assert torch.allclose(found[:, 1:-1, 1:-1], torch.ones(300, 12, 12)) and found.min() > 0.5


# What it gives


def test_the_mask_head_learns_alone():
    """A few steps at a high rate, on the shipped FPN: its loss falls, and nothing else moves."""
    model, fpn = untrained(rois=64), load("fpn").state_dict()
    model.load_state_dict(fpn, strict=False)
    model.requires_grad_(False).mask_head.requires_grad_(True)
    steps = TrainSettings(12, batch_size=2, lr=0.25, warmup=3, clip_norm=10.0)
    losses = train(model, MaskedScenes(2), steps, progress=False).losses["mask"]
    assert sum(losses[-3:]) < 0.85 * sum(losses[:3])
    assert all(torch.equal(value, fpn[name]) for name, value in model.state_dict().items() if name in fpn)


def test_masks_cover_their_objects_better_than_the_boxes():
    """In the true boxes, of scenes that were not trained on; a box all filled has an IoU of 0.53 with its object."""
    model, (images, targets), covered, filled = shipped(), masked(6), [], []
    with torch.no_grad():
        data, maps = model.maps(images)
        said = [target | {"scores": torch.ones(len(target["labels"]))} for target in targets]
        for one, target in zip(model.add_masks(data, maps, said), targets, strict=True):
            assert one["masks"].dtype == torch.bool and one["masks"].shape == (len(target["boxes"]), 1, 192, 256)
            covered.append(mask_iou(one["masks"], target["masks"]).diagonal())
            whole = paste_masks(torch.ones(len(target["boxes"]), 4, 4), target["boxes"], (192, 256))
            filled.append(mask_iou(whole, target["masks"]).diagonal())
    covered, filled = torch.cat(covered).mean(), torch.cat(filled).mean()
    assert covered > filled + 0.06 and filled < 0.55


def test_a_detection_has_the_mask_of_its_class():
    model, (images, _) = shipped(), masked(1)
    with torch.no_grad():
        data, maps = model.maps(images)
        box = torch.tensor([[40.0, 40, 100, 110]])
        logits = model.mask_logits(maps, [box])
        for label in (1, 4):
            said = [{"boxes": box, "labels": torch.tensor([label]), "scores": torch.ones(1)}]
            (one,) = model.add_masks(data, maps, said)
            assert torch.equal(one["masks"][0, 0], paste_masks(logits[:, label - 1].sigmoid(), box, (192, 256))[0])


def test_masks_are_those_of_the_picture_as_it_was_given():
    model, (images, _) = untrained(min_size=120, max_size=1000, least_score=0.01), masked(2)
    images[1] = images[1][:, :150, :200]
    for image, one in zip(images, model.eval()(images), strict=True):
        assert one["masks"].shape == (len(one["boxes"]), 1, *image.shape[1:]) and len(one["boxes"]) > 0


def test_no_detections():
    model, (images, _) = untrained(), masked(2)
    model.settings = replace(model.settings, least_score=1.0)
    for one in model.eval()(images):
        assert one["masks"].shape == (0, 1, 192, 256) and one["masks"].dtype == torch.bool and not len(one["scores"])


def test_other_proposals_have_masks_too():
    model, (images, targets) = shipped(), masked(1)
    (one,) = model.eval()(images, proposals=[targets[0]["boxes"]])
    assert len(one["masks"]) == len(one["boxes"]) > 0
    (none,) = model(images, proposals=[torch.zeros(0, 4)])
    assert none["masks"].shape == (0, 1, 192, 256)


def test_a_hundred_masks_at_the_published_size_take_little_memory():
    """As booleans 102 MiB, and less than 48 MiB beside them; as probabilities they alone would have 407 MiB."""
    model = untrained()
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(100, 2, generator=g) * 600
    boxes = torch.cat((corner, corner + 150), dim=1)
    masks = torch.rand(100, 28, 28, generator=g)
    with Memory() as memory:
        found = paste_masks(masks, boxes, (800, 1333))
    assert found.any(dim=(1, 2)).all() and memory.most < 150e6, f"{memory.most / 1e6:.0f} MB"
    data = Batch(torch.zeros(1, 3, 800, 1333), [(800, 1333)], [(800, 1333)])
    maps = [torch.zeros(1, 64, 800 // stride, 1333 // stride) for stride in model.strides]
    said = [{"boxes": boxes, "labels": torch.ones(100, dtype=torch.int64), "scores": torch.ones(100)}]
    with torch.no_grad(), Memory() as memory:
        (one,) = model.add_masks(data, maps, said)
    assert one["masks"].shape == (100, 1, 800, 1333) and memory.most < 150e6, f"{memory.most / 1e6:.0f} MB"
