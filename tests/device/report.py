"""Where a GPU is waited for, and how much is launched, as a table in Markdown.

    python -m tests.device.report

It needs no GPU: the passes run on the simulated device. Each is the second of its kind on two scenes.
"""

from tests.device import COPY, LAUNCH, WAIT
from tests.device.measure import DETECTORS, PASSES, forward, ours, torchvisions


def report():
    """The table as text: a line for each line of a package that waits, and totals."""
    rows, totals = [], []
    for name in DETECTORS:
        for mode in PASSES:
            for whose, make in (("ours", ours), ("torchvision's", torchvisions)):
                log = forward(make(name), mode)
                title = f"{name}, {mode}, {whose}"
                rows += [f"| {title} | {n} | {call} | `{line}` |" for (line, call), n in log.lines(WAIT).items()]
                totals.append(f"| {title} | {log.count(WAIT)} | {log.count(COPY)} | {log.count(LAUNCH)} |")
    head = ["| forward pass | waits | copies without a wait | launches |", "|---|---|---|---|"]
    lines = ["| forward pass | waits | for | line |", "|---|---|---|---|"]
    return "\n".join([*head, *totals, "", *lines, *rows])


if __name__ == "__main__":
    print(report())
