import json
from importlib import resources
from statistics import mean

import pytest

from rcnn_tutorial.course import records
from rcnn_tutorial.course.records.ways import WAYS, three_ways

RECORD = {
    "runs": {
        str(seed): {
            "variants": {
                "a": {"AP50": 0.5 + 0.1 * seed, "hits": [2, 2, 1, 1], "kinds": {"correct": 6, "missed": 4}},
                "b": {"AP50": 0.4 + 0.05 * seed, "hits": [1, 1, 0, 0], "kinds": {"correct": 2, "missed": 8}},
            }
        }
        for seed in (0, 1)
    }
}


def test_values_by_variant():
    assert records.by_variant(RECORD) == {"a": [0.5, 0.6], "b": [0.4, 0.45]}


def test_difference_by_seed_and_by_image():
    found = records.difference(RECORD, "a", "b")
    assert found.mean == pytest.approx(0.125) and found.spread == pytest.approx(0.05 / 2**0.5)
    assert found.error == pytest.approx(0.025) and found.seeds == 2
    assert found.interval == pytest.approx((0.125 - 12.7062 * 0.025, 0.125 + 12.7062 * 0.025), abs=1e-5)
    assert (found.low, found.high) == (0.4, 0.4)  # one more in each of 4 images, of 10 objects
    other = records.difference(RECORD, "b", "a")
    assert other.mean == -found.mean and (other.low, other.high) == (-0.4, -0.4)


def test_an_experiment_without_objects_has_a_difference_by_seed():
    runs = {str(i): {"variants": {"a": {"accuracy": 0.9 + i / 10}, "b": {"accuracy": 0.8}}} for i in range(2)}
    found = records.difference({"runs": runs}, "a", "b", "accuracy")
    assert found.mean == pytest.approx(0.15) and found.low != found.low and found.seeds == 2


def test_draws_of_the_images_widen_the_interval():
    record = json.loads(json.dumps(RECORD))
    for run in record["runs"].values():
        run["variants"]["a"]["hits"] = [4, 0, 2, 0]
    found = records.difference(record, "a", "b")
    assert found.low < 0.3 < 0.4 < found.high


def test_unknown_record():
    with pytest.raises(ValueError, match="no record 'none'"):
        records.load("none")


@pytest.mark.parametrize(
    "name", [f.name[:-5] for f in resources.files("rcnn_tutorial.course.records").iterdir() if f.name.endswith(".json")]
)
def test_every_record_says_how_it_was_made(name):
    record = records.load(name)
    assert "versions" in record and ("settings" in record or "threads" in record)  # of trainings, or of benchmarks


def test_the_three_ways_carry_their_seconds_and_seeds():
    ways = three_ways()
    assert [name.rsplit(",", 1)[0] for name in ways] == list(WAYS) and all(len(seeds) >= 3 for seeds in ways.values())
    record = records.load("frcnn_30")
    seconds = mean(records.by_variant(record, "seconds")["approximate joint"])
    assert ways[f"approximate joint, {seconds:.0f}s"] == records.by_variant(record)["approximate joint"]
    longer = list(ways.values())[-1]
    assert longer == records.by_variant(records.load("frcnn_31"))["1000 steps"]
    assert list(three_ways("AP").values())[0] == records.by_variant(record, "AP")["approximate joint"]
    assert (
        ways[next(name for name in ways if name.startswith("all four"))]
        == records.by_variant(record)["alternating, step 4"]
    )
