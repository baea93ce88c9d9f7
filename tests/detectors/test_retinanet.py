"""RetinaNet: its anchors and what they are examples of, the first losses, the network, and what it gives."""

from dataclasses import replace
from functools import cache
from math import isclose

import pytest
import torch
from torch import nn
from torchvision.models import resnet50

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.detectors import build
from rcnn_tutorial.detectors.retinanet import Dense, RetinaNet, RetinaNetSettings, octaves
from rcnn_tutorial.detectors.two_stage import to_input
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.nets.rpn import Predictions
from rcnn_tutorial.ops.anchors import anchor_grid
from rcnn_tutorial.ops.assign import Matches
from rcnn_tutorial.ops.boxes import box_iou, decode, encode
from rcnn_tutorial.ops.losses import sigmoid_focal_loss, smooth_l1
from rcnn_tutorial.training import TrainSettings, train
from tests.detectors.scenes import CLASSES, Scenes, batch

NONE = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
SIDES = [32, 64, 128, 256, 512]
COUNTS = {(600, 1000): 113_193, (500, 833): 79_947, (600, 800): 90_360, (800, 1333): 200_700}


def untrained(seed=0, **changes):
    return RetinaNet(tiny_net(pretrained=True), CLASSES, RetinaNetSettings.tiny(**changes), seed=seed)


@cache
def published():
    """Of ResNet-50 and 80 classes, without memory for its weights."""
    with torch.device("meta"):
        return RetinaNet(resnet50(), ("background", *map(str, range(80))), RetinaNetSettings(min_size=None))


@cache
def published_dense():
    """The published head and its anchors, of 80 classes, with its initial weights."""
    return Dense((8, 16, 32, 64, 128), 80, RetinaNetSettings(), torch.Generator().manual_seed(0))


@cache
def grids(height, width):
    """The published anchors of an image of this size, map after map."""
    maps = published().body(torch.empty(1, 3, height, width, device="meta"))
    parts = zip(published_dense().cell_anchors, maps, published_dense().strides, strict=True)
    return [anchor_grid(cell, tuple(each.shape[-2:]), stride) for cell, each, stride in parts]


# The network


@pytest.mark.parametrize("size", COUNTS)
def test_all_anchors_of_an_image(size):
    found = sum(map(len, grids(*size)))
    claim("RET-13", found, COUNTS[size], note=f"anchors of an image of {size[1]} x {size[0]}")


def test_levels_three_to_seven():
    model, size = published(), (600, 1000)
    maps = model.body(torch.empty(1, 3, *size, device="meta"))
    shapes = [(each.shape[-1], each.shape[-2]) for each in maps]
    expected = [(125, 75), (63, 38), (32, 19), (16, 10), (8, 5)]
    claim("RET-08", condition=shapes == expected, note="maps of an image of 1000 x 600, P3 to P7")
    claim("RET-08", condition=model.strides == (8, 16, 32, 64, 128), note="strides of P3 to P7")
    claim("RET-08", 9 * 250 * 150, 337_500, note="anchors that P2 would add")
    assert model.body.p6.in_channels == 2048 and model.body.p6.stride == model.body.p7.stride == (2, 2)
    on_p5 = untrained(extra="P5").body
    assert on_p5.p6.in_channels == 64 and untrained().body.p6.in_channels == on_p5.bottom_up.channels[-1] == 96
    with pytest.raises(ValueError, match="extra: expected 'C5' or 'P5'"):
        untrained(extra="C4")


def test_p6_and_p7_are_made_one_of_the_other():
    for extra in ("C5", "P5"):
        body = untrained(extra=extra).body
        images = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
        stages = body.bottom_up(images)
        maps = body(images)
        assert len(maps) == 5 and all(map(torch.equal, maps, body.fpn(stages[1:])))
        p6 = body.p6(stages[-1] if extra == "C5" else maps[2])
        assert torch.equal(maps[3], p6) and torch.equal(maps[4], body.p7(p6.relu())) and (p6 < 0).any()


def test_two_subnets_of_four_convolutions_that_share_nothing():
    head = published_dense().head
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in head.named_children()}
    claim("RET-12", parts["scores"], 4_019_920, note="weights of the class subnet, K = 80 and A = 9")
    claim("RET-12", parts["boxes"], 2_443_300, note="weights of the box subnet")
    claim("RET-12", sum(parts.values()), 6_463_220, note="weights of both")
    outputs = head.scores.last.out_channels, head.boxes.last.out_channels
    claim("RET-12", condition=outputs == (720, 36), note="outputs at a cell: K A and 4 A")
    shared = {p.data_ptr() for p in head.scores.parameters()} & {p.data_ptr() for p in head.boxes.parameters()}
    claim("RET-12", condition=not shared, note="the subnets share no weight")
    model = untrained()
    maps = [torch.randn(1, 64, 6, 8, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]
    one, other = (model.dense.head.scores(each) for each in maps)
    both = model.dense([*maps, *maps[:1] * 3])
    first = both.logits.split(both.counts, dim=1)
    same = first[0].equal(first[2]) and not one.equal(other)
    claim("RET-12", condition=same, note="all levels have the same subnets")
    assert both.logits.shape == (1, 5 * 48 * 9, 6) and both.offsets.shape == (1, 5 * 48 * 9, 4)


def test_each_output_is_about_its_anchor():
    """A cell of a map raises the logits and offsets of the anchors about that cell alone, class by class."""
    dense = untrained().dense
    head = dense.head
    for part in (head.scores, head.boxes):
        part.layers = nn.Sequential()
        nn.init.zeros_(part.last.weight), nn.init.zeros_(part.last.bias)
    with torch.no_grad():
        head.scores.last.weight[3 * 6 + 2, 0, 1, 1] = 1  # anchor 3, class 3 of six
        head.boxes.last.weight[3 * 4 + 1, 0, 1, 1] = 1
    maps = [torch.zeros(1, 64, *size) for size in ((24, 32), (12, 16), (6, 8), (3, 4), (2, 2))]
    maps[1][0, 0, 5, 7] = 1
    said = dense(maps)
    at = said.counts[0] + (5 * 16 + 7) * 9 + 3
    assert said.logits.nonzero().tolist() == [[0, at, 2]] and said.offsets.nonzero().tolist() == [[0, at, 1]]
    x, y = ((said.anchors[at, :2] + said.anchors[at, 2:]) / 2).tolist()
    assert (x, y) == (7.5 * 16, 5.5 * 16)


# The first losses


def test_the_prior_is_the_last_bias():
    head = published_dense().head
    bias = head.scores.last.bias
    claim("RET-05", bias[0].item(), -4.59512, tol=5e-6, note="last bias of the class subnet, prior 0.01")
    maps = [torch.randn(1, 256, 5, 8, generator=torch.Generator().manual_seed(1))]
    with torch.no_grad():
        mean = head.scores(maps[0]).sigmoid().mean().item()
    claim("RET-05", mean, 0.010, tol=0.0005, note="mean probability that the network begins with")
    assert bias.unique().numel() == 1 and not head.boxes.last.bias.any()


def test_the_prior_keeps_the_first_losses_small():
    negatives = torch.zeros(100_000)
    for prior, cross, focal in ((0.5, 69_315, 12_997), (0.01, 1_005, 0.075)):
        logits = torch.full_like(negatives, prior).double().logit()
        ce = sigmoid_focal_loss(logits, negatives.double(), alpha=-1, gamma=0, reduction="sum").item()
        fl = sigmoid_focal_loss(logits, negatives.double(), reduction="sum").item()
        claim("RET-06", ce, cross, tol=0.5, note=f"log loss of 100,000 negatives at p = {prior}")
        claim("RET-06", fl, focal, tol=0.5 if focal > 1 else 0.0005, note=f"focal loss of them at p = {prior}")


def test_the_first_gradient_with_the_prior_and_without():
    images, targets = batch(2)
    norms = []
    for prior in (0.01, 0.5):
        model = untrained(prior=prior, gamma=0.0)
        model(images, targets)["class"].backward()
        norms.append(model.dense.head.scores.last.weight.grad.norm().item())
    claim("RET-06", condition=norms[1] > 10 * norms[0], note="log loss: the first gradient is ten times larger without")


def test_small_gaussian_weights():
    head, convs = published_dense().head, []
    for part in (head.scores, head.boxes):
        convs += [*(layer[0] for layer in part.layers), part.last]
    spread = [conv.weight.std().item() for conv in convs]
    good = len(convs) == 10 and all(isclose(each, 0.01, rel_tol=0.02) for each in spread)
    claim("RET-07", condition=good, note="ten convolutions of standard deviation 0.01")
    biases = [conv.bias for conv in convs if conv is not head.scores.last]
    claim("RET-07", condition=not torch.cat(biases).any(), note="all biases but the prior's are 0")
    by_he = untrained().dense.head
    assert isclose(by_he.scores.layers[2][0].weight.std().item(), (2 / (9 * 64)) ** 0.5, rel_tol=0.02)
    assert isclose(by_he.scores.last.weight.std().item(), 0.01, rel_tol=0.05)


# The anchors


def test_nine_anchors_of_three_octave_steps():
    dense = published_dense()
    for stride, cell, side in zip(dense.strides, dense.cell_anchors, SIDES, strict=True):
        width, height = (cell[:, 2:] - cell[:, :2]).unbind(1)
        sides = torch.tensor([side * factor for factor in (1, 1.259921, 1.587401)] * 3)
        ratios = torch.tensor([0.5, 1, 2]).repeat_interleave(3)
        good = len(cell) == 9 and torch.allclose((width * height).sqrt(), sides, rtol=1e-5)
        good &= torch.allclose(height / width, ratios, rtol=1e-5)
        claim("RET-09", condition=good and side == 4 * stride, note=f"three ratios, {side} px and two steps, {stride}")
    sides = torch.tensor([scale for level in RetinaNetSettings().scales for scale in level])
    claim("RET-10", sides.max().item(), 812.75, tol=0.005, note="side of the largest anchor")
    claim("RET-10", sides.min().item(), 32, note="side of the smallest anchor")
    claim("RET-10", (sides[1:] / sides[:-1]).max().item(), 1.26, tol=0.005, note="from each size to the next")
    between = 32 * 2 ** (1 / 6)
    boxes = torch.tensor([[-side / 2, -side / 2, side / 2, side / 2] for side in (between, 32.0)])
    claim("RET-10", box_iou(boxes[:1], boxes[1:]).item(), 0.794, tol=0.0005, note="IoU of a box half a step away")


def labelled(overlaps, low=0.4, high=0.5):
    """States of anchors of 100 x 100 that overlap an object by so much; one more is the object's best."""
    dense = Dense((8,), 3, replace(RetinaNetSettings(), scales=((32.0,),), foreground=high, background=(0.0, low)),
                     torch.Generator())  # fmt: skip
    anchors = torch.tensor([[0, 0, 100, 100 * iou] for iou in (*overlaps, 1.0)], dtype=torch.float64)
    return dense.label(anchors, [torch.tensor([[0.0, 0, 100, 100]])], [(100, 100)]).state[0, :-1].tolist()


def test_labels_at_the_bounds():
    states = dict(zip((0.39, 0.4, 0.49, 0.5), labelled((0.39, 0.4, 0.49, 0.5)), strict=True))
    claim("RET-11", condition=states == {0.39: 0, 0.4: -1, 0.49: -1, 0.5: 1}, note="IoU 0.39, 0.4, 0.49 and 0.5")
    settings = RetinaNetSettings()
    assert (settings.foreground, settings.background) == (0.5, (0.0, 0.4))


def test_objects_of_usual_sizes_have_a_good_anchor():
    """Of side 32 to 500 and aspect 1/2 to 2; of the smaller ones, half have none of 0.5."""
    g = torch.Generator().manual_seed(0)

    def best(low, high, count=300):
        side = low * (high / low) ** torch.rand(count, generator=g)
        root = 2 ** (torch.rand(count, generator=g) - 0.5)
        size = torch.stack((side * root, side / root), dim=1)
        corner = torch.rand(count, 2, generator=g) * (torch.tensor([1000.0, 600]) - size).clamp(min=0)
        boxes, anchors = torch.cat((corner, corner + size), dim=1), torch.cat(grids(600, 1000))
        return torch.cat([box_iou(part, anchors).amax(1) for part in boxes.split(25)])

    claim("RET-11", condition=best(32, 500).min().item() > 0.55, note="boxes of side 32 to 500 have an anchor of 0.55")
    share = (best(16, 32) >= 0.5).double().mean().item()
    claim("RET-11", share, within=(0.35, 0.65), agrees="does not decide", source="not mentioned",
          note="share of boxes of side 16 to 32 with an anchor of 0.5")  # fmt: skip


def test_an_objects_best_anchor_is_positive_whatever_its_iou():
    dense = untrained().dense
    anchors = anchor_grid(dense.cell_anchors[0], (24, 32), 8)
    tiny = torch.tensor([[100.0, 100, 104, 103]])
    state = dense.label(anchors, [tiny], [(192, 256)]).state
    assert (state == 1).sum() >= 1 and box_iou(anchors, tiny).max() < 0.2


# The losses


def test_a_target_has_at_most_one_class(monkeypatch):
    model, (images, targets) = untrained(), batch(2)
    seen = []
    monkeypatch.setattr(Dense, "class_loss", lambda self, logits, wanted, state: seen.append(wanted) or logits.sum())
    model(images, targets)
    claim("RET-11", condition=set(seen[0].sum(-1).unique().tolist()) == {0, 1}, note="rows of the target sum to 0 or 1")


def said_of(anchors, logits, offsets):
    return Predictions(logits, offsets, anchors, (len(anchors),))


def test_losses_by_hand():
    """Two classes; a positive anchor, a negative one, and one between the bounds, which counts in neither sum."""
    dense = Dense((8,), 2, replace(RetinaNetSettings(), scales=((8.0,),), ratios=(1.0,)), torch.Generator())
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]])
    logits = torch.tensor([[[0.9, 0.2], [0.1, 0.5], [0.9, 0.9]]]).logit()
    offsets = torch.tensor([[[0.5, 0.0, 0, 0], [9, 9, 9, 9], [9, 9, 9, 9]]])
    matches = Matches(torch.tensor([[0, 0, 0]]), torch.tensor([[1, 0, -1]]))
    target = {"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([1])}
    found = dense.losses(said_of(anchors, logits, offsets), matches, [target])
    # 0.25 (0.1)^2 -log 0.9; 0.75 (0.2)^2 -log 0.8; 0.75 (0.1)^2 -log 0.9; 0.75 (0.5)^2 -log 0.5
    assert found["class"].item() == pytest.approx(0.00026340 + 0.00669431 + 0.00079020 + 0.12996510, rel=1e-5)
    assert found["box"].item() == pytest.approx(0.5 - 0.055)
    alone = dense.losses(said_of(anchors, logits, offsets), Matches(matches.truth, torch.tensor([[0, 0, -1]])), [NONE])
    assert alone["box"] == 0 and alone["class"] > found["class"]


def test_divided_by_the_positive_anchors():
    model, (images, targets) = untrained(), batch(2)
    data, maps = model.maps(images)
    said, inside = model.dense(maps), to_input(data, targets)
    matches = model.dense.label(said.anchors, [target["boxes"] for target in inside], data.sizes)
    positive = int((matches.state == 1).sum())
    total = model.dense.class_loss(said.logits, *questions(model, matches, inside))
    found = model.dense.losses(said, matches, inside)["class"]
    claim("RET-14", condition=torch.allclose(found, total / positive), note="the sum over all, divided by the positive")
    share = matches.state.numel() / positive
    claim("RET-14", condition=share > 100, note="divided by all anchors it would be a hundred times smaller or more")
    assert 10 < positive < matches.state.numel() / 50


def questions(model, matches, targets):
    """What the anchors are asked, and their states."""
    wanted = torch.zeros(*matches.state.shape, len(model.classes) - 1)
    for i, target in enumerate(targets):
        rows = (matches.state[i] == 1).nonzero()[:, 0]
        wanted[i, rows, target["labels"][matches.truth[i, rows]] - 1] = 1
    return wanted, matches.state


def test_positives_of_a_paper_sized_image():
    """Five objects of 60 to 300 px in an image of 1000 x 600, ten times."""
    g, counts = torch.Generator().manual_seed(0), []
    for _ in range(10):
        size = 60 + 240 * torch.rand(5, 2, generator=g)
        corner = torch.rand(5, 2, generator=g) * (torch.tensor([1000.0, 600]) - size)
        boxes = torch.cat((corner, corner + size), dim=1)
        state = published_dense().label(torch.cat(grids(600, 1000)), [boxes], [(600, 1000)]).state
        counts.append([int((state == each).sum()) for each in (1, 0)])
    positive, negative = torch.tensor(counts).double().mean(0).tolist()
    claim("RET-14", negative / positive, within=(300, 3000), agrees="does not decide", source="no count is named",
          note="negatives for each positive anchor, five objects in 1000 x 600")  # fmt: skip


@pytest.mark.parametrize("box_loss", ["smooth_l1", "l1", "giou"])
def test_box_losses_are_least_at_the_object(box_loss):
    dense = Dense((8,), 2, RetinaNetSettings(scales=((8.0,),), box_loss=box_loss), torch.Generator())
    anchors, boxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 25, 15]]), torch.tensor([[1.0, 2, 9, 14], [5, 0, 30, 20]])
    right = encode(boxes, anchors)
    assert dense.box_loss(right, boxes, anchors).item() == pytest.approx(0, abs=1e-5)
    off = right + torch.tensor([0.3, 0, 0, 0])
    expected = {"l1": 0.6, "smooth_l1": 2 * smooth_l1(torch.tensor(0.3), 0.11).item()}
    moved = decode(off, anchors)
    expected["giou"] = (1 - box_iou(moved, boxes).diag()).sum().item()  # side by side, the box about both has no gap
    assert dense.box_loss(off, boxes, anchors).item() == pytest.approx(expected[box_loss], rel=1e-4)
    with pytest.raises(ValueError, match="box_loss: expected one of"):
        untrained(box_loss="l2")


def test_stages_one_by_one_are_forward():
    model, (images, targets) = untrained(min_size=120, max_size=1000), batch(2)
    whole = model(images, targets)
    data, maps = model.maps(images)
    inside, said = to_input(data, targets), model.dense(maps)
    matches = model.dense.label(said.anchors, [target["boxes"] for target in inside], data.sizes)
    found = model.dense.losses(said, matches, inside)
    assert found.keys() == whole.keys() and all(torch.equal(found[name], whole[name]) for name in found)
    model.eval()
    with torch.no_grad():
        data, maps = model.maps(images)
        chosen = model.choose(data, model.dense(maps))
    for one, other in zip(chosen, model(images), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)


def test_every_layer_learns():
    model, (images, targets) = untrained(), batch(2)
    sum(model(images, targets).values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_pictures_without_objects_teach_to_say_no():
    model, (images, _) = untrained(), batch(2)
    losses = model(images, [NONE, NONE])
    sum(losses.values()).backward()
    assert losses["box"] == 0 and losses["class"] > 0 and model.dense.head.scores.last.bias.grad.min() > 0
    assert model.dense.head.boxes.last.weight.grad is not None and not model.dense.head.boxes.last.weight.grad.any()


def test_the_padding_of_a_batch_is_no_background():
    """A small image beside a large one has the losses that it has alone, and no detections on the padding."""
    model, (images, targets) = untrained(least_score=0.0), batch(2)
    small = images[1][:, :96, :128].contiguous()
    target = {"boxes": torch.tensor([[20.0, 20, 70, 80]]), "labels": torch.tensor([2])}
    data, maps = model.maps([images[0], small])
    said = model.dense(maps)
    state = model.dense.label(said.anchors, [targets[0]["boxes"], target["boxes"]], data.sizes).state
    middle = (said.anchors[:, :2] + said.anchors[:, 2:]) / 2
    beyond = (middle[:, 0] >= 128) | (middle[:, 1] >= 96)
    assert (state[1, beyond] == -1).all() and (state[1, ~beyond] >= 0).any() and (state[0, beyond] >= 0).any()
    found = model.eval()([images[0], small])[1]["boxes"]
    assert len(found) and (found[:, 2] <= 128).all() and (found[:, 3] <= 96).all()


# From all anchors to detections


def test_at_most_a_thousand_scores_of_each_map():
    model = untrained(candidates=50).eval()
    data, maps = model.maps(batch(2)[0])
    with torch.no_grad():
        said = model.dense(maps)
        scores, boxes = model.dense.candidates(said, data.sizes)
    assert [tuple(each.shape) for each in scores] == [(5 * 50, 6)] * 2 and boxes[0].shape == (250, 1, 4)
    shown = model.dense.on_image(said.anchors, data.sizes)[1]
    probability = (said.logits[1].sigmoid() * shown[:, None]).split(said.counts)
    for part, level in zip(scores[1].split(50), probability, strict=True):
        best = level.flatten().topk(50).values
        assert torch.equal(part.sum(1), best) and ((part > 0).sum(1) == (best > 0)).all()
    settings = RetinaNetSettings()
    chosen = settings.candidates * 5, settings.least_score, settings.nms_threshold
    claim("RET-16", condition=chosen == (5000, 0.05, 0.5), note="at most 5,000 boxes are decoded; 0.05 and NMS at 0.5")


def test_candidates_are_classes_of_anchors():
    """Of one anchor several classes may pass, each a box of its own for NMS."""
    dense = Dense((8,), 2, RetinaNetSettings(scales=((8.0,),), ratios=(1.0,), candidates=3), torch.Generator())
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    logits = torch.tensor([[[2.0, 1], [-3, 0]]])
    offsets = torch.zeros(1, 2, 4)
    offsets[0, 1, 0] = 0.5
    (scores,), (boxes,) = dense.candidates(said_of(anchors, logits, offsets), [(10, 40)])
    p = torch.tensor([2.0, 1, 0]).sigmoid()
    assert torch.equal(scores, torch.tensor([[p[0], 0], [0, p[1]], [0, p[2]]]))
    assert boxes[:, 0].tolist() == [[0, 0, 10, 10], [0, 0, 10, 10], [25, 0, 35, 10]]


def test_nms_is_within_a_class_and_over_all_levels():
    model = untrained(least_score=0.3, detections=10).eval()
    data = model.preprocess([torch.zeros(3, 192, 256)])
    anchors = torch.tensor([[10.0, 10, 50, 50], [10, 10, 50, 52], [10, 10, 50, 54]])
    logits = torch.full((1, 3, 6), -9.0)
    logits[0, 0, 1], logits[0, 1, 1], logits[0, 2, 4] = 2, 1, 0.5
    said = Predictions(logits, torch.zeros(1, 3, 4), anchors, (1, 1, 1))  # each of another map
    (found,) = model.choose(data, said)
    assert found["labels"].tolist() == [2, 5] and found["scores"].tolist() == pytest.approx([0.8808, 0.6225], abs=1e-4)


def test_proposals_of_a_data_set_change_nothing():
    model, (images, targets) = untrained(least_score=0.0), batch(2)
    boxes = [target["boxes"] for target in targets]
    given = [target | {"proposals": own} for target, own in zip(targets, boxes, strict=True)]
    losses, again = model(images, targets), model(images, given)
    assert all(torch.equal(again[name], losses[name]) for name in losses)
    model.eval()
    for one, other in zip(model(images, proposals=boxes), model(images), strict=True):
        assert len(one["boxes"]) and torch.equal(one["boxes"], other["boxes"])


def test_nothing_is_found_in_an_untrained_networks_answers():
    found = untrained().eval()(batch(2)[0])
    assert all(len(each["boxes"]) == len(each["labels"]) == len(each["scores"]) == 0 for each in found)


def test_two_pictures_are_learnt():
    model = untrained()
    history = train(model, Scenes(2), TrainSettings(12, batch_size=2, lr=0.02, clip_norm=10.0), progress=False)
    assert history.losses["class"][-1] < 0.9 * history.losses["class"][0]


def test_built_by_its_name_and_by_the_papers_settings():
    model = build("retinanet", CLASSES)
    assert (
        isinstance(model, RetinaNet)
        and model.settings.channels == 64
        and model.settings.scales == octaves(16, 32, 64, 128, 256)
    )
    plan = RetinaNetSettings().training
    assert (plan.steps, plan.batch_size, plan.lr, plan.weight_decay) == (90_000, 16, 0.01, 1e-4)
