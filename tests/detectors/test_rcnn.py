from dataclasses import replace

import pytest
import torch
from torch.utils.data import Dataset

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.detectors import rcnn
from rcnn_tutorial.detectors.rcnn import RCNN, RCNNSettings
from rcnn_tutorial.detectors.rcnn_windows import WindowBatches, WindowFeatures, svm_negatives, svm_positives
from rcnn_tutorial.detectors.svm import SVMSettings
from rcnn_tutorial.evaluation import predict, voc_ap
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.ops.boxes import box_iou, encode

CLASSES = ("background", "red", "green")


class Squares(Dataset):
    """Red and green squares on grey, with moved truths and random boxes as proposals."""

    classes = CLASSES

    def __init__(self, count, seed=0):
        self.items = [self._make(torch.Generator().manual_seed(1000 * seed + i)) for i in range(count)]

    def _make(self, g):
        image = 0.4 + 0.2 * torch.rand(3, 96, 128, generator=g)
        n = int(torch.randint(0, 4, (1,), generator=g))
        x, y = torch.arange(3)[:n] * 42 + 4.0, 10 + 40 * torch.rand(n, generator=g).round(decimals=1)
        side = 20 + 14 * torch.rand(n, generator=g).round(decimals=1)
        boxes = torch.stack((x, y, x + side, y + side), dim=1).round()
        labels = torch.randint(1, 3, (n,), generator=g)
        for (x1, y1, x2, y2), label in zip(boxes.int().tolist(), labels.tolist(), strict=True):
            image[:, y1:y2, x1:x2] = 0.1
            image[label - 1, y1:y2, x1:x2] = 0.9
        near = boxes.repeat(12, 1)
        near = near + (torch.rand(near.shape, generator=g) - 0.5) * 12
        corner = torch.rand(30, 2, generator=g) * torch.tensor([90, 60.0])
        random = torch.cat((corner, corner + 8 + 28 * torch.rand(30, 2, generator=g)), dim=1)
        return image, {"boxes": boxes, "labels": labels, "proposals": torch.cat((near, random))}

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def settings(**changes):
    small = RCNNSettings.tiny(svm=SVMSettings(refit=200), positives=8, negatives=24, **changes)
    return replace(small, fine_tuning=replace(small.fine_tuning, steps=40, warmup=5))


def untrained(**changes):
    net = tiny_net(pretrained=True)
    net.replace_classifier(len(CLASSES), torch.Generator().manual_seed(0))
    return RCNN(net, CLASSES, settings(**changes), mean=(0.5, 0.5, 0.5)).eval()


@pytest.fixture(scope="module")
def trained():
    model = untrained()
    before = Squares(8, seed=1)
    history, passes = model.fit(Squares(16), before, progress=False)
    return model, history, passes


def test_it_learns_and_each_part_helps(trained):
    model, history, _ = trained
    test = Squares(10, seed=2)
    assert history.total[-1] < 0.5 * history.total[0]
    assert voc_ap(*predict(model, test, progress=False), CLASSES).map > 0.8
    before, after = [], []
    for i in range(len(test)):
        image, target = test[i]
        if len(target["boxes"]):
            iou, truth = box_iou(target["proposals"], target["boxes"]).max(dim=1)
            near = iou > 0.5
            moved = model.score(image, target["proposals"][near])[1]
            moved = moved[torch.arange(len(moved)), target["labels"][truth[near]] - 1]
            before.append(iou[near])
            after.append(box_iou(moved, target["boxes"])[torch.arange(len(moved)), truth[near]])
    gain = (torch.cat(after).mean() - torch.cat(before).mean()).item()
    claim("RCNN-13", condition=gain > 0.02, note="regression raises the mean IoU of held-out proposals")


def test_shapes_from_image_to_detections(trained):
    model = trained[0]
    image, target = Squares(3, seed=3)[1]
    boxes = target["proposals"]
    r = len(boxes)
    pool5, fc7 = model.features(image, boxes)
    walk = [
        tuple(boxes.shape),
        tuple(model.crops(image, boxes).shape),
        tuple(fc7.shape),
        tuple(model.svm_scores(fc7).shape),
    ]
    claim(
        "RCNN-01",
        condition=walk == [(r, 4), (r, 3, 64, 64), (r, 256), (r, 2)],
        note="proposals, crops, features, scores",
    )
    assert pool5.shape == (r, 1536) and model.refine(pool5, boxes).shape == (r, 2, 4)
    (found,) = model([image], proposals=[boxes])
    assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)
    for label in (1, 2):
        own = found["boxes"][found["labels"] == label]
        assert box_iou(own, own).fill_diagonal_(0).max().item() <= float(model.nms_threshold) if len(own) else True
    height, width = image.shape[1:]
    assert (found["boxes"] >= 0).all() and (found["boxes"] <= torch.tensor([width, height, width, height])).all()


def test_a_crop_shows_the_box_within_the_context_of_the_settings():
    image = torch.zeros(3, 96, 128)
    image[:, 30:50, 40:80] = 1.0
    model = untrained()
    crop = model.crops(image, torch.tensor([[40, 30, 80, 50.0]]))[0, 0] + 0.5
    edge = model.settings.context
    rows = (crop[:, 32] > 0.5).nonzero()[:, 0]
    assert edge > 4 and abs(int(rows[0]) - edge) <= 1 and abs(int(rows[-1]) - (63 - edge)) <= 1
    columns = (crop[32] > 0.5).nonzero()[:, 0]
    assert abs(int(columns[0]) - edge) <= 1 and abs(int(columns[-1]) - (63 - edge)) <= 1


def test_the_regression_reproduces_what_it_was_taught():
    """With next to no penalty and more features than windows the fit is exact."""
    model, data = untrained(ridge_penalty=1e-6), Squares(6)
    model.fit_regression(data)
    ious = []
    for item in WindowFeatures(model, data):
        iou, truth = box_iou(item.boxes, item.truths).max(dim=1) if len(item.truths) else (torch.zeros(0),) * 2
        near = [i for i in range(len(item.truths), len(iou)) if iou[i] >= 0.6]
        for i, box in zip(near, model.refine(item.pool5[near], item.boxes[near]), strict=True):
            ious.append(float(box_iou(box[item.labels[truth[i]] - 1][None], item.truths[truth[i]][None])))
    assert len(ious) > 20 and min(ious) > 0.97


def test_fine_tuning_labels():
    class One(Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            truths = torch.tensor([[0, 0, 100, 100], [100, 0, 200, 100.0]])
            widths = torch.tensor([49, 50, 51.0])
            proposals = torch.tensor([[0, 0, w, 100] for w in widths.tolist()] + [[45, 0, 145, 100]])
            return torch.zeros(3, 100, 200), {"boxes": truths, "labels": torch.tensor([1, 2]), "proposals": proposals}

    batches = WindowBatches(untrained(), One())
    labels = batches.label.tolist()
    claim("RCNN-08", condition=labels[:5] == [1, 2, 0, 1, 1], note="IoU .49 .50 .51: background, positive, positive")
    two = box_iou(batches.box[5:6], batches.box[:2])
    assert labels[5] == 0 and two.max() < 0.5  # overlaps both, neither by half


def test_a_mini_batch_has_a_quarter_of_positives():
    model = untrained()
    model.settings = replace(model.settings, positives=32, negatives=96)
    batches = WindowBatches(model, Squares(8))
    share = (batches.label > 0).float().mean().item()
    drawn = [batches[i][1] for i in range(3)]
    counts = {(int((d > 0).sum()), int((d == 0).sum())) for d in drawn}
    claim("RCNN-09", condition=counts == {(32, 96)}, note="32 positives and 96 background windows in every mini-batch")
    assert not torch.equal(batches.draw(0)[0], batches.draw(1)[0])
    assert all(torch.equal(a, b) for a, b in zip(batches.draw(2), batches.draw(2), strict=True))
    assert 0 < share < 1 and batches[0][0].shape == (128, 3, 64, 64)


def test_crops_of_a_mini_batch_belong_to_their_labels():
    model = untrained()
    data = Squares(6)
    batches = WindowBatches(model, data)
    crops, labels = batches[0]
    drawn, mirrored = batches.draw(0)
    again = [model.crops(data[int(batches.image[i])][0], batches.box[[i]])[0] for i in drawn.tolist()]
    assert 0 < mirrored.sum() < len(mirrored)
    for crop, straight, flipped in zip(crops, again, mirrored.tolist(), strict=True):
        assert torch.allclose(crop, straight.flip(-1) if flipped else straight, atol=1e-6)
    assert torch.equal(labels, batches.label[drawn])
    assert labels.shape == (32,)


def test_svm_positives_are_the_true_boxes_and_negatives_lie_below_the_bound(trained, monkeypatch):
    data, seen = Squares(8), {}

    def spy(positives, labels, images, settings):
        seen["labels"], seen["positives"] = labels, positives
        return []

    monkeypatch.setattr(rcnn, "mining_passes", spy)
    model = untrained()
    model.fit_svms(data)
    counts = torch.cat([data[i][1]["labels"] for i in range(8)]).bincount(minlength=3)[1:].tolist()
    same = seen["labels"].bincount(minlength=3)[1:].tolist() == counts and len(seen["positives"]) == sum(counts)
    claim("RCNN-10", condition=same, note="as many positives per class as true boxes")
    # one object, boxes of IoU 0.29, 0.30 and 0.31 with it, and a box of another class's object
    truths, labels = torch.tensor([[0, 0, 100, 100.0]]), torch.tensor([1])
    boxes = torch.tensor([[0, 0, 29, 100], [0, 0, 30, 100], [0, 0, 31, 100], [0, 0, 100, 100.0]])
    negative = svm_negatives(boxes, truths, labels, model)
    claim(
        "RCNN-11",
        condition=negative[:, 0].tolist() == [True, False, False, False],
        note="IoU .29 .30 .31: only .29 is negative",
    )
    assert negative[:, 1].all()  # no object of the other class: everything is a negative of it


def test_the_other_rule_for_svm_positives_takes_every_window_of_half_overlap():
    model = untrained()
    for item in WindowFeatures(model, Squares(4)):
        fc7, labels = svm_positives(item, 0.5)
        iou, truth = box_iou(item.boxes, item.truths).max(dim=1) if len(item.truths) else (torch.zeros(0),) * 2
        expected = [i for i, value in enumerate(iou.tolist()) if value >= 0.5]
        assert torch.equal(fc7, item.fc7[expected])
        assert labels.tolist() == [int(item.labels[int(truth[i])]) for i in expected]


def test_windows_between_the_bounds_are_in_no_mini_batch():
    model = untrained(foreground=0.9, background=0.3)
    batches = WindowBatches(model, Squares(8))
    assert set(batches.label.tolist()) == {-1, 0, 1, 2}
    drawn = torch.cat([batches.label[batches.draw(i)[0]] for i in range(20)])
    assert (drawn >= 0).all()


def test_the_network_stays_as_it_is_while_the_svms_are_trained(trained):
    model = trained[0]
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    model.fit_svms(Squares(6))
    model.fit_regression(Squares(6))
    same = all(torch.equal(before[name], value) for name, value in model.net.state_dict().items())
    claim("RCNN-15", condition=same, note="CNN weights do not change during the SVMs' and the regression's fit")


def test_mining_finds_hard_negatives(trained):
    passes = trained[2]
    assert len(passes[-1].score) and (passes[-1].score > -1).all()


def test_regression_learns_from_near_proposals_alone(monkeypatch):
    taken = []
    monkeypatch.setattr(rcnn, "fit_ridge", lambda f, t, p: (taken.append(t), (torch.zeros(4, 1536), torch.zeros(4)))[1])
    data = Squares(6)
    untrained().fit_regression(data)
    expected = 0
    for i in range(6):
        target = data[i][1]
        if len(target["boxes"]):
            expected += int((box_iou(target["proposals"], target["boxes"]).max(dim=1).values >= 0.6).sum())
    assert sum(len(t) for t in taken) == expected > 20


def test_ridge_targets_are_rcnns_offsets(monkeypatch):
    taken = []
    monkeypatch.setattr(rcnn, "fit_ridge", lambda f, t, p: (taken.append(t), (torch.zeros(4, 1536), torch.zeros(4)))[1])
    truth, near = torch.tensor([[10, 10, 50, 50.0]]), torch.tensor([[12, 8, 52, 54.0]])
    item = torch.rand(3, 96, 128), {"boxes": truth, "labels": torch.tensor([2]), "proposals": near}
    untrained().fit_regression([item])
    assert torch.equal(taken[0], encode(truth, near))


def test_nms_threshold_comes_from_validation_data(trained):
    model, data = trained[0], Squares(8, seed=4)
    found = model.choose_nms_threshold(data)
    best = max(found, key=found.get)
    claim("RCNN-14", condition=abs(float(model.nms_threshold) - best) < 1e-6 and len(found) == 7,
          note="the NMS threshold is the best of 0.1 to 0.7 on validation data")  # fmt: skip


def test_without_objects_in_validation_the_nms_threshold_stays():
    model, (image, target) = untrained(), Squares(1)[0]
    empty = target | {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    model.nms_threshold.fill_(0.35)
    with pytest.warns(UserWarning, match="validation: 1 images without an object to find; .* stays at 0.35"):
        found = model.choose_nms_threshold([(image, empty)])
    assert float(model.nms_threshold) == pytest.approx(0.35) and all(value != value for value in found.values())


def test_state_dict_round_trip(trained, tmp_path):
    torch.save(trained[0].state_dict(), tmp_path / "rcnn.pt")
    other = untrained()
    other.load_state_dict(torch.load(tmp_path / "rcnn.pt", weights_only=True))
    image, target = Squares(1, seed=5)[0]
    first, second = (m([image], proposals=[target["proposals"]])[0] for m in (trained[0], other))
    assert torch.equal(first["boxes"], second["boxes"]) and torch.equal(first["scores"], second["scores"])


def test_nothing_to_see(trained):
    model, image = trained[0], torch.rand(3, 40, 50)
    (found,) = model([image], proposals=[torch.zeros(0, 4)])
    assert found["boxes"].shape == (0, 4) and found["labels"].shape == found["scores"].shape == (0,)


def test_wrong_calls(trained):
    model, image = trained[0], torch.rand(3, 40, 50)
    with pytest.raises(ValueError, match="proposals: expected one tensor for each of 1 images, got none"):
        model([image])
    with pytest.raises(RuntimeError, match="fit"):
        untrained().train()([image], proposals=[torch.zeros(0, 4)])
    with pytest.raises(ValueError, match="net: expected 3 outputs"):
        RCNN(tiny_net(7), CLASSES)
    nothing = [
        (
            image,
            {
                "boxes": torch.zeros(0, 4),
                "labels": torch.zeros(0, dtype=torch.int64),
                "proposals": torch.tensor([[0, 0, 9, 9.0]]),
            },
        )
    ]
    with pytest.raises(ValueError, match="0 positive and 1 background"):
        WindowBatches(untrained(), nothing)
