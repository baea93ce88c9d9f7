"""Small trained weights that are part of the package, made by data_scripts/train_*.py and kept in half precision."""

import io
import os
import zipfile
from importlib import resources

import torch
from torch import Tensor


def load_weights(name: str) -> dict[str, Tensor]:
    """Load a state dict of the package, its floating-point numbers as float32.

    Args:
        name: "backbone", or that of a detector.
    Raises:
        ValueError: no such weights.
    """
    file = resources.files(__name__) / f"{name}.pt"
    if not file.is_file():
        raise ValueError(f"name: no weights {name!r} in the package")
    with file.open("rb") as stream:
        content = torch.load(stream, map_location="cpu", weights_only=True)
    state = content.get("weights", content)  # those of a detector lie beside its settings
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def save_weights(state: dict[str, Tensor], path: str | os.PathLike) -> None:
    """Write a state dict as `load_weights` and torch.load read it: floating-point numbers in half precision, packed."""
    pack(halved(state), path)


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with its floating-point numbers in half precision."""
    return {key: value.half() if value.is_floating_point() else value for key, value in state.items()}


def pack(content: dict, path: str | os.PathLike) -> None:
    """torch.save, compressed: torch.save packs nothing, torch.load unpacks; 8 % less."""
    plain = io.BytesIO()
    torch.save(content, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for entry in source.infolist():
            packed.writestr(entry.filename, source.read(entry))
