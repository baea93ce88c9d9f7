"""Times and memory beside torchvision's in one run, which ends within some minutes: `make bench`.

    python -m benchmarks                                15 minutes, on a GPU if there is one, else on a CPU
    python -m benchmarks --device cuda --minutes 5
    python -m benchmarks --only nms pooling             prints some of the figures and writes nothing

Writes benchmarks/records/bench-<device>.json, and of all such records docs/benchmarks.md with its pictures.
"""

import argparse
import os
import sys

import torch

from benchmarks import detectors, measure, nms, page, paper_scale, pooling

PARTS = {  # the long ones come last, as `measure.run` wants it
    "nms": nms.benchmarks,
    "pooling": pooling.benchmarks,
    "tiny": detectors.tiny,
    "papers": paper_scale.benchmarks,
    "paper": detectors.paper,
}
WHAT = (
    "Milliseconds of ours and torchvision's, measured in turns, and the median of the rounds' ratios, ours / "
    "torchvision's: processor time of one thread, or GPU wall time. Megabytes: the peak beyond what was in use before. "
    "papers: seconds of one image by stage, random weights, without proposals and NMS."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)
    start, load, commit = measure.wall(), os.getloadavg()[0], measure.commit()
    benchmarks = [b for part, make in PARTS.items() if part in options.only for b in make(options.device)]
    rows = measure.run(benchmarks, 60 * options.minutes)
    if set(options.only) == set(PARTS):
        record(options, rows, start, load, commit)
    if failed := [row["name"] for row in rows if row.get("left_out", "").startswith(measure.FAILED)]:
        sys.exit(f"failed: {'; '.join(failed)}")


def record(options: argparse.Namespace, rows: list[dict], start: float, load: float, commit: str) -> None:
    """Write the record, and the page of all records."""
    content = {
        "what": WHAT,
        "commit": commit,
        "minutes": options.minutes,
        "minutes_taken": round((measure.wall() - start) / 60, 1),
        "load": [round(value, 1) for value in (load, os.getloadavg()[0])],
        "rows": rows,
    }
    print("written to", measure.write("bench", options.device, content))
    page.main()


if __name__ == "__main__":
    main()
