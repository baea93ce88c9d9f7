"""What the bare `pytest --nbval notebooks/` needs, so that it is the whole command."""

import os


def pytest_configure(config):
    # Warnings of libraries differ between versions, and nbval compares what kernels print.
    os.environ["PYTHONWARNINGS"] = "ignore"
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    if getattr(config.option, "nbval", False):
        config.option.nbval_cell_timeout = 600
