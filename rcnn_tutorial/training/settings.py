"""The settings of a training: how many steps, how large, in which order, how often to look."""

import math
from dataclasses import dataclass

from rcnn_tutorial.engine.training import check_settings


@dataclass(frozen=True)
class TrainSettings:
    """Settings of stochastic gradient descent with momentum.

    Args:
        steps: updates of the weights.
        batch_size: images per step, over all processes together.
        lr: learning rate after the warm-up.
        momentum: share of the last update that is kept.
        weight_decay: for weight matrices and filters; biases and normalisation layers (one dimension) have none.
        schedule: "step" (constant, times `lr_factor` at each milestone) or "cosine" (falls to zero at the end;
            with a warm-up over a quarter of the steps this is the one-cycle schedule).
        warmup: steps over which the rate rises linearly to `lr`.
        milestones: steps from which on the rate is lower, for "step".
        lr_factor: by what a milestone multiplies the rate.
        clip_norm: largest Euclidean norm of all gradients together; infinity clips nothing.
        precision: "float32", "bfloat16" or "float16" (with a scaled loss). On a CPU it is always float32.
        seed: of the images' order, and of torch's global generator during the training.
        workers: processes that load images; 0 loads them in this one. Has no influence on the result.
        evaluate_every: steps between two evaluations; None evaluates at the end only.
        checkpoint_every: steps between two checkpoints; the end is always one.
        log_every: steps between two calls of `on_log`.
    Raises:
        ValueError: a value out of range.
    """

    steps: int
    batch_size: int = 2
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "step"
    warmup: int = 0
    milestones: tuple[int, ...] = ()
    lr_factor: float = 0.1
    clip_norm: float = math.inf
    precision: str = "float32"
    seed: int = 0
    workers: int = 0
    evaluate_every: int | None = None
    checkpoint_every: int = 200
    log_every: int = 20

    def __post_init__(self):
        check_settings(self)


def learning_rate(step: int, settings: TrainSettings) -> float:
    """The learning rate of one step, which rises during the warm-up and then follows the schedule.

    Args:
        step: number of the step, from 0.
        settings: of the training.
    Returns:
        lr * (step + 1) / warmup during the warm-up, so that its last step has the full rate; then the schedule.
    """
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    if settings.schedule == "cosine":
        done = (step - settings.warmup) / (settings.steps - settings.warmup)
        return settings.lr * (1 + math.cos(math.pi * done)) / 2
    return settings.lr * settings.lr_factor ** sum(step >= milestone for milestone in settings.milestones)
