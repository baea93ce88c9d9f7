"""A run: a training with its folder, from its beginning or from where it was left, to its results."""

import os
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from rcnn_tutorial.app.checkpoints import history_of, stretch
from rcnn_tutorial.app.console import Say, silent, write_json
from rcnn_tutorial.app.cost import announcement, step_cost, warning
from rcnn_tutorial.app.curves import draw_curves
from rcnn_tutorial.app.following import follow
from rcnn_tutorial.app.networks import new_detector
from rcnn_tutorial.app.planning import STAGED, Plan, Wishes, chosen_device, decide
from rcnn_tutorial.app.reading import data_fingerprint, prepared
from rcnn_tutorial.app.recipes import recipe_named
from rcnn_tutorial.app.record import Record, conclude, save_whole, summary
from rcnn_tutorial.app.run_folder import (
    BEST,
    LAST,
    SETTINGS,
    free_folder,
    has_run,
    locked,
    named_folder,
    read_settings,
    surroundings,
)
from rcnn_tutorial.app.trouble import LastBatch, advised, check_space, keep_batch, mended
from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.data.splits import Splits, load_splits
from rcnn_tutorial.detectors import load
from rcnn_tutorial.engine.processes import gathered, process_rank
from rcnn_tutorial.engine.training import NotFiniteError
from rcnn_tutorial.training import History, train


@dataclass(frozen=True)
class Fitted:
    """A training that has come to its end.

    Attributes:
        folder: of the run, with all that is known of it.
        model: with the best weights, ready to detect.
        history: of every step.
        results: the content of results.json: COCO's numbers, VOC's, per class.
        next_commands: what one would type next.
    """

    folder: Path
    model: nn.Module
    history: History
    results: dict[str, Any]
    next_commands: tuple[str, ...]


def begin(wishes: Wishes, folder: str | os.PathLike | None, name: str | None, progress: bool) -> Fitted:
    """Begin a training: what `fit` does, whose arguments are the wishes."""
    if folder is None and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)):
        raise ValueError("torchrun --max-restarts needs --folder, in which the training goes on after a restart")
    if folder is not None and has_run(Path(folder)) and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)):
        # torchrun begins anew after a process has died; each process still has a GPU of its own
        return go_on(folder, device=wishes.device, progress=progress)
    if folder is not None and process_rank()[0] == 0:
        _own(folder)  # is refused before anything takes time
    gathered(None)  # the folder is there before another process looks into it
    splits = _read(wishes.data, wishes.detector, wishes.classes, wishes.on_error, wishes.recipe)
    plan = follow(recipe_named(wishes.recipe), wishes, splits.train) if wishes.recipe else decide(wishes, splits.train)
    model = _new_model(plan, splits)
    path = Path(folder) if folder is not None else gathered(_free(name or plan.detector))[0]
    return _run(plan, splits, model, path, progress, measured=wishes.save_every is None)


def go_on(
    folder: str | os.PathLike,
    steps: int | None = None,
    device: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Fitted:
    """Go on with a training: what `resume` does, with its arguments."""
    path = Path(folder)
    settings = read_settings(path)
    try:
        plan = Plan.read(settings["plan"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path / SETTINGS}: {error}") from error
    chosen = plan.device if device is None else chosen_device(device)
    plan = replace(plan, device=chosen, notes=())
    if workers is not None:
        plan = plan.with_training(workers=workers)
    splits = _read(plan.data, plan.detector, plan.wanted, plan.on_error, plan.recipe)
    if steps is not None and steps < (done := history_of(path).steps):
        raise ValueError(f"steps: {path} has {done} steps already, so there can be no fewer of them, got {steps}")
    if steps is not None and steps != plan.training.steps:
        plan = plan.with_training(steps=steps)
    if settings.get("fingerprint", {}).get("train") != data_fingerprint(splits.train):
        said = f"The pictures or annotations of {plan.data} have changed since this training began."
        plan = replace(plan, notes=(said,))
    return _run(plan, splits, _new_model(plan, splits), path, progress, begun=settings)


def _read(data: str, detector: str, classes: Sequence[str] | None, on_error: str, recipe: str | None = None) -> Splits:
    """Read the data; where its folder cannot be written, say which variable names another."""
    try:
        if recipe is not None:
            return recipe_named(recipe).splits_of(data)
        return load_splits(data, classes=classes, on_error=on_error, masks=detector == "mask_rcnn")
    except ValueError as error:
        if detector == "mask_rcnn" and str(error).startswith("masks"):
            raise ValueError(
                f"Mask R-CNN learns from masks, which {data} does not have ({error}). Detectors of boxes learn from "
                "it: --detector fpn"
            ) from error
        raise
    except OSError as error:
        raise mended(error, Path("runs")) from error


def _new_model(plan: Plan, splits: Splits) -> nn.Module:
    if plan.recipe is not None:
        recipe = replace(recipe_named(plan.recipe), settings=plan.settings)
        model = recipe.build(splits.classes, plan.pretrained, seed=plan.training.seed)
    else:
        model = new_detector(
            plan.detector, plan.backbone, splits.classes, plan.settings, plan.pretrained, plan.training.seed
        )
    return model.to(plan.device)


def _own(folder: str | os.PathLike) -> Path:
    """The folder that the user chose, once it is there."""
    try:
        return named_folder(folder)
    except OSError as error:
        raise mended(error, Path(folder)) from error


def _free(name: str) -> Path | None:
    """The folder of a new run, which the first process makes for all."""
    try:
        return free_folder(name) if process_rank()[0] == 0 else None
    except OSError as error:
        raise mended(error, Path("runs")) from error


def _run(
    plan: Plan,
    splits: Splits,
    model: nn.Module,
    folder: Path,
    progress: bool,
    measured: bool = False,
    begun: dict[str, Any] | None = None,
) -> Fitted:
    """Train in a folder that is this run's own, from its beginning or from its checkpoint."""
    try:
        with advised(folder, plan), locked(folder) if process_rank()[0] == 0 else nullcontext():
            return _work(plan, splits, model, folder, progress, measured, begun)
    except KeyboardInterrupt as error:
        if str(error) or not has_run(folder):
            raise
        raise KeyboardInterrupt(f"Stopped. {_further(folder)}") from None
    finally:
        if process_rank()[0] == 0 and not has_run(folder):
            _leave_nothing(folder)


def _further(folder: Path) -> str:
    """How to go on with a run."""
    return f"Go on by: rcnn-tutorial train --resume {folder}"


def _leave_nothing(folder: Path) -> None:
    """Remove the folder of a run that did not begin, unless there is something else in it."""
    with suppress(OSError):
        (folder / ".lock").unlink(missing_ok=True)
        folder.rmdir()


def _work(
    plan: Plan,
    splits: Splits,
    model: nn.Module,
    folder: Path,
    progress: bool,
    measured: bool,
    begun: dict[str, Any] | None,
) -> Fitted:
    """What a run does once its folder is its own."""
    first = process_rank()[0] == 0
    say: Say = print if progress and first else silent
    training, validation = (prepared(part, plan, folder, part is splits.train) for part in (splits.train, splits.val))
    for note in (*splits.notes, *plan.notes):
        say(note)
    if plan.detector == "fast_rcnn":
        say("Proposals of every picture are computed first; they are kept in the run's folder.")
        model.normalise_targets(prepared(splits.train, plan, folder, training=False))  # pyright: ignore
    check_space(folder, model)
    if first and begun is not None:
        stretch(folder, plan.training)
    done = history_of(folder).steps
    if plan.detector not in STAGED and done < plan.training.steps:
        if slow := warning(plan):
            say(slow)
        cost = step_cost(model, training, plan)
        if measured:
            plan = plan.with_training(checkpoint_every=cost.checkpoint_every())
        say(announcement(cost, plan, done))
    elif done:
        say(f"All {done} steps are done. To train for longer: rcnn-tutorial train --resume {folder} --steps {2 * done}")
    if first:
        _write_settings(folder, plan, splits, begun)
    if done < plan.training.steps:
        say(f"Training {plan.detector} in {folder}. Ctrl-C stops it and keeps what is reached.")
    if plan.detector in STAGED:
        say("After the fine-tuning come SVMs and box regression, which keep no checkpoint: --resume begins them anew.")
    history = _train(plan, model, training, validation, folder, progress)
    return _end(plan, splits, model, validation, history, folder, progress, say)


def _write_settings(folder: Path, plan: Plan, splits: Splits, begun: dict[str, Any] | None) -> None:
    """Write all that a run is made of; where it goes on, what was when it began stays beside what is now."""
    fingerprints = {name: data_fingerprint(part) for name, part in splits.parts().items()}
    data = {"layout": splits.layout, "classes": splits.classes, "fingerprint": fingerprints}
    data["pictures"] = {name: len(part) for name, part in splits.parts().items()}
    content = surroundings() | {"plan": plan.values()} | data | {"notes": [*splits.notes, *plan.notes]}
    if begun is not None:
        earlier = [{key: begun.get(key) for key in ("command", "begun", "versions", "machine")}]
        content["earlier"] = begun.get("earlier", []) + earlier
    write_json(content, folder / SETTINGS)


def _train(plan: Plan, model: Any, training: Dataset, validation: Dataset, folder: Path, progress: bool) -> History:
    """Train in one go or in stages; Ctrl-C and what is not finite leave the record of the steps so far."""
    evaluations = history_of(folder).evaluations if (folder / BEST).is_file() else []
    record = Record(folder, validation, model.classes, _options(plan), evaluations)
    batch = LastBatch(model)
    try:
        if plan.detector in STAGED:
            cache: Any = FeatureCache(folder / "features")
            chosen_on = None if plan.recipe else validation  # the pictures of a recipe's val are trained on
            return model.fit(training, chosen_on, cache, folder=folder, on_log=record.log, progress=progress)[0]
        hooks: Any = {"evaluate": record.evaluate, "on_log": record.log, "progress": progress}
        return train(model, training, plan.training, folder, **hooks)
    except NotFiniteError as error:
        raise keep_batch(error, batch, training, folder) from error
    except KeyboardInterrupt as error:
        raise _left(record, folder, plan, model) from error
    finally:
        batch.forget()
        record.close()


def _left(record: Record, folder: Path, plan: Plan, model: Any) -> KeyboardInterrupt:
    """What is said after Ctrl-C, once the steps so far are recorded and drawn."""
    history = history_of(folder)
    if history.steps:
        record.log(history)
        draw_curves(history, folder / "curves.png")
        save_whole(model, folder / LAST)  # so that it can detect before it has a best one
    return KeyboardInterrupt(
        f"Stopped after {history.steps} of {plan.training.steps} steps, which are kept. {_further(folder)}"
    )


def _end(
    plan: Plan, splits: Splits, model: nn.Module, validation: Dataset, history: History, folder: Path, progress: bool,
    say: Say,
) -> Fitted:  # fmt: skip
    """Keep the last weights, measure the best ones, and say what comes next."""
    if process_rank()[0] > 0:
        return Fitted(folder, model, history, {}, ())
    save_whole(model, folder / LAST)
    if not (folder / BEST).is_file():
        save_whole(model, folder / BEST)
    if not history.evaluations:  # those are drawn with the curves
        draw_curves(history, folder / "curves.png")
    best = load(folder / BEST).to(plan.device)
    results = conclude(folder, best, validation, history, _options(plan), progress)
    split = "" if splits.test is not None else " --split val"
    commands = (f"rcnn-tutorial detect {folder} PICTURES", f"rcnn-tutorial evaluate {folder} {plan.data}{split}")
    for line in summary(results, folder):
        say(line)
    say("Next:\n" + "\n".join(f"  {command}" for command in commands))
    return Fitted(folder, best, history, results, commands)


def _options(plan: Plan) -> dict[str, int]:
    """How evaluations read the pictures."""
    return {"batch_size": 1 if plan.detector in STAGED else 4, "workers": plan.training.workers}
