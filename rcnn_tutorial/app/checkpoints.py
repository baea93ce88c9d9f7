"""The checkpoint of a run, where a run looks into it: the steps behind it, and what lets it go on for longer."""

from pathlib import Path

from rcnn_tutorial.app.run_folder import CHECKPOINT
from rcnn_tutorial.cache import read_archive, write_archive
from rcnn_tutorial.training import History, TrainSettings

KIND = "a checkpoint of a training"


def history_of(folder: Path) -> History:
    """Read the record that the checkpoint of a run has; it is empty before the first.

    Raises:
        ValueError: a checkpoint that is damaged.
    """
    path = folder / CHECKPOINT
    return History(**read_archive(path, ("history",), KIND)["history"]) if path.is_file() else History()


def stretch(folder: Path, training: TrainSettings) -> None:
    """Make the checkpoint one of a training of other steps, where the rate depends on their number: `train` refuses it.

    The rate then goes on as in a training of so many steps, and the steps already done had another one.

    Args:
        folder: of the run, which this process has locked.
        training: the settings with which it goes on.
    Raises:
        ValueError: a checkpoint that is damaged.
        OSError: it cannot be written, and is as it was.
    """
    path = folder / CHECKPOINT
    if training.schedule != "cosine" or not path.is_file():
        return
    state = read_archive(path, ("identity",), KIND)
    settings = state["identity"]["settings"]
    if settings["steps"] != training.steps:
        settings["steps"] = training.steps
        write_archive(state, path)
