"""The mask branch's parts, each against its alternatives.

But for the last experiment, only the mask head learns, on the shipped FPN, whose weights stay as they are. So the maps,
the proposals and the detections are computed once for all variants of a seed, and what differs is the masks.
"""

from collections.abc import Sequence
from dataclasses import replace
from time import process_time
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from experiments.measure import THIRDS
from experiments.scenes import TEST, TRAIN, Experiment, device
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.data.masks import encode_masks
from rcnn_tutorial.data.transforms import Augment
from rcnn_tutorial.detectors import load
from rcnn_tutorial.detectors.fpn import FPN
from rcnn_tutorial.detectors.mask_rcnn import MaskRCNN, MaskRCNNSettings
from rcnn_tutorial.detectors.two_stage import draw_samples
from rcnn_tutorial.evaluation import coco_ap, predict, size_thirds
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.nets.preprocess import Batch
from rcnn_tutorial.ops.losses import mask_loss
from rcnn_tutorial.ops.pooling import roi_pool
from rcnn_tutorial.training import train
from rcnn_tutorial.training.settings import learning_rate

STEPS, RATE = 200, 0.2
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


def measured(found: Sequence[dict], targets: Sequence[dict], classes: Sequence[str]) -> dict:
    """AP of boxes, and of masks where there are some."""
    kinds = {"box": "bbox"}
    if "masks" in found[0]:
        kinds = {"mask": "segm"} | kinds
    values = {}
    for name, kind in kinds.items():
        ap = coco_ap(found, targets, classes, kind=kind)
        values |= {f"{name} {key}": round(ap[key], 4) for key in ("AP", "AP50", "AP75")}
        thirds = coco_ap(found, targets, classes, size_thirds(targets), kind=kind)
        values |= {f"{name} AP_{third}_third": round(thirds[f"AP_{size}"], 4) for third, size in THIRDS.items()}
    return values


class Seen(NamedTuple):
    """What the frozen detector makes of a picture, on the CPU."""

    batch: Batch
    maps: list[Tensor]  # (1, C, h, w) each
    proposals: Tensor  # (1, P, 4), those of the training
    found: dict[str, Tensor]
    target: dict[str, Tensor]


@torch.no_grad()
def seen(model: FPN, data: Subset) -> list[Seen]:
    """Let the frozen detector look at each picture once."""
    looked = []
    for index in range(len(data)):
        image, target = cast(tuple[Tensor, dict[str, Tensor]], data[index])
        batch, maps = model.maps([image.to(device())])
        boxes = model.propose(model.rpn(maps), batch)
        (found,) = model.classify(batch, model.pool(maps, boxes), boxes)
        looked.append(Seen(batch, maps, boxes, found, {key: value.to(device()) for key, value in target.items()}))
    return looked


class Lesson(NamedTuple):
    """What a mini-batch asks of the mask head."""

    pictures: list[int]
    boxes: list[Tensor]  # (R_i, 4) of each picture
    labels: Tensor  # (R,)
    targets: Tensor  # (R, m, m)


@torch.no_grad()
def lessons(model: MaskRCNN, pictures: Sequence[Seen]) -> list[Lesson]:
    """Draw all mini-batches of a training: they are the same for every kind of head."""
    plan, order, drawn = model.settings.training, [], []
    generator = torch.Generator().manual_seed(plan.seed)
    for _ in range(plan.steps):
        if len(order) < plan.batch_size:
            order += torch.randperm(len(pictures), generator=generator).tolist()
        chosen, order = order[: plan.batch_size], order[plan.batch_size :]
        boxes, labels, matched = [], [], []
        for each in (pictures[i] for i in chosen):
            samples = draw_samples(each.proposals, [each.target], each.batch.sizes, model.settings, model.generator)
            positive = samples.labels[0] > 0
            for kept, values in zip((boxes, labels, matched), samples, strict=True):
                kept.append(values[0][positive])
        some = [pictures[i] for i in chosen]
        targets = model.mask_targets(boxes, matched, [e.target for e in some], [e.batch.sizes[0] for e in some])
        drawn.append(Lesson(chosen, boxes, torch.cat(labels), targets))
    return drawn


def learn(model: MaskRCNN, pictures: Sequence[Seen], drawn: Sequence[Lesson]) -> None:
    """Train the mask head by the loss of the library, from what the frozen detector has seen."""
    plan, head = model.settings.training, model.mask_head
    optimizer = torch.optim.SGD(head.parameters(), plan.lr, plan.momentum, weight_decay=plan.weight_decay)
    for step, lesson in enumerate(drawn):
        maps = [torch.cat(level) for level in zip(*(pictures[i].maps for i in lesson.pictures), strict=True)]
        loss = mask_loss(model.mask_logits(maps, lesson.boxes), lesson.labels, lesson.targets)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, plan)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), plan.clip_norm)
        optimizer.step()


@torch.no_grad()
def masked(model: MaskRCNN, pictures: Sequence[Seen]) -> list[dict]:
    """The detections that were found, with this head's masks."""
    answers = []
    for each in pictures:
        (found,) = model.add_masks(each.batch, each.maps, [each.found])
        answers.append(found | {"masks": encode_masks(found["masks"])})
    return answers


def heads(seed: int, kinds: dict[str, type[MaskRCNN]]) -> dict[str, dict]:
    """Train the mask head of each kind on the shipped FPN."""
    fpn, results = cast(FPN, load("fpn")).to(device()), {}
    training, test = seen(fpn, scenes("train", seed * TRAIN, TRAIN)), seen(fpn, scenes("test", 0, TEST))
    targets = [each.target for each in test]
    chosen, drawn = MaskRCNNSettings.tiny(STEPS), []
    chosen = replace(chosen, training=replace(chosen.training, lr=RATE, seed=seed))
    for name, kind in kinds.items():
        model = kind(tiny_net(), fpn.classes, chosen, seed=seed).to(device())
        model.load_state_dict(fpn.state_dict(), strict=False)
        drawn = drawn or lessons(model, training)
        start = process_time()  # other users of the machine do not count
        learn(model, training, drawn)
        spent = {"seconds": round(process_time() - start, 1)}
        results[name] = measured(masked(model, test), targets, model.classes) | spent
    return results


def designs(seed: int) -> dict[str, dict]:
    """MASK-02, MASK-06: RoIAlign or RoI max pooling, by the level rule or from one map; sigmoid or softmax."""
    kinds: dict[str, type[MaskRCNN]] = {
        "RoIAlign": MaskRCNN,
        "RoI pooling": MaxPooled,
        "softmax": Competing,
        "RoIAlign, stride 8": OnStride8,
    }
    kinds |= {"RoI pooling, stride 8": MaxPooledOnStride8, "RoIAlign, stride 16": OnOneMap}
    return heads(seed, kinds | {"RoI pooling, stride 16": MaxPooledOnOneMap})


def branch(seed: int) -> dict[str, dict]:
    """MASK-01: all layers trained together, with the mask branch and without it."""
    results, chosen = {}, MaskRCNNSettings.tiny(TOGETHER)
    chosen = replace(chosen, training=replace(chosen.training, seed=seed))
    classes = cast(FPN, load("fpn")).classes
    for name, kind in {"with masks": MaskRCNN, "boxes alone": FPN}.items():
        model = kind(tiny_net(pretrained=True), classes, chosen, seed=seed).to(device())
        data = Augment(scenes("train", seed * TRAIN, TRAIN), seed=seed, jitter=0, scale=(1, 1))  # flips alone
        start = process_time()
        train(model, data, chosen.training, progress=False)
        spent = {"seconds": round(process_time() - start, 1)}
        results[name] = measured(*predict(model, scenes("test", 0, TEST), progress=False), classes) | spent
    return results


EXPERIMENTS = {
    "mask_heads": Experiment(
        "what the mask head reads and what it is asked", ("MASK-02", "MASK-06"), designs, SETTINGS
    ),
    "mask_branch": Experiment(
        "boxes with and without the mask branch",
        ("MASK-01",),
        branch,
        {"train": TRAIN, "test": TEST, "steps": TOGETHER},
    ),
}
