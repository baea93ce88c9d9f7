"""RetinaNet on the body and the neck of an FPN, and what notebook 07 measures of both."""

import pytest
import torch

from rcnn_tutorial.course import dense
from rcnn_tutorial.detectors import load
from rcnn_tutorial.detectors.retinanet import RetinaNetSettings
from tests.detectors.scenes import Scenes, batch


@pytest.fixture(scope="module")
def fpn():
    return load("fpn")


def test_body_and_neck_are_the_fpns(fpn):
    model = dense.on_fpn(fpn, fpn.classes, RetinaNetSettings.tiny())
    image = batch(1)[0]
    with torch.no_grad():
        own, theirs = model.maps(image)[1], fpn.maps(image)[1]
    assert len(own) == 5 and all(map(torch.equal, own[:3], theirs[1:4]))
    again = dense.on_fpn(fpn, fpn.classes, RetinaNetSettings.tiny())
    same = zip(model.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(one, other) and one is not other for one, other in same)


def test_seconds_of_each_stage(fpn):
    pictures = batch(1)[0]
    assert list(dense.stage_seconds(fpn, pictures)) == ["pyramid", "RPN", "class and box"]
    found = dense.stage_seconds(dense.on_fpn(fpn, fpn.classes, RetinaNetSettings.tiny()), pictures)
    assert list(found) == ["pyramid", "subnets", "select"] and min(found.values()) > 0


def test_first_losses_differ_by_the_prior_alone(fpn):
    curves = dense.first_losses(fpn, fpn.classes, Scenes(4), (0.5, 0.01), 1)
    assert list(curves) == ["prior 0.5", "prior 0.01"] and [len(each) for each in curves.values()] == [1, 1]
    assert curves["prior 0.5"][0] > 10 * curves["prior 0.01"][0]
