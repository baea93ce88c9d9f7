"""Objects and boxes around a network that proposes: its anchors on objects, groups of objects, three proposers."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN
from rcnn_tutorial.evaluation import predict
from rcnn_tutorial.nets.rpn import Predictions
from rcnn_tutorial.ops.boxes import box_iou, decode
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.proposals.windows import random_boxes


def best_anchors_moved(found: Predictions, boxes: Tensor) -> tuple[Tensor, Tensor, list[float]]:
    """Take for each object of a picture the anchor that fits it best, and move it by the offsets that the RPN gives it.

    Args:
        found: of the RPN, for one picture.
        boxes: (M, 4) of the objects, pixels.
    Returns:
        the anchors (M, 4), where they are moved (M, 4), and the IoU of each object with its moved anchor, two digits.
    """
    best = box_iou(found.anchors, boxes).argmax(dim=0)  # (M,)
    moved = decode(found.offsets[0, best].detach(), found.anchors[best])
    return found.anchors[best], moved, [round(v, 2) for v in box_iou(moved, boxes).diag().tolist()]


def object_groups(targets: Sequence[dict[str, Tensor]], overlap: float = 0.3) -> dict[str, Tensor]:
    """Which of all objects are small, are large, or lie over another object.

    Args:
        targets: of each image `boxes` (M, 4) and `labels` (M,).
        overlap: the IoU above which an object lies over another one.
    Returns:
        for each group (G,) bool, over the objects of all images in their order. The first two are the smallest and the
        largest third.
    """
    known = [target for target in targets if len(target["boxes"])]
    areas = torch.cat([(t["boxes"][:, 2:] - t["boxes"][:, :2]).prod(dim=1) for t in known])
    low, high = areas.quantile(areas.new_tensor([1 / 3, 2 / 3]))
    over, twin = [], []
    for target in known:
        iou = box_iou(target["boxes"], target["boxes"]).fill_diagonal_(0)
        over.append(iou.amax(dim=1) > overlap)
        twin.append(target["labels"] == target["labels"][iou.argmax(dim=1)])
    covered, same = torch.cat(over), torch.cat(twin)
    return {
        "small": areas < low,
        "large": areas >= high,
        "overlaps same class": covered & same,
        "overlaps other class": covered & ~same,
    }


def three_proposers(detector: FasterRCNN, scenes: Dataset, top: int) -> dict[str, list[Tensor]]:
    """Boxes of three proposers for each picture, at most `top` of them, the best first: (P_i, 4), pixels.

    Args:
        detector: whose RPN is one of them; the boxes lie on its device.
        scenes: of (image, target), on the CPU.
        top: also how many are drawn at random, from a fixed seed.
    """
    chance, device = torch.Generator().manual_seed(0), next(detector.parameters()).device
    searched = WithProposals(scenes, top=top)
    found: dict[str, list[Tensor]] = {"RPN": [], "selective search": [], "random": []}
    for index in range(len(scenes)):
        image, target = searched[index]
        found["RPN"] += [boxes[:top] for boxes in detector.proposals([image.to(device)])]
        found["selective search"].append(target["proposals"].to(device))
        found["random"].append(random_boxes(tuple(image.shape[1:]), top, chance).to(device))
    return found


def predict_at_nms(detector: FasterRCNN, data: Dataset, overlap: float) -> tuple[list[dict], list[dict]]:
    """Let a detector predict with another threshold of its last NMS, and leave it as it was.

    Args:
        detector: whose head's boxes NMS thins out.
        data: of (image, target).
        overlap: the IoU above which a box is a double.
    Returns:
        what `predict` returns, the answers and the targets.
    """
    usual = detector.settings
    detector.settings = replace(usual, nms_threshold=overlap)
    try:
        return predict(detector, data, progress=False)
    finally:
        detector.settings = usual
