"""What one detector answers: on a whole picture, and box by box near an object."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from rcnn_tutorial.course.draw.own_results import judged
from rcnn_tutorial.course.draw.pictures import boxes, greyed, label, part_labels, picture
from rcnn_tutorial.course.draw.style import DETECTION, GOOD, MISTAKE, PROPOSAL, TRUTH, Style, on_cpu, style_handles
from rcnn_tutorial.evaluation import failures
from rcnn_tutorial.ops.boxes import box_iou

OBJECT, MET, WINDOW, FOUND = (
    Style(TRUTH, 2.5, ":"),
    Style(TRUTH, 1.2, ":"),
    Style(PROPOSAL, 3, "--"),
    Style(DETECTION, 4),
)


@on_cpu
def answer(
    image: Tensor,
    detection: dict[str, Tensor],
    target: dict[str, Tensor],
    classes: Sequence[str],
    threshold: float = 0.5,
    named: bool = False,
) -> None:
    """What one detector answers on one picture, right or wrong, and the objects; the title counts both.

    The picture is grey, and an object's line is thin unless it is missed.

    Args:
        image: (3, H, W).
        detection: `boxes` (N, 4), `labels` (N,) and `scores` (N,).
        target: the truth: `boxes` (M, 4) and `labels` (M,).
        classes: their names, the background first.
        threshold: the least score of a detection that is drawn and counted.
        named: whether each object that is missed carries its class.
    """
    figure, ax = plt.subplots(figsize=(8.8, 8.8 * image.shape[1] / image.shape[2] + 0.9))
    told = failures([detection], [target], score_threshold=threshold)
    found, objects = told.counts["correct"], len(target["boxes"])
    wrong = sum(kind not in ("correct", "ignored", "below") for kind in told.kinds[0])
    title = f"{found} of {objects} objects found, {wrong} box{'es' * (wrong != 1)} wrong"
    picture(greyed(image), ax).set_title(title)
    boxes(ax, target["boxes"], styles=[OBJECT if lost else MET for lost in told.missed[0].tolist()])
    judged(ax, detection, told.kinds[0], classes)
    if named:
        missed = told.missed[0]
        places, kinds = target["boxes"][missed].tolist(), target["labels"][missed].tolist()
        for (x1, _, _, y2), kind in zip(places, kinds, strict=True):
            label(ax, x1, y2, f"missed: {classes[kind]}", TRUTH)
    part_labels(ax)
    looks = {"object": OBJECT, "right": Style(GOOD, 3), "wrong": Style(MISTAKE, 3)}
    figure.legend(handles=style_handles(looks), loc="outside lower center", ncols=3, frameon=False)


@on_cpu
def closeups(image: Tensor, proposals: Tensor, answers: dict[str, Tensor], truths: Tensor) -> None:
    """Windows drawn large, one to a row: the box that each detector makes of it; one detector to a column.

    In each panel the IoU of the window with its object is written, and that of the box made of it.

    Args:
        image: (3, H, W).
        proposals: (M, 4), pixels.
        answers: for each detector the boxes (M, 4) that it makes of these windows.
        truths: (M, 4), the object of each window.
    """
    assert answers and len(proposals), "nothing was drawn"
    count = len(proposals)
    side = 10.9 / len(answers)
    figure, axes = plt.subplots(count, len(answers), figsize=(10.9, (side + 0.15) * count + 1.1), squeeze=False)
    for row, line in enumerate(axes):
        every = torch.stack([proposals[row], truths[row], *(found[row] for found in answers.values())])
        start = box_iou(proposals[row][None], truths[row][None]).item()
        middle = (every[:, :2].amin(dim=0) + every[:, 2:].amax(dim=0)) / 2
        half = 0.54 * (every[:, 2:].amax(dim=0) - every[:, :2].amin(dim=0)).max() + 2  # the same for all columns
        (left, top), (right, bottom) = (middle - half).tolist(), (middle + half).tolist()
        for ax, (name, found) in zip(line, answers.items(), strict=True):
            picture(image, ax).set(xlim=(left, right), ylim=(bottom, top))
            boxes(ax, found[row][None], styles=FOUND)
            boxes(ax, proposals[row][None], styles=WINDOW)
            boxes(ax, truths[row][None], styles=OBJECT)
            end = box_iou(found[row][None], truths[row][None]).item()
            ax.text(0.5, -0.03, f"IoU {start:.2f} to {end:.2f}", transform=ax.transAxes, ha="center", va="top")
            if row == 0:
                ax.set_title(name)
    handles = style_handles({"proposal": WINDOW, "box made of it": FOUND, "object": OBJECT})
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
