"""Exercises of 06_mask_rcnn about the branch: its loss, and a head that learns eight objects by heart."""

from collections.abc import Callable
from functools import cache, lru_cache, partial

import torch
from torch import Tensor, nn

from rcnn_tutorial.course.exercises.core import Mistake, Part, _Open, agrees, agrees_any, near
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors import load
from rcnn_tutorial.ops.masks import cut_masks

_generator = torch.Generator().manual_seed(7)


# 06-C: the loss of one RoI


def _cells(p: Tensor, targets: Tensor) -> Tensor:
    """The log loss of each cell, of probabilities."""
    return -(targets * p.log() + (1 - targets) * (1 - p).log())


def _loss(logits: Tensor, labels: Tensor, targets: Tensor, way: str = "own", shift: int = 1) -> Tensor:
    """The loss of the masks, with the mistakes one can make as options."""
    rows = torch.arange(len(labels))
    if way == "all":
        return _cells(logits.sigmoid(), targets[:, None].expand_as(logits)).mean()
    if way == "zeros":
        wanted = torch.zeros_like(logits)
        wanted[rows, labels - 1] = targets
        return _cells(logits.sigmoid(), wanted).mean()
    p = logits.softmax(dim=1) if way == "softmax" else logits.sigmoid()
    p = p.sigmoid() if way == "twice" else p
    cells = _cells(p[rows, labels - shift], targets)  # (R, m, m)
    return cells.sum() / len(labels) if way == "sum" else cells.mean()


def _rois(n: int, classes: int, highest: int) -> tuple[Tensor, ...]:
    logits = 2 * torch.randn(n, classes, 3, 3, generator=_generator)
    labels = torch.randint(1, highest + 1, (n,), generator=_generator)
    return logits, labels, (torch.rand(n, 3, 3, generator=_generator) > 0.4).float()


# Without the last class first: there an index that is one too high raises no error.
_CASES = [_rois(2 + n % 4, 3 + n % 2, 2 + n % 2) for n in range(12)]
_LAST = [_rois(6, 3, 3) for _ in range(4)]

_ALL = (
    "The masks of other classes change the loss.",
    "Only the mask of the true class is looked at. What the others say is free.",
)
_SUM = "The loss grows with the number of cells.", "Divide by the m x m cells: the loss is their mean."
_SOFTMAX = (
    "The classes compete with each other.",
    "Each cell of each class has a sigmoid of its own. There is no softmax over the classes.",
)
_OFF = "The mask of another class is trained.", "Label 1 has the first mask, because the background has none."

LOSS = (
    Part(
        "the number",
        near(0.6637, 0.003),
        (
            Mistake(*_ALL, lambda answer: near(0.5264, 0.003)(answer) or near(0.8010, 0.003)(answer)),
            Mistake(*_SUM, near(2.6548, 0.005)),
            Mistake(*_SOFTMAX, near(1.0397, 0.003)),
            Mistake(*_OFF, near(0.3890, 0.003)),
        ),
        "The sigmoid of ln 3 is 3/4, that of 0 is 1/2, and that of -ln 3 is 1/4. Take -ln of the right one in each "
        "cell of class 2, and then the mean.",
    ),
    Part(
        "the function",
        agrees(_loss, _CASES + _LAST, tol=1e-4),
        (
            Mistake(*_ALL, agrees_any(_CASES, partial(_loss, way="all"), partial(_loss, way="zeros"))),
            Mistake(*_SUM, agrees_any(_CASES, partial(_loss, way="sum"))),
            Mistake(*_SOFTMAX, agrees_any(_CASES, partial(_loss, way="softmax"))),
            Mistake(*_OFF, agrees_any(_CASES, partial(_loss, shift=0))),
            Mistake(
                "Even a mask that is certain and right has a large loss.",
                "binary_cross_entropy_with_logits takes the sigmoid itself. Give it the logits.",
                agrees_any(_CASES, partial(_loss, way="twice")),
            ),
        ),
        "Try it on the RoI of the first part, with labels = torch.tensor([2]).",
    ),
)


# 06-F: a head that learns eight objects


@cache
def eight_objects() -> tuple[Tensor, Tensor, Tensor]:
    """Eight objects as a mask head reads them: what `fit_mask_head` of exercise 06-F learns by heart.

    Returns:
        Pooled features (8, 64, 7, 7), the labels (8,) from 1 to 6, and the targets (8, 14, 14) in [0, 1].
    """
    detector, scenes = load("fpn"), load_dataset("shapes", "train", masks=True)
    pooled, labels, targets = [], [], []
    for image, target in (scenes[index] for index in range(4, 20)):
        large = (target["boxes"][:, 2:] - target["boxes"][:, :2]).amin(dim=1) > 24
        if not large.any():
            continue
        k = int(large.nonzero()[0])
        box = target["boxes"][k : k + 1]
        with torch.no_grad():
            pooled.append(detector.pool(detector.maps([image])[1], [box], 7))
        labels.append(target["labels"][k])
        targets.append(cut_masks(target["masks"][k : k + 1], box, 14))
    return torch.cat(pooled[:8]), torch.stack(labels[:8]), torch.cat(targets[:8]).clamp(0, 1)


@lru_cache(maxsize=1)
def _fitted(function: Callable) -> Tensor:
    """The logits that the learner's head gives after its training."""
    pooled, labels, targets = eight_objects()
    torch.manual_seed(0)
    head = function(pooled.clone(), labels.clone(), targets.clone())
    if head is ...:
        raise _Open
    if not isinstance(head, nn.Module):
        raise ValueError("expected a module: return the head that was trained")
    with torch.no_grad():
        return head(pooled)


def _shaped(function: Callable) -> bool:
    return _fitted(function).shape == (8, 6, 14, 14)


def _shares(logits: Tensor, labels: Tensor) -> Tensor:
    """IoU of each object's mask, the one of this label, with its target."""
    masks, wanted = logits[torch.arange(8), labels - 1] > 0, eight_objects()[2] > 0.5
    return (masks & wanted).sum(dim=(1, 2)) / (masks | wanted).sum(dim=(1, 2))


def _known(function: Callable) -> bool:
    return _shaped(function) and _shares(_fitted(function), eight_objects()[1]).min().item() > 0.85


def _logits(function: Callable) -> bool:
    """Are the outputs logits, not probabilities and not cut off at 0?"""
    return _fitted(function).min().item() < 0


def _of_the_next(function: Callable) -> bool:
    """Does the mask of the next label know the object?"""
    following = eight_objects()[1] % 6 + 1
    return _shaped(function) and _shares(_fitted(function), following).mean().item() > 0.85


HEAD = (
    Part(
        "the head",
        lambda function: _known(function) and _logits(function),
        (
            Mistake(
                "The masks have 7 x 7 cells.",
                "The transposed convolution doubles them: kernel 2, stride 2.",
                lambda function: _fitted(function).shape[-2:] == (7, 7),
            ),
            Mistake(
                "There is not a mask for each of the six classes.",
                "The last layer is a 1 x 1 convolution with six outputs. The background has no mask.",
                lambda function: _fitted(function).shape[-2:] == (14, 14) and not _shaped(function),
            ),
            Mistake(
                "No output is negative.",
                "The head gives logits. The sigmoid is in the loss, and no ReLU stands behind the last layer.",
                lambda function: _shaped(function) and not _logits(function),
            ),
            Mistake(
                "The masks of another class know the objects.",
                "Label 1 has the first mask: the loss takes mask number label - 1.",
                lambda function: not _known(function) and _of_the_next(function),
            ),
        ),
        "The head does not know the masks by heart yet. Print the loss of every tenth step: does it fall? About 200 "
        "steps of Adam with a rate of 0.002 are enough.",
    ),
)
