"""How an answer is judged.

An exercise is a tuple of parts. A part knows the right answer and the mistakes that people make; a mistake has a
symptom, told at the first try, and a cause, told at the second. The parts of a notebook's exercises stand in the
module of its number (`e00` for `00_boxes`), as `EXERCISES = {"00-A": (Part, ...)}`. Where exercises have letters,
guesses have numbers, so that no two questions share an id.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch


@dataclass(frozen=True)
class Mistake:
    """A known wrong answer."""

    symptom: str
    cause: str
    made_by: Callable[[Any], bool]


@dataclass(frozen=True)
class Part:
    """One question: what it asks, who is right, and the mistakes in the order in which they are looked for."""

    asks: str
    right: Callable[[Any], bool]
    mistakes: tuple[Mistake, ...]
    otherwise: str


_told: Counter[tuple[str, str, str]] = Counter()
_guesses: dict[str, Any] = {}


def check(id: str, *answers: Any) -> None:
    """Judge the answers to an exercise, one line each; an untouched `...` is open and passes.

    Args:
        id: notebook and number or letter, such as "00-A".
        answers: one per part: a number, a list, a text or a function, as the exercise asks.
    Raises:
        ValueError: an exercise that does not exist, or another number of answers than it has parts.
    """
    parts = _exercise(id)
    if len(answers) != len(parts):
        raise ValueError(
            f"{id} has {len(parts)} parts ({', '.join(p.asks for p in parts)}), got {len(answers)} answers"
        )
    for part, answer in zip(parts, answers, strict=True):
        print(
            f"{id}: {part.asks}: {_judge(id, part, answer)}" if len(parts) > 1 else f"{id}: {_judge(id, part, answer)}"
        )


def _exercise(id: str) -> tuple[Part, ...]:
    try:
        return import_module(f"rcnn_tutorial.course.exercises.e{id.split('-')[0]}").EXERCISES[id]
    except (ModuleNotFoundError, KeyError):
        raise ValueError(f'id: expected an exercise such as "00-A", got {id!r}') from None


class _Open(Exception):
    """A function that still returns `...`."""


def _judge(id: str, part: Part, answer: Any) -> str:
    if answer is ... or (isinstance(answer, list | tuple) and ... in answer):
        return "open"
    try:
        if part.right(answer):
            return "right"
        mistake = next((m for m in part.mistakes if m.made_by(answer)), None)
    except _Open:
        return "open"
    except Exception as error:  # the learner's own function may raise anything
        return f"not yet. It raises {type(error).__name__}: {error}"
    if mistake is None:
        return f"not yet. {part.otherwise}"
    told = (id, part.asks, mistake.symptom)
    _told[told] += 1
    return f"not yet. {mistake.symptom}" + (f" {mistake.cause}" if _told[told] > 1 else "")


def agrees(reference: Callable, cases: Sequence[tuple], tol: float = 1e-6) -> Callable[[Callable], bool]:
    """A test for functions: same result as `reference` on every case, shapes included."""

    def same(function: Callable) -> bool:
        for case in cases:
            mine = function(*(c.clone() if torch.is_tensor(c) else c for c in case))
            if mine is ...:
                raise _Open
            if mine is None:
                raise ValueError("the function returns nothing")
            mine, theirs = torch.as_tensor(mine), torch.as_tensor(reference(*case))
            if mine.shape != theirs.shape or not torch.allclose(mine.double(), theirs.double(), atol=tol, rtol=tol):
                return False
        return True

    return same


def near(value: float, tol: float = 0.006) -> Callable[[Any], bool]:
    """A test for numbers, rounded as a learner would."""
    return lambda answer: abs(float(answer) - value) <= tol


def near_all(*expected: Sequence[float], tol: float) -> Callable[[Any], bool]:
    """A test for several numbers at once: are they one of those expected?"""

    def near(answer: Any) -> bool:
        given = torch.as_tensor(answer, dtype=torch.float64)
        if given.shape != (len(expected[0]),):
            raise ValueError(f"expected {len(expected[0])} numbers, got {answer!r}")
        return any(torch.allclose(given, given.new_tensor(e), rtol=0, atol=tol) for e in expected)

    return near


def agrees_any(cases: Sequence[tuple], *references: Callable) -> Callable[[Callable], bool]:
    """A test for functions: same results as one of the references, to four digits."""
    return lambda function: any(agrees(reference, cases, tol=1e-4)(function) for reference in references)


def each_once(answer: object, names: Sequence[str]) -> tuple[str, ...]:
    """An order of these names.

    Raises:
        ValueError: one is missing, unknown, or there twice.
    """
    given = tuple(answer)
    if len(given) != len(names) or set(given) != set(names):
        raise ValueError(f"expected {', '.join(sorted(names))}, each once, got {answer!r}")
    return given


def guess(id: str, answer: Any = ..., choices: Sequence[Any] = ()) -> None:
    """Note a guess before the answer is shown; with `...` the question stays open.

    Args:
        id: notebook and number of the question, such as "00-1".
        answer: a number, or one of the choices.
        choices: what to choose from, if the question is not about a number.
    Raises:
        ValueError: an answer that is none of the choices.
    """
    offered = f" Choose one of: {', '.join(map(str, choices))}." if choices else ""
    if answer is ...:
        _guesses.pop(id, None)
        print(f"guess {id}: open.{offered} Write it in place of the three dots.")
        return
    if choices and answer not in choices:
        raise ValueError(f"answer: expected one of {list(choices)}, got {answer!r}")
    _guesses[id] = answer
    print(f"guess {id}: {answer}")


def reveal(id: str, answer: Any, why: str = "") -> None:
    """Show the answer, beside the guess if one was made.

    Args:
        id: the question's.
        answer: what was measured or computed.
        why: one sentence.
    """
    shown = f"{answer:.4g}" if isinstance(answer, float) else f"{answer}"
    guessed = f" (your guess: {_guesses[id]}, {_verdict(_guesses[id], answer)})" if id in _guesses else ""
    print(f"answer {id}: {shown}{guessed}{'. ' + why if why else ''}")


def _verdict(guessed: Any, answer: Any) -> str:
    if guessed == answer:
        return "right"
    numbers = all(isinstance(value, int | float) for value in (guessed, answer))
    return "close" if numbers and abs(guessed - answer) <= 0.1 * abs(answer) else "not this time"
