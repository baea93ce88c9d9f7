"""Faster R-CNN on a feature pyramid (Lin et al., CVPR 2017).

The pipeline, from `forward` to the detections, is `TwoStage` in `two_stage.py`. Here the RPN slides over every map,
with anchors of one scale on each, and every region of interest is read from one map, chosen by its size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from rcnn_tutorial.compat import from_torchvision as from_torchvision
from rcnn_tutorial.detectors.faster_rcnn import IMAGENET_STD
from rcnn_tutorial.detectors.two_stage import TwoStage, TwoStageSettings
from rcnn_tutorial.engine.checks import as_rois, expect
from rcnn_tutorial.engine.devices import grouped
from rcnn_tutorial.nets.backbones import TINY, ConvNet, smallest_side
from rcnn_tutorial.nets.fpn import BottomUp, Pyramid, level_of, resnet_stages, roi_levels, tiny_stages
from rcnn_tutorial.nets.heads import TwoLayers
from rcnn_tutorial.nets.rpn import RPNSettings
from rcnn_tutorial.ops.warp import IMAGENET_MEAN
from rcnn_tutorial.saving import describe
from rcnn_tutorial.training import TrainSettings


@dataclass(frozen=True)
class FPNSettings(TwoStageSettings):
    """Settings of the detector; the defaults are the paper's, or its released code's where it is silent.

    RoIAlign and the 90,000 steps are the code's too; the paper has RoI pooling, and 80,000 for Fast R-CNN alone.

    Attributes: those of TwoStageSettings, and
        channels: d, of every map (section 3).
        output_size: bins along each side of a region.
        hidden: width of the head's two layers.
        s0: side of a region that is read from P4, pixels of the input (equation 1).
    """

    rpn: RPNSettings = RPNSettings(
        scales=((32,), (64,), (128,), (256,), (512,)),  # section 4.1
        inside=False,  # section 4.1
        beta=1 / 9,
        before_nms=(2000, 1000),
        after_nms=(2000, 1000),
        least_side=0.0,
    )
    sampling_ratio: int | None = 2
    rois: int = 512  # section 5.2
    background: tuple[float, float] = (0.0, 0.5)
    min_size: int | None = 800  # section 5.2
    max_size: int | None = 1333
    divisor: int = 32
    # section 5.1: 8 GPUs of 2 images, and a weight decay of 1e-4
    training: TrainSettings = TrainSettings(90_000, batch_size=16, lr=0.02, milestones=(60_000, 80_000))
    nms_threshold: float = 0.5
    channels: int = 256
    output_size: int = 7
    hidden: int = 1024
    s0: float = 224.0

    @classmethod
    def tiny(cls, steps: int = 600, **changes) -> Self:
        """The laptop's: anchors and s0 of half the size, fewer channels, proposals and samples, a short training."""
        rpn = RPNSettings.tiny((16,), (32,), (64,), (128,), (256,))
        training = TrainSettings(steps, batch_size=4, lr=0.05, schedule="cosine", warmup=steps // 4, clip_norm=10.0)
        tiny = {"rpn": rpn, "rois": 128, "beta": 1 / 9, "channels": 64, "hidden": 256, "s0": 112.0, "divisor": 1}
        tiny |= {"min_size": None, "max_size": None, "training": training, "nms_threshold": 0.4}
        return cls(**(tiny | changes))

    def for_batch(self, images: int) -> "FPNSettings":
        """The same training with other mini-batches: the rate in proportion, the steps against it (section 5.1).

        Raises:
            ValueError: fewer than one image.
        """
        expect(images >= 1, "images", "at least 1", images)
        old, ratio = self.training, images / self.training.batch_size
        steps, warmup, *later = (round(step / ratio) for step in (old.steps, old.warmup, *old.milestones))
        new = replace(old, batch_size=images, lr=old.lr * ratio, steps=steps, warmup=warmup, milestones=tuple(later))
        return replace(self, training=new)


def stages_and_pixels(
    net: nn.Module, std: Sequence[float] | None, generator: torch.Generator
) -> tuple[BottomUp, Sequence[float], int]:
    """What a detector on a pyramid begins with: the stages, the pixels' deviation, and the smallest side of an input.

    Args:
        net, std: as the detector's.
        generator: of the weights of new stages.
    Raises:
        ValueError: another network.
    """
    if isinstance(net, ResNet):
        return resnet_stages(net), std or IMAGENET_STD, 1
    if isinstance(net, ConvNet):  # the stages behind its layers round up, and so leave a cell of every map
        return tiny_stages(net, generator), std or (1, 1, 1), smallest_side(TINY[:4])
    if not isinstance(net, BottomUp):
        raise ValueError(f"net: expected a ResNet of torchvision, a `tiny_net` or stages, got {type(net).__name__}")
    return net, std or (1, 1, 1), 1


class FPN(TwoStage):
    """The detector, made of a classifier.

    Args:
        net: pre-trained: `tiny_net`, a residual network, or stages of another one. It becomes a part of the detector
            and may be changed: give each detector its own.
        classes: names, background first.
        settings: of the detector.
        mean, std: RGB in [0, 1], what normalises the pixels; by default as the net's pre-training had it: the mean
            alone, and for a residual network both. Of stages given as such nothing is known: the mean alone, and none
            of them frozen.
        seed: of the new layers, and of `generator`, which draws the mini-batches.
    Raises:
        ValueError: another network, or not as many scales of anchors as maps.
    """

    name = "fpn"
    body_class: type[Pyramid] = Pyramid  # experiments/designs.py puts others in its place

    def __init__(
        self,
        net: ConvNet | ResNet | BottomUp,
        classes: Sequence[str],
        settings: FPNSettings | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] | None = None,
        seed: int = 0,
    ):
        settings, generator = settings or FPNSettings(), torch.Generator().manual_seed(seed)
        network, (stages, std, smallest) = describe(net), stages_and_pixels(net, std, generator)
        body = self.body_class(stages, settings.channels, generator)
        hidden = TwoLayers(settings.channels * settings.output_size**2, settings.hidden, generator)
        super().__init__(
            body, body.strides, settings.channels, hidden, settings.hidden, settings.output_size, classes, settings,
            mean, std, seed, smallest,
        )  # fmt: skip
        self.network = network

    def levels(self, boxes: Tensor) -> Tensor:
        """The level k of each region (..., 4), pixels of the input (equation 1); P6 is for the RPN alone."""
        finest, coarsest = (level_of(stride) for stride in (self.head_strides[0], self.head_strides[-1]))
        return roi_levels(boxes, finest, coarsest, s0=self.settings.s0)

    @property
    def head_strides(self) -> tuple[int, ...]:
        """Strides of the maps that regions are read from, pixels."""
        return self.strides[:-1]

    def pool(self, maps: Sequence[Tensor], boxes: Tensor | Sequence[Tensor], size: int | None = None) -> Tensor:
        """Boxes (B, P, 4), or B (P_i, 4), pixels of the input, to (B P, C, n, n), each from its map, in their order."""
        rois = as_rois(list(boxes), maps[0])  # (B P, 5)
        level = self.levels(rois[:, 1:].detach()) - level_of(self.head_strides[0])
        order, counts = grouped(level, len(self.head_strides))  # level after level
        read = zip(maps, rois[order].split(counts.tolist()), self.head_strides, strict=False)
        parts = [self.pool_map(features, part, stride, size) for features, part, stride in read]
        return torch.cat(parts)[order.argsort()]
