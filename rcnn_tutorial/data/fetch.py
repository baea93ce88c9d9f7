"""Getting a public data set: every archive is verified before it is unpacked, and the folder appears when it is whole.

What was downloaded is kept until then, so that the same call goes on from there after a failure.
"""

import errno
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from filelock import FileLock

from rcnn_tutorial.data import data_root
from rcnn_tutorial.data.download import CHUNK, Source, extract, fetch, install
from rcnn_tutorial.data.images import FileError
from rcnn_tutorial.data.penn_fudan import as_voc

MARGIN = 1.05  # of the bytes needed: a file system stores more than the bytes of the files
KEPT = ".archives"  # ending of the folder of what was downloaded
BOMB = 3  # times the bytes that a data set should have, more than which no archive may unpack to


@dataclass(frozen=True)
class Archive:
    """One file of a data set on a server.

    Attributes:
        url: where it is.
        size: bytes.
        md5: as published; None where nobody publishes one.
        inside: folder of the archive that holds `parts`, at any depth; "" where they lie in none.
        parts: subfolders or files that are taken.
    """

    url: str
    size: int
    md5: str | None
    inside: str
    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the file is called."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class PublicSet:
    """A data set of one or more archives.

    Attributes:
        archives: all of them.
        unpacked: bytes of the data set.
        counts: {subfolder: number of its files} by which a whole data set is known.
        finish: brings what was unpacked into a layout that the readers know; None where it is in one.
    """

    archives: tuple[Archive, ...]
    unpacked: int
    counts: dict[str, int]
    finish: Callable[[Path], None] | None = None


VOC_URL = "https://thor.robots.ox.ac.uk/pascal/VOC"
COCO_URL = "http://images.cocodataset.org"  # what comes from there is verified; it has no certificate of its own
VOC_PARTS = ("Annotations", "ImageSets", "JPEGImages", "SegmentationClass", "SegmentationObject")
PUBLIC = {
    "voc2007": PublicSet(
        archives=(
            Archive(
                f"{VOC_URL}/voc2007/VOCtrainval_06-Nov-2007.tar", 460_032_000, "c52e279531787c972589f7e41ab4ae64",
                "VOCdevkit/VOC2007", VOC_PARTS,
            ),
            Archive(
                f"{VOC_URL}/voc2007/VOCtest_06-Nov-2007.tar", 451_020_800, "b6e924de25625d8de591ea690078ad9f",
                "VOCdevkit/VOC2007", VOC_PARTS,
            ),
        ),
        unpacked=920_000_000,
        counts={"JPEGImages": 9_963, "Annotations": 9_963},
    ),
    "voc2012": PublicSet(
        archives=(
            Archive(
                f"{VOC_URL}/voc2012/VOCtrainval_11-May-2012.tar", 1_999_639_040, "6cd6e144f989b92b3379bac3b3de84fd",
                "VOCdevkit/VOC2012", VOC_PARTS,
            ),
        ),
        unpacked=2_000_000_000,
        counts={"JPEGImages": 17_125, "Annotations": 17_125},
    ),
    "coco2017": PublicSet(
        archives=(
            Archive(
                f"{COCO_URL}/annotations/annotations_trainval2017.zip", 252_907_541, "f4bbac642086de4f52a3fdda2de5fa2c",
                "", ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
            ),
            Archive(
                f"{COCO_URL}/zips/val2017.zip", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80", "", ("val2017",)
            ),
            Archive(
                f"{COCO_URL}/zips/train2017.zip", 19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2", "", ("train2017",)
            ),
        ),
        unpacked=20_700_000_000,
        counts={"train2017": 118_287, "val2017": 5_000, "annotations": 2},
    ),
    "penn-fudan": PublicSet(
        archives=(
            Archive(
                "https://www.cis.upenn.edu/~jshi/ped_html/PennFudanPed.zip", 53_723_336, None,
                "PennFudanPed", ("PNGImages", "PedMasks"),
            ),
        ),
        unpacked=60_000_000,
        counts={"JPEGImages": 170, "Annotations": 170, "SegmentationObject": 170},
        finish=as_voc,
    ),
}  # fmt: skip
BCCD = Source(
    url="https://github.com/Shenggan/BCCD_Dataset/archive/refs/heads/master.zip",
    inside="BCCD",
    parts=("Annotations", "ImageSets", "JPEGImages"),
    sha256="9358971741c3024a99b84f230651fabb7f0d28dad10b752e0732c9798b99391a",
)
NAMES = (*PUBLIC, "bccd")


def fetch_dataset(
    name: str,
    root: str | PathLike | None = None,
    local: str | PathLike | None = None,
    say: Callable[[str], object] = lambda sentence: None,
) -> Path:
    """Put a public data set where `load_splits` finds it by its name; does nothing where it is there already.

    Args:
        name: "voc2007", "voc2012", "coco2017", "penn-fudan" or "bccd".
        root: folder of all data sets; by default `data_root()`.
        local: an archive, a folder of archives, or a folder of the unpacked data set, to take in place of the download.
        say: is told in sentences what happens.
    Returns:
        The folder of the data set.
    Raises:
        ValueError: another name, an archive of other size or checksum, a damaged or dangerous one, or one that lacks
            files. No folder is left then, and no archive that failed.
        OSError: the server refuses or cannot be reached, or the disk has too little space. Whole archives, and the part
            of one that arrived, are kept for the next call.
    """
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    root = data_root() if root is None else Path(root)
    folder = root / name
    if folder.is_dir():
        say(f"{name} is already in {folder}.")
        return folder
    if name == "bccd":
        return install(BCCD, folder, local)
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{name}.lock"):
        if not folder.is_dir():  # else another process was first
            _build(name, PUBLIC[name], folder, None if local is None else Path(local), say)
    return folder


def _build(name: str, public: PublicSet, folder: Path, local: Path | None, say: Callable[[str], object]) -> None:
    kept = folder.with_name(f"{name}{KEPT}")  # those that were downloaded
    prefix = f".{name}.unpacking-"
    for stale in folder.parent.glob(f"{prefix}*"):  # of a process that was killed
        shutil.rmtree(stale)
    unpacked = _unpacked(public, local)
    files = {} if unpacked else _local_archives(name, public, local)
    _check_space(name, public, folder.parent, kept, download=not (unpacked or files))
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix) as temporary:
            fresh = Path(temporary) / "data"
            if unpacked:
                say(f"{unpacked} is copied. What is unpacked has no checksum, so the number of its files is checked.")
                _copy(unpacked, fresh, public)
            else:
                for archive in public.archives:
                    _unpack(archive, files.get(archive.name) or _download(archive, kept, say), fresh, public, say)
            if public.finish:
                public.finish(fresh)
            _check_counts(name, public, fresh)
            fresh.rename(folder)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        words = f"the disk became full. What was downloaded is kept in {kept}, and the same call goes on from there"
        raise _no_space(f"{folder.parent}: {words}") from error
    shutil.rmtree(kept, ignore_errors=True)


def _copy(unpacked: Path, fresh: Path, public: PublicSet) -> None:
    for part in dict.fromkeys(part for archive in public.archives for part in archive.parts):
        (fresh / part).parent.mkdir(parents=True, exist_ok=True)
        if (unpacked / part).is_dir():
            shutil.copytree(unpacked / part, fresh / part, copy_function=shutil.copyfile)
        elif (unpacked / part).is_file():
            shutil.copyfile(unpacked / part, fresh / part)


def _unpack(archive: Archive, file: Path, fresh: Path, public: PublicSet, say: Callable[[str], object]) -> None:
    say(f"{archive.name} is unpacked.")
    try:
        extract(file, fresh, archive.inside, archive.parts, BOMB * public.unpacked)
    except ValueError:
        if file.parent.name.endswith(KEPT):  # one that was downloaded would fail again
            file.unlink()
        raise


def _download(archive: Archive, kept: Path, say: Callable[[str], object]) -> Path:
    """The verified archive, which may be there from an earlier call."""
    file = kept / archive.name
    if not file.is_file():
        kept.mkdir(exist_ok=True)
        say(f"{archive.name}, {_bytes(archive.size)}, is downloaded from {archive.url}.")
        fetch(archive.url, file)
    try:
        _verify(archive, file, say)
    except ValueError:
        file.unlink()
        raise
    return file


def _verify(archive: Archive, file: Path, say: Callable[[str], object]) -> None:
    size = file.stat().st_size
    if size != archive.size:
        raise FileError(file, f"it has {size:,} bytes, expected {archive.size:,}: it is another file, or not all of it")
    if archive.md5 is None:
        say(f"Nobody publishes a checksum of {archive.name}, so its size and its content are checked.")
        return
    total = hashlib.md5(usedforsecurity=False)
    with open(file, "rb") as stream:
        while block := stream.read(CHUNK):
            total.update(block)
    if total.hexdigest() != archive.md5:
        raise FileError(file, f"its MD5 is {total.hexdigest()}, expected {archive.md5}: it is damaged, or another file")
    say(f"{archive.name} has the published checksum.")


def _local_archives(name: str, public: PublicSet, local: Path | None) -> dict[str, Path]:
    """The archives that the user has, verified; several of them lie in one folder."""
    if local is None:
        return {}
    if not local.exists():
        raise FileNotFoundError(f"there is no {local}")
    single = local.is_file() and len(public.archives) == 1  # then its name does not matter
    folder = local if local.is_dir() else local.parent
    files = {a.name: local if single else folder / a.name for a in public.archives}
    missing = [archive for archive, file in files.items() if not file.is_file()]
    if missing or (local.is_file() and local not in files.values()):
        names = " and ".join(files)
        raise ValueError(f"{name} is made of {names}; {folder} lacks {' and '.join(missing) or 'none of them'}")
    for archive in public.archives:
        _verify(archive, files[archive.name], lambda sentence: None)
    return files


def _unpacked(public: PublicSet, local: Path | None) -> Path | None:
    """The folder that holds the parts of the unpacked data set, at or below the one that the user gave."""
    if local is None or not local.is_dir():
        return None
    places = [local, *(local / archive.inside for archive in public.archives if archive.inside)]
    places += [local / Path(archive.inside).name for archive in public.archives if archive.inside]
    parts = [part for archive in public.archives for part in archive.parts if part != "SegmentationClass"]
    return next((place for place in places if all((place / part).exists() for part in parts)), None)


def _check_space(name: str, public: PublicSet, root: Path, kept: Path, download: bool) -> None:
    there = sum(file.stat().st_size for file in kept.glob("*")) if kept.is_dir() else 0
    needed = public.unpacked + (max(0, sum(a.size for a in public.archives) - there) if download else 0)
    free = shutil.disk_usage(root).free
    if free < MARGIN * needed:
        raise _no_space(
            f"{root}: {name} needs {_bytes(MARGIN * needed)} of space, and {_bytes(free)} are free. Make room, or "
            "choose another disk by --root FOLDER or the variable RCNN_TUTORIAL_DATA"
        )


def _no_space(message: str) -> OSError:
    """The error of a full disk with a message that has no number in front."""
    error = OSError(message)
    error.errno = errno.ENOSPC
    return error


def _check_counts(name: str, public: PublicSet, folder: Path) -> None:
    for part, count in public.counts.items():
        there = len(list((folder / part).glob("[!.]*")))
        if there != count:
            raise ValueError(f"{name}: {part} holds {there:,} files, expected {count:,}")


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
