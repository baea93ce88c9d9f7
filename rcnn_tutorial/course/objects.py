"""Objects and boxes to compare a network that proposes with others: groups of objects, and three proposers."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.proposals.windows import random_boxes


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
