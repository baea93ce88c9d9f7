"""The second stage dropped: an RPN that says which class instead of whether (FRCNN-35)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN
from rcnn_tutorial.detectors.select import select
from rcnn_tutorial.detectors.two_stage import sizes_of, to_input
from rcnn_tutorial.ops.assign import FOREGROUND, sample
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
        said = self.rpn(maps)
        return said.logits.unflatten(1, (-1, len(self.classes))), said.offsets, said.anchors

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None):
        """As TwoStage's, with the losses `class` and `box`."""
        batch, maps = self.maps(images)
        scores, offsets, anchors = self.predict(maps)
        settings, sizes = self.settings.rpn, sizes_of(batch, anchors)
        if not self.training:
            return self.found(batch, scores, offsets, anchors, sizes)
        targets = to_input(batch, targets)
        state, truths = self.rpn.label(anchors, [target["boxes"] for target in targets], sizes)
        chosen = sample(state, settings.samples, settings.share, self.generator)
        image, anchor = chosen.nonzero().unbind(1)
        state, truths, reference = state[chosen], truths[chosen], anchors[anchor]
        objects, labels = (pad_sequence([t[name] for t in targets], batch_first=True) for name in ("boxes", "labels"))
        labels = torch.nn.functional.pad(labels, (1, 0))  # its first column is the background
        which = (objects[image] == truths[:, None]).all(dim=2)  # (S, G)
        which = torch.nn.functional.pad(which, (1, 0)).to(torch.int8).argmax(dim=1) * (state == FOREGROUND)
        truths = torch.where((state == FOREGROUND)[:, None], truths, reference)
        return multi_task_loss(
            scores[chosen],
            offsets[chosen][:, None].expand(-1, len(self.classes) - 1, -1),
            labels[image, which],
            encode(truths, reference, self.settings.weights),
            beta=settings.beta,
        )

    @torch.no_grad()
    def found(self, batch, scores: Tensor, offsets: Tensor, anchors: Tensor, sizes: Tensor) -> list[dict[str, Tensor]]:
        """Detections, pixels of the images."""
        settings, p = self.settings, scores.softmax(dim=2)[..., 1:]  # (B, N, K)
        best = p.amax(dim=2).topk(min(CANDIDATES, p.shape[1]), dim=1).indices  # (B, M)
        p = p.gather(1, best[..., None].expand(-1, -1, p.shape[2])).flatten(0, 1)
        boxes = decode(offsets.gather(1, best[..., None].expand(-1, -1, 4)), anchors[best], settings.weights)
        image = torch.arange(len(best)).repeat_interleave(best.shape[1])
        found = select(
            p, boxes.flatten(0, 1)[:, None], image, sizes, settings.nms_threshold, settings.least_score,
            settings.detections,
        )  # fmt: skip
        shown = batch.to_original([each["boxes"] for each in found])
        return [each | {"boxes": own} for each, own in zip(found, shown, strict=True)]
