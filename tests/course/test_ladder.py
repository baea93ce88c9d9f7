"""The ladder's machinery: what is timed and counted, pictures of one size, tables; and what its records say."""

from collections import Counter
from statistics import mean

import pytest
import torch
from PIL import Image
from torch import nn

from experiments import ladder
from rcnn_tutorial.cache import fingerprint
from rcnn_tutorial.course import records
from rcnn_tutorial.course.records import by_variant, rivals
from rcnn_tutorial.course.records.ladder import (
    CHANGES,
    DETECTORS,
    PAPERS,
    ROWS,
    gains,
    markdown,
    points,
    shipped,
    shipped_points,
    summary,
    table,
)
from tools import readme_ladder


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


def test_a_clock_counts_inputs_and_leaves_no_trace():
    module, laps = Doubled(), Counter()
    with ladder.clocked(module, "forward", laps, "doubling"):
        assert module(torch.ones(3)).tolist() == [2, 2, 2]
        module(torch.ones(4))
    module(torch.ones(5))
    assert laps["inputs of doubling"] == 7 and laps["doubling"] > 0
    assert "forward" not in vars(module)


class Pictures:
    """Two pictures of 20 x 40 pixels, with one object each."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index >= 2:
            raise IndexError
        target = {"boxes": torch.tensor([[4.0, 2, 20, 10]]), "labels": torch.tensor([1])}
        return torch.full((3, 20, 40), index / 2), target


def test_pictures_are_brought_to_one_size(monkeypatch):
    monkeypatch.setattr(ladder, "SIZE", (10, 10))
    resized = ladder.Resized(Pictures(), ("background", "cell"))
    image, target = resized[1]
    assert len(resized) == 2 and image.shape == (3, 10, 10) and image.mean() == pytest.approx(0.5)
    assert target["boxes"].tolist() == [[1, 1, 5, 5]]  # across by 1/4, down by 1/2
    target["boxes"] = None
    assert resized.target(1)["boxes"].tolist() == [[1, 1, 5, 5]] and resized.classes == ("background", "cell")


def test_every_rung_has_all_that_is_asked_of_it():
    assert set(ladder.STEPS) == set(ladder.MODULES) == set(ladder.CONVOLUTIONS)
    assert set(ladder.STEPS) == set(ladder.STAGED) | set(ladder.ENDED)
    assert set(DETECTORS) < set(ladder.STEPS) and {name for pair in CHANGES.values() for name in pair} <= set(
        ladder.STEPS
    )
    assert all((ladder.PACKAGE / f"{file}.py").exists() for files in ladder.MODULES.values() for file in files)
    assert all(len(set(files)) == len(files) for files in ladder.MODULES.values())


def test_the_changes_lead_from_the_first_rung_to_the_last():
    pairs = list(CHANGES.values())
    assert pairs[0][0] == DETECTORS[0] and pairs[-1][1] == DETECTORS[-1]
    assert all(a[1] == b[0] for a, b in zip(pairs, pairs[1:], strict=False))


@pytest.fixture
def record():
    """Two seeds; a metric of the i-th rung is i plus, in the second seed, 0.2."""
    return {
        "runs": {
            str(seed): {
                "variants": {
                    name: {metric: i + 0.2 * seed for _, metric, _, _ in ROWS} for i, name in enumerate(ladder.STEPS)
                }
            }
            for seed in (0, 1)
        }
    }


def test_the_table_has_means_and_spreads(record):
    rows = table(record)
    assert rows["AP"][:2] == ["0.100 ± 0.141", "1.100 ± 0.141"] and rows["AP"][-1] == "5.100 ± 0.141"
    assert rows["ms per image"] == ["0", "1", "2", "4", "5"]  # the rung between is not a detector of its own
    assert table(record, spread=False)["AP"] == ["0.100", "1.100", "2.100", "4.100", "5.100"]
    assert all(len(cells) == len(DETECTORS) for cells in [*rows.values(), *PAPERS.values()])


def test_markdown_has_a_column_for_each_detector():
    lines = markdown({"AP": list("abcde")}).splitlines()
    assert lines == [
        "|  | R-CNN | SPPnet | Fast R-CNN | Faster R-CNN | FPN |", "| --- | --- | --- | --- | --- | --- |",
        "| AP | a | b | c | d | e |",
    ]  # fmt: skip


def test_points_and_gains_are_taken_seed_by_seed(record):
    record["runs"]["1"]["variants"]["FPN"]["AP"] = 6
    found = points(record)
    assert found["SPPnet"] == {"x": [1, 1.2], "y": [1, 1.2]} and found["FPN"]["y"] == [5, 6]
    changes = gains(record)
    assert changes["maps of five sizes, shared by all windows"] == pytest.approx((1, 1))
    assert changes["a pyramid"] == pytest.approx((1, 1.8))


@pytest.mark.parametrize("data", ["shapes", "bccd"])
def test_the_rungs_had_about_the_same_seconds(data):
    seconds = by_variant(records.load(f"ladder_{data}"), "seconds")
    means = {name: mean(each) for name, each in seconds.items()}
    assert max(means.values()) < 1.3 * min(means.values())


@pytest.mark.parametrize("data", ["shapes", "bccd"])
def test_each_rung_removes_what_was_done_twice(data):
    record = records.load(f"ladder_{data}")
    assert len(record["runs"]) >= 3
    for metric, expected in {"passes": (200, 5, 1, 1, 1), "stages": (4, 4, 1, 1, 1)}.items():
        values = by_variant(record, metric)
        assert [mean(values[name]) for name in DETECTORS] == pytest.approx(expected, rel=0.05)
    took = {name: mean(each) for name, each in by_variant(record, "milliseconds").items()}
    assert took["R-CNN"] > took["SPPnet"] > took["Fast R-CNN"] > 2 * took["Faster R-CNN"]


def test_the_readme_shows_the_records():
    found = readme_ladder.found()
    readme = (readme_ladder.ROOT / "README.md").read_text(encoding="utf-8")
    for name, rows in readme_ladder.tables().items():
        begin, end = readme_ladder.marks(name)
        assert readme.split(begin)[1].split(end)[0].strip() == rows
    assert markdown(summary(found)) in readme
    for data, record in found.items():
        path = readme_ladder.picture(data)
        assert f"(docs/{path.name})" in readme
        with Image.open(path) as picture:
            assert picture.info["comment"] == readme_ladder.comment(record)
    points = shipped_points(found["shapes"])
    with Image.open(readme_ladder.RIVALS) as picture:
        assert picture.info["comment"] == fingerprint(rivals.points()).encode()
    assert f"(docs/{readme_ladder.RIVALS.name})" in readme
    with Image.open(readme_ladder.TRAINED) as picture:
        assert picture.info["comment"] == fingerprint(points).encode()
    assert f"(docs/{readme_ladder.TRAINED.name})" in readme
    assert [point["y"] for point in points.values()] == [[ap] for ap in shipped()]
    assert points["FPN"]["x"] == [mean(by_variant(found["shapes"], "milliseconds")["FPN"])]
