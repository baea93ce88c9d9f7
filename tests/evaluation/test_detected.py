from pathlib import Path

import torch

from rcnn_tutorial.evaluation.detected import Detected


def detected(count, **changes):
    names = tuple(("cat", "dog")[i % 2] for i in range(count))
    labels = torch.arange(count) % 2 + 1
    fields = dict(path=Path("street/7.jpg"), size=(640, 480), boxes=torch.zeros(count, 4), labels=labels)
    return Detected(**fields | dict(names=names, scores=torch.linspace(0.9, 0.3, count)) | changes)


def test_the_text_of_detections_lists_the_best_and_counts_the_others():
    assert repr(detected(0)) == "Detected(7.jpg, 640x480: nothing)"
    assert repr(detected(2, path=None)) == "Detected(picture, 640x480: cat 0.90, dog 0.30)"
    assert repr(detected(7, frame=12)) == (
        "Detected(7.jpg, frame 12, 640x480: cat 0.90, dog 0.80, cat 0.70, dog 0.60, cat 0.50, and 2 more)"
    )


def test_detections_are_counted_by_class():
    assert detected(5).counts() == {"cat": 3, "dog": 2} and detected(0).counts() == {}
    assert len(detected(5)) == 5 and len(detected(0)) == 0 and detected(0)


def test_masks_of_no_detection_are_of_the_pictures_size():
    assert detected(0, runs=[]).masks.shape == (0, 480, 640) and detected(0).masks is None
