"""Measure a trained detector on a data set: how good it is, on what, how sure that is, and what it gets wrong."""

import json
import os
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.data import Dataset

    from rcnn_tutorial.app.measures import Report

RESULTS, DETECTIONS, WORST, CURVES = "results.json", "detections.json", "worst.jpg", "curves.png"


def evaluate(
    model: "nn.Module | str | os.PathLike",
    data: "Dataset | str | os.PathLike",
    split: str = "test",
    *,
    limit: int | None = None,
    device: "torch.device | str | None" = None,
    threshold: float = 0.5,
    batch_size: int = 4,
    folder: str | os.PathLike | None = None,
    on_error: str = "raise",
    progress: bool = True,
) -> "Report":
    """Let a detector detect in a data set, and measure what it found.

    Args:
        model: a detector, the file of one, the folder of a training, or the name of a shipped one.
        data: what `load_splits` reads, or a data set.
        split: "train", "val" or "test"; where there is no test, val is taken, and the report says so. Of a data set
            that is given it is only the name.
        limit: only the first so many pictures.
        device: where the detector computes; by default a GPU where there is one, and a detector that is given stays
            where it is.
        threshold: the least score of a detection that is looked for failures.
        batch_size: pictures at a time.
        folder: where results.json, detections.json (in COCO's form, for pycocotools), worst.jpg and curves.png go; None
            to write nothing.
        on_error: "raise" ends at a file that cannot be read, "skip" leaves it out and names it.
        progress: show a bar.
    Returns:
        The report; `print` shows it as a table.
    Raises:
        FileNotFoundError: no such detector or data set.
        ValueError: an unknown split, or classes of the detector that the data set does not have.
    """
    from torch.utils.data import Dataset

    from rcnn_tutorial.app.detect import PROPOSALS, model_of, needs_proposals
    from rcnn_tutorial.app.measures import measure
    from rcnn_tutorial.data.wrappers import check_classes, length
    from rcnn_tutorial.evaluation import predict

    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold: expected a score from 0 to 1, got {threshold}")
    detector, notes = model_of(model, device), ()
    with_masks = hasattr(detector, "mask_head")
    if isinstance(data, Dataset):
        dataset, title = data, type(data).__name__
    else:
        dataset, split, notes = _part(detector, data, split, with_masks, on_error)
        title = str(data)
    if folder is not None:  # now, and not after an hour
        Path(folder).mkdir(parents=True, exist_ok=True)
    if not length(dataset):
        raise ValueError(f"data: expected at least one picture in {title}, {split}, got none")
    watch, shown = _Watch(detector), dataset
    if needs_proposals(detector):
        from rcnn_tutorial.proposals.dataset import WithProposals

        dataset = WithProposals(dataset, top=PROPOSALS)
    with watch:
        detections, targets = predict(detector, dataset, batch_size, limit, progress)
    classes = check_classes(detector, dataset)
    if classes is None:
        raise ValueError("model, data: expected class names of one of them, as `classes`, the background first")
    report = measure(
        detections, targets, classes, threshold,
        model=model if isinstance(model, str) else _title(model), data=title, split=split, notes=notes,
        milliseconds=watch.milliseconds(), device=watch.device,
    )  # fmt: skip
    if folder is not None:
        write(report, shown, classes, Path(folder))
    return report


def write(report: "Report", dataset: "Dataset", classes: "tuple[str, ...]", folder: Path) -> None:
    """Write the files of a report.

    Args:
        report: of an evaluation.
        dataset: that was evaluated.
        classes: names, background first.
        folder: that is there.
    """
    from rcnn_tutorial.app.pages import draw_curves, draw_worst

    (folder / RESULTS).write_text(json.dumps(report.results(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / DETECTIONS).write_text(json.dumps(coco_results(report, dataset)), encoding="utf-8")
    if not draw_worst(report, dataset, classes, folder / WORST):
        (folder / WORST).unlink(missing_ok=True)  # that of an earlier report
    draw_curves(report, folder / CURVES)


def coco_results(report: "Report", dataset: Any) -> list[dict[str, Any]]:
    """Give the detections of a report in COCO's form of results, which pycocotools reads.

    Images have the ids that the data set knows them by, or else their places in it; a COCO data set's classes have the
    ids of its file, others their labels.
    """
    ids = getattr(dataset, "ids", range(len(report.detections)))
    categories = (0, *getattr(dataset, "category_ids", range(1, len(report.per_class) + 1)))
    rows = []
    for image_id, detected in zip(ids, report.detections, strict=False):  # `limit` leaves ids over
        columns = [detected[key].tolist() for key in ("boxes", "labels", "scores")]
        masks = detected.get("masks", [None] * len(columns[0]))
        for (x1, y1, x2, y2), label, score, code in zip(*columns, masks, strict=True):
            row = {"image_id": image_id, "category_id": categories[label], "bbox": [x1, y1, x2 - x1, y2 - y1]}
            row |= {"score": score} | ({"segmentation": _text(code)} if code is not None else {})
            rows.append(row)
    return rows


def _text(code: dict) -> dict:
    """A run length as JSON can hold it."""
    counts = code["counts"]
    return {"size": list(code["size"]), "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def _part(
    model: Any, data: str | os.PathLike, split: str, masks: bool, on_error: str
) -> tuple[Any, str, tuple[str, ...]]:
    """The part of a data set to measure on, with the model's classes; its name, and what the reader should know."""
    from rcnn_tutorial.data.splits import load_splits

    if split not in ("train", "val", "test"):
        raise ValueError(f'split: expected "train", "val" or "test", got {split!r}')
    try:
        splits = load_splits(data, masks=masks, on_error=on_error)
    except ValueError as error:
        if not masks or not str(error).startswith("masks:"):
            raise
        splits, masks = load_splits(data, on_error=on_error), False
    known, classes = splits.classes, tuple(getattr(model, "classes", None) or splits.classes)
    if classes != known:
        _check_known(classes, known, data)
        splits = load_splits(data, classes=classes[1:], masks=masks, on_error=on_error)
    notes = list(splits.notes)
    if split == "test" and splits.test is None:
        split = "val"
        notes.append("There are no pictures to test on, so those for validation are taken; a training that chose its "
                     "best weights by them looks better here than on new pictures.")  # fmt: skip
    return getattr(splits, split), split, tuple(notes)


def _check_known(of_model: tuple[str, ...], of_data: tuple[str, ...], data: str | os.PathLike) -> None:
    """Refuse a data set that lacks a class of the model: of it nothing could be measured."""
    lacking = [name for name in of_model if name not in of_data]
    if not lacking:
        return
    others = [name for name in of_data if name not in of_model]
    raise ValueError(
        f"{data} has no class {', '.join(lacking)}, which the detector knows"
        + (f"; it has {', '.join(others)}, which the detector does not know" if others else "")
        + f". Rename the classes in the data set, or train a detector on it: rcnn-tutorial train {data}"
    )


def _title(model: Any) -> str:
    return os.fspath(model) if isinstance(model, os.PathLike) else getattr(model, "name", type(model).__name__)


class _Watch:
    """Measures how long the calls of a model take; the first one, which is slower than the others, does not count."""

    def __init__(self, model: "nn.Module"):
        self.model, self.seconds, self.images, self.hooks = model, [], [], []
        self.parameter = next(model.parameters(), None)
        self.device = str(self.parameter.device) if self.parameter is not None else "cpu"

    def __enter__(self) -> "_Watch":
        def start(_module: Any, arguments: tuple) -> None:
            self.images.append(len(arguments[0]))
            self.seconds.append(-self._now())

        def stop(*_: Any) -> None:
            self.seconds[-1] += self._now()

        self.hooks = [self.model.register_forward_pre_hook(start), self.model.register_forward_hook(stop)]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _now(self) -> float:
        if self.parameter is not None and self.parameter.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.parameter.device)
        return perf_counter()

    def milliseconds(self) -> float:
        """For one image."""
        first = 1 if len(self.seconds) > 1 else 0
        return 1000 * sum(self.seconds[first:]) / sum(self.images[first:])


def command(
    weights: Annotated[str, typer.Argument(help="A file of weights, the folder of a training, or a shipped detector.")],
    data: Annotated[str, typer.Argument(help="shapes, bccd, or a folder or file of your own, as for train.")],
    split: Annotated[str, typer.Option(help="Which pictures: train, val or test.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures.")] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="The least score looked for failures.")] = 0.5,
    output: Annotated[Path | None, typer.Option(help="The folder for the files; by default a new one in runs.")] = None,
    results: Annotated[Path | None, typer.Option("--json", help="Write results.json under this name, too.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; by default the GPU if there is one.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 4,
    on_error: Annotated[str, typer.Option(help="What to do with a bad file: raise, or skip it and name it.")] = "raise",
) -> None:  # fmt: skip
    """Measure a detector: AP by class and size, VOC's mAP, intervals, time, and what it gets wrong.

    The files written are results.json, detections.json in COCO's form, worst.jpg with the pictures that have the most
    failures, and curves.png with precision against recall of each class.

    For example: rcnn-tutorial evaluate runs/fpn/best.pt path/to/folder
    """
    from rcnn_tutorial.app.run_folder import free_folder
    from rcnn_tutorial.app.trouble import in_memory

    folder = output or free_folder("evaluate")
    try:
        with in_memory(batch):
            report = evaluate(
                weights, data, split, limit=limit, device=device, threshold=threshold, batch_size=batch,
                folder=folder, on_error=on_error,
            )  # fmt: skip
    except BaseException:
        with suppress(OSError):  # one that holds something stays
            folder.rmdir()
        raise
    typer.echo(str(report))
    if results is not None:
        results.parent.mkdir(parents=True, exist_ok=True)
        results.write_text((folder / RESULTS).read_text(encoding="utf-8"), encoding="utf-8")
    names = [name for name in (RESULTS, DETECTIONS, WORST, CURVES) if (folder / name).exists()]
    typer.echo(f"\nThe files are in {folder}: {', '.join(names)}.")
