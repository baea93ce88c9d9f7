"""How a training follows the recipe of a published result."""

import math
from dataclasses import replace
from typing import Any

from torch.utils.data import Dataset

from rcnn_tutorial.app.planning import STAGED, Plan, Wishes, chosen_device, for_batch, retimed
from rcnn_tutorial.app.published import Recipe
from rcnn_tutorial.data.wrappers import length


def follow(recipe: Recipe, wishes: Wishes, dataset: Dataset) -> Plan:
    """Make the plan of a training that follows a recipe; what the user said besides goes before it, and is said.

    Args:
        recipe: of the published result.
        wishes: what the user said: of the length, the mini-batch with its rate, and the size of the pictures.
        dataset: the pictures to train on.
    Raises:
        ValueError: a wish that would make it another recipe.
    """
    fixed = {"backbone": wishes.backbone, "augment": wishes.augment, "classes": wishes.classes}
    fixed |= {"paper": wishes.paper or None, "on_error": None if wishes.on_error == "raise" else wishes.on_error}
    for name, value in fixed.items():
        if value is not None:
            raise ValueError(f"--{name.replace('_', '-')} does not go with --recipe, which says it already")
    training = recipe.training
    if wishes.batch:
        training = for_batch(training, wishes.batch)
    steps = wishes.steps or (wishes.epochs and wishes.epochs * max(1, length(dataset) // training.batch_size))
    if steps:
        training = retimed(training, steps)
    training = replace(
        training,
        lr=wishes.lr or training.lr,
        seed=wishes.seed,
        workers=wishes.workers or 0,
        evaluate_every=max(25, math.ceil(training.steps / 6)),
        checkpoint_every=wishes.save_every or training.checkpoint_every,
    )
    changes: dict[str, Any] = {"fine_tuning" if recipe.detector in STAGED else "training": training}
    if wishes.min_size and recipe.detector not in STAGED:
        ratio = recipe.settings.max_size / recipe.settings.min_size
        changes |= {"min_size": wishes.min_size, "max_size": round(wishes.min_size * ratio)}
    return Plan(
        data=wishes.data,
        detector=recipe.detector,
        backbone=recipe.network.title,
        settings=replace(recipe.settings, **changes),
        pretrained=wishes.pretrained,
        device=chosen_device(wishes.device),
        augment=recipe.flip > 0,
        recipe=recipe.name,
        notes=notes(recipe, wishes),
    )


def notes(recipe: Recipe, wishes: Wishes) -> tuple[str, ...]:
    """What the user should read before a training that follows a recipe."""
    figures = ", ".join(f"{metric} {100 * value:.1f}" for metric, value in recipe.expected.items())
    said = [
        f"This is the recipe {recipe.name}: {figures} on {recipe.splits[1]}, {recipe.source}.",
        f"It takes {recipe.hours:g} hours and {recipe.memory:g} GB. {recipe.cost}",
        "The published figure is of the weights after the last step, which are in last.pt.",
    ]
    names = ("steps", "epochs", "batch", "lr", "min_size")
    changed = [name for name in names if getattr(wishes, name)] + ["pretrained"] * (not wishes.pretrained)
    if changed:
        said.append(f"The figure is not to be expected, since you changed: {', '.join(changed)}.")
    return tuple(said)
