"""What happened on the simulated device, and which line of a package asked for it."""

import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torchvision

import rcnn_tutorial

WAIT = "wait"  # the host waits until the device has done all that was asked for
LAUNCH = "launch"  # an ATen call that the device works for
COPY = "copy"  # from the host or to it, without a wait
PACKAGES = {f"{Path(package.__file__).parent}/": package.__name__ for package in (rcnn_tutorial, torchvision)}


class Event(NamedTuple):
    kind: str  # WAIT, LAUNCH or COPY
    call: str  # what it was
    line: str  # of the package


class Log:
    """The events since the last `clear`."""

    def __init__(self):
        self.events: list[Event] = []

    def note(self, kind, call):
        self.events.append(Event(kind, call, package_line()))

    def clear(self):
        self.events.clear()

    def count(self, kind):
        return sum(event.kind == kind for event in self.events)

    def lines(self, kind):
        """How many events of a kind each line has: {(line, call): number}, in the order of files and lines."""
        counts = Counter((event.line, event.call) for event in self.events if event.kind == kind)
        return dict(sorted(counts.items(), key=lambda item: _place(item[0][0])))


def package_line():
    """The innermost line of ours or of torchvision's that is running, as "ops/nms.py:12 nms"."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        for folder, package in PACKAGES.items():
            if name.startswith(folder):
                file = name.removeprefix(folder)
                prefix = "" if package == "rcnn_tutorial" else f"{package}/"
                return f"{prefix}{file}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere:0"


def _place(line):
    file, number = line.split()[0].rsplit(":", 1)
    return file, int(number)
