"""What a forward pass of a detector makes a GPU do, of ours and of torchvision's with the same weights."""

from collections import OrderedDict

import torch

from benchmarks.peer import tiny_faster_rcnn, tiny_fpn
from rcnn_tutorial.compat import to_state
from rcnn_tutorial.detectors import load
from tests.detectors.scenes import batch
from tests.device import on_device, simulated_cuda

DETECTORS = ("fpn", "faster_rcnn")
PASSES = ("training", "detection")


def ours(name):
    """The shipped detector."""
    return load(name)


def torchvisions(name):
    """torchvision's detector with the weights of the shipped one."""
    peer = {"fpn": tiny_fpn, "faster_rcnn": tiny_faster_rcnn}[name](len(load(name).classes), pretrained=True)
    state = to_state(load(name).state_dict())
    theirs = OrderedDict((key.replace("fc6.0.", "fc6.").replace("fc7.0.", "fc7."), state[key]) for key in state)
    peer.load_state_dict(theirs)
    return peer


def forward(model, mode, images=2, sizes=None, warm=True):
    """The log of a forward pass on scenes: the losses in "training", the detections in "detection".

    Args:
        model: of ours or of torchvision; it is moved to the simulated device.
        mode: one of PASSES.
        images: how many scenes.
        sizes: (height, width) of the part of each scene that is shown; None shows all of it.
        warm: whether the same pass has run before, so that nothing is made that is kept.
    """
    pictures, targets = batch(images)
    if sizes is not None:
        pictures = [picture[:, :height, :width] for picture, (height, width) in zip(pictures, sizes, strict=True)]
    with simulated_cuda() as log, torch.set_grad_enabled(mode == "training"):
        on_device(model).train(mode == "training")
        given = on_device(pictures), on_device(targets) if mode == "training" else None
        for _ in range(1 + warm):
            if isinstance(getattr(model, "generator", None), torch.Generator):
                model.generator.manual_seed(0)
            torch.manual_seed(0)
            log.clear()
            model(*given)
    return log
