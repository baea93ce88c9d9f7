"""The command `rcnn-tutorial detect`."""

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rcnn_tutorial.app.console import names_in

if TYPE_CHECKING:
    from rcnn_tutorial.evaluation.detected import Detected

Weights = Annotated[
    str, typer.Argument(help="The file of a detector, the folder of a training, or a shipped one: fpn, mask_rcnn, ...")
]
Pictures = Annotated[
    list[str], typer.Argument(help='Pictures, videos, folders with their subfolders, or patterns such as "*.jpg".')
]
Threshold = Annotated[float, typer.Option(help="The least score of a detection that counts, from 0 to 1.")]
Output = Annotated[
    Path | None, typer.Option(help="Where the results go; by default runs/detect, then runs/detect2, ...")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Where the JSON goes, if not into the folder.")]
CsvFile = Annotated[Path | None, typer.Option("--csv", help="Where the CSV goes, if not into the folder.")]
Instances = Annotated[
    Path | None,
    typer.Option(
        "--coco-results",
        metavar="INSTANCES.json",
        help="Write the JSON as COCO's list of results, with the ids that this file gives to pictures and classes.",
    ),
]
Classes = Annotated[str | None, typer.Option(help="Only these classes, with commas between them: cat,dog.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; by default the GPU if there is one.")]
Batch = Annotated[int, typer.Option(help="Pictures at a time; on a GPU more are faster.")]
Every = Annotated[int, typer.Option(help="Of a video, look at one frame in so many.")]
Draw = Annotated[bool, typer.Option("--pictures/--no-pictures", help="Draw the detections.")]
ShowLabels = Annotated[bool, typer.Option("--show-labels/--hide-labels", help="Write the classes into the pictures.")]
ShowScores = Annotated[bool, typer.Option("--show-scores/--hide-scores", help="Write the scores into the pictures.")]


def command(
    weights: Weights,
    pictures: Pictures,
    threshold: Threshold = 0.5,
    output: Output = None,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    coco_results: Instances = None,
    classes: Classes = None,
    device: Device = None,
    batch: Batch = 1,
    every: Every = 1,
    draw: Draw = True,
    show_labels: ShowLabels = True,
    show_scores: ShowScores = True,
) -> None:
    """Find the objects in your pictures and videos.

    It writes pictures with boxes, names and scores, a detections.json in COCO's form, and a detections.csv.

    For example: rcnn-tutorial detect runs/fpn photos
    """
    from rcnn_tutorial.app.detect import PROPOSALS, model_of, needs_proposals
    from rcnn_tutorial.app.detect_folder import detect_into
    from rcnn_tutorial.app.trouble import in_memory
    from rcnn_tutorial.data.videos import can_write

    model = model_of(weights, device)
    if needs_proposals(model):
        typer.echo(
            f"This detector is given {PROPOSALS} proposals of selective search for each picture, which takes long."
        )
    start = time.perf_counter()
    with in_memory(batch):
        results = detect_into(
            output,
            model,
            pictures,
            threshold,
            batch=batch,
            classes=names_in(classes),
            every=every,
            draw=draw,
            names=show_labels,
            scores=show_scores,
            json_file=json_file,
            csv_file=csv_file,
            instances=coco_results,
            progress=sys.stderr.isatty(),
        )
    seconds, looked = time.perf_counter() - start, len(results.detected)
    typer.echo(table(results.detected))
    if not any(map(len, results.detected)):
        lower = threshold / 5
        typer.echo(f"Nothing scored {threshold:g} or more. Try --threshold {lower:g}, or train for longer.")
    typer.echo(f"{_several(looked, 'picture')} in {seconds:.1f} s, {1000 * seconds / max(looked, 1):.0f} ms each.")
    if results.skipped:
        typer.echo(f"{_several(len(results.skipped), 'file')} could not be read and left out.")
    if draw and not can_write() and any(one.frame is not None for one in results.detected):
        typer.echo("No video was drawn, because OpenCV writes it: pip install opencv-python")
    if results.drawn:
        typer.echo(f"Drawn: {results.folder}")
    typer.echo(f"Detections: {results.json}, {results.csv}")
    if coco_results is not None and threshold > 0.05:
        typer.echo("COCO's AP counts detections of low scores, too. For the AP, add --threshold 0.")
    if results.interrupted:
        typer.echo("Interrupted: the files hold what was found so far.")
        raise typer.Exit(130)


def table(detected: "list[Detected]") -> str:
    """Count the detections by class: how many, in how many pictures, and their mean score."""
    objects, pictures, scores = Counter(), Counter(), Counter()
    for one in detected:
        objects.update(one.names)
        pictures.update(set(one.names))
        for name, score in zip(one.names, one.scores.tolist(), strict=True):
            scores[name] += score
    lines = [("class", "objects", "pictures", "mean score")]
    lines += [(name, str(n), str(pictures[name]), f"{scores[name] / n:.2f}") for name, n in objects.most_common()]
    lines += [("all", str(objects.total()), str(sum(len(one) > 0 for one in detected)), "")]
    wide = max(len(line[0]) for line in lines)
    return "\n".join(f"{a:<{wide}}  {b:>7}  {c:>8}  {d:>10}".rstrip() for a, b, c, d in lines)


def _several(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
