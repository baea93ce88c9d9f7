"""What goes wrong in a training, each with what the user is told."""

import errno
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from rcnn_tutorial.app import networks, record, runs, trouble
from rcnn_tutorial.app.console import not_writable, space
from rcnn_tutorial.app.train import fit, resume
from rcnn_tutorial.data.images import FileError
from rcnn_tutorial.detectors.fpn import FPN
from rcnn_tutorial.training import loop
from tests.app.folder import own_folder, quick

QUIET = {"batch": 2, "device": "cpu", "progress": False, "augment": False}


@pytest.fixture(scope="module", autouse=True)
def narrow():
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        yield


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return own_folder(tmp_path_factory.mktemp("own") / "data")


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    monkeypatch.setattr(runs, "draw_curves", lambda history, path: path.touch())
    monkeypatch.setattr(record, "draw_curves", lambda history, path: path.touch())
    monkeypatch.setattr(record, "draw_detections", lambda model, dataset, path: path.touch())


@pytest.fixture(scope="module")
def begun(own, tmp_path_factory):
    """A run of one step, to be copied and gone on with."""
    folder = tmp_path_factory.mktemp("runs") / "begun"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "draw_curves", lambda history, path: path.touch())
        patch.setattr(record, "draw_detections", lambda model, dataset, path: path.touch())
        return fit(own, folder=folder, steps=1, **QUIET).folder


@pytest.fixture
def run(begun, tmp_path):
    return Path(shutil.copytree(begun, tmp_path / "run"))


@pytest.mark.parametrize("when", ["as it begins", "after a step"])
def test_a_full_disk_leaves_the_old_checkpoint_whole(run, monkeypatch, when):
    before, usual = (run / "checkpoint.pt").read_bytes(), loop._step

    def fill(*arguments):
        (run / "checkpoint.part").symlink_to("/dev/full")  # what is written there finds the disk full
        return usual(*arguments) if arguments else None

    with monkeypatch.context() as patch:
        if when == "after a step":
            patch.setattr(loop, "_step", fill)
        else:
            fill()
        with pytest.raises(
            OSError, match=r"the disk is full: .*checkpoint.pt could not be written, and is as it"
        ) as info:
            resume(run, steps=2, progress=False)
    size = space((run / "checkpoint.pt").stat().st_size)
    for said in ("are free in", f"a checkpoint needs {size}", f"train --resume {run}"):
        assert said in str(info.value)
    assert not (run / "checkpoint.part").is_symlink()
    if when == "as it begins":
        assert (run / "checkpoint.pt").read_bytes() == before
    assert resume(run, steps=2, progress=False).history.steps == 2


def test_too_little_room_is_said_before_the_training(own, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 3_000_000))
    with pytest.raises(
        OSError, match=r"a training needs about 13 MB .* where 3.0 MB are free. Make room, or.*--folder"
    ):
        fit(own, folder=tmp_path / "run", steps=1, **QUIET)
    assert not (tmp_path / "run/checkpoint.pt").exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_for_reading_alone_is_named(own, tmp_path, monkeypatch, number):
    def refuse(path, *rest, **more):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        OSError, match=r"runs/mine cannot be written \(.*\): choose a folder where you may write by --fo"
    ):
        fit(own, folder="runs/mine", steps=1, **QUIET)
    with pytest.raises(OSError, match="runs/fpn cannot be written"):
        fit(own, steps=1, **QUIET)


def test_a_home_for_reading_alone_is_told_with_its_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("RCNN_TUTORIAL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refuse(name, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "data/shapes"))

    monkeypatch.setattr(runs, "load_splits", refuse)
    with pytest.raises(OSError, match="data/shapes cannot be written .*RCNN_TUTORIAL_DATA name a folder"):
        fit("shapes", folder=tmp_path / "run", **QUIET)
    error = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "torch/hub/checkpoints/x.pth"))
    assert "TORCH_HOME" in str(trouble.mended(error, tmp_path / "run"))
    other = PermissionError(errno.EACCES, "Permission denied", "/elsewhere")
    assert "/elsewhere cannot be written" in str(not_writable(other, {}))
    assert trouble.mended(FileNotFoundError(errno.ENOENT, "no", "x"), tmp_path).errno == errno.ENOENT


@pytest.mark.parametrize("problem", [OSError("no network"), PermissionError(errno.EACCES, "denied", "home")])
def test_weights_that_cannot_be_had(own, tmp_path, monkeypatch, problem):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refuse(*arguments, **options):
        raise problem

    monkeypatch.setattr(networks, "download", refuse)
    with pytest.raises(ValueError, match="weights of resnet18 cannot be had .*torch/hub/checkpoints.*--no-pretrained"):
        fit(own, backbone="resnet18", folder=tmp_path / "run", **QUIET)


def test_two_runs_in_one_folder(run):
    with FileLock(run / ".lock"), pytest.raises(RuntimeError, match="another training is at work in .*run.*--folder"):
        resume(run, steps=2, progress=False)
    assert (run / ".lock").exists()  # as a run leaves it that was killed, and nobody holds it
    assert resume(run, steps=2, progress=False).history.steps == 2


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_checkpoints_that_are_none(run, tmp_path):
    checkpoint = run / "checkpoint.pt"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="checkpoint.pt: cut short or damaged"):
        resume(run, steps=2, progress=False)
    evil = {name: Malicious(tmp_path / "broken_in") for name in ("model", "optimizer", "scaler", "history")}
    torch.save(evil | {"random": 0, "identity": 0}, checkpoint)
    with pytest.raises(ValueError, match="checkpoint.pt: asks to run .*mkdir, which was not done"):
        resume(run, steps=2, progress=False)
    checkpoint.write_bytes(pickle.dumps(Malicious(tmp_path / "broken_in")))
    with pytest.raises(ValueError, match="checkpoint.pt: cut short or damaged"):
        resume(run, steps=2, progress=False)
    assert not (tmp_path / "broken_in").exists()


def test_the_checkpoint_of_another_detector(run, own, tmp_path):
    fit(own, "retinanet", folder=tmp_path / "other", steps=1, **QUIET)
    shutil.copy(tmp_path / "other/checkpoint.pt", run / "checkpoint.pt")
    with pytest.raises(ValueError, match="checkpoint.pt: the checkpoint of another training"):
        resume(run, steps=2, progress=False)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ],
)
def test_out_of_memory_gives_advice(own, tmp_path, monkeypatch, error):
    def refuse(self, *arguments, **options):
        raise error

    monkeypatch.setattr(FPN, "forward", refuse)
    with pytest.raises(RuntimeError, match=r"not enough memory for one step.*--batch 1 \(it was 2\).*--min-size"):
        fit(own, folder=tmp_path / "run", steps=1, **QUIET)
    assert not (tmp_path / "run").exists(), "nothing was begun, so nothing is left that would be in the way"


def test_too_many_pictures_at_a_time_to_look_at():
    told = "memory for 4 at a time. Fewer at a time need less: --batch 2; so may"
    with pytest.raises(RuntimeError, match=told), trouble.in_memory(4):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="memory for 1 at a time. Smaller pictures need less"), trouble.in_memory(1):
        raise MemoryError
    with pytest.raises(RuntimeError, match="^a defect$"), trouble.in_memory(1):
        raise RuntimeError("a defect")


def test_another_error_stays_as_it_is(own, tmp_path, monkeypatch):
    def refuse(self, *arguments, **options):
        raise RuntimeError("a defect")

    monkeypatch.setattr(FPN, "forward", refuse)
    with pytest.raises(RuntimeError, match="^a defect$"):
        fit(own, folder=tmp_path / "run", steps=1, **QUIET)


def test_a_loss_that_is_no_number_leaves_its_batch(run, own, monkeypatch):
    usual = FPN.forward

    def spoilt(self, images, targets=None, proposals=None):
        losses = usual(self, images, targets, proposals)
        return losses | {"box": losses["box"] * torch.nan} if self.training else losses

    monkeypatch.setattr(FPN, "forward", spoilt)
    with pytest.raises(RuntimeError, match=r"step 1: .*nan.*\.jpg.*not_finite.pt") as info:
        resume(run, steps=2, progress=False)
    kept = torch.load(run / "not_finite.pt", weights_only=True)
    assert kept["step"] == 1 and len(kept["images"]) == 2
    for index, name, image, target in zip(kept["indices"], kept["files"], kept["images"], kept["targets"], strict=True):
        assert name == str(own / f"JPEGImages/{index:02}.jpg") and name in str(info.value)
        assert image.shape == (3, 80, 100) and len(target["boxes"]) == 2


def test_a_process_that_reads_pictures_hands_its_error_on(tmp_path):
    error = FileError("Caught FileError in DataLoader worker process 0.\nTraceback\nx.FileError: 03.jpg: truncated")
    with (
        pytest.raises(ValueError, match="^03.jpg: truncated. Mend or remove the file"),
        trouble.advised(tmp_path, None),
    ):
        raise error


def test_a_picture_that_breaks_during_a_training_is_named(own, tmp_path):
    data, folder = Path(shutil.copytree(own, tmp_path / "data")), tmp_path / "run"
    usual = loop._step

    def step(run, number, *rest):
        for picture in (data / "JPEGImages").iterdir():
            if number == 0 and int(picture.stem) < 5:
                picture.write_bytes(picture.read_bytes()[:500])
        return usual(run, number, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step", step)
        with pytest.raises(ValueError, match=r"\d\d.jpg: not a readable image .*Mend or remove.*--on-error skip"):
            fit(data, folder=folder, steps=3, **QUIET)


def test_a_picture_that_breaks_is_skipped(own, tmp_path, caplog):
    data = Path(shutil.copytree(own, tmp_path / "data"))
    usual = loop._step

    def step(run, number, *rest):
        if number == 0:
            for name in ("00", "01", "02", "03"):
                (data / f"JPEGImages/{name}.jpg").write_bytes(b"")
        return usual(run, number, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step", step)
        fitted = fit(data, folder=tmp_path / "run", steps=3, on_error="skip", **QUIET)
    assert fitted.history.steps == 3
    named = [message for message in caplog.messages if ".jpg" in message]
    assert named and len(named) == len(set(named))  # each once
