"""The two pictures of an evaluation: the worst images with their failures by name, and the curves of the classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.app.measures import Report
from rcnn_tutorial.course import draw

SHOWN, LISTED, PANELS = 6, 10, 12  # images of the page, failures drawn of an image, classes with a curve
WIDE, BESIDE = 4.3, 2.4  # inches: an image, and the names of its failures
FAILED = draw.KIND_COLORS.keys() - {"correct"}


def worst_images(report: Report, count: int = SHOWN) -> list[int]:
    """Find the images with the most failures, and of equally many the one that is the surest of a wrong detection.

    Args:
        report: of an evaluation.
        count: the most that are wanted.
    Returns:
        Their places in the data set, the worst first; images without a failure are not among them.
    """
    ranks = {}
    for image, (kinds, missed) in enumerate(zip(report.failed.kinds, report.failed.missed, strict=True)):
        wrong = [i for i, kind in enumerate(kinds) if kind in FAILED]
        surest = max((float(report.detections[image]["scores"][i]) for i in wrong), default=0.0)
        ranks[image] = len(wrong) + int(missed.sum()), surest
    order = sorted(ranks, key=lambda image: ranks[image], reverse=True)
    return [image for image in order[:count] if ranks[image][0]]


def draw_worst(report: Report, dataset: Dataset, classes: Sequence[str], path: Path) -> bool:
    """Draw the worst images, one to a row: the truth on the left, and on the right what failed, numbered and named.

    Args:
        report: of an evaluation.
        dataset: that it was measured on.
        classes: names, background first.
        path: of the picture.
    Returns:
        Whether there was a failure to draw.
    """
    worst = worst_images(report)
    if not worst:
        return False
    draw.setup()
    images = [dataset[index][0] for index in worst]
    high = [WIDE * image.shape[1] / image.shape[2] for image in images]  # inches
    size = 2 * WIDE + BESIDE, sum(high) + 0.5 * len(worst)
    figure, axes = plt.subplots(len(worst), 2, figsize=size, height_ratios=high, squeeze=False)
    for index, image, (left, right) in zip(worst, images, axes, strict=True):
        draw.scene(image, _truth(report.targets[index]), classes, left)
        left.set_title(f"truth of {_name(dataset, index)}", fontsize=14)
        _draw_failures(report, index, image, classes, right)
    for ax in axes[:, 0]:
        draw.part_labels(ax)
    figure.savefig(path, pil_kwargs={"quality": 85})
    plt.close(figure)
    return True


def _draw_failures(report: Report, index: int, image: Tensor, classes: Sequence[str], ax: Axes) -> None:
    """What is correct in thin green; what failed numbered, the detections of the highest scores first."""
    detected, kinds, missed = report.detections[index], report.failed.kinds[index], report.failed.missed[index]
    correct = [i for i, kind in enumerate(kinds) if kind == "correct"]
    wrong = [i for i, kind in enumerate(kinds) if kind in FAILED]  # by score, as detectors give them
    named, lost = wrong[:LISTED], missed & (missed.cumsum(0) <= LISTED - min(LISTED, len(wrong)))
    shown = {key: detected[key][named] for key in ("boxes", "labels", "scores")}
    target = _truth(report.targets[index])
    draw.kinds(image, shown, [kinds[i] for i in named], target, lost, classes, ax)
    draw.outlines(ax, detected["boxes"][correct], draw.GOOD, 1.5)
    hidden = len(wrong) + int(missed.sum()) - len(named) - int(lost.sum())
    counts = f"{len(correct)} correct, {len(wrong)} wrong, {int(missed.sum())} missed"
    ax.set_title(counts + f" ({hidden} not drawn)" * bool(hidden), fontsize=14)


def _truth(target: dict) -> dict:
    return {key: value for key, value in target.items() if key != "masks"}


def _name(dataset: Any, index: int) -> str:
    return dataset.path(index).name if hasattr(dataset, "path") else f"picture {index}"


def draw_curves(report: Report, path: Path) -> None:
    """Draw precision against recall of each class, at an IoU of 0.5; of many classes those with the most objects.

    Args:
        report: of an evaluation.
        path: of the picture.
    """
    draw.setup()
    labels = {name: label for label, name in enumerate(report.per_class, start=1)}
    order = sorted(report.per_class, key=lambda name: report.per_class[name].objects, reverse=True)
    shown = sorted(order[:PANELS], key=list(report.per_class).index)
    across = min(3, len(shown))
    down = -(-len(shown) // across)
    figure, axes = plt.subplots(down, across, figsize=(4.4 * across + 0.5, 3.9 * down), squeeze=False)
    for ax, name in zip(axes.flat, shown, strict=False):
        numbers = report.per_class[name]
        ax.set(title=name)
        if not numbers.objects:
            ax.text(0.5, 0.5, "no object to find", ha="center", transform=ax.transAxes)
            continue
        precision, recall = report.matched.precision_recall(labels[name])
        draw.precision_recall(recall, precision, ax, f"{name}: AP50 {numbers.ap50:.2f}")
        ax.get_legend().remove()
    handles, names = axes.flat[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    for ax in axes.flat[len(shown) :]:
        ax.set_visible(False)
    figure.savefig(path)
    plt.close(figure)
