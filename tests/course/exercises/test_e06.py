"""Right answers pass; each wrong answer gets its own hint and no other."""

from math import floor

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import roi_align

from rcnn_tutorial.course.exercises.e06 import EXERCISES, eight_objects
from rcnn_tutorial.ops.losses import mask_loss
from rcnn_tutorial.ops.masks import cut_masks, paste_masks
from tests.course.exercises.judging import hints, judging, nudged, with_

(POINT, READ), (BIN, ALIGN), (NUMBER, LOSS), (FOUR, TARGET), (COUNT, PASTE), (HEAD,) = (
    EXERCISES[f"06-{letter}"] for letter in "ABCDEF"
)


def read(plane, x, y, half=0.5):
    """By an RoI of one bin with one point, which torchvision reads at its middle."""
    x, y = x - half, y - half
    roi = torch.tensor([[0, x - 0.5, y - 0.5, x + 0.5, y + 0.5]])
    return roi_align(plane[None, None], roi, 1, 1, 1)[0, 0, 0, 0]


def nearest(plane, x, y):
    return plane[int(y), int(x)]


def far(plane, x, y):
    column, row = floor(x - 0.5), floor(y - 0.5)
    a, b = x - 0.5 - column, y - 0.5 - row
    return read(plane, column + 1 - a + 0.5, row + 1 - b + 0.5)


def align(plane, box, points, half=0.5, places=None, of=torch.mean):
    x1, y1, x2, y2 = box
    shares = places(points) if places else (torch.arange(points) + 0.5) / points
    values = [read(plane, x1 + s * (x2 - x1), y1 + t * (y2 - y1), half) for t in shares for s in shares]
    return of(torch.stack(values))


def align_of_torchvision(plane, box, points):
    return roi_align(plane[None, None], torch.tensor([[0, *box]]), 1, 1, points, aligned=True)[0, 0, 0, 0]


def cross_entropy(logits, labels, targets, reduction="mean", of=lambda z: z, shift=1):
    own = of(logits)[torch.arange(len(labels)), labels - shift]
    loss = F.binary_cross_entropy_with_logits(own, targets, reduction=reduction)
    return loss / len(labels) if reduction == "sum" else loss


def of_all(logits, labels, targets, zeros=False):
    wanted = targets[:, None].repeat(1, logits.shape[1], 1, 1)
    if zeros:
        wanted = wanted * F.one_hot(labels - 1, logits.shape[1])[:, :, None, None]
    return F.binary_cross_entropy_with_logits(logits, wanted)


def by_softmax(logits, labels, targets):
    return F.binary_cross_entropy(logits.softmax(1)[torch.arange(len(labels)), labels - 1], targets)


def target(mask, box, m, aligned=True):
    return cut_masks(mask[None], torch.tensor([box]).float(), m, aligned)[0]


def counted(mask, box, m):
    x1, y1, x2, y2 = box
    return target(mask, box, m) * ((x2 - x1) // m * ((y2 - y1) // m))


def paste(cells, box, size, half=0.0, whole=False):
    box = torch.tensor([box]) + half
    return paste_masks(cells[None], box.round() if whole else box, size)[0]


def paste_by_grid(cells, box, size, padding="zeros", mode="bilinear"):
    """By PyTorch's own sampler, whose places reach from -1 to 1 over the cells."""
    (x1, y1, x2, y2), (h, w) = box, size
    x = (torch.arange(w) + 0.5 - x1) / (x2 - x1) * 2 - 1
    y = (torch.arange(h) + 0.5 - y1) / (y2 - y1) * 2 - 1
    places = torch.stack((x.expand(h, w), y[:, None].expand(h, w)), dim=2)[None]
    inside = F.grid_sample(cells[None, None], places, mode, padding, align_corners=False)[0, 0] > 0.5
    return inside & (x.abs() < 1) & (y.abs() < 1)[:, None] if padding == "border" else inside


def net(classes=6, up=True, last=None):
    middle = nn.ConvTranspose2d(32, 32, 2, stride=2) if up else nn.Conv2d(32, 32, 1)
    layers = [nn.Conv2d(64, 32, 3, padding=1), nn.ReLU(), middle, nn.ReLU(), nn.Conv2d(32, classes, 1)]
    return nn.Sequential(*layers, *([last] if last else []))


def fit(pooled, labels, targets, steps=150, move=0, last=None):
    head = net(last=last)
    optimizer = torch.optim.Adam(head.parameters(), lr=2e-3)
    for _ in range(steps):
        own = head(pooled)[torch.arange(len(labels)), (labels - 1 + move) % 6]
        loss = F.binary_cross_entropy(own, targets) if last else F.binary_cross_entropy_with_logits(own, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head


RIGHT = [
    (POINT, 4.95),
    (READ, read),
    (BIN, 4.25),
    (ALIGN, align),
    (ALIGN, align_of_torchvision),
    (NUMBER, 0.664),
    (LOSS, cross_entropy),
    (LOSS, mask_loss),
    (FOUR, [0.5, 0.25, 0.75, 0.25]),
    (TARGET, target),
    (COUNT, 10),
    (PASTE, paste),
    (PASTE, paste_by_grid),
    (HEAD, fit),
]

WRONG = [
    (POINT, 2.625, "half a pixel"),
    (POINT, 2.85, "exchanged"),
    (POINT, 3.0, "weighs least"),
    (POINT, 9, "pixel in which"),
    (READ, with_(read, half=0.0), "half a pixel"),
    (READ, lambda plane, x, y: read(plane, y, x), "exchanged"),
    (READ, far, "weighs least"),
    (READ, nearest, "pixel in which"),
    (BIN, 4.5, "half a pixel"),
    (BIN, 6, "largest"),
    (BIN, 5.5, "middle of the bin"),
    (BIN, 4.125, "border of the bin"),
    (ALIGN, with_(align, half=0.0), "half a pixel"),
    (ALIGN, with_(align, of=torch.amax), "largest"),
    (ALIGN, lambda plane, box, points: align(plane, box, 1), "middle of the bin"),
    (ALIGN, with_(align, places=lambda n: torch.linspace(0, 1, n)), "border of the bin"),
    (ALIGN, lambda plane, box, points: align(plane, box, 2), "always"),
    (NUMBER, 0.526, "other classes"),
    (NUMBER, 0.801, "other classes"),
    (NUMBER, 2.655, "number of cells"),
    (NUMBER, 1.040, "compete"),
    (NUMBER, 0.389, "another class"),
    (LOSS, of_all, "other classes"),
    (LOSS, with_(of_all, zeros=True), "other classes"),
    (LOSS, with_(cross_entropy, reduction="sum"), "number of cells"),
    (LOSS, by_softmax, "compete"),
    (LOSS, with_(cross_entropy, shift=0), "another class"),
    (LOSS, with_(cross_entropy, of=torch.sigmoid), "certain and right"),
    (FOUR, [0, 0, 1, 0], "rounded to 0 and 1"),
    (FOUR, [1, 0, 1, 0], "rounded to 0 and 1"),
    (FOUR, [0.5, 0.75, 0.25, 0.25], "Rows and columns"),
    (FOUR, [2, 1, 3, 1], "numbers of pixels"),
    (FOUR, [1, 1, 1, 0], "fits the object"),
    (TARGET, lambda *case: (target(*case) > 0.5).float(), "rounded to 0 and 1"),
    (TARGET, lambda *case: target(*case).T, "Rows and columns"),
    (TARGET, counted, "numbers of pixels"),
    (TARGET, with_(target, aligned=False), "half a pixel"),
    (COUNT, 8, "one cell"),
    (COUNT, 12, "too large"),
    (COUNT, 36, "touches"),
    (COUNT, 6, "half a pixel"),
    (PASTE, with_(paste_by_grid, mode="nearest"), "one cell"),
    (PASTE, with_(paste_by_grid, padding="border"), "too large"),
    (PASTE, with_(paste, whole=True), "whole pixels"),
    (PASTE, with_(paste, half=0.5), "half a pixel"),
    (HEAD, lambda *case: net(up=False), "7 x 7"),
    (HEAD, lambda *case: net(classes=7), "each of the six"),
    (HEAD, lambda *case: net(classes=1), "each of the six"),
    (HEAD, with_(fit, last=nn.Sigmoid()), "negative"),
    (HEAD, with_(fit, move=1), "another class know"),
]

OTHER = [
    (POINT, 4.0),
    (READ, lambda plane, x, y: plane.mean()),
    (BIN, 4.0),
    (ALIGN, lambda plane, box, points: plane.mean()),
    (NUMBER, 0.5),
    (LOSS, lambda logits, labels, targets: logits.sum()),
    (FOUR, [0.25, 0.25, 0.25, 0.25]),
    (TARGET, lambda mask, box, m: torch.full((m, m), 0.5)),
    (COUNT, 16),
    (PASTE, lambda cells, box, size: torch.zeros(size, dtype=torch.bool)),
    (HEAD, lambda *case: net()),
]

TWICE = [
    ("06-A", (9, nearest)),
    ("06-B", (6, with_(align, of=torch.amax))),
    ("06-C", (1.040, by_softmax)),
    ("06-D", ([2, 1, 3, 1], counted)),
    ("06-E", (12, with_(paste, whole=True))),
    ("06-F", (lambda *case: net(up=False),)),
]

CAUSES = [
    *((part, "half a pixel", "Subtract 0.5 first") for part in (POINT, READ, BIN, ALIGN)),
    *((part, "exchanged", "x counts columns") for part in (POINT, READ)),
    *((part, "weighs least", "(1 - a)(1 - b)") for part in (POINT, READ)),
    *((part, "pixel in which", "Four pixels") for part in (POINT, READ)),
    *((part, "largest", "takes the mean") for part in (BIN, ALIGN)),
    *((part, "middle of the bin", "1/4 and 3/4") for part in (BIN, ALIGN)),
    *((part, "border of the bin", "(k + 0.5) / n") for part in (BIN, ALIGN)),
    (ALIGN, "always", "how many lie along"),
    *((part, "other classes", "is free") for part in (NUMBER, LOSS)),
    *((part, "number of cells", "their mean") for part in (NUMBER, LOSS)),
    *((part, "compete", "no softmax") for part in (NUMBER, LOSS)),
    *((part, "another class", "background has none") for part in (NUMBER, LOSS)),
    (LOSS, "certain and right", "takes the sigmoid itself"),
    *((part, "rounded to 0 and 1", "the answer of the network") for part in (FOUR, TARGET)),
    *((part, "Rows and columns", "row by row") for part in (FOUR, TARGET)),
    *((part, "numbers of pixels", "of a cell") for part in (FOUR, TARGET)),
    (FOUR, "fits the object", "belongs to the proposal"),
    (TARGET, "half a pixel", "lies at c + 0.5"),
    *((part, "one cell", "as in 06-A") for part in (COUNT, PASTE)),
    *((part, "too large", "cells of 0") for part in (COUNT, PASTE)),
    (COUNT, "touches", "above 0.5"),
    *((part, "half a pixel", "lies at c + 0.5") for part in (COUNT, PASTE)),
    (PASTE, "whole pixels", "Only the pixels have"),
    (HEAD, "7 x 7", "kernel 2, stride 2"),
    (HEAD, "each of the six", "six outputs"),
    (HEAD, "negative", "in the loss"),
    (HEAD, "another class know", "label - 1"),
]

NEARLY = [
    (POINT, 4.97),
    (READ, nudged(read)),
    (BIN, 4.27),
    (ALIGN, nudged(align)),
    (NUMBER, 0.67),
    (LOSS, nudged(cross_entropy)),
    (FOUR, [0.5, 0.25, 0.75, 0.27]),
    (TARGET, nudged(target)),
    (COUNT, 11),
    (HEAD, with_(fit, steps=4)),
]

TestJudging = judging(EXERCISES, RIGHT, WRONG, OTHER, TWICE, CAUSES, NEARLY)


def test_the_eight_objects_are_eight_with_masks():
    pooled, labels, targets = eight_objects()
    assert pooled.shape == (8, 64, 7, 7) and targets.shape == (8, 14, 14) and not pooled.requires_grad
    assert len(labels.unique()) > 3 and labels.min() >= 1 and labels.max() <= 6
    assert targets.min() >= 0 and targets.max() <= 1 and (targets.mean(dim=(1, 2)) > 0.15).all()


def test_a_head_must_be_a_module():
    with pytest.raises(ValueError, match="expected a module"):
        HEAD.right(lambda *case: 3)
    assert not hints(POINT, 4.95)
