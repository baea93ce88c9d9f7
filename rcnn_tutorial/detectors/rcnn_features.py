"""What R-CNN keeps on disk between its stages: the features of every window of a data set.

The network is fine-tuned by then and does not change any more, so the SVMs, the regression, the choice of the NMS
threshold and the evaluation all read the same numbers.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.cache import FeatureCache, fingerprint
from rcnn_tutorial.data.targets import check_target, trained_on
from rcnn_tutorial.data.wrappers import check_classes
from rcnn_tutorial.detectors.rcnn import RCNN


class Windows(NamedTuple):
    """The windows of one image: its N true boxes, then its proposals; M in all."""

    boxes: Tensor  # (M, 4) pixels
    truths: Tensor  # (N, 4) pixels; difficult and crowd objects left out
    labels: Tensor  # (N,) int64
    pool5: Tensor  # (M, P)
    fc7: Tensor  # (M, H), without the SVMs' scale
    size: tuple[int, int]  # height and width of the image


def windows(target: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The boxes that R-CNN trains on: an image's proposals and its true boxes.

    Returns:
        boxes (M, 4), truths first, then proposals; the truths (N, 4) and their labels (N,); difficult ones left out.
    """
    target = trained_on(target)
    return torch.cat((target["boxes"], target["proposals"])), target["boxes"], target["labels"]


class WindowFeatures(Dataset):
    """The windows of a data set with their features, image by image, on the model's device.

    Args:
        model: fine-tuned.
        dataset: of (image, target) with `target["proposals"]` (M, 4).
        cache: keeps the features, in half precision, 2 (P + H) bytes per window; without one each reading computes
            them anew.
    """

    def __init__(self, model: RCNN, dataset: Dataset, cache: FeatureCache | None = None):
        self.model, self.dataset, self.cache = model, dataset, cache
        check_classes(model, dataset)
        self._convs, self._head = model.pooled_key(), fingerprint((model.net.fc6, model.net.fc7))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Windows:
        image, boxes, truths, labels = self._windows(index)
        pool5, key = self._pooled(image, boxes)
        with torch.no_grad():
            fc7 = self._kept((key, self._head), lambda: self.model.net.hidden(pool5))
        return Windows(boxes, truths, labels, pool5, fc7, tuple(image.shape[-2:]))

    def pooled(self, index: int) -> Tensor:
        """pool5 (M, P) of an image's windows, without fc7."""
        return self._pooled(*self._windows(index)[:2])[0]

    def _windows(self, index: int) -> tuple[Tensor, ...]:
        image, target = self.dataset[index]
        target = check_target(target, f"dataset[{index}]", self.model.classes, area=False)
        return tuple(part.to(self.model.mean.device) for part in (image, *windows(target)))

    def _pooled(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, str | None]:
        key = self.cache and fingerprint((self._convs, image, boxes))
        return self._kept(key, lambda: self.model.pooled(image, boxes)), key

    def _kept(self, key: object, compute: Callable[[], Tensor]) -> Tensor:
        if self.cache is None:
            return compute()
        return self.cache.get(key, lambda: compute().half(), self.model.mean.device).float()

    def __iter__(self):
        return (self[index] for index in range(len(self)))


@torch.no_grad()
def scored(features: WindowFeatures, scores: str = "svm", regression: str = "before") -> list[tuple]:
    """What `RCNN.select` takes, for each image of a data set.

    Args:
        features: of the data set; `features.model` scores.
        scores: "svm", or "softmax" for those of the fine-tuned network itself.
        regression: "before" NMS, "after" it, or "none" (RCNN-01).
    Returns:
        Per image the scores (R, K), the boxes that NMS compares, the image's size, and the boxes to be returned.
    Raises:
        ValueError: another word than these.
    """
    for name, value, words in (
        ("scores", scores, ("svm", "softmax")),
        ("regression", regression, ("before", "after", "none")),
    ):
        if value not in words:
            raise ValueError(f"{name}: expected one of {words}, got {value!r}")
    model = features.model
    score = model.svm_scores if scores == "svm" else model.softmax_scores
    found = []
    for item in features:
        first = len(item.truths)
        raw = item.boxes[first:, None]  # (R, 1, 4)
        moved = raw if regression == "none" else model.refine(item.pool5[first:], item.boxes[first:])
        found.append((score(item.fc7[first:]), moved if regression == "before" else raw, item.size, moved))
    return found


def detect(features: WindowFeatures, scores: str = "svm", regression: str = "before") -> list[dict[str, Tensor]]:
    """Detections of a data set from its features, as the whole detector makes them or with a part left out.

    Args:
        features, scores, regression: as in `scored`.
    Returns:
        Per image `boxes` (D, 4), `labels` (D,) and `scores` (D,), on the CPU.
    """
    found = [features.model.select(*one) for one in scored(features, scores, regression)]
    return [{key: value.cpu() for key, value in one.items()} for one in found]
