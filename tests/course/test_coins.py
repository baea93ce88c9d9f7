"""The coins: boxes that frame what is bright, and a detector that finds them."""

import torch

from rcnn_tutorial.course.coins import CLASSES, bright_regions, load_coins, six_coins
from rcnn_tutorial.evaluation import failures, voc_ap
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.ops.nms import nms


def test_an_item_of_a_data_set():
    image, target = load_coins()
    assert image.shape == (3, 303, 384) and 0 <= image.min() < image.max() <= 1
    assert len(target["boxes"]) == len(target["labels"]) == 24 and target["labels"].unique().tolist() == [1]
    boxes = target["boxes"]
    assert (boxes[:, 2:] > boxes[:, :2]).all() and boxes.min() >= 0 and (boxes.max(dim=0).values[2:] <= 384).all()
    assert box_iou(boxes, boxes).fill_diagonal_(0).max() == 0  # the coins lie apart


def test_the_upper_left_coins_are_twice_as_large():
    photograph, part = load_coins()[0], six_coins()
    assert part.shape == (3, 288, 384)
    halved = part.view(3, 144, 2, 192, 2).mean(dim=(2, 4))
    assert (halved - photograph[:, :144, :192]).abs().mean() < 0.02


def test_each_box_frames_one_coin_closely():
    image, target = load_coins()
    for x1, y1, x2, y2 in target["boxes"].int().tolist():
        inside = image[0, y1:y2, x1:x2]
        around = image[0, y1 - 4 : y2 + 4, x1 - 4 : x2 + 4]
        rim = (around.sum() - inside.sum()) / (around.numel() - inside.numel())
        assert inside.mean() > rim + 0.1, (x1, y1)
        middle = inside[(y2 - y1) // 4 : -(y2 - y1) // 4, (x2 - x1) // 4 : -(x2 - x1) // 4]
        assert middle.mean() > inside.mean(), (x1, y1)  # a disc leaves the corners of its box


def test_a_disc_scores_higher_than_a_bar_and_specks_are_left_out():
    image = torch.zeros(3, 60, 120)
    y, x = torch.meshgrid(torch.arange(60), torch.arange(120), indexing="ij")
    disc = (x - 30) ** 2 + (y - 30) ** 2 <= 20**2
    image[:, disc] = 0.8
    image[:, 20:40, 70:110] = 0.8
    image[:, 5:9, 60:64] = 0.8
    boxes, scores = bright_regions(image, [100])
    assert boxes.tolist() == [[10, 10, 51, 51], [70, 20, 110, 40]]
    expected = 1 - (disc.sum() / 41**2 - torch.pi / 4).abs(), torch.tensor(torch.pi / 4)  # the bar fills its box
    assert torch.allclose(scores, torch.stack(expected)) and scores[0] > scores[1] + 0.1
    twice, _ = bright_regions(image, [100, 150])
    assert len(twice) == 4
    none, scores = bright_regions(image, [250])
    assert none.shape == (0, 4) and scores.shape == (0,)


def test_suppression_finds_every_coin_once():
    image, target = load_coins()
    boxes, scores = bright_regions(image, range(90, 150, 10))
    kept = nms(boxes, scores, 0.3)
    answers = [
        {"boxes": boxes[i], "scores": scores[i], "labels": torch.ones(len(i), dtype=torch.int64)}
        for i in (torch.arange(len(boxes)), kept)
    ]
    before, after = (failures([answer], [target], score_threshold=0).counts for answer in answers)
    assert before["duplicate"] > 100 and after["duplicate"] == 0 and after["missed"] == 0
    before, after = (voc_ap([answer], [target], CLASSES).map for answer in answers)
    assert before < 0.7 and after == 1
