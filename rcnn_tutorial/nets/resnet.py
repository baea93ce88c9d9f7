"""Residual networks as the bodies of detectors: torchvision's, their batch normalisation frozen."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torchvision.models import ResNet

Net = TypeVar("Net", bound=nn.Module)


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation that keeps the statistics it came with: a scale and a shift that nothing changes.

    Args:
        norm: a layer whose weights, statistics and `eps` are taken over.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: Any):
        super().__init__()
        self.eps: float = norm.eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(norm, name).detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), each channel scaled and shifted."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


def freeze_norms(module: Net, kinds: type | tuple[type, ...] = nn.BatchNorm2d) -> Net:
    """Put a FrozenBatchNorm2d in place of every layer of these kinds, and return the module.

    Batches of one or two large images give no useful statistics, so a detector keeps those of the pre-training.
    """
    for name, child in module.named_children():
        if isinstance(child, kinds):
            setattr(module, name, FrozenBatchNorm2d(child))
        else:
            freeze_norms(child, kinds)
    return module


def c4(net: ResNet) -> dict[str, Any]:
    """Cut a residual network before its last stage, which then reads the regions, as Faster R-CNN uses it.

    Args:
        net: a torchvision ResNet; its normalisations are frozen, and its stem and first stage are not trained.
    Returns:
        What a detector takes: `body`, all but the last stage; `hidden`, the last one with its mean, for RoIs of
        `output_size`, 14 x 14; `channels` between them, `width` after; `strides` and `smallest`, 16 pixels.
    Source: He et al., CVPR 2016, appendix A.
    """
    freeze_norms(net)
    body = nn.Sequential(nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool), net.layer1, net.layer2, net.layer3)
    body[:2].requires_grad_(False)
    hidden = nn.Sequential(net.layer4, net.avgpool, nn.Flatten())
    width = net.fc.in_features  # each stage has twice the channels of the one before
    parts = {"body": body, "hidden": hidden, "channels": width // 2, "width": width}
    return parts | {"strides": (16,), "output_size": 14, "smallest": 16}
