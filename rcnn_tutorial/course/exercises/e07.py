"""The exercises of 07_retinanet: the focal loss, its prior, labels, anchors, hard examples, and a small dense head."""

from collections.abc import Callable
from functools import cache, lru_cache
from math import ceil, exp, log, log10

import torch
from torch import Tensor, nn

from rcnn_tutorial.course.exercises.core import Mistake, Part, _Open, agrees, agrees_any, near, near_all
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors import load

_generator = torch.Generator().manual_seed(7)


# 07-A: a focal loss by hand


def _focal(p: Tensor, y: Tensor, sign: int = -1, alpha: float = 0.25, right: bool = True, mean: bool = False) -> Tensor:
    """The sum of focal losses, with the mistakes one can make as options."""
    p_t = torch.where(y == 1, p, 1 - p)
    weight = torch.where(y == 1, alpha, 1 - alpha)
    loss = sign * weight * (1 - p_t if right else p_t) ** 2 * p_t.log()
    return loss.mean() if mean else loss.sum()


def _answers(k: int) -> tuple[Tensor, Tensor]:
    p = 0.05 + 0.9 * torch.rand(6 + k, generator=_generator)
    return p, (torch.arange(6 + k) % 3 == 0).long()


_ANSWERS = [_answers(k) for k in range(8)]
_SIGN = "The sign is missing.", "The logarithm of a probability is below 0, and a loss is not."
_ALPHA = "The weights of yes and no are exchanged.", "0.25 belongs to the yes, and 0.75 to the no."
_EASY = "The easy answers weigh most.", "The factor is (1 - p_t) squared: next to 0 where p_t is next to 1."

FOCAL = (
    Part(
        "the number",
        near(0.2474, 0.001),
        (
            Mistake(*_SIGN, near(-0.2474, 0.001)),
            Mistake(*_ALPHA, near(0.0825, 0.001)),
            Mistake(*_EASY, near(0.11, 0.001)),
        ),
        "The right answer is no, so p_t is 1 - 0.6 = 0.4.",
    ),
    Part(
        "the function",
        agrees(_focal, _ANSWERS),
        (
            Mistake(*_SIGN, agrees_any(_ANSWERS, lambda p, y: _focal(p, y, sign=1))),
            Mistake(*_ALPHA, agrees_any(_ANSWERS, lambda p, y: _focal(p, y, alpha=0.75))),
            Mistake(*_EASY, agrees_any(_ANSWERS, lambda p, y: _focal(p, y, right=False))),
            Mistake(
                "That is the mean.",
                "The sum is wanted: what it is divided by is the number of positive anchors.",
                agrees_any(_ANSWERS, lambda p, y: _focal(p, y, mean=True)),
            ),
        ),
        "Try it on the first part: p = torch.tensor([0.6]) and y = torch.tensor([0]).",
    ),
)


# 07-B: from a prior to a bias, and back


def _bias(prior: float) -> float:
    return -log((1 - prior) / prior)


def _prior(bias: float) -> float:
    return 1 / (1 + exp(-bias))


_BIASES = [(bias,) for bias in (-6.0, -2.5, -1.0, 0.5, 2.0)]
_YES = "This bias says yes.", "A prior below one half needs a bias below 0."
_TEN = "That is the logarithm to the base 10.", "A sigmoid is made of e, so the logarithm is the natural one."
_NO_ODDS = "That is the logarithm of the prior alone.", "The sigmoid gives back the odds: divide by 1 - prior."

BIAS = (
    Part(
        "the number",
        near(_bias(0.05)),
        (
            Mistake(*_YES, near(-_bias(0.05))),
            Mistake(*_TEN, near(log10(0.05 / 0.95))),
            Mistake(*_NO_ODDS, near(log(0.05))),
        ),
        "Solve 1 / (1 + exp(-b)) = 0.05 for b.",
    ),
    Part(
        "the function",
        agrees(_prior, _BIASES),
        (
            Mistake(
                "That is the answer no.",
                "A bias below 0 belongs to a prior below one half: look at the sign in the exponent.",
                agrees_any(_BIASES, lambda bias: 1 - _prior(bias)),
            ),
            Mistake(
                "That is a power of 10.",
                "The logarithm is the natural one, so its inverse is exp.",
                agrees_any(_BIASES, lambda bias: 1 / (1 + 10**-bias)),
            ),
            Mistake(
                "These are the odds.",
                "exp(bias) is prior / (1 - prior). Solve that for the prior.",
                agrees_any(_BIASES, exp),
            ),
        ),
        "prior(-4.595) is 0.01, and prior(0) is 0.5.",
    ),
)


# 07-C: the labels at the bounds


def _states(iou: Tensor, low: float = 0.4, high: float = 0.5, closed: bool = False, open_: bool = False) -> Tensor:
    negative = iou <= low if closed else iou < low
    positive = iou > high if open_ else iou >= high
    return torch.where(positive, 1, torch.where(negative, 0, -1))


_BOUNDS = torch.tensor([0.39, 0.4, 0.49, 0.5])
_IOUS = [(torch.tensor([0.1, 0.2, 0.35, 0.4, 0.45, 0.5, 0.65, 0.75])[torch.randperm(8, generator=_generator)],)]
_CLOSED = "An IoU of 0.4 counts as background.", "Background ends below 0.4, so 0.4 is in no loss."
_OPEN = "An IoU of 0.5 does not count as positive.", "Positive begins at 0.5, and 0.5 belongs to it."
_RPN = "These are the bounds of the RPN.", "The RPN has 0.3 and 0.7, and RetinaNet has 0.4 and 0.5."
_LABEL_MISTAKES = ((_CLOSED, dict(closed=True)), (_OPEN, dict(open_=True)), (_RPN, dict(low=0.3, high=0.7)))


def _by(options: dict) -> Callable[[Tensor], Tensor]:
    return lambda iou: _states(iou, **options)


LABELS = (
    Part(
        "the labels",
        near_all(_states(_BOUNDS).tolist(), tol=0.001),
        tuple(
            Mistake(*told, near_all(_states(_BOUNDS, **options).tolist(), tol=0.001))
            for told, options in _LABEL_MISTAKES
        ),
        "There are three answers: 1, 0, and -1 for what is in no loss.",
    ),
    Part(
        "the function",
        agrees(_states, _IOUS),
        tuple(Mistake(*told, agrees_any(_IOUS, _by(options))) for told, options in _LABEL_MISTAKES),
        "Try it on the four numbers of the first part.",
    ),
)


# 07-D: counting anchors


def _cells(height: int, width: int, strides: tuple, whole: Callable = ceil) -> int:
    return sum(whole(height / stride) * whole(width / stride) for stride in strides)


_OLD = (8, 16, 32, 64, 128)


def _growth(height: int, width: int, old: tuple = (4, *_OLD), whole: Callable = ceil) -> float:
    """How many times more anchors there are with P2, with the mistakes one can make as options."""
    return _cells(height, width, old, whole) / _cells(height, width, _OLD, whole)


_SIZES = [(200, 320), (600, 1000), (192, 256), (333, 500)]
_PLACES = "That is the number of places.", "At each place stand nine anchors."
_P2 = "P2 is among the maps.", "RetinaNet's finest map is P3, of stride 8."

COUNT = (
    Part(
        "the number",
        near(9000),
        (Mistake(*_PLACES, near(1000)), Mistake(*_P2, near(36000))),
        "P3 has a cell for each 8 x 8 pixels.",
    ),
    Part(
        "the function",
        agrees(_growth, _SIZES),
        (
            Mistake(
                "Only the anchors of P2 are divided.",
                "P3 to P7 stay, so they belong to the new number, too.",
                agrees_any(_SIZES, lambda h, w: _growth(h, w, old=(4,))),
            ),
            Mistake(
                "That is the old number divided by the new one.",
                "There are more anchors with P2, so the result is above 1.",
                agrees_any(_SIZES, lambda h, w: 1 / _growth(h, w)),
            ),
            Mistake(
                "The sides of the maps are rounded down.",
                "A map covers the whole picture, so round up.",
                agrees_any(_SIZES, lambda h, w: _growth(h, w, whole=int)),
            ),
        ),
        "At 1000 x 600 P2 adds 337,500 anchors to the 113,193 of the others.",
    ),
)


# 07-E: the hardest negatives


def _hardest(
    loss: Tensor, positive: Tensor, ratio: int, all_: bool = False, easy: bool = False, filled: bool = False
) -> Tensor:
    """The hardest negatives, with the mistakes one can make as options."""
    rank = loss if all_ else loss.masked_fill(positive, float("inf") if easy else -1)
    at_most = len(loss) if all_ or filled else int((~positive).sum())
    return rank.topk(min(ratio * int(positive.sum()), at_most), largest=not easy).indices.sort().values


def _mined(k: int, positives: int) -> tuple[Tensor, Tensor, int]:
    loss = torch.rand(20, generator=_generator)
    positive = torch.arange(20) < positives
    return torch.where(positive, loss + 0.5, loss), positive, 2 + k % 2


_MINED = [_mined(k, positives) for k, positives in enumerate((2, 3, 4, 8))]  # the last has too few negatives
_ALL = "A positive anchor is among them.", "Only negatives are drawn. The positives are in the loss anyway."
_EASIEST = "These are the easiest.", "The hardest have the largest loss."

HARDEST = (
    Part(
        "the anchors",
        near_all((3, 4, 5), tol=0.001),
        (Mistake(*_ALL, near_all((1, 3, 5), tol=0.001)), Mistake(*_EASIEST, near_all((0, 2, 4), tol=0.001))),
        "Leave out number 1, and sort the others by their loss.",
    ),
    Part(
        "the function",
        agrees(_hardest, _MINED),
        (
            Mistake(*_ALL, agrees_any(_MINED, lambda *case: _hardest(*case, all_=True))),
            Mistake(*_EASIEST, agrees_any(_MINED, lambda *case: _hardest(*case, easy=True))),
            Mistake(
                "With too few negatives, positives fill the list.",
                "Then all negatives are returned, and no more.",
                agrees_any(_MINED, lambda *case: _hardest(*case, filled=True)),
            ),
        ),
        "Return the numbers of the anchors in ascending order, int64.",
    ),
)


# 07-F: a dense head that learns eight pictures


@cache
def eight_pictures() -> tuple[Tensor, Tensor]:
    """Eight pictures as a dense head reads them: what `fit_dense_head` of exercise 07-F learns by heart.

    Returns:
        Maps of stride 16, (8, 64, 12, 16), and for each class and cell whether the middle of such an object lies in it,
        (8, 6, 12, 16), 1 or 0.
    """
    detector, scenes = load("fpn"), load_dataset("shapes", "train")
    maps, wanted = [], torch.zeros(8, 6, 12, 16)
    for number in range(8):
        image, target = scenes[number]
        with torch.no_grad():
            maps.append(detector.maps([image])[1][2])
        x, y = ((target["boxes"][:, :2] + target["boxes"][:, 2:]) / 32).long().T
        wanted[number, target["labels"] - 1, y.clamp(max=11), x.clamp(max=15)] = 1
    return torch.cat(maps), wanted


@lru_cache(maxsize=1)
def _fitted(function: Callable) -> Tensor:
    """The logits that the learner's head gives after its training."""
    maps, wanted = eight_pictures()
    torch.manual_seed(0)
    head = function(maps.clone(), wanted.clone())
    if head is ...:
        raise _Open
    if not isinstance(head, nn.Module):
        raise ValueError("expected a module: return the head that was trained")
    with torch.no_grad():
        return head(maps)


def _knows(function: Callable) -> bool:
    logits, wanted = _fitted(function), eight_pictures()[1]
    return logits.shape == wanted.shape and bool(((logits > 0) == (wanted > 0)).all())


HEAD = (
    Part(
        "the head",
        _knows,
        (
            Mistake(
                "It says no everywhere.",
                "Divide the loss by the number of yes, not by all questions, and train longer.",
                lambda function: _fitted(function).max().item() < 0,
            ),
            Mistake(
                "Its outputs are never negative.",
                "It gives logits. The loss takes the sigmoid itself, and no ReLU stands at the end.",
                lambda function: _fitted(function).min().item() >= 0,
            ),
        ),
        "Two 3 x 3 convolutions with a ReLU between them, and Adam at 0.003, learn it in 200 steps.",
    ),
)

EXERCISES = {"07-A": FOCAL, "07-B": BIAS, "07-C": LABELS, "07-D": COUNT, "07-E": HARDEST, "07-F": HEAD}
