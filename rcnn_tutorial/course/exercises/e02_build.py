"""The exercise of 02_sppnet that builds a part: a classifier of pictures of any size, which overfits eight of them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnn_tutorial.course.exercises.core import Mistake, Part, _Open

CLASSES, STEPS = 4, 200
SIZES = ((40, 52), (64, 44), (48, 48), (36, 68), (52, 40), (44, 64), (60, 60), (40, 40))  # height and width


def eight_pictures() -> tuple[list[Tensor], Tensor]:
    """Make eight pictures (1, 3, H, W) of different sizes, and for each the quarter in which its square lies, (8,)."""
    pictures = []
    for i, (height, width) in enumerate(SIZES):
        picture = torch.zeros(1, 3, height, width)
        # at multiples of 8, so that a convolution with a stride sees the square alike in all quarters
        top, left = (8 if half == 0 else side // 8 * 8 - 16 for half, side in ((i // 2 % 2, height), (i % 2, width)))
        picture[..., top : top + 8, left : left + 8] = 1.0
        pictures.append(picture)
    return pictures, torch.arange(len(SIZES)) % CLASSES


def built(build: Callable) -> nn.Module:
    """The learner's network, the same at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(CLASSES)
    if model is ...:
        raise _Open
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected a torch.nn.Module, got {type(model).__name__}")
    return model


def _scores(model: nn.Module) -> list[Tensor] | None:
    """Its scores of the eight pictures, or None if it refuses one of them."""
    try:
        with torch.no_grad():
            found = [model(picture) for picture in eight_pictures()[0]]
    except RuntimeError:
        return None
    if any(each is ... for each in found):
        raise _Open
    return found


def _is_right(build: Callable) -> bool:
    """Does it give (1, 4) scores for each size, and all eight labels after 200 steps?"""
    model = built(build)
    scores = _scores(model)
    if scores is None or any(each.shape != (1, CLASSES) for each in scores) or _are_probabilities(scores):
        return False
    if not all(has_gradient(model)):
        return False
    pictures, labels = eight_pictures()
    optimiser = torch.optim.Adam(model.parameters(), 0.003)
    for _ in range(STEPS):
        optimiser.zero_grad()
        F.cross_entropy(torch.cat([model(picture) for picture in pictures]), labels).backward()
        optimiser.step()
    scores = _scores(model)
    return scores is not None and torch.equal(torch.cat(scores).argmax(dim=1), labels)


def _other_channels(build: Callable) -> bool:
    """Does it refuse the pictures because its first convolution takes another number of channels?"""
    model = built(build)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    return bool(layers) and layers[0].in_channels != 3 and _scores(model) is None


def _are_probabilities(scores: list[Tensor]) -> bool:
    every = torch.cat(scores)
    return bool((every >= 0).all()) and torch.allclose(every.sum(dim=1), torch.ones(len(every)), atol=1e-4)


def has_gradient(model: nn.Module) -> list[bool]:
    """For each convolution of the network, whether a loss of its scores reaches its weights."""
    model.zero_grad()
    torch.cat([model(picture) for picture in eight_pictures()[0]]).square().sum().backward()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    return [layer.weight.grad is not None and bool(layer.weight.grad.any()) for layer in layers]


def _shaped(test: Callable[[nn.Module, list[Tensor]], bool]) -> Callable[[Callable], bool]:
    """A test for networks that give (1, 4) for every size."""

    def holds(build: Callable) -> bool:
        model = built(build)
        scores = _scores(model)
        return scores is not None and all(s.shape == (1, CLASSES) for s in scores) and test(model, scores)

    return holds


def _without_places(model: nn.Module, scores: list[Tensor]) -> bool:
    """Does it give a square in each of the four quarters nearly the same scores?"""
    return all(torch.allclose(scores[0], each, rtol=1e-3, atol=1e-5) for each in scores[1:4])


def _another_shape(build: Callable) -> bool:
    scores = _scores(built(build))
    return scores is not None and any(each.shape != (1, CLASSES) for each in scores)


BUILD = (
    Part(
        "the network",
        _is_right,
        (
            Mistake(
                "Its first convolution does not take three channels.",
                "The pictures are (1, 3, H, W), although they are grey: begin with Conv2d(3, ...).",
                _other_channels,
            ),
            Mistake(
                "It takes pictures of one size alone.",
                "The fully connected layer sees the flattened map. Pool the map to n x n bins before it.",
                lambda build: _scores(built(build)) is None and not _other_channels(build),
            ),
            Mistake(
                "The scores do not have the shape (1, classes).",
                "Join the levels along dim=1, and end with a linear layer of `classes` outputs.",
                _another_shape,
            ),
            Mistake(
                "The outputs of each picture add up to 1.",
                "cross_entropy takes scores and does the softmax itself: leave it out.",
                _shaped(lambda model, scores: _are_probabilities(scores)),
            ),
            Mistake(
                "A square in one corner gets the same scores as in another.",
                "A single bin knows what is there, and not where: add a level of 2 x 2 bins.",
                _shaped(lambda model, scores: not _are_probabilities(scores) and _without_places(model, scores)),
            ),
            Mistake(
                "The convolutions learn nothing: no gradient reaches them.",
                "Pool without detach and without no_grad.",
                _shaped(
                    lambda model, scores: (
                        not _are_probabilities(scores)
                        and not _without_places(model, scores)
                        and not all(has_gradient(model))
                    )
                ),
            ),
        ),
        "It takes all sizes, but after 200 steps of Adam it misses some of the eight. Has it a convolution with ReLU, "
        "a level of 2 x 2 bins, and a linear layer at the end?",
    ),
)
