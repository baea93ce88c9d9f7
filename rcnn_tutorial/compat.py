"""Between torchvision's detectors and ours: settings and weights, there and back.

Only what a model carries is read; nothing of torchvision's detection code is imported.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from rcnn_tutorial.detectors.two_stage import TwoStage, TwoStageSettings
from rcnn_tutorial.nets.fpn import BottomUp, stages_of
from rcnn_tutorial.nets.heads import TwoLayers
from rcnn_tutorial.nets.resnet import freeze_norms
from rcnn_tutorial.nets.rpn import RPNSettings
from rcnn_tutorial.training import TrainSettings

NAMES = {  # prefixes, torchvision's and ours, the narrower first
    **{f"backbone.fpn.inner_blocks.{i}.0.": f"body.fpn.laterals.{i}." for i in range(4)},
    **{f"backbone.fpn.layer_blocks.{i}.0.": f"body.fpn.outputs.{i}." for i in range(4)},
    "backbone.body.": "body.bottom_up.",
    "backbone.": "body.",
    "rpn.head.conv.0.0.": "rpn.head.conv.",
    "rpn.head.cls_logits.": "rpn.head.score.",
    "rpn.head.bbox_pred.": "rpn.head.offsets.",
    "roi_heads.box_head.": "head.hidden.",
    "roi_heads.box_predictor.cls_score.": "head.score.",
    "roi_heads.box_predictor.bbox_pred.": "head.offsets.",
}
RESNET = {  # of the stages of a residual network under a pyramid
    "backbone.body.conv1.": "body.bottom_up.stem.0.",
    "backbone.body.bn1.": "body.bottom_up.stem.1.",
    **{f"backbone.body.layer{i + 1}.": f"body.bottom_up.stages.{i}." for i in range(4)},
}


def from_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of torchvision's FasterRCNN under our names; the offsets of the background go, which nothing reads.

    Raises:
        ValueError: a weight of another model.
    """
    names = RESNET | NAMES if "backbone.body.conv1.weight" in state else NAMES
    return {_renamed(name, names): value[4:] if _of_boxes(name) else value for name, value in state.items()}


def to_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under torchvision's names; the offsets of the background are 0.

    torchvision's model detects the same where ours has its settings (`settings_of`): its anchors lie about the cells'
    corners, those of `RPNSettings(anchors="exact")` about their middles.

    Raises:
        ValueError: a weight of another model.
    """
    names = RESNET | NAMES if "body.bottom_up.stem.1.running_var" in state else NAMES
    back = {_renamed(name, {ours: theirs for theirs, ours in names.items()}): value for name, value in state.items()}
    return {
        name: torch.cat((torch.zeros_like(value[:4]), value)) if _of_boxes(name) else value
        for name, value in back.items()
    }


def settings_of(model: nn.Module, training: TrainSettings | None = None) -> TwoStageSettings:
    """Our settings for a torchvision FasterRCNN, the model itself, not its weights.

    Args:
        model: a torchvision FasterRCNN. Of several shorter sides the last counts, as it does there in detection.
        training: of ours.
    Raises:
        ValueError: a least score of the RPN, a fixed size, or other ratios on every map: ours has none of them.
    """
    rpn, heads, transform = model.rpn, model.roi_heads, model.transform
    if rpn.score_thresh > 0:
        raise ValueError(f"model: expected an rpn_score_thresh of 0, got {rpn.score_thresh}")
    if transform.fixed_size is not None:
        raise ValueError(f"model: expected no fixed_size, got {transform.fixed_size}")
    grid, (ratios, *others) = rpn.anchor_generator, rpn.anchor_generator.aspect_ratios
    if any(each != ratios for each in others):
        raise ValueError(f"model: expected the same ratios on every map, got {grid.aspect_ratios}")
    return TwoStageSettings(
        rpn=RPNSettings(
            anchors="torchvision",
            scales=tuple(map(tuple, grid.sizes)),
            ratios=tuple(ratios),
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
        min_size=transform.min_size[-1],
        max_size=transform.max_size,
        divisor=transform.size_divisible,
        training=training or TwoStageSettings.training,
        nms_threshold=heads.nms_thresh,
        least_score=heads.score_thresh,
        detections=heads.detections_per_img,
    )


def faster_rcnn_from_torchvision(
    model: nn.Module, classes: Sequence[str], stride: int, training: TrainSettings | None = None, seed: int = 0
) -> TwoStage:
    """Our detector with the weights and settings of a torchvision FasterRCNN on one map.

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


def bottom_up_of(body: nn.Module) -> BottomUp:
    """The stages of the network under torchvision's pyramid, copied.

    Args:
        body: that of torchvision's `resnet_fpn_backbone`, or stages of ours.
    Raises:
        ValueError: another network, or not all four of its stages.
    """
    body = deepcopy(body)
    if isinstance(body, BottomUp):
        return body
    if not hasattr(body, "conv1") or len(body.return_layers) != 4:
        raise ValueError(f"body: expected the four stages of a residual network, got {list(body.return_layers)}")
    frozen = tuple({type(layer) for layer in body.modules() if type(layer).__name__ == "FrozenBatchNorm2d"})
    return stages_of(freeze_norms(body, frozen))


def _renamed(name: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    raise ValueError(f"state: unknown weight {name!r}")


def _of_boxes(name: str) -> bool:
    return name.startswith("roi_heads.box_predictor.bbox_pred.")
