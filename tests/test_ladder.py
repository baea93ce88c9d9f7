"""The ladder's machinery: what is timed and counted, pictures of one size, tables; and what its records say."""

from collections import Counter

import pytest
import torch
from torch import nn

from experiments import ladder
from rcnn_tutorial.records.ladder import CHANGES, DETECTORS, PAPERS, ROWS, gains, markdown, points, table


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
    assert changes["one pass, bins on its map"] == pytest.approx((1, 0))
    assert changes["a pyramid"] == pytest.approx((1.4, 0.4 * 2**0.5))
