"""The recipes of published results: what there is, and what one of them says."""

from dataclasses import asdict, is_dataclass
from textwrap import dedent, fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rcnn_tutorial.app.published import RECIPES, Recipe

__all__ = ["RECIPES", "described", "listed", "recipe_named"]

WIDTH = 29  # of the names in the list
COLUMNS = 100  # of a description


def __getattr__(name: str) -> object:
    if name != "RECIPES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rcnn_tutorial.app import published  # only here: it imports torch, and `--help` does not need it

    return published.RECIPES


def recipe_named(name: str) -> "Recipe":
    """Find a recipe.

    Args:
        name: of the recipe, as `rcnn-tutorial recipes` lists them.
    Raises:
        ValueError: there is no such recipe; the message names those that there are.
    """
    from rcnn_tutorial.app.published import RECIPES

    if name not in RECIPES:
        raise ValueError(f"There is no recipe {name!r}. There are: {', '.join(RECIPES)}.")
    return RECIPES[name]


def figures(recipe: "Recipe") -> str:
    """The published figures of a recipe in percent, as in "AP 37.9, mask AP 34.6"."""
    return ", ".join(f"{metric} {100 * value:.1f}" for metric, value in recipe.expected.items())


def listed() -> str:
    """The list of all recipes, a line for each."""
    from rcnn_tutorial.app.published import RECIPES

    lines = [f"{'recipe':{WIDTH}} {'published':24} {'hours':>5}  {'memory':>6}  {'GPUs':>4}"]
    lines += [
        f"{name:{WIDTH}} {figures(recipe):24} {recipe.hours:5.1f}  {recipe.memory:3.0f} GB  {recipe.gpus:4}"
        for name, recipe in RECIPES.items()
    ]
    return "\n".join([*lines, "", "Hours and memory are published ones or estimates: rcnn-tutorial recipes NAME says."])


def described(recipe: "Recipe") -> str:
    """All that a recipe says, for a reader: figures, cost, data, network, differences, and the settings."""
    network, (train, test) = recipe.network, recipe.splits
    weights = network.weights or "none at torchvision"
    changes = f"mirrored with a probability of {recipe.flip:g}, and nothing else" if recipe.flip else "none"
    facts = {
        "Published": f"{figures(recipe)}, measured on {test}",
        "Source": recipe.source,
        "Cost": f"{recipe.hours:g} hours and {recipe.memory:g} GB. {recipe.cost}",
        "Data": f"{recipe.data}, trained on {train}{', pictures with objects alone' * recipe.with_objects}",
        "Augmentation": changes,
        "Network": f"{network.title}; weights: {weights}. {network.note}".rstrip(),
    }
    if recipe.proposals is not None:
        options = ", ".join(f"{key}={value!r}" for key, value in recipe.proposals.items())
        facts["Proposals"] = f"selective search, {options}"
    lines = [recipe.name, "", *(_wrapped(f"{key + ':':14}{value}", 14) for key, value in facts.items())]
    if recipe.differences:
        lines += ["", "What is otherwise here:", *(_wrapped(f"- {sentence}", 2) for sentence in recipe.differences)]
    lines += ["", "Settings, and where each value is from:", "", dedent(recipe.code).rstrip()]
    lines += ["", "Values in full:", "", *_values(recipe.settings)]
    return "\n".join(
        [*lines, "", "To train it:", "", f"    rcnn-tutorial data fetch {recipe.data}", f"    {recipe.command}"]
    )


def _wrapped(line: str, indent: int) -> str:
    """A line in several, such that none is too long to be read."""
    return fill(line, COLUMNS, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _values(settings: Any, before: str = "") -> list[str]:
    """Every setting with its value, those nested in it too, a line for each."""
    lines = []
    for name in asdict(settings):
        value = getattr(settings, name)
        if is_dataclass(value):
            lines += _values(value, f"{before}{name}.")
        else:
            lines.append(f"    {before}{name} = {value!r}")
    return lines


def command(
    name: Annotated[str | None, typer.Argument(help="Of one recipe, to show all that it says.")] = None,
) -> None:
    """List the recipes of published results, or show one: settings with their sources, figures, hours and memory."""
    print(listed() if name is None else described(recipe_named(name)))
