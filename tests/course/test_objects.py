"""Anchors on objects, groups of objects, and three proposers side by side."""

from types import SimpleNamespace

import pytest
import torch

from rcnn_tutorial.course import objects
from rcnn_tutorial.course.objects import best_anchors_moved, object_groups, predict_at_nms, three_proposers
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNNSettings
from rcnn_tutorial.nets.rpn import Predictions

TARGETS = [
    {"boxes": torch.tensor([[0, 0, 8, 8], [0, 0, 40, 40], [0, 10, 40, 50.0]]), "labels": torch.tensor([1, 2, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.tensor([], dtype=torch.int64)},
    {"boxes": torch.tensor([[0, 0, 20, 20], [0, 5, 20, 25], [60, 60, 66, 66.0]]), "labels": torch.tensor([1, 2, 1])},
]


def test_each_object_takes_its_best_anchor_and_its_offsets_move_it():
    anchors = torch.tensor([[0, 0, 10, 10], [20, 20, 40, 40], [22, 20, 42, 40.0]])
    offsets = torch.zeros(1, 3, 4)
    offsets[0, 0, 0] = 0.5  # half of the width of 10 to the right
    offsets[0, 1:] = 9  # of anchors that no object takes
    found = Predictions(torch.zeros(1, 3), offsets.requires_grad_(), anchors, (3,))
    best, moved, fits = best_anchors_moved(found, torch.tensor([[5, 0, 15, 12], [0, 0, 12, 10.0]]))
    assert torch.equal(best, anchors[[0, 0]]) and not moved.requires_grad
    assert torch.equal(moved, torch.tensor([[5, 0, 15, 10], [5, 0, 15, 10.0]]))
    assert fits == [0.83, 0.47]  # 100 of 120, 70 of 150


def test_another_nms_is_for_one_prediction_alone(monkeypatch):
    usual = FasterRCNNSettings.tiny()
    detector = SimpleNamespace(settings=usual)

    def predict(detector, data, progress):
        if data == "broken":
            raise ValueError
        return detector.settings, data

    monkeypatch.setattr(objects, "predict", predict)
    seen, data = predict_at_nms(detector, "scenes", 0.9)
    assert (seen.nms_threshold, data) == (0.9, "scenes") and usual.nms_threshold < 0.9
    assert seen.min_size == usual.min_size and detector.settings is usual
    with pytest.raises(ValueError):
        predict_at_nms(detector, "broken", 0.9)
    assert detector.settings is usual


def test_objects_are_grouped_by_size_and_by_what_they_lie_over():
    groups = object_groups(TARGETS)
    assert {name: which.nonzero()[:, 0].tolist() for name, which in groups.items()} == {
        "small": [0, 5],
        "large": [1, 2],
        "overlaps same class": [1, 2],
        "overlaps other class": [3, 4],
    }
    assert not object_groups(TARGETS, overlap=0.7)["overlaps other class"].any()


class Proposer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def proposals(self, images):
        return [torch.arange(40.0).view(10, 4) for _ in images]


def test_three_proposers_give_at_most_so_many_boxes_for_each_picture():
    image = torch.zeros(3, 48, 64)
    image[:, 10:30, 20:40] = 1
    found = three_proposers(Proposer(), [(image, {"boxes": torch.zeros(0, 4)})] * 2, top=6)
    assert list(found) == ["RPN", "selective search", "random"]
    assert all(len(boxes) == 2 and all(len(each) <= 6 for each in boxes) for boxes in found.values())
    assert torch.equal(found["RPN"][0], torch.arange(24.0).view(6, 4))
    assert [20, 10, 40, 30] in found["selective search"][1].tolist()  # the square
    first, second = found["random"]
    assert len(first) == 6 and not torch.equal(first, second)
    assert (first >= 0).all() and (first <= torch.tensor([64, 48, 64, 48])).all()
    again = three_proposers(Proposer(), [(image, {"boxes": torch.zeros(0, 4)})], top=6)
    assert torch.equal(again["random"][0], first)
