"""What a training guards: the caller's random numbers, the model during an evaluation, the step that Ctrl-C meets."""

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from rcnn_tutorial.training.checkpoint import process_rank


@contextmanager
def patient_interrupt() -> Iterator[list]:
    """Inside it the first Ctrl-C is noted in the list and the step goes on to its end; a second one is as usual.

    Several processes do not end after the same step, and would wait for each other: there, in a thread, to which no
    signal comes, and where Ctrl-C is ignored, nothing is changed.
    """
    interrupted: list = []
    usual = signal.getsignal(signal.SIGINT)

    def note(number, frame):
        interrupted.append(number)
        signal.signal(signal.SIGINT, usual)

    alone = process_rank()[1] == 1 and threading.current_thread() is threading.main_thread()
    if not alone or usual in (None, signal.SIG_IGN):  # None: what handles it is not Python's
        yield interrupted
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, usual)


def own_random_state(device: torch.device) -> AbstractContextManager:
    """Inside it torch's global generators may be used and seeded; outside they stay as they were."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Inside it a model may run in training mode; afterwards its statistics and its generator are as before."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    generator = getattr(model, "generator", None)
    state = None if generator is None else generator.get_state()
    try:
        yield
    finally:
        for buffer, value in buffers:
            buffer.copy_(value)
        if generator is not None:
            generator.set_state(state)
