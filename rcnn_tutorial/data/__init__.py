"""Data sets of images with boxes: generated scenes, blood cells, or a folder of your own in VOC's layout."""

import os
from collections.abc import Callable
from pathlib import Path

import platformdirs

from rcnn_tutorial.data.voc import VOCDetection, find_classes

BCCD_CLASSES = ("RBC", "WBC", "Platelets")


def data_root() -> Path:
    """The folder of all data sets: what RCNN_TUTORIAL_DATA says, or a folder in the user's cache."""
    return Path(os.environ.get("RCNN_TUTORIAL_DATA") or platformdirs.user_cache_dir("rcnn_tutorial"))


def load_dataset(name: str | os.PathLike, split: str, transform: Callable | None = None) -> VOCDetection:
    """A data set by name.

    Args:
        name: "shapes" (generated on first use), "bccd" (to be downloaded first), or a folder in VOC's layout, whose
            classes are then the sorted names of all objects in its Annotations.
        split: "train", "val" or "test", or another file of ImageSets/Main.
        transform: called as transform(image, target), returns the two.
    Raises:
        FileNotFoundError: "bccd" is not there yet.
        ValueError: an unknown name or split, or bad files.
    """
    if name == "shapes":
        from rcnn_tutorial.data import shapes  # only here: it imports what draws the scenes

        return VOCDetection(shapes.ensure_shapes(data_root()), split, shapes.CLASSES[1:], transform)
    if name == "bccd":
        folder = data_root() / "bccd"
        if not folder.is_dir():
            raise FileNotFoundError(f"no {folder}; get it by: python data_scripts/download_bccd.py")
        return VOCDetection(folder, split, BCCD_CLASSES, transform)
    if not (Path(name) / "Annotations").is_dir():
        raise ValueError(f'name must be "shapes", "bccd" or a folder with Annotations, got {str(name)!r}')
    return VOCDetection(name, split, find_classes(name), transform)
