import pytest
import torch

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.detectors.svm import (
    SVM,
    Miner,
    SVMSettings,
    feature_scale,
    fit_svm,
    mine,
    mining_passes,
)
from tests.detectors.test_svm import svm_objective


def scenes(images=12, windows=60, d=16, classes=3, seed=0, device="cpu"):
    """Features around twice as many centres as classes; a window near a class's centre is no negative of it."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(2 * classes, d, generator=g)

    def features(kind):
        return (0.7 * torch.randn(len(kind), d, generator=g) + centres[kind]).relu()

    labels = torch.arange(90) % classes + 1
    positives = features(labels - 1)
    scale = feature_scale(positives)
    stream = []
    for _ in range(images):
        kind = torch.randint(2 * classes, (windows,), generator=g)
        is_negative = kind[:, None] != torch.arange(classes)
        stream.append(((features(kind) * scale).to(device), is_negative.to(device)))
    return (positives * scale).to(device), labels.to(device), stream


def train_svms(positives, labels, images, settings=SVM):
    """The SVMs of the last pass, and what every pass found."""
    weights, biases, log = zip(*mining_passes(positives, labels, lambda: iter(images), settings), strict=True)
    return weights[-1], biases[-1], list(log)


def everything(positives, labels, stream, classes=3):
    """The same problem without mining: all rows at once."""
    features = torch.cat((positives, *(f for f, _ in stream)))
    own = labels[:, None] == torch.arange(1, classes + 1, device=labels.device)
    negative = torch.cat((torch.zeros_like(own), *(n for _, n in stream)))
    positive = torch.zeros_like(negative)
    positive[: len(own)] = own
    return features, positive, positive | negative


def test_hard_negatives_by_hand(device):
    scores = torch.tensor([0.5, -0.5, -1.0, -0.999, -3.0, 2.0, 0.1], device=device)
    is_positive = torch.tensor([False, False, False, False, False, True, True], device=device)
    assert mine(scores, is_positive).tolist() == [True, True, False, True, False, False, False]
    assert mine(scores, is_positive, margin=0).tolist() == [True] + 6 * [False]
    none = mine(scores[:0], is_positive[:0])
    assert none.shape == (0,) and none.dtype == torch.bool


@pytest.mark.parametrize("refit", [40, 2000])
def test_mining_to_the_end_gives_the_svm_of_all_windows(refit, device):
    positives, labels, stream = scenes(device=device)
    weight, bias, log = train_svms(positives, labels, stream, SVMSettings(passes=20, refit=refit))
    assert 2 < len(log) < 21 and not len(log[-1].score)
    features, positive, used = everything(positives, labels, stream)
    expected = svm_objective(features, positive, *fit_svm(features, positive, used), used)
    equal = torch.allclose(svm_objective(features, positive, weight, bias, used), expected, rtol=1e-6)
    claim("RCNN-12", condition=equal, note="mining until nothing is found gives the SVM of all windows")
    assert (log[-1].cached < 0.5 * used.sum(0).cpu()).all()


def test_each_mined_negative_violates_the_margin():
    positives, labels, stream = scenes()
    _, _, log = train_svms(positives, labels, stream, SVMSettings(passes=5))
    assert len(log[1].score) > 20
    for number, found in enumerate(log[1:], 1):
        above = bool((found.score > -1).all())
        claim("RCNN-12", condition=above, note=f"each of the negatives mined in pass {number} scores above -1")
        for image, window, label in zip(found.image, found.window, found.label, strict=True):
            assert stream[image][1][window, label - 1]


def test_the_score_is_that_of_the_window_met():
    positives, labels, stream = scenes()
    miner = Miner(positives, labels, 3)
    miner.look(0, *stream[0])
    first = miner.end_pass()
    assert first.score.isinf().all() and len(first.score) == stream[0][1].sum()
    scores = stream[1][0] @ miner.weight.t() + miner.bias
    miner.look(1, *stream[1])
    second = miner.end_pass()
    assert torch.allclose(second.score, scores[second.window, second.label - 1], atol=1e-5)
    hard = stream[1][1] & (scores > -1)
    assert len(second.score) == hard.sum() and hard[second.window, second.label - 1].all()
    assert (second.image == 1).all()


def test_the_cache_grows_by_what_is_mined_less_what_became_easy():
    positives, labels, stream = scenes()
    settings, miner = SVMSettings(passes=5, refit=30), Miner(positives, labels, 3, SVMSettings(refit=30))
    _, _, log = train_svms(positives, labels, stream, settings)
    cached = torch.zeros(3, dtype=torch.int64)
    for found in log:
        most = cached + torch.bincount(found.label - 1, minlength=3)
        assert (found.cached <= most).all()
        cached = found.cached
    assert (sum(torch.bincount(found.label - 1, minlength=3) for found in log) > cached).all()  # some left
    for image, item in enumerate(stream):
        miner.look(image, *item)
    counted = sum(hard.sum(dim=0) for _, _, hard in miner.cache.values())
    assert (miner.end_pass().cached <= counted).all() and miner.cache.keys() == set(range(len(stream)))


def test_what_mining_minimises_never_falls_from_pass_to_pass():
    """More rows cost more, and those that leave cost nothing."""
    positives, labels, stream = scenes()
    miner, last = Miner(positives, labels, 3), torch.zeros(3)
    for _ in range(4):
        for image, item in enumerate(stream):
            miner.look(image, *item)
        miner.end_pass()
        _, parts, hard = zip(*miner.cache.values(), strict=True)
        used = torch.cat((miner.positive, *hard))
        positive = torch.zeros_like(used)
        positive[: len(positives)] = miner.positive
        objective = svm_objective(torch.cat((positives, *parts)), positive, miner.weight, miner.bias, used)
        assert (objective >= last * (1 - 1e-7)).all() and objective.min() > 0
        last = objective


def test_easy_negatives_leave_the_cache():
    positives, labels, stream = scenes()
    miner = Miner(positives, labels, 3)
    for image, (features, is_negative) in enumerate(stream):
        miner.look(image, features, is_negative)
    miner.end_pass()
    for window, features, hard in miner.cache.values():
        scores = features @ miner.weight.t() + miner.bias
        assert (scores[hard] >= -1.2).all() and hard.any(1).all() and len(window) == len(hard)
    assert any(
        (features @ miner.weight.t() + miner.bias)[hard].min() < -1 for _, features, hard in miner.cache.values()
    )


def test_a_window_is_cached_once():
    positives, labels, stream = scenes()
    miner = Miner(positives, labels, 3)
    for _ in range(3):
        for image, (features, is_negative) in enumerate(stream):
            miner.look(image, features, is_negative)
        found = miner.end_pass()
        keys = torch.stack((found.image, found.window, found.label), dim=1)
        assert len(keys.unique(dim=0)) == len(keys)
    for image, (window, features, hard) in miner.cache.items():
        assert len(window.unique()) == len(window)
        assert torch.equal(features, stream[image][0][window])
        assert (stream[image][1][window] | ~hard).all()
    assert any((hard.sum(1) > 1).any() for _, _, hard in miner.cache.values())


def test_many_new_negatives_train_at_once():
    positives, labels, stream = scenes()
    miner = Miner(positives, labels, 3, SVMSettings(refit=40))
    miner.look(0, *stream[0])  # about 50 per class, and then about 30
    assert miner.bias.isfinite().all() and not miner.fresh.any()
    before = miner.weight.clone()
    miner.look(1, *stream[1])
    assert miner.fresh.any() and torch.equal(miner.weight, before)


def test_positives_are_the_true_boxes_alone():
    positives, labels, stream = scenes()
    miner = Miner(positives, labels, 3)
    miner.look(0, *stream[0])
    miner.fit()
    for label in (1, 2, 3):
        found = miner.positive[:, label - 1].sum().item()
        claim("RCNN-10", found, (labels == label).sum().item(), note=f"positives of class {label}, true boxes of it")
    # and without any, no window is a positive: all score like negatives
    weight, bias, _ = train_svms(positives[:0], labels[:0], stream)
    scores = torch.cat([features for features, _ in stream]) @ weight.t() + bias
    assert (scores < 0).all()


def test_images_without_windows_and_half_precision(device):
    positives, labels, stream = scenes(images=4, device=device)
    empty = (stream[0][0][:0], stream[0][1][:0])
    weight, bias, _ = train_svms(positives, labels, [empty, *stream, empty], SVMSettings(passes=20))
    expected, expected_bias, _ = train_svms(positives, labels, stream, SVMSettings(passes=20))
    assert torch.allclose(weight, expected, atol=1e-3) and torch.allclose(bias, expected_bias, atol=1e-2)
    half = [(features.half(), is_negative) for features, is_negative in stream]
    weight, bias, log = train_svms(positives.half(), labels, half, SVMSettings(passes=20))
    assert torch.allclose(weight, expected, atol=5e-3) and weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (dict(labels=torch.ones(3, dtype=torch.int64)), "labels"),
        (dict(labels=torch.full((90,), 4)), "labels"),
        (dict(labels=torch.zeros(90, dtype=torch.int64)), "labels"),
        (dict(images=[]), "images"),
        (dict(images=[(torch.zeros(5, 16), torch.zeros(5, 3))]), "is_negative"),
    ],
)
def test_bad_input_is_named(change, name):
    positives, labels, stream = scenes(images=1)
    with pytest.raises(ValueError, match=f"^{name}: "):
        train_svms(**{"positives": positives, "labels": labels, "images": stream, **change})
