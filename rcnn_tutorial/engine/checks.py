"""What refuses wrong input: shapes, types, and on the CPU values. No rule needs it, and every rule is guarded by it.

Shapes and types are always checked, values only on the CPU, since looking at them would make a GPU wait. A message
names the argument, says what was expected, and what came. `targets.py` beside this file checks what is known of an
image's objects.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = -1  # label of a row that is no RoI
LEAST_SIDE = 8  # pixels; a flatter image shows nothing, and resized by its shorter side it would fill the memory


def expect(condition: bool, name: str, expected: str, got: object) -> None:
    """Refuse an argument: say what it is called, what was expected and what came.

    Args:
        condition: whether the argument is good.
        name: of the argument.
        expected: in words.
        got: the value; of a tensor its type and shape are told.
    Returns:
        Nothing.
    Raises:
        ValueError: the condition does not hold.
    """
    if not condition:
        got = f"{got.dtype} {tuple(got.shape)}" if isinstance(got, Tensor) else got
        raise ValueError(f"{name}: expected {expected}, got {got}")


def expect_boxes(boxes: Tensor, name: str = "boxes", ndim: int | None = None) -> None:
    """Refuse what has not the shape (..., 4), or with `ndim` = 2 not (N, 4).

    Args:
        boxes: anything.
        name: what the error message calls it.
        ndim: 2 or None.
    Returns:
        Nothing.
    Raises:
        ValueError: another shape, or no tensor.
    """
    good = isinstance(boxes, Tensor) and boxes.shape[-1:] == (4,) and ndim in (None, boxes.ndim)
    got = tuple(boxes.shape) if isinstance(boxes, Tensor) else type(boxes).__name__
    expect(good, name, "(N, 4)" if ndim else "a tensor of shape (..., 4)", got)


def validate(boxes: Tensor, name: str = "boxes", *, area: bool = False) -> Tensor:
    """Return the boxes themselves, once they are known to be boxes.

    Shape and type are always checked; values only on the CPU, since looking at them would make a GPU wait.

    Args:
        boxes: (..., 4), pixels.
        name: what the error message calls them.
        area: ask for positive width and height too.
    Raises:
        ValueError: another shape or type, a coordinate that is not finite, x2 < x1 or y2 < y1; with `area`
            also x2 == x1 or y2 == y1.
    """
    expect_boxes(boxes, name)
    expect(not boxes.is_complex() and boxes.dtype != torch.bool, name, "numbers", boxes.dtype)
    if boxes.device.type == "cpu" and boxes.numel() and not torch.compiler.is_exporting():  # which knows no values
        wrong = ~torch.isfinite(boxes).all(-1)
        size = lifted(boxes)[..., 2:] - lifted(boxes)[..., :2]
        wrong |= (size <= 0 if area else size < 0).any(-1)
        if wrong.any():
            need = "x1 < x2 and y1 < y2" if area else "x1 <= x2 and y1 <= y2"
            expect(False, name, f"finite numbers with {need}", boxes[wrong][0].tolist())
    return boxes


def lifted(values: Tensor) -> Tensor:
    """Give numbers a type that products of coordinates fit into: half precision float32, small integers int32."""
    if values.dtype in (torch.float16, torch.bfloat16):
        return values.float()
    return values.int() if values.dtype in (torch.uint8, torch.int8, torch.int16) else values


def validate_scored(boxes: Tensor, scores: Tensor, iou_threshold: float) -> None:
    """Refuse what `nms` cannot suppress: other shapes, boxes that are none, a threshold outside [0, 1]."""
    expect(boxes.ndim == 2 and boxes.is_floating_point(), "boxes", "floats of shape (N, 4)", boxes)
    validate(boxes)
    expect(scores.shape == boxes.shape[:1], "scores", f"({len(boxes)},), one per box", scores)
    expect(0 <= iou_threshold <= 1, "iou_threshold", "a number in [0, 1]", iou_threshold)


def validate_head(scores: Tensor, offsets: Tensor, labels: Tensor, targets: Tensor, normalizer: float | None) -> None:
    """Refuse what `multi_task_loss` cannot take: other shapes, labels of another type or outside -1..K."""
    expect(scores.ndim == 2 and scores.shape[1] >= 2, "scores", "(R, K+1) with K >= 1", scores)
    rois, classes = len(scores), scores.shape[1] - 1
    shapes = {"offsets": (offsets, (rois, classes, 4)), "labels": (labels, (rois,)), "targets": (targets, (rois, 4))}
    for name, (value, shape) in shapes.items():
        expect(value.shape == shape, name, f"{shape}, as scores are {(rois, classes + 1)}", value)
    expect(labels.dtype == torch.int64, "labels", "int64", labels.dtype)
    if labels.device.type == "cpu" and rois:
        low, high = labels.min().item(), labels.max().item()
        expect(low >= PADDING and high <= classes, "labels", f"-1 to {classes}", f"{low} to {high}")
    expect(normalizer is None or normalizer > 0, "normalizer", "a number above 0", normalizer)


def validate_svm(features: Tensor, positive: Tensor, used: Tensor) -> None:
    """Refuse what `fit_svm` cannot take: features that are no finite floats (N, D), masks that are not (N, K) bool."""
    expect(features.ndim == 2 and features.is_floating_point(), "features", "floats of shape (N, D)", features)
    if features.device.type == "cpu":
        expect(bool(features.isfinite().all()), "features", "finite numbers", "inf or nan")
    shape = len(features), positive.shape[1] if positive.ndim == 2 else 1
    validate_mask(positive, "positive", shape)
    validate_mask(used, "used", shape)


def validate_mask(mask: Tensor, name: str, shape: Sequence[int]) -> None:
    """Refuse a mask that is not boolean, or of another shape."""
    expect(mask.shape == tuple(shape) and mask.dtype == torch.bool, name, f"bool of shape {tuple(shape)}", mask)


def validate_labels(labels: Tensor, count: int, classes: int) -> None:
    """Refuse labels that are not (count,), or on the CPU outside 1 to `classes`."""
    expect(labels.shape == (count,), "labels", f"({count},), one per positive", labels)
    if labels.device.type == "cpu" and count:
        low, high = labels.min().item(), labels.max().item()
        expect(low >= 1 and high <= classes, "labels", f"1 to {classes}", f"{low} to {high}")


def is_count(n: object) -> bool:
    """Tell whether this is a whole number of at least 1.

    Args:
        n: anything.
    Returns:
        Whether it is.
    Raises:
        None.
    """
    return isinstance(n, int) and n >= 1


def height_and_width(output_size: int | tuple[int, int]) -> tuple[int, int]:
    """Read an output size in either form.

    Args:
        output_size: (h, w), or one number for both.
    Returns:
        Height and width.
    Raises:
        ValueError: something else.
    """
    pair = tuple(output_size) if isinstance(output_size, Sequence) else (output_size, output_size)
    good = len(pair) == 2 and all(map(is_count, pair))
    expect(good, "output_size", "one or two whole numbers of at least 1", output_size)
    return pair[0], pair[1]


def as_rois(boxes: Tensor | Sequence[Tensor], input: Tensor) -> Tensor:
    """Bring boxes of either form into one, in the precision in which they are cut.

    Args:
        boxes: (R, 5) with the image's index first, or a list of (R_i, 4).
        input: (N, C, H, W), the map that they are about.
    Returns:
        (R, 5), at least float32.
    Raises:
        ValueError: something else.
    """
    exact = torch.promote_types(input.dtype, torch.float32)
    columns, parts = (5, [boxes]) if isinstance(boxes, Tensor) else (4, list(boxes))
    for part in parts:
        good = part.ndim == 2 and part.shape[1] == columns and part.is_floating_point()
        expect(good, "boxes", "floats (R, 5) or list of (R_i, 4)", part)
    if columns == 4:
        expect(len(parts) == len(input), "boxes", f"one tensor for each of {len(input)} images", len(parts))
        parts = [input.new_zeros(0, 5), *(F.pad(part.to(exact), (1, 0), value=i) for i, part in enumerate(parts))]
    rois = torch.cat(parts).to(exact)
    if rois.device.type == "cpu":
        wrong = ~(rois.isfinite().all(1) & (rois[:, 0] >= 0) & (rois[:, 0] < len(input)))
        if wrong.any():
            expect(False, "boxes", f"finite numbers, first an index in [0, {len(input)})", rois[wrong][0].tolist())
    return rois


def validate_map(features: Tensor, name: str) -> None:
    """Refuse what is no map.

    Args:
        features: expected to be (N, C, H, W) floats.
        name: what the error message calls it.
    Returns:
        Nothing.
    Raises:
        ValueError: something else.
    """
    good = features.ndim == 4 and features.is_floating_point()
    expect(good, name, "floats of shape (N, C, H, W)", features)
    expect(features.numel() < 2**31 - 1, name, "fewer than 2^31 - 1 numbers", features.numel())  # switches are int32


def validate_windows(windows: Tensor, features: Tensor) -> None:
    """Refuse windows that do not lie on their map.

    Args:
        windows: expected to be (R, 5) integers.
        features: (N, C, H, W).
    Returns:
        Nothing.
    Raises:
        ValueError: something else.
    """
    good = windows.ndim == 2 and windows.shape[1] == 5 and windows.dtype in (torch.int16, torch.int32, torch.int64)
    expect(good, "windows", "integers of shape (R, 5)", windows)
    if windows.device.type == "cpu":
        n, _, height, width = features.shape
        low, high = windows[:, :3], windows[:, [0, 3, 4]] + windows.new_tensor([1, 0, 0])
        wrong = ~((low >= 0) & (low < high) & (high <= windows.new_tensor([n, width, height]))).all(1)
        if wrong.any():
            need = f"an index below {n}, 0 <= x1 < x2 <= {width} and 0 <= y1 < y2 <= {height}"
            expect(False, "windows", need, windows[wrong][0].tolist())


def checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Class names as a tuple, once it is known that the background comes first; COCO has a name, N/A, ten times.

    Raises:
        ValueError: other names.
    """
    names = tuple(classes)
    if isinstance(classes, str) or len(names) < 2 or names[0] != "background":
        raise ValueError(f"classes: expected 'background' and then the names of the objects, got {classes!r}")
    return names


def check_images(images: Sequence[Tensor]) -> None:
    """Refuse what is no batch of images, before a network fails on it with a message about something else.

    Args:
        images: (3, H, W) each, floats, RGB in [0, 1]; sizes may differ.
    Raises:
        ValueError: no image, one of another shape, a side that is too short, or a type or device that differs; on the
            CPU also one with a pixel that is not finite, or far from [0, 1].
    """
    if not len(images):
        raise ValueError("images: expected at least one")
    for i, image in enumerate(images):
        if problem := _problem(image, images[0]):
            raise ValueError(f"images[{i}]: expected {problem}")
    check_sides(images)


def checked_proposals(proposals: Sequence[Tensor] | None, images: Sequence[Tensor]) -> Sequence[Tensor]:
    """Proposals, once it is known that there are as many as images.

    Raises:
        ValueError: none, or another number.
    """
    if proposals is None or len(proposals) != len(images):
        got = "none" if proposals is None else len(proposals)
        raise ValueError(f"proposals: expected one tensor for each of {len(images)} images, got {got}")
    return proposals


def check_sides(images: Sequence[Tensor]) -> None:
    """Refuse images of a few pixels, in which nothing can be detected.

    Args:
        images: (3, H, W) each.
    Raises:
        ValueError: an image with a side of less than `LEAST_SIDE` pixels.
    """
    for i, image in enumerate(images):
        height, width = image.shape[-2:]
        need = f"{LEAST_SIDE} pixels at least on each side"
        expect(min(height, width) >= LEAST_SIDE, f"images[{i}]", need, f"{height} x {width} (height x width)")


def check_preprocessing(mean: Sequence[float], std: Sequence[float], **sides: int | None) -> None:
    """Refuse settings of `Preprocess`: not three channels, a deviation or a side in pixels that is not above 0."""
    good = len(mean) == len(std) == 3 and min(std) > 0
    expect(good, "mean, std", "three numbers each, std above 0", (mean, std))
    for name, side in sides.items():
        expect(side is None or side >= 1, name, "at least 1", side)


def check_resized(sizes: Sequence[tuple[int, int]], originals: Sequence[tuple[int, int]], smallest: int) -> None:
    """Refuse images that are resized to less than `smallest` pixels on a side; sizes are heights and widths."""
    need = f"{smallest} pixels at least on each side after resizing, one cell of the last feature map"
    for i, (size, original) in enumerate(zip(sizes, originals, strict=True)):
        got = "{} x {} from {} x {} (height x width)".format(*size, *original)
        expect(min(size) >= smallest, f"images[{i}]", need, got)


def _problem(image: object, first: Tensor) -> str | None:
    """What is expected of an image and what it is instead, or None."""
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        return f"a torch tensor of shape (3, H, W), got {got}"
    if not image.is_floating_point():
        return f"floats in [0, 1], got {image.dtype}"
    if (image.dtype, image.device) != (first.dtype, first.device):
        return f"{first.dtype} on {first.device} as the first, got {image.dtype} on {image.device}"
    if image.device.type == "cpu":  # a GPU is not waited for
        least, most = torch.aminmax(image.detach())
        if not (least.isfinite() and most.isfinite()):
            return f"finite pixels, got {(~torch.isfinite(image)).sum()} NaN or infinite"
        if most > 16:  # far from any normalisation, and from rounding
            return f"RGB in [0, 1], got up to {most:.0f}: divide by 255"
    return None
