"""The record of a training: one entry per step, and the evaluations."""

from dataclasses import dataclass, field


@dataclass
class History:
    """The record of a training, in plain numbers.

    Args:
        losses: for each name the loss of every step; the mean over the processes where there are several.
        lr: learning rate of every step.
        seconds: wall time of every step with the loading of its images, without evaluations and checkpoints.
        evaluations: what `evaluate` returned, with "step", the number of steps done by then.
    """

    losses: dict[str, list[float]] = field(default_factory=dict)
    lr: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    evaluations: list[dict] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Number of steps done."""
        return len(self.lr)

    @property
    def total(self) -> list[float]:
        """Sum of the losses of every step."""
        return [sum(step) for step in zip(*self.losses.values(), strict=True)]

    def add(self, losses: dict[str, float], lr: float, seconds: float) -> None:
        """Append one step to the record.

        Raises:
            ValueError: losses of other names than in the steps before.
        """
        if self.losses and losses.keys() != self.losses.keys():
            raise ValueError(f"losses: {sorted(losses)} at step {self.steps}, expected {sorted(self.losses)}")
        for name, value in losses.items():
            self.losses.setdefault(name, []).append(value)
        self.lr.append(lr)
        self.seconds.append(seconds)
