"""Which box answers for which object, and which boxes a mini-batch trains on.

Every detector of the series labels its windows by their best IoU with an object and two bounds. What differs:

    | detector           | foreground   | background      | best of object | mini-batch per image |
    |--------------------|--------------|-----------------|----------------|----------------------|
    | R-CNN, fine-tuning | IoU >= 0.5   | the rest        | no             | 25 % of 128          |
    | R-CNN, SVM         | truths alone | IoU < 0.3       | no             | all, then mined      |
    | Fast R-CNN         | IoU >= 0.5   | 0.1 <= IoU < 0.5| no             | 25 % of 64           |
    | RPN                | IoU >= 0.7   | IoU < 0.3       | yes            | up to 50 % of 256    |
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rcnn_tutorial.engine.checks import expect

FOREGROUND, BACKGROUND, UNUSED = 1, 0, -1


class Matches(NamedTuple):
    """For each of N boxes its object, and what it is an example of."""

    truth: Tensor  # (..., N) int64, index of the object that the box overlaps most; 0 where there is no object
    state: Tensor  # (..., N) int64, FOREGROUND, BACKGROUND or UNUSED


def match(iou: Tensor, foreground: float, background: tuple[float, float], allow_low_quality: bool = False) -> Matches:
    """Match every box to the object it overlaps most, and decide by that IoU what it is an example of.

    Args:
        iou: (..., N, M) of N boxes with M objects, as `box_iou(boxes, truths)` gives it. A column of padding is -1.
        foreground: a box with IoU >= foreground is an example of its object.
        background: (low, high); a box with low <= IoU < high is an example of the background.
        allow_low_quality: for each object, the boxes that overlap it most (all of a tie, if they overlap it at all)
            are foreground whatever their IoU. Such a box still answers for the object that *it* overlaps most.
    Returns:
        Matches of shape (..., N). Boxes in neither interval are UNUSED. Where there is no object every IoU counts as 0.
    Raises:
        ValueError: not (..., N, M), or bounds that overlap.
    Source: R-CNN, section 2.3; Fast R-CNN, section 2.3; Faster R-CNN, section 3.1.2.
    """
    low, high = background
    expect(iou.ndim >= 2, "iou", "(..., N, M)", iou)
    expect(low <= high <= foreground, "background", f"low <= high <= foreground = {foreground}", background)
    if iou.shape[-1] == 0:
        iou = iou.new_zeros(*iou.shape[:-1], 1)
    best, truth = iou.max(dim=-1)
    positive, negative = best >= foreground, best < high
    if low > 0:
        negative &= best >= low
    if allow_low_quality:
        closest = iou.max(dim=-2, keepdim=True).values if iou.shape[-2] else iou  # (..., 1, M)
        positive |= ((iou == closest) & (iou > 0)).any(dim=-1)
    state = torch.full_like(truth, UNUSED).masked_fill_(negative, BACKGROUND).masked_fill_(positive, FOREGROUND)
    return Matches(truth, state)


def sample(state: Tensor, size: int, share: float, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw a mini-batch of boxes with a bounded share of foreground.

    At most `share * size` foreground boxes are drawn, then background up to `size`. Where there is too little
    background the mini-batch stays smaller.

    Args:
        state: (..., N) as `match` gives it; each row is drawn from without regard to the others.
        size: boxes per row.
        share: largest share of foreground, in [0, 1].
        generator: of the CPU; the numbers are drawn there and moved, so that every device draws the same boxes.
    Returns:
        (..., S) int64, S = min(size, N), indices of the boxes drawn, ascending, and behind them of others; and
        (..., S) bool, which of them were drawn.
    Raises:
        ValueError: a share outside [0, 1] or a negative size.
    Source: R-CNN, section 2.3; Fast R-CNN, section 2.3; Faster R-CNN, section 3.1.3.
    """
    expect(size >= 0 and 0 <= share <= 1, "size, share", "size >= 0 and a share in [0, 1]", (size, share))
    numbers = torch.rand(state.shape, generator=generator).double()
    numbers += torch.arange(state.shape[-1]) * 2.0**-44  # no two are equal: on every device the same are the smallest
    numbers = numbers.to(state.device, non_blocking=True)
    place = torch.arange(state.shape[-1], device=state.device)
    most, room = min(size, len(place)), int(share * size)
    drawn = torch.zeros_like(state, dtype=torch.bool)
    for wanted in (FOREGROUND, BACKGROUND):  # the smallest numbers are drawn; what is not wanted comes last
        smallest, where = numbers.masked_fill(state != wanted, 2.0).topk(most, dim=-1, largest=False)
        drawn |= torch.zeros_like(drawn).scatter(-1, where, (smallest < 2) & (place[:most] < room))
        room = size - drawn.sum(dim=-1, keepdim=True)
    rank = torch.where(drawn, place, place + len(place))  # all differ: their order does not depend on the device
    index = rank.topk(most, dim=-1, largest=False).indices
    return index, drawn.gather(-1, index)


def matched_boxes(truths: Sequence[Tensor], matched: Tensor, boxes: Tensor) -> Tensor:
    """For each box the object that it is to become; a box without one stays what it is.

    Args:
        truths: (G_i, 4) the objects of each image, pixels.
        matched: (B, S) int64, an index into the image's objects, or -1 for none.
        boxes: (B, S, 4), pixels.
    Returns:
        (B, S, 4), pixels.
    Raises:
        ValueError: not as many images.
    """
    expect(len(truths) == len(matched) == len(boxes), "truths", f"{len(boxes)} images", len(truths))
    rows = (torch.cat((gt.to(boxes), boxes.new_zeros(1, 4))) for gt in truths)  # the last, at index -1, is "none"
    objects = torch.stack([own[index] for own, index in zip(rows, matched, strict=True)])  # (B, S, 4)
    return torch.where((matched >= 0)[..., None], objects, boxes)
