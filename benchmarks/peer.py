"""The peers: torchvision's Faster R-CNN, on one map and on a pyramid, small enough to be trained on a laptop's CPU."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.nets.fpn import BottomUp, tiny_stages
from rcnn_tutorial.ops.warp import IMAGENET_MEAN

FEWER = {  # proposals and samples than torchvision's defaults, in proportion to the pictures
    "rpn_pre_nms_top_n_train": 1000,
    "rpn_post_nms_top_n_train": 300,
    "rpn_pre_nms_top_n_test": 1000,
    "rpn_post_nms_top_n_test": 300,
    "box_batch_size_per_image": 128,
}


class TinyBackbone(nn.Sequential):
    """Convolutions with GroupNorm: one halving after the other, each but the first followed by a residual block."""

    def __init__(self, width: int, halvings: int):
        widths = [3] + [width * min(2**i, 4) for i in range(halvings)]
        layers = []
        for i, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
            layers += [_convolution(inputs, outputs, 2), nn.ReLU()]
            layers += [_Residual(outputs)] if i else []
        super().__init__(*layers)
        self.out_channels = widths[-1]


class ShippedBackbone(nn.Sequential):
    """The convolutions of `tiny_net`, pre-trained on the auxiliary shapes, at a stride of 8 pixels."""

    out_channels = 96

    def __init__(self):
        super().__init__(*list(tiny_net(pretrained=True).convs.children()))
        del self[-1][-1]  # the last pooling


class PyramidBackbone(nn.Module):
    """Stages of a network, and torchvision's pyramid on them."""

    def __init__(self, body: BottomUp, channels: int):
        super().__init__()
        self.body, self.out_channels = body, channels
        self.fpn = FeaturePyramidNetwork(list(body.channels), channels, LastLevelMaxPool())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.fpn(OrderedDict((str(i), map) for i, map in enumerate(self.body(images))))


def scratch_stages(width: int) -> BottomUp:
    """`TinyBackbone` with five halvings, a map after each but the first."""
    layers = list(TinyBackbone(width, 5))
    stages = [nn.Sequential(*layers[i : i + 3]) for i in range(2, len(layers), 3)]
    return BottomUp(nn.Sequential(*layers[:2]), stages, [width * min(2**i, 4) for i in range(1, 5)], (4, 8, 16, 32))


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(_convolution(channels, channels), nn.ReLU(), _convolution(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(features + self.body(features))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.GroupNorm(outputs // 8, outputs))


def tiny_faster_rcnn(
    classes: int,
    size: tuple[int, int] = (192, 256),
    anchors: tuple[int, ...] = (16, 32, 64, 128),
    width: int = 16,
    halvings: int = 3,
    head: int = 256,
    seed: int = 0,
    pretrained: bool = False,
    **settings,
) -> FasterRCNN:
    """torchvision's detector on `TinyBackbone`, its weights drawn from the seed.

    Args:
        classes: with the background.
        size: images are resized to this shorter and at most this longer side, pixels.
        anchors: square roots of their areas, pixels; each in three shapes.
        width: channels after the first halving, a multiple of 8; doubled by the next two.
        halvings: the one feature level has a stride of 2 ** halvings pixels.
        head: width of the two hidden layers.
        seed: of the initial weights.
        pretrained: with the shipped backbone in place of `TinyBackbone`; width and halvings then do not count.
        settings: of FasterRCNN, in place of its own and of `FEWER`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = ShippedBackbone() if pretrained else TinyBackbone(width, halvings)
        if pretrained:  # it was trained on pixels less the mean, in [0, 1]
            settings = {"image_mean": IMAGENET_MEAN, "image_std": (1.0, 1.0, 1.0), **settings}
        return FasterRCNN(
            backbone,
            min_size=size[0],
            max_size=size[1],
            rpn_anchor_generator=AnchorGenerator((anchors,), ((0.5, 1.0, 2.0),)),
            box_head=TwoMLPHead(backbone.out_channels * 7 * 7, head),
            box_predictor=FastRCNNPredictor(head, classes),
            **(FEWER | settings),
        )


def tiny_fpn(
    classes: int,
    size: tuple[int, int] = (192, 256),
    width: int = 16,
    channels: int = 64,
    head: int = 256,
    seed: int = 0,
    pretrained: bool = False,
    **settings,
) -> FasterRCNN:
    """torchvision's detector on a pyramid of 64 channels, with the anchors and the level rule of `FPNSettings.tiny`.

    Args:
        classes, size, width, head, seed, pretrained, settings: as for `tiny_faster_rcnn`; pretrained with the stages
            of our small network.
        channels: of the pyramid.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stages = tiny_stages(tiny_net(pretrained=True)) if pretrained else scratch_stages(width)
        if pretrained:
            settings = {"image_mean": IMAGENET_MEAN, "image_std": (1.0, 1.0, 1.0), **settings}
        names = [str(i) for i in range(len(stages.strides))]
        return FasterRCNN(
            PyramidBackbone(stages, channels),
            min_size=size[0],
            max_size=size[1],
            rpn_anchor_generator=AnchorGenerator(
                tuple((4 * s,) for s in (*stages.strides, 64)), ((0.5, 1.0, 2.0),) * 5
            ),
            box_roi_pool=MultiScaleRoIAlign(names, 7, 2, canonical_scale=112),
            box_head=TwoMLPHead(channels * 7 * 7, head),
            box_predictor=FastRCNNPredictor(head, classes),
            **(FEWER | settings),
        )
