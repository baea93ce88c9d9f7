"""`rcnn-tutorial data`: look at a data set, write it in another layout, get a public one."""

import json
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rcnn_tutorial.app.console import names_in

if TYPE_CHECKING:
    from rcnn_tutorial.data.report import Report

commands = typer.Typer(help="Check, convert or fetch a data set.", no_args_is_help=True)
DATA_HELP = (
    "shapes, bccd, a folder in VOC's, COCO's or YOLO's layout, a COCO JSON file, a data.yaml, or a folder of pictures "
    "with labelImg's XML."
)
CLASSES_HELP = "Only these classes, with commas between: cat,dog."


def check(
    data: str | PathLike,
    *,
    classes: Sequence[str] | None = None,
    json_file: str | PathLike | None = None,
    pictures: str | PathLike | None = None,
) -> "Report":
    """Look through a data set before something is trained on it.

    Args:
        data: as `load_splits` takes it.
        classes: the names that are wanted; by default all.
        json_file: gets the report as JSON.
        pictures: a .jpg or .png file, gets a page of pictures with their boxes, those with findings first.
    Returns:
        Counts by split, class and size, the files that cannot be read, and what looks like a mistake.
    Raises:
        FileNotFoundError, ValueError: as `load_splits`; bad files are no error here, but part of the report.
    """
    from tqdm import tqdm

    from rcnn_tutorial.data.report import examine
    from rcnn_tutorial.data.splits import load_splits

    splits = load_splits(data, classes=classes, on_error="skip")
    parts = splits.parts()
    total = sum(len(part) for part in parts.values())
    with tqdm(total=total, desc="pictures", unit="picture", disable=None, leave=False) as bar:
        report = examine(splits, bar.update)
    if json_file is not None:
        Path(json_file).write_text(json.dumps(report.as_json(parts), indent=2) + "\n", encoding="utf-8")
    if pictures is not None:
        import matplotlib.pyplot as plt

        from rcnn_tutorial.app.data_check import sheet
        from rcnn_tutorial.course import draw

        with plt.rc_context():
            draw.setup()
            figure = sheet(report, parts)
            figure.savefig(pictures)
            plt.close(figure)
    return report


def convert(
    data: str | PathLike,
    out: str | PathLike,
    layout: str,
    *,
    classes: Sequence[str] | None = None,
    link: bool = False,
    masks: bool | None = None,
    on_error: str = "raise",
) -> tuple[str, ...]:
    """Write a data set in another layout, with all its splits.

    Args:
        data: as `load_splits` takes it.
        out: folder to write; it must be new or empty.
        layout: "voc", "coco" or "yolo".
        classes: the names that are wanted, in the order that they get; by default all.
        link: whether pictures become links to those that are there, and not copies.
        masks: whether masks are kept; by default where all pictures have them.
        on_error: "raise" refuses a data set with bad files, naming them; "skip" leaves them out.
    Returns:
        Sentences on how the data set was read, and on what the layout could not hold.
    Raises:
        FileNotFoundError, ValueError: as `load_splits`, or a folder that is not empty.
    """
    from tqdm import tqdm

    from rcnn_tutorial.data import convert as conversion
    from rcnn_tutorial.data.splits import load_splits

    splits = load_splits(data, classes=classes, on_error=on_error, masks=bool(masks))
    notes = list(splits.notes)
    if masks is None and splits.train.segmentations(0) is None:
        try:
            masked = load_splits(data, classes=classes, on_error=on_error, masks=True)
        except ValueError:  # there are none, or not for all objects
            masked = None
        counts = [sum(len(part) for part in found.parts().values()) for found in (splits, masked) if found]
        if masked and len(set(counts)) == 1:
            splits = masked
        elif masked:
            notes.append(f"{counts[1]} of {counts[0]} pictures have masks, so masks are left out; --masks takes those.")
    total = sum(len(part) for part in splits.parts().values())
    with tqdm(total=total, desc="pictures", unit="picture", disable=None, leave=False) as bar:
        return *notes, *conversion.convert(
            splits, out, layout, link=link, masks=masks is not False, progress=bar.update
        )


@commands.command("check")
def _check(
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report to this JSON file, too.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Write the page of pictures here; by default NAME-check.jpg, in this folder.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help=CLASSES_HELP)] = None,
) -> None:
    """Say what is in a data set, and what in it looks like a mistake.

    Counts pictures and objects by split, class and size, lists files that cannot be read, and looks for pictures that
    are there twice or in two splits, for objects that are marked twice, for boxes that are no objects, and for class
    names that are misspelt. Ends with status 1 where a file cannot be read.
    """
    import matplotlib

    from rcnn_tutorial.app.data_check import as_text

    matplotlib.use("agg")
    page = pictures or Path(f"{Path(data).resolve().stem}-check.jpg")
    report = check(data, classes=names_in(classes or None), json_file=json_file, pictures=page)
    typer.echo(as_text(report))
    typer.echo(f"\nThe page of pictures is {page}." + (f" The report is {json_file}." if json_file else ""))
    if report.bad_files:
        raise typer.Exit(1)


class Layout(StrEnum):
    """What `data convert` writes."""

    VOC = "voc"
    COCO = "coco"
    YOLO = "yolo"


@commands.command("convert")
def _convert(
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write, new or empty.")],
    to: Annotated[Layout, typer.Option("--to", help="The layout to write.")],
    link: Annotated[bool, typer.Option("--link", help="Link to the pictures instead of copying them.")] = False,
    masks: Annotated[
        bool | None, typer.Option("--masks/--no-masks", help="Keep masks; by default where all pictures have them.")
    ] = None,
    on_error: Annotated[str, typer.Option(help="What to do with a bad file: raise, or skip it and name it.")] = "raise",
    classes: Annotated[str | None, typer.Option(help=CLASSES_HELP)] = None,
) -> None:
    """Write a data set in another layout: VOC's, COCO's or YOLO's.

    All splits are written, and boxes as exactly as the layout can hold them. What it cannot hold is said.
    """
    for note in convert(
        data, out, to.value, classes=names_in(classes or None), link=link, masks=masks, on_error=on_error
    ):
        typer.echo(note)
    typer.echo(f"The data set is in {out}. Train on it by: rcnn-tutorial train {out}")


def fetch(name: str, *, local: str | PathLike | None = None, root: str | PathLike | None = None) -> Path:
    """Get a public data set, verified, so that it can be used by its name.

    Args:
        name: "voc2007", "voc2012", "coco2017", "penn-fudan" or "bccd".
        local: an archive, a folder of archives, or a folder of the unpacked data set, to take in place of the download.
        root: folder of all data sets; by default what RCNN_TUTORIAL_DATA says, or a folder in the user's cache.
    Returns:
        The folder of the data set.
    Raises:
        ValueError, OSError: as `rcnn_tutorial.data.fetch.fetch_dataset`.
    """
    from rcnn_tutorial.data.fetch import fetch_dataset

    return fetch_dataset(name, root, local, partial(typer.echo, err=True))


class Public(StrEnum):
    """What `data fetch` gets."""

    VOC2007 = "voc2007"
    VOC2012 = "voc2012"
    COCO2017 = "coco2017"
    PENN_FUDAN = "penn-fudan"
    BCCD = "bccd"


@commands.command("fetch")
def _fetch(
    name: Annotated[Public, typer.Argument(metavar="NAME", help="voc2007, voc2012, coco2017, penn-fudan or bccd.")],
    local: Annotated[
        Path | None,
        typer.Option("--from", metavar="PATH", help="Take this archive or folder in place of the download."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="The folder of all data sets; by default RCNN_TUTORIAL_DATA, or your cache.")
    ] = None,
) -> None:
    """Get a public data set, which the other commands then know by its name.

    Sizes: voc2007 0.9 GB, voc2012 2 GB, coco2017 20 GB, penn-fudan 54 MB, bccd 8 MB; twice as much is needed while it
    is unpacked. An interrupted download goes on where it stopped. Every archive is verified before it is unpacked.
    """
    folder = fetch(name.value, local=local, root=root)
    data = name.value if root is None else folder
    typer.echo(f"{name.value} is in {folder}. Train on it by: rcnn-tutorial train {data}")
