"""Right answers pass; each wrong answer gets its own hint and no other."""

import torch

from rcnn_tutorial.course.exercises.e00 import EXERCISES
from tests.course.exercises.judging import judging, nudged, with_

IOU, SIDES, NMS, WINDOWS, AP, SCORE = (EXERCISES[f"00-{letter}"] for letter in "ABCDEF")


def iou(p, q, extra=0.0, clamp=True, divide="union"):
    w, h = min(p[2], q[2]) - max(p[0], q[0]) + extra, min(p[3], q[3]) - max(p[1], q[1]) + extra
    inter = {True: max(w, 0) * max(h, 0), False: w * h, "product": max(w * h, 0)}[clamp]
    one, two = ((r[2] - r[0] + extra) * (r[3] - r[1] + extra) for r in (p, q))
    return inter / {"first": one, "sum": one + two, "union": one + two - inter}[divide]


def box_by_box(a, b, **options):
    return torch.tensor([iou(p, q, **options) for p, q in zip(a.tolist(), b.tolist(), strict=True)])


def table(a, b):
    return torch.tensor([[iou(p, q) for q in b.tolist()] for p in a.tolist()])


def suppress(boxes, scores, labels, threshold, rule="right"):
    order = list(range(len(boxes))) if rule == "unsorted" else sorted(range(len(boxes)), key=lambda i: -scores[i])
    overlap = table(boxes, boxes).double()
    gone, kept = set(), []
    for place, i in enumerate(order):
        if i not in gone:
            kept.append(i)
        if i not in gone or rule == "dropped boxes drop":
            for j in order[place + 1 :]:
                meets = overlap[i, j] > threshold or (rule == ">=" and overlap[i, j] >= threshold)
                if meets and (labels[i] == labels[j] or rule == "one class"):
                    gone.add(j)
    return kept


def by_class(boxes, scores, labels, threshold, local=False):
    result = []
    for label in sorted(set(labels.tolist())):
        own = [i for i, other in enumerate(labels.tolist()) if other == label]
        kept = suppress(boxes[own], scores[own], labels[own], threshold)
        result += kept if local else [own[i] for i in kept]
    return result


def best_windows(overlaps, by_window=False, always=False, above=False):
    lines = overlaps.tolist() if by_window else overlaps.t().tolist()
    found = [(max(line), line.index(max(line))) for line in lines]
    return [i if always or (best > 0.5 if above else best >= 0.5) else -1 for best, i in found]


def score(boxes, scores, truths, threshold, rule="right"):
    order = range(len(boxes)) if rule == "unsorted" else sorted(range(len(boxes)), key=lambda i: -scores[i])
    taken, hits, curve = set(), 0, []
    for place, i in enumerate(order, start=1):
        row = table(boxes[[i]], truths)[0].tolist()
        choices = [j for j in range(len(row)) if j not in taken or rule != "free"]
        best = max(choices, key=lambda j: row[j], default=None)
        if best is not None and row[best] >= threshold and (best not in taken or rule == "again"):
            taken.add(best)
            hits += 1
        curve.append((hits / place, hits))
    count = len(taken) if rule == "found" else len(truths)
    area = before = 0
    for k, (precision, right) in enumerate(curve):
        height = precision if rule == "zigzag" else max(p for p, _ in curve[k:])
        area += (right - before) / max(count, 1) * height
        before = right
    return area


RIGHT = [
    (IOU[0], 16 / 56),
    (IOU[0], 0.286),
    (IOU[1], box_by_box),
    (SIDES[0], 10),
    (SIDES[1], 8.0),
    (SIDES[2], 4.44),
    (SIDES[2], 4.4),
    (NMS[0], "ACDF"),
    (NMS[0], ["A", "C", "F", "D"]),
    (NMS[0], "a, c, d, f"),
    (NMS[1], suppress),
    (NMS[1], lambda *case: torch.tensor(suppress(*case))),
    (WINDOWS[0], best_windows),
    (AP[0], 0.483),
    (AP[1], 0.4727),
    (AP[2], 0.483),
    (SCORE[0], score),
]

WRONG = [
    (IOU[0], 25 / 73, "too large"),
    (IOU[0], 16 / 48, "share of one box"),
    (IOU[0], 16 / 24, "share of one box"),
    (IOU[0], 16 / 72, "counted twice"),
    (IOU[1], with_(box_by_box, divide="sum"), "counted twice"),
    (IOU[1], with_(box_by_box, clamp="product"), "apart in x and in y"),
    (IOU[1], with_(box_by_box, clamp=False), "apart in x and in y"),
    (IOU[1], with_(box_by_box, extra=1.0), "too large"),
    (IOU[1], with_(box_by_box, divide="first"), "share of one box"),
    (IOU[1], table, "every other one"),
    (SIDES[0], 40 / 3, "falls below 0.8"),
    (SIDES[0], 8, "moves inwards"),
    (SIDES[1], 10, "moves outwards"),
    (SIDES[1], 40 / 9, "could move further"),
    (SIDES[2], 8, "moves inwards"),
    (SIDES[2], 10, "moves outwards"),
    (NMS[0], "ADF", "C is gone"),
    (NMS[0], "ACF", "exactly the threshold"),
    (NMS[0], "ACDE", "weaker one stays"),
    (NMS[1], with_(suppress, rule="one class"), "of another class overlaps"),
    (NMS[1], with_(suppress, rule="dropped boxes drop"), "C is gone"),
    (NMS[1], with_(suppress, rule=">="), "exactly the threshold"),
    (NMS[1], with_(suppress, rule="unsorted"), "weaker one stays"),
    (NMS[1], by_class, "one class comes after the other"),
    (NMS[1], with_(by_class, local=True), "count within a class"),
    (WINDOWS[0], with_(best_windows, by_window=True), "for each window"),
    (WINDOWS[0], with_(best_windows, by_window=True, always=True), "for each window"),
    (WINDOWS[0], with_(best_windows, always=True), "no window reaches"),
    (WINDOWS[0], with_(best_windows, above=True), "at exactly 0.5"),
    (AP[0], 0.8, "four hits"),
    (AP[0], 0.4417, "up and down"),
    (AP[0], 0.485, "101 recalls"),
    (AP[0], 9 / 16, "only four places"),
    (AP[1], 6 / 11, "only four places"),
    (AP[0], 0.6444, "missing from the count"),
    (AP[1], 0.8, "four hits"),
    (AP[1], 0.6424, "missing from the count"),
    (AP[1], 0.4533, "Ten recalls"),
    (AP[2], 0.03, "lower the number"),
    (AP[0], 0.48, "Nearly"),
    (AP[1], 0.47, "Nearly"),
    (AP[2], 0.48, "Nearly"),
    (SCORE[0], with_(score, rule="unsorted"), "in the order in which they come"),
    (SCORE[0], with_(score, rule="again"), "counts as a hit"),
    (SCORE[0], with_(score, rule="free"), "goes to the next object"),
    (SCORE[0], with_(score, rule="zigzag"), "under the zigzag"),
    (SCORE[0], with_(score, rule="found"), "always ends at 1"),
]


OTHER = [
    (IOU[0], 0.9),
    (IOU[1], lambda a, b: box_by_box(a, b) * 0),
    (SIDES[0], 9),
    (SIDES[1], 9),
    (SIDES[2], 5),
    (NMS[0], "ABCDEF"),
    (NMS[1], lambda *case: [0]),
    (WINDOWS[0], lambda overlaps: [0] * overlaps.shape[1]),
    (AP[0], 0.1),
    (AP[0], 0.478),
    (AP[2], 0.9),
    (SCORE[0], lambda *case: 0.5),
]

TWICE = [
    ("00-A", (25 / 73, table)),
    ("00-B", (40 / 3, 40 / 9, 8)),
    ("00-C", ("ADF", with_(suppress, rule="unsorted"))),
    ("00-D", (with_(best_windows, always=True),)),
    ("00-E", (0.8, 6 / 11, 0.03)),
    ("00-F", (with_(score, rule="free"),)),
]

CAUSES = [
    (IOU[0], "too large", "width is x2 - x1"),
    (IOU[0], "share of one box", "Divide by the area of the union"),
    (IOU[0], "counted twice", "without the intersection"),
    (IOU[1], "too large", "width is x2 - x1"),
    (IOU[1], "share of one box", "Divide by the area of the union"),
    (IOU[1], "counted twice", "without the intersection"),
    (IOU[1], "apart in x and in y", "clamp each side"),
    (IOU[1], "every other one", "no new axis"),
    (SIDES[0], "falls below 0.8", "the union grows with it"),
    (SIDES[1], "could move further", "the union does not grow"),
    (SIDES[0], "moves inwards", "the union grows with it"),
    (SIDES[1], "moves outwards", "the union does not grow"),
    (NMS[1], "one class comes after the other", "Sort what stays"),
    (NMS[1], "count within a class", "numbers its boxes anew"),
    (AP[0], "Nearly", "three digits"),
    (AP[1], "Nearly", "three digits"),
    (AP[2], "Nearly", "three digits"),
    (SIDES[2], "moves inwards", "added to the union"),
    (SIDES[2], "moves outwards", "The overlap shrinks here"),
    (NMS[0], "C is gone", "a dropped box drops nobody"),
    (NMS[0], "exactly the threshold", "> and not >="),
    (NMS[0], "weaker one stays", "not sorted"),
    (NMS[1], "of another class overlaps", "compare the two labels"),
    (NMS[1], "C is gone", "a dropped box drops nobody"),
    (NMS[1], "exactly the threshold", "> and not >="),
    (NMS[1], "weaker one stays", "not sorted"),
    (WINDOWS[0], "for each window", "maximum of each column"),
    (WINDOWS[0], "no window reaches", "Write -1"),
    (WINDOWS[0], "at exactly 0.5", ">= and not >"),
    (AP[0], "101 recalls", "width times height"),
    (AP[0], "up and down", "Take the envelope first"),
    (AP[1], "Ten recalls", "recall 0 counts too"),
    (AP[0], "four hits", "found already"),
    (AP[0], "only four places", "stays in the ranking"),
    (AP[0], "missing from the count", "objects that exist"),
    (AP[1], "four hits", "found already"),
    (AP[1], "only four places", "stays in the ranking"),
    (AP[1], "missing from the count", "objects that exist"),
    (AP[2], "lower the number", "add no recall"),
    (SCORE[0], "in the order in which they come", "Sort by falling score"),
    (SCORE[0], "counts as a hit", "Remember which objects are taken"),
    (SCORE[0], "goes to the next object", "COCO's rule"),
    (SCORE[0], "under the zigzag", "Raise each precision"),
    (SCORE[0], "always ends at 1", "Divide the hits by len(truths)"),
]

NEARLY = [
    (IOU[0], 16 / 56 + 0.006),
    (IOU[1], nudged(box_by_box)),
    (SIDES[0], 10.2),
    (SIDES[2], 4.52),
    (AP[0], 0.4848),
    (AP[1], 0.4742),
    (SCORE[0], nudged(score)),
]

TestJudging = judging(EXERCISES, RIGHT, WRONG, OTHER, TWICE, CAUSES, NEARLY)
