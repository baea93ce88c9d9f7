import json
from dataclasses import replace
from importlib import resources

import pytest
import torch
import torchvision
from torch import nn

from data_scripts.train_backbone import fold
from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.course.pooling import sliding_pyramid_pool
from rcnn_tutorial.data.generated.shapes import AUXILIARY_CLASSES, CLASSES, auxiliary
from rcnn_tutorial.nets.backbones import (
    ALEXNET,
    TINY,
    VGG16,
    ZF5,
    Conv,
    ConvNet,
    alexnet,
    receptive_field,
    smallest_side,
    tiny_net,
    vgg16,
    zf5,
)
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
        old, new = (sum(p.numel() for p in alexnet(outputs).classifier.parameters()) for outputs in (1000, 21))
    claim("RCNN-07", old, 4_097_000, note="parameters of the 1000-way layer")
    claim("RCNN-07", new, 86_037, note="parameters of the (20+1)-way layer")


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
    fold(net)
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
    record = json.loads((resources.files("rcnn_tutorial.course.records") / "backbone.json").read_text())
    assert right > 0.8 and abs(right - record["accuracy"]["fresh"]) < 0.06
    assert not set(AUXILIARY_CLASSES) & set(CLASSES)
    claim("RCNN-06", condition=right > 0.8, note="the backbone knows 20 shapes, none of them a class of the scenes")


def test_pretrained_weights_fit_one_form_only():
    for wrong in ({"classes": 7}, {"norm": "batch"}):
        with pytest.raises(ValueError, match="pretrained: expected 20 classes, no norm"):
            tiny_net(pretrained=True, **wrong)


@pytest.mark.parametrize("shape", [(2, 3, 63, 64), (3, 64, 64), (2, 1, 64, 64)])
def test_other_crops_are_refused(shape):
    with pytest.raises(ValueError, match=r"crops: expected \(R, 3, 64, 64\)"):
        tiny_net(7).pool5(torch.zeros(shape))


@pytest.mark.parametrize("levels", [(6, 3, 2, 1), (2, 1), (1, 2, 4)])
def test_pretrained_weights_exist_for_one_pyramid_only(levels):
    with pytest.raises(ValueError, match=r"pretrained: .* levels \[\(\), \(4, 2, 1\)\], got 20, None and"):
        tiny_net(pretrained=True, levels=levels)


def test_no_pyramid_after_a_pooling():
    with pytest.raises(ValueError, match=r"layers: expected no pooling before the levels \(4, 2, 1\)"):
        ConvNet(TINY, 64, 8, 3, levels=(4, 2, 1))


@pytest.mark.parametrize(("size", "maps"), [(224, [224, 110, 55, 26, 13]), (180, [180, 88, 44, 20, 10])])
def test_zf5_has_the_published_maps(size, maps):
    with torch.device("meta"):
        net, crops = zf5(), torch.zeros(1, 3, size, size)
    found = [size]
    for block in net.convs:
        for layer in block:
            crops = layer(crops)
            if crops.shape[-1] != found[-1]:
                found.append(crops.shape[-1])
    text = "-".join(str(side) for side in maps)
    claim("SPP-07", condition=found == maps, note=f"ZF-5's maps, padding 1, ceil pooling: {text}")


def test_vgg16_is_torchvisions():
    with torch.device("meta"):
        ours, theirs = vgg16(), torchvision.models.vgg16(init_weights=False)
    claim("FAST-02", sum(p.numel() for p in ours.parameters()), 138_357_544, note="parameters of VGG16, 1,000 classes")
    shapes = [tuple(p.shape) for p in ours.parameters()]
    assert shapes == [tuple(p.shape) for p in theirs.parameters()]
    kinds = [type(layer) for layer in (*ours.fc6, *ours.fc7, ours.classifier)]
    assert kinds == [type(layer) for layer in theirs.classifier]

    convs, features = ours.convs.to_empty(device="cpu"), theirs.features.to_empty(device="cpu")
    torch.manual_seed(0)
    for p, other in zip(convs.parameters(), features.parameters(), strict=True):
        nn.init.normal_(p, std=(2 / p[0].numel()) ** 0.5)
        other.data = p.data
    crops = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(convs(crops), features(crops)) and convs(crops).std() > 0.01


def mask(layers, cell, size=400):
    """First and last pixel, exclusive, of the rows that a cell of the map of a square image depends on.

    One channel, positive weights, and means in place of maxima: then nothing that is looked at has no gradient.
    """
    thin = tuple(replace(layer, channels=1, groups=1, norm=None) for layer in layers)
    convs = ConvNet(thin, size, 1, 1).convs.double()
    for block in convs:
        nn.init.ones_(block[0].weight)
        for i, part in enumerate(block):
            if isinstance(part, nn.MaxPool2d):
                block[i] = nn.AvgPool2d(part.kernel_size, part.stride, ceil_mode=part.ceil_mode)
    image = torch.ones(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    convs(image)[0, 0, cell, cell].backward()
    rows = image.grad[0, 0].sum(dim=1).nonzero()[:, 0]
    assert torch.equal(rows, image.grad[0, 0].sum(dim=0).nonzero()[:, 0])
    return rows[0].item(), rows[-1].item() + 1


SLIDING = Conv(8, 3, padding=1)  # the RPN's
VGG16_MAP = (*VGG16[:-1], replace(VGG16[-1], pool=0))


@pytest.mark.parametrize(
    ("name", "layers", "size", "stride"),
    [
        ("ZF-5", ZF5, 139, 16),
        ("ZF-5 and a 3 x 3 convolution", (*ZF5, SLIDING), 171, 16),
        ("VGG16 without its last pooling", VGG16_MAP, 196, 16),
        ("VGG16 and a 3 x 3 convolution", (*VGG16_MAP, SLIDING), 228, 16),
    ],
)
def test_receptive_fields_of_the_published_networks(name, layers, size, stride):
    field, cell = receptive_field(layers), 7
    claim("FRCNN-06", field.size, size, note=f"receptive field of {name}, px")
    low, high = mask(layers, cell)
    claim("FRCNN-06", high - low, size, note=f"{name}: rows with an input gradient")
    assert field.stride == stride and (low + high) / 2 == field.first + stride * cell
    assert mask(layers, cell + 1) == (low + stride, high + stride)


@pytest.mark.parametrize("layers", [ALEXNET, TINY, tiny_net(levels=(4, 2, 1)).layers])
def test_receptive_fields_of_the_others(layers):
    field = receptive_field(layers)
    low, high = mask(layers, 7)
    assert high - low == field.size and (low + high) / 2 == field.first + field.stride * 7
    assert mask(layers, 8)[0] == low + field.stride


def test_a_pixel_looks_at_itself():
    assert receptive_field(()) == (1, 1, 0.5)


def test_only_the_fully_connected_layers_insist_on_a_size():
    torch.manual_seed(0)
    thin = tuple(replace(layer, channels=16) for layer in ZF5)
    net, fixed = ConvNet(thin, 224, 16, 5, levels=(6, 3, 2, 1)).eval(), ConvNet(thin, 224, 16, 5).eval()
    fixed.convs = net.convs
    plain = nn.Sequential(fixed.convs, nn.Flatten(), fixed.fc6)
    done = {"convs": [], "convs, fc": [], "convs, pyramid, fc": []}
    for size in ((180, 180), (224, 224), (300, 500)):
        crops = torch.randn(1, 3, *size)
        for name, call in zip(done, (net.convs, plain, net), strict=True):
            try:
                call(crops)
            except RuntimeError as error:
                assert "shapes cannot be multiplied" in str(error)
                continue
            done[name].append(size)
    every = [(180, 180), (224, 224), (300, 500)]
    right = done == {"convs": every, "convs, fc": [(224, 224)], "convs, pyramid, fc": every}
    claim("SPP-01", condition=right, note="180, 224, 300 x 500: convs + fc takes 224 alone, with a pyramid between all")


@pytest.mark.parametrize(("name", "layers", "bound"), [("TINY", TINY, 0.08), ("ZF-5", ZF5, 0.1)])
def test_maps_keep_the_aspect_ratio(name, layers, bound):
    g = torch.Generator().manual_seed(0)
    sizes = torch.randint(200, 1000, (20, 2), generator=g).tolist()
    with torch.device("meta"):
        convs = ConvNet(layers, 64, 1, 1).convs
        maps = [convs(torch.zeros(1, 3, *size)).shape[-2:] for size in sizes]
    worst = max(abs(mw / mh / (w / h) - 1) for (h, w), (mh, mw) in zip(sizes, maps, strict=True))
    note = f"{name}: aspect of map and image over 20 sizes of 200 to 1000 px, largest difference {worst:.1%}"
    claim("SPP-02", condition=worst < bound, note=note)


@pytest.mark.parametrize(
    ("name", "layers", "stride"),
    [
        ("TINY without its last pooling", (*TINY[:-1], replace(TINY[-1], pool=0)), 8),
        ("ZF-5, thin", tuple(replace(layer, channels=8) for layer in ZF5), 16),
    ],
)
def test_a_patch_moved_by_a_stride_moves_its_peak_by_a_cell(name, layers, stride):
    torch.manual_seed(0)
    convs = ConvNet(layers, 64, 1, 1).convs.eval()
    field = receptive_field(layers)
    assert field.stride == stride

    def response(x, y):
        image = torch.zeros(1, 3, 320, 384)
        image[:, :, y : y + 24, x : x + 24] = 1
        with torch.no_grad():
            return convs(image)[0].sum(dim=0)

    def peak(response):
        return divmod(response.argmax().item(), response.shape[1])

    before, right, below = response(160, 128), response(160 + stride, 128), response(160, 128 + stride)
    row, column = peak(before)
    moved = peak(right) == (row, column + 1) and peak(below) == (row + 1, column)
    claim("SPP-02", condition=moved, note=f"{name}: a patch moved {stride} px moves the peak by one cell")
    assert torch.allclose(right[4:-4, 5:-4], before[4:-4, 4:-5], atol=1e-4)
    reach = field.size / 2  # the peak looks at the patch's centre
    assert abs(field.first + stride * column - 172) < reach and abs(field.first + stride * row - 140) < reach


def test_one_network_reads_both_sizes():
    torch.manual_seed(0)
    net = ConvNet(ZF5, 224, 16, 5, levels=(3, 2, 1)).eval()
    ids = [id(p) for p in net.parameters()]
    lengths = [net.pool5(torch.randn(1, 3, size, size)).shape for size in (224, 180)]
    same = lengths == [(1, 3584), (1, 3584)] and ids == [id(p) for p in net.parameters()]
    claim("SPP-09", condition=same, note="pyramid {3, 2, 1} on ZF-5: 14 bins, 3,584 numbers at 224 and at 180 pixels")
    tiny = tiny_net(levels=(4, 2, 1))
    assert [tiny.pool5(torch.randn(2, 3, *size)).shape for size in ((64, 64), (48, 100))] == [(2, 2016)] * 2


@pytest.mark.parametrize(
    ("levels", "bins"), [((6, 3, 2, 1), (50, 95)), ((4, 3, 2, 1), (30, 30)), ((3, 2, 1), (14, 14))]
)
def test_the_rule_for_fixed_sizes_breaks_it_with_6_bins(levels, bins):
    maps = [torch.zeros(1, 256, side, side) for side in (13, 10)]  # of 224 and 180 pixels
    found = tuple(sum(sliding_pyramid_pool(each, n)[0, 0].numel() for n in levels) for each in maps)
    note = f"bins of the levels {', '.join(map(str, levels))} under the sliding rule: {bins[0]} and {bins[1]}"
    agrees = "agrees" if bins[0] == bins[1] else "differs"
    claim("SPP-09", condition=found == bins, agrees=agrees, source="as many at both sizes", note=note)
    assert len({ConvNet(ZF5, size, 1, 1, levels=levels).pool5_length for size in (224, 180)}) == 1


@pytest.mark.parametrize(("layers", "side"), [(TINY, 16), (VGG16, 32), (ALEXNET, 67), (ZF5, 31), ((), 1)])
def test_the_smallest_image_leaves_one_cell(layers, side):
    convs = ConvNet(layers, 227, 1, 1).convs if layers else nn.Identity()
    assert smallest_side(layers) == side
    assert convs(torch.zeros(1, 3, side, side)).shape[2:] == (1, 1)
    if layers:
        with pytest.raises(RuntimeError, match="too small|can't be greater"):
            convs(torch.zeros(1, 3, side - 1, side - 1))
