"""The detector that notebook 01 shows before it builds one."""

from torch.utils.data import Subset

from rcnn_tutorial import records
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors.rcnn import RCNN, RCNNSettings
from rcnn_tutorial.evaluation import predict, voc_ap
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.weights import load_weights


def test_the_shipped_rcnn_detects_what_its_record_says():
    data = WithProposals(Subset(load_dataset("shapes", "test"), range(30)), top=200)
    classes = data.dataset.dataset.classes
    model = RCNN(tiny_net(len(classes)), classes, RCNNSettings.tiny())
    model.load_state_dict(load_weights("rcnn"))
    found = voc_ap(*predict(model, data, progress=False), classes).map
    record = records.load("rcnn")
    assert abs(found - record["test"]["CNN + SVM + regression"]["AP50"]) < 0.15  # 30 scenes of 500
    assert abs(float(model.nms_threshold) - record["nms_threshold"]) < 1e-3
