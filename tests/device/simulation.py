"""The mode that sees every ATen call, and the one that answers where C++ would ask the driver."""

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.device.kernels import stand_ins
from tests.device.log import COPY, LAUNCH, WAIT, Log
from tests.device.rules import name_of, refuse_mixed, tensors_of, wait_of, works
from tests.device.tensor import CUDA, DeviceTensor, changed, on_host

CPU = torch.device("cpu")


class Simulation(TorchDispatchMode):
    """Runs ATen calls on the CPU, as if they were CUDA's, and writes them into `log`."""

    def __init__(self, log: Log):
        super().__init__()
        self.log, self.stand_ins = log, stand_ins()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        given = any(isinstance(tensor, DeviceTensor) for tensor in tensors_of(args, kwargs))
        lands = self._lands(func, kwargs, given)
        if not given and not lands:
            return func(*args, **kwargs)
        self._note(func, args, kwargs, lands)
        if "device" in kwargs:
            kwargs["device"] = CPU
        result = self.stand_ins.get(func, func)(*on_host(args), **on_host(kwargs))
        if torch.Tag.inplace_view in func.tags:  # squeeze_ and its like: C++ knows a shape of its own
            with torch._C._DisableTorchDispatch():
                func(*args, **kwargs)
        if func._schema.is_mutable:
            return _written(func, args, kwargs)
        return changed(result, Tensor, DeviceTensor) if lands else result

    def _lands(self, func, kwargs, given):
        """Whether the result lies on the device."""
        device = kwargs.get("device")
        if device is None or "sparse" in name_of(func):  # C++ names the device of a sparse tensor as it likes
            return given
        return torch.device(device).type != "cpu"  # C++ says "meta" where it means that of a DeviceTensor

    def _note(self, func, args, kwargs, lands):
        """Write what CUDA would do into the log, or raise what it would raise."""
        name = name_of(func)
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != "cuda":
            raise RuntimeError(f"{func}: expected a generator of the device, got one of {generator.device}")
        if name in ("_to_copy", "copy_"):
            source, target = isinstance(args[0], DeviceTensor), lands
            if name == "copy_":  # into the first from the second
                source, target = isinstance(args[1], DeviceTensor), source
            if source != target:
                non_blocking = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
                self.log.note(COPY if non_blocking else WAIT, f"copy to the {'device' if target else 'host'}")
        else:
            refuse_mixed(func, args, kwargs)
            if wait := wait_of(func, args, kwargs):
                self.log.note(WAIT, wait)
        if works(func):
            self.log.note(LAUNCH, name)


def _written(func, args, kwargs):
    """What a call that writes into its arguments returns: these arguments."""
    values = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            values.append(kwargs[argument.name] if argument.name in kwargs else args[position])
    returned = values[: len(func._schema.returns)]
    return returned[0] if len(returned) == 1 else tuple(returned) or None


class Names(TorchFunctionMode):
    """Says cuda:0 for "cuda", and does what C++ would do for its own idea of where a DeviceTensor lies."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if func is torch.device:  # as `copy.deepcopy` makes one anew
            return func(*args, **kwargs)
        args = tuple(_numbered(arg) for arg in args)
        if "device" in kwargs:
            kwargs["device"] = _numbered(kwargs["device"])
        first = args[0] if args else None
        on = isinstance(first, DeviceTensor)
        if name == "cuda":
            return _to(first, CUDA, **{key: kwargs[key] for key in ("non_blocking",) if key in kwargs})
        if name == "cpu" and on:
            return _to(first, CPU)
        if name == "pin_memory":
            return first
        if name == "to":
            return _to(first, *args[1:], **kwargs)
        if name in ("as_tensor", "asarray") and on:
            return _to(first, device=kwargs.get("device"), dtype=kwargs.get("dtype"))
        if name == "new_tensor" and on:
            return torch.tensor(*args[1:], **({"dtype": first.dtype, "device": CUDA} | kwargs))
        if name in ("__getitem__", "__setitem__") and on:
            args = (first, _index(args[1]), *args[2:])
            if name == "__setitem__" and isinstance(args[2], (bool, int, float)):
                args = (*args[:2], torch.tensor(args[2], dtype=first.dtype))  # a number on the host
        return func(*args, **kwargs)


def _numbered(value):
    """cuda:0 in place of "cuda", and anything else as it is."""
    if isinstance(value, (str, torch.device)) and str(value) == "cuda":
        return CUDA
    return value


def _to(tensor, *args, copy=False, **kwargs):
    """`tensor.to(...)`, which C++ decides by its own idea of the device."""
    args = [part for arg in args for part in ((arg.device, arg.dtype) if isinstance(arg, Tensor) else (arg,))]
    if "other" in kwargs:
        other = kwargs.pop("other")
        args += [other.device, other.dtype]
    device, dtype, non_blocking, memory = torch._C._nn._parse_to(*args, **kwargs)
    device, dtype = device or tensor.device, dtype or tensor.dtype
    if (device, dtype, memory, copy) == (tensor.device, tensor.dtype, None, False):
        return tensor
    return torch.ops.aten._to_copy(tensor, dtype=dtype, device=device, non_blocking=non_blocking, memory_format=memory)


def _index(index):
    """An index whose lists are tensors of the device: C++ makes them on the host, copies them and waits."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    return torch.as_tensor(index).to(CUDA) if isinstance(index, (list, range, np.ndarray)) else index
