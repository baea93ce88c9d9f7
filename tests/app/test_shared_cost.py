"""What one step costs, where several processes share it."""

import pytest
import torch
from torch import nn

from rcnn_tutorial.app import cost
from rcnn_tutorial.app.planning import Wishes, decide
from tests.training.job import Rectangles


class Counting(nn.Module):
    """Notes how many pictures a step has."""

    def __init__(self):
        super().__init__()
        self.weight, self.pictures = nn.Parameter(torch.ones(())), []

    def forward(self, images, targets):
        self.pictures.append(len(images))
        return {"loss": self.weight * len(targets)}


@pytest.mark.parametrize(("processes", "share"), [(1, 8), (4, 2)])
def test_each_process_takes_its_part_of_the_batch(monkeypatch, processes, share):
    """With all of it on each, eight GPUs would need eight times the memory that the training needs."""
    monkeypatch.setattr(cost, "process_rank", lambda: (0, processes))
    model, dataset = Counting(), Rectangles(12)
    cost.step_cost(model, dataset, decide(Wishes("own", batch=8, device="cpu"), dataset))
    assert model.pictures == [share, share]


def test_all_processes_decide_by_what_the_first_one_measured(monkeypatch):
    """One that measured otherwise would go a step or a checkpoint of its own, and all would wait forever."""
    monkeypatch.setattr(cost, "process_rank", lambda: (1, 2))
    first = [cost.PATIENCE + 1, cost.Cost(7.0, 5)]
    monkeypatch.setattr(cost, "gathered", lambda value: [first.pop(0), value])
    model, dataset = Counting(), Rectangles(12)
    found = cost.step_cost(model, dataset, decide(Wishes("own", batch=8, device="cpu"), dataset))
    assert found == cost.Cost(7.0, 5) and model.pictures == [4]
