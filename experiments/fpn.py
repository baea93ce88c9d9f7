"""The feature pyramid's parts, each against its alternatives.

Scenes, mini-batches and the loop are those of `faster_rcnn.py`; every variant has the same network, head and steps.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from experiments import faster_rcnn
from experiments.faster_rcnn import tested, trained
from experiments.scenes import TEST, TRAIN, Experiment
from experiments.variants import SeparateHeads
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.nets.preprocess import Batch

STEPS, LONGER = 400, 1000
SETTINGS = {"train": TRAIN, "test": TEST, "steps": STEPS}
DESIGNS = ("single", "hierarchy", "no laterals", "finest", "top-down")
RATES = {"finest": 0.02}  # where one map has all the gradient, no detection is learnt at the others' 0.05


def settings(seed: int, rpn: dict | None = None, steps: int = STEPS, **changes) -> FPNSettings:
    """The laptop's, with changes of the RPN's settings and of the detector's."""
    own = FPNSettings.tiny(steps, **changes)
    training = replace(own.training, seed=seed, lr=RATES.get(own.design, own.training.lr))
    return replace(own, rpn=replace(own.rpn, **(rpn or {})), training=training)


class FPNOfSeparateHeads(FPN):
    """A pyramid whose levels do not share the RPN's head (FPN-11)."""

    make_rpn = SeparateHeads


class SeveralFilters(FPN):
    """One map, and for each scale of anchors a head of its own, whose filters grow with the anchors (X-08)."""

    KERNELS = (1, 3, 5, 7, 9)

    def __init__(self, net: nn.Module, classes: tuple[str, ...], chosen: FPNSettings, seed: int = 0):
        super().__init__(net, classes, replace(chosen, design="single"), seed=seed)
        channels, count = chosen.channels, len(self.KERNELS)
        self.rpn = SeparateHeads(channels, self.strides * count, chosen.rpn, self.generator)
        for head, side in zip(self.rpn.head, self.KERNELS, strict=True):
            head.conv = nn.Conv2d(channels, channels, side, padding=side // 2)
            head.conv.weight.data = 0.01 * torch.randn(head.conv.weight.shape, generator=self.generator)
            nn.init.zeros_(head.conv.bias)

    def maps(self, images: Sequence[Tensor]) -> tuple[Batch, list[Tensor]]:
        """The one map, once for each head."""
        batch, maps = super().maps(images)
        return batch, maps * len(self.KERNELS)


def designs(seed: int) -> dict[str, dict]:
    """FPN-07, FPN-10, FPN-16: what the second stage and the RPN read."""
    return {design: tested(*trained(settings(seed, design=design), FPN)) for design in DESIGNS}


def detectors(seed: int) -> dict[str, dict]:
    """FPN-16: Faster R-CNN as notebook 04 has it, and FPN, for as many steps."""
    return {
        "Faster R-CNN": tested(*trained(faster_rcnn.settings(seed, steps=LONGER))),
        "FPN": tested(*trained(settings(seed, steps=LONGER), FPN)),
    }


def smoothing(seed: int) -> dict[str, dict]:
    """FPN-03: without the 3 x 3 convolutions on the merged maps."""
    return {
        "3 x 3": tested(*trained(settings(seed), FPN)),
        "none": tested(*trained(settings(seed, smooth=False), FPN)),
    }


def border(seed: int) -> dict[str, dict]:
    """FPN-15: anchors that cross the image's border, trained or left out."""
    return {
        "all anchors": tested(*trained(settings(seed), FPN)),
        "inside alone": tested(*trained(settings(seed, rpn={"inside": True}), FPN)),
    }


def heads(seed: int) -> dict[str, dict]:
    """FPN-11: one head for all levels, or one for each."""
    return {
        "shared": tested(*trained(settings(seed), FPN)),
        "one for each level": tested(*trained(settings(seed), FPNOfSeparateHeads)),
    }


def rule(seed: int) -> dict[str, dict]:
    """FPN-13: the level rule as published, and with the side of its square scaled with the pictures."""
    return {f"s0 = {side:g}": tested(*trained(settings(seed, s0=side), FPN)) for side in (28.0, 56.0, 112.0, 224.0)}


def pyramids(seed: int) -> dict[str, dict]:
    """X-08: four ways to meet objects of all sizes."""
    chosen = settings(seed)
    return {
        "images": tested(*trained(replace(chosen, design="images"), FPN)),
        "filters": tested(*trained(chosen, SeveralFilters)),
        "anchors": tested(*trained(replace(chosen, design="single"), FPN)),
        "features": tested(*trained(chosen, FPN)),
    }


EXPERIMENTS = {
    "fpn_07": Experiment(
        "what is read: five designs", ("FPN-07", "FPN-10", "FPN-16"), designs, SETTINGS | {"rates": RATES}
    ),
    "fpn_16": Experiment("one map, or a pyramid", ("FPN-16",), detectors, SETTINGS | {"steps": LONGER}),
    "fpn_03": Experiment("the 3 x 3 convolutions on the merged maps", ("FPN-03",), smoothing, SETTINGS),
    "fpn_15": Experiment("anchors that cross the border", ("FPN-15",), border, SETTINGS),
    "fpn_11": Experiment("one head for all levels, or one for each", ("FPN-11",), heads, SETTINGS),
    "fpn_13": Experiment("the side of a region that belongs to level 4", ("FPN-13",), rule, SETTINGS),
    "x_08": Experiment("pyramids of images, filters, anchors and features", ("X-08",), pyramids, SETTINGS),
}
