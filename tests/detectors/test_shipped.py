"""The detectors that the notebooks show before they build them."""

import json
import runpy
from dataclasses import asdict
from pathlib import Path

import pytest
from torch.utils.data import Subset

from rcnn_tutorial.course import records
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors.fast_rcnn import FastRCNN, FastRCNNSettings
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.detectors.rcnn import RCNN, RCNNSettings
from rcnn_tutorial.detectors.sppnet import SPPnet, SPPnetSettings
from rcnn_tutorial.evaluation import predict, voc_ap
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.weights import load_weights

SCRIPT = Path(__file__).parents[2] / "data_scripts" / "train_detector.py"
WHOLE = "CNN + SVM + regression"
SHIPPED = {  # the least AP50, as a share of the proposals' recall; what the record calls the whole detector
    "rcnn": (lambda classes: RCNN(tiny_net(len(classes)), classes, RCNNSettings.tiny()), 0.7, WHOLE),
    "sppnet": (
        lambda classes: SPPnet(tiny_net(len(classes), levels=(4, 2, 1)), classes, SPPnetSettings.tiny()),
        0.6,
        WHOLE,
    ),
    "fast_rcnn": (lambda classes: FastRCNN(tiny_net(), classes, FastRCNNSettings.tiny()), 0.75, "Fast R-CNN"),
    "faster_rcnn": (lambda classes: FasterRCNN(tiny_net(), classes, FasterRCNNSettings.tiny()), 0.75, "Faster R-CNN"),
    "fpn": (lambda classes: FPN(tiny_net(), classes, FPNSettings.tiny()), 0.75, "FPN"),
}


@pytest.fixture(scope="module")
def data():
    return WithProposals(Subset(load_dataset("shapes", "test"), range(30)), top=200)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_detector_detects_what_its_record_says(name, data):
    make, _, whole = SHIPPED[name]
    classes = data.dataset.dataset.classes
    model = make(classes).eval()
    model.load_state_dict(load_weights(name))
    found = voc_ap(*predict(model, data, progress=False), classes).map
    record = records.load(name)
    assert abs(found - record["test"][whole]["AP50"]) < 0.15  # 30 scenes of 500
    if "nms_threshold" in record:
        assert abs(float(model.nms_threshold) - record["nms_threshold"]) < 1e-3


# settings that are none any more were recorded with what is now the rule
GONE = {"design": "top-down", "smooth": True}


@pytest.mark.parametrize("name", ["faster_rcnn", "fpn"])
def test_the_script_trains_with_the_settings_of_the_record(name):
    recorded = records.load(name)["settings"]
    chosen = runpy.run_path(str(SCRIPT))["chosen"](name, recorded["training"]["steps"])
    own = json.loads(json.dumps(asdict(chosen)))
    for part in ("rpn", "training"):  # settings that came later have the value that was the rule before
        assert {key: own[part][key] for key in recorded[part]} == recorded.pop(part)
    for key, value in GONE.items():
        assert recorded.pop(key, value) == value
    del recorded["proposals"]
    assert {key: own[key] for key in recorded} == recorded


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_detector_reaches_what_its_proposals_allow(name):
    _, share, whole = SHIPPED[name]
    record = records.load(name)
    assert record["recall"]["0.5"] >= 0.90
    assert record["test"][whole]["AP50"] >= share * record["recall"]["0.5"]
