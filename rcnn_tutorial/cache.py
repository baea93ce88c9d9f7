"""Proposals and features on disk, such that changed weights, settings or data never read what others computed.

The name of a file is a hash of all that its content depends on. The program that computed it is not part of it:
whoever changes that calls `clear`.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

PLAIN = (str, int, float, bool, bytes, type(None), Path, torch.dtype, torch.device)


def fingerprint(thing: object) -> str:
    """A hash of a value's content, the same in every process and on every device.

    Args:
        thing: a tensor or array; a module, by its weights; a dataset, by its images' names, sizes and annotations;
            a dataclass; a plain value; or a dict, list or tuple of such. Small things are cheap; for a large network
            take the fingerprint once and use it, a string, in many keys.
    Returns:
        64 hexadecimal digits. Equal content gives equal digits: the order of a dict does not count, and lists and
        tuples are alike. 1, 1.0 and True differ.
    Raises:
        ValueError: something else, or a dataset that changes its images by a transform.
    """
    return _digest(thing).hex()


def _digest(thing):
    if isinstance(thing, nn.Module):
        thing = thing.state_dict()
    if isinstance(thing, np.generic):
        thing = thing.item()
    if isinstance(thing, Tensor):
        content = thing.detach().cpu()
        return _hash(f"tensor {content.dtype} {tuple(content.shape)}", content.reshape(-1).view(torch.uint8).numpy())
    if isinstance(thing, np.ndarray) and not thing.dtype.hasobject:
        return _hash(f"array {thing.dtype.str} {thing.shape}", np.ascontiguousarray(thing).tobytes())
    if isinstance(thing, Mapping):
        return _hash("dict", *sorted(_digest(key) + _digest(value) for key, value in thing.items()))
    if isinstance(thing, list | tuple):
        return _hash("list", *map(_digest, thing))
    if is_dataclass(thing) and not isinstance(thing, type):
        content = {field.name: getattr(thing, field.name) for field in fields(thing)}
        return _hash(f"dataclass {type(thing).__qualname__}", _digest(content))
    if isinstance(thing, Subset):
        return _hash("subset", _digest(thing.dataset), _digest(list(thing.indices)))
    if isinstance(thing, Dataset):
        return _hash("dataset", _digest(_annotations(thing)))
    if isinstance(thing, PLAIN):
        return _hash(f"{type(thing).__name__} {thing!r}")
    raise ValueError(f"key: {type(thing).__qualname__} cannot be hashed; expected tensors, settings or data")


def _hash(kind: str, *parts) -> bytes:
    total = hashlib.sha256(f"{kind}\0".encode())
    for part in parts:
        total.update(part)
    return total.digest()


def _annotations(dataset: Dataset) -> dict:
    """What tells one dataset from another without decoding its images; the bytes of a file betray other pixels."""
    if not (hasattr(dataset, "ids") and hasattr(dataset, "target")):
        raise ValueError(f"key: {type(dataset).__qualname__} has no ids and target(i) to be hashed")
    if hasattr(dataset, "dataset") or getattr(dataset, "transform", None) is not None:
        raise ValueError(f"key: {type(dataset).__qualname__} gives other images than its files; take what is under it")
    found = {"ids": dataset.ids, "classes": dataset.classes}
    found["targets"] = [dataset.target(index) for index in range(len(dataset))]
    if hasattr(dataset, "path"):
        found["bytes"] = [dataset.path(index).stat().st_size for index in range(len(dataset))]
    return found


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

    def get(self, key: object, compute: Callable[[], object], device: torch.device | str = "cpu"):
        """The entry of this key. A damaged one is computed again, with a warning that names its file.

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
            return _map(_read(path), lambda tensor: tensor.to(device))
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock")
        with FileLock(lock):
            found = self._read_or_compute(path, compute)
        with suppress(OSError):  # Windows keeps a file that another process waits for
            lock.unlink()
        return _map(found, lambda tensor: tensor.to(device))

    def _read_or_compute(self, path, compute):
        try:
            return _read(path)  # another process was first
        except FileNotFoundError:
            pass
        except ValueError as error:
            warnings.warn(f"{error}; computed again", stacklevel=3)
        _write(_map(compute(), _packed), path)
        return _read(path)

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(path.stat().st_size for path in self.folder.glob("*.pt"))

    def clear(self) -> None:
        """Remove all entries, and what interrupted processes left."""
        for suffix in ("pt", "part", "lock"):
            for path in self.folder.glob(f"*.{suffix}"):
                path.unlink(missing_ok=True)


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


def _write(value, path: Path) -> None:
    partial = path.with_suffix(".part")
    torch.save(value, partial)
    os.replace(partial, path)


def _read(path: Path):
    with open(path, "rb") as file:
        try:
            damaged = ZipFile(file).testzip()
            if damaged:
                raise ValueError(f"wrong checksum of {damaged}")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # a damaged file can make the reader raise nearly anything
            raise ValueError(f"{path}: cut short or damaged ({error})") from error
