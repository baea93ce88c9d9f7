"""What a training is to be, where the command says little: sensible values for this machine and these pictures.

`decide` is the one place where they are chosen, and its docstring says how.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch.utils.data import Dataset

from rcnn_tutorial.app.fitting import fitting_size
from rcnn_tutorial.app.networks import RESNETS, settings_class, weights_of
from rcnn_tutorial.data.wrappers import length
from rcnn_tutorial.detectors import DETECTORS
from rcnn_tutorial.engine.checks import expect
from rcnn_tutorial.saving import settings_from
from rcnn_tutorial.training import TrainSettings

STAGED = ("rcnn", "sppnet")  # trained in stages by a method `fit` of their own
PROPOSED = ("fast_rcnn", *STAGED)  # read proposals that come with the pictures
EPOCHS = 12  # how often a training shows every picture, where nothing else is said
STEPS = {"tiny": (300, 3_000), "resnet": (500, 90_000)}  # least and most


@dataclass(frozen=True)
class Plan:
    """A training as it was decided. A run's folder keeps it, so that nobody states it twice.

    Attributes:
        data: "shapes", "bccd" or a path.
        detector: its name.
        backbone: "tiny" or the name of a residual network.
        settings: of the detector; with those of the training in it.
        pretrained: whether the backbone begins with trained weights.
        device: on which the training runs.
        augment: whether pictures are changed at random.
        on_error: what happens to pictures that cannot be read, "raise" or "skip".
        wanted: the classes that were asked for; None for all.
        recipe: name of the published result whose recipe is followed; it then says what data and network are.
        notes: full sentences that say what was decided.
    """

    data: str
    detector: str
    backbone: str
    settings: Any
    pretrained: bool = True
    device: str = "cpu"
    augment: bool = True
    on_error: str = "raise"
    wanted: tuple[str, ...] | None = None
    recipe: str | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def training(self) -> TrainSettings:
        """The settings of the training; of R-CNN and SPPnet those of the fine-tuning, their first stage."""
        return getattr(self.settings, _place(self.detector))

    def with_training(self, **changes: Any) -> "Plan":
        """Give the same plan with other settings of the training."""
        changed = replace(self.training, **changes)
        return replace(self, settings=replace(self.settings, **{_place(self.detector): changed}))

    @staticmethod
    def read(values: dict[str, Any]) -> "Plan":
        """Make a plan of the plain values that a run's folder keeps.

        Raises:
            ValueError: values that are none of a plan, or settings of another version of the detector.
        """
        try:
            values = {key: _restored(value) for key, value in values.items()}
            values["settings"] = settings_from(settings_class(values["detector"]), values["settings"])
            return Plan(**values)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"expected the settings of a training, got others ({error!r})") from error

    def values(self) -> dict[str, Any]:
        """Give the plan as plain values, which `read` reads."""
        return asdict(self)


def _place(detector: str) -> str:
    """The name of the setting that holds those of the training."""
    return "fine_tuning" if detector in STAGED else "training"


def _restored(value: Any) -> Any:
    """A value that was JSON: sequences are tuples, as settings have them."""
    if isinstance(value, dict):
        return {key: _restored(part) for key, part in value.items()}
    if isinstance(value, list):
        return tuple(_restored(part) for part in value)
    return math.inf if value == "inf" else value


@dataclass(frozen=True)
class Wishes:
    """What the user said of a training; None leaves the choice to `decide`."""

    data: str
    detector: str = "fpn"
    backbone: str | None = None
    paper: bool = False
    pretrained: bool = True
    steps: int | None = None
    epochs: int | None = None
    batch: int | None = None
    lr: float | None = None
    min_size: int | None = None
    device: str | None = None
    seed: int = 0
    workers: int | None = None
    classes: Sequence[str] | None = None
    augment: bool | None = None
    save_every: int | None = None
    on_error: str = "raise"
    recipe: str | None = None


def decide(wishes: Wishes, dataset: Dataset) -> Plan:
    """Decide what the user left open.

    - The device is a GPU that CUDA knows, else the CPU.
    - The backbone on a CPU is the laptop's, `tiny_net`. On a GPU, and with `paper`, it is a ResNet-50, unless its
      weights cannot be had and nobody asked for them.
    - The laptop's backbone has the settings of `tiny()`, and for pictures larger than the generated scenes the
      `min_size` that `fitting_size` gives. A ResNet has the paper's settings.
    - A mini-batch has the pictures that these settings say, but at most as many as there are; of a ResNet two on a
      CPU and four on a GPU. The learning rate follows the size of the mini-batch, in proportion.
    - The steps show every picture 12 times, but they are 300 at least and 3,000 at most, and with a ResNet 500 and
      90,000. R-CNN and SPPnet take the steps of their `tiny()`. With `paper` the steps are the paper's, as many as show
      as many pictures. Milestones and warm-up keep their places in proportion.
    - An evaluation comes six times in a training, and at most every 25 steps.

    Args:
        wishes: what the user said.
        dataset: the pictures to train on.
    Raises:
        ValueError: a wish that cannot be met; the message names it.
    """
    _check(wishes)
    device = chosen_device(wishes.device)
    backbone, notes = _backbone(wishes, device)
    kind, images = settings_class(wishes.detector), length(dataset)
    settings, training = _published(wishes, kind, backbone == "tiny" and not wishes.paper, device)
    batch = min(wishes.batch or training.batch_size, images)
    training = for_batch(training, batch)
    if wishes.steps or wishes.epochs or not wishes.paper:
        training = retimed(training, _steps(wishes, training, backbone, images))
    training = replace(
        training,
        lr=wishes.lr or training.lr,
        seed=wishes.seed,
        workers=wishes.workers if wishes.workers is not None else _workers(device),
        evaluate_every=max(25, math.ceil(training.steps / 6)),
        checkpoint_every=wishes.save_every or training.checkpoint_every,
    )
    changes: dict[str, Any] = {_place(wishes.detector): training}
    sides, said = _sides(wishes, settings, dataset, backbone == "tiny" and not wishes.paper)
    augment = wishes.detector not in STAGED if wishes.augment is None else wishes.augment
    return Plan(
        data=wishes.data,
        detector=wishes.detector,
        backbone=backbone,
        settings=replace(settings, **(changes | sides)),
        pretrained=wishes.pretrained,
        device=device,
        augment=augment,
        on_error=wishes.on_error,
        wanted=None if wishes.classes is None else tuple(wishes.classes),
        notes=(*notes, *said),
    )


def _check(wishes: Wishes) -> None:
    """Refuse wishes that no training can meet."""
    names = ("steps", "epochs", "batch", "lr", "min_size", "save_every")
    for name in names:
        value = getattr(wishes, name)
        expect(value is None or value > 0, name, "a number above 0", value)
    expect(wishes.detector in DETECTORS, "detector", f"one of {', '.join(DETECTORS)}", repr(wishes.detector))
    expect(wishes.steps is None or wishes.epochs is None, "steps", "either steps or epochs", "both")
    known = ("tiny", *RESNETS)
    expect(wishes.backbone in (None, *known), "backbone", f"one of {', '.join(known)}", repr(wishes.backbone))
    only_tiny = wishes.detector in PROPOSED
    if only_tiny and (wishes.paper or wishes.backbone not in (None, "tiny")):
        raise ValueError(
            f"{wishes.detector} is trained here on the backbone tiny alone: its paper has AlexNet, ZF or VGG16, which "
            "the recipes of the papers start from"
        )
    if wishes.detector in STAGED and wishes.augment:
        raise ValueError(f"{wishes.detector} keeps the features of each picture, and cannot learn from changing ones")
    if wishes.detector in STAGED and wishes.min_size:
        raise ValueError(f"min_size: {wishes.detector} cuts or resizes the pictures by its own rule and takes none")


def chosen_device(device: str | None) -> str:
    """Choose the device: what the user said, else a GPU that CUDA knows, else the CPU.

    Raises:
        ValueError: a device that torch does not know or that is not there.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device("cuda", int(device)) if device.isdigit() else torch.device(device)
    except RuntimeError as error:
        raise ValueError(f'device: expected "cpu", "cuda", "cuda:1" or a number, got {device!r}') from error
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device: {kind} is not there; this machine has {torch.cuda.device_count()} GPUs for CUDA")
    return str(kind)


def _backbone(wishes: Wishes, device: str) -> tuple[str, tuple[str, ...]]:
    """The backbone, and what is to be said of it."""
    if wishes.backbone:
        return wishes.backbone, ()
    if wishes.detector in PROPOSED or not (wishes.paper or device.startswith("cuda")):
        return "tiny", ()
    if wishes.paper or not wishes.pretrained:
        return "resnet50", ()
    try:
        weights_of("resnet50")
    except ValueError as error:
        return "tiny", (f"The backbone is the small one of the package, since there is no better one: {error}",)
    return "resnet50", ()


def _published(wishes: Wishes, kind: Any, tiny: bool, device: str) -> tuple[Any, TrainSettings]:
    """The settings as published, of the laptop or of the paper, and those of their training."""
    settings = kind.tiny() if tiny else kind()
    training = getattr(settings, _place(wishes.detector))
    if not tiny:
        training = for_batch(training, wishes.batch or (4 if device.startswith("cuda") else 2))
        if not wishes.paper:  # a short training needs a careful begin
            training = replace(training, warmup=training.steps // 10, clip_norm=10.0)
    return settings, training


def for_batch(training: TrainSettings, images: int) -> TrainSettings:
    """Give the same training with other mini-batches: the rate in proportion, the steps against it (FPN, section 5.1).

    Args:
        training: settings.
        images: of a mini-batch.
    """
    ratio = images / training.batch_size
    return retimed(replace(training, batch_size=images, lr=training.lr * ratio), max(1, round(training.steps / ratio)))


def retimed(training: TrainSettings, steps: int) -> TrainSettings:
    """Give the same training in other steps: the warm-up and the milestones keep their places in proportion."""
    ratio = steps / training.steps
    milestones = tuple(sorted({max(1, round(step * ratio)) for step in training.milestones}))
    return replace(training, steps=steps, warmup=min(steps, round(training.warmup * ratio)), milestones=milestones)


def _steps(wishes: Wishes, training: TrainSettings, backbone: str, images: int) -> int:
    """How many steps a training has that is not the paper's."""
    per_epoch = max(1, images // training.batch_size)
    if wishes.steps or wishes.epochs:
        return wishes.steps or (wishes.epochs or 1) * per_epoch
    if wishes.detector in STAGED:
        return training.steps
    least, most = STEPS["tiny" if backbone == "tiny" else "resnet"]
    return min(max(EPOCHS * per_epoch, least), most)


def _workers(device: str) -> int:
    """How many processes load pictures: none on a CPU, which has other things to do."""
    return min(4, (os.cpu_count() or 2) // 2) if device.startswith("cuda") else 0


def _sides(wishes: Wishes, settings: Any, dataset: Dataset, tiny: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The size of the input, where it is not that of the settings, and what is to be said of it."""
    if wishes.detector in STAGED:
        return {}, ()
    if wishes.min_size:
        ratio = 2.0 if tiny else settings.max_size / settings.min_size
        return {"min_size": wishes.min_size, "max_size": round(wishes.min_size * ratio)}, ()
    if not tiny or wishes.detector == "fast_rcnn":  # which has a size of its own
        return {}, ()
    largest = max(settings.rpn.scales if hasattr(settings, "rpn") else settings.scales)
    size = fitting_size(dataset, max(largest) if isinstance(largest, tuple) else largest)
    if size is None:
        return {}, ()
    said = f"The pictures are resized to a shorter side of {size} pixels, at which the small anchors fit their objects."
    return {"min_size": size, "max_size": 2 * size}, (said,)
