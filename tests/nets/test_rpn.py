from dataclasses import replace

import pytest
import torch
from torchvision.models.detection import rpn as peer
from torchvision.models.detection.image_list import ImageList

from rcnn_tutorial.nets.rpn import RPN, RPNSettings
from tests.nets.rpn_peer import (
    ONE,
    SETTINGS,
    SIZES,
    THREE,
    generator,
    maps_of,
    objects,
    of_torchvision,
    pair,
    random,
    random_predictions,
    set_head,
)


@pytest.mark.parametrize("shapes", [ONE, THREE, [(1, 1)]])
def test_anchors_and_head_equal_torchvision(shapes):
    ours, theirs = pair(shapes)
    maps = maps_of(shapes)
    images = ImageList(torch.zeros(3, 3, 96, 96 * shapes[0][1] // shapes[0][0]), [(96, 128)] * 3)
    found = ours(maps)
    for expected in theirs.anchor_generator(images, maps):
        assert torch.allclose(found.anchors, expected, rtol=0, atol=1e-9)
    logits, offsets = peer.concat_box_prediction_layers(*theirs.head(maps))
    assert found.counts == tuple(h * w * len(c) for (h, w), c in zip(shapes, ours.cell_anchors, strict=True))
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
    matched, state = ours.label(anchors, boxes, SIZES)
    labels, expected = theirs.assign_targets_to_anchors([anchors] * 3, [{"boxes": each} for each in boxes])
    assert torch.equal(state, torch.stack(labels).long())
    for index, label, other, objects_of in zip(matched, labels, expected, boxes, strict=True):
        assert torch.equal(objects_of[index[label == 1]], other[label == 1])
    assert all((row == 1).any() == bool(len(each)) for row, each in zip(state, boxes, strict=True))


def test_labels_on_a_map_of_one_cell():
    ours, theirs = pair([(1, 1)])
    anchors = ours(maps_of([(1, 1)], 1)).anchors
    boxes = [torch.tensor([[0.0, 0, 20, 30], [3, 3, 9, 9]]).double()]
    labels, _ = theirs.assign_targets_to_anchors([anchors], [{"boxes": boxes[0]}])
    state = ours.label(anchors, boxes, SIZES[:1]).state
    assert torch.equal(state, torch.stack(labels).long()) and (state == 1).any()
    # torchvision lets an object that nothing overlaps rescue every anchor
    assert not ours.label(anchors, [boxes[0] + 90], SIZES[:1]).state.any()


@pytest.mark.parametrize("shapes", [ONE, THREE])
def test_losses_of_given_samples_equal_torchvision(shapes):
    ours, theirs = pair(shapes)
    boxes = [objects(7), objects(0), objects(30, 2)]
    found = ours(maps_of(shapes))
    samples = ours.sample(found.anchors, boxes, SIZES, generator())
    assert samples.chosen.shape == (3, 256) and (samples.labels >= 0).all() and (samples.labels == 1).any()

    masks = torch.zeros(2, *found.logits.shape, dtype=torch.bool)
    for i in range(3):
        for label in (0, 1):
            masks[label, i, samples.chosen[i][samples.labels[i] == label]] = True
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
    losses = ours.losses(found._replace(logits=own[0], offsets=own[1]), samples, boxes)
    (losses["objectness"] + losses["rpn_box"]).backward()
    for mine, other in zip(losses.values(), expected, strict=True):
        assert abs(mine - other) < 1e-9 and mine > 0.01
    for mine, other in zip(own, leaves, strict=True):
        assert torch.allclose(mine.grad, other.grad, rtol=0, atol=1e-9)


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
        assert mine.counts.tolist() == [len(other) for other in boxes]
        for own, score, count, other, expected in zip(*mine, boxes, scores, strict=True):
            assert torch.allclose(own[:count], other, rtol=0, atol=1e-9)
            assert torch.allclose(score[:count], expected, rtol=0, atol=1e-9)
            assert not own[count:].any() and not score[count:].any()
    assert mine.counts.max() == SETTINGS.after_nms[not training] == mine.boxes.shape[1]


@pytest.mark.parametrize("shapes", [ONE, THREE])
def test_proposals_of_tied_scores_are_the_same_set(shapes):
    settings = replace(SETTINGS, before_nms=(5000, 5000), after_nms=(5000, 5000))
    ours, theirs = pair(shapes, settings)
    found = random_predictions(ours, shapes, levels=1)
    assert found.logits.unique().numel() < 20
    for own, other in zip(ours.propose(found, SIZES).unpad(), of_torchvision(theirs, found, SIZES)[0], strict=True):
        mine, expected = ({tuple(box) for box in each.mul(1e6).round().tolist()} for each in (own, other))
        assert mine == expected and len(mine) > 50


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_move_no_anchor(dtype):
    rpn = set_head(RPN(8, (16,), replace(SETTINGS, scales=(64, 128, 256)), generator()))
    half, size = [random(1, 8, 38, 63, dtype=torch.float32).to(dtype)], [(600, 1000)]
    maps = [each.float() for each in half]  # the same numbers
    expected = rpn(maps)
    with torch.autocast("cpu", dtype=dtype):
        found = rpn(half)
        assert torch.equal(rpn(maps).logits, found.logits)
        proposals = rpn.propose(found, size)
        boxes = [objects(5, size=(600, 1000)).float()]
        samples = rpn.sample(found.anchors, boxes, size, generator())
        losses = rpn.losses(found, samples, boxes)
    assert torch.equal(found.anchors, expected.anchors) and found.logits.dtype == torch.float32
    assert torch.allclose(found.logits, expected.logits, atol=0.3) and proposals.counts[0]
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
        samples = rpn.sample(found.anchors, own, SIZES, generator())
        losses = rpn.losses(found, samples, own)
        results.append([*found[:3], *rpn.propose(found, SIZES)[:2], *samples, *losses.values()])
    for mine, other in zip(*results, strict=True):
        assert torch.allclose(mine.double(), other.cpu().double(), rtol=0, atol=1e-8)


def test_initial_weights_follow_the_generator():
    first, second, other = (RPN(64, (16,), RPNSettings(), generator(seed)).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.conv.weight"], other["head.conv.weight"])
    for name, value in first.items():
        assert (value.std() - 0.01).abs() < 2e-3 if name.endswith("weight") else not value.any()


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match=r"anchors: expected one of \['caffe', 'exact', 'torchvision'\], got 'round'"):
        RPN(8, (16,), RPNSettings(anchors="round"))
    for scales in (((32,), (64,)), ((32,), (64,), (64, 128))):
        with pytest.raises(ValueError, match="scales: expected as many for each of 3 maps"):
            RPN(8, (8, 16, 32), RPNSettings(scales=scales))
    with pytest.raises(ValueError):
        RPN(8, (8, 16), RPNSettings())([torch.zeros(1, 8, 4, 4)])  # one map too few
