"""Six detectors that were trained on equal terms, as records have them, and what each of them costs."""

from collections.abc import Iterator, Sequence
from statistics import mean, stdev

import numpy as np

from rcnn_tutorial.course.records import by_variant, load
from rcnn_tutorial.evaluation.resampling import student_interval

RIVALS = {  # each with its record and its variant
    "YOLO grid": ("relatives", "YOLO grid"),
    "SSD": ("relatives", "SSD"),
    "RetinaNet": ("retina_losses", "focal loss"),
    "R-FCN": ("relatives", "R-FCN"),
    "Faster R-CNN": ("relatives", "Faster R-CNN"),
    "FPN": ("retina_losses", "two stages"),
}
CELLS = "relatives_bccd"  # the record of the same six on blood cells
EVERY = ("ladder_shapes", "relatives", "strides", "retina_losses", "retina_anchors", "fpn_07", "fpn_07_longer")


def values(metric: str = "AP", data: str = "shapes") -> dict[str, list[float]]:
    """The metric of every seed of each rival, on the scenes or, with "bccd", on blood cells."""
    found = {}
    for name, (record, variant) in RIVALS.items():
        record, variant = (CELLS, name) if data == "bccd" else (record, variant)
        found[name] = [run["variants"][variant][metric] for run in load(record)["runs"].values()]
    return found


def points(x: str = "milliseconds", y: str = "AP", data: str = "shapes") -> dict[str, dict[str, list[float]]]:
    """For `draw.trade_off`: x and y of every seed of each rival."""
    across, up = values(x, data), values(y, data)
    return {name: {"x": across[name], "y": up[name]} for name in RIVALS}


def summary() -> dict[str, list[str]]:
    """The rows of README's table of the six: means over the seeds, and the standard deviation of the AP."""
    rows = {
        f"AP, {title}": [f"{mean(seeds):.3f} ± {stdev(seeds):.3f}" for seeds in values("AP", data).values()]
        for title, data in (("shapes", "shapes"), ("blood cells", "bccd"))
    }
    for title, metric, form in (
        ("AP, shapes, smallest third", "AP_small_third", ".3f"),
        ("AP, shapes, largest third", "AP_large_third", ".3f"),
        ("ms per image, shapes", "milliseconds", ".0f"),
        ("seconds of training, shapes", "seconds", ".0f"),
    ):
        rows[title] = [format(mean(seeds), form) for seeds in values(metric).values()]
    return rows


def changes(name: str, variant: str, against: str, metric: str) -> list[float]:
    """What a variant of a record adds to another one's metric, as a share of it, with every seed."""
    found = by_variant(load(name), metric)
    return [one / other - 1 for one, other in zip(found[variant], found[against], strict=True)]


def trunk_effect(name: str, metric: str = "AP") -> list[float]:
    """What the better trunk adds to one of the three detectors that were trained on both, with every seed."""
    found = by_variant(load("relatives"), metric)
    return [good - plain for good, plain in zip(found[name], found[f"{name}, plain trunk"], strict=True)]


def every_mean(*metrics: str) -> Iterator[tuple[float, ...]]:
    """The means over the seeds of these metrics, of each variant of the records of detectors on scenes."""
    for record in map(load, EVERY):
        for variants in zip(*(by_variant(record, metric).values() for metric in metrics), strict=True):
            yield tuple(mean(seeds) for seeds in variants)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """How far two lists put the same things in the same order: 1 for the same, -1 for the reverse (Spearman).

    Equal numbers share the mean of their ranks.
    """
    return float(np.corrcoef([_ranks(first), _ranks(second)])[0, 1])


def _ranks(numbers: Sequence[float]) -> list[float]:
    numbers = np.asarray(numbers)
    below, equal = (numbers[:, None] > numbers).sum(1), (numbers[:, None] == numbers).sum(1)
    return (below + (equal - 1) / 2).tolist()


def choose(metric: str = "AP", limit: float = float("inf"), data: str = "shapes") -> str:
    """Say which rival is best by a metric among those that need at most so many milliseconds a picture.

    With it stand the second best and the 95 % interval of the difference; where that includes 0, both are named.
    """
    spent, reached = values("milliseconds", data), values(metric, data)
    fast = [name for name in RIVALS if mean(spent[name]) <= limit]
    first, *others = sorted(fast, key=lambda name: -mean(reached[name]))
    if not others:
        return f"{first}, the only one within {limit:g} ms"
    more = [one - other for one, other in zip(reached[first], reached[others[0]], strict=True)]
    low, high = student_interval(mean(more), stdev(more), len(more))
    told = f"{mean(more):+.4f} (95 %: {low:+.4f} to {high:+.4f})"
    return f"{first}, {others[0]} second: {told}" if low > 0 else f"{first} or {others[0]}: {told}, not decided"
