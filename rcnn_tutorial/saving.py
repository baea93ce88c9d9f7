"""A detector as a file: weights, class names, settings and network travel together, so that nobody restates them."""

import os
from dataclasses import asdict, is_dataclass
from typing import Any, get_args, get_type_hints

import torch
from torch import nn
from torchvision.models import ResNet, get_model

from rcnn_tutorial.cache import read_archive
from rcnn_tutorial.nets.backbones import Conv, ConvNet
from rcnn_tutorial.nets.fpn import BottomUp, resnet_stages
from rcnn_tutorial.weights import halved, pack

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


class Saved:
    """What a detector has with `save`. It says of itself its `name` among the detectors and its `network`."""

    name: str
    network: dict | None
    settings: Any
    classes: tuple[str, ...]

    def save(self: Any, path: str | os.PathLike, half: bool = False) -> None:
        """Write the detector to a file that `rcnn_tutorial.detectors.load` reads.

        Args:
            path: of the file.
            half: keep the weights in half precision, for a file of half the size.
        Raises:
            ValueError: settings that are no plain values.
        """
        state = self.state_dict()
        content = {
            "detector": self.name,
            "classes": list(self.classes),
            "settings": asdict(self.settings),
            "network": self.network,
            "normalise": self.pixel_statistics(),
            "weights": dict(halved(state) if half else state),
        }
        pack(content, path)
        read(path)  # what can be written and not be read, such as numbers of numpy among the settings, is found now

    def pixel_statistics(self) -> dict:
        """Arguments of the constructor that normalise the pixels, where they are not among the weights."""
        return {}


def describe(net: nn.Module) -> dict | None:
    """What a network is made of, as plain values that `rebuild` understands; None for one that it does not know."""
    if isinstance(net, ConvNet):
        return {
            "layers": [asdict(layer) for layer in net.layers],
            "size": net.size,
            "hidden": net.classifier.in_features,
            "classes": net.classifier.out_features,
            "dropout": net.fc6[-1].p,
            "levels": net.levels,
        }
    eps = next((layer.eps for layer in net.modules() if isinstance(getattr(layer, "eps", None), float)), 1e-5)
    for name in RESNETS if isinstance(net, ResNet | BottomUp) else ():
        with torch.device("meta"):
            other: Any = rebuild({"resnet": name, "eps": eps})
        if isinstance(net, ResNet):
            other.fc = net.fc  # which no detector reads
        else:
            other = resnet_stages(other)
        if repr(other) == repr(net):  # the same layers, strides, dilations and normalisations
            return {"resnet": name, "eps": eps}
    return None


def rebuild(description: dict) -> nn.Module:
    """A network like the one that was described, with weights of its own."""
    if "resnet" in description:
        net = get_model(description["resnet"])
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = description.get("eps", 1e-5)  # 0 in torchvision's detectors with weights of COCO
        return net
    arguments: dict[str, Any] = description | {"layers": tuple(Conv(**layer) for layer in description["layers"])}
    return ConvNet(**arguments)


def settings_from(kind: type, values: dict) -> Any:
    """Settings of this dataclass from plain values, those nested in it too.

    Raises:
        ValueError: a setting that the dataclass does not have, or lacks.
    """
    hints = get_type_hints(kind)
    if different := hints.keys() ^ values.keys():
        raise ValueError(f"settings: expected those of {kind.__name__}, which differ in {sorted(different)}")
    made = {}
    for name, value in values.items():
        nested: list[Any] = [part for part in (hints[name], *get_args(hints[name])) if is_dataclass(part)]
        made[name] = settings_from(nested[0], value) if isinstance(value, dict) else value
    return kind(**made)


def read(path: Any) -> dict:
    """The content of a file that `save` wrote.

    Raises:
        ValueError: another file.
    """
    parts = ("detector", "classes", "settings", "network", "normalise", "weights")
    return read_archive(path, parts, "a detector that save() wrote")
