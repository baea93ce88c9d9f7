"""Proposals and features on disk, such that changed weights, settings or data never read what others computed.

The name of a file is a hash of all that its content depends on. The program that computed it is not part of it:
whoever changes that calls `clear`.
"""

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

UNPACKED, AT_MOST = 2**26, 100  # an archive of more bytes unpacked has at most so many for each of its own
PLAIN = (str, int, float, bool, bytes, type(None), Path, torch.dtype, torch.device)


def fingerprint(value: object) -> str:
    """Hash the content of a value, alike in every process and on every device.

    Args:
        value: a tensor or array; a module, by its weights; a dataset, by its images' names, sizes and annotations;
            a dataclass; a plain value; or a dict, list or tuple of such. Small ones are cheap; of a large network
            take the fingerprint once and use it, a string, in many keys.
    Returns:
        64 hexadecimal digits. Equal content gives equal digits: the order of a dict does not count, and lists and
        tuples are alike. 1, 1.0 and True differ.
    Raises:
        ValueError: something else, or a dataset that changes its images by a transform.
    """
    return _digest(value).hex()


def _digest(value):
    if isinstance(value, nn.Module):
        value = value.state_dict()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Tensor):
        content = value.detach().cpu()
        return _hash(f"tensor {content.dtype} {tuple(content.shape)}", content.reshape(-1).view(torch.uint8).numpy())
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return _hash(f"array {value.dtype.str} {value.shape}", np.ascontiguousarray(value).tobytes())
    if isinstance(value, Mapping):
        return _hash("dict", *sorted(_digest(key) + _digest(part) for key, part in value.items()))
    if isinstance(value, list | tuple):
        return _hash("list", *map(_digest, value))
    if is_dataclass(value) and not isinstance(value, type):
        content = {field.name: getattr(value, field.name) for field in fields(value)}
        return _hash(f"dataclass {type(value).__qualname__}", _digest(content))
    if isinstance(value, Subset):
        return _hash("subset", _digest(value.dataset), _digest(list(value.indices)))
    if isinstance(value, Dataset):
        return _hash("dataset", _digest(_annotations(value)))
    if isinstance(value, PLAIN):
        return _hash(f"{type(value).__name__} {value!r}")
    raise ValueError(f"key: {type(value).__qualname__} cannot be hashed; expected tensors, settings or data")


def _hash(kind: str, *parts) -> bytes:
    total = hashlib.sha256(f"{kind}\0".encode())
    for part in parts:
        total.update(part)
    return total.digest()


def _annotations(dataset: Any) -> dict:
    """What tells one dataset from another without decoding its images; the size of a file betrays other pixels."""
    if not (hasattr(dataset, "ids") and hasattr(dataset, "target")):
        raise ValueError(f"key: {type(dataset).__qualname__} has no ids and target(i) to be hashed")
    if hasattr(dataset, "dataset") or getattr(dataset, "transform", None) is not None:
        raise ValueError(f"key: {type(dataset).__qualname__} gives other images than its files; take what is under it")
    content = {"ids": dataset.ids, "classes": dataset.classes}
    content["targets"] = [dataset.target(index) for index in range(len(dataset))]
    if hasattr(dataset, "path"):
        content["bytes"] = [dataset.path(index).stat().st_size for index in range(len(dataset))]
    return content


class FeatureCache:
    """Tensors on disk, computed where they are not there yet.

        cache = FeatureCache(folder)
        weights = fingerprint(model)
        features = cache.get((weights, settings, image, boxes), lambda: model(warp(image, boxes)))

    What is stored is what `compute` gives, so half the space is `lambda: features.half()`. Several processes may
    share a folder: the second to want an entry waits for the first. A file is written beside its place and renamed,
    so that a process killed at any moment leaves no half entry.

    Args:
        folder: made on first use.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def get(self, key: object, compute: Callable[[], object], device: torch.device | str = "cpu") -> Any:
        """Give the entry of this key. A damaged one is computed again, with a warning that names its file.

        Args:
            key: all that the result depends on, as `fingerprint` takes it.
            compute: gives a tensor, or a dict, list or tuple of tensors and plain values.
            device: where the tensors are wanted.
        Returns:
            What `compute` gave, the first time as every other, read from the file, without gradients.
        Raises:
            ValueError: a key that cannot be hashed, or a result that cannot be stored.
        """
        path = self.folder / f"{fingerprint(key)}.pt"
        with suppress(FileNotFoundError, ValueError):
            return _map(read_archive(path), lambda tensor: tensor.to(device))
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock")
        with FileLock(lock):
            entry = self._read_or_compute(path, compute)
        with suppress(OSError):  # Windows keeps a file that another process waits for
            lock.unlink()
        return _map(entry, lambda tensor: tensor.to(device))

    def _read_or_compute(self, path, compute):
        try:
            return read_archive(path)  # another process was first
        except FileNotFoundError:
            pass
        except ValueError as error:
            warnings.warn(f"{error}; computed again", stacklevel=3)
        write_archive(_map(compute(), _packed), path)
        return read_archive(path)

    def size(self) -> int:
        """Count the bytes of all entries."""
        return sum(path.stat().st_size for path in self.folder.glob("*.pt"))

    def clear(self) -> None:
        """Remove all entries, and what interrupted processes left."""
        for suffix in ("pt", "part", "lock"):
            for path in self.folder.glob(f"*.{suffix}"):
                path.unlink(missing_ok=True)


def in_half(
    cache: FeatureCache | None, key: object, compute: Callable[[], Tensor], device: torch.device | str
) -> Tensor:
    """Give a tensor that the cache keeps in half precision; without a cache as it is computed.

    Args:
        cache: or None.
        key, compute, device: as `FeatureCache.get` takes them.
    Returns:
        The tensor; from a cache in float32, and the first time as every other.
    """
    return compute() if cache is None else cache.get(key, lambda: compute().half(), device).float()


def _map(value, change: Callable[[Tensor], Tensor]):
    """The value with each of its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _map(part, change) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_map(part, change) for part in value)
    if isinstance(value, str | int | float | bool | type(None)):
        return value
    raise ValueError(f"compute: expected tensors, or a dict, list or tuple of them, got {type(value).__qualname__}")


def _packed(tensor: Tensor) -> Tensor:
    """On the CPU, with no more memory than it shows: a slice would be stored with all that it is cut from."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def write_archive(value: Any, path: Path) -> None:
    """torch.save, such that `path` is a whole file at any moment, the old or the new one.

    The file is written beside the old one, pushed to the disk and only then renamed. Where that fails, such as on a
    full disk, nothing of it is left.

    Raises:
        OSError: the file cannot be written; it is as it was.
    """
    partial = path.with_suffix(".part")
    try:
        with open(partial, "wb") as file:
            torch.save(value, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        cause = _os_error(error)
        if cause is None:
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error


def _os_error(error: BaseException | None) -> OSError | None:
    """What the system said; torch.save hides it behind an error of its own, in the closing of its archive."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


@contextmanager
def fitting(path: Any, what: str) -> Iterator[None]:
    """Name the file in whatever is raised where its content is used, which can be nearly anything.

    Args:
        path: of the file.
        what: does not fit, as the message says it.
    Raises:
        ValueError: what the content raised.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # such as that of complex weights, whose other half is dropped
            yield
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, ValueError | OSError) and str(path) in str(error):
            raise
        raise ValueError(f"{path}: {what}: {error}") from error


def read_archive(path: Any, parts: Collection[str] = (), kind: str = "what torch.save wrote") -> Any:
    """Read what `torch.save` wrote, onto the CPU, once the checksums of all its parts are right.

    `torch.load` looks at no checksum: it would give other numbers for a damaged file.

    Args:
        path: of the file.
        parts: keys that its dict must have, or a dict of them and the types of their values; none for any content.
        kind: of file, what the error message says was expected.
    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is cut short, damaged, no such archive, of other content, or one that asks to run code,
            which is not run; the message names it.
    """
    with open(path, "rb") as file:
        try:
            archive = ZipFile(file)
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > max(UNPACKED, AT_MOST * os.stat(file.fileno()).st_size):
                raise ValueError(f"would take {unpacked} bytes")
            damaged = archive.testzip()
            if damaged:
                raise ValueError(f"wrong checksum of {damaged}")
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that it takes a while to check sparse tensors
                content = torch.load(file, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # a damaged file can make the reader raise nearly anything
            if code := re.search(r"GLOBAL (\S+)", str(error)):  # torch's reader says so in capitals, in many lines
                raise ValueError(f"{path}: asks to run {code[1]}, which was not done; expected {kind}") from error
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(f"{path}: cut short or damaged ({reason}), expected {kind}") from error
    keys = content.keys() if isinstance(content, dict) else ()
    if missing := set(parts) - set(keys):
        raise ValueError(f"{path}: holds {sorted(map(str, keys))}, which lacks {sorted(missing)}, expected {kind}")
    for name, types in parts.items() if isinstance(parts, dict) else ():
        if not isinstance(content[name], types):
            raise ValueError(f"{path}: {name} is a {type(content[name]).__name__}, expected {kind}")
    return content
