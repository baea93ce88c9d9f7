"""One call that reads a data set as a training needs it: what to learn from, what to choose by, what to test on.

Whatever the layout, and whether the data set says which pictures are for what or not. What was decided for the user
is said in `Splits.notes`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from rcnn_tutorial.data import data_root, load_dataset
from rcnn_tutorial.data.coco import CocoDetection
from rcnn_tutorial.data.coco_files import entries_of, find_pictures, read_parts, split_files
from rcnn_tutorial.data.dataset import DetectionDataset
from rcnn_tutorial.data.files import SUFFIXES, NoSplitError, UnannotatedError, pick_split, visible_files
from rcnn_tutorial.data.yolo import has_classes, names_splits

LISTED = 20  # names of classes that a note holds
FETCHED = ("voc2007", "voc2012", "coco2017", "penn-fudan")
EXPECTED = (
    "a folder in VOC's layout (JPEGImages and Annotations), COCO's (a JSON file with its pictures) or YOLO's "
    "(images, labels and data.yaml), or one with labelImg's XML beside its pictures"
)


@dataclass(frozen=True)
class Splits:
    """A data set with its parts.

    Attributes:
        name: what the user gave.
        layout: "generated scenes", "PASCAL VOC", "COCO", "YOLO" or "labelImg".
        classes: names, "background" first, the same for all parts.
        train, val: the pictures to learn from, and those to choose the best weights by.
        test: pictures that a training never sees; None where there are none.
        notes: full sentences that the user should read: how it was divided, which classes were found, what was left
            out.
    """

    name: str
    layout: str
    classes: tuple[str, ...]
    train: DetectionDataset
    val: DetectionDataset
    test: DetectionDataset | None
    notes: tuple[str, ...]

    def parts(self) -> dict[str, DetectionDataset]:
        """Give the parts that there are, by name."""
        parts = {"train": self.train, "val": self.val}
        return parts if self.test is None else {**parts, "test": self.test}


def load_splits(
    data: str | os.PathLike, *, classes: Sequence[str] | None = None, on_error: str = "raise", masks: bool = False
) -> Splits:
    """Load all parts of a data set, in whatever layout it is.

    A data set that does not say which pictures are for what is divided, always alike: 70 % to learn from, 15 % to
    choose by, 15 % to test on. Where it only lacks pictures to choose by, 15 % of those to learn from are taken.

    Args:
        data: "shapes", "bccd", the name of another data set that `rcnn-tutorial data fetch` got, a folder in VOC's,
            COCO's or YOLO's layout, a COCO JSON file, a data.yaml, or a folder with labelImg's XML beside its pictures.
        classes: the names that are wanted, in the order of their labels 1..K; by default all that are found.
        on_error: "raise" refuses a data set with bad files, naming them; "skip" leaves them out.
        masks: targets have `masks`, too.
    Raises:
        FileNotFoundError: there is no such file or folder, or a data set that is not fetched yet.
        ValueError: a folder in no known layout, bad files, a class that is not there, or no masks.
    """
    if data in ("shapes", "bccd"):
        layout = "generated scenes" if data == "shapes" else "PASCAL VOC"
        return _by_name(str(data), data, layout, classes, on_error, masks)
    path = _path(data)
    if path.is_file():
        if path.suffix.lower() == ".json":
            return _coco(str(data), {"all": path}, classes, on_error, masks)
        if path.suffix.lower() not in (".yaml", ".yml"):
            raise ValueError(f"data: {path} is neither a JSON file (COCO) nor a data.yaml (YOLO); expected {EXPECTED}")
        return _by_name(str(data), path.parent, "YOLO", classes, on_error, masks)
    path, layout = _known(path)
    if layout == "COCO":
        return _coco(str(data), split_files(path), classes, on_error, masks)
    return _by_name(str(data), path, layout, classes, on_error, masks)


def _path(data):
    """The file or folder that is meant; it is there."""
    if data in FETCHED and not Path(data).exists():
        path = data_root() / str(data)
        if not path.is_dir():
            raise FileNotFoundError(f"no {path}; get it by: rcnn-tutorial data fetch {data}")
        return path
    path = Path(data).expanduser()
    if not path.exists():
        names = ", ".join(("shapes", "bccd", *FETCHED))
        raise FileNotFoundError(f"data: there is no {str(data)!r}; expected {EXPECTED}, or one of {names}")
    return path


def _known(folder):
    """The folder that holds the data set, which may be the only one in it, and its layout."""
    layout = _layout(folder)
    if layout:
        return folder, layout
    inner = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    if len(inner) == 1 and (layout := _layout(inner[0])):
        return inner[0], layout
    raise ValueError(f"data: {folder} is in no known layout. Expected {EXPECTED}; there: {entries_of(folder)}")


def _layout(folder):
    names = os.listdir(folder)  # by their exact names: COCO's folder is called annotations, VOC's Annotations
    if "Annotations" in names or ("images" in names and visible_files(folder / "annotations", "*.xml")):
        return "PASCAL VOC"
    if any(folder.glob("data.y*ml")):
        return "YOLO"
    if split_files(folder):
        return "COCO"
    if any(file.with_suffix(suffix).is_file() for file in visible_files(folder, "*.xml") for suffix in SUFFIXES):
        return "labelImg"
    return "YOLO" if has_classes(folder) or "labels" in names else None


def _by_name(name, data, layout, classes, on_error, masks):
    """The splits of what `load_dataset` reads."""

    def load(split):
        return load_dataset(data, split, classes=classes, on_error=on_error, masks=masks)

    notes, parts = [], {}
    try:
        parts["train"] = load("train")
    except NoSplitError:
        if layout != "PASCAL VOC" or not (Path(data) / "ImageSets" / "Main" / "trainval.txt").is_file():
            raise
        parts["train"] = load("trainval")
        notes.append('There is no split "train", so "trainval" is used for training.')
    for split in ("val", "test"):
        try:
            parts[split] = load(split)
        except UnannotatedError as error:
            notes.append(f"The {error}, so it is left out.")
        except NoSplitError:
            if split == "test":
                notes.append("There is no test split.")
    if _was_divided(data, layout, parts["train"]):
        notes.append(_divided(parts))
    return _finish(name, layout, parts, notes, on_error)


def _was_divided(folder, layout, train):
    """Whether neither a file nor a folder says what the training pictures are."""
    if folder in ("shapes", "bccd") or (layout == "YOLO" and names_splits(folder)):
        return False
    if layout == "PASCAL VOC" and (Path(folder) / "ImageSets").is_dir():
        return False
    return not any("train" in str(name).split("/")[:2] for name in train.ids[:1])


def _divided(parts):
    counts = ", ".join(f"{len(part)} {name}" for name, part in parts.items())
    return f"Nothing says which pictures are for training, so they were divided at random, always alike: {counts}."


def _coco(name, files, classes, on_error, masks):
    """The splits of one or more JSON files."""
    notes, parts = [], {}
    stated = {split: read_parts(file) for split, file in files.items()}
    names = list(dict.fromkeys(name for part in stated.values() for name in part["classes"]))
    for split, file in files.items():
        if not stated[split]["objects"] and split in ("val", "test"):
            notes.append(f"{file} has no annotations, so the split {split!r} is left out.")
            continue
        images = find_pictures(file, stated[split]["names"])
        wanted = (names, "raise") if classes is None else (list(classes), "skip")
        parts[split] = CocoDetection(images, file, None, on_error, *wanted)
        if masks and "masks" not in parts[split].target(0):
            raise ValueError(f"masks: there are none in {file}, where not every object has a segmentation")
    if "all" in parts:
        whole = cast(DetectionDataset, parts["all"])
        places = {_file_id(whole.path(index), files["all"].parent): index for index in range(len(whole))}
        parts = {
            s: whole.part([places[i] for i in pick_split(places, s, files["all"])]) for s in ("train", "val", "test")
        }
        notes.append(_divided(parts))
    return _finish(name, "COCO", parts, notes, on_error)


def _file_id(path, folder):
    """What a picture is divided by: its name, so that the other layouts divide the same pictures alike."""
    inside = path.relative_to(folder) if path.is_relative_to(folder) else path
    return inside.stem if len(inside.parts) <= 2 else inside.with_suffix("").as_posix().replace("/", " ")


def _finish(name, layout, parts, notes, on_error):
    """Check the parts, take pictures to choose by where there are none, and say what the user should know."""
    train = parts["train"]
    if not len(train):
        raise ValueError(f"data: {name} has no pictures to train on")
    skipped = {file: reason for part in parts.values() for file, reason in part.skipped.items()}
    if "val" not in parts:
        if len(train) < 3:
            raise ValueError(
                f"data: {name} has {many(len(train), 'training picture')}, expected 3, to take one for validation"
            )
        places = {str(index): index for index in range(len(train))}
        drawn = sorted(places[i] for i in pick_split(places, "val", name))
        parts["val"] = train.part(drawn)
        parts["train"] = train.part(sorted(set(range(len(train))) - set(drawn)))
        notes.append(
            f"There is no split for validation, so {len(drawn)} of the {len(train)} training pictures were taken, "
            "always the same ones."
        )
    classes = train.classes[1:]
    shown = ", ".join(classes[:LISTED]) + (f" and {len(classes) - LISTED} more" if len(classes) > LISTED else "")
    notes.append(f"{many(len(classes), 'class')}: {shown}.")
    if empty := [name for name, count in train.class_counts().items() if not count]:
        notes.append(f"No picture to train on has an object of: {', '.join(empty[:LISTED])}. Is a name misspelt?")
    notes += _left_out(parts, skipped)
    return Splits(name, layout, train.classes, parts["train"], parts["val"], parts.get("test"), tuple(notes))


def _left_out(parts, skipped):
    """Sentences on what was in the files and is not in the data set, or is there in another way than stated."""

    def total(name):
        return sum(getattr(part, name) for part in parts.values())

    def first(name):
        """Where a box is that somebody may want to mend."""
        files = list({Path(file).name: 0 for part in parts.values() for file in getattr(part, f"{name}_files")})
        return f" ({', '.join(files[:2])}{' and others' if len(files) > 2 else ''})"

    others = sorted({name for part in parts.values() for name in part.left_out_classes})
    counted = (
        (len(skipped), "bad file", "left out"),
        (total("unannotated"), "picture", "taken to be without objects, for want of an annotation file"),
        (total("dropped"), "box", f"left out for want of area{first('dropped')}"),
        (total("clipped"), "box", f"clipped at the edge of the picture{first('clipped')}"),
        (total("left_out"), "object", f"left out, of other classes: {', '.join(others[:LISTED])}"),
    )
    return [f"{many(count, noun)} {'is' if count == 1 else 'are'} {what}." for count, noun, what in counted if count]


def many(count: int, noun: str) -> str:
    """Give a number with its noun, which has an ending where there is not one of it."""
    ending = "" if count == 1 else "es" if noun.endswith(("s", "x")) else "s"
    return f"{count:,} {noun}{ending}"
