"""Our detector beside torchvision's, stage by stage in double precision and end to end in single precision."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator, concat_box_prediction_layers

from benchmarks.peer import tiny_faster_rcnn
from rcnn_tutorial.compat import faster_rcnn_from_torchvision, from_state, settings_of, to_state
from rcnn_tutorial.detectors import samples as samples_module
from rcnn_tutorial.detectors.two_stage import sizes_of
from rcnn_tutorial.nets import rpn as rpn_module
from rcnn_tutorial.nets.rpn import Predictions, Proposals
from rcnn_tutorial.ops.boxes import box_iou
from tests.detectors.scenes import batch, scene

CLASSES = ("background", "a", "b", "c", "d", "e", "f")
LOSSES = {"loss_objectness": "objectness", "loss_rpn_box_reg": "rpn_box", "loss_classifier": "class"}
LOSSES |= {"loss_box_reg": "box"}


class NormedBackbone(nn.Sequential):
    """Convolutions with BatchNorm, at a stride of 16 pixels."""

    out_channels = 32

    def __init__(self):
        layers = []
        for inputs, outputs in ((3, 8), (8, 16), (16, 32), (32, 32)):
            convolution = nn.Conv2d(inputs, outputs, 3, 2, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight)
            layers += [convolution, nn.BatchNorm2d(outputs, momentum=0.5), nn.ReLU()]
        super().__init__(*layers)


def normed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return FasterRCNN(
            NormedBackbone(),
            7,
            min_size=150,
            max_size=220,
            rpn_anchor_generator=AnchorGenerator(((20, 45, 90),), ((0.6, 1.7),)),
            rpn_pre_nms_top_n_train=150,
            rpn_pre_nms_top_n_test=90,
            rpn_post_nms_top_n_train=140,
            rpn_post_nms_top_n_test=70,
            rpn_nms_thresh=0.8,
            rpn_fg_iou_thresh=0.6,
            rpn_bg_iou_thresh=0.4,
            rpn_batch_size_per_image=64,
            rpn_positive_fraction=0.3,
            box_score_thresh=0.1,
            box_nms_thresh=0.4,
            box_detections_per_img=15,
            box_fg_iou_thresh=0.4,
            box_bg_iou_thresh=0.4,
            box_batch_size_per_image=48,
            box_positive_fraction=0.4,
            bbox_reg_weights=(8.0, 7.0, 4.0, 3.0),
        )


FEW = {"rpn_post_nms_top_n_train": 200, "rpn_post_nms_top_n_test": 80, "box_batch_size_per_image": 64}
PEERS = {  # name: (a torchvision detector, its stride)
    "scratch": (lambda: tiny_faster_rcnn(7, (120, 160), head=64), 8),
    "pretrained": (lambda: tiny_faster_rcnn(7, (80, 130), (7, 20, 50), head=64, pretrained=True, **FEW), 8),
    "stride 4": (lambda: tiny_faster_rcnn(7, (64, 90), (12, 30), width=8, halvings=2, head=32, **FEW), 4),
    "normed": (normed, 16),
}


def images_of(sizes, first=0):
    """Parts of scenes, of these heights and widths."""
    return [scene(first + i)[0][:, :height, :width].clone() for i, (height, width) in enumerate(sizes)]


SIZES = [(192, 256), (150, 240), (192, 100)]


def condition(model, images):
    """Running statistics from passes, and predictors whose answers have the same spread in every output."""
    with torch.no_grad():
        tensor = model.transform(images)[0].tensors
        model.backbone.train()
        for _ in range(3):
            model.backbone(tensor)
        model.eval()
        for layer, spread in ((model.rpn.head.cls_logits, 2.0), (model.rpn.head.bbox_pred, 0.3)):
            _standardise(model, images, layer, spread)
        for name, spread in (("cls_score", 1.5), ("bbox_pred", 1.0)):
            _standardise(model, images, getattr(model.roi_heads.box_predictor, name), spread)
    return model


def _standardise(model, images, layer, spread):
    seen = []
    with layer.register_forward_hook(lambda layer, args, output: seen.append(output)):
        model(images)
    values = seen[0].movedim(1, -1).flatten(0, -2)
    layer.bias.copy_((layer.bias - values.mean(0)) * spread / values.std(0))
    layer.weight.mul_((spread / values.std(0)).view(-1, *[1] * (layer.weight.ndim - 1)))


@pytest.fixture(scope="module", params=PEERS)
def peers(request):
    """Torchvision's detector and ours, with the same weights."""
    make, stride = PEERS[request.param]
    theirs = condition(make(), images_of(SIZES))
    return theirs, faster_rcnn_from_torchvision(theirs, CLASSES, stride)


@pytest.fixture
def doubles(peers):
    theirs, ours = peers
    yield theirs.double().eval(), ours.double().eval()
    theirs.float(), ours.float()


def near(ours, theirs):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    return torch.allclose(ours, theirs, rtol=0, atol=1e-9)


@torch.no_grad()
def test_every_stage_equals_torchvisions(doubles):
    """Each stage is fed torchvision's stage before it."""
    theirs, ours = doubles
    images = [image.double() for image in images_of(SIZES, first=4)]
    inputs, _ = theirs.transform(images)
    data = ours.preprocess(images)
    assert near(data.tensor, inputs.tensors) and data.sizes == inputs.image_sizes
    assert len(set(data.sizes)) == 3 and data.sizes != data.originals

    features = theirs.backbone(inputs.tensors)
    maps = ours.maps(images)[1]
    assert len(maps) == 1 and near(maps[0], features)

    logits, offsets = theirs.rpn.head([features])
    counts = [each[0].numel() for each in logits]
    logits, offsets = concat_box_prediction_layers(logits, offsets)
    anchors = theirs.rpn.anchor_generator(inputs, [features])
    said = ours.rpn([features])
    assert near(said.logits, logits.view(3, -1)) and near(said.offsets, offsets.view(3, -1, 4))
    assert near(said.anchors, anchors[0]) and list(said.counts) == counts

    decoded = theirs.rpn.box_coder.decode(offsets, anchors).view(3, -1, 4)
    said = Predictions(logits.view(3, -1), offsets.view(3, -1, 4), anchors[0], tuple(counts))
    for mode in (True, False):
        theirs.rpn.train(mode), ours.rpn.train(mode)
        proposals, scores = theirs.rpn.filter_proposals(decoded, logits, inputs.image_sizes, counts)
        found = ours.rpn.propose(said, sizes_of(data, features))
        for i, (boxes, probability) in enumerate(zip(proposals, scores, strict=True)):
            valid = found.valid[i]
            assert near(found.boxes[i][valid], boxes) and near(found.scores[i][valid], probability)

    sizes = inputs.image_sizes
    pooled = theirs.roi_heads.box_roi_pool(OrderedDict([("0", features)]), proposals, sizes)
    assert near(torch.cat([ours.pool([m[None]], b[None]) for m, b in zip(features, proposals, strict=True)]), pooled)
    given = padded(proposals)
    assert near(ours.pool([features], given.boxes)[given.valid.flatten()], pooled)

    hidden = theirs.roi_heads.box_head(pooled)
    assert near(ours.head.hidden(pooled), hidden)
    scores, moves = theirs.roi_heads.box_predictor(hidden)
    own_scores, own_moves = ours.head(pooled)
    assert near(own_scores, scores) and near(own_moves, moves.unflatten(1, (-1, 4))[:, 1:])

    detections = theirs.roi_heads.postprocess_detections(scores, moves, proposals, sizes)
    found = ours.classify(data, [features], given)
    for own, boxes, probability, labels in zip(found, *detections, strict=True):
        assert len(boxes) > 10 and torch.equal(own["labels"], labels)
        assert near(own["boxes"], boxes) and near(own["scores"], probability)

    for own, one in zip(ours(images), theirs(images), strict=True):
        assert torch.equal(own["labels"], one["labels"])
        assert near(own["boxes"], one["boxes"]) and near(own["scores"], one["scores"])


def padded(proposals):
    valid = pad_sequence([torch.ones(len(each), dtype=torch.bool) for each in proposals], batch_first=True)
    return Proposals(pad_sequence(proposals, batch_first=True), valid.double(), valid)


class Recorder:
    """In place of torchvision's sampler: remembers what it drew, for ours."""

    def __init__(self, sampler):
        self.sampler = sampler

    def __call__(self, labels):
        if labels[0].is_floating_point():  # those of anchors; in single precision the loss would be so too
            labels[:] = [each.double() for each in labels]
        found = self.sampler(labels)
        self.drawn = [(a | b).bool() for a, b in zip(*found, strict=True)]
        return found

    def of_anchors(self, state, *args):
        return torch.stack(self.drawn)

    def of_proposals(self, state, *args):
        drawn = torch.zeros_like(state, dtype=torch.bool)
        drawn[state >= 0] = torch.cat(self.drawn)  # with foreground and background from the same IoU, -1 is padding
        return drawn


@pytest.mark.parametrize("empty", [False, True], ids=["objects", "an image without objects"])
def test_losses_and_gradients_equal_torchvisions_on_its_samples(doubles, monkeypatch, empty):
    theirs, ours = (model.train() for model in doubles)
    images = [image.double() for image in images_of(SIZES, first=4)]
    targets = []
    for (height, width), target in zip(SIZES, batch(3, first=4)[1], strict=True):
        # not at the border: where rounding carries a truth beyond it, we clip and torchvision does not
        boxes = target["boxes"].double().minimum(torch.tensor([width - 1, height - 1] * 2))
        whole = (boxes[:, 2:] > boxes[:, :2]).all(1) & (torch.tensor(not empty) | (width < 256))
        targets.append({"boxes": boxes[whole], "labels": target["labels"][whole]})
    assert [len(target["boxes"]) > 0 for target in targets] == [not empty, True, True]
    for part in (theirs.rpn, theirs.roi_heads):
        monkeypatch.setattr(part, "fg_bg_sampler", Recorder(part.fg_bg_sampler))
    monkeypatch.setattr(rpn_module, "sample", theirs.rpn.fg_bg_sampler.of_anchors)
    monkeypatch.setattr(samples_module, "sample", theirs.roi_heads.fg_bg_sampler.of_proposals)
    expected, found = theirs(images, targets), ours(images, targets)
    # torchvision divides by the number of samples, here a constant: equal where the mini-batches are full
    assert [int(each.sum()) for each in theirs.rpn.fg_bg_sampler.drawn] == [ours.rpn.settings.samples] * 3
    assert [int(each.sum()) for each in theirs.roi_heads.fg_bg_sampler.drawn] == [ours.settings.rois] * 3
    assert set(found) == set(LOSSES.values()) and expected["loss_box_reg"] > 0 < expected["loss_rpn_box_reg"]
    for name, value in expected.items():
        assert near(found[LOSSES[name]], value), name
    gradients = []
    for model, losses in ((theirs, expected), (ours, found)):
        model.zero_grad()
        sum(losses.values()).backward()
        gradients.append({name: value.grad for name, value in model.named_parameters()})
        model.zero_grad()
    expected = from_state(gradients[0])
    assert expected.keys() == gradients[1].keys()
    for name, value in expected.items():
        assert value.any() and near(gradients[1][name], value), name


def matched(ours, theirs):
    """How many of torchvision's detections have one of ours of the same label, place and score."""
    same = ours["labels"][:, None] == theirs["labels"]
    same &= box_iou(ours["boxes"], theirs["boxes"]) > 0.99
    same &= (ours["scores"][:, None] - theirs["scores"]).abs() < 1e-3
    return int(same.any(0).sum())


@pytest.mark.parametrize("sizes", [[(192, 256)], [(192, 256)] * 4, SIZES, [(40, 64), (25, 200)]])
def test_detections_equal_torchvisions_end_to_end(peers, sizes):
    theirs, ours = (model.eval() for model in peers)
    images = images_of(sizes, first=8)
    found, expected = ours(images), theirs(images)
    scores = torch.cat([one["scores"] for one in expected])
    labels = torch.cat([one["labels"] for one in expected])
    assert len(scores) > 10 * len(sizes) and scores.std() > 0.08 and len(labels.unique()) > 3
    total = sum(map(matched, found, expected))
    assert total >= 0.98 * max(len(scores), sum(len(one["scores"]) for one in found))


def test_states_go_there_and_back(peers):
    theirs, ours = (model.eval() for model in peers)
    state = theirs.state_dict()
    back = to_state(from_state(state))
    assert back.keys() == state.keys()
    for name, value in state.items():
        if "bbox_pred" in name and "roi_heads" in name:
            assert torch.equal(back[name][4:], value[4:]) and not back[name][:4].any()
        else:
            assert torch.equal(back[name], value)
    again = from_state(to_state(ours.state_dict()))
    assert all(torch.equal(value, again[name]) for name, value in ours.state_dict().items())
    images = images_of(SIZES)
    before = theirs(images)
    theirs.load_state_dict(to_state(ours.state_dict()))
    for one, other in zip(before, theirs(images), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    theirs.load_state_dict(state)


def test_the_model_given_stays_as_it_is():
    theirs = tiny_faster_rcnn(7, head=16).eval()
    before = {name: value.clone() for name, value in theirs.state_dict().items()}
    ours = faster_rcnn_from_torchvision(theirs, CLASSES, 8)
    assert not {id(p) for p in theirs.parameters()} & {id(p) for p in ours.parameters()}
    assert not any(module.training for module in ours.modules())
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in theirs.state_dict().items())
    assert faster_rcnn_from_torchvision(theirs.train(), CLASSES, 8).training


def test_what_cannot_be_taken_over_is_refused():
    theirs = tiny_faster_rcnn(7, head=16)
    with pytest.raises(ValueError, match="classes: expected 7, got 6"):
        faster_rcnn_from_torchvision(theirs, CLASSES[1:], 8)
    with pytest.raises(ValueError, match="state: unknown weight 'rpn.head.conv.1.0.weight'"):
        from_state({"rpn.head.conv.1.0.weight": torch.zeros(1)})
    theirs.rpn.anchor_generator.aspect_ratios = ((0.5, 1.0), (1.0, 2.0))
    with pytest.raises(ValueError, match="expected the same ratios on every map"):
        settings_of(theirs)
