"""The bootstrap of COCO's AP from one comparison, against the one that measures every draw anew."""

import pytest
import torch

from rcnn_tutorial.evaluation import best_f1, bootstrap, coco_ap, coco_bootstrap, coco_intervals, match_detections
from tests.evaluation.test_coco import CLASSES, random_scene


def scene_without_ties(seed, crowds=False):
    """A random scene whose scores all differ: equal ones have no order that both ways would share."""
    detections, targets = random_scene(seed, crowds=crowds)
    total = sum(len(detected["scores"]) for detected in detections)
    scores = torch.randperm(total, generator=torch.Generator().manual_seed(seed)).double().add(1).div(total + 1)
    parts = scores.split([len(detected["scores"]) for detected in detections])
    return [detected | {"scores": part} for detected, part in zip(detections, parts, strict=True)], targets


def generator():
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize(("seed", "crowds", "most"), [(0, False, 10**7), (1, True, 10**7), (2, True, 100)])
def test_the_same_draws_give_the_same_numbers(seed, crowds, most, monkeypatch):
    monkeypatch.setattr(coco_bootstrap, "MOST", most)  # 100: one draw at a time
    detections, targets = scene_without_ties(seed, crowds)
    fast = coco_intervals(detections, targets, CLASSES, 6, generator())
    for name in ("AP", "AP50"):
        slow = bootstrap(lambda d, t, name=name: coco_ap(d, t, CLASSES)[name], detections, targets, 6, generator())
        assert torch.allclose(fast[name].samples, slow.samples, rtol=0, atol=1e-12)
        assert fast[name].value == pytest.approx(slow.value, abs=1e-12)
        assert (fast[name].low, fast[name].high) == pytest.approx((slow.low, slow.high), abs=1e-12)


def test_a_class_without_objects_in_a_draw_does_not_count_there():
    box = torch.tensor([[0.0, 0, 10, 10]])
    targets = [{"boxes": box, "labels": torch.tensor([label])} for label in (1, 2)]
    detections = [target | {"scores": torch.ones(1)} for target in targets]
    detections[1] = {"boxes": box[:0], "labels": torch.zeros(0).long(), "scores": torch.zeros(0)}
    samples = coco_intervals(detections, targets, ("background", "a", "b"), 50, generator())["AP50"].samples
    assert set(samples.round(decimals=9).tolist()) == {0.0, 0.5, 1.0}  # the second image twice, both, the first twice


def test_nothing_to_draw_from():
    with pytest.raises(ValueError, match="at least 1 of each, got 0 and 200"):
        coco_intervals([], [], CLASSES)
    with pytest.raises(ValueError, match="at least 1 of each, got 12 and 0"):
        coco_intervals(*random_scene(0), CLASSES, 0)


def test_the_best_threshold_of_a_ranking_by_hand():
    scores = torch.tensor([0.9, 0.8, 0.8, 0.3], dtype=torch.float64)
    recall, precision = torch.tensor([0.25, 0.5, 0.5, 0.5]), torch.tensor([1, 1, 2 / 3, 0.5])
    # 0.9 alone has F1 0.4; behind the first of the equal scores it would be 2/3, but both are kept or neither
    f1, threshold = best_f1(scores, precision, recall)
    assert f1 == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5)) and threshold == 0.8
    assert best_f1(scores[:0], precision[:0], recall[:0])[0] == 0


def test_every_threshold_of_a_scene_is_no_better_than_the_best():
    detections, targets = random_scene(3, crowds=True)
    matched = match_detections(detections, targets)
    for label in range(1, len(CLASSES)):
        best, threshold = matched.best_f1(label)
        of_class = (matched.labels == label) & ~matched.ignored

        def f1(score, of_class=of_class, label=label):
            kept = of_class & (matched.scores >= score)
            return float(2 * (matched.hits & kept).sum() / (kept.sum() + matched.positives(label)))

        assert best == pytest.approx(max(f1(score) for score in matched.scores[of_class].tolist()), abs=1e-6)
        assert best == pytest.approx(f1(threshold), abs=1e-6)


def test_a_class_without_objects_has_no_best_threshold():
    matched = match_detections(*random_scene(3))
    assert all(value != value for value in matched.best_f1(9))
