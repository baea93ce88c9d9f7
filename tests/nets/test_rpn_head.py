from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.variants import SeparateHeads, TwoScores
from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.nets.backbones import TINY, VGG16, ZF5, receptive_field, tiny_net, vgg16, zf5
from rcnn_tutorial.nets.rpn import RPN, RPNHead, RPNSettings
from rcnn_tutorial.ops.boxes import decode
from tests.nets.rpn_peer import generator, maps_of, random, set_head


@pytest.mark.parametrize("channels", [256, 512])
def test_the_head_is_a_fully_connected_layer_that_slides(channels):
    head = TwoScores(channels, 9, generator())
    for layer in (head.conv, head.score, head.offsets):
        layer.weight.data /= layer.weight[0].numel() ** 0.5 * layer.weight.std()
        layer.bias.data = 0.1 * torch.randn(layer.bias.shape, generator=generator(1))
    features = random(2, channels, 6, 7, dtype=torch.float32)
    windows = F.unfold(features, 3, padding=1).transpose(1, 2)  # (B, H W, 9 C)
    hidden = F.linear(windows, head.conv.weight.flatten(1), head.conv.bias).relu()
    score = F.linear(hidden, head.score.weight.flatten(1), head.score.bias)  # (B, H W, 18)
    offsets = F.linear(hidden, head.offsets.weight.flatten(1), head.offsets.bias).unflatten(2, (9, 4))
    logits, moved = head([features])
    largest = max((logits - (score[..., 9:] - score[..., :9]).flatten(1)).abs().max().item(),
                  (moved - offsets.flatten(1, 2)).abs().max().item())  # fmt: skip
    assert moved.std() > 0.1 and hidden.shape[2] == channels
    claim("FRCNN-02", largest, 0, tol=1e-5, note=f"{channels}-d sliding layer, and 3 x 3 with two of 1 x 1: difference")


def test_two_outputs_of_each_anchor_are_one():
    head = TwoScores(16, 9, generator())
    features = random(2, 16, 4, 5, dtype=torch.float32)
    hidden = head.conv(features).relu()
    claim("FRCNN-03", head.score(hidden).shape[1], 18, note="score channels")
    claim("FRCNN-03", head.offsets(hidden).shape[1], 36, note="offset channels")
    assert RPNHead(16, 9).score.out_channels == 9
    head.score.weight.data *= 100
    softmax = head.score(hidden).unflatten(1, (2, 9)).softmax(dim=1)[:, 1]  # background first
    softmax = softmax.permute(0, 2, 3, 1).flatten(1)
    assert softmax.std() > 0.02
    difference = (head([features])[0].sigmoid() - softmax).abs().max().item()
    claim("FRCNN-03", difference, 0, tol=1e-6, note="softmax of two and sigmoid of their difference")


@pytest.mark.parametrize(("channels", "name", "count"), [(512, "VGG16", 27_648), (256, "ZF", 13_824)])
def test_parameters(channels, name, count):
    head = TwoScores(channels, 9)
    weights = head.score.weight.numel() + head.offsets.weight.numel()
    assert weights == count
    if name == "ZF":
        claim("FRCNN-04", weights, 13_824, note="output layers of ZF")
    else:
        claim("FRCNN-04", weights, 28_000, tol=500, source="2.8 x 10^4", note="output layers of VGG16")
        last = sum(p.numel() for layer in (head.score, head.offsets) for p in layer.parameters())
        claim("FRCNN-04", last, 27_702, note="with biases")
        claim("FRCNN-04", sum(p.numel() for p in head.parameters()), 2_387_510, note="with the 3 x 3 convolution")


@pytest.mark.parametrize(("make", "layers", "name", "count"), [(vgg16, VGG16, "VGG16", 13), (zf5, ZF5, "ZF", 5)])
def test_trunks(make, layers, name, count):
    with torch.device("meta"):
        net = make()
        convs = [layer for layer in net.convs.modules() if isinstance(layer, nn.Conv2d)]
        claim("FRCNN-07", len(convs), count, note=f"convolutions of {name}")
        if not net.levels:  # without its last pooling, as RoI pooling comes in its place
            net.convs[-1] = net.convs[-1][:-1]
            layers = (*layers[:-1], replace(layers[-1], pool=0))
        shape = tuple(net.convs(torch.zeros(1, 3, 600, 1000)).shape[-2:])
    claim("FRCNN-07", receptive_field(layers).stride, 16, note=f"stride of {name}, px")
    near = all(abs(n - side / 16) < 2 for n, side in zip(shape, (600, 1000), strict=True))
    claim("FRCNN-07", condition=near, note=f"map of {name} for 1000 x 600: {shape[1]} x {shape[0]}")


def test_translation_by_a_stride_and_by_half():
    net = tiny_net(7)
    body = nn.Sequential(*net.convs[:4]).eval()
    head = set_head(RPN(96, (8,), RPNSettings(scales=(32, 64)), generator())).head
    picture = torch.rand(1, 3, 136, 176, generator=generator())

    def outputs(shift):
        with torch.no_grad():
            logits, offsets = head([body(picture[..., shift : shift + 128, shift : shift + 160])])
        return torch.cat((logits[..., None], offsets), dim=2).unflatten(1, (16, 20, 6))

    field = receptive_field(TINY[:4]).size + 2 * 8  # with the head's 3 x 3
    edge = -(-field // 16)  # cells whose field crosses the border
    here, moved, half = outputs(0), outputs(8), outputs(4)

    def difference(a, b):
        return (a - b)[:, edge:-edge, edge:-edge].abs().max().item()

    shifted = here.roll((-1, -1), dims=(1, 2))
    assert here.std() > 0.05 and here[:, edge:-edge, edge:-edge].shape[1] > 6
    claim("FRCNN-14", difference(moved, shifted), 0, tol=1e-4, note="shift by a stride: outputs move one cell")
    claim("FRCNN-14", condition=min(difference(half, here), difference(half, shifted)) > 1e-2, agrees="differs",
          source="outputs move along", note="shift by half a stride: outputs neither stay nor move")  # fmt: skip
    assert (moved - shifted)[:, :-1, :-1].abs().max() > 1e-2  # not at the padded border


def test_each_anchor_has_weights_of_its_own():
    rpn = set_head(RPN(16, (16,), RPNSettings(), generator()))
    maps = [random(1, 16, 5, 6, dtype=torch.float32)]

    def moved(change):
        before = decode(*rpn(maps)[1:3]).clone()
        change()
        return (decode(*rpn(maps)[1:3]) != before).any(dim=2).view(30, 9).float().mean(dim=0)

    with torch.no_grad():
        for j in (0, 4, 8):
            share = moved(lambda j=j: rpn.head.offsets.weight[4 * j : 4 * j + 4].add_(0.1))
            only = share[j] > 0.9 and share.sum() == share[j]
            claim("FRCNN-21", condition=bool(only), note=f"other weights for anchor {j}: its boxes move, no others")
        shared = nn.Conv2d(16, 4, 1)  # one regressor for all nine shapes
        shared.register_forward_hook(lambda layer, inputs, output: output.repeat(1, 9, 1, 1))
        rpn.head.offsets = shared
        share = moved(lambda: shared.weight.add_(0.1))
    claim("FRCNN-21", condition=bool((share > 0.9).all()), note="one regressor for all: every box moves")


FIVE = RPNSettings(scales=((32,), (64,), (128,), (256,), (512,)))
SHAPES = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]


def on_five_maps(kind=RPN):
    """A network on maps of 8 channels, its weights larger than at the start of a training."""
    rpn = kind(8, (4, 8, 16, 32, 64), FIVE, generator()).double()
    for name, parameter in rpn.named_parameters():
        parameter.data = parameter.data * 20 if name.endswith("weight") else 0.1 * random(*parameter.shape)
    return rpn


def test_parameters_of_one_head_and_of_five():
    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    with torch.device("meta"):
        one, five = (count(kind(256, (4, 8, 16, 32, 64), FIVE)) for kind in (RPN, SeparateHeads))
        two_scores = count(TwoScores(256, 3))
    claim("FPN-11", two_scores, 594_706, note="parameters of one head for all maps, two scores of each anchor")
    claim("FPN-11", 5 * two_scores, 2_973_530, note="of a head for each of five maps")
    assert one == 594_706 - 3 * 257 and five == 5 * one


@pytest.mark.parametrize("kind", [RPN, SeparateHeads])
def test_which_head_reads_which_map(kind):
    rpn, maps = on_five_maps(kind), maps_of(SHAPES)
    shared = kind is RPN
    heads = [rpn.head] if shared else list(rpn.head)
    found = rpn(maps)
    parts = zip(found.logits.split(found.counts, 1), found.offsets.split(found.counts, 1), maps, strict=True)
    for i, (logits, offsets, features) in enumerate(parts):
        own = heads[0 if shared else i]
        for mine, expected in zip((logits, offsets), own([features]), strict=True):
            assert torch.equal(mine, expected) and mine.std() > 0.1
        weights = [head.conv.weight for head in heads]
        gradients = torch.autograd.grad(logits.sum(), weights, retain_graph=True)
        assert [bool(gradient.any()) for gradient in gradients] == [head is own for head in heads]
    if shared:
        alone = len(list(rpn.parameters())) == len(list(RPNHead(8, 3).parameters()))
        claim("FPN-11", condition=alone, note="one head reads all maps")
    else:
        assert all(not torch.equal(heads[0].conv.weight, other.conv.weight) for other in heads[1:])


def test_five_equal_heads_say_what_one_says():
    shared, own, maps = on_five_maps(), on_five_maps(SeparateHeads), maps_of(SHAPES)
    for head in own.head:
        head.load_state_dict(shared.head.state_dict())
    for mine, other in zip(shared(maps)[:3], own(maps)[:3], strict=True):
        assert torch.equal(mine, other)
    size = [(64, 96)] * 3
    boxes = [box[:, :4] for box in random(3, 1, 4).abs().cumsum(2).mul(9).unbind()]
    losses = []
    for rpn in (shared, own):
        found = rpn(maps)
        losses.append(rpn.losses(found, rpn.sample(found.anchors, boxes, size, generator()), boxes))
    assert losses[0] == losses[1] and losses[0]["rpn_box"] > 0
    assert torch.equal(shared.propose(shared(maps), size).boxes, own.propose(own(maps), size).boxes)
