"""The mask branch's parts, each against its alternatives.

But for the last experiment, only the mask head learns, on the shipped FPN, whose weights stay as they are: so all
variants find the same boxes, and what differs is the masks.
"""

from collections.abc import Sequence
from dataclasses import replace
from time import process_time

import torch
from torch import Tensor
from torch.utils.data import Subset

from experiments.measure import THIRDS
from experiments.scenes import Experiment, device
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.data.transforms import Augment
from rcnn_tutorial.detectors import load
from rcnn_tutorial.detectors.fpn import FPN
from rcnn_tutorial.detectors.mask_rcnn import MaskRCNN, MaskRCNNSettings
from rcnn_tutorial.evaluation import coco_ap, predict, size_thirds
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.ops.pooling import roi_pool
from rcnn_tutorial.training import train

TRAIN, TEST, STEPS, RATE = 200, 150, 200, 0.2
TOGETHER = 400  # steps of all layers
SETTINGS = {"train": TRAIN, "test": TEST, "steps": STEPS, "rate": RATE}


class MaxPooled(MaskRCNN):
    """Its mask head reads rounded regions, by maxima; the box head reads what it was trained with (MASK-02)."""

    def pool_map(
        self, features: Tensor, rois: Tensor | Sequence[Tensor], stride: int, size: int | None = None
    ) -> Tensor:
        """As TwoStage's; only masks are pooled to a size of their own."""
        if size is None:
            return super().pool_map(features, rois, stride)
        return roi_pool(features, rois, size, 1 / stride)


class OnOneMap(MaskRCNN):
    """Its mask head reads all regions from one level, whatever their size (MASK-02)."""

    read = 2  # of the maps, P4

    def mask_logits(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """As MaskRCNN's."""
        pooled = self.pool_map(maps[self.read], list(boxes), self.strides[self.read], self.mask_size // 2)
        return self.mask_head(pooled)


class OnStride8(OnOneMap):
    """The same from P3."""

    read = 1


class MaxPooledOnOneMap(OnOneMap, MaxPooled):
    """Rounded regions of P4, with a stride of 16 pixels."""


class MaxPooledOnStride8(OnStride8, MaxPooled):
    """Rounded regions of P3, with a stride of 8 pixels."""


class Competing(MaskRCNN):
    """Its classes share each cell by a softmax, as in networks that name the class of every pixel (MASK-06)."""

    def mask_logits(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """The log odds of the softmax: their sigmoid is the share of each class."""
        logits = super().mask_logits(maps, boxes)  # (R, K, m, m)
        own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
        others = logits[:, None].masked_fill(own[:, :, None, None], -torch.inf)  # (R, K, K, m, m)
        return logits - others.logsumexp(dim=2)


def scenes(split: str, first: int, count: int) -> Subset:
    """Some scenes of a split, with their masks."""
    return Subset(load_dataset("shapes", split, masks=True), range(first, first + count))


def learnt(model: FPN, seed: int) -> dict:
    """Train a detector on the scenes of a seed, and measure it."""
    data = Augment(scenes("train", seed * TRAIN, TRAIN), seed=seed, jitter=0, scale=(1, 1))  # flips alone
    start = process_time()  # other users of the machine do not count
    train(model, data, model.settings.training, progress=False)
    return measured(model) | {"seconds": round(process_time() - start, 1)}


def measured(model: FPN) -> dict:
    """AP of boxes, and of masks where the detector has some, over the test scenes."""
    found, targets = predict(model, scenes("test", 0, TEST), progress=False)
    kinds = {"box": "bbox"} | ({"mask": "segm"} if isinstance(model, MaskRCNN) else {})
    values = {}
    for name, kind in reversed(kinds.items()):
        ap = coco_ap(found, targets, model.classes, kind=kind)
        values |= {f"{name} {key}": round(ap[key], 4) for key in ("AP", "AP50", "AP75")}
        thirds = coco_ap(found, targets, model.classes, size_thirds(targets), kind=kind)
        values |= {f"{name} AP_{third}_third": round(thirds[f"AP_{size}"], 4) for third, size in THIRDS.items()}
    return values


def heads(seed: int, kinds: dict[str, type[MaskRCNN]]) -> dict[str, dict]:
    """Train the mask head of each kind on the shipped FPN."""
    fpn, results = load("fpn"), {}
    chosen = MaskRCNNSettings.tiny(STEPS)
    chosen = replace(chosen, training=replace(chosen.training, lr=RATE, seed=seed))
    for name, kind in kinds.items():
        model = kind(tiny_net(), fpn.classes, chosen, seed=seed).to(device())
        model.load_state_dict(fpn.state_dict(), strict=False)
        model.requires_grad_(False).mask_head.requires_grad_(True)
        results[name] = learnt(model, seed)
    return results


def pooling(seed: int) -> dict[str, dict]:
    """MASK-02: RoIAlign against RoI max pooling, by the level rule and from one map."""
    kinds = {"RoIAlign": MaskRCNN, "RoI pooling": MaxPooled, "RoIAlign, stride 8": OnStride8}
    kinds |= {"RoI pooling, stride 8": MaxPooledOnStride8, "RoIAlign, stride 16": OnOneMap}
    return heads(seed, kinds | {"RoI pooling, stride 16": MaxPooledOnOneMap})


def competing(seed: int) -> dict[str, dict]:
    """MASK-06: a sigmoid for each class, or a softmax over the classes."""
    return heads(seed, {"sigmoid": MaskRCNN, "softmax": Competing})


def branch(seed: int) -> dict[str, dict]:
    """MASK-01: all layers trained together, with the mask branch and without it."""
    results, chosen = {}, MaskRCNNSettings.tiny(TOGETHER)
    chosen = replace(chosen, training=replace(chosen.training, seed=seed))
    classes = load("fpn").classes
    for name, kind in {"with masks": MaskRCNN, "boxes alone": FPN}.items():
        results[name] = learnt(kind(tiny_net(pretrained=True), classes, chosen, seed=seed).to(device()), seed)
    return results


EXPERIMENTS = {
    "mask_02": Experiment("what pools the features of masks", ("MASK-02",), pooling, SETTINGS),
    "mask_06": Experiment("a sigmoid for each class, or a softmax", ("MASK-06",), competing, SETTINGS),
    "mask_branch": Experiment(
        "boxes with and without the mask branch",
        ("MASK-01",),
        branch,
        {"train": TRAIN, "test": TEST, "steps": TOGETHER},
    ),
}
