"""What can happen to files while they are read or made: they vanish, are spoiled, or the disk has no place for them."""

import errno
import os
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from rcnn_tutorial.data import data_root, load_dataset
from rcnn_tutorial.data.generated import shapes
from rcnn_tutorial.data.targets import collate
from tests.data.fuzz import NOBODY, place
from tests.data.fuzz_folders import layout_of, write

needs_users = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="has other permissions")


@contextmanager
def as_nobody():
    """Who may write everywhere cannot meet a folder that is for reading only."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture(params=["voc", "labelimg", "coco", "yolo"])
def loaded(request):
    """A data set, and the file of its second picture."""
    layout = layout_of(request.param)
    with place() as folder:
        write(layout.files, folder)
        dataset = layout.load(folder, "raise", True)
        yield dataset, dataset.path(1)


def spoil(path, how):
    if how == "vanishes":
        path.unlink()
    elif how == "is cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif how == "changes its size":
        Image.new("RGB", (20, 20)).save(path)
    elif how == "becomes a folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("how", ["vanishes", "is cut", "changes its size", "becomes a folder"])
def test_a_picture_that_is_spoiled_after_loading_is_named(loaded, how):
    dataset, path = loaded
    spoil(path, how)
    assert dataset[0][0].shape == (3, 12, 16) and dataset[2][0].shape == (3, 12, 16)
    with pytest.raises(ValueError, match=r"b\.jpg: "):
        dataset[1]


@pytest.mark.parametrize("loaded", ["voc"], indirect=True)
@pytest.mark.parametrize("how", ["vanishes", "is cut"])
def test_a_worker_names_the_picture_too(loaded, how):
    dataset, path = loaded
    spoil(path, how)
    with pytest.raises(ValueError, match=r"b\.jpg: (no such file|not a readable image)"):
        list(DataLoader(dataset, num_workers=1, batch_size=1, collate_fn=collate))


@needs_users
@pytest.mark.parametrize("name", ["voc", "labelimg", "coco", "yolo", "polygons"])
def test_a_folder_for_reading_only_is_read(name):
    layout = layout_of(name)
    with place() as folder:
        write(layout.files, folder)
        inner = [path for path in folder.rglob("*") if path.is_dir()]
        for path in [*inner, folder]:
            path.chmod(0o555)
        try:
            with as_nobody():
                assert len(layout.load(folder, "skip", True)) == 3
        finally:
            for path in [*inner, folder]:
                path.chmod(0o755)


@needs_users
@pytest.mark.parametrize("variable", [False, True])
def test_a_home_for_reading_only_names_the_variable(monkeypatch, variable):
    with place() as folder:
        folder.chmod(0o555)
        if variable:
            monkeypatch.setenv("RCNN_TUTORIAL_DATA", str(folder / "data"))
        else:
            monkeypatch.delenv("RCNN_TUTORIAL_DATA", raising=False)
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
            monkeypatch.setenv("HOME", str(folder))
        assert str(data_root()).startswith(str(folder)) or os.name != "posix"
        with as_nobody(), pytest.raises(PermissionError, match=r"Permission denied.* 50 MB .*RCNN_TUTORIAL_DATA"):
            load_dataset("shapes", "train")
        folder.chmod(0o755)
        assert not list(folder.iterdir())


def small(monkeypatch):
    monkeypatch.setattr(shapes, "make_shapes", partial(shapes.make_shapes, train=3, val=1, test=1, auxiliary=0))


@pytest.mark.parametrize("method", ["save", "write_text", "rename"])
def test_a_disk_that_becomes_full_while_scenes_are_made(tmp_path, monkeypatch, method):
    """Pictures, lists, or the last step: nothing half is left, and the next call makes all."""
    small(monkeypatch)
    kind = Image.Image if method == "save" else type(tmp_path)
    real, calls = getattr(kind, method), []

    def full(self, *arguments, **options):
        calls.append(self)
        if len(calls) >= (3 if method == "save" else 1):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"No space left.*50 MB.*RCNN_TUTORIAL_DATA") as e:
        patch.setattr(kind, method, full)
        shapes.ensure_shapes(tmp_path)
    assert e.value.errno == errno.ENOSPC and str(tmp_path) in str(e.value)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    done = shapes.ensure_shapes(tmp_path)
    assert len(list((done / "JPEGImages").iterdir())) == 5
    assert isinstance(load_dataset_in(done)[0][0], torch.Tensor)


def load_dataset_in(folder):
    return load_dataset(folder, "train")


def test_an_error_without_a_number_keeps_its_words(tmp_path, monkeypatch):
    """As Pillow raises it where its encoder cannot write."""

    def broken(*_):
        raise OSError("encoder error -2 when writing image file")

    monkeypatch.setattr(shapes, "make_shapes", broken)
    with pytest.raises(OSError, match=r"encoder error -2 .*RCNN_TUTORIAL_DATA"):
        shapes.ensure_shapes(tmp_path)


def test_the_megabytes_that_are_said_are_those_that_are_needed():
    """2,750 scenes of two files and 2,000 small pictures, by the sizes of a sample."""
    with place() as folder:
        shapes.make_shapes(folder / "sample", train=20, val=0, test=0, auxiliary=20)
        blocks = {path: -(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file()}
        auxiliary = sum(size for path, size in blocks.items() if "auxiliary" in path.parts)
        scenes = sum(blocks.values()) - auxiliary
        needed = (scenes / 20 * 1750 + auxiliary / 20 * 2000) / 2**20
    assert 0.8 * shapes.MEGABYTES < needed < shapes.MEGABYTES
