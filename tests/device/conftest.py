import pytest

from tests.device import simulated_cuda


@pytest.fixture
def log():
    """The log of a simulated CUDA device, which is there during the test."""
    with simulated_cuda() as log:
        yield log
