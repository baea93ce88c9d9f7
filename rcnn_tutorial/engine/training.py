"""What refuses wrong settings and losses of a training, before a step touches the weights."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from rcnn_tutorial.engine.checks import expect


def check_settings(settings: Any) -> None:
    """Refuse settings of a training that are out of range.

    Args:
        settings: a `TrainSettings`.
    Raises:
        ValueError: a value out of range; the message names it.
    """
    s, counts = settings, ("steps", "batch_size", "checkpoint_every", "log_every")
    expected = {name: (getattr(s, name) >= 1, "at least 1") for name in counts} | {
        "lr": (0 < s.lr < math.inf, "a positive number"),
        "momentum": (0 <= s.momentum < 1, "from 0 to below 1"),
        "weight_decay": (0 <= s.weight_decay < math.inf, "at least 0"),
        "schedule": (s.schedule in ("step", "cosine"), "'step' or 'cosine'"),
        "warmup": (0 <= s.warmup <= s.steps, "from 0 to steps"),
        "milestones": (list(s.milestones) == sorted(set(s.milestones)), "increasing steps"),
        "lr_factor": (0 < s.lr_factor <= 1, "above 0, at most 1"),
        "clip_norm": (s.clip_norm > 0, "a positive number or infinity"),
        "precision": (s.precision in ("float32", "bfloat16", "float16"), "'float32', 'bfloat16' or 'float16'"),
        "seed": (s.seed >= 0, "at least 0"),
        "workers": (s.workers >= 0, "at least 0"),
        "evaluate_every": (s.evaluate_every is None or s.evaluate_every >= 1, "None or at least 1"),
    }
    for name, (holds, allowed) in expected.items():
        expect(holds, name, allowed, repr(getattr(s, name)))


def check_losses(losses: Any) -> None:
    """Refuse what a model returned in training mode, where it is no dict of scalar losses that can be trained.

    Args:
        losses: anything.
    Raises:
        ValueError: no dict, an empty one, a loss that is no scalar, or none that depends on a trained parameter.
    """
    if not isinstance(losses, dict) or not losses:
        raise ValueError(f"model: returned {type(losses).__name__} in training mode, expected a dict of scalar losses")
    for name, loss in losses.items():
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise ValueError(f"model: loss {name!r} is {loss!r}, expected a scalar tensor")
    if not any(loss.requires_grad for loss in losses.values()):
        raise ValueError(f"model: none of the losses {sorted(losses)} depends on a parameter that is trained")


def require_finite(values: dict[str, float], step: int, batch: Sequence[tuple[int, Any, Any]]) -> None:
    """End a training at a number that is not finite.

    Args:
        values: losses, or a norm.
        step: its number, from 0.
        batch: the samples of the step, each an index, an image and a target.
    Raises:
        RuntimeError: not all are finite; the message names the images.
    """
    if not all(map(math.isfinite, values.values())):
        indices, _, targets = zip(*batch, strict=True)
        ids = [int(target["image_id"]) for target in targets if isinstance(target, dict) and "image_id" in target]
        raise RuntimeError(
            f"step {step}: {values}, expected finite numbers; images {list(indices)} of the dataset, image_id {ids}. "
            "The weights are those before this step; a lower lr or a longer warm-up may help"
        )
