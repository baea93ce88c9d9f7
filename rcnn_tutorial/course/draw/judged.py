"""What several detectors say of one picture, without words."""

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from rcnn_tutorial.course.draw.pictures import boxes, picture
from rcnn_tutorial.course.draw.style import BAD, GOOD, TRUTH, Style, on_cpu, style_handles
from rcnn_tutorial.evaluation import failures


@on_cpu
def judged(
    image: Tensor, target: dict[str, Tensor], answers: dict[str, dict[str, Tensor]], threshold: float = 0.5
) -> None:
    """What several detectors say of one picture: what is right, what is wrong, and what is missed; without words.

    Args:
        image: (3, H, W).
        target: its `boxes` (M, 4) and `labels` (M,).
        answers: for each detector its `boxes` (N, 4), `labels` (N,) and `scores` (N,).
        threshold: the least score of a detection that counts.
    """
    assert answers, "nothing was drawn"
    wide = 10.9 / len(answers)
    high = wide * image.shape[1] / image.shape[2] + 0.9
    figure, axes = plt.subplots(1, len(answers), figsize=(10.9, high), squeeze=False)
    looks = {"right": Style(GOOD, 3), "wrong": Style(BAD, 3), "missed object": Style(TRUTH, 3, ":")}
    for ax, (name, answer) in zip(axes[0], answers.items(), strict=True):
        told = failures([answer], [target], score_threshold=threshold)
        right = torch.tensor([kind == "correct" for kind in told.kinds[0]], dtype=torch.bool)
        wrong = ~right & (answer["scores"] >= threshold)
        missed = told.missed[0]
        ax = picture(image, ax)
        kinds = answer["boxes"][right], answer["boxes"][wrong], target["boxes"][missed]
        for style, shown in zip(looks.values(), kinds, strict=True):
            boxes(ax, shown, styles=style)
        ax.set_title(f"{name}: {len(missed) - int(missed.sum())} of {len(missed)} found, {int(wrong.sum())} wrong")
    handles = style_handles(looks)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
