"""A small R-FCN: nothing is learned behind the pooling (Dai et al., NIPS 2016).

    images -> body -> map -+-> RPN -> proposals -------------------+
                           +-> k x k maps for each class and side -+-> pooling: each bin reads its own -> mean

A head that runs once per region costs time per region. R-FCN computes all that can be learned on the map, once for the
image. What a head would know, namely which part of the object lies where, is in the maps: for each class one scores
upper left parts, one upper middle parts, and so on. A region's k x k bins each read their own map, and their mean is
the region's score: a class is believed where every part is found at its place.

What is left out against the paper: the trunk is the laptop's at a stride of 8 pixels and not ResNet-101; proposals are
drawn at random and not by online hard example mining; bins are aligned (`ps_roi_align`) and not rounded, which came
later. Body and RPN are those of a Faster R-CNN that is trained already, and are trained on together with the maps.

What cost accuracy when it was wrong: a mean over bins divides every gradient by their number, and the maps of so small
a trunk are weak, so with the paper's plain mean nothing was learned in a few hundred steps. `Vote` multiplies the mean.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN
from rcnn_tutorial.detectors.two_stage import TwoStage
from rcnn_tutorial.nets.backbones import initialise
from rcnn_tutorial.ops.pooling import ps_roi_align, ps_roi_pool


class Vote(nn.Module):
    """What stands where a head was: the mean over a region's bins. It has no weights.

    Args:
        classes: K + 1, with the background.
        gain: what the mean is multiplied by; 1 in the paper.
    """

    def __init__(self, classes: int, gain: float = 1.0):
        super().__init__()
        self.classes, self.gain = classes, gain

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled maps (R, K + 1 + 4, k, k) to scores (R, K + 1) and offsets (R, K, 4), for each class the same."""
        scores, offsets = (self.gain * pooled.mean(dim=(2, 3))).split([self.classes, 4], dim=1)
        return scores, offsets[:, None].expand(-1, self.classes - 1, -1)


class SmallRFCN(TwoStage):
    """The RPN of Faster R-CNN, and position-sensitive maps in place of the head.

    Args:
        detector: whose body, RPN, classes and settings it takes over; they become a part of it. A `sampling_ratio` of
            None rounds the bins.
        k: bins along each side of a region.
        channels: of the new layer.
        gain: of the vote.
        seed: of the new layers, and of `generator`, which draws the mini-batches.
    """

    def __init__(self, detector: FasterRCNN, k: int = 3, channels: int = 128, gain: float = 27.0, seed: int = 0):
        classes, width = detector.classes, detector.rpn.head.conv.in_channels
        super().__init__(
            detector.body, detector.strides, width, nn.Identity(), width, k, classes, detector.settings,
            **detector.pixel_statistics(), seed=seed,
        )  # fmt: skip
        self.rpn, self.head = detector.rpn, Vote(len(classes), gain)
        new = initialise(nn.Conv2d(width, channels, 3, padding=1), self.generator)
        places = nn.Conv2d(channels, (len(classes) + 4) * k * k, 1)
        places.weight.data = 0.01 / gain * torch.randn(places.weight.shape, generator=self.generator)
        nn.init.zeros_(places.bias)
        self.places = nn.Sequential(new, nn.ReLU(), places)

    def pool_map(
        self, features: Tensor, rois: Tensor | Sequence[Tensor], stride: int, size: int | None = None
    ) -> Tensor:
        """Regions of the map (R, 5), or a list of (R_i, 4), to (R, K + 1 + 4, k, k)."""
        maps, size = self.places(features), size or self.output_size
        if self.settings.sampling_ratio is None:
            return ps_roi_pool(maps, rois, size, 1 / stride)
        return ps_roi_align(maps, rois, size, 1 / stride, self.settings.sampling_ratio)
