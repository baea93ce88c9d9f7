"""Images, and masks on them."""

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from torch import Tensor

from rcnn_tutorial.course.draw.pictures import label, outlines, picture
from rcnn_tutorial.course.draw.style import class_color, on_cpu
from rcnn_tutorial.data.masks import decode_masks, mask_areas

COVER = 0.55  # how much of the picture a mask hides


@on_cpu
def masks(
    image: Tensor,
    answer: dict,
    classes: Sequence[str],
    texts: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """An image with the masks of its objects, or of detections, in the colours of their classes, the boxes thin.

    Args:
        image: (3, H, W).
        answer: `boxes` (N, 4) in pixels, `labels` (N,) and `masks`: (N, H, W), (N, 1, H, W) as a detector gives them,
            or run lengths as `predict` keeps them.
        classes: names, background first.
        texts: a text for each object; by default the name of its class.
        ax: where it is drawn.
    """
    ax = picture(image, ax)
    labels = answer["labels"].tolist()
    texts = [classes[k] for k in labels] if texts is None else texts
    pixels = dense(answer["masks"], (image.shape[1], image.shape[2]))  # (N, H, W)
    for i in mask_areas(pixels).argsort(descending=True, stable=True).tolist():  # small ones on top
        color = class_color(labels[i])
        layer = torch.zeros(*pixels.shape[1:], 4)
        layer[pixels[i]] = torch.tensor([*to_rgb(color), COVER])
        ax.imshow(layer.numpy(), extent=(0, image.shape[2], image.shape[1], 0), interpolation="nearest")
        outlines(ax, answer["boxes"][i : i + 1], color, 1.5)
    for (x1, y1, _, y2), k, text in zip(answer["boxes"].tolist(), labels, texts, strict=True):
        label(ax, x1, y1, text, class_color(k), y2)
    assert len(ax.images) == 1 + len(labels), "a mask was not drawn"
    return ax


def dense(masks: Tensor | Sequence[dict], size: tuple[int, int]) -> Tensor:
    """Masks of any of the three forms as (N, H, W) bool."""
    if not isinstance(masks, Tensor):
        return decode_masks(masks, size)
    return (masks[:, 0] if masks.ndim == 4 else masks) > 0.5
