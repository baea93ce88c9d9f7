"""Make the picture at the top of the README, docs/overview.jpg: detections in a photograph and in a scene."""

from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
from torch.nn.functional import interpolate

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.coins import load_coins
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors import load

SCENE, SURE = 19, 0.5


def main() -> None:
    draw.setup()
    coins, _ = load_coins()
    dataset = load_dataset("shapes", "test")
    image, _ = dataset[SCENE]
    fpn = load("fpn")
    half = interpolate(coins[None], scale_factor=0.5, mode="bilinear", antialias=True)[0]  # coins as large as shapes
    (found,), (answer,) = fpn([half]), fpn([image])
    sure = found["scores"] >= SURE
    called = Counter(dataset.classes[label] for label in found["labels"][sure].tolist())
    coin_styles = [draw.Style(draw.class_color(label)) for label in found["labels"][sure].tolist()]
    coin_boxes = 2 * found["boxes"][sure]
    sure = answer["scores"] >= SURE
    classes = [dataset.classes[label] for label in answer["labels"][sure].tolist()]
    words = [f"{name} {score:.2f}" for name, score in zip(classes, answer["scores"][sure].tolist(), strict=True)]

    shares = [coins.shape[2] / coins.shape[1], image.shape[2] / image.shape[1]]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.9, 10.9 / sum(shares) + 0.4), width_ratios=shares)
    draw.picture(coins, left).set_title(
        "a photograph: " + ", ".join(f"{count} {name}s" for name, count in called.most_common())
    )
    draw.boxes(left, coin_boxes, styles=coin_styles)
    draw.picture(image, right).set_title("a generated scene")
    styles = [draw.Style(draw.class_color(label)) for label in answer["labels"][sure].tolist()]
    draw.boxes(right, answer["boxes"][sure], words, styles)
    draw.part_labels(right)
    path = Path(__file__).parent.parent / "docs" / "overview.jpg"
    figure.savefig(path, dpi=110, pil_kwargs={"quality": 85})
    print(path)


if __name__ == "__main__":
    main()
