"""Pascal VOC's layout: JPEGImages/*.jpg, Annotations/*.xml, ImageSets/Main/*.txt; or the XML beside the pictures.

Masks are in SegmentationObject/*.png. A pixel there holds the number of its object, which counts the objects of the XML
from 1 on; 0 is the background, and 255 is the border between objects, which belongs to none.

`voc_xml` reads and writes one annotation file.
"""

import logging
import re
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from rcnn_tutorial.data.dataset import DetectionDataset, Sample, clean_boxes
from rcnn_tutorial.data.files import (
    SUFFIXES,
    NoSplitError,
    check_annotated,
    find_images,
    has_annotation,
    id_of,
    pick_split,
    read_lines,
    split_names,
    visible_files,
)
from rcnn_tutorial.data.images import FileError, check_image, read_numbers
from rcnn_tutorial.data.masks import runs_of
from rcnn_tutorial.data.voc_xml import check_pixels, parse, stated_object, stated_size, write_annotation

__all__ = ["VOC_CLASSES", "VOCDetection", "find_classes", "write_annotation"]

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


class VOCDetection(DetectionDataset):
    """A data set in VOC's layout, or a folder as labelImg leaves it, with the XML beside each picture.

    The image of an id is JPEGImages/<id>.jpg, or another usual suffix where there is no .jpg; the file name inside the
    annotation is often stale and is not read. An id may lie in a subfolder ("cam/1"). A line of a split is an id, with
    or without a suffix, or an id and the flag of a class-wise split (-1, 0, 1), which is not read either: images
    without the class belong to the split.

    A picture without an XML has no objects: some tools write none then. `unannotated` counts such pictures, and where
    XML and pictures share their folder a warning of the logger names their number, since there they may as well be
    pictures that nobody has labelled yet. A split whose pictures all lack it is refused.

    Where XML and pictures share their folder, or there is no ImageSets, a subfolder "train", "val" or "test" is that
    split. Without such subfolders the pictures are divided at random, always alike: 70 % "train", 15 % "val" and 15 %
    "test".

    A box of exactly one pixel (xmin == xmax and ymin == ymax) is the trace of a click without a drag and is dropped.

    Args:
        root: folder with JPEGImages (or images), Annotations (or annotations) and ImageSets; or with pictures and XML.
        split: name of a file in ImageSets/Main, without ".txt"; "val" and "valid" are one.
        classes: names in the order of their labels 1..K, without background.
        transform, other_classes: as in `DetectionDataset`.
        on_error: "raise" refuses a data set with bad files, naming them; "skip" decodes every image once and leaves the
            bad ones out, listed in `skipped`.
        masks: targets have `masks` (N, H, W), of SegmentationObject. A split of ImageSets/Segmentation, whose pictures
            all have them, then goes before one of the same name in ImageSets/Main.
    Raises:
        ValueError: no such split, no masks, or bad files: missing, malformed, of an unlisted class, of another size
            than stated, with coordinates that are not finite or exchanged, or that are all shares of the picture's
            sides, or masks that lack an object.
    """

    def __init__(
        self,
        root: str | PathLike,
        split: str,
        classes: Sequence[str] = VOC_CLASSES,
        transform: Callable | None = None,
        on_error: str = "raise",
        other_classes: str = "raise",
        masks: bool = False,
    ):
        super().__init__(classes, transform, other_classes)
        self.root, self.split, self._masks = Path(root), split, Path(root) / "SegmentationObject" if masks else None
        if self._masks and not self._masks.is_dir():
            raise ValueError(f"masks: there are none in {self.root}, which has no folder SegmentationObject")
        ids, images = _find(self.root, split, masks)
        folder = _annotations(self.root)
        files = {name: folder / f"{name}.xml" for name in ids}
        check_annotated([files[name] for name in ids if name in images], split)
        self._load(ids, lambda name: self._read(name, images, files[name]), on_error)
        if self.unannotated and folder == self.root:
            logging.getLogger(__name__).warning(
                "%d of %d pictures of split %r in %s have no XML and count as pictures without objects",
                self.unannotated, len(self), split, self.root,
            )  # fmt: skip

    def _read(self, name, images, file):
        if name not in images and file.parent.name != "Annotations" and file.is_file():
            raise FileError(file, "there is no picture beside it")
        if name not in images:
            path = self.root / "JPEGImages" / name
            path = path if path.suffix.lower() in SUFFIXES else path.parent / f"{path.name}.jpg"
            raise FileError(path, f"no such file, but {self.split} names it")
        annotated = has_annotation(file)
        root = parse(file) if annotated else ElementTree.Element("annotation")
        size = check_image(images[name], stated_size(root, file))
        stated = [stated_object(element, file) for element in root.findall("object")]
        check_pixels(stated, file)
        left_out = self._others([o.name for o in stated], file)
        objects = [o for o in stated if o.name not in left_out]
        boxes, has_area, clipped = clean_boxes([o.box for o in objects], size, file)
        keep = has_area & ~np.array([o.click for o in objects], dtype=bool)
        numbers = [number for number, o in enumerate(stated, start=1) if o.name not in left_out]
        return Sample(
            image_id=name,
            path=images[name],
            size=size,
            boxes=boxes,
            keep=keep,
            clipped=clipped,
            labels=[self.classes.index(o.name) for o in objects],
            difficult=[o.difficult for o in objects],
            segmentations=_runs(self._masks / f"{name}.png", size, numbers, keep) if self._masks else None,
            left_out=left_out,
            annotated=annotated,
        )


def find_classes(root: str | PathLike, on_error: str = "raise") -> tuple[str, ...]:
    """Collect the sorted names of all objects in a folder in VOC's layout, which may come without a list of classes.

    Args:
        root: folder as `VOCDetection` takes it.
        on_error: "skip" passes over malformed annotations.
    Raises:
        ValueError: no annotations, or one that is malformed.
    """
    folder, names = _annotations(Path(root)), set()
    for file in visible_files(folder, "*.xml"):
        try:
            names |= {stated_object(element, file).name for element in parse(file).findall("object")}
        except FileError:
            if on_error == "raise":
                raise
    if not names:
        raise ValueError(f"no objects in {folder}")
    return tuple(sorted(names))


def _runs(file, size, numbers, keep):
    """The runs of the masks of some objects, by their numbers in the picture; those that are kept have pixels."""
    pixels = read_numbers(file, size)  # (H, W)
    masks = pixels == np.array(numbers, dtype=np.int64)[:, None, None]
    for number, mask, kept in zip(numbers, masks, keep, strict=True):
        if kept and not mask.any():
            raise FileError(file, f"no pixel has the number {number}, that of an object in the annotation")
    return [runs_of(mask) for mask in masks]


def _annotations(root):
    """The folder of the XML; Kaggle's data sets often call it annotations, as COCO calls that of its JSON files."""
    if (root / "Annotations").is_dir():
        return root / "Annotations"
    return root / "annotations" if visible_files(root / "annotations", "*.xml") else root


def _pictures(root):
    """The folder of the pictures; None where they lie beside their XML."""
    if (root / "JPEGImages").is_dir():
        return root / "JPEGImages"
    return root / "images" if _annotations(root) != root and (root / "images").is_dir() else None


def _find(root, split, masks=False):
    """The ids of a split, and {id: picture}."""
    if pictures := _pictures(root):
        images, folder = find_images(pictures), root / "ImageSets" / "Segmentation"
        if not (root / "ImageSets").is_dir():
            place = _annotations(root)
            annotated = {id_of(file, place) for file in visible_files(place, "*.xml")}
            return pick_split(images.keys() | annotated, split, root), images
        if not masks or not any((folder / f"{name}.txt").is_file() for name in split_names(split)):
            folder = root / "ImageSets" / "Main"
        return _read_split(folder, split, images), images
    files = visible_files(_annotations(root), "*.xml")
    if (root / "Annotations").is_dir() or not files:
        raise ValueError(
            f"root must hold JPEGImages, Annotations and ImageSets/Main, or pictures with their XML, got {root}"
        )
    images = find_images(root)
    ids = images.keys() | {id_of(file, root) for file in files}
    return pick_split(ids, split, root), images


def _read_split(folder, split, images):
    paths = [folder / f"{name}.txt" for name in split_names(split)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        there = ", ".join(sorted(p.stem for p in folder.glob("*.txt"))) or "none"
        raise NoSplitError(f"split {split!r} is not in {folder}; there: {there}")
    return [_listed(line.replace("\\", "/"), images) for line in read_lines(path) if line]


def _listed(line, images):
    """The id that a line of a split means."""
    plain = re.sub(r"\s+(-1|0|1)$", "", line)
    names = [name.strip('"') for name in (line, plain)]  # Datumaro puts names with spaces in quotation marks
    names += [re.sub(r"\.\w+$", "", name) for name in names if Path(name).suffix.lower() in (*SUFFIXES, ".xml")]
    return next((name for name in names if name in images), names[1])
