"""Average precision as COCO defines it, of boxes or of masks, by pycocotools."""

import contextlib
import io
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from rcnn_tutorial.data.masks import encode_masks, mask_areas
from rcnn_tutorial.evaluation.inputs import Boxes, DetectedBoxes, TrueBoxes, check_labels, gather, gather_targets
from rcnn_tutorial.ops.boxes import box_area


def coco_ap(
    detections: Sequence[dict[str, Tensor]],
    targets: Sequence[dict[str, Tensor]],
    classes: Sequence[str],
    areas: tuple[float, float] = (32**2, 96**2),
    kind: str = "bbox",
) -> dict:
    """Compute COCO's twelve numbers: AP is the mean over ten IoU thresholds, 0.5 to 0.95, and 101 levels of recall.

    Unlike VOC's rule, a detection may take the second best truth if the best is taken, and at most 100 detections per
    image and class count. The area of an object is its `area`, or that of its mask, or that of its box, whichever the
    target has first; the area of a detection is that of what is compared, its box or its mask. COCO knows no difficult
    objects; here they count neither as right nor as wrong.

    Args:
        detections: per image a dict of `boxes` (D, 4), `labels` (D,) and `scores` (D,), and for masks `masks`.
        targets: per image a dict of `boxes` (N, 4), `labels` (N,) and, where there are any, `difficult` (N,),
            `iscrowd` (N,), `area` (N,), `masks`.
        classes: name of each label; classes[0] is the background.
        areas: the bounds between small, medium and large, square pixels; both sides own a bound.
        kind: "bbox" takes the IoU of boxes; "segm" that of masks, which are (N, H, W), or (N, 1, H, W) with
            probabilities, or run lengths as `predict` keeps them. One image at a time is encoded, so that those of a
            whole data set are never unpacked together.
    Returns:
        AP, AP50, AP75, AP_small, AP_medium, AP_large, AR_1, AR_10, AR_100 (recall with so many detections per image
        and class, mean over the IoU thresholds), AR_small, AR_medium, AR_large; and `per_class`, a dict from class name
        to the same twelve. NaN where there is no object to find.
    Raises:
        ValueError: lists of different length, malformed dicts, a label that has no class, bounds that do not ascend,
            another kind, masks that are missing or of different sizes in one image.
    Source: COCO's detection evaluation, cocodataset.org/#detection-eval.
    """
    low, high = areas
    if not 0 < low < high:
        raise ValueError(f"areas: expected 0 < small bound < large bound, got {areas}")
    ranges = [[0, np.inf], [0, low], [low, high], [high, np.inf]]
    evaluation = compared(detections, targets, classes, ranges, kind)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    per_class = {
        name: _summary(precision[:, :, [k]], recall[:, [k]]) for k, name in enumerate(classes[1:])
    }  # k counts without the background
    return {**_summary(precision, recall), "per_class": per_class}


def compared(
    detections: Sequence[dict[str, Tensor]],
    targets: Sequence[dict[str, Tensor]],
    classes: Sequence[str],
    ranges: list[list[float]],
    kind: str = "bbox",
) -> COCOeval:
    """Let pycocotools decide, image by image, which detection takes which object.

    Args:
        detections, targets, classes, kind: as `coco_ap` takes them.
        ranges: of areas, square pixels; in each the objects of other areas are ignored.
    Returns:
        What was decided, in `evalImgs`: class after class, range after range, image after image.
    Raises:
        ValueError: what `coco_ap` refuses, but for the bounds.
    """
    if kind not in ("bbox", "segm"):
        raise ValueError(f'kind: expected "bbox" or "segm", got {kind!r}')
    detected, truths = gather(detections, targets)
    check_labels(detected, classes, "detections")
    check_labels(truths, classes, "targets")
    detection_codes, truth_codes = [], []
    if kind == "segm":
        detection_codes, truth_codes = _codes(detections, "detections"), _codes(targets, "targets")
        _check_sizes(detection_codes, truth_codes)
    truth_rows, detection_rows = _truth_rows(truths, targets), _detection_rows(detected)
    for row, code in zip(truth_rows, chain(*truth_codes), strict=kind == "segm"):
        row["segmentation"] = code
    for row, code in zip(detection_rows, chain(*detection_codes), strict=kind == "segm"):
        row |= {"segmentation": code, "area": float(mask_areas([code]))}
    with contextlib.redirect_stdout(io.StringIO()):
        truth_index = _index(truth_rows, len(targets), classes)
        evaluation = _Evaluation(truth_index, _index(detection_rows, len(targets), classes), kind)
        evaluation.params.areaRng = ranges
        evaluation.evaluate()
    return evaluation


def size_thirds(targets: Sequence[dict[str, Tensor]]) -> tuple[float, float]:
    """Find the two areas that part a data set's objects into thirds, for `coco_ap(areas=...)`.

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

    _gts: dict  # {(image, category): truths}

    def _prepare(self) -> None:
        super()._prepare()  # pyright: ignore[reportAttributeAccessIssue]
        for truths in self._gts.values():
            for truth in truths:
                truth["ignore"] = truth["iscrowd"] or truth["difficult"]


def _index(rows: list, images: int, classes: Sequence[str]) -> COCO:
    index: Any = COCO()
    index.dataset = {
        # pycocotools asks for a size, which polygons would need; ours are run lengths
        "images": [{"id": image, "height": 0, "width": 0} for image in range(images)],
        "categories": [{"id": label, "name": name} for label, name in enumerate(classes) if label > 0],
        "annotations": rows,
    }
    index.createIndex()
    return index


def _rows(table: Boxes, areas: Tensor) -> list[dict]:
    boxes = torch.cat((table.boxes[:, :2], table.boxes[:, 2:] - table.boxes[:, :2]), dim=1)  # x, y, width, height
    columns = zip(table.image.tolist(), table.labels.tolist(), boxes.tolist(), areas.tolist(), strict=True)
    return [  # ids start at 1: pycocotools reads 0 as "no match"
        {"id": number, "image_id": image, "category_id": label, "bbox": box, "area": area}
        for number, (image, label, box, area) in enumerate(columns, start=1)
    ]


def _detection_rows(detected: DetectedBoxes) -> list[dict]:
    rows = _rows(detected, box_area(detected.boxes))
    return [{**row, "score": score} for row, score in zip(rows, detected.scores.tolist(), strict=True)]


def _truth_rows(truths: TrueBoxes, targets: Sequence[dict[str, Tensor]]) -> list[dict]:
    rows = _rows(truths, _areas(truths, targets))
    crowd = [flag for target in targets for flag in target.get("iscrowd", torch.zeros(len(target["boxes"]))).tolist()]
    return [
        {**row, "iscrowd": int(crowd), "difficult": ignored and not crowd}
        for row, crowd, ignored in zip(rows, crowd, truths.ignored.tolist(), strict=True)
    ]


def _areas(truths: TrueBoxes, targets: Sequence[dict[str, Tensor]]) -> Tensor:
    of_boxes = box_area(truths.boxes).split([len(target["boxes"]) for target in targets])
    columns = [torch.empty(0, dtype=torch.float64)]
    for target, areas in zip(targets, of_boxes, strict=True):
        if "area" in target:
            areas = target["area"]
        elif "masks" in target:
            areas = mask_areas(target["masks"])
        columns.append(areas.cpu().double())
    return torch.cat(columns)


def _codes(items: Sequence[dict], name: str) -> list[list[dict]]:
    """Per image the run lengths of its masks, one for each box."""
    codes = []
    for index, item in enumerate(items):
        if "masks" not in item and len(item["boxes"]):
            raise ValueError(f'{name}[{index}]: expected masks for kind="segm", got {sorted(item)}')
        masks = item.get("masks", [])
        codes.append(encode_masks(masks) if isinstance(masks, Tensor) else list(masks))
        if len(codes[-1]) != len(item["boxes"]):
            raise ValueError(f"{name}[{index}]['masks']: expected {len(item['boxes'])}, as boxes, got {len(codes[-1])}")
    return codes


def _check_sizes(detection_codes: list[list[dict]], truth_codes: list[list[dict]]) -> None:
    """Refuse masks that pycocotools could not compare: their IoU would be -1, and nothing would fail."""
    for image, (detected, truths) in enumerate(zip(detection_codes, truth_codes, strict=True)):
        sizes = {tuple(code["size"]) for code in (*detected, *truths)}
        if len(sizes) > 1:
            raise ValueError(f"masks: expected one size (H, W) in image {image}, got {sorted(sizes)}")


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
