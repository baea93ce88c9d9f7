"""Average precision as COCO defines it, by pycocotools."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from rcnn_tutorial.evaluation.inputs import Boxes, check_labels, gather, gather_targets


def coco_ap(
    detections: Sequence[dict[str, Tensor]],
    targets: Sequence[dict[str, Tensor]],
    classes: Sequence[str],
    areas: tuple[float, float] = (32**2, 96**2),
) -> dict:
    """COCO's twelve numbers: AP is the mean over ten IoU thresholds, 0.5 to 0.95, and 101 levels of recall.

    Unlike VOC's rule, a detection may take the second best truth if the best is taken, and at most 100 detections per
    image and class count. The area of an object is its `area`, or that of its mask, or that of its box, whichever the
    target has first. COCO knows no difficult objects; here they count neither as right nor as wrong.

    Args:
        detections: per image a dict of `boxes` (D, 4), `labels` (D,) and `scores` (D,).
        targets: per image a dict of `boxes` (N, 4), `labels` (N,) and, where there are any, `difficult` (N,),
            `iscrowd` (N,), `area` (N,), `masks` (N, H, W).
        classes: name of each label; classes[0] is the background.
        areas: the bounds between small, medium and large, square pixels; both sides own a bound.
    Returns:
        AP, AP50, AP75, AP_small, AP_medium, AP_large, AR_1, AR_10, AR_100 (recall with so many detections per image
        and class, mean over the IoU thresholds), AR_small, AR_medium, AR_large; and `per_class`, a dict from class name
        to the same twelve. NaN where there is no object to find.
    Raises:
        ValueError: lists of different length, malformed dicts, a label that has no class, bounds that do not ascend.
    Source: X-04.
    """
    low, high = areas
    if not 0 < low < high:
        raise ValueError(f"areas: expected 0 < small bound < large bound, got {areas}")
    found, truths = gather(detections, targets)
    check_labels(found, classes, "detections")
    check_labels(truths, classes, "targets")
    with contextlib.redirect_stdout(io.StringIO()):
        truth_index = _index(_truth_rows(truths, targets), len(targets), classes)
        evaluation = _Evaluation(truth_index, _index(_detection_rows(found), len(targets), classes), "bbox")
        evaluation.params.areaRng = [[0, np.inf], [0, low], [low, high], [high, np.inf]]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    per_class = {
        name: _summary(precision[:, :, [k]], recall[:, [k]]) for k, name in enumerate(classes[1:])
    }  # k counts without the background
    return {**_summary(precision, recall), "per_class": per_class}


def size_thirds(targets: Sequence[dict[str, Tensor]]) -> tuple[float, float]:
    """The two areas that part a data set's objects into thirds, for `coco_ap(areas=...)`.

    Args:
        targets: per image a dict of `boxes`, `labels` and what else `coco_ap` reads of an object's area.
    Returns:
        Two areas, square pixels. Difficult and crowd objects are left out.
    Raises:
        ValueError: malformed dicts, or no object.
    """
    truths = gather_targets(targets)
    areas = _areas(truths, targets)[~truths.ignored]
    if not len(areas):
        raise ValueError("targets: expected at least one object, got none")
    low, high = torch.quantile(areas, areas.new_tensor([1 / 3, 2 / 3])).tolist()
    return low, high


class _Evaluation(COCOeval):
    """pycocotools keeps one flag to ignore a truth, iscrowd, which also changes the IoU; difficult must not."""

    def _prepare(self) -> None:
        super()._prepare()
        for truths in self._gts.values():
            for truth in truths:
                truth["ignore"] = truth["iscrowd"] or truth["difficult"]


def _index(rows: list[dict], images: int, classes: Sequence[str]) -> COCO:
    index = COCO()
    index.dataset = {
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": label, "name": name} for label, name in enumerate(classes) if label > 0],
        "annotations": rows,
    }
    index.createIndex()
    return index


def _rows(table: Boxes, areas: Tensor) -> list[dict]:
    boxes = torch.cat((table.boxes[:, :2], table.boxes[:, 2:] - table.boxes[:, :2]), dim=1)  # x, y, width, height
    columns = zip(table.image.tolist(), table.labels.tolist(), boxes.tolist(), areas.tolist(), strict=True)
    return [  # ids start at 1: pycocotools reads 0 as "no match"
        {"id": id, "image_id": image, "category_id": label, "bbox": box, "area": area}
        for id, (image, label, box, area) in enumerate(columns, start=1)
    ]


def _detection_rows(found: Boxes) -> list[dict]:
    rows = _rows(found, _box_areas(found))
    return [{**row, "score": score} for row, score in zip(rows, found.scores.tolist(), strict=True)]


def _truth_rows(truths: Boxes, targets: Sequence[dict[str, Tensor]]) -> list[dict]:
    rows = _rows(truths, _areas(truths, targets))
    crowd = [flag for target in targets for flag in target.get("iscrowd", torch.zeros(len(target["boxes"]))).tolist()]
    return [
        {**row, "iscrowd": int(crowd), "difficult": ignored and not crowd}
        for row, crowd, ignored in zip(rows, crowd, truths.ignored.tolist(), strict=True)
    ]


def _areas(truths: Boxes, targets: Sequence[dict[str, Tensor]]) -> Tensor:
    own = [torch.empty(0, dtype=torch.float64)]
    for target, boxes in zip(targets, _box_areas(truths).split([len(t["boxes"]) for t in targets]), strict=True):
        if "area" in target:
            boxes = target["area"].cpu().double()
        elif "masks" in target:
            boxes = target["masks"].flatten(1).sum(1).cpu().double()
        own.append(boxes)
    return torch.cat(own)


def _box_areas(table: Boxes) -> Tensor:
    return (table.boxes[:, 2:] - table.boxes[:, :2]).prod(1)


def _summary(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    # precision: (10 IoU, 101 recall, K, 4 areas, 3 limits), recall: (10, K, 4, 3); limits are 1, 10, 100 detections
    everything, most = 0, 2
    numbers = {
        "AP": precision[..., everything, most],
        "AP50": precision[0, ..., everything, most],
        "AP75": precision[5, ..., everything, most],
        "AP_small": precision[..., 1, most],
        "AP_medium": precision[..., 2, most],
        "AP_large": precision[..., 3, most],
        "AR_1": recall[..., everything, 0],
        "AR_10": recall[..., everything, 1],
        "AR_100": recall[..., everything, most],
        "AR_small": recall[..., 1, most],
        "AR_medium": recall[..., 2, most],
        "AR_large": recall[..., 3, most],
    }
    return {name: _mean(values) for name, values in numbers.items()}


def _mean(values: np.ndarray) -> float:
    defined = values[values > -1]  # pycocotools writes -1 where there is nothing to find
    return float(defined.mean()) if defined.size else float("nan")
