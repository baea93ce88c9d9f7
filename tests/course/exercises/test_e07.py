"""Right answers pass; each wrong answer gets its own hint and no other."""

from math import ceil, exp, tanh

import pytest
import torch
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from rcnn_tutorial.course.exercises.e07 import EXERCISES, eight_pictures
from tests.course.exercises.judging import hints

PARTS = {f"{name}{k}": part for name, parts in EXERCISES.items() for k, part in enumerate(parts, 1)}


def focal(p, y, sign=1, alpha=0.25, mean=False):
    loss = sign * sigmoid_focal_loss(p.logit(), y.float(), alpha, 2)
    return loss.mean() if mean else loss.sum()


def of_the_easy(p, y):
    p_t = torch.where(y == 1, p, 1 - p)
    return -(torch.where(y == 1, 0.25, 0.75) * p_t**2 * p_t.log()).sum()


def states(iou, low=0.4, high=0.5):
    return torch.tensor([1 if i >= high else 0 if i < low else -1 for i in iou.tolist()])


def count(height, width, first=3, last=7, whole=ceil):
    return 9 * sum(whole(height / 2**level) * whole(width / 2**level) for level in range(first, last + 1))


def growth(height, width, **options):
    return 1 + count(height, width, 2, 2, **options) / count(height, width, **options)


def hardest(loss, positive, ratio, negatives=True, sign=-1):
    numbers = [i for i in range(len(loss)) if not (negatives and positive[i])]
    numbers.sort(key=lambda i: sign * loss[i])
    return torch.tensor(sorted(numbers[: ratio * int(positive.sum())]))


def fit(maps, wanted, steps=200, end=None, divided=1.0):
    head = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 6, 3, padding=1))
    head[2].bias.data.fill_(-4.6)
    optimizer = torch.optim.Adam(head.parameters(), 0.003)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = sigmoid_focal_loss(head(maps), wanted, 0.25, 2, "sum") / wanted.sum() / divided
        loss.backward()
        optimizer.step()
    return nn.Sequential(head, end) if end else head


RIGHT = {
    "07-A1": 0.247,
    "07-A2": focal,
    "07-B1": -2.944,
    "07-B2": lambda bias: (1 + tanh(bias / 2)) / 2,
    "07-C1": [0, -1, -1, 1],
    "07-C2": states,
    "07-D1": 9000,
    "07-D2": growth,
    "07-E1": [3, 4, 5],
    "07-E2": hardest,
    "07-F1": fit,
}
WRONG = [
    ("07-A1", -0.247, "sign"),
    ("07-A1", 0.0825, "exchanged"),
    ("07-A1", 0.11, "easy"),
    ("07-A2", lambda p, y: focal(p, y, sign=-1), "sign"),
    ("07-A2", lambda p, y: focal(p, y, alpha=0.75), "exchanged"),
    ("07-A2", of_the_easy, "easy"),
    ("07-A2", lambda p, y: focal(p, y, mean=True), "mean"),
    ("07-B1", 2.944, "says yes"),
    ("07-B1", -1.279, "base 10"),
    ("07-B1", -2.996, "alone"),
    ("07-B2", lambda bias: 1 / (1 + exp(bias)), "answer no"),
    ("07-B2", lambda bias: 10**bias / (1 + 10**bias), "power of 10"),
    ("07-B2", exp, "odds"),
    ("07-C1", [0, 0, -1, 1], "0.4 counts"),
    ("07-C1", [0, -1, -1, -1], "0.5 does not"),
    ("07-C1", [-1, -1, -1, -1], "bounds of the RPN"),
    ("07-C2", lambda iou: states(iou, low=0.401), "0.4 counts"),
    ("07-C2", lambda iou: states(iou, high=0.501), "0.5 does not"),
    ("07-C2", lambda iou: states(iou, 0.3, 0.7), "bounds of the RPN"),
    ("07-D1", 1000, "places"),
    ("07-D1", 36000, "P2"),
    ("07-D2", lambda *case: growth(*case) - 1, "Only the anchors of P2"),
    ("07-D2", lambda *case: 1 / growth(*case), "old number"),
    ("07-D2", lambda *case: growth(*case, whole=int), "rounded down"),
    ("07-E1", [1, 3, 5], "positive"),
    ("07-E1", [0, 2, 4], "easiest"),
    ("07-E2", lambda *case: hardest(*case, negatives=False), "positive"),
    ("07-E2", lambda *case: hardest(*case, sign=1), "easiest"),
    ("07-E2", lambda loss, positive, ratio: hardest(loss - 9 * positive.int(), positive, ratio, False), "too few"),
    ("07-F1", lambda *case: fit(*case, steps=1), "no everywhere"),
    ("07-F1", lambda *case: fit(*case, end=nn.Sigmoid()), "never negative"),
]


@pytest.mark.parametrize("name", PARTS)
def test_right_answers(name):
    assert PARTS[name].right(RIGHT[name]) and not hints(PARTS[name], RIGHT[name])


@pytest.mark.parametrize(("name", "answer", "symptom"), WRONG)
def test_each_wrong_answer_has_its_own_hint(name, answer, symptom):
    assert not PARTS[name].right(answer)
    told = hints(PARTS[name], answer)
    assert len(told) == 1 and symptom in told[0], told


def test_every_hint_is_reached():
    reached = {symptom for name, answer, _ in WRONG for symptom in hints(PARTS[name], answer)}
    assert reached == {mistake.symptom for part in PARTS.values() for mistake in part.mistakes}


def test_the_eight_pictures_have_objects():
    maps, wanted = eight_pictures()
    assert maps.shape == (8, 64, 12, 16) and wanted.shape == (8, 6, 12, 16)
    assert set(wanted.unique().tolist()) == {0, 1} and (wanted.sum(dim=(0, 2, 3)) > 0).sum() > 3


def test_a_head_must_be_a_module():
    with pytest.raises(ValueError, match="expected a module"):
        PARTS["07-F1"].right(lambda *case: 3)
