"""The convolutional classifiers that the detectors start from, as published, and a small one like them.

A network is a table of its convolutions (`ALEXNET`, `ZF5`, `VGG16`, `TINY`), from which `ConvNet` builds the layers and
`receptive_field` computes what a cell of the last map looks at.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rcnn_tutorial.engine.checks import expect
from rcnn_tutorial.ops.pooling import spatial_pyramid_pool
from rcnn_tutorial.weights import load_weights


@dataclass(frozen=True)
class Conv:
    """One convolution, its non-linearity, and what follows it.

    Attributes:
        channels: filters.
        kernel, stride, padding: pixels.
        groups: into how many halves (of the two GPUs of 2012) the channels are split.
        pool: side of the squares over which maxima are taken afterwards, at stride 2; 0 for none.
        ceil: the pooling's last square may reach beyond the map, as in Caffe.
        norm: "response" (AlexNet's, across channels, after the pooling), "batch" (before the non-linearity) or None.
    """

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    pool: int = 0
    ceil: bool = False
    norm: str | None = None


Layers = tuple[Conv, ...]
Levels = tuple[int, ...]

# Krizhevsky et al., NIPS 2012, in the order of layers that R-CNN's network had (R-CNN, section 2.1)
ALEXNET = (
    Conv(96, 11, stride=4, pool=3, norm="response"),
    Conv(256, 5, padding=2, groups=2, pool=3, norm="response"),
    Conv(384, 3, padding=1),
    Conv(384, 3, padding=1, groups=2),
    Conv(256, 3, padding=1, groups=2, pool=3),
)
# Zeiler and Fergus, ECCV 2014, as SPPnet used it (section 3.1): 224 pixels give a map of 13 x 13, 180 give 10 x 10
ZF5 = (
    Conv(96, 7, stride=2, padding=1, pool=3, ceil=True, norm="response"),
    Conv(256, 5, stride=2, pool=3, ceil=True, norm="response"),
    Conv(384, 3, padding=1),
    Conv(384, 3, padding=1),
    Conv(256, 3, padding=1),
)
# Simonyan and Zisserman, ICLR 2015, configuration D; the poolings round down as torchvision's do, where Caffe's round
# up: 37 x 62 cells and not 38 x 63 at 600 x 1000
VGG16 = tuple(
    Conv(channels, 3, padding=1, pool=2 * (i == count - 1))
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    for i in range(count)
)
# maps of 64-32-16-8-8-4: the last two convolutions work at a stride of 8 pixels
TINY = (
    Conv(16, 3, padding=1, pool=2),
    Conv(32, 3, padding=1, pool=2),
    Conv(64, 3, padding=1, pool=2),
    Conv(96, 3, padding=1),
    Conv(96, 3, padding=1, pool=2),
)


class Field(NamedTuple):
    """The receptive field of a feature map's cells, in pixels."""

    size: int  # side of the receptive field
    stride: int  # from one cell to the next
    first: float  # centre of the first cell's field; negative or small where padding is looked at


def receptive_field(layers: Sequence[Conv]) -> Field:
    """What a cell of the map after these convolutions and their poolings looks at.

    Source: SPPnet, appendix A; Faster R-CNN, section 3.1.
    """
    size, stride, first = 1, 1, 0.5  # a pixel, as a map of its own; centres lie half a pixel inside
    for layer in layers:
        pooling = [(layer.pool, 2, 0)] if layer.pool else []
        for kernel, step, padding in [(layer.kernel, layer.stride, layer.padding), *pooling]:
            size += (kernel - 1) * stride
            first += ((kernel - 1) / 2 - padding) * stride
            stride *= step
    return Field(size, stride, first)


def smallest_side(layers: Sequence[Conv]) -> int:
    """The side of the smallest image of which these convolutions and their poolings leave one cell, pixels."""
    side = 1
    for layer in reversed(layers):
        if layer.pool:
            side = 2 * (side - 1) + layer.pool - layer.ceil
        side = max(1, (side - 1) * layer.stride + layer.kernel - 2 * layer.padding)
    return side


class ConvNet(nn.Module):
    """Convolutions, two fully connected layers and a classifier.

    Without `levels` it reads square crops of one size, as AlexNet does. With them a spatial pyramid stands between
    the convolutions and fc6, and it reads images of any size; the last convolution then has no pooling.

    Args:
        layers: the convolutions.
        size: side of the crops, pixels; with `levels` that of the training crops, and no more than a note.
        hidden: width of the fully connected layers fc6 and fc7.
        classes: outputs of the classifier.
        dropout: share of fc6 and fc7 that is dropped in training mode.
        levels: bins along each side, for each level of the pyramid; empty for none.
    Raises:
        ValueError: levels after a pooling.
    Source: R-CNN, section 2.1; with `levels` SPPnet, section 2.2.
    """

    def __init__(self, layers: Layers, size: int, hidden: int, classes: int, dropout: float = 0.5, levels: Levels = ()):
        super().__init__()
        expect(not (levels and layers[-1].pool), "layers", f"no pooling before the levels {levels}", layers[-1])
        self.layers, self.size, self.levels = layers, size, levels
        channels = (3, *(layer.channels for layer in layers))
        self.convs = nn.Sequential(*(_block(c, layer) for c, layer in zip(channels, layers, strict=False)))
        if levels:
            self.pool5_length = layers[-1].channels * sum(n * n for n in levels)
        else:
            with torch.no_grad():
                self.pool5_length = self.convs(torch.zeros(1, 3, size, size)).numel()
        self.fc6 = nn.Sequential(nn.Linear(self.pool5_length, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.fc7 = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.classifier = nn.Linear(hidden, classes)

    def pool5(self, crops: Tensor) -> Tensor:
        """Features that still know where: (R, 3, size, size) to (R, pool5_length); with levels any height and width."""
        if self.levels:
            return spatial_pyramid_pool(self.convs(crops), self.levels)
        if crops.ndim != 4 or crops.shape[1:] != (3, self.size, self.size):
            raise ValueError(f"crops: expected (R, 3, {self.size}, {self.size}), got {tuple(crops.shape)}")
        return self.convs(crops).flatten(1)

    def hidden(self, pool5: Tensor) -> Tensor:
        """What the SVMs read: pool5 features (R, pool5_length) to fc7 features (R, hidden)."""
        return self.fc7(self.fc6(pool5))

    def forward(self, crops: Tensor) -> Tensor:
        """Scores before the softmax: mean-subtracted crops (R, 3, size, size) to (R, classes)."""
        return self.classifier(self.hidden(self.pool5(crops)))

    def replace_classifier(self, classes: int, generator: torch.Generator | None = None) -> None:
        """Put a new last layer of random weights in place of the old one; nothing else changes.

        Source: R-CNN, section 2.3, "Domain-specific fine-tuning".
        """
        old = self.classifier.weight
        self.classifier = nn.Linear(old.shape[1], classes, device=old.device, dtype=old.dtype)
        with torch.no_grad():
            self.classifier.weight.copy_(0.01 * torch.randn(classes, old.shape[1], generator=generator))
            self.classifier.bias.zero_()


def alexnet(classes: int = 1000) -> ConvNet:
    """AlexNet on 227 x 227 pixels: pool5 has 9,216 numbers, fc7 4,096.

    Source: R-CNN, section 2.1, "Feature extraction".
    """
    return ConvNet(ALEXNET, 227, 4096, classes)


def zf5(classes: int = 1000, levels: Levels = (6, 3, 2, 1)) -> ConvNet:
    """ZF-5 with a pyramid of 50 bins on its last map, as SPPnet detected with it: pool5 has 12,800 numbers.

    Source: SPPnet, sections 3.1 and 4.1.
    """
    return ConvNet(ZF5, 224, 4096, classes, levels=levels)


def vgg16(classes: int = 1000) -> ConvNet:
    """VGG16 on 224 x 224 pixels: pool5 has 7 x 7 x 512 = 25,088 numbers.

    Source: Simonyan and Zisserman, ICLR 2015; Fast R-CNN, section 2.1.
    """
    return ConvNet(VGG16, 224, 4096, classes)


def tiny_net(classes: int = 20, norm: str | None = None, pretrained: bool = False, levels: Levels = ()) -> ConvNet:
    """The laptop's network, on 64 x 64 pixels, without dropout: pool5 has 1,536 numbers, fc7 256.

    Args:
        classes: outputs of the classifier.
        norm: "batch" for the pre-training, where nothing is learnt without; data_scripts/train_backbone.py takes it out
            afterwards.
        pretrained: with the weights that data_scripts/train_backbone.py made, on the 20 auxiliary shapes.
        levels: of a pyramid in place of the last pooling, (4, 2, 1) for SPPnet: pool5 has 2,016 numbers.
    Raises:
        ValueError: pretrained, with another number of classes than 20, with a norm, or with other levels.
    """
    names = {(): "backbone", (4, 2, 1): "backbone_spp"}
    known = classes == 20 and norm is None and levels in names
    need, got = f"20 classes, no norm and levels {list(names)}", f"{classes}, {norm} and {levels}"
    expect(known or not pretrained, "pretrained", need, got)
    layers = tuple(replace(layer, norm=norm) for layer in TINY)
    if levels:
        layers = (*layers[:-1], replace(layers[-1], pool=0))
    net = ConvNet(layers, 64, 256, classes, dropout=0.0, levels=levels)
    if pretrained:
        net.load_state_dict(load_weights(names[levels]))
    return net


def initialise(convolution: nn.Conv2d, generator: torch.Generator | None = None) -> nn.Conv2d:
    """Draw the weights of a convolution that a ReLU follows, and return it (He et al., ICCV 2015, equation 10)."""
    weight, bias = convolution.parameters()
    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(bias)
    return convolution


def _block(channels: int, layer: Conv) -> nn.Sequential:
    convolution = nn.Conv2d(channels, layer.channels, layer.kernel, layer.stride, layer.padding, groups=layer.groups)
    parts: list[nn.Module] = [initialise(convolution)]
    if layer.norm == "batch":
        parts.append(nn.BatchNorm2d(layer.channels))
    parts.append(nn.ReLU())
    if layer.pool:
        parts.append(nn.MaxPool2d(layer.pool, 2, ceil_mode=layer.ceil))
    if layer.norm == "response":
        parts.append(nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0))
    return nn.Sequential(*parts)
