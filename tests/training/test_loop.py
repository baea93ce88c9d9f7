import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from rcnn_tutorial.training import History, TrainSettings, learning_rate, train
from tests.training.job import QUICK, Rectangles, Toy, detector, run


class Scale(nn.Module):
    """One weight w on two losses, x w and w^2 / 2, so that every step can be computed by hand."""

    def __init__(self, weight=1.0, factor=3.0):
        super().__init__()
        self.weight, self.factor = nn.Parameter(torch.tensor([[weight]], dtype=torch.float64)), factor
        self.weights = []

    def forward(self, images, targets):
        self.weights.append(self.weight.item())
        return {"linear": self.factor * self.weight.sum(), "square": self.weight.square().sum() / 2}


# The schedule and the step


def test_schedule_by_hand():
    step = TrainSettings(steps=10, lr=0.8, warmup=4, milestones=(6, 8), lr_factor=0.5)
    rates = [learning_rate(i, step) for i in range(10)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2])
    cosine = TrainSettings(steps=6, lr=2.0, warmup=2, schedule="cosine")
    rates = [learning_rate(i, cosine) for i in range(6)]
    assert rates == pytest.approx([1.0, 2.0, 2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5)])


def test_weights_by_hand():
    settings = TrainSettings(
        steps=6, batch_size=1, lr=0.1, momentum=0.5, weight_decay=0.2, warmup=2, milestones=(4,), clip_norm=3.5
    )
    model = Scale()
    history = run(model, settings)
    weight, velocity, expected = 1.0, 0.0, []
    for rate in (0.05, 0.1, 0.1, 0.1, 0.01, 0.01):
        expected.append(weight)
        gradient = min(3.0 + weight, 3.5)  # positive throughout; clipped in the first steps only
        velocity = 0.5 * velocity + gradient + 0.2 * weight
        weight -= rate * velocity
    assert model.weights == pytest.approx(expected, abs=1e-6)
    assert model.weight.item() == pytest.approx(weight, abs=1e-6)
    assert history.lr == pytest.approx([0.05, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert history.losses["linear"] == pytest.approx([3 * w for w in expected], abs=1e-5)
    assert history.losses["square"] == pytest.approx([w * w / 2 for w in expected], abs=1e-5)
    assert history.total == pytest.approx([3 * w + w * w / 2 for w in expected], abs=1e-5)


def test_decay_is_for_matrices_only_and_what_is_frozen_or_unused_stays():
    model, still = Toy(), Toy()
    model.odd.weight.requires_grad_(False)
    run(model, replace(QUICK, weight_decay=0.5))
    changed = {name for name, value in model.state_dict().items() if not value.equal(still.state_dict()[name])}
    assert changed == {"features.weight", "features.bias", "odd.bias"}

    class Still(Toy):
        def forward(self, images, targets):
            return {"zero": 0 * sum(weights.sum() for weights in self.parameters())}

    model = Still()
    run(model, replace(QUICK, steps=1, lr=0.1, weight_decay=0.5))
    assert model.features.weight.allclose(still.features.weight * 0.95)
    assert model.features.bias.equal(still.features.bias)


# The images


def test_order_of_the_images():
    model = Toy()
    run(model, replace(QUICK, steps=9))
    epochs = [sum(model.seen[i : i + 3], []) for i in (0, 3, 6)]  # 7 images: 3 whole batches, one image is left out
    assert all(len(batch) == 2 for batch in model.seen)
    assert all(len(set(epoch)) == 6 for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3
    again, other = Toy(), Toy()
    run(again, replace(QUICK, steps=9, workers=0))
    run(other, replace(QUICK, steps=9, seed=1))
    assert again.seen == model.seen and other.seen != model.seen


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_workers_change_nothing():
    here, there = (run(settings=replace(QUICK, workers=workers, steps=6)) for workers in (0, 1))
    assert here.losses == there.losses


def test_epochs_are_told_to_the_dataset():
    dataset = Rectangles(4)
    run(dataset=dataset, settings=replace(QUICK, steps=5))
    assert dataset.epoch == 2


def test_difficult_and_crowd_objects_are_left_out_and_empty_images_kept():
    class Ignored(Rectangles):
        def __getitem__(self, index):
            image, target = super().__getitem__(0)
            boxes = torch.arange(12.0).reshape(3, 4)
            flags = [[False, True, False], [False, False, True]] if index else [[True] * 3, [False] * 3]
            return image, {
                "boxes": boxes,
                "labels": torch.tensor([1, 2, 1]),
                "masks": (torch.arange(3).reshape(3, 1, 1) > 0).expand(3, 64, 96),
                "difficult": torch.tensor(flags[0]),
                "iscrowd": torch.tensor(flags[1]),
                "proposals": boxes,
                "image_id": torch.tensor(index),
                "name": "kept as it is",
            }

    targets = {}

    class Keep(Toy):
        def forward(self, images, given):
            targets.update({int(target["image_id"]): target for target in given})
            return super().forward(images, given)

    run(Keep(), replace(QUICK, steps=1), dataset=Ignored(2))
    assert targets[1]["boxes"].tolist() == [[0, 1, 2, 3]]
    assert targets[1]["labels"].tolist() == [1]
    assert targets[1]["masks"].any().item() is False
    assert targets[1]["proposals"].shape == (3, 4) and targets[1]["name"] == "kept as it is"
    assert targets[0]["boxes"].shape == (0, 4) and targets[0]["labels"].shape == (0,)


# The record


def test_history_is_plain_numbers():
    history = run(settings=replace(QUICK, evaluate_every=5), evaluate=lambda model: {"AP": 0.1, "each": {"x": 1}})
    assert [entry["step"] for entry in history.evaluations] == [5, 10, 12]
    assert History(**json.loads(json.dumps(asdict(history)))) == history
    assert len(history.seconds) == history.steps == 12 and min(history.seconds) > 0


def test_losses_must_keep_their_names():
    class Changing(Scale):
        def forward(self, images, targets):
            losses = super().forward(images, targets)
            return losses if len(self.weights) < 3 else {"linear": losses["linear"]}

    with pytest.raises(ValueError, match="losses.*linear.*step 2.*square"):
        run(Changing())


def test_on_log_and_progress(capsys):
    logged = []
    run(settings=replace(QUICK, log_every=5), on_log=lambda history: logged.append(history.steps))
    assert logged == [5, 10, 12] and capsys.readouterr().err == ""
    train(Toy(), Rectangles(7), QUICK)
    assert "12/12" in capsys.readouterr().err


def test_evaluation_disturbs_neither_the_training_nor_the_caller():
    class Noisy(Toy):
        def forward(self, images, targets):
            assert self.training and torch.is_grad_enabled()
            return {"noise": torch.rand(()) + super().forward(images, targets)["all"]}

    def evaluate(model):
        assert not model.training and not torch.is_grad_enabled()
        return {"noise": torch.rand(())}

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    quiet = run(Noisy())
    assert torch.rand(3).equal(expected)
    model = Noisy()
    looked = run(model, replace(QUICK, evaluate_every=3), evaluate=evaluate)
    assert quiet.losses == looked.losses != run(Noisy(), replace(QUICK, seed=1)).losses
    assert not model.training


# What can go wrong


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched():
    class Diverging(Scale):
        def forward(self, images, targets):
            losses = super().forward(images, targets)
            return losses | {"square": losses["square"] * (math.nan if len(self.weights) == 4 else 1)}

    model = Diverging()
    with pytest.raises(RuntimeError, match=r"step 3: .*'square': nan.*images \[\d, \d\].*image_id \[\d, \d\]"):
        run(model)
    assert model.weight.item() == model.weights[3]


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_touched():
    class Sharp(Scale):
        def forward(self, images, targets):
            return {"root": (self.weight - 1).abs().sqrt().sum()}  # at w = 1 the loss is 0, its slope infinite

    model = Sharp()
    with pytest.raises(RuntimeError, match=r"step 0: .*norm of the gradient.*nan"):
        run(model)
    assert model.weight.item() == 1


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([torch.ones(1)], "returned list"),
        ({}, "dict of scalar losses"),
        ({"a": torch.ones(2)}, "loss 'a'.*scalar"),
        ({"a": 1.0}, "loss 'a'.*scalar"),
        ({"a": torch.ones(())}, r"none of the losses \['a'\] depends on a parameter"),
    ],
)
def test_what_is_no_dict_of_scalars_is_refused(losses, message):
    class Wrong(Scale):
        def forward(self, images, targets):
            return losses

    with pytest.raises(ValueError, match=message):
        run(Wrong())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("batch_size", 0), ("lr", 0.0), ("lr", math.nan), ("momentum", 1.0), ("weight_decay", -1.0),
        ("schedule", "linear"), ("warmup", -1), ("warmup", 11), ("milestones", (5, 3)), ("lr_factor", 0.0),
        ("clip_norm", 0.0), ("precision", "half"), ("seed", -1), ("workers", -1), ("evaluate_every", 0),
        ("checkpoint_every", 0), ("log_every", 0),
    ],
)  # fmt: skip
def test_settings_out_of_range(name, value):
    with pytest.raises(ValueError, match=rf"{name}: .*expected"):
        TrainSettings(**({"steps": 10} | {name: value}))


def test_arguments_that_do_not_fit():
    with pytest.raises(ValueError, match="dataset: expected at least batch_size = 2 images, got 0"):
        run(dataset=Rectangles(0))
    with pytest.raises(ValueError, match="dataset: expected at least batch_size = 2 images, got 1"):
        run(dataset=Rectangles(1))
    with pytest.raises(ValueError, match="model: expected a parameter that requires a gradient, got none"):
        run(Toy().requires_grad_(False))
    with pytest.raises(ValueError, match="evaluate: returned float"):
        run(evaluate=lambda model: 0.5)


# Real detectors


def test_torchvisions_detector_learns_four_images():
    model = detector()
    settings = TrainSettings(steps=150, batch_size=4, lr=0.05, schedule="cosine", warmup=30, clip_norm=5)
    history = run(model, settings, dataset=Rectangles(4, mirror=False))
    assert set(history.losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    assert history.total[0] > 1.5 and max(history.total[-10:]) < 0.6


def test_precision_on_a_cpu_is_float32():
    with pytest.warns(UserWarning, match="precision 'float16' is for GPUs"):
        history = run(settings=replace(QUICK, precision="float16"))
    assert history.losses == run().losses


def test_the_gradient_of_a_fixed_weight_does_not_count_in_the_norm():
    ends = []
    for left_over in (0.0, 1e6):
        model = Scale()
        model.fixed = nn.Parameter(torch.zeros(1, dtype=torch.float64), requires_grad=False)
        model.fixed.grad = torch.full((1,), left_over, dtype=torch.float64)
        run(model, TrainSettings(steps=2, batch_size=1, lr=0.1, clip_norm=0.5))
        ends.append(model.weight.item())
    assert ends[0] == ends[1] != 1.0
