"""The windows that a detector's head trains on: drawn from the proposals and the true boxes of each image."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rcnn_tutorial.data.targets import check_target
from rcnn_tutorial.nets.rpn import Proposals
from rcnn_tutorial.ops.assign import BACKGROUND, FOREGROUND, match, sample
from rcnn_tutorial.ops.boxes import box_iou, validate
from rcnn_tutorial.ops.losses import PADDING


class Samples(NamedTuple):
    """P windows of each of B images; where an image has fewer, rows of padding follow."""

    boxes: Tensor  # (B, P, 4) pixels of the image
    labels: Tensor  # (B, P) int64: 0 background, 1..K classes, -1 padding
    truths: Tensor  # (B, P, 4) the object that a foreground window overlaps most; elsewhere the window itself


def usable(boxes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes clipped to their image, and which of them still have an area; the others become (0, 0, 1, 1).

    Args:
        boxes: (B, M, 4), pixels.
        sizes: (B, 2) height and width of each image, pixels.
    Returns:
        (B, M, 4) and (B, M) bool.
    """
    clipped = boxes.clamp(min=0).minimum(sizes.to(boxes)[:, None, [1, 0, 1, 0]])
    good = (clipped[..., 2:] > clipped[..., :2]).all(dim=-1)
    return torch.where(good[..., None], clipped, clipped.new_tensor([0, 0, 1, 1])), good


def draw_samples(
    proposals: Sequence[Tensor] | Proposals,
    targets: Sequence[dict[str, Tensor]],
    sizes: Tensor,
    count: int,
    share: float,
    foreground: float,
    background: tuple[float, float],
    generator: torch.Generator | None = None,
) -> Samples:
    """Label every proposal and every true box, and draw some.

    Proposals are clipped to the image, and those left without area are never drawn. An image without objects gives
    background only, and none where `background` begins above 0.

    Args:
        proposals: (M_i, 4) for each image, pixels; or those of an RPN, whose gradient the boxes drawn keep.
        targets: `boxes` (N_i, 4) and `labels` (N_i,), 1 to K, for each image.
        sizes: (B, 2) height and width of each image, pixels.
        count: P, windows per image.
        share: largest share of foreground (FAST-12).
        foreground: IoU from which a window is an example of its object.
        background: (low, high), the IoUs of background windows (FAST-13).
        generator: of the CPU.
    Returns:
        Windows in no particular order, padding last.
    Raises:
        ValueError: lists of different lengths, proposals of another shape or with numbers that are not finite, or
            targets that are none.
    """
    images = len(proposals.boxes if isinstance(proposals, Proposals) else proposals)
    if not images == len(targets) == len(sizes):
        raise ValueError(f"proposals: expected one tensor for each of {len(targets)} images, got {images}")
    targets = [check_target(target, f"targets[{i}]") for i, target in enumerate(targets)]
    truths, labels = ([target[name] for target in targets] for name in ("boxes", "labels"))
    if isinstance(proposals, Proposals):
        boxes = torch.cat((proposals.boxes, pad_sequence(truths, batch_first=True).to(proposals.boxes)), dim=1)
        there = torch.cat((proposals.valid, _mask(truths)), dim=1)
    else:
        windows = [torch.cat((validate(p, "proposals"), t)) for p, t in zip(proposals, truths, strict=True)]
        boxes, there = pad_sequence(windows, batch_first=True), _mask(windows)
    boxes, good = usable(boxes, sizes)  # (B, M, 4)
    real = _mask(truths)  # (B, N)
    truths, labels = (pad_sequence(each, batch_first=True) for each in (truths, labels))
    if truths.shape[1] == 0:  # no image has an object: one column of padding stands for them
        truths, labels, real = boxes[:, :1] * 0, torch.zeros_like(there[:, :1], dtype=torch.int64), there[:, :1] & False
    iou = box_iou(boxes.detach(), truths).masked_fill(~real[:, None], -1)  # (B, M, N)
    state = match(iou, foreground, background)
    truth, state = state.truth, state.state.masked_fill(~(there & good), PADDING)

    chosen = sample(state, count, share, generator)
    order = chosen.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count]  # (B, P), chosen ones first
    chosen, state, truth = (each.gather(1, order) for each in (chosen, state, truth))
    is_foreground = chosen & (state == FOREGROUND)
    label = torch.where(is_foreground, labels.gather(1, truth), BACKGROUND).masked_fill(~chosen, PADDING)
    boxes = _rows(boxes, order)
    return Samples(boxes, label, torch.where(is_foreground[..., None], _rows(truths, truth), boxes))


def _mask(boxes: Sequence[Tensor]) -> Tensor:
    """(B, longest) bool, which rows of the padded boxes are there."""
    return pad_sequence([torch.ones_like(each[:, 0], dtype=torch.bool) for each in boxes], batch_first=True)


def _rows(boxes: Tensor, index: Tensor) -> Tensor:
    """(B, M, 4) and (B, P) to (B, P, 4)."""
    return boxes.gather(1, index[..., None].expand(-1, -1, 4))
