"""Our Faster R-CNN, or FPN, and torchvision's, each at its own best settings, for the same seconds of training.

    python -m benchmarks.best --data shapes --seconds 280

First the same small search for both sides: each of `CHOICES` is trained for half the seconds and measured on validation
pictures, which the test does not see. Then paired seeds at the best choice of each side, for all the seconds. How many
steps fit is found by timing some. Writes benchmarks/records/best_<data>-<device>.json after each training; what is in
the record already is not run again. On a CPU seconds are the process's own, in one thread.
"""

import argparse
from dataclasses import asdict

import torch

from benchmarks.measure import clock, resume, write
from benchmarks.pairs import DETECTORS, TITLES, build, one
from benchmarks.train_peer import SIZES, SPLITS, schedule
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.training import train

CHOICES = {  # images in a batch, learning rate
    "8 at 0.03": (8, 0.03),
    "8 at 0.06": (8, 0.06),
    "4 at 0.03": (4, 0.03),
    "4 at 0.06": (4, 0.06),
    "2 at 0.03": (2, 0.03),
    "2 at 0.06": (2, 0.06),
}
SEARCH = ("train", "val")
SIDES = ("ours", "torchvision")
TIMED = 30  # steps
VARIED = ("steps", "batch_size", "lr", "warmup", "seed")


def steps_within(seconds: float, side: str, detector: str, data: str, batch: int, lr: float, device: str) -> int:
    """How many steps take so many seconds, in tens."""
    training = load_dataset(data, SEARCH[0])
    model, images = build(side, detector, data, training, SIZES[data], schedule(TIMED, batch, lr, seed=0))
    model.to(device)
    train(model, images, schedule(5, batch, lr, seed=0), progress=False)
    start = clock(device)
    train(model, images, schedule(TIMED, batch, lr, seed=0), progress=False)
    return 10 * round(TIMED * seconds / (clock(device) - start) / 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", choices=DETECTORS, default="faster_rcnn")
    parser.add_argument("--data", choices=sorted(SPLITS), default="shapes")
    parser.add_argument("--seconds", type=float, default=280, help="of training, of each side")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    torch.set_num_threads(1)
    detector, data, device = options.detector, options.data, options.device
    name = f"best_{data}" if detector == "faster_rcnn" else f"best_{detector}_{data}"
    content = {
        "what": f"{TITLES[detector]}, ours and torchvision's, each at its best settings for the same seconds",
        "data": data,
        "seconds": options.seconds,
        "search_splits": SEARCH,
        "splits": [SPLITS[data][0], "test"],
        "size": SIZES[data],
        "settings": {k: v for k, v in asdict(schedule(4, 1, 1.0, 0)).items() if k not in VARIED},
    }
    old = resume(name, device, content)
    search, runs = (old.get(key, {}) for key in ("search", "runs"))

    def keep(**more) -> None:
        write(name, device, {**content, "search": search, **more, "runs": runs})

    for choice, (batch, lr) in CHOICES.items():
        for side in SIDES:
            done = search.setdefault(choice, {})
            if side not in done:
                steps = steps_within(options.seconds / 2, side, detector, data, batch, lr, device)
                done[side] = {"steps": steps} | one(
                    side, detector, data, SEARCH, SIZES[data], schedule(steps, batch, lr, 0), device
                )
                keep()
                print(choice, side, done[side], flush=True)
    best = {side: max(CHOICES, key=lambda choice: search[choice][side]["AP"]) for side in SIDES}
    print(best, flush=True)
    for seed in options.seeds:
        for side in SIDES:
            done = runs.setdefault(str(seed), {})
            if side not in done:
                found = search[best[side]][side]
                steps = 10 * round(found["steps"] * options.seconds / found["seconds"] / 10)
                settings = schedule(steps, *CHOICES[best[side]], seed)
                done[side] = {"steps": steps} | one(
                    side, detector, data, content["splits"], SIZES[data], settings, device
                )
                keep(best=best)
                print(seed, side, done[side], flush=True)


if __name__ == "__main__":
    main()
