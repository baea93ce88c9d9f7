"""The region proposal network: a small head slides over the maps and says of each anchor if and where an object is.

    maps -> 3 x 3 convolution -+-> objectness ---+
                               +-> offsets ------+-> decode, clip, best before NMS, NMS, best after -> proposals
    anchors ---------------------------------------+

Everything is in pixels of the network's input, batched over the images; maps are a list, of one for Faster R-CNN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rcnn_tutorial.ops.anchors import ANCHORS, anchor_grid, inside
from rcnn_tutorial.ops.assign import FOREGROUND, UNUSED, match, sample
from rcnn_tutorial.ops.boxes import box_iou, decode, encode
from rcnn_tutorial.ops.losses import count_drawn, smooth_l1
from rcnn_tutorial.ops.nms import batched_nms


@dataclass(frozen=True)
class RPNSettings:
    """Settings of the region proposal network; the defaults are the paper's, or its released code's where it is silent.

    Attributes:
        anchors: "exact" areas, or the rounded ones of "caffe" or "torchvision", the last with its strides (FRCNN-11).
        scales: square roots of the anchors' areas, pixels of the input; for several maps one tuple each.
        ratios: height / width.
        shared: one head for all maps, or one for each (FPN-11).
        two_way: two outputs for each anchor and a softmax, as published, or one and a sigmoid (FRCNN-03).
        foreground: IoU from which an anchor is positive (FRCNN-15).
        background: IoUs of negative anchors (FRCNN-17).
        inside: leave out of the training the anchors that cross the image's border (FRCNN-24).
        padding: use the anchors whose centre lies beyond the image too, on what pads it to the size of the batch, as
            torchvision does; otherwise an image's proposals do not depend on the others in the batch.
        samples: anchors in a mini-batch, per image (FRCNN-22).
        share: largest share of positives among them.
        by_locations: divide the box loss by the number of places on the maps, as published, or by the number of anchors
            drawn (FRCNN-19).
        box_weight: lambda (FRCNN-19).
        beta: of the smooth L1 loss.
        before_nms: best proposals per map that NMS looks at, in training and in detection (FRCNN-26).
        after_nms: best proposals of an image that remain, in training and in detection.
        nms_threshold: within a map (X-03).
        least_side: smaller proposals are dropped, pixels of the input.
    """

    anchors: str = "exact"
    scales: tuple = (128, 256, 512)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    shared: bool = True
    two_way: bool = True
    foreground: float = 0.7
    background: tuple[float, float] = (0.0, 0.3)
    inside: bool = True
    padding: bool = False
    samples: int = 256
    share: float = 0.5
    by_locations: bool = True
    box_weight: float = 10.0
    beta: float = 1.0
    before_nms: tuple[int, int] = (12_000, 6_000)
    after_nms: tuple[int, int] = (2_000, 300)
    nms_threshold: float = 0.7
    least_side: float = 16.0


class Predictions(NamedTuple):
    """What the network says of the N anchors of each of B images."""

    logits: Tensor  # (B, N) of "object"
    offsets: Tensor  # (B, N, 4) that move the anchor onto it
    anchors: Tensor  # (N, 4) pixels of the input
    counts: tuple[int, ...]  # anchors of each map


class Proposals(NamedTuple):
    """P proposals of each of B images, best first; where an image has fewer, rows of padding follow."""

    boxes: Tensor  # (B, P, 4) pixels of the input
    scores: Tensor  # (B, P) probability of an object; 0 for padding
    valid: Tensor  # (B, P) bool

    def unpad(self) -> list[Tensor]:
        """The boxes of each image, (P_i, 4)."""
        return [boxes[valid] for boxes, valid in zip(self.boxes, self.valid, strict=True)]


class AnchorSamples(NamedTuple):
    """S anchors of each of B images."""

    index: Tensor  # (B, S) int64, which anchors
    labels: Tensor  # (B, S) int64: 1 object, 0 background, -1 padding
    offsets: Tensor  # (B, S, 4) from the anchor to the object that it overlaps most; where it is none of one, 0


class RPNHead(nn.Module):
    """A 3 x 3 convolution and two siblings of 1 x 1 (FRCNN-02); the same weights at every place and on every map.

    Args:
        channels: of the maps, and of the layer between.
        anchors: A, at each place.
        two_way: 2 A scores, background first, or A.
        generator: of the initial weights.
    """

    def __init__(self, channels: int, anchors: int, two_way: bool, generator: torch.Generator | None = None):
        super().__init__()
        self.two_way = two_way
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.score = nn.Conv2d(channels, anchors * (1 + two_way), 1)
        self.offsets = nn.Conv2d(channels, anchors * 4, 1)
        for layer in (self.conv, self.score, self.offsets):
            layer.weight.data = 0.01 * torch.randn(layer.weight.shape, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What is said of every anchor.

        Args:
            maps: (B, C, H, W) each.
        Returns:
            (B, N) logits of "object", and offsets (B, N, 4), in the order of `anchor_grid`, map after map. Of two
            outputs the logit is their difference: its sigmoid is their softmax (FRCNN-03).
        """
        logits, offsets = [], []
        for each in maps:
            hidden = F.relu(self.conv(each))
            score = self.score(hidden)
            if self.two_way:
                background, thing = score.chunk(2, dim=1)
                score = thing - background
            logits.append(score.permute(0, 2, 3, 1).flatten(1))  # (B, A, H, W) -> (B, H W A)
            moved = self.offsets(hidden).unflatten(1, (-1, 4))  # (B, 4 A, H, W) -> (B, A, 4, H, W)
            offsets.append(moved.permute(0, 3, 4, 1, 2).flatten(1, 3))  # -> (B, H W A, 4)
        return torch.cat(logits, dim=1), torch.cat(offsets, dim=1)


class RPN(nn.Module):
    """The head, its anchors, and what is done with both.

    Args:
        channels: of the maps.
        strides: of each map, pixels.
        settings: of the network.
        generator: of the initial weights.
    Raises:
        ValueError: an unknown kind of anchors, or maps with different numbers of anchors at a place.
    """

    def __init__(
        self,
        channels: int,
        strides: Sequence[int],
        settings: RPNSettings | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.settings, self.strides = settings or RPNSettings(), tuple(strides)
        settings = self.settings
        if settings.anchors not in ANCHORS:
            raise ValueError(f"anchors: {settings.anchors!r}, expected one of {sorted(ANCHORS)}")
        scales = settings.scales if isinstance(settings.scales[0], Sequence) else (settings.scales,) * len(strides)
        if len(scales) != len(strides) or len({len(each) for each in scales}) != 1:
            raise ValueError(f"scales: expected as many for each of {len(strides)} maps, got {settings.scales}")
        make = ANCHORS[settings.anchors]
        self.cells = [make(each, settings.ratios, stride) for each, stride in zip(scales, strides, strict=True)]
        number = 1 if settings.shared else len(strides)
        heads = [RPNHead(channels, len(self.cells[0]), settings.two_way, generator) for _ in range(number)]
        self.head = heads[0] if settings.shared else nn.ModuleList(heads)

    def forward(self, maps: Sequence[Tensor]) -> Predictions:
        """What is said of every anchor of the maps (B, C, H, W); in float32 at least: bfloat16 counts to 256."""
        exact = torch.promote_types(maps[0].dtype, torch.float32)
        sizes = [tuple(each.shape[-2:]) for each in maps]
        strides: Sequence = self.strides
        if self.settings.anchors == "torchvision":  # the input's side over the map's, rounded down: 61 for 800 / 13
            strides = [tuple(n * self.strides[0] // m for n, m in zip(sizes[0], size, strict=True)) for size in sizes]
        grids = [anchor_grid(*each, exact, maps[0].device) for each in zip(self.cells, sizes, strides, strict=True)]
        if self.settings.shared:
            said = self.head(maps)
        else:
            parts = [head([each]) for head, each in zip(self.head, maps, strict=True)]
            said = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return Predictions(*(each.to(exact) for each in said), torch.cat(grids), tuple(map(len, grids)))

    def label(self, anchors: Tensor, boxes: Sequence[Tensor], sizes: Tensor) -> tuple[Tensor, Tensor]:
        """What each anchor is an example of.

        Args:
            anchors: (N, 4), pixels.
            boxes: (G_i, 4) objects of each image, pixels of the input.
            sizes: (B, 2) height and width of each image in the input, pixels.
        Returns:
            (B, N) int64: 1 object, 0 background, -1 neither; and (B, N, 4) the object that the anchor overlaps most.
        """
        settings = self.settings
        objects = pad_sequence([*boxes, boxes[0].new_zeros(1, 4)], batch_first=True)[:-1]  # (B, G, 4), G at least 1
        counts = torch.tensor([len(each) for each in boxes], device=anchors.device)
        real = torch.arange(objects.shape[1], device=anchors.device) < counts[:, None]  # (B, G)
        used = inside(anchors, sizes) if settings.inside else self._used(anchors, sizes)  # (B, N)
        # the few objects first: what is reduced over them then lies in rows as long as there are anchors
        iou = box_iou(objects.to(anchors), anchors).masked_fill(~(real[..., None] & used[:, None]), -1)  # (B, G, N)
        truth, state = match(iou.transpose(1, 2), settings.foreground, settings.background, rescue=True)
        state = state.masked_fill(~used, UNUSED)
        return state, objects.gather(1, truth[..., None].expand(-1, -1, 4))

    def sample(
        self, anchors: Tensor, boxes: Sequence[Tensor], sizes: Tensor, generator: torch.Generator | None = None
    ) -> AnchorSamples:
        """A mini-batch of anchors for each image: arguments as for `label`, and a generator of the CPU."""
        settings = self.settings
        state, truths = self.label(anchors, boxes, sizes)
        chosen = sample(state, settings.samples, settings.share, generator)
        count = min(settings.samples, state.shape[1])
        index = chosen.to(torch.uint8).topk(count, dim=1).indices  # chosen ones first
        labels = state.gather(1, index).masked_fill(~chosen.gather(1, index), UNUSED)
        reference = anchors[index]  # (B, S, 4)
        truths = truths.gather(1, index[..., None].expand(-1, -1, 4)).to(reference)
        truths = torch.where((labels == FOREGROUND)[..., None], truths, reference)
        return AnchorSamples(index, labels, encode(truths, reference))

    def losses(self, predictions: Predictions, samples: AnchorSamples) -> dict[str, Tensor]:
        """Log loss over the samples, and smooth L1 over the positive ones (FRCNN-18).

        Returns:
            "objectness" and "rpn_box", scalars, weights included. Both are divided by the number of anchors drawn, but
            the box loss with `by_locations` by the number of places.
        """
        settings = self.settings
        images, anchors = predictions.logits.shape
        logit = predictions.logits.gather(1, samples.index)
        offset = predictions.offsets.gather(1, samples.index[..., None].expand(-1, -1, 4))
        log_loss = F.binary_cross_entropy_with_logits(
            logit, samples.labels.clamp(min=0).to(logit), reduction="none"
        ) * (samples.labels != UNUSED)
        off = torch.where((samples.labels == FOREGROUND)[..., None], offset - samples.offsets, 0)
        drawn = count_drawn(samples.labels != UNUSED)
        divisor = images * anchors / len(self.cells[0]) if settings.by_locations else drawn
        box_loss = settings.box_weight * smooth_l1(off, settings.beta).sum() / divisor
        return {"objectness": log_loss.sum() / drawn, "rpn_box": box_loss}

    def propose(self, predictions: Predictions, sizes: Tensor) -> Proposals:
        """From what is said of the anchors to proposals.

        Args:
            predictions: of the maps. The boxes keep the gradient of their offsets, the scores none.
            sizes: (B, 2) height and width of each image in the input, pixels.
        Returns:
            At most `after_nms` per image, best first.
        Source: FRCNN-24, FRCNN-26.
        """
        settings, mode = self.settings, 0 if self.training else 1
        logits, offsets, anchors, counts = predictions
        logits = logits.detach().masked_fill(~self._used(anchors, sizes), -torch.inf)
        parts, first = [], 0
        for part in logits.split(counts, dim=1):
            parts.append(part.topk(min(settings.before_nms[mode], part.shape[1]), dim=1).indices + first)
            first += part.shape[1]
        best = torch.cat(parts, dim=1)  # (B, K)
        level = torch.cat([torch.full_like(part[0], i) for i, part in enumerate(parts)])
        scores = logits.gather(1, best).sigmoid()
        boxes = decode(offsets.gather(1, best[..., None].expand(-1, -1, 4)), anchors[best])
        limit = sizes.to(boxes)[:, None, [1, 0, 1, 0]]
        boxes = boxes.clamp(min=0).minimum(limit)  # (B, K, 4)
        large = ((boxes[..., 2:] - boxes[..., :2]) >= settings.least_side).all(dim=-1)
        large &= logits.gather(1, best) > -torch.inf

        # which boxes remain is not known before: here, and in NMS, a GPU is waited for
        row = large.flatten().nonzero()[:, 0]
        image = row // best.shape[1]
        group = image * len(parts) + level[row % best.shape[1]]
        candidates = boxes.flatten(0, 1)
        kept = row[batched_nms(candidates.detach()[row], scores.flatten()[row], group, settings.nms_threshold)]
        image, order = (kept // best.shape[1]).sort(stable=True)
        kept = kept[order]  # image after image, best first
        start = torch.searchsorted(image, torch.arange(len(boxes), device=boxes.device))
        place = torch.arange(len(kept), device=boxes.device) - start[image]
        few = place < settings.after_nms[mode]
        kept, image, place = kept[few], image[few], place[few]
        shape = len(boxes), min(settings.after_nms[mode], best.shape[1])
        found = boxes.new_zeros(*shape, 4).index_put((image, place), candidates[kept])
        valid = torch.zeros(shape, dtype=torch.bool, device=boxes.device).index_put(
            (image, place), large.new_tensor(True)
        )
        return Proposals(found, scores.new_zeros(shape).index_put((image, place), scores.flatten()[kept]), valid)

    def _used(self, anchors: Tensor, sizes: Tensor) -> Tensor:
        """(B, N) bool, which anchors count for which image."""
        if self.settings.padding:
            return anchors.new_ones(len(sizes), len(anchors), dtype=torch.bool)
        center = (anchors[:, :2] + anchors[:, 2:]) / 2
        return (center < sizes.to(anchors)[:, None, [1, 0]]).all(dim=-1)
