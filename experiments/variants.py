"""Variants of the region proposal network and of its training that one experiment, or one statement, needs."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN
from rcnn_tutorial.engine.checks import height_and_width
from rcnn_tutorial.nets.preprocess import Batch
from rcnn_tutorial.nets.rpn import RPN, AnchorSamples, Predictions, RPNHead
from rcnn_tutorial.ops.losses import count_drawn
from rcnn_tutorial.ops.pooling import roi_align


class TwoScores(RPNHead):
    """Two scores for each anchor and a softmax, as published: background first."""

    def __init__(self, channels: int, anchors: int, generator: torch.Generator | None = None):
        super().__init__(channels, anchors, generator)
        self.score = nn.Conv2d(channels, 2 * anchors, 1)
        self.score.weight.data = 0.01 * torch.randn(self.score.weight.shape, generator=generator)
        nn.init.zeros_(self.score.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """As RPNHead's: the logit is the difference of the two scores, and its sigmoid their softmax."""
        logits, offsets = [], []
        for features in maps:
            hidden = F.relu(self.conv(features))
            background, foreground = self.score(hidden).chunk(2, dim=1)
            logits.append((foreground - background).permute(0, 2, 3, 1).flatten(1))
            offsets.append(self.offsets(hidden).unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3))
        return torch.cat(logits, dim=1), torch.cat(offsets, dim=1)


class HeadOfEachMap(nn.ModuleList):
    """Heads of RPNs, each for one map."""

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """As RPNHead's."""
        logits, offsets = zip(*(head([features]) for head, features in zip(self, maps, strict=True)), strict=True)
        return torch.cat(logits, dim=1), torch.cat(offsets, dim=1)


class SeparateHeads(RPN):
    """An RPN whose maps do not share the head."""

    def __init__(self, channels: int, strides: Sequence[int], settings=None, generator=None):
        super().__init__(channels, strides, settings, generator)
        more = (RPNHead(channels, len(self.cell_anchors[0]), generator) for _ in strides[1:])
        self.head = HeadOfEachMap([self.head, *more])


class DividedByPlaces(RPN):
    """The published loss: that of the boxes is weighed by lambda and divided by the number of cells."""

    box_weight = 10.0  # lambda

    def losses(self, predictions: Predictions, samples: AnchorSamples, boxes: Sequence[Tensor]) -> dict[str, Tensor]:
        """As RPN's."""
        losses = super().losses(predictions, samples, boxes)
        places = predictions.logits.numel() / len(self.cell_anchors[0])
        return losses | {"rpn_box": self.box_weight * losses["rpn_box"] * count_drawn(samples.labels >= 0) / places}


def weighed(weight: float) -> type[FasterRCNN]:
    """Faster R-CNN with the published loss of its RPN, and this lambda."""
    rpn = type("WeighedRPN", (DividedByPlaces,), {"box_weight": weight})
    return type(f"FasterRCNN, lambda = {weight:g}", (FasterRCNN,), {"rpn_class": rpn})


class MovingFasterRCNN(FasterRCNN):
    """Non-approximate joint training: the head's loss moves the proposals too, through RoIAlign (section 3.2)."""

    def propose(self, predictions: Predictions, batch: Batch) -> Tensor:
        """The proposals with the gradient of their offsets."""
        return self.rpn.propose(predictions, batch.sizes).boxes


def roi_warp(
    input: Tensor, boxes: Tensor | Sequence[Tensor], output_size: int | tuple[int, int], spatial_scale: float = 1.0
) -> Tensor:
    """Warp every region of interest to twice the size and max-pool it 2 x 2; a gradient to the boxes too.

    The warped region has one interpolated point at the centre of each of 2h x 2w equal bins, as `roi_align` sets it
    where `sampling_ratio` is 1. So a region shorter than one cell is taken to be one long here too.

    Args:
        input, boxes, output_size, spatial_scale: as for `roi_align`.
    Returns:
        (R, C, h, w), of the input's type.
    Raises:
        ValueError: as `roi_align`.
    Source: Dai et al., Instance-aware Semantic Segmentation via Multi-task Network Cascades, section 3.2; ports of
    Faster R-CNN pool in this way.
    """
    height, width = height_and_width(output_size)
    return F.max_pool2d(roi_align(input, boxes, (2 * height, 2 * width), spatial_scale, sampling_ratio=1), 2)


class WarpingFasterRCNN(MovingFasterRCNN):
    """The same through RoI warping, as Dai et al. (CVPR 2016) have it."""

    def pool_map(self, features: Tensor, rois: Tensor | Sequence[Tensor], stride: int) -> Tensor:
        """As TwoStage's."""
        return roi_warp(features, rois, self.output_size, 1 / stride)
