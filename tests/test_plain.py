"""With RCNN_PLAIN=1 every detector runs on the rules of `ops` alone, and gives what the fast forms give."""

from functools import cache

import pytest
import torch

from rcnn_tutorial import engine
from rcnn_tutorial.detectors import DETECTORS, load
from rcnn_tutorial.ops import nms, pooling
from tests.detectors.scenes import batch, scene_masks

# Maxima are the same numbers, but sums of gradients and of interpolated points have another order: float32's rounding.
VALUES = dict(rtol=1e-4, atol=1e-5)
GRADIENTS = dict(rtol=1e-3, atol=1e-5)
FAST = ((nms, "survivors"), (pooling, "maxima"), (pooling, "bin_means"), (pooling, "cell_means"))


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
            for module, name in FAST:
                patch.setattr(module, name, refuse)
            return fast, call()

    return run


def test_the_variable_asks_for_it(monkeypatch):
    for value, asked in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("RCNN_PLAIN", value)
        assert engine.plain() is asked
    monkeypatch.delenv("RCNN_PLAIN")
    assert not engine.plain()


@pytest.mark.parametrize("name", DETECTORS)
def test_detections_are_the_same(name, both):
    model, (images, targets) = load(name).eval(), scenes()
    staged = name in ("rcnn", "sppnet", "fast_rcnn")
    given = {"proposals": [target["proposals"] for target in targets]} if staged else {}

    @torch.no_grad()
    def detect():
        return model(images, **given)

    fast, plain = both(detect)
    assert sum(len(one["boxes"]) for one in fast) > 2
    for one, other in zip(fast, plain, strict=True):
        assert torch.equal(one["labels"], other["labels"])
        torch.testing.assert_close(one["scores"], other["scores"], **VALUES)
        torch.testing.assert_close(one["boxes"], other["boxes"], rtol=0, atol=1e-2)  # pixels
        assert ("masks" in one) == ("masks" in other) == (name == "mask_rcnn")
        if "masks" in one:
            assert one["masks"].any() and (one["masks"] != other["masks"]).float().mean() < 1e-4


@pytest.mark.parametrize("name", ["fast_rcnn", "faster_rcnn", "fpn", "mask_rcnn", "retinanet"])
def test_a_training_step_is_the_same(name, both):
    images, targets = scenes()
    targets = targets if name == "fast_rcnn" else [{k: v for k, v in t.items() if k != "proposals"} for t in targets]
    if name == "mask_rcnn":
        targets = [target | {"masks": scene_masks(i)} for i, target in enumerate(targets)]

    def step():
        model = load(name).train()
        model.generator.manual_seed(0)
        losses = model(images, targets)
        sum(losses.values()).backward()
        gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        return {key: loss.detach() for key, loss in losses.items()}, gradients

    (losses, gradients), (plain_losses, plain_gradients) = both(step)
    assert gradients and losses["box"] > 0
    torch.testing.assert_close(losses, plain_losses, **VALUES)
    torch.testing.assert_close(gradients, plain_gradients, **GRADIENTS)
