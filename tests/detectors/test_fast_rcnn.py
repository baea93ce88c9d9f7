from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.detectors.fast_rcnn import FastRCNN, FastRCNNSettings, compress
from rcnn_tutorial.detectors.sppnet import closest_scale
from rcnn_tutorial.detectors.two_stage import Samples, draw_samples
from rcnn_tutorial.evaluation import predict, voc_ap
from rcnn_tutorial.nets.backbones import alexnet, tiny_net, vgg16
from rcnn_tutorial.ops.assign import matched_boxes
from rcnn_tutorial.ops.boxes import box_iou, encode
from rcnn_tutorial.training import TrainSettings, train
from tests.detectors.test_rcnn import CLASSES, Squares


def untrained(seed=0, **changes):
    torch.manual_seed(seed)
    settings = FastRCNNSettings.tiny(**({"min_size": None, "background": (0.1, 0.5)} | changes))
    return FastRCNN(tiny_net(pretrained=True), CLASSES, settings, mean=(0.5, 0.5, 0.5), seed=seed).eval()


@pytest.fixture(scope="module")
def trained():
    model = untrained()
    data = Squares(24)
    model.normalise_targets(data)
    steps = TrainSettings(120, batch_size=2, lr=0.01, schedule="cosine", warmup=10, clip_norm=10.0)
    history = train(model, data, steps, progress=False)
    return model, history


def batch(model, seed=5, images=2):
    data = Squares(images, seed=seed)
    return zip(*(data[i] for i in range(images)), strict=True)


def test_one_training_teaches_class_and_box(trained):
    model, history = trained
    assert set(history.losses) == {"class", "box"}
    for losses, share in ((history.losses["class"], 0.5), (history.losses["box"], 0.85)):
        assert sum(losses[-10:]) < share * sum(losses[:10])
    test = Squares(16, seed=2)
    assert voc_ap(*predict(model, test, progress=False), CLASSES).map > 0.8
    still = [name for name, p in model.named_parameters() if torch.equal(p, dict(untrained().named_parameters())[name])]
    claim(
        "FAST-23", condition=not still, note="one training of two losses changes every tensor; R-CNN has 3 objectives"
    )


def test_surgery_makes_three_changes_and_keeps_the_weights():
    torch.manual_seed(0)
    net = tiny_net(pretrained=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    model = FastRCNN(net, CLASSES, FastRCNNSettings.tiny())
    after = model.state_dict()

    def renamed(name):
        return name.replace("body.", "convs.").replace("head.hidden.", "")

    kept = all(torch.equal(before[renamed(name)], after[name]) for name in after if renamed(name) in before)
    lost = before.keys() - {renamed(name) for name in after}
    new = {name.rpartition(".")[0] or name for name in after if renamed(name) not in before}
    poolings = sum(isinstance(m, nn.MaxPool2d) for m in model.body.modules())
    claim(
        "FAST-01",
        condition=kept
        and lost == {"classifier.weight", "classifier.bias"}
        and new == {"head.score", "head.offsets", "target_mean", "target_std"}
        and poolings == 3,
        note="the last pooling is gone, the last layer became two, all other weights are kept",
    )
    images, targets = batch(model)
    losses = model.train()(list(images), list(targets))
    assert set(losses) == {"class", "box"} and all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize(("make", "size", "stride", "fc6"), [(vgg16, 7, 16, 25088), (alexnet, 6, 16, 9216)])
def test_published_networks_have_the_published_shapes(make, size, stride, fc6):
    with torch.device("meta"):
        net = make()
    model = FastRCNN(net.to_empty(device="cpu"), ["background", *"abcdefghijklmnopqrst"])
    claim(
        "FAST-02",
        condition=(model.output_size, model.strides, model.head.hidden.fc6[0].in_features) == (size, (stride,), fc6),
        note=f"{make.__name__}: {size} x {size} bins, fc6 reads {fc6}",
    )
    claim(
        "FAST-06", condition=(model.head.score.out_features, model.head.offsets.out_features) == (21, 80), note="K = 20"
    )
    trained = [block[0].weight.requires_grad for block in model.body]
    frozen = 4 if make is vgg16 else 0
    assert trained == [False] * frozen + [True] * (len(trained) - frozen)


def test_a_window_over_a_whole_crop_pools_as_the_classifier_did():
    """64 pixels, a map of 8 x 8, 4 x 4 bins: RoI pooling there is the max-pooling that it replaced."""
    net = tiny_net(pretrained=True).eval()
    crop = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = net.hidden(net.pool5(crop - 0.5))
    model = FastRCNN(net, CLASSES, FastRCNNSettings.tiny(min_size=None), mean=(0.5, 0.5, 0.5)).eval()
    pooled = model.pool(model.maps(list(crop))[1], torch.tensor([[[0, 0, 56.0, 56.0]]]))  # cells 0 to 7, both included
    assert torch.allclose(model.head.hidden(pooled), expected, atol=1e-5)


def test_stages_agree_with_torchvision_and_with_forward():
    model = untrained().train()
    model.target_mean.copy_(torch.tensor([0.05, -0.1, 0.2, 0.3]))
    model.target_std.copy_(torch.tensor([0.1, 0.1, 0.2, 0.2]))
    images, targets = batch(model)
    state = model.generator.get_state()
    whole = model(list(images), list(targets))
    model.generator.set_state(state)
    data, maps = model.maps(images)
    samples = draw_samples([t["proposals"] for t in targets], targets, data.sizes, model.settings, model.generator)
    features = model.body(torch.stack(images) - 0.5)
    rois = list(samples.boxes)
    pooled = torchvision.ops.roi_pool(features, rois, 4, 1 / 8)
    assert torch.allclose(model.pool(maps, samples.boxes), pooled, atol=1e-6)
    scores, offsets = model.head(pooled)
    labels = samples.labels.flatten()
    real, own = labels >= 0, labels > 0
    truths = matched_boxes([target["boxes"] for target in targets], samples.matched, samples.boxes)
    wanted = (encode(truths, samples.boxes).flatten(0, 1) - model.target_mean) / model.target_std
    chosen = offsets[own, labels[own] - 1]
    assert torch.allclose(whole["class"], F.cross_entropy(scores[real], labels[real]))
    expected = F.smooth_l1_loss(chosen, wanted[own], reduction="sum") / real.sum()
    assert 0 < real.sum() < 128 and torch.allclose(whole["box"], expected, atol=1e-6) and expected > 0


def test_gradients_reach_every_layer_unless_it_is_frozen():
    for frozen in (0, 2, 5):
        model = untrained().train()
        model.body[:frozen].requires_grad_(False)
        model.head.offsets.weight.data.normal_(std=0.1)
        images, targets = batch(model)
        sum(model(list(images), list(targets)).values()).backward()
        reached = [block[0].weight.grad is not None and bool(block[0].weight.grad.any()) for block in model.body]
        assert reached == [False] * frozen + [True] * (5 - frozen)
        assert (
            model.head.hidden.fc6[0].weight.grad.any()
            and model.head.score.weight.grad.any()
            and model.head.offsets.weight.grad.any()
        )
        if not frozen:
            claim("FAST-16", condition=all(reached), note="the gradient of every convolution is not zero")


def test_targets_are_normalised_and_undone():
    model, data = untrained(), Squares(12)
    model.normalise_targets(data)
    offsets = []
    for _, target in data.items:
        if len(target["boxes"]):
            windows = torch.cat((target["proposals"], target["boxes"]))
            iou, nearest = box_iou(windows, target["boxes"]).max(1)
            near = iou >= 0.5
            clipped = windows[near].clamp(min=0).minimum(torch.tensor([1e6]))
            offsets.append(encode(target["boxes"][nearest[near]], clipped))
    offsets = torch.cat(offsets)
    z = (offsets - model.target_mean) / model.target_std
    unit = bool((z.mean(0).abs() < 1e-4).all() and ((z.std(0) - 1).abs() < 1e-4).all())
    claim("FAST-09", condition=unit, note="targets of the foreground windows: mean 0, variance 1")
    boxes = data[0][1]["proposals"][:6]
    truths = boxes + torch.tensor([2, -3, 4, 1.0])
    predicted = (encode(truths, boxes) - model.target_mean) / model.target_std
    decoded = model.decode(predicted[:, None].expand(-1, 2, -1), boxes)
    claim(
        "FAST-09",
        condition=torch.allclose(decoded, truths[:, None].expand(-1, 2, -1), atol=1e-3),
        note="predictions are scaled back at test time",
    )
    with pytest.raises(ValueError, match="dataset: expected two foreground windows at least, got 0"):
        untrained().normalise_targets(Empty())


class Empty(Squares):
    def __init__(self):
        none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
        self.items = [(torch.zeros(3, 96, 128), none | {"proposals": torch.tensor([[5, 5, 30, 30.0]])})] * 2


def test_each_class_moves_the_window_by_its_own_offsets():
    model = untrained()
    model.target_std.fill_(0.1)
    boxes = torch.tensor([[20, 20, 40, 60.0]])
    offsets = torch.tensor([[[5.0, 0, 0, 0], [0, 0, 0, -10 * torch.log(torch.tensor(2.0)).item()]]])
    found = model.decode(offsets, boxes)[0]
    by_hand = torch.tensor([[30, 20, 50, 60], [20, 30, 40, 50.0]])  # half a width to the right; half as high
    claim("FAST-18", condition=torch.allclose(found, by_hand, atol=1e-3), note="two classes, two boxes, by hand")


def test_detections_are_clipped_suppressed_and_counted(trained):
    model = trained[0]
    images, targets = batch(model, images=3)
    proposals = [t["proposals"] for t in targets]
    found = model(list(images), proposals=proposals)
    claim(
        "FAST-18",
        condition=all(int((f["scores"] > 0.5).sum()) < len(p) / 4 for f, p in zip(found, proposals, strict=True)),
        note="sure detections are fewer than a quarter of the proposals",
    )
    for one in found:
        assert (one["boxes"] >= 0).all() and (one["boxes"] <= torch.tensor([128, 96, 128, 96])).all()
        assert (one["scores"] > model.settings.least_score).all()
        for k in (1, 2):
            own = one["boxes"][one["labels"] == k]
            if len(own):
                assert box_iou(own, own).fill_diagonal_(0).max() <= model.settings.nms_threshold
    alone = [model([image], proposals=[p])[0] for image, p in zip(images, proposals, strict=True)]
    for a, b in zip(found, alone, strict=True):
        assert torch.allclose(a["boxes"], b["boxes"], atol=1e-3) and torch.equal(a["labels"], b["labels"])


def test_images_of_different_sizes_share_a_batch(trained):
    model = trained[0]
    big, small = [item for item in Squares(12, seed=7).items if len(item[1]["boxes"]) == 3][:2]
    cut = small[0][:, :80, :100]
    together = model([big[0], cut], proposals=[big[1]["proposals"], small[1]["proposals"]])
    apart = [model([big[0]], proposals=[big[1]["proposals"]])[0], model([cut], proposals=[small[1]["proposals"]])[0]]
    assert torch.allclose(together[0]["boxes"], apart[0]["boxes"], atol=1e-3)
    # at its own border the smaller image sees padding that has been convolved, where alone it sees zeros: look inside
    inner, padded = torch.tensor([[[4.0, 4, 30, 30]]]), model.maps([big[0], cut])[1][0][1:]
    alone = model.pool(model.maps([cut])[1], inner)
    assert torch.allclose(model.pool([padded], inner), alone, atol=1e-5) and alone.std() > 0.1


def test_the_pyramid_reads_each_window_at_its_scale():
    model = untrained(scales=(96, 192), side=40, least_score=0.0, nms_threshold=1.0, detections=1000)
    images, targets = (list(part) for part in batch(model))
    boxes, same = [t["proposals"][:20] for t in targets], []
    together = model(images, proposals=boxes)
    for i, image in enumerate(images):
        chosen = closest_scale(boxes[i], (96, 128), (96, 192), 40)
        assert set(chosen.tolist()) == {0, 1}
        scores = []
        for scale in (0, 1):
            alone = untrained(min_size=(96, 192)[scale], least_score=0.0, nms_threshold=1.0, detections=1000)
            alone.load_state_dict(model.state_dict())
            scores.append(alone([image], proposals=[boxes[i][chosen == scale]])[0]["scores"])
        expected = torch.cat(scores).sort(descending=True).values
        found = together[i]["scores"].sort(descending=True).values
        same.append(len(found) == 40 and torch.allclose(found, expected, atol=1e-5))
    claim("FAST-17", condition=all(same), note="a window in a pyramid is scored as at its scale alone, 40 windows")


def test_losses_and_detections_keep_the_settings(trained):
    """The loss equals torch's of two windows, one of them background, with another beta."""
    model = untrained(beta=0.2)
    model.target_mean.fill_(0.1), model.target_std.fill_(0.2)
    boxes, truth = torch.tensor([[[10.0, 10, 50, 40], [60, 20, 90, 80]]]), torch.tensor([[14.0, 8, 60, 50]])
    samples = Samples(boxes, torch.tensor([[2, 0]]), torch.tensor([[0, -1]]))
    g = torch.Generator().manual_seed(0)
    scores, offsets = torch.randn(2, 3, generator=g), torch.randn(2, 2, 4, generator=g)
    losses = model.head_losses(scores, offsets, samples, [{"boxes": truth}])
    wanted = (encode(truth, boxes[0, :1]) - 0.1) / 0.2
    assert torch.allclose(losses["box"], F.smooth_l1_loss(offsets[:1, 1], wanted, beta=0.2, reduction="sum") / 2)
    assert torch.allclose(losses["class"], F.cross_entropy(scores, torch.tensor([2, 0])))
    few = deepcopy(trained[0])
    few.settings = replace(few.settings, least_score=0.0, detections=3)
    images, targets = batch(few)
    found = few(list(images), proposals=[target["proposals"] for target in targets])
    assert [len(one["boxes"]) for one in found] == [3, 3]


def test_training_draws_one_scale_for_each_batch():
    """Over 20 batches both scales are drawn about equally often, and each batch is convolved at one of them."""
    model, drawn = untrained(scales=(96, 192)).train(), []
    model.body.register_forward_pre_hook(lambda _, inputs: drawn.append(inputs[0].shape[-2]))
    images, targets = batch(model)
    losses = [model(list(images), list(targets))["class"] for _ in range(20)]
    assert all(loss.isfinite() for loss in losses)
    assert len(drawn) == 20 and set(drawn) == {96, 192} and 5 <= drawn.count(96) <= 15


def test_the_new_layers_begin_with_the_spreads_of_the_paper():
    """Section 3.1 of the paper: deviations of 0.01 for the class scores and of 0.001 for the offsets, biases of 0."""
    model = untrained()
    assert model.head.score.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert model.head.offsets.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not model.head.score.bias.any() and not model.head.offsets.bias.any()


def test_an_image_without_proposals_gives_no_detection_and_breaks_nothing():
    model = untrained()
    images, targets = batch(model)
    found = model(list(images), proposals=[torch.zeros(0, 4), targets[1]["proposals"]])
    assert found[0]["boxes"].shape == (0, 4) and found[0]["labels"].dtype == torch.int64
    assert model([images[0]], proposals=[torch.zeros(0, 4)])[0]["boxes"].shape == (0, 4)


def test_proposals_outside_the_image_or_without_area_are_not_used():
    model = untrained(least_score=0.0)
    image = batch(model)
    image = list(next(iter([list(image)[0]])))[0]
    odd = torch.tensor([[-50, -50, -10, -10], [20, 20, 20, 60], [500, 10, 600, 40], [-10, 10, 40, 200.0]])
    found = model([image], proposals=[odd])[0]
    alone = model([image], proposals=[odd[3:].clamp(min=0).minimum(torch.tensor([128, 96, 128, 96]))])[0]
    assert torch.allclose(found["boxes"], alone["boxes"], atol=1e-4) and len(found["boxes"])


def test_a_batch_without_foreground_teaches_the_class_alone():
    model = untrained(background=(0.0, 0.5)).train()
    data = Empty()
    losses = model([data[0][0], data[1][0]], [data[0][1], data[1][1]])
    assert losses["box"] == 0 and losses["class"] > 0
    sum(losses.values()).backward()
    assert not model.head.offsets.weight.grad.any() and model.head.score.weight.grad.any()
    floor = untrained().train()([data[0][0]], [data[0][1]])  # nothing overlaps an object a little: no window at all
    assert floor["class"] == 0 and floor["box"] == 0 and floor["class"].requires_grad


def test_a_class_never_seen_gets_no_box_gradient():
    model = untrained().train()
    data = Squares(2, seed=5)
    targets = [{**t, "labels": torch.ones_like(t["labels"])} for _, t in data.items]
    sum(model([i for i, _ in data.items], targets).values()).backward()
    grad = model.head.offsets.weight.grad.view(2, 4, -1)
    assert grad[0].any() and not grad[1].any() and model.head.score.weight.grad[2].any()


def test_bad_input_is_refused():
    model = untrained()
    images, targets = (list(each) for each in batch(model))
    proposals = [t["proposals"] for t in targets]
    with pytest.raises(ValueError, match="proposals: expected one tensor for each of 2 images, got 1"):
        model(images, proposals=proposals[:1])
    with pytest.raises(ValueError, match="proposals: .* got none"):
        model(images)
    with pytest.raises(ValueError, match="targets: expected one dict for each of 2 images, got none"):
        model.train()(images, proposals=proposals)
    nan = images[1].clone()
    nan[0, 3, 4] = float("nan")
    for mode in (True, False):
        with pytest.raises(ValueError, match=r"images\[1\]: expected finite pixels"):
            model.train(mode)([images[0], nan], targets)
    with pytest.raises(ValueError, match="net: expected one level, as fc6 is to read RoIs"):
        FastRCNN(tiny_net(levels=(4, 2, 1)), CLASSES)


def test_a_loss_that_is_not_finite_stops_the_training():
    model = untrained()
    model.head.score.weight.data.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="expected finite numbers"):
        train(model, Squares(4), TrainSettings(2, batch_size=2), progress=False)


def test_the_loss_is_a_mean_over_the_windows_drawn_from_all_images():
    model = untrained().train()
    images, targets = (list(part) for part in batch(model))
    targets[0] = targets[0] | {"proposals": targets[0]["proposals"][:5]}
    data, maps = model.maps(images)
    samples = draw_samples([t["proposals"] for t in targets], targets, data.sizes, model.settings, model.generator)
    both = model.head_losses(*model.head(model.pool(maps, samples.boxes)), samples, targets)
    drawn, losses = [], []
    for i in range(2):
        one = Samples(*(part[i : i + 1] for part in samples))
        drawn.append((one.labels >= 0).sum().item())
        part = [maps[0][i : i + 1]]
        losses.append(model.head_losses(*model.head(model.pool(part, one.boxes)), one, targets[i : i + 1]))
    assert drawn[0] < drawn[1] / 2
    for name in both:
        mean = sum(count * loss[name] for count, loss in zip(drawn, losses, strict=True)) / sum(drawn)
        assert torch.allclose(both[name], mean, atol=1e-6)


def test_frozen_layers_do_not_change_in_training():
    model = untrained()
    model.body[:3].requires_grad_(False)
    before = deepcopy(model.body.state_dict())
    train(model, Squares(6), TrainSettings(3, batch_size=2), progress=False)
    same = [torch.equal(before[f"{i}.0.weight"], model.body[i][0].weight) for i in range(5)]
    assert same == [True] * 3 + [False] * 2


def test_a_compressed_detector_detects(trained):
    model = trained[0]
    images, targets = (list(each) for each in batch(model))
    proposals = [t["proposals"] for t in targets]
    exact = compress(model, {"head.hidden.fc6.0": 256, "head.hidden.fc7.0": 256})
    for a, b in zip(exact(images, proposals=proposals), model(images, proposals=proposals), strict=True):
        assert torch.allclose(a["boxes"], b["boxes"], atol=1e-2) and torch.equal(a["labels"], b["labels"])
    thin = compress(model, {"head.hidden.fc6.0": 40, "head.hidden.fc7.0": 20})
    count = [sum(p.numel() for p in m.parameters()) for m in (thin, model)]
    data = Squares(16, seed=2)
    found = voc_ap(*predict(thin, data, progress=False), CLASSES).map
    claim("FAST-20", condition=found > 0.7 and count[0] < count[1] / 1.5, note="mAP with a third of the fc weights")


def test_the_same_seed_gives_the_same_losses():
    runs = []
    for _ in range(2):
        steps = TrainSettings(4, batch_size=2)
        runs.append(train(untrained(), Squares(6), steps, progress=False).losses)
    assert runs[0] == runs[1]


def test_settings_are_the_papers():
    published = FastRCNNSettings()
    found = (published.training.batch_size, published.rois, published.share, published.foreground, published.background)
    claim("FAST-10", condition=found[:2] == (2, 64), note="128 windows of 2 images, 64 of each")
    assert found[2:] == (0.25, 0.5, (0.1, 0.5)) and (published.min_size, published.max_size) == (600, 1000)


@pytest.mark.gpu
def test_on_a_gpu():
    model = untrained().cuda()
    images, targets = (list(each) for each in batch(model))
    images = [image.cuda() for image in images]
    targets = [{k: v.cuda() for k, v in target.items()} for target in targets]
    sum(model.train()(images, targets).values()).backward()
    found = model.eval()(images, proposals=[t["proposals"] for t in targets])
    assert all(one["boxes"].is_cuda for one in found)
