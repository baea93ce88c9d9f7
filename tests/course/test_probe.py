from copy import deepcopy

import pytest
import torch

from rcnn_tutorial.course.probe import (
    Cells,
    best_of_levels,
    centre_cells,
    class_by_third,
    four_designs,
    level_sizes,
    level_steps,
    merging_steps,
    pyramid_cost,
    stage_fields,
)
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.nets.backbones import tiny_net


@pytest.fixture(scope="module")
def model():
    return FPN(tiny_net(), ("background", "square"), FPNSettings.tiny(channels=8, hidden=8)).eval()


IMAGE = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0))
TARGET = {"boxes": torch.tensor([[8, 16, 16, 32], [64, 32, 96, 64.0]]), "labels": torch.tensor([1, 1])}


def test_what_a_cell_of_each_stage_looks_at(model):
    fields = stage_fields()
    assert [field.stride for field in fields.values()] == [4, 8, 16, 32] and list(fields) == ["C2", "C3", "C4", "C5"]
    network = deepcopy(model.body.bottom_up)
    with torch.no_grad():
        for values in network.parameters():
            values.fill_(0.01)  # so that every ReLU lets the gradient through
    pixels = torch.rand(1, 3, 512, 512, requires_grad=True)
    for field, stage in zip(fields.values(), network(pixels), strict=True):
        middle = stage[0, 0, stage.shape[2] // 2, stage.shape[3] // 2]
        (gradient,) = torch.autograd.grad(middle, pixels, retain_graph=True)
        rows, columns = gradient[0].abs().sum(dim=0).nonzero().T
        seen = max((each.max() - each.min() + 1).item() for each in (rows, columns))
        assert field.size - field.stride < seen <= field.size  # a maximum takes one of its cells


def test_the_cell_under_the_centre(model):
    cells = centre_cells(model, [(IMAGE, TARGET)], [0])
    with torch.no_grad():
        stages = model.body.bottom_up(model.preprocess([IMAGE]).tensor)
        pyramid = model.body.fpn(stages)
        alone = model.body.fpn.outputs[1](model.body.fpn.laterals[1](stages[1]))
    assert torch.equal(cells.features["C2"][0], stages[0][0, :, 6, 3])  # the centre is (12, 24), the stride 4
    assert torch.equal(cells.features["C3"][1], stages[1][0, :, 6, 10])  # (80, 48), 8
    assert torch.allclose(cells.features["P3"][1], pyramid[1][0, :, 6, 10])
    assert torch.allclose(cells.features["L3"][1], alone[0, :, 6, 10])
    assert not torch.allclose(cells.features["P3"], cells.features["L3"])
    assert torch.allclose(cells.features["P5"], cells.features["L5"])  # nothing comes down to the coarsest level
    assert cells.labels.tolist() == [1, 1] and cells.sides.tolist() == pytest.approx([128**0.5, 32])


def test_thirds_are_told_apart():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 2 + 1
    sides = torch.arange(300).float()
    clear = torch.stack((labels.float(), torch.zeros(300)), dim=1) + 0.01 * torch.randn(300, 2, generator=generator)
    noise = torch.randn(300, 2, generator=generator)
    mixed = torch.where((sides < 100)[:, None], clear, noise)
    seen = Cells({"C2": clear, "P2": clear, "P3": noise}, labels, sides)
    found = class_by_third(seen, Cells({"C2": clear, "P2": mixed, "P3": noise}, labels, sides))
    assert list(found) == ["C", "P"] and list(found["P"]) == ["P2", "P3"]
    assert found["C"]["C2"].tolist() == [1, 1, 1]
    small, middle, large = found["P"]["P2"].tolist()
    assert small == 1 and max(middle, large) < 0.8 and found["P"]["P3"].max() < 0.7


def test_four_designs(model):
    shown = four_designs(model, IMAGE)
    assert [name[:3] for name in shown] == ["(a)", "(b)", "(c)", "(d)"]
    sizes = [[tuple(each.shape) for each in maps] for maps in shown.values()]
    assert sizes[0] == [(16, 24), (8, 12), (4, 6)] and sizes[1] == [(8, 12)]
    assert sizes[2] == sizes[3] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert torch.equal(shown["(b) single map"][0], shown["(c) hierarchy"][1])
    assert torch.allclose(shown["(a) image pyramid"][1], shown["(b) single map"][0])


def test_the_best_anchor_of_each_level():
    anchors = torch.tensor([[0, 0, 4, 4], [0, 0, 8, 8], [0, 0, 16, 16], [4, 4, 12, 12.0]])
    best, ious = best_of_levels(anchors, (2, 2), torch.tensor([0, 0, 8, 8.0]))
    assert best.tolist() == [[0, 0, 8, 8], [0, 0, 16, 16]] and ious == [1, 0.25]


def test_merging_steps_follow_the_channel_that_varies_most(model):
    steps = merging_steps(model, IMAGE, levels=(2, 3))
    assert list(steps) == ["P2", "P3"] and [m.shape for m in steps["P3"]] == [(8, 12)] * 4
    with torch.no_grad():
        stages = model.body.bottom_up(model.preprocess([IMAGE]).tensor)
        sums, smooth = model.body.fpn.merge(stages), model.body.fpn(stages)
    c = int(sums[0][0].std(dim=(1, 2)).argmax())
    for k, (lateral, above, both, after) in enumerate(steps.values()):
        assert torch.allclose(lateral + above, both, atol=1e-6) and torch.equal(both, sums[k][0, c])
        assert torch.equal(after, smooth[k][0, c])
    repeated = steps["P3"][2].repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.allclose(steps["P2"][1], repeated, atol=1e-6)  # the sum of P3 comes down to P2


def test_a_picture_twice_as_large_costs_four_times_as_much():
    cost = pyramid_cost((0.5, 1, 2))
    assert list(cost) == [0.5, 1, 2] and cost[2] == 4 * cost[1] == 16 * cost[0.5] > 0


def test_level_steps_of_two_constants():
    sides, levels = level_steps((224, 112))
    assert list(levels) == ["s0 = 224", "s0 = 112"]
    of = {name: dict(zip(sides.tolist(), each.tolist(), strict=True)) for name, each in levels.items()}
    assert [of["s0 = 224"][side] for side in (8, 223, 224, 448)] == [2, 3, 4, 5]
    assert [of["s0 = 112"][side] for side in (55, 56, 112, 224)] == [2, 3, 4, 5]


def test_each_level_tells_its_cells_and_the_side_of_its_squares():
    shapes = [torch.tensor([[-9.0, -4, 9, 4], [-8, -8, 8, 8], [-4, -9, 4, 9]]) * times for times in (1, 16)]
    told = level_sizes([torch.zeros(1, 4, 48, 64), torch.zeros(1, 4, 3, 4)], shapes)
    assert told == ["P2: 64 x 48 cells, squares of  16 pixels", "P3:  4 x  3 cells, squares of 256 pixels"]
