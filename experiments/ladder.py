"""The ladder: R-CNN, SPPnet, Fast R-CNN, Faster R-CNN and FPN on the same pictures, from the same network, trained for
about the same seconds (X-09).

`STEPS` are what fits into those seconds with all that a detector's training has, its proposals left out: they are
computed once. Seconds are the process's own, in one thread.
"""

from collections.abc import Callable
from dataclasses import replace
from tempfile import TemporaryDirectory
from time import process_time

import torch
from torch import nn
from torch.utils.data import Dataset

from experiments import scenes as shared
from experiments.faster_rcnn import mirrored
from experiments.measure import by_size, measure
from experiments.scenes import PROPOSALS, TEST, TRAIN, Experiment
from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors import rcnn_fit, sppnet
from rcnn_tutorial.detectors.fast_rcnn import FastRCNN, FastRCNNSettings
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.detectors.rcnn import RCNN, RCNNSettings
from rcnn_tutorial.detectors.sppnet import SPPnet, SPPnetSettings
from rcnn_tutorial.evaluation import predict, recall
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.proposals.selective_search import selective_search
from rcnn_tutorial.training import train

STEPS = {"R-CNN": 900, "SPPnet": 900, "Fast R-CNN": 1800, "Faster R-CNN": 1500, "FPN": 1000}
STAGED = {"R-CNN": (RCNN, RCNNSettings, rcnn_fit.fit, ()), "SPPnet": (SPPnet, SPPnetSettings, sppnet.fit, (4, 2, 1))}
ENDED = {
    "Fast R-CNN": (FastRCNN, FastRCNNSettings),
    "Faster R-CNN": (FasterRCNN, FasterRCNNSettings),
    "FPN": (FPN, FPNSettings),
}
TRAININGS = {"R-CNN": 4, "SPPnet": 4, "Fast R-CNN": 1, "Faster R-CNN": 1, "FPN": 1}  # stages, one after the other
TIMED = 20  # pictures whose selective search is timed


def pictures(data: str, seed: int) -> dict[str, Dataset]:
    """What is trained on, what chooses the threshold of NMS, and what is tested, with proposals."""
    if data == "shapes":
        parts = {"train": ("train", seed * TRAIN, TRAIN), "val": ("val", 0, TEST), "test": ("test", 0, TEST)}
        return {name: shared.scenes(*part) for name, part in parts.items()}
    kept = shared.kept("proposals")
    return {
        name: WithProposals(load_dataset(data, name), cache=kept, top=PROPOSALS) for name in ("train", "val", "test")
    }


def fitted(name: str, seed: int, parts: dict[str, Dataset]) -> nn.Module:
    """A detector, trained."""
    classes, steps = parts["train"].classes or parts["train"].dataset.dataset.classes, STEPS[name]
    if name in STAGED:
        kind, settings, fit, levels = STAGED[name]
        net = tiny_net(pretrained=True, levels=levels)
        net.replace_classifier(len(classes), torch.Generator().manual_seed(seed))
        chosen = settings.tiny(steps)
        model = kind(net, classes, replace(chosen, fine_tuning=replace(chosen.fine_tuning, seed=seed)))
        with TemporaryDirectory() as place:
            fit(model, parts["train"], parts["val"], FeatureCache(place), progress=False)
        return model
    kind, settings = ENDED[name]
    chosen = settings.tiny(steps)
    chosen = replace(chosen, training=replace(chosen.training, seed=seed))
    model = kind(tiny_net(pretrained=True), classes, chosen, seed=seed)
    if name == "Fast R-CNN":
        model.normalise_targets(parts["train"])
    own = parts["train"] if name == "Fast R-CNN" else parts["train"].dataset  # the others need no proposals
    train(model, mirrored(own, seed), chosen.training, progress=False)
    return model


def climbed(name: str, seed: int, parts: dict[str, Dataset]) -> dict:
    """One detector's row: what it reaches, and what that takes."""
    for part in parts.values():  # proposals first: they are not counted as training
        for index in range(len(part)):
            part.target(index)
    start = process_time()
    model = fitted(name, seed, parts).eval()
    middle = process_time()
    calls: list[int] = []
    convolutions = {"Fast R-CNN": "convs", "Faster R-CNN": "body", "FPN": "body"}.get(name, "net.convs")
    convolutions = model.get_submodule(convolutions)
    hook = convolutions.register_forward_hook(lambda layer, args, output: calls.append(len(args[0])))
    proposing = name in ("Faster R-CNN", "FPN")
    test = parts["test"].dataset if proposing else parts["test"]
    found, targets = predict(model, test, progress=False)
    end = process_time()
    hook.remove()
    images = [test[index][0] for index in range(len(test))]
    outside = 0.0
    if proposing:
        boxes = [model.proposals([image])[0] for image in images]
    else:
        boxes = [parts["test"].target(index)["proposals"] for index in range(len(test))]
        begin = process_time()
        for image in images[:TIMED]:
            selective_search(image, top=PROPOSALS)
        outside = 1000 * (process_time() - begin) / TIMED
    covered = recall(boxes, targets, top=PROPOSALS).tolist()
    return measure(found, targets, model.classes) | by_size(found, targets, model.classes) | {
        "recall at 0.5": round(covered[0], 4),
        "recall at 0.7": round(covered[1], 4),
        "seconds": round(middle - start, 1),
        "milliseconds": round(1000 * (end - middle) / len(test), 1),
        "milliseconds of proposals": round(outside, 1),
        "passes": round(sum(calls) / len(test), 1),
        "stages": TRAININGS[name],
        "weights": sum(p.numel() for p in model.parameters()),
    }  # fmt: skip


def ladder(data: str) -> Callable[[int], dict[str, dict]]:
    """The five detectors on one data set."""

    def run(seed: int) -> dict[str, dict]:
        parts = pictures(data, seed)
        return {name: climbed(name, seed, parts) for name in STEPS}

    return run


EXPERIMENTS = {
    f"ladder_{data}": Experiment("R-CNN to FPN", ("X-09",), ladder(data), {"proposals": PROPOSALS, "steps": STEPS})
    for data in ("shapes", "bccd")
}
