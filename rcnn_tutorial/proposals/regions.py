"""Selective search, first step: small regions of one image, what each looks like, and which of them touch.

The regions come from a graph segmentation. All that the later steps know of a region is a row of `Regions`: its
size, its box, and two histograms.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from skimage.color import rgb2hsv, rgb2lab
from skimage.segmentation import felzenszwalb
from torch import Tensor

COLOUR_BINS = 25  # per channel
ORIENTATIONS, TEXTURE_BINS = 8, 10  # per channel
STEEPEST = 0.4  # the derivative of a step from 0 to 1 under a Gaussian of sigma 1 is 1 / sqrt(2 pi)
REACH = 4  # pixels to each side of that Gaussian


class Regions(NamedTuple):
    """R regions, of one or of several graphs; a graph is one segmentation of one image."""

    size: Tensor  # (R,) pixels
    box: Tensor  # (R, 4) the tightest box, pixels
    colour: Tensor  # (R, 75) histogram, sums to 1
    texture: Tensor  # (R, 240) histogram, sums to 1
    image_size: Tensor  # (R,) pixels of the image that the region is part of


class PixelBins(NamedTuple):
    """Which bins of its region's histograms each of the P pixels of an image counts in."""

    colour: Tensor  # (3, P) int32, one bin per channel
    texture: Tensor  # (3 * 4, P) int32, one bin per channel and axis


def _hsv(image: Tensor) -> Tensor:
    return _by_pixel(rgb2hsv, image)


def _lab(image: Tensor) -> Tensor:
    lightness, a, b = _by_pixel(rgb2lab, image)
    return torch.stack((lightness / 100, (a + 128) / 255, (b + 128) / 255))


def _rgi(image: Tensor) -> Tensor:
    total = image.sum(0)
    red, green, _ = image / total.clamp(min=1e-6)
    return torch.stack((red, green, total / 3))


def _by_pixel(function: Callable[[np.ndarray], np.ndarray], image: Tensor) -> Tensor:
    """Apply one of scikit-image's conversions, (H, W, 3) to (H, W, 3), to a (3, H, W) image."""
    return torch.from_numpy(function(image.permute(1, 2, 0).cpu().numpy())).permute(2, 0, 1).to(image).contiguous()


COLOUR_SPACES: dict[str, Callable[[Tensor], Tensor]] = {
    "rgb": lambda image: image,
    "hsv": _hsv,
    "lab": _lab,
    "rgi": _rgi,
    "hue": lambda image: _hsv(image)[:1],
    "intensity": lambda image: image.mean(0, keepdim=True),
}


def convert(image: Tensor, space: str) -> Tensor:
    """Convert an image to another colour space.

    Args:
        image: (3, H, W) RGB in [0, 1].
        space: a key of `COLOUR_SPACES`; "rgi" is the shares of red and green, and the intensity.
    Returns:
        (C, H, W) in [0, 1]; C is 3, or 1 for "hue" and "intensity".
    Raises:
        ValueError: an unknown space.
    """
    if space not in COLOUR_SPACES:
        raise ValueError(f"space: expected one of {', '.join(COLOUR_SPACES)}, got {space!r}")
    return COLOUR_SPACES[space](image).clamp(0, 1)


def segment(image: Tensor, scale: float, min_size: int, sigma: float) -> Tensor:
    """Cut an image into initial regions by Felzenszwalb and Huttenlocher's graph segmentation, scikit-image's.

    Args:
        image: (C, H, W) in [0, 1].
        scale: k of the segmentation; the larger, the larger the regions.
        min_size: of a region, pixels.
        sigma: of the Gaussian that smooths the image first, pixels.
    Returns:
        (H, W) int64, the region 0, 1, 2, ... of each pixel.
    Source: Felzenszwalb and Huttenlocher, Efficient Graph-Based Image Segmentation, 2004.
    """
    labels = felzenszwalb(image.permute(1, 2, 0).cpu().numpy(), scale=scale, sigma=sigma, min_size=min_size)
    return torch.from_numpy(labels).to(image.device, torch.int64)


def pixel_bins(image: Tensor) -> PixelBins:
    """Sort the colours and the derivatives of all pixels into bins; segmentations of one image share them.

    Args:
        image: (C, H, W) in [0, 1].
    Returns:
        `PixelBins` with P = H * W. Colour: 25 equal bins per channel. Texture: the derivative of the smoothed
        channel (sigma 1) along four axes, right, down and the diagonals, in 20 equal bins from -0.4 to 0.4.
    """
    colour = (image.flatten(1) * COLOUR_BINS).int().clamp_(max=COLOUR_BINS - 1)
    right, down = _derivatives(image)
    diagonals = (right + down) * 0.5**0.5, (right - down) * 0.5**0.5
    along = torch.stack((right, down, *diagonals), dim=1).flatten(2)  # (C, 4, P)
    texture = ((along / STEEPEST + 1) * TEXTURE_BINS).int().clamp_(0, 2 * TEXTURE_BINS - 1).flatten(0, 1)
    return PixelBins(_row_after_row(colour, COLOUR_BINS), _row_after_row(texture, 2 * TEXTURE_BINS))


def _row_after_row(bins: Tensor, count: int) -> Tensor:
    """Number the bins of (K, P) rows of `count` bins each through all rows."""
    return bins + count * torch.arange(len(bins), dtype=bins.dtype, device=bins.device)[:, None]


def _derivatives(image: Tensor) -> tuple[Tensor, Tensor]:
    """(C, H, W) derivatives to the right and downwards of the image under a Gaussian of sigma 1."""
    x = torch.arange(-REACH, REACH + 1.0)
    smooth = torch.exp(-(x**2) / 2)
    smooth /= smooth.sum()
    slope = x * smooth
    slope /= (slope * x).sum()  # 1 on a ramp of slope 1
    padded = F.pad(image, [REACH] * 4, mode="replicate")
    right = _filter(_filter(padded, smooth, dim=1), slope, dim=2)
    down = _filter(_filter(padded, smooth, dim=2), slope, dim=1)
    return right, down


def _filter(image: Tensor, kernel: Tensor, dim: int) -> Tensor:
    """Correlate along one axis; as a sum of shifted images, which for one channel is faster than a convolution."""
    length = image.shape[dim] - len(kernel) + 1
    total = torch.zeros_like(image.narrow(dim, 0, length))
    for shift, weight in enumerate(kernel.tolist()):
        total.add_(image.narrow(dim, shift, length), alpha=weight)
    return total


def describe(labels: Tensor, bins: PixelBins) -> Regions:
    """Describe each region of a segmentation by its size, its box and its histograms.

    Args:
        labels: (H, W) int64, the region 0, 1, 2, ... of each pixel.
        bins: of the image's pixels.
    Returns:
        `Regions`. Histograms of an image with one channel fill the first third of their bins.
    Source: Uijlings et al., Selective Search for Object Recognition, 2013, section 3.2.
    """
    n = int(labels.max()) + 1
    colour = _count(labels, bins.colour, n, 3 * COLOUR_BINS)
    # A derivative against an orientation is minus the one along it, so four axes hold all eight orientations.
    signed = _count(labels, bins.texture, n, 3 * ORIENTATIONS * TEXTURE_BINS).view(n, -1, 2 * TEXTURE_BINS)
    along, against = signed[..., TEXTURE_BINS:].clone(), signed[..., :TEXTURE_BINS].flip(-1)  # (n, 3 * 4, 10)
    turned_away = against.sum(-1), along.sum(-1)
    along[..., 0] += turned_away[0]
    against[..., 0] += turned_away[1]
    texture = torch.cat((along, against), dim=-1).flatten(1)  # (n, 3 * 4, 20) -> (n, 240)
    return Regions(
        size=labels.flatten().bincount().float(),
        box=_tight_boxes(labels, n),
        colour=colour / colour.sum(1, keepdim=True),
        texture=texture / texture.sum(1, keepdim=True),
        image_size=torch.full((n,), float(labels.numel()), device=labels.device),
    )


def _count(labels: Tensor, bins: Tensor, n: int, length: int) -> Tensor:
    """(n, length) how many pixels of each region are in each bin."""
    index = labels.flatten().int() * length + bins  # (K, P)
    return index.flatten().bincount(minlength=n * length).view(n, length).float()


def _tight_boxes(labels: Tensor, n: int) -> Tensor:
    low_high = []
    for axis in (1, 0):  # x, then y
        place = torch.arange(labels.shape[axis], device=labels.device)
        present = torch.zeros(n, len(place), dtype=torch.uint8, device=labels.device)
        present[labels, place if axis else place[:, None]] = 1
        low_high.append((present.argmax(1), len(place) - present.flip(1).argmax(1)))
    (x1, x2), (y1, y2) = low_high
    return torch.stack((x1, y1, x2, y2), dim=1).float()


def touching(labels: Tensor) -> Tensor:
    """Find the pairs of regions that have pixels side by side or one above the other.

    Args:
        labels: (H, W) int64, the region of each pixel.
    Returns:
        (E, 2) int64, each pair once, the lower number first, in order.
    """
    beside = torch.stack((labels[:, :-1], labels[:, 1:])).flatten(1)
    below = torch.stack((labels[:-1], labels[1:])).flatten(1)
    pairs = torch.cat((beside, below), dim=1)
    low, high = pairs[:, pairs[0] != pairs[1]].aminmax(dim=0)
    n = int(labels.max()) + 1
    keys = (low * n + high).unique()
    return torch.stack((keys // n, keys % n), dim=1)
