"""The exercises of 01_rcnn: context and labels here, hard negatives and offsets in `e01_training`."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees_any, near_all
from rcnn_tutorial.course.exercises.e01_training import MINE, OFFSETS
from rcnn_tutorial.ops.warp import dilate

_generator = torch.Generator().manual_seed(1)


def _boxes(*shape: int) -> Tensor:
    corner = 200 * torch.rand(*shape, 2, generator=_generator)
    return torch.cat((corner, corner + 10 + 90 * torch.rand(*shape, 2, generator=_generator)), dim=-1)


# 01-1: context

_DILATE_CASES = [
    (_boxes() if n % 2 else _boxes((2, 1, 3, 5)[n // 2 % 4]), *(() if n < 8 else (4 + n, 64 + 16 * n)[: n % 3]))
    for n in range(20)
] + [(torch.tensor([0.0, 0.0, 60.0, 40.0]),)]
_pair = partial(near_all, tol=0.06)
_dilates = partial(agrees_any, _DILATE_CASES)


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
                "A box at the border of the image stays inside it.",
                "The result was clipped. What lies outside is filled later, in the warp.",
                _dilates(lambda box, p=16, size=227: dilate(box, p, size).clamp(min=0)),
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

EXERCISES = {"01-1": CONTEXT, "01-2": LABELS, "01-3": MINE, "01-4": OFFSETS}
