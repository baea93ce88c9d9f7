"""Which detector, and what each of its settings is worth: one is changed at a time (CMP-06 to CMP-19).

Scenes, mini-batches and the loop are those of `faster_rcnn.py`. All detectors read the same trunk, the stages of the
shipped FPN, and all layers learn. R-FCN and SSD are the small versions of `rcnn_tutorial/course/relatives`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from time import process_time
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch.utils.data import Dataset, Subset

from experiments.designs import OneMap, Single, SingleFPN
from experiments.faster_rcnn import SETTINGS, STEPS, mirrored, scenes
from experiments.faster_rcnn import settings as faster_settings
from experiments.fpn import settings as fpn_settings
from experiments.ladder import Resized
from experiments.measure import Detections, by_size, measure
from experiments.scenes import TEST, TRAIN, Experiment, device
from rcnn_tutorial.course.dense import on_fpn
from rcnn_tutorial.course.relatives import GridDetector, SmallRFCN, SmallSSD
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors import load
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN
from rcnn_tutorial.detectors.fpn import FPN
from rcnn_tutorial.detectors.retinanet import RetinaNetSettings
from rcnn_tutorial.evaluation import coco_ap, predict
from rcnn_tutorial.nets.backbones import ConvNet, tiny_net
from rcnn_tutorial.nets.fpn import BottomUp, tiny_stages
from rcnn_tutorial.ops.nms import batched_nms
from rcnn_tutorial.training import TrainSettings, train

RATES = {"SSD": 0.02, "YOLO grid": 0.01}  # found with one seed of other scenes
HALF = 96  # pixels of the shorter side, of 192
FOLDS = 100  # test scenes of each seed, where nothing is trained
COUNTS = (100, 50, 20)  # proposals, in place of 300
Pictures = tuple[Dataset, Dataset]  # to train on, and to test on
NAMES = ("faster_rcnn", "fpn", "mask_rcnn", "retinanet")


def trunk(seed: int, trained: bool = True) -> tuple[ConvNet, BottomUp]:
    """The laptop's classifier and its stages, which share their layers.

    Args:
        seed: of the stages at strides 16 and 32.
        trained: as the shipped FPN has them; else as the pre-training on crops left them.
    """
    net = tiny_net(pretrained=True)
    stages = tiny_stages(net, torch.Generator().manual_seed(seed))
    if trained:
        stages.load_state_dict(load("fpn").body.bottom_up.state_dict())
    return net, stages


def fitted(model: nn.Module, seed: int, plan: TrainSettings, pictures: Pictures | None = None) -> dict:
    """Train a detector, on the scenes of a seed if nothing else is given, and test it."""
    training, test = pictures or (scenes("train", seed * TRAIN, TRAIN), scenes("test", 0, TEST))
    model.to(device())
    start = process_time()  # other users of the machine do not count
    train(model, mirrored(training, seed), plan, progress=False)
    return {"seconds": round(process_time() - start, 1)} | tested(model.eval(), test)


def tested(model: nn.Module, test: Dataset) -> dict:
    """What a detector finds, by size too, and the milliseconds of a picture."""
    start = process_time()
    found, targets = predict(model, test, progress=False)
    spent = {"milliseconds": round(1000 * (process_time() - start) / len(targets), 1)}
    classes = cast(tuple[str, ...], model.classes)
    return measure(found, targets, classes) | by_size(found, targets, classes) | spent


def relatives(seed: int) -> dict[str, dict]:
    """CMP-01, -06, -09 to -13, -18, -19: four detectors on one trunk, three on another, and smaller pictures."""
    classes, plan, found = load("fpn").classes, faster_settings(seed).training, {}
    for name, trained in {"": True, ", plain trunk": False}.items():
        faster = FasterRCNN(trunk(seed, trained)[0], classes, faster_settings(seed), seed=seed)
        found[f"Faster R-CNN{name}"] = fitted(faster, seed, plan)
        if trained:
            rpn = faster.rpn.settings
            for count in COUNTS:
                faster.rpn.settings = replace(rpn, after_nms=(rpn.after_nms[0], count))
                found[f"Faster R-CNN, {count} proposals"] = tested(faster, scenes("test", 0, TEST))
        start = FasterRCNN(trunk(seed, trained)[0], classes, faster_settings(seed), seed=seed)
        found[f"R-FCN{name}"] = fitted(SmallRFCN(start, seed=seed), seed, plan)
        ssd = SmallSSD(trunk(seed, trained)[1], classes, seed=seed)
        found[f"SSD{name}"] = fitted(ssd, seed, replace(plan, lr=RATES["SSD"]))
    grid = GridDetector(trunk(seed)[1], classes, seed=seed)
    found["YOLO grid"] = fitted(grid, seed, replace(plan, lr=RATES["YOLO grid"]))
    smaller = faster_settings(seed, min_size=HALF, max_size=10 * HALF)
    found["Faster R-CNN, half the sides"] = fitted(FasterRCNN(trunk(seed)[0], classes, smaller, seed=seed), seed, plan)
    return found


def cells(seed: int) -> dict[str, dict]:
    """CMP-06, CMP-09: six detectors on photographs of blood cells, reduced to the size of the scenes.

    FPN and RetinaNet start from the shipped FPN's neck as well.
    """
    training, test = (load_dataset("bccd", split) for split in ("train", "test"))
    classes, plan, fpn = training.classes, faster_settings(seed).training, cast(FPN, load("fpn")).to(device())
    pictures = Resized(training, classes), Resized(test, classes)
    start = FasterRCNN(trunk(seed)[0], classes, faster_settings(seed), seed=seed)
    pyramid, dense = fpn_settings(seed), RetinaNetSettings.tiny(STEPS)
    dense = replace(dense, training=replace(dense.training, seed=seed))
    two_stages = FPN(trunk(seed)[1], classes, pyramid, seed=seed).to(device())
    two_stages.body.load_state_dict(fpn.body.state_dict())
    models = {
        "Faster R-CNN": (FasterRCNN(trunk(seed)[0], classes, faster_settings(seed), seed=seed), plan),
        "R-FCN": (SmallRFCN(start, seed=seed), plan),
        "SSD": (SmallSSD(trunk(seed)[1], classes, seed=seed), replace(plan, lr=RATES["SSD"])),
        "YOLO grid": (GridDetector(trunk(seed)[1], classes, seed=seed), replace(plan, lr=RATES["YOLO grid"])),
        "FPN": (two_stages, pyramid.training),
        "RetinaNet": (on_fpn(fpn, classes, dense), dense.training),
    }
    return {name: fitted(model, seed, chosen, pictures) for name, (model, chosen) in models.items()}


class C4(Single):
    """The stage at a stride of 16 pixels, alone."""

    stage = 2


class C5(Single):
    """The stage at a stride of 32 pixels, alone."""

    stage = 3


class FromC4(OneMap):
    """All proposals and regions are read from C4."""

    body_class = C4


class FromC5(OneMap):
    """All proposals and regions are read from C5."""

    body_class = C5


def without_last_stride(stages: BottomUp) -> BottomUp:
    """Remove C4's stride: the same weights look at the same pixels, from twice as many places along each side."""
    halve, _, again, _ = cast(list[nn.Conv2d], list(cast(nn.Sequential, stages.stages[2])))
    halve.stride = (1, 1)
    again.dilation = again.padding = (2, 2)  # its neighbours are as far away as they were
    stages.strides = (4, 8, 8, 16)
    return stages


def strides(seed: int) -> dict[str, dict]:
    """CMP-08, -11 and -16: which map is read, and C4 without its stride."""
    kinds: dict[str, tuple[type[OneMap], Callable[[BottomUp], BottomUp]]] = {
        "C3": (SingleFPN, lambda stages: stages),
        "C4": (FromC4, lambda stages: stages),
        "C5": (FromC5, lambda stages: stages),
        "C4, stride 8": (FromC4, without_last_stride),
    }
    classes, chosen, found = load("fpn").classes, fpn_settings(seed), {}
    for name, (kind, change) in kinds.items():
        model = kind(change(trunk(seed)[1]), classes, chosen, seed=seed)  # type: ignore[arg-type]
        found[name] = fitted(model, seed, chosen.training)
    return found


@dataclass(frozen=True)
class Answers:
    """What one detector says about the test scenes of a seed, and its AP of each class on validation scenes."""

    found: Detections
    by_class: Tensor  # (K,)


def merged(*answers: Detections, threshold: float = 0.5, most: int = 100) -> Detections:
    """Put the detections of several detectors together, and suppress within each class."""
    together = []
    for parts in zip(*answers, strict=True):
        both = {key: torch.cat([part[key] for part in parts]) for key in ("boxes", "labels", "scores")}
        kept = batched_nms(both["boxes"], both["scores"], both["labels"], threshold)[:most]
        together.append({key: value[kept] for key, value in both.items()})
    return together


def ensembles(seed: int) -> dict[str, dict]:
    """CMP-17: each shipped detector, and each two of them together; nothing is trained.

    A seed is a hundred test scenes. The AP of each class, by whose likeness two are chosen, is of validation scenes.
    """
    test = Subset(load_dataset("shapes", "test"), range(seed * FOLDS, (seed + 1) * FOLDS))
    chosen = Subset(load_dataset("shapes", "val"), range(FOLDS))
    answers, found, targets = {}, {}, []
    for name in NAMES:
        model = load(name).to(device())
        classes = model.classes
        per_class = coco_ap(*predict(model, chosen, progress=False), classes)["per_class"]
        detections, targets = predict(model, test, progress=False)
        answers[name] = Answers(detections, torch.tensor([per_class[one]["AP"] for one in classes[1:]]))
        found[name] = measure(detections, targets, classes)
    for one, other in combinations(NAMES, 2):
        both = measure(merged(answers[one].found, answers[other].found), targets, classes)
        likeness = cosine_similarity(answers[one].by_class, answers[other].by_class, dim=0).item()
        found[f"{one} + {other}"] = both | {"likeness": round(likeness, 4)}
    return found


EXPERIMENTS = {
    "relatives": Experiment(
        "four detectors, two trunks, and pictures of half the sides",
        ("CMP-01", "CMP-06", "CMP-09", "CMP-10", "CMP-12", "CMP-13", "CMP-18", "CMP-19"),
        relatives,
        SETTINGS | {"rates": RATES},
    ),
    "relatives_bccd": Experiment(
        "six detectors on blood cells", ("CMP-06", "CMP-09"), cells, {"steps": STEPS, "rates": RATES}
    ),
    "strides": Experiment("which map is read, and a stride removed", ("CMP-08", "CMP-11", "CMP-16"), strides, SETTINGS),
    "ensembles": Experiment("two detectors together", ("CMP-17",), ensembles, {"test": FOLDS, "val": FOLDS}),
}
