from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision import models
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.poolers import LevelMapper

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.course.profile import multiply_adds
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.nets.fpn import (
    FeaturePyramid,
    Pyramid,
    level_of,
    resnet_stages,
    roi_levels,
    tiny_stages,
    upsample,
)
from rcnn_tutorial.nets.resnet import FrozenBatchNorm2d
from tests import strategies
from tests.nets.rpn_peer import generator, random
from tests.nets.test_resnet import trained

WIDTHS = (3, 5, 6, 4)
SIZES = {
    "even": [(16, 24), (8, 12), (4, 6), (2, 3)],
    "odd": [(75, 50), (38, 25), (19, 13), (10, 7)],
    "odd at every step": [(9, 17), (5, 9), (3, 5), (2, 3)],
    "one cell": [(1, 3), (1, 2), (1, 1), (1, 1)],
}


def stages(sizes, widths=WIDTHS, images=2):
    """Maps like those of a network, each a leaf."""
    pairs = zip(widths, sizes, strict=True)
    return [random(images, width, *size, seed=i).requires_grad_() for i, (width, size) in enumerate(pairs)]


def pyramid(channels=4, spread=True):
    """A pyramid in float64, its biases not 0."""
    fpn = FeaturePyramid(WIDTHS, channels, generator=generator()).double()
    for name, value in fpn.named_parameters():
        if spread and name.endswith("bias"):
            value.data = random(*value.shape, seed=7)
    return fpn


def moves(map, maps):
    """Which of the maps have an influence on a map."""
    found = torch.autograd.grad(map.square().sum(), maps, allow_unused=True, retain_graph=True)
    return [gradient is not None and bool(gradient.any()) for gradient in found]


NARROW = {"width_per_group": 4}  # inside of a block: quicker, and the channels of the maps are the same


@pytest.mark.parametrize(
    ("name", "changes"), [("resnet18", {}), ("resnet34", {}), ("resnet50", NARROW), ("resnet101", NARROW)]
)
def test_stages_of_a_residual_network_equal_torchvision(name, changes):
    net = trained(getattr(models, name)(weights=None, **changes))
    layers = {f"layer{i + 1}": str(i) for i in range(4)}
    image = random(1, 3, 40, 75)
    with torch.no_grad():
        expected = list(IntermediateLayerGetter(net, layers)(image).values())
        bottom_up = resnet_stages(net).train()
        found = bottom_up(image)
    assert bottom_up.strides == (4, 8, 16, 32)
    assert bottom_up.channels == tuple(each.shape[1] for each in expected)
    for own, other in zip(found, expected, strict=True):
        assert torch.allclose(own, other, rtol=1e-9, atol=1e-9) and own.std() > 0.1
    kinds = [type(module) for module in bottom_up.modules()]
    assert nn.BatchNorm2d not in kinds and FrozenBatchNorm2d in kinds


def test_sizes_and_costs_of_the_published_network():
    with torch.device("meta"):
        net = models.resnet50()
        body = Pyramid(resnet_stages(net))
        sizes = [tuple(each.shape[:0:-1]) for each in body.bottom_up(torch.zeros(1, 3, 800, 1024))]
        rounded = [tuple(each.shape[-2:]) for each in body(torch.zeros(1, 3, 800, 1000))]
    expected = [(256, 200, 256), (128, 100, 512), (64, 50, 1024), (32, 25, 2048)]
    claim("FPN-01", condition=sizes == expected, note="C2 to C5 of 1024 x 800: 256 x 200, 128 x 100, 64 x 50, 32 x 25")
    assert rounded == [(200, 250), (100, 125), (50, 63), (25, 32), (13, 16)]

    added = [sum(p.numel() for p in layers.parameters()) for layers in (body.fpn.laterals, body.fpn.outputs)]
    for count, published, note in zip(
        (*added, sum(added)), (984_064, 2_360_320, 3_344_384), ("laterals", "outputs", "both"), strict=True
    ):
        claim("FPN-05", count, published, note=f"parameters of the {note}, ResNet-50")
    trunk = sum(m.weight.numel() for m in body.bottom_up.modules() if isinstance(m, nn.Conv2d))
    claim("FPN-05", trunk, 23_454_912, note="weights of the trunk's convolutions")
    costs = multiply_adds(body, 1, 3, 800, 1024)
    giga = {part: sum(n for name, n in costs.items() if name.startswith(part)) / 1e9 for part in ("bottom_up", "fpn")}
    for part, published in (("laterals", 6.29), ("outputs", 40.11)):
        found = sum(n for name, n in costs.items() if name.startswith(f"fpn.{part}")) / 1e9
        claim("FPN-05", found, published, tol=0.005, note=f"GMAC of the {part} at 1024 x 800")
    claim("FPN-05", giga["bottom_up"], 66.73, tol=0.005, note="GMAC of the trunk")
    marginal = dict(expected="< 10", agrees="differs", source="marginal extra cost")
    more = 100 * giga["fpn"] / giga["bottom_up"]
    claim("FPN-05", more, within=(69.45, 69.55), note="multiply-adds of the pyramid, % of the trunk's", **marginal)
    fine = (costs["fpn.laterals.0"] + costs["fpn.outputs.0"]) / 1e9
    less = 100 * (giga["fpn"] - fine) / giga["bottom_up"]
    claim("FPN-05", less, within=(19.1, 19.3), note="the same without P2, %", **marginal)


@pytest.mark.parametrize("levels", [(), (4, 2, 1)])
def test_stages_of_the_laptops_network(levels):
    net, kept = tiny_net(pretrained=True, levels=levels), []
    hooks = [net.convs[i][1].register_forward_hook(lambda *args: kept.append(args[2])) for i in (2, 4)]
    image = torch.rand(2, 3, 96, 128, generator=generator())
    net.convs(image)  # each kept before its pooling
    for hook in hooks:
        hook.remove()
    bottom_up, again, other = (tiny_stages(net, generator(seed)) for seed in (0, 0, 1))
    maps = bottom_up(image)
    assert torch.equal(maps[0], kept[0]) and torch.equal(maps[1], kept[1])
    assert bottom_up.strides == (4, 8, 16, 32) and bottom_up.channels == (64, 96, 96, 96)
    assert [tuple(each.shape[1:]) for each in maps] == [(64, 24, 32), (96, 12, 16), (96, 6, 8), (96, 3, 4)]
    assert torch.equal(again(image)[3], maps[3]) and not torch.equal(other(image)[3], maps[3])
    for new in (bottom_up.stages[2], bottom_up.stages[3]):
        for layer in (new[0], new[2]):
            assert abs(layer.weight.std() / (2 / (9 * 96)) ** 0.5 - 1) < 0.02 and not layer.bias.any()
    assert all(0.2 < each.std() / maps[1].std() < 2 and each.min() == 0 for each in maps)


@pytest.mark.parametrize("name", SIZES)
def test_the_pyramid_equals_torchvision(name):
    fpn, maps = pyramid(), stages(SIZES[name])
    peer = FeaturePyramidNetwork(list(WIDTHS), 4).double()
    for mine, others in ((fpn.laterals, peer.inner_blocks), (fpn.outputs, peer.layer_blocks)):
        for layer, other in zip(mine, others, strict=True):
            other[0].load_state_dict(layer.state_dict())
    named = OrderedDict((str(i), map) for i, map in enumerate(maps))
    results = []
    for parameters, found in ((fpn.parameters(), fpn(maps)), (peer.parameters(), list(peer(named).values()))):
        loss = sum((each * random(*each.shape, seed=9)).sum() for each in found)
        results.append([*found, *torch.autograd.grad(loss, [*maps, *parameters])])
    assert len(results[0]) == 4 + 4 + 16 and all(each.abs().max() > 0.1 for each in results[0])
    largest = max((own - other).abs().max().item() for own, other in zip(*results, strict=True))
    claim("FPN-02", largest, 0, tol=1e-9, note=f"values and gradients, ours and torchvision's, sizes {name}")


def test_a_pyramid_by_hand():
    fpn = FeaturePyramid((1, 1), 1)
    for lateral, weight in zip(fpn.laterals, (1.0, 2.0), strict=True):
        nn.init.constant_(lateral.weight, weight)
    fine = torch.arange(16.0).view(1, 1, 4, 4)
    coarse = torch.tensor([[[[100.0, 200], [300, 400]]]])
    found = fpn.merge([fine, coarse])
    expected = torch.tensor([[200.0, 201, 402, 403], [204, 205, 406, 407], [608, 609, 810, 811], [612, 613, 814, 815]])
    same = torch.equal(found[0][0, 0], expected) and torch.equal(found[1], 2 * coarse)
    claim("FPN-02", condition=same, note="4 x 4 and 2 x 2 cells: 1 x 1, doubled, added")


@pytest.mark.parametrize("size", [(4, 6), (5, 5), (1, 1), (38, 75)])
def test_upsampling_repeats_cells(size):
    small = [(side + 1) // 2 for side in size]
    map = random(2, 3, *small)
    rows, columns = (torch.arange(side) // 2 for side in size)
    assert torch.equal(upsample(map, size), map[:, :, rows][..., columns])


@pytest.mark.parametrize("size", [(5, 9), (13, 32), (3, 3)])
def test_upsampling_where_a_pooling_left_out_the_last_row(size):
    """A pooling makes 2 rows of 5; cells still lie over those that they were made of."""
    map = random(2, 3, *(side // 2 for side in size))
    rows, columns = ((torch.arange(side) // 2).clamp(max=side // 2 - 1) for side in size)
    assert torch.equal(upsample(map, size), map[:, :, rows][..., columns])


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1), (25, 32)])
def test_the_coarsest_map_is_every_second_cell(size):
    body = Pyramid(tiny_stages(tiny_net(pretrained=True), generator()), 4)
    *_, p5, p6 = body(torch.rand(1, 3, *(32 * side for side in size), generator=generator()))
    same = p5.shape[-2:] == size and torch.equal(p6, F.max_pool2d(p5, kernel_size=1, stride=2))
    claim("FPN-08", condition=same, note=f"P6 is max pooling 1 x 1 with stride 2 of P5, {size[0]} x {size[1]} cells")


def test_the_pyramid_has_no_nonlinearity():
    fpn = pyramid(channels=6, spread=False)
    kinds = {type(module) for module in fpn.modules()}
    claim(
        "FPN-04", condition=kinds == {FeaturePyramid, nn.ModuleList, nn.Conv2d}, note="convolutions, and nothing else"
    )
    one, other = ([map.detach() for map in stages(SIZES["odd"])] for _ in range(2))
    other = [map.flip(0, 2) for map in other]
    mixed = fpn([3 * a - 0.5 * b for a, b in zip(one, other, strict=True)])
    expected = [3 * a - 0.5 * b for a, b in zip(fpn(one), fpn(other), strict=True)]
    largest = max((a - b).abs().max().item() for a, b in zip(mixed, expected, strict=True))
    assert all(map.shape[1] == 6 and map.std() > 0.1 for map in mixed)
    claim("FPN-04", largest, 0, tol=1e-9, note="without biases the pyramid is linear in C2 to C5")
    with torch.device("meta"):
        published = FeaturePyramid((256, 512, 1024, 2048))
    channels = {layer.out_channels for layer in (*published.laterals, *published.outputs)}
    claim("FPN-04", condition=channels == {256}, note="256 channels at all levels")


def test_initial_weights_follow_the_generator():
    first, again, other = (FeaturePyramid((64, 96), 64, generator=generator(seed)).state_dict() for seed in (0, 0, 1))
    for name, value in first.items():
        assert torch.equal(value, again[name])
        if name.endswith("bias"):
            assert not value.any()
        else:  # uniform, of variance 1 / inputs
            bound = (3 / value[0].numel()) ** 0.5
            assert not torch.equal(value, other[name]) and 0.98 * bound < value.abs().max() <= bound
            assert value.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)


def test_what_has_an_influence_on_a_map():
    maps = stages(SIZES["even"])
    found = [moves(output, maps) for output in pyramid()(maps)]
    assert found == [[j >= i for j in range(4)] for i in range(4)]


def test_maps_of_the_body():
    net, g = tiny_net(pretrained=True), generator()
    model, image = Pyramid(tiny_stages(net, g), 8, g), torch.rand(1, 3, 128, 256, generator=g)
    maps = model(image)
    assert model.strides == (4, 8, 16, 32, 64)
    assert [tuple(found.shape) for found in maps] == [(1, 8, 128 // s, 256 // s) for s in model.strides]
    assert torch.equal(maps[-1], maps[-2][..., ::2, ::2])
    sum(found.square().sum() for found in maps).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


TABLE = {(224, 224): 4, (223.9, 223.9): 3, (112, 112): 3, (447, 447): 4, (448, 448): 5, (32, 32): 1, (800, 800): 5,
         (112, 448): 4, (448, 112): 4, (111.9, 111.9): 2, (1, 1): -4}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_of_the_table(dtype):
    boxes = torch.tensor([[3.0, 7, 3 + width, 7 + height] for width, height in TABLE], dtype=dtype)
    for (width, height), level, raw in zip(TABLE, roi_levels(boxes, 2, 5), roi_levels(boxes, -9, 9), strict=True):
        note = f"level of {width:g} x {height:g} px, {str(dtype)[6:]}"
        claim("FPN-13", raw.item(), TABLE[width, height], note=note)
        assert level.item() == min(max(TABLE[width, height], 2), 5) and level.dtype == torch.int64


def test_a_level_begins_at_each_doubling():
    sides = torch.arange(1.0, 1200, 0.5)
    boxes = torch.stack((0 * sides, 0 * sides, 2 * sides, sides / 2), dim=1)
    expected = torch.tensor([sum(side >= 224 * 2**k for k in (-1, 0, 1)) + 2 for side in sides.tolist()])
    assert torch.equal(roi_levels(boxes, 2, 5), expected) and expected.unique().tolist() == [2, 3, 4, 5]
    assert torch.equal(roi_levels(boxes / 4, 2, 5, s0=56), expected)  # the laptop's pyramid
    assert torch.equal(roi_levels(boxes, 3, 6, k0=5), expected + 1)

    corner = 1000 * torch.rand(500, 2, generator=generator())  # sides that single precision rounds
    for side, level in ((112, 3), (224, 4), (448, 5)):
        boxes = torch.cat((corner, corner + side), dim=1)
        assert (boxes[:, 2] - boxes[:, 0] < side).any() and (roi_levels(boxes, 2, 5) == level).all()


@given(
    strategies.boxes(dtype=torch.float64),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([0.25, 1.0, 4.0, 13.7]),
    st.sampled_from([(2, 5, 4, 224.0), (2, 5, 4, 56.0), (3, 6, 4, 112.0), (4, 4, 4, 224.0), (2, 5, 3, 100.0)]),
)
def test_levels_equal_torchvision(boxes, dtype, scale, rule):
    boxes, (finest, coarsest, k0, s0) = (scale * boxes).to(dtype), rule
    found = roi_levels(boxes, finest, coarsest, k0, s0)
    expected = LevelMapper(finest, coarsest, canonical_scale=s0, canonical_level=k0)([boxes])
    assert torch.equal(found, expected + finest)
    assert torch.equal(roi_levels(boxes.view(1, -1, 1, 4), finest, coarsest, k0, s0).flatten(), found)


def test_regions_without_area_are_the_smallest():
    flat = torch.tensor([[5.0, 5, 5, 5], [5, 5, 900, 5], [0, 0, 0, 0], [0, 7, 0, 700]])
    assert roi_levels(flat, 2, 5).tolist() == [2] * 4 and roi_levels(flat[:0], 2, 5).shape == (0,)
    assert roi_levels(torch.tensor([0.0, 0, 1e6, 1e6]), 2, 5).item() == 5


def test_bad_regions_are_refused():
    for boxes, s0 in ((torch.zeros(3, 5), 224), (torch.zeros(0), 224), (torch.zeros(3, 4), 0)):
        with pytest.raises(ValueError, match=r"boxes: expected \(\.\.\., 4\) and s0 above 0, got"):
            roi_levels(boxes, 2, 5, s0=s0)


def test_strides_have_levels():
    assert [level_of(stride) for stride in (4, 8, 16.0, 32, 64)] == [2, 3, 4, 5, 6]
