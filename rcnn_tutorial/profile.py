"""What a detector costs: multiply-adds, counted exactly, and seconds by stage."""

from copy import deepcopy
from time import perf_counter

import torch
from torch import nn


class Laps:
    """A stop watch: after each stage call `lap("network")`, and read `lap.seconds`."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._last = perf_counter()

    def __call__(self, stage: str) -> None:
        """Note the seconds since the last call under this name; a name that comes again adds up."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = perf_counter()
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


def _on_meta(module: nn.Module) -> nn.Module:
    """A copy without weights, in eval mode."""
    memo = {id(p): nn.Parameter(p.to("meta"), requires_grad=False) for p in module.parameters()}
    memo |= {id(b): b.to("meta") for b in module.buffers()}
    return deepcopy(module, memo).eval()
