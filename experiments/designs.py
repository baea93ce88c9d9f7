"""The pyramid's alternatives, of which the paper tells it apart (FPN, section 1, figure 1; section 5, tables 1 and 2).

Each is a body like `Pyramid`, with the same names for its layers, and an `FPN` that reads it.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.nets.backbones import ConvNet
from rcnn_tutorial.nets.fpn import BottomUp, FeaturePyramid, Pyramid, upsample


class Hierarchy(Pyramid):
    """The stages as they are, each with its own 1 x 1 and 3 x 3: no top-down path (FPN-07)."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to P2 to P6."""
        layers = zip(self.fpn.laterals, self.fpn.outputs, self.bottom_up(images), strict=True)
        maps = [output(lateral(stage)) for lateral, output, stage in layers]
        return _with_coarser(maps)


class NoLaterals(Pyramid):
    """The coarsest map alone goes down; no finer one is added to it."""

    def __init__(self, bottom_up: BottomUp, channels: int = 256, generator: torch.Generator | None = None):
        super().__init__(bottom_up, channels)
        self.fpn.laterals = nn.ModuleList([*(nn.Identity() for _ in bottom_up.channels[1:]), self.fpn.laterals[-1]])
        self.fpn.initialise(generator)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to P2 to P6."""
        *finer, coarsest = self.bottom_up(images)
        merged = [self.fpn.laterals[-1](coarsest)]
        for stage in finer[::-1]:
            merged.insert(0, upsample(merged[0], stage.shape[-2:]))
        maps = [output(features) for output, features in zip(self.fpn.outputs, merged, strict=True)]
        return _with_coarser(maps)


class NotSmoothed(Pyramid):
    """The sums as they are, without the 3 x 3 convolutions (FPN-03)."""

    def __init__(self, bottom_up: BottomUp, channels: int = 256, generator: torch.Generator | None = None):
        super().__init__(bottom_up, channels)
        self.fpn.outputs = nn.ModuleList(nn.Identity() for _ in bottom_up.channels)
        self.fpn.initialise(generator)


class Finest(Pyramid):
    """The pyramid's finest map alone (FPN-10)."""

    def __init__(self, bottom_up: BottomUp, channels: int = 256, generator: torch.Generator | None = None):
        super().__init__(bottom_up, channels, generator)
        unread = (nn.Identity() for _ in bottom_up.channels[1:])
        self.fpn.outputs = nn.ModuleList([self.fpn.outputs[0], *unread])
        self.strides = self.strides[:1]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to P2, in a list."""
        return super().forward(images)[:1]


class Single(Pyramid):
    """The one map that Faster R-CNN reads, with a 1 x 1 and a 3 x 3 convolution.

    Attributes:
        stage: which of the network's; that of the laptop's network.
    """

    stage = 1

    def __init__(self, bottom_up: BottomUp, channels: int = 256, generator: torch.Generator | None = None):
        last, count = self.stage, self.stage + 1
        inputs, strides = bottom_up.channels[:count], bottom_up.strides[:count]
        super().__init__(BottomUp(bottom_up.stem, list(bottom_up.stages)[:count], inputs, strides), channels)
        self.fpn = FeaturePyramid(inputs[last:], channels, generator)
        self.strides = strides[last:]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to (B, d, H / stride, W / stride), in a list."""
        return self.fpn(self.bottom_up(images)[-1:])


class Images(Single):
    """The one map of the image at twice its size, its own, half and a quarter of it (FPN-07, X-08)."""

    FACTORS = (2, 1, 0.5, 0.25)  # of the image's sides

    def __init__(self, bottom_up: BottomUp, channels: int = 256, generator: torch.Generator | None = None):
        super().__init__(bottom_up, channels, generator)
        strides = [int(self.strides[0] / factor) for factor in self.FACTORS]
        self.strides = (*strides, 2 * strides[-1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to as many maps as there are sizes, and one coarser one."""
        maps = [super(Images, self).forward(_resized(images, factor))[0] for factor in self.FACTORS]
        return _with_coarser(maps)


def _with_coarser(maps: list[Tensor]) -> list[Tensor]:
    return [*maps, maps[-1][..., ::2, ::2]]


def _resized(images: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return images
    size = [max(1, round(side * factor)) for side in images.shape[-2:]]
    return F.interpolate(images, size=size, mode="bilinear", antialias=factor < 1)


class HierarchyFPN(FPN):
    """Each level from its own stage alone."""

    body_class = Hierarchy


class NoLateralsFPN(FPN):
    """Each level from the coarsest stage alone."""

    body_class = NoLaterals


class NotSmoothedFPN(FPN):
    """Sums without the 3 x 3 convolutions."""

    body_class = NotSmoothed


class ImagesFPN(FPN):
    """One map of several sizes of the image."""

    body_class = Images


class OneMap(FPN):
    """All scales of anchors lie on one map, from which all regions are read too."""

    def __init__(self, net: ConvNet, classes: Sequence[str], settings: FPNSettings | None = None, seed: int = 0):
        settings = settings or FPNSettings()
        scales = tuple(scale for level in settings.rpn.scales for scale in level)
        super().__init__(net, classes, replace(settings, rpn=replace(settings.rpn, scales=scales)), seed=seed)

    @property
    def head_strides(self) -> tuple[int, ...]:
        """The stride of the one map."""
        return self.strides


class FinestFPN(OneMap):
    """The pyramid's finest map alone."""

    body_class = Finest


class SingleFPN(OneMap):
    """The map that Faster R-CNN reads, alone."""

    body_class = Single


DESIGNS: dict[str, type[FPN]] = {
    "top-down": FPN,
    "hierarchy": HierarchyFPN,
    "no laterals": NoLateralsFPN,
    "finest": FinestFPN,
    "single": SingleFPN,
    "images": ImagesFPN,
}
