from typing import Any

import pytest
import torch
import torchvision

from rcnn_tutorial.course import masks
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.data.masks import decode_masks
from rcnn_tutorial.detectors import load
from rcnn_tutorial.ops import pooling
from rcnn_tutorial.ops.masks import cut_masks, paste_masks
from rcnn_tutorial.training import History


@pytest.fixture(scope="module")
def scenes():
    return load_dataset("shapes", "test", masks=True)


@pytest.fixture(scope="module")
def fpn():
    return load("fpn")


class Two:
    """Two pictures: a square that fills its box, and one that fills a quarter; then one without objects."""

    classes = ("background", "square", "corner")

    def __getitem__(self, index):
        objects = torch.zeros(2 * (index == 0), 20, 30, dtype=torch.bool)
        target = {
            "boxes": torch.tensor([[2.0, 2, 12, 12], [10, 4, 18, 12]])[: len(objects)],
            "labels": torch.tensor([1, 2])[: len(objects)],
        }
        if index == 0:
            objects[0, 2:12, 2:12], objects[1, 4:8, 10:14] = True, True
        return torch.zeros(3, 20, 30), target | {"masks": objects}


def test_shares_are_those_of_the_boxes():
    pictures: Any = Two()
    assert masks.fill_shares(pictures, 2) == {"square": [1.0], "corner": [0.25]}


def test_data_without_masks_are_replaced_and_that_is_said(tmp_path, capsys, monkeypatch):
    def without(name, split, masks=False):
        if name == "boxes":
            raise ValueError("masks: boxes has none")
        return name, split, masks

    monkeypatch.setattr(masks, "load_dataset", without)
    assert masks.load_masked("with") == [("with", "train", True), ("with", "test", True)]
    assert capsys.readouterr().out == ""
    assert masks.load_masked("boxes") == [("shapes", "train", True), ("shapes", "test", True)]
    assert capsys.readouterr().out == "boxes has boxes and no masks, so the masks of the generated scenes are learnt.\n"

    def broken(name, split, masks=False):
        raise ValueError("split: expected another")

    monkeypatch.setattr(masks, "load_dataset", broken)
    with pytest.raises(ValueError, match="expected another"):
        masks.load_masked("boxes")


def test_a_box_as_a_mask_holds_the_pixels_whose_middles_are_in_it():
    answer = {"boxes": torch.tensor([[1.0, 1, 3, 2], [0.6, 0, 2.4, 1]]), "labels": torch.tensor([1, 1])}
    ((first, second),) = (decode_masks(each["masks"]) for each in masks.boxes_as_masks([answer], [(3, 4)]))
    assert first.nonzero().tolist() == [[1, 1], [1, 2]] and second.nonzero().tolist() == [[0, 1]]


def test_only_the_mask_head_learns_on_the_frozen_detector(fpn, scenes):
    model, plan = masks.with_mask_head(fpn, fpn.classes, 7)
    trained = {name for name, values in model.named_parameters() if values.requires_grad}
    assert trained and all(name.startswith("mask_head.") for name in trained)
    assert (plan.steps, plan.lr) == (7, masks.RATE)
    state = model.state_dict()
    assert all(torch.equal(values, state[name]) for name, values in fpn.state_dict().items())
    image = scenes[29][0]
    assert torch.equal(model([image])[0]["boxes"], fpn([image])[0]["boxes"])
    other, plan = masks.with_mask_head(fpn, ("background", "leaf"), 7)
    assert all(values.requires_grad for values in other.mask_head.parameters()) and plan.lr < masks.RATE
    assert other.head.score.weight.requires_grad and other.classes == ("background", "leaf")


def test_exact_cutting_and_pasting_loses_least(scenes):
    ways = {
        "exact": (cut_masks, paste_masks),
        "shifted": (masks.cut_beside, paste_masks),
    }
    shares = masks.cut_and_pasted(scenes, 12, ways, 14)
    assert all(0.9 < exact <= 1 for exact in shares["exact"]) and shares["exact"][0] > shares["exact"][2]
    assert shares["shifted"][0] < shares["exact"][0] - 0.05
    assert shares == masks.cut_and_pasted(scenes, 12, ways, 14)


def test_the_clear_picture_has_objects_that_are_large_and_lie_apart():
    def boxes(*rows):
        return {"boxes": torch.tensor(rows, dtype=torch.float32).view(-1, 4)}

    small, large = boxes([0, 0, 4, 4], [10, 0, 90, 80]), boxes([0, 0, 8, 8], [10, 0, 18, 8])
    crowded, few, none = boxes([0, 0, 50, 50], [5, 5, 50, 50]), boxes([0, 0, 90, 90]), boxes()
    pictures = [none, crowded, small, few, large]
    assert masks.clear_picture(pictures, least=2) == 4  # not `small`, although its objects are larger on average
    assert masks.clear_picture(pictures, least=2, overlap=0.9) == 1
    assert masks.clear_picture(pictures, least=1) == 3
    assert masks.clear_picture([none, few, crowded], least=4) == 2  # as many as there are
    assert masks.clear_picture([none, none]) == 0


def test_stages_take_time_and_the_worst_masks_come_first(fpn, scenes):
    model, _ = masks.with_mask_head(fpn, fpn.classes, 1)
    image, target = scenes[29]
    seconds = masks.stage_seconds(model, [image])
    assert list(seconds) == ["pyramid", "RPN", "class and box", "masks"] and min(seconds.values()) > 0
    exact = {key: target[key] for key in ("boxes", "labels", "masks")} | {"scores": torch.ones(len(target["boxes"]))}
    spoilt = exact["masks"].clone()
    spoilt[2, ::2] = False
    spoilt[4] = False
    found = exact | {"masks": spoilt}
    nothing = {key: value[:0] for key, value in found.items()}
    answers = [nothing] * 29 + [found]
    worst = masks.worst_masks(answers, scenes, count=3)
    assert [title.split(": ")[1].split(",")[0] for *_, title in worst][0] == "IoU 0.00" and len(worst) == 3
    x1, y1, x2, y2 = target["boxes"][4].int().tolist()
    part, truth, own, title = worst[0]
    assert truth.sum() == target["masks"][4].sum() and own.sum() == 0 and part.shape[1:] == truth.shape
    assert part.shape[1] <= y2 - y1 + 16 and "box 1.00" in title
    assert [title for *_, title in worst][2].endswith("IoU 1.00, box 1.00")


@pytest.mark.parametrize("library", [pooling, torchvision.ops], ids=["ours", "torchvision"])
def test_a_ramp_tells_where_a_bin_looks(library):
    ramp = torch.arange(12.0)[None].expand(4, 12) * 16
    starts, regions = masks.slid_regions(20, 40, wide=72)
    assert starts.tolist() == list(range(20, 40)) and regions[3].tolist() == [0, 23, 8, 95, 40]
    aligned, pooled = (masks.read_ramp(library, rule, ramp, regions) for rule in ("RoIAlign", "RoI pooling"))
    middles = torch.stack((starts + 18, starts + 54), dim=1)
    assert torch.allclose(aligned, middles, atol=1e-4)
    assert pooled[0].tolist() == [32, 80] == masks.pool_row(ramp[0].tolist(), 20, 92, 2, 16)
    assert (pooled - middles).abs().max() > 5


def test_only_the_true_class_has_a_gradient_unless_classes_compete():
    logits, target = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.eye(4)[None]
    found = masks.loss_gradients(logits, torch.tensor([2]), target)
    assert (found["sigmoid"][1] != 0).all() and not found["sigmoid"][[0, 2]].any()
    expected = (logits[0, 1].sigmoid() - target[0]) / 16
    assert torch.allclose(found["sigmoid"][1], expected, atol=1e-6)
    assert found["softmax"].abs().sum(dim=(1, 2)).min() > 0
    assert torch.allclose(found["softmax"].sum(dim=0), torch.zeros(4, 4), atol=1e-5)  # what one wins others lose


def test_weights_are_copied_in_order():
    one, other = (torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1)) for _ in range(2))
    masks.copy_weights(one, other)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_what_a_record_says_depends_on_its_seeds(monkeypatch):
    runs = {str(k): {"variants": {"a": {"AP": 0.5 + k / 10}, "b": {"AP": 0.3}}} for k in range(3)}
    kept = {"several": {"runs": runs}, "alone": {"runs": {"0": runs["0"]}}}
    monkeypatch.setattr(masks.records, "load", kept.get)
    monkeypatch.setattr(masks.records, "exists", lambda name: name in kept)
    several, alone, absent = (masks.Comparison(name, "a", "b", "AP") for name in ("several", "alone", "absent"))
    assert str(several) == "AP, a minus b: +0.300, 95 % interval +0.052 to +0.548, 3 seeds"
    assert str(alone) == "AP, a minus b: +0.200, one seed, which decides nothing"
    assert str(several._replace(told="one minus other")).startswith("AP, one minus other: +0.300")
    assert several.gains() == pytest.approx([0.2, 0.3, 0.4]) and alone.gains() == pytest.approx([0.2])
    assert masks.usual("several", "a", "AP") == "0.600 ± 0.100 (by seed 0.500 0.600 0.700)"
    there = masks.made({"x": several, "y": absent, "z": alone})
    assert list(there) == ["x", "z"]
    assert masks.compared(there, ("as published", "changed")) == {
        "as published": [[0.5, 0.6, 0.7], [0.5]],
        "changed": [[0.3] * 3, [0.3]],
    }


def test_the_loss_of_the_masks_is_drawn_alone():
    seen = []
    history = History({"class": [0.1, 0.1], "mask": [0.7, 0.5]}, lr=[0.2, 0.1])
    masks.on_masks(seen.append)(history)
    assert [(each.losses, each.lr) for each in seen] == [({"mask": [0.7, 0.5]}, [0.2, 0.1])]
    assert list(history.losses) == ["class", "mask"]


def test_the_strides_are_named():
    said = [str(each) for each in masks.STRIDES.values()]
    assert [each.split(": ")[0] for each in said] == [
        "mask AP75, level rule",
        "mask AP75, stride 8",
        "mask AP75, stride 16",
    ]
    assert all("RoIAlign minus RoI pooling" in each for each in said)


def test_records_of_masks_have_what_is_compared():
    for each in masks.made(masks.CHANGES | masks.STRIDES).values():
        one, other = each.values()
        assert len(one) == len(other) > 0
