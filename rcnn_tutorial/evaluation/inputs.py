"""The boxes of all images in one table: checked, on the CPU, ready for one vectorised pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rcnn_tutorial.data.targets import check_target
from rcnn_tutorial.engine.checks import validate
from rcnn_tutorial.ops.boxes import box_iou


@dataclass(frozen=True)
class Boxes:
    """N boxes of a data set, in the order of its images.

    Attributes:
        image: (N,) int64, which image a box is in; ascending.
        boxes: (N, 4) float64, pixels. In float32 an overlap of 7 / 10 would lie below 0.7.
        labels: (N,) int64.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DetectedBoxes(Boxes):
    """The detections of a data set.

    Attributes:
        scores: (N,) float64.
    """

    scores: Tensor


@dataclass(frozen=True)
class TrueBoxes(Boxes):
    """The ground truth of a data set.

    Attributes:
        ignored: (N,) bool, difficult or crowd: a detection of such an object counts neither as right nor as wrong.
    """

    ignored: Tensor


def gather_detections(detections: Sequence[dict[str, Tensor]]) -> DetectedBoxes:
    """Put the detections of all images into one table.

    Args:
        detections: per image a dict of `boxes` (D, 4), `labels` (D,) and `scores` (D,).
    Raises:
        ValueError: a key missing, another shape, a box that is none, a score that is NaN.
    """
    for index, detected in enumerate(detections):
        missing = {"boxes", "labels", "scores"} - detected.keys()
        if missing:
            raise ValueError(f"detections[{index}]: expected the keys {sorted(missing)}, got {sorted(detected)}")
        if detected["boxes"].ndim != 2 or detected["boxes"].shape[1] != 4:
            raise ValueError(f"detections[{index}]['boxes']: expected (N, 4), got {tuple(detected['boxes'].shape)}")
        rows = detected["boxes"].shape[:1]
        for key in ("labels", "scores"):
            if detected[key].shape != rows:
                shape = tuple(detected[key].shape)
                raise ValueError(f"detections[{index}]['{key}']: expected {tuple(rows)}, got {shape}")
    image, boxes, labels = _table(detections)
    scores = _column(detections, "scores").double()
    if scores.isnan().any():
        raise ValueError("detections: expected numbers as scores, got NaN")
    return DetectedBoxes(image, validate(boxes, "detections' boxes"), labels, scores)


def gather_targets(targets: Sequence[dict[str, Tensor]]) -> TrueBoxes:
    """Put the ground truth of all images into one table.

    Args:
        targets: per image a dict of `boxes` (N, 4), `labels` (N,) and, where there are any, `difficult` (N,) and
            `iscrowd` (N,). Of masks as `predict` keeps them, run lengths in a list, only `coco_ap` reads something.
    Raises:
        ValueError: what `check_target` refuses.
    """
    plain = [{key: value for key, value in t.items() if key != "masks" or isinstance(value, Tensor)} for t in targets]
    checked = [check_target(target, f"targets[{i}]", area=False) for i, target in enumerate(plain)]
    return TrueBoxes(*_table(checked), _flags(checked, "difficult") | _flags(checked, "iscrowd"))


def gather(
    detections: Sequence[dict[str, Tensor]], targets: Sequence[dict[str, Tensor]]
) -> tuple[DetectedBoxes, TrueBoxes]:
    """Make both tables, of lists that must be equally long.

    Raises:
        ValueError: lists of different length, and what `gather_detections` and `gather_targets` refuse.
    """
    if len(detections) != len(targets):
        raise ValueError(f"detections: expected one dict per image, {len(targets)}, got {len(detections)}")
    return gather_detections(detections), gather_targets(targets)


def check_labels(table: Boxes, classes: Sequence[str], name: str) -> None:
    """Refuse a label that names no class, or the background.

    Raises:
        ValueError: a label outside 1 .. len(classes) - 1.
    """
    wrong = (table.labels < 1) | (table.labels >= len(classes))
    if wrong.any():
        image, label = int(table.image[wrong][0]), int(table.labels[wrong][0])
        raise ValueError(f"{name}[{image}]: expected labels 1 to {len(classes) - 1} (classes), got {label}")


def check_iou_threshold(value: float) -> None:
    """Refuse a threshold that no IoU, or every IoU, reaches.

    Raises:
        ValueError: outside (0, 1].
    """
    if not 0 < value <= 1:
        raise ValueError(f"iou_threshold: expected a number above 0 and up to 1, got {value}")


def pair_overlaps(
    detections: Boxes, truths: Boxes, same_label: bool = False, most: int = 500_000
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Measure the IoU of every detection with every truth of its image, in portions: a pair takes some 120 bytes.

    Args:
        same_label: only pairs of one class.
        most: pairs of a portion, or those of one detection where it alone has more.
    Yields:
        Three (P,) tensors: index of the detection, index of the truth, IoU. The first ascends, and within it the
        second does. All pairs of a detection are in one portion.
    """
    first = torch.searchsorted(truths.image, detections.image)
    count = torch.searchsorted(truths.image, detections.image, right=True) - first  # truths in the same image
    ends, start = count.cumsum(0), 0  # pairs up to and with each detection
    while start < len(detections):
        before = int(ends[start] - count[start])
        stop = max(int(torch.searchsorted(ends, before + most, right=True)), start + 1)
        i = torch.arange(start, stop).repeat_interleave(count[start:stop])  # (P,)
        j = torch.arange(before, before + len(i)) + (first - ends + count)[i]  # counts up from first[i]
        if same_label:
            same = detections.labels[i] == truths.labels[j]
            i, j = i[same], j[same]
        iou = box_iou(detections.boxes[i][:, None], truths.boxes[j][:, None])  # P pairs of one and one: (P, 1, 1)
        yield i, j, iou[:, 0, 0]
        start = stop


def _table(items: Sequence[dict]) -> tuple[Tensor, Tensor, Tensor]:
    """The image, the box and the label of every row."""
    boxes = torch.cat([torch.empty(0, 4), *(item["boxes"].detach().cpu() for item in items)]).double()
    rows = torch.tensor([len(item["boxes"]) for item in items], dtype=torch.int64)
    image = torch.arange(len(items)).repeat_interleave(rows)
    return image, boxes, _column(items, "labels").long()


def _column(items: Sequence[dict], key: str) -> Tensor:
    return torch.cat([torch.empty(0, dtype=torch.int64), *(item[key].detach().cpu() for item in items)])


def _flags(items: Sequence[dict], key: str) -> Tensor:
    columns = [item[key].cpu() if key in item else torch.zeros(len(item["boxes"])).bool() for item in items]
    return torch.cat([torch.empty(0, dtype=torch.bool), *columns])
