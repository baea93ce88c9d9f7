"""Pictures and videos without annotations: what a user wants a detector to look at."""

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from PIL import Image
from torch import Tensor

from rcnn_tutorial.data.files import SUFFIXES, visible_files
from rcnn_tutorial.data.images import FileError, as_viewed, read_image
from rcnn_tutorial.data.videos import VIDEOS, Video, is_video
from rcnn_tutorial.engine.checks import LEAST_SIDE

WRITTEN = "detections.json"  # a folder with this file holds pictures that were drawn, and not those to look at

One = str | PathLike | Tensor | Image.Image


@dataclass(frozen=True)
class Frame:
    """A picture that was read.

    Attributes:
        image: (3, H, W) float32 RGB in [0, 1], as a viewer shows it.
        path: of its file; None for a picture that was given as pixels.
        number: of the frame in a video, from 0; None for a picture.
    """

    image: Tensor
    path: Path | None = None
    number: int | None = None


class Media:
    """Pictures and frames of videos, read one after the other.

    A folder is searched with its subfolders, as a data set's is. What is hidden is left out, and so is a folder that
    holds a `detections.json`, because its pictures are drawn results. A file that is met twice counts once.

    A file that cannot be read is left out with a warning and listed in `skipped`; where it is the only one, it raises.

    Args:
        pictures: a file, a folder, a pattern such as "photos/*.jpg", a tensor (3, H, W) RGB with floats in [0, 1] or
            with uint8, a picture of Pillow, or a list of these.
        every: of a video, one frame in so many.

    Attributes:
        items: the files and the pictures given as pixels, in order.
        folder: the deepest folder that all files have in common; a folder that was given alone is this folder.
        skipped: {file: reason} of what could not be read so far.
    Raises:
        ValueError: a path or a pattern without any picture or video, `every` under 1, or pixels of another kind.
        FileNotFoundError: no such file.
    """

    def __init__(self, pictures: One | Sequence[One], every: int = 1):
        if every < 1:
            raise ValueError(f"every: expected at least 1, got {every}")
        given = list(pictures) if isinstance(pictures, list | tuple) else [pictures]
        self.every, self.skipped = every, {}
        self.items: list[Path | Tensor] = []
        roots: list[str] = []
        for one in given:
            if isinstance(one, str | PathLike):
                for root, files in _search(Path(one)):
                    roots.append(os.path.abspath(root))
                    self.items += files
            else:
                self.items.append(_pixels(one))
        self.items = _once(self.items)
        if not self.items:
            raise ValueError("pictures: expected at least one picture or video, got none")
        self.folder = Path(os.path.commonpath(roots)) if roots else Path.cwd()

    def __iter__(self) -> Iterator[Frame]:
        for item in self.items:
            if isinstance(item, Tensor):
                yield Frame(item)
                continue
            try:
                if is_video(item):
                    yield from (Frame(image, item, number) for number, image in Video(item, self.every))
                else:
                    yield Frame(_read(item), item)
            except FileError as error:
                if len(self.items) == 1:
                    raise
                self.skipped[error.file] = error.reason
                logging.getLogger(__name__).warning("left out: %s", error)

    def count(self) -> int | None:
        """Count the pictures and the frames, those that cannot be read too; None where a video does not say."""
        total = 0
        for item in self.items:
            frames = 1
            if isinstance(item, Path) and is_video(item):
                try:
                    frames = Video(item, self.every).count
                except FileError:
                    frames = 0
            if frames is None:
                return None
            total += frames
        return total

    def name(self, path: Path) -> str:
        """Name a file from the common folder on, with slashes."""
        return Path(os.path.abspath(path)).relative_to(self.folder).as_posix()


def _search(path: Path) -> list[tuple[Path, list[Path]]]:
    """The files of a path or pattern, each list with the folder that it was found in."""
    if path.is_dir():
        return [(path, _in_folder(path))]
    if path.exists():
        return [(path.parent, [path])]
    if not glob.has_magic(str(path)):
        raise FileNotFoundError(f"{path}: no such file or folder")
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    found = [(p, _in_folder(p)) if p.is_dir() else (p.parent, [p]) for p in matches if p.is_dir() or _is_known(p)]
    if not found:
        raise ValueError(f"pictures: no picture or video has a name like {path}")
    return found


def _in_folder(folder: Path) -> list[Path]:
    drawn = {file.parent for file in visible_files(folder, WRITTEN)} - {folder}
    files = [file for file in visible_files(folder) if _is_known(file) and not drawn.intersection(file.parents)]
    if not files:
        raise ValueError(f"pictures: {folder} holds no picture and no video, of {', '.join((*SUFFIXES, *VIDEOS))}")
    return files


def _is_known(path: Path) -> bool:
    return path.suffix.lower() in (*SUFFIXES, *VIDEOS)


def _once(items: list[Path | Tensor]) -> list[Path | Tensor]:
    """The items without the files that were there before, whichever way their paths are written."""
    first: dict[str, Path | Tensor] = {}
    for i, item in enumerate(items):
        first.setdefault(os.path.realpath(item) if isinstance(item, Path) else f"pixels {i}", item)
    return list(first.values())


def _read(path: Path) -> Tensor:
    image = read_image(path)
    if min(image.shape[1:]) < LEAST_SIDE:
        size = f"{image.shape[2]}x{image.shape[1]}"
        raise FileError(path, f"{size} pixels, expected at least {LEAST_SIDE} on each side")
    return image


def _pixels(picture: object) -> Tensor:
    if isinstance(picture, Image.Image):
        return as_viewed(picture)
    if isinstance(picture, Tensor) and picture.ndim == 3 and len(picture) == 3:
        return picture if picture.is_floating_point() else picture.float() / 255
    got = f"a tensor of shape {tuple(picture.shape)}" if isinstance(picture, Tensor) else type(picture).__name__
    raise ValueError(
        f"pictures: expected a path, a picture of Pillow or a tensor (3, H, W), or a list of these, got {got}; "
        "an array (H, W, 3) in RGB becomes one by PIL.Image.fromarray"
    )
