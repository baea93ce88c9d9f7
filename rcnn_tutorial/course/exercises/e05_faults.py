"""Exercise 05-6: one detector on a feature pyramid with three faults, one at a time."""

from copy import deepcopy
from dataclasses import replace

from rcnn_tutorial.course.exercises.e05 import FAULTS
from rcnn_tutorial.detectors.fpn import FPN


def faulty(model: FPN) -> dict[str, FPN]:
    """Three copies of a trained detector, A, B and C, each with a fault of its own.

    Args:
        model: trained with the whole pyramid, in eval mode.
    Returns:
        By letter; which has which fault is the exercise.
    """
    copies = {fault: deepcopy(model) for fault in FAULTS}
    copies["no top-down"].body.fpn.top_down = False
    fpn = copies["no lateral"].body.fpn
    fpn.read = (*(False for _ in fpn.read[1:]), True)
    wrong = copies["wrong level rule"]
    wrong.settings = replace(wrong.settings, s0=4 * wrong.settings.s0)
    return dict(zip("ABC", copies.values(), strict=True))
