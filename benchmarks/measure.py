"""What the benchmarks share: times taken alternately with a peer's, and records of them."""

import ctypes
import json
import math
import os
import platform
import subprocess
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

import torch
import torchvision

RECORDS = Path(__file__).parent / "records"
STATUS = Path("/proc/self/status")  # of this process, on Linux
FAILED = "It failed with"
Result = TypeVar("Result")


class Benchmark(NamedTuple):
    """Something to be timed, as `run` takes it."""

    part: str
    name: str
    measure: Callable[[float], dict]  # from the seconds that it may take to what the record is to hold
    least: float = 1.0  # seconds; with fewer left it is not begun


def run(benchmarks: Sequence[Benchmark], seconds: float) -> list[dict]:
    """The rows of a record, in no more than about these seconds of the wall.

    A benchmark may take its least seconds and an equal part of those that nobody needs, so what ends early leaves its
    seconds to the others. The long ones come last, therefore. What no longer fits, or fails, is left out with a
    sentence.
    """
    end, rows = wall() + seconds, []
    for i, benchmark in enumerate(benchmarks):
        left = end - wall()
        if left < benchmark.least:
            row = {"left_out": f"It takes about {benchmark.least:.0f} s, and {max(left, 0):.0f} s were left."}
        else:
            spare = max(left - sum(other.least for other in benchmarks[i:]), 0)
            try:
                row = benchmark.measure(benchmark.least + spare / (len(benchmarks) - i))
            except Exception as error:  # the figures of the others count nevertheless
                traceback.print_exc()
                row = {"left_out": f"{FAILED} {type(error).__name__}."}
        rows.append({"part": benchmark.part, "name": benchmark.name, **row})
        print(
            f"{i + 1:3} of {len(benchmarks)}, {max(end - wall(), 0):4.0f} s left: {benchmark.name}: {told(row)}",
            flush=True,
        )
    return rows


def told(row: dict) -> str:
    """A row of a record in one line."""
    if "left_out" in row:
        return row["left_out"]
    if "ratio" not in row:
        return f"{sum(row['seconds'].values()):.3f} s"
    return f"{row['ours_ms']:.2f} ms, torchvision {row['theirs_ms']:.2f} ms, ratio {row['ratio']:.2f}"


def repeated(call: Callable[[], Result], rounds: int, seconds: float = math.inf) -> tuple[list[Result], bool]:
    """Call as often as goes into these seconds of the wall, and `rounds` times at most, after a call that warms up.

    Returns:
        What the calls return; and True, or False where there was time for the first call alone.
    """
    start, longest, results = wall(), 0.0, []
    while not results or (len(results) <= rounds and wall() - start + longest <= seconds):
        begin = wall()
        results.append(call())
        longest = max(longest, wall() - begin)
    return results[1:] or results, len(results) > 1


def alternate(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    device: str,
    rounds: int = 9,
    seconds: float = math.inf,
) -> dict[str, float | None]:
    """Median milliseconds of both, run in turns, and the median of the rounds' ratios (below 1: ours is faster).

    On a CPU the process's own time, with one thread: other users of the machine do not count. On a GPU wall time.
    Megabytes are those of the first call: the most in use at once beyond what was in use before.
    """
    memory = []

    def both() -> tuple[float, float]:
        if memory:
            return milliseconds(ours, device), milliseconds(theirs, device)
        (first, ours_mb), (second, theirs_mb) = (with_memory(call, device) for call in (ours, theirs))
        memory.extend((ours_mb, theirs_mb))
        return first, second

    times, warm = repeated(both, rounds, seconds)
    return {
        "ours_ms": round(median(t[0] for t in times), 3),
        "theirs_ms": round(median(t[1] for t in times), 3),
        "ratio": round(median(t[0] / t[1] for t in times), 3),
        "rounds": len(times),
        "warm": warm,
        "ours_mb": memory[0],
        "theirs_mb": memory[1],
    }


def milliseconds(call: Callable[[], object], device: str) -> float:
    start = clock(device)
    call()
    return 1000 * (clock(device) - start)


def with_memory(call: Callable[[], object], device: str) -> tuple[float, float | None]:
    """Milliseconds of the call and its peak of megabytes, which on a CPU is known on Linux alone."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        return milliseconds(call, device), round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    if not STATUS.exists():
        return milliseconds(call, device), None
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # what was freed goes back, or it would be used unseen
        libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _resident_peak()
    return milliseconds(call, device), round((_resident_peak() - before) / 1024, 1)


def _resident_peak() -> int:
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))


def clock(device: str) -> float:
    """Seconds: on a CPU the process's own, on a GPU of the wall, once all that was launched is done."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def wall() -> float:
    """Seconds of the wall, whatever is launched or waited for."""
    return time.monotonic()


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


def commit() -> str:
    """The commit that is measured, and whether files of it were changed."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=RECORDS.parent, capture_output=True, text=True
    )
    return told.stdout.strip() or "unknown"


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
