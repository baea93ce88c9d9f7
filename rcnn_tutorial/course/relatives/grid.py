"""A small YOLO: a grid of cells, each of which answers for at most one object (Redmon et al., CVPR 2016).

    image, resized to one size -> body -> 7 x 7 cells, each: K class scores, and B boxes with a confidence

The cell that holds an object's centre is to say its class, and one of its B boxes, the one that overlaps it most, is to
become it. No anchors, no proposals, no mini-batch: every cell counts at every step. The price is in the grid: two
objects of two classes whose centres share a cell cannot both be found.

What is left out against the paper: the trunk is the laptop's and not a network of 24 layers; a 3 x 3 convolution takes
the place of the two fully connected layers behind it, so that each cell sees a part of the image; no dropout. The loss
is the paper's (equation 3), a sum of squares; its weights 5 for boxes and 0.5 for empty cells, too.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnn_tutorial.detectors.select import select
from rcnn_tutorial.engine.checks import checked_classes
from rcnn_tutorial.engine.targets import check_targets
from rcnn_tutorial.nets.backbones import initialise
from rcnn_tutorial.nets.fpn import BottomUp
from rcnn_tutorial.nets.preprocess import Preprocess
from rcnn_tutorial.ops.boxes import box_iou, clip_boxes_to_image

LAMBDA_COORD, LAMBDA_NOOBJ = 5.0, 0.5  # section 2.2


def responsible_cells(boxes: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Find the cell that holds each object's centre, and which objects have it: the first of those that share one.

    Args:
        boxes: (G, 4) in [0, 1] of the image's width and height.
        cells: S, along each side.
    Returns:
        (G,) int64, row S + column; and (G,) bool, whether the cell answers for the object.
    Source: YOLO, section 2.
    """
    column, row = ((boxes[:, :2] + boxes[:, 2:]) / 2 * cells).long().clamp(0, cells - 1).unbind(dim=1)
    cell = row * cells + column
    earlier = (cell[:, None] == cell).tril(-1)  # (G, G)
    return cell, ~earlier.any(dim=1)


class GridDetector(nn.Module):
    """S x S cells, each with one distribution over the classes and B boxes.

    Args:
        stages: of a network; the map of the last one has a stride of 32 pixels.
        classes: names, background first.
        cells: S; images are resized to 32 S pixels on both sides.
        boxes: B.
        hidden: channels of the layer before the last.
        seed: of the new layers.
    """

    def __init__(
        self,
        stages: BottomUp,
        classes: Sequence[str],
        cells: int = 7,
        boxes: int = 2,
        hidden: int = 256,
        seed: int = 0,
    ):
        super().__init__()
        self.classes, self.cells, self.boxes = checked_classes(classes), cells, boxes
        self.side = cells * stages.strides[-1]
        self.body, self.preprocess = stages, Preprocess()
        self.generator = torch.Generator().manual_seed(seed)
        layer = initialise(nn.Conv2d(stages.channels[-1], hidden, 3, padding=1), self.generator)
        self.head = nn.Sequential(layer, nn.ReLU(), nn.Conv2d(hidden, len(classes) - 1 + 5 * boxes, 1))
        self.head[2].weight.data = 0.01 * torch.randn(self.head[2].weight.shape, generator=self.generator)
        nn.init.zeros_(self.head[2].bias)

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None):
        """The losses `class`, `box` and `confidence` in training mode, else detections; as every detector's."""
        targets = check_targets(targets, images, self.classes) if self.training else ()
        size = (self.side, self.side)
        resized = [F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0] for image in images]
        predicted = self.head(self.body(self.preprocess(resized).tensor)[-1])  # (B, K + 5 B, S, S)
        k = len(self.classes) - 1
        classes, numbers = predicted.permute(0, 2, 3, 1).flatten(1, 2).split([k, 5 * self.boxes], dim=2)  # (B, S S, K)
        numbers = numbers.unflatten(2, (self.boxes, 5))  # (B, S S, B, 5): x, y, sqrt(w), sqrt(h), confidence
        sides = [image.new_tensor([image.shape[2], image.shape[1]] * 2) for image in images]  # pixels of each
        if self.training:
            parts = [
                self.losses(own, box, target["boxes"].to(own) / side, target["labels"])
                for own, box, target, side in zip(classes, numbers, targets, sides, strict=True)
            ]
            return {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
        scores = (classes[:, :, None] * numbers[..., 4:]).detach().flatten(1, 2)  # (B, S S B, K), section 2, equation 1
        boxes = [
            (self.corners(n) * side).detach().flatten(0, 1)[:, None] for n, side in zip(numbers, sides, strict=True)
        ]
        return select(list(scores), boxes, [image.shape[-2:] for image in images], 0.4, 0.02, 100)

    def corners(self, numbers: Tensor) -> Tensor:
        """The boxes (S S, B, 4) in [0, 1] of the image that the numbers (S S, B, 5) say."""
        cell = torch.arange(self.cells**2, device=numbers.device)
        corner = torch.stack((cell % self.cells, cell // self.cells), dim=1)[:, None]  # (S S, 1, 2)
        center, half = (corner + numbers[..., :2]) / self.cells, numbers[..., 2:4] ** 2 / 2
        return torch.cat((center - half, center + half), dim=-1)

    def losses(self, classes: Tensor, numbers: Tensor, objects: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The sum of squares of one image.

        Args:
            classes: (S S, K), numbers: (S S, B, 5), as predicted.
            objects: (G, 4) in [0, 1] of the image.
            labels: (G,) int64, 1 to K.
        Source: YOLO, section 2.2, equation 3.
        """
        cell, first = responsible_cells(objects, self.cells)
        cell, objects, labels = cell[first], objects[first], labels[first]
        found = clip_boxes_to_image(self.corners(numbers)[cell], (1, 1))  # (G, B, 4)
        overlap = box_iou(found.detach(), objects[:, None])[..., 0]  # (G, B)
        overlap, best = overlap.max(dim=1)  # which of a cell's boxes is to become the object
        own = numbers[cell, best]  # (G, 5)
        center, size = (objects[:, :2] + objects[:, 2:]) / 2, objects[:, 2:] - objects[:, :2]
        wanted = torch.cat((center * self.cells % 1, size.sqrt()), dim=1)  # (G, 4)
        empty = torch.ones_like(numbers[..., 4], dtype=torch.bool)
        empty[cell, best] = False
        confidence = (own[:, 4] - overlap).square().sum() + LAMBDA_NOOBJ * numbers[..., 4][empty].square().sum()
        return {
            "class": (classes[cell] - F.one_hot(labels - 1, classes.shape[1])).square().sum(),
            "box": LAMBDA_COORD * (own[:, :4] - wanted).square().sum(),
            "confidence": confidence,
        }
