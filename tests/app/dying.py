"""The command `rcnn-tutorial`, of which the second process dies without a farewell, once: for test_processes.py."""

import os
import signal

from rcnn_tutorial.app.cli import main
from rcnn_tutorial.training import loop

STEP = 5  # before it
rate = loop.learning_rate


def deadly(step, settings):
    """The learning rate of a step; but the second process does not reach this step at its first try."""
    if (step, os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]) == (STEP, "1", "0"):
        os.kill(os.getpid(), signal.SIGKILL)
    return rate(step, settings)


if __name__ == "__main__":
    loop.learning_rate = deadly
    main()
