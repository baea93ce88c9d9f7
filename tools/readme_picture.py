"""Make the picture at the top of the README: docs/overview.jpg."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.pretend import pretend_detections
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.evaluation import match_detections, voc_ap

SCENE, CLASS = 19, 4


def main() -> None:
    draw.setup()
    dataset = load_dataset("shapes", "test")
    targets = [dataset.target(i) for i in range(len(dataset))]
    image = dataset[SCENE][0]
    detections = pretend_detections(targets, image.shape[1:], dataset.classes, torch.Generator().manual_seed(0))

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(17, 4.4), width_ratios=(1, 1, 0.95))
    draw.scene(image, targets[SCENE], dataset.classes, left)
    left.set_title("what is there")
    draw.picture(image, middle, faint=True)
    generator = torch.Generator().manual_seed(1)
    boxes = targets[SCENE]["boxes"].repeat(12, 1)
    boxes = boxes + (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2) * 0.25 * (
        torch.rand(boxes.shape, generator=generator) - 0.5
    )
    draw.boxes(middle, boxes, styles=draw.Style(draw.BAD, 0.7))
    draw.boxes(middle, targets[SCENE]["boxes"], styles=draw.Style(draw.GOOD, 3))
    middle.set_title("many windows say so: which one stays?")
    precision, recall = match_detections(detections, targets).precision_recall(CLASS)
    ap = voc_ap(detections, targets, dataset.classes).ap[dataset.classes[CLASS]]
    draw.precision_recall(recall, precision, right, f"and what is that worth? AP {ap:.2f}")
    path = Path(__file__).parent.parent / "docs" / "overview.jpg"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=75, pil_kwargs={"quality": 85})
    print(path)


if __name__ == "__main__":
    main()
