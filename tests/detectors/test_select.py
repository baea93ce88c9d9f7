import torch

from rcnn_tutorial.detectors.select import select

BOXES = torch.tensor([[-20, 10, 30, 40], [0, 10, 30, 40], [50, 60, 300, 200], [400, 0, 410, 10.0]])
SIZE = (100, 120)


def chosen(scores, boxes=BOXES, size=SIZE, **changes):
    settings = {"nms_threshold": 0.5, "least_score": 0.1, "detections": 10} | changes
    return select([torch.as_tensor(scores)], [boxes[:, None]], [size], **settings)[0]


def test_boxes_are_clipped_before_they_compete():
    found = chosen([[0.9, 0.0], [0.8, 0.0], [0.0, 0.7], [0.6, 0.6]])
    assert found["boxes"].tolist() == [[0, 10, 30, 40], [50, 60, 120, 100]]  # the second equals the first once clipped
    assert found["labels"].tolist() == [1, 2] and torch.allclose(found["scores"], torch.tensor([0.9, 0.7]))


def test_a_box_outside_the_image_is_no_detection():
    assert len(chosen([[0.9], [0.9], [0.9], [0.9]])["boxes"]) == 2
    assert len(chosen([[0.9], [0.9], [0.9], [0.9]], size=(100, 420))["boxes"]) == 3


def test_classes_do_not_suppress_each_other():
    found = chosen([[0.9, 0.5], [0.8, 0.4], [0.0, 0.0], [0.0, 0.0]])
    assert found["labels"].tolist() == [1, 2] and found["boxes"].tolist() == [[0, 10, 30, 40]] * 2


def test_the_score_must_lie_above_the_least_and_the_best_are_kept():
    assert not len(chosen([[0.1], [0.1], [0.1], [0.1]], least_score=0.1)["boxes"])
    found = chosen([[0.3], [0.2], [0.9], [0.8]], detections=1)
    assert torch.allclose(found["scores"], torch.tensor([0.9])) and found["labels"].tolist() == [1]


def test_a_box_of_the_least_side_is_a_detection_and_a_smaller_one_is_none():
    for least, count in ((30.0, 2), (30.1, 1), (40.1, 0)):  # the shorter sides are 30 and, once clipped, 40
        assert len(chosen([[0.9], [0.0], [0.8], [0.0]], least_side=least)["boxes"]) == count


def test_each_class_has_its_own_box():
    boxes = torch.stack((BOXES[1:3], BOXES[1:3] + 5), dim=1)
    scores = torch.tensor([[0.9, 0.8], [0.0, 0.7]])
    settings = {"nms_threshold": 0.5, "least_score": 0.1, "detections": 10}
    (found,) = select([scores], [boxes], [SIZE], **settings)
    assert found["boxes"].tolist() == [[0, 10, 30, 40], [5, 15, 35, 45], [55, 65, 120, 100]]


def test_nothing_in_nothing_out():
    (found,) = select([torch.zeros(0, 3)], [torch.zeros(0, 3, 4)], [SIZE], 0.5, 0.0, 10)
    assert found["boxes"].shape == (0, 4) and found["labels"].dtype == torch.int64
