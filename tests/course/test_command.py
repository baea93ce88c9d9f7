"""What README promises of its one command, on its record."""

from statistics import mean, stdev

from rcnn_tutorial.course.records import by_variant, command, load
from rcnn_tutorial.evaluation import student_interval


def test_the_record_supports_what_was_aimed_at():
    """An AP50 of at least 0.90 on the test pictures, as the mean of five trainings."""
    (reached,) = by_variant(load(command.RECORD), "AP50").values()
    assert len(reached) >= 5 and mean(reached) >= 0.90
    assert student_interval(mean(reached), stdev(reached), len(reached))[0] > 0.89


def test_the_sentence_says_it(monkeypatch):
    runs = {
        str(seed): {"variants": {"a": {"AP50": ap, "AP": ap / 2, "seconds": 120}}} for seed, ap in ((0, 0.8), (1, 0.9))
    }
    monkeypatch.setattr(command, "load", lambda name: {"runs": runs})
    sentence = command.sentence()
    assert "an AP50 of 0.850 ± 0.071 and an AP of 0.425 ± 0.035 on the test pictures" in sentence
    assert "of 2 trainings" in sentence and "took 2 minutes" in sentence
