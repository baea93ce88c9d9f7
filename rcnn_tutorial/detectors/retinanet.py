"""RetinaNet: one stage, and a loss that looks away from the easy (Lin et al., Focal Loss, ICCV 2017).

    images -> C3, C4, C5 -> P3 to P7 -+-> class subnet -> K scores for each anchor
                                      +-> box subnet ---> 4 offsets for each anchor

There are no proposals and no second stage. At every cell of five maps stand nine anchors, about 100,000 in an image of
the paper, and each is classified and moved at once. All of them are in the loss. Nearly all are background and easy,
and together their small losses would drown those of the few objects: the focal loss multiplies the loss of each answer
by (1 - p_t)^gamma, which is next to nothing where the answer is right already.

What differs here: an object whose best anchor has an IoU below 0.5 keeps that anchor, as in the released code; the
paper does not say so. On a laptop the subnets begin with He's rule, because with the paper's small weights nothing is
learnt in some hundred steps.

Rules that cost accuracy when they were broken: the loss is divided by the positive anchors and not by all, or it is a
thousand times too small; the last bias says "no" at first, or the negatives of the first steps are all that is learnt;
anchors between the two bounds of the IoU are in no sum; the two subnets share no weight.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

import torch
from torch import Tensor
from torchvision.models import ResNet

from rcnn_tutorial.compat import from_torchvision as from_torchvision
from rcnn_tutorial.detectors.fpn import stages_and_pixels
from rcnn_tutorial.detectors.two_stage import Detections, Detector, Targets, to_input
from rcnn_tutorial.engine.checks import expect
from rcnn_tutorial.engine.targets import check_targets
from rcnn_tutorial.nets.backbones import ConvNet
from rcnn_tutorial.nets.fpn import BottomUp, DensePyramid
from rcnn_tutorial.nets.heads import DenseHead
from rcnn_tutorial.nets.preprocess import Batch
from rcnn_tutorial.nets.rpn import OnAnchors, Predictions
from rcnn_tutorial.ops.assign import FOREGROUND, UNUSED, Matches, matched_boxes
from rcnn_tutorial.ops.boxes import Size, decode, encode
from rcnn_tutorial.ops.losses import count_drawn, generalized_box_iou_loss, sigmoid_focal_loss, smooth_l1
from rcnn_tutorial.ops.warp import IMAGENET_MEAN
from rcnn_tutorial.saving import describe
from rcnn_tutorial.training import TrainSettings


def octaves(*sides: float, steps: int = 3) -> tuple[tuple[float, ...], ...]:
    """The scales of each level: from each side to twice that side in equal ratios, 1.26 for three steps (section 4)."""
    return tuple(tuple(side * 2 ** (step / steps) for step in range(steps)) for side in sides)


@dataclass(frozen=True)
class RetinaNetSettings:
    """Settings of the detector; the defaults are the paper's, or its released code's where it is silent.

    Attributes:
        anchors, ratios, inside: as RPNSettings has them.
        scales: square roots of the anchors' areas on each level, pixels of the input (section 4, "Anchors").
        foreground: IoU from which an anchor is positive.
        background: IoUs of negative anchors; those between are in no loss (section 4, "Anchors").
        alpha, gamma: of the focal loss (section 5.1).
        prior: probability that every class begins with (section 3.3).
        box_loss: "smooth_l1", of this `beta`, or "l1", of the offsets; or "giou", of the boxes.
        channels: of every map and of the subnets' layers.
        layers: 3 x 3 convolutions of each subnet before its last.
        std: of their weights; None for He's rule (section 4.1).
        groups: of their GroupNorm; 0 for none.
        finest: level of the finest map.
        extra: what P6 is made of (footnote 2).
        min_size, max_size, divisor: as TwoStageSettings has them.
        training: batch_size is the images of a mini-batch (section 4.1: 8 GPUs of 2 images); the weight decay is
            1e-4 there, too.
        candidates: best scores of each level that are decoded (section 4.1, "Inference").
        nms_threshold: within a class.
        least_score: detections below it are not returned.
        detections: most boxes returned per image.
    """

    anchors: str = "exact"
    scales: tuple[tuple[float, ...], ...] = octaves(32, 64, 128, 256, 512)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    inside: bool = False
    foreground: float = 0.5
    background: tuple[float, float] = (0.0, 0.4)
    alpha: float = 0.25
    gamma: float = 2.0
    prior: float = 0.01
    box_loss: str = "smooth_l1"
    beta: float = 0.11
    channels: int = 256
    layers: int = 4
    std: float | None = 0.01
    groups: int = 0
    finest: int = 3
    extra: str = "C5"
    min_size: int | None = 800
    max_size: int | None = 1333
    divisor: int = 32
    training: TrainSettings = TrainSettings(90_000, batch_size=16, lr=0.01, milestones=(60_000, 80_000))
    candidates: int = 1000
    nms_threshold: float = 0.5
    least_score: float = 0.05
    detections: int = 100

    @classmethod
    def tiny(cls, steps: int = 600, **changes) -> Self:
        """The laptop's: anchors of half the size, fewer channels, He's rule and GroupNorm, a short training."""
        training = TrainSettings(steps, batch_size=4, lr=0.05, schedule="cosine", warmup=steps // 4, clip_norm=10.0)
        tiny = {"scales": octaves(16, 32, 64, 128, 256), "channels": 64, "std": None, "groups": 8, "divisor": 1}
        tiny |= {"min_size": None, "max_size": None, "training": training}
        return cls(**(tiny | changes))


class Dense(OnAnchors):
    """The dense head and its anchors, and the rules that judge what is predicted for them.

    Args:
        strides: of each map, pixels.
        classes: K, without the background.
        settings: of the detector.
        generator: of the initial weights.
    Raises:
        ValueError: as OnAnchors, or an unknown box loss.
    """

    def __init__(self, strides: Sequence[int], classes: int, settings: RetinaNetSettings, generator: torch.Generator):
        super().__init__(strides, settings)
        losses = "smooth_l1", "l1", "giou"
        expect(settings.box_loss in losses, "box_loss", f"one of {losses}", repr(settings.box_loss))
        subnets = {"std": settings.std, "groups": settings.groups, "prior": settings.prior, "generator": generator}
        self.head = DenseHead(len(self.cell_anchors[0]), classes, settings.channels, settings.layers, **subnets)
        self.classes = classes

    def losses(self, predictions: Predictions, matches: Matches, targets: Targets) -> dict[str, Tensor]:
        """Focal loss of all anchors, and box loss of the positive ones, both divided by the number of the positive.

        Args:
            predictions: of the maps.
            matches: of the anchors, as `label` gives them.
            targets: `boxes`, pixels of the input, and `labels`, 1 to K, of each image.
        Returns:
            "class" and "box", scalars.
        Source: Focal loss, sections 3.2 and 4.1.
        """
        positive, count = matches.state == FOREGROUND, count_drawn(matches.state == FOREGROUND)  # (B, N)
        truth = torch.where(positive, matches.truth, -1)
        labels = [torch.cat((target["labels"], target["labels"].new_zeros(1))) for target in targets]
        labels = torch.stack([own[chosen] for own, chosen in zip(labels, truth, strict=True)])  # (B, N), 0 for "no"
        wanted = torch.nn.functional.one_hot(labels, self.classes + 1)[..., 1:].to(predictions.logits)  # (B, N, K)
        reference = predictions.anchors.expand(len(targets), -1, -1)
        boxes = matched_boxes([target["boxes"] for target in targets], truth, reference)
        losses = {"class": self.class_loss(predictions.logits, wanted, matches.state)}
        # indexing by a mask waits for a GPU
        losses["box"] = self.box_loss(predictions.offsets[positive], boxes[positive], reference[positive])
        return {name: loss / count for name, loss in losses.items()}

    def class_loss(self, logits: Tensor, wanted: Tensor, state: Tensor) -> Tensor:
        """The sum of the focal losses of all questions, (B, N, K), but for those of anchors of state UNUSED (B, N)."""
        loss = sigmoid_focal_loss(logits, wanted, self.settings.alpha, self.settings.gamma)
        return loss.sum(dim=2).masked_fill(state == UNUSED, 0).sum()

    def box_loss(self, offsets: Tensor, boxes: Tensor, reference: Tensor) -> Tensor:
        """The sum over positive anchors, (P, 4) each: predicted offsets, the objects' boxes and the anchors."""
        if self.settings.box_loss == "giou":
            return generalized_box_iou_loss(decode(offsets, reference), boxes, reduction="sum")
        off = offsets - encode(boxes, reference)
        return (off.abs() if self.settings.box_loss == "l1" else smooth_l1(off, self.settings.beta)).sum()

    def candidates(self, predictions: Predictions, sizes: Sequence[Size]) -> tuple[list[Tensor], list[Tensor]]:
        """The best scores of each map, and their boxes: what NMS begins with.

        Args:
            predictions: of the maps.
            sizes: height and width of each image in the input, pixels.
        Returns:
            For each image scores (R, K), each row but for one class 0, and boxes (R, 1, 4), pixels of the input; R is
            at most `candidates` for each map.
        Source: Focal loss, section 4.1, "Inference".
        """
        settings, k = self.settings, self.classes
        seen = self.on_image(predictions.anchors, sizes)[..., None]  # (B, N, 1)
        scores = torch.where(seen, predictions.logits.sigmoid(), 0).flatten(1)  # (B, N K)
        parts = scores.split([count * k for count in predictions.counts], dim=1)
        tops = [part.topk(min(settings.candidates, part.shape[1])).indices for part in parts]
        starts = accumulate((part.shape[1] for part in parts[:-1]), initial=0)
        best = torch.cat([top + start for top, start in zip(tops, starts, strict=True)], dim=1)  # (B, R)
        anchor, label = best // k, best % k
        offsets = predictions.offsets.gather(1, anchor[..., None].expand(-1, -1, 4))  # (B, R, 4)
        boxes = decode(offsets, predictions.anchors[anchor])
        alone = torch.zeros(*best.shape, k, dtype=scores.dtype, device=scores.device)  # (B, R, K)
        alone = alone.scatter(2, label[..., None], scores.gather(1, best)[..., None])
        return list(alone), list(boxes[:, :, None])


class RetinaNet(Detector):
    """The detector, made of a classifier.

    Args:
        net, classes, settings, mean, std: as for FPN.
        seed: of the new layers, and of `generator`.
    Raises:
        ValueError: as FPN, or as Dense.
    """

    name = "retinanet"
    dense_class: type[Dense] = Dense  # experiments/retinanet.py puts others in its place

    def __init__(
        self,
        net: ConvNet | ResNet | BottomUp,
        classes: Sequence[str],
        settings: RetinaNetSettings | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] | None = None,
        seed: int = 0,
    ):
        settings, generator = settings or RetinaNetSettings(), torch.Generator().manual_seed(seed)
        network, (stages, std, smallest) = describe(net), stages_and_pixels(net, std, generator)
        body = DensePyramid(stages, settings.channels, settings.finest, settings.extra, generator)
        super().__init__(body, body.strides, classes, settings, mean, std, seed, smallest)
        self.dense = self.dense_class(self.strides, len(self.classes) - 1, settings, generator)
        self.network = network

    def forward(
        self, images: Sequence[Tensor], targets: Targets | None = None, proposals: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor] | Detections:
        """The losses of a mini-batch in training mode, else detections.

        Args:
            images, targets: as for TwoStage.
            proposals: not used, since there is no second stage; a data set may have them for other detectors.
        Returns:
            `class` and `box`, scalars; or detections, as TwoStage's.
        Raises:
            ValueError: no targets in training mode, not as many targets as images, or an image that is too small.
        """
        if not self.training:
            return self.detect(images)
        targets = check_targets(targets, images, self.classes)
        batch, maps = self.maps(images)
        targets, predictions = to_input(batch, targets), self.dense(maps)
        matches = self.dense.label(predictions.anchors, [target["boxes"] for target in targets], batch.sizes)
        return self.dense.losses(predictions, matches, targets)

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor]) -> Detections:
        """Detections of images, pixels of the image."""
        batch, maps = self.maps(images)
        return self.choose(batch, self.dense(maps))

    def choose(self, batch: Batch, predictions: Predictions) -> Detections:
        """From the predictions to detections: the best of each map, NMS within each class, pixels of the image."""
        return self.select(batch, *self.dense.candidates(predictions, batch.sizes))
