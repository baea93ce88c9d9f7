"""What spares a GPU a wait, and what brings tensors to another device."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def constant(values: Any, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Bring some numbers to the device of a tensor.

    `torch.tensor(values, device="cuda")` and `new_tensor` wait until the device has taken them; this does not.

    Args:
        values: a number, a nest of lists and tuples, or a tensor.
        like: gives the device, and the type too where none is named.
        dtype: of the result.
    Returns:
        A tensor of the values' shape.
    Raises:
        None.
    """
    return torch.as_tensor(values, dtype=dtype or like.dtype).to(like.device, non_blocking=True)


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change every tensor in a nest of dicts, lists and tuples.

    Args:
        value: a tensor, a nest, or anything else.
        change: what is done to each tensor.
    Returns:
        The same nest of the changed tensors; what is no tensor stays as it is.
    Raises:
        What `change` raises.
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: mapped(part, change) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(mapped(part, change) for part in value)
    return value


def moved(value: Any, device: torch.device) -> Any:
    """Bring every tensor in a nest of dicts, lists and tuples to a device.

    Args:
        value: a tensor, a nest, or anything else.
        device: where the tensors are wanted; the host does not wait until they are there.
    Returns:
        The same nest of the tensors there; what is no tensor stays as it is.
    Raises:
        None.
    """
    return mapped(value, lambda tensor: tensor.to(device, non_blocking=True))


def grouped(groups: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Sort rows by group, and count how many each group has. Whoever splits by the counts waits for a GPU, once.

    Args:
        groups: (N,) integers from 0 to count - 1.
        count: of the groups.
    Returns:
        (N,) int64, indices of the rows, group after group, in each group as they were; and (count,) int64.
    Raises:
        None.
    """
    return groups.argsort(stable=True), (groups[:, None] == torch.arange(count, device=groups.device)).sum(dim=0)
