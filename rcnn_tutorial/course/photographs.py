"""Real photographs that scikit-image ships, to show an operation on more than generated scenes."""

import torch
import torch.nn.functional as F
from skimage import data
from torch import Tensor

from rcnn_tutorial.engine.checks import expect

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


def load_photograph(name: str, width: int = 300) -> Tensor:
    """Load one of scikit-image's photographs as a picture, made smaller.

    Args:
        name: one of `PHOTOGRAPHS`.
        width: of the result, pixels; the height follows.
    Returns:
        (3, H, width) RGB in [0, 1].
    Raises:
        ValueError: another name.
    """
    expect(name in PHOTOGRAPHS, "name", f"one of {', '.join(PHOTOGRAPHS)}", name)
    pixels = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1).float() / 255
    size = round(width * pixels.shape[1] / pixels.shape[2]), width
    return F.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
