"""SPPnet's choices, against their alternatives."""

from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from experiments.scenes import TRAIN, Experiment, device, scenes, training
from rcnn_tutorial.data.generated.auxiliary import AuxiliaryBatches, accuracy
from rcnn_tutorial.data.generated.shapes import AUXILIARY_CLASSES
from rcnn_tutorial.data.wrappers import length
from rcnn_tutorial.detectors import load
from rcnn_tutorial.detectors.rcnn_windows import FineTuning, near
from rcnn_tutorial.detectors.sppnet import SPPnet, closest_scale
from rcnn_tutorial.detectors.svm import feature_scale, fit_ridge
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.ops.boxes import box_iou, decode, encode
from rcnn_tutorial.ops.pooling import spatial_pyramid_pool
from rcnn_tutorial.ops.warp import warp
from rcnn_tutorial.training import TrainSettings, train

PICTURES, FRESH = 10_000, 2_000
TRAINING = TrainSettings(600, batch_size=1, lr=0.03, weight_decay=5e-4, schedule="cosine", warmup=100)
SIZES = {"64 alone": (64,), "64 and 52": (64, 52)}  # 52 is to 64 as 180 to 224


def sizes(seed: int) -> dict[str, dict]:
    """SPP-08: the same crops at one size, or at two, an epoch each in turn; accuracy at both on fresh pictures.

    All layers are trained, from the shipped convolutions on: from random ones 600 steps teach next to nothing.
    """
    fresh = AuxiliaryBatches(5 * PICTURES, FRESH, 0, processes=0)
    training = AuxiliaryBatches(seed * PICTURES, PICTURES, PICTURES // 64, processes=0)
    found = {}
    for name, training.sizes in SIZES.items():
        torch.manual_seed(seed)
        net = tiny_net(len(AUXILIARY_CLASSES), levels=(4, 2, 1))
        net.convs.load_state_dict(tiny_net(pretrained=True).convs.state_dict())
        net.to(device())
        train(FineTuning(net), training, TRAINING, progress=False)
        found[name] = {f"accuracy at {size}": round(accuracy(net, fresh, size), 4) for size in (64, 52)}
    return found


IOU, TEST, PENALTY, POINTS = 0.5, 60, 1000.0, 16


@torch.no_grad()
def exact(model: SPPnet, image: Tensor, boxes: Tensor) -> Tensor:
    """Pool windows (R, 4) as SPPnet does, from POINTS x POINTS points between the cells in place of whole cells."""
    settings, stride = model.settings, model.field.stride
    chosen = closest_scale(boxes, (image.shape[1], image.shape[2]), settings.scales, settings.side)
    pooled = boxes.new_zeros(len(boxes), model.net.pool5_length)
    share = (torch.arange(POINTS, device=boxes.device) + 0.5) / POINTS
    for scale, batch in enumerate(model._resized(image)):
        features = model.net.convs(batch.tensor)  # (1, C, h, w)
        (windows,) = batch.to_input([boxes[chosen == scale]])
        sides = features.new_tensor([features.shape[3], features.shape[2]]) * stride
        low, high = windows[:, None, :2] / sides, windows[:, None, 2:] / sides  # (R_i, 1, 2) in [0, 1]
        x, y = ((low + share[:, None] * (high - low)) * 2 - 1).unbind(-1)  # (R_i, POINTS) each
        grid = torch.stack((x[:, None].expand(-1, POINTS, -1), y[:, :, None].expand(-1, -1, POINTS)), dim=-1)
        maps = features.expand(len(grid), -1, -1, -1)
        points = F.grid_sample(maps, grid, align_corners=False, padding_mode="border")
        pooled[chosen == scale] = spatial_pyramid_pool(points, model.net.levels)
    return pooled


@torch.no_grad()
def alone(model: SPPnet, image: Tensor, boxes: Tensor, context: float) -> Tensor:
    """Send each window (R, 4) through SPPnet's convolutions by itself, as R-CNN does."""
    crops = warp(image, boxes, model.net.size, context, model.mean) - model.mean[:, None, None]
    return torch.cat([model.net.pool5(part) for part in crops.split(64)])


def near_objects(dataset: Dataset, ways: dict) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Give the proposals near an object: features of each way (N, P), boxes (N, 4) and objects (N, 4)."""
    parts, boxes, objects = {name: [] for name in ways}, [], []
    for index in range(length(dataset)):
        image, target = dataset[index]
        close, truth = near(target["proposals"], target["boxes"], IOU)
        boxes.append(target["proposals"][close])
        objects.append(target["boxes"][truth])
        if len(close):
            for name, way in ways.items():
                parts[name].append(way(image.to(device()), boxes[-1].to(device())).cpu())
    return {name: torch.cat(part) for name, part in parts.items()}, torch.cat(boxes), torch.cat(objects)


def borders(seed: int) -> dict[str, dict]:
    """FAST-24: what the regression needs, read four ways: one ridge regression for all classes on each.

    From the first way to the second the windows' borders are no longer rounded to whole cells; in the third each window
    is a crop with R-CNN's context, in front of the same convolutions; in the fourth they are R-CNN's, fine-tuned.
    """
    spp, rcnn = load("sppnet").to(device()), load("rcnn").to(device())
    ways = {
        "whole cells": spp.pooled,
        "exact borders": lambda image, boxes: exact(spp, image, boxes),
        "a crop with context": lambda image, boxes: alone(spp, image, boxes, rcnn.settings.context),
        "fine-tuned convolutions": rcnn.pooled,
    }
    (learnt, boxes, objects), (tested, proposals, truths) = (
        near_objects(dataset, ways) for dataset in (training(seed), scenes("test", 0, TEST))
    )
    found = {}
    for name in ways:
        scale = feature_scale(learnt[name])
        weight, bias = fit_ridge(learnt[name] * scale, encode(objects, boxes), PENALTY)
        moved = decode(F.linear(tested[name] * scale, weight, bias), proposals)
        iou = box_iou(moved, truths).diagonal()
        found[name] = {"share at 0.75": (iou >= 0.75).float().mean().item(), "IoU": iou.mean().item()}
    iou = box_iou(proposals, truths).diagonal()
    found["proposals"] = {"share at 0.75": (iou >= 0.75).float().mean().item(), "IoU": iou.mean().item()}
    return {name: {key: round(value, 4) for key, value in each.items()} for name, each in found.items()}


EXPERIMENTS = {
    "spp_08": Experiment(
        "one size of training pictures, or two in turn",
        ("SPP-08",),
        sizes,
        {"pictures": PICTURES, "fresh": FRESH, **asdict(TRAINING)},
    ),
    "spp_borders": Experiment(
        "what the regression reads: whole cells, exact borders, a crop with context, fine-tuned convolutions",
        ("FAST-24",),
        borders,
        {"iou": IOU, "test": TEST, "penalty": PENALTY, "points": POINTS, "training": TRAIN},
    ),
}
