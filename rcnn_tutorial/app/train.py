"""`rcnn-tutorial train`: a detector is trained on somebody's pictures, and all that is known of it lies in one folder.

`fit` begins a training and `resume` goes on with one; the command calls one of them. What takes long to import is
imported when they are called.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rcnn_tutorial.app.console import names_in

if TYPE_CHECKING:
    from rcnn_tutorial.app.runs import Fitted


def fit(
    data: str | os.PathLike,
    detector: str = "fpn",
    *,
    folder: str | os.PathLike | None = None,
    name: str | None = None,
    backbone: str | None = None,
    paper: bool = False,
    pretrained: bool = True,
    steps: int | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    min_size: int | None = None,
    device: str | None = None,
    seed: int = 0,
    workers: int | None = None,
    classes: Sequence[str] | None = None,
    augment: bool | None = None,
    save_every: int | None = None,
    on_error: str = "raise",
    recipe: str | None = None,
    progress: bool = True,
) -> "Fitted":
    """Train a detector on a data set, and keep all that is known of the training in one folder.

    What is left out is decided by `rcnn_tutorial.app.planning.decide`. Ctrl-C keeps what is reached, and `resume`
    goes on from there.

    Args:
        data: "shapes", "bccd", or a data set in one of the layouts that `load_splits` reads.
        detector: "rcnn", "sppnet", "fast_rcnn", "faster_rcnn", "fpn", "mask_rcnn" or "retinanet".
        folder: of the run; by default runs/NAME with the first number for which there is none.
        name: of the run; by default that of the detector.
        backbone: "tiny", or "resnet18" to "resnet152".
        paper: take the settings and steps of the paper, for mini-batches of this size.
        pretrained: begin with trained weights of the backbone.
        steps, epochs: length of the training; one of them.
        batch: pictures of a mini-batch.
        lr: learning rate.
        min_size: shorter side to which pictures are resized, pixels.
        device: such as "cpu" or "cuda:1".
        seed: of everything that is random.
        workers: processes that load pictures.
        classes: names of those that are wanted, in the order of their labels; by default all.
        augment: mirror, zoom and tint the pictures at random; by default for all but R-CNN and SPPnet.
        save_every: steps between two checkpoints; by default about two minutes, and at most 200 steps.
        on_error: "raise" ends at a file that cannot be read, "skip" leaves it out and names it.
        recipe: name of the published result whose recipe is followed; it says which detector, network and settings.
        progress: show a bar, and tell what is decided and what is reached.
    Returns:
        The folder, the detector with its best weights, and what it reaches on the validation pictures.
    Raises:
        KeyboardInterrupt: after Ctrl-C; the message says how to go on.
        ValueError: a folder that has a training already, wishes that cannot be met, or data that cannot be read.
        RuntimeError: a loss that is not finite, too little memory, or another training in the folder.
        OSError: a folder or disk that cannot be written.
    """
    from rcnn_tutorial.app.planning import Wishes
    from rcnn_tutorial.app.runs import begin

    known = str(Path(data).absolute()) if os.path.exists(data) else str(data)  # also for a run that goes on elsewhere
    wishes = Wishes(
        known, detector, backbone, paper, pretrained, steps, epochs, batch, lr, min_size, device, seed, workers,
        classes, augment, save_every, on_error, recipe,
    )  # fmt: skip
    return begin(wishes, folder, name, progress)


def resume(
    folder: str | os.PathLike,
    *,
    steps: int | None = None,
    device: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> "Fitted":
    """Go on with a training whose folder is given; all its settings come from there.

    Args:
        folder: of the run.
        steps: of the whole training, where it is to be longer or shorter. Where the rate falls as a cosine, it goes on
            as in a training of so many steps, and so rises first.
        device: where it is to run on another one.
        workers: processes that load pictures.
        progress: show a bar, and tell what is decided and what is reached.
    Returns:
        As `fit`.
    Raises:
        ValueError: a folder without a run, or a checkpoint that is damaged or of another training; else as `fit`.
    """
    from rcnn_tutorial.app.runs import go_on

    return go_on(folder, steps, device, workers, progress)


Data = Annotated[
    str | None,
    typer.Argument(
        metavar="[DATA]",
        help="shapes, bccd, or your own: a folder in PASCAL VOC's, COCO's or YOLO's layout, a COCO JSON file, a "
        "data.yaml, or a folder with labelImg's XML beside its pictures.",
    ),
]


HELP = (
    "Train a detector on your own pictures.\n\n"
    "For a first look: rcnn-tutorial train shapes. What you leave out is chosen for your machine and your pictures, "
    "and said.\n\n"
    "Everything goes to one folder, at first runs/fpn: settings, weights (best.pt), every step (history.csv), curves "
    "and detections as pictures, results.json. Ctrl-C stops a training and keeps what is reached; --resume goes on."
)


def command(
    context: typer.Context,
    data: Data = None,
    detector: Annotated[
        str, typer.Option(help="rcnn, sppnet, fast_rcnn, faster_rcnn, fpn, mask_rcnn or retinanet.")
    ] = "fpn",
    backbone: Annotated[
        str | None, typer.Option(help="tiny, or resnet18, 34, 50, 101, 152. (default: tiny; on a GPU resnet50)")
    ] = None,
    pretrained: Annotated[bool, typer.Option(help="Begin with trained weights of the backbone.")] = True,
    paper: Annotated[
        bool, typer.Option("--paper", help="The settings and steps of the paper, for this --batch.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(help="Length of the training. (default: by the number of pictures)")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Its length as passes over all pictures, in place of --steps.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures of a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. (default: in proportion to --batch)")] = None,
    min_size: Annotated[
        int | None,
        typer.Option(help="Shorter side to which pictures are resized. (default: by the sizes of the objects)"),
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Only these classes, as in: cat,dog")] = None,
    augment: Annotated[
        bool | None, typer.Option("--augment/--no-augment", help="Mirror, zoom and tint at random.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. (default: a GPU where there is one)")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that load pictures.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is random.")] = 0,
    name: Annotated[
        str | None, typer.Option(help="Of the run, whose folder is runs/NAME. (default: the detector's)")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Of the run, in place of runs/NAME.")] = None,
    resume_from: Annotated[
        Path | None,
        typer.Option("--resume", metavar="FOLDER", help="Go on with the run in this folder, all settings from there."),
    ] = None,
    save_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints. (default: about two minutes)")
    ] = None,
    on_error: Annotated[str, typer.Option(help="What to do with a bad file: raise, or skip it and name it.")] = "raise",
    recipe: Annotated[
        str | None, typer.Option(help="Follow the recipe of a published result; rcnn-tutorial recipes lists them.")
    ] = None,
) -> None:
    """Parse what the user typed, and begin a training or go on with one."""
    given = dict(context.params)
    os.environ.setdefault("MPLBACKEND", "Agg")  # pictures go to files, with or without a screen
    from rcnn_tutorial.engine.processes import join_processes

    if "LOCAL_RANK" in os.environ:  # torchrun started this process among others
        given["device"] = str(join_processes())
    given["classes"] = names_in(classes)
    try:
        if given.pop("resume_from") is not None:
            _resume(context, given)
        elif data is None:
            raise ValueError("DATA is missing: what to train on, such as shapes or a folder of yours; see --help")
        else:
            if recipe and "COMMANDLINE" in str(context.get_parameter_source("detector")):
                raise ValueError("--detector does not go with --recipe, which says it already")
            fit(**given)
    except KeyboardInterrupt as error:
        typer.echo(f"\n{error}" if str(error) else "\nStopped; nothing was begun.", err=True)
        raise typer.Exit(130) from None


def _resume(context: typer.Context, given: dict[str, Any]) -> None:
    """Go on with a run; what its folder says already is not to be said again."""
    folder, allowed = context.params["resume_from"], ("steps", "device", "workers")
    typed = [name for name in given if "COMMANDLINE" in str(context.get_parameter_source(name))]
    for name in typed:
        if name not in allowed:
            raise ValueError(
                f"--resume takes {name} from {folder}; beside it there may be --steps, --device and --workers alone"
            )
    resume(folder, **{name: given[name] for name in allowed})
