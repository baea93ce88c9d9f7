"""Time of `nms` and `batched_nms` beside torchvision's: python -m benchmarks --only nms."""

from collections.abc import Callable
from functools import partial

import torch
import torchvision
from torch import Tensor

from benchmarks.measure import Benchmark, alternate
from rcnn_tutorial.ops.nms import batched_nms, nms


def proposals(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What an RPN gives on 1000 x 600 pixels: nine anchors at each place of stride 16, moved a little."""
    y, x = torch.meshgrid(torch.arange(8.0, 600, 16), torch.arange(8.0, 1000, 16), indexing="ij")
    shapes = torch.tensor([[s / r**0.5, s * r**0.5] for s in (128, 256, 512) for r in (0.5, 1, 2)])
    center = torch.stack((x, y), dim=-1).reshape(-1, 1, 2).expand(-1, 9, 2).reshape(-1, 2)
    size = shapes.repeat(len(center) // 9, 1)
    center = center + 0.1 * size * torch.randn(center.shape, generator=generator)
    size = size * torch.exp(0.1 * torch.randn(size.shape, generator=generator))
    boxes = torch.cat((center - size / 2, center + size / 2), dim=1).clamp(min=0)
    boxes = torch.minimum(boxes, torch.tensor([1000, 600, 1000, 600.0]))
    chosen = torch.randperm(len(boxes), generator=generator)[:n]
    return boxes[chosen], torch.rand(n, generator=generator)


def clustered(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """About a hundred boxes around each object: what a trained detector gives."""
    objects = max(n // 100, 20)
    centers = torch.rand(objects, 2, generator=generator) * torch.tensor([1000, 600])
    sizes = torch.exp(3 * torch.rand(objects, 2, generator=generator) + 2.5)
    of = torch.randint(objects, (n,), generator=generator)
    center = centers[of] + 0.15 * sizes[of] * torch.randn(n, 2, generator=generator)
    size = sizes[of] * torch.exp(0.2 * torch.randn(n, 2, generator=generator))
    return torch.cat((center - size / 2, center + size / 2), dim=1), torch.rand(n, generator=generator)


def disjoint(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Nothing is dropped: every pair has to be looked at."""
    place = torch.randperm(n, generator=generator)
    corner = 10.0 * torch.stack((place % 120, place // 120), dim=1)
    return torch.cat((corner, corner + 9), dim=1), torch.rand(n, generator=generator)


def chain(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each box overlaps its neighbours alone, scores falling along the chain: every second one is dropped."""
    x = 2.0 * torch.arange(n)
    boxes = torch.stack((x, torch.zeros(n), x + 6, torch.full((n,), 10.0)), dim=1)
    return boxes, torch.linspace(1, 0, n)


CASES = {
    "proposals": (proposals, 0.7),
    "clustered": (clustered, 0.7),
    "disjoint": (disjoint, 0.5),
    "chain": (chain, 0.4),
}
COUNTS = (1000, 2000, 6000, 12000)  # the tutorial's RPN, FPN on COCO, Faster R-CNN in detection and in training
BATCHED = [(6, 300, 0.4), (80, 1000, 0.5), (80, 10000, 0.5)]  # classes, boxes, threshold: the tutorial's first


def benchmarks(device: str) -> list[Benchmark]:
    single = [
        Benchmark("nms", f"NMS, {name}, {count:,} boxes", partial(compare, make, count, 0, threshold, device))
        for name, (make, threshold) in CASES.items()
        for count in COUNTS
    ]
    several = [
        Benchmark(
            "nms",
            f"batched NMS, {classes} classes, {count:,} boxes",
            partial(compare, clustered, count, classes, threshold, device),
        )
        for classes, count, threshold in BATCHED
    ]
    return single + several


def compare(make: Callable, count: int, classes: int, threshold: float, device: str, seconds: float) -> dict:
    """Of one class, or within several."""
    boxes, scores = (t.to(device) for t in make(count, torch.Generator().manual_seed(0)))
    ours, theirs, given = nms, torchvision.ops.nms, (boxes, scores, threshold)
    if classes:
        labels = torch.randint(classes, (count,), generator=torch.Generator().manual_seed(1)).to(device)
        ours, theirs, given = batched_nms, torchvision.ops.batched_nms, (boxes, scores, labels, threshold)
    kept, others = ours(*given), theirs(*given)
    # within classes torchvision moves the boxes apart, which rounds them
    assert classes or device != "cpu" or torch.equal(kept, others)
    rounds = 15 if device == "cpu" else 51
    times = alternate(lambda: ours(*given), lambda: theirs(*given), device, rounds, seconds)
    return {"boxes": count, "kept": len(kept), **times}
