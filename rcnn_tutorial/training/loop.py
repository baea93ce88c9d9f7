"""The training loop.

    for images, targets in batches:
        losses = model(images, targets)
        sum(losses.values()).backward()
        optimizer.step()

`train` is this loop and `_step` its body. What a long training needs besides stands after them and in the other files:
an order of the images that a seed fixes, a rate for each step, a record, checkpoints, several processes.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from rcnn_tutorial.data.checked import CheckedSamples, Sample
from rcnn_tutorial.data.wrappers import check_classes, prepare, set_epoch
from rcnn_tutorial.engine.devices import moved
from rcnn_tutorial.engine.guards import generators, patient_interrupt, undisturbed
from rcnn_tutorial.engine.processes import averaged
from rcnn_tutorial.engine.training import check_losses, plain_numbers, require_finite
from rcnn_tutorial.evaluation.prediction import eval_mode
from rcnn_tutorial.training.checkpoint import Run
from rcnn_tutorial.training.history import History
from rcnn_tutorial.training.settings import TrainSettings, learning_rate


def train(
    model: nn.Module,
    dataset: Dataset,
    settings: TrainSettings,
    folder: str | Path | None = None,
    *,
    resume: bool = True,
    evaluate: Callable[[nn.Module], dict] | None = None,
    on_log: Callable[[History], None] | None = None,
    progress: bool = True,
) -> History:
    """Train a detector, or any module that returns a dict of scalar losses in training mode.

    Every parameter with `requires_grad` is trained, on the device where it lies. Difficult and crowd objects are left
    out of the targets; images without objects are kept. On one CPU with a fixed number of threads the same settings
    and initial weights give the same losses to the last bit, interrupted or not, and the caller's random state is not
    touched. Where torch.distributed is initialised (`join_processes` does that) each process takes its part of every
    batch and draws its own samples; the first evaluates, shows progress and writes.

    Ctrl-C, or Jupyter's square, ends the training after the step that it is at, with a checkpoint if there is a
    `folder`; a second one ends it at once.

    Args:
        model: called as `model(images, targets)`; left in eval mode, ready to detect.
        dataset: of (image, target) pairs, of the model's classes. `set_epoch(epoch)` is called before each epoch, on
            every data set that has one, inside torch's wrappers too.
        settings: of the training.
        folder: for `checkpoint.pt`; None keeps no checkpoint.
        resume: go on from the checkpoint in `folder` if there is one; a finished training is loaded. With more steps
            than the checkpoint was to have (where the schedule is "step") or with more pictures it goes on, too.
        evaluate: called with the model in eval mode, returns a dict of numbers, nested or not; at least at the end.
        on_log: called with the history so far every `log_every` steps and at the end, for live curves.
        progress: show a progress bar.
    Returns:
        The record of all steps.
    Raises:
        KeyboardInterrupt: after Ctrl-C.
        ValueError: too few images for a batch, a target that is none, other classes than the model's, nothing to train,
            a model that returns no dict of scalars, or a checkpoint that is damaged or of another training.
        RuntimeError: a loss or gradient that is not finite, before it touches the weights.
    """
    run = Run(model, CheckedSamples(dataset, check_classes(model, dataset)), settings)
    if settings.workers:
        prepare(dataset, range(len(run.dataset)))
    path = None if folder is None else Path(folder) / "checkpoint.pt"
    with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
        torch.manual_seed(settings.seed + run.rank)
        if run.rank and (sampling := generators(model).get("model")):
            sampling.manual_seed(sampling.initial_seed() + run.rank)  # or all would draw alike
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            if resume and path.exists():
                run.load(path)
        history = run.history
        steps = range(history.steps, settings.steps)
        model.train()
        bar = tqdm(total=settings.steps, initial=steps.start, unit="step", disable=not progress or run.rank > 0)
        with bar, patient_interrupt() as interrupted:
            start = perf_counter()
            for step, batch in zip(steps, _batches(run, steps.start), strict=False):
                lr = learning_rate(step, settings)
                losses = _step(run, step, lr, batch)
                history.add(losses, lr, perf_counter() - start)
                bar.set_postfix(loss=f"{sum(losses.values()):.3f}", refresh=False)
                bar.update()

                if evaluate and _due(step, settings.evaluate_every, settings):
                    if run.rank == 0:
                        history.evaluations.append({"step": step + 1} | _evaluate(model, evaluate))
                    run.wait()
                if on_log and run.rank == 0 and _due(step, settings.log_every, settings):
                    on_log(history)
                if path and (interrupted or _due(step, settings.checkpoint_every, settings)):
                    run.save(path)
                if interrupted:
                    raise KeyboardInterrupt(f"after step {step + 1} of {settings.steps}")
                start = perf_counter()
    model.eval()
    return history


def _step(run: Run, step: int, lr: float, batch: Sequence[Sample]) -> dict[str, float]:
    """One step of gradient descent; returns the value of each loss."""
    optimizer, scaler = run.optimizer, run.scaler
    for group in optimizer.param_groups:
        group["lr"] = lr
    images = [moved(image, run.device) for _, image, _ in batch]
    targets = [moved(target, run.device) for _, _, target in batch]  # or the labels of a classifier's crops
    with torch.autocast(run.device.type, dtype=run.precision, enabled=run.precision is not None):
        losses = run.forward(images, targets)
    check_losses(losses)
    optimizer.zero_grad()
    total = torch.as_tensor(sum(losses.values()))
    scaler.scale(total).backward()
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(run.trained, run.settings.clip_norm)
    values, size = _values(losses, norm)
    require_finite(values, step, batch)
    if not scaler.is_enabled():  # a scaler leaves out such a step, and halves its scale
        require_finite({"norm of the gradient": size}, step, batch)
    scaler.step(optimizer)
    scaler.update()
    return values


def _values(losses: dict[str, Tensor], norm: Tensor) -> tuple[dict[str, float], float]:
    """Losses, means over the processes, and the norm as numbers: a step's one copy to the host, to stop in time."""
    values = averaged(torch.stack([loss.detach().float().flatten()[0] for loss in losses.values()]))
    *numbers, size = torch.cat((values, norm.float().view(1))).tolist()
    return dict(zip(losses, numbers, strict=True)), size


def _batches(run: Run, start: int) -> Iterator[list[Sample]]:
    """The samples of this process in each step, from step `start` on, without end.

    Epoch e visits the images in the order that (seed, e) gives. The images after its last whole batch are left out;
    the next epoch leaves out others.
    """
    dataset, settings = run.dataset, run.settings
    per_epoch = len(dataset) // settings.batch_size
    for epoch in count(start // per_epoch):
        set_epoch(dataset, epoch)
        random = np.random.default_rng((settings.seed, epoch))
        order = random.permutation(len(dataset))[: per_epoch * settings.batch_size]
        mine = order.reshape(per_epoch, run.processes, -1)[:, run.rank].tolist()  # (steps, images of this process)
        yield from DataLoader(
            dataset,
            batch_sampler=mine[max(start - epoch * per_epoch, 0) :],
            collate_fn=list,
            num_workers=settings.workers,
            pin_memory=run.device.type == "cuda",  # from there it is copied while the host goes on
            generator=torch.Generator().manual_seed(int(random.integers(2**62))),  # not the global one
        )


def _due(step: int, every: int | None, settings: TrainSettings) -> bool:
    done = step + 1
    return done == settings.steps or (every is not None and done % every == 0)


def _evaluate(model: nn.Module, evaluate: Callable[[nn.Module], dict]) -> dict:
    with eval_mode(model), undisturbed(model), torch.no_grad():
        return plain_numbers(evaluate(model))
