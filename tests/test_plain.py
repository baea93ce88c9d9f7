"""With RCNN_PLAIN=1 every detector runs on the rules of `ops` alone, and gives what the fast forms give."""

from functools import cache

import pytest
import torch

from rcnn_tutorial import engine
from rcnn_tutorial.detectors.fast_rcnn import FastRCNN, FastRCNNSettings
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.detectors.rcnn import RCNN, RCNNSettings
from rcnn_tutorial.detectors.sppnet import SPPnet, SPPnetSettings
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.ops import nms, pooling
from rcnn_tutorial.weights import load_weights
from tests.detectors.scenes import CLASSES, batch

# Maxima are the same numbers, but sums of gradients and of interpolated points have another order: float32's rounding.
VALUES = dict(rtol=1e-4, atol=1e-5)
GRADIENTS = dict(rtol=1e-3, atol=1e-5)
SHIPPED = {
    "rcnn": lambda: RCNN(tiny_net(len(CLASSES)), CLASSES, RCNNSettings.tiny()),
    "sppnet": lambda: SPPnet(tiny_net(len(CLASSES), levels=(4, 2, 1)), CLASSES, SPPnetSettings.tiny()),
    "fast_rcnn": lambda: FastRCNN(tiny_net(), CLASSES, FastRCNNSettings.tiny()),
    "faster_rcnn": lambda: FasterRCNN(tiny_net(), CLASSES, FasterRCNNSettings.tiny()),
    "fpn": lambda: FPN(tiny_net(), CLASSES, FPNSettings.tiny()),
}


def shipped(name):
    model = SHIPPED[name]()
    model.load_state_dict(load_weights(name))
    return model


@cache
def scenes():
    """Two scenes, with moved objects and random boxes as proposals."""
    images, targets = batch(2)
    g = torch.Generator().manual_seed(0)
    for target in targets:
        near = target["boxes"].repeat(4, 1)
        near = near + 6 * torch.rand(near.shape, generator=g) - 3
        corner = torch.rand(20, 2, generator=g) * torch.tensor([200.0, 140.0])
        others = torch.cat((corner, corner + 10 + 40 * torch.rand(20, 2, generator=g)), dim=1)
        target["proposals"] = torch.cat((near, others)).clamp(min=0).minimum(torch.tensor([256.0, 192, 256, 192]))
    return images, targets


def refuse(*_):
    raise AssertionError("a fast form was called")


@pytest.fixture
def both(monkeypatch):
    """What a call gives on the fast forms and on the rules alone, where no fast form may be called."""

    def run(call):
        fast = call()
        with monkeypatch.context() as patch:
            patch.setenv("RCNN_PLAIN", "1")
            for module, name in ((nms, "keep"), (pooling, "maxima"), (pooling, "bin_means")):
                patch.setattr(module, name, refuse)
            return fast, call()

    return run


def test_the_variable_asks_for_it(monkeypatch):
    for value, asked in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("RCNN_PLAIN", value)
        assert engine.plain() is asked
    monkeypatch.delenv("RCNN_PLAIN")
    assert not engine.plain()


@pytest.mark.parametrize("name", SHIPPED)
def test_detections_are_the_same(name, both):
    model, (images, targets) = shipped(name).eval(), scenes()
    given = None if name in ("faster_rcnn", "fpn") else [target["proposals"] for target in targets]

    @torch.no_grad()
    def detect():
        return model(images, proposals=given)

    fast, plain = both(detect)
    assert sum(len(one["boxes"]) for one in fast) > 2
    for one, other in zip(fast, plain, strict=True):
        assert torch.equal(one["labels"], other["labels"])
        torch.testing.assert_close(one["scores"], other["scores"], **VALUES)
        torch.testing.assert_close(one["boxes"], other["boxes"], rtol=0, atol=1e-2)  # pixels


@pytest.mark.parametrize("name", ["fast_rcnn", "faster_rcnn", "fpn"])
def test_a_training_step_is_the_same(name, both):
    images, targets = scenes()
    targets = targets if name == "fast_rcnn" else [{k: v for k, v in t.items() if k != "proposals"} for t in targets]

    def step():
        model = shipped(name).train()
        model.generator.manual_seed(0)
        losses = model(images, targets)
        sum(losses.values()).backward()
        gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        return {key: loss.detach() for key, loss in losses.items()}, gradients

    (losses, gradients), (plain_losses, plain_gradients) = both(step)
    assert gradients and losses["box"] > 0
    torch.testing.assert_close(losses, plain_losses, **VALUES)
    torch.testing.assert_close(gradients, plain_gradients, **GRADIENTS)
