"""Our RetinaNet beside torchvision's, `retinanet_resnet50_fpn` and its second version.

What stands in the way of equality, and holds here, is told in docs/equality.md.
"""

from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models import WeightsEnum
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FrozenBatchNorm2d, box_iou
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from rcnn_tutorial.compat import NEVER, from_state, to_state
from rcnn_tutorial.detectors import load
from rcnn_tutorial.detectors.retinanet import RetinaNet as Ours
from rcnn_tutorial.detectors.retinanet import RetinaNetSettings, from_torchvision
from tests.peers import (
    BLANK,
    CHANNELS,
    SIZES,
    assert_copied,
    assert_detections_equal,
    few_of,
    images_of,
    near,
    seeded,
    standardise,
    targets_of,
    thin_fpn,
)
from tests.peers import gradients as gradients_of

SMALL = {"min_size": 72, "max_size": 128, "detections_per_img": 5000}  # all, and those without area drop none
ANCHORS = AnchorGenerator(tuple((side, side * 1.26, side * 1.59) for side in (12, 24, 48, 96, 192)), ((0.5, 1, 2),) * 5)
LOSSES = {"classification": "class", "bbox_regression": "box"}


@torch.no_grad()
def condition(model, images):
    """Statistics and weights under which all answers spread, and the class 0 is never found."""
    for norm in (layer for layer in model.backbone.modules() if isinstance(layer, (nn.BatchNorm2d, FrozenBatchNorm2d))):
        norm.weight.uniform_(0.5, 1.5), norm.bias.uniform_(-0.5, 0.5)
    if any(isinstance(layer, nn.BatchNorm2d) for layer in model.backbone.modules()):
        model.backbone.train()(model.transform(images)[0].tensors)
    model.eval()
    for subnet in (model.head.classification_head.conv, model.head.regression_head.conv):
        for conv in (layer for layer in subnet.modules() if isinstance(layer, nn.Conv2d)):
            nn.init.kaiming_normal_(conv.weight)
    standardise(model, images, model.head.classification_head.cls_logits, 1.5)
    standardise(model, images, model.head.regression_head.bbox_reg, 0.3)
    scores = model.head.classification_head
    scores.cls_logits.bias -= 2
    scores.cls_logits.weight.unflatten(0, (-1, scores.num_classes))[:, 0] = 0
    scores.cls_logits.bias.unflatten(0, (-1, scores.num_classes))[:, 0] = NEVER
    return model


def first(norm=FrozenBatchNorm2d):
    """As the first version: P6 of P5, plain subnets, differences of the offsets."""
    net = thin_fpn(norm, maps=(2, 3, 4), extra_blocks=LastLevelP6P7(CHANNELS, CHANNELS))
    return RetinaNet(net, 7, anchor_generator=ANCHORS, **SMALL)


def second(**changes):
    """As the second version: P6 of C5, subnets with GroupNorm, GIoU; and other settings."""
    net = thin_fpn(maps=(2, 3, 4), extra_blocks=LastLevelP6P7(512, CHANNELS))
    head = RetinaNetHead(CHANNELS, 4, 7, norm_layer=partial(nn.GroupNorm, 8))
    head.regression_head._loss_type = "giou"
    anchors = AnchorGenerator(((10, 14), (20, 28), (40, 56), (80, 112), (160, 224)), ((0.6, 1.7),) * 5)
    few = {"score_thresh": 0.1, "nms_thresh": 0.4, "topk_candidates": 200}
    few |= {"fg_iou_thresh": 0.6, "bg_iou_thresh": 0.3, "detections_per_img": 5000, "min_size": 100, "max_size": 150}
    return RetinaNet(net, 7, anchor_generator=anchors, head=head, **(few | changes))


PEERS = {"first version": first, "second version": second}


@pytest.fixture(scope="module", params=PEERS)
def peers(request):
    """Torchvision's detector and ours, with the same weights."""
    theirs = seeded(lambda: condition(PEERS[request.param](), images_of(SIZES))).eval()
    return theirs, from_torchvision(theirs)


class WithArea:
    """torchvision's detections but for boxes that clipping leaves without area, which ours drops."""

    def __init__(self, model):
        self.model = model

    def __call__(self, images):
        found = self.model(images)
        whole = [(one["boxes"][:, 2:] > one["boxes"][:, :2]).all(1) for one in found]
        return [{name: value[kept] for name, value in one.items()} for one, kept in zip(found, whole, strict=True)]


def test_every_stage_equals_torchvisions(doubles):
    """In double precision: input, maps, answers, anchors, labels of the anchors, detections."""
    theirs, ours = doubles
    images, targets = [image.double() for image in images_of(SIZES, first=4)], few_of(SIZES, first=4)
    with torch.no_grad():
        inputs, scaled = theirs.transform(images, targets)
        data = ours.preprocess(images)
        assert near(data.tensor, inputs.tensors) and data.sizes == inputs.image_sizes and len(set(data.sizes)) == 3
        features = list(theirs.backbone(inputs.tensors).values())
        found = ours.maps(images)[1]
        assert len(found) == len(features) == 5 and all(map(near, found, features))
        expected, anchors = theirs.head(features), theirs.anchor_generator(inputs, features)
        said = ours.dense(features)
        assert near(said.logits, expected["cls_logits"][..., 1:]) and said.logits.std() > 1
        assert near(said.offsets, expected["bbox_regression"]) and near(said.anchors, anchors[0])
        boxes = [target["boxes"] for target in scaled]
        matches = ours.dense.label(said.anchors, boxes, data.sizes)
        seen = set()
        for truth, state, gt in zip(*matches, boxes, strict=True):
            if len(gt):
                wanted = theirs.proposal_matcher(box_iou(gt, said.anchors))  # index, -1 below, -2 between
                own = torch.where(state == 1, truth, torch.where(state == 0, -1, -2))
                assert torch.equal(own, wanted)
                seen |= set(wanted.clamp(max=0).tolist())
            else:
                assert (state == 0).all()
        assert seen == {0, -1, -2}
        for own, one in zip(ours(images), WithArea(theirs)(images), strict=True):
            assert len(one["labels"]) > 10 and torch.equal(own["labels"], one["labels"])
            assert near(own["boxes"], one["boxes"]) and near(own["scores"], one["scores"])


def test_losses_and_gradients_equal_torchvisions(doubles):
    """Of each picture alone: torchvision divides by the positives of a picture, we by those of the mini-batch."""
    theirs, ours = (model.train() for model in doubles)
    images = [image.double() for image in images_of(SIZES, first=4)]
    for image, target in zip(images, few_of(SIZES, first=4), strict=True):
        expected, found = theirs([image], [target]), ours([image], [target])
        assert {LOSSES[name] for name in expected} == set(found)
        for name, value in expected.items():
            assert near(found[LOSSES[name]], value) and (value > 0 or not len(target["boxes"])), name
        expected, found = from_state(gradients_of(theirs, expected)), gradients_of(ours, found)
        assert expected.keys() == found.keys() and sum(value is not None for value in found.values()) > 30
        for name, value in expected.items():
            assert (value is None) == (found[name] is None), name
            assert value is None or near(found[name], value), name


def test_a_mini_batch_is_divided_by_all_its_positives(doubles):
    theirs, ours = (model.train() for model in doubles)
    images = [image.double() for image in images_of(SIZES[:1] * 2, first=4)]
    targets = targets_of(SIZES[:1] * 2, first=4)
    whole = ours(images, targets)
    parts, counts = [], []
    for image, target in zip(images, targets, strict=True):
        data, maps = ours.maps([image])
        anchors = ours.dense(maps).anchors
        boxes = data.to_input([target["boxes"]])
        counts.append(int((ours.dense.label(anchors, boxes, data.sizes).state == 1).sum()))
        parts.append(theirs([image], [target]))
    assert counts[0] != counts[1]
    for name, own in LOSSES.items():
        total = sum(count * part[name] for count, part in zip(counts, parts, strict=True)) / sum(counts)
        assert near(whole[own], total)


@pytest.mark.parametrize("sizes", [[(192, 256)], SIZES])
def test_detections_equal_torchvisions_end_to_end(peers, sizes):
    """At least 98 % of them."""
    theirs, ours = (model.eval() for model in peers)
    assert_detections_equal(WithArea(theirs), ours, images_of(sizes, first=8))


@torch.no_grad()
def test_states_go_there_and_back(peers):
    """But for the class 0, of which ours has no weights: it comes back as one that is never found."""
    theirs, ours = (model.eval() for model in peers)
    state = theirs.state_dict()
    back = to_state(from_state(state))
    assert back.keys() == state.keys() and all(torch.equal(back[name], value) for name, value in state.items())
    again = from_state(to_state(ours.state_dict()))
    assert all(torch.equal(value, again[name]) for name, value in ours.state_dict().items())


def test_the_model_given_stays_as_it_is():
    assert_copied(first(nn.BatchNorm2d), from_torchvision)


@pytest.mark.parametrize(
    ("name", "make", "extra", "groups", "box_loss", "classes"),
    [
        ("RetinaNet_ResNet50_FPN_Weights.COCO_V1", retinanet_resnet50_fpn, "P5", 0, "l1", 91),
        ("RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1", retinanet_resnet50_fpn_v2, "C5", 32, "giou", 91),
    ],
)
def test_by_the_name_of_the_weights(name, make, extra, groups, box_loss, classes, monkeypatch):
    """As published, of ResNet-50; only the download is left out."""
    model = seeded(lambda: condition(make(**BLANK, **SMALL), images_of(SIZES[:1])))
    state = {key: value for key, value in model.state_dict().items() if make is not retinanet_resnet50_fpn or
             "num_batches_tracked" not in key}  # fmt: skip
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda weights, **kwargs: state)
    ours = from_torchvision(name)
    chosen = ours.settings
    assert (chosen.extra, chosen.groups, chosen.box_loss, len(ours.classes)) == (extra, groups, box_loss, classes)
    assert chosen.training == RetinaNetSettings.training and chosen.scales[1] == (64, 80, 101)
    assert ours.classes[1] == "person" and isinstance(ours, Ours) and (chosen.min_size, chosen.max_size) == (800, 1333)
    theirs = make(weights=name, **SMALL).eval()
    assert_detections_equal(WithArea(theirs), from_torchvision(theirs), images_of([(150, 200)], first=8))


def test_what_was_taken_over_is_saved_with_its_grid(tmp_path):
    ours = from_torchvision(second().eval())
    ours.save(tmp_path / "some.pt")
    again = load(tmp_path / "some.pt", net=ours.body.bottom_up)
    assert isinstance(again, Ours) and again.settings == ours.settings
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in ours.state_dict().items())


def other_subnets():
    model = first()
    model.head.regression_head.conv = model.head.regression_head.conv[:3]
    return model


def pooled():
    model = first()
    model.backbone.fpn.extra_blocks = LastLevelMaxPool()
    return model


REFUSED = {
    "subnets of two lengths": other_subnets,
    "no P7": pooled,
    "two kinds of anchors": lambda: RetinaNet(
        first().backbone, 7, anchor_generator=AnchorGenerator(ANCHORS.sizes, (*((0.5, 1, 2),) * 4, (1, 2, 3))), **SMALL
    ),
    "a fixed size": lambda: RetinaNet(first().backbone, 7, anchor_generator=ANCHORS, fixed_size=(96, 128)),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_taken_over_is_refused(make):
    with torch.device("meta"):
        theirs = make()
    with pytest.raises(ValueError, match=r"^model: expected "):
        from_torchvision(theirs)
    with pytest.raises(ValueError, match="classes: expected 7"):
        from_torchvision(first(), classes=("background", "a"))
