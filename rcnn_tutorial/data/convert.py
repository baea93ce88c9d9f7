"""Writing a data set in another layout: the pictures as they are, the boxes as exactly as the layout can hold them."""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from PIL import Image, ImageOps

from rcnn_tutorial.data.dataset import DetectionDataset
from rcnn_tutorial.data.images import EXIF_ORIENTATION
from rcnn_tutorial.data.splits import Splits, many
from rcnn_tutorial.data.writers import WRITERS, Picture

QUALITY = 95  # of a JPEG that has to be written anew


def convert(
    splits: Splits,
    out: str | PathLike,
    layout: str,
    *,
    link: bool = False,
    masks: bool = True,
    progress: Callable[[int], object] = lambda pictures: None,
) -> tuple[str, ...]:
    """Write all parts of a data set in VOC's, COCO's or YOLO's layout.

    A picture whose camera noted a rotation is written upright, since programs disagree about such notes; all other
    pictures keep their bytes. The folder appears when it is complete: an interrupted call leaves nothing.

    Args:
        splits: of `load_splits`, with its masks where they are to be kept.
        out: folder to write; it must be new or empty.
        layout: "voc", "coco" or "yolo".
        link: whether pictures become links to those that are there, and not copies.
        masks: whether masks are written, where the data set has them.
        progress: is told how many more pictures were written.
    Returns:
        Sentences on what the layout could not hold.
    Raises:
        ValueError: another layout, a folder that is not empty, or a class name that the layout cannot hold.
        OSError: the folder cannot be written.
    """
    out = Path(out)
    if layout not in WRITERS:
        raise ValueError(f"layout must be one of {', '.join(WRITERS)}, got {layout!r}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out must be a new or an empty folder, got {out}, where there is something")
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f"{out.name}-") as temporary:
        fresh = Path(temporary) / "data"
        fresh.mkdir()
        notes = _write(splits, fresh, layout, link, masks, progress)
        if out.exists():
            out.rmdir()
        fresh.rename(out)
    return notes


def _write(splits, folder, layout, link, masks, progress):
    parts = splits.parts()
    writer, names = WRITERS[layout](folder, splits.classes[1:]), _names(parts)
    turned = 0
    for split, part in parts.items():
        for index in range(len(part)):
            path, target = part.path(index), part.target(index)
            picture = Picture(
                split=split,
                name=names[split][index],
                id=part.ids[index],
                size=part.size(index),
                boxes=target["boxes"].numpy(),
                labels=target["labels"].tolist(),
                difficult=target["difficult"].tolist(),
                crowd=target["iscrowd"].tolist() if "iscrowd" in target else [False] * len(target["boxes"]),
                areas=target["area"].tolist() if "area" in target else None,
                segmentations=part.segmentations(index) if masks else None,
            )
            place = writer.add(picture)
            place.parent.mkdir(parents=True, exist_ok=True)
            turned += _copy(path, place, picture.size, link)
            progress(1)
    notes = writer.finish()
    if turned:
        notes.append(f"{many(turned, 'picture')} with a rotation noted by the camera {_were(turned)} written upright.")
    return tuple(notes)


def _were(count):
    return "was" if count == 1 else "were"


def _names(parts: dict[str, DetectionDataset]) -> dict[str, list[str]]:
    """A file name for each picture, which is the one it has unless two have the same, in any split or in any case."""
    paths = {split: [part.path(index) for index in range(len(part))] for split, part in parts.items()}
    counts = Counter(path.stem.casefold() for files in paths.values() for path in files)
    taken: set[str] = set()
    names: dict[str, list[str]] = {}
    for split, files in paths.items():
        for path in files:
            stem = path.stem if counts[path.stem.casefold()] == 1 else f"{split}_{path.stem}"
            name, number = stem, 1
            while name.casefold() in taken:
                number += 1
                name = f"{stem}_{number}"
            taken.add(name.casefold())
            names.setdefault(split, []).append(f"{name}{path.suffix.lower()}")
    return names


def _copy(path: Path, place: Path, size: tuple[int, int], link: bool) -> bool:
    """Put a picture in its place, and say whether it had to be written anew."""
    with Image.open(path) as image:
        if image.getexif().get(EXIF_ORIENTATION, 1) not in (0, 1):
            shown = image if image.size == size else ImageOps.exif_transpose(image)
            shown.save(place, quality=QUALITY, exif=b"")  # what is no JPEG heeds no quality
            return True
    if link:
        os.symlink(path.resolve(), place)
    else:
        shutil.copyfile(path, place)
    return False
