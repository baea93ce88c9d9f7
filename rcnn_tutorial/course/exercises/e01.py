"""The exercises of 01_rcnn on windows: context, a merged histogram, labels."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees_any, near_all
from rcnn_tutorial.course.exercises.e01_detect import DETECT
from rcnn_tutorial.course.exercises.e01_training import BACK, SVM

_generator = torch.Generator().manual_seed(1)


def _boxes(*shape: int) -> Tensor:
    corner = 200 * torch.rand(*shape, 2, generator=_generator)
    return torch.cat((corner, corner + 10 + 90 * torch.rand(*shape, 2, generator=_generator)), dim=-1)


# 01-A: context

_GROWN_CASES = [
    (_boxes() if n % 2 else _boxes((2, 1, 3, 5)[n // 2 % 4]), *(() if n < 8 else (4 + n, 64 + 16 * n)[: n % 3]))
    for n in range(20)
] + [(torch.tensor([0.0, 0.0, 60.0, 40.0]),)]
_pair = partial(near_all, tol=0.06)
_shrinks = partial(agrees_any, _GROWN_CASES)


def _about_centre(sides: Callable) -> Callable:
    """A way to take the context off: the new sides follow from the old ones, p and size."""

    def shrunk(grown: Tensor, p: float = 16, size: float = 227) -> Tensor:
        center, half = (grown[..., :2] + grown[..., 2:]) / 2, sides(grown[..., 2:] - grown[..., :2], p, size) / 2
        return torch.cat((center - half, center + half), dim=-1)

    return shrunk


def _off_centre(grown: Tensor, p: float = 16, size: float = 227) -> Tensor:
    side = grown[..., 2:] - grown[..., :2]
    return torch.cat((grown[..., :2], grown[..., :2] + side * (size - 2 * p) / size), dim=-1)


_shrunk = _about_centre(lambda side, p, size: side * (size - 2 * p) / size)
_ONE_SIDE = (
    lambda side, p, size: side * size / (size + p),
    lambda side, p, size: side * (size - p) / size,
    lambda side, p, size: side * (size - 2 * p) / (size - p),
)

CONTEXT = (
    Part(
        "the size",
        _pair((80, 40)),
        (
            Mistake(
                "Width and height grow by the same number of pixels.",
                "The 8 px lie in the warped window: in the picture a large box gets more context than a small one.",
                _pair((76, 46)),
            ),
            Mistake(
                "Warped, the box has 6.4 px of context on each side.",
                "Of 64 px the box gets 64 - 16. It grows by 64 / 48, and not by 80 / 64.",
                _pair((75, 37.5)),
            ),
            Mistake(
                "Warped, the box has about 4 px of context on each side.",
                "Context lies on both sides: 16 of the 64 px are not the box.",
                _pair((67.5, 33.75), (68.57, 34.29), (70, 35)),
            ),
            Mistake(
                "The grown box is higher than wide.",
                "The pair is (width, height), and the box is 60 wide.",
                _pair((40, 80)),
            ),
        ),
        "Draw the warped window: 64 px, of which 8 on each side are context. How many px are left for the box?",
    ),
    Part(
        "the function",
        _shrinks(_shrunk),
        (
            Mistake(
                "A small box and a large one shrink by as many pixels.",
                "The p pixels lie in the warped window: they are a share of the grown box.",
                _shrinks(_about_centre(lambda side, p, size: side - 2 * p)),
            ),
            Mistake(
                "The result is larger than the grown box.",
                "The factor is turned over: the box is smaller than the box with its context.",
                _shrinks(_about_centre(lambda side, p, size: side * size / (size - 2 * p))),
            ),
            Mistake(
                "At p = 16 and size = 227 the box takes 199 px of the warped window.",
                "The window has `size` pixels with the context, so the box has size - 2 * p of them.",
                _shrinks(_about_centre(lambda side, p, size: side * size / (size + 2 * p))),
            ),
            Mistake(
                "At p = 16 and size = 227 the box takes about 211 px of the warped window.",
                "There are p pixels of context on each of two sides.",
                _shrinks(*map(_about_centre, _ONE_SIDE)),
            ),
            Mistake(
                "The upper left corner stays where it was.",
                "All of the context was taken off at x2 and y2. Half of it lies on each side.",
                _shrinks(_off_centre),
            ),
            Mistake(
                "A box far from the corner of the picture moves towards it.",
                "All four coordinates are multiplied: that shrinks the box about (0, 0), and not about its centre.",
                _shrinks(lambda grown, p=16, size=227: grown * (size - 2 * p) / size),
            ),
            Mistake(
                "It is right for p = 16 and size = 227 alone.",
                "A number stands where p or size should.",
                _shrinks(lambda grown, p=16, size=227: _shrunk(grown)),
            ),
        ),
        "Keep the centre, multiply width and height by one factor, and try a box of shape (4,) and one of (N, 4).",
    ),
)


# 01-B: the histogram of a merged region


def _counts() -> Tensor:
    return torch.randint(1, 60, (), generator=_generator).float()


def _shares(bins: int) -> Tensor:
    return torch.rand(bins, generator=_generator).softmax(dim=0)


_MERGE_CASES = [(_counts(), _shares(2 + n % 5), _counts(), _shares(2 + n % 5)) for n in range(20)]
_three = partial(near_all, tol=0.004)
_merges = partial(agrees_any, _MERGE_CASES)


def _weighted(size_a: Tensor, colour_a: Tensor, size_b: Tensor, colour_b: Tensor) -> Tensor:
    return (size_a * colour_a + size_b * colour_b) / (size_a + size_b)


_ALIKE = (
    "The small region counts as much as the large one.",
    "Every pixel counts once: weigh each histogram by the size of its region.",
)
_ABOVE_ONE = "The shares add up to 2.", "A histogram of shares adds up to 1, however many regions went into it."
_PIXEL_COUNTS = "These are pixels and not shares.", "Divide by the number of pixels of both regions together."
_EXCHANGED = "The small region counts more than the large one.", "The two sizes are exchanged."

HISTOGRAM = (
    Part(
        "the three shares",
        _three((0.5, 0.3, 0.2)),
        (
            Mistake(*_ALIKE, _three((0.4, 0.2, 0.4))),
            Mistake(*_ABOVE_ONE, _three((0.8, 0.4, 0.8))),
            Mistake(*_EXCHANGED, _three((0.3, 0.1, 0.6))),
            Mistake(*_PIXEL_COUNTS, _three((20, 12, 8))),
        ),
        "Count the pixels of each colour in both regions, and divide by all 40.",
    ),
    Part(
        "the function",
        _merges(_weighted),
        (
            Mistake(*_ALIKE, _merges(lambda sa, a, sb, b: (a + b) / 2)),
            Mistake(*_ABOVE_ONE, _merges(lambda sa, a, sb, b: a + b)),
            Mistake(*_EXCHANGED, _merges(lambda sa, a, sb, b: _weighted(sb, a, sa, b))),
            Mistake(*_PIXEL_COUNTS, _merges(lambda sa, a, sb, b: sa * a + sb * b)),
        ),
        "Try it on the two regions of the first part.",
    ),
)


# 01-C: labels


def _labels(allowed: str, test: Callable[[str], bool]) -> Callable[[str | Iterable], bool]:
    """A test for six labels, in one text or in a list. It sees their first letters."""

    def passes(answer: str | Iterable) -> bool:
        text = answer if isinstance(answer, str) else " ".join(map(str, answer))
        labels = text.lower().replace(",", " ").split()
        if len(labels) != 6 or not set(labels) <= set(allowed.split()):
            raise ValueError(f"expected six of {allowed}, got {answer!r}")
        return test("".join(label[0] for label in labels))

    return passes


_tuning = partial(_labels, "bg fg -")
_svm = partial(_labels, "bg fg -")

LABELS = (
    Part(
        "for fine-tuning",
        _tuning(lambda six: six == "bbbfff"),
        (
            Mistake(
                "A window is unused.",
                "Fine-tuning leaves no window out: write only bg and fg.",
                _tuning(lambda six: "-" in six),
            ),
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
        _svm(lambda six: six == "b----f"),
        (
            Mistake(
                "A window that is not the true box is foreground.",
                "That is the rule of fine-tuning. The foreground windows of an SVM are the true boxes alone.",
                _svm(lambda six: "f" in six[:5]),
            ),
            Mistake(
                "The window of IoU 0.8 is background.",
                "It shows most of the object: not a foreground window, but no background either. It is unused.",
                _svm(lambda six: "f" not in six[:5] and six[4] == "b"),
            ),
            Mistake(
                "A window with a part of the object in it is background.",
                "Background windows lie below 0.3. From there to the true box the windows are unused.",
                _svm(lambda six: "f" not in six[:5] and "b" in six[1:4] and six[4] == "-"),
            ),
            Mistake(
                "The SVM has no foreground.",
                "An IoU of 1 is the true box itself: the only foreground.",
                _svm(lambda six: "f" not in six and six[1:5] == "----"),
            ),
        ),
        "Ask of each window: is it the true box? Is it below the bound of the background? All others are unused.",
    ),
)

EXERCISES = {"01-A": CONTEXT, "01-B": HISTOGRAM, "01-C": LABELS, "01-D": SVM, "01-E": BACK, "01-F": DETECT}
