"""torchvision's Faster R-CNN as ours, with a feature pyramid or without, its Mask R-CNN and RetinaNet, and back.

Its classifiers AlexNet and VGG16 become ours, too. Only what a model carries is read, and nothing of torchvision's
detection code is imported.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model, get_weight

from rcnn_tutorial.detectors.faster_rcnn import IMAGENET_STD
from rcnn_tutorial.detectors.two_stage import TwoStage, TwoStageSettings
from rcnn_tutorial.nets.backbones import Conv, ConvNet
from rcnn_tutorial.nets.fpn import BottomUp, stages_of
from rcnn_tutorial.nets.heads import TwoLayers
from rcnn_tutorial.nets.resnet import freeze_norms
from rcnn_tutorial.nets.rpn import RPNSettings
from rcnn_tutorial.training import TrainSettings

if TYPE_CHECKING:
    from rcnn_tutorial.detectors.fpn import FPN
    from rcnn_tutorial.detectors.retinanet import RetinaNet

OFFSETS, MASKS = "roi_heads.box_predictor.bbox_pred.", "roi_heads.mask_predictor.mask_fcn_logits."
DENSE = "head.classification_head.cls_logits."  # at each anchor, the background is the first class there
NEVER = -100.0  # a logit of "no"
BACKGROUND = {OFFSETS: 4, MASKS: 1}  # rows that torchvision has for the background, and ours has not
NAMES = {  # prefixes, torchvision's and ours, the narrower first
    **{f"backbone.fpn.inner_blocks.{i}.0.": f"body.fpn.laterals.{i}." for i in range(4)},
    **{f"backbone.fpn.layer_blocks.{i}.0.": f"body.fpn.outputs.{i}." for i in range(4)},
    **{f"backbone.fpn.extra_blocks.{name}.": f"body.{name}." for name in ("p6", "p7")},
    "backbone.body.": "body.bottom_up.",
    "backbone.": "body.",
    "head.classification_head.conv.": "dense.head.scores.layers.",
    DENSE: "dense.head.scores.last.",
    "head.regression_head.conv.": "dense.head.boxes.layers.",
    "head.regression_head.bbox_reg.": "dense.head.boxes.last.",
    "rpn.head.conv.0.0.": "rpn.head.conv.",
    "rpn.head.cls_logits.": "rpn.head.score.",
    "rpn.head.bbox_pred.": "rpn.head.offsets.",
    "roi_heads.box_head.": "head.hidden.",
    "roi_heads.box_predictor.cls_score.": "head.score.",
    OFFSETS: "head.offsets.",
    **{f"roi_heads.mask_head.{i}.0.": f"mask_head.layers.{i}." for i in range(10)},
    "roi_heads.mask_predictor.conv5_mask.": "mask_head.upsample.",
    MASKS: "mask_head.logits.",
}
RESNET = {  # of the stages of a residual network under a pyramid
    "backbone.body.conv1.": "body.bottom_up.stem.0.",
    "backbone.body.bn1.": "body.bottom_up.stem.1.",
    **{f"backbone.body.layer{i + 1}.": f"body.bottom_up.stages.{i}." for i in range(4)},
}


def from_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of torchvision's detector to ours; what the background has of its own, read by none, goes.

    Raises:
        ValueError: a weight of another model.
    """
    names = RESNET | NAMES if "backbone.body.conv1.weight" in state else NAMES
    return {_renamed(name, names): _without_background(name, value, state) for name, value in state.items()}


def to_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename our weights to torchvision's; the background's, which we do not have, become 0, and never detect.

    torchvision's model detects the same where ours has its settings (`settings_of`): its anchors lie about the cells'
    corners, those of `RPNSettings(anchors="exact")` about their middles.

    Raises:
        ValueError: a weight of another model.
    """
    names = RESNET | NAMES if "body.bottom_up.stem.1.running_var" in state else NAMES
    back = {_renamed(name, {ours: theirs for theirs, ours in names.items()}): value for name, value in state.items()}
    return {name: _with_background(name, value, back) for name, value in back.items()}


def settings_of(model: Any, training: TrainSettings | None = None) -> TwoStageSettings:
    """Read our settings off a torchvision FasterRCNN, the model itself, not its weights.

    Args:
        model: a torchvision FasterRCNN. Of several shorter sides the last counts, as it does there in detection.
        training: of ours.
    Raises:
        ValueError: a least score of the RPN, a fixed size, or other ratios on every map: ours has none of them.
    """
    rpn, heads = model.rpn, model.roi_heads
    if rpn.score_thresh > 0:
        raise ValueError(f"model: expected an rpn_score_thresh of 0, got {rpn.score_thresh}")
    return TwoStageSettings(
        rpn=RPNSettings(
            **_anchors(rpn.anchor_generator),
            foreground=rpn.proposal_matcher.high_threshold,
            background=(0.0, rpn.proposal_matcher.low_threshold),
            inside=False,
            samples=rpn.fg_bg_sampler.batch_size_per_image,
            share=rpn.fg_bg_sampler.positive_fraction,
            beta=1 / 9,
            before_nms=(rpn._pre_nms_top_n["training"], rpn._pre_nms_top_n["testing"]),
            after_nms=(rpn._post_nms_top_n["training"], rpn._post_nms_top_n["testing"]),
            nms_threshold=rpn.nms_thresh,
            least_side=rpn.min_size,
        ),
        sampling_ratio=heads.box_roi_pool.sampling_ratio,
        rois=heads.fg_bg_sampler.batch_size_per_image,
        share=heads.fg_bg_sampler.positive_fraction,
        foreground=heads.proposal_matcher.high_threshold,
        background=(0.0, heads.proposal_matcher.low_threshold),
        weights=tuple(heads.box_coder.weights),
        beta=1 / 9,
        **_sizes(model.transform),
        training=training or TwoStageSettings.training,
        nms_threshold=heads.nms_thresh,
        least_score=heads.score_thresh,
        detections=heads.detections_per_img,
    )


def _anchors(grid: Any) -> dict[str, Any]:
    """The settings of torchvision's AnchorGenerator."""
    ratios, *others = grid.aspect_ratios
    if any(other != ratios for other in others):
        raise ValueError(f"model: expected the same ratios on every map, got {grid.aspect_ratios}")
    return {"anchors": "torchvision", "scales": tuple(map(tuple, grid.sizes)), "ratios": tuple(ratios)}


def _sizes(transform: Any) -> dict[str, Any]:
    """The settings of torchvision's GeneralizedRCNNTransform."""
    if transform.fixed_size is not None:
        raise ValueError(f"model: expected no fixed_size, got {transform.fixed_size}")
    least, most, divisor = transform.min_size[-1], transform.max_size, transform.size_divisible
    return {"min_size": least, "max_size": most, "divisor": divisor}


def faster_rcnn_from_torchvision(
    model: Any, classes: Sequence[str], stride: int, training: TrainSettings | None = None, seed: int = 0
) -> TwoStage:
    """Make our detector of a torchvision FasterRCNN on one map, with the same weights and settings.

    Args:
        model: a torchvision FasterRCNN whose backbone gives one map, with its default heads. It is not changed.
        classes: names, background first.
        stride: of the map, pixels.
        training: settings of ours.
        seed: of the generator that draws the mini-batches.
    Raises:
        ValueError: as many names as the model has classes are expected.
    """
    hidden, predictor = model.roi_heads.box_head, model.roi_heads.box_predictor
    if len(classes) != predictor.cls_score.out_features:
        raise ValueError(f"classes: expected {predictor.cls_score.out_features}, got {len(classes)}")
    ours = TwoStage(
        deepcopy(model.backbone),
        (stride,),
        model.backbone.out_channels,
        TwoLayers(hidden.fc6.in_features, hidden.fc6.out_features),
        hidden.fc7.out_features,
        model.roi_heads.box_roi_pool.output_size[0],
        classes,
        settings_of(model, training),
        model.transform.image_mean,
        model.transform.image_std,
        seed,
    )
    ours.load_state_dict(from_state(model.state_dict()))
    return ours.to(predictor.cls_score.weight).train(model.training)


def from_torchvision(
    model: nn.Module | WeightsEnum | str,
    classes: Sequence[str] | None = None,
    training: TrainSettings | None = None,
    seed: int = 0,
) -> "FPN | RetinaNet":
    """Make our detector of torchvision's, such as `fasterrcnn_resnet50_fpn`, with the same weights and settings.

    A MaskRCNN, such as `maskrcnn_resnet50_fpn`, becomes ours, which then cuts and pastes masks as torchvision does; a
    RetinaNet, such as `retinanet_resnet50_fpn` or its second version, ours without the class "background".

    Args:
        model: a torchvision FasterRCNN or MaskRCNN on a pyramid, or a RetinaNet, which is not changed; or its weights
            or their name, such as "FasterRCNN_ResNet50_FPN_Weights.COCO_V1", which are then loaded from the network.
        classes: names, background first; by default those of the weights, or their numbers.
        training: settings of ours; by default those of the detector's settings.
        seed: of the generator that draws the mini-batches.
    Raises:
        ValueError: weights of another detector, another number of names, or layers that ours has not.
    """
    from rcnn_tutorial.detectors.fpn import FPN, FPNSettings  # not above: these modules pass this function on
    from rcnn_tutorial.detectors.mask_rcnn import MaskRCNN, MaskRCNNSettings

    if isinstance(model, (WeightsEnum, str)):
        model, names = _by_name(str(model))
        classes = classes or names
    theirs: Any = model
    if hasattr(getattr(getattr(theirs, "head", None), "regression_head", None), "_loss_type"):  # RetinaNet's alone
        return retinanet_from_torchvision(theirs, classes, training, seed)
    if not hasattr(getattr(theirs, "backbone", None), "fpn") or not hasattr(theirs, "roi_heads"):
        raise ValueError(f"model: expected a Faster R-CNN on a feature pyramid, got {type(theirs).__name__}")
    hidden, pooling = theirs.roi_heads.box_head, theirs.roi_heads.box_roi_pool
    height, width = pooling.output_size
    if not hasattr(hidden, "fc7") or len(pooling.featmap_names) != 4 or height != width:
        raise ValueError("model: expected a head of two linear layers on square bins of four maps")
    score = theirs.roi_heads.box_predictor.cls_score
    classes = _classes(classes, score.out_features)
    masks = _mask_head(theirs.roi_heads)
    classes_of_ours: Any = (MaskRCNN, MaskRCNNSettings) if masks else (FPN, FPNSettings)
    kind, settings_class = classes_of_ours
    settings = settings_class(
        **vars(settings_of(theirs, training or settings_class.training)),
        **masks,
        channels=theirs.backbone.out_channels,
        output_size=height,
        hidden=hidden.fc7.out_features,
        s0=float(pooling.canonical_scale) * 2.0 ** (4 - pooling.canonical_level),
    )
    return _with_weights_of(theirs, kind, classes, settings, seed)


def retinanet_from_torchvision(
    model: Any, classes: Sequence[str] | None = None, training: TrainSettings | None = None, seed: int = 0
) -> "RetinaNet":
    """Make our detector of a torchvision RetinaNet: arguments and errors as for `from_torchvision`."""
    from rcnn_tutorial.detectors.retinanet import RetinaNet, RetinaNetSettings

    scores, boxes, neck = model.head.classification_head, model.head.regression_head, model.backbone.fpn
    norms = {layer.num_groups for layer in model.head.modules() if isinstance(layer, nn.GroupNorm)}
    if len(scores.conv) != len(boxes.conv) or len(norms) > 1 or not hasattr(neck.extra_blocks, "p7"):
        raise ValueError("model: expected two subnets of the same layers, and P6 and P7")
    settings = RetinaNetSettings(
        **_anchors(model.anchor_generator),
        foreground=model.proposal_matcher.high_threshold,
        background=(0.0, model.proposal_matcher.low_threshold),
        box_loss=boxes._loss_type,
        beta=1.0,
        channels=model.backbone.out_channels,
        layers=len(scores.conv),
        groups=norms.pop() if norms else 0,
        finest=6 - len(neck.inner_blocks),
        extra="P5" if neck.extra_blocks.use_P5 else "C5",
        **_sizes(model.transform),
        training=training or RetinaNetSettings.training,
        candidates=model.topk_candidates,
        nms_threshold=model.nms_thresh,
        least_score=model.score_thresh,
        detections=model.detections_per_img,
    )
    return _with_weights_of(model, RetinaNet, _classes(classes, scores.num_classes), settings, seed)


def _classes(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """So many names, by default numbers."""
    names = tuple(names or ("background", *map(str, range(1, count))))
    if len(names) != count:
        raise ValueError(f"classes: expected {count}, got {len(names)}")
    return names


def _with_weights_of(theirs: Any, kind: Any, classes: Sequence[str], settings: Any, seed: int) -> Any:
    """Our detector of this kind, with torchvision's weights."""
    stages, state = bottom_up_of(theirs.backbone.body), from_state(theirs.state_dict())
    if settings.divisor % stages.strides[0]:  # torchvision's anchors then have strides of their own
        raise ValueError(f"model: expected a size_divisible by {stages.strides[0]}, got {settings.divisor}")
    ours = kind(stages, classes, settings, theirs.transform.image_mean, theirs.transform.image_std, seed)
    if different := state.keys() ^ ours.state_dict().keys():
        raise ValueError(
            f"model: expected the layers of ours, but for one of them there is no {sorted(different)[0]!r}"
        )
    ours.load_state_dict(state)
    return ours.to(next(iter(state.values()))).train(theirs.training)


def _mask_head(heads: Any) -> dict[str, Any]:
    """The setting `mask_head` of torchvision's heads; nothing where they have no branch for masks.

    Raises:
        ValueError: regions that are pooled otherwise than for the boxes, or a head that ours has not.
    """
    if not heads.has_mask():
        return {}
    pooling, boxes, layers = heads.mask_roi_pool, heads.box_roi_pool, [layer[0] for layer in heads.mask_head]
    names = ("featmap_names", "sampling_ratio", "canonical_scale", "canonical_level")
    same = all(getattr(pooling, name) == getattr(boxes, name) for name in names)
    height, width = pooling.output_size
    if not same or height != width:
        raise ValueError("model: expected masks from square bins of the maps and levels that the boxes are read from")
    channels = layers[0].out_channels
    plain = all(layer.kernel_size == (3, 3) and layer.dilation == (1, 1) for layer in layers)
    if not plain or {layer.out_channels for layer in layers} != {channels}:
        raise ValueError("model: expected a mask head of 3 x 3 convolutions of one width without dilation")
    return {"mask_head": (len(layers), channels, 2 * height)}


def bottom_up_of(body: Any) -> BottomUp:
    """Copy the stages of the network under torchvision's pyramid.

    Args:
        body: that of torchvision's `resnet_fpn_backbone`, or stages of ours.
    Raises:
        ValueError: another network, or not all four of its stages.
    """
    body = deepcopy(body)
    if isinstance(body, BottomUp):
        return body
    if not hasattr(body, "conv1") or "layer4" not in body.return_layers:
        raise ValueError(f"body: expected the four stages of a residual network, got {list(body.return_layers)}")
    frozen = tuple({type(layer) for layer in body.modules() if type(layer).__name__ == "FrozenBatchNorm2d"})
    return stages_of(freeze_norms(body, frozen))


def classifier_from_torchvision(model: Any) -> ConvNet:
    """Make our classifier of torchvision's AlexNet or VGG16, with the same weights and the same outputs.

    torchvision's networks read pixels minus the mean of ImageNet and divided by its deviation, ours pixels minus the
    mean alone. The deviation is divided out of the first convolution's weights instead, so that nothing else changes.

    Args:
        model: a torchvision `alexnet`, `vgg16` or another VGG without batch normalisation. It is not changed.
    Raises:
        ValueError: a network of other layers.
    """
    layers = _table(getattr(model, "features", ()))
    linear = [layer for layer in getattr(model, "classifier", ()) if isinstance(layer, nn.Linear)]
    if len(linear) != 3 or not layers:
        raise ValueError(f"model: expected torchvision's AlexNet or VGG16, got {type(model).__name__}")
    dropout = next(layer.p for layer in model.classifier if isinstance(layer, nn.Dropout))
    with torch.device("meta"):  # draws no random weights
        net = ConvNet(layers, 224, linear[0].out_features, linear[-1].out_features, dropout)
    state = dict(zip(net.state_dict(), deepcopy(model.state_dict()).values(), strict=True))  # both in order of layers
    name = next(iter(state))
    state[name] = state[name] / state[name].new_tensor(IMAGENET_STD)[:, None, None]
    net.load_state_dict(state, assign=True)
    return net.requires_grad_(True).train(model.training)


def _table(features: Any) -> tuple[Conv, ...]:
    """The convolutions of a torchvision classifier with the poolings after them; empty where there are other layers."""
    layers: list[dict[str, Any]] = []
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            (kernel, _), (stride, _), (padding, _) = layer.kernel_size, layer.stride, layer.padding
            layers.append({"channels": layer.out_channels, "kernel": kernel, "stride": stride, "padding": padding})
            layers[-1]["groups"] = layer.groups
        elif isinstance(layer, nn.MaxPool2d) and layers and layer.stride == 2 and layer.padding == 0:
            layers[-1] |= {"pool": layer.kernel_size, "ceil": layer.ceil_mode}
        elif not isinstance(layer, nn.ReLU):
            return ()
    return tuple(Conv(**layer) for layer in layers)


NAMED = "FasterRCNN_ResNet50_FPN", "MaskRCNN_ResNet50_FPN", "RetinaNet_ResNet50_FPN", "RetinaNet_ResNet50_FPN_V2"


def _by_name(name: str) -> tuple[nn.Module, tuple[str, ...]]:
    """torchvision's detector with these weights, and its classes."""
    architecture, _, version = name.partition("_Weights.")
    try:
        weights = get_weight(name) if architecture in NAMED else None
    except (AttributeError, KeyError, ValueError):
        weights = None
    if weights is None or not version:
        raise ValueError(f"model: expected weights such as FasterRCNN_ResNet50_FPN_Weights.COCO_V1, got {name!r}")
    return get_model(architecture.lower(), weights=weights), ("background", *weights.meta["categories"][1:])


def _without_background(name: str, value: Tensor, state: dict[str, Tensor]) -> Tensor:
    """A weight of torchvision's without the rows of the background, which ours has not."""
    if name.startswith(DENSE):
        return value.unflatten(0, (_anchors_of(state), -1))[:, 1:].flatten(0, 1)
    return value[rows:] if (rows := _background(name)) else value


def _with_background(name: str, value: Tensor, state: dict[str, Tensor]) -> Tensor:
    """The way back."""
    if name.startswith(DENSE):
        parts = value.unflatten(0, (_anchors_of(state), -1))  # (A K, ...) -> (A, K, ...)
        first = torch.full_like(parts[:, :1], NEVER if value.ndim == 1 else 0)
        return torch.cat((first, parts), dim=1).flatten(0, 1)
    return torch.cat((torch.zeros_like(value[:rows]), value)) if (rows := _background(name)) else value


def _anchors_of(state: dict[str, Tensor]) -> int:
    """Anchors at each cell of torchvision's RetinaNet."""
    return len(state["head.regression_head.bbox_reg.bias"]) // 4


def _background(name: str) -> int:
    """How many rows of a weight of torchvision's, the first, are the background's."""
    return next((rows for prefix, rows in BACKGROUND.items() if name.startswith(prefix)), 0)


def _renamed(name: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    raise ValueError(f"state: unknown weight {name!r}")
