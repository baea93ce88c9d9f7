"""The exercises of 01_rcnn: context, labels, hard negatives, offsets."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rcnn_tutorial.exercises.core import Mistake, Part, agrees
from rcnn_tutorial.mining import mine
from rcnn_tutorial.ops.boxes import encode
from rcnn_tutorial.ops.warp import dilate

_generator = torch.Generator().manual_seed(1)


def _boxes(*shape: int) -> Tensor:
    corner = 200 * torch.rand(*shape, 2, generator=_generator)
    return torch.cat((corner, corner + 10 + 90 * torch.rand(*shape, 2, generator=_generator)), dim=-1)


def _numbers(*expected: tuple[float, ...], tol: float) -> Callable[[Any], bool]:
    """A test for several numbers at once: are they one of those expected?"""

    def near(answer: Any) -> bool:
        given = torch.as_tensor(answer, dtype=torch.float64)
        if given.shape != (len(expected[0]),):
            raise ValueError(f"expected {len(expected[0])} numbers, got {answer!r}")
        return any(torch.allclose(given, given.new_tensor(e), rtol=0, atol=tol) for e in expected)

    return near


def _any(cases: list[tuple], *rules: Callable) -> Callable[[Callable], bool]:
    """A test for functions: same results as one of the rules."""
    return lambda function: any(agrees(rule, cases, tol=1e-4)(function) for rule in rules)


# 01-1: context

_DILATE_CASES = [
    (_boxes() if n % 2 else _boxes((2, 1, 3, 5)[n // 2 % 4]), *(() if n < 8 else (4 + n, 64 + 16 * n)[: n % 3]))
    for n in range(20)
]
_pair = partial(_numbers, tol=0.06)
_dilates = partial(_any, _DILATE_CASES)


def _about_centre(sides: Callable) -> Callable:
    """A way to dilate: the new sides follow from the old ones, p and size."""

    def dilated(box: Tensor, p: float = 16, size: float = 227) -> Tensor:
        center, half = (box[..., :2] + box[..., 2:]) / 2, sides(box[..., 2:] - box[..., :2], p, size) / 2
        return torch.cat((center - half, center + half), dim=-1)

    return dilated


def _off_centre(box: Tensor, p: float = 16, size: float = 227) -> Tensor:
    side = box[..., 2:] - box[..., :2]
    return torch.cat((box[..., :2], box[..., :2] + side * size / (size - 2 * p)), dim=-1)


_ONE_SIDE = (
    lambda side, p, size: side * (size + p) / size,
    lambda side, p, size: side * size / (size - p),
    lambda side, p, size: side * (size - p) / (size - 2 * p),
)
_IN_THE_WINDOW = "The 16 px lie in the warped window: in the image a large box gets more context than a small one."
_WHAT_IS_LEFT = "Of 227 px the box gets 227 - 32. It grows by 227 / 195, and not by 259 / 227."
_BOTH_SIDES = "Context lies on both sides: 2 p pixels of the warped window are not the box."

CONTEXT = (
    Part(
        "the size",
        _pair((116.41, 58.21)),
        (
            Mistake("Width and height grow by the same number of pixels.", _IN_THE_WINDOW, _pair((132, 82))),
            Mistake("Warped, the box has 14 px of context on each side.", _WHAT_IS_LEFT, _pair((114.1, 57.05))),
            Mistake(
                "Warped, the box has about 8 px of context on each side.",
                _BOTH_SIDES,
                _pair((107.05, 53.52), (107.58, 53.79), (108.21, 54.1)),
            ),
            Mistake(
                "The grown box is higher than wide.",
                "The pair is (width, height), and the box is 100 wide.",
                _pair((58.21, 116.41)),
            ),
        ),
        "Draw the warped window: 227 px, of which 16 on each side are context. How many px are left for the box?",
    ),
    Part(
        "the function",
        _dilates(dilate),
        (
            Mistake(
                "A small box and a large one grow by as many pixels.",
                _IN_THE_WINDOW,
                _dilates(_about_centre(lambda side, p, size: side + 2 * p)),
            ),
            Mistake(
                "In a warp to 227 the box itself takes 199 px.",
                _WHAT_IS_LEFT,
                _dilates(_about_centre(lambda side, p, size: side * (size + 2 * p) / size)),
            ),
            Mistake(
                "In a warp to 227 the box itself takes about 211 px.",
                _BOTH_SIDES,
                _dilates(*map(_about_centre, _ONE_SIDE)),
            ),
            Mistake(
                "The upper left corner stays where it was.",
                "All growth went to x2 and y2. Half of it belongs to each side.",
                _dilates(_off_centre),
            ),
            Mistake(
                "A box far from the corner of the image moves away from it.",
                "All four coordinates are multiplied: that grows the box about (0, 0), and not about its centre.",
                _dilates(lambda box, p=16, size=227: box * size / (size - 2 * p)),
            ),
            Mistake(
                "It is right for p = 16 and size = 227 alone.",
                "A number stands where p or size should.",
                _dilates(lambda box, p=16, size=227: dilate(box)),
            ),
        ),
        "Keep the centre, multiply width and height by one factor, and try a box of shape (4,) and one of (N, 4).",
    ),
)


# 01-2: labels


def _labels(allowed: str, test: Callable[[str], bool]) -> Callable[[str | Iterable], bool]:
    """A test for six labels, in one text or in a list. It sees their first letters."""

    def passes(answer: str | Iterable) -> bool:
        text = answer if isinstance(answer, str) else " ".join(map(str, answer))
        labels = text.lower().replace(",", " ").split()
        if len(labels) != 6 or not set(labels) <= set(allowed.split()):
            raise ValueError(f"expected six of {allowed}, got {answer!r}")
        return test("".join(label[0] for label in labels))

    return passes


_tuning = partial(_labels, "bg fg")
_svm = partial(_labels, "pos neg -")

LABELS = (
    Part(
        "for fine-tuning",
        _tuning(lambda six: six == "bbbfff"),
        (
            Mistake(
                "The window of IoU 0.5 is background.",
                "Foreground begins at 0.5: >= and not >.",
                _tuning(lambda six: six == "bbbbff"),
            ),
            Mistake(
                "A window that is less than half right is foreground.",
                "0.3 is a bound of the SVMs. Fine-tuning has one bound, 0.5.",
                _tuning(lambda six: "f" in six[:3]),
            ),
            Mistake(
                "The window of IoU 0.8 is background.",
                "That the true box alone is an example is the rule of the SVMs. Fine-tuning needs many examples.",
                _tuning(lambda six: "f" not in six[:5]),
            ),
        ),
        "There is one bound, and each window lies on one side of it. The true box is a window too.",
    ),
    Part(
        "for an SVM",
        _svm(lambda six: six == "n----p"),
        (
            Mistake(
                "A window that is not the true box is positive.",
                "That is the rule of fine-tuning. The positives of an SVM are the true boxes alone.",
                _svm(lambda six: "p" in six[:5]),
            ),
            Mistake(
                "The window of IoU 0.8 is negative.",
                "It shows most of the object: not a positive, but no negative either. Such windows are left out.",
                _svm(lambda six: "p" not in six[:5] and six[4] == "n"),
            ),
            Mistake(
                "A window with a part of the object in it is negative.",
                "Negatives lie below 0.3. From there to the true box the windows are left out.",
                _svm(lambda six: "p" not in six[:5] and "n" in six[1:4] and six[4] == "-"),
            ),
            Mistake(
                "The SVM has no positive.",
                "An IoU of 1 is the true box itself: the only positive.",
                _svm(lambda six: "p" not in six and six[1:5] == "----"),
            ),
        ),
        "Ask of each window: is it the true box? Is it below the bound of the negatives? All others are left out.",
    ),
)


# 01-3: hard negatives

_MINE_CASES = [
    (
        torch.randint(-12, 9, (40 + n,), generator=_generator) / 4,
        torch.rand(40 + n, generator=_generator) < 0.2,
        *((-0.5, 0.25, -2.0)[n % 3] for _ in range(n % 2)),
    )
    for n in range(20)
]


def _mines(*rules: Callable[[Tensor, Tensor, float], Tensor]) -> Callable[[Callable], bool]:
    return _any(_MINE_CASES, *(lambda s, p, m=-1.0, rule=rule: rule(s, p, m) for rule in rules))


def _by_rank(function: Callable) -> bool:
    """Is the choice the same when all scores fall far below the margin?"""
    scores, is_positive = _MINE_CASES[0]
    chosen, again = (torch.as_tensor(function(s, is_positive.clone())).bool() for s in (scores + 0, scores - 100))
    return bool(chosen.any()) and torch.equal(chosen, again)


MINE = (
    Part(
        "the function",
        _any(_MINE_CASES, mine),
        (
            Mistake(
                "Only false alarms enter the cache.",
                "The margin is forgotten: a negative between -1 and 0 is on the right side and costs something.",
                _mines(lambda s, p, m: (s > 0) & ~p, lambda s, p, m: (s >= 0) & ~p),
            ),
            Mistake(
                "Positives enter the cache.",
                "The mask of the positives is not used: a high score is what they should have.",
                _mines(lambda s, p, m: s > m),
            ),
            Mistake(
                "Take 100 from every score, and the same windows enter.",
                "A fixed number of them, or all, enter whatever their score. Hard is what lies above the margin.",
                _by_rank,
            ),
            Mistake(
                "A window with a score of exactly the margin enters.",
                "There the hinge is 0 already: > and not >=.",
                _mines(lambda s, p, m: (s >= m) & ~p),
            ),
            Mistake(
                "The worst false alarms stay out.",
                "There is no upper bound: the higher a negative scores, the more it violates the margin.",
                _mines(*(lambda s, p, m, top=top: (s > m) & (s < top) & ~p for top in (0, 1))),
            ),
            Mistake(
                "It is right for the margin -1 alone.",
                "A number stands where `margin` should.",
                _mines(lambda s, p, m: (s > -1) & ~p),
            ),
        ),
        "Two conditions on a window, one on its score and one on what it is, give a mask of shape (M,).",
    ),
)


# 01-4: offsets

_PAIRS = [(_boxes(n % 6 + 1), _boxes(n % 6 + 1)) for n in range(20)]
_four = partial(_numbers, tol=0.006)
_encodes = partial(_any, _PAIRS)


def _offsets(corners: bool = False, by_truth: bool = False, side: Callable = torch.log) -> Callable:
    """A rule for the offsets, with the mistakes one can make as options."""

    def offsets(p: Tensor, g: Tensor) -> Tensor:
        size_p, size_g = p[:, 2:] - p[:, :2], g[:, 2:] - g[:, :2]
        shift = g[:, :2] - p[:, :2] + (0 if corners else (size_g - size_p) / 2)
        return torch.cat((shift / (size_g if by_truth else size_p), side(size_g / size_p)), dim=1)

    return offsets


def _in_pixels(function: Callable) -> bool:
    """Do the offsets change when both boxes are twice as large?"""
    return not any(torch.allclose(*(torch.as_tensor(function(k * p, k * g)) for k in (1, 2))) for p, g in _PAIRS)


_CORNERS = "The shift leads from centre to centre, and not from corner to corner."
_UNIT = "The unit is the proposal's side: the truth's is not known when the offsets are applied."
_SWAPPED = "P and G are exchanged. The offsets move the proposal P onto the truth G."
_NO_LOG = "tw and th are the natural logarithms of the ratios of the sides."
_PIXELS = "A difference is not divided: tx and ty count sides of the proposal, tw and th compare sides by their ratio."

OFFSETS = (
    Part(
        "the four numbers",
        _four((0.25, 0.5, 0, 0.693)),
        (
            Mistake("ty is 0, but the middle of G lies below that of P.", _CORNERS, _four((0.25, 0, 0, 0.693))),
            Mistake("ty is too small.", _UNIT, _four((0.25, 0.25, 0, 0.693))),
            Mistake("tx points to the left.", _SWAPPED, _four((-0.25, -0.25, 0, -0.693))),
            Mistake(
                "tx and ty are right, tw or th is not.",
                _NO_LOG,
                _four((0.25, 0.5, 1, 2), (0.25, 0.5, 0, 1), (0.25, 0.5, 0, 0.301)),
            ),
            Mistake(
                "There are pixels among the four numbers.",
                _PIXELS,
                _four((10, 0, 10, 40), (10, 20, 0, 40), (10, 0, 0, 40), (10, 20, 0, 0.693), (0.25, 0.5, 0, 40)),
            ),
        ),
        "Write down centre, width and height of both boxes, then one offset after the other: tx, ty, tw, th.",
    ),
    Part(
        "the function",
        _encodes(lambda p, g: encode(g, p)),
        (
            Mistake(
                "A truth that is larger and has the same centre gets a shift.",
                _CORNERS,
                _encodes(_offsets(corners=True)),
            ),
            Mistake("The same shift counts less where the truth is larger.", _UNIT, _encodes(_offsets(by_truth=True))),
            Mistake("The offsets lead back from the truth to the proposal.", _SWAPPED, _encodes(encode)),
            Mistake(
                "tx and ty are right, tw and th are not.",
                _NO_LOG,
                _encodes(*(_offsets(side=s) for s in (lambda r: r, lambda r: r - 1, torch.log2, torch.log10))),
            ),
            Mistake("Draw both boxes twice as large, and the offsets change.", _PIXELS, _in_pixels),
        ),
        "Try it on the boxes of the first part, each as a (1, 4) tensor. The columns are tx, ty, tw, th.",
    ),
)

EXERCISES = {"01-1": CONTEXT, "01-2": LABELS, "01-3": MINE, "01-4": OFFSETS}
