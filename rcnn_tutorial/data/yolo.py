"""YOLO's layout: a text file for each picture, and a data.yaml that names the classes.

A line of the text file is one object: the number of its class, and the centre, width and height of its box; or the
number of its class, and the corners of a polygon. All lengths are shares of the picture's width and height.
"""

import math
import re
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import yaml

from rcnn_tutorial.data.dataset import DetectionDataset, Sample, clean_boxes
from rcnn_tutorial.data.files import (
    SUFFIXES,
    VALIDATION,
    NoSplitError,
    check_annotated,
    check_known,
    find_images,
    id_of,
    pick_split,
    read_lines,
    split_names,
)
from rcnn_tutorial.data.images import FileError, check_image
from rcnn_tutorial.data.masks import box_of

ROUNDING = 1e-4  # by which a share may leave [0, 1]: tools write four to six decimals
CLASSES = "classes.txt"  # a class a line, as labelImg and Label Studio write it in place of a data.yaml


class YoloDetection(DetectionDataset):
    """A data set in YOLO's layout; a picture without a label file has no objects and counts as `unannotated`.

    The pictures of a split lie where data.yaml says, as a folder, several folders, or a list of files; else in
    images/<split> (Ultralytics) or <split>/images (Roboflow). Where nothing names a split, the pictures are divided at
    random, always alike: 70 % "train", 15 % "val", 15 % "test". The label file of images/a.jpg is labels/a.txt; where
    no folder is called images, it lies beside the picture. Targets have `masks` where all objects are polygons.

    Args:
        root: folder with data.yaml or classes.txt.
        split: "train", "val" or "test"; "val" and "valid" are one.
        classes: names in the order of their labels 1..K, without background; by default all, in the order of their
            numbers.
        transform, other_classes: as in `DetectionDataset`.
        on_error: "raise" refuses a data set with bad files, naming them; "skip" decodes every image once and leaves the
            bad ones out, listed in `skipped`.
    Raises:
        ValueError: no names, no such split, a class that has no name, or bad files: missing, or with a line that is
            neither a box nor a polygon, of a class without a name, or with a share outside [0, 1].
    """

    def __init__(
        self,
        root: str | PathLike,
        split: str,
        classes: Sequence[str] | None = None,
        transform: Callable | None = None,
        on_error: str = "raise",
        other_classes: str = "raise",
    ):
        self.root, self.split = Path(root), split
        file = _listing(self.root)
        content = _read(file)
        self._names = _names(content, file)
        if classes is None and "background" in self._names.values():
            raise FileError(file, 'a class is named "background" as label 0 is; leave it out by `classes`')
        super().__init__(tuple(self._names.values()) if classes is None else classes, transform, other_classes)
        check_known(self.classes[1:], self._names.values(), file)
        self._keypoints = int(math.prod(content.get("kpt_shape") or [0]))  # numbers after the box, of pose labels

        pictures = _pictures(self.root, split, content, file)
        images = {_id(picture, self.root): picture for picture in pictures}
        labels = {name: _label_file(picture, self.root) for name, picture in images.items()}
        check_annotated(list(labels.values()), split)
        orphans = _orphans({file.parent: images[name].parent for name, file in labels.items()})
        self._load(images, lambda name: self._sample(name, images[name], labels[name]), on_error, orphans)

    def _sample(self, name, path, file):
        size = check_image(path)
        annotated = file.is_file()
        lines = read_lines(file) if annotated else []
        objects = [self._object(line, number, size, file) for number, line in enumerate(lines, start=1) if line]
        left_out = self._others([name for name, *_ in objects], file)
        objects = [row for row in objects if row[0] not in left_out]
        boxes, keep, clipped = clean_boxes(np.array([box for _, box, _ in objects]), size, file)
        polygons = [polygons for _, _, polygons in objects]
        return Sample(
            image_id=name,
            path=path,
            size=size,
            boxes=boxes,
            keep=keep,
            clipped=clipped,
            labels=[self.classes.index(name) for name, *_ in objects],
            difficult=[False] * len(objects),
            segmentations=None if None in polygons else polygons,
            left_out=left_out,
            annotated=annotated,
        )

    def _object(self, line, number, size, file):
        """Name, box x1, y1, x2, y2 in pixels, and the polygon in a list, or None for a box."""

        def error(reason):
            return FileError(file, f"line {number}: {reason}, got {line!r}")

        try:
            kind, *shares = (float(value) for value in line.split())
        except ValueError:
            raise error("expected numbers with spaces between") from None
        name = self._names.get(int(kind)) if kind % 1 == 0 else None
        if name is None:
            raise error(f"expected a class from {min(self._names)} to {max(self._names)}")
        if self._keypoints and len(shares) == 4 + self._keypoints:
            shares = shares[:4]
        if len(shares) != 4 and (self._keypoints or len(shares) < 6 or len(shares) % 2):
            raise error("expected a class, and a centre, width and height or the corners of a polygon")
        if not all(-ROUNDING <= share <= 1 + ROUNDING for share in shares):
            raise error("expected shares of the picture's sides, from 0 to 1")
        shares = [min(max(share, 0.0), 1.0) for share in shares]
        pixels = [share * side for share, side in zip(shares, size * (len(shares) // 2), strict=True)]
        if len(shares) > 4:
            return name, np.array(box_of([pixels], size)), [pixels]
        x, y, width, height = pixels
        corners = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        inside = np.clip(corners, 0, [*size, *size])
        rounded = abs(corners - inside) <= ROUNDING * max(size)
        return name, np.where(rounded, inside, corners), None


def has_classes(root: str | PathLike) -> bool:
    """Whether a folder has the list of classes by which YOLO's layout is known."""
    return _find_listing(Path(root)) is not None


def names_splits(root: str | PathLike) -> bool:
    """Whether data.yaml says which pictures are for training; else their folders say it, or nothing does."""
    file = _find_listing(Path(root))
    return file is not None and bool(_read(file).get("train"))


def _find_listing(root):
    """data.yaml, or the only file of its kind; else classes.txt; None where there is neither."""
    for pattern in ("data.y*ml", "[!.]*.y*ml"):
        files = sorted(root.glob(pattern))
        if len(files) == 1:
            return files[0]
    return next((f / CLASSES for f in (root, root / "labels") if (f / CLASSES).is_file()), None)


def _listing(root):
    file = _find_listing(root)
    if file is None:
        raise ValueError(f"root must hold data.yaml or {CLASSES}, got {root}")
    return file


def _read(file):
    if file.name == CLASSES:
        return {"names": [line for line in read_lines(file) if line]}
    try:
        content = yaml.safe_load(file.read_bytes())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise FileError(file, f"not a readable YAML file ({error})") from None
    if not isinstance(content, dict):
        raise FileError(file, "expected fields such as names, train and val")
    return content


def _names(content, file):
    """{number of the class: name}."""
    names = content.get("names")
    if not isinstance(names, list | dict) or not names:
        raise FileError(file, f"names is {names!r}, expected a list, or a dict from number to name")
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if content.get("nc", len(names)) != len(names):
        raise FileError(file, f"nc is {content['nc']!r}, but there are {len(names)} names")
    for name in names.values():
        if isinstance(name, bool) or not isinstance(name, str | int | float):
            raise FileError(file, f"names holds {name!r}, expected text: put it in quotation marks")
    try:
        names = {int(number): str(name).strip() for number, name in names.items()}
    except (TypeError, ValueError):
        raise FileError(file, f"names has the keys {list(names)}, expected whole numbers") from None
    if len(set(names.values())) < len(names):
        raise FileError(file, f"names must differ, got {list(names.values())}")
    return dict(sorted(names.items()))


def _pictures(root, split, content, file):
    """The files of a split."""
    names = split_names(split)
    stated = [entry for name in names for entry in _as_list(content.get(name))]
    places = [_place(entry, root, content.get("path")) for entry in stated]
    if not places or None in places:
        folders = [root / inner for name in names for inner in (f"images/{name}", f"{name}/images")]
        places = [folder for folder in folders if folder.is_dir()][:1]
    if places:
        return [picture for place in places for picture in _pictures_at(place, root)]
    if stated:
        raise ValueError(f"split {split!r} is {stated} by {file}, which is not there")
    folder = root / "images" if (root / "images").is_dir() else root
    images = find_images(folder)
    there = [name for name in ("train", *VALIDATION, "test") if content.get(name)]
    if there:
        raise NoSplitError(f"split {split!r} is not in {file}; there: {', '.join(there)}")
    return [images[name] for name in pick_split(images.keys(), split, folder)]


def _as_list(entries):
    return entries if isinstance(entries, list) else [entries] if entries else []


def _place(entry, root, path):
    """A folder or list of files that data.yaml names; on another machine, what lies below the root counts."""
    entry = str(entry).replace("\\", "/")
    below = re.sub(r"^(\.\./)+", "", entry)  # Roboflow's ../train/images is train/images
    bases = [root / str(path), root] if path else [root]
    places = [base / name for name in (below, entry) for base in bases]
    return next((place for place in places if place.exists()), None)


def _pictures_at(place, root):
    if place.is_dir():
        return list(find_images(place).values())
    lines = [line.replace("\\", "/") for line in read_lines(place) if line]
    return [_listed(line, place.parent, root) for line in lines]


def _listed(line, *folders):
    """The picture that a list names from its own folder or from the root, or, as CVAT does, from above the root."""
    places = [folder / name for name in (line, line.partition("/")[2] or line) for folder in folders]
    return next((place for place in places if place.is_file()), places[0])


def _id(picture, root):
    return id_of(picture, root) if picture.is_relative_to(root) else picture.with_suffix("").as_posix()


def _label_file(picture, root):
    parts = list((picture.relative_to(root) if picture.is_relative_to(root) else picture).parts)
    for i in reversed(range(len(parts) - 1)):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return (root / Path(*parts)).with_suffix(".txt")


def _orphans(folders):
    """Labels without a picture: its file is lost, or of a kind that is not read. {folder of labels: of pictures}."""
    lost = []
    for labels, pictures in folders.items():
        if labels != pictures and labels.is_dir() and pictures.is_dir():
            there = {file.stem for file in pictures.iterdir() if file.suffix.lower() in SUFFIXES}
            files = [file for file in sorted(labels.glob("[!.]*.txt")) if file.name != CLASSES]
            lost += [FileError(file, f"no picture in {pictures}") for file in files if file.stem not in there]
    return lost
