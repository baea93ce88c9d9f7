"""Detectors in bfloat16, with their maps in another memory layout, and compiled: the same detectors."""

import pytest
import torch

from experiments.alternating import RPNAlone
from rcnn_tutorial.detectors import load
from tests.detectors.scenes import batch
from tests.peers import matched

DETECTORS = ("faster_rcnn", "fpn")


def proposals(targets):
    """Boxes around those of the targets, since the RPN's own would be others after a rounding."""
    shifts = torch.tensor([[0, 0, 0, 0], [4, 3, 2, 5], [-6, 2, 3, -4], [30, 20, 30, 20], [-40, 0, -20, 10]])
    return [(target["boxes"] + shifts[:, None]).flatten(0, 1).clamp(0, 190) for target in targets]


def losses_of(model):
    """The head's losses of given proposals, and the RPN's."""
    images, targets = batch(2)
    model.train().generator.manual_seed(0)
    losses = model(images, targets, proposals=proposals(targets))
    return losses | RPNAlone(model).train()(images, targets)


def gradients_of(model, losses):
    model.zero_grad()
    sum(losses.values()).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found, model, **rounding):
    """The losses, their gradients, and the detections of a model are those of another."""
    losses, others = losses_of(found), losses_of(model)
    torch.testing.assert_close(losses, others, **rounding)
    gradients, expected = gradients_of(found, losses), gradients_of(model, others)
    assert gradients.keys() == expected.keys() and len(gradients) > 10
    for name, gradient in gradients.items():
        assert (gradient - expected[name]).abs().max() <= 1e-4 * expected[name].abs().max(), name
    images, _ = batch(2)
    ours, theirs = found.eval()(images), model.eval()(images)
    assert sum(map(matched, ours, theirs)) == sum(len(one["scores"]) for one in theirs) > 4


@pytest.mark.parametrize("name", DETECTORS)
def test_losses_in_bfloat16_are_near_and_in_single_precision(name):
    model = load(name)  # not within autocast, which would keep the weights that it found first
    expected = losses_of(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = losses_of(model)
    assert len(losses) == 4 and all(loss.dtype == torch.float32 for loss in losses.values())
    for key, loss in losses.items():
        assert loss.item() == pytest.approx(expected[key].item(), rel=0.02), key
        assert loss != expected[key]  # the network was computed in bfloat16


@pytest.mark.parametrize("name", DETECTORS)
def test_channels_last_gives_the_same(name):
    model, layouts = load(name).to(memory_format=torch.channels_last), []
    model.rpn.head.conv.register_forward_hook(lambda layer, inputs, output: layouts.append(output))
    assert_same(model, load(name))
    assert layouts and all(maps.is_contiguous(memory_format=torch.channels_last) for maps in layouts)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch asks for it while it compiles
@pytest.mark.parametrize("name", DETECTORS)
def test_body_and_heads_are_compiled_without_a_graph_break(name):
    model = load(name)
    before = model.state_dict().keys()
    for part in (model.body, model.rpn.head, model.head):
        part.compile(backend="aot_eager", fullgraph=True)
    assert_same(model, load(name))
    assert model.state_dict().keys() == before  # it is saved and loaded as before
    assert torch._dynamo.utils.counters["graph_break"] == {} and torch._dynamo.utils.counters["stats"]["unique_graphs"]
