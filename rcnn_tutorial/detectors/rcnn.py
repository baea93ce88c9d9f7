"""R-CNN: regions with CNN features (Girshick et al., CVPR 2014).

    image -> proposals -> one warped crop each -> convolutional network -> fc7 -> a linear SVM per class -> scores
                                                                       -> pool5 -> a ridge regression -> boxes
                                                                                   NMS per class -> detections

Nothing is shared between the crops of an image, and the parts are trained one after the other: see `rcnn_fit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnn_tutorial.cache import fingerprint
from rcnn_tutorial.data.checks import check_sides
from rcnn_tutorial.detectors.saving import Saved, describe
from rcnn_tutorial.detectors.select import select
from rcnn_tutorial.linear import SVMSettings
from rcnn_tutorial.nets.backbones import ConvNet
from rcnn_tutorial.ops.boxes import decode
from rcnn_tutorial.ops.warp import IMAGENET_MEAN, warp
from rcnn_tutorial.training import TrainSettings


@dataclass(frozen=True)
class RCNNSettings:
    """R-CNN's settings; the defaults are the paper's.

    Attributes:
        context: pixels around the box in the warped crop (RCNN-05).
        foreground: IoU from which a window is an example of its object in fine-tuning (RCNN-08).
        background: IoU below which a window is background in fine-tuning; the paper leaves no gap (RCNN-08).
        background_from: IoU from which it is, so that what is far from every object can be left out.
        positives, negatives: windows of each kind in a mini-batch (RCNN-09).
        fine_tuning: of the network; a step is one mini-batch of windows, so batch_size stays 1.
        svm_foreground: IoU from which a window is a positive of an SVM; at 1 the true boxes alone (RCNN-10).
        svm_background: IoU below which a window is a negative of an SVM (RCNN-11).
        svm_overlap: IoU above which one of two negatives of an image and class is left out; 1 keeps all.
        svm: cost, weights and mining (RCNN-12).
        ridge_iou: IoU above which a proposal teaches the regression (RCNN-13).
        ridge_penalty: of the regression (RCNN-13).
        nms_thresholds: tried on validation data; the best is kept (RCNN-14).
        least_score: detections below it are not returned.
        detections: most boxes returned per image.
        chunk: crops in the network at a time.
    """

    context: float = 16
    foreground: float = 0.5
    background: float = 0.5
    background_from: float = 0.0
    positives: int = 32
    negatives: int = 96
    fine_tuning: TrainSettings = TrainSettings(70_000, batch_size=1, lr=1e-3, weight_decay=5e-4, milestones=(20_000,))
    svm_foreground: float = 1.0
    svm_background: float = 0.3
    svm_overlap: float = 1.0
    svm: SVMSettings = SVMSettings()
    ridge_iou: float = 0.6
    ridge_penalty: float = 1000.0
    nms_thresholds: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    least_score: float = -1.5
    detections: int = 100
    chunk: int = 256

    @classmethod
    def tiny(cls, steps: int = 300, **changes) -> "RCNNSettings":
        """The laptop's: crops of 64 pixels, a short fine-tuning, and SVMs that weigh their few positives more."""
        fine_tuning = TrainSettings(steps, batch_size=1, lr=0.03, schedule="cosine", warmup=steps // 10, clip_norm=10.0)
        own = {"context": 16 * 64 / 227, "fine_tuning": fine_tuning, "svm": SVMSettings(positive_weight=20)}
        return cls(**(own | changes))


class RCNN(Saved, nn.Module):
    """The detector. Train it with `rcnn_fit.fit`; then `model(images, proposals=...)` detects.

    Args:
        net: pre-trained; its classifier has one output per class, background included.
        classes: names, background first.
        settings: of the detector.
        mean: RGB in [0, 1], subtracted from the pixels and put where a crop leaves the image.
    """

    name = "rcnn"

    def __init__(
        self,
        net: ConvNet,
        classes: Sequence[str],
        settings: RCNNSettings | None = None,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
    ):
        super().__init__()
        if net.classifier.out_features != len(classes):
            raise ValueError(f"net: expected {len(classes)} outputs, one per class, got {net.classifier.out_features}")
        self.net, self.classes, self.settings = net, tuple(classes), settings or RCNNSettings()
        self.network = describe(net)
        k, hidden = len(classes) - 1, net.classifier.in_features
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("scale", torch.tensor(1.0))  # of the fc7 features that the SVMs read
        self.register_buffer("svm_weight", torch.zeros(k, hidden))
        self.register_buffer("svm_bias", torch.zeros(k))
        self.register_buffer("ridge_weight", torch.zeros(k, 4, net.pool5_length))
        self.register_buffer("ridge_bias", torch.zeros(k, 4))
        self.register_buffer("nms_threshold", torch.tensor(0.3))

    def crops(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Windows of an image as the network wants them: (R, 4) to (R, 3, size, size), mean subtracted."""
        warped = warp(image, boxes, self.net.size, self.settings.context, self.mean)
        return warped - self.mean[:, None, None]

    @torch.no_grad()
    def pooled(self, image: Tensor, boxes: Tensor) -> Tensor:
        """pool5 features of every box, each from a crop of its own: (R, 4) to (R, P)."""
        pool5 = [self.net.pool5(self.crops(image, part)) for part in boxes.split(self.settings.chunk)]
        return torch.cat(pool5) if pool5 else self.ridge_weight.new_zeros(0, self.net.pool5_length)

    def pooled_key(self) -> str:
        """A hash of all that `pooled` depends on besides the image and the boxes."""
        return fingerprint((self.net.convs, self.net.layers, self.net.size, self.mean, self.settings.context))

    @torch.no_grad()
    def features(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """pool5 (R, P) and fc7 (R, H) of every box (R, 4); fc7 as it comes, without the SVMs' scale."""
        pool5 = self.pooled(image, boxes)
        return pool5, self.net.hidden(pool5)

    def svm_scores(self, fc7: Tensor) -> Tensor:
        """Distance from each class's margin: (R, H) to (R, K)."""
        return F.linear(fc7 * self.scale, self.svm_weight, self.svm_bias)

    def softmax_scores(self, fc7: Tensor) -> Tensor:
        """Probabilities of the fine-tuned network itself, background left out: (R, H) to (R, K)."""
        return self.net.classifier(fc7).softmax(dim=1)[:, 1:]

    def refine(self, pool5: Tensor, boxes: Tensor) -> Tensor:
        """The box that each class's regression makes of each proposal: (R, P) and (R, 4) to (R, K, 4)."""
        offsets = torch.einsum("rp,kop->rko", pool5, self.ridge_weight) + self.ridge_bias
        return decode(offsets, boxes[:, None])

    def select(
        self,
        scores: Tensor,
        boxes: Tensor,
        size: tuple[int, int],
        shown: Tensor | None = None,
        nms_threshold: float | None = None,
    ) -> dict[str, Tensor]:
        """Clip, NMS within each class, and the best that remain.

        Args:
            scores: (R, K).
            boxes: (R, K, 4), or (R, 1, 4) where all classes share a box.
            size: height and width of the image.
            shown: boxes of the same form, to be returned in place of those that NMS compares.
            nms_threshold: in place of the model's own.
        Returns:
            `boxes` (D, 4), `labels` (D,) and `scores` (D,), best first.
        """
        settings = self.settings
        threshold = float(self.nms_threshold) if nms_threshold is None else nms_threshold
        detection = select(
            scores, boxes, size, threshold, settings.least_score, settings.detections, shown
        )  # fmt: skip
        return {name: detection[name] for name in ("boxes", "labels", "scores")}

    def forward(
        self, images: list[Tensor], targets: list[dict] | None = None, proposals: list[Tensor] | None = None
    ) -> list[dict[str, Tensor]]:
        """Detect.

        Args:
            images: (3, H, W) each, RGB in [0, 1].
            targets: not used; part of every detector's interface.
            proposals: (R_i, 4) for each image, pixels.
        Returns:
            Per image `boxes` (D, 4), `labels` (D,) and `scores` (D,), the SVMs': above 0 means the class.
        Raises:
            RuntimeError: in training mode; the parts are trained one after the other, by `fit`.
            ValueError: not as many proposals as images, or an image of less than 8 pixels on a side.
        """
        if self.training:
            raise RuntimeError("R-CNN has no joint loss: train it with fit(), and call eval() before detecting")
        if proposals is None or len(proposals) != len(images):
            found = "none" if proposals is None else len(proposals)
            raise ValueError(f"proposals: expected one tensor for each of {len(images)} images, got {found}")
        check_sides(images)
        return [
            self.select(*self.score(image, boxes), image.shape[-2:])
            for image, boxes in zip(images, proposals, strict=True)
        ]

    @torch.no_grad()
    def score(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Every proposal (R, 4) of an image under every class: scores (R, K) and refined boxes (R, K, 4)."""
        pool5, fc7 = self.features(image, boxes)
        return self.svm_scores(fc7), self.refine(pool5, boxes)
