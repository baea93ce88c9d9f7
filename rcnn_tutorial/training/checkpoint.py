"""A training on disk, such that a run killed at any moment goes on as if nothing had happened.

A checkpoint holds all that the next step depends on: weights, momentum, loss scale, the state of every random
generator, and the record, whose length gives the learning rate and the place in the images' order.
"""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import Dataset

from rcnn_tutorial.cache import read_archive
from rcnn_tutorial.training.history import History
from rcnn_tutorial.training.settings import TrainSettings

WITHOUT_INFLUENCE = (
    "workers",
    "evaluate_every",
    "checkpoint_every",
    "log_every",
)  # settings that a resumed training may change


def process_rank() -> tuple[int, int]:
    """This process's number, and how many there are: (0, 1) without torch.distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@dataclass
class Run:
    """A training between two steps.

    Args:
        model: with its weights, and the generator of its sampling in `model.generator` where it has one.
        forward: the model, or what shares its gradients between the processes.
        optimizer: with its momentum.
        scaler: of the loss, for float16.
        precision: of the forward pass; None is float32.
        settings: of the training.
        dataset: a checkpoint knows its length and class names.
        history: of the steps done.
    """

    model: nn.Module
    forward: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    precision: torch.dtype | None
    settings: TrainSettings
    dataset: Dataset
    history: History = field(default_factory=History)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def save(self, path: Path) -> None:
        """Write a checkpoint in place of the last one; called by every process, written by the first.

        The file is written beside the old one, pushed to the disk and only then renamed: at any moment `path` is a
        whole checkpoint, the old or the new.
        """
        rank, processes = process_rank()
        random = [self._random_state()]
        if processes > 1:
            random = [None] * processes
            dist.all_gather_object(random, self._random_state())
        if rank > 0:
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": asdict(self.history),
            "random": random,
            "identity": self._identity(),
        }
        unfinished = path.with_suffix(".unfinished")
        with open(unfinished, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)

    def load(self, path: Path) -> None:
        """Go on where a checkpoint was written; also with more pictures, or with more steps of the "step" schedule.

        Raises:
            ValueError: a file that is no whole checkpoint, or one of another training; the message names what differs.
        """
        state = read(path)
        different = differences(state["identity"], self._continued(state["identity"], self._identity()))
        if different:
            more = f" and {len(different) - 5} more" if len(different) > 5 else ""
            raise ValueError(
                f"{path}: the checkpoint of another training ({'; '.join(different[:5])}{more}). "
                "Give the same settings (more pictures are no other training, nor more steps where schedule='step'), "
                "another folder, or resume=False to start again"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.history = History(**state["history"])
        if self.history.steps > self.settings.steps:
            raise ValueError(
                f"{path}: a training of {self.history.steps} steps, expected at most steps = {self.settings.steps}"
            )
        rank, _ = process_rank()
        self._set_random_state(state["random"][rank])

    @staticmethod
    def _continued(saved: dict, now: dict) -> dict:
        """This training's identity, less what it may have more of than the checkpoint: pictures, and steps.

        With the cosine schedule the number of steps decides the rate of every step, those already done too.
        """
        settings = dict(now["settings"])
        if settings["schedule"] == "step":
            settings["steps"] = saved["settings"].get("steps")
        return now | {"settings": settings, "images": min(saved["images"], now["images"])}

    def _identity(self) -> dict:
        """What must be the same for a training to go on, in plain values."""
        settings = asdict(self.settings)
        return {
            "settings": {key: value for key, value in settings.items() if key not in WITHOUT_INFLUENCE},
            "classes": list(self.dataset.classes or ()),
            "images": len(self.dataset),
            "processes": process_rank()[1],
            "generator": self._generator is not None,
            "shapes": {name: list(value.shape) for name, value in self.model.state_dict().items()},
            "trained": {name: value.requires_grad for name, value in self.model.named_parameters()},
        }

    @property
    def _generator(self) -> torch.Generator | None:
        return getattr(self.model, "generator", None)

    def _random_state(self) -> dict[str, torch.Tensor]:
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        if self._generator is not None:
            states["model"] = self._generator.get_state()
        return states

    def _set_random_state(self, states: dict[str, torch.Tensor]) -> None:
        torch.set_rng_state(states["cpu"])
        if self.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.device)
        if self._generator is not None:
            self._generator.set_state(states["model"])


def read(path: Path) -> dict:
    """Contents of a checkpoint, on the CPU.

    Args:
        path: of the file.
    Returns:
        dict model, optimizer, scaler, history, random, identity.
    Raises:
        ValueError: a file that is no whole checkpoint.
    """
    try:
        state = read_archive(path)
    except ValueError as error:
        raise ValueError(f"{error}, expected a checkpoint of train()") from error
    parts = {"model", "optimizer", "scaler", "history", "random", "identity"}
    if not isinstance(state, dict) or not parts <= state.keys():
        given = sorted(map(str, state)) if isinstance(state, dict) else type(state).__name__
        raise ValueError(f"{path}: holds {given}, expected a checkpoint of train()")
    return state


def differences(saved: object, now: object, name: str = "") -> list[str]:
    """Where two nested dicts of plain values differ, one line each."""
    if isinstance(saved, dict) and isinstance(now, dict):
        pairs = [(f"{name}.{key}".strip("."), saved.get(key), now.get(key)) for key in saved | now]
        return [line for key, *values in pairs for line in differences(*values, key)]
    return [] if saved == now else [f"{name}: {saved} there, {now} here"]
