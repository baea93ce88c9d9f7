"""An exercise of 04_faster_rcnn: which losses reach which layers, if the proposals are not detached."""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees
from rcnn_tutorial.ops.boxes import box_iou, decode, encode
from rcnn_tutorial.ops.losses import smooth_l1
from rcnn_tutorial.ops.pooling import roi_align

# 04-E: which loss reaches which layer?

LOSSES = ("objectness", "rpn_box", "class", "box")
LAYERS = ("convs", "3 x 3", "objectness", "offsets", "head")


def _losses(layers: nn.ModuleDict, constant: bool) -> tuple[Tensor, ...]:
    """The four losses of a small detector on one image with one object; one anchor per place, the 32 best proposed."""
    features = layers["convs"](torch.rand(1, 3, 32, 32))  # (1, 8, 8, 8)
    truth = torch.tensor([[8, 8, 24, 24.0]])
    middle = torch.cartesian_prod(*[4.0 * torch.arange(8) + 2] * 2).flip(1)  # (64, 2), row by row
    anchors = torch.cat((middle - 6, middle + 6), dim=1)
    on_object = box_iou(anchors, truth)[:, 0] > 0.3

    hidden = layers["3 x 3"](features).relu()
    scores = layers["objectness"](hidden).flatten()  # (64,)
    offsets = layers["offsets"](hidden)[0].flatten(1).T  # (64, 4)
    best = scores.topk(32).indices
    proposals, is_object = decode(offsets[best], anchors[best]), on_object[best]  # (32, 4), (32,)
    if constant:
        proposals = proposals.detach()

    head = layers["head"](roi_align(features, [proposals], 2, 1 / 4, 2).flatten(1))  # (32, 2 + 4)
    return (
        F.binary_cross_entropy_with_logits(scores, on_object.float()),
        smooth_l1(offsets - encode(truth, anchors))[on_object].sum(),
        F.cross_entropy(head[:, :2], is_object.long()),
        smooth_l1(head[:, 2:] - encode(truth, proposals))[is_object].sum(),
    )


@cache
def _reached(constant: bool = False) -> dict[str, set[str]]:
    """The layers whose weights get a gradient from each loss, with proposals that are constants or are not."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        made = nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 1, 1), nn.Conv2d(8, 4, 1)
        layers = nn.ModuleDict(zip(LAYERS, (*made, nn.Linear(8 * 2 * 2, 2 + 4)), strict=True))
        losses = _losses(layers, constant)
    weights = [layer.weight for layer in layers.values()]
    found = {}
    for name, loss in zip(LOSSES, losses, strict=True):
        gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        found[name] = {layer for layer, g in zip(LAYERS, gradients, strict=True) if g is not None and g.any()}
    return found


def _row(named: set[str]) -> list[bool]:
    return [layer in named for layer in LAYERS]


def _rows(answer: dict[str, set[str]]) -> Callable[[str], object]:
    """Of a loss, which layers an answer names."""
    if not isinstance(answer, dict) or set(answer) != set(LOSSES):
        raise ValueError(f"expected a dict with the keys {', '.join(LOSSES)}, got {answer!r}")

    def row(loss: str) -> object:
        if ... in answer.values():
            return ...
        named = answer[loss]
        if not isinstance(named, set | list | tuple) or not set(named) <= set(LAYERS):
            raise ValueError(f"{loss}: expected a set of {', '.join(LAYERS)}, got {named!r}")
        return _row(named)

    return row


def _first_fault(answer: dict[str, set[str]]) -> str:
    """Which mistake an answer shows, the gravest first; an empty text for none."""
    rows, too_many, missing = _rows(answer), set(), set()
    for loss in LOSSES:
        pairs = list(zip(LAYERS, rows(loss), _row(_reached()[loss]), strict=True))
        too_many |= {(loss, layer) for layer, mine, right in pairs if mine > right}
        missing |= {(loss, layer) for layer, mine, right in pairs if mine < right}
    found = {
        "score": {(loss, "objectness") for loss in ("class", "box")} & too_many,
        "detached": {(loss, "offsets") for loss in ("class", "box")} & missing,
        "cut": {(loss, "convs") for loss in ("class", "box")} & missing,
        "head": {pair for pair in too_many if pair[1] == "head"},
        "neighbour": too_many,
        "way": missing,
    }
    return next((name for name, pairs in found.items() if pairs), "")


def _shows(fault: str) -> Callable[[dict], bool]:
    return lambda answer: _first_fault(answer) == fault


GRADIENTS = (
    Part(
        "the layers",
        lambda answer: agrees(lambda loss: _row(_reached()[loss]), [(loss,) for loss in LOSSES])(_rows(answer)),
        (
            Mistake(
                "A loss of the detector changes the layer of the objectness.",
                "The scores only say which boxes are kept. A choice is no number, and has no gradient.",
                _shows("score"),
            ),
            Mistake(
                "A loss of the detector does not reach the layer that moves the boxes.",
                "That holds for detached proposals. Here the box keeps its history, and RoIAlign has a gradient in it.",
                _shows("detached"),
            ),
            Mistake(
                "A loss of the detector leaves the convolutions as they are.",
                "The features that are pooled come from the convolutions, and so do the boxes.",
                _shows("cut"),
            ),
            Mistake(
                "A loss of the RPN changes the head.",
                "A gradient goes from the loss towards the image. The head comes after the RPN.",
                _shows("head"),
            ),
            Mistake(
                "A loss of the RPN changes both of its last layers.",
                "objectness and offsets stand side by side on the 3 x 3 layer, and each loss sees the output of one.",
                _shows("neighbour"),
            ),
            Mistake(
                "A layer is missing between a loss and the image.",
                "All that the output was computed with gets a gradient: follow each loss back, layer by layer.",
                _shows("way"),
            ),
        ),
        "Draw the flow from the image to the four losses. What was each number computed with?",
    ),
)
