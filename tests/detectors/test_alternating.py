from copy import deepcopy

import pytest
import torch

from experiments import alternating
from experiments.alternating import RPNAlone, alternate
from rcnn_tutorial.cache import fingerprint
from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.training import TrainSettings
from tests.detectors.scenes import CLASSES, Scenes, batch, untrained


@pytest.fixture(scope="module")
def run():
    """Six steps: what stood in each part of the detector after each, and what each was trained on."""
    after, trainings, made = [], [], []

    def make():
        made.append(untrained(rois=32))
        made[-1].body[:1].requires_grad_(False)
        return made[-1]

    def remember(step, model, proposer):
        parts = {name: fingerprint(getattr(model, name)) for name in ("body", "rpn", "head")}
        after.append({"step": step, "model": model, "proposer": proposer} | parts)

    def train(model, dataset, settings, **options):
        trainings.append({"model": model, "dataset": dataset, "settings": settings, "weights": deepcopy(model)})
        return real(model, dataset, settings, **options)

    with pytest.MonkeyPatch.context() as patch:
        real = alternating.train
        patch.setattr(alternating, "train", train)
        settings = [TrainSettings(2, batch_size=2, lr=0.02 + 0.001 * i, clip_norm=10.0) for i in range(4)]
        model = alternate(make, Scenes(4), settings, rounds=2, after=remember)
    return model, made, after, trainings, settings


def test_the_convolutions_are_shared_from_step_3_on(run):
    start = fingerprint(untrained().body)
    first, second, *later = (each["body"] for each in run[2])
    claim(
        "FRCNN-30",
        condition=len({start, first, second}) == 3 and later == [second] * 4,
        note="hashes of the body: after steps 1 and 2 all differ, after 2, 3 and 4 they are one",
    )
    assert all(parameter.requires_grad for parameter in run[0].body[1:].parameters())
    assert not any(parameter.requires_grad for parameter in run[0].body[0].parameters())  # it was not trained before


def test_each_step_trains_its_part_alone(run):
    model, (proposer, detector), after, *_ = run
    assert model is detector and not {id(p) for p in proposer.parameters()} & {id(p) for p in model.parameters()}
    assert [each["model"] for each in after] == [proposer] + [detector] * 5
    assert [each["proposer"] for each in after] == [proposer] * 2 + [detector] * 4
    start = {name: fingerprint(getattr(untrained(rois=32), name)) for name in ("rpn", "head")}
    rpn, head = ([each[name] for each in after] for name in ("rpn", "head"))
    assert head[0] == start["head"] and rpn[0] != start["rpn"]
    assert rpn[1] == start["rpn"] and head[1] != start["head"]
    assert head[1] == head[2] != head[3] == head[4] != head[5]
    assert rpn[1] != rpn[2] == rpn[3] != rpn[4] == rpn[5]


def test_a_second_round_goes_on_in_the_numbers_and_with_the_settings_of_steps_3_and_4(run):
    _, _, after, trainings, settings = run
    assert [each["step"] for each in after] == [1, 2, 3, 4, 5, 6]
    assert [each["settings"] for each in trainings] == settings + settings[2:]
    assert [isinstance(each["model"], RPNAlone) for each in trainings] == [True, False] * 3


def test_the_head_trains_on_the_proposals_of_the_step_before(run):
    _, (proposer, _), _, trainings, _ = run
    image, _ = Scenes(4)[1]
    for training, source in ((trainings[1], proposer), (trainings[3], trainings[3]["weights"])):
        source = deepcopy(source).eval()
        source.rpn.train()  # as many as in training
        (expected,) = source.proposals([image])
        found = training["dataset"][1][1]["proposals"]
        assert torch.allclose(found, expected, atol=1e-3) and len(found) > 50
    for training in (trainings[0], trainings[2]):
        assert "proposals" not in training["dataset"][1][1]


def test_as_many_proposals_as_in_training_and_the_modes_stay():
    model = untrained().train()
    model.rpn.settings = type(model.rpn.settings)(**(vars(model.rpn.settings) | {"after_nms": (40, 5)}))
    proposed = alternating._proposed(Scenes(1), model)
    assert len(proposed[0][1]["proposals"]) == 40
    assert all(module.training for module in model.modules())
    model.eval()
    assert len(alternating._proposed(Scenes(1), model)[0][1]["proposals"]) == 40
    assert not any(module.training for module in model.modules())


def test_augmentation_is_put_around_the_proposals():
    seen = []

    def augment(dataset):
        seen.append("proposals" in dataset[0][1])
        return dataset

    alternate(lambda: untrained(rois=16), Scenes(2), [TrainSettings(1, lr=0.001)] * 4, augment)
    assert seen == [False, True, False, True]


def test_the_rpn_alone_trains_and_proposes():
    model = untrained()
    images, targets = batch()
    state = model.generator.get_state()
    alone = RPNAlone(model).train()(images, targets)
    model.generator.set_state(state)
    whole = model.train()(images, targets)
    assert set(alone) == {"objectness", "rpn_box"} and all(torch.equal(alone[name], whole[name]) for name in alone)
    found = RPNAlone(model).eval()(images)
    assert all(torch.equal(a, b) for a, b in zip(found, model.proposals(images), strict=True))
    assert [each.shape[1] for each in found] == [4, 4]


def test_other_than_four_settings_are_refused():
    with pytest.raises(ValueError, match="settings: expected those of 4 steps, got 3"):
        alternate(untrained, Scenes(2), [TrainSettings(2)] * 3)


def test_detectors_that_share_weights_are_refused():
    net = tiny_net(pretrained=True)
    settings = [TrainSettings(1, batch_size=2)] * 4
    with pytest.raises(ValueError, match="share weights"):
        alternate(lambda: FasterRCNN(net, CLASSES, FasterRCNNSettings.tiny()), Scenes(2), settings)
