"""Residual networks as the bodies of detectors: torchvision's, their batch normalisation frozen."""

import torch
from torch import Tensor, nn
from torchvision.models import ResNet


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with the statistics that it came with: a scale and a shift that nothing changes.

    Args:
        norm: whose weights and statistics are taken over.
        eps: in place of that of `norm`; torchvision's COCO weights were trained with 0.
    """

    def __init__(self, norm: nn.BatchNorm2d, eps: float | None = None):
        super().__init__()
        self.eps = norm.eps if eps is None else eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(norm, name).detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), each channel scaled and shifted."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


def freeze_norms(module: nn.Module, kinds: type | tuple[type, ...] = nn.BatchNorm2d) -> nn.Module:
    """Put a FrozenBatchNorm2d in place of every BatchNorm2d, or of what is as one, and return the module."""
    for name, child in module.named_children():
        if isinstance(child, kinds):
            setattr(module, name, FrozenBatchNorm2d(child))
        else:
            freeze_norms(child, kinds)
    return module


def c4(net: ResNet) -> tuple[nn.Sequential, nn.Sequential, int, int]:
    """A residual network cut before its last stage, as He et al. (CVPR 2016) use it in Faster R-CNN.

    Args:
        net: a torchvision ResNet; its normalisations are frozen.
    Returns:
        The body, of stride 16; the last stage with its mean, for RoIs of 14 x 14; channels between them and after.
    """
    freeze_norms(net)
    body = nn.Sequential(nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool), net.layer1, net.layer2, net.layer3)
    width = net.fc.in_features
    first = net.layer4[0]
    return body, nn.Sequential(net.layer4, net.avgpool, nn.Flatten()), first.conv1.in_channels, width
