"""Time and memory of a step and a test image of Faster R-CNN and FPN beside torchvision's, with the same weights.

    python -m benchmarks --only tiny paper

A step is the forward and the backward pass. On a GPU FPN is measured in bfloat16 as well: both under autocast,
torchvision's as it comes, ours also in channels-last and with its body and heads compiled.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from benchmarks.measure import Benchmark, alternate
from benchmarks.pairs import DETECTORS
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors.fpn import from_torchvision

TINY = {  # detector, shorter and longer side, images
    "Faster R-CNN, 192 x 256": ("faster_rcnn", (192, 256), 8),
    "Faster R-CNN, 240 x 320": ("faster_rcnn", (240, 320), 4),
    "FPN, 192 x 256": ("fpn", (192, 256), 8),
    "FPN, 240 x 320": ("fpn", (240, 320), 4),
}
PAPER = ((800, 1333), 2)  # FPN's input (section 5.2), and the images of one GPU
MODES = {  # under autocast; channels-last and compiled
    "float32": (False, False),
    "bfloat16": (True, False),
    "bfloat16, compiled": (True, True),
}
LEAST = {"step": 200.0, "test": 40.0, "GPU": 15.0, "compiled": 60.0}  # seconds of FPN at the paper's size
SPREAD = 20  # times the weights of the class scores: about a thousand boxes then pass the least score, as when trained


class Pair(NamedTuple):
    """The two detectors, and what they read."""

    ours: nn.Module
    theirs: nn.Module
    images: list[Tensor]
    targets: list[dict[str, Tensor]]


def tiny(device: str) -> list[Benchmark]:
    return [
        Benchmark(
            "tiny",
            title(name, what, case[2]),
            partial(compare, partial(tiny_pair, *case), what, "float32", device, True),
        )
        for name, case in TINY.items()
        for what in ("step", "test")
    ]


def paper(device: str) -> list[Benchmark]:
    """What takes longest comes last: on a CPU a step, on a GPU what is compiled."""
    (shorter, longer), count = PAPER
    name = f"FPN, ResNet-50, {shorter} x {longer}"
    return [
        Benchmark(
            "paper",
            title(f"{name}, {mode}", what, count),
            partial(compare, partial(paper_pair, *PAPER), what, mode, device, device != "cpu"),
            least=LEAST[what] if device == "cpu" else LEAST["compiled" if MODES[mode][1] else "GPU"],
        )
        for mode in (MODES if device != "cpu" else ["float32"])
        for what in ("test", "step")
    ]


def title(detector: str, what: str, count: int) -> str:
    return f"{detector}, " + (f"step of {count} images" if what == "step" else "test image")


def tiny_pair(detector: str, size: tuple[int, int], count: int) -> Pair:
    """Both networks are the same, from scratch for 240 x 320."""
    dataset, (make, convert) = load_dataset("shapes", "train"), DETECTORS[detector]
    theirs = make(len(dataset.classes), size, pretrained=size == (192, 256))
    images, targets = zip(*(dataset[i] for i in range(count)), strict=True)
    return Pair(convert(theirs, classes=dataset.classes), theirs, list(images), list(targets))


def paper_pair(size: tuple[int, int], count: int, classes: int = 91) -> Pair:
    """FPN on ResNet-50: random weights, the first stages and the norms frozen, noise with seven objects a picture."""
    g = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
        theirs = FasterRCNN(backbone, classes, min_size=size[0], max_size=size[1])
    for name, buffer in backbone.named_buffers():  # without norms that do their work the maps would grow block by block
        if name.endswith("bn3.weight"):
            buffer.zero_()
    theirs.roi_heads.box_predictor.cls_score.weight.data.mul_(SPREAD)
    images = [torch.rand(3, *size, generator=g) for _ in range(count)]
    corners = torch.rand(count, 7, 2, generator=g) * torch.tensor([0.7 * size[1], 0.7 * size[0]])
    sides = (0.05 + 0.25 * torch.rand(count, 7, 2, generator=g)) * torch.tensor([size[1], size[0]])
    labels = torch.randint(1, classes, (count, 7), generator=g)
    boxes = torch.cat((corners, corners + sides), dim=2)
    targets = [{"boxes": b, "labels": c} for b, c in zip(boxes, labels, strict=True)]
    return Pair(from_torchvision(theirs), theirs, images, targets)


def compare(make: Callable[[], Pair], what: str, mode: str, device: str, warm: bool, seconds: float) -> dict:
    """A step of all images, or a test of the first one; with a call beforehand if it is to be warm."""
    pair, (half, compiled) = make(), MODES[mode]
    images = [image.to(device) for image in pair.images]
    targets = [{name: target[name].to(device) for name in ("boxes", "labels")} for target in pair.targets]
    ours, theirs = (model.to(device).train(what == "step") for model in (pair.ours, pair.theirs))
    if compiled:
        ours.to(memory_format=torch.channels_last)
        for part in (ours.body, ours.rpn.head, ours.head):
            part.compile()

    def call(model: nn.Module) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=half), torch.set_grad_enabled(what == "step"):
            if what == "test":
                model(images[:1])
                return
            model.zero_grad()
            losses = sum(model(images, targets).values())
        losses.backward()

    if warm:
        call(ours), call(theirs)
    return alternate(lambda: call(ours), lambda: call(theirs), device, rounds=15, seconds=seconds)
