"""Reading a video one frame after the other, and writing one, by a library that is installed for it.

The package itself needs none. OpenCV reads and writes, TorchCodec reads; whichever is there is taken, OpenCV first.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from rcnn_tutorial.data.images import FileError

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".gif")
RATE = 25.0  # frames a second where a file does not say


class Video:
    """A video file, of which one frame at a time is in memory.

    Iterating gives (number, frame): the number counts the frames of the file from 0, and the frame is (3, H, W) float32
    RGB in [0, 1].

    Args:
        path: of the file.
        every: one frame in so many is given.

    Attributes:
        rate: frames a second that are given.
        count: how many frames are given; None where the file does not say.
    Raises:
        ValueError: `every` under 1.
        FileError: a file that is no video, or no library to read it.
    """

    def __init__(self, path: str | PathLike, every: int = 1):
        if every < 1:
            raise ValueError(f"every: expected at least 1, got {every}")
        self.path, self.every = Path(path), every
        reader = _reader(self.path)
        self._frames, rate, frames = reader(self.path)
        self.rate = (rate or RATE) / every
        self.count = -(-frames // every) if frames > 0 else None

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        for number, frame in enumerate(self._frames(self.path, self.every)):
            if frame is not None:
                yield number, torch.as_tensor(frame).float().div_(255)


class VideoWriter:
    """Write the frames of an MP4 file one after the other, by OpenCV. To be used in a `with` statement.

    Args:
        path: of the file, with the suffix .mp4.
        rate: frames a second.
    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: str | PathLike, rate: float):
        self.path, self.rate, self._writer = Path(path), rate, None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.release()

    def write(self, frame: np.ndarray) -> None:
        """Add a frame (H, W, 3) uint8 RGB; the first one decides the size, and the others must have it."""
        cv2: Any = _opencv()
        if self._writer is None:
            size = frame.shape[1::-1]
            self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter_fourcc(*"mp4v"), self.rate, size)
            if not self._writer.isOpened():
                raise OSError(f"{self.path}: OpenCV cannot write this video; is the folder writable?")
        self._writer.write(np.ascontiguousarray(frame[..., ::-1]))  # OpenCV's order is blue, green, red


def is_video(path: str | PathLike) -> bool:
    """Tell a video from a picture by the suffix of its name."""
    return Path(path).suffix.lower() in VIDEOS


def can_write() -> bool:
    """Say whether OpenCV is there, which writes videos."""
    return find_spec("cv2") is not None


def _opencv() -> Any:
    import cv2  # not at the top: the package does not require it

    return cv2


def _reader(path):
    """What opens a video: called with the path, it gives a function that iterates, the rate and the frames' number."""
    if find_spec("cv2") is not None:
        return _open_by_opencv
    if find_spec("torchcodec") is not None:
        return _open_by_torchcodec
    raise FileError(path, "this is a video, and no library is installed that reads it; pip install opencv-python")


def _open_by_opencv(path):
    cv2 = _opencv()
    capture = cv2.VideoCapture(str(path))
    opened, rate, count = capture.isOpened(), capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    if not opened:
        raise FileError(path, "no such file" if not path.exists() else "OpenCV cannot read it as a video")
    return _frames_of_opencv, rate, int(count)


def _frames_of_opencv(path, every):
    """Each frame that is wanted as (3, H, W) uint8, and None for those between, which are passed over undecoded."""
    capture = _opencv().VideoCapture(str(path))
    try:
        number = 0
        while capture.grab():
            if number % every:
                yield None
            else:
                there, frame = capture.retrieve()
                if not there:
                    return
                yield np.ascontiguousarray(frame[..., ::-1].transpose(2, 0, 1))  # (H, W, 3) BGR -> (3, H, W) RGB
            number += 1
    finally:
        capture.release()


def _decoder(path):
    from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports]

    try:
        return VideoDecoder(str(path))
    except (RuntimeError, ValueError, OSError) as error:
        raise FileError(path, f"TorchCodec cannot read it as a video ({error})") from error


def _open_by_torchcodec(path):
    metadata = _decoder(path).metadata
    return _frames_of_torchcodec, metadata.average_fps, metadata.num_frames or 0


def _frames_of_torchcodec(path, every):
    decoder = _decoder(path)
    for number in range(len(decoder)):
        yield None if number % every else decoder[number]
