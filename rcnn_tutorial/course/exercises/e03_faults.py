"""Exercise 03-E: one detector with three faults, one at a time."""

from copy import deepcopy

from torch import Tensor

from rcnn_tutorial.course.exercises.e03 import FAULTS
from rcnn_tutorial.detectors.fast_rcnn import FastRCNN


def faulty(model: FastRCNN) -> dict[str, FastRCNN]:
    """Three copies of a trained detector, A, B and C, each with a fault of its own.

    Args:
        model: trained, in eval mode.
    Returns:
        By letter; which has which fault is the exercise.
    """
    change = {
        "twice": lambda offsets: offsets * model.target_std,
        "class": lambda offsets: offsets.roll(1, dims=1),
        "exchange": lambda offsets: offsets[..., [1, 0, 3, 2]],
    }

    def with_fault(fault: str) -> FastRCNN:
        def decode(offsets: Tensor, boxes: Tensor) -> Tensor:
            return model.decode(change[fault](offsets), boxes)

        copy = deepcopy(model)
        copy.decode = decode
        return copy

    return {letter: with_fault(fault) for letter, fault in zip("ABC", FAULTS, strict=True)}
