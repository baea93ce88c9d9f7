"""SPPnet: one pass over the image, and every window pooled from its map (He et al., ECCV 2014).

    image, at each scale -> convolutions -> a map
    window -> the scale that shows it nearest 224 x 224 -> its cells on that map -> bins of a pyramid -> fc6, fc7
                                                                              -> SVMs, regression, NMS as in R-CNN

R-CNN runs the convolutions for each of 2,000 overlapping windows. The paper runs them once for an image, at each of
five scales, and pools each window from the map: a pyramid of bins makes one length of features from cells of any
number. All that follows the pooled features is R-CNN's, the training in stages too, so `SPPnet` is an `RCNN` of
which two things differ: where the pooled features come from, and that the fine-tuning trains fc6, fc7 and the
classifier alone, on features that are computed once.

Otherwise here: bins take every cell that they touch, which gives the right number of them on every map (the paper's
sliding rule gives 9 x 9 for 6 x 6 on 10 cells), and windows are projected by the centres of the cells, which are
where the network's padding puts them.

What cost accuracy when it was wrong: R-CNN's `fit`, once a function, took this detector without a word and trained
its convolutions on crops. It is a method now, and cannot. What stays: at an IoU of 0.75 R-CNN's boxes are better.
Windows that end at whole cells explain the least of it: crops with context and tuned convolutions matter more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from rcnn_tutorial.cache import FeatureCache, fingerprint
from rcnn_tutorial.detectors.rcnn import RCNN, RGB, RCNNSettings
from rcnn_tutorial.detectors.rcnn_windows import WindowBatches, WindowFeatures
from rcnn_tutorial.engine.checks import expect, validate
from rcnn_tutorial.engine.devices import constant, grouped
from rcnn_tutorial.nets.backbones import ConvNet, Field, receptive_field
from rcnn_tutorial.nets.preprocess import Batch, Preprocess
from rcnn_tutorial.ops.pooling import spatial_pyramid_pool
from rcnn_tutorial.ops.warp import IMAGENET_MEAN


@dataclass(frozen=True)
class SPPnetSettings(RCNNSettings):
    """SPPnet's settings; the defaults are the paper's (section 4.1), and R-CNN's where it follows R-CNN."""

    background_from: float = 0.1
    svm_overlap: float = 0.7
    ridge_iou: float = 0.5
    scales: tuple[int, ...] = (480, 576, 688, 864, 1200)  # shorter sides that the image is resized to
    side: float = 224  # a window reads the scale that makes its area nearest to side x side pixels

    @classmethod
    def tiny(cls, steps: int = 1_000, **changes) -> Self:
        """The laptop's, for images of 192 pixels in height: five scales about it, windows of 64 pixels."""
        return super().tiny(steps, **({"scales": (96, 136, 192, 272, 384), "side": 64} | changes))


def closest_scale(boxes: Tensor, size: tuple[int, int], scales: Sequence[int], side: float = 224) -> Tensor:
    """Choose the scale at which each window's area is nearest to side x side.

    Nearest is meant absolutely, |area - side^2|; a ratio would choose otherwise for some windows.

    Args:
        boxes: (R, 4), pixels of the image.
        size: height and width of the image.
        scales: shorter sides of the resized image, pixels.
        side: pixels.
    Returns:
        (R,) int64, indices into `scales`.
    Raises:
        ValueError: not (R, 4), or no scale.
    Source: SPPnet, section 4.1.
    """
    expect(validate(boxes).ndim == 2, "boxes", "(R, 4)", boxes)
    expect(len(scales) > 0, "scales", "at least one", scales)
    factors = constant(scales, boxes) / min(size)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return (area[:, None] * factors.square() - side * side).abs().argmin(dim=1)


def project(boxes: Tensor, field: Field, size: tuple[int, int]) -> Tensor:
    """Find the cells of a map that a window takes: those whose centres lie inside it.

    Where the first cell looks at pixel 0, as in the paper, these are floor(x1 / S) + 1 to ceil(x2 / S) - 1.

    Args:
        boxes: (R, 4), pixels of the image that the map was made from.
        field: of the map's cells.
        size: height and width of the map.
    Returns:
        (R, 4) int64, x1, y1, x2, y2 in cells, x2 and y2 exclusive; at least one cell, the nearest.
    Raises:
        ValueError: not (R, 4).
    Source: SPPnet, appendix A.
    """
    expect(validate(boxes).ndim == 2, "boxes", "(R, 4)", boxes)
    last = constant([size[1] - 1, size[0] - 1], boxes, torch.int64)
    places = (boxes - field.first) / field.stride  # in cells, whole numbers at the cells' centres
    low = (places[:, :2].floor() + 1).long()
    high = (places[:, 2:].ceil() - 1).long()  # inclusive
    middle = ((places[:, :2] + places[:, 2:]) / 2).round().long()
    first, final = (torch.where(high < low, middle, end).clamp(min=0).minimum(last) for end in (low, high))
    return torch.cat((first, final + 1), dim=1)


class SPPnet(RCNN):
    """Detects by scoring each proposal's part of one map: `fit` trains it, `model(images, proposals=...)` detects.

    Args:
        net: pre-trained, with a pyramid in place of its last pooling; its classifier has one output per class.
        classes: names, background first.
        settings: of the detector.
        mean: RGB in [0, 1], subtracted from the pixels.
    Raises:
        ValueError: a network without a pyramid.
    """

    name = "sppnet"
    settings: SPPnetSettings

    def __init__(
        self, net: ConvNet, classes: Sequence[str], settings: SPPnetSettings | None = None, mean: RGB = IMAGENET_MEAN
    ):
        expect(len(net.levels) > 0, "net", "a network with levels", "one that reads crops of one size")
        super().__init__(net, classes, settings or SPPnetSettings(), mean)
        self.field = receptive_field(net.layers)

    @torch.no_grad()
    def maps(self, image: Tensor) -> list[Tensor]:
        """Compute the image's map (1, C, h, w) at each scale: one pass of the convolutions for each."""
        return [self.net.convs(batch.tensor) for batch in self._resized(image)]

    @torch.no_grad()
    def pooled(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Compute the pyramid features of every box, from the map of one scale each: (R, 4) to (R, P)."""
        validate(boxes, "boxes", area=True)
        height, width = image.shape[-2:]
        chosen = closest_scale(boxes, (height, width), self.settings.scales, self.settings.side)
        order, counts = grouped(chosen, len(self.settings.scales))  # scale after scale
        pooled = []
        for batch, windows in zip(self._resized(image), boxes[order].split(counts.tolist()), strict=True):
            features = self.net.convs(batch.tensor)  # (1, C, h, w)
            (scaled,) = batch.to_input([windows])
            cells = project(scaled, self.field, (features.shape[2], features.shape[3]))
            rois = torch.cat((torch.zeros_like(cells[:, :1]), cells), dim=1)  # (R_i, 5)
            pooled.append(spatial_pyramid_pool(features, self.net.levels, rois).to(boxes))
        return torch.cat(pooled)[order.argsort()]

    def pooled_key(self) -> str:
        """Hash all that `pooled` depends on besides the image and the boxes."""
        net, settings = self.net, self.settings
        return fingerprint((net.convs, net.layers, net.levels, self.mean, settings.scales, float(settings.side)))

    def _resized(self, image: Tensor) -> Iterator[Batch]:
        """Resize the image to each scale, one at a time."""
        mean = self.mean.tolist()
        return (Preprocess(mean, min_size=scale)([image]) for scale in self.settings.scales)

    def tuned(self, dataset: Dataset, cache: FeatureCache | None) -> tuple[nn.Module, WindowBatches]:
        """Give what is trained: no convolution (section 4.1), so the mini-batches are of pooled features."""
        layers = nn.Sequential(self.net.fc6, self.net.fc7, self.net.classifier)
        return layers, PooledBatches(self, dataset, cache)


class PooledBatches(WindowBatches):
    """The mini-batches of SPPnet's fine-tuning: rows of pooled features, which no step changes.

    Args:
        model: its convolutions are final.
        dataset: of (image, target) with `target["proposals"]` (M, 4).
        cache: for the features.

    Attributes:
        pooled: (W, P) of all windows of all images, in half precision.
    """

    def __init__(self, model: SPPnet, dataset: Dataset, cache: FeatureCache | None = None):
        super().__init__(model, dataset)
        features = WindowFeatures(model, dataset, cache)
        self.pooled = torch.cat([features.pooled(index).half() for index in range(len(features))])

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        drawn, _ = self.draw(index)
        return self.pooled[drawn.to(self.pooled.device)].float(), self.label[drawn]
