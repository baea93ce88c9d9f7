"""What notebook 07 does around RetinaNet: a start from a trained FPN, times by stage, first losses, the cap's price."""

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

import torch
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.course.profile import Laps
from rcnn_tutorial.detectors.fpn import FPN
from rcnn_tutorial.detectors.retinanet import Dense, RetinaNet, RetinaNetSettings
from rcnn_tutorial.detectors.two_stage import Targets, to_input
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.nets.preprocess import Batch
from rcnn_tutorial.nets.rpn import Predictions
from rcnn_tutorial.ops.assign import FOREGROUND, UNUSED, Matches
from rcnn_tutorial.training import train

WRONG = "gradients divided by all anchors"  # the mistake of notebook 07


def on_fpn(
    fpn: FPN, classes: Sequence[str], settings: RetinaNetSettings, kind: type[RetinaNet] = RetinaNet
) -> RetinaNet:
    """Make a RetinaNet whose body and neck are those of a trained FPN; its subnets, P6 and P7 are new.

    Args:
        fpn: the laptop's, with its weights; it is not changed.
        classes: of the data, the background first.
        settings: of the detector, with as many channels as the FPN has.
        kind: the class, or one derived from it.
    Returns:
        the detector, on the FPN's device.
    """
    model = kind(tiny_net(pretrained=True), classes, settings, seed=settings.training.seed)
    model.body.bottom_up.load_state_dict(fpn.body.bottom_up.state_dict())
    neck, other = model.body.fpn, fpn.body.fpn
    for own, theirs in ((neck.laterals, other.laterals), (neck.outputs, other.outputs)):
        for layer, trained in zip(own, theirs[-len(own) :], strict=True):  # the FPN has P2 before them
            layer.load_state_dict(trained.state_dict())
    return model.to(next(fpn.parameters()).device)


@torch.no_grad()
def stage_seconds(model: RetinaNet | FPN, images: Sequence[Tensor]) -> dict[str, float]:
    """Measure how long each stage of one detector takes for a picture, on average, of one stage or of two."""
    lap = Laps()
    for image in images:
        batch, maps = model.maps([image])
        lap("pyramid")
        if isinstance(model, RetinaNet):
            predictions = model.dense(maps)
            lap("subnets")
            model.choose(batch, predictions)
            lap("select")
        else:
            boxes = model.propose(model.rpn(maps), batch)
            lap("RPN")
            model.classify(batch, model.pool(maps, boxes), boxes)
            lap("class and box")
    return {stage: seconds / len(images) for stage, seconds in lap.seconds.items()}


class OverAllDense(Dense):
    """A mistake: the gradients are those of a loss divided by all anchors, in place of the positive ones.

    The losses have the values of Dense's, so that they can be compared.
    """

    def losses(self, predictions: Predictions, matches: Matches, targets: Targets) -> dict[str, Tensor]:
        """As Dense's."""
        share = (matches.state == FOREGROUND).sum().clamp(min=1) / matches.state.numel()
        losses = super().losses(predictions, matches, targets)
        return {name: share * loss + ((1 - share) * loss).detach() for name, loss in losses.items()}


class OverAllRetinaNet(RetinaNet):
    """RetinaNet with that mistake."""

    dense_class = OverAllDense


def first_losses(
    fpn: FPN, classes: Sequence[str], data: Dataset, priors: Sequence[float], steps: int
) -> dict[str, list[float]]:
    """The class loss of the first steps of a training, for each prior; everything else is equal.

    The last curve has the last prior, but all anchors divide the sum whose gradients are taken.
    """
    curves = {}
    kinds = [(f"prior {prior}", prior, RetinaNet) for prior in priors]
    for name, prior, kind in [*kinds, (f"prior {priors[-1]}, {WRONG}", priors[-1], OverAllRetinaNet)]:
        settings = RetinaNetSettings.tiny(steps, prior=prior)
        model = on_fpn(fpn, classes, settings, kind)
        curves[name] = list(train(model, data, settings.training, progress=False).losses["class"])
    return curves


@torch.no_grad()
def right_answers(model: RetinaNet, image: Tensor, target: dict[str, Tensor]) -> Tensor:
    """The probability that a detector gives to the right answer of each question that it is asked about one picture.

    Args:
        model: any RetinaNet.
        image: (3, H, W).
        target: `boxes` (M, 4), pixels of the image, and `labels` (M,).
    Returns:
        p_t of every class at every anchor, (Q,), double precision; ignored anchors are left out.
    """
    batch, maps = model.maps([image])
    predictions = model.dense(maps)
    boxes = to_input(batch, [target])[0]["boxes"]
    matches = model.dense.label(predictions.anchors, [boxes], batch.sizes)
    state, truth = matches.state[0], matches.truth[0]  # (N,) each
    p = predictions.logits[0].double().sigmoid()  # (N, K)
    found = (state == FOREGROUND).nonzero().flatten()
    yes = torch.zeros_like(p, dtype=torch.bool)
    yes[found, target["labels"][truth[found]] - 1] = True
    return torch.where(yes, p, 1 - p)[state != UNUSED].flatten()


@torch.no_grad()
def choose_seconds(model: RetinaNet, batch: Batch, predictions: Predictions) -> dict[str, float]:
    """Measure how long it takes to come from predictions to detections, with the cap and the least score and without.

    Args:
        model: as it is used; it is not changed.
        batch, predictions: of some pictures, as `model.maps` and `model.dense` give them.
    Returns:
        seconds, each the shortest of three runs.
    """
    own = model.settings
    every = predictions.logits.numel()
    ways = {
        f"cap {own.candidates:,}, scores above {own.least_score:g}": own,
        f"no cap, scores above {own.least_score:g}": replace(own, candidates=every),
        "no cap, all scores": replace(own, candidates=every, least_score=0.0),
    }
    seconds = {}
    try:
        for name, settings in ways.items():
            model.settings = model.dense.settings = settings
            runs = []
            for _ in range(3):
                start = perf_counter()
                model.choose(batch, predictions)[0]["scores"].cpu()  # waits for a GPU
                runs.append(perf_counter() - start)
            seconds[name] = min(runs)
    finally:
        model.settings = model.dense.settings = own
    return seconds
