"""A training on disk, such that a run killed at any moment goes on as if nothing had happened.

A checkpoint holds all that the next step depends on: weights, momentum, loss scale, the state of every random
generator, and the record, whose length gives the learning rate and the place in the images' order.
"""

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rcnn_tutorial.cache import fitting, read_archive, write_archive
from rcnn_tutorial.engine.checks import expect
from rcnn_tutorial.engine.guards import generators
from rcnn_tutorial.engine.processes import gathered, meeting, process_rank, sharing_gradients
from rcnn_tutorial.engine.training import check_same_training
from rcnn_tutorial.training.history import History
from rcnn_tutorial.training.settings import TrainSettings

STATEFUL = ("model", "optimizer", "scaler")
PARTS = dict.fromkeys((*STATEFUL, "history", "identity"), dict) | {"random": list}
# settings that a resumed training may change
WITHOUT_INFLUENCE = {"workers", "evaluate_every", "checkpoint_every", "log_every"}


class Run:
    """A run is a training between two steps: all that the next step needs, and what a checkpoint keeps of it.

    Args:
        model: with its weights, and the generator of its sampling in `model.generator` where it has one.
        dataset: a checkpoint knows its length and class names.
        settings: of the training.
    Attributes:
        rank, processes: this process's number, and how many there are.
        trained: the parameters, those with weight decay first.
        device: where they lie.
        forward: the model, or what shares its gradients between the processes.
        wait: called by every process, it lets the others wait for what the first one does alone.
        precision: of the forward pass; None is float32.
        optimizer: with its momentum.
        scaler: of the loss, for float16.
        history: of the steps done.
    Raises:
        ValueError: too few images for a batch, a batch that the processes cannot share evenly, or nothing to train.
    """

    def __init__(self, model: nn.Module, dataset: Any, settings: TrainSettings):
        self.rank, self.processes = process_rank()
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        size = settings.batch_size
        expect(len(dataset) >= size, "dataset", f"at least batch_size = {size} images", len(dataset))
        expect(size % self.processes == 0, "batch_size", f"a multiple of {self.processes} processes", size)
        expect(len(parameters) > 0, "model", "a parameter that requires a gradient", "none")
        self.model, self.dataset, self.settings, self.history = model, dataset, settings, History()
        self.device = parameters[0].device
        self.precision = None if settings.precision == "float32" else getattr(torch, settings.precision)
        if self.precision and self.device.type == "cpu":
            warnings.warn(f"precision {settings.precision!r} is for GPUs: on the CPU it stays float32", stacklevel=3)
            self.precision = None
        self.forward, self.wait = sharing_gradients(model), meeting()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)
        matrices = [parameter for parameter in parameters if parameter.ndim > 1]
        vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
        self.trained = matrices + vectors
        groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(groups, settings.lr, settings.momentum, weight_decay=settings.weight_decay)

    def save(self, path: Path) -> None:
        """Write a checkpoint in place of the last one; called by every process, written by the first."""
        random = gathered({name: generator.get_state() for name, generator in generators(self.model).items()})
        if self.rank > 0:
            return
        state = {name: getattr(self, name).state_dict() for name in STATEFUL}
        state |= {"history": asdict(self.history), "random": random, "identity": self._identity()}
        write_archive(state, path)

    def load(self, path: Path) -> None:
        """Go on where a checkpoint was written; also with more pictures, or with more steps of the "step" schedule.

        Raises:
            ValueError: a file that is no whole checkpoint, or one of another training; the message names what differs.
        """
        state = read_archive(path, PARTS, "a checkpoint of train()")
        with fitting(path, "not a checkpoint of such a training"):
            saved, identity = state["identity"], self._identity()
            identity["images"] = min(saved["images"], identity["images"])
            if self.settings.schedule == "step":  # cosine: the number of steps decides the rate of those done, too
                identity["settings"]["steps"] = saved["settings"].get("steps")
            check_same_training(path, saved, identity)
            for name in STATEFUL:
                getattr(self, name).load_state_dict(state[name])
            self.history = History(**state["history"])
            done, steps = self.history.steps, self.settings.steps
            expect(done <= steps, str(path), f"a training of at most steps = {steps}", f"one of {done} steps")
            states = state["random"][self.rank]
            for name, generator in generators(self.model).items():
                if name in states:  # a training that moved to a GPU has none for it
                    generator.set_state(states[name])

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a training to go on, in plain values."""
        settings = asdict(self.settings)
        return {
            "settings": {key: value for key, value in settings.items() if key not in WITHOUT_INFLUENCE},
            "classes": list(self.dataset.classes or ()),
            "images": len(self.dataset),
            "processes": self.processes,
            "generator": "model" in generators(self.model),
            "shapes": {name: list(value.shape) for name, value in self.model.state_dict().items()},
            "trained": {name: value.requires_grad for name, value in self.model.named_parameters()},
        }
