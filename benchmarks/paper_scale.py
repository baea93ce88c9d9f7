"""Seconds of one image at the papers' scale: R-CNN, SPPnet and Fast R-CNN with random weights.

    python -m benchmarks.paper_scale [--device cuda]

From the image and its proposals to scores and boxes; selective search and NMS are left out. Of R-CNN's windows, which
are alike, some are timed and the seconds multiplied. Writes benchmarks/records/paper_scale-<device>.json.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.measure import Benchmark, repeated, write
from rcnn_tutorial.course.profile import Laps, detector_cost
from rcnn_tutorial.detectors.fast_rcnn import FastRCNN, compress
from rcnn_tutorial.detectors.rcnn import RCNN
from rcnn_tutorial.detectors.sppnet import SPPnet, SPPnetSettings
from rcnn_tutorial.detectors.two_stage import given
from rcnn_tutorial.nets.backbones import ConvNet, alexnet, vgg16, zf5
from rcnn_tutorial.nets.preprocess import Preprocess

CLASSES = ("background", *(f"class {k}" for k in range(1, 21)))
VOC, LARGE = (375, 500), (600, 1000)  # height and width: a picture of VOC, and the largest that Fast R-CNN reads
WINDOWS = 2000
SCALES = SPPnetSettings().scales
RANKS = {"fc6.0": 1024, "fc7.0": 256}  # FAST-19
# Seconds on the papers' GPUs, without proposals: SPPnet's table of times, Fast R-CNN's table 4
PAPERS = {
    "SPPnet, ECCV 2014": {"R-CNN": 14.46, "SPPnet, 5 scales": 0.382, "SPPnet, 1 scale": 0.142},
    "Fast R-CNN, ICCV 2015": {"R-CNN": 47.0, "Fast R-CNN": 0.32, "Fast R-CNN, SVD": 0.22},
}


class Case(NamedTuple):
    """One detector, and what it reads."""

    detector: str
    network: str
    build: Callable[[int], ConvNet]  # from the number of classes
    image: tuple[int, int]  # height, width
    scales: tuple[int, ...] = ()  # SPPnet's
    timed: int = WINDOWS


CASES = (
    Case("R-CNN", "AlexNet", alexnet, VOC, timed=64),
    Case("R-CNN", "ZF-5", zf5, VOC, timed=64),
    Case("SPPnet, 1 scale", "ZF-5", zf5, VOC, (688,)),
    Case("SPPnet, 5 scales", "ZF-5", zf5, VOC, SCALES),
    Case("R-CNN", "VGG16", vgg16, VOC, timed=16),
    Case("Fast R-CNN", "VGG16", vgg16, LARGE),
    Case("Fast R-CNN, SVD", "VGG16", lambda classes: compress(vgg16(classes), RANKS), LARGE),
)


def random_net(build: Callable[[int], ConvNet], device: str) -> ConvNet:
    """The network with random weights, thin layers too: nothing is decomposed."""
    with torch.device("meta"):
        net = build(len(CLASSES))
    net = net.to_empty(device=device).eval()
    for p in net.parameters():
        nn.init.zeros_(p) if p.ndim == 1 else nn.init.normal_(p, std=math.sqrt(2 / p[0].numel()))
    return net


def proposals(n: int, size: tuple[int, int]) -> Tensor:
    """(n, 4) boxes of log-uniform sides, from 32 pixels to the shorter side of the image, anywhere inside it."""
    g = torch.Generator().manual_seed(0)
    side = 32 * torch.exp(math.log(min(size) / 32) * torch.rand(n, 2, generator=g))
    low = (torch.tensor([size[1], size[0]]) - side) * torch.rand(n, 2, generator=g)
    return torch.cat((low, low + side), dim=1)


def detector(case: Case, net: ConvNet) -> tuple[nn.Module, Callable, list[tuple[int, int]]]:
    """The model, its way from an image and boxes to scores, and the heights and widths that the convolutions read."""
    if case.detector.startswith("Fast R-CNN"):
        model = FastRCNN(net, CLASSES).eval()
        read = model.preprocess.new_size(case.image)

        def scores(image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
            batch, maps = model.maps([image])
            return model.head(model.pool(maps, given(batch, [boxes])))

        return model, scores, [read]
    if case.detector.startswith("SPPnet"):
        model = SPPnet(net, CLASSES, SPPnetSettings(scales=case.scales)).eval()
        return model, model.score, [Preprocess(min_size=s).new_size(case.image) for s in case.scales]
    model = RCNN(net, CLASSES).eval()
    return model, model.score, [(net.size, net.size)] * WINDOWS


@torch.no_grad()
def seconds(parts: SimpleNamespace, call: Callable, image: Tensor, boxes: Tensor) -> dict[str, float]:
    """Seconds by stage of one call; `parts` has the layers where stages begin and end.

    On a CPU the process's own time: other users of the machine do not count. On a GPU wall time.
    """
    lap = Laps(time.process_time if image.device.type == "cpu" else time.perf_counter)
    hooks = (
        parts.convs.register_forward_pre_hook(lambda *_: lap("resizing")),
        parts.convs.register_forward_hook(lambda *_: lap("convolutions")),
        parts.fc6.register_forward_pre_hook(lambda *_: lap("pooling")),
        parts.fc7.register_forward_hook(lambda *_: lap("fully connected")),
    )
    call(image, boxes)
    lap("outputs")
    for hook in hooks:
        hook.remove()
    return lap.seconds


def benchmarks(device: str) -> list[Benchmark]:
    least = 30 if device == "cpu" else 5
    return [
        Benchmark("papers", f"{case.detector}, {case.network}", partial(brief, case, device), least) for case in CASES
    ]


def brief(case: Case, device: str, limit: float) -> dict:
    """What `python -m benchmarks` records of a case."""
    row = measure(case, device, limit=limit)
    return {name: row[name] for name in ("image", "windows", "timed", "seconds", "warm")} | {
        "rounds": len(row["rounds"])
    }


def measure(case: Case, device: str, rounds: int = 3, limit: float = math.inf) -> dict:
    """One row of the record."""
    net = random_net(case.build, device)
    model, call, sizes = detector(case, net)
    model.to(device)
    parts = SimpleNamespace(convs=model.body if isinstance(model, FastRCNN) else net.convs, fc6=net.fc6, fc7=net.fc7)
    image = torch.rand(3, *case.image, generator=torch.Generator().manual_seed(1)).to(device)
    boxes = proposals(case.timed, case.image).to(device)
    times, warm = repeated(lambda: seconds(parts, call, image, boxes), rounds, limit)
    factor = WINDOWS / case.timed
    times = [{stage: round(factor * s, 4) for stage, s in t.items()} for t in times]
    return {
        "detector": case.detector,
        "network": case.network,
        "image": list(case.image),
        "windows": WINDOWS,
        "timed": case.timed,
        "seconds": {stage: median(t[stage] for t in times) for stage in times[0]},
        "rounds": times,
        "warm": warm,
        "multiply_adds": detector_cost(net, sizes, WINDOWS),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    torch.set_num_threads(1)
    rows = []
    for case in CASES:
        row = measure(case, device)
        rows.append(row)
        stages = ", ".join(f"{stage} {s:.3f}" for stage, s in row["seconds"].items())
        macs = ", ".join(f"{stage} {n / 1e9:.1f}" for stage, n in row["multiply_adds"].items())
        total = sum(row["seconds"].values())
        print(f"{case.detector:16} {case.network:7} {total:8.3f} s: {stages}; 10^9 multiply-adds: {macs}", flush=True)
    what = (
        "Seconds of one image by stage, processor time of one thread or GPU wall time: each round, and the medians. "
        "Random weights; without proposals and NMS. Where fewer windows were timed, the seconds are multiplied."
    )
    print("written to", write("paper_scale", device, {"what": what, "rows": rows, "papers_seconds": PAPERS}))


if __name__ == "__main__":
    main()
