"""Where a GPU is waited for, and how much it is asked to do, as two tables in Markdown.

    python -m tests.device.report

It needs no GPU: the detectors run on the simulated device. All is measured at the second pass over two scenes.
"""

from tests.device import COPY, LAUNCH, WAIT
from tests.device.measure import DETECTORS, MODES, forward_of, ours, step_of, torchvisions


def measured():
    """The log of each case, by its name."""
    logs = {}
    for name in DETECTORS:
        for mode in MODES:
            for whose, make in (("ours", ours), ("torchvision's", torchvisions)):
                logs[f"{name}, {mode}, {whose}"] = forward_of(make, name, mode)
        logs[f"{name}, a step of `train`, ours"] = step_of(name)
    return logs


def report(logs):
    """The tables as text: the sums of each case, and the lines that wait in it."""
    sums = ["| case | waits | copies without a wait | launches |", "|---|---|---|---|"]
    lines = ["| case | waits | for | line |", "|---|---|---|---|"]
    for case, log in logs.items():
        sums.append(f"| {case} | {log.count(WAIT)} | {log.count(COPY)} | {log.count(LAUNCH)} |")
        lines += [f"| {case} | {count} | {call} | `{line}` |" for (line, call), count in log.lines(WAIT).items()]
    return "\n".join([*sums, "", *lines])


if __name__ == "__main__":
    print(report(measured()))
