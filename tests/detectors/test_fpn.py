from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.ops import MultiScaleRoIAlign, roi_pool

from experiments.fpn import FPNOfSeparateHeads
from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.nets.backbones import alexnet, tiny_net
from rcnn_tutorial.nets.rpn import RPN
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.training import TrainSettings, train
from rcnn_tutorial.training.settings import learning_rate
from tests.detectors.scenes import CLASSES, Scenes, batch
from tests.detectors.test_two_stage import EMPTY, HEAD, ODD, equal, gradients, total
from tests.nets.rpn_peer import generator, random

STRIDES = (4, 8, 16, 32, 64)


def untrained(seed=0, **changes):
    """A detector on the shipped backbone, with the laptop's settings and these changes."""
    return FPN(tiny_net(pretrained=True), CLASSES, FPNSettings.tiny(**changes), seed=seed)


@cache
def trained():
    """A detector after 40 steps on 2 scenes, and the record of them; not to be changed."""
    model = untrained(rois=64)
    steps = TrainSettings(40, batch_size=2, lr=0.02, schedule="cosine", warmup=10, clip_norm=10.0)
    return model, train(model, Scenes(2), steps, progress=False)


def test_the_settings_are_the_papers():
    settings = FPNSettings()
    rpn, training = settings.rpn, settings.training
    rates = [learning_rate(step, training) for step in (0, 59_999, 60_000, 79_999)]
    claim(
        "FPN-14",
        condition=(settings.min_size, rpn.samples, settings.rois) == (800, 256, 512)
        and (training.batch_size, training.momentum, training.weight_decay) == (16, 0.9, 1e-4)
        and rates == pytest.approx([0.02, 0.02, 0.002, 0.002]),
        note="shorter side 800; 256 anchors and 512 RoIs per image; 16 images, rate 0.02, then 0.002; 0.9, 1e-4",
    )
    two = settings.for_batch(2).training
    claim("FPN-14", two.lr, 0.0025, tol=1e-12, note="rate for 2 images per mini-batch")
    assert (two.batch_size, two.steps, two.milestones) == (2, 720_000, (480_000, 640_000))
    assert settings.for_batch(16) == settings and replace(settings.for_batch(2), training=training) == settings
    sizes = settings.channels, settings.s0, settings.output_size, settings.hidden
    assert sizes == (256, 224, 7, 1024)
    model = untrained(min_size=settings.min_size, max_size=settings.max_size)
    assert model.preprocess.new_size((480, 640)) == (800, 1066) and model.preprocess.new_size((300, 900))[1] == 1333


def test_other_mini_batches_see_as_many_images():
    settings = FPNSettings.tiny(training=TrainSettings(600, batch_size=4, lr=0.05, warmup=150, milestones=(400,)))
    for images in (1, 2, 8, 64):
        own = settings.for_batch(images).training
        seen = [own.batch_size * steps for steps in (own.warmup, *own.milestones, own.steps)]
        assert seen == pytest.approx([600, 1600, 2400], rel=0.1) and own.lr == pytest.approx(0.05 * images / 4)


def test_anchors_that_cross_the_border_are_trained():
    rpn = RPN(1, STRIDES, FPNSettings().rpn)
    anchors = rpn([torch.zeros(1, 1, 128 // stride, 128 // stride) for stride in STRIDES]).anchors
    state = rpn.label(anchors, [torch.tensor([[0.0, 0, 50, 60]])], [(128, 128)]).state
    crossing = (anchors < 0).any(1) | (anchors > 128).any(1)
    assert (state[0, crossing] == 1).any() and (state[0, crossing] == 0).any() and not rpn.settings.inside


def test_one_scale_of_anchors_for_each_level():
    rpn = RPN(1, STRIDES, FPNSettings().rpn)
    sizes = [(25, 33), (13, 17), (7, 9), (4, 5), (2, 3)]
    found = rpn([torch.zeros(1, 1, *size) for size in sizes])
    shapes, on_own_map = set(), []
    for anchors, (height, width), stride in zip(found.anchors.split(found.counts), sizes, STRIDES, strict=True):
        sides, centers = anchors[:, 2:] - anchors[:, :2], (anchors[:, :2] + anchors[:, 2:]) / 2
        claim("FPN-09", (sides.prod(1).sqrt() / stride).mean().item(), 8, tol=1e-5, note=f"side / stride, {stride} px")
        ratios = (sides[:, 1] / sides[:, 0]).view(-1, 3)
        assert torch.allclose(ratios, torch.tensor([0.5, 1, 2]).expand_as(ratios)) and len(ratios) == height * width
        shapes |= {tuple(side) for side in sides.mul(16).round().tolist()}
        places = centers.view(height, width, 3, 2)
        x, y = (stride * (torch.arange(count) + 0.5) for count in (width, height))
        on_own_map.append(
            torch.allclose(places[..., 0], x[:, None].expand(height, width, 3), atol=1e-3)
            and torch.allclose(places[..., 1], y[:, None, None].expand(height, width, 3), atol=1e-3)
        )
    claim("FPN-09", condition=on_own_map == [True] * 5, note="anchors of each level about the cells of its own map")
    claim("FPN-09", len(shapes), 15, note="shapes of anchors")
    claim("FPN-09", len(rpn.cell_anchors[0]), 3, note="anchors at each place")
    own = untrained().rpn.cell_anchors
    assert [cell.shape for cell in own] == [(3, 4)] * 5
    means = [(cell[:, 2:] - cell[:, :2]).prod(1).sqrt().mean().item() for cell in own]
    assert means == pytest.approx([16, 32, 64, 128, 256])


@pytest.mark.parametrize(("size", "count"), [((800, 1000), 199_974), ((600, 1000), 150_111)])
def test_how_many_anchors(size, count):
    rpn = RPN(1, STRIDES, untrained().rpn.settings)
    found = rpn([torch.zeros(1, 1, *(-(-side // stride) for side in size)) for stride in STRIDES])
    assert len(found.anchors) == found.logits.shape[1] == sum(found.counts)
    claim("FPN-10", len(found.anchors), count, note=f"anchors on P2 to P6 of {size[1]} x {size[0]}")


def test_no_rule_ties_an_object_to_a_level():
    rpn = RPN(1, STRIDES, replace(FPNSettings().rpn, ratios=(1.0,)))
    found = rpn([torch.zeros(1, 1, 256 // stride, 256 // stride) for stride in STRIDES])
    size = torch.tensor([[256, 256]])
    between = [torch.tensor([[82.0, 92, 114, 156]])]  # 32 x 64: as near to 32 x 32 as to 64 x 64
    state = rpn.label(found.anchors, between, size).state
    positive = [bool((part == 1).any()) for part in state.split(found.counts, dim=1)]
    claim("FPN-12", condition=positive == [True, True] + [False] * 3, note="a 32 x 64 object is positive on P2 and P3")
    own = [torch.tensor([[68.0, 68, 132, 132]])]
    state = rpn.label(found.anchors, own, size).state
    assert [bool((part == 1).any()) for part in state.split(found.counts, dim=1)] == [False, True] + [False] * 3

    order = torch.randperm(len(found.anchors), generator=generator())
    truths = [torch.cat((*between, *own, torch.tensor([[3.0, 5, 250, 240], [20, 30, 36, 44]])))]
    states = [rpn.label(anchors, truths, size).state for anchors in (found.anchors, found.anchors[order])]
    same = torch.equal(states[0][:, order], states[1])
    claim("FPN-12", condition=same, note="labels depend on the anchor, not on the level that it lies on")


def regions(count, images=3, side=640, seed=0):
    """(B, count, 4) of 2 to `side` px in random order, float64."""
    g = generator(seed)
    sizes = 2 * (side / 2) ** torch.rand(images, count, 2, generator=g, dtype=torch.float64)
    corner = torch.rand(images, count, 2, generator=g, dtype=torch.float64) * (side - sizes)
    return torch.cat((corner, corner + sizes), dim=2)


def pyramid_maps(images=3, channels=4, side=640):
    """P2 to P6 at random, each a leaf."""
    return [
        random(images, channels, side // stride, side // stride, seed=stride).requires_grad_() for stride in STRIDES
    ]


@pytest.mark.parametrize("s0", [224.0, 56.0])
def test_pooling_equals_torchvision(s0):
    model, maps, boxes = untrained(s0=s0), pyramid_maps(), regions(60)
    names = [str(i) for i in range(4)]
    peer = MultiScaleRoIAlign(names, 7, 2, canonical_scale=s0)
    expected = peer(dict(zip(names, maps, strict=False)), list(boxes), [(640, 640)] * 3)
    found = model.pool(maps, boxes)
    assert found.shape == (180, 4, 7, 7) and model.levels(boxes).unique().tolist() == [2, 3, 4, 5]
    assert torch.allclose(found, expected, rtol=0, atol=1e-9) and found.std() > 0.1
    wanted = random(*found.shape, seed=5)
    own, other = (torch.autograd.grad((each * wanted).sum(), maps[:4]) for each in (found, expected))
    for mine, others in zip(own, other, strict=True):
        assert torch.allclose(mine, others, rtol=0, atol=1e-9) and mine.any()


@pytest.mark.parametrize("ratio", [None, 2])
def test_every_region_is_read_from_its_own_level(ratio):
    model, maps, boxes = untrained(s0=112.0, sampling_ratio=ratio), pyramid_maps(), regions(12)
    found = model.pool(maps, boxes).unflatten(0, (3, 12))
    assert model.levels(boxes).unique().tolist() == [2, 3, 4, 5]
    for i, j in ((i, j) for i in range(3) for j in range(12)):
        side = (boxes[i, j, 2:] - boxes[i, j, :2]).prod().sqrt()
        k = sum(side >= bound for bound in (56, 112, 224))
        own = [boxes[i, j : j + 1]]
        assert torch.allclose(found[i, j], model.pool_map(maps[k][i : i + 1], own, STRIDES[k])[0], rtol=0, atol=1e-9)
        if ratio is None:
            assert torch.equal(found[i, j], roi_pool(maps[k][i : i + 1], own, 7, 1 / STRIDES[k])[0])


def test_the_order_of_regions_does_not_count():
    model, maps, boxes = untrained(channels=4, s0=224.0).double(), pyramid_maps(), regions(40)
    order = torch.randperm(40, generator=generator())
    model.head.score.weight.data *= 100
    with torch.no_grad():
        scores, offsets = model.head(model.pool(maps, boxes))
        others = model.head(model.pool(maps, boxes[:, order]))
        alone = torch.cat([model.head(model.pool(maps, boxes[:, j : j + 1]))[0] for j in range(40)])
    differences = [
        (own.unflatten(0, (3, 40))[:, order] - other.unflatten(0, (3, 40))).abs().max().item()
        for own, other in zip((scores, offsets), others, strict=True)
    ]
    alone = alone.unflatten(0, (40, 3)).transpose(0, 1).flatten(0, 1)
    assert scores.std() > 0.01 and torch.allclose(alone, scores, rtol=0, atol=1e-9)
    claim("FPN-11", max(differences), 0, tol=1e-9, note="one head for all levels: outputs of regions in another order")


def test_levels_without_regions():
    model, maps = untrained(s0=224.0), pyramid_maps(images=2)
    small = regions(9, images=2)
    small[..., 2:] = small[..., :2] + 30
    found = model.pool(maps, small)
    expected = MultiScaleRoIAlign(["0"], 7, 2)({"0": maps[0]}, list(small), [(640, 640)] * 2)
    assert torch.allclose(found, expected, rtol=0, atol=1e-9)
    reached = gradients(found.sum(), maps)
    assert reached == [True] + [False] * 4
    none = model.pool(maps, small[:, :0])
    assert none.shape == (0, 4, 7, 7) and not any(gradients(none.sum(), maps))
    scores, offsets = untrained(channels=4).double().head(none)
    assert scores.shape == (0, 7) and offsets.shape == (0, 6, 4)


def test_the_coarsest_map_is_for_the_rpn_alone(monkeypatch):
    model, (images, targets) = untrained(rois=1000, share=1.0, s0=40.0), batch()
    model.rpn.settings = replace(model.rpn.settings, samples=50_000)  # all of them, in both stages
    data, maps = model.maps(images)
    leaves = [map.detach().requires_grad_() for map in maps]
    monkeypatch.setattr(model, "maps", lambda _: (data, leaves))
    targets[0] = {"boxes": torch.tensor([[0.0, 0, 256, 192], [9, 9, 100, 99]]), "labels": torch.tensor([1, 2])}
    losses = model(images, targets)
    head, rpn = (gradients(total(losses, names), leaves) for names in (HEAD, losses.keys() - HEAD))
    claim("FPN-08", condition=head == [True] * 4 + [False], note="the head's losses reach P2 to P5, and not P6")
    claim("FPN-08", condition=rpn == [True] * 5, note="the RPN's reach P2 to P6")
    boxes = regions(50, images=2, side=256).float()
    assert (boxes[..., 2:] - boxes[..., :2]).prod(-1).max() > 160**2  # large enough for P6, if it were one of them
    pooled = [model.pool([*leaves[:4], last], boxes) for last in (leaves[4], leaves[4] * float("nan"))]
    claim("FPN-08", condition=torch.equal(*pooled), note="P6 has no influence on pooled features")
    for map in leaves[:4]:
        assert not torch.equal(model.pool([each + (each is map) for each in leaves], boxes), pooled[0])


def test_images_of_several_sizes():
    model = untrained(rois=64, least_score=0.0)
    images = [torch.rand(3, *size, generator=generator()) for size in ((192, 256), (60, 101), (20, 33), (130, 64))]
    boxes = [torch.tensor([[1.0, 2, 18, 15]]), torch.tensor([[20.0, 3, 90, 55], [0, 0, 9, 9]])]
    targets = [{"boxes": each, "labels": torch.ones(len(each), dtype=torch.int64)} for each in (*boxes, *boxes[:1])]
    losses = model(images, [*targets, EMPTY])
    total(losses).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    for image, one in zip(images, model.eval()(images), strict=True):
        height, width = image.shape[1:]
        assert len(one["boxes"]) and (one["boxes"] <= torch.tensor([width, height] * 2)).all()
        assert (one["boxes"] >= 0).all() and one["scores"].isfinite().all()


@pytest.mark.parametrize("size", [(8, 8), (20, 33), (9, 300)])
def test_small_images(size):
    model, image = untrained(rois=16, least_score=0.0), torch.rand(3, *size, generator=generator())
    losses = model([image], [{"boxes": torch.tensor([[1.0, 2, 7, 8]]), "labels": torch.tensor([3])}])
    total(losses).backward()
    assert all(loss.isfinite() for loss in losses.values()) and losses["box"] > 0
    (found,) = model.eval()([image])
    assert len(found["boxes"]) and (found["boxes"] <= torch.tensor([size[1], size[0]] * 2)).all()


@pytest.mark.parametrize("name", ODD)
def test_odd_objects(name):
    model, (images, _) = untrained(rois=64), batch(2)
    boxes = ODD[name]
    losses = model(images, [{"boxes": boxes, "labels": torch.arange(len(boxes)) % 6 + 1}, EMPTY])
    assert all(loss.isfinite() for loss in losses.values()) and losses["rpn_box"] > 0 < losses["box"]
    total(losses).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_images_without_objects_or_proposals():
    model, (images, targets) = untrained(rois=64), batch()
    for own in ([EMPTY, EMPTY], [EMPTY, targets[1]]):
        model.zero_grad()
        losses = model(images, own)
        objects = own[1] is not EMPTY
        assert (losses["rpn_box"] > 0) == (losses["box"] > 0) == objects and losses["objectness"] > 0 < losses["class"]
        total(losses).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    model.rpn.settings = replace(model.rpn.settings, least_side=1e4)
    losses = model(images, [EMPTY, EMPTY])
    assert losses["class"] == losses["box"] == 0 < losses["objectness"]
    total(losses).backward()
    assert [len(one["boxes"]) for one in model.eval()(images)] == [0, 0]


def test_the_seed_decides():
    (images, targets), models = batch(), [untrained(seed, rois=64) for seed in (0, 0, 1)]
    first, again, other = (dict(model.named_parameters()) for model in models)
    losses = [[model(images, targets) for _ in range(2)] for model in models]
    for name, value in first.items():
        assert torch.equal(value, again[name])
        shipped = name.startswith(("body.bottom_up.stem", "body.bottom_up.stages.0", "body.bottom_up.stages.1"))
        assert torch.equal(value, other[name]) == (shipped or name.endswith("bias")), name
    for one, two, three in zip(*losses, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)
        assert all(not torch.equal(one[name], three[name]) for name in ("objectness", "class"))


def test_a_residual_network_keeps_its_norms_and_first_stage():
    torch.manual_seed(0)
    model = FPN(resnet18(), CLASSES, FPNSettings.tiny(rois=32, least_score=0.0))
    assert model.strides == STRIDES and model.preprocess.std == (0.229, 0.224, 0.225)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    before = {name: value.clone() for name, value in model.named_buffers()}
    image, target = torch.rand(3, 96, 80, generator=generator()), {"boxes": torch.tensor([[30.0, 20, 55, 45]])}
    total(model([image], [target | {"labels": torch.tensor([2])}])).backward()
    parts = (model.body.bottom_up.stem, *model.body.bottom_up.stages)
    assert [any(p.grad is not None for p in part.parameters()) for part in parts] == [False, False, True, True, True]
    assert all(p.grad.any() for part in (model.body.fpn, model.rpn, model.head) for p in part.parameters())
    assert before and all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert len(model.eval()([image])[0]["boxes"])
    assert FPN(tiny_net(), CLASSES, FPNSettings.tiny()).preprocess.std == (1, 1, 1)


def test_one_head_for_each_map():
    settings, (images, targets) = FPNSettings.tiny(rois=32), batch()
    model = FPNOfSeparateHeads(tiny_net(pretrained=True), CLASSES, settings)
    losses, weights = model(images, targets), [head.offsets.weight for head in model.rpn.head]
    assert len(weights) == 5 and any(gradients(losses["rpn_box"], weights))
    total(losses).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="scales: expected as many for each of 5 maps"):
        untrained(rpn=replace(FPNSettings.tiny().rpn, scales=((16,), (32,))))
    with pytest.raises(ValueError, match="images: expected at least 1, got 0"):
        FPNSettings().for_batch(0)


def test_other_networks_are_refused():
    for net in (alexnet(2), tiny_net(norm="batch")):
        with pytest.raises(ValueError, match="net: expected `tiny_net` without normalisations"):
            FPN(net, CLASSES, FPNSettings.tiny())
    with pytest.raises(ValueError, match="net: expected a ResNet of torchvision, a `tiny_net` or stages, got Identity"):
        FPN(nn.Identity(), CLASSES)


def test_two_scenes_are_learnt_by_heart():
    model, history = trained()
    assert sum(history.total[-5:]) < 0.5 * sum(history.total[:5])
    for name in ("objectness", "class"):
        assert sum(history.losses[name][-5:]) < 0.4 * sum(history.losses[name][:5]), name
    images, targets = batch()
    recall = []
    for target, found in zip(targets, model(images), strict=True):
        iou = box_iou(target["boxes"], found["boxes"]) * (target["labels"][:, None] == found["labels"])
        recall += (iou.amax(1) > 0.5).tolist()
    assert sum(recall) >= 0.5 * len(recall)


def test_an_image_is_detected_alone_as_in_a_batch():
    model, (images, _) = deepcopy(trained()[0]), batch()
    together = model(images)
    assert sum(len(one["boxes"]) for one in together) > 5
    assert equal([model([image])[0] for image in images], together, 1e-3)
    assert equal(model(images, proposals=model.proposals(images)), together, 1e-2)
