"""A detector as a file, and the detectors by name."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torchvision.models import resnet18, resnet50
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from rcnn_tutorial.compat import from_torchvision
from rcnn_tutorial.detectors import DETECTORS, build, load
from rcnn_tutorial.detectors.fast_rcnn import FastRCNN, FastRCNNSettings, compress
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNNSettings
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.nets.fpn import tiny_stages
from rcnn_tutorial.nets.rpn import RPNSettings
from rcnn_tutorial.saving import describe, rebuild, settings_from
from rcnn_tutorial.training import TrainSettings

CLASSES = ("background", "cat", "dog")
BOXES = torch.tensor([[5.0, 5, 60, 50], [20, 10, 90, 70], [40, 30, 120, 90]])


def image(seed=0):
    return torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(seed))


def detections(model):
    """What a detector makes of a picture, at no least score: many boxes, so that every weight counts."""
    model.settings = replace(model.settings, least_score=-10.0)
    needs = model.name in ("rcnn", "sppnet", "fast_rcnn")
    return model.eval()([image()], **({"proposals": [BOXES]} if needs else {}))[0]


def changed(name):
    """A detector that is not as any settings or seed make it."""
    model = build(name, CLASSES, seed=3)
    g = torch.Generator().manual_seed(5)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.add_(0.02 * torch.randn(value.shape, generator=g))
    settings = {"least_score": 0.01} | ({} if name in ("rcnn", "sppnet") else {"min_size": 120, "max_size": 200})
    return build(name, CLASSES, replace(model.settings, **settings)), model.state_dict()


@pytest.mark.parametrize("name", DETECTORS)
def test_what_was_saved_comes_back_without_being_told_anything(name, tmp_path):
    model, state = changed(name)
    model.load_state_dict(state)
    model.save(tmp_path / "mine.pt")
    again = load(tmp_path / "mine.pt")
    assert type(again) is type(model) and again.classes == CLASSES and not again.training
    assert again.settings == model.settings
    assert again.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    first, second = detections(model), detections(again)
    assert len(first["boxes"]) and all(torch.equal(first[key], second[key]) for key in first)


def test_half_precision_is_half_the_size_and_comes_back_in_single(tmp_path):
    model, state = changed("faster_rcnn")
    model.load_state_dict(state)
    sizes = []
    for half in (False, True):
        model.save(tmp_path / f"{half}.pt", half=half)
        sizes.append((tmp_path / f"{half}.pt").stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]
    again = load(tmp_path / "True.pt")
    for key, value in model.state_dict().items():
        assert again.state_dict()[key].dtype == value.dtype
        assert torch.equal(again.state_dict()[key], value.half().float())


def test_a_residual_network_and_how_it_normalises_come_back(tmp_path):
    settings = FPNSettings.tiny(channels=16, hidden=32)
    model = FPN(resnet18(), CLASSES, settings, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)).eval()
    model.save(tmp_path / "mine.pt")
    again = load(tmp_path / "mine.pt")
    assert (again.preprocess.mean, again.preprocess.std) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    first, second = detections(model), detections(again)
    assert len(first["boxes"]) and torch.equal(first["scores"], second["scores"])


def test_a_network_that_the_file_cannot_make_is_given(tmp_path):
    model = FPN(tiny_stages(tiny_net(pretrained=True)), CLASSES, FPNSettings.tiny()).eval()
    model.save(tmp_path / "mine.pt")
    with pytest.raises(ValueError, match=r"mine\.pt: the file does not know the network; give one as load"):
        load(tmp_path / "mine.pt")
    again = load(tmp_path / "mine.pt", tiny_stages(tiny_net()))
    assert torch.equal(detections(again)["scores"], detections(model)["scores"])


def test_a_network_that_only_looks_like_a_published_one_has_to_be_given(tmp_path):
    odd = {
        "dilated": resnet50(replace_stride_with_dilation=[False, False, True]),
        "other norms": resnet18(norm_layer=lambda channels: torch.nn.GroupNorm(1, channels)),
    }
    assert all(describe(net) is None for net in odd.values())
    other_eps = resnet18(norm_layer=lambda channels: torch.nn.BatchNorm2d(channels, eps=1e-2))
    assert describe(other_eps) == {"resnet": "resnet18", "eps": 1e-2} and rebuild(describe(other_eps)).bn1.eps == 1e-2
    assert describe(resnet18(num_classes=7)) == {"resnet": "resnet18", "eps": 1e-5}
    assert describe(resnet50()) == {"resnet": "resnet50", "eps": 1e-5}
    thin = compress(build("fast_rcnn", CLASSES), {"head.hidden.fc6.0": 8})
    thin.save(tmp_path / "thin.pt")
    with pytest.raises(ValueError, match="the file does not know the network"):
        load(tmp_path / "thin.pt")
    with pytest.raises(ValueError, match="settings, network and weights do not fit each other"):
        load(tmp_path / "thin.pt", tiny_net())


def test_a_detector_of_torchvision_is_saved_with_its_network(tmp_path):
    """The eps of its frozen norms too, which is 0 with weights of COCO, and no part of the state dict."""
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=FrozenBatchNorm2d)
    for layer in backbone.modules():
        if isinstance(layer, FrozenBatchNorm2d):
            layer.eps = 0.0
            layer.running_var.mul_(0.01)  # so that eps can be seen
    model = from_torchvision(FasterRCNN(backbone, 3, min_size=64)).eval()
    model.save(tmp_path / "theirs.pt")
    again = load(tmp_path / "theirs.pt")
    picture = [torch.rand(3, 64, 80)]
    with torch.no_grad():
        pairs = zip(model.maps(picture)[1], again.maps(picture)[1], strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert {layer.eps for layer in again.modules() if hasattr(layer, "eps")} == {0.0}


def test_what_could_not_be_read_is_not_saved_in_silence(tmp_path):
    model = build("fpn", CLASSES)
    model.settings = replace(model.settings, least_score=np.float64(0.1))
    with pytest.raises(ValueError, match="expected a detector that save"):
        model.save(tmp_path / "mine.pt")


def test_the_background_comes_first():
    for classes in (("cat", "dog"), ("background",), "background"):
        for name in ("rcnn", "fast_rcnn", "fpn"):
            with pytest.raises(ValueError, match=r"classes: expected 'background' and then the names|net: expected"):
                build(name, classes)
    with pytest.raises(ValueError, match="classes: expected 'background'"):
        build("fpn", ("cat", "dog"))


def test_other_files_are_refused(tmp_path):
    for name, content in (("text.pt", b"no archive"), ("empty.pt", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            ValueError, match=rf"{name}: cut short or damaged .*, expected a detector that save\(\) wrote"
        ):
            load(tmp_path / name)
    model = build("fpn", CLASSES)
    model.name = "yolo"
    model.save(tmp_path / "yolo.pt")
    with pytest.raises(ValueError, match=r"yolo\.pt: expected one of \['fast_rcnn', .*, got 'yolo'"):
        load(tmp_path / "yolo.pt")
    torch.save({"weights": {}}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt: holds \['weights'\].*, expected a detector that save\(\) wrote"):
        load(tmp_path / "state.pt")
    with pytest.raises(FileNotFoundError, match=r"panoptic: no such file; the package has \['fast_rcnn'"):
        load("panoptic")


def test_settings_of_another_version_are_named():
    values = asdict(FasterRCNNSettings.tiny())
    assert settings_from(FasterRCNNSettings, values) == FasterRCNNSettings.tiny()
    assert isinstance(settings_from(FasterRCNNSettings, values).rpn, RPNSettings)
    assert isinstance(settings_from(FasterRCNNSettings, values).training, TrainSettings)
    assert settings_from(FastRCNNSettings, asdict(FastRCNNSettings())) == FastRCNNSettings()
    with pytest.raises(ValueError, match=r"those of RPNSettings, which differ in \['two_way'\]"):
        settings_from(FasterRCNNSettings, values | {"rpn": values["rpn"] | {"two_way": True}})


def test_detectors_are_built_by_name():
    for name in DETECTORS:
        model = build(name, CLASSES)
        assert model.name == name and model.classes == CLASSES and model.settings == type(model.settings).tiny()
    net = tiny_net(pretrained=True)
    model = build("fast_rcnn", CLASSES, net=net, seed=4)
    assert isinstance(model, FastRCNN) and model.settings == FastRCNNSettings() and model.body[0] is net.convs[0]
    assert model.generator.initial_seed() == 4
    with pytest.raises(ValueError, match="name: expected one of .*, got 'yolo'"):
        build("yolo", CLASSES)
