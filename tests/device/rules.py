"""What CUDA would do with one ATen call: refuse it, make the host wait, work for it."""

import torch
from torch import Tensor

from tests.device.tensor import DeviceTensor

# The result, or its size, has to be known on the host.
WAITS = {
    "_coalesce",
    "_linalg_check_errors",
    "_local_scalar_dense",
    "_unique2",
    "allclose",
    "bincount",
    "equal",
    "histc",
    "masked_select",
    "nms",  # torchvision's
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
# Beside views: these allocate memory, or tell what is known.
WITHOUT_WORK = {
    "_sparse_coo_tensor_with_dims_and_tensors",
    "_unsafe_view",
    "dense_dim",
    "empty",
    "empty_like",
    "empty_strided",
    "is_pinned",
    "is_same_size",
    "new_empty",
    "new_empty_strided",
    "sparse_dim",
}
INDEXED = {"_index_put_impl_", "_unsafe_index", "index", "index_put", "index_put_"}  # (values, indices, ...)
MASKS = (torch.bool, torch.uint8)
# They take a number that lies on the host, as calls do that torch calls pointwise.
TAKE_NUMBERS = {"clamp", "fill", "fill_", "masked_fill", "masked_fill_", "where"}


class DeviceMix(RuntimeError):
    """Tensors of two devices meet."""


def name_of(func):
    """aten::add_.Tensor is "add_"."""
    return func._schema.name.split("::")[1]


def tensors_of(args, kwargs):
    """The tensors of a call: among its arguments, and in the lists among them."""
    tensors = []
    for value in (*args, *kwargs.values()):
        values = value if isinstance(value, (list, tuple)) else (value,)
        tensors += [tensor for tensor in values if isinstance(tensor, Tensor)]
    return tensors


def is_view(func):
    return any(value.alias_info is not None and not value.alias_info.is_write for value in func._schema.returns)


def works(func):
    """Whether the device has something to do."""
    return not is_view(func) and name_of(func) not in WITHOUT_WORK


def refuse_mixed(func, args, kwargs):
    """Raise DeviceMix where CUDA would refuse the devices of a call that is no copy."""
    tensors = tensors_of(args, kwargs)
    on_host = [tensor for tensor in tensors if not isinstance(tensor, DeviceTensor)]
    if not on_host or len(on_host) == len(tensors):
        return
    name = name_of(func)
    takes_numbers = torch.Tag.pointwise in func.tags or name.startswith("_foreach") or name in TAKE_NUMBERS
    written = func._schema.is_mutable and isinstance(args[0], Tensor) and not isinstance(args[0], DeviceTensor)
    if name in INDEXED:
        indices = [index for index in args[1] if index is not None]
        takes_numbers = isinstance(args[0], DeviceTensor)
        on_host = [tensor for tensor in on_host if not any(tensor is index for index in indices)]
        written = not takes_numbers
    if written or any(tensor.ndim > 0 or not takes_numbers for tensor in on_host):
        raise DeviceMix(
            f"{func}: expected all tensors to be on the same device, got "
            + ", ".join(f"{tensor.device} {tuple(tensor.shape)}" for tensor in tensors)
        )


def wait_of(func, args, kwargs):
    """Why the host waits for a call that is no copy, or None."""
    name = name_of(func)
    if name in WAITS:
        return "item" if name == "_local_scalar_dense" else name
    if name == "repeat_interleave" and kwargs.get("output_size") is None:
        return "repeat_interleave without output_size"
    if "mm" in name and any(tensor.layout == torch.sparse_coo for tensor in tensors_of(args, kwargs)):
        return f"{name} of a sparse matrix, which is coalesced"
    return _wait_of_index(args) if name in INDEXED and isinstance(args[0], DeviceTensor) else None


def _wait_of_index(args):
    indices = [index for index in args[1] if index is not None]
    masks = [index for index in indices if index.dtype in MASKS]
    if len(args) > 2 and not isinstance(args[2], DeviceTensor):  # a number, which lies on the host
        if len(masks) == len(indices) == 1 and isinstance(indices[0], DeviceTensor):
            return None  # it becomes masked_fill_
        return "index assigned a number, which is copied"
    if any(not isinstance(index, DeviceTensor) for index in indices):
        return "index on the host, which is copied"
    return "index by a mask" if masks else None
