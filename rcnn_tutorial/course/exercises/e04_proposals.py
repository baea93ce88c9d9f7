"""Exercises of 04_faster_rcnn about proposals: how they are decoded, and which losses reach which layers."""

import math
from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any, near_all
from rcnn_tutorial.ops.boxes import box_iou, decode, encode
from rcnn_tutorial.ops.losses import smooth_l1
from rcnn_tutorial.ops.pooling import roi_pool

_generator = torch.Generator().manual_seed(4)


# 04-4: decode


def _decoded(
    offsets: Tensor,
    anchors: Tensor,
    grow: Callable[[float], float] = math.exp,
    corner: bool = False,
    unit: Callable[[float, float], float] = lambda old, new: old,
    sides: bool = False,
) -> Tensor:
    """Boxes, with the mistakes one can make as options; `unit` sees the side of the anchor and that of the box."""
    boxes = []
    for t, anchor in zip(offsets.tolist(), anchors.tolist(), strict=True):
        first, second = [], []
        for axis in (0, 1):
            low, high = anchor[axis], anchor[axis + 2]
            old, new = high - low, (high - low) * grow(t[axis + 2])
            shift = t[axis] * unit(old, new)
            middle = low + shift + new / 2 if corner else (low + high) / 2 + shift
            first.append(middle if sides else middle - new / 2)
            second.append(new if sides else middle + new / 2)
        boxes.append(first + second)
    return torch.tensor(boxes)


def _given(n: int, square: bool) -> tuple[Tensor, Tensor]:
    corner = 200 * torch.rand(n, 2, generator=_generator)
    side = 20 + 180 * torch.rand(n, 1 if square else 2, generator=_generator)
    return 0.6 * torch.randn(n, 4, generator=_generator), torch.cat((corner, corner + side), dim=1)


_ON_SQUARES = [_given(1 + n, square=True) for n in range(5)]
_DECODE_CASES = _ON_SQUARES + [_given(1 + n % 6, square=False) for n in range(15)]
_box = partial(near_all, tol=0.06)


def _is_wide(width: float) -> Callable[[object], bool]:
    return lambda box: len(box) == 4 and abs(float(box[2]) - float(box[0]) - width) < 0.1


def _decodes(*options: dict) -> Callable[[Callable], bool]:
    return agrees_any(_DECODE_CASES, *(partial(_decoded, **each) for each in options))


def _right_on_squares(function: Callable) -> bool:
    return agrees_any(_ON_SQUARES, _decoded)(function) and not _decodes({})(function)


_CORNER = "tx and ty move the centre of the anchor. The sides grow about the new centre."
_EXP = "tw is the logarithm of the ratio: the new width is exp(tw) times that of the anchor."
_ABOUT_ONE = "1 + t is exp(t) near 0 alone."
_OLD_SIDE = "tx and ty count sides of the anchor, and not of the new box."
_SIDES = "tx and ty are no pixels: the one counts widths of the anchor, the other heights."
_FORM = "The last two numbers are x2 and y2, and not width and height: the centre plus half of the side."

DECODE = (
    Part(
        "the box",
        _box((84, 92, 212, 156)),
        (
            Mistake("The box begins right of the anchor's x1 = 100.", _CORNER, _box((116, 92, 244, 156))),
            Mistake("The box is narrower than the anchor.", _EXP, _is_wide(64 * math.log(2))),
            Mistake("The box is 108 px wide.", _ABOUT_ONE, _is_wide(64 * (1 + math.log(2)))),
            Mistake("The centre moves by 32 px along x.", _OLD_SIDE, _box((100, 92, 228, 156))),
            Mistake("The centre moves by less than a pixel.", _SIDES, _box((68.25, 99.875, 196.25, 163.875))),
            Mistake("As x1, y1, x2, y2 it is no box.", _FORM, _box((148, 124, 128, 64), (84, 92, 128, 64))),
        ),
        "Centre of the anchor (132, 132), sides 64: move the centre, then multiply the sides, then go to corners.",
    ),
    Part(
        "the function",
        _decodes({}),
        (
            Mistake(
                "With tx = ty = 0 a box that grows keeps its corner, not its centre.",
                _CORNER,
                _decodes({"corner": True}),
            ),
            Mistake(
                "With four offsets of 0 the box has no area.",
                _EXP,
                _decodes(*({"grow": lambda t: t, "corner": corner} for corner in (False, True))),
            ),
            Mistake(
                "With tw = ln 2 the box is 1.69 times as wide.",
                _ABOUT_ONE,
                _decodes(*({"grow": lambda t: 1 + t, "corner": corner} for corner in (False, True))),
            ),
            Mistake(
                "The same tx goes farther where tw is larger.", _OLD_SIDE, _decodes({"unit": lambda old, new: new})
            ),
            Mistake(
                "The same tx moves a large and a small anchor equally far.",
                _SIDES,
                _decodes({"unit": lambda old, new: 1}),
            ),
            Mistake("With four offsets of 0 the anchor does not come back.", _FORM, _decodes({"sides": True})),
            Mistake(
                "It is right on square anchors alone.",
                "Width and height are exchanged somewhere: tx and tw go with the width, ty and th with the height.",
                _right_on_squares,
            ),
        ),
        "Try it on the box of the first part, as two tensors of shape (1, 4).",
    ),
)


# 04-6: which loss reaches which layer?

LOSSES = ("objectness", "rpn_box", "class", "box")
LAYERS = ("trunk", "3x3", "score", "offsets", "head")


def _losses(layers: nn.ModuleDict, constant: bool) -> tuple[Tensor, ...]:
    """The four losses of a small detector on one image with one object; one anchor per place, one box per proposal."""
    features = layers["trunk"](torch.rand(1, 3, 32, 32))  # (1, 8, 8, 8)
    truth = torch.tensor([[8, 8, 24, 24.0]])
    middle = torch.cartesian_prod(*[4.0 * torch.arange(8) + 2] * 2).flip(1)  # (64, 2), row by row
    anchors = torch.cat((middle - 6, middle + 6), dim=1)
    on_object = box_iou(anchors, truth)[:, 0] > 0.3

    hidden = layers["3x3"](features).relu()
    scores, offsets = layers["score"](hidden).flatten(), layers["offsets"](hidden)[0].flatten(1).T  # (64,), (64, 4)
    proposals = decode(offsets, anchors)
    if constant:
        proposals = proposals.detach()

    head = layers["head"](roi_pool(features, [proposals], 2, 1 / 4).flatten(1))  # (64, 2 + 4)
    return (
        F.binary_cross_entropy_with_logits(scores, on_object.float()),
        smooth_l1(offsets - encode(truth, anchors))[on_object].sum(),
        F.cross_entropy(head[:, :2], on_object.long()),
        smooth_l1(head[:, 2:] - encode(truth, proposals))[on_object].sum(),
    )


@cache
def _reached(constant: bool = True) -> dict[str, set[str]]:
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
    of_detector = {(loss, layer) for loss in ("class", "box") for layer in LAYERS}
    found = {
        "not constant": too_many & of_detector,
        "cut": missing & {("class", "trunk"), ("box", "trunk")},
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
                "A loss of the detector changes a layer of the RPN.",
                "The proposals are detached: for the detector their corners are constants, wherever they come from.",
                _shows("not constant"),
            ),
            Mistake(
                "A loss of the detector leaves the trunk as it is.",
                "detach() cuts the corners of the proposals, and not the features that are pooled within them.",
                _shows("cut"),
            ),
            Mistake(
                "A loss of the RPN changes the head.",
                "A gradient goes from the loss towards the image. The head comes after the RPN.",
                _shows("head"),
            ),
            Mistake(
                "A loss of the RPN changes both of its last layers.",
                "score and offsets stand side by side on the 3x3 layer, and each loss sees the output of one.",
                _shows("neighbour"),
            ),
            Mistake(
                "A layer is missing between a loss and the image.",
                "All that the output was computed with gets a gradient: follow each loss back, layer by layer.",
                _shows("way"),
            ),
        ),
        "Draw the flow from the image to the four losses, and strike out the arrow that is cut.",
    ),
)
