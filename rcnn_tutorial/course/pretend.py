"""Detections without a detector: objects moved, renamed, doubled and forgotten, to practise measuring on."""

from collections.abc import Sequence

import torch
from torch import Tensor


def pretend_detections(
    targets: Sequence[dict[str, Tensor]], size: tuple[int, int], classes: Sequence[str], generator: torch.Generator
) -> list[dict[str, Tensor]]:
    """What a detector of middling skill might find.

    An object is found in 85 % of all cases and, by a draw of its own, once more in 11 %. Its sides are moved by up to
    10 % of its size, in one case of eight by up to 45 %. One label of ten is another. Each image has one box on the
    background. Scores are drawn evenly from 0.3 to 1, lower by 0.2 for boxes moved far, up to 0.7 for the background.

    Args:
        targets: per image a dict of `boxes` (N, 4) and `labels` (N,).
        size: height and width of the images, pixels.
        classes: names, background first.
        generator: of the CPU.
    Returns:
        Per image a dict of `boxes` (D, 4), `labels` (D,) and `scores` (D,).
    """

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    found = []
    for target in targets:
        truths, labels = target["boxes"], target["labels"]
        n = len(truths)
        again = torch.cat((rand(n) < 0.85, rand(n) < 0.11)).nonzero()[:, 0] % max(n, 1)  # objects, then some twice
        badly, renamed = rand(len(again)) < 0.125, rand(len(again)) < 0.1
        reach = torch.where(badly, 0.45, 0.1)[:, None] * (truths[again, 2:] - truths[again, :2]).repeat(1, 2)
        boxes = truths[again] + (2 * rand(len(again), 4) - 1) * reach
        other = (labels[again] + torch.randint(0, len(classes) - 2, (len(again),), generator=generator)) % (
            len(classes) - 1
        ) + 1
        corner = rand(1, 2) * torch.tensor([size[1], size[0]]) * 0.8
        nowhere = torch.cat((corner, corner + 10 + rand(1, 2) * 40), dim=1)
        found.append(
            {
                "boxes": torch.cat((boxes, nowhere)),
                "labels": torch.cat(
                    (
                        torch.where(renamed, other, labels[again]),
                        torch.randint(1, len(classes), (1,), generator=generator),
                    )
                ),
                "scores": torch.cat((0.3 + 0.7 * rand(len(again)) - 0.2 * badly, 0.7 * rand(1))),
            }
        )
    return found


def pretend_ranking(words: Sequence[str], objects: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Boxes of one class in one image that make up a ranking.

    Args:
        words: from the highest score to the lowest "hit" (the next object), "duplicate" (the object of the hit before)
            or "false" (no object).
        objects: how many the image has.
    Returns:
        A detection with `boxes` (D, 4), `labels` and `scores` (D,), and a target with `boxes` and `labels`.
    Raises:
        ValueError: another word, more hits than objects, or a duplicate before any hit.
    """
    hits = [word == "hit" for word in words]
    if (
        set(words) - {"hit", "duplicate", "false"}
        or sum(hits) > objects
        or "duplicate" in words[: (hits + [1]).index(1)]
    ):
        raise ValueError(f"words: expected hit, duplicate or false, a duplicate after a hit, got {list(words)}")
    found = torch.tensor(hits).cumsum(0) - 1  # the object of the last hit
    places = torch.where(torch.tensor([word == "false" for word in words]), objects + torch.arange(len(words)), found)

    def row(places: Tensor) -> Tensor:  # squares of 20 pixels, 10 apart
        left, top = 30.0 * places, torch.zeros(len(places))
        return torch.stack((left, top, left + 20, top + 20), dim=1)

    detection = {"boxes": row(places), "labels": torch.ones(len(words), dtype=torch.int64)}
    target = {"boxes": row(torch.arange(objects)), "labels": torch.ones(objects, dtype=torch.int64)}
    return detection | {"scores": torch.linspace(0.9, 0.5, len(words))}, target
