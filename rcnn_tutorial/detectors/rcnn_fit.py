"""Training R-CNN: four stages, three objectives, one after the other (RCNN-15).

1. Fine-tune the network: log loss over N + 1 classes, on warped proposals.
2. One linear SVM per class: hinge loss, on fc7 features of the fine-tuned network, which does not change any more.
3. One ridge regression per class: squared loss, on its pool5 features.
4. The threshold of NMS: by average precision on validation data.
"""

import math
import warnings
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.data.wrappers import check_classes, target_of
from rcnn_tutorial.detectors.rcnn import RCNN
from rcnn_tutorial.detectors.rcnn_features import WindowFeatures, Windows, scored, windows
from rcnn_tutorial.evaluation import voc_ap
from rcnn_tutorial.linear import feature_scale, fit_ridge
from rcnn_tutorial.mining import Pass, mining_passes
from rcnn_tutorial.ops.assign import BACKGROUND, FOREGROUND, match
from rcnn_tutorial.ops.boxes import box_iou, encode
from rcnn_tutorial.ops.nms import batched_nms
from rcnn_tutorial.training import History, train


def fit(
    model: RCNN,
    dataset: Dataset,
    validation: Dataset | None = None,
    cache: FeatureCache | None = None,
    **options,
) -> tuple[History, list[Pass]]:
    """All four stages.

    Args:
        model: its network pre-trained, its classifier new.
        dataset: of (image, target) with `target["proposals"]` (M, 4).
        validation: another such data set, for the NMS threshold; without it 0.3 stays.
        cache: for the features; without one every stage computes them anew.
        options: `progress`, `on_log`, `folder` of `train`, for the fine-tuning.
    Returns:
        The record of the fine-tuning, and what each pass of the mining found.
    """
    history = fine_tune(model, dataset, **options)
    return history, fit_on_features(model, dataset, validation, cache)


def fit_on_features(
    model: RCNN, dataset: Dataset, validation: Dataset | None = None, cache: FeatureCache | None = None
) -> list[Pass]:
    """Stages 2 to 4, which read nothing but the features of the windows.

    Args:
        model, dataset, validation, cache: as `fit` takes them; the network is fine-tuned.
    Returns:
        What each pass of the mining found.
    """
    features = WindowFeatures(model, dataset, cache)
    passes = fit_svms(features)
    fit_regression(features)
    if validation is not None:
        choose_nms_threshold(WindowFeatures(model, validation, cache))
    return passes


class WindowBatches(Dataset):
    """The mini-batches of the fine-tuning: item i is one mini-batch of windows, drawn from (seed, i).

    Windows are drawn evenly from those of all images; positives are pooled over the classes (RCNN-09). Half of the
    crops are mirrored.

    Attributes:
        image, box, label: (W,), (W, 4) and (W,) of all windows of all images; label -1 is in no mini-batch.
    """

    def __init__(self, model: RCNN, dataset: Dataset):
        self.model, self.dataset = model, dataset
        self.classes = model.classes
        settings = model.settings
        background = (settings.background_from, settings.background)
        parts, classes = [], check_classes(model, dataset)
        for index in range(len(dataset)):
            boxes, truths, labels = windows(target_of(dataset, index, classes))
            matches = match(box_iou(boxes, truths), settings.foreground, background)
            label = matches.state.long()
            positive = matches.state == FOREGROUND
            label[positive] = labels[matches.truth[positive]]
            parts.append((torch.full((len(boxes),), index), boxes, label))
        self.image, self.box, self.label = (torch.cat(column) for column in zip(*parts, strict=True))
        self.positive, self.negative = (mask.nonzero()[:, 0] for mask in (self.label > 0, self.label == 0))
        if not len(self.positive) or not len(self.negative):
            raise ValueError(f"dataset: {len(self.positive)} positive and {len(self.negative)} background windows, "
                             "expected both")  # fmt: skip

    def __len__(self) -> int:
        return self.model.settings.fine_tuning.steps

    def draw(self, index: int) -> tuple[Tensor, Tensor]:
        """The windows of mini-batch `index`, (128,) int64 into `box` and `label`, and which to mirror, (128,) bool."""
        settings = self.model.settings
        generator = torch.Generator().manual_seed(settings.fine_tuning.seed * 1_000_003 + index)
        drawn = torch.cat(
            [
                some[torch.randint(len(some), (count,), generator=generator)]
                for some, count in ((self.positive, settings.positives), (self.negative, settings.negatives))
            ]
        )
        return drawn[self.image[drawn].argsort(stable=True)], torch.rand(len(drawn), generator=generator) < 0.5

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """The crops of a mini-batch and their labels, 0 for the background."""
        drawn, mirrored = self.draw(index)
        device = self.model.mean.device
        crops = [
            self.model.crops(self.dataset[image][0].to(device), self.box[drawn[self.image[drawn] == image]].to(device))
            for image in self.image[drawn].unique().tolist()
        ]
        crops = torch.cat(crops)
        crops = torch.where(mirrored.to(device)[:, None, None, None], crops.flip(-1), crops)
        return crops, self.label[drawn]


class FineTuning(nn.Module):
    """The network as `train` wants it: mini-batches of crops and their labels to a dict of one loss."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, batches: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        """Log loss of the mini-batches."""
        return {"log loss": F.cross_entropy(self.net(torch.cat(batches)), torch.cat(labels))}


def fine_tune(model: RCNN, dataset: Dataset, **options) -> History:
    """Stage 1: every layer of the network, on windows labelled by IoU >= 0.5.

    Source: R-CNN, section 2.3 (RCNN-06, RCNN-08, RCNN-09).
    """
    history = train(FineTuning(model.net), WindowBatches(model, dataset), model.settings.fine_tuning, **options)
    model.eval()
    return history


class _Negatives:
    """Streams (fc7 features, which windows are negatives of which class) image by image; can be gone through again."""

    def __init__(self, features: WindowFeatures):
        self.features = features

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        model = self.features.model
        for item in self.features:
            yield item.fc7 * model.scale, svm_negatives(item.boxes, item.truths, item.labels, model)


def svm_positives(item: Windows, foreground: float) -> tuple[Tensor, Tensor]:
    """fc7 features (P, H) and labels (P,) of what the SVMs take as examples.

    Args:
        item: the windows of an image.
        foreground: at 1 the true boxes alone (RCNN-10); below, every window of so much IoU.
    """
    if foreground >= 1:
        return item.fc7[: len(item.truths)], item.labels
    matches = match(box_iou(item.boxes, item.truths), foreground, (0.0, 0.0))
    examples = matches.state == FOREGROUND
    return item.fc7[examples], item.labels[matches.truth[examples]]


def svm_negatives(boxes: Tensor, truths: Tensor, labels: Tensor, model: RCNN) -> Tensor:
    """(M, K) bool: boxes (M, 4) whose IoU with every object of the class stays below the bound (RCNN-11).

    Where the settings say so, of two such boxes that nearly coincide one is left out (SPP-17).
    """
    iou = box_iou(boxes, truths)
    columns = []
    for k in range(1, len(model.classes)):
        state = match(iou[:, labels == k], 1.0, (0.0, model.settings.svm_background)).state
        columns.append(state == BACKGROUND)
    negative = torch.stack(columns, dim=1)
    return negative if model.settings.svm_overlap >= 1 else _apart(boxes, negative, model.settings.svm_overlap)


def _apart(boxes: Tensor, negative: Tensor, overlap: float) -> Tensor:
    """The negatives (M, K) of which no two of a class overlap by more; the first of such stays (SPP-17)."""
    window, label = negative.nonzero(as_tuple=True)
    kept = batched_nms(boxes[window], torch.zeros_like(boxes[window, 0]), label, overlap)
    apart = torch.zeros_like(negative)
    apart[window[kept], label[kept]] = True
    return apart


def fit_svms(features: WindowFeatures) -> list[Pass]:
    """Stage 2: one SVM per class; positives are the true boxes alone, negatives are mined.

    Args:
        features: of the training data; sets the SVMs of `features.model`.
    Source: R-CNN, section 2.3 (RCNN-10, RCNN-11, RCNN-12).
    """
    return list(svm_passes(features))


def svm_passes(features: WindowFeatures) -> Iterator[Pass]:
    """`fit_svms`, one pass at a time: after each, `features.model` has the SVMs found so far."""
    model = features.model
    found = [svm_positives(item, model.settings.svm_foreground) for item in features]
    positives, labels = (torch.cat(column) for column in zip(*found, strict=True))
    model.scale.copy_(feature_scale(positives))
    passes = mining_passes(positives * model.scale, labels, _Negatives(features), model.settings.svm)
    for weight, bias, report in passes:
        model.svm_weight.copy_(weight)
        model.svm_bias.copy_(bias)
        yield report


def fit_regression(features: WindowFeatures) -> None:
    """Stage 3: one ridge regression per class, on proposals near an object of it.

    The features are scaled to a mean norm of 20, for which the penalty is meant; the weights take the scale back.

    Args:
        features: of the training data; sets the regression of `features.model`.
    Source: R-CNN, appendix C (RCNN-13).
    """
    model = features.model
    pairs: list[list[tuple[Tensor, Tensor]]] = [[] for _ in model.classes]
    for item in features:
        first = len(item.truths)
        matches = match(box_iou(item.boxes[first:], item.truths), model.settings.ridge_iou, (0.0, 0.0))
        near = (matches.state == FOREGROUND).nonzero()[:, 0]
        truth = matches.truth[near]
        offsets = encode(item.truths[truth], item.boxes[first + near])
        for k in item.labels[truth].unique().tolist():
            own = item.labels[truth] == k
            pairs[k].append((item.pool5[first + near[own]], offsets[own]))
    columns = {
        k: tuple(torch.cat(column) for column in zip(*found, strict=True)) for k, found in enumerate(pairs) if found
    }
    if not columns:
        return
    scale = feature_scale(torch.cat([pool5 for pool5, _ in columns.values()]))
    for k, (pool5, offsets) in columns.items():
        weight, bias = fit_ridge(pool5 * scale, offsets, model.settings.ridge_penalty)
        model.ridge_weight[k - 1].copy_(weight * scale)
        model.ridge_bias[k - 1].copy_(bias)


def choose_nms_threshold(features: WindowFeatures) -> dict[float, float]:
    """Stage 4: the threshold with the best mean average precision on validation data (RCNN-14).

    Args:
        features: of the validation data; sets the threshold of `features.model`.
    Returns:
        The mean average precision at each threshold; the best is set. Without objects to find it is NaN at all of them:
        then a warning says so, and the threshold stays as it was.
    """
    model, found = features.model, {}
    classes = check_classes(model, features.dataset)
    targets = [target_of(features.dataset, index, classes, area=False) for index in range(len(features))]
    images = scored(features)
    for threshold in model.settings.nms_thresholds:
        detections = [model.select(*image, nms_threshold=threshold) for image in images]
        found[threshold] = voc_ap(detections, targets, model.classes).map
    if math.isnan(next(iter(found.values()))):
        warnings.warn(
            f"validation: {len(targets)} images without an object to find; the threshold of NMS stays at "
            f"{model.nms_threshold.item():g}",
            stacklevel=2,
        )
    else:
        model.nms_threshold.fill_(max(found, key=found.get))
    return found
