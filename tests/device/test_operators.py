"""Every operator runs where its tensors are: on the simulated device as on the CPU, without mixing the two."""

import pytest
import torch

from experiments.variants import roi_warp
from rcnn_tutorial.course.nms_steps import nms_steps
from rcnn_tutorial.ops.anchors import anchor_grid, caffe_anchors, exact_anchors, inside, torchvision_anchors
from rcnn_tutorial.ops.assign import match, matched_boxes, sample
from rcnn_tutorial.ops.boxes import box_area, box_iou, clip_boxes_to_image, decode, encode, remove_small_boxes
from rcnn_tutorial.ops.losses import count_drawn, hinge, multi_task_loss, sigmoid_focal_loss, smooth_l1
from rcnn_tutorial.ops.nms import batched_nms, nms
from rcnn_tutorial.ops.pooling import ps_roi_align, ps_roi_pool, roi_align, roi_pool, spatial_pyramid_pool
from rcnn_tutorial.ops.warp import dilate, warp
from tests.device import DeviceTensor, on_device, on_host, simulated_cuda
from tests.device.tensor import changed

BOXES = 1100  # more than NMS takes in one block


def made():
    """What the operators are given, the same at every call."""
    g = torch.Generator().manual_seed(0)
    corners = torch.rand(BOXES, 2, generator=g) * torch.tensor([120.0, 80.0])
    boxes = torch.cat((corners, corners + 8 + 60 * torch.rand(BOXES, 2, generator=g)), dim=1)
    data = {"boxes": boxes, "scores": torch.rand(BOXES, generator=g), "labels": torch.arange(BOXES) % 4}
    data |= {"truths": boxes[:5] + 3, "iou": box_iou(boxes, boxes[:5] + 3), "masked": torch.arange(BOXES) % 3 - 1}
    data |= {"map": torch.rand(2, 3, 24, 32, generator=g), "logits": torch.randn(40, 5, generator=g)}
    data |= {"rois": torch.cat((torch.arange(40)[:, None] % 2, boxes[:40]), dim=1)}
    data |= {"offsets": torch.randn(40, 4, 4, generator=g), "aims": torch.randn(40, 4, generator=g)}
    data |= {"windows": torch.tensor([[0, 1, 2, 20, 15], [1, 0, 0, 5, 24], [1, 30, 3, 32, 4]])}
    return data


def gradient(operator, *values):
    """What an operator gives, and the gradients of the values that it depends on."""
    leaves = [value.detach().requires_grad_() for value in values]
    result = operator(*leaves)
    result = sum(result.values()) if isinstance(result, dict) else result
    result.square().sum().backward()
    return [result.detach(), *(leaf.grad for leaf in leaves)]


OPERATORS = {
    "box_area": lambda d: box_area(d["boxes"]),
    "box_iou": lambda d: box_iou(d["boxes"], d["truths"]),
    "clip_boxes_to_image": lambda d: clip_boxes_to_image(d["boxes"], (100, 150)),
    "remove_small_boxes": lambda d: remove_small_boxes(d["boxes"], 30),
    "encode": lambda d: encode(d["boxes"][:5], d["truths"], (10, 10, 5, 5)),
    "decode": lambda d: gradient(lambda o: decode(o, d["rois"][:, None, 1:], (10, 10, 5, 5)), d["offsets"]),
    "nms": lambda d: nms(d["boxes"], d["scores"], 0.2),
    "nms of few": lambda d: nms(d["boxes"][:1], d["scores"][:1], 0.3),
    "nms of none": lambda d: nms(d["boxes"][:0], d["scores"][:0], 0.3),
    "batched_nms": lambda d: batched_nms(d["boxes"], d["scores"], d["labels"], 0.2),
    "batched_nms of one group": lambda d: batched_nms(d["boxes"], d["scores"], d["labels"] * 0, 0.2),
    "nms_steps": lambda d: [torch.tensor(step.box) for step in nms_steps(d["boxes"][:20], d["scores"][:20], 0.1)],
    "exact_anchors": lambda d: anchor_grid(exact_anchors((16, 32), (0.5, 1, 2), 8), (3, 4), 8, device=d["map"].device),
    "caffe_anchors": lambda d: anchor_grid(caffe_anchors((16, 32), (0.5, 1), 8), (3, 4), 8, device=d["map"].device),
    "torchvision_anchors": lambda d: anchor_grid(
        torchvision_anchors((16, 32), (0.5, 1), 8), (3, 4), (8, 7), device=d["map"].device
    ),
    "inside": lambda d: inside(d["boxes"], (150, 200)),
    "inside of several": lambda d: inside(d["boxes"], d["windows"][:2, 3:] * 10),
    "match": lambda d: [*match(d["iou"], 0.5, (0.1, 0.5))],
    "match with the best": lambda d: [*match(d["iou"], 0.7, (0.0, 0.3), allow_low_quality=True)],
    "match without truths": lambda d: [*match(d["iou"][:, :0], 0.7, (0.0, 0.3))],
    "sample": lambda d: [*sample(d["masked"], 64, 0.25, torch.Generator().manual_seed(1))],
    "matched_boxes": lambda d: matched_boxes([d["truths"]], (d["masked"][None, :40]), d["boxes"][None, :40]),
    "smooth_l1": lambda d: gradient(lambda x: smooth_l1(x, 0.5), d["aims"]),
    "count_drawn": lambda d: count_drawn(d["masked"] >= 0),
    "multi_task_loss": lambda d: gradient(
        lambda s, o: multi_task_loss(s, o, d["masked"][:40], d["aims"]), d["logits"], d["offsets"]
    ),
    "sigmoid_focal_loss": lambda d: gradient(lambda x: sigmoid_focal_loss(x, (x.detach() > 0).to(x)), d["logits"]),
    "hinge": lambda d: gradient(lambda x: hinge(x, x.detach() > 0), d["logits"]),
    "spatial_pyramid_pool": lambda d: gradient(lambda x: spatial_pyramid_pool(x, (3, 2, 1)), d["map"]),
    "spatial_pyramid_pool of windows": lambda d: gradient(
        lambda x: spatial_pyramid_pool(x, (3, 2, 1), d["windows"]), d["map"]
    ),
    "roi_pool": lambda d: gradient(lambda x: roi_pool(x, d["rois"][:12], 4, 1 / 8), d["map"]),
    "roi_pool of lists": lambda d: gradient(
        lambda x: roi_pool(x, [d["boxes"][:5], d["boxes"][:0]], (2, 3), 1 / 8), d["map"]
    ),
    "roi_align": lambda d: gradient(lambda x: roi_align(x, d["rois"], 7, 1 / 8, 2), d["map"]),
    "roi_align and its boxes": lambda d: gradient(lambda x, r: roi_align(x, r, 2, 1 / 8, 2), d["map"], d["rois"]),
    "roi_align of adaptive grids": lambda d: gradient(
        lambda x: roi_align(x, [d["boxes"][:5], d["boxes"][5:9]], 3, 1 / 8, -1, aligned=True), d["map"]
    ),
    "roi_warp": lambda d: gradient(lambda x: roi_warp(x, d["rois"], 4, 1 / 8), d["map"]),
    "ps_roi_pool": lambda d: gradient(lambda x: ps_roi_pool(x, d["rois"], (1, 3), 1 / 8), d["map"]),
    "ps_roi_align": lambda d: gradient(lambda x, r: ps_roi_align(x, r, (1, 3), 1 / 8, 2), d["map"], d["rois"]),
    "ps_roi_align of adaptive grids": lambda d: gradient(lambda x: ps_roi_align(x, d["rois"], (1, 3), 1 / 8), d["map"]),
    "dilate": lambda d: dilate(d["boxes"]),
    "warp with a colour": lambda d: warp(d["map"][0], d["boxes"][:3] / 8, 16, 2, d["map"][0, :, 0, 0]),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_gives_what_it_gives_on_the_cpu(name, monkeypatch):
    for plain in ("0", "1"):
        monkeypatch.setenv("RCNN_PLAIN", plain)
        expected = OPERATORS[name](made())
        with simulated_cuda():
            found = OPERATORS[name](on_device(made()))
        lie = []
        changed(found, torch.Tensor, lambda tensor: lie.append(isinstance(tensor, DeviceTensor)))  # noqa: B023
        assert lie and (all(lie) or name == "nms_steps")
        # sums of gradients have another order, since larger pieces are computed at a time than on a CPU
        torch.testing.assert_close(on_host(found), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "mix",
    [
        lambda here, there: nms(there["boxes"], here["scores"], 0.5),
        lambda here, there: box_iou(here["boxes"], there["truths"]),
        lambda here, there: roi_align(there["map"], here["rois"], 7),
        lambda here, there: roi_pool(here["map"], there["rois"], 7),
        lambda here, there: multi_task_loss(there["logits"], there["offsets"], here["masked"][:40], there["aims"]),
    ],
)
def test_an_operator_given_tensors_of_two_devices_refuses(mix):
    with simulated_cuda(), pytest.raises(RuntimeError, match="same device"):
        mix(made(), on_device(made()))
