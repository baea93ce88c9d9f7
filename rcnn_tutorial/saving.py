"""A detector as a file: weights, class names, settings and network travel together, so that nobody restates them."""

import math
import os
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn
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
        ValueError: a setting that the dataclass does not have, or lacks, or one of another type.
    """
    hints = get_type_hints(kind)
    if different := hints.keys() ^ values.keys():
        raise ValueError(f"settings: expected those of {kind.__name__}, which differ in {sorted(different)}")
    made = {}
    for name, value in values.items():
        nested: list[Any] = [part for part in (hints[name], *get_args(hints[name])) if is_dataclass(part)]
        if not (_is_of(value, hints[name]) or (nested and isinstance(value, dict))):
            raise ValueError(f"settings: {name} of {kind.__name__} is {value!r}, expected {hints[name]}")
        made[name] = settings_from(nested[0], value) if isinstance(value, dict) else value
    return kind(**made)


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a plain value is of the type that a dataclass states; a list may stand for a tuple."""
    if get_origin(hint) in (Union, UnionType):
        return any(_is_of(value, part) for part in get_args(hint))
    if hint in (int, float):
        return type(value) in (int, float) and (hint is float or (value % 1 == 0 and abs(value) < 2**31))
    if hint in (bool, str, NoneType):
        return type(value) is hint
    if tuple in (hint, get_origin(hint)):
        kinds = get_args(hint)
        if not isinstance(value, list | tuple):
            return False
        if kinds[1:] == (...,):
            kinds = kinds[:1] * len(value)
        return hint is tuple or (len(kinds) == len(value) and all(map(_is_of, value, kinds)))
    return not is_dataclass(hint)


def read(path: Any) -> dict:
    """The content of a file that `save` wrote.

    Raises:
        ValueError: another file.
    """
    plain = {"detector": str, "classes": list, "settings": dict, "network": (dict, NoneType), "normalise": dict}
    content = read_archive(path, plain | {"weights": dict}, "a detector that save() wrote")
    if not all(isinstance(name, str) for name in content["classes"]):
        raise ValueError(f"{path}: classes are {content['classes'][:5]}, expected names")
    for name, values in content["normalise"].items():
        if not _is_of(values, tuple[float, float, float]) or not all(map(math.isfinite, values)):
            raise ValueError(f"{path}: {name} is {values!r}, expected three numbers")
    return content


def restored(content: dict, make: Callable[[nn.Module], nn.Module], net: nn.Module | None) -> nn.Module:
    """Make the detector of a file, with its weights.

    Args:
        content: as `read` gives it.
        make: the detector from a network.
        net: the network, where the file does not know how to make one.
    Raises:
        ValueError: weights that are not those of such a detector. All else is raised by what is made of wrong content.
    """
    if net is None:
        with torch.device("meta"):
            sketch = make(rebuild(content["network"]))
        _check_shapes(sketch, content["weights"])
        net = rebuild(content["network"])
    model = make(net)
    model.load_state_dict(content["weights"])
    return model


def _check_shapes(model, weights):
    """Refuse weights of another model before that takes memory: it was made on "meta", where nothing does."""
    for name, expected in model.state_dict().items():
        value = weights.get(name)
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            raise ValueError(f"weights: {name} is {type(value).__name__}, expected a tensor")
        if value.shape != expected.shape or value.is_floating_point() != expected.is_floating_point():
            got, wanted = (f"{t.dtype} {tuple(t.shape)}" for t in (value, expected))
            raise ValueError(f"weights: {name} is {got}, expected {wanted}")
