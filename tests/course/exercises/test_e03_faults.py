import torch

from rcnn_tutorial.course.exercises.e03 import FAULTS
from rcnn_tutorial.course.exercises.e03_faults import faulty
from tests.detectors.test_fast_rcnn import untrained


def test_each_letter_has_its_own_fault_and_the_model_none():
    model = untrained()
    model.target_std.copy_(torch.tensor([0.1, 0.1, 0.2, 0.2]))
    boxes = torch.tensor([[20, 20, 60, 40.0]])  # 40 x 20
    offsets = torch.tensor([[[5.0, 0, 0, 0], [0, 0, 0, 0]]])  # class 1 half a width to the right, class 2 nowhere
    right = [[40, 20, 80, 40], [20, 20, 60, 40]]
    expected = {
        "twice": [[22, 20, 62, 40], [20, 20, 60, 40]],
        "class": [[20, 20, 60, 40], [40, 20, 80, 40]],
        "exchange": [[20, 30, 60, 50], [20, 20, 60, 40]],
    }
    found = {letter: copy.decode(offsets, boxes)[0].round().tolist() for letter, copy in faulty(model).items()}
    assert found == {letter: expected[fault] for letter, fault in zip("ABC", FAULTS, strict=True)}
    assert model.decode(offsets, boxes)[0].round().tolist() == right
