"""Data sets of images with boxes: generated scenes, blood cells, or a folder of your own."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import platformdirs

from rcnn_tutorial.data.dataset import DetectionDataset
from rcnn_tutorial.data.files import check_known, visible_files
from rcnn_tutorial.data.voc import VOCDetection, find_classes

BCCD_CLASSES = ("RBC", "WBC", "Platelets")


def data_root() -> Path:
    """Name the folder of all data sets: what RCNN_TUTORIAL_DATA says, or a folder in the user's cache."""
    return Path(os.environ.get("RCNN_TUTORIAL_DATA") or platformdirs.user_cache_dir("rcnn_tutorial"))


def load_dataset(
    name: str | os.PathLike,
    split: str,
    transform: Callable | None = None,
    classes: Sequence[str] | None = None,
    on_error: str = "raise",
    masks: bool = False,
) -> DetectionDataset:
    """Load a data set by name, or from a folder in one of three layouts.

    - PASCAL VOC's: JPEGImages, Annotations, and ImageSets/Main with a text file for each split.
    - YOLO's: images, labels and data.yaml (or classes.txt), as Ultralytics, Roboflow and Label Studio write them.
    - Pictures with VOC's XML beside them, as labelImg leaves them.

    Where a folder of the last two has no splits, its pictures are divided at random, always alike: 70 % "train", 15 %
    "val", 15 % "test". A picture without an annotation file has no objects; `unannotated` counts such pictures.

    Args:
        name: "shapes" (generated on first use), "bccd" (to be downloaded first), or a folder.
        split: "train", "val" or "test", or another file of ImageSets/Main.
        transform: called as transform(image, target), returns the two.
        classes: the names that are wanted, in the order of their labels 1..K; objects of others are left out and
            counted in `left_out`. By default all: those of data.yaml, or the sorted names of all objects in the XML.
        on_error: "raise" refuses a data set with bad files, naming them; "skip" decodes every image once and leaves the
            bad ones out, listed in `skipped`.
        masks: targets have `masks` (N, H, W), too. "shapes" has them, a folder in VOC's layout with SegmentationObject,
            and one in YOLO's where every object is a polygon; `data.coco.CocoDetection` reads those of a JSON file.
    Raises:
        FileNotFoundError: "bccd" is not there yet.
        ValueError: an unknown name or split, a class that the data set does not have, no masks, or bad files.
    """
    if name == "shapes":
        from rcnn_tutorial.data.generated import shapes  # only here: it imports what draws the scenes

        folder, known = shapes.ensure_shapes(data_root()), shapes.CLASSES[1:]
        if masks:
            return _coco(folder, known, split, transform, classes, on_error)
        return _voc(folder, known, split, transform, classes, on_error)
    if name == "bccd":
        folder = data_root() / "bccd"
        if not folder.is_dir():
            raise FileNotFoundError(f"no {folder}; get it by: rcnn-tutorial data fetch bccd")
        return _voc(folder, BCCD_CLASSES, split, transform, classes, on_error, masks)
    folder = Path(name)
    if (folder / "Annotations").is_dir():
        return _voc(folder, find_classes(folder, on_error), split, transform, classes, on_error, masks)
    if folder.is_dir():
        from rcnn_tutorial.data import yolo

        if not any(folder.glob("data.y*ml")) and visible_files(folder, "*.xml"):
            return _voc(folder, find_classes(folder, on_error), split, transform, classes, on_error, masks)
        if yolo.has_classes(folder) or (folder / "labels").is_dir():
            other_classes = "raise" if classes is None else "skip"
            dataset = yolo.YoloDetection(folder, split, classes, transform, on_error, other_classes)
            if masks and "masks" not in dataset.target(0):
                raise ValueError(f"masks: there are none in {folder}, where not every object is a polygon")
            return dataset
    raise ValueError(
        'name must be "shapes", "bccd" or a folder with Annotations (VOC), with data.yaml (YOLO) or with XML beside '
        f"its pictures, got {str(name)!r}"
    )


def _voc(folder, known, split, transform, classes, on_error, masks=False):
    if classes is None:
        if "background" in known:
            raise ValueError(f'{folder}: objects are named "background" as label 0 is; leave them out by `classes`')
        return VOCDetection(folder, split, known, transform, on_error, masks=masks)
    check_known(classes, known, folder)
    return VOCDetection(folder, split, classes, transform, on_error, other_classes="skip", masks=masks)


def _coco(folder, known, split, transform, classes, on_error):
    """The scenes with their masks, which the JSON file beside the XML has."""
    from rcnn_tutorial.data.coco import CocoDetection

    file = folder / "annotations" / f"instances_{split}.json"
    if not file.is_file():
        raise ValueError(f"split {split!r} has no {file}; expected train, val or test")
    if classes is None:
        return CocoDetection(folder / "JPEGImages", file, transform, on_error, known)
    check_known(classes, known, folder)
    return CocoDetection(folder / "JPEGImages", file, transform, on_error, classes, other_classes="skip")
