"""Time a training step and a test image of our Faster R-CNN and FPN beside torchvision's, with the same weights.

    python -m benchmarks.detectors                    one CPU thread, CPU time
    python -m benchmarks.detectors --device cuda      wall time

Writes benchmarks/records/detectors-<device>.json.
"""

import argparse

import torch

from benchmarks.measure import alternate, write
from benchmarks.pairs import DETECTORS
from rcnn_tutorial.data import load_dataset

CASES = {  # detector, shorter and longer side, images
    "shapes": ("faster_rcnn", (192, 256), 8),
    "320 x 240": ("faster_rcnn", (240, 320), 4),
    "FPN, shapes": ("fpn", (192, 256), 8),
    "FPN, 320 x 240": ("fpn", (240, 320), 4),
}


def case(detector: str, size: tuple[int, int], count: int, device: str, rounds: int) -> dict:
    """Ratios of one case; the networks of both sides are the same, from scratch for 320 x 240."""
    dataset, (make, convert) = load_dataset("shapes", "train"), DETECTORS[detector]
    theirs = make(len(dataset.classes), size, pretrained=size == (192, 256)).to(device)
    ours = convert(theirs, classes=dataset.classes).to(device)
    images, targets = zip(*(dataset[i] for i in range(count)), strict=True)
    images = [image.to(device) for image in images]
    targets = [{name: target[name].to(device) for name in ("boxes", "labels")} for target in targets]

    def step(model):
        model.zero_grad()
        sum(model(images, targets).values()).backward()

    found = {}
    theirs.train(), ours.train()
    found[f"step, {count} images"] = alternate(lambda: step(ours), lambda: step(theirs), device, rounds)
    theirs.eval(), ours.eval()
    with torch.no_grad():
        for number in (1, count):
            part = images[:number]
            found[f"test, {number} at a time"] = alternate(lambda: ours(part), lambda: theirs(part), device, rounds)  # noqa: B023
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)
    found = {name: case(*rest, options.device, options.rounds) for name, rest in CASES.items()}
    for name, rows in found.items():
        for what, row in rows.items():
            print(f"{name:14} {what:20} {row}")
    print("written to", write("detectors", options.device, {"what": "ours and torchvision's", **found}))


if __name__ == "__main__":
    main()
