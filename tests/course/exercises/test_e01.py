"""Right answers pass; each wrong answer gets its own hint and no other."""

import itertools
import math

import pytest
import torch

from rcnn_tutorial.course.exercises.e01 import EXERCISES
from tests.course.exercises.judging import hints, judging, nudged, with_

SIZE, DILATE = EXERCISES["01-1"]
TUNING, SVM = EXERCISES["01-2"]
(MINE,) = EXERCISES["01-3"]
FOUR, OFFSETS = EXERCISES["01-4"]


def dilate_loop(box, p=16, size=227, rule="right", about="centre"):
    rows = []
    for x1, y1, x2, y2 in box.reshape(-1, 4).tolist():
        w, h = x2 - x1, y2 - y1
        new = {
            "right": lambda s: s * size / (size - p - p),
            "image": lambda s: s + p + p,
            "window": lambda s: s + s * 2 * p / size,
            "one side": lambda s: s + s * p / size,
            "one side left": lambda s: s / (1 - p / size),
            "one side more": lambda s: s * (size - p) / (size - 2 * p),
        }[rule]
        dw, dh = new(w) - w, new(h) - h
        if about == "centre":
            rows.append((x1 - dw / 2, y1 - dh / 2, x2 + dw / 2, y2 + dh / 2))
        elif about == "corner":
            rows.append((x1, y1, x2 + dw, y2 + dh))
        else:
            rows.append(tuple(v * new(1) for v in (x1, y1, x2, y2)))
    return torch.tensor(rows).reshape(box.shape)


def mine_loop(scores, is_positive, margin=-1.0, low=None, high=math.inf, positives=False, at_margin=False):
    low = margin if low is None else low
    pairs = zip(scores.tolist(), is_positive.tolist(), strict=True)
    return [(low < s < high or (at_margin and s == low)) and (positives or not p) for s, p in pairs]


def highest(n):
    def mine(scores, is_positive, margin=-1.0):
        ranked = sorted((i for i in range(len(scores)) if not is_positive[i]), key=lambda i: -scores[i])
        return [i in ranked[:n] for i in range(len(scores))]

    return mine


def highest_of_all(scores, is_positive, margin=-1.0):
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[scores.topk(5).indices] = True
    return mask


def offsets_loop(proposals, truths, rule="right"):
    rows = []
    for (a1, b1, a2, b2), (c1, d1, c2, d2) in zip(proposals.tolist(), truths.tolist(), strict=True):
        w, h, gw, gh = a2 - a1, b2 - b1, c2 - c1, d2 - d1
        dx, dy = (c1 + c2 - a1 - a2) / 2, (d1 + d2 - b1 - b2) / 2
        tx, ty, tw, th = dx / w, dy / h, math.log(gw / w), math.log(gh / h)
        rows.append(
            {
                "right": (tx, ty, tw, th),
                "corners": ((c1 - a1) / w, (d1 - b1) / h, tw, th),
                "truth": (dx / gw, dy / gh, tw, th),
                "ratio": (tx, ty, gw / w, gh / h),
                "inverted": (tx, ty, -tw, -th),
                "growth": (tx, ty, gw / w - 1, gh / h - 1),
                "log2": (tx, ty, math.log2(gw / w), math.log2(gh / h)),
                "log10": (tx, ty, math.log10(gw / w), math.log10(gh / h)),
                "pixels": (c1 - a1, d1 - b1, c2 - a2, d2 - b2),
                "centres in pixels": (dx, dy, gw - w, gh - h),
                "shift in pixels": (dx, dy, tw, th),
                "sides in pixels": (tx, ty, gw - w, gh - h),
                "order": (tx, tw, ty, th),
            }[rule]
        )
    return torch.tensor(rows)


RIGHT = [
    (SIZE, (116.41, 58.21)),
    (SIZE, [100 * 227 / 195, 50 * 227 / 195]),
    (SIZE, torch.tensor([116.4, 58.2])),
    (DILATE, dilate_loop),
    (TUNING, ["bg", "bg", "bg", "fg", "fg", "fg"]),
    (TUNING, "bg bg bg fg fg fg"),
    (TUNING, "BG, bg, Bg, FG, fg, fG"),
    (SVM, ("neg", "-", "-", "-", "-", "pos")),
    (SVM, "Neg - - - - POS"),
    (MINE, mine_loop),
    (MINE, with_(lambda *case: torch.tensor(mine_loop(*case)))),
    (FOUR, (0.25, 0.5, 0, 0.693)),
    (FOUR, torch.tensor([0.25, 0.5, 0, math.log(2)])),
    (OFFSETS, offsets_loop),
]

WRONG = [
    (SIZE, (132, 82), "same number of pixels"),
    (SIZE, (114.10, 57.05), "14 px"),
    (SIZE, (107.05, 53.5), "8 px"),
    (SIZE, (107.58, 53.79), "8 px"),
    (SIZE, (108.21, 54.10), "8 px"),
    (SIZE, (58.21, 116.41), "higher than wide"),
    (DILATE, with_(dilate_loop, rule="image"), "as many pixels"),
    (DILATE, with_(dilate_loop, rule="window"), "199 px"),
    (DILATE, with_(dilate_loop, rule="one side"), "211 px"),
    (DILATE, with_(dilate_loop, rule="one side left"), "211 px"),
    (DILATE, with_(dilate_loop, rule="one side more"), "211 px"),
    (DILATE, with_(dilate_loop, about="corner"), "stays where it was"),
    (DILATE, with_(dilate_loop, about="origin"), "moves away"),
    (DILATE, lambda box, p=16, size=227: dilate_loop(box, p, size).clamp(min=0), "stays inside"),
    (DILATE, lambda box, p=16, size=227: dilate_loop(box), "227 alone"),
    (TUNING, "bg bg bg bg fg fg", "IoU 0.5"),
    (TUNING, "bg bg fg fg fg fg", "less than half"),
    (TUNING, "bg fg fg fg fg fg", "less than half"),
    (TUNING, "bg bg bg bg bg fg", "IoU 0.8"),
    (SVM, "neg neg neg pos pos pos", "not the true box"),
    (SVM, "neg - - - pos pos", "not the true box"),
    (SVM, "neg neg neg neg neg pos", "IoU 0.8"),
    (SVM, "neg neg neg - - pos", "a part of the object"),
    (SVM, "neg neg - - - pos", "a part of the object"),
    (SVM, "neg - neg - - pos", "a part of the object"),
    (SVM, "neg - - - - -", "no positive"),
    (MINE, with_(mine_loop, low=0), "false alarms enter"),
    (MINE, with_(mine_loop, low=0, at_margin=True), "false alarms enter"),
    (MINE, with_(mine_loop, positives=True), "Positives enter"),
    (MINE, highest(1), "Take 100"),
    (MINE, highest(10), "Take 100"),
    (MINE, highest(1000), "Take 100"),
    (MINE, highest_of_all, "Take 100"),
    (MINE, with_(mine_loop, at_margin=True), "exactly the margin"),
    (MINE, with_(mine_loop, high=1), "worst false alarms"),
    (MINE, with_(mine_loop, high=0), "worst false alarms"),
    (MINE, lambda scores, is_positive, margin=-1.0: mine_loop(scores, is_positive), "margin -1 alone"),
    (FOUR, (0.25, 0, 0, 0.693), "ty is 0"),
    (FOUR, (0.25, 0.25, 0, 0.693), "ty is too small"),
    (FOUR, (-0.25, -0.25, 0, -0.693), "to the left"),
    (FOUR, (-0.25, -0.5, 0, -0.693), "to the left"),
    (FOUR, (0.25, 0.5, 0, -0.693), "th is negative"),
    (OFFSETS, with_(offsets_loop, rule="inverted"), "negative tw and th"),
    (FOUR, (0.25, 0.5, 1, 2), "tw or th"),
    (FOUR, (0.25, 0.5, 0, 1), "tw or th"),
    (FOUR, (0.25, 0.5, 0, 0.301), "tw or th"),
    *((FOUR, four, "pixels") for four in ((10, 0, 10, 40), (10, 20, 0, 40), (10, 0, 0, 40))),
    *((FOUR, four, "pixels") for four in ((10, 20, 0, 0.693), (0.25, 0.5, 0, 40))),
    (OFFSETS, with_(offsets_loop, rule="corners"), "same centre"),
    (OFFSETS, with_(offsets_loop, rule="truth"), "counts less"),
    (OFFSETS, lambda proposals, truths: offsets_loop(truths, proposals), "lead back"),
    *((OFFSETS, with_(offsets_loop, rule=r), "tw and th are not") for r in ("ratio", "growth", "log2", "log10")),
    (OFFSETS, with_(offsets_loop, rule="pixels"), "twice as large"),
    (OFFSETS, with_(offsets_loop, rule="centres in pixels"), "twice as large"),
    (OFFSETS, with_(offsets_loop, rule="shift in pixels"), "twice as large"),
    (OFFSETS, with_(offsets_loop, rule="sides in pixels"), "twice as large"),
]

OTHER = [
    (SIZE, (100, 50)),
    (DILATE, with_(dilate_loop, rule="image", about="corner")),
    (TUNING, "bg bg bg fg fg bg"),
    (SVM, "- - - - - pos"),
    (MINE, lambda scores, is_positive, margin=-1.0: scores < margin),
    (MINE, lambda *case: torch.tensor(mine_loop(*case)).nonzero()[:, 0]),
    (FOUR, (0.25, 0, 0.5, 0.693)),
    (OFFSETS, with_(offsets_loop, rule="order")),
]

TWICE = [
    ("01-1", ((132, 82), with_(dilate_loop, rule="image"))),
    ("01-2", ("bg bg bg bg bg fg", "neg neg neg neg neg pos")),
    ("01-3", (with_(mine_loop, low=0),)),
    ("01-4", ((0.25, 0, 0, 0.693), with_(offsets_loop, rule="corners"))),
]

CAUSES = [
    (SIZE, "same number of pixels", "lie in the warped window"),
    (SIZE, "14 px", "227 - 32"),
    (SIZE, "8 px", "on both sides"),
    (SIZE, "higher than wide", "(width, height)"),
    (DILATE, "as many pixels", "lie in the warped window"),
    (DILATE, "199 px", "227 - 32"),
    (DILATE, "211 px", "on both sides"),
    (DILATE, "stays where it was", "Half of it belongs to each side"),
    (DILATE, "moves away", "about (0, 0)"),
    (DILATE, "stays inside", "was clipped"),
    (DILATE, "227 alone", "where p or size should"),
    (TUNING, "IoU 0.5", ">= and not >"),
    (TUNING, "less than half", "bound of the SVMs"),
    (TUNING, "IoU 0.8", "needs many examples"),
    (SVM, "not the true box", "are the true boxes alone"),
    (SVM, "IoU 0.8", "not a positive, but no negative either"),
    (SVM, "a part of the object", "lie below 0.3"),
    (SVM, "no positive", "the only positive"),
    (MINE, "false alarms enter", "margin is forgotten"),
    (MINE, "Positives enter", "mask of the positives"),
    (MINE, "Take 100", "fixed number"),
    (MINE, "exactly the margin", "> and not >="),
    (MINE, "worst false alarms", "no upper bound"),
    (MINE, "margin -1 alone", "where `margin` should"),
    (FOUR, "ty is 0", "from centre to centre"),
    (FOUR, "ty is too small", "not known when the offsets are applied"),
    (FOUR, "to the left", "P and G are exchanged"),
    (FOUR, "th is negative", "and not the other way round"),
    (FOUR, "tw or th", "natural logarithms"),
    (FOUR, "pixels", "is not divided"),
    (OFFSETS, "same centre", "from centre to centre"),
    (OFFSETS, "counts less", "not known when the offsets are applied"),
    (OFFSETS, "lead back", "P and G are exchanged"),
    (OFFSETS, "negative tw and th", "and not the other way round"),
    (OFFSETS, "tw and th are not", "natural logarithms"),
    (OFFSETS, "twice as large", "is not divided"),
]

NEARLY = [
    (SIZE, (116.5, 58.21)),
    (DILATE, nudged(dilate_loop)),
    (FOUR, (0.25, 0.5, 0.008, 0.693)),
    (OFFSETS, nudged(offsets_loop)),
]

TestJudging = judging(EXERCISES, RIGHT, WRONG, OTHER, TWICE, CAUSES, NEARLY)


@pytest.mark.parametrize(("part", "names"), [(TUNING, ("bg", "fg")), (SVM, ("pos", "neg", "-"))])
def test_of_all_labellings_one_is_right_and_none_has_two_hints(part, names):
    answers = list(itertools.product(names, repeat=6))
    assert sum(part.right(a) for a in answers) == 1
    assert all(len(hints(part, a)) + part.right(a) <= 1 for a in answers)


@pytest.mark.parametrize(
    ("part", "answer"), [(SIZE, 116.41), (FOUR, (0.25, 0.5)), (TUNING, "bg fg"), (SVM, "neg ? ? ? ? pos")]
)
def test_another_form_is_told(part, answer):
    with pytest.raises(ValueError, match="expected"):
        part.right(answer)
