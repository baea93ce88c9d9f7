"""What the subcommands share: how they say seconds and bytes, and how they turn a file's error into advice."""

import errno
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Say = Callable[[str], object]  # what tells the user a line
FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def duration(seconds: float) -> str:
    """Say a time as people do: "0.3 s", "45 s", "3 min 20 s", "2 h 05 min", "12 days 3 h"."""
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 2 * 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86_400} days {whole % 86_400 // 3600} h"


def names_in(text: str | None) -> list[str] | None:
    """Give the names that the user typed with commas between them; None where there is no text."""
    return None if text is None else [name.strip() for name in text.split(",")]


def space(count: float) -> str:
    """Say a number of bytes with a unit: "12 MB", "3.4 GB"."""
    units = iter(("bytes", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while count >= 1000 and unit != "TB":
        count, unit = count / 1000, next(units)
    return f"{count:.0f} {unit}" if count >= 9.95 or unit == "bytes" else f"{count:.1f} {unit}"


def plain(value: Any) -> Any:
    """Give a value as JSON can hold it: tuples as lists, what is not a number as null, and infinity as "inf"."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def write_json(value: Any, path: Path) -> None:
    """Write a value as JSON, such that `path` is a whole file at any moment, the old or the new one."""
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(beside, path)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Go through an error and all that it came from, the last one first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def not_writable(error: OSError, folders: dict[Path, str]) -> OSError | None:
    """Say what to do where a file cannot be written, because the folder or the disk is for reading alone.

    Args:
        error: of the file.
        folders: for some folders the advice where the file lies in one of them, as "set RCNN_TUTORIAL_DATA".
    Returns:
        An error that gives the advice, or None where it is of another kind.
    """
    if error.errno not in FORBIDDEN or error.filename is None:
        return None
    path = Path(os.fsdecode(error.filename)).absolute()
    for folder, advice in folders.items():
        if path.is_relative_to(folder.absolute()):
            return OSError(f"{path} cannot be written ({error.strerror}): {advice}.")
    return OSError(f"{path} cannot be written ({error.strerror}): choose a folder where you may write.")


def silent(line: str) -> None:
    """Say nothing, where a function is asked to be silent."""
