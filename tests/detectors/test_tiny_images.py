"""Pictures of a few pixels, and flat ones: every detector takes them, or says which one is too small."""

from dataclasses import replace

import pytest
import torch

from rcnn_tutorial.detectors.fast_rcnn import FastRCNN, FastRCNNSettings
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.detectors.mask_rcnn import MaskRCNN, MaskRCNNSettings
from rcnn_tutorial.detectors.rcnn import RCNN, RCNNSettings
from rcnn_tutorial.detectors.retinanet import RetinaNet, RetinaNetSettings
from rcnn_tutorial.detectors.sppnet import SPPnet, SPPnetSettings
from rcnn_tutorial.nets.backbones import ZF5, ConvNet, tiny_net

CLASSES = ("background", "cat", "dog")
DETECTORS = {
    "rcnn": lambda: RCNN(tiny_net(3), CLASSES, RCNNSettings.tiny()),
    "sppnet": lambda: SPPnet(tiny_net(3, levels=(4, 2, 1)), CLASSES, SPPnetSettings.tiny(scales=(32, 48))),
    "fast": lambda: FastRCNN(tiny_net(), CLASSES, FastRCNNSettings.tiny()),
    "faster": lambda: FasterRCNN(tiny_net(), CLASSES, FasterRCNNSettings.tiny()),
    "fpn": lambda: FPN(tiny_net(), CLASSES, FPNSettings.tiny()),
    "mask": lambda: MaskRCNN(tiny_net(), CLASSES, MaskRCNNSettings.tiny()),
    "retina": lambda: RetinaNet(tiny_net(), CLASSES, RetinaNetSettings.tiny()),
}
GIVEN = ("rcnn", "sppnet", "fast")  # the proposals come from outside


def use(name, model, *sizes, training=False):
    """What a detector makes of one object that fills each picture."""
    images = [torch.rand(3, *size, generator=torch.Generator().manual_seed(0)) for size in sizes]
    boxes = [torch.tensor([[0.0, 0, width, height]]) for height, width in sizes]
    if training:
        label = torch.tensor([1])
        targets = [
            {"boxes": box, "labels": label, "proposals": box, "masks": torch.ones(1, *size, dtype=torch.bool)}
            for box, size in zip(boxes, sizes, strict=True)
        ]
        return model.train()(images, targets)
    return model.eval()(images, **({"proposals": boxes} if name in GIVEN else {}))


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (7, 60), (60, 2), (1, 60)])
def test_a_picture_that_is_too_small_is_named(name, size):
    model, words = DETECTORS[name](), rf"images\[1\]: expected 8 pixels .*, got {size[0]} x {size[1]} "
    with pytest.raises(ValueError, match=words):
        use(name, model, (40, 40), size)
    if name not in ("rcnn", "sppnet"):
        with pytest.raises(ValueError, match=words):
            use(name, model, (40, 40), size, training=True)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("size", [(8, 8), (8, 90), (13, 9), (90, 16)])
def test_small_and_flat_pictures_are_taken(name, size):
    model = DETECTORS[name]()
    assert all(detections["boxes"].isfinite().all() for detections in use(name, model, (40, 40), size))
    if name not in ("rcnn", "sppnet"):
        assert all(loss.isfinite() for loss in use(name, model, (40, 40), size, training=True).values())


def test_a_picture_that_shrinks_below_a_cell_is_named():
    settings = replace(FasterRCNNSettings.tiny(), min_size=64, max_size=100)
    with pytest.raises(ValueError, match=r"images\[1\]: .* got 5 x 100 from 16 x 300 .*"):
        use("faster", FasterRCNN(tiny_net(), CLASSES, settings), (64, 64), (16, 300))
    pyramid = replace(FPNSettings.tiny(), min_size=64, max_size=100)
    with pytest.raises(ValueError, match=r"images\[1\]: .* got 5 x 100 from 16 x 300 .*"):
        use("fpn", FPN(tiny_net(), CLASSES, pyramid), (64, 64), (16, 300))
    fast = replace(FastRCNNSettings.tiny(), min_size=64, max_size=100)
    with pytest.raises(ValueError, match=r"images\[1\]: .* got 5 x 100 from 16 x 300 .*"):
        use("fast", FastRCNN(tiny_net(), CLASSES, fast), (64, 64), (16, 300))


def test_a_network_with_large_kernels_needs_more_than_a_stride():
    model = FasterRCNN(ConvNet(ZF5, 224, 8, 20, levels=(6,)), CLASSES, FasterRCNNSettings.tiny())
    assert model.strides == (16,)
    with pytest.raises(ValueError, match=r"images\[0\]: expected 31 pixels .* got 30 x 40 "):
        use("faster", model, (30, 40))
    assert len(use("faster", model, (31, 40))) == 1
