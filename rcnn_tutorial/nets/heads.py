"""What follows the maps: class and box of each region, a mask for each class, and the subnets of a dense detector."""

from collections.abc import Sequence
from math import log
from typing import Any

import torch
from torch import Tensor, nn


class BoxHead(nn.Module):
    """Hidden layers, and on them class scores and the offsets of each class (Fast R-CNN, section 2.1).

    Args:
        hidden: pooled features (R, C, h, w) to (R, width).
        width: of its output.
        classes: K + 1, with the background.
        generator: of the initial weights of the two last layers.
    """

    def __init__(self, hidden: nn.Module, width: int, classes: int, generator: torch.Generator | None = None):
        super().__init__()
        self.hidden = hidden
        self.score, self.offsets = nn.Linear(width, classes), nn.Linear(width, 4 * (classes - 1))
        for layer, std in ((self.score, 0.01), (self.offsets, 0.001)):
            layer.weight.data = std * torch.randn(layer.weight.shape, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores before the softmax (R, K+1), and offsets (R, K, 4)."""
        hidden = self.hidden(pooled)
        return self.score(hidden), self.offsets(hidden).unflatten(1, (-1, 4))


class TwoLayers(nn.Module):
    """Two fully connected layers with ReLU: pooled features (R, C, n, n) to (R, width).

    Args:
        inputs: C n n.
        width: of both layers.
        generator: of the initial weights.
    """

    def __init__(self, inputs: int, width: int, generator: torch.Generator | None = None):
        super().__init__()
        self.fc6, self.fc7 = nn.Linear(inputs, width), nn.Linear(width, width)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_uniform_(layer.weight, a=1, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """(R, C, n, n), or flat, to (R, width)."""
        return torch.relu(self.fc7(torch.relu(self.fc6(pooled.flatten(1)))))


class MaskHead(nn.Module):
    """Convolutions, then one that doubles the cells, and on them a mask for each class (Mask R-CNN, section 3.1).

    There is no fully connected layer: what stands in a cell depends on the features around that cell alone.

    Args:
        inputs: channels of the pooled features.
        layers: number of 3 x 3 convolutions.
        channels: of each.
        classes: K, without the background.
        generator: of the initial weights.
    """

    def __init__(self, inputs: int, layers: int, channels: int, classes: int, generator: torch.Generator | None = None):
        super().__init__()
        widths = [inputs, *[channels] * layers]
        self.layers = nn.ModuleList(nn.Conv2d(widths[i], channels, 3, padding=1) for i in range(layers))
        self.upsample = nn.ConvTranspose2d(widths[-1], channels, 2, stride=2)
        self.logits = nn.Conv2d(channels, classes, 1)
        for parameter in self.parameters():
            if parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu", generator=generator)
            else:
                nn.init.zeros_(parameter)

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled features (R, C, n, n) to masks before the sigmoid, (R, K, 2n, 2n)."""
        for layer in self.layers:
            pooled = torch.relu(layer(pooled))
        return self.logits(torch.relu(self.upsample(pooled)))


class Subnet(nn.Module):
    """3 x 3 convolutions, the same on every map, and a last one whose outputs are about the anchors of a cell.

    Args:
        channels: of the maps, and of the layers between.
        layers: convolutions with ReLU before the last.
        outputs: of the last, for each cell.
        std: of the Gaussian weights; None for He's rule, with which a short training starts.
        groups: of the GroupNorm of each layer but the last; 0 for none.
        prior: what the sigmoid of each output is at first; 0.5 leaves the last bias at 0.
        generator: of the initial weights.
    Source: Focal loss, section 4, "Classification Subnet" and "Box Regression Subnet"; section 4.1, "Initialization".
    """

    def __init__(
        self,
        channels: int,
        layers: int,
        outputs: int,
        std: float | None = 0.01,
        groups: int = 0,
        prior: float = 0.5,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        convs = [nn.Conv2d(channels, channels, 3, padding=1, bias=not groups) for _ in range(layers)]
        self.layers = nn.Sequential()
        for conv in convs:
            norm = [nn.GroupNorm(groups, channels)] if groups else []
            self.layers.append(nn.Sequential(conv, *norm, nn.ReLU()))
        self.last = nn.Conv2d(channels, outputs, 3, padding=1)
        hidden, last = ((2 / (9 * channels)) ** 0.5, 0.01) if std is None else (std, std)
        for conv, scale in zip((*convs, self.last), (*[hidden] * layers, last), strict=True):
            conv.weight.data = scale * torch.randn(conv.weight.shape, generator=generator)
            if conv.bias is not None:
                conv.bias.data.zero_()
        self.last.bias = nn.Parameter(torch.full((outputs,), -log((1 - prior) / prior)))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to (B, outputs, H, W)."""
        return self.last(self.layers(features))


class DenseHead(nn.Module):
    """The two subnets of a dense detector; they share no weight, and every map has the same.

    Args:
        anchors: A, at each cell.
        classes: K, without the background.
        channels: of the maps, and of the layers between.
        layers: convolutions before the last, of each subnet.
        prior: of the scores.
        options: `std`, `groups` and `generator` of both subnets.
    """

    def __init__(self, anchors: int, classes: int, channels: int, layers: int, prior: float = 0.01, **options: Any):
        super().__init__()
        self.classes = classes
        self.scores = Subnet(channels, layers, anchors * classes, prior=prior, **options)
        self.boxes = Subnet(channels, layers, anchors * 4, **options)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C, H, W) to logits (B, N, K) and offsets (B, N, 4), in the order of `anchor_grid`, map after map."""
        outputs = []
        for subnet, numbers in ((self.scores, self.classes), (self.boxes, 4)):
            parts = [subnet(features).unflatten(1, (-1, numbers)) for features in maps]  # (B, A, D, H, W) each
            outputs.append(torch.cat([part.permute(0, 3, 4, 1, 2).flatten(1, 3) for part in parts], dim=1))
        return outputs
