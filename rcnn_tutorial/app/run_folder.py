"""The folder of a run: its name, the lock that keeps a second run out, and what it says of the run."""

import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

SETTINGS, CHECKPOINT, BEST, LAST = "settings.json", "checkpoint.pt", "best.pt", "last.pt"
LIBRARIES = ("rcnn-tutorial", "torchvision", "numpy")


def free_folder(name: str, root: str | os.PathLike = "runs") -> Path:
    """Make the folder of a new run, with the first number for which there is none: runs/fpn, runs/fpn2, runs/fpn3."""
    number = 1
    while True:
        folder = Path(root) / (name if number == 1 else f"{name}{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def weights_in(folder: Path) -> Path:
    """Name the weights that a run's folder has: the best ones, or the last ones where none was the best yet.

    Raises:
        FileNotFoundError: a folder without weights.
    """
    for name in (BEST, LAST):
        if (folder / name).is_file():
            return folder / name
    further = f" Go on by: rcnn-tutorial train --resume {folder}" if has_run(folder) else ""
    raise FileNotFoundError(f"{folder} has neither {BEST} nor {LAST}, which a training writes.{further}")


def has_run(folder: Path) -> bool:
    """Say whether a training has begun in a folder."""
    return (folder / SETTINGS).is_file()


def named_folder(folder: str | os.PathLike) -> Path:
    """Make the folder that the user chose for a new run.

    Raises:
        ValueError: there is a run in it already; the message names both ways out.
    """
    path = Path(folder)
    if has_run(path):
        raise ValueError(
            f"{path} has a training already. Go on with it by: rcnn-tutorial train --resume {path}; "
            "or choose another folder for a new one by --folder"
        )
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a folder for one run. The system takes the lock back from a process that was killed.

    Raises:
        RuntimeError: another run is at work in the folder.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RuntimeError(
            f"another training is at work in {folder}. Wait for its end, or choose another folder by --folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def read_settings(folder: str | os.PathLike) -> dict[str, Any]:
    """Read what a run's folder says of its run.

    Raises:
        ValueError: no run, or a file that is damaged.
    """
    path = Path(folder) / SETTINGS
    if not path.is_file():
        raise ValueError(f"{folder} has no run to go on with: there is no {SETTINGS} in it")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): begin again in another folder") from error


def surroundings() -> dict[str, Any]:
    """Say in which command, on which machine and with which versions a run takes place."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "command": sys.argv,
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in LIBRARIES}
        | {"torch": torch.__version__},  # which says for what GPUs it was built
        "machine": {
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": gpus,
        },
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
