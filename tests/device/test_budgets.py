"""Budgets of what a GPU is made to do: how often the host waits for it, and how many calls it gets.

They hold where Triton is installed, as it is with torch on Linux.
"""

from dataclasses import replace

import pytest
import torch

from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.nets.fpn import BottomUp, tiny_stages
from tests.device import COPY, LAUNCH, WAIT, Log
from tests.device.kernels import HAS_TRITON
from tests.device.log import Event
from tests.device.measure import DETECTORS, MODES, forward, forward_of, ours, step_of, torchvisions
from tests.device.report import report

# where a forward pass waits: how many regions a map has decides shapes, and so does how many boxes are likely
POOL, SELECT = "detectors/fpn.py pool", "detectors/select.py select"
WAITS = {("fpn", "training"): [POOL], ("fpn", "detection"): [POOL, SELECT, SELECT]}
WAITS |= {("faster_rcnn", "training"): [], ("faster_rcnn", "detection"): [SELECT, SELECT]}
CASES = [(name, mode) for name in DETECTORS for mode in MODES]
CHANGES = ("4 images instead of 2", "images of a new size", "20 classes instead of 6")
GROWTH = [*((*case, change) for case in CASES for change in CHANGES)]
GROWTH += [("fpn", mode, "5 levels instead of 3") for mode in MODES]
pytestmark = pytest.mark.skipif(not HAS_TRITON, reason="without Triton NMS waits for every block of boxes")


@pytest.mark.parametrize("name, mode", CASES)
def test_the_host_rarely_waits(name, mode):
    log = forward_of(ours, name, mode)
    assert places(log) == WAITS[name, mode], listed(log)
    assert log.count(WAIT) < forward_of(torchvisions, name, mode).count(WAIT)
    assert log.count(LAUNCH) > 100  # it was seen


@pytest.mark.parametrize("name", DETECTORS)
def test_a_step_of_the_training_waits_once_more(name):
    """For its losses, which end a training that diverges."""
    log = step_of(name)
    assert places(log) == [*WAITS[name, "training"], "training/loop.py _values"], listed(log)


@pytest.mark.parametrize("name, mode", CASES)
def test_the_device_gets_no_more_calls_than_from_torchvision(name, mode):
    many, few = (forward_of(make, name, mode).count(LAUNCH) for make in (ours, torchvisions))
    assert many <= few, f"{many} calls, torchvision {few}: {many / few:.3f} times as many"


def places(log):
    """File and function of each wait of a log, in the order of time."""
    files = (event.line.split() for event in log.events if event.kind == WAIT)
    return [f"{line.split(':')[0]} {function}" for line, function in files]


def listed(log):
    """The waits of a log, a line for each line of the package."""
    lines = "".join(f"\n{count:4} {line}: {call}" for (line, call), count in log.lines(WAIT).items())
    return f"{log.count(WAIT)} waits{lines}"


# What the number of waits depends on


def with_classes(name, count):
    """An untrained detector of so many classes, all of whose boxes are likely enough."""
    kind, settings = {"fpn": (FPN, FPNSettings), "faster_rcnn": (FasterRCNN, FasterRCNNSettings)}[name]
    return kind(tiny_net(pretrained=True), class_names(count), settings.tiny(least_score=0.0))


def with_levels(count):
    """An untrained detector on the finest so many levels of the pyramid."""
    whole, settings = tiny_stages(tiny_net(pretrained=True), torch.Generator().manual_seed(0)), FPNSettings.tiny()
    stages = (list(whole.stages)[: count - 1], whole.channels[: count - 1], whole.strides[: count - 1])
    rpn = replace(settings.rpn, scales=settings.rpn.scales[:count])
    return FPN(BottomUp(whole.stem, *stages), class_names(6), replace(settings, rpn=rpn))


def class_names(count):
    return ("background", *(f"class {i}" for i in range(count)))


def fewer_and_more(name, mode, change):
    """The logs of two passes that differ by a change alone."""
    if change == "4 images instead of 2":
        return forward_of(ours, name, mode, again=False), forward(ours(name), mode, images=4, again=False)
    if change == "images of a new size":
        return forward_of(ours, name, mode), forward_of(ours, name, mode, again=False)
    if change == "5 levels instead of 3":
        return tuple(forward(with_levels(count), mode, again=False) for count in (3, 5))
    return tuple(forward(with_classes(name, count), mode, again=False) for count in (6, 20))


@pytest.mark.parametrize("name, mode, change", GROWTH)
def test_more_work_is_no_reason_to_wait_more_often(name, mode, change):
    fewer, more = fewer_and_more(name, mode, change)
    growth = more.count(WAIT) - fewer.count(WAIT)
    assert growth <= 0 and more.count(LAUNCH) > 100, f"{growth} waits more\n{listed(fewer)}\nand\n{listed(more)}"


def test_the_report_tells_all_of_it():
    log = Log()
    log.events += [Event(WAIT, "item", "ops/nms.py:12 nms"), Event(WAIT, "nonzero", "ops/nms.py:9 nms")]
    log.events += [log.events[0], *[Event(LAUNCH, "add", "ops/nms.py:9 nms")] * 4, Event(COPY, "copy", "elsewhere:0")]
    sums, lines = report({"one": log, "none": Log()}).split("\n\n")
    assert sums.splitlines()[2:] == ["| one | 3 | 1 | 4 |", "| none | 0 | 0 | 0 |"]
    assert lines.splitlines()[2:] == [
        "| one | 1 | nonzero | `ops/nms.py:9 nms` |",
        "| one | 2 | item | `ops/nms.py:12 nms` |",
    ]
