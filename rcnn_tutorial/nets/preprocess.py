"""What happens to images before the network sees them: normalised, resized, and padded to one tensor.

Boxes come and go in the pixels of the images given; `Batch` carries them to the pixels of the tensor and back.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnn_tutorial.engine.checks import check_images, check_preprocessing, check_resized, expect
from rcnn_tutorial.engine.devices import constant
from rcnn_tutorial.ops.boxes import Size
from rcnn_tutorial.ops.warp import IMAGENET_MEAN

Boxes = TypeVar("Boxes", Tensor, list[Tensor])


class Batch(NamedTuple):
    """Images as one tensor."""

    tensor: Tensor  # (B, 3, H, W), each image in the upper left corner, zeros to its right and below
    sizes: list[Size]  # of the images in the tensor
    originals: list[Size]  # of the images as they were given

    def to_input(self, boxes: Boxes) -> Boxes:
        """Boxes in pixels of the images given, (B, ..., 4) or a list of B (N_i, 4), in pixels of the tensor."""
        return _scale(boxes, self.originals, self.sizes)

    def to_original(self, boxes: Boxes) -> Boxes:
        """Boxes in pixels of the tensor, (B, ..., 4) or a list of B (N_i, 4), in pixels of the images given."""
        return _scale(boxes, self.sizes, self.originals)


class Preprocess(nn.Module):
    """The preprocessing normalises and resizes images of any size and pads them to one tensor.

    An image is scaled until its shorter side is `min_size`, or its longer side `max_size` where that comes first. Both
    new sides are rounded down, so height and width change by slightly different ratios.

    Args:
        mean: subtracted from each channel.
        std: then divides it.
        min_size: shorter side, pixels; None leaves the size, unless `max_size` bounds it.
        max_size: bound of the longer side, pixels, or None.
        divisor: sides of the tensor are multiples of it, pixels.
        smallest: side of an input that leaves the network's last map one cell, pixels.
    Raises:
        ValueError: not three channels, or a setting that is not above 0.
    """

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = (1.0, 1.0, 1.0),
        min_size: int | None = None,
        max_size: int | None = None,
        divisor: int = 1,
        smallest: int = 1,
    ):
        super().__init__()
        # numbers and no buffers: exact for images of every type, and nothing in the state dict, as in torchvision
        self.mean, self.std = tuple(mean), tuple(std)
        self.min_size, self.max_size, self.divisor, self.smallest = min_size, max_size, divisor, smallest
        sides = {"min_size": min_size, "max_size": max_size, "divisor": divisor, "smallest": smallest}
        check_preprocessing(self.mean, self.std, **sides)

    def new_size(self, size: Size) -> Size:
        """Height and width that an image of this height and width is resized to."""
        scale = 1.0 if self.min_size is None else self.min_size / min(size)
        if self.max_size is not None:
            scale = min(scale, self.max_size / max(size))
        return max(1, math.floor(size[0] * scale)), max(1, math.floor(size[1] * scale))

    def forward(self, images: Sequence[Tensor]) -> Batch:
        """One tensor of several images.

        Args:
            images: (3, H, W) each, floats, RGB in [0, 1]; sizes may differ.
        Returns:
            A batch, of the images' type and on their device.
        Raises:
            ValueError: what `check_images` refuses, or an image of which no cell of the last map is left.
        """
        check_images(images)
        originals = [(image.shape[1], image.shape[2]) for image in images]
        sizes = [self.new_size(size) for size in originals]
        check_resized(sizes, originals, self.smallest)
        height, width = (math.ceil(max(sides) / self.divisor) * self.divisor for sides in zip(*sizes, strict=True))
        tensor = images[0].new_zeros(len(images), 3, height, width)
        mean, std = constant([self.mean, self.std], tensor)[..., None, None]  # (3, 1, 1) each
        for i, (image, size) in enumerate(zip(images, sizes, strict=True)):
            image = (image - mean).div_(std)
            if size != originals[i]:
                image = F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]
            tensor[i, :, : size[0], : size[1]] = image
        return Batch(tensor, sizes, originals)

    def extra_repr(self) -> str:
        """The settings, for print(model)."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in ("mean", "std", "min_size", "max_size", "divisor"))


def _scale(boxes: Boxes, sources: list[Size], results: list[Size]) -> Boxes:
    shapes = [tuple(b.shape) for b in boxes]
    good = len(shapes) == len(sources) and all(shape[-1:] == (4,) for shape in shapes)
    expect(good, "boxes", f"(..., 4) for each of {len(sources)} images", shapes)
    ratios = [[w / from_w, h / from_h] * 2 for (from_h, from_w), (h, w) in zip(sources, results, strict=True)]
    # float32 for boxes of every type: torchvision's ratios to the last bit
    scale = constant(ratios, boxes[0], torch.float32)  # (B, 4)
    if isinstance(boxes, Tensor):
        return boxes * scale.view(-1, *[1] * (boxes.ndim - 2), 4)
    return [b * s for b, s in zip(boxes, scale, strict=True)]
