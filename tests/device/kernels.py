"""What the package's kernels compute, on the CPU by the operators of torchvision, of which each is a counterpart.

On the simulated device a kernel is one launch, as one of torchvision's compiled operators is.
"""

from importlib.util import find_spec

import torch

from rcnn_tutorial.engine import nms

HAS_TRITON = find_spec("triton") is not None


def stand_ins():
    """From each of the package's operators for a GPU to what takes its place."""
    if not HAS_TRITON:
        return {}
    from rcnn_tutorial.engine.kernels import alignment, pooling, suppression

    assert alignment and pooling and suppression  # they register the operators
    ours = torch.ops.rcnn_tutorial
    return {
        ours.survivors.default: nms.survivors,
        ours.roi_maxima.default: roi_maxima,
        ours.roi_maxima_backward.default: roi_maxima_backward,
        ours.roi_means.default: roi_means,
        ours.roi_means_backward.default: roi_means_backward,
    }


def roi_maxima(maps, regions, height, width):
    """torchvision counts the places of each channel from 0, ours through the whole map."""
    values, places = torch.ops.torchvision.roi_pool(maps.to(regions.dtype), regions, 1.0, height, width)
    _, channels, rows, columns = maps.shape
    planes = regions[:, :1].long() * channels + torch.arange(channels)  # (R, C)
    switches = torch.where(places >= 0, places + planes[..., None, None] * rows * columns, -1)
    return values.clamp(min=torch.finfo(maps.dtype).min).to(maps.dtype), switches.int()


def roi_maxima_backward(gradients, switches, shape):
    exact = gradients.to(torch.promote_types(gradients.dtype, torch.float32)).flatten()
    there = switches.flatten() >= 0
    total = exact.new_zeros(shape).flatten().index_add(0, switches.flatten()[there], exact[there])
    return total.view(shape).to(gradients.dtype)


def roi_means(maps, regions, height, width, points, aligned):
    exact = maps.to(regions.dtype)
    return torch.ops.torchvision.roi_align(exact, regions, 1.0, height, width, points, aligned).to(maps.dtype)


def roi_means_backward(gradients, maps, regions, points, aligned):
    bins = gradients.shape[2:]
    exact = gradients.to(regions.dtype)
    total = torch.ops.torchvision._roi_align_backward(exact, regions, 1.0, *bins, *maps.shape, points, aligned)
    return total.to(maps.dtype)
