"""What detectors of two stages share: an RPN and a head for its proposals, on the same maps.

    images -> body -> maps -+-> RPN -> proposals -+
                            +---------------------+-> RoI pooling -> head -+-> class scores
                                                                           +-> box offsets, for each class

Faster R-CNN has one map, FPN several. Between the images and the detections all boxes are in pixels of the input, the
images resized and padded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rcnn_tutorial.data.targets import check_target
from rcnn_tutorial.detectors.samples import Samples, draw_samples, usable
from rcnn_tutorial.detectors.select import select
from rcnn_tutorial.nets.heads import BoxHead
from rcnn_tutorial.nets.preprocess import Batch, Preprocess
from rcnn_tutorial.nets.rpn import RPN, Predictions, Proposals, RPNSettings
from rcnn_tutorial.ops.boxes import decode, encode, validate
from rcnn_tutorial.ops.losses import multi_task_loss
from rcnn_tutorial.ops.pooling import roi_align, roi_pool, roi_warp
from rcnn_tutorial.ops.warp import LEAST_SIDE
from rcnn_tutorial.training import TrainSettings


@dataclass(frozen=True)
class TwoStageSettings:
    """Settings of a detector with an RPN; the defaults are Faster R-CNN's, or its released code's.

    Attributes:
        rpn: of the region proposal network.
        pooling: "max" over rounded bins (FAST-03), "align" or "warp" (FRCNN-29).
        sampling: points per side of a bin, for "align".
        moving: let the head's loss move the proposals too, through a pooling that allows it: non-approximate joint
            training (FRCNN-32). Otherwise proposals are constants for the head (FRCNN-31).
        rois: proposals in a mini-batch, per image (FRCNN-28).
        share: largest share of foreground among them (FAST-12).
        foreground: IoU from which a proposal is an example of its object.
        background: lowest and highest IoU of background proposals.
        weights: of the head's offsets, one over their standard deviations.
        box_weight: of the head's box loss.
        beta: of its smooth L1 loss.
        min_size, max_size: the shorter side of the input, and what its longer one may not exceed, pixels (FRCNN-33);
            None for images as they are.
        divisor: the input's sides are padded to multiples of it, pixels.
        frozen: layers of the body, counted from the image, that are not trained; None as published for the network
            (FRCNN-33).
        training: batch_size is the images of a mini-batch.
        nms_threshold: within a class (X-03).
        least_score: detections below it are not returned.
        least_side: nor are smaller ones, pixels of the input.
        detections: most boxes returned per image.
    """

    rpn: RPNSettings = RPNSettings()
    pooling: str = "max"
    sampling: int = 2
    moving: bool = False
    rois: int = 128
    share: float = 0.25
    foreground: float = 0.5
    background: tuple[float, float] = (0.1, 0.5)
    weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    box_weight: float = 1.0
    beta: float = 1.0
    min_size: int | None = 600
    max_size: int | None = 1000
    divisor: int = 1
    frozen: int | None = None
    training: TrainSettings = TrainSettings(80_000, batch_size=1, lr=1e-3, weight_decay=5e-4, milestones=(60_000,))
    nms_threshold: float = 0.3
    least_score: float = 0.05
    least_side: float = 0.0
    detections: int = 100


class TwoStage(nn.Module):
    """An RPN and a head on the maps of one body (FRCNN-01).

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
        cell: the shortest side of an input that leaves a cell of the last map, pixels.
    Raises:
        ValueError: an unknown pooling, or a `moving` one that gives the boxes no gradient.
    """

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
        cell: int = 1,
    ):
        super().__init__()
        if settings.pooling not in ("max", "align", "warp"):
            raise ValueError(f"pooling: {settings.pooling!r}, expected 'max', 'align' or 'warp'")
        if settings.moving and settings.pooling == "max":
            raise ValueError("moving: expected a pooling of 'align' or 'warp': 'max' gives boxes no gradient")
        self.classes, self.settings, self.output_size = tuple(classes), settings, output_size
        self.generator = torch.Generator().manual_seed(seed)
        self.preprocess = Preprocess(
            mean, std, settings.min_size, settings.max_size, settings.divisor, LEAST_SIDE, cell
        )  # fmt: skip
        self.body, self.strides = body, tuple(strides)
        self.rpn = RPN(channels, strides, settings.rpn, self.generator)
        self.head = BoxHead(hidden, width, len(classes), self.generator)

    def maps(self, images: Sequence[Tensor]) -> tuple[Batch, list[Tensor]]:
        """The images as one tensor, and the maps of one pass of the body."""
        batch = self.preprocess(images)
        maps = self.body(batch.tensor)
        return batch, [maps] if isinstance(maps, Tensor) else list(maps)

    def rpn_losses(self, predictions: Predictions, batch: Batch, targets: Sequence[dict[str, Tensor]]) -> dict:
        """The RPN's two losses; targets in pixels of the input."""
        boxes = [target["boxes"] for target in targets]
        samples = self.rpn.sample(predictions.anchors, boxes, sizes_of(batch, predictions.anchors), self.generator)
        return self.rpn.losses(predictions, samples)

    def sample(self, batch: Batch, proposals: Proposals, targets: Sequence[dict[str, Tensor]]) -> Samples:
        """The proposals of one mini-batch; all in pixels of the input."""
        settings = self.settings
        return draw_samples(
            proposals, targets, sizes_of(batch, proposals.boxes), settings.rois, settings.share, settings.foreground,
            settings.background, self.generator,
        )  # fmt: skip

    def pool(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Boxes (B, P, 4), pixels of the input, to (B P, C, n, n), of the one map that there is."""
        (features,) = maps
        return self.pool_map(features, list(boxes), self.strides[0])

    def pool_map(self, features: Tensor, rois: Tensor | Sequence[Tensor], stride: int) -> Tensor:
        """Regions of one map, (R, 5) with the image's index first, or a list of (R_i, 4), to (R, C, n, n)."""
        settings, scale = self.settings, 1 / stride
        if settings.pooling == "max":
            return roi_pool(features, rois, self.output_size, scale)
        if settings.pooling == "warp":
            return roi_warp(features, rois, self.output_size, scale)
        return roi_align(features, rois, self.output_size, scale, settings.sampling)

    @torch.no_grad()
    def proposals(self, images: Sequence[Tensor]) -> list[Tensor]:
        """The RPN's proposals for images, (P_i, 4) in pixels of each, best first; in training mode as many as there."""
        batch, maps = self.maps(images)
        return batch.to_original(self.rpn.propose(self.rpn(maps), sizes_of(batch, maps[0])).unpad())

    def head_losses(self, scores: Tensor, offsets: Tensor, samples: Samples) -> dict[str, Tensor]:
        """The head's two losses, divided by the number of proposals that were drawn (FAST-07)."""
        settings = self.settings
        boxes, labels, truths = (each.flatten(0, 1) for each in samples)
        wanted = encode(truths, boxes.detach(), settings.weights)
        losses = multi_task_loss(scores, offsets, labels, wanted, beta=settings.beta)
        return {"class": losses["class"], "box": settings.box_weight * losses["box"]}

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """The losses of a mini-batch in training mode, else detections.

        Args:
            images: (3, H, W) each, RGB in [0, 1].
            targets: `boxes`, pixels of the image, and `labels`, 1 to K, of each image.
            proposals: (M_i, 4) for each image, pixels, in place of those of the RPN, which then has no loss either;
                `targets` may hold them too.
        Returns:
            `objectness`, `rpn_box`, `class` and `box`, scalars; or per image `boxes` (D, 4), `labels` (D,) and
            `scores` (D,), best first, pixels of the image.
        Raises:
            ValueError: no targets in training mode, not as many targets or proposals as images, or an image that is too
                small.
        """
        if self.training and (targets is None or len(targets) != len(images)):
            found = "none" if targets is None else len(targets)
            raise ValueError(f"targets: expected one dict for each of {len(images)} images, got {found}")
        if self.training:
            targets = [check_target(target, f"targets[{i}]", self.classes) for i, target in enumerate(targets)]
        if proposals is None and targets is not None and all("proposals" in target for target in targets):
            proposals = [target["proposals"] for target in targets]
        if proposals is not None and len(proposals) != len(images):
            raise ValueError(f"proposals: expected one tensor for each of {len(images)} images, got {len(proposals)}")
        if not self.training:
            return self.detect(images, proposals)

        batch, maps = self.maps(images)
        targets = to_input(batch, targets)
        if proposals is None:
            predictions = self.rpn(maps)
            losses = self.rpn_losses(predictions, batch, targets)
            found = self.rpn.propose(predictions, sizes_of(batch, predictions.anchors))
            if not self.settings.moving:  # the head's loss is to move the maps, not the boxes (FRCNN-31)
                found = Proposals(*(each.detach() for each in found))
        else:
            losses, found = {}, given(batch, proposals)
        samples = self.sample(batch, found, targets)
        return losses | self.head_losses(*self.head(self.pool(maps, samples.boxes)), samples)

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> list[dict[str, Tensor]]:
        """Detections of images, from the RPN's proposals or from others, pixels of the image."""
        batch, maps = self.maps(images)
        if proposals is None:
            found = self.rpn.propose(self.rpn(maps), sizes_of(batch, maps[0]))
        else:
            found = given(batch, proposals)
        found = self.classify(batch, maps, found)
        shown = batch.to_original([each["boxes"] for each in found])
        return [each | {"boxes": own} for each, own in zip(found, shown, strict=True)]

    def classify(self, batch: Batch, maps: Sequence[Tensor], proposals: Proposals) -> list[dict[str, Tensor]]:
        """The second stage: from proposals to detections, pixels of the input."""
        boxes, settings = proposals.boxes, self.settings
        scores, offsets = self.head(self.pool(maps, boxes))
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # bfloat16 has too few different scores
        scores = scores.softmax(dim=1)[:, 1:] * proposals.valid.flatten()[:, None]  # (B P, K)
        decoded = decode(offsets, boxes.flatten(0, 1)[:, None], settings.weights)  # (B P, K, 4)
        image = torch.arange(len(boxes), device=boxes.device).repeat_interleave(boxes.shape[1])
        return select(
            scores, decoded, image, sizes_of(batch, boxes), settings.nms_threshold, settings.least_score,
            settings.detections, least_side=settings.least_side,
        )  # fmt: skip


def to_input(batch: Batch, targets: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The boxes and labels of targets, the boxes in pixels of the input."""
    boxes = batch.to_input([target["boxes"] for target in targets])
    return [{"boxes": own, "labels": target["labels"]} for own, target in zip(boxes, targets, strict=True)]


def given(batch: Batch, proposals: Sequence[Tensor]) -> Proposals:
    """Proposals that come from outside, (M_i, 4) in pixels of each image, clipped; those left without area go."""
    boxes = batch.to_input([validate(each, "proposals") for each in proposals])
    valid = pad_sequence([torch.ones_like(each[:, 0], dtype=torch.bool) for each in boxes], batch_first=True)
    boxes = pad_sequence(boxes, batch_first=True)
    boxes, good = usable(boxes, sizes_of(batch, boxes))
    valid = valid & good
    return Proposals(boxes, valid.to(boxes), valid)


def sizes_of(batch: Batch, like: Tensor) -> Tensor:
    """(B, 2) height and width of each image in the input, where `like` is."""
    return torch.tensor(batch.sizes).to(like.device, non_blocking=True)
