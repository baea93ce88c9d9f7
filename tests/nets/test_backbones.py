import pytest
import torch
from torch import nn

from rcnn_tutorial.claims import claim
from rcnn_tutorial.nets.backbones import alexnet, tiny_net


def test_alexnet_has_the_published_shapes():
    with torch.device("meta"):
        net = alexnet()
    maps, crops = [227], torch.zeros(1, 3, 227, 227, device="meta")
    net = net.to_empty(device="cpu").eval()
    crops = torch.zeros(1, 3, 227, 227)
    for layer in (module for block in net.convs for module in block):
        crops = layer(crops)
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            maps.append(crops.shape[-1])
    claim(
        "RCNN-03",
        condition=maps == [227, 55, 27, 27, 13, 13, 13, 13, 6],
        note="AlexNet's maps: 227-55-27-27-13-13-13-13-6",
    )
    claim("RCNN-03", net.pool5_length, 6 * 6 * 256, note="length of pool5")
    claim("RCNN-03", net.hidden(net.pool5(torch.zeros(1, 3, 227, 227))).shape[1], 4096, note="length of fc7")
    # the paper's network: grouped convolutions, 60,965,224 parameters with 1,000 classes
    assert sum(p.numel() for p in net.parameters()) == 60_965_224


def test_parts_agree_with_torch_layer_by_layer():
    """The same weights in a plain sequence of torch's layers give the same scores."""
    torch.manual_seed(0)
    net = tiny_net(7).eval()
    plain = nn.Sequential(*(m for block in net.convs for m in block), nn.Flatten(), *net.fc6, *net.fc7, net.classifier)
    crops = torch.randn(3, 3, 64, 64)
    assert torch.equal(net(crops), plain.eval()(crops))
    assert torch.equal(net(crops), net.classifier(net.hidden(net.pool5(crops))))


def test_only_the_classifier_is_replaced():
    torch.manual_seed(0)
    net = tiny_net(20)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.replace_classifier(7, torch.Generator().manual_seed(0))
    after = net.state_dict()
    same = [name for name in before if torch.equal(before[name], after[name])] if before.keys() == after.keys() else []
    kept = {name for name in before if not name.startswith("classifier.")}
    claim(
        "RCNN-07",
        condition=set(same) == kept,
        note="all tensors but the last layer's are bit-equal before the first step",
    )
    assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    with torch.device("meta"):
        published = alexnet()
    claim("RCNN-07", published.classifier.weight.numel() + 1000, 4_097_000, note="parameters of the 1000-way layer")
    claim("RCNN-07", 4096 * 21 + 21, 86_037, note="parameters of the (20+1)-way layer")


def test_group_norm_keeps_nothing_from_one_batch_to_the_next():
    net = tiny_net(7)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_the_tiny_network_is_small_enough_to_ship():
    assert sum(p.numel() for p in tiny_net(20).parameters()) * 4 < 3_000_000


@pytest.mark.parametrize("shape", [(2, 3, 63, 64), (3, 64, 64), (2, 1, 64, 64)])
def test_other_crops_are_refused(shape):
    with pytest.raises(ValueError, match=r"crops: expected \(R, 3, 64, 64\)"):
        tiny_net(7).pool5(torch.zeros(shape))
