"""What refuses wrong settings, losses, results and checkpoints of a training."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from rcnn_tutorial.engine.checks import expect


class NotFiniteError(RuntimeError):
    """A loss or a gradient that is not finite; `indices` are those of the pictures in the data set, `step` its number.

    Args:
        message: what happened.
        step: from 0.
        indices: of the pictures of the mini-batch.
    """

    def __init__(self, message: str, step: int = 0, indices: Sequence[int] = ()):
        super().__init__(message)
        self.step, self.indices = step, list(indices)


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
        NotFiniteError: not all are finite; the message names the images.
    """
    if not all(map(math.isfinite, values.values())):
        indices, _, targets = zip(*batch, strict=True)
        ids = [int(target["image_id"]) for target in targets if isinstance(target, dict) and "image_id" in target]
        raise NotFiniteError(
            f"step {step}: {values}, expected finite numbers; images {list(indices)} of the dataset, image_id {ids}. "
            "The weights are those before this step; a lower lr or a longer warm-up may help",
            step,
            indices,
        )


def plain_numbers(results: Any) -> dict:
    """Give the numbers of a dict, nested or not, as Python's own: others could not be read from a checkpoint.

    Args:
        results: what `evaluate` returned.
    Raises:
        ValueError: no dict.
    """
    if not isinstance(results, dict):
        raise ValueError(f"evaluate: returned {type(results).__name__}, expected a dict of numbers")
    return {name: plain_numbers(value) if isinstance(value, dict) else float(value) for name, value in results.items()}


def check_same_training(path: Path, saved: dict, now: dict) -> None:
    """Refuse the checkpoint of another training.

    Args:
        path: of its file.
        saved: what must be the same for a training to go on, in plain values, as the checkpoint has it.
        now: as the training has it.
    Raises:
        ValueError: they are not equal; the message names what differs.
    """
    if different := differences(saved, now):
        more = f" and {len(different) - 5} more" if len(different) > 5 else ""
        raise ValueError(
            f"{path}: the checkpoint of another training ({'; '.join(different[:5])}{more}). "
            "Give the same settings (more pictures are no other training, nor more steps where schedule='step'), "
            "another folder, or resume=False to start again"
        )


def differences(saved: Any, now: Any, name: str = "") -> list[str]:
    """List where two nested dicts of plain values differ, one line each."""
    if isinstance(saved, dict) and isinstance(now, dict):
        pairs = [(f"{name}.{key}".strip("."), saved.get(key), now.get(key)) for key in saved | now]
        return [line for key, there, here in pairs for line in differences(there, here, key)]
    return [] if saved == now else [f"{name}: {saved} there, {now} here"]
