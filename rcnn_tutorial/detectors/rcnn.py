"""R-CNN: regions with CNN features (Girshick et al., CVPR 2014).

    image -> proposals -> one warped crop each -> convolutional network -> fc7 -> a linear SVM per class -> scores
                                                                       -> pool5 -> a ridge regression -> boxes
                                                                                   NMS per class -> detections

The paper showed that features learned by classifying whole images also detect: take about 2,000 proposals, warp each
to the network's input, and train classical machines on what comes out. Nothing is shared between the crops of an
image, and the parts are trained one after the other by objectives of their own: log loss for the network, hinge loss
for the SVMs, squared loss for the boxes. `fit` below tells the four stages in this order; which windows each of them
learns from is in `rcnn_windows.py`, the SVM, its hard negatives and the ridge regression are in `svm.py`.

Otherwise here: the SVMs are solved to their optimum, where liblinear stops at a tolerance; features are kept in half
precision; the NMS threshold is chosen on validation data (the paper calls it learned, its code has 0.3); and the
laptop's network is small and reads crops of 64 pixels, whose context shrinks with them (16 of 227 are 4.5 of 64).

What costs accuracy when it is wrong: the scale of the features, which decides what the SVMs' C and the ridge's penalty
mean; positives of the SVMs at IoU 0.5, as in fine-tuning, for then a loose window scores as high as the object and the
wrong one wins; and the code's C for positives, too small where a class has few of them.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from rcnn_tutorial.cache import FeatureCache, fingerprint
from rcnn_tutorial.data.wrappers import target_of
from rcnn_tutorial.detectors.rcnn_windows import FineTuning, WindowBatches, WindowFeatures, near, svm_positives
from rcnn_tutorial.detectors.select import select
from rcnn_tutorial.detectors.svm import Pass, SVMSettings, feature_scale, fit_ridge, mining_passes
from rcnn_tutorial.engine.checks import check_sides, checked_classes, checked_proposals, expect
from rcnn_tutorial.evaluation import voc_ap
from rcnn_tutorial.nets.backbones import ConvNet
from rcnn_tutorial.ops.boxes import decode, encode
from rcnn_tutorial.ops.warp import IMAGENET_MEAN, warp
from rcnn_tutorial.saving import Saved, describe
from rcnn_tutorial.training import History, TrainSettings, train

RGB = tuple[float, float, float]


MOST_PIXELS = 2**20  # of the crops in the network at a time: with VGG16 they take 0.8 GiB


@dataclass(frozen=True)
class RCNNSettings:
    """R-CNN's settings; the defaults are the paper's."""

    context: float = 16  # pixels around the box in the warped crop (section 2.1)
    foreground: float = 0.5  # IoU from which a window is an example of its object in fine-tuning (section 2.3)
    background: float = 0.5  # IoU below which it is background there; the paper leaves no gap (section 2.3)
    background_from: float = 0.0  # IoU from which it is, so that what is far from every object can be left out
    positives: int = 32  # windows of each kind in a mini-batch (section 2.3)
    negatives: int = 96
    fine_tuning: TrainSettings = TrainSettings(70_000, batch_size=1, lr=1e-3, weight_decay=5e-4, milestones=(20_000,))
    svm_foreground: float = 1.0  # IoU from which a window is a positive of an SVM; at 1 the true boxes alone (2.3)
    svm_background: float = 0.3  # IoU below which a window is a negative of an SVM (section 2.3)
    svm_overlap: float = 1.0  # IoU above which one of two negatives of an image and class is left out; 1 keeps all
    svm: SVMSettings = SVMSettings()  # cost, weights and mining (section 2.3)
    ridge_iou: float = 0.6  # IoU from which a proposal teaches the regression (appendix C)
    ridge_penalty: float = 1000.0  # of the regression (appendix C)
    nms_thresholds: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # tried on validation data (section 2.2)
    least_score: float = -1.5  # detections below it are not returned
    detections: int = 100  # most boxes returned per image
    chunk: int = 256  # crops in the network at a time, fewer of large ones

    @classmethod
    def tiny(cls, steps: int = 300, **changes) -> Self:
        """The laptop's: crops of 64 pixels, a short fine-tuning, and SVMs that weigh their few positives more."""
        fine_tuning = TrainSettings(steps, batch_size=1, lr=0.03, schedule="cosine", warmup=steps // 10, clip_norm=10.0)
        laptop = {"context": 16 * 64 / 227, "fine_tuning": fine_tuning, "svm": SVMSettings(positive_weight=20)}
        return cls(**(laptop | changes))


class RCNN(Saved, nn.Module):
    """Detects by scoring a crop of each proposal: `fit` trains it, then `model(images, proposals=...)` detects.

    Args:
        net: pre-trained; its classifier has one output per class, background included.
        classes: names, background first.
        settings: of the detector.
        mean: RGB in [0, 1], subtracted from the pixels and put where a crop leaves the image.
    """

    name = "rcnn"

    def __init__(
        self, net: ConvNet, classes: Sequence[str], settings: RCNNSettings | None = None, mean: RGB = IMAGENET_MEAN
    ):
        super().__init__()
        outputs = net.classifier.out_features
        expect(outputs == len(classes), "net", f"{len(classes)} outputs, one per class", outputs)
        self.net, self.classes, self.settings = net, checked_classes(classes), settings or RCNNSettings()
        self.network = describe(net)
        k, hidden = len(classes) - 1, net.classifier.in_features
        self.mean = nn.Buffer(torch.tensor(mean))
        self.scale = nn.Buffer(torch.tensor(1.0))  # of the fc7 features that the SVMs read
        self.svm_weight = nn.Buffer(torch.zeros(k, hidden))  # (K, H)
        self.svm_bias = nn.Buffer(torch.zeros(k))
        self.ridge_weight = nn.Buffer(torch.zeros(k, 4, net.pool5_length))  # (K, 4, P)
        self.ridge_bias = nn.Buffer(torch.zeros(k, 4))
        self.nms_threshold = nn.Buffer(torch.tensor(0.3))

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
        pairs = zip(images, checked_proposals(proposals, images), strict=True)
        check_sides(images)
        return [self.select(*self.score(image, boxes), (image.shape[1], image.shape[2])) for image, boxes in pairs]

    def score(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Score every proposal (R, 4) of an image under every class, (R, K), and refine its box, (R, K, 4)."""
        pool5, fc7 = self.features(image, boxes)
        return self.svm_scores(fc7), self.refine(pool5, boxes)

    def crops(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Cut the windows out of an image as the network wants them: (R, 4) to (R, 3, size, size), mean subtracted."""
        return warp(image, boxes, self.net.size, self.settings.context, self.mean) - self.mean[:, None, None]

    @torch.no_grad()
    def pooled(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Compute the pool5 features of every box, each from a crop of its own: (R, 4) to (R, P)."""
        parts = boxes.split(max(1, min(self.settings.chunk, MOST_PIXELS // self.net.size**2)))
        return torch.cat([self.net.pool5(self.crops(image, part)) for part in parts])

    def pooled_key(self) -> str:
        """Hash all that `pooled` depends on besides the image and the boxes."""
        return fingerprint((self.net.convs, self.net.layers, self.net.size, self.mean, self.settings.context))

    @torch.no_grad()
    def features(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Compute pool5 (R, P) and fc7 (R, H) of every box (R, 4); fc7 as it comes, without the SVMs' scale."""
        pool5 = self.pooled(image, boxes)
        return pool5, self.net.hidden(pool5)

    def svm_scores(self, fc7: Tensor) -> Tensor:
        """Score fc7 features by each class's SVM, above 0 where it says yes: (R, H) to (R, K)."""
        return F.linear(fc7 * self.scale, self.svm_weight, self.svm_bias)

    def refine(self, pool5: Tensor, boxes: Tensor) -> Tensor:
        """Move each proposal as each class's regression says: (R, P) and (R, 4) to (R, K, 4)."""
        offsets = torch.einsum("rp,kop->rko", pool5, self.ridge_weight) + self.ridge_bias
        return decode(offsets, boxes[:, None])

    def select(
        self, scores: Tensor, boxes: Tensor, size: tuple[int, int], nms_threshold: float | None = None
    ) -> dict[str, Tensor]:
        """Clip, suppress within each class and keep the best as `select` does, at the model's threshold or another."""
        threshold = float(self.nms_threshold) if nms_threshold is None else nms_threshold
        limits = threshold, self.settings.least_score, self.settings.detections
        return select([scores], [boxes], [size], *limits)[0]

    def fit(
        self, dataset: Dataset, validation: Dataset | None = None, cache: FeatureCache | None = None, **options
    ) -> tuple[History, list[Pass]]:
        """Train all four stages.

        Args:
            dataset: of (image, target) with `target["proposals"]` (M, 4).
            validation: another such data set, for the NMS threshold; without it 0.3 stays.
            cache: for the features; without one every stage computes them anew.
            options: `progress`, `on_log`, `folder` of `train`, for the fine-tuning.
        Returns:
            The record of the fine-tuning, and what each pass of the mining found.
        """
        history = self.fine_tune(dataset, cache, **options)
        return history, self.fit_on_features(dataset, validation, cache)

    def fine_tune(self, dataset: Dataset, cache: FeatureCache | None = None, **options) -> History:
        """Stage 1: train what `tuned` gives, on windows labelled by their IoU. Arguments as in `fit`."""
        layers, batches = self.tuned(dataset, cache)
        history = train(FineTuning(layers), batches, self.settings.fine_tuning, **options)
        self.eval()
        return history

    def tuned(self, dataset: Dataset, cache: FeatureCache | None) -> tuple[nn.Module, WindowBatches]:
        """Give the layers that the fine-tuning trains, and its mini-batches: here every layer, and crops."""
        return self.net, WindowBatches(self, dataset)

    def fit_on_features(
        self, dataset: Dataset, validation: Dataset | None = None, cache: FeatureCache | None = None
    ) -> list[Pass]:
        """Train stages 2 to 4, which read nothing but the features of the windows. Arguments and passes as in `fit`."""
        passes = self.fit_svms(dataset, cache)
        self.fit_regression(dataset, cache)
        if validation is not None:
            self.choose_nms_threshold(validation, cache)
        return passes

    def fit_svms(
        self, dataset: Dataset, cache: FeatureCache | None = None, on_pass: Callable[[Pass], object] | None = None
    ) -> list[Pass]:
        """Stage 2: train one SVM per class; positives are the true boxes alone, negatives are mined.

        After each pass the model has the SVMs found so far, and `on_pass` is called. Other arguments as in `fit`.
        """
        features, passes = WindowFeatures(self, dataset, cache), []
        positives = [svm_positives(item, self.settings.svm_foreground) for item in features]
        fc7, labels = (torch.cat(column) for column in zip(*positives, strict=True))
        self.scale.copy_(feature_scale(fc7))
        for weight, bias, found in mining_passes(fc7 * self.scale, labels, features.negatives, self.settings.svm):
            self.svm_weight.copy_(weight)
            self.svm_bias.copy_(bias)
            passes.append(found)
            if on_pass:
                on_pass(found)
        return passes

    def fit_regression(self, dataset: Dataset, cache: FeatureCache | None = None) -> None:
        """Stage 3: train one ridge regression per class, on proposals near an object of it. Arguments as in `fit`.

        Features scaled to a mean norm of 20 are what the penalty is meant for; the weights take the scale back.
        """
        parts = []
        for item in WindowFeatures(self, dataset, cache):
            proposals, pool5 = item.boxes[len(item.truths) :], item.pool5[len(item.truths) :]
            index, truth = near(proposals, item.truths, self.settings.ridge_iou)
            parts.append((item.labels[truth], pool5[index], encode(item.truths[truth], proposals[index])))
        labels, pool5, offsets = (torch.cat(column) for column in zip(*parts, strict=True))
        if not len(labels):
            return
        scale = feature_scale(pool5[labels.argsort(stable=True)])  # in any order, but for the last bit of the mean
        for k in labels.unique().tolist():
            rows = labels == k
            weight, bias = fit_ridge(pool5[rows] * scale, offsets[rows], self.settings.ridge_penalty)
            self.ridge_weight[k - 1].copy_(weight * scale)
            self.ridge_bias[k - 1].copy_(bias)

    def choose_nms_threshold(self, validation: Dataset, cache: FeatureCache | None = None) -> dict[float, float]:
        """Stage 4: set the threshold with the best mean average precision on validation data.

        Args:
            validation, cache: as in `fit`.
        Returns:
            The mean average precision at each threshold; NaN without objects, and then the threshold stays.
        """
        candidates, mean_ap = [], {}
        for item in WindowFeatures(self, validation, cache):
            proposals, pool5, fc7 = (part[len(item.truths) :] for part in (item.boxes, item.pool5, item.fc7))
            candidates.append((self.svm_scores(fc7), self.refine(pool5, proposals), item.size))
        targets = [target_of(validation, index, self.classes, area=False) for index in range(len(candidates))]
        for threshold in self.settings.nms_thresholds:
            detections = [self.select(scores, boxes, size, threshold) for scores, boxes, size in candidates]
            mean_ap[threshold] = voc_ap(detections, targets, self.classes).map
        best = max(mean_ap, key=mean_ap.__getitem__)
        if math.isnan(mean_ap[best]):
            stays = f"the threshold of NMS stays at {self.nms_threshold.item():g}"
            warnings.warn(f"validation: {len(targets)} images without an object to find; {stays}", stacklevel=2)
        else:
            self.nms_threshold.fill_(best)
        return mean_ap
