"""Several processes that train together, one for each GPU, as `torchrun` starts them."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def join_processes() -> torch.device:
    """Join the processes that `torchrun` started, and give the device of this one; without them the only device.

    On GPUs the processes talk by NCCL, and each becomes the user of one: what torch allocates without a word of the
    device lies there too. On a machine without GPUs they talk by Gloo.
    """
    rank, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.is_available()
    device = torch.device("cuda", rank) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    if "LOCAL_RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if gpus else "gloo", **_meeting_place())
    return device


def _meeting_place() -> dict[str, Any]:
    """Say where the processes of one machine meet after a restart: where they met before the dead are still listed.

    The machines of several may count their restarts differently. There `torchrun` has to choose a new place itself,
    as it does where TORCH_DISABLE_SHARE_RDZV_TCP_STORE is 1.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0" or os.environ.get("LOCAL_WORLD_SIZE") != os.environ.get("WORLD_SIZE"):
        return {}
    store, rank, processes = next(dist.rendezvous("env://"))  # pyright: ignore[reportPrivateImportUsage]
    store = dist.PrefixStore(f"attempt {attempt}", store)  # pyright: ignore[reportPrivateImportUsage]
    return {"store": store, "rank": rank, "world_size": processes}


def process_rank() -> tuple[int, int]:
    """This process's number, and how many there are: (0, 1) without torch.distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def sharing_gradients(model: nn.Module) -> nn.Module:
    """Give what shares a model's gradients between the processes; where there is only one, the model.

    A model whose steps never leave out a trained parameter says so by `conditional = False`, which spares a search in
    each step.
    """
    if process_rank()[1] == 1:
        return model
    return DistributedDataParallel(model, find_unused_parameters=getattr(model, "conditional", True))


def meeting() -> Callable[[], object]:
    """Give a function that lets every process wait for the others, however long it takes."""
    if process_rank()[1] == 1:
        return lambda: None
    # over Gloo, since NCCL ends processes that wait for ten minutes
    group: Any = dist.new_group(backend="gloo", timeout=timedelta(days=7))
    return lambda: dist.barrier(group)


def gathered(value: Any) -> list[Any]:
    """List the values that all processes have, by their numbers."""
    values = [value] * process_rank()[1]
    if len(values) > 1:
        dist.all_gather_object(values, value)
    return values


def averaged(values: Tensor) -> Tensor:
    """Average numbers over the processes, in place."""
    processes = process_rank()[1]
    if processes > 1:
        dist.all_reduce(values)
        values /= processes
    return values
