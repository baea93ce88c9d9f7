"""The second stage dropped: an RPN that says which class instead of whether (FRCNN-35)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN
from rcnn_tutorial.detectors.select import select
from rcnn_tutorial.detectors.two_stage import to_input
from rcnn_tutorial.ops.assign import FOREGROUND, matched_boxes, sample
from rcnn_tutorial.ops.boxes import decode, encode
from rcnn_tutorial.ops.losses import multi_task_loss

CANDIDATES = 1000  # anchors per image that are classified in detection, as many as the RPN hands to NMS


class OneStage(FasterRCNN):
    """Faster R-CNN's body, anchors, labels and sampling; K + 1 scores for each anchor, and no head.

    Args: those of FasterRCNN, with a ConvNet.
    """

    def __init__(self, net: nn.Module, classes: Sequence[str], settings, seed: int = 0):
        super().__init__(net, classes, settings, seed=seed)
        del self.head
        old = self.rpn.head.score
        self.rpn.head.score = nn.Conv2d(old.in_channels, old.out_channels * len(classes), 1)
        self.rpn.head.score.weight.data = 0.01 * torch.randn(self.rpn.head.score.weight.shape, generator=self.generator)
        nn.init.zeros_(self.rpn.head.score.bias)

    def predict(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Class scores (B, N, K+1), offsets (B, N, 4) and anchors (N, 4) of the one map."""
        predictions = self.rpn(maps)
        return predictions.logits.unflatten(1, (-1, len(self.classes))), predictions.offsets, predictions.anchors

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None):
        """As TwoStage's, with the losses `class` and `box`."""
        batch, maps = self.maps(images)
        scores, offsets, anchors = self.predict(maps)
        if not self.training:
            return self.one_stage(batch, scores, offsets, anchors)
        targets = to_input(batch, targets)
        truth, state = self.rpn.label(anchors, [target["boxes"] for target in targets], batch.sizes)
        index, drawn = sample(state, self.settings.rpn.samples, self.settings.rpn.share, self.generator)
        chosen = torch.zeros_like(state, dtype=torch.bool).scatter(1, index, drawn)
        wanted, labels = [], []
        for i, target in enumerate(targets):
            positive = state[i, chosen[i]] == FOREGROUND
            reference = anchors[chosen[i]]
            matched = torch.where(positive, truth[i, chosen[i]], -1)[None]
            truths = matched_boxes([target["boxes"]], matched, reference[None])[0]
            wanted.append(encode(truths, reference, self.settings.weights))
            labels.append(torch.cat((target["labels"], target["labels"].new_zeros(1)))[matched[0]])
        return multi_task_loss(
            scores[chosen],
            offsets[chosen][:, None].expand(-1, len(self.classes) - 1, -1),
            torch.cat(labels),
            torch.cat(wanted),
            beta=self.settings.rpn.beta,
        )

    @torch.no_grad()
    def one_stage(self, batch, scores: Tensor, offsets: Tensor, anchors: Tensor) -> list[dict[str, Tensor]]:
        """Detections, pixels of the images."""
        settings, detections = self.settings, []
        for p, moves, size in zip(scores.softmax(dim=2)[..., 1:], offsets, batch.sizes, strict=True):  # (N, K), (N, 4)
            best = p.amax(dim=1).topk(min(CANDIDATES, len(p))).indices  # (M,)
            boxes = decode(moves[best], anchors[best], settings.weights)[:, None]  # (M, 1, 4)
            limits = settings.nms_threshold, settings.least_score, settings.detections
            detections += select([p[best]], [boxes], [size], *limits)
        shown = batch.to_original([detection["boxes"] for detection in detections])
        return [detection | {"boxes": boxes} for detection, boxes in zip(detections, shown, strict=True)]
