"""The functions of `torch.cuda` that a program asks before it uses the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch

from rcnn_tutorial.engine import kernels
from tests.device.kernels import HAS_TRITON
from tests.device.log import Log
from tests.device.simulation import Names, Simulation


def _nothing(*args, **kwargs):
    """Done at once: there is nothing to set up, to seed or to wait for."""


@contextmanager
def simulated_cuda(triton: bool = HAS_TRITON) -> Iterator[Log]:
    """Let cuda:0 be there, simulated; yields the log of what happens on it. Afterwards all is as it was before.

    Args:
        triton: whether the package finds Triton there, and so uses its kernels.
    """
    if torch.cuda.is_available():
        torch.cuda.init()  # C++ remembers that it was done, and does it once
    functions = {
        "_is_in_bad_fork": lambda: False,
        "_lazy_init": _nothing,
        "current_device": lambda: 0,
        "default_generators": (torch.Generator(),),
        "device_count": lambda: 1,
        "get_device_name": lambda *args: "simulated",
        "get_rng_state": lambda *args: torch.get_rng_state(),
        "is_available": lambda: True,
        "is_bf16_supported": lambda *args, **kwargs: True,
        "is_initialized": lambda: True,
        "manual_seed": _nothing,
        "manual_seed_all": _nothing,
        "set_rng_state": _nothing,
        "synchronize": _nothing,
    }
    log = Log()
    lifting = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") is made on the host and copied
    try:
        with (
            mock.patch.multiple(torch.cuda, **functions),
            mock.patch.object(kernels, "_can_launch", lambda device: triton),
            Names(),
            Simulation(log),
        ):
            yield log
    finally:
        torch._C._set_only_lift_cpu_tensors(lifting)
