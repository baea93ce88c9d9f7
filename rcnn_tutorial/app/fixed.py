"""FPN's inference with shapes that are known beforehand, which is what `torch.export` and ONNX can hold.

The detector itself keeps as many boxes as there are: what NMS leaves, and which map a region is read from, decides the
shapes of all that follows. Here every step has room for the most there can be, what is no box has the score 0, and
nothing is decided by looking at values. One picture of one size goes through.

- Of each map the best anchors are taken, as in `RPN.propose`, and proposals that are dropped stay as rows of zeros.
- NMS is the greedy rule as a loop that has no branch: the best box comes first, and a box stays if none that stays
  suppresses it.
- RoIAlign reads all maps as one long table of cells, so that every region reads its own map by an index.
- NMS within a class sees the best `candidates` scores. If more than these are above the least score, the worst of the
  detections may differ from the detector's.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnn_tutorial.detectors.fpn import FPN
from rcnn_tutorial.detectors.two_stage import LEAST_DETECTION
from rcnn_tutorial.engine.checks import expect
from rcnn_tutorial.nets.fpn import level_of, roi_levels
from rcnn_tutorial.ops.boxes import Size, clip_boxes_to_image, decode


class Network(nn.Module):
    """The part of an FPN that every picture passes alike: from the picture to what the RPN says of every anchor.

    Args:
        model: the detector.
        size: height and width of the pictures, pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: FPN, size: Size):
        super().__init__()
        self.body, self.head = model.body, model.rpn.head
        preprocess = model.preprocess
        self.original, self.size = size, preprocess.new_size(size)
        self.padding = tuple(-side % preprocess.divisor for side in self.size)  # below, and on the right
        for name, values in (("mean", preprocess.mean), ("std", preprocess.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """A picture (3, H, W), RGB in [0, 1], to logits (N,) and offsets (N, 4) of all anchors, then P2 to P6."""
        pixels = ((image - self.mean) / self.std)[None]
        if self.size != self.original:
            pixels = F.interpolate(pixels, size=self.size, mode="bilinear", align_corners=False)
        below, right = self.padding
        maps = self.body(F.pad(pixels, (0, right, 0, below)))
        logits, offsets = self.head(maps)
        return logits[0], offsets[0], *maps


class FixedFPN(nn.Module):
    """An FPN for pictures of one size, whose every shape is known beforehand.

    Args:
        model: the detector; its weights are shared.
        size: height and width of the pictures, pixels.
        candidates: the most scored boxes that NMS within the classes sees.
    Raises:
        ValueError: another detector, or one that reads its regions by RoI pooling.
    """

    anchors: Tensor  # (N, 4) of all maps
    on_image: Tensor  # (N,) bool, which of them count
    table: Tensor  # (maps, 4) int64, of each map its first cell, its height and width, and its stride
    to_original: Tensor  # (4,) what brings a box back to pixels of the picture given

    def __init__(self, model: FPN, size: Size, candidates: int = 1000):
        super().__init__()
        kind = getattr(model, "name", type(model).__name__)
        expect(kind == "fpn", "model", "an FPN, the one detector that is exported whole", kind)
        ratio = model.settings.sampling_ratio
        expect(bool(ratio and ratio > 0), "model", "RoIAlign with a fixed number of points (sampling_ratio)", ratio)
        self.settings, self.candidates = model.settings, candidates
        self.bins, self.strides = model.output_size, model.head_strides
        self.network, self.box_head = Network(model, size), model.head
        self.size, self.original = self.network.size, size
        with torch.no_grad():
            _, _, *maps = self.network(torch.zeros(3, *size))
            predictions = model.rpn(maps)
        self.counts = predictions.counts
        self.register_buffer("anchors", predictions.anchors)
        self.register_buffer("on_image", model.rpn.on_image(predictions.anchors, [self.size])[0])
        table, first = [], 0
        for features, stride in zip(maps, self.strides, strict=False):  # P6 is for the RPN alone
            height, width = features.shape[-2:]
            table.append((first, height, width, stride))
            first += height * width
        self.register_buffer("table", torch.tensor(table))
        scale = [own / used for used, own in zip(reversed(self.size), reversed(size), strict=True)] * 2
        self.register_buffer("to_original", torch.tensor(scale))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A picture (3, H, W), RGB in [0, 1], to boxes (D, 4), labels (D,) and scores (D,), best first.

        Rows of score 0 are no detections.
        """
        logits, offsets, *maps = self.network(image)
        proposals = self.propose(logits, offsets)
        scores, moves = self.box_head(self.pool(maps, proposals))
        scores = scores.softmax(dim=1)[:, 1:]  # (P, K)
        boxes = decode(moves, proposals[:, None], self.settings.weights)  # (P, K, 4)
        return self.select(scores, clip_boxes_to_image(boxes, self.size))

    def propose(self, logits: Tensor, offsets: Tensor) -> Tensor:
        """The RPN's proposals (P, 4), best first, rows of zeros where there are fewer."""
        rpn, before, after = self.settings.rpn, self.settings.rpn.before_nms[1], self.settings.rpn.after_nms[1]
        logits = logits.masked_fill(~self.on_image, -torch.inf)
        all_boxes, all_scores = [], []
        parts = (values.split(self.counts) for values in (logits, offsets, self.anchors))
        for logit, offset, anchors in zip(*parts, strict=True):
            best, index = best_of(logit, before)
            boxes = clip_boxes_to_image(decode(offset[index], anchors[index]), self.size)
            large = ((boxes[:, 2:] - boxes[:, :2]) >= rpn.least_side).all(dim=1)
            real = large & (best > -torch.inf)
            kept = greedy((overlaps(boxes) > rpn.nms_threshold) & real[:, None])
            all_boxes.append(boxes)
            all_scores.append(torch.where(real & kept, best.sigmoid(), -1.0))
        scores, order = best_of(torch.cat(all_scores), after)
        return torch.cat(all_boxes)[order] * (scores >= 0)[:, None]

    def pool(self, maps: list[Tensor], boxes: Tensor) -> Tensor:
        """RoIAlign of boxes (P, 4), each on its map, to (P, C, n, n)."""
        first, last = level_of(self.strides[0]), level_of(self.strides[-1])
        level = roi_levels(boxes, first, last, s0=self.settings.s0) - first  # (P,)
        start, height, width, stride = self.table[level].unbind(dim=1)
        cells = torch.cat([features[0].flatten(1) for features in maps[: len(self.strides)]], dim=1).t()  # (M, C)
        low = boxes[:, :2] / stride[:, None]
        side = (boxes[:, 2:] / stride[:, None] - low).clamp(min=1)
        n, points = self.bins, int(self.settings.sampling_ratio)
        x, weight_x = axis(low[:, 0], side[:, 0], n, points, width)  # (P, n, 2 points)
        y, weight_y = axis(low[:, 1], side[:, 1], n, points, height)
        rows = start[:, None, None] + y * width[:, None, None]
        pooled = cells.new_zeros(len(boxes), n, n, cells.shape[1])
        for i in range(2 * points):
            for j in range(2 * points):
                index = rows[:, :, None, i] + x[:, None, :, j]  # (P, n, n)
                pooled = pooled + cells[index] * (weight_y[:, :, None, i] * weight_x[:, None, :, j])[..., None]
        return pooled.permute(0, 3, 1, 2)

    def select(self, scores: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best detections of scores (P, K) and boxes (P, K, 4), pixels of the input."""
        settings, classes = self.settings, scores.shape[1]
        sides = (boxes[..., 2:] - boxes[..., :2]).amin(dim=-1)
        good = (scores > settings.least_score) & (sides >= LEAST_DETECTION)
        scores = torch.where(good, scores, 0.0).flatten()  # (P K,)
        scores, index = best_of(scores, self.candidates)
        boxes, label = boxes.flatten(0, 1)[index], index % classes
        over = (overlaps(boxes) > settings.nms_threshold) & (label[:, None] == label) & (scores > 0)[:, None]
        scores, order = best_of(scores.masked_fill(~greedy(over), 0.0), settings.detections)
        real = scores > 0
        return boxes[order] * self.to_original * real[:, None], (label[order] + 1) * real, scores


def best_of(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best so many of N scores and their places, or all where there are fewer, best first.

    ONNX has no stable sort, but the operator that this becomes takes the first of equal scores.
    """
    return scores.topk(min(count, len(scores)))


def overlaps(boxes: Tensor) -> Tensor:
    """IoU of boxes (N, 4) with each other, (N, N); NaN for two without area."""
    x1, y1, x2, y2 = boxes.unbind(dim=1)  # apart, since an axis of two numbers is slow to go along
    width = (torch.minimum(x2[:, None], x2) - torch.maximum(x1[:, None], x1)).clamp(min=0)
    height = (torch.minimum(y2[:, None], y2) - torch.maximum(y1[:, None], y1)).clamp(min=0)
    inter, area = width * height, (x2 - x1) * (y2 - y1)
    return inter / (area[:, None] + area - inter)


def greedy(over: Tensor) -> Tensor:
    """Which of N boxes, sorted by descending score, NMS keeps, of who overlaps whom too much (N, N): (N,) bool.

    A box stays if no better one that stays overlaps it. Starting from "all stay", each round decides at least one more
    box for good, and mostly all that hang on it; the loop ends when a round changes nothing.
    """
    better = torch.triu(over, diagonal=1).float()  # (i, j): i is better and overlaps j

    def changes(kept: Tensor, before: Tensor) -> Tensor:
        return (kept != before).any()

    def round_of(kept: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        return (kept @ better < 0.5).float(), kept.clone()

    kept = better.new_ones(len(better))
    kept, _ = torch.while_loop(changes, round_of, (kept, -kept))
    return kept > 0.5


def axis(start: Tensor, side: Tensor, bins: int, points: int, limit: Tensor) -> tuple[Tensor, Tensor]:
    """The cells (P, n, 2 points) that the bins of regions read on an axis, and their weights in the bins' means."""
    length = (side / bins)[:, None, None]
    i = torch.arange(bins, dtype=start.dtype, device=start.device)[:, None]
    k = torch.arange(points, dtype=start.dtype, device=start.device)
    at = start[:, None, None] + i * length + (k + 0.5) * length / points  # (P, n, points)
    limit = limit[:, None, None]
    inside = (at >= -1) & (at <= limit)
    at = torch.minimum(at.clamp(min=0), (limit - 1).to(at.dtype))
    low = at.long()
    share = at - low
    cells = torch.stack((low, torch.minimum(low + 1, limit - 1)), dim=-1)
    weights = torch.stack((1 - share, share), dim=-1) * (inside.to(at.dtype) / points)[..., None]
    return cells.flatten(2), weights.flatten(2)


def detections(outputs: Any) -> dict[str, Tensor]:
    """What the detector itself would give, of the outputs of the exported one: rows of score 0 are left out."""
    boxes, labels, scores = (torch.as_tensor(part) for part in outputs)
    real = scores > 0
    return {"boxes": boxes[real], "labels": labels[real], "scores": scores[real]}
