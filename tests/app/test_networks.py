import pytest
import torch
from torchvision.models import get_model

from rcnn_tutorial.app import networks
from rcnn_tutorial.app.networks import new_detector, settings_class
from rcnn_tutorial.detectors import DETECTORS
from rcnn_tutorial.detectors.fpn import FPNSettings

CLASSES = ("background", "leaf")


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("pretrained", [True, False])
def test_every_detector_begins_with_the_small_network(detector, pretrained):
    model = new_detector(detector, "tiny", CLASSES, settings_class(detector).tiny(), pretrained)
    assert model.name == detector and model.classes == CLASSES


def test_a_seed_draws_random_weights_and_leaves_the_callers():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    models = [new_detector("fpn", "tiny", CLASSES, FPNSettings.tiny(), False, seed) for seed in (1, 1, 2)]
    assert torch.rand(1).equal(expected)
    first, same, other = (torch.cat([value.flatten() for value in model.state_dict().values()]) for model in models)
    assert first.equal(same) and not first.equal(other)


def test_a_residual_network_has_torchvisions_weights(monkeypatch):
    net = get_model("resnet18")
    asked = []
    monkeypatch.setattr(networks, "download", lambda url, **options: asked.append(url) or net.state_dict())
    model = new_detector("fpn", "resnet18", CLASSES, FPNSettings(channels=8, hidden=8))
    assert "resnet18" in asked[0] and len(asked) == 1
    assert any(value.equal(net.conv1.weight) for value in model.state_dict().values() if value.shape == (64, 3, 7, 7))
    new_detector("fpn", "resnet18", CLASSES, FPNSettings(channels=8, hidden=8), pretrained=False)
    assert len(asked) == 1
