"""Which JSON files of a folder are COCO's, which split each one is, and where its pictures lie."""

import json
import os
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from rcnn_tutorial.data.files import VALIDATION
from rcnn_tutorial.data.images import FileError

SPLIT_NAMES = {"train": "train", **dict.fromkeys(VALIDATION, "val"), "test": "test"}
PEEK = 2**20  # bytes at each end of a JSON file in which "categories" is looked for
FIRST = 20  # file names that are looked for, until one is found
LISTED = 8  # entries of a folder, or places, that a message names


def split_files(folder: str | PathLike) -> dict[str, Path]:
    """Find the COCO JSON file of each split in a folder.

    COCO names them annotations/instances_train2017.json, Roboflow train/_annotations.coco.json, and others
    annotations/train.json or train.json. A folder may also hold one JSON file alone.

    Args:
        folder: where to look, in it and in its subfolders.
    Returns:
        {"train": file, "val": file, "test": file}, as many as there are; {"all": file} for one file whose name says
        nothing; and {} where there is no JSON file.
    Raises:
        ValueError: two files for one split, several whose names say nothing, or no file for "train" among several.
    """
    files = [*sorted(Path(folder).glob("[!.]*.json")), *sorted(Path(folder).glob("[!.]*/[!.]*.json"))]
    files = [file for file in files if _may_be_coco(file)]
    files = [file for file in files if file.name.startswith("instances")] or files
    named = [(split, file) for file in files if (split := _split_of(file.relative_to(folder)))]
    if not named:
        if len(files) > 1:
            raise ValueError(
                f"{folder} holds {len(files)} JSON files ({_listed([f.name for f in files])}), and no name says which "
                "one is for training; name them train.json and val.json, or give one file"
            )
        return {"all": files[0]} if files else {}
    found = {}
    for split, file in named:
        if split in found:
            raise ValueError(f"{folder} has two JSON files for the split {split!r}: {found[split]} and {file}")
        found[split] = file
    if "train" not in found:
        if len(found) == 1:
            return {"all": next(iter(found.values()))}
        raise ValueError(f"{folder} has JSON files for {' and '.join(found)}, but none for train")
    return found


def _may_be_coco(file):
    """Whether the first or the last part of a JSON file names categories: other tools write JSON files, too."""
    with open(file, "rb") as stream:
        start = stream.read(PEEK)
        stream.seek(-min(PEEK, file.stat().st_size), os.SEEK_END)
        return b'"categories"' in start or b'"categories"' in stream.read()


def _split_of(file):
    """The split that the name of a file says, else that of its folder within the data set; None if neither does."""
    for name in (file.stem, file.parent.name):
        words = re.findall("[a-z]+", name.lower())
        splits = [SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES]
        if splits:
            return splits[0]
    return None


def read_parts(file: str | PathLike) -> dict:
    """Read a JSON file as far as it must be known before its pictures: names of files and of classes, and counts.

    Returns:
        `names`: file names of the pictures; `classes`: names of the categories in the order of their ids, without one
        that only stands above others and has no objects; `objects`: number of annotations.
    Raises:
        FileError: no readable JSON, or one without lists of images and categories.
    """
    try:
        content = json.loads(Path(file).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(file, f"not a readable JSON file ({error})") from None
    for key in ("images", "categories"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise FileError(file, f'no list of "{key}", so it is not a COCO JSON file')
    annotations = content.get("annotations") or []
    used = {str(a.get("category_id")) for a in annotations if isinstance(a, dict)}
    above = {str(category.get("supercategory")) for category in content["categories"]}
    categories = sorted(
        content["categories"], key=lambda category: (len(str(category.get("id"))), str(category.get("id")))
    )
    return {
        "names": [str(entry.get("file_name")) for entry in content["images"]],
        "classes": [c.get("name") for c in categories if str(c.get("id")) in used or c.get("name") not in above],
        "objects": len(annotations),
    }


def find_pictures(file: str | PathLike, names: Sequence[str]) -> Path:
    """Find the folder that the file names of a COCO JSON start from.

    Args:
        file: the JSON file.
        names: of its pictures.
    Returns:
        The first folder that holds one of the first names: the file's own, its subfolder images, or a folder beside
        it or beside its parent, where images, JPEGImages and one with the name of the split are tried first.
    Raises:
        FileError: none of the folders does; the message says where was looked.
    """
    file = Path(file)
    places = _places(file)
    for name in names[:FIRST]:
        for place in places:
            if (place / name).is_file() or (place / name.replace("\\", "/")).is_file():
                return place
    if not names:
        return file.parent
    where = _listed([str(place) for place in places])
    raise FileError(file, f"its first picture {names[0]!r} was not found; looked in {where}")


def _places(file):
    split = re.sub("^instances_", "", file.stem)  # train2017
    usual = ["images", "JPEGImages", split, f"images/{split}", "train2017", "val2017"]
    around = [file.parent, file.parent.parent]
    places = [file.parent, *(base / name for base in around for name in usual), file.parent.parent]
    places += [folder for base in around for folder in _subfolders(base)]
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def _subfolders(folder):
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:  # a folder above, which may be closed to us
        return []


def _listed(names):
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def entries_of(folder: str | PathLike) -> str:
    """Name a few entries of a folder, for a message that says what was there."""
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in Path(folder).iterdir())
    return _listed(names) or "nothing"
