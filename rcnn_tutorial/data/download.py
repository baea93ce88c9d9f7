"""Fetching a public data set once: download with resume, careful extraction, verification, and only then its name."""

import errno
import gzip
import hashlib
import http.client
import lzma
import shutil
import stat
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import IO

from filelock import FileLock
from tqdm import tqdm

from rcnn_tutorial.data.images import FileError

CHUNK = 2**18  # bytes read at a time
LIMIT = 50 * 2**30  # bytes that an archive may unpack to
UNSOUND = (  # what unpacking raises on damaged archives
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError, RuntimeError,
    UnicodeDecodeError,
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Where a data set comes from, and how to know it again.

    Attributes:
        url: archive (zip or tar) on a server.
        inside: folder of the archive that holds `parts`, at any depth, such as "VOCdevkit/VOC2007".
        parts: the subfolders that make up the data set; nothing else is taken.
        sha256: `digest` of the parts. An archive that a server packs anew has other bytes, but the same content.
    """

    url: str
    inside: str
    parts: tuple[str, ...]
    sha256: str


def install(source: Source, folder: str | PathLike, local: str | PathLike | None = None) -> Path:
    """Put a data set into `folder`, verified; does nothing where the folder is there already.

    Args:
        source: what to get.
        folder: where it will be; its parent is made.
        local: a folder with the parts, or an archive, to take in place of the download.
    Returns:
        The folder.
    Raises:
        ValueError: a damaged or dangerous archive, or content of another digest; nothing is left in `folder`.
        OSError: the server refuses or cannot be reached.
    """
    folder = Path(folder)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    archive = folder.with_name(f"{folder.name}.archive")
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    with lock, tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as temporary:
        if folder.is_dir():  # another process was first
            return folder
        fresh = Path(temporary) / "data"
        try:
            _fill(fresh, source, Path(local or fetch(source.url, archive)))
        finally:
            archive.unlink(missing_ok=True)  # one that failed would fail again
        fresh.rename(folder)
    return folder


def _fill(fresh, source, origin):
    if origin.is_dir():
        for name, path in _files(origin, source.parts):
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, fresh / name)
    else:
        extract(origin, fresh, source.inside, source.parts)
    actual = digest(fresh, source.parts)
    if actual != source.sha256:
        raise FileError(origin, f"the digest of its {', '.join(source.parts)} is {actual}, expected {source.sha256}")


def digest(folder: str | PathLike, parts: Sequence[str]) -> str:
    """Compute SHA-256 over the sorted names and the bytes of all files in some subfolders, hidden files left out.

    Args:
        folder: the data set.
        parts: its subfolders that count.
    Returns:
        64 hexadecimal digits.
    """
    total = hashlib.sha256()
    for name, path in _files(Path(folder), parts):
        total.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _files(folder, parts):
    files = [path for part in parts for path in (folder / part).rglob("*") if path.is_file()]
    return sorted((f.relative_to(folder).as_posix(), f) for f in files if not f.name.startswith("."))


def fetch(url: str, path: str | PathLike, attempts: int = 5, wait: float = 1.0, timeout: float = 30.0) -> Path:
    """Download a file; what an interrupted call has got stays in `<path>.part`, and the next one goes on from there.

    Args:
        url: http or https address.
        path: file to write.
        attempts: tries before giving up.
        wait: seconds before the second try, doubled each time.
        timeout: seconds without an answer that end a try.
    Returns:
        `path`.
    Raises:
        ValueError: another kind of address.
        OSError: the server refuses, or all tries failed.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"url must begin with http:// or https://, got {url!r}")
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    failure: Exception | None = None
    for attempt in range(attempts):
        if attempt:
            time.sleep(wait * 2 ** (attempt - 1))
        try:
            _go_on(url, part, timeout)
            return part.replace(path)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in (408, 416, 429):
                raise OSError(f"{url}: the server answers {error.code} {error.reason}") from None
            failure = error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # trying again does not help a full disk
            failure = error
    raise OSError(f"{url}: {attempts} attempts failed, the last one with: {failure}") from failure


def _go_on(url, part, timeout):
    """One try: ask for the bytes after those in `part`; a server may send these, or all, or say that there are none."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            _receive(response, part, start)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range") != f"bytes */{start}":
            part.unlink()  # not a part of this file
        if error.code != 416 or not part.exists():
            raise
        error.close()


def _receive(response, part, start):
    if response.status == 200:
        start = 0
    elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        part.unlink()
        raise OSError("the server sent another range than asked for")
    length = response.headers.get("Content-Length")
    total = None if length is None else start + int(length)
    bar = tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True)
    with open(part, "ab" if start else "wb") as file, bar:
        while block := response.read(CHUNK):
            file.write(block)
            bar.update(len(block))
    arrived = part.stat().st_size
    if total not in (None, arrived):
        raise OSError(f"{arrived} of {total} bytes arrived")


@dataclass
class _Member:
    name: str
    kind: str  # "file", "folder" or "other": links, devices
    size: int
    content: Callable[[], IO[bytes]]  # opens it


def extract(
    archive: str | PathLike, folder: str | PathLike, inside: str, parts: Sequence[str], limit: int = LIMIT
) -> None:
    """Unpack some folders of a zip or tar archive; nothing lands outside `folder`.

    Args:
        archive: the file.
        folder: is made, and gets the parts.
        inside: folder of the archive that holds the parts, at any depth; "" where they lie in none.
        parts: subfolders or files to take.
        limit: bytes that all files of the archive may have together.
    Raises:
        ValueError: no sound archive, one without the parts, or one with absolute names, "..", links, devices, or more
            than `limit`.
    """
    folder, total = Path(folder), 0
    try:
        with _members(archive) as members:
            for member in members:
                names = member.name.replace("\\", "/").rstrip("/").split("/")
                if names[0] == "" or names[0][1:2] == ":" or ".." in names or member.kind == "other":
                    raise FileError(archive, f"{member.name!r} is a link, a device, or leads outside")
                total += member.size
                if total > limit:
                    raise FileError(archive, f"unpacks to more than {limit} bytes")
                target = _target(names, inside.split("/") if inside else [], parts)
                if target and member.kind == "file":
                    (folder / target).parent.mkdir(parents=True, exist_ok=True)
                    with member.content() as source, open(folder / target, "wb") as file:
                        shutil.copyfileobj(source, file, CHUNK)
    except FileNotFoundError:
        raise FileError(archive, "no such file") from None
    except UNSOUND as error:
        raise FileError(archive, f"not a sound archive ({error})") from error
    missing = [part for part in parts if not (folder / part).exists()]
    if missing:
        raise FileError(archive, f"no {f'{inside}/{missing[0]}'.lstrip('/')} in it")


def _target(names, inside, parts):
    """Name within the data set of an archive's member, or None where it does not belong to it."""
    for start in range(len(names) - len(inside) - 1):
        below = names[start + len(inside) :]
        wanted = below[0] in parts or "/".join(below) in parts
        if names[start : start + len(inside)] == inside and wanted and not below[-1].startswith("."):
            return "/".join(below)
    return None


@contextmanager
def _members(archive) -> Iterator[Iterator[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            yield (_Member(i.filename, _zip_kind(i), i.file_size, partial(packed.open, i)) for i in packed.infolist())
    else:
        with tarfile.open(archive) as tape:
            yield (_Member(i.name, _tar_kind(i), i.size, partial(_content, tape, i)) for i in tape)


def _content(tape: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = tape.extractfile(info)
    assert content is not None, f"{info.name} is no file"  # only regular files are opened
    return content


def _zip_kind(info):
    if info.is_dir():
        return "folder"
    return "file" if stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG) else "other"


def _tar_kind(info):
    return "folder" if info.isdir() else "file" if info.isreg() else "other"
