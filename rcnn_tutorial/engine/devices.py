"""Small tensors for a GPU, which the host does not wait for."""

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
