"""Augmentation: pictures that the photographer could as well have taken, with their annotations moved along.

All randomness of a sample comes from (seed, epoch, index). It is therefore the same with any number of workers or
processes, and after a resumed training.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from rcnn_tutorial.data.targets import PER_OBJECT, check_target, select_objects
from rcnn_tutorial.data.wrappers import length
from rcnn_tutorial.ops.boxes import clip_boxes_to_image

Target = dict[str, Tensor]
MOVED = (*PER_OBJECT, "proposals", "image_id")  # the fields that `flip` and `zoom` know what to do with


def flip(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Mirror a picture and all that its target places in it, left and right.

    Args:
        image: (3, H, W).
        target: boxes and proposals in pixels, masks (N, H, W).
    Returns:
        The two, mirrored.
    """
    width, mirrored = image.shape[-1], dict(target)
    for key in ("boxes", "proposals"):
        if key in target:
            x1, y1, x2, y2 = target[key].unbind(-1)
            mirrored[key] = torch.stack([width - x2, y1, width - x1, y2], dim=-1)
    if "masks" in target:
        mirrored["masks"] = target["masks"].flip(-1)
    return image.flip(-1), mirrored


def zoom(
    image: Tensor, target: Target, window: tuple[int, int, int, int], min_visible: float = 0.2
) -> tuple[Tensor, Target]:
    """Show a window of the picture in the picture's own size; outside the picture the window shows its mean colour.

    Args:
        image: (3, H, W) in [0, 1].
        target: boxes and proposals in pixels, masks (N, H, W), areas.
        window: left, top, right, bottom in whole pixels of the picture; may reach beyond it.
        min_visible: share of its area that an object or a proposal must keep; others leave, with all their fields.
    Returns:
        The two, (3, H, W) and clipped to it.
    Raises:
        ValueError: a window without area.
    """
    left, top, right, bottom = window
    if not (left < right and top < bottom):
        raise ValueError(f"window must be left < right and top < bottom, got {window}")
    height, width = image.shape[-2:]
    if window == (0, 0, width, height):
        return image, target
    frame = (top, left, bottom - top, right - left, [height, width])
    surround = image.mean(dim=(1, 2), keepdim=True)
    zoomed = F.resized_crop(image - surround, *frame, antialias=True) + surround  # outside is 0 before the sum

    boxes, visible = _through(target["boxes"], window, (height, width))
    keep = (visible >= min_visible) & (visible > 0)
    moved = select_objects(target | {"boxes": boxes}, keep)
    if "proposals" in target:
        proposals, shown = _through(target["proposals"], window, (height, width))
        moved["proposals"] = proposals[(shown >= min_visible) & (shown > 0)]
    if "area" in target:  # of an object that is cut, in proportion to its box
        scale = width / (right - left) * height / (bottom - top)
        moved["area"] = moved["area"] * (scale * visible[keep])
    if "masks" in target:
        masks = F.resized_crop(
            (moved["masks"] > 0.5).to(torch.uint8), *frame, interpolation=InterpolationMode.NEAREST_EXACT
        )
        moved["masks"] = masks.bool()  # (N, H, W)
    return zoomed.clamp(0, 1), moved


def _through(boxes: Tensor, window, size):
    """Boxes as seen through the window, clipped, and the share of their area that is left."""
    left, top, right, bottom = window
    height, width = size
    boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32))  # areas overflow in half precision
    scale = boxes.new_tensor([width / (right - left), height / (bottom - top)]).repeat(2)
    moved = (boxes - boxes.new_tensor([left, top, left, top])) * scale
    clipped = clip_boxes_to_image(moved, size)
    whole, visible = ((b[:, 2:] - b[:, :2]).prod(dim=1) for b in (moved, clipped))
    return clipped, visible / whole


def jitter_colour(image: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Multiply a picture's brightness, contrast and saturation; 1 leaves each as it is.

    Args:
        image: (3, H, W) in [0, 1].
        brightness, contrast, saturation: factors, at least 0.
    Returns:
        (3, H, W) in [0, 1].
    """
    image = F.adjust_brightness(image, brightness)
    image = F.adjust_contrast(image, contrast)
    return F.adjust_saturation(image, saturation)


class Augment(Dataset):
    """A data set seen with random colours, mirrored, and zoomed in or out; sizes of pictures stay.

    Attributes of `dataset` (`classes`, `ids`, `target(i)`, ...) can be asked of this one too.

    Args:
        dataset: gives (image, target).
        seed: of all draws.
        flip: probability of mirroring.
        jitter: brightness, contrast and saturation are each multiplied by a factor in [1 - jitter, 1 + jitter].
        scale: least and greatest zoom, at logarithmically even density; below 1 the picture shrinks.
        min_visible: share of its area that an object must keep to stay in the target.
    Raises:
        ValueError: a setting out of range; when read, a target with a field that would not be moved.
    """

    def __init__(
        self,
        dataset: Dataset,
        seed: int,
        flip: float = 0.5,
        jitter: float = 0.2,
        scale: tuple[float, float] = (0.8, 1.25),
        min_visible: float = 0.2,
    ):
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}")
        for name, value in {"flip": flip, "jitter": jitter, "min_visible": min_visible}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale must be (lo, hi) with 0 < lo <= hi, got {scale}")
        self.dataset, self.seed = dataset, seed
        self.flip, self.jitter, self.scale, self.min_visible = flip, jitter, scale, min_visible
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # also seen by workers that outlive an epoch

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, before its iteration starts."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return length(self.dataset)

    def __getattr__(self, name):
        if name.startswith("_") or name == "dataset":  # not there yet while being unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        index = range(len(self))[index]
        image, target = self.dataset[index]
        target = check_target(target, f"dataset[{index}]", area=False, size=image.shape[-2:])
        unmoved = [key for key in target if key not in MOVED]
        if unmoved:
            raise ValueError(f"targets of image {index} have fields that augmentation would leave behind: {unmoved}")
        draws = self._draws(index)
        image = jitter_colour(image, *(1 + self.jitter * (2 * u - 1) for u in draws[:3]))
        if draws[3] < self.flip:
            image, target = flip(image, target)
        window = self._window(*image.shape[:0:-1], *draws[4:])
        return zoom(image, target, window, self.min_visible)

    def _draws(self, index: int) -> list[float]:
        """Seven numbers in [0, 1) that depend on nothing but seed, epoch and index."""
        state = np.random.SeedSequence([self.seed, int(self._epoch), index]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        return torch.rand(7, generator=generator).tolist()

    def _window(self, width, height, u_scale, u_left, u_top):
        lo, hi = self.scale
        factor = math.exp(math.log(lo) + u_scale * math.log(hi / lo))
        seen = max(round(width / factor), 1), max(round(height / factor), 1)
        left, top = round(u_left * (width - seen[0])), round(u_top * (height - seen[1]))
        return left, top, left + seen[0], top + seen[1]
