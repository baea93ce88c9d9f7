"""Detections as a figure of a notebook."""

from os import PathLike

from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

from rcnn_tutorial.course.draw.masks import masks
from rcnn_tutorial.course.draw.painted import label_texts, pixels_of
from rcnn_tutorial.course.draw.pictures import boxes, part_labels, picture
from rcnn_tutorial.course.draw.style import Style, class_color, on_cpu
from rcnn_tutorial.evaluation.detected import Detected


@on_cpu
def detections(
    image: Tensor | Image.Image | str | PathLike,
    detected: Detected,
    ax: Axes | None = None,
    names: bool = True,
    scores: bool = True,
) -> Axes:
    """Draw a picture with its detections, in the colours of their classes, with masks where there are any.

    Args:
        image: (3, H, W) RGB in [0, 1], a picture of Pillow, or a file, such as `detected.path`.
        detected: what `rcnn_tutorial.detect` gave for it.
        ax: where it is drawn; by default a figure of its own.
        names, scores: whether a label names the class, and tells the score.
    Raises:
        ValueError: the detections are those of a picture of another size.
    """
    pixels = pixels_of(image, detected)
    texts = label_texts(detected, names, scores)
    if detected.runs:
        ax = masks(pixels, detected.answer(), detected.names, texts, ax)
    else:
        ax = picture(pixels, ax)
        boxes(ax, detected.boxes, texts, [Style(class_color(label)) for label in detected.labels.tolist()])
    part_labels(ax)
    return ax
