"""The learner's own training: what it reaches beside others, and which layers its losses move."""

from collections.abc import Iterable, Sequence
from itertools import islice
from statistics import mean, stdev

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from rcnn_tutorial.course.records import by_variant, load
from rcnn_tutorial.data.wrappers import length, target_of
from rcnn_tutorial.evaluation import coco_ap, size_thirds
from rcnn_tutorial.ops.boxes import box_iou

NAMES = {  # of each column: the metric of `coco_ap` with thirds, and that of a record
    "AP50": ("AP50", "AP50"),
    "AP": ("AP", "AP"),
    "small": ("AP_small", "AP_small_third"),
    "middle": ("AP_medium", "AP_middle_third"),
    "large": ("AP_large", "AP_large_third"),
}


def report(
    targets: Sequence[dict[str, Tensor]],
    classes: Sequence[str],
    answers: dict[str, Sequence[dict[str, Tensor]]],
    recorded: dict[str, tuple[str, str]],
    columns: Sequence[str] = tuple(NAMES),
) -> float:
    """Print the AP of some answers, and under it what records hold of other trainings.

    Args:
        targets: of each image.
        classes: their names, background first.
        answers: for each name the detections of each image.
        recorded: for each name a record and one of its variants; the row has the mean over seeds and its standard
            deviation.
        columns: some of `NAMES`.
    Returns:
        AP50 of the last of `answers`.
    """
    wide = max(map(len, (*answers, *recorded)))
    print(f"{'':{wide}}", *(f"{column:>11}" for column in columns))
    for name, detections in answers.items():
        ap = coco_ap(detections, targets, classes, size_thirds(targets))
        print(f"{name:{wide}}", *(f"{ap[NAMES[column][0]]:11.2f}" for column in columns))
    for name, (record, variant) in recorded.items():
        seeds = [by_variant(load(record), NAMES[column][1])[variant] for column in columns]
        print(f"{name:{wide}}", *(f"{f'{mean(each):.2f} ± {stdev(each):.2f}':>11}" for each in seeds))
    return ap["AP50"]


def fullest(targets: Sequence[dict[str, Tensor]]) -> int:
    """The number of the picture with most objects, the first of several."""
    return max(range(len(targets)), key=lambda i: len(targets[i]["boxes"]))


def clearest(targets: Sequence[dict[str, Tensor]], count: int) -> list[int]:
    """The numbers of the pictures with three objects, or about as many, whose boxes overlap least; `count` of them."""

    def unclear(i: int) -> tuple[int, float]:
        boxes = targets[i]["boxes"]
        return abs(len(boxes) - 3), box_iou(boxes, boxes).fill_diagonal_(0).sum().item()

    return sorted(range(len(targets)), key=unclear)[:count]


def strongest(answers: Sequence[dict[str, Tensor]], count: int) -> list[dict[str, Tensor]]:
    """The detections of the highest scores, at most `count` of each picture."""
    best = [answer["scores"].argsort(descending=True, stable=True)[:count] for answer in answers]
    return [{key: value[own] for key, value in answer.items()} for answer, own in zip(answers, best, strict=True)]


def with_objects(dataset: Dataset, count: int) -> Subset:
    """The first pictures of a data set that have objects, `count` of them or as many as there are."""
    some = (i for i in range(length(dataset)) if len(target_of(dataset, i)["boxes"]))
    return Subset(dataset, list(islice(some, count)))


def gradient_norms(losses: dict[str, Tensor], layers: Iterable[nn.Module]) -> Tensor:
    """How strong the gradient of each loss is in the weights of each group of layers: (losses, layers), 0 for none."""
    rows = []
    for loss in losses.values():
        row = []
        for layer in layers:
            found = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True, allow_unused=True)
            row.append(sum(gradient.norm().item() for gradient in found if gradient is not None))
        rows.append(row)
    return torch.tensor(rows)
