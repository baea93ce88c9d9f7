"""The experiments' machinery on made-up data; what their records say is checked here too."""

import json
import sys

import pytest
import torch

from experiments import run
from experiments.measure import measure
from experiments.scenes import Experiment
from rcnn_tutorial import records
from rcnn_tutorial.claims import claim

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


DIFFERENCES = [  # row, record, variant, against, metric, bounds of the mean with two standard errors on either side
    ("RCNN-06", "rcnn_06", "pre-trained, fine-tuned", "random, fine-tuned", "AP50", (0.1, 1), "pre-training helps"),
    ("RCNN-06", "rcnn_06", "pre-trained, fine-tuned", "pre-trained", "AP50", (0.03, 1), "fine-tuning helps"),
    ("RCNN-11", "rcnn_11", "0.3", "0.5", "AP50", (-0.01, 0.01), "paper: about 0.05"),
    ("RCNN-11", "rcnn_11", "0.3", "0", "AP50", (-0.01, 0.01), "paper: about 0.04"),
    ("RCNN-12", "rcnn_parts", "+ mining", "+ SVM", "AP50", (0, 1), "mining helps"),
    ("RCNN-13", "rcnn_parts", "+ regression", "+ mining", "AP75", (0.03, 1), "regression helps"),
    ("RCNN-18", "rcnn_parts", "+ mining", "CNN", "AP50", (-0.01, 0.02), "paper: about 0.03"),
    ("RCNN-19", "rcnn_19", "IoU 0.5 | SVM, truth alone", "IoU 0.5 | SVM, IoU 0.5", "AP50", (0, 1), "as the paper"),
    ("RCNN-19", "rcnn_19", "truth alone | softmax", "IoU 0.5 | softmax", "AP50", (0, 1), "not as the paper"),
    ("RCNN-01", "rcnn_parts", "+ regression", "regression after NMS", "AP50", (-0.01, 0.01), "order of regression"),
    ("SPP-08", "spp_08", "64 and 52", "64 alone", "accuracy at 52", (0.03, 0.12), "it has seen that size"),
    ("SPP-08", "spp_08", "64 and 52", "64 alone", "accuracy at 64", (-0.08, 0), "paper: better"),
    ("FAST-11", "fast_11", "N = 32", "N = 2", "AP50", (0, 1), "paper: no difference in practice"),
    ("FAST-13", "fast_13", "from 0.1", "from 0", "AP50", (-0.04, 0.04), "paper: better"),
    ("FAST-16", "fast_16", "0 frozen", "5 frozen", "AP50", (0, 1), "paper: 0.055"),
    ("SPP-19", "fast_16", "0 frozen", "5 frozen", "AP50", (0, 1), "trained convolutions help"),
    ("FAST-23", "fast_23", "joint", "class alone", "AP50", (0, 1), "paper: better"),
    ("FAST-23", "fast_23", "joint", "stage-wise", "AP50", (-0.03, 0.03), "paper: better"),
    ("FAST-24", "fast_24", "Fast R-CNN", "R-CNN", "AP50", (-0.15, 0), "paper: better; equal steps"),
    ("FAST-24", "fast_24", "SPPnet", "R-CNN", "AP50", (-0.03, 0.03), "paper: -0.03"),
    ("FAST-24", "fast_24", "SPPnet", "R-CNN", "AP75", (-0.2, -0.05), "cells cost place"),
    ("FAST-24", "fast_24_longer", "2400 steps", "800 steps", "AP50", (0.02, 1), "it learns from more steps"),
    ("FRCNN-19", "frcnn_19", "lambda = 10", "lambda = 0.1", "AP50", (-0.02, 0.02), "0.027"),
    ("FRCNN-19", "frcnn_19", "lambda = 10", "lambda = 1", "AP50", (-0.02, 0.02), "0.010"),
    ("FRCNN-19", "frcnn_19", "lambda = 10", "lambda = 100", "AP50", (0.05, 1), "0.008"),
    ("FRCNN-25", "frcnn_25", "inside alone", "all anchors", "AP50", (-0.1, 0), "needed to converge"),
    ("FRCNN-26", "frcnn_26", "3000 without NMS", "300 proposals", "AP50", (-0.03, 0.01), "-0.016"),
    ("FRCNN-26", "frcnn_26", "100 proposals", "300 proposals", "AP50", (-0.04, 0.02), "-0.017"),
    ("FRCNN-30", "frcnn_30", "alternating, step 4", "alternating, step 2", "AP50", (0, 1), "better"),
    ("FRCNN-30", "frcnn_30", "alternating, step 6", "alternating, step 4", "AP50", (0, 1), "no difference"),
    ("FRCNN-31", "frcnn_30", "approximate joint", "alternating, step 4", "AP50", (-0.12, 0), "close"),
    ("FRCNN-31", "frcnn_30", "approximate joint", "alternating, step 4", "seconds", (-150, -50), "25 to 50 % less"),
    ("FRCNN-31", "frcnn_31", "1000 steps", "400 steps", "AP50", (0, 1), "for the time of the four steps"),
    ("FRCNN-32", "frcnn_30", "non-approximate joint", "approximate joint", "AP50", (-0.25, 0), "no figure"),
    ("FRCNN-34", "frcnn_34", "3 scales, 3 ratios", "1 scale, 1 ratio", "AP50", (0, 0.04), "0.032 to 0.041"),
    ("FRCNN-34", "frcnn_34", "3 scales, 3 ratios", "3 scales, 1 ratio", "AP50", (-0.06, 0), "0.001"),
    ("FRCNN-34", "frcnn_34", "3 scales, 3 ratios", "1 scale, 3 ratios", "AP50", (-0.12, 0), "0.011 to 0.020"),
    ("FRCNN-35", "frcnn_35", "two stages", "one stage", "AP50", (0.3, 0.5), "0.048"),
    ("FPN-07", "fpn_07", "top-down", "hierarchy", "AP", (-0.05, 0.1), "better"),
    ("FPN-07", "fpn_07", "top-down", "no laterals", "AP", (0.1, 1), "better"),
    ("FPN-07", "fpn_07", "top-down", "single", "AP", (-0.05, 0.05), "better"),
    ("FPN-10", "fpn_07", "finest", "top-down", "AP", (-1, -0.05), "below"),
    ("FPN-16", "fpn_07", "top-down", "single", "AP_small_third", (0.05, 1), "large gain"),
    ("FPN-16", "fpn_16", "FPN", "Faster R-CNN", "AP_small_third", (0.05, 1), "large gain"),
    ("FPN-16", "fpn_16", "FPN", "Faster R-CNN", "AP", (0, 1), "better"),
    ("FPN-03", "fpn_03", "3 x 3", "none", "AP", (-0.05, 0.05), "no figure"),
    ("FPN-11", "fpn_11", "shared", "one for each level", "AP", (0, 0.1), "about the same"),
    ("FPN-15", "fpn_15", "all anchors", "inside alone", "AP", (-0.05, 0.05), "kept"),
    ("X-08", "x_08", "features", "anchors", "AP_small_third", (0, 1), "at equal steps"),
    ("X-08", "x_08", "features", "filters", "AP_small_third", (0, 1), "at equal steps"),
    ("X-08", "x_08", "images", "features", "AP", (0, 1), "at equal steps"),
    ("X-08", "x_08", "images", "features", "seconds", (100, 400), "slow"),
    ("X-09", "ladder_shapes", "SPPnet", "R-CNN", "AP", (-0.1, 0), "same seconds: whole cells"),
    ("X-09", "ladder_shapes", "Faster R-CNN", "Fast R-CNN, RoIAlign", "AP", (0, 0.1), "same seconds"),
    ("X-09", "ladder_shapes", "FPN", "Faster R-CNN", "AP_small_third", (0.05, 1), "same seconds"),
    ("X-09", "ladder_bccd", "SPPnet", "R-CNN", "AP", (-0.2, 0), "same seconds: whole cells"),
    ("X-09", "ladder_bccd", "Faster R-CNN", "Fast R-CNN, RoIAlign", "AP", (0.05, 1), "same seconds"),
    ("X-09", "ladder_bccd", "FPN", "Faster R-CNN", "AP_small_third", (0.05, 1), "same seconds"),
    ("FPN-16", "fpn_07", "top-down", "single", "AP_large_third", (-0.15, 0), "new stages, few steps"),
]


def test_the_steps_that_share_convolutions_leave_them_alone():
    for seed in records.load("frcnn_30")["runs"].values():
        bodies = [seed["variants"][f"alternating, step {step}"]["body"] for step in (2, 4, 6)]
        assert len(set(bodies)) == 1


def test_joint_training_is_ahead_of_the_four_steps_after_the_same_time():
    alternating = records.by_variant(records.load("frcnn_30"))["alternating, step 4"]
    joint = records.by_variant(records.load("frcnn_31"))["1000 steps"]
    assert min(joint) > max(alternating)


@pytest.mark.parametrize(("row", "name", "variant", "against", "metric", "bounds", "source"), DIFFERENCES)
def test_what_the_records_say(row, name, variant, against, metric, bounds, source):
    found = records.difference(records.load(name), variant, against, metric)
    inside = bounds[0] < found.mean - 2 * found.error and found.mean + 2 * found.error < bounds[1]
    assert found.seeds >= 3
    claim(row, round(found.mean, 3), source, spread=round(found.spread, 3), condition=inside,
          note=f"{metric}, {variant} less {against}")  # fmt: skip
