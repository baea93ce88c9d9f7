"""Right answers pass; each wrong answer gets its own hint and no other."""

import torch

from rcnn_tutorial.course.exercises.e00 import EXERCISES
from tests.course.exercises.judging import judging, nudged, with_

IOU, NMS, AP = EXERCISES["00-1"], EXERCISES["00-2"], EXERCISES["00-3"]


def iou_loop(a, b, extra=0.0, clamp=True, divide="union"):
    out = torch.zeros(len(a), len(b))
    for i, p in enumerate(a.tolist()):
        for j, q in enumerate(b.tolist()):
            w, h = min(p[2], q[2]) - max(p[0], q[0]) + extra, min(p[3], q[3]) - max(p[1], q[1]) + extra
            inter = {True: max(w, 0) * max(h, 0), False: w * h, "product": max(w * h, 0)}[clamp]
            one, two = ((r[2] - r[0] + extra) * (r[3] - r[1] + extra) for r in (p, q))
            out[i, j] = inter / {"first": one, "sum": one + two, "union": one + two - inter}[divide]
    return out


def nms_loop(boxes, scores, threshold, rule="right"):
    order = list(range(len(boxes))) if rule == "unsorted" else sorted(range(len(boxes)), key=lambda i: -scores[i])
    overlap = iou_loop(boxes, boxes).double()
    gone, kept = set(), []
    for place, i in enumerate(order):
        if i not in gone:
            kept.append(i)
        if i not in gone or rule == "dropped boxes drop":
            for j in order[place + 1 :]:
                if overlap[i, j] > threshold or (rule == ">=" and overlap[i, j] >= threshold):
                    gone.add(j)
    return kept


RIGHT = [
    (IOU[0], 48 / 152),
    (IOU[0], 0.32),
    (IOU[1], iou_loop),
    (NMS[0], "ACDF"),
    (NMS[0], ["A", "C", "F", "D"]),
    (NMS[0], "a, c, d, f"),
    (NMS[1], "A C D F E"),
    (NMS[2], nms_loop),
    (NMS[2], lambda *case: torch.tensor(nms_loop(*case))),
    (AP[0], 0.483),
    (AP[1], 0.4727),
]

WRONG = [
    (IOU[0], 63 / 179, "too large"),
    (IOU[0], 0.48, "share of one box"),
    (IOU[0], 0.24, "counted twice"),
    (IOU[1], lambda a, b: iou_loop(a, b, divide="sum"), "counted twice"),
    (IOU[1], lambda a, b: iou_loop(a, b, clamp="product"), "apart in x and in y"),
    (IOU[1], lambda a, b: iou_loop(a, b, extra=1.0), "too large"),
    (IOU[1], lambda a, b: iou_loop(a, b, divide="first"), "share of one box"),
    (IOU[1], lambda a, b: iou_loop(a, b, clamp=False), "apart in x and in y"),
    (IOU[1], lambda a, b: iou_loop(b, a), "on its side"),
    (NMS[0], "ADF", "C is gone"),
    (NMS[0], "ACF", "exactly the threshold"),
    (NMS[0], "ACDE", "weaker one stays"),
    (NMS[1], "ACDF", "another class"),
    (NMS[2], lambda *case: nms_loop(*case, rule="dropped boxes drop"), "C is gone"),
    (NMS[2], lambda *case: nms_loop(*case, rule=">="), "exactly the threshold"),
    (NMS[2], lambda *case: nms_loop(*case, rule="unsorted"), "weaker one stays"),
    (AP[0], 0.8, "four hits"),
    (AP[0], 0.4417, "up and down"),
    (AP[0], 0.485, "101 recalls"),
    (AP[0], 9 / 16, "only four places"),
    (AP[1], 6 / 11, "only four places"),
    (AP[0], 0.6444, "missing from the count"),
    (AP[1], 0.8, "four hits"),
    (AP[1], 0.6424, "missing from the count"),
    (AP[1], 0.4533, "Ten recalls"),
]


OTHER = [
    (IOU[0], 0.9),
    (IOU[1], lambda a, b: iou_loop(a, b) * 0),
    (NMS[0], "ABCDEF"),
    (AP[0], 0.1),
    (AP[0], 0.478),
]

TWICE = [
    ("00-1", (0.48, lambda a, b: iou_loop(b, a))),
    ("00-2", ("ADF", "ACDF", with_(nms_loop, rule="unsorted"))),
    ("00-3", (0.8, 6 / 11)),
]

CAUSES = [
    (IOU[0], "too large", "width is x2 - x1"),
    (IOU[0], "share of one box", "Divide by the area of the union"),
    (IOU[0], "counted twice", "without the intersection"),
    (IOU[1], "too large", "width is x2 - x1"),
    (IOU[1], "share of one box", "Divide by the area of the union"),
    (IOU[1], "counted twice", "without the intersection"),
    (IOU[1], "apart in x and in y", "clamp each side"),
    (IOU[1], "on its side", "new axis"),
    (NMS[0], "C is gone", "a dropped box drops nobody"),
    (NMS[0], "exactly the threshold", "> and not >="),
    (NMS[0], "weaker one stays", "not sorted"),
    (NMS[2], "C is gone", "a dropped box drops nobody"),
    (NMS[2], "exactly the threshold", "> and not >="),
    (NMS[2], "weaker one stays", "not sorted"),
    (NMS[1], "another class", "within a class"),
    (AP[0], "101 recalls", "width times height"),
    (AP[0], "up and down", "Take the envelope first"),
    (AP[1], "Ten recalls", "recall 0 counts too"),
    (AP[0], "four hits", "found already"),
    (AP[0], "only four places", "stays in the ranking"),
    (AP[0], "missing from the count", "objects that exist"),
    (AP[1], "four hits", "found already"),
    (AP[1], "only four places", "stays in the ranking"),
    (AP[1], "missing from the count", "objects that exist"),
]

NEARLY = [
    (IOU[0], 48 / 152 + 0.008),
    (IOU[1], nudged(iou_loop)),
    (AP[0], 0.4848),
    (AP[1], 0.4742),
]

TestJudging = judging(EXERCISES, RIGHT, WRONG, OTHER, TWICE, CAUSES, NEARLY)
