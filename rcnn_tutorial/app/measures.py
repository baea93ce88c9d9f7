"""All that is measured of a detector on a data set, as numbers, as a table, and as plain values for a JSON file."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from rcnn_tutorial.evaluation import (
    Failures,
    Interval,
    MatchedDetections,
    coco_ap,
    coco_intervals,
    failures,
    match_detections,
    size_thirds,
    voc_ap,
)

PerImage = Sequence[dict[str, Tensor]]
FAILURES = ("class", "place", "duplicate", "background", "missed")
SAMPLES, SEED = 200, 0  # of the bootstrap
MEANINGS = {  # of the kinds of failures, for readers of the table
    "class": "lies on an object of another class",
    "place": "lies near an object of its class, but not well enough",
    "duplicate": "lies on an object that a better detection has taken",
    "background": "lies on no object",
    "missed": "is an object that no detection found",
}


@dataclass(frozen=True)
class OfClass:
    """What was measured of one class.

    Attributes:
        objects: how many count; difficult ones and crowds do not.
        ap, ap50: COCO's, NaN without objects.
        best_f1: the largest F1 at an IoU of 0.5.
        threshold: the least score that is kept for it.
        failures: how many detections failed by kind, and how many objects were missed.
    """

    objects: int
    ap: float
    ap50: float
    best_f1: float
    threshold: float
    failures: dict[str, int]


@dataclass(frozen=True)
class Report:
    """What was measured of a detector on a data set; `print` shows it as a table.

    Attributes:
        model, data, split: what was measured on what.
        images, objects: how many; difficult objects and crowds do not count.
        coco: COCO's twelve numbers, of boxes.
        thirds: AP of the smallest, the middle and the largest third of the objects, as AP_small, AP_medium, AP_large.
        bounds: the areas between those thirds, square pixels.
        voc: VOC's mAP by its two rules, "all" and "11".
        masks: COCO's twelve numbers of masks; None where the detector or the data set has none.
        per_class: by class.
        failures: how many detections failed by kind, how many are correct, and how many objects were missed.
        threshold: the least score of a detection that `failures` looks at.
        intervals: "AP" and "AP50" with 95 % intervals over draws of the images.
        milliseconds: for an image, from the tensor to the detections; NaN where it was not measured.
        device: that the detector ran on.
        notes: sentences about the data that the reader should know.
        detections, targets: one dict per image each, as `predict` gives them.
        failed, matched: who failed how, and the rankings of all classes.
    """

    model: str
    data: str
    split: str
    images: int
    objects: int
    coco: dict[str, float]
    thirds: dict[str, float]
    bounds: tuple[float, float] | None
    voc: dict[str, float]
    masks: dict[str, float] | None
    per_class: dict[str, OfClass]
    failures: dict[str, int]
    threshold: float
    intervals: dict[str, Interval]
    milliseconds: float
    device: str
    notes: tuple[str, ...]
    detections: PerImage = field(repr=False)
    targets: PerImage = field(repr=False)
    failed: Failures = field(repr=False)
    matched: MatchedDetections = field(repr=False)

    def results(self) -> dict[str, Any]:
        """Give the numbers as plain values; what is not defined is None, as JSON knows no NaN."""
        names = ("model", "data", "split", "images", "objects", "coco", "thirds", "bounds", "voc", "masks", "failures")
        plain = {name: getattr(self, name) for name in (*names, "threshold", "milliseconds", "device", "notes")}
        plain["per_class"] = {name: asdict(numbers) for name, numbers in self.per_class.items()}
        plain["intervals"] = {
            name: {"value": of.value, "low": of.low, "high": of.high, "samples": len(of.samples)}
            for name, of in self.intervals.items()
        }
        return _without_nan(plain)

    def __str__(self) -> str:
        sections = [
            self._head(),
            *self.notes,
            "",
            *_lines(self._numbers()),
            "",
            *self._classes(),
            "",
            *self._failures(),
        ]
        if not math.isnan(self.milliseconds):
            sections += ["", f"One picture takes {self.milliseconds:.1f} ms on {self.device}."]
        return "\n".join(sections)

    def _head(self) -> str:
        counts = f"{self.images} pictures with {self.objects} objects of {len(self.per_class)} classes"
        return f"{self.model} on {self.data}, {self.split}: {counts}"

    def _numbers(self) -> list[tuple[str, float, str]]:
        trust = {
            name: f"95 of 100 draws of the pictures give {of.low:.3f} to {of.high:.3f}"
            for name, of in self.intervals.items()
        }
        rows = [
            ("AP, the mean over IoU 0.5 to 0.95", self.coco["AP"], trust.get("AP", "")),
            ("AP50, at an IoU of 0.5", self.coco["AP50"], trust.get("AP50", "")),
            ("AP75, at an IoU of 0.75", self.coco["AP75"], ""),
            ("AP of small objects", self.coco["AP_small"], "under 32 x 32 pixels"),
            ("AP of medium objects", self.coco["AP_medium"], ""),
            ("AP of large objects", self.coco["AP_large"], "over 96 x 96 pixels"),
        ]
        if self.bounds is not None:
            low, high = (f"{math.sqrt(area):.0f} x {math.sqrt(area):.0f} pixels" for area in self.bounds)
            words = ("smallest", f"under {low}"), ("middle", ""), ("largest", f"over {high}")
            for (word, said), key in zip(words, ("AP_small", "AP_medium", "AP_large"), strict=True):
                rows.append((f"AP of the {word} third of the objects", self.thirds[key], said))
        rows.append(("VOC's mAP, area under all points", self.voc["all"], "VOC from 2010 on"))
        rows.append(("VOC's mAP, mean of 11 points", self.voc["11"], "VOC until 2009"))
        if self.masks is not None:
            rows.append(("AP of masks", self.masks["AP"], ""))
            rows.append(("AP50 of masks", self.masks["AP50"], ""))
        return rows

    def _classes(self) -> list[str]:
        wide = max(len("class"), *map(len, self.per_class))
        lines = [f"{'class':<{wide}}  objects     AP   AP50  best F1  from a score of"]
        for name, of in self.per_class.items():
            numbers = f"{_number(of.ap)}  {_number(of.ap50)}    {_number(of.best_f1)}  {_number(of.threshold):>15}"
            lines.append(f"{name:<{wide}}  {of.objects:7}  {numbers}")
        return lines

    def _failures(self) -> list[str]:
        seen = sum(count for kind, count in self.failures.items() if kind != "missed")
        lines = [f"Of the {seen} detections that count at a score of at least {self.threshold:g}, "
                 f"{self.failures['correct']} are correct. By class, the others and the objects missed:"]  # fmt: skip
        wide = max(len("class"), *map(len, self.per_class))
        lines.append(f"{'class':<{wide}}  " + "  ".join(f"{kind:>10}" for kind in FAILURES))
        rows = [(name, of.failures) for name, of in self.per_class.items()]
        for name, counts in [*rows, ("all", self.failures)]:
            lines.append(f"{name:<{wide}}  " + "  ".join(f"{counts[kind]:10}" for kind in FAILURES))
        return [*lines, *(f"  {kind}: {MEANINGS[kind]}" for kind in FAILURES)]


def measure(
    detections: PerImage,
    targets: PerImage,
    classes: Sequence[str],
    threshold: float = 0.5,
    samples: int = SAMPLES,
    **described: Any,
) -> Report:
    """Measure all that a report tells.

    Args:
        detections, targets: one dict per image each, as `predict` gives them.
        classes: names, background first.
        threshold: the least score of a detection that is looked for failures.
        samples: how many data sets the bootstrap draws.
        described: `model`, `data`, `split`, `milliseconds`, `device` and `notes` of the report.
    Raises:
        ValueError: what the measures refuse.
    """
    boxes = coco_ap(detections, targets, classes)
    matched = match_detections(detections, targets)
    counted = int((~matched.truth_ignored).sum())
    bounds = size_thirds(targets) if counted else None
    thirds = coco_ap(detections, targets, classes, bounds) if bounds and bounds[0] < bounds[1] else None
    failed = failures(detections, targets, threshold)
    of_classes = _failures_by_class(failed, detections, targets, len(classes))
    per_class = {}
    for label, name in enumerate(classes[1:], start=1):
        of = boxes["per_class"][name]
        per_class[name] = OfClass(
            matched.positives(label), of["AP"], of["AP50"], *matched.best_f1(label), of_classes[label]
        )
    sizes = ("AP_small", "AP_medium", "AP_large")
    with_masks = any("masks" in d for d in detections) and any("masks" in t for t in targets)
    return Report(
        images=len(targets),
        objects=counted,
        coco=_plain(boxes),
        thirds={key: thirds[key] for key in sizes} if thirds else {},
        bounds=bounds if thirds else None,
        voc={method: voc_ap(detections, targets, classes, method=method).map for method in ("all", "11")},
        masks=_plain(coco_ap(detections, targets, classes, kind="segm")) if with_masks else None,
        per_class=per_class,
        failures=failed.counts,
        threshold=threshold,
        intervals=coco_intervals(detections, targets, classes, samples, torch.Generator().manual_seed(SEED)),
        detections=detections,
        targets=targets,
        failed=failed,
        matched=matched,
        **described,
    )


def _failures_by_class(failed: Failures, detections: PerImage, targets: PerImage, classes: int) -> list[dict[str, int]]:
    """For each label its failures: of a detection the label that it gave, of a missed object its own."""
    tally = Counter()
    for detected, kinds, target, missed in zip(detections, failed.kinds, targets, failed.missed, strict=True):
        tally.update(zip(detected["labels"].tolist(), kinds, strict=True))
        tally.update((label, "missed") for label in target["labels"][missed].tolist())
    return [{kind: tally[label, kind] for kind in ("correct", *FAILURES)} for label in range(classes)]


def _plain(numbers: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if name != "per_class"}


def _lines(rows: Sequence[tuple[str, float, str]]) -> list[str]:
    wide = max(len(name) for name, _, _ in rows)
    return [f"{name:<{wide}}  {_number(value)}  {said}".rstrip() for name, value, said in rows]


def _number(value: float) -> str:
    """Three digits behind the point, and a dash for what is not defined."""
    return "    -" if math.isnan(value) else f"{value:.3f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
