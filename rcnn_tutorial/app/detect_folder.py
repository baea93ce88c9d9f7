"""Detect in pictures and videos, and write what was found: drawn pictures, JSON and CSV in one folder."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import nn

from rcnn_tutorial.app.detect import detecting, model_of
from rcnn_tutorial.app.run_folder import free_folder
from rcnn_tutorial.course.draw.painted import painted
from rcnn_tutorial.data.media import WRITTEN, Media, One
from rcnn_tutorial.data.videos import Video, VideoWriter, can_write, is_video
from rcnn_tutorial.engine.checks import expect
from rcnn_tutorial.evaluation.detected import Detected
from rcnn_tutorial.evaluation.detection_files import CocoIds, coco_form, coco_results, write_csv

RUNS = Path("runs")
KEPT = (".jpg", ".jpeg", ".png")  # a drawn picture has the format of its original if it is one of these, else JPEG
QUALITY = 95


@dataclass
class Results:
    """What was found, and where it was written.

    Attributes:
        folder: of the drawn pictures.
        json, csv: the files of all detections.
        detected: of each picture or frame, in their order.
        drawn: the files of the drawn pictures and videos.
        skipped: {file: reason} of what could not be read.
        interrupted: whether Ctrl-C ended it early; what was found before is written.
    """

    folder: Path
    json: Path
    csv: Path
    detected: list[Detected] = field(default_factory=list)
    drawn: list[Path] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


def detect_into(
    folder: str | os.PathLike | None,
    model: nn.Module | str | os.PathLike,
    pictures: One | Sequence[One],
    threshold: float = 0.5,
    *,
    device: torch.device | str | None = None,
    batch: int = 1,
    classes: Sequence[str] | None = None,
    every: int = 1,
    draw: bool = True,
    names: bool = True,
    scores: bool = True,
    json_file: str | os.PathLike | None = None,
    csv_file: str | os.PathLike | None = None,
    instances: str | os.PathLike | None = None,
    progress: bool = True,
) -> Results:
    """Find the objects in files, and write drawn pictures, `detections.json` and `detections.csv`.

    A drawn picture has the name of its original from the folder on that all originals have in common, so that two
    pictures of one name stay apart. No original is ever overwritten.

    Args:
        folder: where to write; None for `runs/detect`, or `runs/detect2` and so on where that is there.
        model, pictures, threshold, device, batch, classes, every, progress: as `detect` takes them; files alone.
        draw: whether pictures are drawn.
        names, scores: whether the labels in them name the class, and tell the score.
        json_file, csv_file: where these two go instead.
        instances: a COCO JSON file that lists the pictures. The JSON file then is the list of results that COCO's
            evaluation takes, with the ids of this file.
    Raises:
        ValueError: what `detect` refuses; a picture or class that `instances` does not list; or what is written would
            replace an original.
        OSError: a folder that cannot be written.
    """
    media = Media(pictures, every)
    expect(all(isinstance(item, Path) for item in media.items), "pictures", "files", "pixels")
    model = model_of(model, device)
    known = list(classes or getattr(model, "classes", ())[1:])
    ids = None if instances is None else _checked_ids(instances, media, known)
    targets = _targets(media) if draw else {}
    results = _prepared(folder, targets, media, json_file, csv_file, [] if instances is None else [Path(instances)])
    with _Painter(results, targets, every) as painter:
        try:
            for image, detected in detecting(model, media, threshold, batch, classes, progress):
                results.detected.append(detected)
                if draw:
                    painter.add(painted(image, detected, names, scores), detected)
        except KeyboardInterrupt:  # what was found before is not lost
            results.interrupted = True
    results.skipped = media.skipped
    known = known or sorted({name for detected in results.detected for name in detected.names})
    told = {
        "detector": getattr(model, "name", type(model).__name__),
        "threshold": threshold,
        "folder": str(media.folder),
    }
    content = (
        coco_form(results.detected, known, media.name, **told) if ids is None else coco_results(results.detected, ids)
    )
    results.json.write_text(json.dumps(content), encoding="utf-8")
    write_csv(results.detected, results.csv, media.name)
    return results


def _checked_ids(instances: str | os.PathLike, media: Media, classes: Sequence[str]) -> CocoIds:
    """The ids of a COCO file, known to have all pictures and classes before anything is computed."""
    ids = CocoIds.read(instances)
    for file in media.items:
        ids.image(Path(str(file)))
    for name in classes:
        ids.category(name)
    return ids


def _targets(media: Media) -> dict[Path, str]:
    """What the drawing of each file is called, from the folder of the results on; no two alike."""
    targets: dict[Path, str] = {}
    for file in media.items:
        if isinstance(file, Path):
            wanted = ".mp4" if is_video(file) else ".jpg"
            kept = file.suffix.lower() in (KEPT if wanted == ".jpg" else (wanted,))
            name = PurePosixPath(media.name(file) + ("" if kept else wanted))
            number, free = 2, name
            while str(free) in targets.values():  # 1.webp beside a 1.webp.jpg
                number, free = number + 1, name.with_stem(f"{name.stem}-{number}")
            targets[file] = str(free)
    return targets


def _prepared(folder, targets, media, json_file, csv_file, inputs) -> Results:
    """The results with their places, which exist from here on and hold no original."""
    place = None if folder is None else Path(folder)
    written = [Path(file) for file in (json_file, csv_file) if file is not None]
    written += [place / name for name in targets.values()] if place else []
    originals = {os.path.realpath(file) for file in (*media.items, *inputs)}
    for file in written:
        if os.path.realpath(file) in originals:
            raise ValueError(f"{file} would be written over a file that is read here; choose another folder or file")
    if place is None:
        place = RUNS / "detect" if len(written) == 2 and not targets else free_folder("detect", RUNS)
    results = Results(place, Path(json_file or place / WRITTEN), Path(csv_file or place / "detections.csv"))
    for file in (results.json, results.csv):
        file.parent.mkdir(parents=True, exist_ok=True)
    return results


class _Painter:
    """Writes drawn pictures, and the frames of one video after the other."""

    def __init__(self, results: Results, targets: dict[Path, str], every: int):
        self.results, self.targets, self.every = results, targets, every
        self.path: Path | None = None
        self.video: VideoWriter | None = None

    def __enter__(self) -> "_Painter":
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def add(self, drawn: Image.Image, detected: Detected) -> None:
        """Write a picture, or add a frame to its video."""
        path = detected.path
        assert path is not None
        target = self.results.folder / self.targets[path]
        if detected.frame is None:
            target.parent.mkdir(parents=True, exist_ok=True)
            drawn.save(target, quality=QUALITY)
            self.results.drawn.append(target)
        elif can_write():
            if path != self.path:
                self._close()
                target.parent.mkdir(parents=True, exist_ok=True)
                self.path, self.video = path, VideoWriter(target, Video(path, self.every).rate)
                self.results.drawn.append(target)
            assert self.video is not None
            self.video.write(np.array(drawn))

    def _close(self) -> None:
        if self.video is not None:
            self.video.close()
