import dataclasses
import errno
import hashlib
import io
import os
import shutil
import stat
import tarfile
import threading
import zipfile
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from rcnn_tutorial.data import download
from rcnn_tutorial.data import fetch as fetching
from rcnn_tutorial.data.fetch import BCCD, NAMES, PUBLIC, Archive, PublicSet, fetch_dataset
from rcnn_tutorial.data.penn_fudan import as_voc
from rcnn_tutorial.data.splits import load_splits
from tests.data.test_download import Handler, Server, content_of, make_tar, make_zip
from tests.data.test_report import noise

VOC_PARTS = ("Annotations", "ImageSets", "JPEGImages")
XML = (
    b"<annotation><object><name>cat</name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>10</xmax><ymax>12</ymax></bndbox>"
    b"</object></annotation>"
)


def jpeg(seed):
    buffer = io.BytesIO()
    noise(seed).save(buffer, "JPEG")
    return buffer.getvalue()


def voc_files(names, lists):
    files = {f"VOCdevkit/VOC2007/JPEGImages/{name}.jpg": jpeg(seed) for seed, name in enumerate(names)}
    files |= {f"VOCdevkit/VOC2007/Annotations/{name}.xml": XML for name in names}
    return files | {
        f"VOCdevkit/VOC2007/ImageSets/Main/{split}.txt": "".join(f"{name}\n" for name in names).encode()
        for split, names in lists.items()
    }


class ManyFiles(Handler):
    """A file for each path."""

    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.content = self.server.contents[self.path]
        super().do_GET()


@pytest.fixture
def server(monkeypatch):
    server = Server(b"")
    server.RequestHandlerClass, server.contents, server.asked = ManyFiles, {}, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(fetching, "fetch", partial(download.fetch, wait=0.01, timeout=5, attempts=2))
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def voc(server, tmp_path, monkeypatch):
    """A small VOC 2007 of two archives, in place of the real one; `voc.files` are those of the data set."""
    (tmp_path / "made").mkdir()
    first = voc_files(["a", "b"], {"train": ["a"], "val": ["b"], "trainval": ["a", "b"]})
    second = voc_files(["c"], {"test": ["c"]}) | {"VOCdevkit/VOC2007/README": b"not wanted"}
    paths = [
        make_tar(tmp_path / "made" / "trainval.tar", first, "w"),
        make_tar(tmp_path / "made" / "test.tar", second, "w"),
    ]
    archives = tuple(archive_of(server, path, "VOCdevkit/VOC2007", VOC_PARTS) for path in paths)
    size = sum(archive.size for archive in archives)
    public = PublicSet(archives, size, {"JPEGImages": 3, "Annotations": 3})
    monkeypatch.setitem(PUBLIC, "voc2007", public)
    files = {n.removeprefix("VOCdevkit/VOC2007/"): c for n, c in (first | second).items() if "README" not in n}
    return SimpleNamespace(files=files, paths=paths, public=public, root=tmp_path / "root", made=tmp_path / "made")


def archive_of(server, path, inside, parts, md5=True):
    content = path.read_bytes()
    server.contents[f"/{path.name}"] = content
    url = server.url.replace("/a.zip", f"/{path.name}")
    return Archive(url, len(content), hashlib.md5(content).hexdigest() if md5 else None, inside, parts)


def left(root):
    return sorted(name for name in os.listdir(root) if not name.endswith(".lock")) if root.is_dir() else []


def test_two_archives_become_one_data_set_that_is_known_by_its_name(voc, server, monkeypatch):
    monkeypatch.setenv("RCNN_TUTORIAL_DATA", str(voc.root))
    said = []
    folder = fetch_dataset("voc2007", say=said.append)
    assert folder == voc.root / "voc2007" and content_of(folder) == voc.files and left(voc.root) == ["voc2007"]
    told = " ".join(said)
    assert "trainval.tar has the published checksum." in told and "test.tar is unpacked." in told
    splits = load_splits("voc2007")
    assert [part.ids for part in splits.parts().values()] == [("a",), ("b",), ("c",)]
    asked = len(server.asked)
    assert fetch_dataset("voc2007", say=said.append) == folder and len(server.asked) == asked
    assert "already" in said[-1]


def test_a_cut_connection_is_resumed(voc, server):
    server.breaks = [5000]
    fetch_dataset("voc2007", voc.root)
    assert content_of(voc.root / "voc2007") == voc.files and server.requests == [None, "bytes=5000-", None]


def test_the_next_call_goes_on_where_the_last_one_stopped(voc, server):
    server.breaks = [10**9, 3000, 1000]  # the first archive is whole, the second one is cut twice
    with pytest.raises(OSError, match="2 attempts failed"):
        fetch_dataset("voc2007", voc.root)
    assert left(voc.root) == ["voc2007.archives"]
    assert sorted(os.listdir(voc.root / "voc2007.archives")) == ["test.tar.part", "trainval.tar"]
    fetch_dataset("voc2007", voc.root)
    assert content_of(voc.root / "voc2007") == voc.files and left(voc.root) == ["voc2007"]
    assert server.asked.count("/trainval.tar") == 1 and server.requests[-1] == "bytes=4000-"


def test_a_wrong_checksum_leaves_nothing_of_the_archive(voc, server):
    content = server.contents["/test.tar"]
    server.contents["/test.tar"] = content[:-600] + b"?" + content[-599:]
    with pytest.raises(ValueError, match=r"test\.tar: its MD5 is \w{32}, expected \w{32}"):
        fetch_dataset("voc2007", voc.root)
    assert left(voc.root) == ["voc2007.archives"] and os.listdir(voc.root / "voc2007.archives") == ["trainval.tar"]
    server.contents["/test.tar"] = content
    fetch_dataset("voc2007", voc.root)
    assert content_of(voc.root / "voc2007") == voc.files


def test_another_size_is_another_file(voc, server):
    server.contents["/trainval.tar"] = b"<html>moved</html>"
    with pytest.raises(ValueError, match=r"trainval\.tar: it has 18 bytes, expected [\d,]+"):
        fetch_dataset("voc2007", voc.root)
    assert not os.listdir(voc.root / "voc2007.archives")


def test_too_little_space_is_told_before_anything_is_downloaded(voc, server, monkeypatch):
    needed = fetching.MARGIN * (voc.public.unpacked + sum(a.size for a in voc.public.archives))
    free = needed - 1
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(
        OSError, match="voc2007 needs 43 kB of space, and 43 kB are free.*--root FOLDER or the variable"
    ):
        fetch_dataset("voc2007", voc.root)
    assert not server.asked and left(voc.root) == []
    free = needed
    fetch_dataset("voc2007", voc.root)
    shutil.rmtree(voc.root / "voc2007")
    free = fetching.MARGIN * voc.public.unpacked  # archives that are there need no space
    fetch_dataset("voc2007", voc.root, voc.made)
    assert content_of(voc.root / "voc2007") == voc.files


def test_a_disk_that_becomes_full_while_unpacking(voc, server, monkeypatch):
    copy = shutil.copyfileobj

    def full(source, target, *options):
        if target.name.endswith("c.jpg"):
            target.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return copy(source, target, *options)

    with monkeypatch.context() as patch:
        patch.setattr(download.shutil, "copyfileobj", full)
        with pytest.raises(OSError, match=r"the disk became full\. What was downloaded is kept in .*archives") as error:
            fetch_dataset("voc2007", voc.root)
    assert error.value.errno == errno.ENOSPC and left(voc.root) == ["voc2007.archives"]
    asked = len(server.asked)
    fetch_dataset("voc2007", voc.root)
    assert content_of(voc.root / "voc2007") == voc.files and len(server.asked) == asked


def test_a_disk_that_becomes_full_while_downloading_is_not_tried_again(voc, server, monkeypatch):
    def full(response, part, start):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_receive", full)
    with pytest.raises(OSError, match="the disk became full"):
        fetch_dataset("voc2007", voc.root)
    assert server.asked == ["/trainval.tar"] and left(voc.root) == ["voc2007.archives"]


def test_what_a_killed_process_left_is_removed(voc):
    stale = voc.root / ".voc2007.unpacking-abc" / "data"
    stale.mkdir(parents=True)
    (voc.root / "voc2007-mine").mkdir()
    fetch_dataset("voc2007", voc.root)
    assert left(voc.root) == ["voc2007", "voc2007-mine"]


def test_an_interrupted_call_leaves_no_folder(voc, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "_check_counts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_dataset("voc2007", voc.root)
    assert left(voc.root) == ["voc2007.archives"]


def evil(kind, path):
    """An archive with one member that must not be unpacked, and with the whole data set."""
    good = voc_files(["a", "b"], {"train": ["a"]})
    if kind == "dots":
        return make_tar(path, good | {"VOCdevkit/VOC2007/JPEGImages/../../../../evil": b"!"}, "w")
    if kind == "absolute":
        return make_tar(path, {"/tmp/VOCdevkit/VOC2007/JPEGImages/evil": b"!"} | good, "w")
    if kind == "bomb":
        return make_tar(path, good | {"VOCdevkit/VOC2007/JPEGImages/bomb": bytes(10**7)}, "w:gz")
    if kind == "zip link":
        with zipfile.ZipFile(path, "w") as file:
            info = zipfile.ZipInfo("VOCdevkit/VOC2007/JPEGImages/a.jpg")
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(info, "/etc/hostname")
        return path
    make_tar(path, good, "w")
    with tarfile.open(path, "a") as file:
        info = tarfile.TarInfo("VOCdevkit/VOC2007/JPEGImages/evil.jpg")
        info.type, info.linkname = {"link": tarfile.SYMTYPE, "device": tarfile.CHRTYPE}[kind], "/etc/hostname"
        file.addfile(info)
    return path


@pytest.mark.parametrize("kind", ["dots", "absolute", "link", "device", "bomb", "zip link"])
def test_malicious_archives(server, tmp_path, monkeypatch, kind):
    """Also with the right checksum, as if whoever publishes the data set were malicious."""
    archive = archive_of(server, evil(kind, tmp_path / "trainval.tar"), "VOCdevkit/VOC2007", VOC_PARTS)
    monkeypatch.setitem(PUBLIC, "voc2007", PublicSet((archive,), 10**6, {}))
    before = sorted(os.listdir(tmp_path))
    words = "unpacks to more than 3000000 bytes" if kind == "bomb" else "is a link, a device, or leads outside"
    for local in (None, tmp_path / "trainval.tar"):
        with pytest.raises(ValueError, match=words):
            fetch_dataset("voc2007", tmp_path / "root", local)
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "root"])
    assert left(tmp_path / "root") == ["voc2007.archives"] and not os.listdir(tmp_path / "root" / "voc2007.archives")


def test_an_archive_that_lacks_files(server, tmp_path, monkeypatch):
    path = make_tar(tmp_path / "trainval.tar", voc_files(["a", "b"], {"train": ["a"]}), "w")
    archive = archive_of(server, path, "VOCdevkit/VOC2007", VOC_PARTS, md5=False)
    monkeypatch.setitem(PUBLIC, "voc2007", PublicSet((archive,), 10**6, {"JPEGImages": 3}))
    with pytest.raises(ValueError, match="voc2007: JPEGImages holds 2 files, expected 3"):
        fetch_dataset("voc2007", tmp_path / "root", path)
    assert left(tmp_path / "root") == [] and path.is_file()


@pytest.mark.parametrize(
    "form", ["a folder of archives", "one of the archives", "unpacked", "the devkit", "its parent"]
)
def test_what_is_there_already_is_taken_in_place_of_the_download(voc, server, tmp_path, form):
    for path in voc.paths:
        with tarfile.open(path) as file:
            file.extractall(tmp_path / "parent", filter="data")
    local = {
        "a folder of archives": voc.made,
        "one of the archives": voc.paths[1],
        "unpacked": tmp_path / "parent" / "VOCdevkit" / "VOC2007",
        "the devkit": tmp_path / "parent" / "VOCdevkit",
        "its parent": tmp_path / "parent",
    }[form]
    fetch_dataset("voc2007", voc.root, local)
    assert content_of(voc.root / "voc2007") == voc.files and not server.asked and left(voc.root) == ["voc2007"]
    assert all(path.is_file() for path in voc.paths)


def test_local_files_that_are_not_what_they_should_be(voc, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no .*nowhere"):
        fetch_dataset("voc2007", voc.root, tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match=r"is made of trainval\.tar and test\.tar; .* lacks trainval\.tar and test\.tar"
    ):
        fetch_dataset("voc2007", voc.root, voc.root)
    renamed = voc.paths[0].rename(voc.made / "renamed.tar")
    with pytest.raises(ValueError, match=r"lacks trainval\.tar"):
        fetch_dataset("voc2007", voc.root, renamed)
    (voc.made / "trainval.tar").write_bytes(bytes(voc.public.archives[0].size))
    with pytest.raises(ValueError, match="its MD5 is"):
        fetch_dataset("voc2007", voc.root, voc.made)
    assert (voc.made / "trainval.tar").is_file() and left(voc.root) == []
    with pytest.raises(ValueError, match="name must be one of voc2007, voc2012, coco2017, penn-fudan, bccd, got 'voc'"):
        fetch_dataset("voc", voc.root)


def test_coco_of_three_archives(server, tmp_path, monkeypatch):
    import json

    def instances(names):
        images = [{"id": i, "file_name": name, "width": 32, "height": 24} for i, name in enumerate(names)]
        boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 3, 4]} for i in range(len(names))]
        content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
        return json.dumps(content).encode()

    stated = {
        "annotations/instances_train2017.json": instances(["1.jpg", "2.jpg"]),
        "annotations/instances_val2017.json": instances(["3.jpg"]),
        "annotations/captions_train2017.json": b"{}",
    }
    archives = []
    for archive, files in zip(
        PUBLIC["coco2017"].archives,
        (stated, {"val2017/3.jpg": jpeg(3)}, {"train2017/1.jpg": jpeg(1), "train2017/2.jpg": jpeg(2)}),
        strict=True,
    ):
        path = make_zip(tmp_path / archive.name, files)
        archives.append(archive_of(server, path, archive.inside, archive.parts))
    counts = {"train2017": 2, "val2017": 1, "annotations": 2}
    monkeypatch.setitem(PUBLIC, "coco2017", PublicSet(tuple(archives), 10**5, counts))
    monkeypatch.setenv("RCNN_TUTORIAL_DATA", str(tmp_path / "root"))
    fetch_dataset("coco2017")
    splits = load_splits("coco2017")
    assert splits.layout == "COCO" and len(splits.train) == 2 and splits.val.path(0).name == "3.jpg"
    assert sorted(os.listdir(tmp_path / "root" / "coco2017" / "annotations")) == [
        "instances_train2017.json",
        "instances_val2017.json",
    ]
    shutil.copytree(tmp_path / "root" / "coco2017", tmp_path / "mine")
    fetch_dataset("coco2017", tmp_path / "other", tmp_path / "mine")
    assert content_of(tmp_path / "other" / "coco2017") == content_of(tmp_path / "mine")


def pedestrians(count=10):
    """Files as Penn-Fudan has them: picture i has people 1 to 1 + i % 3."""
    files = {"PennFudanPed/readme.txt": b"", "PennFudanPed/Annotation/a.txt": b""}
    for i in range(count):
        numbers = np.zeros((24, 32), np.uint8)
        for person in range(1 + i % 3):
            numbers[3 : 12 + i, 10 * person : 10 * person + 7] = person + 1
        for name, image in (
            (f"PNGImages/P{i:02}.png", noise(i)),
            (f"PedMasks/P{i:02}_mask.png", Image.fromarray(numbers)),
        ):
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            files[f"PennFudanPed/{name}"] = buffer.getvalue()
    return files


def test_penn_fudan_becomes_a_data_set_with_masks(server, tmp_path, monkeypatch):
    path = make_zip(tmp_path / "PennFudanPed.zip", pedestrians())
    archive = archive_of(server, path, "PennFudanPed", ("PNGImages", "PedMasks"), md5=False)
    counts = {"JPEGImages": 10, "Annotations": 10, "SegmentationObject": 10}
    monkeypatch.setitem(PUBLIC, "penn-fudan", PublicSet((archive,), 10**5, counts, as_voc))
    monkeypatch.setenv("RCNN_TUTORIAL_DATA", str(tmp_path / "root"))
    said = []
    fetch_dataset("penn-fudan", say=said.append)
    assert any("Nobody publishes a checksum" in sentence for sentence in said)
    splits = load_splits("penn-fudan", masks=True)
    assert splits.classes == ("background", "person") and [len(p) for p in splits.parts().values()] == [6, 2, 2]
    for part in splits.parts().values():
        for index, name in enumerate(part.ids):
            i, target = int(name[1:]), part.target(index)
            expected = [[10.0 * person, 3, 10 * person + 7, 12 + i] for person in range(1 + i % 3)]
            assert target["boxes"].tolist() == expected
            for mask, (x1, y1, x2, y2) in zip(target["masks"], target["boxes"].int().tolist(), strict=True):
                drawn = torch.zeros(24, 32, dtype=torch.bool)
                drawn[y1:y2, x1:x2] = True
                assert torch.equal(mask, drawn)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda files: files.pop("PennFudanPed/PedMasks/P03_mask.png"), r"P03_mask\.png: no such file"),
        (lambda files: files.update({"PennFudanPed/PedMasks/P03_mask.png": jpeg(0)}), "expected numbers or a palette"),
    ],
)
def test_penn_fudan_with_masks_that_are_none(server, tmp_path, monkeypatch, change, words):
    files = pedestrians()
    change(files)
    path = make_zip(tmp_path / "PennFudanPed.zip", files)
    archive = archive_of(server, path, "PennFudanPed", ("PNGImages", "PedMasks"), md5=False)
    monkeypatch.setitem(PUBLIC, "penn-fudan", PublicSet((archive,), 10**5, {}, as_voc))
    with pytest.raises(ValueError, match=words):
        fetch_dataset("penn-fudan", tmp_path / "root", path)
    assert left(tmp_path / "root") == []


def test_blood_cells_come_by_the_same_call(tmp_path, monkeypatch):
    folder = tmp_path / "local"
    for part in BCCD.parts:
        (folder / part).mkdir(parents=True)
        (folder / part / "a").write_bytes(part.encode())
    monkeypatch.setattr(fetching, "BCCD", dataclasses.replace(BCCD, sha256=download.digest(folder, BCCD.parts)))
    assert fetch_dataset("bccd", tmp_path / "root", folder) == tmp_path / "root" / "bccd"
    assert content_of(tmp_path / "root" / "bccd") == content_of(folder)


def test_what_is_published_about_the_data_sets():
    """Checksums and sizes are well formed, and no two archives share one."""
    archives = [archive for public in PUBLIC.values() for archive in public.archives]
    assert set(NAMES) == {"voc2007", "voc2012", "coco2017", "penn-fudan", "bccd"}
    assert all(a.md5 is None or (len(a.md5) == 32 and int(a.md5, 16)) for a in archives)
    assert [a.name for a in archives if a.md5 is None] == ["PennFudanPed.zip"]
    assert len({a.size for a in archives}) == len({a.md5 for a in archives}) == len({a.url for a in archives}) == 7
    for public in PUBLIC.values():
        assert public.unpacked >= 0.9 * sum(archive.size for archive in public.archives)
        assert all(
            archive.url.startswith(("https://", "http://images.cocodataset.org/")) for archive in public.archives
        )
