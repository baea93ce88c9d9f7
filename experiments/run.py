"""Run an experiment and record it.

    python -m experiments.run rcnn_06 --seeds 0 1 2 3 4 --processes 2

Writes rcnn_tutorial/course/records/NAME.json after each seed: settings, versions, machine, and per seed and variant
what `measure` gives. Seeds that are in the record already, under the same settings, are not run again. Several runs may
add seeds to one record at the same time.
"""

import argparse
import json
import os
import platform
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import torch
from filelock import FileLock

from experiments import command, comparison, fast_rcnn, faster_rcnn, fpn, ladder, mask_rcnn, rcnn, retinanet, sppnet
from experiments.scenes import DEVICE, named

FILES = (rcnn, sppnet, fast_rcnn, faster_rcnn, fpn, mask_rcnn, retinanet, comparison, command, ladder)
EXPERIMENTS = {name: experiment for file in FILES for name, experiment in file.EXPERIMENTS.items()}
RECORDS = Path(__file__).parents[1] / "rcnn_tutorial/course/records"


def one_seed(name: str, seed: int) -> tuple[int, dict, float]:
    torch.set_num_threads(1)
    start = perf_counter()
    return seed, EXPERIMENTS[name].run(seed), perf_counter() - start


def made() -> dict:
    """When, where and with what a record was made."""
    return {
        "date": date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), "torch": version("torch")},
    }


def recorded(path: Path, settings: dict) -> dict[str, dict]:
    """The seeds that a record holds under these settings."""
    record = json.loads(path.read_text()) if path.exists() else {}
    return record.get("runs", {}) if record.get("settings") == settings else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(EXPERIMENTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="elsewhere than on the CPU the record is NAME-<device>.json")
    options = parser.parse_args()
    os.environ[DEVICE] = options.device

    experiment = EXPERIMENTS[options.name]
    path = RECORDS / f"{named(options.name)}.json"
    settings = json.loads(json.dumps(experiment.settings))
    runs = recorded(path, settings)
    missing = [seed for seed in options.seeds if str(seed) not in runs]
    with ProcessPoolExecutor(options.processes) as pool:
        for done in as_completed([pool.submit(one_seed, options.name, seed) for seed in missing]):
            seed, variants, seconds = done.result()
            with FileLock(path.with_suffix(".lock")):
                runs = recorded(path, settings) | {str(seed): {"seconds": round(seconds), "variants": variants}}
                record = {
                    "what": experiment.what,
                    "rows": experiment.rows,
                    "settings": settings,
                    **made(),
                    "runs": dict(sorted(runs.items())),
                }
                path.write_text(json.dumps(record) + "\n")
            print(seed, {variant: next(iter(results.items())) for variant, results in variants.items()}, flush=True)


if __name__ == "__main__":
    main()
