"""What 03_fast_rcnn computes besides the lesson: operators compared, a mini-batch to look at, seconds by stage."""

from collections.abc import Callable, Sequence
from statistics import mean

import torch
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.course.pooling import boxes_from, slid_borders
from rcnn_tutorial.course.profile import Laps
from rcnn_tutorial.course.records import by_variant, load
from rcnn_tutorial.course.records.ladder import SHIPPED
from rcnn_tutorial.detectors.fast_rcnn import FastRCNN
from rcnn_tutorial.detectors.two_stage import Samples, TwoStage, draw_samples, given, to_input
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.ops.warp import warp
from rcnn_tutorial.proposals.selective_search import selective_search


def pool_alike(
    by_hand: Callable, pool: Callable, plane: Tensor, roi: Sequence[float], *options: int, atol: float = 0.0
) -> bool:
    """Ask whether a rule written by hand gives what an operator gives, on one RoI and on 50 more of a larger map.

    Args:
        by_hand: called as by_hand(map (H, W), RoI, n, stride); gives n x n numbers, alone or the first of several.
        pool: called as pool(maps (1, 1, H, W), RoIs (R, 5), n, 1 / stride, *options); gives (R, 1, n, n).
        plane: (H, W), pooled to 2 x 2 at a stride of 8.
        roi: x1, y1, x2, y2, pixels.
        options: more arguments of `pool`.
        atol: by how much numbers may differ.
    """
    generator = torch.Generator().manual_seed(0)
    large, boxes = torch.randn(24, 32, generator=generator).relu(), 85 * torch.rand(50, 4, generator=generator)
    boxes[:, 2:] += boxes[:, :2] + 8  # on the map, and not below a cell
    for own, box, n in [(plane, roi, 2), *((large, box, 4) for box in boxes.tolist())]:
        first = by_hand(own, box, n, 8)
        pooled = pool(own[None, None], torch.tensor([[0, *box]]), n, 1 / 8, *options)[0, 0]
        if not torch.allclose(first[0] if isinstance(first, tuple) else first, pooled, rtol=0, atol=atol):
            return False
    return True


def mini_batch(
    model: FastRCNN, pictures: Sequence[Tensor], targets: Sequence[dict[str, Tensor]]
) -> tuple[Samples, list[Tensor]]:
    """Draw the windows of one step of training.

    Returns:
        The windows drawn, and their boxes (P, 4) in pixels of each picture.
    """
    batch, _ = model.maps(pictures)
    windows = given(batch, [target["proposals"] for target in targets])
    samples = draw_samples(windows, to_input(batch, targets), batch.sizes, model.settings, model.generator)
    return samples, batch.to_original(samples.boxes)


def crops_by_kind(
    picture: Tensor, target: dict[str, Tensor], boxes: Tensor, labels: Tensor, most: int = 8
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Cut the first foreground and the first background windows of a picture out of it, and say their IoU.

    Args:
        picture: (3, H, W).
        target: its `boxes` (M, 4).
        boxes, labels: (P, 4) and (P,) of the windows drawn; 0 is background, and -1 no window.
        most: crops of each kind.
    Returns:
        For each kind, with its number, the crops (n, 3, 64, 64), and the largest IoU of each with an object.
    """
    sheet, ious = {}, {}
    for kind, chosen in {"foreground": labels > 0, "background": labels == 0}.items():
        own = boxes[chosen]
        overlaps = box_iou(own[:most], target["boxes"]).amax(dim=1).tolist()
        sheet[name := f"{len(own)} {kind}"] = warp(picture, own[:most], 64, 0)
        ious[name] = [f"IoU {iou:.2f}" for iou in overlaps]
    return sheet, ious


@torch.no_grad()
def stage_seconds(model: FastRCNN, image: Tensor) -> dict[str, float]:
    """Detect on one picture stage by stage, its proposals too, and time each stage."""
    lap = Laps()
    proposals = selective_search(image, top=200)
    lap("proposals")
    batch, maps = model.maps([image])
    lap("convolutions")
    pooled = model.pool(maps, given(batch, [proposals]))
    lap("pooling")
    model.head(pooled)
    lap("fully connected")
    return lap.seconds


def most_probable(
    answers: Sequence[dict[str, Tensor]], count: int | None = None, least: float = 0.0
) -> list[dict[str, Tensor]]:
    """Keep of each picture's detections, which come by falling score, the first `count` with a score of `least`."""
    return [{key: value[answer["scores"] >= least][:count] for key, value in answer.items()} for answer in answers]


@torch.no_grad()
def foreground_iou(model: FastRCNN, data: Dataset, least: float = 0.5) -> tuple[float, float]:
    """The mean IoU of foreground windows with their objects, before and after the offsets of the object's class.

    Args:
        model: trained or not.
        data: gives (image, target) with `proposals`.
        least: IoU of a foreground window.
    """
    model.eval()
    before, after = [], []
    for index in range(len(data)):
        image, target = data[index]
        if not len(target["boxes"]) or not len(target["proposals"]):
            continue
        iou, nearest = box_iou(target["proposals"], target["boxes"]).max(dim=1)
        windows, nearest = target["proposals"][iou >= least], nearest[iou >= least]
        if len(windows):
            moved = boxes_from(model, image, windows, target["labels"][nearest])
            before += iou[iou >= least].tolist()
            after += box_iou(moved, target["boxes"][nearest]).diagonal().tolist()
    return mean(before), mean(after)


def side_by_side(names: Sequence[str]) -> list[str]:
    """What records say of some detectors, a line for each measure: accuracy after equal steps, after equal seconds,
    and of the detectors that come with the package; seconds of training, and milliseconds per image.
    """
    steps, seconds = load("fast_24"), load("ladder_shapes")
    rows = {f"{steps['settings']['steps']} steps, {metric}": (steps, metric) for metric in ("AP50", "AP75")}
    rows |= {f"equal seconds, {metric}": (seconds, metric) for metric in ("AP50", "AP75")}
    table = {title: [f"{mean(by_variant(*of)[name]):.2f}" for name in names] for title, of in rows.items()}
    for title, metric in (("these seconds", "seconds"), ("milliseconds an image", "milliseconds")):
        table[title] = [f"{mean(by_variant(seconds, metric)[name]):.0f}" for name in names]
    parts = [load(record)["test"][part] for record, part in (SHIPPED[name] for name in names)]
    table |= {f"1,000 scenes, {metric}": [f"{part[metric]:.3f}" for part in parts] for metric in ("AP50", "AP75")}
    lines = {"": list(names)} | table
    return [f"{title:22}" + "".join(f"{cell:>12}" for cell in cells) for title, cells in lines.items()]


def more_of_each_kind(before: Sequence[dict[str, int]], after: Sequence[dict[str, int]]) -> dict[str, int]:
    """How many more detections of each kind there are after than before, as the mean over trainings of equal seeds."""
    pairs = list(zip(before, after, strict=True))
    kinds = [kind for kind in before[0] if kind != "correct"]
    return {kind: round(sum(b[kind] - a[kind] for a, b in pairs) / len(pairs)) for kind in kinds}


@torch.no_grad()
def median_jumps(detectors: Sequence[TwoStage], data: Dataset, images: Sequence[int], shifts: Tensor) -> list[float]:
    """Slide a window over each object of some pictures, and take the largest step of the left border found from it.

    Returns:
        For each detector the median over all objects, pixels.
    """
    largest = []
    for index in images:
        errors = torch.stack([slid_borders(each, *data[index], shifts) for each in detectors])  # (detectors, M, S)
        largest.append(errors.diff().abs().amax(dim=2))
    return torch.cat(largest, dim=1).median(dim=1).values.tolist()
