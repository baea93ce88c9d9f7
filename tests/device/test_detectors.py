"""Every detector trains and detects on the simulated device as on the CPU, and never mixes the two."""

from dataclasses import replace

import pytest
import torch

from rcnn_tutorial.detectors import load
from rcnn_tutorial.training import TrainSettings, train
from tests.detectors import test_rcnn, test_sppnet
from tests.detectors.scenes import MaskedScenes, Scenes, batch
from tests.device import CUDA, LAUNCH, DeviceTensor, on_device, on_host, simulated_cuda

# Sums of gradients have another order, since larger pieces are computed at a time than on a CPU: float32's rounding.
ROUNDING = dict(rtol=1e-4, atol=1e-6)


class ScenesWithProposals(Scenes):
    """Scenes whose objects, moved a little, and some boxes besides are the proposals."""

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image, target | {"proposals": proposals(target["boxes"], index)}


def proposals(boxes, seed):
    g = torch.Generator().manual_seed(seed)
    moved = boxes.repeat(6, 1) + 16 * torch.rand(6 * len(boxes), 4, generator=g) - 8
    corners = torch.rand(30, 2, generator=g) * torch.tensor([200.0, 140.0])
    others = torch.cat((corners, corners + 10 + 40 * torch.rand(30, 2, generator=g)), dim=1)
    return torch.cat((moved, others)).clamp(min=0).minimum(torch.tensor([256.0, 192, 256, 192]))


def assert_on_device(nest):
    assert all(isinstance(value, DeviceTensor) for one in nest for value in one.values())


def assert_detections_equal(found, expected):
    assert sum(len(one["boxes"]) for one in expected) > 2
    for one, other in zip(on_host(found), expected, strict=True):
        assert torch.equal(one["labels"], other["labels"])
        torch.testing.assert_close(one["scores"], other["scores"], **ROUNDING)
        torch.testing.assert_close(one["boxes"], other["boxes"], rtol=0, atol=1e-3)  # pixels
        assert one.keys() == other.keys()
        if "masks" in one:
            assert other["masks"].any() and (one["masks"] != other["masks"]).float().mean() < 1e-4


@pytest.mark.parametrize("name", ["fast_rcnn", "faster_rcnn", "fpn", "mask_rcnn", "retinanet"])
def test_a_training_is_that_of_the_cpu(name):
    settings = TrainSettings(2, batch_size=2, lr=0.01, clip_norm=1.0)
    dataset = {"fast_rcnn": ScenesWithProposals, "mask_rcnn": MaskedScenes}.get(name, Scenes)(2)
    model, expected = load(name), load(name)
    history = train(expected, dataset, settings, progress=False)
    with simulated_cuda() as log:
        on_device(model)
        record = train(model, dataset, settings, progress=False)
        weights = on_host(model.state_dict())
    assert log.count(LAUNCH) > 500
    assert record.losses.keys() == history.losses.keys() and min(history.losses["box"]) > 0
    for loss, values in history.losses.items():
        assert record.losses[loss] == pytest.approx(values, rel=1e-5), loss
    assert any(not torch.equal(value, weights[key]) for key, value in load(name).state_dict().items())
    torch.testing.assert_close(weights, expected.state_dict(), **ROUNDING)


@torch.no_grad()
@pytest.mark.parametrize("name", ["fast_rcnn", "faster_rcnn", "fpn", "mask_rcnn", "retinanet"])
def test_detections_are_those_of_the_cpu(name):
    images, targets = batch(2)
    given = {}
    if name == "fast_rcnn":
        given["proposals"] = [proposals(target["boxes"], i) for i, target in enumerate(targets)]
    model = load(name).eval()
    expected = model(images, **given)
    with simulated_cuda():
        found = on_device(model)(on_device(images), **on_device(given))
        assert_on_device(found)
    assert_detections_equal(found, expected)


def fit_in_stages(module, move):
    """Fine-tuning, SVMs, regression and the choice of the threshold, then detection."""
    model = move(module.untrained())
    model.settings = replace(model.settings, fine_tuning=TrainSettings(2, batch_size=1, lr=0.03, clip_norm=10.0))
    history, _ = model.fit(test_rcnn.Squares(2), test_rcnn.Squares(1, seed=1), progress=False)
    image, target = test_rcnn.Squares(1, seed=2)[0]
    return history, model([move(image)], proposals=[move(target["proposals"])]), model.state_dict()


@pytest.mark.parametrize("module", [test_rcnn, test_sppnet], ids=["rcnn", "sppnet"])
def test_training_in_stages_is_that_of_the_cpu(module):
    history, expected, weights = fit_in_stages(module, lambda value: value)
    with simulated_cuda():
        record, found, moved = fit_in_stages(module, on_device)
        assert_on_device(found)
        moved = on_host(dict(moved))
    for loss, values in history.losses.items():
        assert record.losses[loss] == pytest.approx(values, rel=1e-5), loss
    torch.testing.assert_close(moved, weights, **ROUNDING)
    assert_detections_equal(found, expected)


def test_a_target_on_the_host_is_refused():
    images, targets = batch(2)
    model = load("fpn")  # which makes a sketch of it on "meta" first: the simulation takes that for the GPU
    with simulated_cuda():
        model = on_device(model).train()
        assert next(model.parameters()).device == CUDA
        with pytest.raises(RuntimeError, match="same device"):
            model(images, targets)
