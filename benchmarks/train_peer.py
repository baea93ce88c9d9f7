"""Train torchvision's Faster R-CNN with a small backbone in this project's loop and measure it.

    python -m benchmarks.train_peer --data bccd --seeds 0 1 2
    python -m benchmarks.train_peer --data shapes --pretrained --batch 8 --name train_peer_shapes_pretrained

Writes benchmarks/records/train_peer_<data>-<device>.json. With its defaults a seed takes some minutes on two CPU cores.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, median

from torch.utils.data import Dataset

from benchmarks.cells import WhiteCells
from benchmarks.measure import write
from benchmarks.peer import tiny_faster_rcnn
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.data.transforms import Augment
from rcnn_tutorial.evaluation import coco_ap, failures, predict, voc_ap
from rcnn_tutorial.training import TrainSettings, train

SPLITS = {"shapes": ("train", "test"), "bccd": ("trainval", "test"), "cells": ("trainval", "test")}
SIZES = {"shapes": (192, 256), "bccd": (240, 320), "cells": (192, 256)}  # shorter and longer side, pixels
STEPS = {"shapes": 1500, "bccd": 16 * 73, "cells": 8 * 75}  # for BCCD 16 epochs of 292 images, for its cells 8 of 301


def pictures(data: str, split: str) -> Dataset:
    """A data set by its name here."""
    return WhiteCells(split) if data == "cells" else load_dataset(data, split)


def schedule(steps: int, batch: int, lr: float, seed: int) -> TrainSettings:
    """Warm-up over a quarter of the steps, then half a cosine."""
    return TrainSettings(steps, batch, lr, schedule="cosine", warmup=steps // 4, clip_norm=10.0, seed=seed)


def measure(
    name: str, size: tuple[int, int], settings: TrainSettings, device: str, folder: Path | None, pretrained: bool
) -> dict:
    """Train with one seed and test; from the shipped backbone with mirrored images."""
    training, test = (pictures(name, split) for split in SPLITS[name])
    model = tiny_faster_rcnn(len(training.classes), size, seed=settings.seed, pretrained=pretrained).to(device)
    images = Augment(training, settings.seed, jitter=0, scale=(1, 1)) if pretrained else training
    history = train(model, images, settings, folder)
    detections, targets = predict(model, test)
    coco = coco_ap(detections, targets, test.classes)
    return {
        "seed": settings.seed,
        "AP": coco["AP"],
        "AP50": coco["AP50"],
        "AP75": coco["AP75"],
        "AP_per_class": {label: values["AP"] for label, values in coco["per_class"].items()},
        "failures": failures(detections, targets, score_threshold=0.5).counts,
        "VOC_mAP": voc_ap(detections, targets, test.classes).map,
        "last_loss": mean(history.total[-50:]),
        "seconds_per_step": median(history.seconds),
        "seconds": sum(history.seconds),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=sorted(SPLITS), default="shapes")
    parser.add_argument("--steps", type=int, help="default: 1500 for shapes, 1168 for bccd, 600 for cells")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--size", type=int, nargs=2, metavar=("SHORTER", "LONGER"), help="pixels of the resized images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--pretrained", action="store_true", help="start from the shipped backbone")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="for checkpoints, from which an interrupted training goes on")
    parser.add_argument("--name", help="of the record, default: train_peer_<data>")
    options = parser.parse_args()

    steps = options.steps or STEPS[options.data]
    size = tuple(options.size or SIZES[options.data])
    settings = schedule(steps, options.batch, options.lr, seed=0)
    runs = []
    for seed in options.seeds:
        folder = options.folder and options.folder / f"{options.data}_{seed}"
        runs.append(
            measure(options.data, size, replace(settings, seed=seed), options.device, folder, options.pretrained)
        )
        print(json.dumps(runs[-1]))

    record = {
        "what": "torchvision's FasterRCNN, "
        + ("shipped backbone" if options.pretrained else "TinyBackbone from scratch"),
        "data": options.data,
        "splits": SPLITS[options.data],
        "size": size,
        "settings": {name: value for name, value in asdict(settings).items() if name != "seed"},
        "runs": runs,
        "mean": {name: mean(run[name] for run in runs) for name in ("AP", "AP50", "AP75", "seconds")},
    }
    print("written to", write(options.name or f"train_peer_{options.data}", options.device, record))


if __name__ == "__main__":
    main()
