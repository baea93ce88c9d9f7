"""RetinaNet's loss and anchors, each against its alternatives, and one stage against two.

Every variant starts from the body and the neck of the shipped FPN, with the same scenes and mini-batches, and all its
layers learn.
"""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from experiments.comparison import fitted
from experiments.scenes import TEST, TRAIN, Experiment, device
from rcnn_tutorial.course.dense import on_fpn
from rcnn_tutorial.detectors import load
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.detectors.retinanet import Dense, RetinaNet, RetinaNetSettings, octaves
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.ops.assign import BACKGROUND, FOREGROUND
from rcnn_tutorial.ops.losses import sigmoid_focal_loss

STEPS, NEGATIVES = 400, 3  # negatives that are drawn for each positive anchor, as in SSD
SETTINGS = {"train": TRAIN, "test": TEST, "steps": STEPS}


class DrawnDense(Dense):
    """The log loss of the positive anchors of a mini-batch, and of three times as many of its negatives, drawn."""

    def rank(self, loss: Tensor) -> Tensor:
        """Numbers (B, N), of which the negatives with the largest are drawn."""
        return torch.rand(loss.shape).to(loss.device)

    def class_loss(self, logits: Tensor, wanted: Tensor, state: Tensor) -> Tensor:
        """As Dense's."""
        loss = sigmoid_focal_loss(logits, wanted, alpha=-1, gamma=0).sum(dim=2)  # (B, N)
        positive, negative = state == FOREGROUND, state == BACKGROUND
        count = min(NEGATIVES * max(int(positive.sum()), 1), int(negative.sum()))
        drawn = torch.where(negative, self.rank(loss.detach()), -1.0).flatten().topk(count).indices
        return loss[positive].sum() + loss.flatten()[drawn].sum()


class HardestDense(DrawnDense):
    """The negatives of the largest loss (OHEM)."""

    def rank(self, loss: Tensor) -> Tensor:
        """The losses themselves."""
        return loss


class SampledRetinaNet(RetinaNet):
    """RetinaNet with random negatives, three to one."""

    dense_class = DrawnDense


class HardestRetinaNet(RetinaNet):
    """RetinaNet with the hardest negatives, three to one."""

    dense_class = HardestDense


def settings(seed: int, **changes) -> RetinaNetSettings:
    """The laptop's, with changes."""
    tiny = RetinaNetSettings.tiny(STEPS, **changes)
    return replace(tiny, training=replace(tiny.training, seed=seed))


def tested(model: torch.nn.Module, seed: int) -> dict:
    """Train on the scenes of a seed, and measure."""
    torch.manual_seed(seed)  # of the negatives that are drawn
    return fitted(model, seed, model.settings.training)  # type: ignore[union-attr, arg-type]


def losses(seed: int) -> dict[str, dict]:
    """RET-15, RET-17: what is done about the many negatives; and FPN with a new RPN and head, two stages."""
    fpn, results = cast(FPN, load("fpn")).to(device()), {}
    kinds = {
        "focal loss": (RetinaNet, {}),
        "CE": (RetinaNet, {"alpha": -1.0, "gamma": 0.0}),
        "balanced CE": (RetinaNet, {"alpha": 0.75, "gamma": 0.0}),
        "sampling 1:3": (SampledRetinaNet, {}),
        "OHEM": (HardestRetinaNet, {}),
    }
    for name, (kind, changes) in kinds.items():
        results[name] = tested(on_fpn(fpn, fpn.classes, settings(seed, **changes), kind), seed)
    tiny = FPNSettings.tiny(STEPS)
    two = FPN(tiny_net(pretrained=True), fpn.classes, tiny, seed=seed).to(device())
    two.settings = replace(tiny, training=replace(tiny.training, seed=seed))
    two.body.load_state_dict(fpn.body.state_dict())
    results["two stages"] = tested(two, seed)
    return results


def anchors(seed: int) -> dict[str, dict]:
    """RET-18: one square anchor at a place, or nine."""
    fpn = cast(FPN, load("fpn")).to(device())
    one = {"scales": octaves(16, 32, 64, 128, 256, steps=1), "ratios": (1.0,)}
    kinds = {"nine anchors": {}, "one anchor": one}
    return {name: tested(on_fpn(fpn, fpn.classes, settings(seed, **changes)), seed) for name, changes in kinds.items()}


EXPERIMENTS = {
    "retina_losses": Experiment(
        "five losses of one dense detector, and two stages", ("RET-15", "RET-17"), losses, SETTINGS
    ),
    "retina_anchors": Experiment("one anchor at a place, and nine", ("RET-18",), anchors, SETTINGS),
}
