"""Feature pyramids: one image, several maps, each with cells of another size (Lin et al., CVPR 2017).

    image -> C2 -> C3 -> C4 -> C5      bottom-up: every stage of the network halves the map
              |     |     |     |      lateral: 1 x 1 convolutions to one number of channels
              + <-- + <-- + <---+      top-down: upsample, add
              |     |     |     |      output: 3 x 3 convolutions
              P2    P3    P4    P5 -> P6

Maps come in lists, the finest first. Further designs, of which the paper tells the pyramid apart, are settings of it.
"""

from collections.abc import Sequence
from math import log2

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import ResNet

from rcnn_tutorial.nets.backbones import TINY, ConvNet
from rcnn_tutorial.nets.resnet import freeze_norms


class BottomUp(nn.Module):
    """The stages of a network, one after the other.

    Args:
        stem: what comes before the first stage.
        stages: each gives a map (FPN-01).
        channels: of their maps.
        strides: of their maps, pixels.
        single: which of them Faster R-CNN reads.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        channels: Sequence[int],
        strides: Sequence[int],
        single: int = 2,
    ):
        super().__init__()
        self.stem, self.stages, self.single = stem, nn.ModuleList(stages), single
        self.channels, self.strides = tuple(channels), tuple(strides)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to a list of (B, C_i, H / stride_i, W / stride_i), rounded as the network's layers round."""
        maps, x = [], self.stem(images)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def resnet_stages(net: ResNet) -> BottomUp:
    """C2 to C5 of a torchvision ResNet, of strides 4, 8, 16 and 32 (FPN-01); its normalisations are frozen."""
    return stages_of(freeze_norms(net))


def stages_of(net: nn.Module) -> BottomUp:
    """The same of a module with `conv1`, `bn1`, `relu`, `maxpool` and `layer1` to `layer4`, as it is."""
    stages = (net.layer1, net.layer2, net.layer3, net.layer4)
    widths = [[layer for layer in stage[-1].children() if isinstance(layer, nn.Conv2d)][-1] for stage in stages]
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    return BottomUp(stem, stages, [layer.out_channels for layer in widths], (4, 8, 16, 32))


def tiny_stages(net: ConvNet, generator: torch.Generator | None = None) -> BottomUp:
    """C2 to C5 of the laptop's network: its own maps at strides 4 and 8, and two new stages of two convolutions.

    Args:
        net: of `tiny_net`; with a pyramid in place of its last pooling or without.
        generator: of the new weights.
    Raises:
        ValueError: another network, or one with normalisations.
    """
    if net.layers[:4] != TINY[:4]:
        raise ValueError(f"net: expected `tiny_net` without normalisations, got layers {net.layers[:4]}")
    first, second, third, fourth, fifth = net.convs
    width = net.layers[-1].channels
    stem = nn.Sequential(first, second)  # a map is taken before the pooling that ends its stage
    stages = [third[:-1], nn.Sequential(third[-1], fourth, fifth[:2])]
    for _ in range(2):
        halve, again = (nn.Conv2d(width, width, 3, stride, padding=1) for stride in (2, 1))
        for layer in (halve, again):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
        stages.append(nn.Sequential(halve, nn.ReLU(), again, nn.ReLU()))
    return BottomUp(stem, stages, (net.layers[2].channels, width, width, width), (4, 8, 16, 32), single=1)


class FeaturePyramid(nn.Module):
    """From the maps of a network to as many maps that all know what and where (FPN-02).

    No layer of it has a non-linearity (FPN-04).

    Args:
        inputs: channels of the maps given.
        channels: d, of every map returned.
        top_down: upsample the coarser map and add it. Without, each map comes from its own stage alone.
        laterals: add the map of the same stage. Without, only the coarsest stage is read.
        smooth: the 3 x 3 convolution on each map (FPN-03).
        generator: of the initial weights.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        channels: int = 256,
        top_down: bool = True,
        laterals: bool = True,
        smooth: bool = True,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.top_down = top_down
        read = [laterals or i == len(inputs) - 1 for i in range(len(inputs))]
        self.laterals = nn.ModuleList(
            nn.Conv2d(width, channels, 1) if used else nn.Identity() for width, used in zip(inputs, read, strict=True)
        )
        self.outputs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) if smooth else nn.Identity() for _ in inputs
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight, a=1, generator=generator)
                nn.init.zeros_(layer.bias)
        self.read = tuple(read)

    def merge(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps after the sums, before the 3 x 3 convolutions."""
        merged: list[Tensor] = []
        for map, lateral, read in zip(maps[::-1], self.laterals[::-1], self.read[::-1], strict=True):
            parts = [lateral(map)] if read else []
            if merged and self.top_down:
                parts.append(upsample(merged[0], map.shape[-2:]))
            merged.insert(0, sum(parts[1:], parts[0]))
        return merged

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """C2 to C5, (B, C_i, H_i, W_i), to P2 to P5, (B, d, H_i, W_i)."""
        return [output(map) for map, output in zip(self.merge(maps), self.outputs, strict=True)]


def upsample(map: Tensor, size: tuple[int, int]) -> Tensor:
    """Each cell repeated twice in both directions, to this height and width (FPN-02).

    Of an odd number the last row is repeated once; where a pooling has left the last row out, three times.
    """
    doubled = F.interpolate(map, scale_factor=2, mode="nearest")[..., : size[0], : size[1]]
    missing = size[1] - doubled.shape[-1], size[0] - doubled.shape[-2]
    return F.pad(doubled, (0, missing[0], 0, missing[1]), mode="replicate") if any(missing) else doubled


def subsample(map: Tensor) -> Tensor:
    """P6 from P5: every second cell of every second row (FPN-08)."""
    return map[..., ::2, ::2]


class Pyramid(nn.Module):
    """The body of a detector on several maps: a network, a pyramid on its stages, and one coarser map for the RPN.

    Args:
        bottom_up: the network.
        design: "top-down" for the feature pyramid; "hierarchy" for the stages as they are, without the top-down path;
            "no laterals"; "finest" for the pyramid's finest map alone; "single" for the one stage that Faster R-CNN
            reads; "images" for this stage of the image at twice its size, its own, half and a quarter of it (FPN-07).
        channels: of every map.
        smooth: the 3 x 3 convolutions.
        generator: of the initial weights.
    Raises:
        ValueError: another design.
    """

    DESIGNS = ("top-down", "hierarchy", "no laterals", "finest", "single", "images")
    FACTORS = (2, 1, 0.5, 0.25)  # of the image's sides

    def __init__(
        self,
        bottom_up: BottomUp,
        design: str = "top-down",
        channels: int = 256,
        smooth: bool = True,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if design not in self.DESIGNS:
            raise ValueError(f"design: {design!r}, expected one of {self.DESIGNS}")
        inputs, strides = bottom_up.channels, bottom_up.strides
        if design in ("single", "images"):
            last, count = bottom_up.single, bottom_up.single + 1
            bottom_up = BottomUp(bottom_up.stem, bottom_up.stages[:count], inputs[:count], strides[:count], last)
            inputs, strides = inputs[last:count], strides[last:count]
        self.bottom_up, self.design = bottom_up, design
        self.fpn = FeaturePyramid(
            inputs, channels, design != "hierarchy", design != "no laterals", smooth, generator=generator
        )
        if design == "finest":
            self.fpn.outputs = nn.ModuleList([self.fpn.outputs[0], *(nn.Identity() for _ in inputs[1:])])
        if design == "images":
            strides = tuple(int(strides[0] / factor) for factor in self.FACTORS)
        self.alone = design in ("single", "finest")
        self.strides = strides[:1] if self.alone else (*strides, 2 * strides[-1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to maps (B, d, H / stride_i, W / stride_i)."""
        if self.design == "images":
            maps = [self.fpn(self.bottom_up(_resized(images, factor))[-1:])[0] for factor in self.FACTORS]
        else:
            maps = self.fpn(self.bottom_up(images)[-1:] if self.design == "single" else self.bottom_up(images))
        return maps[:1] if self.alone else [*maps, subsample(maps[-1])]


def roi_levels(boxes: Tensor, finest: int, coarsest: int, k0: int = 4, s0: float = 224.0) -> Tensor:
    """The level of the pyramid that each region of interest is read from.

    Args:
        boxes: (..., 4), pixels.
        finest, coarsest: least and largest level, log2 of their strides.
        k0: level of a region of s0 x s0.
        s0: pixels.
    Returns:
        (...) int64, floor(k0 + log2(sqrt(w h) / s0)), between the two.
    Raises:
        ValueError: not (..., 4), or s0 not above 0.
    Source: FPN-13.
    """
    if boxes.shape[-1:] != (4,) or s0 <= 0:
        raise ValueError(f"boxes: expected (..., 4) and s0 above 0, got {tuple(boxes.shape)} and {s0}")
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    side = (width * height).sqrt()
    # 448 / 224 is to be level 5 in single precision too
    level = (k0 + torch.log2(side / s0) + 1e-6).floor()
    return level.clamp(finest, coarsest).long()


def level_of(stride: float) -> int:
    """k of the map P_k of this stride, pixels."""
    return round(log2(stride))


def _resized(images: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return images
    size = [max(1, round(side * factor)) for side in images.shape[-2:]]
    return F.interpolate(images, size=size, mode="bilinear", antialias=factor < 1)
