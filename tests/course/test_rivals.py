"""Records of detectors on equal terms: what is read from them, on made-up ones."""

import pytest

from rcnn_tutorial.course.records import rivals
from rcnn_tutorial.course.records.rivals import RIVALS, rank_correlation

FAST, ACCURATE = "SSD", "FPN"


def variant(ap, ms):
    return {"AP": ap, "AP50": 2 * ap, "AP75": ap / 2, "milliseconds": ms}


@pytest.fixture
def made_up(monkeypatch):
    """Two seeds: every detector has an AP of 0.2 and 0.4 and needs 30 ms, but two of them."""
    own = {FAST: variant(0.2, 10), ACCURATE: variant(0.5, 50)}
    runs = {}
    for seed, factor in (("0", 1), ("1", 2)):
        each = {name: own.get(name, variant(0.2 * factor, 30)) for name in RIVALS}
        plain = {f"{name}, plain trunk": variant(0.1, 30) for name in ("Faster R-CNN", "SSD")}
        runs[seed] = {"variants": each | plain | {variant_: each[name] for name, (_, variant_) in RIVALS.items()}}
    monkeypatch.setattr(rivals, "load", lambda name: {"runs": runs})


def test_points_have_time_and_accuracy_of_every_seed(made_up):
    for data in ("shapes", "bccd"):
        found = rivals.points(data=data)
        assert list(found) == list(RIVALS)
        assert found["R-FCN"] == {"x": [30, 30], "y": [0.2, 0.4]}
        assert found[FAST] == {"x": [10, 10], "y": [0.2, 0.2]}


def test_a_change_is_a_share_of_what_was_there(made_up):
    assert rivals.changes("relatives", "Faster R-CNN", "SSD", "AP") == pytest.approx([0, 1])
    assert rivals.changes("relatives", "SSD", "Faster R-CNN", "milliseconds") == pytest.approx([-2 / 3, -2 / 3])


def test_what_a_trunk_adds(made_up):
    assert rivals.trunk_effect("Faster R-CNN") == pytest.approx([0.1, 0.3])


def test_the_choice_keeps_to_its_limit(made_up):
    assert rivals.choose().startswith(ACCURATE) and ACCURATE not in rivals.choose(limit=30)
    assert rivals.choose(limit=10) == f"{FAST}, the only one within 10 ms"


def test_the_choice_names_both_where_nothing_is_decided(made_up, monkeypatch):
    assert rivals.choose().startswith("FPN or YOLO grid: +0.2000 (95 %: -1.0706 to +1.4706), not decided")
    reached = {"FPN": [0.5, 0.51], "SSD": [0.2, 0.21], "R-FCN": [0.1, 0.1]}
    spent = {name: [10, 10] for name in rivals.RIVALS}
    empty = {name: [0.0, 0.0] for name in rivals.RIVALS}
    monkeypatch.setattr(rivals, "values", lambda metric, data: spent if metric == "milliseconds" else empty | reached)
    assert rivals.choose() == "FPN, SSD second: +0.3000 (95 %: +0.3000 to +0.3000)"


def test_means_of_every_variant(made_up):
    found = list(rivals.every_mean("AP", "AP50"))
    assert len(found) % len(rivals.EVERY) == 0 and (0.5, 1.0) in found
    assert all(loose == pytest.approx(2 * ap) for ap, loose in found)


def test_rank_correlation():
    assert rank_correlation([1, 2, 3], [10, 20, 900]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(1 - 6 * 4 / (4 * 15))
    assert rank_correlation([1, 1, 2], [5, 5, 7]) == pytest.approx(1)  # equal numbers share a rank
    assert rank_correlation([1, 1, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9487, abs=1e-4)
