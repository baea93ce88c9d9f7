"""Fast R-CNN: one network, one loss (Girshick, ICCV 2015).

    images -> convolutions -> maps -+
    proposals ----------------------+-> RoI pooling -> fc6, fc7 -+-> class scores
                                                                 +-> box offsets, for each class

Proposals still come from outside; everything else is trained at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from rcnn_tutorial.data.targets import check_target, trained_on
from rcnn_tutorial.data.wrappers import check_classes, target_of
from rcnn_tutorial.detectors.samples import Samples, draw_samples, usable
from rcnn_tutorial.detectors.select import select
from rcnn_tutorial.detectors.sppnet import closest_scale
from rcnn_tutorial.nets.backbones import ConvNet, receptive_field, smallest_side
from rcnn_tutorial.nets.preprocess import Preprocess
from rcnn_tutorial.ops.boxes import decode, encode
from rcnn_tutorial.ops.losses import multi_task_loss
from rcnn_tutorial.ops.pooling import roi_pool
from rcnn_tutorial.ops.warp import IMAGENET_MEAN, LEAST_SIDE
from rcnn_tutorial.training import TrainSettings


@dataclass(frozen=True)
class FastRCNNSettings:
    """Fast R-CNN's settings; the defaults are the paper's.

    Attributes:
        rois: windows in a mini-batch, shared evenly by its images (FAST-10).
        share: largest share of foreground among them (FAST-12).
        foreground: IoU from which a window is an example of its object (FAST-12).
        background: lowest and highest IoU of background windows (FAST-13).
        box_weight: lambda, of the box loss (FAST-07).
        beta: of the smooth L1 loss (FAST-08).
        scales: shorter side of the resized image; of several, training draws one for each batch, and in detection
            each window reads the one that shows it nearest `side` x `side` (FAST-17). Empty: the size stays.
        longest: bound of the longer side, or None.
        side: pixels.
        frozen: convolutions, counted from the image, that are not trained (FAST-16): 4 is all below VGG16's conv3_1.
        training: batch_size is N, the images of a mini-batch (FAST-10).
        nms_threshold: within a class (FAST-18).
        least_score: detections below it are not returned.
        detections: most boxes returned per image.
    """

    rois: int = 128
    share: float = 0.25
    foreground: float = 0.5
    background: tuple[float, float] = (0.1, 0.5)
    box_weight: float = 1.0
    beta: float = 1.0
    scales: tuple[int, ...] = (600,)
    longest: int | None = 1000
    side: float = 224
    frozen: int = 4
    training: TrainSettings = TrainSettings(40_000, batch_size=2, lr=1e-3, weight_decay=5e-4, milestones=(30_000,))
    nms_threshold: float = 0.3
    least_score: float = 0.05
    detections: int = 100

    @classmethod
    def tiny(cls, steps: int = 600, **changes) -> "FastRCNNSettings":
        """The laptop's: images half as large again, all layers trained, a short training at a higher rate."""
        training = TrainSettings(steps, batch_size=2, lr=0.02, schedule="cosine", warmup=steps // 10, clip_norm=10.0)
        own = {"scales": (288,), "longest": None, "side": 64, "frozen": 0, "training": training}
        own |= {"background": (0.0, 0.5), "nms_threshold": 0.4}
        return cls(**(own | changes))


class FastRCNN(nn.Module):
    """The detector, made of a classifier by three changes (FAST-01).

    1. Its last max-pooling becomes RoI pooling, to the size that fc6 expects.
    2. Its last layer becomes two: class scores, and offsets for each class.
    3. It takes images and their proposals.

    Args:
        net: pre-trained; its convolutions, fc6 and fc7 become the detector's own.
        classes: names, background first.
        settings: of the detector.
        mean: RGB in [0, 1], subtracted from the pixels.
        seed: of the new layers, and of `generator`, which draws the mini-batches.
    Raises:
        ValueError: a network whose last convolution has no pooling to replace.
    """

    def __init__(
        self,
        net: ConvNet,
        classes: Sequence[str],
        settings: FastRCNNSettings | None = None,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        seed: int = 0,
    ):
        super().__init__()
        *convs, last = net.convs
        if not isinstance(last[-1], nn.MaxPool2d):
            raise ValueError(f"net: expected a pooling after the last convolution, got {last[-1]}")
        self.classes, self.settings = tuple(classes), settings or FastRCNNSettings()
        self.convs = nn.Sequential(*convs, last[:-1])
        self.stride = receptive_field(net.layers).stride // 2  # without the last pooling
        self.output_size = isqrt(net.pool5_length // net.layers[-1].channels)
        self.fc6, self.fc7 = net.fc6, net.fc7
        self.generator = torch.Generator().manual_seed(seed)
        k, hidden = len(classes) - 1, net.classifier.in_features
        self.score, self.offsets = nn.Linear(hidden, k + 1), nn.Linear(hidden, 4 * k)  # (FAST-06)
        for layer, std in ((self.score, 0.01), (self.offsets, 0.001)):
            layer.weight.data = std * torch.randn(layer.weight.shape, generator=self.generator)
            nn.init.zeros_(layer.bias)
        self.register_buffer("target_mean", torch.zeros(4))
        self.register_buffer("target_std", torch.ones(4))
        self.convs[: self.settings.frozen].requires_grad_(False)
        scales = self.settings.scales or (None,)
        cell = max(self.stride, smallest_side((*net.layers[:-1], replace(net.layers[-1], pool=0))))
        self.preprocess = nn.ModuleList(
            Preprocess(mean, (1, 1, 1), scale, self.settings.longest, least_side=LEAST_SIDE, cell=cell)
            for scale in scales
        )

    def normalise_targets(self, dataset: Dataset) -> None:
        """Set the mean and deviation of the four offsets, over all foreground windows of a data set (FAST-09).

        Args:
            dataset: of (image, target) with `target["proposals"]` (M, 4).
        """
        found, classes = [], check_classes(self, dataset)
        for index in range(len(dataset)):
            target = trained_on(target_of(dataset, index, classes))
            windows = len(target["boxes"]) + len(target["proposals"])
            bounds = torch.tensor([[1e6, 1e6]])
            drawn = draw_samples(
                [target["proposals"]], [target], bounds, windows, 1.0, self.settings.foreground, (0.0, 0.0)
            )
            found.append(encode(drawn.truths, drawn.boxes)[drawn.labels > 0])
        offsets = torch.cat(found).double()
        if len(offsets) < 2:
            raise ValueError(f"dataset: {len(offsets)} foreground windows, expected two at least")
        self.target_mean.copy_(offsets.mean(dim=0))
        self.target_std.copy_(offsets.std(dim=0).clamp(min=1e-6))

    def sample(self, images: Sequence[Tensor], targets: Sequence[dict], proposals: Sequence[Tensor]) -> Samples:
        """The windows of one mini-batch, in pixels of the images."""
        settings = self.settings
        count = settings.rois // settings.training.batch_size
        return draw_samples(
            proposals, targets, _sizes(images), count, settings.share, settings.foreground, settings.background,
            self.generator,
        )  # fmt: skip

    def pool(self, images: Sequence[Tensor], boxes: Tensor, scale: int = 0) -> Tensor:
        """RoI pooling on one pass of the convolutions.

        Args:
            images: (3, H, W) each.
            boxes: (B, P, 4), pixels of the images.
            scale: which of the settings' scales.
        Returns:
            (B P, C, n, n).
        """
        batch = self.preprocess[scale](images)
        features = self.convs(batch.tensor)
        return roi_pool(features, _rois(batch.to_input(boxes)), self.output_size, 1 / self.stride)

    def pool_pyramid(self, images: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """`pool`, each window at the scale that shows it nearest the size of pre-training (FAST-17)."""
        chosen = torch.stack(
            [
                closest_scale(own, tuple(image.shape[-2:]), self.settings.scales, self.settings.side)
                for image, own in zip(images, boxes, strict=True)
            ]
        ).flatten()  # (B P,)
        parts = []
        for scale, preprocess in enumerate(self.preprocess):
            batch = preprocess(images)
            rois = _rois(batch.to_input(boxes))[chosen == scale]
            parts.append(roi_pool(self.convs(batch.tensor), rois, self.output_size, 1 / self.stride))
        return torch.cat(parts)[chosen.argsort(stable=True).argsort()]

    def head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (R, C, n, n) to class scores before the softmax (R, K+1) and offsets (R, K, 4)."""
        hidden = self.fc7(self.fc6(pooled.flatten(1)))
        return self.score(hidden), self.offsets(hidden).unflatten(1, (-1, 4))

    def losses(self, scores: Tensor, offsets: Tensor, samples: Samples) -> dict[str, Tensor]:
        """The multi-task loss, divided by the number of windows that were drawn (FAST-07)."""
        boxes, labels, truths = (each.flatten(0, 1) for each in samples)
        targets = (encode(truths, boxes) - self.target_mean) / self.target_std
        losses = multi_task_loss(scores, offsets, labels, targets, beta=self.settings.beta)
        return {"class": losses["class"], "box": self.settings.box_weight * losses["box"]}

    def decode(self, offsets: Tensor, boxes: Tensor) -> Tensor:
        """The box that each class makes of each window: (R, K, 4) and (R, 4) to (R, K, 4)."""
        return decode(offsets * self.target_std + self.target_mean, boxes[:, None])

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """The losses of a mini-batch in training mode, else detections.

        Args:
            images: (3, H, W) each, RGB in [0, 1].
            targets: `boxes`, `labels`, and `proposals` where none are given apart.
            proposals: (M_i, 4) for each image, pixels. They are clipped to the image; those left without area are
                not used. An image without any gives no detection.
        Returns:
            `class` and `box`, scalars; or per image `boxes` (D, 4), `labels` (D,) and `scores` (D,), best first.
        Raises:
            ValueError: no targets in training mode, not as many proposals as images, or an image that is too small.
        """
        if self.training and targets is None:
            raise ValueError("targets: expected one dict per image in training mode, got none")
        if self.training:
            targets = [check_target(target, f"targets[{i}]", self.classes) for i, target in enumerate(targets)]
        if proposals is None and targets is not None and all("proposals" in target for target in targets):
            proposals = [target["proposals"] for target in targets]
        if proposals is None or len(proposals) != len(images):
            found = "none" if proposals is None else len(proposals)
            raise ValueError(f"proposals: expected one tensor for each of {len(images)} images, got {found}")
        if self.training:
            samples = self.sample(images, targets, proposals)
            scale = int(torch.randint(len(self.preprocess), (), generator=self.generator))
            return self.losses(*self.head(self.pool(images, samples.boxes, scale)), samples)
        return self.detect(images, proposals)

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor], proposals: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Detections of images with their proposals."""
        sizes, counts = _sizes(images), [len(each) for each in proposals]
        boxes, good = usable(nn.utils.rnn.pad_sequence(list(proposals), batch_first=True), sizes)
        there = torch.arange(boxes.shape[1], device=boxes.device) < torch.tensor(counts, device=boxes.device)[:, None]
        pooled = self.pool(images, boxes) if len(self.preprocess) == 1 else self.pool_pyramid(images, boxes)
        scores, offsets = self.head(pooled)
        scores = scores.softmax(dim=1)[:, 1:] * (good & there).flatten()[:, None]  # (R, K)
        decoded = self.decode(offsets, boxes.flatten(0, 1))
        image = torch.arange(len(boxes), device=boxes.device).repeat_interleave(boxes.shape[1])
        settings = self.settings
        return select(
            scores, decoded, image, sizes, settings.nms_threshold, settings.least_score, settings.detections
        )  # fmt: skip


def _sizes(images: Sequence[Tensor]) -> Tensor:
    """(B, 2) height and width of each image."""
    return torch.tensor([image.shape[-2:] for image in images], device=images[0].device)


def _rois(boxes: Tensor) -> Tensor:
    """(B, P, 4) to (B P, 5), the index of the image first."""
    index = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)[:, None, None].expand(
        -1, boxes.shape[1], 1
    )
    return torch.cat((index, boxes), dim=2).flatten(0, 1)
