import torch

from rcnn_tutorial.detectors.select import select

BOXES = torch.tensor([[-20, 10, 30, 40], [0, 10, 30, 40], [50, 60, 300, 200], [400, 0, 410, 10.0]])
SIZES = torch.tensor([[100, 120], [100, 420]])


def chosen(scores, boxes=BOXES, image=None, **changes):
    settings = {"nms_threshold": 0.5, "least_score": 0.1, "detections": 10} | changes
    image = torch.zeros(len(boxes), dtype=torch.int64) if image is None else image
    return select(torch.as_tensor(scores), boxes[:, None], image, SIZES, **settings)


def test_boxes_are_clipped_before_they_compete():
    found, other = chosen([[0.9, 0.0], [0.8, 0.0], [0.0, 0.7], [0.6, 0.6]])
    assert found["boxes"].tolist() == [[0, 10, 30, 40], [50, 60, 120, 100]]  # the second equals the first once clipped
    assert found["labels"].tolist() == [1, 2] and torch.allclose(found["scores"], torch.tensor([0.9, 0.7]))
    assert other["boxes"].shape == (0, 4) and other["labels"].dtype == torch.int64


def test_a_box_outside_the_image_is_no_detection():
    assert len(chosen([[0.9], [0.9], [0.9], [0.9]])[0]["boxes"]) == 2
    assert len(chosen([[0.9], [0.9], [0.9], [0.9]], image=torch.ones(4, dtype=torch.int64))[1]["boxes"]) == 3


def test_classes_and_images_do_not_suppress_each_other():
    scores = [[0.9, 0.5], [0.8, 0.4], [0.0, 0.0], [0.0, 0.0]]
    assert chosen(scores)[0]["labels"].tolist() == [1, 2]
    both = chosen(scores, image=torch.tensor([0, 1, 0, 1]))
    assert [found["labels"].tolist() for found in both] == [[1, 2], [1, 2]]


def test_the_score_must_lie_above_the_least_and_the_best_are_kept():
    assert not len(chosen([[0.1], [0.1], [0.1], [0.1]], least_score=0.1)[0]["boxes"])
    found = chosen([[0.3], [0.2], [0.9], [0.8]], detections=1)[0]
    assert torch.allclose(found["scores"], torch.tensor([0.9])) and found["labels"].tolist() == [1]


def test_a_box_of_the_least_side_is_a_detection_and_a_smaller_one_is_none():
    for least, count in ((30.0, 2), (30.1, 1), (40.1, 0)):  # the shorter sides are 30 and, once clipped, 40
        assert len(chosen([[0.9], [0.0], [0.8], [0.0]], least_side=least)[0]["boxes"]) == count


def test_each_class_has_its_own_box_and_other_boxes_may_be_shown():
    boxes = torch.stack((BOXES[1:3], BOXES[1:3] + 5), dim=1)
    image = torch.zeros(2, dtype=torch.int64)
    scores = torch.tensor([[0.9, 0.8], [0.0, 0.7]])
    settings = {"nms_threshold": 0.5, "least_score": 0.1, "detections": 10}
    found = select(scores, boxes, image, SIZES, **settings)[0]
    assert found["boxes"].tolist() == [[0, 10, 30, 40], [5, 15, 35, 45], [55, 65, 120, 100]]
    other = select(scores, boxes, image, SIZES, **settings, shown=boxes * 0 + torch.tensor([1, 2, 3, 4.0]))[0]
    assert other["boxes"].tolist() == [[1, 2, 3, 4]] * 3 and torch.equal(other["scores"], found["scores"])


def test_nothing_in_nothing_out():
    found = select(torch.zeros(0, 3), torch.zeros(0, 3, 4), torch.zeros(0, dtype=torch.int64), SIZES, 0.5, 0.0, 10)
    assert [one["boxes"].shape for one in found] == [(0, 4), (0, 4)]
