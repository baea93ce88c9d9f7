"""What each of the processes does that `torchrun` starts in test_predict_together.py."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.evaluation import coco_ap, predict_together
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.training import join_processes
from tests.training.job import Rectangles

PICTURES = (7, 2)


class Sizes(Rectangles):
    """Pictures of different sizes, so that those of a mini-batch are padded."""

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        height = self.height - 8 * (index % 3)
        boxes = target["boxes"].clone()
        boxes[:, 3] = boxes[:, 3].clamp(max=height)
        kept = boxes[:, 3] > boxes[:, 1]
        return image[:, :height], target | {"boxes": boxes[kept], "labels": target["labels"][kept]}


def detector_and_pictures():
    """An FPN that finds something, and pictures for it."""
    model = FPN(tiny_net(pretrained=True), Sizes.classes, FPNSettings.tiny(least_score=0.0, detections=8))
    return model.eval(), Sizes(7, mirror=False)


if __name__ == "__main__":
    join_processes()
    torch.set_num_threads(1)
    model, pictures = detector_and_pictures()
    for count in PICTURES:
        detections, targets = predict_together(model, pictures, batch_size=2, limit=count, progress=False)
        found = {"detections": detections, "targets": targets, "AP": coco_ap(detections, targets, model.classes)["AP"]}
        torch.save(found, Path(sys.argv[1]) / f"{count}-{dist.get_rank()}.pt")
    dist.destroy_process_group()
