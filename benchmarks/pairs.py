"""Train our detector and torchvision's from the same weights, on the same data, batches and schedule; measure both.

    python -m benchmarks.pairs --data shapes --steps 500 --seeds 0 1 2 3 4
    python -m benchmarks.pairs --data bccd --steps 1168 --batch 4 --seeds 0 1 2 3 4
    python -m benchmarks.pairs --data cells --steps 600 --batch 4 --seeds 0 1 2 3 4

Faster R-CNN, or with --detector fpn that on a feature pyramid. Both detectors of a pair have the same network, anchors,
samplers, losses and augmentation: only the code differs, and the random numbers that draw the samples. "cells" are the
white cells of BCCD, one to a picture (benchmarks/cells.py): there a mini-batch asks for more proposals than there are.
Writes benchmarks/records/pairs_<name>-<device>.json after each training; those in the record already, under the same
settings, are not run again. On a CPU seconds are the process's own, in one thread.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import nn
from torch.utils.data import Dataset

from benchmarks.measure import clock, resume, write
from benchmarks.peer import tiny_faster_rcnn, tiny_fpn
from benchmarks.train_peer import SIZES, SPLITS, pictures, schedule
from rcnn_tutorial.compat import faster_rcnn_from_torchvision
from rcnn_tutorial.data.transforms import Augment
from rcnn_tutorial.detectors.fpn import from_torchvision
from rcnn_tutorial.evaluation import coco_ap, predict
from rcnn_tutorial.training import TrainSettings, train

DETECTORS = {  # torchvision's, and what makes ours of it
    "faster_rcnn": (tiny_faster_rcnn, partial(faster_rcnn_from_torchvision, stride=8)),
    "fpn": (tiny_fpn, from_torchvision),
}
TITLES = {"faster_rcnn": "Faster R-CNN", "fpn": "FPN"}


def build(
    side: str, detector: str, data: str, training: Dataset, size: tuple[int, int], settings: TrainSettings
) -> tuple[nn.Module, Dataset]:
    """One side's detector, and its pictures: shapes mirrored and with the shipped backbone, the others from scratch."""
    make, convert = DETECTORS[detector]
    model = make(len(training.classes), size, seed=settings.seed, pretrained=data == "shapes")
    if side == "ours":
        model = convert(model, classes=training.classes, training=settings, seed=settings.seed)
    return model, Augment(training, settings.seed, jitter=0, scale=(1, 1)) if data == "shapes" else training


def one(
    side: str,
    detector: str,
    data: str,
    splits: Sequence[str],
    size: tuple[int, int],
    settings: TrainSettings,
    device: str,
) -> dict:
    """Train one side on the first split and test it on the second."""
    training, tested = (pictures(data, split) for split in splits)
    model, images = build(side, detector, data, training, size, settings)
    model.to(device)
    start = clock(device)
    train(model, images, settings, progress=False)
    middle = clock(device)
    found = coco_ap(*predict(model, tested, progress=False), tested.classes)
    return {
        **{name: round(found[name], 4) for name in ("AP", "AP50", "AP75")},
        "seconds": round(middle - start, 1),
        "seconds_to_test": round(clock(device) - middle, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", choices=DETECTORS, default="faster_rcnn")
    parser.add_argument("--data", choices=sorted(SPLITS), default="shapes")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--size", type=int, nargs=2, metavar=("SHORTER", "LONGER"), help="pixels of the resized images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--test", default="test", help="the split to measure on")
    parser.add_argument("--sides", nargs="+", choices=("ours", "torchvision"), default=["ours", "torchvision"])
    parser.add_argument("--name", help="of the record, default: the data's, with fpn_ before it")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    torch.set_num_threads(1)
    size = tuple(options.size or SIZES[options.data])
    settings = schedule(options.steps, options.batch, options.lr, seed=0)
    prefix = "" if options.detector == "faster_rcnn" else f"{options.detector}_"
    name = f"pairs_{options.name or prefix + options.data}"
    content = {
        "what": f"{TITLES[options.detector]}, ours and torchvision's, from the same weights",
        "data": options.data,
        "splits": [SPLITS[options.data][0], options.test],
        "size": size,
        "settings": {key: value for key, value in asdict(settings).items() if key != "seed"},
    }
    runs = resume(name, options.device, content).get("runs", {})
    for seed in options.seeds:
        for side in options.sides:
            done = runs.setdefault(str(seed), {})
            if side not in done:
                done[side] = one(
                    side,
                    options.detector,
                    options.data,
                    content["splits"],
                    size,
                    replace(settings, seed=seed),
                    options.device,
                )
                write(name, options.device, {**content, "runs": runs})
                print(seed, side, done[side], flush=True)


if __name__ == "__main__":
    main()
