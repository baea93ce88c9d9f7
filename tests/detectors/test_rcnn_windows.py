from dataclasses import replace

import pytest
import torch

from experiments.rcnn import refined_late
from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.course.rcnn_steps import detect, scored
from rcnn_tutorial.detectors.rcnn_windows import WindowFeatures, windows
from rcnn_tutorial.nets.backbones import TINY, ConvNet
from rcnn_tutorial.ops.boxes import box_iou
from tests.detectors.test_rcnn import CLASSES, Squares, untrained


@pytest.fixture(scope="module")
def model():
    model = untrained()
    torch.manual_seed(1)
    torch.nn.init.normal_(model.svm_weight)
    torch.nn.init.normal_(model.ridge_weight, std=3e-3)  # enough that NMS keeps other boxes once they are moved
    return model


def counted(model, monkeypatch):
    calls, compute = [], model.pooled
    monkeypatch.setattr(model, "pooled", lambda image, boxes: (calls.append(len(boxes)), compute(image, boxes))[1])
    return calls


def test_windows_leave_out_what_is_difficult_or_a_crowd():
    target = {
        "boxes": torch.tensor([[0, 0, 9, 9], [1, 1, 5, 5], [2, 2, 8, 8.0]]),
        "labels": torch.tensor([1, 2, 1]),
        "difficult": torch.tensor([False, True, False]),
        "iscrowd": torch.tensor([False, False, True]),
        "proposals": torch.tensor([[3, 3, 4, 4.0]]),
    }
    boxes, truths, labels = windows(target)
    assert (
        boxes.tolist() == [[0, 0, 9, 9], [3, 3, 4, 4]] and truths.tolist() == [[0, 0, 9, 9]] and labels.tolist() == [1]
    )


def test_features_are_those_of_the_model(model):
    data = Squares(4)
    for item, (image, target) in zip(WindowFeatures(model, data), data.items, strict=True):
        boxes, truths, labels = windows(target)
        pool5, fc7 = model.features(image, boxes)
        assert torch.equal(item.boxes, boxes) and torch.equal(item.truths, truths) and torch.equal(item.labels, labels)
        assert torch.equal(item.pool5, pool5) and torch.equal(item.fc7, fc7) and item.size == (96, 128)


def test_the_cache_computes_once_and_its_size_is_two_bytes_per_number(model, tmp_path, monkeypatch):
    data, cache, calls = Squares(4), FeatureCache(tmp_path), counted(model, monkeypatch)
    first, second = (list(WindowFeatures(model, data, cache)) for _ in range(2))
    assert len(calls) == 4
    numbers = sum(item.pool5.numel() + item.fc7.numel() for item in first)
    assert 2 * numbers <= cache.size() < 2 * numbers + 8 * 3000
    for a, b, exact in zip(first, second, WindowFeatures(model, data), strict=True):
        assert torch.equal(a.fc7, b.fc7) and torch.equal(a.pool5, b.pool5)
        assert torch.allclose(a.fc7, exact.fc7, rtol=1e-3, atol=1e-3) and a.fc7.dtype == torch.float32


@pytest.mark.parametrize("change", ["weights", "layers", "size", "mean", "context", "proposals", "image"])
def test_a_change_is_computed_anew(change, tmp_path, monkeypatch):
    cache, model, data = FeatureCache(tmp_path), untrained(), Squares(2)
    list(WindowFeatures(model, data, cache))
    if change == "weights":
        model.net.convs[0][0].bias.data[0] += 1
    elif change in ("layers", "size"):  # a larger pooling or larger crops, weights of the same shapes
        first = replace(TINY[0], pool=3, ceil=True) if change == "layers" else TINY[0]
        net = ConvNet((first, *TINY[1:]), 72 if change == "size" else 64, 256, len(CLASSES), dropout=0.0)
        net.load_state_dict(model.net.state_dict())
        model.net = net
    elif change == "mean":
        model.mean[0] += 0.1
    elif change == "context":
        model.settings = untrained(context=2.0).settings
    elif change == "image":
        data.items = [(image.flip(-1), target) for image, target in data.items]
    else:
        data.items = [(image, {**target, "proposals": target["proposals"] + 1}) for image, target in data.items]
    calls = counted(model, monkeypatch)
    list(WindowFeatures(model, data, cache))
    assert len(calls) == 2


@pytest.mark.parametrize("layer", ["fc6", "fc7"])
def test_another_head_reads_the_same_pooled_features(layer, tmp_path, monkeypatch):
    cache, model, data = FeatureCache(tmp_path), untrained(), Squares(2)
    before = list(WindowFeatures(model, data, cache))
    getattr(model.net, layer)[0].bias.data += 1
    calls = counted(model, monkeypatch)
    for old, new in zip(before, WindowFeatures(model, data, cache), strict=True):
        assert torch.equal(old.pool5, new.pool5)
        assert torch.allclose(new.fc7, model.net.hidden(new.pool5), rtol=1e-3, atol=1e-3)
    assert not calls


def test_detections_from_features_are_the_models_own(model):
    data = Squares(5)
    whole = model([image for image, _ in data.items], proposals=[target["proposals"] for _, target in data.items])
    for a, b in zip(detect(WindowFeatures(model, data)), whole, strict=True):
        assert torch.allclose(a["boxes"], b["boxes"], atol=1e-4) and torch.equal(a["labels"], b["labels"])
        assert len(a["scores"])


def test_parts_can_be_left_out(model):
    data = Squares(3)
    features = WindowFeatures(model, data)
    raw, boxes, _ = scored(features, regression="none")[0]
    assert boxes.shape == (len(raw), 1, 4)
    softmax = scored(features, scores="softmax")[0][0]
    assert softmax.shape == raw.shape and (softmax > 0).all() and (softmax.sum(1) < 1).all()
    proposals = data[0][1]["proposals"]
    kept = detect(features, regression="none")[0]["boxes"]
    assert len(kept) and (kept[:, None] == proposals.clamp(min=0)).all(-1).any(1).all()
    for word in ({"scores": "hinge"}, {"regression": "later"}):
        with pytest.raises(ValueError, match="expected one of"):
            detect(features, **word)


def test_regression_after_nms_keeps_what_nms_of_the_proposals_keeps(model):
    features = WindowFeatures(model, Squares(3))
    before, after, none = detect(features), refined_late(features), detect(features, regression="none")
    for a, n in zip(after, none, strict=True):
        assert torch.equal(a["scores"], n["scores"]) and torch.equal(a["labels"], n["labels"])
        assert not torch.equal(a["boxes"], n["boxes"])
    overlap = max(
        box_iou(d["boxes"][d["labels"] == k], d["boxes"][d["labels"] == k]).fill_diagonal_(0).max().item()
        for d in before
        for k in range(1, len(CLASSES))
        if (d["labels"] == k).any()
    )
    claim("RCNN-01", condition=overlap <= float(model.nms_threshold) + 1e-6,
          note="refined boxes that remain do not overlap when regression comes before NMS")  # fmt: skip
