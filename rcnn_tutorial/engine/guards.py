"""What guards a training: the step that Ctrl-C meets, and the random numbers and buffers during an evaluation."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from rcnn_tutorial.engine.processes import process_rank


def generators(model: nn.Module) -> dict[str, torch.Generator]:
    """List the random generators that a step draws from: torch's global ones, and the model's where it has one."""
    device = next(model.parameters()).device
    used = {"cpu": torch.default_generator}
    if device.type == "cuda":
        used["cuda"] = torch.cuda.default_generators[device.index]
    if isinstance(generator := getattr(model, "generator", None), torch.Generator):
        used["model"] = generator
    return used


@contextmanager
def patient_interrupt() -> Iterator[list]:
    """Let a step end before Ctrl-C does: the first one is noted in the list that this yields, a second one is as usual.

    Several processes do not end after the same step, and would wait for each other: there, in a thread, to which no
    signal comes, and where Ctrl-C is ignored, nothing is changed.
    """
    interrupted: list = []
    usual = signal.getsignal(signal.SIGINT)

    def note(number, frame):
        interrupted.append(number)
        signal.signal(signal.SIGINT, usual)

    alone = process_rank()[1] == 1 and threading.current_thread() is threading.main_thread()
    if alone and usual not in (None, signal.SIG_IGN):  # None: what handles it is not Python's
        signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        if signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, usual)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Let a model run between two steps: afterwards its buffers and all random generators are as before."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    states = [(generator, generator.get_state()) for generator in generators(model).values()]
    try:
        yield
    finally:
        for buffer, value in buffers:
            buffer.copy_(value)
        for generator, state in states:
            generator.set_state(state)
