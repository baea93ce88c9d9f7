"""What is asked of every notebook's exercises: right answers pass, each wrong one gets its own hint and no other."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from rcnn_tutorial.course.exercises import check, core


def with_(function, **options):
    return lambda *case: function(*case, **options)


def hints(part, answer):
    return [mistake.symptom for mistake in part.mistakes if mistake.made_by(answer)]


_seen = {}


def remembered(part):
    """The part as it is, but it looks at each answer once: some of them train a network, and tell the same again."""

    def once(judge):
        def looked(answer):
            key = id(judge), id(answer)
            if key not in _seen:
                _seen[key] = judge(answer), judge, answer  # kept, so that nothing else gets their ids
            return _seen[key][0]

        return looked

    mistakes = tuple(replace(mistake, made_by=once(mistake.made_by)) for mistake in part.mistakes)
    return replace(part, right=once(part.right), mistakes=mistakes)


def nudged(function):
    """The function with 0.005 added to all that it computes: in a learner's eyes nearly right, and wrong."""

    def off(result):
        if isinstance(result, nn.Module):
            with torch.no_grad():
                next(reversed(list(result.parameters()))).add_(0.005)
            return result
        return [off(part) for part in result] if isinstance(result, list) else result + 0.005

    return lambda *case: off(function(*case))


def judging(exercises, right, wrong, other, twice, causes, nearly):
    """The tests of one notebook's exercises, as a class.

    Args:
        exercises: the notebook's EXERCISES.
        right: pairs of a part and a right answer.
        wrong: parts, wrong answers, and words of the one hint that each gets.
        other: pairs of a part and a wrong answer without a hint.
        twice: pairs of an exercise and a tuple of answers, one per part, all wrong in a known way.
        causes: for each hint the part, the words of its symptom as in `wrong`, and words of the cause that stand in no
            other hint of the exercise.
        nearly: pairs of a part and an answer that is a little off.
    """
    words_of = {(part, symptom): words for part, symptom, words in causes}

    class TestJudging:
        @pytest.mark.parametrize(("part", "answer"), right)
        def test_right_answers(self, part, answer):
            assert part.right(answer)
            assert not hints(part, answer)

        @pytest.mark.parametrize(("part", "answer", "symptom"), wrong)
        def test_each_wrong_answer_has_its_own_hint(self, part, answer, symptom):
            part = remembered(part)
            assert not part.right(answer)
            told = hints(part, answer)
            assert len(told) == 1 and symptom in told[0], told

        @pytest.mark.parametrize(("part", "answer", "symptom"), wrong)
        def test_the_second_time_the_cause_of_this_mistake_is_told(self, part, answer, symptom, monkeypatch):
            monkeypatch.setattr(core, "_told", core.Counter())
            words = words_of[part, symptom]
            (exercise,) = (name for name, parts in exercises.items() if part in parts)
            first, second = (core._judge(exercise, remembered(part), answer) for _ in range(2))
            cause = second.removeprefix(f"{first} ")
            assert cause != second and words in cause
            mistakes = (mistake for each in exercises[exercise] for mistake in each.mistakes)
            assert not [m for m in mistakes if m.cause != cause and words in f"{m.symptom} {m.cause}"]

        def test_every_cause_is_asked_for(self):
            assert set(words_of) == {(part, symptom) for part, _, symptom in wrong}

        @pytest.mark.parametrize(("part", "answer"), nearly)
        def test_a_nearly_right_answer_is_not_right(self, part, answer):
            assert not part.right(answer)

        @pytest.mark.parametrize(("part", "answer"), other)
        def test_other_wrong_answers_get_a_way_to_go_on(self, part, answer):
            assert not part.right(answer) and not hints(part, answer) and part.otherwise

        def test_every_hint_is_reached(self):
            reached = {symptom for part, answer, _ in wrong for symptom in hints(remembered(part), answer)}
            assert reached == {m.symptom for parts in exercises.values() for part in parts for m in part.mistakes}

        @pytest.mark.parametrize(("id", "answers"), twice)
        def test_symptom_first_then_cause(self, id, answers, capsys, monkeypatch):
            monkeypatch.setattr(core, "_told", core.Counter())
            found = [next(m for m in p.mistakes if m.made_by(a)) for p, a in zip(exercises[id], answers, strict=True)]
            for end in ([m.symptom for m in found], [f"{m.symptom} {m.cause}" for m in found]):
                check(id, *answers)
                lines = capsys.readouterr().out.splitlines()
                assert [line.split("not yet. ")[1] for line in lines] == end

    return TestJudging
