"""A small SSD: all maps of a network classify their own default boxes, in one stage (Liu et al., ECCV 2016).

    images -> C2 -> C3 -> C4 -> C5       each stage's map has boxes of its own size at every cell
               |     |     |     |       a 3 x 3 convolution says for each of them which class, and moves it
               +-----+-----+-----+--> class scores and offsets -> NMS

It is the hierarchy that FPN improves on: small objects are found on fine maps, which know little. Nearly all of
thousands of default boxes are background, so the loss takes three times as many negatives as positives, those that are
scored worst (section 2.2), where the RPN draws at random.

What is left out against the paper: the trunk is the laptop's and not VGG16, and has no stages beyond a stride of 32
pixels; ratios of 3 and 1/3; the normalisation of the finest map; augmentation by crops and by zooming out. A default
box that is some object's best answers for the object that it overlaps most itself, which is nearly always the same.
"""

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor, nn

from rcnn_tutorial.detectors.select import select
from rcnn_tutorial.detectors.two_stage import to_input
from rcnn_tutorial.engine.checks import checked_classes
from rcnn_tutorial.engine.targets import check_targets
from rcnn_tutorial.nets.fpn import BottomUp
from rcnn_tutorial.nets.preprocess import Preprocess
from rcnn_tutorial.ops.anchors import anchor_grid, exact_anchors
from rcnn_tutorial.ops.assign import FOREGROUND, UNUSED, match
from rcnn_tutorial.ops.boxes import Size, box_iou, decode, encode
from rcnn_tutorial.ops.losses import multi_task_loss

WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the offsets, one over the variances 0.1 and 0.2 of the released code
CANDIDATES = 400  # default boxes of an image that NMS looks at


def default_boxes(
    sizes: Sequence[Size], strides: Sequence[float], scales: Sequence[float], ratios: Sequence[Sequence[float]]
) -> Tensor:
    """Lay default boxes over several maps: one of each ratio, and a square between this map's scale and the next's.

    Args:
        sizes: height and width of each map, cells.
        strides: of each map, pixels.
        scales: square roots of the areas, pixels; one for each map and one more.
        ratios: height / width, of each map.
    Returns:
        (N, 4), pixels: map after map, row by row, the boxes of a cell together.
    Source: SSD, section 2.2, "Choosing scales and aspect ratios for default boxes".
    """
    maps = []
    for i, (size, stride, level) in enumerate(zip(sizes, strides, ratios, strict=True)):
        square = exact_anchors([sqrt(scales[i] * scales[i + 1])], [1.0], stride)
        maps.append(anchor_grid(torch.cat((exact_anchors([scales[i]], level, stride), square)), size, stride))
    return torch.cat(maps)


def hard_negatives(log_loss: Tensor, labels: Tensor, ratio: int = 3) -> Tensor:
    """Choose from the background of an image the boxes that are scored worst, so many for each positive one.

    Args:
        log_loss: (N,) of each box's label.
        labels: (N,) int64: 0 background, 1..K classes, -1 unused.
        ratio: negatives per positive.
    Returns:
        (N,) bool, the negatives chosen.
    Source: SSD, section 2.2, "Hard negative mining".
    """
    negative = labels == 0
    count = min(ratio * int((labels > 0).sum()), int(negative.sum()))
    worst = log_loss.detach().masked_fill(~negative, -1).topk(count).indices
    return torch.zeros_like(negative).index_fill(0, worst, True)


class SmallSSD(nn.Module):
    """One stage on the maps of a network.

    Args:
        stages: of a network.
        classes: names, background first.
        scales: of the default boxes, pixels; one for each map and one more.
        ratios: height / width of the default boxes.
        negatives: per positive.
        seed: of the new layers.
    """

    def __init__(
        self,
        stages: BottomUp,
        classes: Sequence[str],
        scales: Sequence[float] = (16, 32, 64, 112, 176),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        negatives: int = 3,
        seed: int = 0,
    ):
        super().__init__()
        self.classes, self.body, self.negatives = checked_classes(classes), stages, negatives
        self.scales, self.ratios = tuple(scales), [tuple(ratios)] * len(stages.strides)
        self.generator, self.preprocess = torch.Generator().manual_seed(seed), Preprocess()
        outputs = (len(ratios) + 1) * (len(classes) + 4)
        self.heads = nn.ModuleList(nn.Conv2d(width, outputs, 3, padding=1) for width in stages.channels)
        for head in self.heads:
            head.weight.data = 0.01 * torch.randn(head.weight.shape, generator=self.generator)
            nn.init.zeros_(head.bias)

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None):
        """The losses `class` and `box` in training mode, else detections; as every detector's."""
        targets = check_targets(targets, images, self.classes) if self.training else ()
        batch = self.preprocess(images)
        scores, offsets, boxes = self.predict(batch.tensor)
        x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).unbind(dim=1)
        on_image = torch.stack([(x < width) & (y < height) for height, width in batch.sizes])  # (B, N), not on padding
        if self.training:
            return self.losses(scores, offsets, boxes, on_image, to_input(batch, targets))
        probability = scores.detach().softmax(dim=2)[..., 1:] * on_image[..., None]  # (B, N, K)
        best = probability.amax(dim=2).topk(min(CANDIDATES, len(boxes))).indices  # (B, M)
        scores = [own[i] for own, i in zip(probability, best, strict=True)]
        moved = [decode(own[i], boxes[i], WEIGHTS)[:, None] for own, i in zip(offsets.detach(), best, strict=True)]
        found = select(scores, moved, batch.sizes, 0.45, 0.05, 100)
        shown = batch.to_original([detection["boxes"] for detection in found])
        return [detection | {"boxes": boxes} for detection, boxes in zip(found, shown, strict=True)]

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Class scores (B, N, K+1) and offsets (B, N, 4) of the default boxes (N, 4), pixels of the input."""
        maps = self.body(images)
        predicted = [head(features).permute(0, 2, 3, 1) for head, features in zip(self.heads, maps, strict=True)]
        predicted = [part.reshape(len(images), -1, len(self.classes) + 4) for part in predicted]  # (B, H W A, K+1+4)
        scores, offsets = torch.cat(predicted, dim=1).split([len(self.classes), 4], dim=2)
        sizes = [(features.shape[2], features.shape[3]) for features in maps]
        return scores, offsets, default_boxes(sizes, self.body.strides, self.scales, self.ratios).to(images)

    def losses(
        self, scores: Tensor, offsets: Tensor, boxes: Tensor, on_image: Tensor, targets: Sequence[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Log loss and smooth L1, divided by the number of positives (section 2.2, equation 1)."""
        labels, wanted = [], []
        for one, used, target in zip(scores, on_image, targets, strict=True):
            truth, state = match(box_iou(boxes, target["boxes"].to(boxes)), 0.5, (0.0, 0.5), allow_low_quality=True)
            state = torch.where(used, state, UNUSED)
            objects = torch.cat((target["boxes"].to(boxes), boxes[:1]))[truth]  # one more, where there is no object
            classes = torch.cat((target["labels"], truth.new_zeros(1)))[truth]
            label = torch.where(state == FOREGROUND, classes, state)  # 0 and -1 are labels, too
            log_loss = nn.functional.cross_entropy(one, label.clamp(min=0), reduction="none")
            chosen = (label > 0) | hard_negatives(log_loss, label, self.negatives)
            labels.append(label.masked_fill(~chosen, UNUSED))
            wanted.append(encode(torch.where((label > 0)[:, None], objects, boxes), boxes, WEIGHTS))
        label = torch.cat(labels)
        moves = offsets.flatten(0, 1)[:, None].expand(-1, len(self.classes) - 1, -1)  # (B N, K, 4), of all the same
        positives = max(1, int((label > 0).sum()))
        return multi_task_loss(scores.flatten(0, 1), moves, label, torch.cat(wanted), normalizer=positives)
