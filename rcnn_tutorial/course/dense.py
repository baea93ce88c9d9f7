"""RetinaNet on the laptop: a start from the body and the neck of a trained FPN."""

from collections.abc import Sequence

from rcnn_tutorial.detectors.fpn import FPN
from rcnn_tutorial.detectors.retinanet import RetinaNet, RetinaNetSettings
from rcnn_tutorial.nets.backbones import tiny_net


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
