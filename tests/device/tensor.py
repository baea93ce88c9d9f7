"""A tensor of the simulated device: numbers on the CPU, and the claim to lie on cuda:0."""

import torch
from torch import Tensor, nn

CUDA = torch.device("cuda:0")


class DeviceTensor(Tensor):
    """Wraps `held`, a tensor of the CPU.

    C++ sees a tensor of torch's meta device, because autograd would ask the driver about one of CUDA. Python sees CUDA.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held, requires_grad=False):
        places = {}
        if held.layout == torch.strided:
            places = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        tensor = Tensor._make_wrapper_subclass(
            cls, held.shape, dtype=held.dtype, layout=held.layout, device="meta", requires_grad=requires_grad, **places
        )
        tensor.held = held
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func}: the simulated device is there within `simulated_cuda()` only")

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, value):
        if not isinstance(value, DeviceTensor) or value.shape != self.shape or value.dtype != self.dtype:
            raise NotImplementedError(f"data: {value.dtype} {tuple(value.shape)}, expected what was there before")
        self.held = value.held

    def get_device(self):
        return CUDA.index

    def as_subclass(self, kind):
        return torch.ops.aten.alias(self)  # a plain tensor of the device is a DeviceTensor, too

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, **options):
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it to the host first"
        )

    def __array__(self, *args, **options):
        return self.numpy()

    def __repr__(self, **options):
        return f"DeviceTensor({self.held!r})"

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            copy = DeviceTensor(self.held.detach().clone(), self.requires_grad)
            memo[id(self)] = nn.Parameter(copy, self.requires_grad) if isinstance(self, nn.Parameter) else copy
        return memo[id(self)]

    def __reduce_ex__(self, protocol):
        return self.cpu().__reduce_ex__(protocol)  # a file is read to the CPU


def changed(nest, kind, change):
    """A nest of lists, tuples and dicts with every tensor of a kind changed; torch's own way takes longer."""
    if isinstance(nest, kind):
        return change(nest)
    if isinstance(nest, dict):
        return {key: changed(value, kind, change) for key, value in nest.items()}
    if isinstance(nest, (list, tuple)):
        return type(nest)([changed(value, kind, change) for value in nest])
    return nest


def on_device(nest):
    """The same numbers on the device, without an event in the log; of a module, its parameters and buffers."""

    def moved(tensor):
        return tensor if isinstance(tensor, DeviceTensor) else DeviceTensor(tensor.detach().clone())

    return nest._apply(moved) if isinstance(nest, nn.Module) else changed(nest, Tensor, moved)


def on_host(nest):
    """The same numbers on the CPU, without an event in the log."""
    return changed(nest, DeviceTensor, lambda tensor: tensor.held)
