"""Small data sets for the tests of the loaders."""

import numpy as np
import pytest
from PIL import Image

from rcnn_tutorial.data.voc import VOCDetection, write_annotation

WIDTH, HEIGHT = 32, 24


class Voc:
    """A VOC folder to fill; the images are 32x24."""

    def __init__(self, root):
        self.root = root
        for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (root / folder).mkdir(parents=True)

    def image(self, id, size=(WIDTH, HEIGHT), suffix=".jpg"):
        path = self.root / "JPEGImages" / f"{id}{suffix}"
        Image.new("RGB", size, (255, 0, 0)).save(path)
        return path

    def add(self, id, boxes=((2, 3, 10, 12),), names=None, difficult=None):
        """An image and its annotation."""
        names = ["cat"] * len(boxes) if names is None else names
        boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        write_annotation(self.annotation(id), f"{id}.jpg", (WIDTH, HEIGHT), boxes, names, difficult)
        return self.image(id)

    def annotation(self, id):
        return self.root / "Annotations" / f"{id}.xml"

    def edit(self, id, old, new):
        text = self.annotation(id).read_text(encoding="utf-8")
        assert old in text
        self.annotation(id).write_text(text.replace(old, new), encoding="utf-8")

    def split(self, *ids, name="train", text=None):
        text = "".join(f"{id}\n" for id in ids) if text is None else text
        (self.root / "ImageSets" / "Main" / f"{name}.txt").write_bytes(text.encode())

    def load(self, *ids, classes=("cat", "dog"), **options):
        if ids:
            self.split(*ids)
        return VOCDetection(self.root, "train", classes, **options)


@pytest.fixture
def voc(tmp_path):
    return Voc(tmp_path / "voc")
