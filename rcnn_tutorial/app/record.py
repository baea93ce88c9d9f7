"""The record of a run in its folder: every step as a row, the best weights, curves, own detections, the results."""

import csv
import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

from rcnn_tutorial.app.console import duration, write_json
from rcnn_tutorial.app.curves import draw_curves, draw_detections
from rcnn_tutorial.app.reading import evenly
from rcnn_tutorial.app.run_folder import BEST
from rcnn_tutorial.data.wrappers import length
from rcnn_tutorial.evaluation import coco_ap, predict, voc_ap
from rcnn_tutorial.training import History

MEASURED = 150  # pictures of an evaluation during a training; the last one takes them all
NUMBERS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")  # of an evaluation during a training
Measured = tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]


class Record:
    """What is written while a training goes on: `evaluate` and `log` are for `train`.

    Args:
        folder: of the run.
        validation: the pictures that decide which weights are the best.
        classes: names, background first.
        options: `batch_size` and `workers` of the evaluations.
        evaluations: those of the run so far, where it goes on.
    """

    def __init__(
        self,
        folder: Path,
        validation: Dataset,
        classes: Sequence[str],
        options: dict[str, int],
        evaluations: Sequence[dict] = (),
    ):
        self.folder, self.classes, self.options = folder, classes, options
        self.validation = evenly(validation, MEASURED)
        self.best = max((rank(entry) for entry in evaluations), default=-2.0)
        self.rows: int | None = None  # how many steps history.csv has; None before it is written
        self.board: Any = None

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Measure a detector, and keep its weights where it is the best so far."""
        detections, targets = predict(model, self.validation, progress=False, **self.options)
        found = numbers(detections, targets, self.classes)
        if rank(found) > self.best:
            self.best = rank(found)
            save_whole(model, self.folder / BEST)
        return found

    def log(self, history: History) -> None:
        """Write the steps that are new to history.csv and to TensorBoard's file, and with an evaluation the curves."""
        first = self.rows or 0
        evaluated = {entry["step"]: entry for entry in history.evaluations}
        rows = [_row(history, i, evaluated.get(i + 1, {})) for i in range(first, history.steps)]
        _write_rows(self.folder / "history.csv", rows, history, anew=self.rows is None)
        self._tell_board(rows)
        if any(step > first for step in evaluated):
            draw_curves(history, self.folder / "curves.png")
        self.rows = history.steps

    def _tell_board(self, rows: Sequence[dict]) -> None:
        if self.rows is None:
            self.board = _board(self.folder / "tensorboard")
        for row in rows if self.board else ():
            for name, value in row.items():
                if name != "step" and value != "":
                    self.board.add_scalar(_board_name(name), value, row["step"])

    def close(self) -> None:
        """Let TensorBoard's file be complete."""
        if self.board:
            self.board.close()


def rank(evaluation: dict) -> float:
    """By what number two evaluations are compared: AP of the masks where there is one, else of the boxes.

    An evaluation without an object to find is worse than any other.
    """
    value = evaluation.get("mask_AP", evaluation["AP"])
    return value if value == value else -1.0


def numbers(detections: list, targets: list, classes: Sequence[str]) -> dict[str, float]:
    """COCO's AP and its kin as plain numbers; of masks with "mask_" before their names."""
    boxes = coco_ap(detections, targets, classes)
    found = {name: boxes[name] for name in NUMBERS}
    if detections and "masks" in detections[0]:
        masks = coco_ap(detections, targets, classes, kind="segm")
        found |= {f"mask_{name}": masks[name] for name in NUMBERS}
    return found


def save_whole(model: Any, path: Path) -> None:
    """Write a detector, such that `path` is a whole file at any moment, the old or the new one."""
    beside = path.with_suffix(".part")
    try:
        model.save(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def conclude(
    folder: Path, model: nn.Module, validation: Dataset, history: History, options: dict[str, int], progress: bool
) -> dict[str, Any]:
    """Measure the best weights on all pictures of the validation, and write results.json and validation.jpg.

    Args:
        folder: of the run.
        model: with the best weights.
        validation: of (image, target).
        history: of the training.
        options: `batch_size` and `workers`.
        progress: show a bar.
    Returns:
        The content of results.json.
    """
    start = perf_counter()
    detections, targets = predict(model, validation, progress=progress, **options)
    classes: Any = model.classes
    voc = voc_ap(detections, targets, classes)
    results: dict[str, Any] = {
        "split": "val",
        "pictures": length(validation),
        "classes": list(classes[1:]),
        "steps": history.steps,
        "boxes": coco_ap(detections, targets, classes),
        "voc": {"mAP": voc.map, "per_class": voc.ap},
    }
    if detections and "masks" in detections[0]:
        results["masks"] = coco_ap(detections, targets, classes, kind="segm")
    results["seconds"] = {"training": sum(history.seconds), "evaluation": perf_counter() - start}
    write_json(results, folder / "results.json")
    draw_detections(model, validation, folder / "validation.jpg")
    return results


def _row(history: History, step: int, evaluation: dict) -> dict[str, float | str]:
    """One step as a row: the losses, their sum, the rate, the seconds, and what an evaluation after it found."""
    losses = {name: values[step] for name, values in history.losses.items()}
    row = {"step": step + 1, "total": sum(losses.values())} | losses
    row |= {"lr": history.lr[step], "seconds": history.seconds[step]}
    found = {name: value for name, value in evaluation.items() if name != "step"}
    return row | {name: "" if value != value else value for name, value in found.items()}


def _columns(history: History) -> list[str]:
    measured = list(NUMBERS)
    if any("mask_AP" in entry for entry in history.evaluations) or "mask" in history.losses:
        measured += [f"mask_{name}" for name in NUMBERS]
    return ["step", "total", *history.losses, "lr", "seconds", *measured]


def _write_rows(path: Path, rows: Sequence[dict], history: History, anew: bool) -> None:
    with open(path, "w" if anew else "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _columns(history), restval="")
        if anew:
            writer.writeheader()
        writer.writerows(rows)


def _board(folder: Path) -> Any:
    """TensorBoard's writer where TensorBoard is installed; a run that goes on writes its events anew."""
    with suppress(ImportError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that it imports
        from torch.utils.tensorboard import SummaryWriter

        for old in folder.glob("events.*"):
            old.unlink()
        return SummaryWriter(str(folder))
    return None


def _board_name(column: str) -> str:
    """Where TensorBoard shows a column: losses in one group, what is measured in another."""
    if column in ("lr", "seconds"):
        return column
    group = "validation" if column.removeprefix("mask_") in NUMBERS else "loss"
    return f"{group}/{column}"


def summary(results: dict[str, Any], folder: Path) -> list[str]:
    """Say in a few lines what the best weights of a run reach.

    Args:
        results: the content of results.json.
        folder: of the run.
    """
    boxes, count = results["boxes"], results["pictures"]
    lines = [f"AP {boxes['AP']:.3f}, AP50 {boxes['AP50']:.3f} on {count} validation pictures, of the best weights."]
    if "masks" in results:
        lines.append(f"Of the masks: AP {results['masks']['AP']:.3f}, AP50 {results['masks']['AP50']:.3f}.")
    classes = boxes["per_class"]
    if len(classes) > 1:
        shown = [f"{name} {found['AP50']:.2f}" for name, found in list(classes.items())[:10]]
        more = f" and {len(classes) - 10} more" if len(classes) > 10 else ""
        lines.append(f"AP50 by class: {', '.join(shown)}{more}.")
    seconds = results["seconds"]["training"]
    return [*lines, f"The training took {duration(seconds)}. All of it is in {folder}: look at validation.jpg there."]
