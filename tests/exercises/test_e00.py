"""Right answers pass; each wrong answer gets its own hint and no other."""

import pytest
import torch

from rcnn_tutorial.exercises.e00 import EXERCISES

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


@pytest.mark.parametrize(("part", "answer"), RIGHT)
def test_right_answers(part, answer):
    assert part.right(answer)
    assert not any(mistake.made_by(answer) for mistake in part.mistakes)


@pytest.mark.parametrize(("part", "answer", "symptom"), WRONG)
def test_each_wrong_answer_has_its_own_hint(part, answer, symptom):
    assert not part.right(answer)
    hints = [mistake.symptom for mistake in part.mistakes if mistake.made_by(answer)]
    assert len(hints) == 1 and symptom in hints[0]


def test_every_hint_is_reached():
    reached = {m.symptom for part, answer, _ in WRONG for m in part.mistakes if m.made_by(answer)}
    assert reached == {m.symptom for parts in EXERCISES.values() for part in parts for m in part.mistakes}


def test_other_wrong_answers_get_a_way_to_go_on():
    others = (
        (IOU[0], 0.9),
        (IOU[1], lambda a, b: iou_loop(a, b) * 0),
        (NMS[0], "ABCDEF"),
        (AP[0], 0.1),
        (AP[0], 0.478),
    )
    for part, answer in others:
        assert not part.right(answer) and not any(m.made_by(answer) for m in part.mistakes) and part.otherwise
