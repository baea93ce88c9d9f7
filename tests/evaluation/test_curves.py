"""Precision, recall and the area under their curve: worked examples."""

import math

import pytest
import torch

from rcnn_tutorial.evaluation import average_precision, precision_recall


def ranking(hits, positives, method):
    hits = torch.tensor(hits, dtype=torch.bool)
    precision, recall = precision_recall(torch.arange(len(hits), 0, -1), hits, positives)
    return average_precision(recall, precision, method)


def test_worked_example():
    precision, recall = precision_recall(
        torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]), torch.tensor([False, True, True, False, True]), positives=4
    )
    assert precision.tolist() == [0, 1 / 2, 2 / 3, 2 / 4, 3 / 5]
    assert recall.tolist() == [0, 0.25, 0.5, 0.5, 0.75]
    assert average_precision(recall, precision) == pytest.approx(0.25 * (2 / 3 + 2 / 3 + 3 / 5))  # 0.4833
    assert average_precision(recall, precision, "11") == pytest.approx((6 * 2 / 3 + 2 * 3 / 5) / 11)  # 0.4727


def test_worked_example_wrong_answers():
    assert ranking([0, 1, 1, 1, 1], 4, "all") == pytest.approx(0.80)  # the duplicate counted as a hit
    assert ranking([0, 1, 1, 0, 1], 3, "all") == pytest.approx(0.6444, abs=5e-5)  # divided by the objects found


def test_scores_decide_the_order_and_ties_keep_theirs():
    hits = torch.tensor([True, False, True])
    precision, recall = precision_recall(torch.tensor([0.1, 0.9, 0.5]), hits, positives=2)
    assert precision.tolist() == [0, 1 / 2, 2 / 3] and recall.tolist() == [0, 0.5, 1]
    many = torch.arange(200) % 2 == 0
    precision, _ = precision_recall(torch.zeros(200), many, positives=100)
    assert precision[::2].tolist() == [k / (2 * k - 1) for k in range(1, 101)]


def test_ignored_detections_are_left_out():
    scores, hits = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([False, True, False])
    precision, recall = precision_recall(scores, hits, 1, ignored=torch.tensor([True, False, False]))
    assert precision.tolist() == [1, 0.5] and recall.tolist() == [1, 1]


def test_without_detections_and_without_objects():
    nothing = torch.zeros(0)
    for method in ("all", "11"):
        precision, recall = precision_recall(nothing, nothing.bool(), positives=3)
        assert average_precision(recall, precision, method) == 0
        precision, recall = precision_recall(torch.ones(2), torch.zeros(2, dtype=torch.bool), positives=0)
        assert math.isnan(average_precision(recall, precision, method))


@pytest.mark.parametrize("positives", [10, 20, 30, 70])
def test_eleven_points_meet_recall_exactly(positives):
    # recall k / 10 is reached by exactly k / 10 of the objects, whatever 0.1 * k rounds to
    for tenth in range(11):
        found = tenth * positives // 10
        assert ranking([1] * found, positives, "11") == pytest.approx((tenth + 1 if found else 0) / 11)


def test_perfect_ranking_is_one():
    assert ranking([1] * 7, 7, "all") == pytest.approx(1) and ranking([1] * 7, 7, "11") == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: precision_recall(torch.zeros(2), torch.zeros(3).bool(), 1), "scores, hits, ignored: .*(2,)"),
        (lambda: precision_recall(torch.zeros(2), torch.ones(2).bool(), 1), "positives: expected at least the 2"),
        (lambda: average_precision(torch.zeros(2), torch.zeros(3)), "recall, precision"),
        (lambda: average_precision(torch.tensor([1.0, 0.5]), torch.tensor([0.5, 1.0])), "recall: expected ascending"),
        (lambda: average_precision(torch.zeros(2), torch.zeros(2), "12"), "method: .*'12'"),
    ],
)
def test_curves_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()
