"""Our detector beside torchvision's, stage by stage in double precision and end to end in single precision."""

from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator

from benchmarks.peer import tiny_faster_rcnn, tiny_fpn
from rcnn_tutorial import compat
from rcnn_tutorial.compat import faster_rcnn_from_torchvision, from_state, settings_of
from rcnn_tutorial.detectors.fpn import from_torchvision
from tests.peers import (
    CLASSES,
    FEW,
    FEWER,
    SIZES,
    UNUSUAL,
    assert_copied,
    assert_detections_equal,
    assert_losses_equal,
    assert_stages_equal,
    assert_states_go_there_and_back,
    condition,
    few_of,
    images_of,
    seeded,
    targets_of,
)


class NormedBackbone(nn.Sequential):
    """Convolutions with BatchNorm, at a stride of 16 pixels."""

    out_channels = 32

    def __init__(self):
        layers = []
        for inputs, outputs in ((3, 8), (8, 16), (16, 32), (32, 32)):
            convolution = nn.Conv2d(inputs, outputs, 3, 2, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        super().__init__(*layers)


def normed():
    anchors = AnchorGenerator(((20, 45, 90),), ((0.6, 1.7),))
    return FasterRCNN(NormedBackbone(), 7, rpn_anchor_generator=anchors, **UNUSUAL)


PEERS = {  # name: (a torchvision detector, its stride)
    "scratch": (lambda: tiny_faster_rcnn(7, (120, 160), head=64), 8),
    "pretrained": (lambda: tiny_faster_rcnn(7, (80, 130), (7, 20, 50), head=64, pretrained=True, **FEW), 8),
    "stride 4": (lambda: tiny_faster_rcnn(7, (64, 90), (12, 30), width=8, halvings=2, head=32, **FEW), 4),
    "normed": (normed, 16),
}


@pytest.fixture(scope="module", params=PEERS)
def peers(request):
    """Torchvision's detector and ours, with the same weights."""
    make, stride = PEERS[request.param]
    theirs = seeded(lambda: condition(make(), images_of(SIZES)))
    return theirs, faster_rcnn_from_torchvision(theirs, CLASSES, stride)


def test_every_stage_equals_torchvisions(doubles):
    theirs, ours = doubles
    assert_stages_equal(theirs, ours, [image.double() for image in images_of(SIZES, first=4)])


@pytest.mark.parametrize("empty", [False, True], ids=["objects", "an image without objects"])
def test_losses_and_gradients_equal_torchvisions_on_its_samples(doubles, monkeypatch, empty):
    theirs, ours = (model.train() for model in doubles)
    images = [image.double() for image in images_of(SIZES, first=4)]
    assert_losses_equal(theirs, ours, images, targets_of(SIZES, first=4, empty=empty), monkeypatch)


@pytest.mark.parametrize(
    ("make", "convert"),
    [
        (
            lambda: tiny_faster_rcnn(7, (120, 160), (7, 20, 50), head=64, **FEWER),
            partial(faster_rcnn_from_torchvision, stride=8),
        ),
        (lambda: tiny_fpn(7, (120, 160), head=64, **FEWER), from_torchvision),
    ],
    ids=["one map", "pyramid"],
)
def test_losses_and_gradients_equal_torchvisions_where_few_can_be_drawn(make, convert, monkeypatch):
    """Pictures of three sizes: one without objects, one with an object larger than any anchor, and a usual one."""
    images = [image.double() for image in images_of(SIZES, first=4)]
    theirs = seeded(lambda: condition(make(), images_of(SIZES)))
    ours = convert(theirs, CLASSES)
    for model in (theirs, ours):
        model.double().train()
    assert_losses_equal(theirs, ours, images, few_of(SIZES, first=4), monkeypatch, full=False)


@pytest.mark.parametrize("sizes", [[(192, 256)], [(192, 256)] * 4, SIZES, [(40, 64), (25, 200)]])
def test_detections_equal_torchvisions_end_to_end(peers, sizes):
    theirs, ours = (model.eval() for model in peers)
    assert_detections_equal(theirs, ours, images_of(sizes, first=8))


def test_states_go_there_and_back(peers):
    theirs, ours = (model.eval() for model in peers)
    assert_states_go_there_and_back(theirs, ours, images_of(SIZES))


def test_the_model_given_stays_as_it_is():
    assert from_torchvision is compat.from_torchvision
    assert_copied(tiny_faster_rcnn(7, head=16), lambda theirs: faster_rcnn_from_torchvision(theirs, CLASSES, 8))


def test_what_cannot_be_taken_over_is_refused():
    theirs = tiny_faster_rcnn(7, head=16)
    with pytest.raises(ValueError, match="classes: expected 7, got 6"):
        faster_rcnn_from_torchvision(theirs, CLASSES[1:], 8)
    with pytest.raises(ValueError, match="state: unknown weight 'rpn.head.conv.1.0.weight'"):
        from_state({"rpn.head.conv.1.0.weight": torch.zeros(1)})
    theirs.rpn.anchor_generator.aspect_ratios = ((0.5, 1.0), (1.0, 2.0))
    with pytest.raises(ValueError, match="expected the same ratios on every map"):
        settings_of(theirs)
