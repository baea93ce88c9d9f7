"""Time and memory of `roi_pool` and `roi_align` beside torchvision's: python -m benchmarks --only pooling."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torchvision
from torch import Tensor

from benchmarks.measure import Benchmark, alternate
from rcnn_tutorial.ops.pooling import roi_align, roi_pool

OPERATORS = {
    "ours": {"roi_pool": roi_pool, "roi_align": roi_align},
    "theirs": {"roi_pool": torchvision.ops.roi_pool, "roi_align": torchvision.ops.roi_align},
}
TITLES = {
    ("roi_pool", None): "RoI pooling",
    ("roi_align", 2): "RoIAlign",
    ("roi_align", -1): "RoIAlign, adaptive",  # as many points as the region is large
}
# channels, images, height and width of the map, RoIs, bins per side, sides of the RoIs in pixels
VGG16 = [(c, 1, 38, 63, n, 7, (32, 600)) for c, n in ((256, 2000), (512, 512), (512, 2000))]
# the finest map that FPN reads regions from, for pictures of 800 x 1333, with the RoIs of two pictures
PYRAMID = [(256, 2, 200, 336, 1024, 7, (64, 448))]
# images of 256 x 192 pixels at a stride of 8; the sides are given for the 16 pixels per cell of all these cases
TINY = [(96, 2, 24, 32, 128, 4, (24, 320))]
LESSON = [(96, 8, 24, 32, 1024, 7, (12, 160))]
# operator, its sampling_ratio, the map's name, cases; what takes longest comes last
CASES = [
    *((name, ratio, "tiny net", TINY) for name, ratio in TITLES),
    *((name, ratio, "tiny net", LESSON) for name, ratio in TITLES),
    *((name, ratio, "VGG16", VGG16) for name, ratio in TITLES),
    ("roi_align", 2, "FPN", PYRAMID),
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


def benchmarks(device: str) -> list[Benchmark]:
    return [
        Benchmark(
            "pooling",
            f"{TITLES[name, ratio]}, {title}, {case[0]} channels, {case[4]:,} RoIs, {what}",
            partial(compare, name, ratio, case, passes, device),
        )
        for name, ratio, title, cases in CASES
        for case in cases
        for what, passes in (("forward", forward), ("forward and backward", both))
    ]


def compare(name: str, ratio: int | None, case: tuple, passes: Callable, device: str, seconds: float) -> dict:
    ours, theirs, given = operator("ours", name, ratio), operator("theirs", name, ratio), inputs(case, device)
    small = inputs((2, 1, 8, 8, 2, 2, (32, 64)), device)
    pooled, others = passes(ours, *small), passes(theirs, *small)  # this loads the libraries, too
    if device == "cpu":
        close = dict(rtol=0, atol=0) if name == "roi_pool" else dict(rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(pooled, others, **close)
    times = alternate(
        lambda: passes(ours, *given),
        lambda: passes(theirs, *given),
        device,
        rounds=15 if device == "cpu" and case not in TINY else 51,
        seconds=seconds,
    )
    return dict(zip(("channels", "images", "height", "width", "rois", "bins"), case, strict=False)) | times
