"""What every experiment records of a detector."""

import torch
from torch import Tensor

from rcnn_tutorial.evaluation import coco_ap, failures, size_thirds
from rcnn_tutorial.ops.boxes import box_iou

THIRDS = {"small": "small", "middle": "medium", "large": "large"}
Detections = list[dict[str, Tensor]]


def measure(detections: Detections, targets: Detections, classes: tuple[str, ...]) -> dict:
    """Average precision, and what the best G detections are, where G is the number of objects.

    That number of detections makes recall and precision equal, so detectors whose scores mean different things
    can be compared.

    Returns:
        AP, AP50, AP75; `iou`, the mean IoU of the hits among the best G; `kinds`, how many of them fail in which way;
        `hits`, how many objects of each image they find.
    """
    coco = coco_ap(detections, targets, classes)
    difficult = sum(int(target["difficult"].sum()) for target in targets if "difficult" in target)
    objects = sum(len(target["labels"]) for target in targets) - difficult
    scores = torch.cat([detection["scores"] for detection in detections]).sort(descending=True).values
    threshold = scores[:objects][-1].item() if len(scores) else 0.0
    judged = failures(detections, targets, score_threshold=threshold)
    overlaps = []
    for detection, kinds, target in zip(detections, judged.kinds, targets, strict=True):
        for i in (i for i, kind in enumerate(kinds) if kind == "correct"):
            same_class = target["boxes"][target["labels"] == detection["labels"][i]]
            overlaps.append(box_iou(detection["boxes"][i : i + 1], same_class).max().item())
    return {
        **{name: round(coco[name], 4) for name in ("AP", "AP50", "AP75")},
        "iou": round(sum(overlaps) / len(overlaps), 4) if overlaps else None,
        "kinds": judged.counts,
        "hits": [kinds.count("correct") for kinds in judged.kinds],
    }


def by_size(detections: Detections, targets: Detections, classes: tuple[str, ...]) -> dict[str, float]:
    """Average precision of the smallest, the middle and the largest third of the objects, and of COCO's three sizes."""
    thirds = coco_ap(detections, targets, classes, size_thirds(targets))
    coco = coco_ap(detections, targets, classes)
    values = {f"AP_{third}_third": thirds[f"AP_{size}"] for third, size in THIRDS.items()}
    values |= {f"AP_{size}": coco[f"AP_{size}"] for size in THIRDS.values()}
    return {name: round(value, 4) for name, value in values.items()}
