"""Time of `nms` beside torchvision's.

    python -m benchmarks.nms [--device cuda]

Writes benchmarks/records/nms-<device>.json.
"""

import argparse

import torch
import torchvision
from torch import Tensor

from benchmarks.measure import alternate, write
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    torch.set_num_threads(1)
    rows = []
    for name, (make, threshold) in CASES.items():
        for n in (2000, 6000, 12000):
            boxes, scores = (t.to(device) for t in make(n, torch.Generator().manual_seed(0)))
            kept = nms(boxes, scores, threshold)
            assert torch.equal(kept, torchvision.ops.nms(boxes, scores, threshold))
            times = alternate(
                lambda b=boxes, s=scores, t=threshold: nms(b, s, t),
                lambda b=boxes, s=scores, t=threshold: torchvision.ops.nms(b, s, t),
                device,
            )
            rows.append({"operator": "nms", "case": name, "boxes": n, "kept": len(kept), **times})
    for n in (1000, 10000):
        boxes, scores = (t.to(device) for t in clustered(n, torch.Generator().manual_seed(0)))
        classes = torch.randint(80, (n,), generator=torch.Generator().manual_seed(1)).to(device)
        times = alternate(
            lambda b=boxes, s=scores, c=classes: batched_nms(b, s, c, 0.5),
            lambda b=boxes, s=scores, c=classes: torchvision.ops.batched_nms(b, s, c, 0.5),
            device,
        )
        kept = len(batched_nms(boxes, scores, classes, 0.5))
        rows.append({"operator": "batched_nms", "case": "80 classes", "boxes": n, "kept": kept, **times})
    for row in rows:
        print("{operator:12} {case:10} {boxes:6} kept {kept:6}  {ours_ms:8.2f} ms, torchvision {theirs_ms:8.2f} ms, "
              "ratio {ratio:.2f}".format(**row))  # fmt: skip
    print("written to", write("nms", device, {"what": "ours / torchvision, CPU time or GPU wall time", "rows": rows}))


if __name__ == "__main__":
    main()
