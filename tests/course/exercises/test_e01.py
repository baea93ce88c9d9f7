"""Right answers pass; each wrong answer gets its own hint and no other."""

import itertools
import math

import pytest
import torch

from rcnn_tutorial.course.exercises.e01 import EXERCISES
from rcnn_tutorial.ops.boxes import decode
from tests.course.exercises.judging import hints, judging, nudged, with_

SIZE, SHRINK = EXERCISES["01-A"]
THREE, MERGE = EXERCISES["01-B"]
TUNING, SVM = EXERCISES["01-C"]
SUM, MINE = EXERCISES["01-D"]
FOUR, BACK = EXERCISES["01-E"]
(DETECT,) = EXERCISES["01-F"]


def shrink_loop(grown, p=16, size=227, rule="right", about="centre"):
    rows = []
    for x1, y1, x2, y2 in grown.reshape(-1, 4).tolist():
        w, h = x2 - x1, y2 - y1
        new = {
            "right": lambda s: s * (size - p - p) / size,
            "picture": lambda s: s - p - p,
            "grows": lambda s: s * size / (size - 2 * p),
            "window": lambda s: s / (1 + 2 * p / size),
            "one side": lambda s: s - s * p / size,
            "one side left": lambda s: s / (1 + p / size),
            "one side more": lambda s: s * (size - 2 * p) / (size - p),
        }[rule]
        dw, dh = new(w) - w, new(h) - h
        if about == "centre":
            rows.append((x1 - dw / 2, y1 - dh / 2, x2 + dw / 2, y2 + dh / 2))
        elif about == "corner":
            rows.append((x1, y1, x2 + dw, y2 + dh))
        else:
            rows.append(tuple(v * new(1) for v in (x1, y1, x2, y2)))
    return torch.tensor(rows).reshape(grown.shape)


def merge_loop(size_a, colour_a, size_b, colour_b, rule="right"):
    pixels = [a * size_a.item() + b * size_b.item() for a, b in zip(colour_a.tolist(), colour_b.tolist(), strict=True)]
    other = [a * size_b.item() + b * size_a.item() for a, b in zip(colour_a.tolist(), colour_b.tolist(), strict=True)]
    whole = (size_a + size_b).item()
    return torch.tensor(
        {
            "right": [p / whole for p in pixels],
            "pixels": pixels,
            "exchanged": [p / whole for p in other],
            "alike": [(a + b) / 2 for a, b in zip(colour_a.tolist(), colour_b.tolist(), strict=True)],
            "sum": [a + b for a, b in zip(colour_a.tolist(), colour_b.tolist(), strict=True)],
        }[rule]
    )


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


def back_loop(offsets, rule="right"):
    rows = []
    for tx, ty, tw, th in offsets.tolist():
        gw, gh = math.exp(tw), math.exp(th)
        right = (-tx / gw, -ty / gh)
        rows.append(
            {
                "right": (*right, -tw, -th),
                "unit": (-tx, -ty, -tw, -th),
                "larger": (-tx * gw, -ty * gh, -tw, -th),
                "same": (tx, ty, tw, th),
                "forward": (tx / gw, ty / gh, -tw, -th),
                "sides alone": (tx, ty, -tw, -th),
                "shift alone": (*right, tw, th),
                "ratio": (*right, 1 / gw, 1 / gh),
                "reciprocal": (*right, 1 / tw, 1 / th),
                "order": (-tx / gw, -tw, -ty / gh, -th),
            }[rule]
        )
    return torch.tensor(rows)


def overlap(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(w, 0) * max(h, 0)
    area = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return inter / (sum(area) - inter)


def detect_loop(features, weight, bias, offsets, proposals, threshold, rule="right"):
    rows = []
    for x, (tx, ty, tw, th), old in zip(features.tolist(), offsets.tolist(), proposals.tolist(), strict=True):
        score = sum(a * b for a, b in zip(x, weight.tolist(), strict=True)) + (bias.item() if rule != "no bias" else 0)
        w, h = old[2] - old[0], old[3] - old[1]
        cx, cy = (old[0] + old[2]) / 2 + tx * w, (old[1] + old[3]) / 2 + ty * h
        w, h = w * math.exp(tw), h * math.exp(th)
        new = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
        rows.append((score, old if rule == "not moved" else new, old))
    bound = {"all": -math.inf, "margin": -1}.get(rule, 0)
    order = sorted((i for i in range(len(rows)) if rows[i][0] > bound), key=lambda i: -rows[i][0])
    kept = []
    for i in order:
        which = 2 if rule == "proposals" else 1
        if rule == "no suppression" or all(overlap(rows[i][which], rows[j][which]) <= threshold for j in kept):
            kept.append(i)
    kept = sorted(kept) if rule == "unsorted" else kept
    return torch.tensor([rows[i][1] for i in kept])


RIGHT = [
    (SIZE, (80, 40)),
    (SIZE, [60 * 64 / 48, 30 * 64 / 48]),
    (SIZE, torch.tensor([80.0, 40.0])),
    (SHRINK, shrink_loop),
    (THREE, (0.5, 0.3, 0.2)),
    (MERGE, merge_loop),
    (TUNING, ["bg", "bg", "bg", "fg", "fg", "fg"]),
    (TUNING, "bg bg bg fg fg fg"),
    (TUNING, "BG, bg, Bg, FG, fg, fG"),
    (SVM, ("bg", "-", "-", "-", "-", "fg")),
    (SVM, "Bg - - - - FG"),
    (SUM, 2.9),
    (MINE, mine_loop),
    (MINE, with_(lambda *case: torch.tensor(mine_loop(*case)))),
    (FOUR, (-0.25, -0.25, 0, -0.693)),
    (FOUR, torch.tensor([-0.25, -0.25, 0, -math.log(2)])),
    (BACK, back_loop),
    (DETECT, detect_loop),
]

WRONG = [
    (SIZE, (76, 46), "same number of pixels"),
    (SIZE, (75, 37.5), "6.4 px"),
    (SIZE, (67.5, 33.75), "4 px of"),
    (SIZE, (68.57, 34.29), "4 px of"),
    (SIZE, (70, 35), "4 px of"),
    (SIZE, (40, 80), "higher than wide"),
    (SHRINK, with_(shrink_loop, rule="picture"), "as many pixels"),
    (SHRINK, with_(shrink_loop, rule="grows"), "larger than the grown box"),
    (SHRINK, with_(shrink_loop, rule="window"), "199 px"),
    (SHRINK, with_(shrink_loop, rule="one side"), "211 px"),
    (SHRINK, with_(shrink_loop, rule="one side left"), "211 px"),
    (SHRINK, with_(shrink_loop, rule="one side more"), "211 px"),
    (SHRINK, with_(shrink_loop, about="corner"), "stays where it was"),
    (SHRINK, with_(shrink_loop, about="origin"), "moves towards"),
    (SHRINK, lambda grown, p=16, size=227: shrink_loop(grown), "227 alone"),
    (THREE, (0.4, 0.2, 0.4), "as much as"),
    (THREE, (0.8, 0.4, 0.8), "add up to 2"),
    (THREE, (0.3, 0.1, 0.6), "more than the large"),
    (THREE, (20, 12, 8), "are pixels"),
    (MERGE, with_(merge_loop, rule="alike"), "as much as"),
    (MERGE, with_(merge_loop, rule="sum"), "add up to 2"),
    (MERGE, with_(merge_loop, rule="exchanged"), "more than the large"),
    (MERGE, with_(merge_loop, rule="pixels"), "are pixels"),
    (TUNING, "bg bg bg bg fg fg", "IoU 0.5"),
    (TUNING, "bg bg fg fg fg fg", "less than half"),
    (TUNING, "bg fg fg fg fg fg", "less than half"),
    (TUNING, "bg bg bg bg bg fg", "IoU 0.8"),
    (TUNING, "bg - - fg fg fg", "unused"),
    (SVM, "bg bg bg fg fg fg", "not the true box"),
    (SVM, "bg - - - fg fg", "not the true box"),
    (SVM, "bg bg bg bg bg fg", "IoU 0.8"),
    (SVM, "bg bg bg - - fg", "a part of the object"),
    (SVM, "bg bg - - - fg", "a part of the object"),
    (SVM, "bg - bg - - fg", "a part of the object"),
    (SVM, "bg - - - - -", "no foreground"),
    (SUM, 0.5, "wrong side of 0"),
    (SUM, 4.6, "costs more than one"),
    (SUM, 2.1, "lower the sum"),
    (SUM, 0.58, "the mean"),
    (MINE, with_(mine_loop, low=0), "false alarms are in"),
    (MINE, with_(mine_loop, low=0, at_margin=True), "false alarms are in"),
    (MINE, with_(mine_loop, positives=True), "Positives are in"),
    (MINE, highest(1), "Take 100"),
    (MINE, highest(10), "Take 100"),
    (MINE, highest(1000), "Take 100"),
    (MINE, highest_of_all, "Take 100"),
    (MINE, with_(mine_loop, at_margin=True), "exactly the margin"),
    (MINE, with_(mine_loop, high=1), "worst false alarms"),
    (MINE, with_(mine_loop, high=0), "worst false alarms"),
    (MINE, lambda scores, is_positive, margin=-1.0: mine_loop(scores, is_positive), "margin -1 alone"),
    (FOUR, (-0.25, -0.5, 0, -0.693), "only changed their sign"),
    (FOUR, (-0.25, -1, 0, -0.693), "by the growth"),
    (FOUR, (0.25, 0.5, 0, 0.693), "same direction"),
    (FOUR, (0.25, 0.25, 0, -0.693), "same direction"),
    (FOUR, (0.25, 0.5, 0, -0.693), "same direction"),
    (FOUR, (-0.25, -0.25, 0, 0.693), "tw and th are not"),
    (FOUR, (-0.25, -0.25, 1, 0.5), "tw and th are not"),
    (FOUR, (-0.25, -0.25, 0, 0.5), "tw and th are not"),
    (BACK, with_(back_loop, rule="unit"), "only changed their sign"),
    (BACK, with_(back_loop, rule="larger"), "by the growth"),
    *((BACK, with_(back_loop, rule=rule), "same direction") for rule in ("same", "forward", "sides alone")),
    *((BACK, with_(back_loop, rule=rule), "tw and th are not") for rule in ("shift alone", "ratio", "reciprocal")),
    (DETECT, lambda *case: decode(case[4], case[3]), "in the wrong order"),
    (DETECT, with_(detect_loop, rule="not moved"), "are the proposals"),
    (DETECT, with_(detect_loop, rule="proposals"), "overlap by more"),
    (DETECT, with_(detect_loop, rule="no suppression"), "many boxes"),
    (DETECT, with_(detect_loop, rule="all"), "says no to"),
    (DETECT, with_(detect_loop, rule="margin"), "between the margin"),
    (DETECT, with_(detect_loop, rule="no bias"), "a little below 0"),
    (DETECT, with_(detect_loop, rule="unsorted"), "their order is not"),
]

OTHER = [
    (SIZE, (60, 30)),
    (SHRINK, with_(shrink_loop, rule="picture", about="corner")),
    (THREE, (0.5, 0.2, 0.3)),
    (MERGE, lambda sa, a, sb, b: a),
    (TUNING, "bg bg bg fg fg bg"),
    (SVM, "- - - - - fg"),
    (SUM, 1.0),
    (MINE, lambda scores, is_positive, margin=-1.0: scores < margin),
    (MINE, lambda *case: torch.tensor(mine_loop(*case)).nonzero()[:, 0]),
    (FOUR, (-0.25, 0, 0.5, 0.693)),
    (BACK, with_(back_loop, rule="order")),
    (DETECT, lambda *case: case[4]),
]

TWICE = [
    ("01-A", ((76, 46), with_(shrink_loop, rule="picture"))),
    ("01-B", ((0.4, 0.2, 0.4), with_(merge_loop, rule="sum"))),
    ("01-C", ("bg bg bg bg bg fg", "bg bg bg bg bg fg")),
    ("01-D", (0.5, with_(mine_loop, low=0))),
    ("01-E", ((-0.25, -0.5, 0, -0.693), with_(back_loop, rule="larger"))),
    ("01-F", (with_(detect_loop, rule="proposals"),)),
]

CAUSES = [
    (SIZE, "same number of pixels", "in the picture a large box"),
    (SIZE, "6.4 px", "64 - 16"),
    (SIZE, "4 px of", "on both sides: 16"),
    (SIZE, "higher than wide", "(width, height)"),
    (SHRINK, "as many pixels", "a share of the grown box"),
    (SHRINK, "larger than the grown box", "turned over"),
    (SHRINK, "199 px", "with the context, so"),
    (SHRINK, "211 px", "on each of two sides"),
    (SHRINK, "stays where it was", "Half of it lies on each side"),
    (SHRINK, "moves towards", "about (0, 0)"),
    (SHRINK, "227 alone", "where p or size should"),
    *((part, "as much as", "Every pixel counts once") for part in (THREE, MERGE)),
    *((part, "add up to 2", "adds up to 1") for part in (THREE, MERGE)),
    *((part, "more than the large", "sizes are exchanged") for part in (THREE, MERGE)),
    *((part, "are pixels", "Divide by the number") for part in (THREE, MERGE)),
    (TUNING, "unused", "leaves no window out"),
    (TUNING, "IoU 0.5", ">= and not >"),
    (TUNING, "less than half", "bound of the SVMs"),
    (TUNING, "IoU 0.8", "needs many examples"),
    (SVM, "not the true box", "are the true boxes alone"),
    (SVM, "IoU 0.8", "not a foreground window, but no background either"),
    (SVM, "a part of the object", "lie below 0.3"),
    (SVM, "no foreground", "the only foreground"),
    (SUM, "wrong side of 0", "not enough for a positive"),
    (SUM, "costs more than one", "pays for a high score"),
    (SUM, "lower the sum", "not less than nothing"),
    (SUM, "the mean", "about the sum"),
    (MINE, "false alarms are in", "margin is forgotten"),
    (MINE, "Positives are in", "mask of the positives"),
    (MINE, "Take 100", "fixed number"),
    (MINE, "exactly the margin", "> and not >="),
    (MINE, "worst false alarms", "no upper bound"),
    (MINE, "margin -1 alone", "where `margin` should"),
    *((part, "only changed their sign", "That is now G") for part in (FOUR, BACK)),
    *((part, "by the growth", "fewer units") for part in (FOUR, BACK)),
    *((part, "same direction", "turns the shift round") for part in (FOUR, BACK)),
    *((part, "tw and th are not", "turns over") for part in (FOUR, BACK)),
    (DETECT, "in the wrong order", "offsets come first"),
    (DETECT, "are the proposals", "offsets are not used"),
    (DETECT, "overlap by more", "compared the proposals"),
    (DETECT, "many boxes", "suppression is missing"),
    (DETECT, "says no to", "only if its score"),
    (DETECT, "between the margin", "something in training"),
    (DETECT, "a little below 0", "the bias is missing"),
    (DETECT, "their order is not", "best box comes first"),
]

NEARLY = [
    (SIZE, (80.1, 40)),
    (SHRINK, nudged(shrink_loop)),
    (THREE, (0.505, 0.3, 0.2)),
    (MERGE, nudged(merge_loop)),
    (SUM, 2.93),
    (FOUR, (-0.25, -0.258, 0, -0.693)),
    (BACK, nudged(back_loop)),
    (DETECT, nudged(detect_loop)),
]

TestJudging = judging(EXERCISES, RIGHT, WRONG, OTHER, TWICE, CAUSES, NEARLY)


@pytest.mark.parametrize(("part", "names"), [(TUNING, ("bg", "fg")), (SVM, ("fg", "bg", "-"))])
def test_of_all_labellings_one_is_right_and_none_has_two_hints(part, names):
    answers = list(itertools.product(names, repeat=6))
    assert sum(part.right(a) for a in answers) == 1
    assert all(len(hints(part, a)) + part.right(a) <= 1 for a in answers)


@pytest.mark.parametrize(
    ("part", "answer"),
    [(SIZE, 80), (THREE, (0.5, 0.3)), (FOUR, (0.25, 0.5)), (TUNING, "bg fg"), (SVM, "bg ? ? ? ? fg")],
)
def test_another_form_is_told(part, answer):
    with pytest.raises(ValueError, match="expected"):
        part.right(answer)
