"""Groups of objects, and three proposers side by side."""

import torch

from rcnn_tutorial.course.objects import object_groups, three_proposers

TARGETS = [
    {"boxes": torch.tensor([[0, 0, 8, 8], [0, 0, 40, 40], [0, 10, 40, 50.0]]), "labels": torch.tensor([1, 2, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.tensor([], dtype=torch.int64)},
    {"boxes": torch.tensor([[0, 0, 20, 20], [0, 5, 20, 25], [60, 60, 66, 66.0]]), "labels": torch.tensor([1, 2, 1])},
]


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
