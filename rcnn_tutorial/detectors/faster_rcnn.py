"""Faster R-CNN: the network proposes (Ren et al., NIPS 2015).

Fast R-CNN, and on the same map a region proposal network in place of selective search. `two_stage.py` has the
pipeline; here are the paper's settings and the networks that it starts from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt

from torch import nn
from torchvision.models import ResNet

from rcnn_tutorial.detectors.two_stage import TwoStage, TwoStageSettings
from rcnn_tutorial.nets.backbones import VGG16, ConvNet, receptive_field, smallest_side
from rcnn_tutorial.nets.resnet import c4
from rcnn_tutorial.nets.rpn import RPNSettings
from rcnn_tutorial.ops.warp import IMAGENET_MEAN
from rcnn_tutorial.training import TrainSettings

IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class FasterRCNNSettings(TwoStageSettings):
    """Faster R-CNN's settings: the defaults of TwoStageSettings, which are the paper's."""

    @classmethod
    def tiny(cls, steps: int = 600, **changes) -> "FasterRCNNSettings":
        """The laptop's: small anchors, fewer proposals and samples, all layers trained, a short training."""
        rpn = RPNSettings(
            scales=(16, 32, 64, 128),
            two_way=False,
            inside=False,
            by_locations=False,
            box_weight=1.0,
            beta=1 / 9,
            before_nms=(1000, 1000),
            after_nms=(300, 300),
            least_side=1.0,
        )
        training = TrainSettings(steps, batch_size=4, lr=0.05, schedule="cosine", warmup=steps // 4, clip_norm=10.0)
        own = {"rpn": rpn, "pooling": "align", "rois": 128, "background": (0.0, 0.5), "beta": 1 / 9}
        own |= {"min_size": None, "max_size": None, "frozen": 0, "training": training, "nms_threshold": 0.4}
        return cls(**(own | changes))


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
        ValueError: a ConvNet with a pyramid of several levels.
    """

    def __init__(
        self,
        net: ConvNet | ResNet,
        classes: Sequence[str],
        settings: FasterRCNNSettings | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] | None = None,
        seed: int = 0,
    ):
        settings = settings or FasterRCNNSettings()
        if isinstance(net, ResNet):
            body, hidden, channels, width = c4(net)
            stride, output_size, std = 16, 14, std or IMAGENET_STD
            cell = stride
        else:
            body, stride, output_size = _without_pooling(net)
            hidden = nn.Sequential(nn.Flatten(), net.fc6, net.fc7)
            channels, width = net.layers[-1].channels, net.classifier.in_features
            cell = max(stride, smallest_side((*net.layers[:-1], replace(net.layers[-1], pool=0))))
        super().__init__(
            body, (stride,), channels, hidden, width, output_size, classes, settings, mean, std or (1, 1, 1), seed,
            cell,
        )  # fmt: skip
        frozen = _published_frozen(net) if settings.frozen is None else settings.frozen
        self.body[:frozen].requires_grad_(False)


def _published_frozen(net: ConvNet | ResNet) -> int:
    """Layers that are not trained: VGG16's below conv3_1, of a residual network the stem and the first stage."""
    if isinstance(net, ResNet):
        return 2
    return 4 if net.layers == VGG16 else 0


def _without_pooling(net: ConvNet) -> tuple[nn.Sequential, int, int]:
    """The convolutions up to what RoI pooling replaces, their stride, and the bins that fc6 expects (FAST-01)."""
    stride = receptive_field(net.layers).stride
    if net.levels:
        if len(net.levels) > 1:
            raise ValueError(f"net: expected one level, as fc6 is to read RoIs, got {net.levels}")
        return net.convs, stride, net.levels[0]
    *convs, last = net.convs
    if not isinstance(last[-1], nn.MaxPool2d):
        raise ValueError(f"net: expected a pooling after the last convolution, got {last[-1]}")
    return nn.Sequential(*convs, last[:-1]), stride // 2, isqrt(net.pool5_length // net.layers[-1].channels)
