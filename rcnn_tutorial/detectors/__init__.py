"""The detectors, by name: one file for each paper."""

import os
from collections.abc import Sequence
from importlib import import_module, resources
from typing import Any

import torch
from torch import nn

from rcnn_tutorial.cache import fitting
from rcnn_tutorial.engine.checks import expect
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.saving import read, restored, settings_from

DETECTORS = {  # a name, which is also that of the file, and the class
    "rcnn": "RCNN",
    "sppnet": "SPPnet",
    "fast_rcnn": "FastRCNN",
    "faster_rcnn": "FasterRCNN",
    "fpn": "FPN",
    "mask_rcnn": "MaskRCNN",
    "retinanet": "RetinaNet",
}


def build(
    name: str, classes: Sequence[str], settings: Any = None, net: nn.Module | None = None, **options
) -> nn.Module:
    """Make a detector that is ready to be trained.

    Args:
        name: "rcnn", "sppnet", "fast_rcnn", "faster_rcnn", "fpn", "mask_rcnn" or "retinanet".
        classes: names, background first.
        settings: of the detector, such as `FPNSettings()`; by default the paper's for a network that is given, and the
            laptop's for the laptop's.
        net: the pre-trained network that it starts from, for R-CNN and SPPnet with an output for each class; by
            default the laptop's, `tiny_net(pretrained=True)`.
        options: further arguments of the detector, such as `seed`.
    Raises:
        ValueError: an unknown name, or what the detector does not accept.
    """
    expect(name in DETECTORS, "name", f"one of {sorted(DETECTORS)}", repr(name))
    detector, kind = _classes(name)
    settings = settings or (kind.tiny() if net is None else kind())
    if net is None:
        net = tiny_net(pretrained=True, levels=(4, 2, 1) if name == "sppnet" else ())
        if name in ("rcnn", "sppnet"):
            net.replace_classifier(len(classes), torch.Generator().manual_seed(options.pop("seed", 0)))
    return detector(net, classes, settings, **options)


def _classes(name: str) -> tuple[Any, Any]:
    """The class of a detector and that of its settings."""
    module, title = import_module(f"rcnn_tutorial.detectors.{name}"), DETECTORS[name]
    return getattr(module, title), getattr(module, f"{title}Settings")


def load(path: str | os.PathLike, net: nn.Module | None = None) -> nn.Module:
    """A detector that `save` wrote, or one that the package ships, ready to detect.

    Args:
        path: of the file; or the name of a detector of the package, such as "fpn", which is trained on "shapes".
        net: a network of the same layers, where the file does not know how to make one.
    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of something else, or of a network that has to be given.
    """
    shipped = isinstance(path, str) and path in DETECTORS
    if not shipped and not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file; the package has {sorted(DETECTORS)}")
    content = read(resources.files("rcnn_tutorial.weights") / f"{path}.pt" if shipped else path)
    name = content["detector"]
    expect(name in DETECTORS, str(path), f"one of {sorted(DETECTORS)}", repr(name))
    if net is None and content["network"] is None:
        raise ValueError(f"{path}: the file does not know the network; give one as load(path, net=...)")
    with fitting(path, "settings, network and weights do not fit each other"):
        settings = settings_from(_classes(name)[1], content["settings"])
        options = content["normalise"]
        model = restored(content, lambda net: build(name, content["classes"], settings, net, **options), net)
    return model.eval()
