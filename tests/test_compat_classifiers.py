"""torchvision's classifiers as ours: the same outputs from the same weights, and detectors made of them."""

import pytest
import torch
from torch import nn
from torchvision.models import VGG, AlexNet, resnet18, vgg16_bn
from torchvision.models.vgg import make_layers

from rcnn_tutorial.compat import classifier_from_torchvision
from rcnn_tutorial.detectors.faster_rcnn import IMAGENET_STD
from rcnn_tutorial.nets.backbones import VGG16, Conv
from rcnn_tutorial.ops.warp import IMAGENET_MEAN
from rcnn_tutorial.saving import describe

# configuration D with 1/16 of its channels, whose poolings stand where VGG16's do
THIN = [4, 4, "M", 8, 8, "M", 16, 16, 16, "M", 32, 32, 32, "M", 32, 32, 32, "M"]


def drawn(net, *classifier):
    """A network of torchvision with a small classifier, and with random weights for all layers."""
    net.classifier = nn.Sequential(*classifier)
    net.to_empty(device="cpu")
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
    return net


def thin_vgg16():
    """A VGG16 of torchvision with few weights."""
    with torch.device("meta"):
        net = VGG(make_layers(THIN), num_classes=7, init_weights=False)
    first, second, third = nn.Linear(32 * 49, 24), nn.Linear(24, 24), nn.Linear(24, 7)
    return drawn(net, first, nn.ReLU(), nn.Dropout(), second, nn.ReLU(), nn.Dropout(), third)


def thin_alexnet():
    """An AlexNet of torchvision with few weights behind its convolutions."""
    with torch.device("meta"):
        net = AlexNet(num_classes=7)
    first, second, third = nn.Linear(9216, 24), nn.Linear(24, 24), nn.Linear(24, 7)
    return drawn(net, nn.Dropout(0.3), first, nn.ReLU(), nn.Dropout(0.3), second, nn.ReLU(), third)


def normalised(pixels, std):
    """Pixels as a network reads them."""
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (IMAGENET_MEAN, std))
    return (pixels - mean) / std


@pytest.mark.parametrize("make", [thin_vgg16, thin_alexnet])
def test_the_same_outputs_from_the_same_weights(make):
    torch.manual_seed(0)
    theirs = make().double().eval()
    ours, pixels = classifier_from_torchvision(theirs), torch.rand(2, 3, 224, 224).double()
    with torch.no_grad():
        expected = theirs(normalised(pixels, IMAGENET_STD))
        maps = theirs.features(normalised(pixels, IMAGENET_STD))
        found = ours(normalised(pixels, (1, 1, 1)))
    assert expected.std() > 1e-3  # and not all alike
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()
    assert torch.allclose(ours.pool5(normalised(pixels, (1, 1, 1))), maps.flatten(1), rtol=1e-9, atol=1e-10)
    assert not ours.training and all(parameter.requires_grad for parameter in ours.parameters())


def test_torchvisions_model_stays_as_it_is():
    theirs = thin_vgg16()
    before = {name: value.clone() for name, value in theirs.state_dict().items()}
    ours = classifier_from_torchvision(theirs)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in theirs.state_dict().items())


def test_the_layers_are_those_of_the_papers():
    """VGG16's table is ours; AlexNet's is torchvision's, of one column, with the pooled length of R-CNN's."""
    ours = classifier_from_torchvision(thin_vgg16())
    assert [(layer.kernel, layer.padding, layer.pool, layer.groups) for layer in ours.layers] == [
        (layer.kernel, layer.padding, layer.pool, layer.groups) for layer in VGG16
    ]
    assert [layer.channels * 16 for layer in ours.layers if layer.channels > 4] == [
        layer.channels for layer in VGG16 if layer.channels > 64
    ]
    net = classifier_from_torchvision(thin_alexnet())
    assert net.layers[0] == Conv(64, 11, stride=4, padding=2, pool=3) and net.pool5_length == 9216
    assert describe(net)["dropout"] == 0.3 and net.classifier.out_features == 7


@pytest.mark.parametrize("model", [vgg16_bn, resnet18])
def test_other_networks_are_refused(model):
    with torch.device("meta"), pytest.raises(ValueError, match="expected torchvision's AlexNet or VGG16, got"):
        classifier_from_torchvision(model(weights=None))


def test_a_network_of_random_weights_is_not_drawn_twice():
    """The weights are torchvision's own tensors' copies: nothing of the global generator is used."""
    theirs = thin_alexnet()
    state = torch.get_rng_state()
    classifier_from_torchvision(theirs)
    assert torch.equal(torch.get_rng_state(), state)
