"""What a detector costs: multiply-adds, counted exactly, and seconds by stage."""

from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from time import perf_counter

import torch
from torch import nn


class Laps:
    """A stop watch: after each stage call `lap("network")`, and read `lap.seconds`.

    Args:
        clock: gives seconds; `time.process_time` counts those of the processor that this process took.
    """

    def __init__(self, clock: Callable[[], float] = perf_counter):
        self.seconds: dict[str, float] = {}
        self._clock, self._last = clock, clock()

    def __call__(self, stage: str) -> None:
        """Note the seconds since the last call under this name; a name that comes again adds up."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = self._clock()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


@torch.no_grad()
def multiply_adds(module: nn.Module, *shape: int) -> dict[str, int]:
    """Multiply-adds of one forward pass, by layer; additions of a bias are not counted.

    Args:
        module: made of convolutions, linear layers and what costs next to nothing. It is not run: shapes alone are
            worked out, so a network of any size will do.
        shape: of the input, such as 1, 3, 227, 227.
    Returns:
        From each convolution's and linear layer's name to its number, in the order of the pass.
    Source: RCNN-16.
    """
    found: dict[str, int] = {}

    def count(name: str, layer: nn.Module):
        def hook(_, inputs, output):
            if isinstance(layer, nn.Linear):
                each = layer.in_features
            else:  # every output number is a sum over a window and the channels of a group
                each = layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
            found[name] = found.get(name, 0) + output.numel() * each

        return layer.register_forward_hook(hook)

    meta = _on_meta(module)
    for name, layer in meta.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            count(name, layer)
    meta(torch.zeros(shape, device="meta"))
    return found


def detector_cost(net: nn.Module, sizes: Sequence[tuple[int, int]], windows: int) -> dict[str, int]:
    """Multiply-adds of one image: the convolutions on all that they read, fc6 and fc7 once for each window.

    R-CNN's convolutions read a crop for each window, `[(227, 227)] * windows`, SPPnet's the image at each scale,
    Fast R-CNN's the image once. The linear layers behind fc7 and the pooling are not counted.

    Args:
        net: with `convs`, `fc6` and `fc7`; fc6 and fc7 may be compressed. It is not run.
        sizes: heights and widths of what the convolutions read, pixels.
        windows: per image.
    Returns:
        "convolutions" and "fully connected".
    Source: SPP-12, SPP-13, FAST-10, FAST-21.
    """
    passes = Counter(tuple(size) for size in sizes)
    inputs = next(layer.in_features for layer in net.fc6.modules() if isinstance(layer, nn.Linear))
    window = multiply_adds(nn.Sequential(net.fc6, net.fc7), 1, inputs)
    return {
        "convolutions": sum(n * sum(multiply_adds(net.convs, 1, 3, *size).values()) for size, n in passes.items()),
        "fully connected": windows * sum(window.values()),
    }


def _on_meta(module: nn.Module) -> nn.Module:
    """A copy without weights, in eval mode."""
    memo = {id(p): nn.Parameter(p.to("meta"), requires_grad=False) for p in module.parameters()}
    memo |= {id(b): b.to("meta") for b in module.buffers()}
    return deepcopy(module, memo).eval()
