"""What notebook 07 does around RetinaNet: a start from a trained FPN, times by stage, first losses."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.course.profile import Laps
from rcnn_tutorial.detectors.fpn import FPN
from rcnn_tutorial.detectors.retinanet import RetinaNet, RetinaNetSettings
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.training import train


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


def first_losses(
    fpn: FPN, classes: Sequence[str], data: Dataset, priors: Sequence[float], steps: int
) -> dict[str, list[float]]:
    """The class loss of the first steps of a training, for each prior; everything else is equal."""
    curves = {}
    for prior in priors:
        settings = RetinaNetSettings.tiny(steps, prior=prior)
        model = on_fpn(fpn, classes, settings)
        curves[f"prior {prior}"] = list(train(model, data, settings.training, progress=False).losses["class"])
    return curves
