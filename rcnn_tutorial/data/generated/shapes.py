"""The generated data set: scenes of textured shapes, written in VOC layout and as COCO JSON.

Scene `index` of `seed` depends on nothing else, so that a smaller set holds the same scenes as a larger one.
Annotations are the same everywhere, pictures wherever the libraries' versions are the same.
"""

import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.random import RandomState
from PIL import Image
from tqdm import tqdm

from rcnn_tutorial.data.generated.outline import rasterise
from rcnn_tutorial.data.generated.scene import (
    AUXILIARY_CLASSES,
    CLASSES,
    DISTRACTORS,
    HEIGHT,
    WIDTH,
    Layout,
    arrange,
    difficult,
    shaped,
)
from rcnn_tutorial.data.generated.texture import background, develop, paint_object, veil
from rcnn_tutorial.data.masks import encode_masks
from rcnn_tutorial.data.voc import write_annotation

__all__ = ["AUXILIARY_CLASSES", "CLASSES", "DISTRACTORS", "Scene", "auxiliary", "ensure_shapes", "make_shapes", "scene"]

VERSION = 1
FIRST_INDEX = {"train": 100_000, "val": 200_000, "test": 300_000}  # of each split's scenes
AUXILIARY_SIZE = 64
JPEG_QUALITY = 90
MEGABYTES = 50  # that the default data set takes on a disk


@dataclass(frozen=True)
class Scene:
    """A picture with its annotations.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) float32 x1, y1, x2, y2 in pixels, whole numbers, x2 and y2 exclusive: tight around the masks.
        labels: (N,) int64, indices into CLASSES.
        masks: (N, H, W) bool, the visible pixels.
        difficult: (N,) bool.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    difficult: np.ndarray


def _streams(kind: int, seed: int, index: int) -> tuple[RandomState, RandomState]:
    """Random streams for the layout and for the paint; numpy's legacy generator is frozen for ever."""
    return RandomState([seed, kind, index, 0]), RandomState([seed, kind, index, 1])


def _paint(random: RandomState, plan: Layout) -> np.ndarray:
    canvas = background(random, HEIGHT, WIDTH, patches=random.randint(3, 9))
    for figure in plan.figures:
        raster = rasterise(figure.contours, HEIGHT, WIDTH)
        assert raster is not None, "`arrange` places no figure without pixels"
        paint_object(random, canvas, raster, figure.faint)
    veil(random, canvas, random.randint(4))
    return develop(random, canvas)


def scene(seed: int, index: int) -> Scene:
    """Make scene number `index` of a seed.

    Args:
        seed: of the data set, 0 or more.
        index: of the scene, 0 or more.
    Returns:
        The picture, 192 by 256, and its 0 to 10 objects.
    """
    shape_stream, paint_stream = _streams(0, seed, index)
    plan = arrange(shape_stream)
    chosen = [i for i, figure in enumerate(plan.figures) if figure.label]
    return Scene(
        image=_paint(paint_stream, plan),
        boxes=np.array([plan.box(i) for i in chosen], dtype=np.float32).reshape(-1, 4),
        labels=np.array([plan.figures[i].label for i in chosen], dtype=np.int64),
        masks=np.array([plan.owner == i for i in chosen], dtype=bool).reshape(-1, HEIGHT, WIDTH),
        difficult=np.array([difficult(plan, i) for i in chosen], dtype=bool),
    )


def auxiliary(seed: int, index: int) -> tuple[np.ndarray, int]:
    """Make a picture of one auxiliary shape; its class is `index` modulo the number of classes.

    Args:
        seed: of the data set, 0 or more.
        index: of the picture, 0 or more.
    Returns:
        (64, 64, 3) uint8 RGB, and an index into AUXILIARY_CLASSES.
    """
    shape_stream, paint_stream = _streams(1, seed, index)
    label = index % len(AUXILIARY_CLASSES)
    size = shape_stream.uniform(30, 60)
    contours = shaped(shape_stream, AUXILIARY_CLASSES[label], size)
    half = np.ptp(contours[0], axis=0) / 2
    centre = half + shape_stream.uniform(0, 1, 2) * (AUXILIARY_SIZE - 2 * half)
    raster = rasterise([contour + centre for contour in contours], AUXILIARY_SIZE, AUXILIARY_SIZE)
    assert raster is not None, "the shape lies within the picture"
    canvas = background(paint_stream, AUXILIARY_SIZE, AUXILIARY_SIZE, patches=paint_stream.randint(3))
    paint_object(paint_stream, canvas, raster, shape_stream.uniform() < 0.3)
    return develop(paint_stream, canvas), label


def make_shapes(
    root: str | os.PathLike, seed: int = 1, train: int = 1000, val: int = 250, test: int = 500, auxiliary: int = 2000
) -> None:
    """Write a data set: JPEGImages, Annotations and ImageSets/Main as VOC has them, annotations/instances_*.json as
    COCO has them, and auxiliary/CLASS/*.jpg.

    Args:
        root: folder to write to; it is made, and must not hold a data set yet.
        seed: of all scenes.
        train, val, test: scenes per split.
        auxiliary: number of auxiliary pictures.
    Raises:
        ValueError: a folder that is not empty, or a negative number.
    """
    root, counts = Path(root), {"train": train, "val": val, "test": test}
    if root.exists() and any(root.iterdir()):
        raise ValueError(f"root must be a new or an empty folder, got {root}")
    for name, number in {"seed": seed, **counts, "auxiliary": auxiliary}.items():
        if number < 0:
            raise ValueError(f"{name} must not be negative, got {number}")
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main", "annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    stems = {}
    with tqdm(total=sum(counts.values()) + auxiliary, desc="shapes", unit="pictures", disable=None) as progress:
        for split, count in counts.items():
            indices = range(FIRST_INDEX[split], FIRST_INDEX[split] + count)
            stems[split] = [f"{index:06d}" for index in indices]
            _write_split(root, split, seed, indices, progress)
        _write_auxiliary(root / "auxiliary", seed, auxiliary, progress)
    stems["trainval"] = stems["train"] + stems["val"]
    for split, names in stems.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{name}\n" for name in names))


def _write_split(root: Path, split: str, seed: int, indices: range, progress: tqdm) -> None:
    images, annotations = [], []
    for index in indices:
        item, stem = scene(seed, index), f"{index:06d}"
        Image.fromarray(item.image).save(root / f"JPEGImages/{stem}.jpg", quality=JPEG_QUALITY)
        names = [CLASSES[label] for label in item.labels]
        path = root / f"Annotations/{stem}.xml"
        boxes = torch.from_numpy(item.boxes)
        write_annotation(path, f"{stem}.jpg", (WIDTH, HEIGHT), boxes, names, item.difficult.tolist())
        images.append({"id": index, "file_name": f"{stem}.jpg", "width": WIDTH, "height": HEIGHT})
        annotations += [{"id": len(annotations) + 1 + i, **entry} for i, entry in enumerate(_coco_entries(index, item))]
        progress.update()
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES) if i > 0]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))


def _coco_entries(image_id: int, item: Scene) -> list[dict]:
    codes = encode_masks(torch.from_numpy(item.masks))
    entries = []
    for (x1, y1, x2, y2), label, mask, flag, code in zip(
        item.boxes.tolist(), item.labels, item.masks, item.difficult, codes, strict=True
    ):
        entries.append(
            {
                "image_id": image_id,
                "category_id": int(label),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": int(mask.sum()),
                "segmentation": {"size": code["size"], "counts": code["counts"].decode("ascii")},
                "iscrowd": 0,
                "difficult": int(flag),
            }
        )
    return entries


def _write_auxiliary(folder: Path, seed: int, count: int, progress: tqdm) -> None:
    for name in AUXILIARY_CLASSES:
        (folder / name).mkdir(parents=True)
    for index in range(count):
        image, label = auxiliary(seed, index)
        Image.fromarray(image).save(folder / AUXILIARY_CLASSES[label] / f"{index:06d}.jpg", quality=JPEG_QUALITY)
        progress.update()


def ensure_shapes(root: str | os.PathLike, seed: int = 1) -> Path:
    """Find the folder of the default data set, or make it (under a minute).

    Args:
        root: folder of all data sets; `rcnn_tutorial.data.data_root()` is the default one.
        seed: of all scenes.
    Returns:
        `root/shapes-v1`, with `-seedN` behind it for another seed.
    Raises:
        OSError: it cannot be written there; nothing half is left, and the message says how to move the folder.
    """
    root = Path(root)
    done = root / (f"shapes-v{VERSION}" + (f"-seed{seed}" if seed != 1 else ""))
    if done.is_dir():
        return done
    partial = root / f"{done.name}.partial"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{done.name}.lock"):
            if not done.is_dir():
                shutil.rmtree(partial, ignore_errors=True)  # an interrupted attempt
                _make_or_remove(partial, done, seed)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno or errno.EIO,
            f"{reason}: the generated scenes need {MEGABYTES} MB in {root}; "
            "set the variable RCNN_TUTORIAL_DATA to another folder, or make room there",
        ) from error
    return done


def _make_or_remove(partial: Path, done: Path, seed: int) -> None:
    """Make the data set; a disk that becomes full on the way gets its room back."""
    try:
        make_shapes(partial, seed)
        partial.rename(done)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
