"""Detections as files that other programs read: COCO's JSON in two forms, and CSV."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from rcnn_tutorial.data.images import FileError
from rcnn_tutorial.data.masks import mask_areas
from rcnn_tutorial.evaluation.detected import Detected

COLUMNS = ("file", "class", "score", "x1", "y1", "x2", "y2")
Name = Callable[[Path], str]  # what a file is called in the result


@dataclass(frozen=True)
class CocoIds:
    """The ids that a COCO JSON file gives to its images and categories.

    Attributes:
        file: the JSON file.
        images: {file name: id}.
        categories: {name: id}.
    """

    file: Path
    images: dict[str, Any]
    categories: dict[str, Any]

    @classmethod
    def read(cls, file: str | PathLike) -> "CocoIds":
        """Read the ids of a file.

        Raises:
            FileError: no such file, no JSON, no images or categories in it, or two images of one name.
        """
        file = Path(file)
        try:
            content = json.loads(file.read_bytes())
            images = [(str(image["file_name"]).replace("\\", "/"), image["id"]) for image in content["images"]]
            categories = {str(category["name"]): category["id"] for category in content["categories"]}
        except FileNotFoundError:
            raise FileError(file, "no such file") from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise FileError(file, f"expected COCO's JSON with images and categories ({error!r})") from error
        if len(dict(images)) < len(images):
            raise FileError(file, "two of its images have one file name, so that a picture has no single id")
        return cls(file, dict(images), categories)

    def image(self, path: Path) -> Any:
        """Give the id of a picture, whose path must end with the file name that the JSON states.

        Raises:
            FileError: the file does not list it.
        """
        parts = path.absolute().parts
        for start in range(len(parts)):  # the longest name first
            if (name := "/".join(parts[start:])) in self.images:
                return self.images[name]
        raise FileError(path, f"{self.file} lists no image of this name")

    def category(self, name: str) -> Any:
        """Give the id of a class.

        Raises:
            FileError: the file has no category of this name.
        """
        if name not in self.categories:
            known = ", ".join(self.categories)
            raise FileError(self.file, f"no category is called {name!r}; there: {known}; choose some by classes")
        return self.categories[name]


def coco_form(detected: Sequence[Detected], classes: Iterable[str], name: Name, **info: Any) -> dict:
    """Put detections into COCO's form of a data set, each annotation with a `score`.

    pycocotools, labelling tools and `data.coco.CocoDetection` read it as a data set. Ids count from 1.

    Args:
        detected: of each picture or frame; a frame's image has its number as `frame`.
        classes: names of the categories, without background.
        name: gives the file name of a picture.
        info: more that is told about the detections.
    """
    categories = {category: number for number, category in enumerate(classes, start=1)}
    images, annotations = [], []
    for number, one in enumerate(detected, start=1):
        image = {"id": number, "file_name": _called(one, name), "width": one.size[0], "height": one.size[1]}
        images.append(image if one.frame is None else {**image, "frame": one.frame})
        for row, category in zip(_rows(one), one.names, strict=True):
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": categories[category]}
            annotations.append({**ids, **row, "iscrowd": 0})
    listed = [{"id": number, "name": category} for category, number in categories.items()]
    return {"info": info, "images": images, "categories": listed, "annotations": annotations}


def coco_results(detected: Sequence[Detected], ids: CocoIds) -> list[dict]:
    """Put detections into the list of results that COCO's evaluation takes, with the ids of a file of its own.

    Args:
        detected: of each picture.
        ids: of the images and categories.
    Raises:
        FileError: a picture or a class that the file does not list.
    """
    results = []
    for one in detected:
        image = ids.image(one.path or Path("picture"))
        for row, category in zip(_rows(one), one.names, strict=True):
            results.append({"image_id": image, "category_id": ids.category(category), **row})
    return results


def write_csv(detected: Sequence[Detected], path: str | PathLike, name: Name) -> None:
    """Write a table of detections: file, class, score, x1, y1, x2, y2, and where there are videos the frame.

    Args:
        detected: of each picture or frame.
        path: of the file that is written.
        name: gives the file name of a picture.
    """
    frames = any(one.frame is not None for one in detected)
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow((*COLUMNS, "frame") if frames else COLUMNS)
        for one in detected:
            last = ("" if one.frame is None else one.frame,) if frames else ()
            for category, score, box in zip(one.names, one.scores.tolist(), one.boxes.tolist(), strict=True):
                table.writerow((_called(one, name), category, f"{score:.4f}", *(f"{v:.2f}" for v in box), *last))


def _called(one: Detected, name: Name) -> str:
    return "" if one.path is None else name(one.path)


def _rows(one: Detected) -> list[dict]:
    """What is told of each detection: its box, area and score, and its mask where there is one."""
    rows = []
    for (x1, y1, x2, y2), score in zip(one.boxes.double().tolist(), one.scores.tolist(), strict=True):
        box = [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)]
        rows.append({"bbox": box, "area": round(box[2] * box[3], 3), "score": round(score, 6)})
    if one.runs is not None:
        for row, code, area in zip(rows, one.runs, mask_areas(one.runs).tolist(), strict=True):
            counts = code["counts"].decode()
            row |= {"segmentation": {"size": list(code["size"]), "counts": counts}, "area": area}
    return rows
