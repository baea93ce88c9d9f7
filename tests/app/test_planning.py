"""What is decided where the command says little."""

import json
import math
from dataclasses import replace

import pytest
import torch

from rcnn_tutorial.app import networks, planning
from rcnn_tutorial.app.console import plain
from rcnn_tutorial.app.planning import Plan, Wishes, chosen_device, decide, for_batch, retimed
from rcnn_tutorial.detectors import DETECTORS
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNNSettings
from rcnn_tutorial.detectors.fpn import FPNSettings
from rcnn_tutorial.training import TrainSettings, learning_rate


class Pictures(torch.utils.data.Dataset):
    """So many pictures of one size with one square each."""

    def __init__(self, count, size=(192, 256), side=40.0):
        self.count, self.size, self.side = count, size, side

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.empty(3, *self.size), self.target(index)

    def target(self, index):
        return {"boxes": torch.tensor([[0.0, 0.0, self.side, self.side]]), "labels": torch.tensor([1])}


def plan(count=100, data=None, **wishes):
    return decide(Wishes("data", **({"device": "cpu"} | wishes)), data or Pictures(count))


def test_the_laptop_has_the_laptops_settings():
    chosen = plan(200)
    assert chosen.backbone == "tiny" and chosen.augment and chosen.pretrained
    tiny = FPNSettings.tiny(steps=600)  # 12 times 200 pictures in fours
    assert chosen.settings == replace(tiny, training=replace(tiny.training, evaluate_every=100))


@pytest.mark.parametrize(
    "count, wishes, steps",
    [
        (200, {}, 600),
        (18, {}, 300),  # the least
        (5_000, {}, 3_000),  # the most
        (5_000, {"backbone": "resnet18"}, 30_000),
        (18, {"backbone": "resnet18"}, 500),
        (200, {"epochs": 3}, 150),
        (203, {"epochs": 3, "batch": 2}, 303),  # 101 whole batches in each
        (200, {"steps": 7}, 7),
        (200, {"detector": "rcnn"}, 300),
        (200, {"detector": "sppnet"}, 1_000),
        (200, {"detector": "fpn", "paper": True}, 720_000),  # 90,000 of sixteen pictures, in twos
        (200, {"detector": "faster_rcnn", "paper": True, "batch": 1}, 80_000),
        (200, {"detector": "fpn", "paper": True, "steps": 10}, 10),
    ],
)
def test_how_long_a_training_is(count, wishes, steps):
    assert plan(count, **wishes).training.steps == steps


def test_with_paper_it_is_the_papers_training():
    chosen = plan(200, paper=True, batch=4)
    assert chosen.backbone == "resnet50" and chosen.settings.min_size == 800
    expected = FPNSettings().for_batch(4).training
    assert replace(chosen.training, evaluate_every=None) == expected


def test_a_residual_network_begins_carefully():
    training = plan(200, backbone="resnet50", steps=900).training
    assert (training.batch_size, training.lr) == (2, pytest.approx(0.02 / 8))
    assert training.milestones == (600, 800) and training.warmup == 90


def test_the_rate_follows_the_batch():
    assert plan().training.lr == 0.05
    assert plan(batch=1).training.lr == plan(batch=8).training.lr / 8 == 0.0125
    assert plan(3).training.batch_size == 3  # there are no four
    assert plan(batch=8, lr=0.3).training.lr == 0.3


def test_other_steps_are_the_same_curve_of_rates():
    paper = FPNSettings().training
    short = retimed(paper, 900)
    assert [learning_rate(step, short) for step in (0, 599, 600, 800)] == pytest.approx([0.02, 0.02, 0.002, 0.0002])
    assert retimed(paper, 1).milestones == (1,)
    assert for_batch(TrainSettings(10, 2, 0.1, warmup=4), 4) == TrainSettings(5, 4, 0.2, warmup=2)


def test_on_a_gpu_it_is_a_resnet_where_its_weights_can_be_had(monkeypatch):
    monkeypatch.setattr(planning, "weights_of", lambda name: {})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    chosen = plan(device="cuda")
    assert (chosen.backbone, chosen.training.batch_size) == ("resnet50", 4)

    def refuse(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(networks, "download", refuse)
    monkeypatch.setattr(planning, "weights_of", networks.weights_of)
    chosen = plan(device="cuda")
    assert chosen.backbone == "tiny" and "no network" in chosen.notes[0]
    assert plan(device="cuda", pretrained=False).backbone == "resnet50"
    assert plan(device="cuda", detector="rcnn").backbone == "tiny"


def test_the_sides_of_the_input():
    assert plan().settings.min_size is None
    large = plan(data=Pictures(10, (600, 800), 60.0))
    assert (large.settings.min_size, large.settings.max_size) == (256, 512) and "256 pixels" in large.notes[0]
    assert plan(data=Pictures(10, (600, 800), 60.0), detector="fast_rcnn").settings.min_size == 288
    asked = plan(data=Pictures(10, (600, 800)), min_size=320)
    assert (asked.settings.min_size, asked.settings.max_size) == (320, 640) and not asked.notes
    paper = plan(backbone="resnet18", min_size=400).settings
    assert (paper.min_size, paper.max_size) == (400, 666)
    assert hasattr(plan(detector="retinanet", data=Pictures(4, (600, 800))).settings, "scales")


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_plan_is_kept_in_json(detector):
    chosen = plan(detector=detector, classes=["a", "b"], seed=4, workers=2)
    assert chosen.training.seed == 4 and chosen.training.workers == 2
    again = Plan.read(json.loads(json.dumps(plain(chosen.values()), allow_nan=False)))
    assert again == chosen and again.training.clip_norm == chosen.training.clip_norm
    assert hash(again.settings) == hash(chosen.settings)  # with tuples wherever there were some


def test_infinity_is_kept_in_json():
    chosen = plan(paper=True)
    assert math.isinf(chosen.training.clip_norm)
    assert Plan.read(json.loads(json.dumps(plain(chosen.values()), allow_nan=False))) == chosen


@pytest.mark.parametrize(
    "wishes, said",
    [
        ({"detector": "yolo"}, "detector: expected one of rcnn"),
        ({"backbone": "vgg"}, "backbone: expected one of tiny, resnet18"),
        ({"steps": 0}, "steps: expected a number above 0, got 0"),
        ({"lr": -1.0}, "lr: expected a number above 0"),
        ({"steps": 5, "epochs": 5}, "steps: expected either steps or epochs"),
        ({"detector": "fast_rcnn", "paper": True}, "the backbone tiny alone"),
        ({"detector": "rcnn", "backbone": "resnet18"}, "the backbone tiny alone"),
        ({"detector": "rcnn", "augment": True}, "cannot learn from changing ones"),
        ({"detector": "sppnet", "min_size": 300}, "min_size: sppnet"),
        ({"device": "tpu9"}, 'device: expected "cpu"'),
        ({"device": "cuda:7"}, "cuda:7 is not there"),
        ({"device": "99"}, "cuda:99 is not there"),
    ],
)
def test_wishes_that_cannot_be_met(wishes, said):
    with pytest.raises(ValueError, match=said):
        plan(**wishes)


def test_without_a_word_the_device_is_what_there_is(monkeypatch):
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert chosen_device(None) == expected


def test_faster_rcnn_of_the_paper_is_as_published():
    assert plan(detector="faster_rcnn", paper=True, batch=1).settings.rpn == FasterRCNNSettings().rpn
