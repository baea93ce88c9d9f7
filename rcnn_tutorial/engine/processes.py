"""Several processes that train together, one for each GPU, as `torchrun` starts them."""

import os

import torch
import torch.distributed as dist


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
        dist.init_process_group("nccl" if gpus else "gloo")
    return device


def process_rank() -> tuple[int, int]:
    """This process's number, and how many there are: (0, 1) without torch.distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
