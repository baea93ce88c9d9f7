"""What all tests share: the devices, and how numbers are computed there."""

import signal
import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

LONGEST = [  # they start first, so that at the end no process waits long for another
    "engine/test_kernels.py",
    "test_budgets.py",
    "training/test_processes.py",
    "detectors/test_fpn.py",
    "data/generated/test_shapes.py",
    "detectors/test_rcnn.py",
    "detectors/test_formats.py",
    "device/test_budgets.py",
    "course/exercises/test_e03.py",
    "test_bench.py",
    "detectors/test_shipped.py",
    "detectors/test_faster_rcnn.py",
    "training/test_resume.py",
    "course/exercises/test_e04.py",
    "test_saving.py",
    "detectors/test_fast_rcnn.py",
    "course/exercises/test_e02.py",
    "device/test_detectors.py",
]


def pytest_collectstart(collector):
    compute_alike()


@cache
def compute_alike():
    """Before the first test is read; the process that only hands tests to others reads none, and needs no torch."""
    import hypothesis
    import torch

    torch.set_num_threads(1)
    # On a GPU a convolution in float32 would be one in TF32, which has the digits of a half. Each operation has a
    # switch of its own; torch's older `allow_tf32` cannot be read any more once one of them was set.
    for operation in (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn):
        operation.fp32_precision = "ieee"
    hypothesis.settings.register_profile("default", deadline=None, derandomize=True, max_examples=60)
    hypothesis.settings.load_profile("default")


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def pytest_addoption(parser):
    parser.addoption("--simulated-cuda", action="store_true", help="run the tests marked gpu on a simulated device")


@pytest.fixture(params=DEVICES)
def device(request):
    import torch

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
def handler():
    """Python's own answer to Ctrl-C, also where the runner ignores it; programs that a test starts have it, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def doubles(peers):
    """A module's `peers`, torchvision's detector and ours, in float64."""
    theirs, ours = peers
    yield theirs.double().eval(), ours.double().eval()
    theirs.float(), ours.float()


@pytest.fixture
def without_waiting(simulated):
    """A context in which it is an error to wait for the GPU."""
    import torch

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
    import torch

    places = {Path(__file__).parent / file: place for place, file in enumerate(LONGEST)}
    assert all(file.is_file() for file in places), "LONGEST names a file that is not there"
    items.sort(key=lambda item: places.get(item.path, len(places)))
    if not (torch.cuda.is_available() or config.getoption("--simulated-cuda")):
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
