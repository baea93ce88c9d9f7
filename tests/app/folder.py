"""A small data set in PASCAL VOC's layout, such as somebody has drawn for a first try."""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from rcnn_tutorial.detectors.fpn import FPNSettings
from rcnn_tutorial.detectors.retinanet import RetinaNetSettings

COLOURS = {"leaf": (60, 160, 60), "stone": (190, 180, 160)}
OBJECT = (
    "<object><name>{}</name><difficult>0</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
    "<ymax>{}</ymax></bndbox></object>"
)


def own_folder(root: Path, count: int = 8, size: tuple[int, int] = (100, 80), splits: tuple[int, int] = (5, 2)) -> Path:
    """Leaves and stones on noise: pictures to train on, then those for validation, the others for a test."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    width, height = size
    for i in range(count):
        image = Image.fromarray(random.integers(60, 100, (height, width, 3), dtype=np.uint8))
        objects = ""
        for name, colour in COLOURS.items():
            w, h = (int(side) for side in random.integers(min(size) // 5, min(size) // 2, 2))
            x, y = int(random.integers(0, width - w)), int(random.integers(0, height - h))
            ImageDraw.Draw(image).ellipse((x, y, x + w - 1, y + h - 1), fill=colour)
            objects += OBJECT.format(name, x + 1, y + 1, x + w, y + h)
        image.save(root / f"JPEGImages/{i:02}.jpg")
        content = (
            f"<filename>{i:02}.jpg</filename><size><width>{width}</width><height>{height}</height></size>{objects}"
        )
        (root / f"Annotations/{i:02}.xml").write_text(f"<annotation>{content}</annotation>")
    train, val = splits
    parts = {"train": range(train), "val": range(train, train + val), "test": range(train + val, count)}
    for split, numbers in parts.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{i:02}\n" for i in numbers))
    return root


def own_coco(root: Path, count: int = 8, size: tuple[int, int] = (100, 80)) -> Path:
    """Squares with their masks, in COCO's layout; nothing says which pictures are to train on."""
    root.mkdir(parents=True)
    images, objects, random = [], [], np.random.default_rng(0)
    for i in range(count):
        side, x, y = (int(value) for value in random.integers((20, 0, 0), (40, 60, 40)))
        image = Image.fromarray(random.integers(60, 100, (size[1], size[0], 3), dtype=np.uint8))
        ImageDraw.Draw(image).rectangle((x, y, x + side - 1, y + side - 1), fill=(200, 60, 60))
        image.save(root / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": size[0], "height": size[1]})
        corners = [x, y, x + side, y, x + side, y + side, x, y + side]
        box = {"bbox": [x, y, side, side], "area": side * side, "segmentation": [corners], "iscrowd": 0}
        objects.append({"id": i + 1, "image_id": i, "category_id": 1} | box)
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "square"}]}
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def quick(patch) -> None:
    """Let the laptop's settings have narrow networks: what a run does with them is the same."""
    for settings, narrow in ((FPNSettings, {"channels": 16, "hidden": 32}), (RetinaNetSettings, {"channels": 16})):
        patch.setattr(settings, "tiny", classmethod(_narrow(vars(settings)["tiny"].__func__, narrow)))


def _narrow(usual, narrow):
    return lambda kind, *steps, **changes: usual(kind, *steps, **narrow, **changes)
