import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from rcnn_tutorial.data import videos
from rcnn_tutorial.data.images import FileError
from rcnn_tutorial.data.videos import Video, VideoWriter, is_video

COUNT = 7


@pytest.fixture(params=["MJPG avi", "mp4v mp4", "MJPG mkv", "mp4v mov"])
def film(tmp_path, request):
    """Seven frames, of which each is brighter than the one before, red on the left and blue on the right."""
    code, suffix = request.param.split()
    path = tmp_path / f"film.{suffix}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 10.0, (64, 48))
    for number in range(COUNT):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[:, :32, 2] = frame[:, 32:, 0] = 60 + 30 * number  # OpenCV's order is blue, green, red
        writer.write(frame)
    writer.release()
    return path


def brightness(frames):
    return {
        number: (round(255 * float(f[0, :, :24].mean())), round(255 * float(f[2, :, 40:].mean())))
        for number, f in frames
    }


@pytest.mark.parametrize("every, numbers", [(1, range(7)), (3, (0, 3, 6)), (4, (0, 4)), (10, (0,))])
def test_frames_come_one_after_the_other_with_their_numbers(film, every, numbers):
    video = Video(film, every)
    frames = brightness(video)
    assert list(frames) == list(numbers) and video.count == len(frames)
    assert video.rate == pytest.approx(10 / every)
    for number, (red, blue) in frames.items():
        assert abs(red - (60 + 30 * number)) < 12 and abs(blue - (60 + 30 * number)) < 12


def test_a_frame_is_a_picture_as_detectors_take_it(film):
    _, frame = next(iter(Video(film)))
    assert frame.shape == (3, 48, 64) and frame.dtype == torch.float32 and frame.min() >= 0 and frame.max() <= 1


def test_only_the_frames_that_are_asked_for_are_decoded(film, monkeypatch):
    read = []

    class Capture:
        def __init__(self, path):
            self.capture = opencv(path)

        def retrieve(self):
            read.append(1)
            return self.capture.retrieve()

        def __getattr__(self, name):
            return getattr(self.capture, name)

    opencv = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    frames = iter(Video(film, 3))
    next(frames)
    assert len(read) == 1  # the rest is read when it is asked for
    assert len(list(frames)) == 2 and len(read) == 3


def test_a_video_is_written_in_the_colours_of_its_frames(tmp_path):
    writer = VideoWriter(tmp_path / "out.mp4", 12.5)
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:, :32, 0] = frame[:, 32:, 2] = 200
    for _ in range(5):
        writer.write(frame)
    writer.close()
    video = Video(tmp_path / "out.mp4")
    assert video.rate == pytest.approx(12.5) and video.count == 5
    assert all(abs(red - 200) < 15 and abs(blue - 200) < 15 for red, blue in brightness(video).values())
    VideoWriter(tmp_path / "none.mp4", 10).close()  # without a frame no file
    assert not (tmp_path / "none.mp4").exists()


def test_a_folder_that_is_not_there_is_told(tmp_path, capfd):
    with pytest.raises(OSError, match="cannot write this video; is the folder writable"):
        VideoWriter(tmp_path / "nowhere/out.mp4", 10).write(np.zeros((48, 64, 3), np.uint8))


def test_what_is_no_video_is_told(tmp_path, capfd):
    (tmp_path / "bad.mp4").write_bytes(b"nothing at all")
    with pytest.raises(FileError, match="bad.mp4: OpenCV cannot read it as a video"):
        Video(tmp_path / "bad.mp4")
    with pytest.raises(FileError, match="none.mp4: no such file"):
        Video(tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="every: expected at least 1, got 0"):
        Video(tmp_path / "bad.mp4", 0)
    assert is_video("A.MP4") and is_video("a.gif") and not is_video("a.jpg")


def without(monkeypatch, *names):
    real = importlib.util.find_spec
    monkeypatch.setattr(videos, "find_spec", lambda name: None if name in names else real(name))


def test_without_a_library_a_sentence_says_what_to_install(monkeypatch, tmp_path):
    without(monkeypatch, "cv2", "torchcodec")
    with pytest.raises(FileError, match="no library is installed that reads it; pip install opencv-python"):
        Video(tmp_path / "film.mp4")
    assert not videos.can_write()


def test_torchcodec_is_asked_where_opencv_is_not_there(monkeypatch, tmp_path):
    """A stand-in with the names of TorchCodec's documentation, which is not among the project's requirements."""
    asked = []

    class VideoDecoder:
        metadata = SimpleNamespace(average_fps=30.0, num_frames=COUNT)

        def __init__(self, path):
            if "bad" in path:
                raise RuntimeError("no stream")
            self.path = path

        def __len__(self):
            return COUNT

        def __getitem__(self, index):
            asked.append(index)
            return torch.full((3, 48, 64), 10 * index, dtype=torch.uint8)

    package, decoders = ModuleType("torchcodec"), ModuleType("torchcodec.decoders")
    decoders.VideoDecoder = VideoDecoder
    monkeypatch.setitem(sys.modules, "torchcodec", package)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)
    monkeypatch.setattr(videos, "find_spec", lambda name: None if name == "cv2" else object())
    video = Video(tmp_path / "film.mp4", every=3)
    assert video.rate == 10 and video.count == 3
    assert {number: round(255 * float(frame.mean())) for number, frame in video} == {0: 0, 3: 30, 6: 60}
    assert asked == [0, 3, 6]
    with pytest.raises(FileError, match="bad.mp4: TorchCodec cannot read it as a video .no stream"):
        Video(tmp_path / "bad.mp4")
