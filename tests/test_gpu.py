"""On a GPU detectors and what surrounds them give what they give on a CPU, within the tolerances stated here.

Numbers that are only compared, copied or combined one by one are equal. Sums have another order, so maps, losses and
gradients are equal to float32's rounding. Where such a rounding decides about a proposal, other detections follow: one
in twenty may differ. The tests of `ops` and `nets` with the parameter `device` say the same of the operators.
"""

from dataclasses import replace
from time import perf_counter

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from experiments.alternating import RPNAlone, alternate
from rcnn_tutorial.compat import from_torchvision
from rcnn_tutorial.course.profile import Laps
from rcnn_tutorial.detectors import load
from rcnn_tutorial.detectors.select import select
from rcnn_tutorial.detectors.two_stage import TwoStageSettings, draw_samples
from rcnn_tutorial.nets.backbones import ALEXNET, ConvNet, tiny_net
from rcnn_tutorial.nets.fpn import Pyramid, resnet_stages, tiny_stages
from rcnn_tutorial.training import TrainSettings
from tests.detectors import test_rcnn, test_sppnet
from tests.detectors.scenes import CLASSES, Scenes, batch, untrained
from tests.detectors.test_samples import SIZES
from tests.detectors.test_samples import scene as windows_and_target
from tests.device.measure import torchvisions
from tests.device.test_detectors import fit_in_stages, proposals
from tests.peers import matched

pytestmark = pytest.mark.gpu


def moved(nest, device):
    """A nest of lists, tuples and dicts with its tensors on a device."""
    if isinstance(nest, dict):
        return {name: moved(value, device) for name, value in nest.items()}
    if isinstance(nest, (list, tuple)):
        return [moved(value, device) for value in nest]
    return nest.to(device) if isinstance(nest, torch.Tensor) else nest


def on_both(answer):
    """What a function of the device gives for a CPU and for a GPU; the second lies there, and is brought back."""
    expected, found = answer("cpu"), answer("cuda")
    assert_on_gpu(found)
    return expected, moved(found, "cpu")


def assert_on_gpu(nest):
    parts = nest.values() if isinstance(nest, dict) else nest if isinstance(nest, (list, tuple)) else [nest]
    for part in parts:
        assert part.is_cuda if isinstance(part, torch.Tensor) else assert_on_gpu(part) is None


def assert_detections_equal(expected, found):
    count = sum(len(one["scores"]) for one in expected)
    assert count > 2 and sum(map(matched, found, expected)) >= 0.95 * count
    assert abs(sum(len(one["scores"]) for one in found) - count) <= 0.05 * count


def assert_equal_to_rounding(found, expected, share=1e-3):
    """Within this share of the largest number."""
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape and (one - other).abs().max() <= share * other.abs().max()


CASES = [("fast_rcnn", None), ("faster_rcnn", 2), ("faster_rcnn", None), ("fpn", 2), ("fpn", None)]


@pytest.mark.parametrize("name, sampling_ratio", CASES)
def test_losses_gradients_and_detections(name, sampling_ratio):
    images, targets = batch(3)
    given = [proposals(target["boxes"], i) for i, target in enumerate(targets)]

    def answer(device):
        model, inputs, truths = load(name).to(device), moved(images, device), moved(targets, device)
        model.settings = replace(model.settings, sampling_ratio=sampling_ratio)
        model.generator.manual_seed(5)
        detections = model.eval()(inputs, proposals=None if model.rpn else moved(given, device))
        # the RPN's own proposals would be in another order, and so would be others that are drawn from them
        losses = model.train()(inputs, truths, proposals=moved(given, device))
        if model.rpn:
            losses |= RPNAlone(model).train()(inputs, truths)
        sum(losses.values()).backward()
        norms = {name: gradient_norm(part) for name, part in model.named_children() if list(part.parameters())}
        return detections, {name: loss.detach() for name, loss in losses.items()} | norms

    (expected, numbers), (found, others) = on_both(answer)
    assert_detections_equal(expected, found)
    assert len(numbers) == (4 if name == "fast_rcnn" else 7)
    for key, value in numbers.items():
        assert value > 0 and others[key].item() == pytest.approx(value.item(), rel=1e-3), key


def gradient_norm(module):
    return torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]).norm()


@pytest.mark.parametrize("module", [test_rcnn, test_sppnet], ids=["rcnn", "sppnet"])
def test_training_in_stages(module):
    runs = [fit_in_stages(module, lambda value, device=device: value.to(device)) for device in ("cpu", "cuda")]
    (history, expected, _), (record, found, weights) = runs
    assert_on_gpu([weights["svm_weight"], found])
    for loss, values in history.losses.items():
        assert record.losses[loss] == pytest.approx(values, rel=0.01), loss
    assert_detections_equal(expected, moved(found, "cpu"))


def test_alternating_training():
    """The first step is the same; what the others draw depends on the order of proposals, which rounding decides."""
    settings = [TrainSettings(2, batch_size=2, lr=0.005, clip_norm=10.0)] * 4
    start, runs = numbers_of(untrained(rois=32)), []
    for device in ("cpu", "cuda"):
        after = {}
        alternate(
            lambda: untrained(rois=32).to(device),  # noqa: B023
            Scenes(2),
            settings,
            after=lambda step, model, _: after.update({step: numbers_of(model)}),  # noqa: B023
        )
        runs.append(after)
    for part in ("body", "rpn"):
        change = runs[0][1][part] - start[part]
        assert change.any() and (runs[1][1][part] - runs[0][1][part]).norm() < 0.01 * change.norm(), part
    for part in ("body", "rpn", "head"):
        changes = [(after[4][part] - start[part]).norm().item() for after in runs]
        assert changes[0] > 0 and changes[1] == pytest.approx(changes[0], rel=0.3), part


def numbers_of(model):
    """All weights of each part, in a row."""
    return {name: nn.utils.parameters_to_vector(getattr(model, name).parameters()).detach().cpu()
            for name in ("body", "rpn", "head")}  # fmt: skip


def test_samples_are_the_same():
    given, targets = zip(*(windows_and_target(i) for i in range(2)), strict=True)

    def answer(device):
        generator = torch.Generator().manual_seed(0)
        inputs = moved(given, device), moved(targets, device)
        return list(draw_samples(*inputs, SIZES, TwoStageSettings(rois=64, background=(0.1, 0.5)), generator))

    expected, found = on_both(answer)
    assert all(map(torch.equal, expected, found)) and (found[1] > 0).any()


def test_the_same_boxes_are_selected():
    g = torch.Generator().manual_seed(0)
    scores = [(torch.rand(count, 6, generator=g) * 50).round() / 50 for count in (300, 0, 200)]  # many are equal
    corners = [torch.rand(len(part), 6, 2, generator=g) * 200 for part in scores]
    boxes = [torch.cat((part, part + 20 + 40 * torch.rand(part.shape, generator=g)), dim=2) for part in corners]
    sizes = [(200, 240), (50, 60), (190, 250)]
    expected, found = on_both(
        lambda device: select(moved(scores, device), moved(boxes, device), sizes, 0.3, 0.05, 80, least_side=1.0)
    )
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in other)
    assert [len(one["boxes"]) for one in found] == [80, 0, 80]


BACKBONES = {
    "tiny": lambda: tiny_net(pretrained=True).convs,
    "tiny with batch normalisation": lambda: tiny_net(norm="batch").convs.eval(),
    "AlexNet": lambda: ConvNet(ALEXNET, 127, 16, 5).convs,
    "spatial pyramid": lambda: tiny_net(levels=(3, 2, 1)).eval(),
    "ResNet-18 and a pyramid": lambda: Pyramid(resnet_stages(resnet18()), 32),
    "tiny and a pyramid": lambda: Pyramid(tiny_stages(tiny_net(pretrained=True)), 32),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_maps_of_backbones(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = BACKBONES[name]()
    images = torch.rand(2, 3, 127, 161, generator=torch.Generator().manual_seed(0)) - 0.5

    @torch.no_grad()
    def answer(device):
        maps = network.to(device)(images.to(device))
        return [maps] if isinstance(maps, torch.Tensor) else maps

    expected, found = on_both(answer)
    assert_equal_to_rounding(found, expected)


def test_a_detector_of_torchvision_on_a_gpu_becomes_ours_there():
    images, _ = batch(3)
    theirs = torchvisions("fpn").cuda().eval()
    ours = from_torchvision(theirs, CLASSES)
    assert all(parameter.is_cuda for parameter in ours.parameters())
    expected, found = (model(moved(images, "cuda")) for model in (theirs, ours))
    assert_detections_equal(moved(expected, "cpu"), moved(found, "cpu"))
    assert_detections_equal(ours.cpu()(images), moved(found, "cpu"))


def test_a_lap_holds_the_work_that_the_gpu_has_still_to_do():
    layer, numbers = nn.Linear(1024, 1024).cuda(), torch.rand(1024, 1024, device="cuda")
    layer(numbers)  # the first call loads what it needs
    lap = Laps()
    for _ in range(50):
        layer(numbers)
    lap("work")
    start = perf_counter()
    torch.cuda.synchronize()
    assert perf_counter() - start < 0.2 * lap.seconds["work"]
