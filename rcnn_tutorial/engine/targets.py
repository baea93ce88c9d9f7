"""The one check of a target, what is known of an image's objects; every place where one enters calls it.

A target is a dict. `PER_OBJECT` names its fields with one row for each object; a tensor under another name counts as
one of them too, so that a field of your own is selected with the boxes, unless `PER_IMAGE` lists it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from rcnn_tutorial.engine.checks import validate

PER_OBJECT = {  # the number of dimensions of each
    "boxes": 2,  # (N, 4)
    "labels": 1,
    "difficult": 1,
    "iscrowd": 1,
    "area": 1,
    "masks": 3,  # (N, H, W)
}
FLAGS = ("difficult", "iscrowd")
PER_IMAGE = ("image_id", "proposals", "size", "orig_size")  # and every number, word or tensor without a dimension


def check_target(
    target: dict[str, Tensor],
    name: str,
    classes: Sequence[str] | None = None,
    area: bool = True,
    size: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """Return the target once it is known to be one; every place where a target enters calls this.

    Shapes and types are always checked, values only on the CPU, since looking at them would make a GPU wait.

    Args:
        target: `boxes` (N, 4) and `labels` (N,), also where N is 0; `difficult`, `iscrowd`, `area`, `masks` and tensors
            of other names have N rows too. `image_id`, `proposals` (M, 4), `size` and `orig_size` are about the image.
        name: what the error message calls it, such as "dataset[3]".
        classes: names of the labels, background first; without them labels have no upper bound.
        area: ask for boxes of positive width and height, as training does.
        size: (height, width) of the picture where it is at hand; masks must have the same.
    Returns:
        A dict of the same fields: labels as int64, flags as booleans, boxes as floating-point numbers.
    Raises:
        ValueError: a field that is missing, of another type or of another length than the boxes, a box or a label that
            is none, a flag other than 0 and 1, masks of another size than the picture. The message names the target,
            and the `image_id` where it has one.
    """
    try:
        return _checked(target, classes, area, size)
    except ValueError as error:
        image_id = target.get("image_id") if isinstance(target, dict) else None
        plain = image_id.tolist() if isinstance(image_id, Tensor) else image_id
        about = "" if image_id is None else f" (image_id {plain})"
        raise ValueError(f"{name}{error}{about}") from None


def check_targets(
    targets: Sequence[dict[str, Tensor]] | None, images: Sequence[Tensor], classes: Sequence[str]
) -> list[dict[str, Tensor]]:
    """Return the targets of a mini-batch once they are known to be some, one for each image.

    Args:
        targets: as for `check_target`, or None.
        images: (3, H, W) each.
        classes: names of the labels, background first.
    Raises:
        ValueError: not as many targets as images, or what `check_target` refuses.
    """
    count = "none" if targets is None else len(targets)
    if targets is None or count != len(images):
        raise ValueError(f"targets: expected one dict for each of {len(images)} images, got {count}")
    pairs = enumerate(zip(targets, images, strict=True))
    return [check_target(t, f"targets[{i}]", classes, size=image.shape[-2:]) for i, (t, image) in pairs]


def is_per_object(key: str, value: object) -> bool:
    """Whether a field of a target has a row for each object."""
    return key in PER_OBJECT or (isinstance(value, Tensor) and value.ndim > 0 and key not in PER_IMAGE)


def _checked(target, classes, area, size):
    if not isinstance(target, dict):
        raise ValueError(f": expected a dict, got {type(target).__name__}")
    missing = [key for key in ("boxes", "labels") if key not in target]
    if missing:
        raise ValueError(
            f": expected the keys {missing}, got {sorted(map(str, target))}; "
            "an image without objects has boxes (0, 4) and labels (0,)"
        )
    boxes = _boxes(target["boxes"], area)
    for key, value in target.items():
        if is_per_object(key, value):
            _check_rows(key, value, len(boxes))
        elif isinstance(value, list | tuple | dict | np.ndarray) and key not in PER_IMAGE:
            raise ValueError(f"['{key}']: expected a tensor, a number or a word, got {type(value).__name__}")
    if "masks" in target and size is not None and tuple(target["masks"].shape[1:]) != tuple(size):
        expected = (len(boxes), *size)
        raise ValueError(f"['masks']: expected {expected}, as the picture, got {_shape(target['masks'])}")
    if "proposals" in target:
        validate(target["proposals"], "['proposals']")
    flags = {flag: _flags(flag, target[flag]) for flag in FLAGS if flag in target}
    return target | {"boxes": boxes, "labels": _labels(target["labels"], classes)} | flags


def _boxes(boxes, area):
    if isinstance(boxes, BoundingBoxes) and boxes.format != BoundingBoxFormat.XYXY:
        raise ValueError(f"['boxes']: expected x1, y1, x2, y2, got {boxes.format.value}")
    if not isinstance(boxes, Tensor) or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"['boxes']: expected (N, 4), got {_shape(boxes)}")
    boxes = boxes.as_subclass(Tensor) if boxes.is_floating_point() else boxes.float()
    return validate(boxes, "['boxes']", area=area)


def _check_rows(key, value, count):
    if not isinstance(value, Tensor) or value.shape[:1] != (count,):
        raise ValueError(f"['{key}']: expected a tensor of {count} rows, as boxes, got {_shape(value)}")
    if value.ndim != PER_OBJECT.get(key, value.ndim):
        expected = f"({count}, H, W)" if key == "masks" else f"({count},)"
        raise ValueError(f"['{key}']: expected {expected}, got {_shape(value)}")


def _labels(labels, classes):
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"['labels']: expected integers, got {labels.dtype}")
    if labels.device.type == "cpu" and len(labels):
        first, last = labels.min().item(), labels.max().item()
        most = last if classes is None else len(classes) - 1
        if first < 1 or last > most:
            bound = "on" if classes is None else f"to {most} (classes)"
            raise ValueError(
                f"['labels']: expected labels from 1 {bound}, 0 is background, got {first if first < 1 else last}"
            )
    return labels.long()


def _flags(key, flags):
    if flags.is_floating_point() or flags.is_complex():
        raise ValueError(f"['{key}']: expected booleans, got {flags.dtype}")
    if flags.dtype != torch.bool and flags.device.type == "cpu" and ((flags != 0) & (flags != 1)).any():
        raise ValueError(f"['{key}']: expected booleans, or 0 and 1, got {flags.tolist()}")
    return flags.bool()


def _shape(value):
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
