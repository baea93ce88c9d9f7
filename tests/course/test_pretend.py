import pytest
import torch

from rcnn_tutorial.course.pretend import pretend_detections, pretend_ranking
from rcnn_tutorial.evaluation import failures, voc_ap

CLASSES = ("background", "a", "b", "c")


def scenes(n=200):
    g = torch.Generator().manual_seed(0)
    targets = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}]
    for _ in range(n):
        corner = torch.rand(4, 2, generator=g) * 150
        size = 20 + torch.rand(4, 2, generator=g) * 60
        labels = torch.randint(1, 4, (4,), generator=g)
        targets.append({"boxes": torch.cat((corner, corner + size), dim=1), "labels": labels})
    return targets


def pretended(seed=0):
    return pretend_detections(scenes(), (192, 256), CLASSES, torch.Generator().manual_seed(seed))


def test_a_middling_detector_with_every_kind_of_failure():
    targets, detections = scenes(), pretended()
    assert 0.4 < voc_ap(detections, targets, CLASSES).map < 0.8
    counts = failures(detections, targets, score_threshold=0.3).counts
    assert all(counts[kind] > 20 for kind in ("correct", "class", "place", "duplicate", "background", "missed"))


def test_the_generator_decides():
    first, second, other = pretended(), pretended(), pretended(1)
    assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(first, second, strict=True))
    assert not all(a["boxes"].shape == b["boxes"].shape for a, b in zip(first, other, strict=True))


def test_detections_are_well_formed():
    for d in pretended():
        assert len(d["boxes"]) == len(d["labels"]) == len(d["scores"]) >= 1
        assert (d["boxes"][:, 2:] > d["boxes"][:, :2]).all() and 0 < d["labels"].min() <= d["labels"].max() < 4
        assert d["scores"].min() >= 0 and d["scores"].max() <= 1


@pytest.mark.parametrize(
    "words", [("hit", "false", "hit", "hit", "duplicate"), ("false", "hit", "duplicate"), ("false",)]
)
def test_a_ranking_is_made_of_what_its_words_say(words):
    detection, target = pretend_ranking(words, objects=4)
    assert len(target["boxes"]) == 4 and detection["scores"].diff().lt(0).all()
    (kinds,) = failures([detection], [target]).kinds
    assert [{"correct": "hit", "background": "false"}.get(kind, kind) for kind in kinds] == list(words)


@pytest.mark.parametrize("words", [("duplicate", "hit"), ("miss",), ("hit",) * 5])
def test_a_ranking_that_cannot_be(words):
    with pytest.raises(ValueError, match="words: expected"):
        pretend_ranking(words, objects=4)
