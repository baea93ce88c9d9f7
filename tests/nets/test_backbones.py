import json
from importlib import resources

import pytest
import torch
from torch import nn

from rcnn_tutorial.claims import claim
from rcnn_tutorial.data.shapes import AUXILIARY_CLASSES, CLASSES, auxiliary
from rcnn_tutorial.nets.backbones import alexnet, tiny_net
from rcnn_tutorial.ops.warp import IMAGENET_MEAN


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


def test_the_tiny_network_depends_on_no_statistics():
    net = tiny_net(7)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert {name.split(".")[-1] for name in before} == {"weight", "bias"}


def test_folding_batch_norm_changes_no_score():
    torch.manual_seed(0)
    net, crops = tiny_net(20, norm="batch"), torch.randn(8, 3, 64, 64)
    for block in net.convs:
        nn.init.uniform_(block[1].weight, 0.5, 2)
        nn.init.uniform_(block[1].bias, -1, 1)
    for _ in range(3):
        net.train()(crops)  # gathers statistics
    before = net.eval()(crops)
    net.fold()
    assert torch.allclose(net(crops), before, atol=1e-4) and before.std() > 0.05
    plain = tiny_net(20)
    plain.load_state_dict(net.state_dict())
    assert torch.allclose(plain.eval()(crops), before, atol=1e-4)
    assert torch.equal(plain.train().pool5(crops), plain.eval().pool5(crops))


def test_the_convolutions_of_the_tiny_network_have_a_stride_of_8():
    net = tiny_net(7)
    assert net.pool5_length == 1536
    maps = net.convs[:4](torch.zeros(1, 3, 192, 256))
    assert maps.shape[-2:] == (192 // 8, 256 // 8)


def test_the_shipped_backbone_knows_the_auxiliary_shapes():
    pairs = [auxiliary(seed=5, index=i) for i in range(400)]
    crops = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image, _ in pairs]) / 255
    crops -= torch.tensor(IMAGENET_MEAN)[:, None, None]
    net = tiny_net(pretrained=True).eval()
    right = (net(crops).argmax(1) == torch.tensor([label for _, label in pairs])).float().mean().item()
    record = json.loads((resources.files("rcnn_tutorial.records") / "backbone.json").read_text())
    assert right > 0.8 and abs(right - record["accuracy"]["fresh"]) < 0.06
    assert not set(AUXILIARY_CLASSES) & set(CLASSES)
    claim("RCNN-06", condition=right > 0.8, note="the backbone knows 20 shapes, none of them a class of the scenes")


def test_pretrained_weights_fit_one_form_only():
    for wrong in ({"classes": 7}, {"norm": "batch"}):
        with pytest.raises(ValueError, match="pretrained: weights exist for 20 classes"):
            tiny_net(pretrained=True, **wrong)


@pytest.mark.parametrize("shape", [(2, 3, 63, 64), (3, 64, 64), (2, 1, 64, 64)])
def test_other_crops_are_refused(shape):
    with pytest.raises(ValueError, match=r"crops: expected \(R, 3, 64, 64\)"):
        tiny_net(7).pool5(torch.zeros(shape))
