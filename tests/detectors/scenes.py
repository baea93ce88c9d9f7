"""Generated scenes in memory, and the laptop's Faster R-CNN, for the tests of detectors of two stages."""

from functools import cache

import torch
from torch.utils.data import Dataset

from rcnn_tutorial.data.generated import shapes
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.training import TrainSettings, train

CLASSES = shapes.CLASSES


@cache
def scene(index):
    """Image (3, 192, 256) and target of a generated scene."""
    found = shapes.scene(1, index)
    image = torch.from_numpy(found.image).permute(2, 0, 1) / 255
    return image, {"boxes": torch.from_numpy(found.boxes), "labels": torch.from_numpy(found.labels)}


@cache
def scene_masks(index):
    """(N, 192, 256) bool, of the objects of a generated scene."""
    return torch.from_numpy(shapes.scene(1, index).masks)


class Scenes(Dataset):
    """The first scenes."""

    classes = CLASSES

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image, target = scene(index)
        return image, dict(target)


class MaskedScenes(Scenes):
    """The same with masks."""

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image, target | {"masks": scene_masks(index)}


def untrained(seed=0, kind=FasterRCNN, **changes):
    """A detector on the shipped backbone, with the laptop's settings and these changes."""
    return kind(tiny_net(pretrained=True), CLASSES, FasterRCNNSettings.tiny(**changes), seed=seed)


@cache
def trained():
    """A detector after 40 steps on 4 scenes, and the record of them; not to be changed."""
    model = untrained(rois=64)
    steps = TrainSettings(40, batch_size=4, lr=0.04, warmup=10, clip_norm=10.0)
    return model, train(model, Scenes(4), steps, progress=False)


def batch(count=2, first=0):
    """Images and targets of some scenes."""
    images, targets = zip(*(scene(first + i) for i in range(count)), strict=True)
    return list(images), [dict(target) for target in targets]
