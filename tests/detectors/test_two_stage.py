from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import torchvision

from experiments.variants import MovingFasterRCNN, WarpingFasterRCNN
from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.detectors.two_stage import LEAST_DETECTION, Samples, draw_samples, given, to_input
from rcnn_tutorial.ops.boxes import box_iou, encode
from tests.detectors.scenes import batch, scene, trained, untrained

HEAD, ALL = {"class", "box"}, {"objectness", "rpn_box", "class", "box"}


def total(losses, names=ALL):
    return sum(losses[name] for name in names)


def gradients(loss, parameters):
    """Which of the parameters the loss moves."""
    found = torch.autograd.grad(loss, list(parameters), allow_unused=True, retain_graph=True)
    return [gradient is not None and bool(gradient.any()) for gradient in found]


def equal(found, expected, tol=0.0):
    """Whether two lists of detections are the same."""
    return len(found) == len(expected) and all(
        one[name].shape == other[name].shape and torch.allclose(one[name], other[name], rtol=0, atol=tol)
        for one, other in zip(found, expected, strict=True)
        for name in ("boxes", "labels", "scores")
    )


def test_one_pass_of_one_body_serves_both_stages():
    model, (images, targets) = untrained(), batch()
    passes = []
    model.body.register_forward_hook(lambda *_: passes.append(1))
    losses = model(images, targets)
    counts = [len(passes)]
    model.eval()(images)
    counts.append(len(passes) - 1)
    claim("FRCNN-01", condition=counts == [1, 1], note="one pass of the convolutions per batch, in training and after")
    moved = []
    for names in (ALL - HEAD, HEAD):
        does = gradients(total(losses, names), model.parameters())
        moved.append({id(p) for p, moves in zip(model.parameters(), does, strict=True) if moves})
    shared = {id(parameter) for parameter in model.body.parameters()}
    claim("FRCNN-01", condition=moved[0] & moved[1] == shared, note="what RPN and head both train is the body")


def test_approximate_training_takes_proposals_for_constants():
    model, (images, targets) = untrained(), batch()
    losses = model(images, targets)
    still = gradients(total(losses, HEAD), model.rpn.parameters())
    claim("FRCNN-31", condition=not any(still), note="the head's loss does not move the RPN")
    assert all(gradients(losses["rpn_box"], model.rpn.head.offsets.parameters()))
    reached = [all(gradients(losses[name], model.body.parameters())) for name in sorted(ALL)]
    claim("FRCNN-31", condition=reached == [True] * 4, note="each of the four losses moves the whole body")


@pytest.mark.parametrize(("kind", "pooling"), [(MovingFasterRCNN, "align"), (WarpingFasterRCNN, "warp")])
def test_non_approximate_training_moves_the_proposals(kind, pooling):
    """The gradient is that of finite differences, through decoding, clipping and pooling."""
    model, (images, targets) = untrained(kind=kind).double(), batch(1)
    images, bias = [image.double() for image in images], model.rpn.head.offsets.bias
    model.head.score.weight.data.mul_(20)
    state = model.generator.get_state()

    def class_loss(step):
        model.generator.set_state(state)
        with torch.no_grad():
            bias.add_(step)
        loss = model(images, targets)["class"]
        with torch.no_grad():
            bias.sub_(step)
        return loss

    reached = gradients(class_loss(0), [model.rpn.head.offsets.weight, model.rpn.head.score.weight])
    claim("FRCNN-32", condition=reached == [True, False], note=f"through roi_{pooling} the head's loss moves the boxes")
    (gradient,) = torch.autograd.grad(class_loss(0), bias)
    for i in (0, 3, 17, 42):
        step = torch.zeros_like(bias)
        step[i] = 1e-7
        with torch.no_grad():
            slope = (class_loss(step) - class_loss(-step)) / 2e-7
        assert slope.item() == pytest.approx(gradient[i].item(), rel=1e-3, abs=1e-6)
    assert gradient.any()


def test_the_stages_one_by_one_are_forward():
    model, (images, targets) = untrained(min_size=120, max_size=1000), batch(2, first=1)
    state = model.generator.get_state()
    whole = model(images, targets)
    model.generator.set_state(state)
    data, maps = model.maps(images)
    inside = to_input(data, targets)
    said = model.rpn(maps)
    truths = [target["boxes"] for target in inside]
    anchors = model.rpn.sample(said.anchors, truths, data.sizes, model.generator)
    losses = model.rpn.losses(said, anchors, truths)
    samples = draw_samples(model.propose(said, data), inside, data.sizes, model.settings, model.generator)
    losses |= model.head_losses(*model.head(model.pool(maps, samples.boxes)), samples, inside)
    assert losses.keys() == whole.keys() and all(torch.equal(losses[name], whole[name]) for name in ALL)


@pytest.mark.parametrize("ratio", [None, 2])
def test_only_what_was_drawn_counts(ratio):
    """More samples are asked for than there are: the rest is padding, and the divisor is what was drawn."""
    model, (images, targets) = untrained(sampling_ratio=ratio, rois=1000), batch()
    model.rpn.settings = replace(model.rpn.settings, samples=50_000)
    losses = model(images, targets)
    data, maps = model.maps(images)
    inside = to_input(data, targets)
    said = model.rpn(maps)
    truth, state = model.rpn.label(said.anchors, [target["boxes"] for target in inside], data.sizes)
    truths = torch.stack([target["boxes"][index] for target, index in zip(inside, truth, strict=True)])
    used, positive = state >= 0, state == 1
    expected = F.binary_cross_entropy_with_logits(said.logits[used], state[used].float(), reduction="sum")
    drawn = used.sum().item()
    assert losses["objectness"].item() == pytest.approx(expected.item() / drawn, rel=1e-5) and (state < 0).any()
    anchors = said.anchors.expand_as(truths)[positive]
    off = F.smooth_l1_loss(said.offsets[positive], encode(truths[positive], anchors), beta=1 / 9, reduction="sum")
    assert losses["rpn_box"].item() == pytest.approx(off.item() / drawn, rel=1e-4)

    proposals = model.rpn.propose(said, data.sizes)
    model.settings = replace(model.settings, share=1.0)
    samples = draw_samples(proposals.boxes, inside, data.sizes, model.settings, model.generator)
    real = samples.labels >= 0
    assert real.sum() == sum(proposals.counts) + sum(len(target["boxes"]) for target in targets) < real.numel()
    scores, offsets = model.head(model.pool(maps, samples.boxes))
    losses = model.head_losses(scores, offsets, samples, inside)
    labels, real = samples.labels.flatten(), real.flatten()
    expected = F.cross_entropy(scores[real], labels[real], reduction="mean")
    assert losses["class"].item() == pytest.approx(expected.item())
    own = (labels > 0).nonzero()[:, 0]
    truths = torch.stack([target["boxes"][index] for target, index in zip(inside, samples.matched, strict=True)])
    wanted = encode(truths.flatten(0, 1)[own], samples.boxes.flatten(0, 1)[own], (10, 10, 5, 5))
    off = F.smooth_l1_loss(offsets[own, labels[own] - 1], wanted, beta=1 / 9, reduction="sum")
    assert losses["box"].item() == pytest.approx(off.item() / real.sum().item(), rel=1e-4) and off > 0


EMPTY = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def test_images_without_objects_teach_what_background_is():
    model, (images, targets) = untrained(), batch()
    for own in ([EMPTY, EMPTY], [EMPTY, targets[1]], [targets[0], EMPTY]):
        model.zero_grad()
        losses = model(images, own)
        objects = sum(len(target["boxes"]) for target in own) > 0
        assert (losses["rpn_box"] > 0) == (losses["box"] > 0) == objects
        assert losses["objectness"] > 0 < losses["class"]
        total(losses).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def many():
    corner = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([230.0, 170])
    return torch.cat((corner, corner + 8 + corner.flip(1) / 20), dim=1)


ODD = {
    "one pixel": torch.tensor([[40.0, 50, 41, 51], [255, 191, 256, 192], [0, 0, 1, 1]]),
    "larger than any anchor": torch.tensor([[0.0, 0, 256, 192]]),
    "a line": torch.tensor([[0.0, 90, 256, 91]]),
    "500": many(),
    "twice the same": torch.tensor([[30.0, 30, 70, 80]] * 2),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_objects(name):
    model, (images, _) = untrained(rois=64), batch(2)
    boxes = ODD[name]
    losses = model(images, [{"boxes": boxes, "labels": torch.arange(len(boxes)) % 6 + 1}, EMPTY])
    assert all(loss.isfinite() for loss in losses.values()) and losses["rpn_box"] > 0 < losses["box"]
    total(losses).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("size", [(20, 30), (8, 8), (9, 300)])
def test_small_images(size):
    model = untrained(rois=16)
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    total(model([image], [{"boxes": torch.tensor([[1.0, 2, 7, 8]]), "labels": torch.tensor([3])}])).backward()
    model.settings = replace(model.settings, least_score=0.0)
    (found,) = model.eval()([image])
    assert len(found["boxes"]) and (found["boxes"] <= torch.tensor([size[1], size[0]] * 2)).all()
    assert (found["boxes"] >= 0).all() and len(model.proposals([image])[0])


def test_an_image_is_detected_alone_as_in_a_batch():
    model, (images, _) = trained()[0], batch(4)
    together = model(images)
    assert sum(len(one["boxes"]) for one in together) > 10
    assert equal([model([image])[0] for image in images], together, 1e-3)

    model = deepcopy(model)  # with room for all: anchors in the padding are among the best before NMS too
    model.rpn.settings = replace(model.rpn.settings, before_nms=(20_000, 20_000), after_nms=(600, 600))
    together = model(images)
    wide = torch.cat((images[0], images[2]), dim=2)
    mixed, alone = model([images[1], wide, images[1]]), [together[1], model([wide])[0]]
    assert equal(mixed[1:2], alone[1:], 1e-3) and equal(mixed[:1], mixed[2:], 1e-3)
    assert (mixed[0]["boxes"] <= torch.tensor([256, 192, 256, 192])).all()
    far = []  # from its border in the batch, where it sees padding that has been convolved
    for one in (mixed[0], alone[0]):
        sure = (one["boxes"][:, 2] < 200) & (one["scores"] > 0.2)
        far.append({name: value[sure] for name, value in one.items()})
    one, other = far
    twins = (one["boxes"][:, None] - other["boxes"]).abs().amax(2) < 1e-2
    twins &= (one["labels"][:, None] == other["labels"]) & ((one["scores"][:, None] - other["scores"]).abs() < 1e-3)
    assert len(twins) > 5 and twins.any(0).float().mean() > 0.8 < twins.any(1).float().mean()


def test_proposals_from_outside_train_the_head_alone():
    model, (images, targets) = untrained(min_size=120, max_size=1000), batch()
    calls = []
    model.rpn.register_forward_hook(lambda *_: calls.append(1))
    outside = [{**target, "proposals": torch.cat((many(), target["boxes"] + 2))} for target in targets]
    state = model.generator.get_state()
    losses = model(images, outside)
    assert set(losses) == HEAD and not calls and losses["box"] > 0
    total(losses, HEAD).backward()
    assert all(parameter.grad is None for parameter in model.rpn.parameters())
    assert all(parameter.grad.any() for parameter in [*model.body.parameters(), *model.head.parameters()])
    model.generator.set_state(state)
    again = model(images, targets, proposals=[target["proposals"] for target in outside])
    assert all(torch.equal(again[name], losses[name]) for name in HEAD)


@pytest.mark.parametrize("min_size", [None, 120])
def test_the_rpns_own_proposals_from_outside_give_the_same_detections(min_size):
    model, (images, _) = deepcopy(trained()[0]), batch(3)
    model.preprocess.min_size = min_size
    images[1] = images[1][:, :150, :180]
    expected = model(images)
    found = model(images, proposals=model.proposals(images))
    assert sum(len(one["boxes"]) for one in expected) > 5 and equal(found, expected, 1e-2)
    targets = [{"proposals": each} for each in model.proposals(images)]
    assert equal(model(images, targets), found)


def test_an_object_beyond_the_border_is_what_can_be_seen_of_it():
    model, (images, _) = untrained(), batch(1)
    beyond = {"boxes": torch.tensor([[200.0, 150, 400, 300]]), "labels": torch.tensor([2])}
    inside = {"boxes": torch.tensor([[200.0, 150, 256, 192]]), "labels": torch.tensor([2])}
    state = model.generator.get_state()
    expected = model(images, [inside])
    model.generator.set_state(state)
    losses = model(images, [beyond])
    assert losses["box"] > 0 and all(torch.equal(loss, expected[name]) for name, loss in losses.items())


def test_a_tensor_of_proposals_is_taken_and_a_list_of_too_few_refused():
    model, (images, _) = untrained(least_score=0.0).eval(), batch()
    boxes = torch.tensor([[[60.0, 60, 110, 120]]] * 2)
    assert equal(model(images, proposals=boxes), model(images, proposals=list(boxes)))
    with pytest.raises(ValueError, match="proposals: expected one tensor for each of 2 images, got 0"):
        model(images, proposals=[])


def test_proposals_without_area_in_the_image_are_not_detected():
    model, (images, _) = untrained(least_score=0.0).eval(), batch()
    odd = torch.tensor([[-50.0, -50, -10, -10], [20, 20, 20, 60], [500, 10, 600, 40]])
    good = torch.tensor([[60.0, 60, 110, 120]])
    assert [len(one["boxes"]) for one in model(images, proposals=[odd, odd])] == [0, 0]
    found = model(images, proposals=[torch.cat((odd, good)), torch.zeros(0, 4)])
    assert len(found[0]["boxes"]) > 0 == len(found[1]["boxes"])
    assert equal(found[:1], model(images[:1], proposals=[good]), 1e-3)
    none = model(images, proposals=[torch.zeros(0, 4)] * 2)
    assert [one["boxes"].shape for one in none] == [(0, 4)] * 2 and none[0]["labels"].dtype == torch.int64


def test_detections_keep_the_settings():
    model, (images, _) = deepcopy(trained()[0]), batch()
    model.settings = replace(model.settings, least_score=0.1, detections=4)
    found = model(images)
    for one in found:
        assert 0 < len(one["boxes"]) <= 4 and (one["scores"] > 0.1).all() and one["labels"].min() > 0
        assert (one["boxes"][:, 2:] - one["boxes"][:, :2]).min() >= LEAST_DETECTION
        assert torch.equal(one["scores"], one["scores"].sort(descending=True).values)
        assert not any(value.requires_grad for value in one.values())


def test_the_heads_losses_keep_the_settings_and_move_no_proposal():
    """Equal to torch's losses of two windows, one of them background, with other weights and another beta."""
    model = untrained(beta=0.2, weights=(2.0, 2.0, 1.0, 1.0))
    g, classes = torch.Generator().manual_seed(0), len(model.classes)
    boxes = torch.tensor([[[10.0, 10, 50, 40], [60, 20, 90, 80]]], requires_grad=True)
    samples = Samples(boxes, torch.tensor([[2, 0]]), torch.tensor([[1, -1]]))
    targets = [{"boxes": torch.tensor([[0.0, 0, 9, 9], [14, 8, 60, 50]])}]
    scores, offsets = torch.randn(2, classes, generator=g), torch.randn(2, classes - 1, 4, generator=g)
    scores.requires_grad_()
    losses = model.head_losses(scores, offsets.requires_grad_(), samples, targets)
    wanted = encode(targets[0]["boxes"][1:], boxes[0, :1].detach(), (2.0, 2.0, 1.0, 1.0))
    expected = F.smooth_l1_loss(offsets[0, 1], wanted[0], beta=0.2, reduction="sum") / 2
    assert torch.allclose(losses["box"], expected) and expected > 0.1
    assert torch.allclose(losses["class"], F.cross_entropy(scores, torch.tensor([2, 0])))
    assert torch.autograd.grad(losses["box"], boxes, allow_unused=True) == (None,)


@pytest.mark.parametrize("ratio", [1, 3])
def test_alignment_takes_as_many_points_as_the_settings_say(ratio):
    model = untrained(sampling_ratio=ratio)
    features = torch.rand(1, 5, 12, 16, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor([[0, 3.0, 5, 90, 60], [0, 20, 10, 120, 90]])
    expected = torchvision.ops.roi_align(features, rois, model.output_size, 1 / 8, ratio)
    assert torch.allclose(model.pool_map(features, rois, 8), expected, atol=1e-5)


def test_examples_of_an_object_overlap_it_as_the_settings_say():
    model = untrained(foreground=0.8, background=(0.2, 0.6), share=1.0)
    image, target = scene(0)
    prepared, _ = model.maps([image])
    (boxes,) = prepared.to_input([target["boxes"]])
    shifts = torch.linspace(0, 0.9, 19)[:, None] * torch.tensor([1.0, 0, 1, 0]) * (boxes[:1, 2] - boxes[:1, 0])
    proposals = given(prepared, [prepared.to_original([boxes[:1] + shifts])[0]])
    inside = to_input(prepared, [target])
    samples = draw_samples(proposals, inside, prepared.sizes, model.settings, model.generator)
    iou = box_iou(samples.boxes[0], boxes).amax(dim=1)
    for label, low, high in (((samples.labels[0] > 0), 0.8, 1.01), ((samples.labels[0] == 0), 0.2, 0.6)):
        assert label.any() and (iou[label] >= low - 1e-5).all() and (iou[label] < high).all()
    drawn = samples.labels[0] >= 0
    assert int((iou[drawn] >= 0.8).sum()) == int((samples.labels[0] > 0).sum()) > len(boxes)


def test_the_seed_decides():
    model, (images, targets) = untrained(), batch()
    again, other = untrained(), deepcopy(model)
    other.generator.manual_seed(7)
    first, second, third = ([own(images, targets) for _ in range(2)] for own in (model, again, other))
    for step in range(2):
        assert all(torch.equal(first[step][name], second[step][name]) for name in ALL)
        assert all(not torch.equal(first[step][name], third[step][name]) for name in ("objectness", "class"))


def test_copies_and_states_detect_alike():
    model, (images, targets) = trained()[0], batch()
    expected, copy, other = model(images), deepcopy(model), untrained(seed=9)
    other.load_state_dict(model.state_dict())
    assert equal(copy(images), expected) and equal(other.eval()(images), expected)
    state = model.generator.get_state()
    copy.train()(images, targets)
    assert torch.equal(model.generator.get_state(), state) and not model.training


def test_bad_input_is_refused():
    model, (images, targets) = untrained(), batch()
    for own, found in ((None, "none"), (targets[:1], "1")):
        with pytest.raises(ValueError, match=f"targets: expected one dict for each of 2 images, got {found}"):
            model(images, own)
    proposals = [torch.tensor([[0.0, 0, 30, 30]])]
    for training in (True, False):
        model.train(training)
        with pytest.raises(ValueError, match="proposals: expected one tensor for each of 2 images, got 1"):
            model(images, targets, proposals)
        with pytest.raises(ValueError, match="images: expected at least one"):
            model([], [])
        with pytest.raises(ValueError, match=r"proposals: expected .* x1 <= x2"):
            model(images[:1], targets[:1], proposals=[torch.tensor([[30.0, 0, 0, 30]])])
        spoilt = images[1].clone()
        spoilt[0, 3, 4] = float("nan")
        with pytest.raises(ValueError, match=r"images\[1\]: expected finite pixels"):
            model([images[0], spoilt], targets)
    with pytest.raises(ValueError, match=r"targets\[0\]\['labels'\]: expected labels from 1 to 6 .*, got 9"):
        model.train()(images, [{**target, "labels": target["labels"] * 0 + 9} for target in targets])
    with pytest.raises(ValueError, match="finite numbers"):
        model(images, [{**target, "boxes": target["boxes"] * float("nan")} for target in targets])


def test_scores_are_in_single_precision_at_least():
    images, _ = batch()
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        model = deepcopy(trained()[0]).to(dtype)
        for found in model([image.to(dtype) for image in images]):
            assert found["scores"].dtype == found["boxes"].dtype == expected and len(found["scores"])


def test_as_many_labels_as_boxes():
    image, target = scene(0)
    with pytest.raises(ValueError, match=r"targets\[0\]"):
        untrained().train()([image], [target | {"labels": target["labels"][:-1]}])
