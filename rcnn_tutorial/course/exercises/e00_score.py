"""The exercises of 00_boxes on measuring: average precision by hand, and a scorer built from its parts."""

from functools import partial

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, near
from rcnn_tutorial.evaluation import voc_ap
from rcnn_tutorial.ops.boxes import box_iou

# 00-E: average precision by hand

_DUPLICATE = "The ranking counts four hits.", "A second box on an object that is found already is wrong."
_LEFT_OUT = "The ranking has only four places.", "A duplicate is wrong, and stays in the ranking."
_FOUND_ONLY = (
    "One object is missing from the count.",
    "Recall divides by the objects that exist, and not by those found.",
)
_ROUNDED = "Nearly.", "Give three digits."

AP = (
    Part(
        "all points",
        near(0.4833, 0.001),
        (
            Mistake(*_DUPLICATE, near(0.8)),
            Mistake(*_LEFT_OUT, near(0.5625)),
            Mistake(
                "That is COCO's mean at 101 recalls.",
                "All points: add up width times height of each step of the envelope.",
                near(0.4851, 0.0005),
            ),
            Mistake(
                "The staircase still goes up and down.",
                "Take the envelope first: at each recall the best precision at that recall or beyond.",
                near(0.4417),
            ),
            Mistake(*_FOUND_ONLY, near(0.6444)),
            Mistake(*_ROUNDED, near(0.48, 1e-9)),
        ),
        "Write precision and recall after each of the five detections, then take the envelope from the right.",
    ),
    Part(
        "11 points",
        near(0.4727, 0.001),
        (
            Mistake(*_DUPLICATE, near(0.8)),
            Mistake(*_LEFT_OUT, near(0.5455)),
            Mistake(*_FOUND_ONLY, near(0.6424)),
            Mistake(*_ROUNDED, near(0.47, 1e-9)),
            Mistake(
                "Ten recalls were looked at.",
                "The eleven recalls are 0, 0.1, ..., 1.0: recall 0 counts too.",
                near(0.4533),
            ),
        ),
        "Look up the envelope at recall 0, 0.1, ..., 1.0. Beyond the last recall it is 0.",
    ),
    Part(
        "all points, a hundred false ones behind",
        near(0.4833, 0.001),
        (
            Mistake(
                "The boxes at the end lower the number.",
                "They add no recall, so that no step of the envelope changes.",
                lambda answer: 0 <= float(answer) < 0.48,
            ),
            Mistake(*_ROUNDED, near(0.48, 1e-9)),
        ),
        "Ask which step of the envelope the new detections change.",
    ),
)


# 00-F: a scorer, from boxes to one number


def _score(
    boxes: Tensor,
    scores: Tensor,
    truths: Tensor,
    threshold: float,
    sort: bool = True,
    again: bool = False,
    free: bool = False,
    raised: bool = True,
    by_found: bool = False,
) -> float:
    """VOC's average precision of one class on one picture, with the mistakes one can make as options."""
    order = scores.argsort(descending=True, stable=True) if sort else torch.arange(len(scores))
    taken: set[int] = set()
    hits: list[bool] = []
    for row in box_iou(boxes[order], truths).tolist():
        left = [-1.0 if free and i in taken else value for i, value in enumerate(row)]
        best = left.index(max(left))
        hits.append(left[best] >= threshold and (again or best not in taken))
        taken |= {best} if hits[-1] else set()
    right = torch.tensor(hits).double().cumsum(0)
    precision = right / torch.arange(1, len(hits) + 1)
    recall = right / max(len(taken) if by_found else len(truths), 1)
    heights = precision.flip(0).cummax(0).values.flip(0) if raised else precision
    return float((recall.diff(prepend=recall.new_zeros(1)) * heights).sum())


def _voc(boxes: Tensor, scores: Tensor, truths: Tensor, threshold: float) -> float:
    """What the package says."""
    detection = {"boxes": boxes, "scores": scores, "labels": torch.ones(len(boxes), dtype=torch.int64)}
    target = {"boxes": truths, "labels": torch.ones(len(truths), dtype=torch.int64)}
    return voc_ap([detection], [target], ("background", "object"), threshold).map


def _case(seed: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """Three objects, two of them side by side, and boxes near them: right ones, duplicates and others."""
    generator = torch.Generator().manual_seed(seed)
    truths = torch.tensor([[0, 0, 20, 20], [5, 0, 25, 20], [60, 40, 80, 70.0]])
    near = torch.tensor([0, 0, 0, 1, 1, 1, 2])[torch.randint(0, 7, (8,), generator=generator)]
    boxes = truths[near] + torch.randint(-4, 5, (8, 4), generator=generator)
    boxes = torch.cat((boxes, torch.tensor([[100, 100, 120, 120], [100, 0, 130, 20.0]])))
    return boxes, torch.rand(10, generator=generator), truths, 0.5


CASES = [_case(seed) for seed in range(16)]

SCORE = (
    Part(
        "the function",
        agrees(_voc, CASES),
        (
            Mistake(
                "The detections count in the order in which they come.",
                "Sort by falling score first: a ranking begins with the surest box.",
                agrees(partial(_score, sort=False), CASES),
            ),
            Mistake(
                "A second box on the same object counts as a hit.",
                "Remember which objects are taken; a box whose object is taken is wrong.",
                agrees(partial(_score, again=True), CASES),
            ),
            Mistake(
                "A box whose object is taken goes to the next object.",
                "That is COCO's rule. In VOC's rule a box is held against the object that it overlaps most.",
                agrees(partial(_score, free=True), CASES),
            ),
            Mistake(
                "The area is taken under the zigzag.",
                "Raise each precision to the best one that comes at the same place or later.",
                agrees(partial(_score, raised=False), CASES),
            ),
            Mistake(
                "The recall always ends at 1.",
                "Divide the hits by len(truths), also where some objects are missed.",
                agrees(partial(_score, by_found=True), CASES),
            ),
        ),
        "Try it on the ranking of section 6: hit, false, hit, hit, duplicate and five objects give 0.5.",
    ),
)
