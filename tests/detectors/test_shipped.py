"""The detectors that the notebooks show before they build them."""

import json
import runpy
from dataclasses import asdict
from pathlib import Path

import pytest
from torch.utils.data import Subset

from rcnn_tutorial.course import records
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors import load
from rcnn_tutorial.evaluation import coco_ap, predict, voc_ap
from rcnn_tutorial.proposals.dataset import WithProposals

SCRIPT = Path(__file__).parents[2] / "data_scripts" / "train_detector.py"
WHOLE = "CNN + SVM + regression"
SHIPPED = {  # the least AP50, as a share of the proposals' recall; what the record calls the whole detector
    "rcnn": (0.7, WHOLE),
    "sppnet": (0.6, WHOLE),
    "fast_rcnn": (0.75, "Fast R-CNN"),
    "faster_rcnn": (0.75, "Faster R-CNN"),
    "fpn": (0.75, "FPN"),
    "mask_rcnn": (0.75, "Mask R-CNN"),
    "retinanet": (0.75, "RetinaNet"),
}


@pytest.fixture(scope="module")
def data():
    return WithProposals(Subset(load_dataset("shapes", "test"), range(30)), top=200)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_detector_detects_what_its_record_says(name, data):
    _, whole = SHIPPED[name]
    model = load(name)
    assert model.classes == data.dataset.dataset.classes and not model.training
    found = voc_ap(*predict(model, data, progress=False), model.classes).map
    record = records.load(name)
    assert abs(found - record["test"][whole]["AP50"]) < 0.15  # 30 scenes of 500
    if "nms_threshold" in record:
        assert abs(float(model.nms_threshold) - record["nms_threshold"]) < 1e-3


# settings that are none any more were recorded with what is now the rule
@pytest.mark.parametrize("name", ["faster_rcnn", "fpn", "mask_rcnn", "retinanet"])
def test_the_script_trains_with_the_settings_of_the_record(name):
    recorded = records.load(name)["settings"]
    chosen = runpy.run_path(str(SCRIPT))["chosen"](name, recorded["training"]["steps"])
    own = json.loads(json.dumps(asdict(chosen)))
    parts = [(own, recorded), *((own[name], recorded[name]) for name in {"rpn", "training"} & own.keys())]
    for part, before in parts:  # what is no setting any more has the value that is the rule now
        same = part.keys() & before.keys() - {"rpn", "training"}
        assert len(same) >= 9 and {key: part[key] for key in same} == {key: before[key] for key in same}


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "retinanet"])
def test_the_shipped_detector_reaches_what_its_proposals_allow(name):
    share, whole = SHIPPED[name]
    record = records.load(name)
    assert record["recall"]["0.5"] >= 0.90
    assert record["test"][whole]["AP50"] >= share * record["recall"]["0.5"]


def test_the_shipped_masks_are_as_good_as_their_record_says():
    """And the boxes beside them as those of the FPN that they started from."""
    test = Subset(load_dataset("shapes", "test", masks=True), range(30))
    found = coco_ap(*predict(load("mask_rcnn"), test, progress=False), test.dataset.classes, kind="segm")
    record, fpn = records.load("mask_rcnn")["test"], records.load("fpn")["test"]["FPN"]
    assert abs(found["AP"] - record["masks"]["AP"]) < 0.1
    assert record["masks"]["AP"] >= 0.35 and abs(record["Mask R-CNN"]["AP"] - fpn["AP"]) < 0.03
