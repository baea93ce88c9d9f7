"""What a detector makes a GPU do, ours and torchvision's with the same weights, counted on the simulated device."""

from functools import cache

import torch
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from benchmarks.peer import tiny_faster_rcnn, tiny_fpn
from rcnn_tutorial.compat import to_state
from rcnn_tutorial.detectors import load
from rcnn_tutorial.training import TrainSettings, train
from tests.detectors.scenes import Scenes, batch
from tests.device import on_device, simulated_cuda

DETECTORS = ("fpn", "faster_rcnn")
MODES = ("training", "detection")


def ours(name):
    """The shipped detector."""
    return load(name)


def torchvisions(name):
    """torchvision's detector with the weights of the shipped one."""
    model = load(name)
    peer = {"fpn": tiny_fpn, "faster_rcnn": tiny_faster_rcnn}[name](len(model.classes), pretrained=True)
    if name == "faster_rcnn":  # ours was made of a classifier, whose layer has fewer bins, and other names
        bins, channels = model.output_size, peer.backbone.out_channels
        peer.roi_heads.box_roi_pool = MultiScaleRoIAlign(["0"], bins, 2)
        peer.roi_heads.box_head = TwoMLPHead(channels * bins**2, 256)
    state = to_state(model.state_dict())
    peer.load_state_dict({name.replace("fc6.0", "fc6").replace("fc7.0", "fc7"): value for name, value in state.items()})
    return peer


def forward(model, mode, images=2, again=True):
    """The log of a forward pass on scenes: of the losses in "training", of the detections in "detection".

    Args:
        model: of ours or of torchvision; it moves to the simulated device.
        mode: one of MODES.
        images: how many scenes.
        again: look at a second pass, for which all is there that a model keeps.
    """
    pictures, targets = batch(images)
    with simulated_cuda() as log, torch.random.fork_rng(devices=[]), torch.set_grad_enabled(mode == "training"):
        on_device(model).train(mode == "training")
        given = on_device(pictures), on_device(targets) if mode == "training" else None
        for _ in range(1 + again):
            torch.manual_seed(0)  # torchvision's samples
            if hasattr(model, "generator"):
                model.generator.manual_seed(0)  # and ours
            log.clear()
            model(*given)
    return log


@cache
def forward_of(make, name, mode, again=True):
    """The log of a forward pass on two scenes; measured once."""
    return forward(make(name), mode, again=again)


@cache
def step_of(name):
    """The log of the second step of `train` with two scenes: also of the gradients, the optimiser and the copies."""

    def forget_first(history):
        if history.steps == 1:
            log.clear()

    model = ours(name)  # which makes a sketch of it on "meta" first: the simulation takes that for the GPU
    with simulated_cuda() as log:
        settings = TrainSettings(2, batch_size=2, lr=0.01, clip_norm=10.0, log_every=1)
        train(on_device(model), Scenes(2), settings, on_log=forget_first, progress=False)
    return log
