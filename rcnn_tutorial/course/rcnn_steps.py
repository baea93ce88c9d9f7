"""What 01_rcnn computes besides the lesson: examples for the eye, data with proposals, and measurements."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, stdev

import torch
from torch import Tensor

from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.course import records
from rcnn_tutorial.course.profile import multiply_adds
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.data.wrappers import at_most
from rcnn_tutorial.detectors.rcnn import RCNN, RCNNSettings
from rcnn_tutorial.detectors.rcnn_windows import WindowFeatures, Windows, svm_negatives
from rcnn_tutorial.detectors.svm import Pass
from rcnn_tutorial.engine.checks import expect
from rcnn_tutorial.evaluation import coco_ap, recall
from rcnn_tutorial.nets.backbones import ConvNet, alexnet, tiny_net
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.ops.warp import warp
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.proposals.grouping import grouping_steps, labels_at
from rcnn_tutorial.proposals.regions import Regions, convert, describe, pixel_bins, segment, touching
from rcnn_tutorial.proposals.selective_search import selective_search
from rcnn_tutorial.proposals.windows import random_boxes, sliding_windows

ROWS = ("AAAABBBB", "AAAABBBB", "AACCBBBB", "AACCDDDD", "AACCDDDD", "AACCDEEE")
# of the three channels of two colours, those are equal whose pixels fall into one bin of the histogram
PALETTE = ((0.9, 0.5, 0.1), (0.9, 0.7, 0.1), (0.1, 0.5, 0.1), (0.1, 0.7, 0.9), (0.1, 0.5, 0.9))
# pixels of context at each edge of a crop of 64, by the names under which 01 compares them
CONTEXTS = {"without context": 0, "with context": 16 * 64 / 227}


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


def joined(pairs: Sequence[tuple[str, str]], a: str, b: str) -> list[tuple[str, str]]:
    """Name the pairs of regions that touch after the regions a and b have become one, a + b."""
    renamed = [[a + b if name in (a, b) else name for name in pair] for pair in pairs]
    return sorted({(min(pair), max(pair)) for pair in renamed if pair[0] != pair[1]})


def similarities_of_merges(picture: Tensor, labels: Tensor) -> list[float]:
    """Group a picture, cut into regions as `labels` (H, W) says, by colour, size and fill as the package does.

    Returns:
        The similarity of the two regions of each merge, in order.
    """
    merges = grouping_steps(describe(labels, pixel_bins(picture)), touching(labels), ("colour", "size", "fill"))
    return [merge.similarity for merge in merges]


def bar_and_square() -> tuple[Tensor, Tensor]:
    """Give a picture with a bar and a square, each a checker of 2 x 2 fields in two colours, and their boxes (2, 4)."""
    picture, boxes = torch.zeros(3, 200, 400), torch.tensor([[40, 70, 200, 130], [260, 55, 350, 145]])
    for x1, y1, x2, y2 in boxes.tolist():
        x, y = (x1 + x2) // 2, (y1 + y2) // 2
        picture[0, y1:y2, x1:x2] = 1
        picture[1, y1:y, x1:x] = picture[1, y:y2, x:x2] = 1
    return picture, boxes.float()


def some_windows(image: Tensor, target: dict[str, Tensor], label: int) -> tuple[Tensor, Tensor]:
    """Pick proposals of a scene that overlap its objects little, half and well, and a true box of a class.

    Returns:
        The windows (7, 4), the last one true; and of each object whether it is of the class (M,).
    """
    proposals, objects = selective_search(image, top=200), target["labels"] == label
    best = box_iou(proposals, target["boxes"]).amax(dim=1)
    some = [int((best - value).abs().argmin()) for value in (0.1, 0.2, 0.4, 0.55, 0.6, 0.8)]
    return torch.cat((proposals[some], target["boxes"][objects][:1])), objects


def new_model(classes: Sequence[str], steps: int) -> RCNN:
    """Make an R-CNN from the pre-trained network with a new, random last layer; to be fine-tuned for some steps.

    Its SVMs are mined in two passes, so that one sees what is left for the second.
    """
    net = tiny_net(pretrained=True)
    net.replace_classifier(len(classes), torch.Generator().manual_seed(0))
    net.to(memory_format=torch.channels_last)  # on a CPU its convolutions take two thirds of the time so
    settings = RCNNSettings.tiny(steps)
    return RCNN(net, classes, replace(settings, svm=replace(settings.svm, passes=2)))


Scored = tuple[Tensor, Tensor, tuple[int, int]]  # what `RCNN.select` takes


@torch.no_grad()
def scored(features: WindowFeatures, scores: str = "svm", regression: str = "before") -> list[Scored]:
    """Score the proposals of a data set and refine their boxes: for each image what `RCNN.select` takes.

    Args:
        features: of the data set; `features.model` scores.
        scores: "svm", or "softmax" for those of the fine-tuned network itself.
        regression: "before" NMS, or "none".
    Returns:
        Per image the scores (R, K), the boxes and the image's size.
    Raises:
        ValueError: another word than these.
    """
    expect(scores in ("svm", "softmax"), "scores", "one of 'svm' and 'softmax'", scores)
    expect(regression in ("before", "none"), "regression", "one of 'before' and 'none'", regression)
    model, images = features.model, []
    for item in features:
        proposals, pool5, fc7 = (part[len(item.truths) :] for part in (item.boxes, item.pool5, item.fc7))
        boxes = model.refine(pool5, proposals) if regression == "before" else proposals[:, None]  # or (R, 1, 4)
        confidence = model.svm_scores(fc7) if scores == "svm" else model.net.classifier(fc7).softmax(dim=1)[:, 1:]
        images.append((confidence, boxes, item.size))
    return images


def detect(features: WindowFeatures, scores: str = "svm", regression: str = "before") -> list[dict[str, Tensor]]:
    """Detect from the features of a data set, as the whole detector does or with a part left out.

    Args:
        features, scores, regression: as in `scored`.
    Returns:
        Per image `boxes` (D, 4), `labels` (D,) and `scores` (D,), on the CPU.
    """
    detections = [features.model.select(*image) for image in scored(features, scores, regression)]
    return [{key: value.cpu() for key, value in detection.items()} for detection in detections]


class Measure:
    """Detects on a test set with a model as it stands at the moment, and measures how well.

    Args:
        model: whose stages are trained between the calls.
        test: with proposals.
        cache: keeps the features.

    Attributes:
        passes: AP50 without the regression, each time that `after_pass` was called.
    """

    def __init__(self, model: RCNN, test: WithProposals, cache: FeatureCache):
        self.model, self.test, self.cache = model, test, cache
        self.truths = [test.target(index) for index in range(len(test))]
        self.passes: list[float] = []

    def first(self, count: int) -> "Measure":
        """Give one for the first pictures of the test set alone, which takes less time."""
        few = WithProposals(at_most(self.test.dataset, count), cache=self.cache, **self.test.options)
        return Measure(self.model, few, self.cache)

    def features(self) -> WindowFeatures:
        """Give the features of the test set."""
        return WindowFeatures(self.model, self.test, self.cache)

    def detect(self, **how: str) -> list[dict[str, Tensor]]:
        """Detect on each picture; `how` goes to the function `detect`."""
        return detect(self.features(), **how)

    def ap(self, key: str = "AP50", **how: str) -> float:
        """Give an average precision of the detections."""
        return coco_ap(self.detect(**how), self.truths, self.test.classes)[key]

    def after_pass(self, _: Pass) -> None:
        """Measure the SVMs after a pass of the mining."""
        self.passes.append(self.ap(regression="none"))

    def truth(self, index: int) -> Tensor:
        """Give the true boxes (M, 4) of a picture."""
        return self.truths[index]["boxes"]


def share_on_other_objects(features: WindowFeatures) -> float:
    """Find which share of the negatives of all SVMs has an IoU of 0.5 or more with an object, of another class."""
    framed = total = 0
    for item in features:
        negative = svm_negatives(item.boxes, item.truths, item.labels, features.model)  # (P, K)
        total += int(negative.sum())
        if len(item.truths):
            framed += int(negative[box_iou(item.boxes, item.truths).amax(dim=1) >= 0.5].sum())
    return framed / max(total, 1)


def what_it_frames(item: Windows, window: int, classes: Sequence[str]) -> str:
    """Name the class of the object with which a window has an IoU of 0.5 or more, or say that there is none."""
    if len(item.truths):
        overlap, index = box_iou(item.boxes[[window]], item.truths)[0].max(dim=0)
        if overlap >= 0.5:
            return classes[int(item.labels[index])]
    return "no object"


def negative_crops(
    report: Pass, rows: Sequence[int], dataset: WithProposals, features: WindowFeatures
) -> tuple[Tensor, list[str]]:
    """Cut out some negatives of a report, and say for which class each scores and what it frames.

    Returns:
        The crops (N, 3, 64, 64), and a text of two lines for each; of no rows, none of either.
    """
    crops, names = [], []
    for row in rows:
        item, window = features[int(report.image[row])], int(report.window[row])
        image = dataset[int(report.image[row])][0].to(item.boxes.device)
        crops.append(warp(image, item.boxes[[window]], 64, 4.5))
        wanted = dataset.classes[int(report.label[row])]
        names.append(f"{wanted}?\n{what_it_frames(item, window, dataset.classes)}")
    return torch.cat(crops) if crops else torch.zeros(0, 3, 64, 64), names


def pair_by_threshold(
    model: RCNN, image: Tensor, target: dict[str, Tensor], thresholds: Sequence[float]
) -> tuple[Tensor, dict[float, dict[str, Tensor]]]:
    """Detect the two objects of one class that overlap most, with several thresholds of NMS.

    Returns:
        The true boxes (2, 4) of the two, and for each threshold what stays near them: `boxes` (N, 4), `scores` (N,),
        and `iou` (N,) with the nearer one.
    """
    truths, labels = target["boxes"], target["labels"]
    same = box_iou(truths, truths) * (labels[:, None] == labels)
    pair = list(divmod(int(same.fill_diagonal_(0).argmax()), len(same)))
    scored, stay = model.score(image, selective_search(image, top=200)), {}
    for threshold in thresholds:
        kept = model.select(*scored, image.shape[1:], nms_threshold=threshold)
        iou = box_iou(kept["boxes"], truths[pair]).amax(dim=1)
        near = (iou > 0.3) & (kept["labels"] == labels[pair[0]]) & (kept["scores"] > 0)
        stay[threshold] = {"boxes": kept["boxes"][near], "scores": kept["scores"][near], "iou": iou[near]}
    return truths[pair], stay


def few_objects(targets: Sequence[dict[str, Tensor]], count: int = 2) -> list[int]:
    """Choose pictures with two to four objects, the first ones; if there are too few of them, others too."""
    good = [i for i, target in enumerate(targets) if 2 <= len(target["boxes"]) <= 4]
    return (good + [i for i in range(len(targets)) if i not in good])[:count]


def before_and_after(
    measure: Measure, before: Sequence[dict[str, Tensor]]
) -> tuple[list[Tensor], list[dict[str, Tensor]], list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Choose two pictures with few objects, and keep as many of the best detections of each as it has objects.

    Args:
        measure: of a trained model.
        before: what was detected before its training, on each picture of `measure`.
    Returns:
        The pictures, their targets, and the detections before and after the training.
    """
    two = few_objects(measure.truths)
    images, targets = [measure.test[i][0] for i in two], [measure.truths[i] for i in two]
    first, last = (best_of_each([answers[i] for i in two], targets) for answers in (before, measure.detect()))
    return images, targets, first, last


def recorded(variant: str) -> str:
    """Say how the recorded trainings of a variant of R-CNN came out: mean and standard deviation over the trainings."""
    record = records.load("rcnn_parts")
    told = [(metric, records.by_variant(record, metric)[variant]) for metric in ("AP50", "AP75")]
    values = ", ".join(f"{metric} {mean(seeds):.2f} ± {stdev(seeds):.2f}" for metric, seeds in told)
    return f"{len(record['runs'])} recorded trainings, 150 scenes and 250 steps: {values}"


def published_net() -> ConvNet:
    """Give AlexNet for the 20 classes of VOC and the background, with shapes and without numbers."""
    with torch.device("meta"):
        return alexnet(21)


def cost_of_windows(net: ConvNet, count: int) -> str:
    """Say how many multiply-adds a network needs for a window and for a picture of `count` windows."""
    layers = multiply_adds(net, 1, 3, net.size, net.size)
    one = sum(layers.values())
    convolutions = sum(n for layer, n in layers.items() if layer.startswith("convs")) / one
    return (f"{one / 1e6:.1f} million a window, {convolutions:.1%} in convolutions; "
            f"{count * one / 1e9:,.0f} billion a picture of {count} windows")  # fmt: skip


def part_differences() -> list[str]:
    """Say what each part of R-CNN changes, from the recorded trainings, with 95 % intervals."""
    names = ("CNN", "+ SVM", "+ mining", "+ regression")
    rows = [("rcnn_parts", metric, one, other) for metric in ("AP50", "AP75")
            for other, one in zip(names, names[1:], strict=False)]  # fmt: skip
    rows.insert(3, ("rcnn_parts", "AP50", "+ mining", "CNN"))
    told = []
    for record, metric, one, other in rows:
        d = records.difference(records.load(record), one, other, metric)
        told.append(
            f"{metric} {one:12} minus {other:8} {d.mean:+.3f}, 95 %: {d.interval[0]:+.3f} to {d.interval[1]:+.3f}"
        )
    for positives, called in {"IoU 0.5": "windows of IoU 0.5", "truth alone": "true boxes"}.items():
        d = records.difference(records.load("rcnn_19"), f"IoU 0.5 | SVM, {positives}", "IoU 0.5 | softmax", "AP75")
        interval = f"{d.interval[0]:+.3f} to {d.interval[1]:+.3f}"
        told.append(f"AP75, SVMs whose positives are {called}, minus CNN: {d.mean:+.3f}, 95 %: {interval}")
    return told


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
    # The smallest window is an eighth of the shorter side, as in a scene: large pictures get no more shapes of windows.
    smallest = [max(24, min(size) / 8) for size in sizes]
    pairs = list(zip(sizes, smallest, strict=True))
    grids = [recall([sliding_windows(size, count, side) for size, side in pairs], targets) for count in counts]
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


def largest_gain(moved: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]) -> tuple[int, int]:
    """Find the window whose IoU grows most: its picture and its row in what `refined_near` gives of each picture."""
    gains = [after - before for _, _, before, after in moved]
    best = [gain.max().item() if len(gain) else -torch.inf for gain in gains]
    place = max(range(len(best)), key=best.__getitem__)
    return place, int(gains[place].argmax())


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
    """Average the detections of each kind over the trainings of each variant of a record, rounded to whole ones."""
    runs = records.by_variant(record, "kinds")
    kinds = ("correct", "class", "place", "duplicate", "background")
    return {name: {k: round(sum(run[k] for run in runs[name]) / len(runs[name])) for k in kinds} for name in variants}


def hardest_negatives(
    report: Pass, features: WindowFeatures, count: int = 100
) -> tuple[dict[str, list[int]], float, int]:
    """Look at the negatives with the highest scores that one pass of the mining found.

    Args:
        report: what the pass found.
        features: of the data set that was mined.
        count: how many negatives to look at; all, if there are fewer.
    Returns:
        Those rows of the report, the hardest first, that have an IoU of at least 0.5 with an object, which is of
        another class, and those that have not, of each picture one; the share of the former in the hardest negatives
        of all pictures; and how many these are.
    """
    order = report.score.argsort(descending=True, stable=True).tolist()[:count]
    framed, first = 0, {"another\nclass": {}, "no object": {}}
    for row in order:
        item = features[int(report.image[row])]
        on_object = len(item.truths) > 0 and bool(
            box_iou(item.boxes[[int(report.window[row])]], item.truths).max() >= 0.5
        )
        framed += on_object
        first["another\nclass" if on_object else "no object"].setdefault(int(report.image[row]), row)
    rows = {name: list(per_image.values()) for name, per_image in first.items()}
    return rows, framed / max(len(order), 1), len(order)
