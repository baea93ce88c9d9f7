"""What notebooks call takes tensors of the device: pictures, slow rules to compare with, and the stop watch."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.kernels import operators
from rcnn_tutorial.course.nms_steps import nms_steps
from rcnn_tutorial.course.pooling import sliding_pyramid_pool
from rcnn_tutorial.course.profile import Laps, multiply_adds
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.ops.boxes import box_iou
from tests.course.draw.figures import CLASSES, IMAGE, TARGET
from tests.device import on_device, on_host, simulated_cuda

MAP = torch.rand(1, 2, 9, 12, generator=torch.Generator().manual_seed(0))
BOXES, SCORES = TARGET["boxes"], torch.tensor([0.9, 0.8])

PICTURES = {
    "scene": lambda d: draw.scene(d["image"], d["target"], CLASSES),
    "labelled_anchors": lambda d: draw.labelled_anchors(
        d["image"], d["target"]["boxes"], d["target"]["labels"] - 1, d["target"]["boxes"]
    ),
    "nms_strip": lambda d: draw.nms_strip(
        d["target"]["boxes"], d["scores"], nms_steps(d["target"]["boxes"], d["scores"], 0.5), ("A", "B")
    ),
    "iou_table": lambda d: draw.iou_table(box_iou(d["target"]["boxes"], d["target"]["boxes"]), "ab", "cd"),
    "precision_recall": lambda d: draw.precision_recall(d["scores"].flip(0), d["scores"]),
    "mask_scan": lambda d: draw.mask_scan(d["target"]["boxes"][:, :2] > 6, d["scores"] > 0),
    "addition": lambda d: draw.addition(d["map"][0, 0, :2, :3], d["map"][0, 1, :4, :6]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_tensors_of_the_device(name):
    with simulated_cuda():
        PICTURES[name](on_device({"image": IMAGE, "target": TARGET, "map": MAP, "scores": SCORES}))
    plt.close("all")


def test_the_sliding_pyramid_gives_what_it_gives_on_the_cpu():
    with simulated_cuda():
        found = sliding_pyramid_pool(on_device(MAP), 3)
    assert found.is_cuda and torch.equal(on_host(found), sliding_pyramid_pool(MAP, 3))


def test_words_of_a_lesson_without_triton():
    with simulated_cuda(triton=False):
        run = operators("cuda")
        words = run.nms_words(on_device(BOXES), on_device(torch.tensor([2, 2])), 0.0, 4)
        assert words.is_cuda and "does not run" in run.told


def test_laps_and_costs():
    with simulated_cuda():
        lap = Laps()
        net = on_device(tiny_net())
        lap("moved")
        assert set(lap.seconds) == {"moved"}
        assert multiply_adds(net, 1, 3, 64, 64) == multiply_adds(tiny_net(), 1, 3, 64, 64)
