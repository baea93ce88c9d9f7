"""The feature pyramid: one image, several maps, each with cells of another size (Lin et al., CVPR 2017).

    image -> C2 -> C3 -> C4 -> C5      bottom-up: from stage to stage the map is halved
              |     |     |     |      lateral: 1 x 1 convolutions to one number of channels
              + <-- + <-- + <---+      top-down: upsample, add
              |     |     |     |      output: 3 x 3 convolutions
              P2    P3    P4    P5 -> P6

A network's fine maps say where an edge is, its coarse maps say what an object is. The pyramid adds the coarse maps to
the fine ones, so that every level knows both. Maps come in lists, the finest first.

What differs from the paper: the laptop's network has no stages at strides 16 and 32, so `tiny_stages` adds two that
are not pre-trained. The designs that the paper compares the pyramid with are in experiments/designs.py.

What cost accuracy when it was wrong:
- Upsampling. A doubled map can have one row more than the finer map (38 rows become 76, and the finer map has 75), or
  one row less where a pooling has rounded down. Resizing to the finer map's size instead moves cells off the pixels
  that they were made from, so `upsample` doubles, then crops or repeats the last row.
- The level rule. The square root of a region's area can come out a rounding error below 448 pixels: without the 1e-6
  in `roi_levels` such a region is read from another map than in torchvision.
- Its 224 pixels, the side of ImageNet's crops. On scenes of 256 x 192 pixels the rule then reads nearly every region
  from P2; the laptop's settings halve the side, and the anchors with it.
"""

from collections.abc import Sequence
from math import log2
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import ResNet

from rcnn_tutorial.engine.checks import expect
from rcnn_tutorial.nets.backbones import TINY, ConvNet, initialise
from rcnn_tutorial.nets.resnet import freeze_norms


class BottomUp(nn.Module):
    """A network cut into stages, of which each gives a map.

    Args:
        stem: what comes before the first stage.
        stages: of the network, the finest map first.
        channels: of their maps.
        strides: of their maps, pixels.
    Source: FPN, section 3, "Bottom-up pathway".
    """

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module], channels: Sequence[int], strides: Sequence[int]):
        super().__init__()
        self.stem, self.stages = stem, nn.ModuleList(stages)
        self.channels, self.strides = tuple(channels), tuple(strides)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to a list of (B, C_i, H / stride_i, W / stride_i), rounded as the network's layers round."""
        maps, x = [], self.stem(images)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def resnet_stages(net: ResNet) -> BottomUp:
    """C2 to C5 of a torchvision ResNet; its normalisations are frozen, its stem and first stage not trained.

    Source: FPN, section 3, "Bottom-up pathway".
    """
    bottom_up = stages_of(freeze_norms(net))
    nn.ModuleList((bottom_up.stem, bottom_up.stages[0])).requires_grad_(False)
    return bottom_up


def stages_of(net: ResNet) -> BottomUp:
    """C2 to C5 of a torchvision ResNet, of strides 4, 8, 16 and 32; its layers are left as they are."""
    stages = (net.layer1, net.layer2, net.layer3, net.layer4)
    last = [[layer for layer in stage[-1].children() if isinstance(layer, nn.Conv2d)][-1] for stage in stages]
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    return BottomUp(stem, stages, [layer.out_channels for layer in last], (4, 8, 16, 32))


def tiny_stages(net: ConvNet, generator: torch.Generator | None = None) -> BottomUp:
    """C2 to C5 of the laptop's network: its own maps at strides 4 and 8, and two new stages of two convolutions.

    Args:
        net: of `tiny_net`; with a pyramid in place of its last pooling or without.
        generator: of the new weights.
    Raises:
        ValueError: another network, or one with normalisations.
    """
    expect(net.layers[:4] == TINY[:4], "net", "`tiny_net` without normalisations", net.layers[:4])
    first, second, third, fourth, fifth = list[Any](net.convs)
    width = net.layers[-1].channels
    # a map is taken before the pooling that ends its stage
    stages = [third[:-1], nn.Sequential(third[-1], fourth, fifth[:2])]
    for _ in range(2):
        halve, again = (nn.Conv2d(width, width, 3, stride, padding=1) for stride in (2, 1))
        stages.append(nn.Sequential(initialise(halve, generator), nn.ReLU(), initialise(again, generator), nn.ReLU()))
    return BottomUp(nn.Sequential(first, second), stages, (net.layers[2].channels, width, width, width), (4, 8, 16, 32))


class FeaturePyramid(nn.Module):
    """The pyramid turns the maps of a network into as many maps that all know what and where.

    No layer of it has a non-linearity.

    Args:
        inputs: channels of the maps given.
        channels: d, of every map returned.
        generator: of the initial weights.
    Source: FPN, section 3, "Top-down pathway and lateral connections", figure 3.
    """

    def __init__(self, inputs: Sequence[int], channels: int = 256, generator: torch.Generator | None = None):
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in inputs)
        self.outputs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in inputs)
        self.initialise(generator)

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew, uniform, of variance 1 / (inputs of a cell of the result); biases are 0."""
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_uniform_(parameter, a=1, generator=generator)
            else:
                nn.init.zeros_(parameter)

    def merge(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps after the sums, before the 3 x 3 convolutions."""
        laterals = [lateral(features) for lateral, features in zip(self.laterals, maps, strict=True)]
        merged = laterals[-1:]
        for lateral in laterals[-2::-1]:  # from the second coarsest to the finest
            merged.insert(0, lateral + upsample(merged[0], lateral.shape[-2:]))
        return merged

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """C2 to C5, (B, C_i, H_i, W_i), to P2 to P5, (B, d, H_i, W_i)."""
        return [output(features) for output, features in zip(self.outputs, self.merge(maps), strict=True)]


def upsample(features: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat each cell of a map twice in both directions, to this height and width.

    To an odd number of rows the last cell gives one row; where a pooling has rounded down, it gives three.

    Source: FPN, section 3: "nearest neighbor upsampling for simplicity".
    """
    height, width = size
    doubled = F.interpolate(features, scale_factor=2, mode="nearest")[..., :height, :width]
    below, right = height - doubled.shape[-2], width - doubled.shape[-1]
    return F.pad(doubled, (0, right, 0, below), mode="replicate") if below or right else doubled


class Pyramid(nn.Module):
    """The body of a detector on several maps: a network, the pyramid on its stages, and P6 for the RPN.

    Args:
        bottom_up: the network.
        channels: of every map.
        generator: of the initial weights.
    Source: FPN, section 3; P6: section 4.1, footnote 1.
    """

    def __init__(self, bottom_up: BottomUp, channels: int = 256, generator: torch.Generator | None = None):
        super().__init__()
        self.bottom_up = bottom_up
        self.fpn = FeaturePyramid(bottom_up.channels, channels, generator)
        self.strides = (*bottom_up.strides, 2 * bottom_up.strides[-1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to P2 to P6, (B, d, H / stride_i, W / stride_i)."""
        maps = self.fpn(self.bottom_up(images))
        return [*maps, maps[-1][..., ::2, ::2]]  # P6 is every second cell of every second row of P5


class DensePyramid(nn.Module):
    """RetinaNet's body: a network, the pyramid on its coarser stages, and two more maps by convolutions of stride 2.

    Args:
        bottom_up: the network.
        channels: of every map.
        finest: level of the finest map, log2 of its stride; finer ones have too many anchors.
        extra: what P6 is made of, "C5" or "P5".
        generator: of the initial weights.
    Raises:
        ValueError: P6 of another map.
    Source: Focal loss, section 4, "Feature Pyramid Network Backbone", footnote 2.
    """

    def __init__(
        self, bottom_up: BottomUp, channels: int, finest: int, extra: str, generator: torch.Generator | None = None
    ):
        super().__init__()
        expect(extra in ("C5", "P5"), "extra", "'C5' or 'P5'", repr(extra))
        self.bottom_up, self.extra = bottom_up, extra
        self.strides = tuple(stride for stride in bottom_up.strides if level_of(stride) >= finest)
        self.fpn = FeaturePyramid(bottom_up.channels[-len(self.strides) :], channels, generator)
        self.p6 = nn.Conv2d(bottom_up.channels[-1] if extra == "C5" else channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.strides += (2 * self.strides[-1], 4 * self.strides[-1])
        for layer in (self.p6, self.p7):
            nn.init.kaiming_uniform_(layer.weight, a=1, generator=generator)
            layer.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to P3 to P7, (B, d, H / stride_i, W / stride_i), rounded up."""
        stages = self.bottom_up(images)[2 - len(self.strides) :]
        maps = self.fpn(stages)
        p6 = self.p6(stages[-1] if self.extra == "C5" else maps[-1])
        return [*maps, p6, self.p7(torch.relu(p6))]


def roi_levels(boxes: Tensor, finest: int, coarsest: int, k0: int = 4, s0: float = 224.0) -> Tensor:
    """The level rule: which level of the pyramid each region of interest is read from.

    Args:
        boxes: (..., 4), pixels.
        finest, coarsest: least and largest level, log2 of their strides.
        k0: level of a region of s0 x s0.
        s0: pixels.
    Returns:
        (...) int64, floor(k0 + log2(sqrt(w h) / s0)), between the two.
    Raises:
        ValueError: not (..., 4), or s0 not above 0.
    Source: FPN, section 4.2, equation 1.
    """
    good = boxes.shape[-1:] == (4,) and s0 > 0
    expect(good, "boxes", "(..., 4) and s0 above 0", f"{tuple(boxes.shape)} and {s0}")
    side = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1).sqrt()
    # 448 / 224 is to be level 5 in single precision too
    level = (k0 + torch.log2(side / s0) + 1e-6).floor()
    return level.clamp(finest, coarsest).long()


def level_of(stride: float) -> int:
    """k of the map P_k of this stride, pixels."""
    return round(log2(stride))
