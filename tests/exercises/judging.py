"""What is asked of every notebook's exercises: right answers pass, each wrong one gets its own hint and no other."""

import pytest

from rcnn_tutorial.exercises import check, core


def with_(function, **options):
    return lambda *case: function(*case, **options)


def hints(part, answer):
    return [mistake.symptom for mistake in part.mistakes if mistake.made_by(answer)]


def judging(exercises, right, wrong, other, twice):
    """The tests of one notebook's exercises, as a class.

    Args:
        exercises: the notebook's EXERCISES.
        right: pairs of a part and a right answer.
        wrong: parts, wrong answers, and words of the one hint that each gets.
        other: pairs of a part and a wrong answer without a hint.
        twice: pairs of an exercise and a tuple of answers, one per part, all wrong in a known way.
    """

    class TestJudging:
        @pytest.mark.parametrize(("part", "answer"), right)
        def test_right_answers(self, part, answer):
            assert part.right(answer)
            assert not hints(part, answer)

        @pytest.mark.parametrize(("part", "answer", "symptom"), wrong)
        def test_each_wrong_answer_has_its_own_hint(self, part, answer, symptom):
            assert not part.right(answer)
            told = hints(part, answer)
            assert len(told) == 1 and symptom in told[0], told

        @pytest.mark.parametrize(("part", "answer"), other)
        def test_other_wrong_answers_get_a_way_to_go_on(self, part, answer):
            assert not part.right(answer) and not hints(part, answer) and part.otherwise

        def test_every_hint_is_reached(self):
            reached = {symptom for part, answer, _ in wrong for symptom in hints(part, answer)}
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
