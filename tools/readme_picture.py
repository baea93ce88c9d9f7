"""Make the picture at the top of the README, docs/overview.jpg: detections in a photograph and in a scene."""

from pathlib import Path

import matplotlib.pyplot as plt

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.coins import bright_regions, load_coins
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors import load
from rcnn_tutorial.ops.nms import nms

SCENE, SURE = 19, 0.5


def main() -> None:
    draw.setup()
    coins, _ = load_coins()
    dataset = load_dataset("shapes", "test")
    image, _ = dataset[SCENE]
    found, score = bright_regions(coins, levels=range(90, 150, 10))
    kept = nms(found, score, 0.3)[:24]
    (answer,) = load("fpn")([image])
    sure = answer["scores"] >= SURE
    classes = [dataset.classes[label] for label in answer["labels"][sure].tolist()]
    words = [f"{name} {score:.2f}" for name, score in zip(classes, answer["scores"][sure].tolist(), strict=True)]

    shares = [coins.shape[2] / coins.shape[1], image.shape[2] / image.shape[1]]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.9, 10.9 / sum(shares) + 0.4), width_ratios=shares)
    draw.picture(coins, left).set_title("a photograph: bright regions, after NMS")
    draw.boxes(left, found[kept], styles=draw.Style(draw.DETECTION))
    draw.picture(image, right).set_title("a generated scene: our FPN")
    styles = [draw.Style(draw.class_color(label)) for label in answer["labels"][sure].tolist()]
    draw.boxes(right, answer["boxes"][sure], words, styles)
    draw.part_labels(right)
    path = Path(__file__).parent.parent / "docs" / "overview.jpg"
    figure.savefig(path, dpi=110, pil_kwargs={"quality": 85})
    print(path)


if __name__ == "__main__":
    main()
