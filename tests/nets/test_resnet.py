import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet50
from torchvision.ops import FrozenBatchNorm2d as PeerNorm

from rcnn_tutorial.nets.resnet import FrozenBatchNorm2d, c4, freeze_norms


def trained(module, seed=0):
    """The module, its normalisations with statistics and weights of a training, in eval mode."""
    g = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.data = 0.5 + torch.rand(norm.weight.shape, generator=g)
            norm.bias.data = torch.rand(norm.bias.shape, generator=g) - 0.5
            norm.running_mean = torch.rand(norm.weight.shape, generator=g) - 0.5
            norm.running_var = 0.5 + torch.rand(norm.weight.shape, generator=g)
    return module.double().eval()


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
def test_equals_torchvision_and_the_norm_that_it_came_from(eps, device):
    norm = trained(nn.BatchNorm2d(6)).to(device)
    norm.eps = eps
    x = torch.randn(3, 6, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(device)
    mine = FrozenBatchNorm2d(norm).train()
    peer = PeerNorm(6, eps).double().to(device)
    peer.load_state_dict(norm.state_dict())
    found, expected = mine(x), norm(x)
    assert torch.allclose(found, expected, rtol=0, atol=1e-9) and torch.allclose(found, peer(x), rtol=0, atol=1e-9)
    assert (found - x).abs().mean() > 0.1 and found.device.type == device.type
    norm.eps = 1.0
    assert not torch.allclose(found, norm(x), atol=1e-3)


def test_nothing_changes_it():
    norm = trained(nn.BatchNorm2d(4))
    frozen = FrozenBatchNorm2d(norm)
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    y = frozen.train()(x)
    y.sum().backward()
    norm.weight.data.zero_()  # it is a copy
    assert torch.equal(y, frozen.eval()(x)) and x.grad.abs().min() > 0
    assert not list(frozen.parameters()) and before.keys() == PeerNorm(4).state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in frozen.state_dict().items())


def test_every_norm_is_frozen():
    net = trained(resnet18())
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = net(images)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert freeze_norms(net) is net
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert sum(isinstance(m, FrozenBatchNorm2d) for m in net.modules()) == norms == 20
    assert torch.allclose(net.train()(images), expected, rtol=0, atol=1e-9) and expected.std() > 0.1


def test_the_two_parts_are_the_network():
    net = trained(resnet18())
    images = torch.randn(2, 3, 96, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected, stages = net(images), []
    hooks = [stage.register_forward_hook(lambda *args: stages.append(args[2])) for stage in (net.layer3, net.layer4)]
    net(images)
    for hook in hooks:
        hook.remove()
    parts = c4(net)
    body, hidden = parts["body"], parts["hidden"]
    features = body(images)
    assert (parts["channels"], parts["width"]) == (256, 512) and features.shape == (2, 256, 96 // 16, 128 // 16)
    assert torch.allclose(features, stages[0], rtol=0, atol=1e-9)
    assert torch.allclose(net.fc(hidden(features)), expected, rtol=0, atol=1e-9)
    assert torch.allclose(hidden(features), stages[1].mean((2, 3)), rtol=0, atol=1e-9)


def test_the_published_network_has_a_stride_of_16():
    with torch.device("meta"):
        net = resnet50()
        parts = c4(net)
        body, hidden = parts["body"], parts["hidden"]
        assert (parts["channels"], parts["width"]) == (1024, 2048)
        assert (parts["strides"], parts["output_size"]) == ((16,), 14)
        assert body(torch.zeros(1, 3, 608, 1008)).shape == (1, 1024, 608 // 16, 1008 // 16)
        assert hidden[0](torch.zeros(5, 1024, 14, 14)).shape == (5, 2048, 7, 7)
        assert hidden(torch.zeros(5, 1024, 14, 14)).shape == (5, 2048)
    assert len(body) == 4
    convolutions = [layer for part in (body, hidden) for layer in part.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 53  # all of it but the classifier


def test_gradients_reach_the_convolutions_alone_and_not_the_first_ones():
    parts = c4(resnet18())
    body, hidden = parts["body"], parts["hidden"]
    hidden(body(torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))).sum().backward()
    assert all(weight.grad is None and not weight.requires_grad for weight in body[:2].parameters())
    for part in (body[2:], hidden):
        assert all(weight.grad is not None for weight in part.parameters())
    for part in (body, hidden):
        assert not any("bn" in name or "downsample.1" in name for name, _ in part.named_parameters())
