"""A photograph of 24 coins as a data set of one picture, and a detector for it that needs no network.

scikit-image ships the photograph, of Greek coins from Pompeii. The boxes were found once, by a watershed on the edges
of the coins, and checked by eye. They are right to about one pixel.
"""

from collections.abc import Sequence
from math import pi

import torch
import torch.nn.functional as F
from scipy import ndimage
from skimage import data
from torch import Tensor

CLASSES = ("background", "coin")
LEAST_AREA = 100  # pixels; a smaller bright region is a speck on a coin
BOXES = (
    (22, 35, 67, 74), (81, 39, 120, 74), (132, 28, 179, 74), (192, 30, 240, 73), (255, 34, 297, 72),
    (305, 16, 365, 72), (25, 104, 67, 145), (84, 108, 122, 145), (134, 110, 173, 145), (186, 105, 226, 144),
    (245, 95, 296, 144), (317, 106, 356, 145), (26, 179, 63, 217), (80, 175, 124, 217), (135, 179, 174, 217),
    (189, 170, 237, 217), (251, 172, 297, 217), (315, 156, 380, 218), (18, 233, 75, 288), (93, 245, 136, 287),
    (144, 236, 201, 288), (220, 240, 269, 288), (276, 239, 326, 289), (336, 248, 382, 289),
)  # fmt: skip


def load_coins() -> tuple[Tensor, dict[str, Tensor]]:
    """Load the photograph and its target, as an item of any data set here.

    Returns:
        image (3, 303, 384) in [0, 1], grey; and a dict of `boxes` (24, 4) and `labels` (24,).
    """
    grey = torch.from_numpy(data.coins()).float() / 255
    return grey.expand(3, -1, -1), {"boxes": torch.tensor(BOXES).float(), "labels": torch.ones(24, dtype=torch.int64)}


def six_coins() -> Tensor:
    """The upper left coins of the photograph, twice as large, (3, 288, 384): of a size that a coarse map can show."""
    part = load_coins()[0][None, :, :144, :192]
    return F.interpolate(part, scale_factor=2, mode="bilinear")[0]


def bright_regions(image: Tensor, levels: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Find regions that are brighter than a level, and score each by how much it resembles a disc.

    A disc fills pi / 4 of its box. A coin is found at several levels, and so by several boxes.

    Args:
        image: (3, H, W) in [0, 1].
        levels: of grey, from 0 to 255.
    Returns:
        boxes (N, 4) in pixels and scores (N,) in [0, 1].
    """
    grey = (image[0] * 255).round().cpu().numpy()
    boxes, scores = [], []
    for level in levels:
        regions = ndimage.label(grey > level)[0]
        areas = ndimage.sum_labels(regions > 0, regions, range(1, regions.max() + 1))
        for (rows, columns), area in zip(ndimage.find_objects(regions), areas, strict=True):
            if area >= LEAST_AREA:
                box = columns.start, rows.start, columns.stop, rows.stop
                share = area / ((box[2] - box[0]) * (box[3] - box[1]))
                boxes.append(box)
                scores.append(1 - abs(share - pi / 4))
    return torch.tensor(boxes).float().view(-1, 4).to(image), torch.tensor(scores).to(image)
