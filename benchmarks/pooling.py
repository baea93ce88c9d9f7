"""Time and memory of `roi_pool` and `roi_align` beside torchvision's.

    python -m benchmarks.pooling [--device cuda] [--only "the tiny net's map"]

Writes benchmarks/records/pooling-<device>.json; with --only it measures the cases of that map again and keeps the other
rows of the record.
"""

import argparse
import json
import math
import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from benchmarks.measure import RECORDS, alternate, write
from rcnn_tutorial.ops.pooling import roi_align, roi_pool

OPERATORS = {
    "ours": {"roi_pool": roi_pool, "roi_align": roi_align},
    "theirs": {"roi_pool": torchvision.ops.roi_pool, "roi_align": torchvision.ops.roi_align},
}
# channels, images, height and width of the map, RoIs, bins per side, sides of the RoIs in pixels
VGG16 = [(c, 1, 38, 63, n, 7, (32, 600)) for c in (256, 512) for n in (512, 2000)]
# images of 256 x 192 pixels at a stride of 8; the sides are given for the 16 pixels per cell of all these cases
TINY = [(96, images, 24, 32, 128, 4, (24, 320)) for images in (1, 2, 4)]
# operator, its sampling_ratio, the map's name, cases
CASES = [
    ("roi_pool", None, "VGG16's map", VGG16),
    ("roi_pool", None, "the tutorial's map", [(96, 2, 24, 32, 128, 4, (12, 160))]),
    ("roi_pool", None, "the tiny net's map", TINY),
    *(("roi_align", ratio, "the tiny net's map", TINY) for ratio in (2, -1)),
    *(("roi_align", ratio, "VGG16's map", VGG16) for ratio in (2, -1)),
    *(("roi_align", ratio, "the tutorial's map", [(96, 8, 24, 32, 1024, 7, (12, 160))]) for ratio in (2, -1)),
]


def regions(n: int, images: int, height: int, width: int, sides: tuple[int, int]) -> Tensor:
    """(n, 5) of log-uniform sides, anywhere in images of 16 pixels per cell, which cut them off at their borders."""
    g = torch.Generator().manual_seed(0)
    limit = 16.0 * torch.tensor([width, height])
    size = sides[0] * torch.exp(math.log(sides[1] / sides[0]) * torch.rand(n, 2, generator=g))
    center = torch.rand(n, 2, generator=g) * limit
    low, high = (center - size / 2).clamp(min=0), torch.minimum(center + size / 2, limit)
    return torch.cat((torch.randint(images, (n, 1), generator=g), low, high), dim=1)


def inputs(case: tuple, device: str) -> tuple[Tensor, Tensor, int, Tensor]:
    """The map, after a ReLU; the RoIs; the bins; the gradient of what is pooled."""
    channels, images, height, width, n, bins, sides = case
    g = torch.Generator().manual_seed(1)
    features = torch.randn(images, channels, height, width, generator=g).relu()
    gradient = torch.randn(n, channels, bins, bins, generator=g)
    return features.to(device), regions(n, images, height, width, sides).to(device), bins, gradient.to(device)


def forward(pool: Callable, features: Tensor, rois: Tensor, bins: int, gradient: Tensor) -> Tensor:
    return pool(features, rois, bins, 1 / 16)


def both(pool: Callable, features: Tensor, rois: Tensor, bins: int, gradient: Tensor) -> Tensor:
    features = features.detach().requires_grad_()
    pool(features, rois, bins, 1 / 16).backward(gradient)
    return features.grad


def operator(who: str, name: str, ratio: int | None) -> Callable:
    pool = OPERATORS[who][name]
    return pool if ratio is None else partial(pool, sampling_ratio=ratio)


def peak_megabytes(which: tuple, passes: Callable, case: tuple, device: str) -> float:
    """Most memory in use at once beyond the inputs, after a small case so that libraries are loaded (Linux)."""
    pool = operator(*which)
    passes(pool, *inputs((2, 1, 8, 8, 2, 2, (32, 64)), device))
    given = inputs(case, device)
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before = _kilobytes("VmHWM")
        passes(pool, *given)
        return round((_kilobytes("VmHWM") - before) / 1024, 1)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    passes(pool, *given)
    return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)


def _kilobytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def compare(name: str, ratio: int | None, title: str, case: tuple, device: str) -> list[dict]:
    """One row for the forward pass, one for both passes."""
    ours, theirs = operator("ours", name, ratio), operator("theirs", name, ratio)
    given, rows = inputs(case, device), []
    if device == "cpu":
        close = dict(rtol=0, atol=0) if name == "roi_pool" else dict(rtol=1e-4, atol=1e-3)
        for passes in (forward, both):
            torch.testing.assert_close(passes(ours, *given), passes(theirs, *given), **close)
    for what, passes in (("forward", forward), ("forward and backward", both)):
        times = alternate(
            lambda p=passes: p(ours, *given),
            lambda p=passes: p(theirs, *given),
            device,
            rounds=9 if case in VGG16 else 51,
        )
        # A process of its own for each: memory that was freed may stay with the process.
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            ours_mb, theirs_mb = (
                pool.apply(peak_megabytes, ((who, name, ratio), passes, case, device)) for who in OPERATORS
            )
        shape = dict(zip(("channels", "images", "height", "width", "rois", "bins"), case, strict=False))
        memory = {"ours_mb": ours_mb, "theirs_mb": theirs_mb}
        rows.append(
            {"operator": name, "sampling_ratio": ratio, "case": title, "passes": what, **shape, **times, **memory}
        )
        print("{operator:9} {sampling_ratio!s:4} {case:18} {channels:3} channels {rois:4} RoIs {passes:20} "
              "{ours_ms:8.2f} ms, torchvision {theirs_ms:8.2f} ms, ratio {ratio:.2f}; {ours_mb:6.1f} MB, torchvision "
              "{theirs_mb:6.1f} MB".format(**rows[-1]), flush=True)  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=sorted({title for _, _, title, _ in CASES}))
    given = parser.parse_args()
    device, record = given.device, RECORDS / f"pooling-{given.device}.json"
    torch.set_num_threads(1)
    rows = json.loads(record.read_text(encoding="utf-8"))["rows"] if given.only else []
    rows = [row for row in rows if row["case"] != given.only]
    for name, ratio, title, cases in CASES:
        for case in cases if given.only in (None, title) else ():
            rows += compare(name, ratio, title, case, device)
    print("written to", write("pooling", device, {"what": "ours / torchvision, CPU time or GPU wall time; peak memory "
                                                  "beyond the inputs", "rows": rows}))  # fmt: skip


if __name__ == "__main__":
    main()
