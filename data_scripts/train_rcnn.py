"""Train the small R-CNN that notebook 01 shows, on all training scenes, and measure it with parts left out.

    python data_scripts/train_rcnn.py

Writes rcnn_tutorial/weights/rcnn.pt and rcnn_tutorial/records/rcnn.json. With --data bccd it measures only.
About 20 minutes on two CPU cores.
"""

import argparse
import json
import platform
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.data import data_root, load_dataset
from rcnn_tutorial.detectors.rcnn import RCNN, RCNNSettings
from rcnn_tutorial.detectors.rcnn_features import WindowFeatures, detect
from rcnn_tutorial.detectors.rcnn_fit import fit
from rcnn_tutorial.evaluation import coco_ap, recall
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.weights import save_weights

PACKAGE = Path(__file__).parents[1] / "rcnn_tutorial"
VARIANTS = {
    "CNN": {"scores": "softmax", "regression": "none"},
    "CNN + SVM": {"regression": "none"},
    "CNN + SVM + regression": {},
    "regression after NMS": {"regression": "after"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--proposals", type=int, default=200, help="per image")
    parser.add_argument("--steps", type=int, default=2_000, help="of the fine-tuning")
    parser.add_argument("--folder", type=Path, help="for the checkpoint, from which an interrupted training goes on")
    options = parser.parse_args()

    kept = FeatureCache(data_root() / "proposals")
    training, validation, test = (
        WithProposals(load_dataset(options.data, split), cache=kept, top=options.proposals)
        for split in ("train", "val", "test")
    )
    net = tiny_net(pretrained=True)
    net.replace_classifier(len(training.classes), torch.Generator().manual_seed(0))
    model = RCNN(net, training.classes, RCNNSettings.tiny(options.steps))

    start = time.perf_counter()
    with TemporaryDirectory() as folder:
        cache = FeatureCache(folder)
        history, passes = fit(model, training, validation, cache, folder=options.folder)
        seconds, stored = time.perf_counter() - start, cache.size()
    features = WindowFeatures(model, test)
    targets = [test.target(index) for index in range(len(test))]
    with TemporaryDirectory() as folder:
        features.cache = FeatureCache(folder)
        found = {name: coco_ap(detect(features, **v), targets, test.classes) for name, v in VARIANTS.items()}
    covered = recall([target["proposals"] for target in targets], targets).tolist()
    record = {
        "what": f"tiny R-CNN on {options.data}",
        "settings": asdict(model.settings) | {"proposals": options.proposals},
        "versions": {"python": platform.python_version(), **{n: version(n) for n in ("torch", "numpy", "pillow")}},
        "recall": {"0.5": round(covered[0], 4), "0.7": round(covered[1], 4)},
        "test": {name: {key: round(ap[key], 4) for key in ("AP50", "AP75", "AP")} for name, ap in found.items()},
        "nms_threshold": round(float(model.nms_threshold), 2),
        "mined": [len(one.score) for one in passes],
        "last_loss": round(sum(history.total[-50:]) / 50, 4),
        "feature_cache_bytes": stored,
        "seconds": round(seconds),
    }
    print(json.dumps(record, indent=2))
    if options.data == "shapes":
        save_weights(model.state_dict(), PACKAGE / "weights/rcnn.pt")
        (PACKAGE / "records/rcnn.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
