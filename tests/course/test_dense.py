"""RetinaNet on the body and the neck of an FPN, and what notebook 07 measures of both."""

import pytest
import torch

from rcnn_tutorial.course import dense
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors import load
from rcnn_tutorial.detectors.retinanet import RetinaNet, RetinaNetSettings
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
    assert list(curves) == ["prior 0.5", "prior 0.01", f"prior 0.01, {dense.WRONG}"]
    assert [len(each) for each in curves.values()] == [1, 1, 1]
    assert curves["prior 0.5"][0] > 10 * curves["prior 0.01"][0]
    assert curves[f"prior 0.01, {dense.WRONG}"] == pytest.approx(curves["prior 0.01"], rel=1e-5)


def test_over_all_anchors_the_gradient_alone_is_smaller(fpn):
    images, targets = batch(1)
    found = []
    for kind in (RetinaNet, dense.OverAllRetinaNet):
        model = dense.on_fpn(fpn, fpn.classes, RetinaNetSettings.tiny(), kind).train()
        losses = model(images, targets)
        sum(losses.values()).backward()
        bias = model.dense.head.scores.last.bias.grad
        found.append((losses["class"].item(), losses["box"].item(), bias))
    batched, maps = model.maps(images)
    predictions = model.dense(maps)
    state = model.dense.label(predictions.anchors, [targets[0]["boxes"]], batched.sizes).state
    (*losses, gradient), (*same, smaller) = found
    assert same == pytest.approx(losses, rel=1e-5) and gradient.abs().max() > 0
    assert torch.allclose(smaller * state.numel(), gradient * (state == 1).sum(), rtol=1e-3, atol=1e-5)


def test_the_right_answers_are_those_of_the_loss():
    model, scene = load("retinanet"), load_dataset("shapes", "test")[29]
    p_t = dense.right_answers(model, *scene)
    focal = -((1 - p_t) ** 2) * p_t.log()
    assert p_t.dtype == torch.float64 and len(p_t) % 6 == 0 and len(p_t) < 9216 * 6  # some anchors are ignored
    model.dense.settings = RetinaNetSettings.tiny(alpha=-1)
    batch, maps = model.maps([scene[0]])
    predictions = model.dense(maps)
    matches = model.dense.label(predictions.anchors, [scene[1]["boxes"]], batch.sizes)
    loss = model.dense.losses(predictions, matches, [scene[1]])["class"]
    assert focal.sum().item() == pytest.approx(loss.item() * (matches.state == 1).sum().item(), rel=1e-4)


def test_without_a_cap_more_time_goes_and_the_settings_stay():
    model, image = load("retinanet"), load_dataset("shapes", "test")[29][0]
    with torch.no_grad():
        batch, maps = model.maps([image])
        predictions = model.dense(maps)
    own = model.settings
    seconds = dense.choose_seconds(model, batch, predictions)
    assert list(seconds) == [
        "cap 1,000, scores above 0.05",
        "no cap, scores above 0.05",
        "no cap, all scores",
    ]
    assert seconds["no cap, all scores"] > 3 * seconds["cap 1,000, scores above 0.05"] > 0
    assert model.settings is own and model.dense.settings is own
