"""The one check of targets, and the places where targets enter."""

import numpy as np
import pytest
import torch
from torchvision.tv_tensors import BoundingBoxes

from rcnn_tutorial.data.targets import check_target, select_objects, trained_on
from rcnn_tutorial.data.transforms import Augment
from rcnn_tutorial.detectors.fast_rcnn import FastRCNN, FastRCNNSettings
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from rcnn_tutorial.detectors.rcnn import RCNN, RCNNSettings
from rcnn_tutorial.detectors.rcnn_windows import WindowBatches, WindowFeatures
from rcnn_tutorial.evaluation import coco_ap, failures, match_detections, predict, recall, size_thirds, voc_ap
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.training import TrainSettings, train

CLASSES = ("background", "a", "b")


def make(**changes):
    target = {
        "boxes": torch.tensor([[2.0, 3, 20, 25], [5, 5, 30, 30], [1, 2, 3, 4]]),
        "labels": torch.tensor([1, 2, 1]),
        "difficult": torch.tensor([False, True, False]),
        "iscrowd": torch.tensor([0, 0, 1]),
        "area": torch.tensor([100.0, 200, 4]),
        "masks": torch.zeros(3, 40, 40, dtype=torch.uint8),
        "keypoints": torch.arange(6.0).view(3, 2, 1),
        "image_id": torch.tensor([7]),
        "proposals": torch.tensor([[0.0, 0, 9, 9]] * 5),
        "file": "7.png",
    }
    return target | changes


def test_a_good_target_comes_back_with_labels_and_flags_of_one_type():
    target = make(labels=torch.tensor([1, 2, 1], dtype=torch.uint8), boxes=make()["boxes"].int())
    checked = check_target(target, "it", CLASSES)
    assert checked.keys() == target.keys() and checked["labels"].dtype == torch.int64
    assert checked["boxes"].dtype == torch.float32 and checked["boxes"].tolist() == make()["boxes"].tolist()
    assert checked["difficult"].tolist() == [False, True, False] and checked["iscrowd"].tolist() == [False, False, True]
    assert target["labels"].dtype == torch.uint8  # the one given is as it was
    empty = check_target({"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}, "it", CLASSES)
    assert len(empty["boxes"]) == 0


def test_every_field_with_a_row_for_each_object_is_filtered_with_the_boxes():
    trained = trained_on(check_target(make(), "it"))
    assert [len(trained[key]) for key in ("boxes", "labels", "difficult", "iscrowd", "area", "masks")] == [1] * 6
    assert trained["area"].tolist() == [100] and trained["keypoints"].tolist() == [[[0.0], [1.0]]]
    assert len(trained["proposals"]) == 5 and trained["image_id"].tolist() == [7] and trained["file"] == "7.png"
    plain = {key: value for key, value in make().items() if key not in ("difficult", "iscrowd")}
    assert trained_on(check_target(plain, "it"))["labels"].tolist() == [1, 2, 1]
    one_object = check_target({key: value[:1] if key in ("boxes", "labels") else value for key, value in make(
        difficult=torch.tensor([True]), iscrowd=torch.tensor([False]), area=torch.ones(1), masks=torch.ones(1, 4, 4),
        keypoints=torch.ones(1, 2)).items()}, "it")  # fmt: skip
    assert select_objects(one_object, torch.tensor([False]))["image_id"].tolist() == [7]


WRONG = {
    "no dict": ([make()], "it: expected a dict, got list"),
    "no boxes": ({"image_id": 4}, r"it: expected the keys \['boxes', 'labels'\].*boxes \(0, 4\).*\(image_id 4\)"),
    "no labels": ({"boxes": torch.zeros(0, 4)}, r"expected the keys \['labels'\]"),
    "numpy boxes": (make(boxes=np.zeros((3, 4))), r"it\['boxes'\]: expected \(N, 4\), got ndarray.*image_id \[7\]"),
    "numpy labels": (make(labels=np.ones(3)), r"\['labels'\]: expected a tensor of 3 rows, as boxes, got ndarray"),
    "flags in a list": (make(difficult=[0, 0, 1]), r"\['difficult'\]: expected a tensor of 3 rows.*got list"),
    "words as flags": (make(iscrowd=["0", "0", "1"]), r"\['iscrowd'\]: expected a tensor"),
    "boxes in a row": (make(boxes=torch.zeros(4)), r"\['boxes'\]: expected \(N, 4\), got \(4,\)"),
    "five numbers": (make(boxes=torch.zeros(3, 5)), r"expected \(N, 4\), got \(3, 5\)"),
    "width and height": (
        make(boxes=BoundingBoxes(torch.ones(3, 4), format="XYWH", canvas_size=(40, 40))),
        r"\['boxes'\]: expected x1, y1, x2, y2, got XYWH",
    ),
    "corners exchanged": (make(boxes=torch.tensor([[9.0, 9, 1, 1]] * 3)), "expected finite numbers with x1 < x2"),
    "NaN": (make(boxes=torch.full((3, 4), float("nan"))), "expected finite numbers"),
    "no area": (make(boxes=torch.tensor([[2.0, 3, 2, 9]] * 3)), "x1 < x2 and y1 < y2"),
    "background": (make(labels=torch.tensor([0, 1, 1])), "expected labels from 1 to 2 .*, got 0"),
    "a class too many": (make(labels=torch.tensor([3, 1, 1])), "expected labels from 1 to 2 .*, got 3"),
    "fractions": (make(labels=torch.ones(3)), "expected integers, got torch.float32"),
    "one label": (make(labels=torch.tensor([1])), r"\['labels'\]: expected a tensor of 3 rows, as boxes, got \(1,\)"),
    "labels in a column": (make(labels=torch.ones(3, 1).long()), r"expected \(3,\), got \(3, 1\)"),
    "two areas": (make(area=torch.ones(2)), r"\['area'\]: expected a tensor of 3 rows, as boxes, got \(2,\)"),
    "four masks": (make(masks=torch.ones(4, 9, 9)), r"\['masks'\]: expected a tensor of 3 rows"),
    "flat masks": (make(masks=torch.ones(3, 81)), r"\['masks'\]: expected \(3, H, W\), got \(3, 81\)"),
    "keypoints of others": (make(keypoints=torch.ones(2, 17, 2)), r"\['keypoints'\]: expected a tensor of 3 rows"),
    "segmentations": (make(segmentation=[[], [], []]), r"\['segmentation'\]: expected a tensor, a number or a word"),
    "flags of 2": (make(iscrowd=torch.tensor([0, 2, 1])), r"\['iscrowd'\]: expected booleans, or 0 and 1"),
    "flags of 0.5": (make(difficult=torch.full((3,), 0.5)), r"\['difficult'\]: expected booleans, got torch.float32"),
    "bad proposals": (make(proposals=torch.ones(4)[None, :3]), r"\['proposals'\]: expected a tensor of shape"),
}


@pytest.mark.parametrize(("target", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_target_is_refused(target, message):
    with pytest.raises(ValueError, match=message):
        check_target(target, "it", CLASSES)


def test_masks_have_the_picture_s_size_where_it_is_at_hand():
    assert check_target(make(), "it", size=(40, 40))["masks"].shape == (3, 40, 40)
    for size in ((40, 41), (39, 40)):
        with pytest.raises(ValueError, match=rf"it\['masks'\]: expected \(3, {size[0]}, {size[1]}\), as the picture"):
            check_target(make(), "it", size=size)
    with pytest.raises(
        ValueError, match=r"dataset\[1\]\['masks'\]: expected \(1, 40, 40\), as the picture, got \(1, 9, 9"
    ):
        Augment(dataset(one_mask(9)), seed=0)[1]


def one_mask(side):
    return {"boxes": torch.ones(1, 4) * torch.tensor([1, 1, 5, 5]), "labels": torch.ones(1).long()} | {
        "masks": torch.zeros(1, side, side, dtype=torch.bool)
    }


def test_a_box_without_area_can_be_measured():
    flat = torch.tensor([[2.0, 3, 2, 9]] * 3)
    assert check_target(make(boxes=flat), "it", area=False)["boxes"].equal(flat)


# What every entrance has to refuse, and how it names the image


def picture():
    return torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))


def dataset(target, classes=CLASSES):
    """A good image, then one with this target."""
    good = {"boxes": torch.tensor([[2.0, 3, 20, 25]]), "labels": torch.tensor([1]), "proposals": torch.rand(4, 4) + 9}
    good["proposals"][:, 2:] += 20

    class Pair(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return picture(), [good, target][index]

    data = Pair()
    data.classes = classes
    return data


def faster_rcnn():
    return FasterRCNN(tiny_net(), CLASSES, FasterRCNNSettings.tiny(2))


def fast_rcnn():
    return FastRCNN(tiny_net(), CLASSES, FastRCNNSettings.tiny(2))


def rcnn():
    net = tiny_net()
    net.replace_classifier(len(CLASSES), torch.Generator().manual_seed(0))
    return RCNN(net, CLASSES, RCNNSettings.tiny(2))


def both(target):
    return [dataset(target)[i][1] for i in range(2)]


FOUND = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
ENTRANCES = {
    "train": lambda target: train(faster_rcnn(), dataset(target), TrainSettings(1, 2), progress=False),
    "train with a worker": lambda target: train(
        faster_rcnn(), dataset(target), TrainSettings(1, 2, workers=1), progress=False
    ),
    "Augment": lambda target: Augment(dataset(target), seed=0)[1],
    "predict": lambda target: predict(faster_rcnn(), dataset(target), progress=False),
    "Faster R-CNN": lambda target: faster_rcnn()([picture()] * 2, both(target)),
    "Fast R-CNN": lambda target: fast_rcnn()([picture()] * 2, both(target)),
    "normalise_targets": lambda target: fast_rcnn().normalise_targets(dataset(target)),
    "R-CNN's mini-batches": lambda target: WindowBatches(rcnn(), dataset(target)),
    "R-CNN's features": lambda target: WindowFeatures(rcnn(), dataset(target))[1],
    "VOC AP": lambda target: voc_ap([FOUND] * 2, both(target), CLASSES),
    "COCO AP": lambda target: coco_ap([FOUND] * 2, both(target), CLASSES),
    "failures": lambda target: failures([FOUND] * 2, both(target)),
    "match_detections": lambda target: match_detections([FOUND] * 2, both(target)),
    "recall": lambda target: recall([FOUND["boxes"]] * 2, both(target)),
    "size_thirds": lambda target: size_thirds(both(target)),
}


@pytest.mark.parametrize("enter", ENTRANCES.values(), ids=ENTRANCES)
@pytest.mark.parametrize(
    "change",
    [
        {"labels": torch.tensor([1])},
        {"boxes": np.zeros((3, 4))},
        {"labels": torch.tensor([0, 1, 1])},
        {"iscrowd": ["0", "0", "0"]},
    ],
    ids=["one label", "numpy", "background", "words"],
)
def test_every_entrance_names_the_image(enter, change):
    target = {key: value for key, value in make(**change).items() if key in ("boxes", "labels", "iscrowd", "proposals")}
    with pytest.raises(ValueError, match=r"(dataset|targets)\[1\]\['(labels|boxes|iscrowd)'\]: expected"):
        enter(target)


@pytest.mark.parametrize("names", [("background", "b", "a"), ("background", "a"), ("background", "a", "c")])
def test_a_model_and_data_of_other_classes_are_refused(names):
    data = dataset(make(), names)
    for use in (
        lambda: train(faster_rcnn(), data, TrainSettings(1, 2), progress=False),
        lambda: predict(faster_rcnn(), data, progress=False),
        lambda: fast_rcnn().normalise_targets(data),
        lambda: WindowBatches(rcnn(), data),
        lambda: WindowFeatures(rcnn(), data),
        lambda: train(faster_rcnn(), torch.utils.data.Subset(Augment(data, 0), [0, 0]), TrainSettings(1, 2)),
    ):
        with pytest.raises(ValueError, match=r"dataset: expected the model's classes \('background', 'a', 'b'\), got"):
            use()
