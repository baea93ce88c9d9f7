import pytest
import torch
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from rcnn_tutorial.nets.heads import BoxHead, TwoLayers


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pair(classes=4):
    """Ours and torchvision's, with the same weights, in float64."""
    torch.manual_seed(0)
    ours = BoxHead(TwoLayers(6 * 3 * 3, 20), 20, classes).double()
    hidden, last = TwoMLPHead(6 * 3 * 3, 20).double(), FastRCNNPredictor(20, classes).double()
    ours.hidden.load_state_dict(hidden.state_dict())
    ours.score.load_state_dict(last.cls_score.state_dict())
    ours.offsets.weight.data = last.bbox_pred.weight.data[4:]  # theirs has offsets of the background too
    ours.offsets.bias.data = last.bbox_pred.bias.data[4:]
    return ours, nn.Sequential(hidden, last)


@pytest.mark.parametrize("rois", [0, 1, 7])
def test_equals_torchvision(rois):
    ours, theirs = pair()
    pooled = torch.randn(rois, 6, 3, 3, generator=generator(), dtype=torch.float64)
    scores, offsets = ours(pooled)
    expected, moved = theirs(pooled)
    assert scores.shape == (rois, 4) and offsets.shape == (rois, 3, 4)
    assert torch.allclose(scores, expected, rtol=0, atol=1e-9)
    assert torch.allclose(offsets, moved.unflatten(1, (4, 4))[:, 1:], rtol=0, atol=1e-9)
    assert torch.equal(ours.hidden(pooled.flatten(1)), ours.hidden(pooled))


def test_gradients_equal_torchvision():
    ours, theirs = pair()
    pooled = torch.randn(5, 6, 3, 3, generator=generator(), dtype=torch.float64)
    scores, offsets = ours(pooled)
    (scores[:, 2].sum() + offsets[:, 1].square().sum()).backward()
    expected, moved = theirs(pooled)
    (expected[:, 2].sum() + moved[:, 8:12].square().sum()).backward()
    for mine, other in zip(ours.hidden.parameters(), theirs[0].parameters(), strict=True):
        assert torch.allclose(mine.grad, other.grad, rtol=0, atol=1e-9) and mine.grad.abs().sum() > 0
    assert not ours.offsets.weight.grad.unflatten(0, (3, 4))[[0, 2]].any()  # each class has offsets of its own


def test_initial_weights_follow_the_generator():
    first, second, other = (BoxHead(nn.Flatten(), 500, 21, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.score.weight, second.score.weight)
    assert torch.equal(first.offsets.weight, second.offsets.weight)
    assert not torch.equal(first.score.weight, other.score.weight)
    assert first.score.out_features == 21 and first.offsets.out_features == 80
    assert first.score.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert first.offsets.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not first.score.bias.any() and not first.offsets.bias.any()


def test_any_hidden_layers_will_do(device):
    head = BoxHead(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 8, 3, generator()).to(device)
    pooled = torch.randn(4, 8, 7, 7, generator=generator()).to(device)
    scores, offsets = head(pooled)
    mean = pooled.mean((2, 3))
    assert scores.device.type == device.type
    assert torch.allclose(scores, mean @ head.score.weight.t(), atol=1e-5)
    assert torch.allclose(offsets[:, 1], mean @ head.offsets.weight[4:].t(), atol=1e-5)
