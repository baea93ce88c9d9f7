"""What is in a data set, counted before anything is trained on it, and what in it looks like a mistake."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from rcnn_tutorial.data.alike import same_pictures
from rcnn_tutorial.data.dataset import DetectionDataset
from rcnn_tutorial.data.splits import Splits, many

SIZES = ("small", "medium", "large")
BOUNDS = (32**2, 96**2)  # square pixels, between small, medium and large, as COCO has them
WHOLE = 0.95  # share of the picture that a suspicious box covers
THIN = 2  # pixels, a side under which a box is suspicious
RARE = 10  # objects of a class in the training pictures, fewer of which are suspicious
USUAL = 0.9  # share of the pictures that have one size, from which on the others are suspicious
SAME = 0.9  # IoU from which on two boxes may be the same object marked twice
MEANINGS = {  # the kinds of findings, what is most likely a mistake first
    "leakage": "pictures that are in two splits",
    "twice": "pictures that are there twice",
    "double": "objects that are marked twice",
    "thin": f"boxes with a side under {THIN} pixels",
    "whole": "boxes of nearly the whole picture",
    "rare": f"classes with fewer than {RARE} objects to learn from",
    "case": "class names that differ by their case or spaces only",
    "size": "pictures of another size than nearly all others",
}


@dataclass(frozen=True)
class Finding:
    """Something that looks like a mistake.

    Attributes:
        kind: a key of `MEANINGS`.
        text: a sentence that says what was found.
        split, index: the picture that it was found in; None and -1 where it is about no picture.
        objects: places of the objects in the picture's target.
    """

    kind: str
    text: str
    split: str | None = None
    index: int = -1
    objects: tuple[int, ...] = ()


@dataclass(frozen=True)
class SplitReport:
    """The counts of one split.

    Attributes:
        pictures, empty: pictures, and those among them without an object.
        unannotated: pictures without an annotation file, which count as empty.
        objects, difficult, crowd: objects, and those that training leaves out.
        clipped, dropped, left_out: boxes clipped to their picture, boxes without area, objects of other classes.
        by_class: {class: objects}.
        by_size: {"small", "medium", "large": objects}, by COCO's bounds of area.
        by_class_and_size: {class: {size: objects}}.
        aspect: least and greatest width / height of a box; None without boxes.
        sides: least and greatest side of a box, pixels.
        picture_sizes: {"640x480": pictures}, the most frequent first.
    """

    pictures: int
    empty: int
    unannotated: int
    objects: int
    difficult: int
    crowd: int
    clipped: int
    dropped: int
    left_out: int
    by_class: dict[str, int]
    by_size: dict[str, int]
    by_class_and_size: dict[str, dict[str, int]]
    aspect: tuple[float, float] | None
    sides: tuple[float, float] | None
    picture_sizes: dict[str, int]


@dataclass(frozen=True)
class Report:
    """What `examine` found.

    Attributes:
        name, layout, classes, notes: as in `Splits`; classes without the background.
        splits: the counts of each split.
        bad_files: {file: what is wrong with it}; they are in no count.
        findings: what looks like a mistake, in the order of `MEANINGS`.
    """

    name: str
    layout: str
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    splits: dict[str, SplitReport]
    bad_files: dict[str, str]
    findings: tuple[Finding, ...]

    def as_json(self, parts: dict[str, DetectionDataset]) -> dict:
        """Give all of it as JSON can hold it; findings name their picture's file."""
        rows = [
            {"kind": f.kind, "text": f.text, "split": f.split, "objects": list(f.objects),
             "file": str(parts[f.split].path(f.index)) if f.split else None}
            for f in self.findings
        ]  # fmt: skip
        return {**asdict(self), "findings": rows}


def examine(splits: Splits, progress: Callable[[int], object] = lambda pictures: None) -> Report:
    """Count what is in a data set, and look for what is most often wrong in one.

    Args:
        splits: of `load_splits`, with on_error="skip" where bad files are to be listed.
        progress: is told how many more pictures were looked at.
    Returns:
        Counts and findings. Nothing is changed, and nothing but the pictures themselves is read again.
    """
    parts = splits.parts()
    findings = _twice(parts, progress)
    for name, part in parts.items():
        findings += [finding for index in range(len(part)) for finding in _of_boxes(name, part, index)]
    findings += _other_sizes(parts) + _of_classes(splits)
    order = list(MEANINGS)
    return Report(
        name=splits.name,
        layout=splits.layout,
        classes=splits.classes[1:],
        notes=splits.notes,
        splits={name: _count(part) for name, part in parts.items()},
        bad_files={file: reason for part in parts.values() for file, reason in part.skipped.items()},
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.kind))),
    )


def _count(part):
    targets = [part.target(index) for index in range(len(part))]
    boxes = np.concatenate([np.zeros((0, 4)), *(t["boxes"].numpy() for t in targets)])
    labels = np.concatenate([np.zeros(0, int), *(t["labels"].numpy() for t in targets)])
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = np.concatenate([np.zeros(0), *(t["area"].numpy() for t in targets if "area" in t)])
    areas = areas if len(areas) == len(boxes) else sides.prod(axis=1)
    place = np.digitize(areas, BOUNDS)  # 0 small, 1 medium, 2 large
    ratios = sides[:, 0] / sides[:, 1]
    table = {
        name: {size: int(((labels == label) & (place == i)).sum()) for i, size in enumerate(SIZES)}
        for label, name in enumerate(part.classes[1:], start=1)
    }
    sizes = Counter("{}x{}".format(*part.size(index)) for index in range(len(part)))
    return SplitReport(
        pictures=len(part),
        empty=sum(not len(target["boxes"]) for target in targets),
        unannotated=part.unannotated,
        objects=len(boxes),
        difficult=sum(int(target["difficult"].sum()) for target in targets),
        crowd=sum(int(target["iscrowd"].sum()) for target in targets if "iscrowd" in target),
        clipped=part.clipped,
        dropped=part.dropped,
        left_out=part.left_out,
        by_class={name: sum(row.values()) for name, row in table.items()},
        by_size={size: int((place == i).sum()) for i, size in enumerate(SIZES)},
        by_class_and_size=table,
        aspect=(round(float(ratios.min()), 3), round(float(ratios.max()), 3)) if len(boxes) else None,
        sides=(round(float(sides.min()), 2), round(float(sides.max()), 2)) if len(boxes) else None,
        picture_sizes=dict(sizes.most_common()),
    )


def _of_boxes(split: str, part: DetectionDataset, index: int) -> list[Finding]:
    """What is suspicious about the boxes of one picture."""
    target, (width, height), file = part.target(index), part.size(index), part.path(index)
    boxes, labels = target["boxes"].numpy(), target["labels"].tolist()
    names = [part.classes[label] for label in labels]
    sides = boxes[:, 2:] - boxes[:, :2]
    found = []
    for i, (name, side) in enumerate(zip(names, sides, strict=True)):
        if min(side) < THIN:
            text = f"{file}: a {name} of {side[0]:g} x {side[1]:g} pixels."
            found.append(Finding("thin", text, split, index, (i,)))
        if side.prod() >= WHOLE * width * height:
            text = f"{file}: a {name} of {side.prod() / (width * height):.0%} of the picture."
            found.append(Finding("whole", text, split, index, (i,)))
    for i, j in _doubles(boxes):
        what = f"the same {names[i]} twice" if labels[i] == labels[j] else f"one box as {names[i]} and as {names[j]}"
        found.append(Finding("double", f"{file}: {what}.", split, index, (i, j)))
    return found


def _doubles(boxes: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of boxes that differ by one pixel at most in each coordinate, and cover each other."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    pairs = []
    for i, box in enumerate(boxes):
        near = np.abs(boxes[i + 1 :] - box).max(axis=1, initial=0) <= 1
        for j in (i + 1 + np.flatnonzero(near)).tolist():
            both = np.minimum(box[2:], boxes[j, 2:]) - np.maximum(box[:2], boxes[j, :2])
            shared = both.clip(0).prod()
            if shared >= SAME * (areas[i] + areas[j] - shared):
                pairs.append((i, j))
    return pairs


def _twice(parts: dict[str, DetectionDataset], progress: Callable[[int], object]) -> list[Finding]:
    """Pictures that are there twice, in one split or in two."""
    where = [(name, index) for name, part in parts.items() for index in range(len(part))]
    pairs = same_pictures((parts[name].path(index) for name, index in where), progress)
    found = []
    for first, second in pairs:
        (one, i), (other, j) = where[first], where[second]
        kind = "twice" if one == other else "leakage"
        text = f"{parts[other].path(j)} ({other}) is the same picture as {parts[one].path(i)} ({one})."
        found.append(Finding(kind, text, other, j))
    return found


def _other_sizes(parts: dict[str, DetectionDataset]) -> list[Finding]:
    """Pictures of another size than nearly all others."""
    sizes = {(name, index): part.size(index) for name, part in parts.items() for index in range(len(part))}
    (usual, count), *_ = Counter(sizes.values()).most_common(1)
    if count < USUAL * len(sizes):
        return []
    return [
        Finding("size", f"{parts[name].path(i)}: {size[0]}x{size[1]} pixels, most are {usual[0]}x{usual[1]}.", name, i)
        for (name, i), size in sizes.items()
        if size != usual
    ]


def _of_classes(splits: Splits) -> list[Finding]:
    """Classes that are rare, and names that are nearly the same."""
    train, names = splits.train, splits.classes[1:]
    counts = Counter(label for index in range(len(train)) for label in train.target(index)["labels"].tolist())
    found = []
    for label, name in enumerate(names, start=1):
        if counts[label] < RARE:
            objects = many(counts[label], "object")
            found.append(Finding("rare", f"{name}: {objects} in the training pictures."))
    return found + _alike_names([*names, *_other_names(splits)])


def _other_names(splits: Splits) -> Sequence[str]:
    return sorted({name for part in splits.parts().values() for name in part.left_out_classes})


def _alike_names(names: Sequence[str]) -> list[Finding]:
    by_letters: dict[str, list[str]] = {}
    for name in names:
        by_letters.setdefault("".join(c for c in name.casefold() if c.isalnum()) or name, []).append(name)
    return [
        Finding("case", f"{' and '.join(map(repr, group))} may be meant as one class.")
        for group in by_letters.values()
        if len(group) > 1
    ]
