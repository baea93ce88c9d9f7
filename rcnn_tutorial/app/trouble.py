"""What the user can do where a training fails: every error that they can mend becomes a sentence that says how."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from rcnn_tutorial.app.console import FULL, causes, not_writable, space
from rcnn_tutorial.app.fitting import path_of
from rcnn_tutorial.app.planning import Plan
from rcnn_tutorial.data import data_root
from rcnn_tutorial.data.images import FileError
from rcnn_tutorial.engine.devices import mapped
from rcnn_tutorial.engine.training import NotFiniteError

SPOILT = "not_finite.pt"  # the mini-batch whose loss was no number


class LastBatch:
    """Remembers the mini-batch that a model saw last, so that it can be kept where its loss is no number.

    Args:
        model: called as `model(images, targets)`.
    """

    def __init__(self, model: nn.Module):
        self.images: list[Tensor] = []
        self.targets: list[dict[str, Tensor]] = []
        self._hook = model.register_forward_pre_hook(self._remember)

    def _remember(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if len(arguments) > 1 and module.training:
            self.images, self.targets = arguments[:2]

    def forget(self) -> None:
        """Let go of the mini-batch and of the model."""
        self._hook.remove()
        self.images, self.targets = [], []


@contextmanager
def advised(folder: Path, plan: Plan) -> Iterator[None]:
    """Turn the errors of a training that its user can mend into sentences that say how.

    Args:
        folder: of the run.
        plan: of the training.
    Raises:
        RuntimeError: out of memory.
        OSError: a disk that is full or for reading alone.
        ValueError: a picture that cannot be read, named.
    """
    try:
        yield
    except FileError as error:
        raise ValueError(f"{_last_line(error)}. Mend or remove the file, or leave it out by --on-error skip") from error
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise RuntimeError(_smaller(plan)) from error
    except OSError as error:
        raise mended(error, folder) from error


@contextmanager
def in_memory(batch: int) -> Iterator[None]:
    """Say what to do where pictures that are only looked at need more memory than there is.

    Args:
        batch: pictures at a time.
    Raises:
        RuntimeError: out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        less = f"Fewer at a time need less: --batch {batch // 2}" if batch > 1 else "Smaller pictures need less"
        raise RuntimeError(f"there is not enough memory for {batch} at a time. {less}; so may --device cpu") from error


def mended(error: OSError, folder: Path) -> OSError:
    """Give the error that says what to do about a disk that is full or for reading alone, else the same one."""
    if error.errno in FULL:
        return OSError(
            f"the disk is full: {error.filename or folder} could not be written, and is as it was. "
            f"{space(shutil.disk_usage(folder).free)} are free in {folder.absolute()}, and a checkpoint needs "
            f"{space(checkpoint_size(folder))}. Make room, then go on by: rcnn-tutorial train --resume {folder}"
        )
    return not_writable(error, advice(folder)) or error


def advice(folder: Path) -> dict[Path, str]:
    """Where a training writes, and what to do where it cannot."""
    return {
        folder: "choose a folder where you may write by --folder",
        data_root(): "let the variable RCNN_TUTORIAL_DATA name a folder where you may write",
        Path(torch.hub.get_dir()): "let the variable TORCH_HOME name a folder where you may write",
    }


def checkpoint_size(folder: Path) -> int:
    """How many bytes the checkpoint of a run has; 0 before the first."""
    path = folder / "checkpoint.pt"
    return path.stat().st_size if path.is_file() else 0


def check_space(folder: Path, model: nn.Module) -> None:
    """Refuse a training for whose files there is no room.

    Three times the weights and their momentum lie on the disk for a moment: the old checkpoint, the new one, and the
    best and the last weights.

    Raises:
        OSError: too little room.
    """
    weights = sum(value.nbytes for value in model.state_dict().values())
    needed, free = 6 * weights, shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"a training needs about {space(needed)} for its checkpoint and weights in {folder.absolute()}, where "
            f"{space(free)} are free. Make room, or choose a folder on another disk by --folder"
        )


def keep_batch(error: NotFiniteError, batch: LastBatch, dataset: Dataset, folder: Path) -> RuntimeError:
    """Keep the mini-batch whose loss was no number, and give the error that says where.

    Args:
        error: of the training.
        batch: what the model saw last.
        dataset: that was trained on.
        folder: of the run.
    """
    files = [str(path_of(dataset, index) or index) for index in error.indices]
    content = {"step": error.step, "indices": error.indices, "files": files}
    content |= mapped({"images": list(batch.images), "targets": list(batch.targets)}, lambda tensor: tensor.cpu())
    torch.save(content, folder / SPOILT)
    return RuntimeError(
        f"{error}. The pictures were {', '.join(files)}; as the network saw them they are, with their targets, in "
        f'{folder / SPOILT}, which torch.load("{folder / SPOILT}") reads'
    )


def _out_of_memory(error: BaseException) -> bool:
    signs = ("not enough memory", "out of memory", "can't allocate memory")
    return any(
        isinstance(cause, MemoryError | torch.OutOfMemoryError) or any(sign in str(cause).lower() for sign in signs)
        for cause in causes(error)
    )


def _smaller(plan: Plan) -> str:
    """What makes a training need less memory."""
    ways, settings = [], plan.settings
    if plan.training.batch_size > 1:
        ways.append(f"--batch {plan.training.batch_size // 2} (it was {plan.training.batch_size})")
    if size := getattr(settings, "min_size", None):
        ways.append(f"--min-size {size // 2} (it was {size})")
    elif hasattr(settings, "min_size"):
        ways.append("--min-size 192 (the pictures had their own size)")
    if plan.backbone != "tiny":
        ways.append(f"--backbone {'resnet18' if plan.backbone != 'resnet18' else 'tiny'} (it was {plan.backbone})")
    ways.append("--detector retinanet" if plan.detector == "mask_rcnn" else "fewer programs beside it")
    where = "GPU" if plan.device.startswith("cuda") else "machine"
    return f"the {where} has not enough memory for one step. These need less, in a new run: {', or '.join(ways)}"


def _last_line(error: BaseException) -> str:
    """What the error says, without the traceback that a process which loads pictures puts before it."""
    line = str(error).strip().splitlines()[-1]
    return line.partition("FileError: ")[2] or line
