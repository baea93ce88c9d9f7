"""The few words in which a record is told."""

from statistics import mean, stdev

from rcnn_tutorial.course import records
from rcnn_tutorial.course.records import told


def test_trainings_have_their_mean_and_spread():
    record = records.load("fast_24")
    fifty, strict = (records.by_variant(record, metric)["SPPnet"] for metric in ("AP50", "AP75"))
    assert told.trainings("fast_24", "SPPnet") == (
        f"AP50 {mean(fifty):.3f} ± {stdev(fifty):.3f}, AP75 {mean(strict):.3f} ± {stdev(strict):.3f} (3 trainings)"
    )


def test_a_change_has_its_interval_and_its_direction():
    assert told.change("fast_24", "Fast R-CNN", "SPPnet") == (
        "AP50, Fast R-CNN minus SPPnet: -0.076 (95 %: -0.148 to -0.003)"
    )
    assert told.change("fast_24", "SPPnet", "Fast R-CNN", "AP75").startswith("AP75, SPPnet minus Fast R-CNN: +0.052")


def test_what_a_variant_costs():
    found = records.by_variant(records.load("x_08"), "seconds")["features"]
    ap, ms = (mean(records.by_variant(records.load("x_08"), metric)["features"]) for metric in ("AP", "milliseconds"))
    expected = f"features: AP {ap:.3f}, {mean(found):.0f} s of training, {ms:.0f} ms for a picture"
    assert told.cost("x_08", "features") == expected and ap < 1 < ms < mean(found)


def test_the_shipped_detectors():
    ap = records.load("rcnn")["test"]["CNN + SVM + regression"]
    assert told.shipped("R-CNN") == f"AP50 {ap['AP50']:.3f}, AP75 {ap['AP75']:.3f}" == "AP50 0.666, AP75 0.535"
    assert told.shipped("Fast R-CNN") == "AP50 0.749, AP75 0.464"


def test_half_the_steps_are_the_notebooks():
    """03 trains with the settings of this record, so that its AP can be held beside it."""
    settings = records.load("fast_24_shorter")["settings"]
    assert (settings["train"], settings["steps"]) == (150, 400)
