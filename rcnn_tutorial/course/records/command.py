"""What the one command of README reaches on photographs of blood cells, as its record has it."""

from statistics import mean, stdev

from rcnn_tutorial.course.records import by_variant, load

RECORD = "command_bccd"
METRICS = ("AP50", "AP")


def sentence() -> str:
    """For README: the accuracy on the test pictures over all seeds, and the time on one core."""
    record = load(RECORD)
    reached = {name: next(iter(by_variant(record, name).values())) for name in (*METRICS, "seconds")}
    told = " and ".join(f"an {name} of {mean(reached[name]):.3f} ± {stdev(reached[name]):.3f}" for name in METRICS)
    minutes = mean(reached["seconds"]) / 60
    return (
        f"The detector reaches {told} on the test pictures. These are the mean and the standard deviation of "
        f"{len(reached['seconds'])} trainings with different seeds. A training took {minutes:.0f} minutes of one CPU "
        f"core, and `python -m experiments.run {RECORD}` repeats them."
    )
