import torch

from rcnn_tutorial.course.exercises.e05 import FAULTS
from rcnn_tutorial.course.exercises.e05_faults import faulty
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.nets.backbones import tiny_net

SIDES = FPNSettings.tiny().s0 * 2.0 ** torch.arange(-2, 3)
WHOLE = {"reached": [True] * 4, "levels": [2, 3, 4, 5, 5]}
EXPECTED = {
    "no top-down": {"reached": [True, False, False, False], "levels": [2, 3, 4, 5, 5]},
    "no lateral": {"reached": [False, False, False, True], "levels": [2, 3, 4, 5, 5]},
    "wrong level rule": {"reached": [True] * 4, "levels": [2, 2, 2, 3, 4]},
}


def seen(model):
    """Which of the stages' maps the finest map of the pyramid reads, and the levels of five squares."""
    channels = model.body.bottom_up.channels
    maps = [torch.rand(1, c, 2 ** (3 - i), 2 ** (3 - i), requires_grad=True) for i, c in enumerate(channels)]
    model.body.fpn(maps)[0].sum().backward()
    boxes = torch.stack((0 * SIDES, 0 * SIDES, SIDES, SIDES), dim=1)
    reached = [map.grad is not None and bool(map.grad.any()) for map in maps]
    return {"reached": reached, "levels": model.levels(boxes).tolist()}


def test_each_letter_has_its_own_fault_and_the_model_none():
    model = FPN(tiny_net(), ("background", "square"), FPNSettings.tiny()).eval()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    found = {letter: seen(copy) for letter, copy in faulty(model).items()}
    assert found == {letter: EXPECTED[fault] for letter, fault in zip("ABC", FAULTS, strict=True)}
    assert seen(model) == WHOLE and all(torch.equal(weights[n], v) for n, v in model.state_dict().items())
    for copy in faulty(model).values():
        assert all(torch.equal(weights[n], v) for n, v in copy.state_dict().items())
        copy([torch.rand(3, 64, 96)])
