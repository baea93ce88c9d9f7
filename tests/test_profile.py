import time

import torch
from torch import nn

from rcnn_tutorial.claims import claim
from rcnn_tutorial.nets.backbones import alexnet, tiny_net
from rcnn_tutorial.profile import Laps, multiply_adds


def test_counts_by_hand():
    net = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(54, 5))
    # 6 channels of 3 x 3 numbers, each of 2 channels x 9 products; then 54 x 5
    assert multiply_adds(net, 1, 4, 6, 6) == {"0": 6 * 9 * 2 * 9, "3": 54 * 5}
    assert multiply_adds(net, 2, 4, 6, 6) == {"0": 2 * 6 * 9 * 2 * 9, "3": 2 * 54 * 5}


def test_a_layer_used_twice_counts_twice_and_nothing_changes():
    layer = nn.Linear(3, 3)
    net = nn.Sequential(layer, nn.Dropout(), layer).train()
    before = layer.weight.clone()
    assert sum(multiply_adds(net, 1, 3).values()) == 18
    assert net.training and torch.equal(layer.weight, before) and not layer._forward_hooks


def test_alexnet_costs_what_the_ledger_says():
    with torch.device("meta"):
        net = alexnet()
    counts = multiply_adds(net, 1, 3, 227, 227)
    convolutions = sum(n for name, n in counts.items() if name.startswith("convs"))
    hidden = sum(n for name, n in counts.items() if name.startswith("fc"))
    claim("RCNN-16", convolutions / 1e6, 665.8, tol=0.05, note="AlexNet's convolutions, million multiply-adds a window")
    claim("RCNN-16", 2000 * convolutions / 1e12, 1.33, tol=0.005, note="for 2,000 windows, 10^12")
    claim("RCNN-16", convolutions / (convolutions + hidden), 0.924, tol=0.0005, note="share of the convolutions")
    claim("RCNN-16", 2000 * 227**2, 103_058_000, note="pixels of 2,000 windows")
    claim("RCNN-16", 2000 * 227**2 / (1000 * 600), 171.8, tol=0.05, note="windows' pixels to those of the image")


def test_the_tiny_network_is_counted_too():
    assert 15e6 < sum(multiply_adds(tiny_net(7), 1, 3, 64, 64).values()) < 25e6


def test_laps_add_up():
    lap = Laps()
    time.sleep(0.02)
    lap("a")
    time.sleep(0.01)
    lap("b")
    time.sleep(0.02)
    lap("a")
    assert list(lap.seconds) == ["a", "b"] and lap.seconds["a"] >= 0.04 and lap.seconds["b"] >= 0.01
