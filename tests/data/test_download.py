import gzip
import importlib.util
import io
import os
import random
import re
import stat
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rcnn_tutorial.data.download import Source, digest, extract, fetch, install

PARTS = ("Annotations", "ImageSets")
FILES = {
    "Annotations/a.xml": b"<annotation/>",
    "Annotations/b.xml": random.Random(0).randbytes(3000),
    "ImageSets/Main/train.txt": b"a\nb\n",
}
REST = {
    "README.md": b"not wanted",
    "BCCD/.DS_Store": b"?",
    "BCCD/Annotations/.DS_Store": b"?",
    "BCCD/Other/a": b"x",
    "other/BCCD.txt": b"x",
}


def make_folder(folder, files=FILES):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def members(files=FILES):
    inside = {f"repository-1/BCCD/{name}": content for name, content in files.items()}
    return inside | {f"repository-1/{name}": content for name, content in REST.items()}


def make_zip(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def make_tar(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def content_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Server(ThreadingHTTPServer):
    """Serves `content`; `breaks` are numbers of bytes after which the first answers end too early."""

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.breaks, self.status, self.requests = content, True, [], [], []
        self.url = f"http://127.0.0.1:{self.server_port}/a.zip"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers["Range"]
        self.server.requests.append(asked)
        content, start = self.server.content, 0
        if self.server.status:
            return self.send_error(self.server.status.pop(0))
        if asked and self.server.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                return self.end_headers()
            self.send_response(206)
            shift = self.server.ranges == "wrong"
            self.send_header("Content-Range", f"bytes {start + shift}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + self.server.breaks.pop(0) if self.server.breaks else None
        self.wfile.write(content[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server(random.Random(0).randbytes(5000))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def get(server, path, **options):
    return fetch(server.url, path, **({"wait": 0.01, "timeout": 5} | options))


def test_fetch(server, tmp_path):
    path = get(server, tmp_path / "a.zip")
    assert path.read_bytes() == server.content and server.requests == [None] and os.listdir(tmp_path) == ["a.zip"]


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    server.breaks = [2000, 1500]
    assert get(server, tmp_path / "a.zip").read_bytes() == server.content
    assert server.requests == [None, "bytes=2000-", "bytes=3500-"]


def test_the_next_call_goes_on_too(server, tmp_path):
    server.breaks = [2000]
    with pytest.raises(OSError, match=r"127\.0\.0\.1.*1 attempts failed.*2000 of 5000 bytes"):
        get(server, tmp_path / "a.zip", attempts=1)
    assert not (tmp_path / "a.zip").exists()
    assert get(server, tmp_path / "a.zip").read_bytes() == server.content
    assert server.requests == [None, "bytes=2000-"]


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.ranges, server.breaks = False, [2000]
    assert get(server, tmp_path / "a.zip").read_bytes() == server.content
    assert server.requests == [None, "bytes=2000-"]


def test_a_server_that_sends_another_range(server, tmp_path):
    server.ranges, server.breaks = "wrong", [2000]
    assert get(server, tmp_path / "a.zip").read_bytes() == server.content
    assert server.requests == [None, "bytes=2000-", None]


def test_a_part_that_is_already_whole(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(server.content)
    assert get(server, tmp_path / "a.zip").read_bytes() == server.content
    assert server.requests == ["bytes=5000-"]


def test_a_part_of_a_longer_file_is_given_up(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(bytes(6000))
    assert get(server, tmp_path / "a.zip").read_bytes() == server.content
    assert server.requests == ["bytes=6000-", None]


def test_errors_of_the_server(server, tmp_path):
    server.status = [503, 429]
    assert get(server, tmp_path / "a.zip").read_bytes() == server.content
    server.status = [404, 404]
    with pytest.raises(OSError, match="answers 404"):
        get(server, tmp_path / "b.zip")
    assert server.status == [404]
    server.status = [500] * 3
    with pytest.raises(OSError, match="3 attempts failed.*500"):
        get(server, tmp_path / "b.zip", attempts=3)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a", "a.zip"])
def test_only_web_addresses(tmp_path, url):
    with pytest.raises(ValueError, match="url"):
        fetch(url, tmp_path / "a")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_extract_takes_the_parts_only(tmp_path, make):
    extract(make(tmp_path / "a", members()), tmp_path / "data", "BCCD", PARTS)
    assert content_of(tmp_path / "data") == FILES


def test_a_folder_of_two_levels(tmp_path):
    files = {f"VOCdevkit/VOC2007/{name}": content for name, content in FILES.items()}
    other = {"VOCdevkit/VOC2012/Annotations/c.xml": b"another year"}
    archive = make_tar(tmp_path / "a.tar", files | other, "w")
    extract(archive, tmp_path / "data", "VOCdevkit/VOC2007", PARTS)
    assert content_of(tmp_path / "data") == FILES


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize(
    "name", ["../evil", "a/BCCD/Annotations/../../../evil", "/evil", "C:/evil", "..\\evil", "a\\..\\evil"]
)
def test_names_that_lead_outside(tmp_path, make, name):
    archive = make(tmp_path / "a", {name: b"!"} | members())
    with pytest.raises(ValueError, match="leads outside"):
        extract(archive, tmp_path / "deep" / "data", "BCCD", PARTS)
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        info = tarfile.TarInfo("BCCD/Annotations/a.xml")
        info.type, info.linkname = kind, "/etc/hostname"
        file.addfile(info)
    with pytest.raises(ValueError, match="link, a device"):
        extract(tmp_path / "a.tar", tmp_path / "data", "BCCD", PARTS)


def test_links_in_a_zip(tmp_path):
    info = zipfile.ZipInfo("BCCD/Annotations/a.xml")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc/hostname")
    with pytest.raises(ValueError, match="link, a device"):
        extract(tmp_path / "a.zip", tmp_path / "data", "BCCD", PARTS)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_that_unpacks_to_too_much(tmp_path, make):
    archive = make(tmp_path / "a", {"BCCD/Annotations/a.xml": bytes(10**6)})
    assert archive.stat().st_size < 10**4
    with pytest.raises(ValueError, match="more than 999999 bytes"):
        extract(archive, tmp_path / "data", "BCCD", PARTS, limit=999_999)
    assert not (tmp_path / "data").exists()


def make_txz(path, files):
    return make_tar(path, files, "w:xz")


def cut(content):
    return content[:-1500]


def torn_at(start):
    """40 wrong bytes; in the zip of the test the first member's data begin at byte 52."""
    return lambda content: content[:start] + b"\xff" * 40 + content[start + 40 :]


@pytest.mark.parametrize(
    ("make", "spoil"),
    [(make_zip, cut), (make_tar, cut), (make_txz, cut), (make_zip, torn_at(52)), (make_txz, torn_at(30_000))],
)
def test_a_damaged_archive(tmp_path, make, spoil):
    noise = {"BCCD/Annotations/z.xml": random.Random(1).randbytes(40_000)}
    archive = make(tmp_path / "a", {"BCCD/Annotations/a.xml": b"<annotation/>" * 99} | members() | noise)
    archive.write_bytes(spoil(archive.read_bytes()))
    with pytest.raises(ValueError, match="a: not a sound archive"):
        extract(archive, tmp_path / "data", "BCCD", PARTS)


def test_more_damaged_archives(tmp_path):
    name = "BCCD/Annotations/ä.xml"
    tar = make_tar(tmp_path / "a.tar", members(), "w").read_bytes()
    (tmp_path / "joined.tgz").write_bytes(gzip.compress(tar[:1024]) + b"an error message")
    zipped = make_zip(tmp_path / "a.zip", {name: b""}).read_bytes()
    (tmp_path / "name.zip").write_bytes(zipped.replace(name.encode(), name.encode().replace(b"\xa4", b"\xff")))
    locked = make_zip(tmp_path / "b.zip", members()).read_bytes()
    (tmp_path / "locked.zip").write_bytes(
        re.sub(rb"(PK\x01\x02....)..|(PK\x03\x04..)..", lambda m: (m[1] or m[2]) + b"\1\0", locked, flags=re.S)
    )
    for name in ("joined.tgz", "name.zip", "locked.zip"):
        with pytest.raises(ValueError, match=f"{name}: not a sound archive"):
            extract(tmp_path / name, tmp_path / "data", "BCCD", PARTS)


def test_no_archive(tmp_path):
    (tmp_path / "a.txt").write_text("<html>not found</html>")
    (tmp_path / "empty").write_bytes(b"")
    for name, words in {
        "a.txt": "not a sound archive",
        "empty": "not a sound archive",
        "nothing": "no such file",
    }.items():
        with pytest.raises(ValueError, match=f"{name}: {words}"):
            extract(tmp_path / name, tmp_path / "data", "BCCD", PARTS)


def test_an_archive_of_something_else(tmp_path):
    with pytest.raises(ValueError, match="no BCCD/Annotations in it"):
        extract(make_zip(tmp_path / "a.zip", REST), tmp_path / "data", "BCCD", PARTS)


def test_the_digest_sees_names_and_bytes_of_the_parts(tmp_path):
    known = digest(make_folder(tmp_path / "0"), PARTS)
    assert digest(make_folder(tmp_path / "1", FILES | {"README": b"", "Annotations/.DS_Store": b""}), PARTS) == known
    changes = [
        FILES | {"Annotations/a.xml": b"<annotation />"},
        FILES | {"Annotations/c.xml": b""},
        {name.replace("a.xml", "a2.xml"): content for name, content in FILES.items()},
        {name: FILES[name] for name in list(FILES)[1:]},
    ]
    assert len({known, *(digest(make_folder(tmp_path / f"c{i}", c), PARTS) for i, c in enumerate(changes))}) == 5


def source(tmp_path, url="http://127.0.0.1:1/"):
    return Source(url, "BCCD", PARTS, digest(make_folder(tmp_path / "known"), PARTS))


def test_install_from_the_server_and_a_second_call_does_nothing(server, tmp_path):
    server.content = make_zip(tmp_path / "a.zip", members()).read_bytes()
    wanted, folder = source(tmp_path, server.url), tmp_path / "data" / "bccd"
    assert install(wanted, folder) == folder and content_of(folder) == FILES
    assert sorted(os.listdir(tmp_path / "data")) == ["bccd", "bccd.lock"]
    (tmp_path / "data" / "bccd.lock").unlink()
    assert install(wanted, folder) == folder and len(server.requests) == 1
    assert os.listdir(tmp_path / "data") == ["bccd"]  # not even a lock, for data kept read-only


def test_an_archive_of_other_content_leaves_nothing(server, tmp_path):
    server.content = make_zip(tmp_path / "a.zip", members(FILES | {"Annotations/a.xml": b"?"})).read_bytes()
    wanted, folder = source(tmp_path, server.url), tmp_path / "data" / "bccd"
    for count in (1, 2):
        with pytest.raises(ValueError, match=r"the digest of its Annotations, ImageSets is \w+, expected"):
            install(wanted, folder)
        assert os.listdir(tmp_path / "data") == ["bccd.lock"] and server.requests == [None] * count


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_install_from_a_local_archive_keeps_it(tmp_path, make):
    archive = make(tmp_path / "a", members())
    install(source(tmp_path), tmp_path / "data", archive)
    assert content_of(tmp_path / "data") == FILES and archive.exists()


def test_install_from_a_local_folder(tmp_path):
    local = make_folder(tmp_path / "local", FILES | {"README": b"", "Annotations/.DS_Store": b""})
    (local / "Annotations").chmod(0o555)  # data kept read-only
    install(source(tmp_path), tmp_path / "data", local)
    assert content_of(tmp_path / "data") == FILES
    assert (tmp_path / "data" / "Annotations").stat().st_mode & stat.S_IWUSR


def test_a_local_folder_of_something_else(tmp_path):
    with pytest.raises(ValueError, match="local: the digest"):
        install(source(tmp_path), tmp_path / "data", make_folder(tmp_path / "local", {"a": b""}))
    assert not (tmp_path / "data").exists()


@pytest.fixture
def script(monkeypatch, tmp_path):
    path = Path(__file__).parents[2] / "data_scripts" / "download_bccd.py"
    spec = importlib.util.spec_from_file_location("download_bccd", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.BCCD.url.startswith("https://github.com/Shenggan/BCCD_Dataset/") and len(module.BCCD.sha256) == 64
    monkeypatch.setattr(module, "BCCD", source(tmp_path))
    return module


def test_the_script_for_bccd(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RCNN_TUTORIAL_DATA", str(tmp_path / "data"))
    archive = make_zip(tmp_path / "a.zip", members())
    script.main(["--from", str(archive)])
    assert content_of(tmp_path / "data" / "bccd") == FILES and "bccd" in capsys.readouterr().out
    script.main(["--from", str(tmp_path / "known"), "--root", str(tmp_path / "other")])
    assert content_of(tmp_path / "other" / "bccd") == FILES
    with pytest.raises(SystemExit, match=r"download_bccd\.py: .*nothing: no such file"):
        script.main(["--from", str(tmp_path / "nothing"), "--root", str(tmp_path / "third")])
