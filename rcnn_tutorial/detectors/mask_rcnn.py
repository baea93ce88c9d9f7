"""Mask R-CNN: a mask for every detection (He et al., ICCV 2017).

Faster R-CNN on a feature pyramid, and beside class and box a third branch: a small network of convolutions that
predicts a mask for each class.

    maps -> RPN -> proposals -+-> RoIAlign, 7 x 7 -> head ------+-> class scores
                              |                                 +-> box offsets, for each class
                              +-> RoIAlign, 14 x 14 -> mask head -> masks of 28 x 28, for each class

In training the branch sees the positive proposals alone, and learns from the mask of the true class. In detection it
comes last: it reads the maps at the boxes that the other two have decided, and of its masks the one of the detected
class is pasted into the picture.

What differs here: the RPN learns together with the rest, where the paper trained it before; and a cell at the border of
an object is to predict the share of it that the object covers, where the paper's code rounds the share to 0 or 1.

Rules that cost accuracy when they were broken: every cell of every class has a sigmoid of its own, and a softmax over
the classes loses half of the mask AP; RoI pooling, which rounds, reads features beside their pixels; masks are cut and
pasted by the middles of the pixels (`ops/masks.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models import ResNet

from rcnn_tutorial.compat import from_torchvision as from_torchvision
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.detectors.two_stage import Detections, Samples, Targets, given
from rcnn_tutorial.engine.checks import expect
from rcnn_tutorial.nets.backbones import ConvNet
from rcnn_tutorial.nets.fpn import BottomUp
from rcnn_tutorial.nets.heads import MaskHead
from rcnn_tutorial.nets.preprocess import Batch
from rcnn_tutorial.ops.boxes import Size
from rcnn_tutorial.ops.losses import mask_loss
from rcnn_tutorial.ops.masks import cut_masks, paste_masks
from rcnn_tutorial.ops.warp import IMAGENET_MEAN
from rcnn_tutorial.training import TrainSettings


@dataclass(frozen=True)
class MaskRCNNSettings(FPNSettings):
    """Settings of the detector; the defaults are the paper's with ResNet and FPN, or its released code's.

    Attributes: those of FPNSettings, and
        mask_head: its 3 x 3 convolutions, their channels, and m, cells along each side of a mask (section 3.1).

    With the anchors of torchvision come its masks, too: cut and pasted as its weights are used to (docs/equality.md).
    """

    # section 3.1: 8 GPUs of 2 images, and a weight decay of 1e-4
    training: TrainSettings = TrainSettings(160_000, batch_size=16, lr=0.02, milestones=(120_000,))
    mask_head: tuple[int, int, int] = (4, 256, 28)

    @classmethod
    def tiny(cls, steps: int = 600, **changes) -> Self:
        """The laptop's: FPN's, and a mask head of two layers of 32 channels for masks of 14 x 14."""
        return super().tiny(steps, **({"mask_head": (2, 32, 14)} | changes))


class MaskRCNN(FPN):
    """The detector, made of a classifier.

    Args:
        net, classes, settings, mean, std: as for FPN.
        seed: of the new layers, and of `generator`; an FPN of the same seed has the same weights but for the mask head,
            and draws the same mini-batches.
    Raises:
        ValueError: as FPN, or a mask of an odd number of cells.
    """

    name = "mask_rcnn"

    def __init__(
        self,
        net: ConvNet | ResNet | BottomUp,
        classes: Sequence[str],
        settings: MaskRCNNSettings | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] | None = None,
        seed: int = 0,
    ):
        settings = settings or MaskRCNNSettings()
        super().__init__(net, classes, settings, mean, std, seed)
        layers, channels, self.mask_size = settings.mask_head
        expect(self.mask_size % 2 == 0, "mask_head", "an even number of cells", self.mask_size)
        generator = torch.Generator().manual_seed(seed)
        self.mask_head = MaskHead(settings.channels, layers, channels, len(self.classes) - 1, generator)

    @property
    def aligned(self) -> bool:
        """Whether masks are cut and pasted by the middles of pixels; not so with torchvision's grid of anchors."""
        return self.settings.rpn.anchors != "torchvision"

    def roi_losses(self, batch: Batch, maps: Sequence[Tensor], samples: Samples, targets: Targets) -> dict[str, Tensor]:
        """Those of class and box, and `mask`, of the positive proposals among them."""
        losses = super().roi_losses(batch, maps, samples, targets)
        positive = samples.labels > 0  # (B, P)
        boxes = [own[chosen] for own, chosen in zip(samples.boxes.detach(), positive, strict=True)]  # waits for a GPU
        matched = [own[chosen] for own, chosen in zip(samples.matched, positive, strict=True)]
        wanted = self.mask_targets(boxes, matched, targets, batch.sizes)
        return losses | {"mask": mask_loss(self.mask_logits(maps, boxes), samples.labels[positive], wanted)}

    def mask_logits(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Masks of every class before the sigmoid, (R, K, m, m), for (R_i, 4) boxes of each image in the input."""
        return self.mask_head(self.pool(maps, boxes, self.mask_size // 2))

    def mask_targets(
        self, boxes: Sequence[Tensor], matched: Sequence[Tensor], targets: Targets, sizes: Sequence[Size]
    ) -> Tensor:
        """What the branch is to predict: (R, m, m), the masks of the matched objects within the boxes.

        Args:
            boxes: (R_i, 4) for each image, pixels of the input.
            matched: (R_i,) the object of each box.
            targets: `masks` (N_i, H, W) in pixels of the image; not needed where there is no object.
            sizes: height and width of each image in the input.
        Raises:
            ValueError: objects without masks.
        """
        parts = []
        for i, (rois, chosen, target, size) in enumerate(zip(boxes, matched, targets, sizes, strict=True)):
            known = "masks" in target or not len(target["boxes"])
            expect(known, f"targets[{i}]", "masks of its objects, which Mask R-CNN learns from", sorted(target))
            masks = target["masks"][chosen] if len(rois) else rois.new_zeros(0, *size)  # (R_i, H, W)
            if masks.shape[1:] != size:
                nearest = "nearest-exact" if self.aligned else "nearest"  # torchvision's: the upper left pixel
                masks = F.interpolate(masks[None].to(torch.uint8), size, mode=nearest)[0]
            parts.append(cut_masks(masks, rois, self.mask_size, self.aligned))
        return torch.cat(parts)

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Detections:
        """Detections of images, as FPN's, with their `masks` (D, 1, H, W) bool."""
        batch, maps = self.maps(images)
        boxes = self.propose(self.rpn(maps), batch) if proposals is None else given(batch, proposals)
        return self.add_masks(batch, maps, self.classify(batch, self.pool(maps, boxes), boxes))

    def add_masks(self, batch: Batch, maps: Sequence[Tensor], detections: Detections) -> Detections:
        """The detections, pixels of the image, with the masks of their classes: where the probability is above 0.5."""
        boxes, labels = ([detection[key] for detection in detections] for key in ("boxes", "labels"))
        logits = self.mask_logits(maps, batch.to_input(boxes))
        own = torch.cat(labels) - 1
        masks = logits[torch.arange(len(own), device=own.device), own].sigmoid()  # (D, K, m, m) -> (D, m, m)
        parts = zip(masks.split([len(part) for part in boxes]), boxes, batch.originals, strict=True)
        pasted = [paste_masks(*part, self.aligned)[:, None] for part in parts]  # (D_i, 1, H, W) each
        return [detection | {"masks": masks} for detection, masks in zip(detections, pasted, strict=True)]
