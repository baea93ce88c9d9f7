"""How often a training draws fewer samples than its settings ask for.

    python -m experiments.drawn frcnn_30 faster_rcnn shapes bccd

Runs one seed of an experiment, or the training of a shipped detector, counts the mini-batches of anchors and of
proposals that were not full, and compares what the training reaches with its record. With the name of a data set it
counts the pictures of Fast R-CNN's trainings, whose proposals are given, so that nothing needs to be trained. Writes
rcnn_tutorial/course/records/drawn.json.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor

from experiments import ladder, one_stage
from experiments.run import EXPERIMENTS, RECORDS, made
from experiments.scenes import TRAIN
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.data.targets import trained_on
from rcnn_tutorial.detectors import two_stage
from rcnn_tutorial.detectors.fast_rcnn import FastRCNNSettings
from rcnn_tutorial.nets import rpn

PLACES = {"anchors": (rpn, one_stage), "proposals": (two_stage,)}  # where mini-batches are drawn
SHIPPED = ("fast_rcnn", "faster_rcnn", "fpn")
DATA = ("shapes", "bccd")
EVERYWHERE = (10_000, 10_000)  # a picture so large that nothing is clipped


@contextmanager
def counting() -> Iterator[dict[str, dict]]:
    """Inside it every mini-batch that is drawn counts: how many there are, how many are short, and by how much."""
    counts: dict[str, dict] = {}

    def counted(kind, sample):
        def draw(state: Tensor, size: int, share: float, generator: torch.Generator | None = None):
            index, drawn = sample(state, size, share, generator)
            full = drawn.float().sum().item() / (size * (len(state) if state.ndim > 1 else 1))
            now = counts.setdefault(kind, {"draws": 0, "short": 0, "least share": 1.0})
            now["draws"] += 1
            now["short"] += full < 1
            now["least share"] = min(now["least share"], round(full, 4))
            return index, drawn

        return draw

    patches = [
        patch.object(place, "sample", counted(kind, place.sample))
        for kind, places in PLACES.items()
        for place in places
    ]
    for replacement in patches:
        replacement.start()
    try:
        yield counts
    finally:
        for replacement in patches:
            replacement.stop()


def measured(variants: dict[str, dict]) -> dict[str, dict]:
    """What does not depend on the machine's speed or on the length of files."""
    timed = ("seconds", "milliseconds", "lines", "megabytes")
    return {
        name: {key: value for key, value in found.items() if not key.startswith(timed)}
        for name, found in json.loads(json.dumps(variants)).items()
    }


def one(name: str, seed: int) -> dict:
    """The counts of one training or experiment, and whether it reaches what its record says."""
    recorded = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))
    with counting() as counts:
        if name in SHIPPED:
            from data_scripts import train_detector  # only here: it is a script

            with patch.object(sys, "argv", ["train_detector", name]):
                train_detector.main()
            again = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))
            same = again["test"] == recorded["test"] and again["last_loss"] == recorded["last_loss"]
        else:
            found = EXPERIMENTS[name].run(seed)
            same = measured(found) == measured(recorded["runs"][str(seed)]["variants"])
    return {**counts, "as recorded": same}


def with_given_proposals(data: str) -> dict:
    """How many training pictures of a data set have fewer windows to draw than Fast R-CNN asks for, by its settings."""
    seeds = len(load_dataset(data, "train")) // TRAIN if data == "shapes" else 1
    parts = [ladder.pictures(data, seed)["train"] for seed in range(seeds)]
    targets = [part.target(index) for part in parts for index in range(len(part))]
    counts = {}
    for rois, low in ((64, 0.0), (64, 0.1), (128, 0.0), (16, 0.0), (4, 0.0)):
        settings, short = FastRCNNSettings.tiny(rois=rois, background=(low, 0.5)), []
        for target in map(trained_on, targets):
            samples = two_stage.draw_samples([target["proposals"]], [target], [EVERYWHERE], settings)
            short.append((samples.labels >= 0).float().sum().item() / rois)
        asked = f"{rois} windows of a picture, background from an IoU of {low:g}"
        counts[asked] = {
            "pictures": len(short),
            "short": sum(s < 1 for s in short),
            "least share": round(min(short), 4),
        }
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=sorted([*EXPERIMENTS, *SHIPPED, *DATA]))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = RECORDS / "drawn.json"
    for name in options.names:
        found = with_given_proposals(name) if name in DATA else one(name, options.seed)
        record = {
            "what": "draws that were not full, of one seed of each training; anchors of a batch, proposals of an image",
            "settings": {"seed": options.seed},
            **made(),
        }
        old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        counts = old["counts"] if old.get("settings") == record["settings"] else {}
        record["counts"] = dict(sorted((counts | {name: found}).items()))
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(name, found, flush=True)


if __name__ == "__main__":
    main()
