"""What the kernels share: how they start, an exact division, and which numbers of a pooling a program computes."""

# pyright: reportMissingImports=false, reportArgumentType=false, reportGeneralTypeIssues=false
# (Triton comes with torch on Linux alone, and what its compiler reads is not quite Python.)

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def quotient(a, b):
    """a / b rounded to the nearest number, as on a CPU. The quick division of float32 may miss its last bit."""
    if a.dtype == tl.float64:
        return a / b
    else:
        return tl.div_rn(a, b)


@triton.jit
def assigned(channels, BINS: tl.constexpr, CHANNELS_LAST: tl.constexpr, BLOCK: tl.constexpr):
    """Channel and bin (BLOCK,) of the numbers that a program computes, and which of these there are.

    Neighbours in the block are neighbours in the map, so that a GPU reads them together.
    """
    k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    if CHANNELS_LAST:
        return k % channels, k // channels, k < channels * BINS
    else:
        return k // BINS, k % BINS, k < channels * BINS


def launch(kernel, grid: tuple[int, ...], tensor: Tensor, *arguments, **options) -> None:
    """Start a program for every place of a grid, on the device of the first argument.

    Args:
        kernel: a function that Triton compiles.
        grid: how many programs, in up to three numbers; none where one is 0.
        tensor, arguments: what the kernel is called with.
        options: Triton's, such as `num_warps`.
    Returns:
        Nothing, and that before the programs have run.
    Raises:
        RuntimeError: Triton cannot compile or start the kernel.
    """
    if all(grid):
        with torch.cuda.device_of(tensor):
            kernel[grid](tensor, *arguments, **options)
