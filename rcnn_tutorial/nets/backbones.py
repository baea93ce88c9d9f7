"""The convolutional classifiers that the detectors start from: AlexNet as R-CNN used it, and a small one like it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Conv:
    """One convolution, its non-linearity, and what follows it.

    Attributes:
        channels: filters.
        kernel, stride, padding: pixels.
        groups: into how many halves (of the two GPUs of 2012) the channels are split.
        pool: maxima over 3 x 3 at stride 2 afterwards.
        norm: "response" (AlexNet's, across channels, after the pooling), "group" (before the non-linearity) or None.
    """

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    pool: bool = False
    norm: str | None = None


# Krizhevsky et al., NIPS 2012, in the order of layers that R-CNN's network had (RCNN-03)
ALEXNET = (
    Conv(96, 11, stride=4, pool=True, norm="response"),
    Conv(256, 5, padding=2, groups=2, pool=True, norm="response"),
    Conv(384, 3, padding=1),
    Conv(384, 3, padding=1, groups=2),
    Conv(256, 3, padding=1, groups=2, pool=True),
)
TINY = (
    Conv(32, 5, stride=2, padding=2, pool=True, norm="group"),
    Conv(64, 3, padding=1, pool=True, norm="group"),
    Conv(96, 3, padding=1, norm="group"),
    Conv(128, 3, padding=1, norm="group"),
    Conv(128, 3, padding=1, pool=True, norm="group"),
)


class ConvNet(nn.Module):
    """Convolutions, two fully connected layers and a classifier, for square crops of one size.

    Args:
        layers: the convolutions.
        size: side of the crops, pixels.
        hidden: width of the fully connected layers fc6 and fc7.
        classes: outputs of the classifier.
        dropout: share of fc6 and fc7 that is dropped in training mode.
    """

    def __init__(self, layers: tuple[Conv, ...], size: int, hidden: int, classes: int, dropout: float = 0.5):
        super().__init__()
        self.size = size
        channels = (3, *(layer.channels for layer in layers))
        self.convs = nn.Sequential(*(_block(c, layer) for c, layer in zip(channels, layers, strict=False)))
        with torch.no_grad():
            self.pool5_length = self.convs(torch.zeros(1, 3, size, size)).numel()
        self.fc6 = nn.Sequential(nn.Linear(self.pool5_length, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.fc7 = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.classifier = nn.Linear(hidden, classes)

    def pool5(self, crops: Tensor) -> Tensor:
        """Features that still know where: (R, 3, size, size) to (R, pool5_length)."""
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
        """Put a new last layer of random weights in place of the old one; nothing else changes (RCNN-07)."""
        old = self.classifier.weight
        self.classifier = nn.Linear(old.shape[1], classes, device=old.device, dtype=old.dtype)
        with torch.no_grad():
            self.classifier.weight.copy_(0.01 * torch.randn(classes, old.shape[1], generator=generator))
            self.classifier.bias.zero_()


def alexnet(classes: int = 1000) -> ConvNet:
    """AlexNet on 227 x 227 pixels: pool5 has 9,216 numbers, fc7 4,096.

    Source: RCNN-03.
    """
    return ConvNet(ALEXNET, 227, 4096, classes)


def tiny_net(classes: int) -> ConvNet:
    """The laptop's network, on 64 x 64 pixels, with GroupNorm: a frozen layer of it never changes."""
    return ConvNet(TINY, 64, 256, classes)


def _block(channels: int, layer: Conv) -> nn.Sequential:
    parts: list[nn.Module] = [
        nn.Conv2d(channels, layer.channels, layer.kernel, layer.stride, layer.padding, groups=layer.groups)
    ]
    if layer.norm == "group":
        parts.append(nn.GroupNorm(layer.channels // 8, layer.channels))
    parts.append(nn.ReLU())
    if layer.pool:
        parts.append(nn.MaxPool2d(3, 2))
    if layer.norm == "response":
        parts.append(nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0))
    return nn.Sequential(*parts)
