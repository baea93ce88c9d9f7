"""What 01_rcnn computes besides the lesson: examples for the eye, data with proposals, and measurements."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.course.records import by_variant
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.data.wrappers import at_most
from rcnn_tutorial.detectors.rcnn import RCNN
from rcnn_tutorial.detectors.rcnn_windows import WindowFeatures, Windows
from rcnn_tutorial.detectors.svm import Pass
from rcnn_tutorial.evaluation import recall
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.proposals.grouping import grouping_steps, labels_at
from rcnn_tutorial.proposals.regions import Regions, convert, describe, pixel_bins, segment, touching
from rcnn_tutorial.proposals.selective_search import selective_search
from rcnn_tutorial.proposals.windows import random_boxes, sliding_windows

ROWS = ("AAAABBBB", "AAAABBBB", "AACCBBBB", "AACCDDDD", "AACCDDDD", "AACCDEEE")
# of the three channels of two colours, those are equal whose pixels fall into one bin of the histogram
PALETTE = ((0.9, 0.5, 0.1), (0.9, 0.7, 0.1), (0.1, 0.5, 0.1), (0.1, 0.7, 0.9), (0.1, 0.5, 0.9))


def five_regions() -> tuple[Tensor, Tensor, dict[str, Regions], list[tuple[str, str]]]:
    """Give a picture of 8 x 6 pixels in five flat colours, cut into its regions A to E.

    Returns:
        The picture (3, 6, 8); the number 0 to 4 of the region of each pixel (6, 8); what `describe` says of each region
        by its letter; and the pairs of letters whose regions touch.
    """
    labels = torch.tensor([["ABCDE".index(letter) for letter in row] for row in ROWS])
    picture = torch.tensor(PALETTE)[labels].permute(2, 0, 1)
    rows = zip(*describe(labels, pixel_bins(picture)), strict=True)
    regions = {letter: Regions(*row) for letter, row in zip("ABCDE", rows, strict=True)}
    pairs = [("ABCDE"[a], "ABCDE"[b]) for a, b in touching(labels).tolist()]
    return picture, labels, regions, pairs


def moments(image: Tensor, counts: Sequence[int]) -> list[tuple[Tensor, int]]:
    """Group a picture as the fast mode of selective search does first, and keep some moments of it.

    Args:
        image: (3, H, W) in [0, 1].
        counts: how many regions are left at each moment; one that exceeds the initial regions means all of them.
    Returns:
        For each moment the region of each pixel (H, W) int64, and how many regions there are.
    """
    converted = convert(image, "hsv")
    labels = segment(converted, scale=100, min_size=50, sigma=0.8)
    merges = grouping_steps(describe(labels, pixel_bins(converted)), touching(labels))
    left = [min(count, len(merges) + 1) for count in counts]
    return [(labels_at(labels, merges, count), count) for count in left]


def splits_with_proposals(data: str, cache: FeatureCache, **counts: int) -> list[WithProposals]:
    """Load some splits of a data set, with the 200 best proposals of selective search for each picture.

    Args:
        data: as `load_dataset` takes it.
        cache: keeps the proposals.
        counts: of each split the most pictures to take.
    """
    parts = [at_most(load_dataset(data, split), count) for split, count in counts.items()]
    return [WithProposals(part, cache=cache, top=200) for part in parts]


def compare_proposers(
    pictures: Sequence[Tensor], targets: Sequence[dict[str, Tensor]], counts: Sequence[int]
) -> tuple[dict[str, Tensor], float]:
    """Measure the recall of three proposers on the same pictures.

    Args:
        pictures: (3, H, W) each.
        targets: of each picture.
        counts: C numbers of boxes per picture.
    Returns:
        For each proposer its recall (C, 2) at an IoU of 0.5 and of 0.7, and how many boxes selective search finds in a
        picture on average.
    """
    sizes = [(picture.shape[1], picture.shape[2]) for picture in pictures]
    generator = torch.Generator().manual_seed(0)
    grouped = [selective_search(picture) for picture in pictures]
    blind = [random_boxes(size, max(counts), generator) for size in sizes]
    grids = [recall([sliding_windows(size, count) for size in sizes], targets) for count in counts]
    recalls = {
        "selective search": recall(grouped, targets, top=counts),
        "random boxes": recall(blind, targets, top=counts),
        "sliding windows": torch.stack(grids),
    }
    return recalls, sum(map(len, grouped)) / len(grouped)


def refined_near(model: RCNN, item: Windows, least: float = 0.5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Move those proposals of a picture that overlap an object by the regression of that object's class.

    Args:
        model: with its regression.
        item: the windows of the picture.
        least: the IoU that a proposal has to exceed.
    Returns:
        The N proposals as they were (N, 4) and moved (N, 4), and their IoU with their objects before (N,) and after.
    """
    first = len(item.truths)
    proposals, pool5 = item.boxes[first:], item.pool5[first:]
    if not first:
        return proposals[:0], proposals[:0], proposals[:0, 0], proposals[:0, 0]
    overlap, nearest = box_iou(proposals, item.truths).max(dim=1)
    near = (overlap > least).nonzero()[:, 0]
    objects = nearest[near]
    moved = model.refine(pool5[near], proposals[near])[torch.arange(len(near)), item.labels[objects] - 1]
    return proposals[near], moved, overlap[near], box_iou(moved, item.truths)[torch.arange(len(near)), objects]


def best_of_each(answers: Sequence[dict[str, Tensor]], targets: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Keep as many detections of each picture as it has objects, those with the highest scores.

    Detectors whose scores mean different things can be compared so, without a threshold.
    """
    kept = []
    for answer, target in zip(answers, targets, strict=True):
        best = answer["scores"].argsort(descending=True, stable=True)[: len(target["boxes"])]
        kept.append({key: value[best] for key, value in answer.items()})
    return kept


def mean_kinds(record: dict, variants: Sequence[str]) -> dict[str, dict[str, int]]:
    """Average the failures of each variant of a record over its trainings, rounded to whole detections."""
    runs = by_variant(record, "kinds")
    kinds = ("class", "place", "duplicate", "background")
    return {name: {k: round(sum(run[k] for run in runs[name]) / len(runs[name])) for k in kinds} for name in variants}


def hardest_negatives(report: Pass, features: WindowFeatures, count: int = 100) -> tuple[list[int], float]:
    """Look at the negatives with the highest scores that one pass of the mining found.

    Args:
        report: what the pass found.
        features: of the data set that was mined.
        count: how many negatives to look at.
    Returns:
        Of each picture the row of its hardest negative in the report, the hardest first; and the share of the `count`
        hardest negatives of all pictures that have an IoU of at least 0.5 with an object, which is of another class.
    """
    order = report.score.argsort(descending=True, stable=True).tolist()
    first: dict[int, int] = {}
    for row in order:
        first.setdefault(int(report.image[row]), row)
    framed = 0
    for row in order[:count]:
        item = features[int(report.image[row])]
        if len(item.truths):
            framed += int(box_iou(item.boxes[[int(report.window[row])]], item.truths).max() >= 0.5)
    return list(first.values()), framed / max(len(order[:count]), 1)
