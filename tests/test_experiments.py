"""The experiments' machinery on made-up data; what their records say is checked here too."""

import json
import sys

import pytest
import torch

from experiments import run, sppnet
from experiments.measure import measure
from experiments.scenes import Experiment
from rcnn_tutorial.course import records
from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.course.records.findings import FINDINGS, findings
from rcnn_tutorial.detectors import load

CLASSES = ("background", "a", "b")
BOXES = torch.tensor([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10.0]])


def detection(*rows):
    """Rows of (box, label, score)."""
    boxes, labels, scores = zip(*rows, strict=True)
    return {"boxes": torch.stack(boxes), "labels": torch.tensor(labels), "scores": torch.tensor(scores)}


def test_measure_looks_at_as_many_detections_as_there_are_objects():
    targets = [{"boxes": BOXES, "labels": torch.tensor([1, 1, 2])}, {"boxes": BOXES[:1], "labels": torch.tensor([2])}]
    shifted = BOXES[1] + torch.tensor([2, 0, 2, 0.0])
    detections = [
        detection((BOXES[0], 1, 0.9), (shifted, 1, 0.8), (BOXES[2], 1, 0.7), (BOXES[2], 2, 0.1)),
        detection((BOXES[0] + 100, 2, 0.6)),
    ]
    found = measure(detections, targets, CLASSES)
    assert found["hits"] == [2, 0]  # the fifth detection, a hit, is one too many
    assert found["kinds"] == {"correct": 2, "class": 1, "place": 0, "duplicate": 0, "background": 1, "missed": 2}
    assert found["iou"] == pytest.approx((1 + 8 / 12) / 2, abs=1e-4)
    assert 0 < found["AP"] < found["AP50"] < 1


def test_difficult_objects_are_not_counted():
    targets = [{"boxes": BOXES, "labels": torch.tensor([1, 1, 1]), "difficult": torch.tensor([False, True, True])}]
    found = measure([detection((BOXES[0], 1, 0.9), (BOXES[0] + 100, 1, 0.8))], targets, CLASSES)
    assert found["hits"] == [1] and found["kinds"]["background"] == 0


def fake(seed):
    fake.seeds.append(seed)
    return {"one": {"AP50": 0.5 + seed / 10, "hits": [1]}}


class Here:
    """A pool that runs in this process."""

    def __init__(self, processes):
        self.processes = processes

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, function, *args):
        from concurrent.futures import Future

        future = Future()
        future.set_result(function(*args))
        return future


def test_a_run_records_each_seed_once(tmp_path, monkeypatch, capsys):
    fake.seeds = []
    monkeypatch.setattr(run, "RECORDS", tmp_path)
    monkeypatch.setattr(run, "ProcessPoolExecutor", Here)
    monkeypatch.setitem(run.EXPERIMENTS, "fake", Experiment("a test", ("X-01",), fake, {"steps": 3}))
    for seeds in (["1"], ["0", "1"]):
        monkeypatch.setattr(sys, "argv", ["run", "fake", "--seeds", *seeds])
        run.main()
    record = json.loads((tmp_path / "fake.json").read_text())
    assert fake.seeds == [1, 0] and list(record["runs"]) == ["0", "1"]
    assert record["runs"]["1"]["variants"]["one"]["AP50"] == 0.6
    assert record["settings"] == {"steps": 3} and record["rows"] == ["X-01"] and "torch" in record["versions"]
    monkeypatch.setitem(run.EXPERIMENTS, "fake", Experiment("a test", ("X-01",), fake, {"steps": 4}))
    monkeypatch.setattr(sys, "argv", ["run", "fake", "--seeds", "0"])
    run.main()  # other settings: nothing of the old record stays
    assert fake.seeds == [1, 0, 0]
    assert list(json.loads((tmp_path / "fake.json").read_text())["runs"]) == ["0"]
    assert "one" in capsys.readouterr().out


def test_two_runs_may_add_to_one_record(tmp_path, monkeypatch):
    def another_run_ends_meanwhile(seed):
        path = tmp_path / "fake.json"
        if not path.exists():
            monkeypatch.setattr(sys, "argv", ["run", "fake", "--seeds", "1"])
            path.write_text("{}")
            run.main()
        return {"one": {"AP50": seed}}

    monkeypatch.setattr(run, "RECORDS", tmp_path)
    monkeypatch.setattr(run, "ProcessPoolExecutor", Here)
    monkeypatch.setitem(run.EXPERIMENTS, "fake", Experiment("a test", (), another_run_ends_meanwhile, {}))
    monkeypatch.setattr(sys, "argv", ["run", "fake", "--seeds", "0"])
    run.main()
    assert list(json.loads((tmp_path / "fake.json").read_text())["runs"]) == ["0", "1"]


def test_the_steps_that_share_convolutions_leave_them_alone():
    for seed in records.load("frcnn_30")["runs"].values():
        bodies = [seed["variants"][f"alternating, step {step}"]["body"] for step in (2, 4, 6)]
        assert len(set(bodies)) == 1


def test_joint_training_is_ahead_of_the_four_steps_after_the_same_time():
    alternating = records.by_variant(records.load("frcnn_30"))["alternating, step 4"]
    joint = records.by_variant(records.load("frcnn_31"))["1000 steps"]
    assert min(joint) > max(alternating)


def title(finding):
    return f"{finding.row}, {finding.record}, {finding.variant} minus {finding.against}, {finding.metric}"


@pytest.mark.parametrize("finding", FINDINGS, ids=title)
def test_what_the_records_say(finding):
    call = finding.claim()
    assert call["runs"] >= 3
    claim(**call)


@pytest.mark.parametrize("finding", FINDINGS, ids=title)
@pytest.mark.parametrize("shift", [-1, 1])
def test_a_record_that_says_otherwise_fails(finding, shift):
    """By as much as the band of the whole interval is wide."""
    call = finding.claim()
    low, high = finding.within
    with pytest.raises(AssertionError, match=f"not as stated: {finding.row}"):
        claim(**call | {"measured": call["measured"] + shift * (high - low)})


@pytest.mark.parametrize("finding", FINDINGS, ids=title)
def test_another_agreement_than_the_records_fails(finding):
    for other in {"agrees", "differs", "does not decide", "the source is silent"} - {finding.agrees}:
        with pytest.raises(AssertionError, match=f"not as stated: {finding.row}"):
            claim(**finding.claim() | {"agrees": other})


def test_findings_of_some_rows_alone():
    asked = [call["id"] for call in findings("FPN-11", "FPN-07")]
    assert asked == ["FPN-11"] + 5 * ["FPN-07"]


def test_two_findings_of_a_row_have_two_names():
    names = [(call["id"], call["note"]) for finding in FINDINGS for call in [finding.claim()]]
    assert len(set(names)) == len(names)


def test_rounding_is_the_smallest_step_from_sppnets_windows_to_r_cnns():
    found = records.by_variant(records.load("spp_borders"), "share at 0.75")
    order = ("whole cells", "exact borders", "a crop with context", "fine-tuned convolutions")
    for seed in range(3):
        shares = [found[name][seed] for name in order]
        rounding, *others = (after - before for before, after in zip(shares, shares[1:], strict=False))
        assert 0 <= rounding < min(others)
    means = [sum(found[name]) / 3 for name in order]
    steps = [after - before for before, after in zip(means, means[1:], strict=False)]
    assert steps == pytest.approx([0.017, 0.043, 0.038], abs=5e-4)  # notebook 02, section 7


def test_exact_borders_see_what_whole_cells_do_not():
    """A window of 64 x 64 is read at the picture's own size, where it moves by 2 of the 8 pixels of a cell."""
    model = load("sppnet")
    image = torch.rand(3, 192, 256, generator=torch.Generator().manual_seed(0))
    windows = torch.tensor([[41, 41, 105, 105], [43, 41, 107, 105], [57, 57, 121, 121.0]])
    cells, exact = model.pooled(image, windows), sppnet.exact(model, image, windows)
    assert torch.equal(cells[0], cells[1]) and not torch.allclose(exact[0], exact[1], atol=0.01)
    assert exact.shape == cells.shape
    near = (exact[0] - cells[0]).norm()  # the same window, read twice
    assert near < 0.7 * (exact[2] - cells[0]).norm() and near < 0.7 * (exact[0] - cells[2]).norm()
