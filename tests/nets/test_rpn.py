from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection import rpn as peer
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from rcnn_tutorial.claims import claim
from rcnn_tutorial.detectors.fast_rcnn import FastRCNNSettings
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNNSettings
from rcnn_tutorial.detectors.rcnn import RCNNSettings
from rcnn_tutorial.detectors.samples import draw_samples
from rcnn_tutorial.nets.backbones import TINY, VGG16, ZF5, receptive_field, tiny_net, vgg16, zf5
from rcnn_tutorial.nets.rpn import RPN, AnchorSamples, Predictions, RPNHead, RPNSettings
from rcnn_tutorial.ops.anchors import anchor_grid, exact_anchors, inside
from rcnn_tutorial.ops.boxes import box_iou, decode, encode

# torchvision's
SETTINGS = RPNSettings(
    anchors="torchvision", scales=(16, 32, 64), two_way=False, inside=False, padding=True, by_locations=False,
    box_weight=1.0, beta=1 / 9, before_nms=(150, 90), after_nms=(60, 40), least_side=1e-3,
)  # fmt: skip
ONE, THREE = [(12, 16)], [(12, 16), (6, 8), (3, 4)]
SIZES = torch.tensor([[96, 128], [70, 128], [96, 41]])  # of three images in one batch of 96 x 128


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def pair(shapes, settings=SETTINGS, channels=8):
    """Ours and torchvision's, with the same weights, in float64."""
    strides = [96 // height for height, _ in shapes]
    scales = [settings.scales] if len(shapes) == 1 else [(8, 16), (16, 32), (32, 64)]
    ours = RPN(channels, strides, replace(settings, scales=tuple(scales)), generator()).double()
    theirs = peer.RegionProposalNetwork(
        AnchorGenerator(tuple(scales), (settings.ratios,) * len(scales)),
        peer.RPNHead(channels, len(scales[0]) * 3),
        0.7, 0.3, settings.samples, settings.share,
        dict(zip(("training", "testing"), settings.before_nms, strict=True)),
        dict(zip(("training", "testing"), settings.after_nms, strict=True)),
        settings.nms_threshold,
    ).double()  # fmt: skip
    for mine, other in (("conv", theirs.head.conv[0][0]), ("score", theirs.head.cls_logits),
                        ("offsets", theirs.head.bbox_pred)):  # fmt: skip
        layer = getattr(ours.head, mine)
        layer.weight.data = random(*layer.weight.shape, seed=1) * 0.2
        layer.bias.data = random(*layer.bias.shape, seed=2) * 0.2
        other.load_state_dict(layer.state_dict())
    return ours, theirs


def maps_of(shapes, images=3, channels=8, seed=0):
    return [random(images, channels, *shape, seed=seed + i) for i, shape in enumerate(shapes)]


def objects(count, seed=0, size=(96, 128)):
    """(count, 4) boxes of 4 to 60 px, float64."""
    g = generator(seed)
    corner = torch.rand(count, 2, generator=g, dtype=torch.float64) * torch.tensor([size[1] - 5, size[0] - 5])
    sides = 4 * 15 ** torch.rand(count, 2, generator=g, dtype=torch.float64)
    return torch.cat((corner, torch.minimum(corner + sides, torch.tensor([size[1], size[0]]))), dim=1)


def set_head(rpn, scale=3.0):
    """Weights whose scores spread and whose boxes move."""
    for layer in (rpn.head.conv, rpn.head.score, rpn.head.offsets):
        spread = scale / layer.weight[0].numel() ** 0.5
        layer.weight.data = spread * random(*layer.weight.shape, seed=3).to(layer.weight)
    return rpn


# --- stage by stage against torchvision, each fed the same


@pytest.mark.parametrize("shapes", [ONE, THREE, [(1, 1)]])
def test_anchors_and_head_equal_torchvision(shapes):
    ours, theirs = pair(shapes)
    maps = maps_of(shapes)
    images = ImageList(torch.zeros(3, 3, 96, 96 * shapes[0][1] // shapes[0][0]), [(96, 128)] * 3)
    found = ours(maps)
    for expected in theirs.anchor_generator(images, maps):
        assert torch.allclose(found.anchors, expected, rtol=0, atol=1e-9)
    logits, offsets = peer.concat_box_prediction_layers(*theirs.head(maps))
    assert found.counts == tuple(h * w * len(c) for (h, w), c in zip(shapes, ours.cells, strict=True))
    assert torch.allclose(found.logits.flatten(), logits.flatten(), rtol=0, atol=1e-9) and logits.std() > 0.1
    assert torch.allclose(found.offsets.flatten(0, 1), offsets, rtol=0, atol=1e-9) and offsets.std() > 0.1
    assert found.offsets.shape == (*found.logits.shape, 4) == (3, len(found.anchors), 4)


SCENES = {
    "usual": [objects(7), objects(1, 1), objects(3, 2)],
    "one without objects": [objects(4), objects(0), objects(2, 3)],
    "no objects at all": [objects(0)] * 3,
    "500": [objects(500, 4), objects(1, 5), objects(0)],
    "a pixel": [torch.tensor([[30.0, 40, 31, 41]]).double(), objects(2, 6), torch.tensor([[0.0, 0, 1, 1]]).double()],
    "larger than any anchor": [torch.tensor([[0.0, 0, 128, 96]]).double(), objects(1, 7), objects(2, 8)],
    "twice the same": [objects(2, 9).repeat(2, 1)] * 3,
}


@pytest.mark.parametrize("shapes", [ONE, THREE])
@pytest.mark.parametrize("boxes", SCENES.values(), ids=SCENES)
def test_labels_and_matched_objects_equal_torchvision(shapes, boxes):
    ours, theirs = pair(shapes)
    anchors = ours(maps_of(shapes, 1)).anchors
    state, matched = ours.label(anchors, boxes, SIZES)
    labels, expected = theirs.assign_targets_to_anchors([anchors] * 3, [{"boxes": each} for each in boxes])
    assert torch.equal(state, torch.stack(labels).long())
    for own, label, other in zip(matched, labels, expected, strict=True):
        assert torch.equal(own[label == 1], other[label == 1])
    assert all((row == 1).any() == bool(len(each)) for row, each in zip(state, boxes, strict=True))


def test_labels_on_a_map_of_one_cell():
    ours, theirs = pair([(1, 1)])
    anchors = ours(maps_of([(1, 1)], 1)).anchors
    boxes = [torch.tensor([[0.0, 0, 20, 30], [3, 3, 9, 9]]).double()]
    labels, _ = theirs.assign_targets_to_anchors([anchors], [{"boxes": boxes[0]}])
    state = ours.label(anchors, boxes, SIZES[:1])[0]
    assert torch.equal(state, torch.stack(labels).long()) and (state == 1).any()
    # torchvision lets an object that nothing overlaps rescue every anchor
    assert not ours.label(anchors, [boxes[0] + 90], SIZES[:1])[0].any()


@pytest.mark.parametrize("shapes", [ONE, THREE])
def test_losses_of_given_samples_equal_torchvision(shapes):
    ours, theirs = pair(shapes)
    boxes = [objects(7), objects(0), objects(30, 2)]
    found = ours(maps_of(shapes))
    samples = ours.sample(found.anchors, boxes, SIZES, generator())
    assert samples.index.shape == (3, 256) and (samples.labels >= 0).all() and (samples.labels == 1).any()

    masks = torch.zeros(2, *found.logits.shape, dtype=torch.bool)
    for i in range(3):
        for label in (0, 1):
            masks[label, i, samples.index[i][samples.labels[i] == label]] = True
    theirs.fg_bg_sampler = lambda labels: (list(masks[1]), list(masks[0]))
    anchors = [found.anchors] * 3
    labels, matched = theirs.assign_targets_to_anchors(anchors, [{"boxes": each} for each in boxes])
    wanted = theirs.box_coder.encode(matched, anchors)
    leaves = [each.detach().clone().requires_grad_() for each in found[:2]]
    expected = theirs.compute_loss(
        leaves[0].flatten()[:, None], leaves[1].flatten(0, 1), [label.double() for label in labels], wanted
    )
    sum(expected).backward()
    own = [each.detach().clone().requires_grad_() for each in found[:2]]
    losses = ours.losses(found._replace(logits=own[0], offsets=own[1]), samples)
    (losses["objectness"] + losses["rpn_box"]).backward()
    for mine, other in zip(losses.values(), expected, strict=True):
        assert abs(mine - other) < 1e-9 and mine > 0.01
    for mine, other in zip(own, leaves, strict=True):
        assert torch.allclose(mine.grad, other.grad, rtol=0, atol=1e-9)


def random_predictions(ours, shapes, seed=0, levels=None, growth=0.3):
    """Anchors of the maps, with offsets and logits drawn at random; of `levels` values where ties are wanted."""
    anchors = ours(maps_of(shapes, 1))
    count = len(anchors.anchors)
    logits = 2 * random(3, count, seed=seed)
    if levels:
        logits = (logits * levels).round() / levels
    offsets = random(3, count, 4, seed=seed + 1) * growth
    offsets[:, ::17] = torch.tensor([0.0, 0, -12, -12])  # nearly nothing is left of these
    offsets[:, 5::23] += torch.tensor([9.0, 9, 0, 0])  # beyond the border
    offsets[:, 7::29] += torch.tensor([0.0, 0, 9, 9])  # larger than exp lets them be
    return anchors._replace(logits=logits, offsets=offsets)


def of_torchvision(theirs, found, sizes):
    decoded = theirs.box_coder.decode(found.offsets.flatten(0, 1), [found.anchors] * len(found.logits))
    decoded = decoded.view(*found.offsets.shape)
    return theirs.filter_proposals(decoded, found.logits, list(map(tuple, sizes.tolist())), list(found.counts))


@pytest.mark.parametrize("shapes", [ONE, THREE])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("least", [1e-3, 5.0])
def test_proposals_equal_torchvision(shapes, training, least):
    ours, theirs = pair(shapes, replace(SETTINGS, least_side=least))
    ours.train(training), theirs.train(training)
    theirs.min_size = least
    for seed in range(3):
        found = random_predictions(ours, shapes, seed)
        mine = ours.propose(found, SIZES)
        boxes, scores = of_torchvision(theirs, found, SIZES)
        assert mine.valid.sum(dim=1).tolist() == [len(each) for each in boxes]
        for own, score, valid, other, expected in zip(*mine, boxes, scores, strict=True):
            assert torch.allclose(own[valid], other, rtol=0, atol=1e-9)
            assert torch.allclose(score[valid], expected, rtol=0, atol=1e-9)
            assert not own[~valid].any() and not score[~valid].any() and valid.tolist() == sorted(valid, reverse=True)
    counts = mine.valid.sum(dim=1)
    assert counts.max() == SETTINGS.after_nms[not training] == mine.boxes.shape[1]


@pytest.mark.parametrize("shapes", [ONE, THREE])
def test_proposals_of_tied_scores_are_the_same_set(shapes):
    settings = replace(SETTINGS, before_nms=(5000, 5000), after_nms=(5000, 5000))
    ours, theirs = pair(shapes, settings)
    found = random_predictions(ours, shapes, levels=1)
    assert found.logits.unique().numel() < 20
    for own, other in zip(ours.propose(found, SIZES).unpad(), of_torchvision(theirs, found, SIZES)[0], strict=True):
        mine, expected = ({tuple(box) for box in each.mul(1e6).round().tolist()} for each in (own, other))
        assert mine == expected and len(mine) > 50


# --- the head: FRCNN-02, 03, 04, 07, 14, 21


@pytest.mark.parametrize("channels", [256, 512])
def test_the_head_is_a_fully_connected_layer_that_slides(channels):
    head = RPNHead(channels, 9, True, generator())
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
    head = RPNHead(16, 9, True, generator())
    features = random(2, 16, 4, 5, dtype=torch.float32)
    hidden = head.conv(features).relu()
    claim("FRCNN-03", head.score(hidden).shape[1], 18, note="score channels")
    claim("FRCNN-03", head.offsets(hidden).shape[1], 36, note="offset channels")
    assert RPNHead(16, 9, False).score.out_channels == 9
    head.score.weight.data *= 100
    softmax = head.score(hidden).unflatten(1, (2, 9)).softmax(dim=1)[:, 1]  # background first
    softmax = softmax.permute(0, 2, 3, 1).flatten(1)
    assert softmax.std() > 0.02
    difference = (head([features])[0].sigmoid() - softmax).abs().max().item()
    claim("FRCNN-03", difference, 0, tol=1e-6, note="softmax of two and sigmoid of their difference")


@pytest.mark.parametrize(("channels", "name", "count"), [(512, "VGG16", 27_648), (256, "ZF", 13_824)])
def test_parameters(channels, name, count):
    head = RPNHead(channels, 9, True)
    claim("FRCNN-04", head.score.weight.numel() + head.offsets.weight.numel(), count, note=f"output layers of {name}")
    if name == "VGG16":
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
    claim("FRCNN-14", condition=min(difference(half, here), difference(half, shifted)) > 1e-2,
          note="shift by half a stride: outputs neither stay nor move")  # fmt: skip
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


# --- labels: FRCNN-15, 17, 20, 23, 24


def labelled(anchors, truths, **changes):
    settings = RPNSettings(**({"inside": False} | changes))
    rpn = RPN(4, (16,), settings)
    return rpn.label(torch.tensor(anchors).float(), [torch.tensor(truths).float()], torch.tensor([[600, 1000]]))[0][0]


def test_positives_by_rank_and_by_overlap():
    truth = [[100, 100, 200, 200]]
    tied = labelled([[60, 100, 160, 200], [140, 100, 240, 200], [0, 0, 20, 20]], truth)
    claim("FRCNN-15", condition=tied.tolist() == [1, 1, 0], note="two anchors tied for the best IoU")
    low = labelled([[100, 100, 200, 145], [100, 100, 200, 140], [0, 0, 20, 20]], truth)
    claim("FRCNN-15", condition=low.tolist() == [1, -1, 0], note="the best anchor has IoU 0.45")
    exact = labelled([[100, 100, 200, 200], [100, 100, 200, 170], [100, 100, 200, 169]], truth)
    claim("FRCNN-15", condition=exact.tolist() == [1, 1, -1], note="an anchor of IoU 0.70")
    several = labelled([[100, 100, 200, 200], [100, 100, 200, 180], [100, 110, 200, 200], [95, 95, 200, 200]], truth)
    claim("FRCNN-15", condition=several.tolist() == [1] * 4, note="one object labels four anchors")
    both = labelled([[100, 100, 200, 200], [400, 100, 500, 145]], [*truth, [400, 100, 500, 200]])
    assert both.tolist() == [1, 1]  # an object well met does not keep another from its rescue


def test_ties_of_a_small_object():
    anchors = anchor_grid(exact_anchors((128, 256, 512), (0.5, 1, 2), 16), (37, 62), 16)
    corners = torch.tensor([[400.0 + 3 * step, 250 + 5 * step] for step in range(16)])
    truths = torch.cat((corners, corners + 48), dim=1)
    iou = box_iou(anchors, truths)
    ties = (iou > iou.amax(dim=0) - 1e-5).sum(dim=0)
    claim("FRCNN-15", iou.amax(dim=0).mean().item(), 0.14, tol=1e-3, note="best IoU of a 48-px object, exact areas")
    claim("FRCNN-15", ties.float().mean().item(), 69, tol=3, note="anchors of that IoU, to 1e-5")
    state = RPN(4, (16,), RPNSettings(inside=False)).label(
        anchors, list(truths[:, None]), torch.tensor([[592, 992]] * 16)
    )[0]
    positive = (state == 1).sum(dim=1)
    assert (positive > 1).all() and (positive <= ties).all()  # the rounding of float32 parts some of them


def test_negatives_and_what_is_neither():
    truth = [[100, 100, 200, 200]]
    state = labelled([[100, 100, 200, 200], [100, 100, 200, 130], [100, 100, 200, 129], [100, 100, 200, 169]], truth)
    claim(
        "FRCNN-17", condition=state.tolist() == [1, -1, 0, -1], note="IoU 0.29 is negative, 0.30 and 0.69 are neither"
    )
    rescued = labelled([[100, 100, 200, 120], [100, 100, 200, 119]], truth)
    claim("FRCNN-17", condition=rescued.tolist() == [1, 0], note="a best anchor of IoU 0.2 stays positive")

    rpn = RPN(8, (16,), replace(SETTINGS, samples=4000), generator())
    found = rpn([random(1, 8, 6, 8, dtype=torch.float32)])
    boxes = [torch.tensor([[20.0, 20, 70, 60], [60, 40, 90, 90]])]
    state = rpn.label(found.anchors, boxes, SIZES[:1])[0]
    logits, offsets = (each.detach().clone().requires_grad_() for each in found[:2])
    samples = rpn.sample(found.anchors, boxes, SIZES[:1], generator())
    sum(rpn.losses(found._replace(logits=logits, offsets=offsets), samples).values()).backward()
    drawn = logits.grad != 0
    claim(
        "FRCNN-17",
        condition=bool((state == -1).any() and not drawn[state == -1].any() and drawn[state == 1].all()),
        note="ignored anchors get no gradient",
    )
    assert drawn[state == 0].all() and (samples.labels == -1).any()  # those are left over, and are padding
    moved = (offsets.grad != 0).any(dim=2)
    claim("FRCNN-18", condition=torch.equal(moved, state == 1), note="regression gradient 0 where p* = 0")


def test_targets():
    anchors = RPN(4, (16,))([torch.zeros(1, 4, 10, 12)]).anchors.double()
    truths = objects(len(anchors), size=(600, 1000))
    offsets = encode(truths, anchors)
    back = (decode(offsets, anchors, clamp=None) - truths).abs().max().item()
    claim("FRCNN-20", back, 0, tol=1e-4, note="an object, to offsets of an anchor, and back: px")
    claim("FRCNN-20", encode(anchors, anchors).abs().max().item(), 0, note="offsets of an anchor to itself")
    scaled = (encode(3 * truths, 3 * anchors) - offsets).abs().max().item()
    claim("FRCNN-20", scaled, 0, tol=1e-9, note="both scaled by 3: change of the offsets")
    by_hand = encode(torch.tensor([[20.0, 30, 60, 130]]), torch.tensor([[10.0, 20, 30, 70]]))[0].tolist()
    assert by_hand == pytest.approx([1.0, 0.7, 0.693147, 0.693147], abs=1e-5)  # x, y, w, h

    rpn = RPN(4, (16,), replace(SETTINGS, scales=(64,)))
    found, boxes = rpn([torch.zeros(1, 4, 6, 8)]), objects(3)
    samples = rpn.sample(found.anchors, [boxes], SIZES[:1], generator())
    positive, anchor = samples.labels[0] == 1, found.anchors[samples.index[0]].double()
    wanted = boxes[box_iou(anchor, boxes).argmax(dim=1)]
    assert positive.any() and not samples.offsets[0][~positive].any()
    assert torch.allclose(decode(samples.offsets[0].double(), anchor)[positive], wanted[positive], atol=1e-3)


def test_few_positives_in_an_image():
    rpn = RPN(4, (16,))
    anchors, size = anchor_grid(rpn.cells[0], (38, 63), 16), torch.tensor([[600, 1000]])
    g, found = generator(), []
    for _ in range(20):
        count = int(torch.randint(1, 7, (), generator=g))
        sides = 48 + 402 * torch.rand(count, 2, generator=g)
        corner = torch.rand(count, 2, generator=g) * (torch.tensor([1000.0, 600]) - sides)
        boxes = torch.cat((corner, corner + sides), dim=1)
        state = rpn.label(anchors, [boxes], size)[0][0]
        iou = box_iou(anchors, boxes).amax(dim=1)
        drawn = rpn.sample(anchors, [boxes], size, g).labels[0]
        found.append([(state == 1).sum(), ((state == 1) & (iou >= 0.7)).sum(), (state == 0).sum(), (drawn == 1).sum()])
    positive, overlap, negative, drawn = torch.tensor(found).float().mean(dim=0).tolist()
    claim("FRCNN-23", positive, 53, tol=20, note="positives of an image")
    claim("FRCNN-23", overlap, 8, tol=8, note="those of IoU 0.7")
    claim("FRCNN-23", negative, 7100, tol=300, note="negatives")
    claim("FRCNN-23", negative / positive, 135, tol=60, note="negatives for each positive")
    claim("FRCNN-23", 100 * drawn / 256, 20, tol=7, note="positives in a sampled mini-batch, %")


def test_anchors_beyond_the_border_train_nothing():
    rpn = set_head(RPN(8, (16,), replace(SETTINGS, inside=True, scales=(16, 32, 64)), generator()))
    found = rpn([random(3, 8, 6, 8, dtype=torch.float32)])
    boxes = [torch.tensor([[0.0, 0, 30, 30]]), torch.tensor([[50.0, 10, 128, 70]]), torch.zeros(0, 4)]
    state = rpn.label(found.anchors, boxes, SIZES)[0]
    outside = ~inside(found.anchors, SIZES)
    assert outside.any(dim=1).all() and not torch.equal(outside[0], outside[1])
    claim("FRCNN-24", condition=bool((state[outside] == -1).all()), note="anchors that cross the border are ignored")
    assert (state[~outside] == 0).any() and [(row == 1).any().item() for row in state] == [True, True, False]
    alone = [rpn.label(found.anchors, boxes[i : i + 1], SIZES[i : i + 1])[0][0] for i in range(3)]
    assert torch.equal(torch.stack(alone), state)
    kept = RPN(8, (16,), SETTINGS).label(found.anchors, boxes, SIZES)[0]
    assert (kept[outside] != -1).any()
    proposals = rpn.propose(found, SIZES)
    limit = SIZES[:, None, [1, 0, 1, 0]]
    claim(
        "FRCNN-24",
        condition=bool((proposals.boxes >= 0).all() and (proposals.boxes <= limit).all()),
        note="all proposals lie in their image, and not in the padding",
    )
    assert (proposals.boxes == limit).any() and proposals.valid.any(dim=1).all()


def test_an_object_is_rescued_by_an_anchor_inside():
    anchors = [[-10, 0, 90, 100], [0, 0, 50, 100]]
    assert labelled(anchors, [[0, 0, 90, 100]], inside=True).tolist() == [-1, 1]
    assert labelled(anchors, [[0, 0, 90, 100]]).tolist() == [1, -1]


# --- mini-batches and losses: FRCNN-18, 22


@pytest.mark.parametrize(("positives", "expected"), [(300, (128, 128)), (50, (50, 206)), (0, (0, 256))])
def test_mini_batches(positives, expected):
    anchors = torch.cat((torch.tensor([[10.0, 10, 60, 60]]).expand(positives, 4),
                         torch.tensor([[100.0, 10, 160, 60]]).expand(900, 4)))  # fmt: skip
    anchors = anchors[torch.randperm(len(anchors), generator=generator())]
    boxes = torch.tensor([[10.0, 10, 60, 60]])[: min(positives, 1)]
    samples = RPN(4, (16,)).sample(anchors, [boxes], SIZES[:1].clone().fill_(200), generator())
    counts = tuple(int((samples.labels == label).sum()) for label in (1, 0))
    claim("FRCNN-22", condition=counts == expected, note=f"{positives} positives: {expected} drawn")
    assert samples.index.unique().numel() == 256


def test_positives_beyond_their_share_are_padding():
    anchors = torch.tensor([[10.0, 10, 60, 60]] * 300 + [[100.0, 10, 160, 60]] * 20)
    samples = RPN(4, (16,)).sample(anchors, [anchors[:1]], torch.tensor([[200, 200]]), generator())
    assert [int((samples.labels == label).sum()) for label in (1, 0, -1)] == [128, 20, 108]
    assert not samples.offsets[samples.labels < 1].any()


def test_the_same_generator_draws_the_same(device):
    rpn = RPN(8, (8,), SETTINGS)
    anchors = anchor_grid(rpn.cells[0], (12, 16), 8, device=device)
    boxes = [objects(n, n).float().to(device) for n in (5, 0, 500)]
    first, second, other = (rpn.sample(anchors, boxes, SIZES.to(device), generator(s)) for s in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first.index, other.index) and first.index.device.type == device.type
    on_cpu = rpn.sample(anchors.cpu(), [b.cpu() for b in boxes], SIZES, generator(3))
    assert torch.equal(on_cpu.labels, first.labels.cpu())


def test_losses_by_hand():
    """Two images of one place and three anchors; 4 samples of each, as the settings say, though there are but 3."""
    settings = RPNSettings(scales=(32,), samples=4)
    found = Predictions(
        torch.tensor([[2.0, -1, 0.5], [0, 3, 9]]),
        torch.tensor([[[0.5, 0, 0, -2], [7, 7, 7, 7], [1, 1, 1, 1]], [[0, 0, 0, 1], [7, 7, 7, 7], [7, 7, 7, 7]]]),
        torch.zeros(3, 4),
        (3,),
    )
    samples = AnchorSamples(
        torch.tensor([[0, 1, 2], [0, 1, 2]]), torch.tensor([[1, 0, 1], [1, 0, -1]]),
        torch.tensor([[[0.0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]], [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]]),
    )  # fmt: skip
    # -log of sigmoid(2), 1 - sigmoid(-1), sigmoid(0.5); sigmoid(0), 1 - sigmoid(3): the last anchor is padding
    logs = 0.126928 + 0.313262 + 0.474077 + 0.693147 + 3.048587
    boxes = 0.125 + 1.5 + 0.5
    losses = RPN(4, (16,), settings).losses(found, samples)
    claim("FRCNN-18", losses["objectness"].item(), logs / 8, tol=1e-5, note="log loss by hand, over 2 x 4 samples")
    claim("FRCNN-18", losses["rpn_box"].item(), 10 * boxes / 2, tol=1e-5, note="box loss by hand, over 2 places")
    by_samples = replace(settings, by_locations=False, box_weight=1.0, beta=1 / 9)
    sharp = (0.5 + 2 + 1) - 3 / 18
    found = RPN(4, (16,), by_samples).losses(found, samples)
    assert found["rpn_box"].item() == pytest.approx(sharp / 8, abs=1e-5)


def test_the_box_loss_counts_places_of_all_maps():
    rpn = RPN(8, (8, 16), replace(SETTINGS, scales=((16, 32), (32, 64)), by_locations=True), generator())
    found = rpn([random(2, 8, 4, 6, dtype=torch.float32), random(2, 8, 2, 3, dtype=torch.float32)])
    samples = rpn.sample(found.anchors, [objects(3, size=(32, 48)).float()] * 2, SIZES[:2], generator())
    by_places, by_samples = (
        RPN(8, (8, 16), replace(rpn.settings, by_locations=each)).losses(found, samples)["rpn_box"]
        for each in (True, False)
    )
    assert (by_samples / by_places).item() == pytest.approx((4 * 6 + 2 * 3) / 256, rel=1e-5)


def test_padding_is_in_no_loss():
    rpn = RPN(8, (16,), replace(SETTINGS, inside=True), generator())
    found = rpn([random(1, 8, 5, 5, dtype=torch.float32)])
    samples = rpn.sample(found.anchors, [torch.tensor([[4.0, 4, 25, 25]])], torch.tensor([[80, 80]]), generator())
    padding = samples.labels == -1
    assert padding.any() and (samples.labels == 1).any() and (samples.labels == 0).any()
    before = rpn.losses(found, samples)
    logits, offsets = found.logits.clone(), found.offsets.clone()
    logits[0, samples.index[padding]], offsets[0, samples.index[padding]] = 50.0, float("nan")
    after = rpn.losses(found._replace(logits=logits, offsets=offsets), samples)
    assert all(torch.equal(before[name], after[name]) for name in before)


# --- proposals: FRCNN-27, 28, X-03


def test_images_of_a_batch_do_not_touch_each_other():
    """Two images with the same boxes, one with few: each as it is alone, and the best of each remain."""
    ours, _ = pair(ONE, replace(SETTINGS, nms_threshold=0.5))
    for mode in (True, False):
        ours.train(mode)
        found = random_predictions(ours, ONE)
        logits, offsets = found.logits.clone(), found.offsets.clone()
        logits[1], offsets[1] = logits[0] - 3, offsets[0]  # same boxes, lower scores
        offsets[2, 20:] = torch.tensor([0.0, 0, -20, -20])
        found = found._replace(logits=logits, offsets=offsets)
        sizes = SIZES[[0, 0, 2]]
        together = ours.propose(found, sizes)
        assert torch.equal(together.boxes[0], together.boxes[1])
        for i, boxes in enumerate(together.unpad()):
            part = found._replace(logits=found.logits[i : i + 1], offsets=found.offsets[i : i + 1])
            assert torch.equal(ours.propose(part, sizes[i : i + 1]).unpad()[0], boxes)
        assert 0 < len(together.unpad()[2]) < len(together.unpad()[0]) == SETTINGS.after_nms[not mode]


def test_padding_of_the_batch_changes_nothing():
    """An image's labels and proposals in a batch are those on a map of its own size."""
    ours, _ = pair(ONE, replace(SETTINGS, padding=False))
    found, boxes = random_predictions(ours, ONE), [objects(3, i, (40, 32)) for i in range(3)]
    sizes = torch.tensor([[96, 128], [72, 128], [96, 40]])
    together, state = ours.propose(found, sizes).unpad(), ours.label(found.anchors, boxes, sizes)[0]
    for i, (height, width) in enumerate((sizes // 8).tolist()):
        own = torch.zeros(12, 16, 9, dtype=torch.bool)
        own[:height, :width] = True
        own = own.flatten()
        alone = Predictions(
            found.logits[i : i + 1, own], found.offsets[i : i + 1, own], found.anchors[own], (int(own.sum()),)
        )
        assert torch.equal(together[i], ours.propose(alone, sizes[i : i + 1]).unpad()[0]) and len(together[i])
        assert torch.equal(state[i, own], ours.label(alone.anchors, boxes[i : i + 1], sizes[i : i + 1])[0][0])
        assert (state[i, ~own] == -1).all() and (state[i] == 1).any()


def test_nothing_large_enough_is_no_proposal():
    rpn = RPN(8, (16,), replace(SETTINGS, least_side=500.0), generator())
    found = rpn.propose(rpn([random(2, 8, 3, 4, dtype=torch.float32)]), SIZES[:2])
    assert not found.valid.any() and [each.shape for each in found.unpad()] == [(0, 4)] * 2


def test_a_proposal_of_the_least_side_stays():
    rpn = RPN(8, (16,), replace(SETTINGS, scales=(16,), ratios=(1.0,), least_side=16.0)).eval()
    found = rpn([torch.zeros(1, 8, 3, 4)])
    assert int(rpn.propose(found, torch.tensor([[48, 64]])).valid.sum()) == 2 * 3  # the others are clipped


def test_gradients_of_proposals_reach_the_offsets_alone():
    rpn = set_head(RPN(8, (16,), SETTINGS, generator()))
    proposals = rpn.propose(rpn([random(2, 8, 6, 8, dtype=torch.float32)]), SIZES[:2])
    (proposals.boxes.sum() + proposals.scores.sum()).backward()
    assert rpn.head.offsets.weight.grad.abs().sum() > 0 and rpn.head.score.weight.grad is None


def test_scores_that_rank():
    g = generator()
    background, thing = torch.randn(2, 200, generator=g) * 2
    probability = torch.stack((background, thing)).softmax(dim=0)[1]
    differ = not torch.equal(thing.argsort(), probability.argsort())
    claim("FRCNN-27", condition=differ, note="of two outputs the foreground's raw one orders otherwise")
    same = torch.equal((thing - background).argsort(), probability.argsort())
    claim("FRCNN-27", condition=same, note="their difference orders as the probability does")
    claim("FRCNN-27", condition=torch.equal(thing.argsort(), thing.sigmoid().argsort()), note="so does one output")

    head = RPNHead(4, 1, True)
    head.conv.weight.data.zero_()
    head.conv.weight.data[range(4), range(4), 1, 1] = 1
    head.score.weight.data = torch.eye(2, 4)[:, :, None, None]
    features = torch.stack((background, thing, background, thing)).view(1, 4, 10, 20).abs()
    ranked = head([features])[0][0].argsort()
    assert torch.equal(ranked, (features[0, 1] - features[0, 0]).flatten().argsort())


@pytest.mark.parametrize("rois", [64, 128, 256])
def test_proposals_for_the_head_are_not_repeated(rois):
    truths = objects(2).float() * 5
    near = (truths.repeat(10, 1) + 20 * torch.rand(20, 4, generator=generator())).clamp(0, 600)
    target = {"boxes": truths, "labels": torch.tensor([1, 2])}
    size = torch.tensor([[600, 1000]])
    few = draw_samples([near], [target], size, rois, 0.25, 0.5, (0.0, 0.5), generator())
    real = few.boxes[few.labels >= 0]
    once = len(real.unique(dim=0)) == len(real) < rois
    claim("FRCNN-28", condition=once, note=f"{rois} wanted of 22 windows: {len(real)} drawn, none of them twice")
    many = torch.cat((near, objects(2000, 5, (600, 1000)).float()))
    drawn = draw_samples([many], [target], size, rois, 0.25, 0.5, (0.0, 0.5), generator())
    claim("FRCNN-28", int((drawn.labels >= 0).sum()), rois, note="drawn of 2,022 windows")
    assert len(drawn.boxes[0].unique(dim=0)) == rois


def test_thresholds_of_nms():
    table = {
        "proposals": RPNSettings().nms_threshold,
        "Faster R-CNN's detections": FasterRCNNSettings().nms_threshold,
        "Fast R-CNN's": FastRCNNSettings().nms_threshold,
        "RetinaNet's": 0.5,  # Lin et al., ICCV 2017: the literature's
    }
    tried = RCNNSettings().nms_thresholds
    told = list(table.values()) == [0.7, 0.3, 0.3, 0.5] and 0.3 in tried and len(tried) > 3
    text = ", ".join(f"{name} {value}" for name, value in table.items())
    claim("X-03", condition=told, note=f"{text}; R-CNN's is picked on validation from {tried[0]} to {tried[-1]}")

    kept = {}
    for threshold in (0.0, 0.3, 0.5, 0.7, 0.9, 1.0):
        ours, _ = pair(ONE, replace(SETTINGS, nms_threshold=threshold, after_nms=(5000, 5000)))
        kept[threshold] = int(ours.propose(random_predictions(ours, ONE), SIZES).valid.sum())
    counts = list(kept.values())
    rising = counts == sorted(counts) and len(set(counts)) == len(counts)
    claim("X-03", condition=rising, note=f"boxes left by threshold: {kept}")


# --- types, devices, wrong input


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_move_no_anchor(dtype):
    rpn = set_head(RPN(8, (16,), replace(SETTINGS, scales=(64, 128, 256)), generator()))
    maps, size = [random(1, 8, 38, 63, dtype=torch.float32)], torch.tensor([[600, 1000]])
    expected = rpn(maps)
    with torch.autocast("cpu", dtype=dtype):
        found = rpn(maps)
        proposals = rpn.propose(found, size)
        samples = rpn.sample(found.anchors, [objects(5, size=(600, 1000)).float()], size, generator())
        losses = rpn.losses(found, samples)
    assert torch.equal(found.anchors, expected.anchors) and found.logits.dtype == torch.float32
    assert torch.allclose(found.logits, expected.logits, atol=0.3) and proposals.valid.any()
    assert proposals.boxes.dtype == torch.float32
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())


@pytest.mark.gpu
@pytest.mark.parametrize("shapes", [ONE, THREE])
def test_a_gpu_gives_what_the_cpu_gives(shapes):
    results = []
    boxes = [objects(5), objects(0), objects(500, 1)]
    for device in ("cpu", "cuda"):
        rpn = pair(shapes)[0].to(device)
        found = rpn([each.to(device) for each in maps_of(shapes)])
        own = [each.to(device) for each in boxes]
        samples = rpn.sample(found.anchors, own, SIZES.to(device), generator())
        losses = rpn.losses(found, samples)
        results.append([*found[:3], *rpn.propose(found, SIZES.to(device)), *samples, *losses.values()])
    for mine, other in zip(*results, strict=True):
        assert torch.allclose(mine.double(), other.cpu().double(), rtol=0, atol=1e-8)


def test_initial_weights_follow_the_generator():
    first, second, other = (RPN(64, (16,), generator=generator(seed)).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.conv.weight"], other["head.conv.weight"])
    for name, value in first.items():
        assert (value.std() - 0.01).abs() < 2e-3 if name.endswith("weight") else not value.any()


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match=r"anchors: 'round', expected one of \['caffe', 'exact', 'torchvision'\]"):
        RPN(8, (16,), RPNSettings(anchors="round"))
    for scales in (((32,), (64,)), ((32,), (64,), (64, 128))):
        with pytest.raises(ValueError, match="scales: expected as many for each of 3 maps"):
            RPN(8, (8, 16, 32), RPNSettings(scales=scales))
    with pytest.raises(ValueError):
        RPN(8, (8, 16))([torch.zeros(1, 8, 4, 4)])  # one map too few


def test_anchors_on_the_padding_neither_propose_nor_train():
    rpn = RPN(8, (16,), replace(SETTINGS, padding=False), generator()).eval()
    small = random(1, 8, 3, 4, seed=1).float()
    both = torch.cat((torch.nn.functional.pad(small, (0, 8, 0, 5)), random(1, 8, 8, 12, seed=2).float()))
    alone = rpn([small])
    sizes = torch.tensor([[48, 64], [128, 192]])
    said = rpn([both])
    mine = (said.anchors[:, :2] + said.anchors[:, 2:] < 2 * torch.tensor([64, 48])).all(dim=1)
    said.logits[0, mine] = alone.logits[0]  # the convolution looks one cell into the padding
    said.offsets[0, mine] = alone.offsets[0]
    said.logits[0, ~mine] = 30.0
    in_batch, by_itself = rpn.propose(said, sizes).unpad()[0], rpn.propose(alone, sizes[:1]).unpad()[0]
    assert len(by_itself) > 5 and torch.equal(in_batch, by_itself)
    truth = torch.tensor([[20.0, 10, 60, 40]])
    state = rpn.label(said.anchors, [truth, truth], sizes)[0]
    assert (state[0, ~mine] == -1).all() and (state[0, mine] != -1).any() and (state[1] == 0).any()
    theirs = RPN(8, (16,), SETTINGS, generator()).eval()
    assert not torch.equal(theirs.propose(said, sizes).unpad()[0], by_itself)
    assert (theirs.label(said.anchors, [truth, truth], sizes)[0][0, ~mine] == 0).any()
