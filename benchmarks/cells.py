"""Photographs of many sizes with one large object each: what the scenes and the whole pictures of BCCD do not have.

An image with one object gives few proposals after NMS, often fewer than a mini-batch asks for. On crowded pictures a
detector that handles this case wrongly looks right.
"""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.ops.boxes import box_area, clip_boxes_to_image

WHITE_CELL = 2  # its label in BCCD
LEAST, MOST = 1.2, 2.5  # sides of the window, in sides of the cell
VISIBLE = 0.5  # share of its area that another white cell must keep to stay in the target


class WhiteCells(Dataset):
    """One picture for each white cell of BCCD: a window around it, of a random size and place.

    The windows depend on the split and the number of the cell alone.

    Args:
        split: of BCCD.
    """

    classes = ("background", "white cell")

    def __init__(self, split: str):
        self.dataset = load_dataset("bccd", split)
        targets = [self.dataset.target(index) for index in range(len(self.dataset))]
        self.cells = [target["boxes"][target["labels"] == WHITE_CELL] for target in targets]
        self.places = [(index, number) for index, cells in enumerate(self.cells) for number in range(len(cells))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        picture, number = self.places[index]
        image, cells = self.dataset[picture][0], self.cells[picture]
        left, top, right, bottom = self._window(index, cells[number].tolist(), image.shape[-2:])
        inside = clip_boxes_to_image(cells - torch.tensor([left, top, left, top]), (bottom - top, right - left))
        boxes = inside[box_area(inside) >= VISIBLE * box_area(cells)]
        target = {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64), "image_id": torch.tensor(index)}
        return image[:, top:bottom, left:right].contiguous(), target

    def _window(self, index: int, cell: list[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in whole pixels; it holds the cell and lies in the picture."""
        generator = np.random.default_rng(index)
        ends = []
        for start, end, length in zip(cell[:2], cell[2:], reversed(size), strict=True):
            side = min(generator.uniform(LEAST, MOST) * (end - start), length)
            first = generator.uniform(max(end - side, 0), min(start, length - side))
            ends.append((int(first), int(np.ceil(first + side))))
        (left, right), (top, bottom) = ends
        return left, top, right, bottom
