"""The three ways to train Faster R-CNN, as two records have them."""

from statistics import mean

from rcnn_tutorial.course.records import by_variant, load

WAYS = {  # under each word a record and its variant
    "approximate joint": ("frcnn_30", "approximate joint"),
    "non-approximate joint": ("frcnn_30", "non-approximate joint"),
    "steps 1 and 2 alone": ("frcnn_30", "alternating, step 2"),
    "all four steps": ("frcnn_30", "alternating, step 4"),
    "approximate joint, longer": ("frcnn_31", "1000 steps"),
}


def three_ways(metric: str = "AP50") -> dict[str, list[float]]:
    """For `draw.ablation`: the metric of every seed of each way, whose name has the seconds of its training."""
    found = {}
    for name, (file, variant) in WAYS.items():
        record = load(file)
        seconds = mean(by_variant(record, "seconds")[variant])
        found[f"{name}, {seconds:.0f}s"] = by_variant(record, metric)[variant]
    return found
