"""What notebook 06 does with masks around the detector: baselines, its training, pasting by other rules, its time."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil, floor
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from rcnn_tutorial.course import records
from rcnn_tutorial.course.draw.masks import dense
from rcnn_tutorial.course.profile import Laps
from rcnn_tutorial.course.records import by_variant
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.data.dataset import DetectionDataset
from rcnn_tutorial.data.masks import encode_masks
from rcnn_tutorial.detectors.fpn import FPN
from rcnn_tutorial.detectors.mask_rcnn import MaskRCNN, MaskRCNNSettings
from rcnn_tutorial.evaluation.resampling import student_interval
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.ops.losses import mask_loss
from rcnn_tutorial.ops.masks import cut_masks
from rcnn_tutorial.training import History, TrainSettings

RATE = 0.2  # of the mask head alone, which learns from a high rate best


def load_masked(name: str) -> list[DetectionDataset]:
    """Load the splits `train` and `test` of a data set with masks, or say that it has none and take the scenes instead.

    Args:
        name: as `load_dataset` takes it.
    """
    try:
        return [load_dataset(name, split, masks=True) for split in ("train", "test")]
    except ValueError as error:
        if "masks" not in str(error):
            raise
        print(f"{name} has boxes and no masks, so the masks of the generated scenes are learnt.")
        return [load_dataset("shapes", split, masks=True) for split in ("train", "test")]


def fill_shares(dataset: DetectionDataset, count: int) -> dict[str, list[float]]:
    """How much of its box each object fills, by class, in the first pictures of a data set."""
    shares: dict[str, list[float]] = {name: [] for name in dataset.classes[1:]}
    for _, target in (dataset[i] for i in range(count)):
        areas = (target["boxes"][:, 2:] - target["boxes"][:, :2]).prod(dim=1)
        filled = target["masks"].flatten(1).sum(dim=1) / areas
        for label, share in zip(target["labels"].tolist(), filled.tolist(), strict=True):
            shares[dataset.classes[label]].append(share)
    return shares


def boxes_as_masks(answers: Sequence[dict], sizes: Sequence[tuple[int, int]]) -> list[dict]:
    """Detections whose masks are all pixels of their boxes: what a detector without a mask branch can say.

    Args:
        answers: of each picture `boxes`, and what else a detection has.
        sizes: height and width of each picture.
    """
    filled = []
    for answer, (height, width) in zip(answers, sizes, strict=True):
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        x1, y1, x2, y2 = (side[:, None, None] for side in answer["boxes"].cpu().unbind(dim=1))
        inside = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)  # (N, H, W)
        filled.append(answer | {"masks": encode_masks(inside)})
    return filled


def with_mask_head(fpn: FPN, classes: Sequence[str], steps: int) -> tuple[MaskRCNN, TrainSettings]:
    """Put a new mask head on a trained FPN, to train it alone; for other classes than the FPN's all layers learn.

    Args:
        fpn: the laptop's, with its weights.
        classes: of the data, the background first.
        steps: of the training.
    Returns:
        the detector, on the FPN's device, and the settings of its training.
    """
    settings = MaskRCNNSettings.tiny(steps)
    model = MaskRCNN(tiny_net(pretrained=True), classes, settings).to(next(fpn.parameters()).device)
    if tuple(classes) != tuple(fpn.classes):
        return model.eval(), settings.training
    model.load_state_dict(fpn.state_dict(), strict=False)
    model.requires_grad_(False).mask_head.requires_grad_(True)
    return model.eval(), replace(settings.training, lr=RATE)


@torch.no_grad()
def stage_seconds(model: MaskRCNN, images: Sequence[Tensor]) -> dict[str, float]:
    """Measure how long each stage takes for a picture, on average."""
    lap = Laps()
    for image in images:
        batch, maps = model.maps([image])
        lap("pyramid")
        boxes = model.propose(model.rpn(maps), batch)
        lap("RPN")
        found = model.classify(batch, model.pool(maps, boxes), boxes)
        lap("class and box")
        model.add_masks(batch, maps, found)
        lap("masks")
    return {stage: seconds / len(images) for stage, seconds in lap.seconds.items()}


def worst_masks(
    answers: Sequence[dict], dataset: DetectionDataset, count: int = 3, room: int = 8
) -> list[tuple[Tensor, Tensor, Tensor, str]]:
    """Find the detections with a good box, whose masks are worst.

    Args:
        answers: of the first pictures of the data set.
        dataset: of (image, target) with masks.
        count: how many.
        room: pixels around the box that are shown.
    Returns:
        the worst first: a part of the picture, the true mask and the found one in it, and a title with its IoU. Their
        boxes have an IoU of at least 0.75 with an object of their class.
    """
    found = []
    for answer, (image, target) in zip(answers, (dataset[i] for i in range(len(answers))), strict=True):
        if not len(target["boxes"]):
            continue
        same = answer["labels"][:, None] == target["labels"]
        best, truth = torch.where(same, box_iou(answer["boxes"], target["boxes"]), 0.0).max(dim=1)
        masks = dense(answer["masks"], tuple(image.shape[1:]))
        for d in ((best >= 0.75) & (answer["scores"] >= 0.5)).nonzero().flatten().tolist():
            own, other = masks[d], target["masks"][truth[d]]
            share = (own & other).sum().item() / (own | other).sum().item()
            x1, y1, x2, y2 = target["boxes"][truth[d]].round().int().tolist()
            rows, columns = slice(max(y1 - room, 0), y2 + room), slice(max(x1 - room, 0), x2 + room)
            name = dataset.classes[int(answer["labels"][d])]
            title = f"{name}: IoU {share:.2f}, box {best[d]:.2f}"
            found.append((share, image[:, rows, columns], other[rows, columns], own[rows, columns], title))
    return [item[1:] for item in sorted(found, key=lambda item: item[0])[:count]]


def clear_picture(targets: Sequence[dict], least: int = 4, overlap: float = 0.01) -> int:
    """The number of the picture whose smallest object is largest, among those whose objects hardly overlap.

    Args:
        targets: `boxes` of each picture.
        least: so many objects a picture must have; if none has them, as many as the fullest one has.
        overlap: the IoU above which boxes overlap; if they do in all pictures, any picture may be taken.
    """
    enough = min(least, max(len(target["boxes"]) for target in targets))

    def order(i: int) -> tuple[bool, float]:
        boxes = targets[i]["boxes"]
        if not len(boxes):
            return False, 0.0
        crowded = box_iou(boxes, boxes).triu(diagonal=1).max() > overlap
        return bool(crowded), -(boxes[:, 2:] - boxes[:, :2]).prod(dim=1).min().item()

    return min((i for i, target in enumerate(targets) if len(target["boxes"]) >= enough), key=order)


def cut_beside(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut masks as `cut_masks` does, but as if the middle of pixel c lay at c: half a pixel beside the boxes."""
    return cut_masks(masks, boxes, size, aligned=False)


def cut_and_pasted(
    dataset: Dataset, count: int, ways: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]], m: int
) -> dict[str, list[float]]:
    """Cut the true masks and paste them back: the best that a network of m x m cells can do.

    As a detector's boxes are, those here lie between the pixels: each side is moved by up to half a pixel.

    Args:
        dataset: of (image, target) with masks.
        count: how many of its pictures.
        ways: for each name how masks are cut, as `cut_masks` does, and pasted, as `paste_masks` does.
        m: cells along each side.
    Returns:
        for each way the mean IoU of masks with what was pasted, of the small, middle and large third of the objects.
    """
    generator = torch.Generator().manual_seed(0)
    shares: dict[str, list[Tensor]] = {name: [] for name in ways}
    sides = []
    for _, target in (dataset[i] for i in range(count)):
        masks, boxes = target["masks"].cpu(), target["boxes"].cpu()
        sides.append((boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt())
        moved = boxes + torch.rand(boxes.shape, generator=generator) - 0.5
        for name, (cut, paste) in ways.items():
            pasted = paste(cut(masks, moved, m), moved, tuple(masks.shape[1:]))
            common, either = ((op(masks, pasted)).sum(dim=(1, 2)) for op in (torch.logical_and, torch.logical_or))
            shares[name].append(common / either)
    bounds = torch.cat(sides).quantile(torch.tensor([1 / 3, 2 / 3]))
    third = torch.bucketize(torch.cat(sides), bounds)
    return {name: [torch.cat(parts)[third == k].mean().item() for k in range(3)] for name, parts in shares.items()}


class Comparison(NamedTuple):
    """Two variants of a record, of which one is Mask R-CNN as published.

    Attributes:
        record: name of the experiment.
        variant, against: the published one and the changed one.
        metric: of both.
        told: what is compared, where the names of the variants do not tell it.
    """

    record: str
    variant: str
    against: str
    metric: str
    told: str = ""

    def values(self) -> tuple[list[float], list[float]]:
        """What both reach, seed by seed."""
        found = by_variant(records.load(self.record), self.metric)
        return found[self.variant], found[self.against]

    def gains(self) -> list[float]:
        """What the published variant reaches minus what the changed one reaches, seed by seed."""
        return [one - other for one, other in zip(*self.values(), strict=True)]

    def __str__(self) -> str:
        """The mean difference, and its 95 % interval if there are several seeds."""
        gains = self.gains()
        told = self.told or f"{self.variant} minus {self.against}"
        said = f"{self.metric}, {told}: {mean(gains):+.3f}"
        if len(gains) == 1:
            return f"{said}, one seed, which decides nothing"
        low, high = student_interval(mean(gains), stdev(gains), len(gains))
        return f"{said}, 95 % interval {low:+.3f} to {high:+.3f}, {len(gains)} seeds"


CHANGES = {
    "RoI pooling:\nmask AP": Comparison("mask_heads", "RoIAlign", "RoI pooling", "mask AP"),
    "RoI pooling:\nmask AP75": Comparison("mask_heads", "RoIAlign", "RoI pooling", "mask AP75"),
    "softmax:\nmask AP": Comparison("mask_heads", "RoIAlign", "softmax", "mask AP", "sigmoid minus softmax"),
    "no branch:\nbox AP": Comparison("mask_branch", "with masks", "boxes alone", "box AP"),
}
STRIDES = {
    name: Comparison(
        "mask_heads", f"RoIAlign{end}", f"RoI pooling{end}", "mask AP75", f"{name}: RoIAlign minus RoI pooling"
    )
    for name, end in {"level rule": "", "stride 8": ", stride 8", "stride 16": ", stride 16"}.items()
}


def usual(name: str, variant: str, metric: str) -> str:
    """The mean and the standard deviation of what the seeds of a record reach, and what each of them reaches."""
    found = by_variant(records.load(name), metric)[variant]
    seeds = " ".join(f"{value:.3f}" for value in found)
    return f"{mean(found):.3f} ± {stdev(found):.3f} (by seed {seeds})"


def on_masks(update: Callable[[History], None]) -> Callable[[History], None]:
    """For `train(on_log=...)`: show the loss of the masks alone, as the others do not learn.

    Args:
        update: what draws a history, such as `draw.live_losses()`.
    """
    return lambda history: update(replace(history, losses={"mask": history.losses["mask"]}))


def made(comparisons: dict[str, Comparison]) -> dict[str, Comparison]:
    """Those comparisons whose record has been made."""
    return {name: each for name, each in comparisons.items() if records.exists(each.record)}


def compared(comparisons: dict[str, Comparison], names: tuple[str, str]) -> dict[str, list[list[float]]]:
    """For `draw.by_size`: the values of the published variants and of the changed ones, under these two names."""
    pairs = [each.values() for each in comparisons.values()]
    return {name: [pair[which] for pair in pairs] for which, name in enumerate(names)}


def pool_row(numbers: Sequence[float], x1: float, x2: float, n: int, stride: int) -> list[float]:
    """Pool a region of one row by RoI pooling's rule (notebook 03), and give the middle of what each bin takes.

    Args:
        numbers: of the row, which rise or fall.
        x1, x2: borders of the region, pixels.
        n: bins.
        stride: pixels of a cell.
    """
    first, last = (floor(x / stride + 0.5) for x in (x1, x2))
    width, bins = last - first + 1, []
    for j in range(n):
        low, high = floor(j * width / n), ceil((j + 1) * width / n)  # high is exclusive
        bins.append((numbers[first + low] + numbers[first + high - 1]) / 2)
    return bins


def slid_regions(first: int, end: int, wide: int) -> tuple[Tensor, Tensor]:
    """Regions that begin at each whole pixel from `first` on: their left borders (S,), and the regions (S, 5)."""
    starts = torch.arange(float(first), float(end))
    regions = torch.stack([torch.tensor([0, x, 8, x + wide, 40]) for x in starts.tolist()])
    return starts, regions


def read_ramp(library: Any, rule: str, ramp: Tensor, regions: Tensor) -> Tensor:
    """Where two bins of each region look, by the operators of a library, (S, 2) pixels.

    Args:
        library: `rcnn_tutorial.ops.pooling` or `torchvision.ops`.
        rule: "RoI pooling" or "RoIAlign".
        ramp: (H, W), at a stride of 16 pixels.
        regions: (S, 5).
    """
    if rule == "RoIAlign":
        return library.roi_align(ramp[None, None], regions, 2, 1 / 16, 2)[:, 0, 0]
    largest, smallest = (sign * library.roi_pool(sign * ramp[None, None], regions, 2, 1 / 16) for sign in (1, -1))
    return ((largest + smallest) / 2)[:, 0, 0]


def copy_weights(source: nn.Module, to: nn.Module) -> None:
    """Give a network the weights of another one that has the same layers in the same order."""
    to.load_state_dict(dict(zip(to.state_dict(), source.state_dict().values(), strict=True)))


def loss_gradients(logits: Tensor, labels: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Take the gradient of the mask loss of one RoI, as it is and with a softmax over the classes in its place.

    Args:
        logits: (1, K, m, m).
        labels: (1,), from 1 to K.
        targets: (1, m, m).
    Returns:
        for "sigmoid" and "softmax" (K, m, m).
    """
    gradients = {}
    for name in ("sigmoid", "softmax"):
        leaf = logits.detach().clone().requires_grad_()
        odds = leaf if name == "sigmoid" else leaf.softmax(dim=1).clamp(1e-6, 1 - 1e-6).logit()
        mask_loss(odds, labels, targets).backward()
        gradients[name] = leaf.grad[0]  # pyright: ignore[reportOptionalSubscript]
    return gradients
