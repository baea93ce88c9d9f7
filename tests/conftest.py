"""What all tests share: the devices, and how numbers are computed there."""

import warnings
from contextlib import contextmanager

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
# On a GPU a convolution in float32 would be one in TF32, which has the digits of a half. Each operation has a switch of
# its own; torch's older `allow_tf32` cannot be read any more once one of them was set.
for operation in (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn):
    operation.fp32_precision = "ieee"
hypothesis.settings.register_profile("default", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("default")

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def pytest_addoption(parser):
    parser.addoption("--simulated-cuda", action="store_true", help="run the tests marked gpu on a simulated device")


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def simulated(request):
    """The log of the simulated device where a test marked gpu is to run on it, else None."""
    if not (request.config.getoption("--simulated-cuda") and request.node.get_closest_marker("gpu")):
        yield None
        return
    from tests.device import simulated_cuda

    with simulated_cuda() as log:
        yield log


@pytest.fixture
def without_waiting(simulated):
    """A context in which it is an error to wait for the GPU."""

    @contextmanager
    def watched():
        if simulated is not None:
            from tests.device import WAIT

            simulated.clear()
            yield
            assert not simulated.lines(WAIT)
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
            torch.cuda.set_sync_debug_mode("error")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode("default")

    return watched


def pytest_collection_modifyitems(config, items):
    if not (torch.cuda.is_available() or config.getoption("--simulated-cuda")):
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
