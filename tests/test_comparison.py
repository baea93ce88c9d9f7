"""What the comparison's experiments change: the trunk, a stride, the map that is read, two detectors together."""

from types import SimpleNamespace

import pytest
import torch

from experiments import comparison
from experiments.comparison import FromC4, FromC5, merged, trunk, without_last_stride
from experiments.designs import SingleFPN
from experiments.fpn import settings
from rcnn_tutorial.detectors import load
from tests.detectors.scenes import CLASSES, Scenes


@pytest.fixture(scope="module")
def picture():
    return torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_trunk_is_the_shipped_pyramids(picture):
    shipped = load("fpn").body.bottom_up
    for trained in (True, False):
        net, stages = trunk(0, trained)
        maps = stages(picture)
        same = [torch.equal(ours, theirs) for ours, theirs in zip(maps, shipped(picture), strict=True)]
        assert same == [trained] * 4
        body = torch.nn.Sequential(*net.convs[:4], net.convs[4][:-1])  # as Faster R-CNN reads it
        assert torch.equal(body(picture), maps[1])


@torch.no_grad()
def test_a_stride_is_removed_and_every_second_cell_stays(picture):
    coarse = trunk(0)[1](picture)
    stages = without_last_stride(trunk(0)[1])
    fine = stages(picture)
    assert stages.strides == (4, 8, 8, 16) and fine[2].shape == fine[1].shape
    assert torch.allclose(fine[2][..., ::2, ::2], coarse[2], atol=1e-5)
    assert torch.equal(fine[1], coarse[1])


@pytest.mark.parametrize("kind, change, stride", [
    (SingleFPN, lambda stages: stages, 8),
    (FromC4, lambda stages: stages, 16),
    (FromC5, lambda stages: stages, 32),
    (FromC4, without_last_stride, 8),
])  # fmt: skip
def test_one_map_is_read_at_its_stride(kind, change, stride, picture):
    model = kind(change(trunk(0)[1]), CLASSES, settings(0))
    (features,) = model.body(picture)
    assert model.head_strides == (stride,) and features.shape[2:] == (64 // stride, 96 // stride)
    losses = model.train()(*zip(*(Scenes(2)[i] for i in range(2)), strict=True))
    assert all(torch.isfinite(loss) for loss in losses.values())


def found(*rows):
    boxes, labels, scores = zip(*rows, strict=True)
    return {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels), "scores": torch.tensor(scores)}


def test_two_detectors_together_keep_the_surer_of_two_that_overlap():
    box, far = [0.0, 0, 10, 10], [20.0, 20, 30, 30]
    one = [found((box, 1, 0.6), (far, 2, 0.5))]
    other = [found((box, 1, 0.9), (box, 2, 0.4))]
    (both,) = merged(one, other)
    assert both["scores"].tolist() == pytest.approx([0.9, 0.5, 0.4])
    assert both["labels"].tolist() == [1, 2, 2] and both["boxes"][1].tolist() == far
    assert len(merged(one, other, most=2)[0]["scores"]) == 2


def test_an_ensemble_is_measured_beside_its_members(monkeypatch):
    """On eight pictures, with two detectors, of which one finds nothing."""
    scenes = Scenes(8)
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "scores": torch.zeros(0)}
    targets = [scenes[i][1] for i in range(8)]
    answers = {
        "good": [{"boxes": t["boxes"], "labels": t["labels"], "scores": torch.ones(len(t["labels"]))} for t in targets],
        "blind": [nothing] * 8,
    }
    monkeypatch.setattr(comparison, "NAMES", ("good", "blind"))
    monkeypatch.setattr(comparison, "FOLDS", 8)
    monkeypatch.setattr(comparison, "load", lambda name: SimpleNamespace(to=lambda _: Fake(name)))
    monkeypatch.setattr(comparison, "load_dataset", lambda data, split: scenes)
    monkeypatch.setattr(comparison, "predict", lambda model, data, progress: (answers[model.name], targets))
    result = comparison.ensembles(0)
    assert list(result) == ["good", "blind", "good + blind"]
    assert result["good"]["AP"] == result["good + blind"]["AP"] == 1 and result["blind"]["AP"] == 0
    assert result["good + blind"]["likeness"] == 0


class Fake:
    classes = CLASSES

    def __init__(self, name):
        self.name = name
