"""The pedestrians of Penn-Fudan in VOC's layout: 170 pictures, and for each a picture of the numbers of its people."""

from pathlib import Path

import numpy as np
import torch

from rcnn_tutorial.data.files import pick_split
from rcnn_tutorial.data.images import FileError, check_image, read_numbers
from rcnn_tutorial.data.voc_xml import write_annotation

CLASS = "person"  # as VOC and COCO call it


def as_voc(folder: Path) -> None:
    """Turn PNGImages and PedMasks into JPEGImages, SegmentationObject, Annotations and ImageSets.

    The box of a person is the least one around the pixels with its number. The data set names no splits, so its
    pictures are divided: 70 % "train", 15 % "val", 15 % "test", always alike.

    Args:
        folder: of the unpacked data set.
    Raises:
        ValueError: a picture without its masks, masks of another size, or a mask without people.
    """
    (folder / "PNGImages").rename(folder / "JPEGImages")
    (folder / "PedMasks").rename(folder / "SegmentationObject")
    pictures = sorted((folder / "JPEGImages").glob("[!.]*.png"))
    (folder / "Annotations").mkdir()
    for picture in pictures:
        masks, stated = (folder / "SegmentationObject" / f"{picture.stem}{end}.png" for end in ("", "_mask"))
        if not stated.is_file():
            raise FileError(stated, f"no such file, but there is {picture.name}")
        stated.rename(masks)
        size = check_image(picture)
        boxes = _boxes(read_numbers(masks, size), masks)
        file = folder / "Annotations" / f"{picture.stem}.xml"
        write_annotation(file, picture.name, size, boxes, [CLASS] * len(boxes))
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    stems = [picture.stem for picture in pictures]
    for split in ("train", "val", "test"):
        (lists / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in pick_split(stems, split, folder)))


def _boxes(numbers: np.ndarray, file: Path) -> torch.Tensor:
    """(N, 4) of the numbers 1 to N, in their order."""
    count = int(numbers.max(initial=0))
    boxes = []
    for number in range(1, count + 1):
        rows, columns = np.nonzero(numbers == number)
        if not len(rows):
            raise FileError(file, f"it has no pixel of person {number} of {count}")
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    if not boxes:
        raise FileError(file, "it has no people")
    return torch.tensor(boxes, dtype=torch.float32)
