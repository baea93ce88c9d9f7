"""What 02_sppnet computes besides the lesson."""

import pytest
import torch

from rcnn_tutorial.course import records, sppnet_steps
from rcnn_tutorial.detectors import load
from rcnn_tutorial.nets.backbones import tiny_net


def test_the_convolutions_run_once_for_each_size_and_the_hook_goes():
    detector, image = load("sppnet"), torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(0))
    small, large = torch.tensor([[10, 10, 18, 18.0]]), torch.tensor([[0, 0, 80, 60.0]])
    before = len(detector.net.convs._forward_hooks)
    assert sppnet_steps.counted_passes(detector, image, small)[1] == len(detector.settings.scales)
    detection, passes = sppnet_steps.counted_passes(detector, image, torch.cat((small, large)))
    assert passes == 5 and set(detection) == {"boxes", "labels", "scores"}
    assert len(detector.net.convs._forward_hooks) == before


def test_the_extent_of_a_gradient():
    gradient = torch.zeros(1, 3, 9, 12)
    gradient[0, 1, 2, 3], gradient[0, 2, 5, 10] = -1, 1
    assert sppnet_steps.extent(gradient) == (4, 8)


def test_a_box_is_as_large_as_its_shorter_side():
    boxes = torch.tensor([[0, 0, 8, 40], [0, 0, 9, 40], [5, 5, 30, 12.0]])
    assert sppnet_steps.larger_than(boxes, 8).tolist() == [[0, 0, 9, 40]]


def test_weights_are_copies_without_biases():
    net = tiny_net()
    weights = sppnet_steps.weights_of(net)
    assert len(weights) == 8 and all("weight" in name for name in weights)
    with torch.no_grad():
        net.fc6[0].weight.zero_()
    assert any(value.any() for name, value in weights.items() if name.startswith("fc6"))


def test_seconds_and_ratios_are_those_of_the_record():
    seconds = sppnet_steps.seconds_at_paper_scale("ZF-5")
    assert list(seconds) == ["R-CNN", "SPPnet, 1 scale", "SPPnet, 5 scales"]
    every, convolutions = sppnet_steps.times_faster("ZF-5"), sppnet_steps.times_faster("ZF-5", "convolutions")
    slow, fast = seconds["R-CNN"], seconds["SPPnet, 1 scale"]
    assert every["measured"] == pytest.approx(sum(slow.values()) / sum(fast.values()), rel=0.05)
    assert convolutions["measured"] == pytest.approx(slow["convolutions"] / fast["convolutions"], rel=0.05)
    (row,) = (r for r in records.load("paper_scale")["rows"] if (r["detector"], r["network"]) == ("R-CNN", "ZF-5"))
    assert every["runs"] == len(row["rounds"]) and every["spread"] > 0


def test_the_fastest_of_the_runs_counts(monkeypatch):
    times = iter((0.0, 5.0, 10.0, 12.0, 20.0, 23.0))
    monkeypatch.setattr(sppnet_steps, "process_time", lambda: next(times))
    calls = []

    def detector(images, proposals):
        calls.append((images, proposals, torch.is_grad_enabled()))

    assert sppnet_steps.processor_seconds(detector, "picture", "windows") == 2
    assert calls == [(["picture"], ["windows"], False)] * 3
