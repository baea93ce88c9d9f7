from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from experiments.variants import MovingFasterRCNN, WarpingFasterRCNN
from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from rcnn_tutorial.nets.backbones import VGG16, ZF5, ConvNet, tiny_net
from rcnn_tutorial.nets.rpn import RPNSettings
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.training import TrainSettings, train
from rcnn_tutorial.training.settings import learning_rate
from tests.detectors.scenes import CLASSES, Scenes, batch, trained, untrained

SMALL = replace(FasterRCNNSettings(), rpn=RPNSettings(scales=(8, 16, 32), after_nms=(200, 30)), rois=16, min_size=None)


def small_scene():
    """A part of a scene with an object of 25 x 25 pixels that nothing hides."""
    image = 0.3 * torch.rand(3, 80, 96, generator=torch.Generator().manual_seed(0))
    image[:, 20:45, 30:55] += 0.6
    return [image], [{"boxes": torch.tensor([[30.0, 20, 55, 45]]), "labels": torch.tensor([2])}]


def test_the_settings_are_the_papers():
    settings = FasterRCNNSettings()
    training = settings.training
    rates = [learning_rate(step, training) for step in (0, 59_999, 60_000, 79_999)]
    claim(
        "FRCNN-33",
        condition=(settings.min_size, settings.max_size) == (600, 1000)
        and (training.steps, training.momentum, training.weight_decay) == (80_000, 0.9, 5e-4)
        and rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4]),
        note="shorter side 600; rate 1e-3 for 60k mini-batches, then 1e-4 for 20k; momentum 0.9, decay 5e-4",
    )
    model = FasterRCNN(tiny_net(), CLASSES)
    assert model.preprocess.new_size((480, 640)) == (600, 800) and model.preprocess.new_size((300, 600)) == (500, 1000)
    assert settings.rpn == RPNSettings() and settings.training.batch_size == 1 and settings.rois == 128


def test_vgg16_is_frozen_below_its_fifth_convolution():
    torch.manual_seed(0)
    model = FasterRCNN(ConvNet(VGG16, 32, 16, 2), CLASSES, SMALL)
    images, targets = small_scene()
    losses = model(images, targets)
    assert losses["rpn_box"] > 0 < losses["class"]
    sum(losses.values()).backward()
    reached = [block[0].weight.grad is not None and bool(block[0].weight.grad.any()) for block in model.body]
    claim("FRCNN-33", condition=reached == [False] * 4 + [True] * 9, note="no gradient in conv1 and conv2 of VGG16")
    counts = [sum(p.numel() for p in block.parameters()) for block in model.body]
    still = sum(p.numel() for p in model.body.parameters() if not p.requires_grad)
    claim("FRCNN-33", still, 260_160, note="fixed parameters of VGG16's convolutions")
    claim("FRCNN-33", sum(counts), 14_714_688, note="all of them")
    assert model.strides == (16,) and model.output_size == 1 and model.head.hidden[1][0].in_features == 512
    found = model.eval()(images)
    assert set(found[0]) == {"boxes", "labels", "scores"}


def test_zf_and_its_six_bins():
    torch.manual_seed(0)
    model = FasterRCNN(ConvNet(ZF5, 224, 32, 2, levels=(6,)), CLASSES, SMALL)
    assert model.strides == (16,) and model.output_size == 6 and model.head.hidden[1][0].in_features == 256 * 36
    assert all(p.requires_grad for p in model.body.parameters())
    trains_and_detects(model)


@pytest.mark.parametrize("ratio", [None, 2])
def test_a_residual_network_gives_four_stages_to_the_body_and_the_last_to_the_head(ratio):
    torch.manual_seed(0)
    net = resnet18()
    model = FasterRCNN(net, CLASSES, replace(SMALL, sampling_ratio=ratio))
    assert model.strides == (16,) and model.output_size == 14 and model.preprocess.std == (0.229, 0.224, 0.225)
    assert model.maps([torch.rand(3, 96, 80)])[1][0].shape == (1, 256, 6, 5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    before = {name: value.clone() for name, value in model.named_buffers()}
    trains_and_detects(model)
    assert before and all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    kept = [any(p.grad is not None for p in stage.parameters()) for stage in model.body]
    assert kept == [False, False, True, True]
    assert all(p.grad is not None for p in model.head.parameters())


def trains_and_detects(model):
    images, targets = small_scene()
    losses = model.train()(images, targets)
    assert set(losses) == {"objectness", "rpn_box", "class", "box"} and all(v.isfinite() for v in losses.values())
    sum(losses.values()).backward()
    model.eval()
    model.settings = replace(model.settings, least_score=0.0)
    (found,) = model(images)
    assert len(found["boxes"]) and (found["boxes"] <= torch.tensor([96, 80, 96, 80])).all()


def test_networks_that_no_head_fits_are_refused():
    with pytest.raises(ValueError, match=r"net: expected one level, .* got \(4, 2, 1\)"):
        FasterRCNN(tiny_net(levels=(4, 2, 1)), CLASSES)
    with pytest.raises(ValueError, match="net: expected a pooling after the last convolution"):
        FasterRCNN(ConvNet(ZF5, 224, 32, 2), CLASSES)


def test_four_scenes_are_learnt_by_heart():
    model, history = trained()
    assert set(history.losses) == {"objectness", "rpn_box", "class", "box"}
    assert sum(history.total[-5:]) < 0.5 * sum(history.total[:5])
    for name in ("objectness", "class"):
        assert sum(history.losses[name][-5:]) < 0.6 * sum(history.losses[name][:5]), name
    images, targets = batch(4)
    recall = []
    for target, found in zip(targets, deepcopy(model)(images), strict=True):
        iou = box_iou(target["boxes"], found["boxes"]) * (target["labels"][:, None] == found["labels"])
        recall += (iou.amax(1) > 0.5).tolist()
    assert sum(recall) > 0.6 * len(recall)
    start = untrained().state_dict()
    assert not [name for name, value in model.state_dict().items() if torch.equal(value, start[name])]


@pytest.mark.parametrize("kind", [MovingFasterRCNN, WarpingFasterRCNN])
def test_non_approximate_training_runs(kind):
    model = untrained(kind=kind, rois=32)
    steps = TrainSettings(3, batch_size=2, lr=0.005, clip_norm=10.0)
    history = train(model, Scenes(4), steps, progress=False)
    assert len(history.total) == 3


def test_the_same_seed_gives_the_same_training():
    runs = []
    for seed in (0, 0, 1):
        model = untrained(seed=seed, rois=32)
        runs.append(train(model, Scenes(4), TrainSettings(2, lr=0.005), progress=False).losses)
    assert runs[0] == runs[1] != runs[2]


def test_the_score_of_a_region_depends_on_pixels_outside_of_it():
    """From SPPnet on the features come from the whole image; only R-CNN looks at the region alone."""
    model = deepcopy(trained()[0])
    image = batch(1)[0][0].clone().requires_grad_()
    box = torch.tensor([[[100.0, 70, 150, 120]]])
    score = model.head(model.pool(model.maps([image])[1], box))[0][0, 1:].max()
    score.backward()
    energy = image.grad.square().sum(0)
    outside = 1 - energy[70:120, 100:150].sum() / energy.sum()
    claim(
        "FRCNN-37",
        condition=0.02 < outside < 0.9 and bool(energy[70:120, 100:150].any()),
        agrees="differs",
        source="regions alone are looked at",
        note="a part of the gradient of a region's score by the pixels lies outside of the region",
    )
    far = energy.clone()
    far[70 - 40 : 120 + 40, 100 - 40 : 150 + 40] = 0
    assert not far.any()  # the receptive field of the tiny network ends there
