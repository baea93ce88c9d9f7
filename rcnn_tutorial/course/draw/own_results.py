"""What the learner's own detector says on some pictures, before its training and after it."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from rcnn_tutorial.course.draw.pictures import boxes, part_labels, picture
from rcnn_tutorial.course.draw.style import GOOD, IGNORED, MISTAKE, TRUTH, Style, on_cpu
from rcnn_tutorial.evaluation import failures


@on_cpu
def own_results(
    images: Sequence[Tensor],
    targets: Sequence[dict[str, Tensor]],
    before: Sequence[dict[str, Tensor]] | None,
    after: Sequence[dict[str, Tensor]],
    classes: Sequence[str],
    threshold: float = 0.5,
    everywhere: bool = False,
    names: tuple[str, str] = ("before", "after"),
) -> None:
    """Some pictures, one to a row: the truth, the detections before a training, and those after it.

    True boxes are black and dotted. A detection carries its class and its score; it is green where `failures` calls it
    correct, grey where it is ignored, and vermillion where it is wrong. The titles count over all rows.

    Args:
        images: (3, H, W) each; the sizes may differ. Four fit.
        targets: of each image `boxes` (M, 4), `labels` (M,) and, where there are any, `difficult` (M,).
        before, after: of each image `boxes` (N, 4), `labels` (N,) and `scores` (N,). Without `before` its column is
            left out.
        classes: their names, the background first.
        threshold: the least score of a detection that is drawn and counted.
        everywhere: whether the true boxes lie below the detections too.
        names: what the two columns are called, where they are no before and after.
    Raises:
        ValueError: no image, or lists of different length.
    """
    columns = dict(zip(names, (before, after), strict=True)) if before is not None else {names[1]: after}
    lengths = {len(part) for part in (images, targets, *columns.values())}
    if lengths == {0} or len(lengths) > 1:
        raise ValueError(f"expected as many targets and detections as images, and one at least, got {sorted(lengths)}")
    ratios = [image.shape[1] / image.shape[2] for image in images]
    count = 1 + len(columns)
    size = (10.9, 10.8 / count * sum(ratios) + 0.5)
    figure, axes = plt.subplots(len(images), count, figsize=size, height_ratios=ratios, squeeze=False)
    objects = sum(len(target["boxes"]) for target in targets)
    axes[0, 0].set_title(f"truth: {objects} object{'s' * (objects != 1)}")
    for ax, image in zip(axes.flat, (image for image in images for _ in range(count)), strict=True):
        picture(image, ax)
    figure.draw_without_rendering()  # from here on the panels have their sizes, by which labels find their places
    for ax, target in zip(axes[:, 0], targets, strict=True):
        hard = target.get("difficult", torch.zeros(len(target["boxes"]))).tolist()
        names = [classes[k] + "?" * bool(d) for k, d in zip(target["labels"].tolist(), hard, strict=True)]
        boxes(ax, target["boxes"], names, Style(TRUTH, dashes=":"))
    for column, (name, answers) in zip(axes.T[1:], columns.items(), strict=True):
        told = failures(answers, targets, score_threshold=threshold)
        right, missed = told.counts["correct"], told.counts["missed"]
        wrong = sum(told.counts.values()) - right - missed
        column[0].set_title(f"{name}: {right} right, {wrong} wrong")
        for ax, answer, kinds, target in zip(column, answers, told.kinds, targets, strict=True):
            if everywhere:
                boxes(ax, target["boxes"], styles=Style(TRUTH, dashes=":"))
            judged(ax, answer, kinds, classes)
    for ax in axes.flat:
        part_labels(ax)


@on_cpu
def judged(ax: plt.Axes, answer: dict[str, Tensor], kinds: Sequence[str], classes: Sequence[str]) -> None:
    """Detections in the colours of their kinds, those that are right on top."""
    colors = {"correct": GOOD, "ignored": IGNORED}
    shown = sorted((i for i, kind in enumerate(kinds) if kind != "below"), key=lambda i: kinds[i] == "correct")
    labels, scores = answer["labels"].tolist(), answer["scores"].tolist()
    texts = [f"{classes[labels[i]]} {scores[i]:.2f}" for i in shown]
    boxes(ax, answer["boxes"][shown], texts, [Style(colors.get(kinds[i], MISTAKE)) for i in shown])
