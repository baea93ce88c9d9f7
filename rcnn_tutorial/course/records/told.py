"""What a record says of trainings, in the few words that a notebook prints beside a learner's own numbers."""

from statistics import mean, stdev

from rcnn_tutorial.course.records import by_variant, difference, load
from rcnn_tutorial.course.records.ladder import SHIPPED


def trainings(name: str, variant: str) -> str:
    """AP50 and AP75 of the trainings of one variant of a record: the mean ± the standard deviation over the seeds."""
    record, told = load(name), []
    for metric in ("AP50", "AP75"):
        seeds = by_variant(record, metric)[variant]
        told.append(f"{metric} {mean(seeds):.3f} ± {stdev(seeds):.3f}")
    return f"{', '.join(told)} ({len(record['runs'])} trainings)"


def change(name: str, variant: str, against: str, metric: str = "AP50") -> str:
    """How much one variant of a record is ahead of another: the mean over the seeds and its 95 % interval."""
    found = difference(load(name), variant, against, metric)
    low, high = found.interval
    return f"{metric}, {variant} minus {against}: {found.mean:+.3f} (95 %: {low:+.3f} to {high:+.3f})"


def cost(name: str, variant: str) -> str:
    """AP of one variant of a record, the seconds of a training and the milliseconds for a picture: means over seeds."""
    record = load(name)
    ap, seconds, ms = (mean(by_variant(record, metric)[variant]) for metric in ("AP", "seconds", "milliseconds"))
    return f"{variant}: AP {ap:.3f}, {seconds:.0f} s of training, {ms:.0f} ms for a picture"


def shipped(detector: str) -> str:
    """AP50 and AP75 of a detector of the package on all 500 test scenes; it was trained once."""
    record, part = SHIPPED[detector]
    ap = load(record)["test"][part]
    return f"AP50 {ap['AP50']:.3f}, AP75 {ap['AP75']:.3f}"
