"""The detector that a training begins with, made of its backbone; and where trained weights of a backbone come from."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.hub import load_state_dict_from_url as download
from torchvision.models import get_model, get_model_weights

from rcnn_tutorial.detectors import DETECTORS, build
from rcnn_tutorial.saving import RESNETS as RESNETS

WEIGHTS = "IMAGENET1K_V1"  # those that the settings of the papers were made for


def settings_class(detector: str) -> Any:
    """Give the class of a detector's settings."""
    return getattr(import_module(f"rcnn_tutorial.detectors.{detector}"), f"{DETECTORS[detector]}Settings")


def weights_of(backbone: str) -> dict[str, Tensor]:
    """Give torchvision's weights of a residual network, from its cache or else from the network.

    Raises:
        ValueError: they can be had from neither; the message says what to do without.
    """
    weights: Any = get_model_weights(backbone)[WEIGHTS]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        return download(weights.url, map_location="cpu", check_hash=True)
    except (OSError, RuntimeError) as error:  # no network, a folder for reading alone, a download of other content
        raise ValueError(
            f"the weights of {backbone} cannot be had ({error}). Put {weights.url} into {folder} by hand, or let the "
            "variable TORCH_HOME name a folder where torch may write, or take --backbone tiny, whose weights are in "
            "the package; --no-pretrained begins with random weights, which takes far more steps"
        ) from error


def new_detector(
    detector: str, backbone: str, classes: Sequence[str], settings: Any, pretrained: bool = True, seed: int = 0
) -> nn.Module:
    """Make a detector that is to be trained.

    Args:
        detector: its name.
        backbone: "tiny" or the name of a residual network.
        classes: names, background first.
        settings: of the detector.
        pretrained: begin with trained weights of the backbone. Without, `seed` draws them.
        seed: of the new layers and of the mini-batches.
    Raises:
        ValueError: weights that cannot be had, or what the detector does not accept.
    """
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        torch.manual_seed(seed)
        if backbone == "tiny" and pretrained:
            return build(detector, classes, settings, seed=seed)
        net = _tiny(detector, len(classes)) if backbone == "tiny" else get_model(backbone)
        if pretrained:
            net.load_state_dict(weights_of(backbone))
        options = {} if detector in ("rcnn", "sppnet") else {"seed": seed}
        return build(detector, classes, settings, net, **options)


def _tiny(detector: str, classes: int) -> nn.Module:
    """The laptop's network with random weights."""
    from rcnn_tutorial.nets.backbones import tiny_net

    return tiny_net(classes, levels=(4, 2, 1) if detector == "sppnet" else ())
