"""Non-maximum suppression on a GPU, without a look at the result from the host: bit masks, and a scan over them.

The greedy rule is sequential, but its arithmetic is not. Whether box i would suppress box j, if i were kept, depends on
these two alone. So the work is split in two.

`_overlaps` compares every box with every later one. One program takes a tile of 64 x 64 pairs: it reads 128 boxes and
writes 64 integers of 64 bits. Bit k of a word says that box i would suppress box 64 w + k. A pair costs one bit of
memory instead of the four bytes of an IoU, and no program waits for another.

`_scan` takes the decisions. One program goes through one group of boxes, a word of 64 boxes at a time. It first ORs
what the boxes kept so far have to say about these 64, and then goes through the 64 one by one. That loop is all that
remains of the rule, and it consists of a shift and an OR. Groups do not know each other, so each has a program.

The boxes come sorted by score, group after group, and `ends` says for each where its group ends: box i may suppress
the boxes i + 1 to ends[i] - 1. Nothing here asks how many boxes stay, which is what a host would have to wait for: the
answer is a mask with one bool for each box.

What decides equality with torchvision's CUDA operator: areas and overlaps are float32 without fused multiply-adds, the
division is rounded to nearest, and the threshold is a float32, even for float64 boxes. NaN is above no threshold.
"""

# pyright: reportMissingImports=false, reportArgumentType=false, reportGeneralTypeIssues=false
# (Triton comes with torch on Linux alone, and what its compiler reads is not quite Python.)

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import cdiv

from rcnn_tutorial.engine.kernels.common import launch, quotient

WORD = 64  # boxes that one integer speaks about
CHUNK = 2048  # words that the scan reads at a time


@triton.jit
def _overlaps(boxes, ends, words, n, threshold, WORD: tl.constexpr):
    """One program compares 64 boxes with 64 others."""
    row = tl.program_id(0) * WORD + tl.arange(0, WORD)  # (64,) the boxes that may suppress
    column = tl.program_id(1) * WORD + tl.arange(0, WORD)  # (64,) the boxes that may be suppressed
    end = tl.load(ends + row, mask=row < n, other=0)
    # Only a later box of the same group is ever suppressed: most tiles have nothing to do.
    if (tl.program_id(0) <= tl.program_id(1)) & (tl.program_id(1) * WORD < tl.max(end)):
        x1, y1, x2, y2 = _corners(boxes, row, n)
        u1, v1, u2, v2 = _corners(boxes, column, n)
        width = tl.minimum(x2[:, None], u2[None, :]) - tl.maximum(x1[:, None], u1[None, :])  # (64, 64)
        height = tl.minimum(y2[:, None], v2[None, :]) - tl.maximum(y1[:, None], v1[None, :])
        inter = tl.maximum(width, 0) * tl.maximum(height, 0)
        union = ((x2 - x1) * (y2 - y1))[:, None] + ((u2 - u1) * (v2 - v1))[None, :] - inter
        above = quotient(inter, union) > threshold
        above &= (row[:, None] < column[None, :]) & (column[None, :] < end[:, None])
        bit = above.to(tl.int64) << tl.arange(0, WORD)[None, :]
        tl.store(words + tl.program_id(1) * n + row, tl.sum(bit, axis=1), mask=row < n)  # different bits: sum is OR


@triton.jit
def _corners(boxes, i, n):
    """x1, y1, x2, y2 of the boxes i, and of those beyond the last one zeros."""
    x1 = tl.load(boxes + 4 * i, mask=i < n, other=0)
    y1 = tl.load(boxes + 4 * i + 1, mask=i < n, other=0)
    x2 = tl.load(boxes + 4 * i + 2, mask=i < n, other=0)
    y2 = tl.load(boxes + 4 * i + 3, mask=i < n, other=0)
    return x1, y1, x2, y2


@triton.jit
def _scan(words, ends, keep, n, WORD: tl.constexpr, CHUNK: tl.constexpr):
    """One program decides about one group. Every box has a program, and that of a group's first box does the work."""
    first = tl.program_id(0)
    end = tl.load(ends + first)
    if tl.load(ends + first - 1, mask=first > 0, other=0) <= first:
        for w in range(first // WORD, tl.cdiv(end, WORD)):
            dropped = tl.zeros((), tl.int64)  # bit k: box 64 w + k is suppressed
            for start in range(first, w * WORD, CHUNK):  # by boxes of earlier words
                i = start + tl.arange(0, CHUNK)
                word = tl.load(words + w * n + i, mask=i < w * WORD, other=0)
                kept = tl.load(keep + i, mask=i < w * WORD, other=0) != 0
                dropped |= tl.reduce(tl.where(kept, word, 0), 0, _either)
            for k in tl.static_range(WORD):  # by boxes of the same word, whose bits are set in their order
                word = tl.load(words + w * n + w * WORD + k, mask=w * WORD + k < end, other=0)
                dropped |= tl.where((dropped >> k) & 1 == 0, word, 0)
            i = w * WORD + tl.arange(0, WORD)
            stays = (dropped >> tl.arange(0, WORD)) & 1 == 0
            tl.store(keep + i, stays, mask=(first <= i) & (i < end))
            tl.debug_barrier()  # all threads see what was kept before the next word asks for it


@triton.jit
def _either(a, b):
    return a | b


@torch.library.custom_op("rcnn_tutorial::survivors", mutates_args=())
def survivors(boxes: Tensor, groups: Tensor | None, threshold: float) -> Tensor:
    """Mark the boxes that no better box of their group suppresses; nobody waits for the device.

    Args:
        boxes, groups, threshold: as `engine.nms.survivors` takes them.
    Returns:
        (N,) bool.
    Raises:
        None: `nms` and `batched_nms` have checked.
    """
    n = len(boxes)
    if groups is None:
        ends = torch.full((n,), n, dtype=torch.int32, device=boxes.device)
    else:
        ends = torch.searchsorted(groups, groups, right=True, out_int32=True)
    words = overlap_words(boxes, ends, threshold, WORD)
    keep = torch.empty(n, dtype=torch.bool, device=boxes.device)
    launch(_scan, (n,), words, ends, keep, n, WORD, CHUNK, num_warps=8, num_stages=1)
    return keep


@survivors.register_fake
def _(boxes: Tensor, groups: Tensor | None, threshold: float) -> Tensor:
    return boxes.new_empty(len(boxes), dtype=torch.bool)


def overlap_words(boxes: Tensor, ends: Tensor, threshold: float, bits: int) -> Tensor:
    """Write down which later boxes of its group every box would suppress.

    Args:
        boxes: (N, 4) floats, pixels.
        ends: (N,) int32, where the group of each box ends.
        threshold: of the IoU.
        bits: of a word, at most 64.
    Returns:
        (ceil(N / bits), N) int64: bit k of words[w, i] is set if box i would suppress box bits w + k. A word that no
        program writes, and the scan never reads, has any value.
    Raises:
        None: `nms` and `batched_nms` have checked.
    """
    n, tiles = len(boxes), cdiv(len(boxes), bits)
    boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32)).contiguous()
    words = torch.empty(tiles, n, dtype=torch.int64, device=boxes.device)
    launch(_overlaps, (tiles, tiles), boxes, ends, words, n, threshold, bits, enable_fp_fusion=False)
    return words
