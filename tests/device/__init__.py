"""A simulated CUDA device: a machine without a GPU sees where the package would mix devices, wait or launch.

    with simulated_cuda() as log:
        model = on_device(FPN(...))                 # or model.to("cuda")
        losses = model(on_device(images), on_device(targets))
    log.count(WAIT), log.lines(WAIT), log.count(LAUNCH)

How it works. `tensor.DeviceTensor` wraps a tensor of the CPU and claims to lie on cuda:0. A mode of torch's dispatcher
(`simulation.Simulation`) sees every ATen call, those of `backward` and of optimisers too, and a call without a tensor
of the device, such as `torch.zeros(3, device="cuda")`, as well. It asks `rules` whether CUDA would refuse the call,
whether the host would wait, and whether the device would work, writes that into the log with the line of the package
that asked for it, and lets the CPU compute the result. `simulation.Names` helps where C++ would ask the driver, or
would trust what it believes to be the device of a `DeviceTensor`. `cuda` puts the few functions of `torch.cuda` that
are needed in place, and takes them away again.

What is simulated:

- Tensors of two devices meet: refused, as on CUDA, unless the one on the host has no dimensions and the call works
  number by number, or it is an index. A generator of the CPU for numbers of the device is refused, and so is `numpy()`.
- The host waits: `.item()`, `tolist`, `bool(tensor)`, copies to the host, blocking copies from the host (those of
  numbers and of index lists, too), sizes that depend on values (`nonzero`, an index by a mask, `unique`, `bincount`,
  `repeat_interleave` without `output_size`, sparse tensors that are coalesced, `torchvision.ops.nms`), `equal`.
- The device works: every ATen call on it that is no view and does not merely allocate counts as one launch.
- The numbers are those of the CPU; random numbers of the device come from the CPU's global generator.

What is not simulated:

- Kernels. A launch is an ATen call; CUDA may run several kernels for one. The package's own operators in Triton count
  as one each, as torchvision's compiled ones do, and the CPU computes what they would (`kernels`).
- Time, memory, streams, and pinned memory: a copy with `non_blocking=True` counts as one that nobody waits for.
- CUDA's rounding, its own order of ties, and atomic sums; autocast, which leaves everything in float32.
- Optimisers with `foreach` or `fused`: torch has them for its own tensors alone, so SGD steps through its loop here.
- Several devices, and several processes. Tensors of torch's meta device are taken for tensors of the simulated one.
"""

from tests.device.cuda import simulated_cuda
from tests.device.log import COPY, LAUNCH, WAIT, Log
from tests.device.rules import DeviceMix
from tests.device.tensor import CUDA, DeviceTensor, on_device, on_host

__all__ = [
    "COPY",
    "CUDA",
    "LAUNCH",
    "WAIT",
    "DeviceMix",
    "DeviceTensor",
    "Log",
    "on_device",
    "on_host",
    "simulated_cuda",
]
