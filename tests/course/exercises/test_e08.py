"""Right answers pass; each wrong answer gets its own hint and no other."""

from math import exp

import pytest
import torch

from rcnn_tutorial.course.exercises import check, core
from rcnn_tutorial.course.exercises.e08 import AP, EACH, EXERCISES, MS, SIDES, TABLE, four_maps
from tests.course.exercises.judging import hints, nudged

PARTS = {f"{name}{k}": part for name, parts in EXERCISES.items() for k, part in enumerate(parts, 1)}


def inconsistent(rows, tolerance):
    return [name for name, ms, fps, _ in rows if not 1 - tolerance <= fps * ms / 1000 <= 1 + tolerance]


def by_time(rows, tolerance):
    """The same by the other side of the equation."""
    return {name for name, ms, fps, _ in rows if abs(ms * fps / 1000 - 1) > tolerance}


def expected_cells(objects, side):
    """By induction: the next object fills a new cell if it hits an empty one."""
    filled = 0.0
    for _ in range(objects):
        filled += 1 - filled / side**2
    return filled


def empty_cells(objects, side):
    return side**2 - expected_cells(objects, side)


def share_of_finest(sides, each):
    boxes = {side: side * side * own for side, own in zip(sides, each, strict=True)}
    return boxes[max(boxes)] / sum(boxes.values())


def vote(maps, box, k, order=lambda i, j, k: i * k + j, total=()):
    x1, y1, x2, y2 = box
    high, wide = (y2 - y1) // k, (x2 - x1) // k
    bins = []
    for i in range(k):
        for j in range(k):
            own = maps[order(i, j, k)]
            cells = [own[y1 + i * high + y, x1 + j * wide + x].item() for y in range(high) for x in range(wide)]
            bins.append(sum(cells) / (1 if "cells" in total else len(cells)))
    return sum(bins) / (1 if "bins" in total else k * k)


def best_window(maps, side, k, margin=0, **options):
    corners = {}
    for x in range(maps.shape[2] - side + 1 - margin):
        for y in range(maps.shape[1] - side + 1 - margin):
            corners[vote(maps, (x, y, x + side, y + side), k, **options)] = (x, y)
    return corners[max(corners)]


def with_(function, **options):
    return lambda *case: function(*case, **options)


def pareto(ms, ap):
    return [i for i in range(len(ms)) if all(m >= ms[i] or a <= ap[i] for m, a in zip(ms, ap, strict=True))]


def without_ties(ms, ap):
    """What remains if the fast come first and each must be more accurate than all before."""
    kept, best = [], -1.0
    for i in sorted(range(len(ms)), key=lambda i: (ms[i], -ap[i])):
        if ap[i] > best:
            kept.append(i)
            best = ap[i]
    return sorted(kept)


RIGHT = [
    ("08-A1", "Elm"),
    ("08-A1", "elm"),
    ("08-A2", inconsistent),
    ("08-A2", by_time),
    ("08-B1", 16.6),
    ("08-B1", 16.5586),
    ("08-B2", expected_cells),
    ("08-C1", 0.667),
    ("08-C1", 0.67),
    ("08-C2", share_of_finest),
    ("08-D1", 6.5),
    ("08-D2", best_window),
    ("08-D2", lambda *case: list(best_window(*case, total=("bins", "cells")))),  # a sum has its peak there, too
    ("08-E1", [0, 1, 3]),
    ("08-E1", (0, 1, 3)),
    ("08-E2", pareto),
    ("08-E2", lambda ms, ap: torch.tensor(pareto(ms, ap))),
]
WRONG = [
    ("08-A1", "Larch", "difference in FPS"),
    ("08-A1", "Cedar", "Accuracy"),
    ("08-A2", lambda rows, t: [name for name, ms, fps, _ in rows if abs(fps - 1000 / ms) > t], "difference in FPS"),
    ("08-A2", lambda rows, t: [name for name, ms, fps, _ in rows if fps * ms / 1000 > 1 + t], "too few"),
    ("08-A2", lambda rows, t: [name for name, ms, fps, _ in rows if abs(fps * ms - 1) > t], "Every row"),
    ("08-B1", 20, "share a cell"),
    ("08-B1", 14.2, "levels off"),
    ("08-B1", 32.44, "empty"),
    ("08-B1", 6.68, "one row"),
    ("08-B1", 16.42, "nearly"),
    ("08-B2", lambda objects, side: objects, "share a cell"),
    ("08-B2", lambda objects, side: min(objects, side * side), "share a cell"),
    ("08-B2", lambda objects, side: 1 / (1 / objects + 1 / side**2), "levels off"),
    ("08-B2", empty_cells, "empty"),
    ("08-B2", lambda objects, side: side - side * (1 - 1 / side) ** objects, "one row"),
    ("08-B2", lambda objects, side: side**2 - side**2 * exp(-objects / side**2), "nearly"),
    ("08-C1", 256 / 628, "one row"),
    ("08-C1", 0.75, "share of the cells"),
    ("08-C1", 0.333, "other maps"),
    ("08-C1", 2.003, "compared with the others"),
    ("08-C2", lambda sides, each: share_of_finest(sides, [n / s for n, s in zip(each, sides, strict=True)]), "one row"),
    ("08-C2", lambda sides, each: share_of_finest(sides, [5] * len(sides)), "share of the cells"),
    ("08-C2", lambda *case: 1 - share_of_finest(*case), "other maps"),
    ("08-C2", lambda *case: 1 / (1 / share_of_finest(*case) - 1), "compared with the others"),
    (
        "08-C2",
        lambda sides, each: sides[0] ** 2 * each[0] / sum(s * s * n for s, n in zip(sides, each, strict=True)),
        "first map",
    ),
    ("08-D1", 4.75, "exchanged"),
    ("08-D1", 3, "same map"),
    ("08-D1", 26, "sum"),
    ("08-D1", 13, "sum"),
    ("08-D2", with_(best_window, order=lambda i, j, k: j * k + i), "Rows and columns"),
    ("08-D2", with_(best_window, order=lambda i, j, k: 0), "same map"),
    ("08-D2", lambda *case: best_window(*case)[::-1], "x and y"),
    ("08-D2", with_(best_window, margin=1), "border"),
    ("08-E1", [0, 1, 4], "AP per millisecond"),
    ("08-E1", [0], "AP per millisecond"),
    ("08-E1", [0, 1], "most accurate"),
    ("08-E1", [2, 4], "leave out"),
    (
        "08-E2",
        lambda ms, ap: sorted(sorted(range(len(ms)), key=lambda i: ms[i] / ap[i])[: len(pareto(ms, ap))]),
        "AP per millisecond",
    ),
    ("08-E2", lambda ms, ap: [min(range(len(ms)), key=lambda i: ms[i] / ap[i])], "AP per millisecond"),
    (
        "08-E2",
        lambda ms, ap: [i for i in pareto(ms, ap) if ms[i] < max(ms[j] for j in pareto(ms, ap))],
        "most accurate",
    ),
    ("08-E2", lambda ms, ap: [i for i in range(len(ms)) if i not in pareto(ms, ap)], "leave out"),
    ("08-E2", without_ties, "equal to another"),
    ("08-E2", lambda ms, ap: sorted(pareto(ms, ap), key=lambda i: ms[i]), "order"),
]
OTHER = [
    ("08-A1", "Alder"),
    ("08-A2", lambda rows, tolerance: list(rows)),
    ("08-A2", lambda rows, tolerance: []),
    ("08-B1", 17),
    ("08-B2", nudged(expected_cells)),
    ("08-C1", 0.6),
    ("08-C1", 24564),
    ("08-C2", nudged(share_of_finest)),
    ("08-D1", 6.4),
    ("08-D2", lambda maps, side, k: (0, 0)),
    ("08-D2", lambda *case: torch.tensor([best_window(*case)])),
    ("08-E1", [3]),
    ("08-E1", []),
    ("08-E2", lambda ms, ap: list(range(len(ms)))),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_right_answers(name, answer):
    assert PARTS[name].right(answer) and not hints(PARTS[name], answer)


@pytest.mark.parametrize(("name", "answer", "symptom"), WRONG)
def test_each_wrong_answer_has_its_own_hint(name, answer, symptom):
    assert not PARTS[name].right(answer)
    told = hints(PARTS[name], answer)
    assert len(told) == 1 and symptom in told[0], told


@pytest.mark.parametrize(("name", "answer"), OTHER)
def test_other_wrong_answers_get_a_way_to_go_on(name, answer):
    assert not PARTS[name].right(answer) and not hints(PARTS[name], answer) and PARTS[name].otherwise


def test_every_hint_is_reached():
    reached = {symptom for name, answer, _ in WRONG for symptom in hints(PARTS[name], answer)}
    assert reached == {mistake.symptom for part in PARTS.values() for mistake in part.mistakes}


def test_symptom_first_then_cause(monkeypatch, capsys):
    monkeypatch.setattr(core, "_told", core.Counter())
    for _ in range(2):
        check("08-D", 26, ...)
    first, _, second, _ = capsys.readouterr().out.splitlines()
    assert first == "08-D: the number: not yet. That is a sum."
    assert second == f"{first} A bin is the mean of its cells, and the vote is the mean of the bins."


def test_a_list_of_names_is_asked_for(capsys):
    check("08-A", ..., lambda rows, tolerance: None)
    check("08-A", ..., lambda rows, tolerance: "Elm")
    check("08-A", ..., lambda rows, tolerance: ...)
    told = [line.split("function: ")[1] for line in capsys.readouterr().out.splitlines() if "function" in line]
    assert told == 2 * ["not yet. It raises ValueError: return a list of names"] + ["open"]


def test_what_the_notebook_prints_is_what_is_judged():
    assert PARTS["08-A1"].right(*inconsistent(TABLE, 0.1))
    assert PARTS["08-C1"].right(share_of_finest(SIDES, EACH))
    assert PARTS["08-D1"].right(vote(four_maps(), (0, 1, 4, 3), 2))
    assert PARTS["08-E1"].right(pareto(MS, AP))
