"""The windows that R-CNN and SPPnet learn from: what each is an example of, at every stage, and its features.

The network is fine-tuned on mini-batches of windows and does not change any more afterwards. So the SVMs, the
regression, the choice of the NMS threshold and the evaluation all read the same features, which are kept on disk.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from rcnn_tutorial.cache import FeatureCache, fingerprint, in_half
from rcnn_tutorial.data.targets import check_target, trained_on
from rcnn_tutorial.data.wrappers import check_classes, length, target_of
from rcnn_tutorial.engine.checks import expect
from rcnn_tutorial.ops.assign import BACKGROUND, FOREGROUND, match
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.ops.nms import batched_nms


class Windows(NamedTuple):
    """The windows of one image: its N true boxes, then its proposals; M in all."""

    boxes: Tensor  # (M, 4) pixels
    truths: Tensor  # (N, 4) pixels; difficult and crowd objects left out
    labels: Tensor  # (N,) int64
    pool5: Tensor  # (M, P)
    fc7: Tensor  # (M, H), without the SVMs' scale
    size: tuple[int, int]  # height and width of the image


def windows(target: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """List the boxes that R-CNN trains on: an image's true boxes and its proposals.

    Returns:
        boxes (M, 4), truths first, then proposals; the truths (N, 4) and their labels (N,); difficult ones left out.
    """
    target = trained_on(target)
    return torch.cat((target["boxes"], target["proposals"])), target["boxes"], target["labels"]


class WindowBatches(Dataset):
    """The mini-batches of the fine-tuning: item i is one mini-batch of windows, drawn from (seed, i).

    Windows are drawn evenly from those of all images; positives are pooled over the classes. Half of the crops are
    mirrored.

    Attributes:
        image, box, label: (W,), (W, 4) and (W,) of all windows of all images; label -1 is in no mini-batch.
    Source: R-CNN, section 2.3.
    """

    def __init__(self, model: Any, dataset: Dataset):
        self.model, self.dataset, self.classes = model, dataset, model.classes
        background, parts = (model.settings.background_from, model.settings.background), []
        check_classes(model, dataset)
        for index in range(length(dataset)):
            boxes, truths, truth_labels = windows(target_of(dataset, index, model.classes))
            truth, label = match(box_iou(boxes, truths), model.settings.foreground, background)
            positive = label == FOREGROUND
            label[positive] = truth_labels[truth[positive]]
            parts.append((torch.full((len(boxes),), index), boxes, label))
        self.image, self.box, self.label = (torch.cat(column) for column in zip(*parts, strict=True))
        self.positive, self.negative = (mask.nonzero()[:, 0] for mask in (self.label > 0, self.label == 0))
        counts = f"{len(self.positive)} positive and {len(self.negative)} background"
        expect(len(self.positive) > 0 and len(self.negative) > 0, "dataset", "windows of both kinds", counts)

    def __len__(self) -> int:
        return self.model.settings.fine_tuning.steps

    def draw(self, index: int) -> tuple[Tensor, Tensor]:
        """Draw mini-batch `index`: windows, (128,) int64 into `box` and `label`, and which to mirror, (128,) bool."""
        settings = self.model.settings
        generator = torch.Generator().manual_seed(settings.fine_tuning.seed * 1_000_003 + index)
        positive = self.positive[torch.randint(len(self.positive), (settings.positives,), generator=generator)]
        negative = self.negative[torch.randint(len(self.negative), (settings.negatives,), generator=generator)]
        drawn = torch.cat((positive, negative))
        return drawn[self.image[drawn].argsort(stable=True)], torch.rand(len(drawn), generator=generator) < 0.5

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Give the crops of a mini-batch and their labels, 0 for the background."""
        drawn, mirrored = self.draw(index)
        device, crops = self.model.mean.device, []
        for image in self.image[drawn].unique().tolist():
            boxes = self.box[drawn[self.image[drawn] == image]]
            crops.append(self.model.crops(self.dataset[image][0].to(device), boxes.to(device)))
        crops = torch.cat(crops)
        return torch.where(mirrored.to(device)[:, None, None, None], crops.flip(-1), crops), self.label[drawn]


class FineTuning(nn.Module):
    """Shows `train` the network as it wants it: mini-batches of crops and their labels to a dict of one loss."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, batches: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        """Compute the log loss of the mini-batches."""
        return {"log loss": F.cross_entropy(self.net(torch.cat(batches)), torch.cat(labels))}


def near(boxes: Tensor, truths: Tensor, iou: float) -> tuple[Tensor, Tensor]:
    """Find the boxes that overlap an object by `iou` or more, and the object that each overlaps most; both indices."""
    truth, state = match(box_iou(boxes, truths), iou, (0.0, 0.0))
    index = (state == FOREGROUND).nonzero()[:, 0]
    return index, truth[index]


def svm_positives(item: Windows, foreground: float) -> tuple[Tensor, Tensor]:
    """Pick what the SVMs take as examples: fc7 features (P, H) and labels (P,).

    Args:
        item: the windows of an image.
        foreground: at 1 the true boxes alone, as in the paper; below, every window of so much IoU.
    Source: R-CNN, section 2.3 and appendix B.
    """
    if foreground >= 1:
        return item.fc7[: len(item.truths)], item.labels
    index, truth = near(item.boxes, item.truths, foreground)
    return item.fc7[index], item.labels[truth]


def svm_negatives(boxes: Tensor, truths: Tensor, labels: Tensor, model: Any) -> Tensor:
    """Pick each class's negatives, (M, K) bool: boxes (M, 4) whose IoU with all its objects stays below the bound.

    Where the settings say so, of two such boxes that nearly coincide one is left out.

    Source: R-CNN, section 2.3; for the boxes that coincide SPPnet, section 4.1.
    """
    iou, settings = box_iou(boxes, truths), model.settings
    bounds = 0.0, settings.svm_background
    columns = [match(iou[:, labels == k], 1.0, bounds).state == BACKGROUND for k in range(1, len(model.classes))]
    negative = torch.stack(columns, dim=1)
    if settings.svm_overlap < 1:
        window, label = negative.nonzero(as_tuple=True)
        kept = batched_nms(boxes[window], torch.zeros_like(boxes[window, 0]), label, settings.svm_overlap)
        negative = torch.zeros_like(negative)
        negative[window[kept], label[kept]] = True
    return negative


class WindowFeatures(Dataset):
    """The windows of a data set with their features, image by image, on the model's device.

    Args:
        model: fine-tuned.
        dataset: of (image, target) with `target["proposals"]` (M, 4).
        cache: keeps the features, in half precision, 2 (P + H) bytes per window; without one each reading computes
            them anew.
    """

    def __init__(self, model: Any, dataset: Dataset, cache: FeatureCache | None = None):
        self.model, self.dataset, self.cache = model, dataset, cache
        check_classes(model, dataset)
        self._convs, self._head = model.pooled_key(), fingerprint((model.net.fc6, model.net.fc7))

    def __len__(self) -> int:
        return length(self.dataset)

    def __iter__(self) -> Iterator[Windows]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Windows:
        image, boxes, truths, labels = self._windows(index)
        pool5, key = self._pooled(image, boxes)
        boxes, truths, labels = (part.to(pool5.device, non_blocking=True) for part in (boxes, truths, labels))
        with torch.no_grad():
            fc7 = in_half(self.cache, (key, self._head), lambda: self.model.net.hidden(pool5), boxes.device)
        return Windows(boxes, truths, labels, pool5, fc7, (image.shape[1], image.shape[2]))

    def pooled(self, index: int) -> Tensor:
        """Give pool5 (M, P) of an image's windows, without computing fc7."""
        return self._pooled(*self._windows(index)[:2])[0]

    def negatives(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Give what the SVMs are mined from, image by image: scaled fc7 (M, H), and `svm_negatives` (M, K)."""
        for item in self:
            yield item.fc7 * self.model.scale, svm_negatives(item.boxes, item.truths, item.labels, self.model)

    def _windows(self, index: int) -> tuple[Tensor, ...]:
        image, target = self.dataset[index]
        target = check_target(target, f"dataset[{index}]", self.model.classes, area=False)
        return image, *windows(target)

    def _pooled(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, str | None]:
        """Features on the model's device, of a picture and boxes that lie where the data set gives them."""
        device = self.model.mean.device
        key = self.cache and fingerprint((self._convs, image, boxes))
        return in_half(self.cache, key, lambda: self.model.pooled(image.to(device), boxes.to(device)), device), key
