"""Write a trained FPN as a file that other programs run: an exported program of PyTorch, or ONNX.

All of its inference is exported, from the picture to the boxes, for one picture of one size at a time: the file holds
fixed shapes, and where the detector decides by what it sees how many boxes there are, the file has room for the most
(`app/fixed.py` says how). Other detectors are not exported: those with RoI pooling cut regions into bins by rounding,
and masks are pasted into a picture by the size of their box; both make shapes that depend on what was found.
"""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch
    from torch import nn

FORMATS = {"onnx": ".onnx", "exported": ".pt2"}  # what `to` may be, and how the file's name ends
PARTS = {"detector": ("boxes", "labels", "scores"), "network": ("logits", "offsets", "p2", "p3", "p4", "p5", "p6")}
MOST = 1e-2  # pixels and scores; rounding can exchange boxes of nearly equal scores, which is more
SIDES = 32, 8192  # the least and the largest side of a picture, pixels


@dataclass(frozen=True)
class Exported:
    """A file that other programs run; `print` says how.

    Attributes:
        path: of the file.
        to: "onnx" or "exported".
        part: "detector" or "network".
        size: height and width of its pictures, pixels.
        classes: names, background first.
        largest: how far its outputs are from the detector's, by name of the output, on a picture of noise.
    """

    path: Path
    to: str
    part: str
    size: tuple[int, int]
    classes: tuple[str, ...]
    largest: dict[str, float]

    def __str__(self) -> str:
        height, width = self.size
        megabytes = self.path.stat().st_size / 1e6
        lines = [f"{self.path}: {self.part} for pictures {height} pixels high and {width} wide, {megabytes:.1f} MB",
                 f"  takes image: (3, {height}, {width}) float32, RGB from 0 to 1",
                 f"  gives {', '.join(PARTS[self.part])}"]  # fmt: skip
        if self.part == "detector":
            lines += ["  boxes are x1, y1, x2, y2 in pixels of that picture, the best first; rows of score 0 are none",
                      f"  labels: {', '.join(f'{k} {name}' for k, name in enumerate(self.classes) if k)}"]  # fmt: skip
        if self.largest:
            most = max(self.largest.values())
            lines.append(f"  run once on noise, and compared with PyTorch: differs by at most {most:.1g}")
            if most > MOST:
                lines.append(
                    "  That is more than rounding. Compare both on pictures of your own before you rely on it."
                )
        return "\n".join(lines)


def export(
    model: "nn.Module | str | os.PathLike",
    to: str = "onnx",
    size: tuple[int, int] | None = None,
    path: str | os.PathLike | None = None,
    *,
    part: str = "detector",
) -> Exported:
    """Write an FPN's inference as a file, and run that file once to compare it with the detector.

    Args:
        model: an FPN, its file, the folder of its training, or "fpn".
        to: "onnx" (needs the packages onnx and onnxscript), or "exported" for `torch.export.load`.
        size: height and width of the pictures, pixels; by default those of the generated scenes, 192 and 256, for a
            detector that takes pictures as they are, and else its shortest side and four thirds of it.
        path: of the file; by default the model's name with the ending .onnx or .pt2, in the working directory.
        part: "detector", from the picture to the detections; or "network", from the picture to the logits and offsets
            of all anchors and to the maps, without anything that chooses boxes.
    Returns:
        What was written.
    Raises:
        ValueError: another detector, an unknown format or part, or a size out of bounds.
        RuntimeError: onnx or onnxscript is not installed.
    """
    import torch

    from rcnn_tutorial.app.detect import model_of
    from rcnn_tutorial.app.fixed import FixedFPN

    for name, value, known in (("to", to, FORMATS), ("part", part, PARTS)):
        if value not in known:
            raise ValueError(f"{name}: expected {' or '.join(known)}, got {value!r}")
    detector: Any = model_of(deepcopy(model), "cpu").eval()  # a detector that is given stays as it is
    if size is None:
        shorter = detector.settings.min_size or 192
        size = shorter, shorter * 4 // 3
    if not all(SIDES[0] <= side <= SIDES[1] for side in size):
        raise ValueError(f"size: expected height and width from {SIDES[0]} to {SIDES[1]} pixels, got {size}")
    path = Path(path) if path is not None else Path(f"{_stem(model, detector)}-{size[0]}x{size[1]}{FORMATS[to]}")
    fixed = FixedFPN(detector, size).eval()
    module = fixed if part == "detector" else fixed.network
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    facts = {"classes": list(detector.classes), "size": list(size), "part": part}
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), _quiet():
        expected = module(image)
        write = _write_onnx if to == "onnx" else _write_exported
        outputs = write(module, image, path, PARTS[part], facts)
    return Exported(path, to, part, size, tuple(detector.classes), _compared(expected, outputs, PARTS[part]))


def _stem(model: Any, detector: Any) -> str:
    """What the file is called without its ending: as the model's, or as the training's folder."""
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        return path.name if path.is_dir() else path.stem
    return detector.name


def _write_onnx(
    module: "nn.Module", image: "torch.Tensor", path: Path, names: tuple[str, ...], facts: dict[str, Any]
) -> "list[torch.Tensor] | None":
    """Write the file; where onnxruntime is installed, what it gives for the image."""
    import torch

    try:
        program = torch.onnx.export(
            module, (image,), dynamo=True, input_names=["image"], output_names=list(names), verbose=False
        )
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f"ONNX needs a package that is not installed. Get it by: pip install {error.name}"
        ) from error
    assert program is not None
    for key, value in facts.items():
        program.model.metadata_props[key] = json.dumps(value)
    program.save(str(path), external_data=False)
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return None
    outputs = onnxruntime.InferenceSession(str(path)).run(None, {"image": image.numpy()})
    return [torch.as_tensor(output) for output in outputs]


def _write_exported(
    module: "nn.Module", image: "torch.Tensor", path: Path, names: tuple[str, ...], facts: dict[str, Any]
) -> "list[torch.Tensor]":
    import torch

    torch.export.save(torch.export.export(module, (image,)), path, extra_files={"facts.json": json.dumps(facts)})
    return list(torch.export.load(path).module()(image))


def _compared(expected: Any, outputs: Any, names: tuple[str, ...]) -> dict[str, float]:
    """How far the outputs of the file are from the module's, by name; empty where the file was not run."""
    if outputs is None:
        return {}
    triples = zip(names, expected, outputs, strict=True)
    return {name: float((right.double() - got.double()).abs().max()) for name, right, got in triples}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters tell about themselves."""
    import logging

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _height_and_width(text: str | None) -> tuple[int, int] | None:
    """A size as the user writes it, such as 192x256."""
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise ValueError(f"--size: expected height and width such as 192x256, got {text!r}")
    return int(height), int(width)


def command(
    weights: Annotated[str, typer.Argument(help="A file of an FPN, the folder of its training, or fpn.")],
    to: Annotated[str, typer.Option(help="onnx, or exported for torch.export.load.")] = "onnx",
    size: Annotated[str | None, typer.Option(help="Height and width of the pictures, such as 192x256.")] = None,
    output: Annotated[Path | None, typer.Option(help="The file; by default named as the weights and the size.")] = None,
    part: Annotated[str, typer.Option(help="detector, or network: without what chooses boxes.")] = "detector",
) -> None:
    """Write an FPN as a file that other programs run, for one picture of one size at a time.

    The file is run once and compared with the detector. Other detectors than FPN cannot be exported.

    For example: rcnn-tutorial export runs/fpn/best.pt --to onnx --size 480x640
    """
    typer.echo(str(export(weights, to, _height_and_width(size), output, part=part)))
