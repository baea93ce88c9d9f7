"""What the benchmarks share: times taken alternately with a peer's, and records of them."""

import json
import os
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median

import torch
import torchvision

RECORDS = Path(__file__).parent / "records"


def alternate(
    ours: Callable[[], object], theirs: Callable[[], object], device: str, rounds: int = 9
) -> dict[str, float]:
    """Median milliseconds of both, run in turns, and the median of the rounds' ratios (below 1: ours is faster).

    On a CPU the process's own time, with one thread: other users of the machine do not count. On a GPU wall time.
    """
    ours(), theirs()
    times = [(_milliseconds(ours, device), _milliseconds(theirs, device)) for _ in range(rounds)]
    return {
        "ours_ms": round(median(t[0] for t in times), 3),
        "theirs_ms": round(median(t[1] for t in times), 3),
        "ratio": round(median(t[0] / t[1] for t in times), 3),
    }


def _milliseconds(call: Callable[[], object], device: str) -> float:
    start = clock(device)
    call()
    return 1000 * (clock(device) - start)


def clock(device: str) -> float:
    """Seconds: on a CPU the process's own, on a GPU of the wall, once all that was launched is done."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def write(name: str, device: str, content: dict) -> Path:
    """The record benchmarks/records/<name>-<device>.json, with date, machine and versions."""
    record = {
        **content,
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else _processor(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }
    RECORDS.mkdir(exist_ok=True)
    path = RECORDS / f"{name}-{device.split(':')[0]}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def resume(name: str, device: str, content: dict) -> dict:
    """The record that is there already, if it has this content; else an empty dict."""
    path = RECORDS / f"{name}-{device}.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return old if all(old.get(key) == value for key, value in json.loads(json.dumps(content)).items()) else {}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
