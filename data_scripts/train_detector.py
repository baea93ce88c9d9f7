"""Train the small detector that a notebook shows, on all training scenes, and measure it.

    python data_scripts/train_detector.py rcnn
    python data_scripts/train_detector.py sppnet
    python data_scripts/train_detector.py fast_rcnn
    python data_scripts/train_detector.py faster_rcnn
    python data_scripts/train_detector.py fpn
    python data_scripts/train_detector.py mask_rcnn
    python data_scripts/train_detector.py retinanet

Writes rcnn_tutorial/weights/NAME.pt and rcnn_tutorial/course/records/NAME.json. With --data bccd it measures only.
Each about 20 minutes on two CPU cores. Mask R-CNN and RetinaNet start from the FPN that is shipped.
"""

import argparse
import json
import platform
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import Dataset

from experiments.rcnn import refined_late
from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.course.dense import on_fpn
from rcnn_tutorial.course.rcnn_steps import detect
from rcnn_tutorial.data import data_root, load_dataset
from rcnn_tutorial.data.masks import encode_masks
from rcnn_tutorial.data.transforms import Augment
from rcnn_tutorial.detectors import build, load
from rcnn_tutorial.detectors.fast_rcnn import FastRCNN, FastRCNNSettings
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.detectors.mask_rcnn import MaskRCNN, MaskRCNNSettings
from rcnn_tutorial.detectors.rcnn import RCNN, RCNNSettings
from rcnn_tutorial.detectors.rcnn_windows import WindowFeatures
from rcnn_tutorial.detectors.retinanet import RetinaNet, RetinaNetSettings
from rcnn_tutorial.detectors.sppnet import SPPnet, SPPnetSettings
from rcnn_tutorial.evaluation import coco_ap, predict, recall, size_thirds
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.training import train

PACKAGE = Path(__file__).parents[1] / "rcnn_tutorial"
SPLITS = ("train", "val", "test")
KEYS = ("AP50", "AP75", "AP", "AP_small", "AP_medium", "AP_large")  # the sizes are thirds of the objects
Trained = tuple[nn.Module, dict, dict]  # the model, what each of its parts detects, and what else is worth a note
TITLES = {
    "fast_rcnn": "Fast R-CNN",
    "faster_rcnn": "Faster R-CNN",
    "fpn": "FPN",
    "mask_rcnn": "Mask R-CNN",
    "retinanet": "RetinaNet",
}
TRAINED = {  # as one network, and the rate of all layers
    "faster_rcnn": (FasterRCNN, FasterRCNNSettings, 0.05),
    "fpn": (FPN, FPNSettings, 0.08),
    "mask_rcnn": (MaskRCNN, MaskRCNNSettings, 0.02),
    "retinanet": (RetinaNet, RetinaNetSettings, 0.05),
}
MASK_STEPS, MASK_RATE = 700, 0.25  # of the mask head alone, which learns from a high rate best
PARTS = {
    "CNN": {"scores": "softmax", "regression": "none"},
    "CNN + SVM": {"regression": "none"},
    "CNN + SVM + regression": {},
}


def staged(name: str, steps: int | None, data: dict[str, Dataset], folder: Path | None, device: str) -> Trained:
    """R-CNN or SPPnet."""
    detector, settings, levels, default = {
        "rcnn": (RCNN, RCNNSettings, (), 2_000),
        "sppnet": (SPPnet, SPPnetSettings, (4, 2, 1), 4_000),
    }[name]
    net = tiny_net(pretrained=True, levels=levels)
    net.replace_classifier(len(data["train"].classes), torch.Generator().manual_seed(0))
    model = detector(net, data["train"].classes, settings.tiny(steps or default)).to(device)
    with TemporaryDirectory() as place:
        cache = FeatureCache(place)
        history, passes = model.fit(data["train"], data["val"], cache, folder=folder)
        stored = cache.size()
        features = WindowFeatures(model, data["test"], cache)
        found = {part: detect(features, **how) for part, how in PARTS.items()}
        found["regression after NMS"] = refined_late(features)
    return model, found, {
        "nms_threshold": round(float(model.nms_threshold), 2),
        "mined": [len(one.score) for one in passes],
        "last_loss": round(sum(history.total[-50:]) / 50, 4),
        "feature_cache_bytes": stored,
    }  # fmt: skip


def chosen(name: str, steps: int) -> Any:
    """Settings of Faster R-CNN, FPN, Mask R-CNN or RetinaNet."""
    _, settings, lr = TRAINED[name]
    tiny = settings.tiny(steps)
    return replace(tiny, training=replace(tiny.training, lr=lr))


def with_masks(steps: int | None, data: dict[str, Dataset], folder: Path | None, device: str) -> Trained:
    """Mask R-CNN, from the shipped FPN: first the mask head alone, then all layers together."""
    model = build("mask_rcnn", data["train"].classes, chosen("mask_rcnn", steps or 150)).to(device)
    model.load_state_dict(load("fpn").state_dict(), strict=False)
    mirrored = Augment(data["train"], seed=0, jitter=0, scale=(1, 1))
    settings = model.settings.training
    alone = replace(settings, steps=MASK_STEPS, lr=MASK_RATE, warmup=MASK_STEPS // 4)
    model.requires_grad_(False).mask_head.requires_grad_(True)
    histories = {"mask head": train(model, mirrored, alone, folder and folder / "head")}
    model.requires_grad_(True)
    histories["all layers"] = train(model, mirrored, settings, folder and folder / "all")
    losses = {
        part: {key: round(sum(values[-50:]) / 50, 4) for key, values in history.losses.items()}
        for part, history in histories.items()
    }
    return model, {TITLES["mask_rcnn"]: predict(model, data["test"])[0]}, {
        "mask_head_alone": {"steps": alone.steps, "lr": alone.lr, "warmup": alone.warmup},
        "last_loss": losses,
    }  # fmt: skip


def end_to_end(name: str, steps: int | None, data: dict[str, Dataset], folder: Path | None, device: str) -> Trained:
    """Fast R-CNN, Faster R-CNN, FPN, Mask R-CNN or RetinaNet."""
    notes, classes = {}, data["train"].classes
    if name == "mask_rcnn":
        return with_masks(steps, data, folder, device)
    if name == "fast_rcnn":
        model = FastRCNN(tiny_net(pretrained=True), classes, FastRCNNSettings.tiny(steps or 8_000)).to(device)
        model.normalise_targets(data["train"])
        notes["target_std"] = [round(value, 4) for value in model.target_std.tolist()]
    elif name == "retinanet":
        model = on_fpn(cast(FPN, load("fpn")).to(device), classes, chosen(name, steps or 3_000))
    else:
        detector, _, _ = TRAINED[name]
        model = detector(tiny_net(pretrained=True), classes, chosen(name, steps or 6_000)).to(device)
    mirrored = Augment(data["train"], seed=0, jitter=0, scale=(1, 1))
    history = train(model, mirrored, model.settings.training, folder)
    notes["last_loss"] = {key: round(sum(values[-50:]) / 50, 4) for key, values in history.losses.items()}
    return model, {TITLES[name]: predict(model, data["test"])[0]}, notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("rcnn", "sppnet", *TITLES))
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--proposals", type=int, default=200, help="per image")
    parser.add_argument("--steps", type=int, help="of the network's training")
    parser.add_argument("--folder", type=Path, help="for the checkpoint, from which an interrupted training goes on")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    kept = FeatureCache(data_root() / "proposals")
    data = {split: load_dataset(options.data, split, masks=options.name == "mask_rcnn") for split in SPLITS}
    if options.name not in TRAINED:
        data = {split: WithProposals(data[split], cache=kept, top=options.proposals) for split in SPLITS}
    test = data["test"]
    whole = [test[index][1] for index in range(len(test))]  # proposals first: they are not timed
    masks = [{key: encode_masks(v) if key == "masks" else v for key, v in target.items()} for target in whole]
    targets = [{key: v for key, v in target.items() if key not in ("masks", "area")} for target in whole]
    start = time.perf_counter()
    run = end_to_end if options.name in TITLES else staged
    model, found, notes = run(options.name, options.steps, data, options.folder, options.device)
    thirds = size_thirds(targets)
    measured = {part: coco_ap(detections, targets, test.classes, thirds) for part, detections in found.items()}
    if options.name == "mask_rcnn":
        (detections,) = found.values()
        measured["masks"] = coco_ap(detections, masks, test.classes, size_thirds(masks), kind="segm")
    if options.name == "retinanet":
        covered = {}
    else:
        images = (test[index][0].to(options.device) for index in range(len(test)))
        proposed = [model.proposals([image])[0].cpu() for image in images] if options.name in TRAINED else None
        proposals = proposed or [target["proposals"] for target in targets]
        found_at = recall(proposals, targets, top=options.proposals).tolist()
        covered = {"recall": {"0.5": round(found_at[0], 4), "0.7": round(found_at[1], 4)}}
    record = {
        "what": f"tiny {options.name} on {options.data}",
        "settings": asdict(model.settings) | {"proposals": options.proposals},
        "versions": {"python": platform.python_version(), **{n: version(n) for n in ("torch", "numpy", "pillow")}},
        **covered,
        "test": {part: {key: round(ap[key], 4) for key in KEYS} for part, ap in measured.items()},
        **notes,
        "seconds": round(time.perf_counter() - start),
    }
    print(json.dumps(record, indent=2))
    if options.data == "shapes":
        model.save(PACKAGE / f"weights/{options.name}.pt", half=True)
        (PACKAGE / f"course/records/{options.name}.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
