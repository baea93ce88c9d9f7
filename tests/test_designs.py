"""The pyramid's other designs, which the experiments compare it with."""

import pytest
import torch
import torch.nn.functional as F
from torchvision import models

from experiments import designs, fpn
from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.detectors.fpn import FPNSettings
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.nets.fpn import Pyramid, resnet_stages, tiny_stages
from rcnn_tutorial.nets.rpn import RPN
from tests.detectors.scenes import CLASSES, batch
from tests.nets.rpn_peer import generator
from tests.nets.test_fpn import moves

FIVE = (4, 8, 16, 32, 64)
STRIDES = {
    Pyramid: FIVE, designs.Hierarchy: FIVE, designs.NoLaterals: FIVE, designs.NotSmoothed: FIVE, designs.Images: FIVE,
    designs.Finest: (4,), designs.Single: (8,),
}  # fmt: skip
DETECTORS = [*designs.DESIGNS.values(), designs.NotSmoothedFPN]


def body(design=Pyramid, seed=0):
    """The laptop's network with a pyramid."""
    g = generator(seed)
    return design(tiny_stages(tiny_net(pretrained=True), g), 8, g)


def picture(height=64, width=96):
    return torch.rand(1, 3, height, width, generator=generator())


@pytest.mark.parametrize("design", STRIDES)
def test_maps_of_a_design(design):
    model = body(design)
    maps = model(picture(128, 256))
    assert model.strides == STRIDES[design]
    assert [tuple(found.shape) for found in maps] == [(1, 8, 128 // s, 256 // s) for s in model.strides]
    if len(maps) > 1:
        assert torch.equal(maps[-1], maps[-2][..., ::2, ::2])
    sum(found.square().sum() for found in maps).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_what_has_an_influence_on_a_map(monkeypatch):
    found = {}
    for design in (Pyramid, designs.Hierarchy, designs.NoLaterals):
        model = body(design)
        stages = [stage.detach().requires_grad_() for stage in model.bottom_up(picture())]
        monkeypatch.setattr(model.bottom_up, "forward", lambda _, stages=stages: stages)
        found[design] = [moves(output, stages) for output in model(picture())[:4]]
    assert found[Pyramid] == [[j >= i for j in range(4)] for i in range(4)]
    assert found[designs.Hierarchy] == [[j == i for j in range(4)] for i in range(4)]
    assert found[designs.NoLaterals] == [[False] * 3 + [True]] * 4


def test_the_finest_map_is_that_of_the_whole_pyramid():
    (found,) = body(designs.Finest)(picture())
    assert torch.equal(found, body()(picture())[0])


def test_without_smoothing_the_maps_are_the_sums():
    rough, whole = body(designs.NotSmoothed), body()
    assert {name.split(".")[0] for name, _ in rough.fpn.named_parameters()} == {"laterals"}
    sums = whole.fpn.merge(whole.bottom_up(picture()))
    assert len(sums) == 4 and all(map(torch.equal, rough(picture()), sums))


def test_what_the_maps_of_a_design_read():
    hierarchy, lone, single = (body(design) for design in (designs.Hierarchy, designs.NoLaterals, designs.Single))
    image, layers = picture(), hierarchy.fpn
    stages = hierarchy.bottom_up(image)
    for found, stage, lateral, output in zip(
        hierarchy(image)[:4], stages, layers.laterals, layers.outputs, strict=True
    ):
        assert torch.equal(found, output(lateral(stage)))
    assert len(list(lone.fpn.parameters())) == 10  # one lateral, four outputs
    coarsest = lone.fpn.laterals[3](stages[3])
    for found, output, stride in zip(lone(image), lone.fpn.outputs, (8, 4, 2, 1), strict=False):
        repeated = coarsest.repeat_interleave(stride, 2).repeat_interleave(stride, 3)
        assert torch.allclose(found, output(repeated), rtol=0, atol=1e-6)
    assert torch.equal(single(image)[0], single.fpn.outputs[0](single.fpn.laterals[0](stages[1])))


def test_the_single_map_is_the_one_of_faster_rcnn(monkeypatch):
    assert len(body(designs.Single).bottom_up.stages) == 2
    monkeypatch.setattr(designs.Single, "stage", 2)
    with torch.device("meta"):
        single = designs.Single(resnet_stages(models.resnet50()))
        (found,) = single(torch.zeros(1, 3, 608, 1008))
    assert single.strides == (16,) and found.shape == (1, 256, 608 // 16, 1008 // 16)
    assert len(single.bottom_up.stages) == 3 and single.fpn.laterals[0].in_channels == 1024


@pytest.mark.parametrize("size", [(64, 96), (75, 50)])
def test_maps_of_resized_images(size):
    model, single = body(designs.Images), body(designs.Single)
    single.load_state_dict(model.state_dict())
    maps = model(picture(*size))
    for found, factor in zip(maps, (2, 1, 0.5, 0.25), strict=False):
        small = [round(side * factor) for side in size]
        other = F.interpolate(picture(*size), small, mode="bilinear", antialias=factor < 1)
        assert torch.equal(found, single(other)[0])


def test_stages_serve_several_designs():
    stages = tiny_stages(tiny_net(pretrained=True))
    for design in (designs.Single, designs.Images, Pyramid):
        design(stages, 8)(torch.zeros(1, 3, 64, 64))
    assert len(stages.stages) == 4


@pytest.mark.parametrize("detector", DETECTORS)
def test_each_design_trains_and_detects(detector):
    settings = FPNSettings.tiny(rois=64, least_score=0.0)
    model, (images, targets) = detector(tiny_net(pretrained=True), CLASSES, settings), batch()
    losses = model(images, targets)
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    alone = issubclass(detector, designs.OneMap)
    assert sum(len(cell) for cell in model.rpn.cell_anchors) == 15
    assert len(model.strides) == (1 if alone else 5) and model.head_strides == model.strides[: 1 if alone else 4]
    for one in model.eval()(images):
        assert len(one["boxes"]) == 100 and (one["boxes"] <= torch.tensor([256, 192, 256, 192])).all()


def test_several_filters_read_one_map():
    settings = FPNSettings.tiny(rois=64, least_score=0.0)
    model, (images, targets) = fpn.SeveralFilters(tiny_net(pretrained=True), CLASSES, settings), batch()
    assert [len(cell) for cell in model.rpn.cell_anchors] == [3] * 5 and model.head_strides == (8,)
    assert [head.conv.kernel_size[0] for head in model.rpn.head] == [1, 3, 5, 7, 9]
    losses = model(images, targets)
    sum(losses.values()).backward()
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    assert all(head.conv.weight.grad.any() and head.score.weight.grad.any() for head in model.rpn.head)
    assert all(len(one["boxes"]) == 100 for one in model.eval()(images))


@pytest.mark.parametrize(
    ("size", "detector", "stride", "count", "note"),
    [
        ((800, 1000), designs.FinestFPN, 4, 750_000, "P2 alone of 1000 x 800, 15 at each place"),
        ((800, 1000), designs.SingleFPN, 16, 47_250, "C4 of 1000 x 800"),
        ((800, 1000), designs.SingleFPN, 32, 12_000, "C5 of 1000 x 800"),
        ((600, 1000), designs.FinestFPN, 4, 562_500, "P2 alone of 1000 x 600"),
    ],
)
def test_how_many_anchors(size, detector, stride, count, note):
    settings = detector(tiny_net(pretrained=True), CLASSES, FPNSettings.tiny()).rpn.settings
    found = RPN(1, (stride,), settings)([torch.zeros(1, 1, *(-(-side // stride) for side in size))])
    assert len(found.anchors) == found.logits.shape[1] == sum(found.counts)
    claim("FPN-10", len(found.anchors), count, note=f"anchors on {note}")


def test_the_rate_of_a_design_is_its_own(monkeypatch):
    rates = {}
    monkeypatch.setattr(fpn, "trained", lambda chosen, kind: (kind, chosen.training))
    monkeypatch.setattr(fpn, "tested", lambda kind, training: rates.setdefault(kind, (training.lr, training.seed)))
    results = fpn.designs(seed=4)
    assert list(results) == list(fpn.READ) and len(rates) == 5
    assert {kind: rate for kind, (rate, _) in rates.items()} == {
        kind: 0.02 if kind is designs.FinestFPN else 0.05 for kind in rates
    }
    assert {seed for _, seed in rates.values()} == {4}
