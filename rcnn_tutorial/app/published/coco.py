"""The recipes of COCO 2017 with ResNet-50 and a feature pyramid: torchvision's figures, and the settings of its models.

torchvision trained them by its reference script (references/detection, README.md and train.py) on eight GPUs of two
pictures each, for 26 epochs of the 117,266 pictures with objects: 7,329 steps of 16 to an epoch.
"""

from typing import Any

from torchvision.models import get_model

from rcnn_tutorial.app.published.recipe import Network, recipe
from rcnn_tutorial.detectors.fpn import FPNSettings
from rcnn_tutorial.detectors.mask_rcnn import MaskRCNNSettings
from rcnn_tutorial.detectors.retinanet import RetinaNetSettings
from rcnn_tutorial.nets.rpn import RPNSettings
from rcnn_tutorial.training import TrainSettings


def _training(lr: float) -> TrainSettings:
    return TrainSettings(
        steps=190_554,  # 26 epochs of 7,329 steps
        batch_size=16,  # 8 GPUs of 2 pictures
        lr=lr,
        momentum=0.9,  # train.py
        weight_decay=1e-4,  # train.py
        warmup=1_000,  # engine.py
        milestones=(117_264, 161_238),  # after 16 and 22 epochs
    )


def _fpn() -> FPNSettings:
    return FPNSettings(
        rpn=RPNSettings(  # FasterRCNN, rpn_...
            anchors="torchvision",
            scales=((32,), (64,), (128,), (256,), (512,)),  # FPN, section 4.1
            ratios=(0.5, 1.0, 2.0),  # FPN, section 4.1
            foreground=0.7,
            background=(0.0, 0.3),
            inside=False,  # FPN, section 4.1
            samples=256,
            share=0.5,
            beta=1 / 9,  # rpn.py
            before_nms=(2_000, 1_000),
            after_nms=(2_000, 1_000),
            nms_threshold=0.7,
            least_side=1e-3,  # rpn.py
        ),
        sampling_ratio=2,  # FasterRCNN, MultiScaleRoIAlign
        output_size=7,
        rois=512,  # FPN, section 5.2
        share=0.25,
        foreground=0.5,
        background=(0.0, 0.5),
        weights=(10.0, 10.0, 5.0, 5.0),
        beta=1 / 9,  # roi_heads.py
        min_size=800,  # FPN, section 5.2
        max_size=1333,
        divisor=32,
        training=_training(lr=0.02),  # README.md: the script's default for eight GPUs
        nms_threshold=0.5,
        least_score=0.05,
        detections=100,
        channels=256,  # FPN, section 3
        hidden=1024,  # FPN, section 4.2
        s0=224.0,  # FPN, equation 1
    )


def _mask_rcnn() -> MaskRCNNSettings:
    return MaskRCNNSettings(
        **vars(_fpn()),  # those of Faster R-CNN, the training too
        mask_head=(4, 256, 28),  # Mask R-CNN, section 3.1 and figure 4
    )


def _retinanet() -> RetinaNetSettings:
    return RetinaNetSettings(
        anchors="torchvision",
        scales=(  # retinanet.py: the side and its multiples by the cube roots of 2 and 4, rounded down
            (32, 40, 50),
            (64, 80, 101),
            (128, 161, 203),
            (256, 322, 406),
            (512, 645, 812),
        ),
        ratios=(0.5, 1.0, 2.0),  # Focal loss, section 4, "Anchors"
        foreground=0.5,  # section 4, "Anchors"
        background=(0.0, 0.4),  # section 4, "Anchors"
        alpha=0.25,  # section 5.1
        gamma=2.0,  # section 5.1
        prior=0.01,  # section 4.1
        box_loss="l1",  # retinanet.py
        channels=256,  # section 4
        layers=4,  # section 4
        std=0.01,  # section 4.1
        finest=3,  # section 4
        extra="P5",  # retinanet.py; the paper has "C5"
        min_size=800,  # section 5
        max_size=1333,
        divisor=32,
        training=_training(lr=0.01),  # README.md, and section 4.1
        candidates=1_000,  # section 4.1, "Inference"
        nms_threshold=0.5,  # section 4.1, "Inference"
        least_score=0.05,  # section 4.1, "Inference"
        detections=300,  # retinanet.py
    )


SCRIPT = "torchvision, models trained on COCO train2017 and measured on val2017 by its reference script"
COST = (
    "Published: on 8 V100, {} s a step and {} GB on each GPU (torchvision 0.9, runtime characteristics), times 190,554 "
    "steps."
)
COCO: dict[str, Any] = {
    "data": "coco2017",
    "splits": ("train2017", "val2017"),
    "network": Network(
        "ResNet-50", lambda weights: get_model("resnet50", weights=weights), "ResNet50_Weights.IMAGENET1K_V1"
    ),
    "flip": 0.5,  # presets.py
    "with_objects": True,  # coco_utils.py
    "gpus": 8,
    "differences": (
        "Pictures of a step are drawn at random; the script groups those that are wide and those that are high.",
        "Biases do not decay; in the script they do.",
    ),
}

RECIPES = (
    recipe(
        "fpn_resnet50_coco2017",
        _fpn,
        _training,
        detector="fpn",
        expected={"AP": 0.370},
        source=SCRIPT,
        hours=12.1,
        memory=5.2,
        cost=COST.format(0.2288, 5.2),
        **COCO,
    ),
    recipe(
        "mask_rcnn_resnet50_coco2017",
        _mask_rcnn,
        _fpn,
        _training,
        detector="mask_rcnn",
        expected={"AP": 0.379, "mask AP": 0.346},
        source=SCRIPT,
        hours=14.4,
        memory=5.4,
        cost=COST.format(0.2728, 5.4),
        **COCO,
    ),
    recipe(
        "retinanet_resnet50_coco2017",
        _retinanet,
        _training,
        detector="retinanet",
        expected={"AP": 0.364},
        source=SCRIPT,
        hours=13.3,
        memory=4.1,
        cost=COST.format(0.2514, 4.1),
        **COCO,
    ),
)
