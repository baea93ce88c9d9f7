"""What all readers of data sets do with files: find pictures, read a list, know a flag, divide what has no splits."""

import codecs
import hashlib
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp")
VALIDATION = ("val", "valid", "validation")  # what tools call this split
HELD_OUT = 0.15  # share of the pictures that go to "val", and as many to "test", where nothing says which
FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


class NoSplitError(ValueError):
    """A data set has no such split."""


class UnannotatedError(NoSplitError):
    """None of the pictures of a split is annotated."""


def find_images(folder: str | PathLike) -> dict[str, Path]:
    """Find the pictures in a folder and its subfolders.

    Hidden files are left out: macOS writes a `._1.jpg` beside each 1.jpg that it copies to a foreign disk.

    Args:
        folder: where to look.
    Returns:
        {id: file}, sorted; an id is the name from the folder on, such as "cam/1", without its suffix.
        Where two pictures differ by their suffix alone, .jpg goes first.
    """
    pictures = [file for file in visible_files(folder) if file.suffix.lower() in SUFFIXES]
    ids = {id_of(file, folder): file for file in sorted(pictures, key=lambda file: file.suffix == ".jpg")}
    return dict(sorted(ids.items()))


def visible_files(folder: str | PathLike, pattern: str = "*") -> list[Path]:
    """List the files of a folder and its subfolders, sorted, without those that are hidden or in a hidden folder."""
    files = sorted(Path(folder).rglob(pattern))
    return [f for f in files if not any(p.startswith(".") for p in f.relative_to(folder).parts) and f.is_file()]


def id_of(file: Path, folder: str | PathLike) -> str:
    """Name a file from a folder on, with slashes and without its suffix."""
    return file.relative_to(folder).with_suffix("").as_posix()


def read_lines(file: str | PathLike) -> list[str]:
    """Read the lines of a text file in UTF-8, or in UTF-16 as PowerShell's `>` writes it, without outer white space."""
    content = Path(file).read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if wide else "utf-8-sig", errors="replace")
    return [line.strip() for line in text.splitlines()]


def flag(value: object, words: Mapping[str, bool] = FLAGS) -> bool | None:
    """Read a flag by its meaning: a boolean, the number 0 or 1, or one of the words; None where it is none of these."""
    if isinstance(value, str):
        return words.get(value.strip().lower())
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def split_names(split: str) -> tuple[str, ...]:
    """List what a split may be called: "val" and "valid" are one."""
    return (split, *(name for name in VALIDATION if name != split)) if split in VALIDATION else (split,)


def pick_split(ids: Collection[str], split: str, folder: str | PathLike) -> list[str]:
    """Choose the pictures of one split, of a folder that has no lists of them.

    A subfolder "train", "val" or "test" is that split. Without such subfolders the pictures are divided: 70 % "train",
    15 % "val", 15 % "test". They are drawn in the order of a digest of their ids, so that a folder is divided alike on
    each machine and in each run.

    Args:
        ids: of all pictures in the folder.
        split: which part.
        folder: named in the error.
    Returns:
        The sorted ids of one part.
    Raises:
        NoSplitError: another split.
        ValueError: fewer than three pictures to divide.
    """
    parts = {name: [] for name in ("train", *VALIDATION, "test")}
    for name in ids:
        parts.get(name.split("/")[0], []).append(name)
    if not any(parts.values()):
        if len(ids) < 3:
            raise ValueError(
                f"{folder}: expected 3 pictures at least, to divide into train, val and test, got {len(ids)}"
            )
        count, drawn = max(1, round(HELD_OUT * len(ids))), sorted(ids, key=_digest)
        parts = {"train": drawn[2 * count :], "val": drawn[count : 2 * count], "test": drawn[:count]}
    for name in split_names(split):
        if parts.get(name):
            return sorted(parts[name])
    there = ", ".join(name for name in parts if parts[name])
    raise NoSplitError(f"split {split!r} is not in {folder}; there: {there}")


def _digest(name: str) -> bytes:
    """Give the same bytes for a name with composed letters and for the decomposed ones that macOS may store."""
    return hashlib.sha256(unicodedata.normalize("NFC", name).encode(errors="surrogateescape")).digest()


def check_annotated(files: Sequence[Path], split: str) -> None:
    """Refuse a split without any annotation file: its files lie elsewhere. A single picture without has no objects.

    Args:
        files: where the annotations of each picture would be.
        split: named in the error.
    Raises:
        UnannotatedError: pictures, and not one of the files.
    """
    if files and not any(file.is_file() for file in files):
        raise UnannotatedError(
            f"split {split!r}: none of its {len(files)} pictures has an annotation file; there is no {files[0]}"
        )


def check_known(classes: Iterable[str], known: Collection[str], where: object) -> None:
    """Refuse a class that no file has: it is a typing mistake.

    Raises:
        ValueError: a name that is not known.
    """
    unknown = [name for name in classes if name not in known]
    if unknown:
        raise ValueError(f"classes: {unknown[0]!r} is not in {where}; there: {', '.join(sorted(known)) or 'none'}")
