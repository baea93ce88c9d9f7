"""The recipes of VOC 2007: trained on its 5,011 pictures for training and validation, measured on its 4,952 of test."""

from collections.abc import Callable
from typing import Any

from torchvision.models import get_model

from rcnn_tutorial.app.published.recipe import Network, recipe
from rcnn_tutorial.compat import classifier_from_torchvision
from rcnn_tutorial.detectors.fast_rcnn import FastRCNNSettings
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNNSettings
from rcnn_tutorial.detectors.rcnn import RCNNSettings
from rcnn_tutorial.detectors.sppnet import SPPnetSettings
from rcnn_tutorial.detectors.svm import SVMSettings
from rcnn_tutorial.nets.backbones import ConvNet, zf5
from rcnn_tutorial.nets.rpn import RPNSettings
from rcnn_tutorial.training import TrainSettings


def _rcnn() -> RCNNSettings:
    return RCNNSettings(
        context=16,  # section 2.1: pixels about the box in the warped crop
        foreground=0.5,  # section 2.3: IoU of a positive window in fine-tuning
        background=0.5,  # section 2.3: all others are background
        background_from=0.0,
        positives=32,  # section 2.3: of a mini-batch of 128
        negatives=96,
        fine_tuning=TrainSettings(
            steps=70_000,  # released code, README: the models of VOC 2007 are of 70,000 iterations
            batch_size=1,  # one mini-batch of 128 windows
            lr=1e-3,  # section 2.3: a tenth of the rate of the pre-training
            momentum=0.9,  # released code, pascal_finetune_solver.prototxt, and so the next two
            weight_decay=5e-4,
            milestones=(20_000, 40_000, 60_000),
        ),
        svm_foreground=1.0,  # section 2.3: the true boxes alone
        svm_background=0.3,  # section 2.3, from a search over six values
        svm_overlap=1.0,
        svm=SVMSettings(  # released code, rcnn_train.m
            cost=1e-3, positive_weight=2.0, bias_feature=10.0, margin=-1.0, easy=-1.2, refit=2000, passes=1
        ),
        ridge_iou=0.6,  # appendix C
        ridge_penalty=1000.0,  # appendix C
    )


def _sppnet() -> SPPnetSettings:
    return SPPnetSettings(
        scales=(480, 576, 688, 864, 1200),  # section 4.1
        side=224,  # section 4.1: a window reads the scale that shows it nearest 224 x 224
        foreground=0.5,  # section 4.1: IoU of a positive window in fine-tuning
        background=0.5,  # section 4.1: background from 0.1 to 0.5
        background_from=0.1,
        positives=32,  # section 4.1: a quarter of each mini-batch
        negatives=96,
        fine_tuning=TrainSettings(
            steps=300_000,  # section 4.1: 250,000 mini-batches at 1e-4, and 50,000 at 1e-5
            batch_size=1,  # one mini-batch of 128 windows
            lr=1e-4,
            milestones=(250_000,),
            momentum=0.9,  # as R-CNN's released code; the paper does not say, and so the next
            weight_decay=5e-4,
        ),
        svm_background=0.3,  # section 4.1
        svm_overlap=0.7,  # section 4.1: of two negatives that overlap by more than 70 %, one is left out
        ridge_iou=0.5,  # section 4.1
        ridge_penalty=1000.0,  # as R-CNN, appendix C
    )


def _fast_rcnn() -> FastRCNNSettings:
    return FastRCNNSettings(
        sampling_ratio=None,  # section 2.1: RoI pooling
        rois=64,  # section 2.3: 128 from two pictures
        share=0.25,  # section 2.3
        foreground=0.5,  # section 2.3
        background=(0.1, 0.5),  # section 2.3
        beta=1.0,  # section 2.3, equation 3
        min_size=600,  # section 5.2
        max_size=1000,  # section 5.2
        scales=(),  # section 5.2: one scale
        training=TrainSettings(
            steps=40_000,  # section 2.3: 30,000 at 0.001, and 10,000 at 0.0001
            batch_size=2,  # section 2.3
            lr=1e-3,
            milestones=(30_000,),
            momentum=0.9,  # section 2.3
            weight_decay=5e-4,  # section 2.3
        ),
        nms_threshold=0.3,  # released code, config.py
        least_score=0.05,  # released code, test.py
        detections=100,
    )


def _faster_rcnn() -> FasterRCNNSettings:
    return FasterRCNNSettings(
        rpn=RPNSettings(
            anchors="caffe",  # released code, generate_anchors.py: sides rounded to whole pixels
            scales=(128, 256, 512),  # section 3.3
            ratios=(0.5, 1.0, 2.0),  # section 3.3
            foreground=0.7,  # section 3.1.2
            background=(0.0, 0.3),  # section 3.1.2
            inside=True,  # section 3.3: anchors across the border do not train
            samples=256,  # section 3.1.3
            share=0.5,  # section 3.1.3
            beta=1 / 9,  # released code, train.prototxt: sigma = 3
            before_nms=(12_000, 6_000),  # released code, config.py
            after_nms=(2_000, 300),  # section 3.3; section 4.1, table 3
            nms_threshold=0.7,  # section 3.3
            least_side=16.0,  # released code, config.py
        ),
        sampling_ratio=None,  # Fast R-CNN, section 2.1: RoI pooling
        rois=128,  # released code, config.py
        share=0.25,  # Fast R-CNN, section 2.3
        foreground=0.5,
        background=(0.0, 0.5),  # released code, faster_rcnn_end2end.yml
        weights=(10.0, 10.0, 5.0, 5.0),  # released code, config.py: deviations of 0.1 and 0.2
        beta=1.0,  # Fast R-CNN, section 2.3, equation 3
        min_size=600,  # section 3.3
        max_size=1000,  # released code, config.py
        training=TrainSettings(
            steps=70_000,  # released code, faster_rcnn_end2end.sh
            batch_size=2,  # released code, solver.prototxt: iter_size, two pictures to a step
            lr=1e-3,  # section 3.1.3
            milestones=(50_000,),  # released code, solver.prototxt: stepsize
            momentum=0.9,  # section 3.1.3
            weight_decay=5e-4,  # section 3.1.3
        ),
        nms_threshold=0.3,  # released code, config.py
        least_score=0.05,  # released code, test_net.py
        detections=100,
    )


def _classifier(name: str) -> Callable[[str | None], ConvNet]:
    return lambda weights: classifier_from_torchvision(get_model(name, weights=weights))


def _zf5(levels: tuple[int, ...]) -> Network:
    own = "The paper trained it on ImageNet, and published it for Caffe, whose files we do not read."
    return Network("ZF-5", lambda _: zf5(levels=levels), None, own)


ALEXNET = Network(
    "AlexNet",
    _classifier("alexnet"),
    "AlexNet_Weights.IMAGENET1K_V1",
    "torchvision's AlexNet is the one of 2014: one column, without normalisation of the responses, for 224 pixels. "
    "R-CNN used the one of 2012. Both give 9,216 numbers after the last pooling.",
)
VGG = Network(
    "VGG16",
    _classifier("vgg16"),
    "VGG16_Weights.IMAGENET1K_V1",
    "torchvision trained it anew; the papers have the weights of its authors, for Caffe.",
)
VOC: dict[str, Any] = {"data": "voc2007", "splits": ("trainval", "test")}
PROPOSED = {"mode": "fast", "top": 2000}  # R-CNN, section 2.1: about 2,000 of the fast mode
BIASES = "Biases learn at the rate of the weights and do not decay; in Caffe they learn twice as fast."
JOINT = (
    "Both networks are trained together, as in the released Python code; the paper's figure is of four steps that "
    "alternate."
)
PADDED = "The two pictures of a step are padded to one size; the released code adds up the gradients of one by one."

RECIPES = (
    recipe(
        "rcnn_alexnet_voc2007",
        _rcnn,
        detector="rcnn",
        network=ALEXNET,
        expected={"mAP": 0.585},
        source="R-CNN (CVPR 2014), table 2, with box regression",
        hours=22.0,
        memory=3.0,
        cost="Hours published: on one K40 (Fast R-CNN, table 4, model S). Memory is our estimate, and the 185 GB on "
        "disk for the features of all windows in half precision.",
        proposals=PROPOSED,
        differences=(
            "The threshold of NMS is 0.3, that of the released code, since all pictures are trained on.",
            "The deviation of the pixels is a part of the first convolution's weights, which therefore learn slowly.",
        ),
        **VOC,
    ),
    recipe(
        "sppnet_zf5_voc2007",
        _sppnet,
        detector="sppnet",
        network=_zf5((6, 3, 2, 1)),
        expected={"mAP": 0.592},
        source="SPPnet (ECCV 2014; TPAMI 2015), table 9, five scales with box regression",
        hours=3.0,
        memory=257.0,
        cost="Hours published: two for the fine-tuning, one for the features, on one GPU (section 4.1). Memory is our "
        "estimate, of the machine and not of the GPU: the features of all windows in half precision.",
        proposals=PROPOSED,
        **VOC,
    ),
    recipe(
        "fast_rcnn_vgg16_voc2007",
        _fast_rcnn,
        detector="fast_rcnn",
        network=VGG,
        expected={"mAP": 0.669},
        source="Fast R-CNN (ICCV 2015), table 1",
        hours=9.5,
        memory=11.0,
        cost="Both published: on one K40 (table 4, model L; README of the released code).",
        flip=0.5,  # section 2.3
        proposals=PROPOSED,
        differences=(
            "Difficult objects are left out of the training; for that the paper has 0.681 (table 1, 07 without them).",
            BIASES,
        ),
        **VOC,
    ),
    recipe(
        "faster_rcnn_vgg16_voc2007",
        _faster_rcnn,
        detector="faster_rcnn",
        network=VGG,
        expected={"mAP": 0.699},
        source="Faster R-CNN (NIPS 2015; TPAMI 2017), table 3",
        hours=17.0,
        memory=6.0,
        cost="Our estimates for one K40: Fast R-CNN's 9.5 hours for 80,000 pictures, times 140,000; and twice the 3 GB "
        "that the released code states for one picture at a time.",
        flip=0.5,  # released code, config.py: each picture, and its mirrored copy
        differences=(JOINT, PADDED, BIASES),
        **VOC,
    ),
    recipe(
        "faster_rcnn_zf5_voc2007",
        _faster_rcnn,
        detector="faster_rcnn",
        network=_zf5((6,)),  # 6 x 6 bins for each region, as the released code has with ZF
        expected={"mAP": 0.599},
        source="Faster R-CNN (NIPS 2015; TPAMI 2017), table 2",
        hours=5.0,
        memory=4.0,
        cost="Our estimates for one K40: VGG16's 17 hours times 59 / 198, the milliseconds of both for a picture "
        "(table 5); and twice the 2 GB that the released code states for ZF's proposals.",
        flip=0.5,  # released code, config.py
        differences=(JOINT, PADDED, BIASES),
        **VOC,
    ),
)
