"""Exercise 05-E: one detector on a feature pyramid with three faults, one at a time."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial

from torch import Tensor

from rcnn_tutorial.course.exercises.e05 import FAULTS
from rcnn_tutorial.detectors.fpn import FPN
from rcnn_tutorial.nets.fpn import FeaturePyramid, upsample


def faulty(model: FPN) -> dict[str, FPN]:
    """Three copies of a trained detector, A, B and C, each with a fault of its own.

    Args:
        model: trained with the whole pyramid, in eval mode.
    Returns:
        By letter; which has which fault is the exercise.
    """
    copies = {fault: deepcopy(model) for fault in FAULTS}
    without_top_down, without_laterals = (copies[fault].body.fpn for fault in ("no top-down", "no lateral"))
    without_top_down.merge = partial(_laterals_alone, without_top_down)
    without_laterals.merge = partial(_coarsest_alone, without_laterals)
    wrong = copies["wrong level rule"]
    wrong.settings = replace(wrong.settings, s0=4 * wrong.settings.s0)
    return dict(zip("ABC", copies.values(), strict=True))


def _laterals_alone(fpn: FeaturePyramid, maps: Sequence[Tensor]) -> list[Tensor]:
    """Each stage for itself."""
    return [lateral(features) for lateral, features in zip(fpn.laterals, maps, strict=True)]


def _coarsest_alone(fpn: FeaturePyramid, maps: Sequence[Tensor]) -> list[Tensor]:
    """The coarsest stage, enlarged to all sizes."""
    merged = [fpn.laterals[-1](maps[-1])]
    for features in maps[-2::-1]:
        merged.insert(0, upsample(merged[0], features.shape[-2:]))
    return merged
