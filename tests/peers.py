"""Torchvision's detectors made fit to be compared with, and what of ours must equal them."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator, concat_box_prediction_layers
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from rcnn_tutorial.compat import from_state, to_state
from rcnn_tutorial.detectors import two_stage as two_stage_module
from rcnn_tutorial.nets import rpn as rpn_module
from rcnn_tutorial.nets.rpn import Predictions
from rcnn_tutorial.ops.boxes import box_iou
from tests.detectors.scenes import scene, scene_masks

CLASSES = ("background", "a", "b", "c", "d", "e", "f")
SIZES = [(192, 256), (150, 240), (192, 100)]
LOSSES = {"loss_objectness": "objectness", "loss_rpn_box_reg": "rpn_box", "loss_classifier": "class"}
LOSSES |= {"loss_box_reg": "box", "loss_mask": "mask"}
BACKGROUND = {"roi_heads.box_predictor.bbox_pred": 4, "roi_heads.mask_predictor.mask_fcn_logits": 1}  # rows, not ours
FEW = {"rpn_post_nms_top_n_train": 200, "rpn_post_nms_top_n_test": 80, "box_batch_size_per_image": 64}
UNUSUAL = {  # settings of FasterRCNN, none of them its default
    "min_size": 150,
    "max_size": 220,
    "rpn_pre_nms_top_n_train": 150,
    "rpn_pre_nms_top_n_test": 90,
    "rpn_post_nms_top_n_train": 140,
    "rpn_post_nms_top_n_test": 70,
    "rpn_nms_thresh": 0.8,
    "rpn_fg_iou_thresh": 0.6,
    "rpn_bg_iou_thresh": 0.4,
    "rpn_batch_size_per_image": 64,
    "rpn_positive_fraction": 0.3,
    "box_score_thresh": 0.1,
    "box_nms_thresh": 0.4,
    "box_detections_per_img": 15,
    "box_fg_iou_thresh": 0.4,
    "box_bg_iou_thresh": 0.4,
    "box_batch_size_per_image": 48,
    "box_positive_fraction": 0.4,
    "bbox_reg_weights": (8.0, 7.0, 4.0, 3.0),
}

# more after NMS than one map may give: it shows whether the best of each map are taken, or the best of all
MORE = {
    "rpn_pre_nms_top_n_train": 100,
    "rpn_pre_nms_top_n_test": 60,
    "rpn_post_nms_top_n_train": 300,
    "rpn_post_nms_top_n_test": 160,
}
BLANK = {"weights": None, "weights_backbone": None}
CHANNELS = 32  # of the maps of a thin pyramid


def thin_fpn(norm=FrozenBatchNorm2d, block=BasicBlock, trained=3, maps=(1, 2, 3, 4), **pyramid):
    """torchvision's `resnet_fpn_backbone` with few channels, of ResNet-18 or of one bottleneck a stage.

    Args:
        norm: the normalisation.
        block: of the residual network.
        trained: of its four stages and its stem, the last so many.
        maps: stages that the pyramid reads.
        pyramid: further arguments of torchvision's BackboneWithFPN.
    """
    net = ResNet(block, [2 if block is BasicBlock else 1] * 4, norm_layer=norm)
    for name, value in net.named_parameters():
        value.requires_grad_(name.startswith(("layer4", "layer3", "layer2", "layer1", "conv1")[:trained]))
    widths = [64 * block.expansion * 2 ** (i - 1) for i in maps]
    return BackboneWithFPN(net, {f"layer{i}": str(place) for place, i in enumerate(maps)}, widths, CHANNELS, **pyramid)


def pooling(size, points=2, **changes):
    """torchvision's RoIAlign of four maps, with these changes."""
    return MultiScaleRoIAlign(["0", "1", "2", "3"], size, points, **changes)


def box_heads(size=7, width=64, classes=7):
    """torchvision's heads on bins of a thin pyramid, with a narrow layer."""
    head = TwoMLPHead(CHANNELS * size * size, width)
    return {"box_head": head, "box_predictor": FastRCNNPredictor(width, classes)}


def small():
    """Settings for small inputs: P5 of 3 x 4 cells, P6 of 2 x 2, and proposals for every map."""
    anchors = AnchorGenerator(((8,), (16,), (32,), (64,), (128,)), ((0.5, 1.0, 2.0),) * 5)
    size = {"min_size": 72, "max_size": 128, "rpn_anchor_generator": anchors}
    return FEW | size | MORE | {"box_roi_pool": pooling(7, canonical_scale=16)}


def published(make, **settings):
    """In place of a state as published: statistics from a pass through BatchNorm, and answers that spread."""
    model = seeded(lambda: condition(make(num_classes=91, **BLANK, **settings), images_of(SIZES), spread=3.0))
    return {name: value for name, value in model.state_dict().items() if "num_batches_tracked" not in name}


def images_of(sizes, first=0):
    """Parts of scenes, of these heights and widths."""
    return [scene(first + i)[0][:, :height, :width].clone() for i, (height, width) in enumerate(sizes)]


def targets_of(sizes, first=0, empty=False, masks=False):
    """The objects in these parts of scenes, in double precision; in the first one none, where it is to be empty."""
    targets = []
    for i, (height, width) in enumerate(sizes):
        target = scene(first + i)[1]
        # not at the border: where rounding carries a truth beyond it, we clip and torchvision does not
        boxes = target["boxes"].double().minimum(torch.tensor([width - 1, height - 1] * 2))
        whole = (boxes[:, 2:] > boxes[:, :2]).all(1) & (i > 0 or not empty)
        targets.append({"boxes": boxes[whole], "labels": target["labels"][whole]})
        if masks:
            targets[-1]["masks"] = scene_masks(first + i)[whole, :height, :width]
    assert [len(target["boxes"]) > 0 for target in targets] == [not empty] + [True] * (len(sizes) - 1)
    return targets


FEWER = {  # more samples are asked for than any image has
    "rpn_post_nms_top_n_train": 40,
    "rpn_batch_size_per_image": 200_000,
    "rpn_positive_fraction": 1.0,
    "box_batch_size_per_image": 500,
    "box_positive_fraction": 1.0,
}


def few_of(sizes, first):
    """Targets of which one is empty, and one holds a single object that is larger than any anchor."""
    targets = targets_of(sizes, first=first, empty=True)
    height, width = sizes[1]
    targets[1] = {
        "boxes": torch.tensor([[2.0, 3.0, width - 4.0, height - 5.0]], dtype=torch.float64),
        "labels": torch.tensor([3]),
    }
    return targets


def seeded(make):
    """What `make` returns where random numbers begin at 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


@torch.no_grad()
def condition(model, images, spread=1.5):
    """Running statistics from a pass, and predictors whose answers have the same spread in every output."""
    masks, model.roi_heads.mask_roi_pool = model.roi_heads.mask_roi_pool, None  # they come last
    norms = [layer for layer in model.backbone.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
        norm.momentum = 1.0
    model.backbone.train()(model.transform(images)[0].tensors)
    for norm in norms:
        norm.momentum = 0.1
    model.eval()
    for layer, size in ((model.rpn.head.cls_logits, 2.0), (model.rpn.head.bbox_pred, 0.3)):
        standardise(model, images, layer, size)
    for name, size in (("cls_score", spread), ("bbox_pred", 1.0)):
        standardise(model, images, getattr(model.roi_heads.box_predictor, name), size)
    if masks is not None:
        model.roi_heads.mask_roi_pool = masks
        standardise(model, images, model.roi_heads.mask_predictor.mask_fcn_logits, 2.0)
    return model


def standardise(model, images, layer, spread):
    """Weights of a layer by which each of its outputs has mean 0 and this spread."""
    seen = []
    with layer.register_forward_hook(lambda layer, args, output: seen.append(output.movedim(1, -1).flatten(0, -2))):
        model(images)
    values = torch.cat(seen)  # one tensor for each map
    layer.bias.copy_((layer.bias - values.mean(0)) * spread / values.std(0))
    layer.weight.mul_((spread / values.std(0)).view(-1, *[1] * (layer.weight.ndim - 1)))


def near(ours, theirs):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    return torch.allclose(ours, theirs, rtol=0, atol=1e-9)


def padded(proposals):
    boxes = pad_sequence(proposals, batch_first=True)
    return boxes, torch.cat([torch.arange(boxes.shape[1]) < len(own) for own in proposals])


@torch.no_grad()
def assert_stages_equal(theirs, ours, images):
    """In double precision; each stage is fed torchvision's stage before it. Returns the proposals."""
    inputs, _ = theirs.transform(images)
    data = ours.preprocess(images)
    assert near(data.tensor, inputs.tensors) and data.sizes == inputs.image_sizes
    assert len(set(data.sizes)) == len(images) and data.sizes != data.originals

    features = theirs.backbone(inputs.tensors)
    features = OrderedDict([("0", features)]) if isinstance(features, Tensor) else features
    found = ours.maps(images)[1]
    assert len(found) == len(features) and all(map(near, found, features.values()))

    proposals = _assert_proposals_equal(theirs, ours, inputs, list(features.values()))
    _assert_heads_equal(theirs, ours, data, features, proposals)
    for own, one in zip(ours(images), theirs(images), strict=True):
        assert torch.equal(own["labels"], one["labels"])
        assert near(own["boxes"], one["boxes"]) and near(own["scores"], one["scores"])
        assert ("masks" in own) == ("masks" in one) and own.keys() == one.keys()
        assert "masks" not in own or torch.equal(own["masks"], one["masks"] > 0.5)
    return proposals


def _assert_proposals_equal(theirs, ours, inputs, maps):
    images = len(inputs.tensors)
    logits, offsets = theirs.rpn.head(maps)
    counts = [each[0].numel() for each in logits]
    logits, offsets = concat_box_prediction_layers(logits, offsets)  # map after map
    anchors = theirs.rpn.anchor_generator(inputs, maps)
    said = ours.rpn(maps)
    assert near(said.logits, logits.view(images, -1)) and near(said.offsets, offsets.view(images, -1, 4))
    assert list(said.counts) == counts and near(said.anchors, anchors[0])

    decoded = theirs.rpn.box_coder.decode(offsets, anchors).view(images, -1, 4)
    said = Predictions(logits.view(images, -1), offsets.view(images, -1, 4), anchors[0], tuple(counts))
    for mode in (True, False):
        theirs.rpn.train(mode), ours.rpn.train(mode)
        proposals, scores = theirs.rpn.filter_proposals(decoded, logits, inputs.image_sizes, counts)
        found = ours.rpn.propose(said, inputs.image_sizes)
        for i, (boxes, probability) in enumerate(zip(proposals, scores, strict=True)):
            count = found.counts[i]
            assert near(found.boxes[i][:count], boxes) and near(found.scores[i][:count], probability)
    return proposals


def _assert_heads_equal(theirs, ours, data, features, proposals):
    maps, (given, valid) = list(features.values()), padded(proposals)
    pooled = theirs.roi_heads.box_roi_pool(features, proposals, data.sizes)
    alone = [ours.pool([each[i : i + 1] for each in maps], boxes[None]) for i, boxes in enumerate(proposals)]
    assert near(torch.cat(alone), pooled) and near(ours.pool(maps, given)[valid], pooled)

    hidden = theirs.roi_heads.box_head(pooled)
    assert near(ours.head.hidden(pooled), hidden)
    scores, moves = theirs.roi_heads.box_predictor(hidden)
    own_scores, own_moves = ours.head(pooled)
    assert near(own_scores, scores) and near(own_moves, moves.unflatten(1, (-1, 4))[:, 1:])

    detections = theirs.roi_heads.postprocess_detections(scores, moves, proposals, data.sizes)
    found = ours.classify(data, ours.pool(maps, given), given)
    for i, (own, boxes, probability, labels) in enumerate(zip(found, *detections, strict=True)):
        assert len(boxes) > 10 and torch.equal(own["labels"], labels)
        (shown,) = data._replace(sizes=[data.sizes[i]], originals=[data.originals[i]]).to_original([boxes])
        assert near(own["boxes"], shown) and near(own["scores"], probability)


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
        return as_index(torch.stack(self.drawn), *args)

    def of_proposals(self, state, *args):
        drawn = torch.zeros_like(state, dtype=torch.bool)
        for row, windows, own in zip(drawn, state, self.drawn, strict=True):
            row[windows >= 0] = own  # with foreground and background from the same IoU, -1 is padding
        return as_index(drawn, *args)


def as_index(drawn, size, *_):
    """A mask of boxes as `sample` returns what it draws."""
    index = (~drawn).int().argsort(dim=-1, stable=True)[..., : min(size, drawn.shape[-1])]
    return index, drawn.gather(-1, index)


def assert_losses_equal(theirs, ours, images, targets, monkeypatch, full=True):
    """In double precision, of the samples that torchvision draws; the gradients of all weights too.

    Where the mini-batches are not `full`, every image has fewer samples than are asked for, not all the same number.
    """
    for part in (theirs.rpn, theirs.roi_heads):
        monkeypatch.setattr(part, "fg_bg_sampler", Recorder(part.fg_bg_sampler))
    monkeypatch.setattr(rpn_module, "sample", theirs.rpn.fg_bg_sampler.of_anchors)
    monkeypatch.setattr(two_stage_module, "sample", theirs.roi_heads.fg_bg_sampler.of_proposals)
    expected = seeded(lambda: theirs(images, targets))
    found = ours(images, targets)
    for part, count in ((theirs.rpn, ours.rpn.settings.samples), (theirs.roi_heads, ours.settings.rois)):
        drawn = [int(chosen.sum()) for chosen in part.fg_bg_sampler.drawn]
        assert drawn == [count] * len(images) if full else max(drawn) < count and len(set(drawn)) > 1
    assert (
        set(found) == {LOSSES[name] for name in expected}
        and expected["loss_box_reg"] > 0 < expected["loss_rpn_box_reg"]
    )
    for name, value in expected.items():
        assert near(found[LOSSES[name]], value), name
    expected, found = from_state(gradients(theirs, expected)), gradients(ours, found)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert (value is None) == (found[name] is None), name
        assert value is None or value.any() and near(found[name], value), name


def gradients(model, losses):
    """Of the weights, by name; None of those that are not trained."""
    model.zero_grad()
    sum(losses.values()).backward()
    found = {name: value.grad for name, value in model.named_parameters()}
    model.zero_grad()
    return found


def matched(ours, theirs):
    """How many of torchvision's detections have one of ours of the same label, place and score."""
    same = ours["labels"][:, None] == theirs["labels"]
    same &= box_iou(ours["boxes"], theirs["boxes"]) > 0.99
    same &= (ours["scores"][:, None] - theirs["scores"]).abs() < 1e-3
    if "masks" in theirs:
        same &= mask_iou(ours["masks"], theirs["masks"] > 0.5) > 0.99
    return int(same.any(0).sum())


def mask_iou(ours, theirs):
    """(D, E) of masks (D, 1, H, W) and (E, 1, H, W) bool; of two that are empty 1."""
    one, other = ours.flatten(1).double(), theirs.flatten(1).double()
    both = one @ other.T
    union = one.sum(1)[:, None] + other.sum(1) - both
    return torch.where(union > 0, both / union.clamp(min=1), 1.0)


@torch.no_grad()
def assert_detections_equal(theirs, ours, images):
    """From end to end in single precision, where rounding may decide about a few of them."""
    found, expected = ours(images), theirs(images)
    scores = torch.cat([one["scores"] for one in expected])
    labels = torch.cat([one["labels"] for one in expected])
    assert len(scores) > 10 * len(images) and scores.std() > 0.08 and len(labels.unique()) > 3
    total = sum(map(matched, found, expected))
    assert total >= 0.98 * max(len(scores), sum(len(one["scores"]) for one in found))


@torch.no_grad()
def assert_states_go_there_and_back(theirs, ours, images):
    state = theirs.state_dict()
    back = to_state(from_state(state))
    assert back.keys() == state.keys()
    for name, value in state.items():
        rows = BACKGROUND.get(name.rsplit(".", 1)[0], 0)
        if rows:
            assert torch.equal(back[name][rows:], value[rows:]) and not back[name][:rows].any()
        else:
            assert torch.equal(back[name], value)
    again = from_state(to_state(ours.state_dict()))
    assert all(torch.equal(value, again[name]) for name, value in ours.state_dict().items())
    before = theirs(images)
    theirs.load_state_dict(to_state(ours.state_dict()))
    for one, other in zip(before, theirs(images), strict=True):
        assert len(one["boxes"]) > 10 and all(torch.equal(one[name], other[name]) for name in one)
    theirs.load_state_dict(state)


@torch.no_grad()
def assert_copied(theirs, convert):
    """What becomes of ours does not reach the model that it was made from; their modes are the same."""
    before = {name: value.clone() for name, value in theirs.state_dict().items()}
    modules = [type(module) for module in theirs.modules()]
    assert convert(theirs.train()).training
    ours = convert(theirs.eval())
    assert not any(module.training for module in ours.modules())
    for value in (*ours.parameters(), *ours.buffers()):
        value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in theirs.state_dict().items())
    assert [type(module) for module in theirs.modules()] == modules
