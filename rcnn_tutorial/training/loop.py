"""The training loop.

    for images, targets in batches:
        losses = model(images, targets)
        sum(losses.values()).backward()
        optimizer.step()

and what a long training needs besides: an order of the images that a seed fixes, a rate for each step, a record,
checkpoints, several processes.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from rcnn_tutorial.data.targets import check_target, collate, trained_on
from rcnn_tutorial.data.wrappers import check_classes, prepare, set_epoch
from rcnn_tutorial.evaluation.prediction import eval_mode
from rcnn_tutorial.training.checkpoint import Run, process_rank
from rcnn_tutorial.training.guards import own_random_state, patient_interrupt, unchanged
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
    touched. Where torch.distributed is initialised each process takes its part of every batch; the first evaluates,
    shows progress and writes.

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
    rank, processes = process_rank()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    _check(dataset, settings, parameters, processes)
    classes = check_classes(model, dataset)
    device = parameters[0].device
    precision = _autocast_dtype(settings, device)
    run = Run(
        model=model,
        forward=DistributedDataParallel(model, find_unused_parameters=True) if processes > 1 else model,
        optimizer=_optimizer(parameters, settings),
        scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
        precision=precision,
        settings=settings,
        dataset=_Checked(dataset, classes),
    )
    if settings.workers:
        prepare(dataset, range(len(dataset)))
    path = None if folder is None else Path(folder) / "checkpoint.pt"
    with own_random_state(device):
        torch.manual_seed(settings.seed + rank)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            if resume and path.exists():
                run.load(path)
        _loop(run, path, evaluate, on_log, progress)
    model.eval()
    return run.history


def _loop(run: Run, path: Path | None, evaluate: Callable | None, on_log: Callable | None, progress: bool) -> None:
    """The remaining steps, and between them what is seen and kept."""
    model, settings, history = run.model, run.settings, run.history
    steps = range(history.steps, settings.steps)
    first = process_rank()[0] == 0
    model.train()
    bar = tqdm(total=settings.steps, initial=steps.start, unit="step", disable=not (progress and first))
    with bar, patient_interrupt() as interrupted:
        start = perf_counter()
        for step, batch in zip(steps, _batches(run.dataset, settings, steps.start), strict=False):
            lr = learning_rate(step, settings)
            losses = _step(run, step, lr, *batch)
            history.add(losses, lr, perf_counter() - start)
            bar.set_postfix(loss=f"{sum(losses.values()):.3f}", refresh=False)
            bar.update()

            if evaluate and first and _due(step, settings.evaluate_every, settings):
                history.evaluations.append({"step": step + 1} | _evaluate(model, evaluate))
            if on_log and first and _due(step, settings.log_every, settings):
                on_log(history)
            if path and (interrupted or _due(step, settings.checkpoint_every, settings)):
                run.save(path)
            if interrupted:
                raise KeyboardInterrupt(f"after step {step + 1} of {settings.steps}")
            start = perf_counter()


def _step(run: Run, step: int, lr: float, indices: list, images: list, targets: list) -> dict[str, float]:
    """One step of gradient descent; returns the value of each loss."""
    optimizer, scaler, device = run.optimizer, run.scaler, run.device
    for group in optimizer.param_groups:
        group["lr"] = lr
    inputs = [image.to(device) for image in images], [_to(device, target) for target in targets]
    with torch.autocast(device.type, dtype=run.precision, enabled=run.precision is not None):
        losses = run.forward(*inputs)
    values = _values(losses)
    _require_finite(values, step, indices, targets)

    optimizer.zero_grad()
    scaler.scale(sum(losses.values())).backward()
    scaler.unscale_(optimizer)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = nn.utils.clip_grad_norm_(trained, run.settings.clip_norm)
    if not scaler.is_enabled():  # a scaler leaves out such a step, and halves its scale
        _require_finite({"norm of the gradient": norm.item()}, step, indices, targets)
    scaler.step(optimizer)
    scaler.update()
    return values


def _values(losses: dict[str, Tensor]) -> dict[str, float]:
    """Losses as numbers, means over the processes: the one copy to the host in a step, needed to stop in time."""
    if not isinstance(losses, dict) or not losses:
        raise ValueError(f"model: returned {type(losses).__name__} in training mode, expected a dict of scalar losses")
    for name, loss in losses.items():
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise ValueError(f"model: loss {name!r} is {loss!r}, expected a scalar tensor")
    if not any(loss.requires_grad for loss in losses.values()):
        raise ValueError(f"model: none of the losses {sorted(losses)} depends on a parameter that is trained")
    values = torch.stack([loss.detach().float().flatten()[0] for loss in losses.values()])
    _, processes = process_rank()
    if processes > 1:
        dist.all_reduce(values)
        values /= processes
    return dict(zip(losses, values.tolist(), strict=True))


def _require_finite(values: dict[str, float], step: int, indices: list, targets: list) -> None:
    if not all(map(math.isfinite, values.values())):
        ids = [int(target["image_id"]) for target in targets if isinstance(target, dict) and "image_id" in target]
        raise RuntimeError(
            f"step {step}: {values}, expected finite numbers; images {indices} of the dataset, image_id {ids}. "
            "The weights are those before this step; a lower lr or a longer warm-up may help"
        )


def _to(device: torch.device, target: dict | Tensor) -> dict | Tensor:
    if isinstance(target, Tensor):
        return target.to(device)
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in target.items()}


def _batches(dataset: Dataset, settings: TrainSettings, start: int) -> Iterator[tuple[list, list, list]]:
    """Dataset indices, images and targets of this process, from step `start` on, without end.

    Epoch e visits the images in the order that (seed, e) gives. The images after its last whole batch are left out;
    the next epoch leaves out others.
    """
    rank, processes = process_rank()
    share = settings.batch_size // processes
    per_epoch = len(dataset) // settings.batch_size
    for epoch in count(start // per_epoch):
        set_epoch(dataset, epoch)
        random = np.random.default_rng((settings.seed, epoch))
        order = random.permutation(len(dataset))[: per_epoch * settings.batch_size]
        mine = order.reshape(per_epoch, processes, share)[:, rank].tolist()  # (steps, images of this process)
        mine = mine[max(start - epoch * per_epoch, 0) :]
        loader = DataLoader(
            dataset,
            batch_sampler=mine,
            collate_fn=collate,
            num_workers=settings.workers,
            generator=torch.Generator().manual_seed(int(random.integers(2**62))),  # not the global one
        )
        for indices, (images, targets) in zip(mine, loader, strict=True):
            yield indices, images, targets


class _Checked(Dataset):
    """A data set whose targets are checked, and without their difficult and crowd objects."""

    def __init__(self, dataset: Dataset, classes: Sequence[str] | None):
        self.dataset, self.classes = dataset, classes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, dict]:
        image, target = self.dataset[index]
        if isinstance(target, Tensor):  # labels of crops: a classifier's, not a detector's
            return image, target
        return image, trained_on(check_target(target, f"dataset[{index}]", self.classes))


def _optimizer(parameters: list[nn.Parameter], settings: TrainSettings) -> torch.optim.SGD:
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1]},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, settings.lr, settings.momentum, weight_decay=settings.weight_decay)


def _autocast_dtype(settings: TrainSettings, device: torch.device) -> torch.dtype | None:
    if settings.precision == "float32":
        return None
    if device.type == "cpu":
        warnings.warn(f"precision {settings.precision!r} is for GPUs: on the CPU it stays float32", stacklevel=3)
        return None
    return getattr(torch, settings.precision)


def _due(step: int, every: int | None, settings: TrainSettings) -> bool:
    done = step + 1
    return done == settings.steps or (every is not None and done % every == 0)


def _evaluate(model: nn.Module, evaluate: Callable) -> dict:
    device = next(model.parameters()).device
    with eval_mode(model), unchanged(model), own_random_state(device), torch.no_grad():
        results = evaluate(model)
    if not isinstance(results, dict):
        raise ValueError(f"evaluate: returned {type(results).__name__}, expected a dict of numbers")
    return _plain(results)


def _plain(results: dict) -> dict:
    """The numbers of a dict, nested or not, as Python's own: others could not be read from a checkpoint."""
    return {name: _plain(value) if isinstance(value, dict) else float(value) for name, value in results.items()}


def _check(dataset: Dataset, settings: TrainSettings, parameters: list[nn.Parameter], processes: int) -> None:
    if len(dataset) < settings.batch_size:
        raise ValueError(f"dataset: {len(dataset)} images, expected at least batch_size = {settings.batch_size}")
    if settings.batch_size % processes:
        raise ValueError(f"batch_size: {settings.batch_size}, expected a multiple of the {processes} processes")
    if not parameters:
        raise ValueError("model: no parameter requires a gradient, expected one at least")
