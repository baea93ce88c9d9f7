"""What Fast R-CNN, Faster R-CNN and FPN share: proposals, and a head that classifies and moves them, on shared maps.

    images -> body -> maps -+-> RPN -> proposals -+
                            +---------------------+-> RoI pooling -> head -+-> class scores
                                                                           +-> box offsets, for each class

Fast R-CNN has no RPN: its proposals are given with the images. Faster R-CNN has one map, FPN several.

One training step, as `forward` tells it: the images become one tensor and their maps; the RPN predicts, learns from
anchors of its own, and proposes; some proposals are drawn, at most a quarter of them foreground; their pooled features
pass through the head; its losses are the log loss of the class and smooth L1 of the offsets.

Rules that cost accuracy when they were broken: the true boxes belong to the proposals that are drawn from, or a young
RPN gives the head no foreground; a loss is divided by the samples drawn, and not by the number asked for, or pictures
with few proposals train the head several times too slowly; offsets are multiplied by 10 and 5, or smooth L1 hardly
pulls.

Between the images and the detections all boxes are in pixels of the input, the images resized and padded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rcnn_tutorial.detectors.select import select
from rcnn_tutorial.engine.checks import checked_classes, checked_proposals, expect, validate
from rcnn_tutorial.engine.devices import constant
from rcnn_tutorial.engine.targets import check_targets
from rcnn_tutorial.nets.heads import BoxHead
from rcnn_tutorial.nets.preprocess import Batch, Preprocess
from rcnn_tutorial.nets.rpn import RPN, Predictions, RPNSettings
from rcnn_tutorial.ops.assign import FOREGROUND, UNUSED, match, matched_boxes, sample
from rcnn_tutorial.ops.boxes import Size, Weights, box_iou, clip_boxes_to_image, decode, encode
from rcnn_tutorial.ops.losses import multi_task_loss
from rcnn_tutorial.ops.pooling import Regions, roi_align, roi_pool
from rcnn_tutorial.saving import Saved
from rcnn_tutorial.training import TrainSettings

Targets = Sequence[dict[str, Tensor]]  # of each image `boxes` (N, 4), `labels` (N,), and what else it has
Detections = list[dict[str, Tensor]]  # of each image `boxes` (D, 4), `labels` (D,), `scores` (D,), best first
LEAST_DETECTION = 1e-2  # pixels; a detection with a shorter side is none


@dataclass(frozen=True)
class TwoStageSettings:
    """Settings of a detector of two stages; the defaults are Faster R-CNN's, or its released code's.

    Attributes:
        rpn: of the region proposal network; None where proposals are given with the images.
        sampling_ratio: points of RoIAlign along each side of a bin (Mask R-CNN, section 3); None for RoI pooling, which
            takes maxima over rounded bins (Fast R-CNN, section 2.1).
        rois: proposals in a mini-batch, per image.
        share: largest share of foreground among them (Fast R-CNN, section 2.3).
        foreground: IoU from which a proposal is an example of its object.
        background: lowest and highest IoU of background proposals.
        weights: of the head's offsets, one over their standard deviations.
        beta: of the head's smooth L1 loss.
        min_size, max_size: the shorter side of the input, and what its longer one may not exceed, pixels
            (Faster R-CNN, section 3.3); None for images as they are.
        divisor: the input's sides are padded to multiples of it, pixels.
        training: batch_size is the images of a mini-batch.
        nms_threshold: within a class.
        least_score: detections below it are not returned.
        detections: most boxes returned per image.
    """

    rpn: RPNSettings | None = RPNSettings()
    sampling_ratio: int | None = None
    rois: int = 128
    share: float = 0.25
    foreground: float = 0.5
    background: tuple[float, float] = (0.1, 0.5)
    weights: Weights = (10.0, 10.0, 5.0, 5.0)
    beta: float = 1.0
    min_size: int | None = 600
    max_size: int | None = 1000
    divisor: int = 1
    training: TrainSettings = TrainSettings(80_000, batch_size=1, lr=1e-3, weight_decay=5e-4, milestones=(60_000,))
    nms_threshold: float = 0.3
    least_score: float = 0.05
    detections: int = 100


class Samples(NamedTuple):
    """P windows of each of B images, in the order of the proposals; those not drawn come last."""

    boxes: Tensor  # (B, P, 4) pixels of the input
    labels: Tensor  # (B, P) int64: 0 background, 1..K classes, -1 padding
    matched: Tensor  # (B, P) int64, the object of a foreground window among those of its image; elsewhere -1


class Detector(Saved, nn.Module):
    """A body that makes maps of images: what all detectors begin with that are trained as one network.

    Args: those of TwoStage of the same names.
    """

    conditional = False  # every step trains every parameter
    network: dict | None = None  # what `save` writes of the network that it was made of

    def __init__(
        self,
        body: nn.Module,
        strides: Sequence[int],
        classes: Sequence[str],
        settings: Any,
        mean: Sequence[float],
        std: Sequence[float] = (1.0, 1.0, 1.0),
        seed: int = 0,
        smallest: int = 1,
    ):
        super().__init__()
        self.classes, self.settings = checked_classes(classes), settings
        self.generator = torch.Generator().manual_seed(seed)
        self.preprocess = Preprocess(mean, std, settings.min_size, settings.max_size, settings.divisor, smallest)
        self.body, self.strides = body, tuple(strides)

    def maps(self, images: Sequence[Tensor]) -> tuple[Batch, list[Tensor]]:
        """The images as one tensor, and the maps of one pass of the body."""
        batch = self.preprocess(images)
        maps = self.body(batch.tensor)
        return batch, [maps] if isinstance(maps, Tensor) else list(maps)

    def select(self, batch: Batch, scores: list[Tensor], boxes: list[Tensor], least_side: float = 0.0) -> Detections:
        """Detections, pixels of the image, from what `select` takes, pixels of the input."""
        limits = self.settings.nms_threshold, self.settings.least_score, self.settings.detections
        chosen = select(scores, boxes, batch.sizes, *limits, least_side)
        shown = batch.to_original([detection["boxes"] for detection in chosen])
        return [detection | {"boxes": own} for detection, own in zip(chosen, shown, strict=True)]

    def pixel_statistics(self) -> dict:
        """Mean and deviation of the pixels, as the constructor takes them."""
        return {"mean": self.preprocess.mean, "std": self.preprocess.std}


class TwoStage(Detector):
    """An RPN, or proposals that are given, and a head on the maps of one body.

    Args:
        body: images (B, 3, H, W) to a map (B, C, h, w), or to a list of maps.
        strides: of each map, pixels.
        channels: of the maps.
        hidden: pooled features (R, C, n, n) to (R, width).
        width: of its output.
        output_size: n, bins of the pooling.
        classes: names, background first.
        settings: of the detector.
        mean, std: RGB in [0, 1], what normalises the pixels.
        seed: of the new layers, and of `generator`, which draws the mini-batches.
        smallest: side of an input that leaves the last map one cell, pixels.
    """

    rpn_class: type[RPN] = RPN
    rpn: Any  # None where proposals are given

    def __init__(
        self,
        body: nn.Module,
        strides: Sequence[int],
        channels: int,
        hidden: nn.Module,
        width: int,
        output_size: int,
        classes: Sequence[str],
        settings: TwoStageSettings,
        mean: Sequence[float],
        std: Sequence[float] = (1.0, 1.0, 1.0),
        seed: int = 0,
        smallest: int = 1,
    ):
        super().__init__(body, strides, classes, settings, mean, std, seed, smallest)
        self.output_size = output_size
        self.rpn = self.rpn_class(channels, strides, settings.rpn, self.generator) if settings.rpn else None
        self.head = BoxHead(hidden, width, len(classes), self.generator)

    def forward(
        self, images: Sequence[Tensor], targets: Targets | None = None, proposals: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor] | Detections:
        """The losses of a mini-batch in training mode, else detections.

        Args:
            images: (3, H, W) each, RGB in [0, 1].
            targets: `boxes`, pixels of the image, and `labels`, 1 to K, of each image.
            proposals: (M_i, 4) for each image, pixels, in place of those of the RPN, which then has no loss either;
                `targets` may hold them too. They are clipped to the image; those left without area are not used.
        Returns:
            `objectness`, `rpn_box`, `class` and `box`, scalars; or per image `boxes` (D, 4), `labels` (D,) and
            `scores` (D,), best first, pixels of the image.
        Raises:
            ValueError: no targets in training mode, not as many targets or proposals as images, no proposals for a
                detector without an RPN, or an image that is too small.
        """
        targets = check_targets(targets, images, self.classes) if self.training else targets or ()
        if proposals is None:
            proposals = [target["proposals"] for target in targets if "proposals" in target] or None
        if proposals is not None or self.settings.rpn is None:
            checked_proposals(proposals, images)
        if not self.training:
            return self.detect(images, proposals)
        batch, maps = self.maps(images)
        targets, losses = to_input(batch, targets), {}
        if proposals is None:
            predictions = self.rpn(maps)
            truths = [target["boxes"] for target in targets]
            anchor_samples = self.rpn.sample(predictions.anchors, truths, batch.sizes, self.generator)
            losses = self.rpn.losses(predictions, anchor_samples, truths)
            boxes = self.propose(predictions, batch)
        else:
            boxes = given(batch, proposals)
        samples = draw_samples(boxes, targets, batch.sizes, self.settings, self.generator)
        return losses | self.roi_losses(batch, maps, samples, targets)

    def propose(self, predictions: Predictions, batch: Batch) -> Tensor:
        """The RPN's proposals (B, P, 4). They are constants: the head's loss is to move the maps, not the boxes."""
        return self.rpn.propose(predictions, batch.sizes).boxes.detach()

    def pool(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Boxes (B, P, 4), pixels of the input, to (B P, C, n, n), of the one map that there is."""
        (features,) = maps
        return self.pool_map(features, list(boxes), self.strides[0])

    def pool_map(self, features: Tensor, rois: Regions, stride: int, size: int | None = None) -> Tensor:
        """Regions of one map, (R, 5) with the image's index first, or a list of (R_i, 4), to (R, C, n, n)."""
        size = size or self.output_size
        if self.settings.sampling_ratio is None:
            return roi_pool(features, rois, size, 1 / stride)
        return roi_align(features, rois, size, 1 / stride, self.settings.sampling_ratio)

    def encode(self, boxes: Tensor, reference: Tensor) -> Tensor:
        """The offsets that the head is to predict, (..., 4) from boxes and proposals of that shape."""
        return encode(boxes, reference, self.settings.weights)

    def decode(self, offsets: Tensor, reference: Tensor) -> Tensor:
        """The box that each class makes of each proposal: (R, K, 4) and (R, 4) to (R, K, 4)."""
        return decode(offsets, reference[:, None], self.settings.weights)

    def roi_losses(self, batch: Batch, maps: Sequence[Tensor], samples: Samples, targets: Targets) -> dict[str, Tensor]:
        """The losses of the second stage, from the proposals that were drawn."""
        scores, offsets = self.head(self.pool(maps, samples.boxes))
        return self.head_losses(scores, offsets, samples, targets)

    def head_losses(self, scores: Tensor, offsets: Tensor, samples: Samples, targets: Targets) -> dict[str, Tensor]:
        """The head's two losses, divided by the number of proposals that were drawn (Fast R-CNN, equation 1)."""
        boxes = samples.boxes.detach()
        truths = matched_boxes([target["boxes"] for target in targets], samples.matched, boxes)
        wanted = self.encode(truths, boxes).flatten(0, 1)  # (B, P, 4) -> (B P, 4)
        return multi_task_loss(scores, offsets, samples.labels.flatten(), wanted, beta=self.settings.beta)

    @torch.no_grad()
    def proposals(self, images: Sequence[Tensor]) -> list[Tensor]:
        """The RPN's proposals for images, (P_i, 4) in pixels of each, best first: `after_nms` of the RPN's mode."""
        batch, maps = self.maps(images)
        return batch.to_original(self.rpn.propose(self.rpn(maps), batch.sizes).unpad())

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Detections:
        """Detections of images, from the RPN's proposals or from others, pixels of the image."""
        batch, maps = self.maps(images)
        boxes = self.propose(self.rpn(maps), batch) if proposals is None else given(batch, proposals)
        return self.classify(batch, self.pool(maps, boxes), boxes)

    def classify(self, batch: Batch, pooled: Tensor, proposals: Tensor) -> Detections:
        """The second stage: from proposals (B, P, 4), and what was pooled of them, to detections, pixels of the image.

        Rows of padding have no area, so the boxes decoded from them have none, and `select` drops those.
        """
        shape = proposals.shape[:2]
        scores, offsets = self.head(pooled)  # (B P, K+1) and (B P, K, 4)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # bfloat16 has too few different scores
        scores = scores.softmax(dim=1)[:, 1:].unflatten(0, shape)  # (B, P, K)
        boxes = self.decode(offsets, proposals.flatten(0, 1)).unflatten(0, shape)  # (B, P, K, 4)
        return self.select(batch, list(scores), list(boxes), LEAST_DETECTION)


def to_input(batch: Batch, targets: Targets) -> list[dict[str, Tensor]]:
    """The targets, with their boxes in pixels of the input, and what lies beyond its image cut off."""
    scaled = zip(targets, batch.to_input([target["boxes"] for target in targets]), batch.sizes, strict=True)
    return [target | {"boxes": clip_boxes_to_image(boxes, size)} for target, boxes, size in scaled]


def given(batch: Batch, proposals: Sequence[Tensor]) -> Tensor:
    """Proposals from outside, (M_i, 4) in pixels of each image, as (B, M, 4) of the input, clipped and padded."""
    boxes = batch.to_input([validate(p, "proposals") for p in proposals])
    return pad_sequence([clip_boxes_to_image(b, size) for b, size in zip(boxes, batch.sizes, strict=True)], True)


def draw_samples(
    proposals: Sequence[Tensor] | Tensor,
    targets: Targets,
    sizes: Sequence[Size],
    settings: TwoStageSettings,
    generator: torch.Generator | None = None,
) -> Samples:
    """Label every proposal and every true box of each image, and draw some of them.

    Proposals are clipped to the image, and those left without area are never drawn. An image without objects gives
    background only, and none where `background` begins above 0.

    Args:
        proposals: (M_i, 4) for each image, pixels of the input; the boxes drawn keep their gradient.
        targets: `boxes` (N_i, 4) and `labels` (N_i,), 1 to K, for each image.
        sizes: height and width of each image in the input, pixels.
        settings: `rois`, `share`, `foreground` and `background` count here.
        generator: of the CPU.
    Raises:
        ValueError: lists of different lengths, proposals of another shape or with numbers that are not finite.
    Source: Fast R-CNN, section 2.3.
    """
    count = len(proposals)
    expect(count == len(targets) == len(sizes), "proposals", f"one tensor for each of {len(targets)} images", count)
    windows = [torch.cat((validate(p, "proposals"), t["boxes"].to(p))) for p, t in zip(proposals, targets, strict=True)]
    # padded to one length, so that each image draws as many random numbers as the one with the most windows
    padded = pad_sequence(windows, batch_first=True)  # (B, M, 4)
    boxes = torch.stack([clip_boxes_to_image(part, size) for part, size in zip(padded, sizes, strict=True)])
    good = (boxes[..., 2:] > boxes[..., :2]).all(dim=2)
    # a box without area has no offsets: another, never drawn, takes its place
    boxes = torch.where(good[..., None], boxes, constant([0, 0, 1, 1], boxes))
    matches, classes = [], []
    for own, target in zip(boxes.detach(), targets, strict=True):
        matches.append(match(box_iou(own, target["boxes"].to(own)), settings.foreground, settings.background))
        labels = torch.cat((target["labels"], target["labels"].new_zeros(1)))  # one more, where there is no object
        classes.append(labels[matches[-1].truth])  # (M,)
    truth, state = map(torch.stack, zip(*matches, strict=True))
    index, drawn = sample(torch.where(good, state, UNUSED), settings.rois, settings.share, generator)  # (B, P)
    state = torch.where(drawn, state.gather(1, index), UNUSED)
    positive = state == FOREGROUND
    labels = torch.where(positive, torch.stack(classes).gather(1, index), state)  # 0 and -1 are labels, too
    matched = torch.where(positive, truth.gather(1, index), -1)
    return Samples(boxes.gather(1, index[..., None].expand(-1, -1, 4)), labels, matched)
