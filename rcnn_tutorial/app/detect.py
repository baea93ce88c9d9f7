"""Let a trained detector look at pictures of your own."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from rcnn_tutorial.app.planning import PROPOSED
from rcnn_tutorial.app.run_folder import weights_in
from rcnn_tutorial.data.masks import encode_masks
from rcnn_tutorial.data.media import Frame, Media, One
from rcnn_tutorial.detectors import load
from rcnn_tutorial.engine.checks import expect
from rcnn_tutorial.evaluation.detected import Detected
from rcnn_tutorial.evaluation.prediction import eval_mode
from rcnn_tutorial.proposals.selective_search import selective_search_batch

PROPOSALS = 200  # of selective search for a picture, as the notebooks and the shipped detectors have it


def detect(
    model: nn.Module | str | os.PathLike,
    pictures: One | Sequence[One],
    threshold: float = 0.5,
    *,
    device: torch.device | str | None = None,
    batch: int = 1,
    classes: Sequence[str] | None = None,
    every: int = 1,
    progress: bool = True,
) -> list[Detected]:
    """Find the objects in pictures and videos.

    R-CNN, SPPnet and Fast R-CNN need proposals: selective search makes 200 for each picture, which takes much longer
    than the other detectors need altogether.

    Args:
        model: a detector, the file of one, the folder of a training, or the name of a shipped one such as "fpn".
        pictures: a file, a folder with its subfolders, a pattern such as "photos/*.jpg", a tensor (3, H, W) RGB in
            [0, 1], a picture of Pillow, or a list of these. A picture is read as a viewer shows it. Videos are read
            where OpenCV or TorchCodec is installed.
        threshold: the least score of a detection that is returned.
        device: where the detector computes, and where it stays; by default a detector that is given stays where it is,
            and one from a file goes to the GPU if there is one.
        batch: pictures at a time. With more than one, a GPU is used better, and a picture that is padded beside a
            larger one can have slightly other detections along its border.
        classes: the names of those that are wanted; by default all.
        every: of a video, one frame in so many.
        progress: show a bar.
    Returns:
        One `Detected` for each picture or frame, in their order. A file that cannot be read is left out with a warning.
    Raises:
        FileNotFoundError: no such weights or pictures.
        ValueError: a class that the detector does not know, a threshold outside [0, 1], a batch under 1, no picture,
            or the only picture cannot be read.
    """
    media = Media(pictures, every)
    return [detected for _, detected in detecting(model_of(model, device), media, threshold, batch, classes, progress)]


def model_of(model: nn.Module | str | os.PathLike, device: torch.device | str | None = None) -> nn.Module:
    """Give a detector that is ready on its device.

    Args:
        model: a detector, the file of one, the folder of a training (its best weights), or the name of a shipped one.
        device: where it goes; None as `detect` explains.
    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of something else, or a device that is not there.
    """
    if isinstance(model, nn.Module):
        return model if device is None else model.to(device_of(device))
    if Path(model).is_dir():
        model = weights_in(Path(model))
    return load(model).to(device_of(device))


def device_of(name: torch.device | str | None = None) -> torch.device:
    """Give the device of that name; without one the GPU where there is one, else the CPU.

    Raises:
        ValueError: an unknown name, or a GPU that is not there.
    """
    gpu = torch.cuda.is_available()
    if name is None:
        return torch.device("cuda" if gpu else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device: expected cpu, cuda, cuda:1 or mps, got {name!r}") from None
    there = {"cuda": gpu, "mps": torch.backends.mps.is_available()}
    expect(there.get(device.type, True), "device", "one that PyTorch finds on this machine, such as cpu", repr(name))
    return device


@torch.no_grad()
def detecting(
    model: nn.Module,
    media: Media,
    threshold: float = 0.5,
    batch: int = 1,
    classes: Sequence[str] | None = None,
    progress: bool = True,
) -> Iterator[tuple[Tensor, Detected]]:
    """Detect in one picture after the other, so that never more than a batch of them is in memory.

    Args:
        model: a detector; afterwards each of its modules is in the mode that it had.
        media: the pictures.
        threshold, batch, classes, progress: as `detect` takes them.
    Yields:
        The picture (3, H, W) and its detections.
    Raises:
        ValueError: as `detect`; and no picture of several could be read.
    """
    expect(0 <= threshold <= 1, "threshold", "a score from 0 to 1", threshold)
    expect(batch >= 1, "batch", "at least 1", batch)
    wanted = _wanted(model, classes)
    parameter, count = next(model.parameters(), torch.empty(0)), 0
    with eval_mode(model), tqdm(total=media.count(), disable=not progress, leave=False, unit="picture") as bar:
        for frames in _groups(media, batch):
            images = [frame.image.to(parameter.device) for frame in frames]
            answers = model(images, **_proposals(model, images))
            for frame, answer in zip(frames, answers, strict=True):
                yield frame.image, _detected(frame, answer, threshold, model, wanted)
            count += len(frames)
            bar.update(len(frames))
    if not count:
        raise ValueError(f"pictures: none of {len(media.items)} could be read, the first because of: "
                         f"{next(iter(media.skipped.values()), 'no frame in it')}")  # fmt: skip


def needs_proposals(model: nn.Module) -> bool:
    """Say whether a detector proposes nothing itself, so that selective search has to."""
    return getattr(model, "name", None) in PROPOSED


def _proposals(model: nn.Module, images: list[Tensor]) -> dict[str, list[Tensor]]:
    if not needs_proposals(model):
        return {}
    found = selective_search_batch([image.cpu() for image in images], top=PROPOSALS)
    return {"proposals": [boxes.to(image.device) for boxes, image in zip(found, images, strict=True)]}


def _wanted(model: nn.Module, classes: Sequence[str] | None) -> list[int] | None:
    """The labels of the classes that are wanted; None for all."""
    if classes is None:
        return None
    known = tuple(getattr(model, "classes", ()))
    for name in classes:
        expect(name in known[1:], "classes", f"some of {', '.join(known[1:]) or 'none (it names none)'}", repr(name))
    return [known.index(name) for name in classes]


def _groups(media: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    group = []
    for frame in media:
        group.append(frame)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _detected(frame: Frame, answer: dict[str, Tensor], threshold: float, model: Any, wanted: list[int] | None):
    """The detections of a picture that are wanted, on the CPU."""
    stay = answer["scores"] >= threshold
    if wanted is not None:
        stay &= torch.isin(answer["labels"], torch.tensor(wanted, device=stay.device))
    rows = {key: answer[key][stay].cpu() for key in ("boxes", "labels", "scores")}
    known = getattr(model, "classes", None)
    names = [known[label] if known else f"class {label}" for label in rows["labels"].tolist()]
    runs = encode_masks(answer["masks"][stay]) if "masks" in answer else None
    height, width = frame.image.shape[1:]
    return Detected(frame.path, (width, height), **rows, names=tuple(names), runs=runs, frame=frame.number)
