"""What the maps of a pyramid hold: the maps of four designs, and what one cell knows of the object at its place."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.course.profile import multiply_adds
from rcnn_tutorial.detectors.fpn import FPN
from rcnn_tutorial.detectors.svm import fit_ridge
from rcnn_tutorial.nets.backbones import TINY, Conv, Field, receptive_field, tiny_net
from rcnn_tutorial.nets.fpn import roi_levels
from rcnn_tutorial.ops.boxes import box_iou


class Cells(NamedTuple):
    """What `centre_cells` collects of N objects.

    Attributes:
        features: for each map (N, C), the cell under the centre of each object.
        labels: (N,) of the objects.
        sides: (N,), pixels; the root of an object's area.
    """

    features: dict[str, Tensor]
    labels: Tensor
    sides: Tensor


def stage_fields() -> dict[str, Field]:
    """Work out what a cell of each map of the laptop's network, C2 to C5, looks at."""
    halve = Conv(96, 3, stride=2, padding=1), Conv(96, 3, padding=1)
    chain = [*TINY[:4], replace(TINY[4], pool=0), *halve, *halve]
    ends = {"C2": 3, "C3": 5, "C4": 7, "C5": 9}  # convolutions; a map is taken before the pooling that follows it
    return {name: receptive_field([*chain[: end - 1], replace(chain[end - 1], pool=0)]) for name, end in ends.items()}


def pyramid_cost(factors: Sequence[float]) -> dict[float, int]:
    """Count the multiply-adds of the laptop's network on a scene at each of these sizes, 1 for its own."""
    net = tiny_net().convs
    return {
        factor: sum(multiply_adds(net, 1, 3, round(192 * factor), round(256 * factor)).values()) for factor in factors
    }


def level_steps(s0: Sequence[float]) -> tuple[Tensor, dict[str, Tensor]]:
    """For `draw.staircase`: the sides of squares, pixels, and for each constant the levels that they are read from."""
    sides = torch.arange(8, 500).float()
    squares = torch.stack((sides * 0, sides * 0, sides, sides), dim=1)
    return sides, {f"s0 = {each}": roi_levels(squares, 2, 5, s0=each) for each in s0}


@torch.no_grad()
def four_designs(model: FPN, image: Tensor) -> dict[str, list[Tensor]]:
    """Compute the maps of four designs over one picture, each map as the length of each cell's vector, (h, w).

    Args:
        model: a detector on a pyramid.
        image: (3, H, W).
    """
    pixels = model.preprocess([image]).tensor
    stages = model.body.bottom_up(pixels)
    resized = [F.interpolate(pixels, scale_factor=factor) for factor in (2, 1, 0.5)]
    designs = {
        "(a) image pyramid": [model.body.bottom_up(each)[1] for each in resized],
        "(b) single map": stages[1:2],
        "(c) hierarchy": stages,
        "(d) feature pyramid": model.body.fpn(stages),
    }
    return {name: [each[0].norm(dim=0) for each in maps] for name, maps in designs.items()}


@torch.no_grad()
def merging_steps(model: FPN, image: Tensor, levels: Sequence[int]) -> dict[str, list[Tensor]]:
    """Compute what happens to one channel on some levels of the top-down path, for `draw.merging`.

    Args:
        model: a detector on a pyramid.
        image: (3, H, W), both sides multiples of 32.
        levels: such as 2 and 3, not the coarsest.
    Returns:
        for each level the lateral map, the map from above, their sum, and the map after the 3 x 3 convolution, (h, w)
        each, of the channel whose sum varies most on the finest level.
    """
    pixels = model.preprocess([image]).tensor
    layers, stages = model.body.fpn, model.body.bottom_up(pixels)
    laterals = [layer(each)[0] for layer, each in zip(layers.laterals, stages, strict=True)]
    sums, smooth = ([each[0] for each in maps] for maps in (layers.merge(stages), layers(stages)))
    c = sums[0].std(dim=(1, 2)).argmax()
    steps = {k: (laterals[k - 2], sums[k - 2] - laterals[k - 2], sums[k - 2], smooth[k - 2]) for k in levels}
    return {f"P{k}": [each[c] for each in maps] for k, maps in steps.items()}


@torch.no_grad()
def centre_cells(model: FPN, data: Dataset, images: Sequence[int]) -> Cells:
    """Collect the cell under the centre of each object, from several maps of each level.

    C2 to C5 are the network's, P2 to P5 the pyramid's, and L2 to L5 what the pyramid would give without its top-down
    path: the 3 x 3 convolution of the lateral map alone.

    Args:
        model: a trained detector on a pyramid.
        data: of (image, target), on the model's device, with pictures of the size that the model's maps have.
        images: which of them.
    """
    features: dict[str, list[Tensor]] = {}
    labels, sides = [], []
    for index in images:
        image, target = data[index]
        stages = model.body.bottom_up(model.preprocess([image]).tensor)
        layers = model.body.fpn
        trios = zip(layers.outputs, layers.laterals, stages, strict=True)
        alone = [smooth(lateral(each)) for smooth, lateral, each in trios]
        boxes = target["boxes"]
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        for letter, maps in (("C", stages), ("L", alone), ("P", layers(stages))):
            for k, (each, stride) in enumerate(zip(maps, model.head_strides, strict=True), start=2):
                column, row = (middle / stride).long().unbind(1)
                row, column = row.clamp(max=each.shape[2] - 1), column.clamp(max=each.shape[3] - 1)
                features.setdefault(f"{letter}{k}", []).append(each[0, :, row, column].T)
        labels.append(target["labels"])
        sides.append((boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt())
    return Cells({name: torch.cat(each) for name, each in features.items()}, torch.cat(labels), torch.cat(sides))


def class_by_third(seen: Cells, asked: Cells) -> dict[str, dict[str, Tensor]]:
    """How often a linear classifier on one cell names the class of an object, by thirds of the objects' size.

    The classifier is a ridge regression onto one number for each class, and the largest number wins.

    Args:
        seen: the objects that it is fitted to.
        asked: other objects.
    Returns:
        for each letter of the maps, and for each map, the shares (3,) of the smallest, the middle and the largest third
        that are named rightly.
    """
    third = torch.bucketize(asked.sides, asked.sides.quantile(asked.sides.new_tensor([1 / 3, 2 / 3])))
    wanted = F.one_hot(seen.labels).float()
    found: dict[str, dict[str, Tensor]] = {}
    for name, cells in seen.features.items():
        middle, spread = cells.mean(dim=0), cells.std(dim=0) + 1e-6
        weights, bias = fit_ridge((cells - middle) / spread, wanted, penalty=0.005 * len(cells))
        named = F.linear((asked.features[name] - middle) / spread, weights, bias).argmax(dim=1)
        right = (named == asked.labels).float()
        found.setdefault(name[0], {})[name] = torch.stack([right[third == k].mean() for k in range(3)]).cpu()
    return found


def best_of_levels(anchors: Tensor, counts: Sequence[int], box: Tensor) -> tuple[Tensor, list[float]]:
    """Find on each level the anchor that overlaps a box most.

    Args:
        anchors: (A, 4), level after level.
        counts: anchors of each of the L levels.
        box: (4,).
    Returns:
        (L, 4), and the IoU of each.
    """
    parts = anchors.split(list(counts))
    overlaps = [box_iou(part, box[None])[:, 0] for part in parts]
    best = torch.stack([part[iou.argmax()] for part, iou in zip(parts, overlaps, strict=True)])
    return best, [iou.max().item() for iou in overlaps]


def level_sizes(maps: Sequence[Tensor], shapes: Sequence[Tensor]) -> list[str]:
    """Tell of each level, from P2 on, how many cells its map has, and how large its square anchor is.

    Args:
        maps: (1, C, h, w) of each level.
        shapes: of each level (3, 4), its anchors at the middle of a cell; the second is the square one.
    """
    lines = []
    for k, (level, anchors) in enumerate(zip(maps, shapes, strict=True), 2):
        side = anchors[1, 2] - anchors[1, 0]
        lines.append(f"P{k}: {level.shape[3]:2} x {level.shape[2]:2} cells, squares of {side:3.0f} pixels")
    return lines
