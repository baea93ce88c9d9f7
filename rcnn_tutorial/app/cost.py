"""What a training costs, measured by one step before it begins."""

import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from rcnn_tutorial.app.console import duration, space
from rcnn_tutorial.app.planning import Plan
from rcnn_tutorial.data.checked import CheckedSamples
from rcnn_tutorial.data.wrappers import classes_of, length
from rcnn_tutorial.engine.devices import mapped
from rcnn_tutorial.engine.guards import undisturbed
from rcnn_tutorial.engine.processes import gathered, process_rank

PATIENCE = 3.0  # seconds; a shorter step is measured again, without what only the first one does
LONG = 3600.0  # seconds; a longer training gets advice
BETWEEN_CHECKPOINTS = 120.0  # seconds


@dataclass(frozen=True)
class Cost:
    """What one step costs.

    Attributes:
        seconds: of one step, with the loading of its pictures.
        memory: the most bytes that it needed, of the GPU or of the whole program; None where that is not known.
    """

    seconds: float
    memory: int | None

    def checkpoint_every(self) -> int:
        """How many steps make two minutes; 200 at most."""
        return min(200, max(1, round(BETWEEN_CHECKPOINTS / max(self.seconds, 1e-3))))


def step_cost(model: nn.Module, dataset: Dataset, plan: Plan) -> Cost:
    """Measure one step of a training, after which the model and all random numbers are as before.

    Of several processes each takes its part of the mini-batch, and all are told what the first one measured, since all
    are to decide the same.

    Args:
        model: that is to be trained, on its device.
        dataset: that is to be trained on.
        plan: of the training.
    """
    device = next(model.parameters()).device
    start = perf_counter()
    samples = CheckedSamples(dataset, classes_of(dataset))
    share = max(1, plan.training.batch_size // process_rank()[1])
    batch = [samples[index % length(dataset)] for index in range(share)]
    loading = perf_counter() - start
    images = [image.to(device) for _, image, _ in batch]
    targets: list[dict[str, Tensor]] = [mapped(target, lambda tensor: tensor.to(device)) for _, _, target in batch]
    model.train()
    with undisturbed(model):
        seconds = gathered(_once(model, images, targets, device))[0]
        if seconds < PATIENCE:
            seconds = _once(model, images, targets, device)
    return gathered(Cost(seconds + loading / max(1, plan.training.workers), _memory(device)))[0]


def _once(model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]], device: torch.device) -> float:
    start = perf_counter()
    losses: dict[str, Tensor] = model(images, targets)
    torch.as_tensor(sum(losses.values())).backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    model.zero_grad(set_to_none=True)
    return perf_counter() - start


def _memory(device: torch.device) -> int | None:
    """The most bytes in use so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def warning(plan: Plan) -> str | None:
    """What is to be said before a step is measured, where even one may take long."""
    if plan.backbone == "tiny" or plan.device != "cpu":
        return None
    size: Any = getattr(plan.settings, "min_size", None)
    return (
        f"A {plan.backbone} at {size} pixels is slow without a GPU: at 800 pixels a step of two pictures can take most "
        "of a minute. One step is measured now. If that is too long, stop it by Ctrl-C and take --min-size 320, "
        "--backbone resnet18 or --backbone tiny."
    )


def announcement(cost: Cost, plan: Plan, done: int = 0) -> str:
    """Say what the training will cost, and where it is long what would be shorter.

    Args:
        cost: of one step.
        plan: of the training.
        done: steps that were done before.
    """
    left = plan.training.steps - done
    total = left * cost.seconds
    end = datetime.now() + timedelta(seconds=total)
    when = f"{end:%H:%M}" if total < 12 * LONG else f"{end:%d %B %Y, %H:%M}"
    memory = f", {space(cost.memory)} of memory" if cost.memory else ""
    said = (
        f"One step takes {duration(cost.seconds)}{memory}; {left} steps take about {duration(total)}, until about "
        f"{when}, and the evaluations come on top."
    )
    if total > LONG:
        cheaper = [] if plan.backbone == "tiny" else ["--backbone tiny", "--min-size 320"]
        cheaper += ["fewer --steps"] + (["a GPU"] if plan.device == "cpu" else [])
        said += f" That is long. Shorter would be: {', '.join(cheaper)}. Ctrl-C keeps what is reached at any time."
    return said
