"""The region proposal network: a small head slides over the maps and scores each anchor (Ren et al., NeurIPS 2015).

    maps -> 3 x 3 convolution -+-> objectness ---+
                               +-> offsets ------+-> the best, decode, clip, NMS -> proposals
    anchors ---------------------------------------+

The paper's network sees one map of VGG16 or ZF. At each of its cells it scores nine anchors, three scales times three
ratios, as "object" or "background", and predicts the four offsets that move the anchor onto the object. It is trained
on 256 anchors of an image, half of them positive where there are so many.

What differs here: each anchor has one score and a sigmoid, where the paper has two and a softmax. The two are the
same function, since a softmax of two numbers is the sigmoid of their difference. Both losses are divided by the number
of anchors drawn, as in the released code, where the paper divides the box loss by the number of cells and weighs it by
ten. Maps are a list, of one for Faster R-CNN and of five for a feature pyramid, and all of them share the head.

Rules that cost accuracy when they were broken: an object whose best anchor has an IoU below 0.7 needs that anchor as a
positive one; proposals are constants for the second stage; anchors on the padding of a batch must neither propose nor
train.

Everything is in pixels of the network's input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnn_tutorial.engine.checks import expect
from rcnn_tutorial.engine.devices import constant
from rcnn_tutorial.ops.anchors import ANCHORS, anchor_grid, inside
from rcnn_tutorial.ops.assign import FOREGROUND, UNUSED, Matches, match, matched_boxes, sample
from rcnn_tutorial.ops.boxes import Size, box_iou, clip_boxes_to_image, decode, encode
from rcnn_tutorial.ops.losses import count_drawn, smooth_l1
from rcnn_tutorial.ops.nms import nms_mask


@dataclass(frozen=True)
class RPNSettings:
    """Settings of the region proposal network; the defaults are Faster R-CNN's, or its released code's.

    Attributes:
        anchors: "exact" areas, or the rounded ones of "caffe" or "torchvision". torchvision's come with its strides,
            and are used on the padding of a smaller image, too; the others are not.
        scales: square roots of the anchors' areas, pixels of the input; for several maps one tuple each.
        ratios: height / width.
        foreground: IoU from which an anchor is positive (section 3.1.2).
        background: IoUs of negative anchors (section 3.1.2).
        inside: leave out of the training the anchors that cross the image's border (section 3.3).
        samples: anchors in a mini-batch, per image (section 3.1.3).
        share: largest share of positives among them.
        beta: of the smooth L1 loss.
        before_nms: best proposals per map that NMS looks at, in training and in detection.
        after_nms: best proposals of an image that remain, in training and in detection (section 3.3).
        nms_threshold: within a map (section 3.3).
        least_side: smaller proposals are dropped, pixels of the input.
    """

    anchors: str = "exact"
    scales: tuple = (128, 256, 512)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    foreground: float = 0.7
    background: tuple[float, float] = (0.0, 0.3)
    inside: bool = True
    samples: int = 256
    share: float = 0.5
    beta: float = 1.0
    before_nms: tuple[int, int] = (12_000, 6_000)
    after_nms: tuple[int, int] = (2_000, 300)
    nms_threshold: float = 0.7
    least_side: float = 16.0

    @classmethod
    def tiny(cls, *scales: float | tuple[float, ...]) -> "RPNSettings":
        """The laptop's: all anchors count in the training, and fewer proposals remain."""
        fewer: dict[str, Any] = {"before_nms": (1000, 1000), "after_nms": (300, 300), "least_side": 1.0}
        return cls(scales=scales, inside=False, beta=1 / 9, **fewer)


class Predictions(NamedTuple):
    """What the network predicts for the N anchors of each of B images."""

    logits: Tensor  # (B, N) of "object"; of a dense detector (B, N, K), of each class
    offsets: Tensor  # (B, N, 4) that move the anchor onto it
    anchors: Tensor  # (N, 4) pixels of the input
    counts: tuple[int, ...]  # anchors of each map


class Proposals(NamedTuple):
    """P proposals of each of B images, best first; where an image has fewer, rows of zeros follow."""

    boxes: Tensor  # (B, P, 4) pixels of the input
    scores: Tensor  # (B, P) probability of an object
    counts: Tensor  # (B,) int64, how many each image has

    def unpad(self) -> list[Tensor]:
        """The boxes of each image, (P_i, 4)."""
        return [boxes[:count] for boxes, count in zip(self.boxes, self.counts.tolist(), strict=True)]


class AnchorSamples(NamedTuple):
    """S anchors of each of B images."""

    chosen: Tensor  # (B, S) int64, which anchors
    labels: Tensor  # (B, S) int64: 1 object, 0 background, -1 padding
    matched: Tensor  # (B, S) int64, the object of a positive anchor among those of its image; elsewhere -1


class OnAnchors(nn.Module):
    """Anchors at every cell of several maps, and the rule that labels them: what the RPN and RetinaNet share.

    Who derives from it has a `head`: maps (B, C, H, W) to logits and offsets of their anchors, (B, N, ...) each.

    Args:
        strides: of each map, pixels.
        settings: `anchors`, `scales`, `ratios`, `foreground`, `background` and `inside`, as RPNSettings has them.
    Raises:
        ValueError: an unknown kind of anchors, or maps with different numbers of anchors at a place.
    """

    def __init__(self, strides: Sequence[int], settings: Any):
        super().__init__()
        self.settings, self.strides = settings, tuple(strides)
        expect(settings.anchors in ANCHORS, "anchors", f"one of {sorted(ANCHORS)}", repr(settings.anchors))
        scales = settings.scales if isinstance(settings.scales[0], Sequence) else (settings.scales,) * len(strides)
        good = len(scales) == len(strides) and len({len(level) for level in scales}) == 1
        expect(good, "scales", f"as many for each of {len(strides)} maps", settings.scales)
        make = ANCHORS[settings.anchors]
        self.cell_anchors = [make(level, settings.ratios, step) for level, step in zip(scales, strides, strict=True)]
        self.head: nn.Module
        self.cached: tuple = (None, [])  # sizes, type and device of the maps of the last call, and their anchors

    def forward(self, maps: Sequence[Tensor]) -> "Predictions":
        """Predictions for the anchors of the maps (B, C, H, W), in float32 at least."""
        exact = torch.promote_types(maps[0].dtype, torch.float32)
        sizes = [(features.shape[-2], features.shape[-1]) for features in maps]
        strides: Sequence[Any] = self.strides
        if self.settings.anchors == "torchvision":  # the side of the input over that of the map, rounded down
            strides = [tuple(n * self.strides[0] // m for n, m in zip(sizes[0], size, strict=True)) for size in sizes]
        key = sizes, exact, maps[0].device
        if key != self.cached[0]:
            parts = zip(self.cell_anchors, sizes, strides, strict=True)
            self.cached = key, [anchor_grid(*part, dtype=exact, device=maps[0].device) for part in parts]
        grids, (logits, offsets) = self.cached[1], self.head(maps)
        return Predictions(logits.to(exact), offsets.to(exact), torch.cat(grids), tuple(map(len, grids)))

    def label(self, anchors: Tensor, boxes: Sequence[Tensor], sizes: Sequence[Size]) -> Matches:
        """Decide what each anchor is an example of.

        Args:
            anchors: (N, 4), pixels.
            boxes: (G_i, 4) objects of each image, pixels of the input.
            sizes: height and width of each image in the input, pixels.
        Returns:
            `truth` (B, N), the object that the anchor overlaps most, as an index into the image's objects; `state`
            (B, N): 1 object, 0 background, -1 neither.
        """
        settings, matches = self.settings, []
        used = inside(anchors, constant(sizes, anchors)) if settings.inside else self.on_image(anchors, sizes)  # (B, N)
        for gt, unused in zip(boxes, ~used, strict=True):
            # (G, N) in memory, so that maxima over the few objects are fast; an anchor not used is no object's best
            iou = box_iou(gt.to(anchors), anchors).masked_fill(unused, -1)
            matches.append(match(iou.t(), settings.foreground, settings.background, allow_low_quality=True))
        truth, state = map(torch.stack, zip(*matches, strict=True))
        return Matches(truth, torch.where(used, state, UNUSED))

    def on_image(self, anchors: Tensor, sizes: Sequence[Size]) -> Tensor:
        """(B, N) bool, which anchors have their centre on the image and not on its padding; of torchvision's all."""
        if self.settings.anchors == "torchvision":
            return torch.ones(len(sizes), len(anchors), dtype=torch.bool, device=anchors.device)
        x, y = ((anchors[:, :2] + anchors[:, 2:]) / 2).unbind(dim=1)
        height, width = constant(sizes, anchors).split(1, dim=1)  # (B, 1) each
        return (x < width) & (y < height)


class RPNHead(nn.Module):
    """A 3 x 3 convolution and two siblings of 1 x 1; the same weights at every place and on every map.

    Args:
        channels: of the maps, and of the layer between.
        anchors: A, at each place.
        generator: of the initial weights.
    """

    def __init__(self, channels: int, anchors: int, generator: torch.Generator | None = None):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.score = nn.Conv2d(channels, anchors, 1)
        self.offsets = nn.Conv2d(channels, anchors * 4, 1)
        for layer in (self.conv, self.score, self.offsets):
            layer.weight.data = 0.01 * torch.randn(layer.weight.shape, generator=generator)
            layer.bias = nn.Parameter(torch.zeros(layer.out_channels))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Score every anchor of the maps and predict its offsets.

        Args:
            maps: (B, C, H, W) each.
        Returns:
            (B, N) logits of "object", and offsets (B, N, 4), in the order of `anchor_grid`, map after map.
        """
        logits, offsets = [], []
        for features in maps:
            hidden = F.relu(self.conv(features))
            logits.append(self.score(hidden).permute(0, 2, 3, 1).flatten(1))  # (B, A, H, W) -> (B, H W A)
            moves = self.offsets(hidden).unflatten(1, (-1, 4))  # (B, 4 A, H, W) -> (B, A, 4, H, W)
            offsets.append(moves.permute(0, 3, 4, 1, 2).flatten(1, 3))  # -> (B, H W A, 4)
        return torch.cat(logits, dim=1), torch.cat(offsets, dim=1)


class RPN(OnAnchors):
    """The head, its anchors, and the rules that label, draw and filter them.

    Args:
        channels: of the maps.
        strides: of each map, pixels.
        settings: of the network.
        generator: of the initial weights.
    Raises:
        ValueError: an unknown kind of anchors, or maps with different numbers of anchors at a place.
    """

    def __init__(
        self, channels: int, strides: Sequence[int], settings: RPNSettings, generator: torch.Generator | None = None
    ):
        super().__init__(strides, settings)
        self.head = RPNHead(channels, len(self.cell_anchors[0]), generator)

    def sample(
        self, anchors: Tensor, boxes: Sequence[Tensor], sizes: Sequence[Size], generator: torch.Generator | None = None
    ) -> AnchorSamples:
        """Draw a mini-batch of anchors for each image: arguments as for `label`, and a generator of the CPU."""
        truth, state = self.label(anchors, boxes, sizes)
        index, drawn = sample(state, self.settings.samples, self.settings.share, generator)  # (B, S)
        labels = state.gather(1, index).masked_fill(~drawn, UNUSED)
        return AnchorSamples(index, labels, truth.gather(1, index).masked_fill(labels != FOREGROUND, -1))

    def losses(self, predictions: Predictions, samples: AnchorSamples, boxes: Sequence[Tensor]) -> dict[str, Tensor]:
        """Log loss over the samples, and smooth L1 over the positive ones, both divided by the number drawn.

        Args:
            predictions: of the maps.
            samples: of its anchors.
            boxes: (G_i, 4) objects of each image, pixels of the input.
        Returns:
            "objectness" and "rpn_box", scalars.
        Source: Faster R-CNN, equation 1.
        """
        drawn = samples.labels != UNUSED
        count = count_drawn(drawn)
        logits = predictions.logits.gather(1, samples.chosen)  # (B, N) -> (B, S)
        labels = samples.labels.clamp(min=0).to(logits)
        log_loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="none") * drawn
        anchors = predictions.anchors[samples.chosen]  # (B, S, 4)
        wanted = encode(matched_boxes(boxes, samples.matched, anchors), anchors)
        offsets = predictions.offsets.gather(1, samples.chosen[..., None].expand(-1, -1, 4))
        off = torch.where((samples.labels == FOREGROUND)[..., None], offsets - wanted, 0)
        return {"objectness": log_loss.sum() / count, "rpn_box": smooth_l1(off, self.settings.beta).sum() / count}

    def propose(self, predictions: Predictions, sizes: Sequence[Size]) -> Proposals:
        """Turn the predictions into proposals: the best of each map, moved, clipped, and rid of those that overlap.

        Of anchors with equal logits `topk` takes any, in any order. So a GPU may propose others than a CPU among them,
        in half precision above all; what follows treats equal scores in their order, on every device alike.

        Args:
            predictions: of the maps. The boxes keep the gradient of their offsets, which `TwoStage.propose` cuts; the
                scores have none.
            sizes: height and width of each image in the input, pixels.
        Returns:
            At most `after_nms` per image, best first.
        Source: Faster R-CNN, section 3.3.
        """
        settings, mode, anchors = self.settings, 0 if self.training else 1, predictions.anchors
        before, after, counts = settings.before_nms[mode], settings.after_nms[mode], predictions.counts
        logits = torch.where(self.on_image(anchors, sizes), predictions.logits.detach(), -torch.inf)  # (B, N)
        tops = [part.topk(min(before, part.shape[1])).indices for part in logits.split(counts, dim=1)]
        starts = accumulate(counts[:-1], initial=0)  # where the anchors of each map begin
        best = torch.cat([top + start for top, start in zip(tops, starts, strict=True)], dim=1)  # (B, K) candidates
        offsets = predictions.offsets.gather(1, best[..., None].expand(-1, -1, 4))  # (B, K, 4)
        logits = logits.gather(1, best)  # (B, N) -> (B, K)
        boxes = decode(offsets, anchors[best])  # (B, K, 4)
        boxes = torch.stack([clip_boxes_to_image(part, size) for part, size in zip(boxes, sizes, strict=True)])
        large = ((boxes[..., 2:] - boxes[..., :2]) >= settings.least_side).all(dim=2)  # (B, K)
        # -1 marks what is no proposal, whatever the reason: it comes last, and so suppresses none
        scores = torch.where(large & (logits > -torch.inf), logits.sigmoid(), -1)
        level = torch.cat([torch.full((top.shape[1],), i) for i, top in enumerate(tops)])  # (K,)
        group = level + len(counts) * torch.arange(len(sizes))[:, None]  # (B, K): NMS is within a map of an image
        group = group.to(boxes.device, non_blocking=True).flatten()
        kept = nms_mask(boxes.detach().flatten(0, 1), scores.flatten(), group, settings.nms_threshold, most=after)
        scores = torch.where(kept.view_as(scores), scores, -1)
        first = scores.argsort(dim=1, descending=True, stable=True)[:, :after]  # (B, P), those of -1 as padding
        scores, boxes = scores.gather(1, first), boxes.gather(1, first[..., None].expand(-1, -1, 4))
        real = scores >= 0
        return Proposals(torch.where(real[..., None], boxes, 0), torch.where(real, scores, 0), real.sum(dim=1))
