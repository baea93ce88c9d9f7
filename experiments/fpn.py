"""The feature pyramid's parts, each against its alternatives.

Scenes, mini-batches and the loop are those of `faster_rcnn.py`; every variant has the same network, head and steps.
The pyramid's other designs are in `designs.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from experiments import faster_rcnn
from experiments.designs import DESIGNS, ImagesFPN, NotSmoothedFPN, SingleFPN
from experiments.faster_rcnn import tested, trained
from experiments.scenes import TEST, TRAIN, Experiment, kept
from experiments.variants import SeparateHeads
from rcnn_tutorial.data.generated.auxiliary import AuxiliaryBatches, accuracy
from rcnn_tutorial.data.generated.shapes import AUXILIARY_CLASSES
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.detectors.rcnn_windows import FineTuning
from rcnn_tutorial.detectors.two_stage import TwoStage
from rcnn_tutorial.nets.backbones import ConvNet, tiny_net
from rcnn_tutorial.nets.fpn import BottomUp, tiny_stages
from rcnn_tutorial.nets.preprocess import Batch
from rcnn_tutorial.training import TrainSettings, train

STEPS, LONGER, LONGEST = 400, 1000, 1500
SETTINGS = {"train": TRAIN, "test": TEST, "steps": STEPS}
READ = ("single", "hierarchy", "no laterals", "finest", "top-down")
CLOSEST = ("single", "hierarchy", "top-down")
COARSE_STEPS = 2000  # of the pre-training of C4 and C5
RATES = {"finest": 0.02}  # where one map has all the gradient, no detection is learnt at the others' 0.05


def settings(seed: int, rpn: dict | None = None, steps: int = STEPS, **changes) -> FPNSettings:
    """The laptop's, with changes of the RPN's settings and of the detector's."""
    tiny = FPNSettings.tiny(steps, **changes)
    return replace(tiny, rpn=replace(tiny.rpn, **(rpn or {})), training=replace(tiny.training, seed=seed))


class FPNOfSeparateHeads(FPN):
    """A pyramid whose levels do not share the RPN's head (FPN-11)."""

    rpn_class = SeparateHeads


class SeveralFilters(SingleFPN):
    """One map, and for each scale of anchors a head of its own, whose filters grow with the anchors (X-08)."""

    KERNELS = (1, 3, 5, 7, 9)

    def __init__(self, net: ConvNet, classes: Sequence[str], settings: FPNSettings, seed: int = 0):
        super().__init__(net, classes, settings, seed=seed)
        channels, count = settings.channels, len(self.KERNELS)
        self.rpn = SeparateHeads(channels, self.strides * count, settings.rpn, self.generator)
        heads: Any = self.rpn.head
        for head, side in zip(heads, self.KERNELS, strict=True):
            head.conv = nn.Conv2d(channels, channels, side, padding=side // 2)
            head.conv.weight.data = 0.01 * torch.randn(head.conv.weight.shape, generator=self.generator)
            head.conv.bias = nn.Parameter(torch.zeros(channels))

    def maps(self, images: Sequence[Tensor]) -> tuple[Batch, list[Tensor]]:
        """The one map, once for each head."""
        batch, maps = super().maps(images)
        return batch, maps * len(self.KERNELS)


def designs(seed: int) -> dict[str, dict]:
    """FPN-07, FPN-10, FPN-16: what the second stage and the RPN read."""
    results = {}
    for design in READ:
        chosen = settings(seed)
        training = replace(chosen.training, lr=RATES.get(design, chosen.training.lr))
        results[design] = tested(*trained(replace(chosen, training=training), DESIGNS[design]))
    return results


class Classifier(nn.Module):
    """A classifier of the auxiliary shapes that reads the mean of the coarsest map."""

    def __init__(self, stages: BottomUp, classes: int):
        super().__init__()
        self.stages, self.last = stages, nn.Linear(stages.channels[-1], classes)

    def forward(self, crops: Tensor) -> Tensor:
        """Mean-subtracted crops (B, 3, H, W) to scores before the softmax (B, classes)."""
        return self.last(self.stages(crops)[-1].mean(dim=(2, 3)))


def coarse_stages() -> dict[str, Tensor]:
    """Weights of C4 and C5, learnt from the auxiliary shapes behind the frozen C2 and C3, once for all seeds."""

    def compute() -> dict:
        generator = torch.Generator().manual_seed(1)
        net = Classifier(tiny_stages(tiny_net(pretrained=True), generator), len(AUXILIARY_CLASSES))
        nn.ModuleList((net.stages.stem, *net.stages.stages[:2])).requires_grad_(False)
        chosen = TrainSettings(
            COARSE_STEPS, batch_size=1, lr=0.03, weight_decay=5e-4, schedule="cosine", warmup=COARSE_STEPS // 4, seed=1,
        )  # fmt: skip
        train(FineTuning(net), AuxiliaryBatches(0, 20_000, COARSE_STEPS, processes=0), chosen, progress=False)
        share = accuracy(net.eval(), AuxiliaryBatches(40_000, 2_000, 0, processes=0))
        print(f"C4 and C5: {share:.3f} of the fresh auxiliary shapes are named rightly", flush=True)
        return {"weights": dict(net.stages.stages[2:].state_dict())}

    return kept("networks").get(("C4 and C5", COARSE_STEPS), compute)["weights"]


def with_coarse_stages(model: TwoStage) -> None:
    """Put the learnt C4 and C5 into a detector that reads them."""
    stages = model.body.bottom_up.stages[2:]
    if len(stages):
        stages.load_state_dict(coarse_stages())


def longer(seed: int) -> dict[str, dict]:
    """FPN-07, FPN-16: the three closest designs, with C4 and C5 pre-trained and for longer."""
    return {
        design: tested(*trained(settings(seed, steps=LONGEST), DESIGNS[design], with_coarse_stages))
        for design in CLOSEST
    }


def detectors(seed: int) -> dict[str, dict]:
    """FPN-16: Faster R-CNN as notebook 04 has it, and FPN, for as many steps."""
    return {
        "Faster R-CNN": tested(*trained(faster_rcnn.settings(seed, steps=LONGER))),
        "FPN": tested(*trained(settings(seed, steps=LONGER), FPN)),
    }


def smoothing(seed: int) -> dict[str, dict]:
    """FPN-03: without the 3 x 3 convolutions on the merged maps."""
    return {
        "3 x 3": tested(*trained(settings(seed), FPN)),
        "none": tested(*trained(settings(seed), NotSmoothedFPN)),
    }


def border(seed: int) -> dict[str, dict]:
    """FPN-15: anchors that cross the image's border, trained or left out."""
    return {
        "all anchors": tested(*trained(settings(seed), FPN)),
        "inside alone": tested(*trained(settings(seed, rpn={"inside": True}), FPN)),
    }


def heads(seed: int) -> dict[str, dict]:
    """FPN-11: one head for all levels, or one for each."""
    return {
        "shared": tested(*trained(settings(seed), FPN)),
        "one for each level": tested(*trained(settings(seed), FPNOfSeparateHeads)),
    }


def rule(seed: int) -> dict[str, dict]:
    """FPN-13: the level rule as published, and with the side of its square scaled with the pictures."""
    return {f"s0 = {side:g}": tested(*trained(settings(seed, s0=side), FPN)) for side in (28.0, 56.0, 112.0, 224.0)}


def pyramids(seed: int) -> dict[str, dict]:
    """X-08: four ways to meet objects of all sizes."""
    chosen = settings(seed)
    return {
        "images": tested(*trained(chosen, ImagesFPN)),
        "filters": tested(*trained(chosen, SeveralFilters)),
        "anchors": tested(*trained(chosen, SingleFPN)),
        "features": tested(*trained(chosen, FPN)),
    }


EXPERIMENTS = {
    "fpn_07": Experiment(
        "what is read: five designs", ("FPN-07", "FPN-10", "FPN-16"), designs, SETTINGS | {"rates": RATES}
    ),
    "fpn_07_longer": Experiment(
        "what is read: three designs, C4 and C5 pre-trained",
        ("FPN-07", "FPN-16"),
        longer,
        SETTINGS | {"steps": LONGEST, "coarse_steps": COARSE_STEPS},
    ),
    "fpn_16": Experiment("one map, or a pyramid", ("FPN-16",), detectors, SETTINGS | {"steps": LONGER}),
    "fpn_03": Experiment("the 3 x 3 convolutions on the merged maps", ("FPN-03",), smoothing, SETTINGS),
    "fpn_15": Experiment("anchors that cross the border", ("FPN-15",), border, SETTINGS),
    "fpn_11": Experiment("one head for all levels, or one for each", ("FPN-11",), heads, SETTINGS),
    "fpn_13": Experiment("the side of a region that belongs to level 4", ("FPN-13",), rule, SETTINGS),
    "x_08": Experiment("pyramids of images, filters, anchors and features", ("X-08",), pyramids, SETTINGS),
}
