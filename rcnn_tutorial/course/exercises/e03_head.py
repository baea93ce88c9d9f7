"""Exercises of 03_fast_rcnn about its head: the loss of class and box, and a head that learns both."""

from collections.abc import Callable
from functools import cache, lru_cache, partial

import torch
from torch import Tensor, nn

from rcnn_tutorial.course.exercises.core import Mistake, Part, _Open, agrees, agrees_any, near
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors import load
from rcnn_tutorial.detectors.two_stage import draw_samples, given, to_input
from rcnn_tutorial.ops.losses import smooth_l1

_generator = torch.Generator().manual_seed(3)


# 03-C: class and box


def _softmax(scores: Tensor) -> Tensor:
    return scores.softmax(dim=1)


def _log_softmax(scores: Tensor) -> Tensor:
    return scores.log_softmax(dim=1)


def _loss(
    scores: Tensor,
    u: Tensor,
    offsets: Tensor,
    targets: Tensor,
    boxes_over: Callable = len,
    log_p: Callable = _log_softmax,
) -> Tensor:
    """The loss over both answers, with the mistakes one can make as options.

    Args:
        boxes_over: of u, divides the part of the boxes.
        log_p: of the scores.
    """
    rows = torch.arange(len(u))
    box = smooth_l1(offsets[rows, u - 1] - targets).sum(1)[u > 0].sum()
    return -log_p(scores)[rows, u].sum() / len(u) + box / boxes_over(u)


def _rois(n: int, classes: int, highest: int) -> tuple[Tensor, ...]:
    """One RoI of background, one of class 1, the rest of classes 0 to `highest`."""
    scores = 2 * torch.randn(n, classes + 1, generator=_generator)
    u = torch.cat((torch.tensor([0, 1]), torch.randint(0, highest + 1, (n - 2,), generator=_generator)))
    offsets = 3 * torch.randn(n, classes, 4, generator=_generator)
    return scores, u, offsets, torch.randn(n, 4, generator=_generator)


# Without the last class first: there an index that is one too high raises no error.
_LOSS_CASES = [_rois(3 + n % 5, 2 + n % 3, 1 + n % 3) for n in range(15)]
_LAST_CLASS = [_rois(8, 3, 3) for _ in range(5)]


def _reads(background: bool) -> Callable[[Callable], bool]:
    """Does the loss change with offsets of background, or with those of another class than the RoI's?"""

    def changes(function: Callable) -> bool:
        for scores, u, offsets, targets in _LOSS_CASES:
            empty = (u == 0)[:, None, None]
            own = nn.functional.one_hot(u, scores.shape[1])[:, 1:, None] == 1  # (R, K, 1)
            moved = torch.where(empty if background else ~own & ~empty, offsets + 5, offsets)
            losses = (torch.as_tensor(function(scores, u, o.clone(), targets)).float() for o in (offsets, moved))
            if not torch.allclose(*losses):
                return True
        return False

    return changes


_BACKGROUND = "u = 0 has no box: its offsets are left out."
_OVER_ALL = "The sum over the boxes is divided by all RoIs, as that over the classes."
_OWN_CLASS = "The network gives four offsets for each class. Class u has row u - 1, since background has none."

_MEAN_OF_FOUR = (
    "The boxes count four times too little.",
    'The four errors of a window are added up. reduction="mean" divides by them as well.',
)

LOSS = (
    Part(
        "the number",
        near(1.1327, 0.003),
        (
            Mistake("It is too high: a box of background is in it.", _BACKGROUND, near(2.2993, 0.003)),
            Mistake("It is too high, though the boxes are the right ones.", _OVER_ALL, near(1.4868, 0.003)),
            Mistake("It is too high: RoI 1 has an error of 0.5, and not of 3.", _OWN_CLASS, near(1.2577, 0.003)),
            Mistake(*_MEAN_OF_FOUR, lambda answer: near(0.6014, 0.003)(answer) or near(0.6899, 0.003)(answer)),
        ),
        "Write down for each RoI -ln p_u and, unless it is background, smooth L1 of the four offsets of its class. Add "
        "all up and divide by 3.",
    ),
    Part(
        "the function",
        agrees(_loss, _LOSS_CASES + _LAST_CLASS, tol=1e-4),
        (
            Mistake("The offsets of background RoIs change the loss.", _BACKGROUND, _reads(background=True)),
            Mistake(
                "With more background in the batch the boxes count as much as before.",
                _OVER_ALL,
                agrees_any(_LOSS_CASES, lambda *case: _loss(*case, boxes_over=torch.count_nonzero)),
            ),
            Mistake(
                "The offsets of a class that the RoI does not have change the loss.",
                _OWN_CLASS,
                _reads(background=False),
            ),
            Mistake(
                *_MEAN_OF_FOUR,
                agrees_any(
                    _LOSS_CASES,
                    partial(_loss, boxes_over=lambda u: 4 * len(u)),
                    partial(_loss, boxes_over=lambda u: 4 * torch.count_nonzero(u)),
                ),
            ),
            Mistake(
                "Even a window whose class is certain has a large class loss.",
                "cross_entropy takes the softmax itself. Give it the scores, and not probabilities.",
                agrees_any(_LOSS_CASES, partial(_loss, log_p=lambda scores: _softmax(scores).log_softmax(dim=1))),
            ),
            Mistake(
                "The class loss is negative.",
                "The logarithm is missing: nll_loss takes log-probabilities.",
                agrees_any(_LOSS_CASES, partial(_loss, log_p=_softmax)),
            ),
        ),
        "Try it on the three RoIs of the first part: the scores are the logarithms of the probabilities there.",
    ),
)


# 03-F: a head that learns both


@cache
def eight_pictures() -> tuple[Tensor, Tensor, Tensor]:
    """Windows of eight scenes as a head reads them: what `fit_head` of exercise 03-F learns by heart.

    Half of the windows are moved a little from an object, the others lie anywhere.

    Returns:
        Pooled features (R, 96, 4, 4), the labels (R,), 0 for the background, and the normalised offsets (R, 4).
    """
    detector, scenes = load("fast_rcnn"), load_dataset("shapes", "train")
    generator = torch.Generator().manual_seed(0)
    pooled, labels, targets = [], [], []
    for image, target in (scenes[index] for index in range(8)):
        batch, maps = detector.maps([image])
        boxes = target["boxes"].repeat(2, 1)
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        near = boxes + 0.12 * sides * torch.randn(boxes.shape, generator=generator)
        corner = torch.rand(len(near), 2, generator=generator) * 150
        windows = torch.cat((near, torch.cat((corner, corner + 40), dim=1)))
        objects = to_input(batch, [target])
        drawn = draw_samples(given(batch, [windows]), objects, batch.sizes, detector.settings, generator)
        kept = drawn.labels[0] >= 0
        boxes, truth = drawn.boxes[0][kept], drawn.matched[0][kept].clamp(min=0)
        pooled.append(detector.pool(maps, boxes[None]).detach())
        labels.append(drawn.labels[0][kept])
        targets.append(detector.encode(objects[0]["boxes"][truth], boxes))
    return torch.cat(pooled), torch.cat(labels), torch.cat(targets)


@lru_cache(maxsize=1)
def _fitted(function: Callable) -> tuple[Tensor, Tensor]:
    """The scores and the offsets that the learner's head gives after its training."""
    pooled, labels, targets = eight_pictures()
    torch.manual_seed(0)
    head = function(pooled.clone(), labels.clone(), targets.clone())
    if head is ...:
        raise _Open
    with torch.no_grad():
        scores, offsets = head(pooled)
    return scores, offsets


def _shapes(function: Callable) -> tuple[bool, bool]:
    """Have the scores the right shape, and have the offsets?"""
    (scores, offsets), (pooled, labels, _) = _fitted(function), eight_pictures()
    rows, classes = len(pooled), int(labels.max())
    return scores.shape == (rows, classes + 1), offsets.shape == (rows, classes, 4)


def _known(function: Callable) -> tuple[bool, bool]:
    """Are the classes known by heart, and are the boxes?"""
    if not all(_shapes(function)):
        return False, False
    (scores, offsets), (_, labels, targets) = _fitted(function), eight_pictures()
    right = (scores.argmax(dim=1) == labels).float().mean().item()
    objects = labels.nonzero().flatten()
    error = (offsets[objects, labels[objects] - 1] - targets[objects]).abs().mean().item()
    return right > 0.95, error < 0.25


def _plain(function: Callable) -> bool:
    """Are the outputs scores and offsets, not probabilities and not cut off at 0?"""
    scores, offsets = _fitted(function)
    return not _adds_to_one(scores) and offsets.min().item() < 0


def _adds_to_one(scores: Tensor) -> bool:
    return torch.allclose(scores.sum(dim=1), torch.ones(len(scores)), atol=1e-3)


def _of(which: Callable[[Tensor, Tensor], bool]) -> Callable[[Callable], bool]:
    """A test of the outputs, where both shapes are right."""
    return lambda function: all(_shapes(function)) and which(*_fitted(function))


HEAD = (
    Part(
        "the head",
        lambda function: all(_known(function)) and _plain(function),
        (
            Mistake(
                "The scores have another shape than (R, K + 1).",
                "The background has a score, too, and it is column 0.",
                lambda function: not _shapes(function)[0],
            ),
            Mistake(
                "The offsets have another shape than (R, K, 4).",
                "A linear layer gives (R, 4K): unflatten(1, (K, 4)). The background has no offsets.",
                lambda function: _shapes(function) == (True, False),
            ),
            Mistake(
                "The scores of each window add up to 1.",
                "There is a softmax in the head. The loss takes the softmax itself, and taking it twice makes it slow.",
                _of(lambda scores, offsets: _adds_to_one(scores)),
            ),
            Mistake(
                "No offset is negative.",
                "There is a ReLU behind the last layer. A box must be able to move to the left.",
                _of(lambda scores, offsets: offsets.min().item() >= 0 and not _adds_to_one(scores)),
            ),
            Mistake(
                "The classes are known by heart, the boxes are not.",
                "Is the box loss added to the class loss before backward?",
                lambda function: _plain(function) and _known(function) == (True, False),
            ),
            Mistake(
                "The boxes are known by heart, the classes are not.",
                "Is the class loss added to the box loss before backward?",
                lambda function: _plain(function) and _known(function) == (False, True),
            ),
        ),
        "The head does not know the windows by heart yet. Print the loss of every tenth step: does it fall? About 200 "
        "steps of Adam with a rate of 0.001 are enough.",
    ),
)
