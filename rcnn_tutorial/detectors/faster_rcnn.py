"""Faster R-CNN: the network proposes (Ren et al., NeurIPS 2015).

Fast R-CNN, and on the same map a region proposal network in place of selective search. `two_stage.py` has the pipeline
and `nets/rpn.py` the network that proposes; here are the paper's settings and the networks that it starts from.

The paper trains both in four steps that alternate (`experiments/alternating.py`), and names joint training as faster
and about as good; its released Python code trains jointly, and so does this detector. A gradient through the
coordinates of the proposals is left out, as there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torchvision.models import ResNet

from rcnn_tutorial.detectors.fast_rcnn import without_pooling
from rcnn_tutorial.detectors.two_stage import TwoStage, TwoStageSettings
from rcnn_tutorial.nets.backbones import ConvNet
from rcnn_tutorial.nets.resnet import c4
from rcnn_tutorial.nets.rpn import RPNSettings
from rcnn_tutorial.ops.warp import IMAGENET_MEAN
from rcnn_tutorial.saving import describe
from rcnn_tutorial.training import TrainSettings

IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class FasterRCNNSettings(TwoStageSettings):
    """Faster R-CNN's settings: the defaults of TwoStageSettings, which are the paper's."""

    @classmethod
    def tiny(cls, steps: int = 600, **changes) -> "FasterRCNNSettings":
        """The laptop's: small anchors, fewer proposals and samples, all layers trained, a short training."""
        rpn = RPNSettings.tiny(16, 32, 64, 128)
        training = TrainSettings(steps, batch_size=4, lr=0.05, schedule="cosine", warmup=steps // 4, clip_norm=10.0)
        tiny = {"rpn": rpn, "sampling_ratio": 2, "background": (0.0, 0.5), "beta": 1 / 9, "nms_threshold": 0.4}
        return cls(**(tiny | {"min_size": None, "max_size": None, "training": training} | changes))


class FasterRCNN(TwoStage):
    """The detector, made of a classifier.

    Args:
        net: pre-trained. Of a ConvNet the convolutions become the body, fc6 and fc7 the head's hidden layers; of a
            residual network all stages but the last become the body, the last one the head's (RoIs of 14 x 14).
        classes: names, background first.
        settings: of the detector.
        mean, std: RGB in [0, 1], what normalises the pixels; by default as the net's pre-training had it: the mean
            alone, and for a residual network both.
        seed: of the new layers, and of `generator`, which draws the mini-batches.
    Raises:
        ValueError: a ConvNet with a spatial pyramid of several levels.
    """

    name = "faster_rcnn"

    def __init__(
        self,
        net: ConvNet | ResNet,
        classes: Sequence[str],
        settings: FasterRCNNSettings | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] | None = None,
        seed: int = 0,
    ):
        settings, network = settings or FasterRCNNSettings(), describe(net)
        if isinstance(net, ResNet):
            parts, std = c4(net), std or IMAGENET_STD
        else:
            parts = without_pooling(net)
        super().__init__(**parts, classes=classes, settings=settings, mean=mean, std=std or (1, 1, 1), seed=seed)
        self.network = network
