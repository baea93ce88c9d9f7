"""Say which trained weights there are, where they lie, and what is in a file of weights. The network is never asked."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "alexnet", "vgg16")
DETECTOR, CHECKPOINT, STATE = "a trained detector", "the checkpoint of a training", "a table of weights by name"
RECORDED = ("CNN + SVM + regression",)  # what a record with several stages calls the whole detector
WORDS = {"box_map": "AP", "mask_map": "mask AP", "acc@1": "top 1"}  # torchvision's names of published figures


@dataclass(frozen=True)
class Shipped:
    """A detector of the package, trained on the generated scenes.

    Attributes:
        name: for `load`, such as "fpn".
        path: of its file.
        size: of the file, bytes.
        classes: names, background first.
        ap, ap50: on the 500 test scenes, as they were measured after its training.
    """

    name: str
    path: Path
    size: int
    classes: tuple[str, ...]
    ap: float
    ap50: float


@dataclass(frozen=True)
class Offered:
    """Weights that torchvision offers and this package can take.

    Attributes:
        name: as torchvision has it, such as "ResNet50_Weights.IMAGENET1K_V2".
        kind: "detector" or "network" (that a detector starts from).
        size: of the file, bytes.
        published: what torchvision states, such as {"AP": 37.0}, in percent.
        url: where torchvision gets it.
        path: where torchvision looks for it first.
        there: whether the file is there already.
    """

    name: str
    kind: str
    size: int
    published: dict[str, float]
    url: str
    path: Path
    there: bool


@dataclass(frozen=True)
class Weights:
    """All weights that can be used; `print` shows them as a table.

    Attributes:
        shipped: with this package.
        offered: by torchvision.
        folder: torchvision's cache.
    """

    shipped: tuple[Shipped, ...]
    offered: tuple[Offered, ...]
    folder: Path

    def __str__(self) -> str:
        lines = ["Shipped with this package, trained on the generated scenes (AP on its 500 test scenes):", ""]
        lines += [f"  {w.name:12} {_megabytes(w.size)}  AP {w.ap:.3f}  AP50 {w.ap50:.3f}" for w in self.shipped]
        lines += [f"  They know {', '.join(self.shipped[0].classes[1:])}.", ""]
        titles = {"detector": "detectors, trained on COCO", "network": "networks to start from, trained on ImageNet"}
        for kind, title in titles.items():
            lines += [f"At torchvision, {title}:", ""]
            lines += [_line(offer) for offer in self.offered if offer.kind == kind]
            lines += [""]
        return "\n".join([*lines, *_without_network(self.folder)])


@dataclass(frozen=True)
class Contents:
    """What is in a file of weights; `print` shows it.

    Attributes:
        path: of the file.
        kind: a trained detector, the checkpoint of a training, or a table of weights by name.
        size: of the file, bytes.
        changed: when the file was written.
        numbers: how many weights there are.
        types: of the weights, such as ("float32",).
        detector: the detector's name; None where the file does not say it.
        classes: names, background first; empty where the file does not say them.
        network: what the detector was made of, in words.
        settings: of the detector, or of the training of a checkpoint.
        steps: of the training that a checkpoint was written after; None otherwise.
    """

    path: Path
    kind: str
    size: int
    changed: datetime
    numbers: int
    types: tuple[str, ...]
    detector: str | None = None
    classes: tuple[str, ...] = ()
    network: str | None = None
    settings: dict[str, Any] | None = None
    steps: int | None = None

    def __str__(self) -> str:
        written = self.changed.strftime("%Y-%m-%d %H:%M")
        lines = [f"{self.path}: {self.kind}, {_megabytes(self.size).strip()}, written {written}"]
        lines += [f"  detector: {self.detector}"] if self.detector else []
        lines += [f"  network: {self.network}"] if self.network else []
        lines += [f"  weights: {self.numbers:,} numbers, {', '.join(self.types)}"]
        lines += [f"  steps done: {self.steps}"] if self.steps is not None else []
        if self.classes:
            lines.append(f"  {len(self.classes) - 1} classes: {', '.join(self.classes[1:])}")
        if self.settings:
            lines += ["  settings:", *_settings(self.settings, 4)]
        return _printable("\n".join(lines))


def weights() -> Weights:
    """List all weights that can be used, and where they lie."""
    import torch

    return Weights(tuple(_shipped()), tuple(_offered()), Path(torch.hub.get_dir()) / "checkpoints")


def contents(file: str | os.PathLike) -> Contents:
    """Look into a file of weights without running anything that is in it.

    Args:
        file: what `save` or a training wrote, a training's folder, torchvision's weights, or a shipped detector's name.
    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is cut short, damaged, asks to run code, or holds something else.
    """
    from rcnn_tutorial.cache import read_archive

    path = _path(file)
    content, stat = read_archive(path, kind="a file of weights"), path.stat()
    try:
        facts = _facts(content)
        said = Contents(path=path, size=stat.st_size, changed=datetime.fromtimestamp(stat.st_mtime), **facts)
        str(said)  # what cannot be shown is refused here
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected a file of weights, but it holds something else") from error
    return said


def _path(file: str | os.PathLike) -> Path:
    from importlib import resources

    from rcnn_tutorial.app.run_folder import weights_in
    from rcnn_tutorial.detectors import DETECTORS

    path = Path(file)
    if isinstance(file, str) and file in DETECTORS:
        return Path(str(resources.files("rcnn_tutorial.weights") / f"{file}.pt"))
    if path.is_dir():
        return weights_in(path)
    if not path.is_file():
        raise FileNotFoundError(f"{file}: there is no such file, and no weights of that name; rcnn-tutorial weights "
                                "lists those that there are")  # fmt: skip
    return path


def _facts(content: Any) -> dict[str, Any]:
    """What a file says of itself, by the kinds that this package and torchvision write."""
    facts: dict[str, Any]
    if "detector" in content:
        table = content["weights"]
        facts = {"kind": DETECTOR, "detector": str(content["detector"]), "classes": _names(content["classes"])}
        facts |= {"network": _network(content["network"]), "settings": dict(content["settings"])}
    elif "identity" in content:
        table, identity = content["model"], content["identity"]
        facts = {"kind": CHECKPOINT, "classes": _names(identity["classes"]), "settings": dict(identity["settings"])}
        facts["steps"] = len(next(iter(content["history"]["losses"].values()), ()))
    else:
        table, facts = content, {"kind": STATE}
    values = list(table.values())
    facts["numbers"] = sum(value.numel() for value in values)
    facts["types"] = tuple(dict.fromkeys(str(value.dtype).removeprefix("torch.") for value in values))
    return facts


def _names(classes: Sequence[Any]) -> tuple[str, ...]:
    return tuple(str(name) for name in classes)


def _network(description: dict | None) -> str:
    if description is None:
        return "not described in the file; give one as load(path, net=...)"
    if "resnet" in description:
        return str(description["resnet"])
    return f"{len(description['layers'])} convolutions, the last of {description['layers'][-1]['channels']} channels"


def _settings(settings: dict[str, Any], indent: int) -> Iterator[str]:
    """A line for each setting, those of a part below its name."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield f"{' ' * indent}{name}:"
            yield from _settings(value, indent + 2)
        else:
            yield f"{' ' * indent}{name}: {value}"


def _printable(text: str) -> str:
    """Text without what would command a terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def _shipped() -> Iterator[Shipped]:
    """The package's detectors, in the order of the notebooks."""
    from rcnn_tutorial.course import records
    from rcnn_tutorial.detectors import DETECTORS
    from rcnn_tutorial.saving import read

    for name in DETECTORS:
        path, tested = _path(name), records.load(name)["test"]
        whole = next((tested[key] for key in RECORDED if key in tested), next(iter(tested.values())))
        yield Shipped(name, path, path.stat().st_size, _names(read(path)["classes"]), whole["AP"], whole["AP50"])


def _offered() -> Iterator[Offered]:
    """torchvision's weights for the detectors and the networks that this package takes."""
    import torch
    from torchvision.models import get_model_weights

    from rcnn_tutorial.compat import NAMED

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for kind, models in (("detector", [name.lower() for name in NAMED]), ("network", BACKBONES)):
        for model in models:
            for entry in get_model_weights(model):
                values = {key: value for figures in entry.meta["_metrics"].values() for key, value in figures.items()}
                published = {word: values[key] for key, word in WORDS.items() if values.get(key) == values.get(key)
                             and key in values}  # fmt: skip
                path = folder / entry.url.rsplit("/", 1)[-1]
                size = round(entry.meta["_file_size"] * 2**20)  # torchvision counts in 2^20 bytes
                if published:  # VGG16's weights without a last layer have none
                    yield Offered(str(entry), kind, size, published, entry.url, path, path.is_file())


def _line(offer: Offered) -> str:
    figures = ", ".join(f"{name} {value:.1f}" for name, value in offer.published.items())
    there = "  in the cache" if offer.there else ""
    return f"  {offer.name:42} {_megabytes(offer.size)}  {figures}{there}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:6.1f} MB"


def _without_network(folder: Path) -> list[str]:
    return [
        f"torchvision gets a file when it is first asked for, and keeps it in {folder}",
        "(the variable TORCH_HOME moves that folder). On a machine without a network, get the file elsewhere and put",
        "it there under its own name; rcnn-tutorial weights NAME says which file that is.",
    ]


def _about(offer: Offered) -> str:
    """What to know of weights at torchvision, and how to have them without a network."""
    figures = ", ".join(f"{name} {value:.1f}" for name, value in offer.published.items())
    lines = [f"{offer.name}: {_megabytes(offer.size).strip()}, published {figures}"]
    if offer.there:
        return "\n".join([*lines, f"  The file is there already: {offer.path}"])
    lines += [
        "  The file is not there yet. With a network torchvision gets it when it is first asked for.",
        f"  Without one, get this file elsewhere\n    {offer.url}\n  and put it here\n    {offer.path}",
    ]
    return "\n".join(lines)


def command(
    name: Annotated[
        str | None, typer.Argument(help="A file, the folder of a training, a shipped detector, or torchvision's name.")
    ] = None,
) -> None:
    """List the trained weights that there are, or say what is in one of them. Nothing is downloaded.

    For example: rcnn-tutorial weights runs/fpn/best.pt
    """
    if name is None:
        typer.echo(str(weights()))
        return
    offer = next((offer for offer in _offered() if offer.name == name), None)
    typer.echo(_about(offer) if offer else str(contents(name)))
