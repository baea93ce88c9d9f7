"""The pictures of a run: its losses and its AP as curves, and its own detections beside the truth."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from torch.utils.data import Dataset

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw.own_results import own_results
from rcnn_tutorial.course.own_training import with_objects
from rcnn_tutorial.data.wrappers import at_most
from rcnn_tutorial.evaluation import predict
from rcnn_tutorial.training import History

SHOWN = 4  # pictures with own detections
LINES = {"AP": "AP", "AP50": "AP at IoU 0.5", "mask_AP": "AP of masks"}  # of the evaluations


def draw_curves(history: History, path: Path) -> None:
    """Draw every loss against the step, and under it the AP on the validation pictures.

    Args:
        history: of the training so far.
        path: of the picture.
    """
    with plt.rc_context():
        draw.setup()
        figure, (upper, lower) = plt.subplots(2, 1, figsize=(9.6, 8), sharex=True, layout="constrained")
        _losses(upper, history)
        _precision(lower, history)
        figure.savefig(path, dpi=100)
        plt.close(figure)


def _losses(ax: Axes, history: History) -> None:
    """The running means of all losses, and their sum faint as it was and strong as its mean."""
    window = max(1, min(20, history.steps // 4))
    total = history.total
    ax.plot(range(1, len(total) + 1), total, color="black", alpha=0.25, lw=1)
    series = {"sum of all losses": total} | (history.losses if len(history.losses) > 1 else {})
    for number, (name, values) in enumerate(series.items()):
        color = draw.COLORS[(number - 1) % len(draw.COLORS)] if number else "black"
        means = [sum(values[i - window : i]) / window for i in range(window, len(values) + 1)]
        ax.plot(range(window, len(values) + 1), means, color=color, lw=2, label=name)
    ax.set(ylabel="loss", title=f"losses: means of {window} step{'s' * (window > 1)}, faint the sum at each step")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, ncols=3, fontsize=12)


def _precision(ax: Axes, history: History) -> None:
    """What the evaluations found."""
    steps = [entry["step"] for entry in history.evaluations]
    for name, color in zip(LINES, draw.COLORS, strict=False):
        if any(name in entry for entry in history.evaluations):
            ax.plot(
                steps,
                [entry[name] for entry in history.evaluations],
                "o-",
                color=color,
                label=LINES[name],
                clip_on=False,
            )
    ax.set(xlabel="step", ylabel="average precision", title="on the validation pictures", ylim=(0, 1))
    if steps:
        ax.legend(frameon=False, loc="upper left", fontsize=12)


def draw_detections(model: Any, dataset: Dataset, path: Path) -> None:
    """Draw the detections of a model on four pictures with objects, each beside its truth.

    Args:
        model: that detects.
        dataset: of (image, target); its first pictures with objects are drawn, or its first ones.
        path: of the picture.
    """
    chosen: Any = with_objects(dataset, SHOWN)
    if not len(chosen):
        chosen = at_most(dataset, SHOWN)
    detections, targets = predict(model, chosen, progress=False)
    images = [chosen[index][0] for index in range(len(chosen))]
    with plt.rc_context():
        draw.setup()
        own_results(images, targets, None, detections, model.classes, names=("", "detected"))
        figure = plt.gcf()
        figure.savefig(path, dpi=88, pil_kwargs={"quality": 90})  # 10.9 inches: 960 pixels
        plt.close(figure)
