import pytest

from rcnn_tutorial.course.exercises import check, core, guess, reveal
from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any, near, near_all


@pytest.fixture(autouse=True)
def exercise(monkeypatch):
    monkeypatch.setattr(core, "_told", core.Counter())
    monkeypatch.setattr(core, "_guesses", {})
    double = agrees(lambda x: 2 * x, [(1.0,), (3.0,)])
    square = Mistake("Grows too fast.", "Twice, and not squared.", agrees(lambda x: x * x, [(1.0,), (3.0,)]))
    parts = (Part("a number", near(2), (), "Try again."), Part("a function", double, (square,), "Look at 1."))
    monkeypatch.setattr(core, "_exercise", lambda id: parts)


def said(capsys, *answers):
    check("99-1", *answers)
    return [line.removeprefix("99-1: ") for line in capsys.readouterr().out.splitlines()]


def test_untouched_is_open(capsys):
    assert said(capsys, ..., lambda x: ...) == ["a number: open", "a function: open"]


def test_right(capsys):
    assert said(capsys, 2.0, lambda x: x + x) == ["a number: right", "a function: right"]


def test_symptom_first_then_cause(capsys):
    answers = 3, lambda x: x**2
    assert said(capsys, *answers) == ["a number: not yet. Try again.", "a function: not yet. Grows too fast."]
    assert said(capsys, *answers)[1] == "a function: not yet. Grows too fast. Twice, and not squared."


def test_a_nearly_right_answer_is_refused(capsys):
    assert said(capsys, 2.008, lambda x: 2 * x + 1e-5) == [
        "a number: not yet. Try again.",
        "a function: not yet. Look at 1.",
    ]
    assert said(capsys, 1.995, lambda x: 2 * x * (1 + 1e-8)) == ["a number: right", "a function: right"]


@pytest.mark.parametrize(("off", "right"), [(1e-5, True), (1e-3, False), (-1e-3, False)])
def test_functions_agree_with_one_of_several_to_four_digits(off, right):
    same = agrees_any([(1.0,), (300.0,)], lambda x: x, lambda x: 2 * x)
    assert same(lambda x: 2 * x * (1 + off)) == right and same(lambda x: x + off) == right
    assert not same(lambda x: x if x > 1 else 2 * x)  # each case like another one


def test_several_numbers_are_near_to_the_digit_asked_for():
    near = near_all((1, 200), (3, 4), tol=0.06)
    assert (
        near((1.05, 199.95)) and near([3, 4]) and not near((1.07, 200)) and not near((1, 200.07)) and not near((1, 4))
    )
    with pytest.raises(ValueError, match="expected 2 numbers, got 1"):
        near(1)


def test_a_result_of_another_shape_or_type_is_refused():
    same = agrees(lambda x: [x, x], [(1.0,)])
    assert same(lambda x: (1, 1)) and not same(lambda x: 1) and not same(lambda x: [[1, 1]])


def test_each_mistake_begins_with_its_symptom_and_the_first_that_fits_is_told(capsys, monkeypatch):
    mistakes = (Mistake("Four.", "Not four.", near(4)), Mistake("Large.", "Not large.", lambda answer: answer > 3))
    monkeypatch.setattr(core, "_exercise", lambda id: (Part("a number", near(2), mistakes, "Try again."),))
    told = [said(capsys, answer)[0].removeprefix("not yet. ") for answer in (4, 9, 4, 1, 9)]
    assert told == ["Four.", "Large.", "Four. Not four.", "Try again.", "Large. Not large."]


def test_errors_of_the_learner_are_told(capsys):
    assert said(capsys, "two", lambda x: None) == [
        "a number: not yet. It raises ValueError: could not convert string to float: 'two'",
        "a function: not yet. It raises ValueError: the function returns nothing",
    ]


def test_number_of_answers(capsys):
    with pytest.raises(ValueError, match="2 parts"):
        check("99-1", 2.0)


def test_unknown_exercise(monkeypatch):
    monkeypatch.undo()
    for id in ("00-99", "98-1", "nonsense"):
        with pytest.raises(ValueError, match="expected an exercise"):
            check(id, 1)


def test_guess_and_reveal(capsys):
    guess("99-2")
    reveal("99-2", 4, "x2 is exclusive.")
    guess("99-2", 5)
    reveal("99-2", 4.0)
    guess("99-3", choices=("A", "B"))
    guess("99-3", "A", choices=("A", "B"))
    reveal("99-3", "B")
    guess("99-2")
    reveal("99-2", 4)
    for guessed in (30, 33, 34):
        guess("99-2", guessed)
        reveal("99-2", 30)
    guess("99-3", "B", choices=("A", "B"))
    reveal("99-3", "B")
    assert capsys.readouterr().out.splitlines() == [
        "guess 99-2: open. Write it in place of the three dots.",
        "answer 99-2: 4. x2 is exclusive.",
        "guess 99-2: 5",
        "answer 99-2: 4 (your guess: 5, not this time)",
        "guess 99-3: open. Choose one of: A, B. Write it in place of the three dots.",
        "guess 99-3: A",
        "answer 99-3: B (your guess: A, not this time)",
        "guess 99-2: open. Write it in place of the three dots.",
        "answer 99-2: 4",
        "guess 99-2: 30",
        "answer 99-2: 30 (your guess: 30, right)",
        "guess 99-2: 33",
        "answer 99-2: 30 (your guess: 33, close)",
        "guess 99-2: 34",
        "answer 99-2: 30 (your guess: 34, not this time)",
        "guess 99-3: B",
        "answer 99-3: B (your guess: B, right)",
    ]
    with pytest.raises(ValueError, match="one of"):
        guess("99-3", "C", choices=("A", "B"))
