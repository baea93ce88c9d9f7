"""Selective search: boxes that may hold an object, from a segmentation that is grouped bottom-up.

A region of any size may be an object, so every region of the whole hierarchy gives a box. No single idea of what
makes a region holds everywhere, so several strategies (a colour space, a scale of the initial segmentation, a set of
similarities) each build a hierarchy of their own, and their boxes are put together.

    regions.py          initial regions, their histograms, who touches whom
    grouping.py         similarities and hierarchical grouping
    selective_search.py strategies and ranking
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rcnn_tutorial.proposals.grouping import group, similarity_weights
from rcnn_tutorial.proposals.regions import Regions, convert, describe, pixel_bins, segment, touching

SEED = 0  # of the ranking where no generator is given
ALL = ("colour", "texture", "size", "fill")
NO_COLOUR = ("texture", "size", "fill")


@dataclass(frozen=True)
class Settings:
    """Strategies of a selective search: each colour space with each scale and each set of similarities.

    The defaults are the paper's fast mode, which R-CNN uses (R-CNN, section 2.2).
    """

    colour_spaces: tuple[str, ...] = ("hsv", "lab")
    scales: tuple[float, ...] = (50, 100)  # k of the initial segmentation
    similarities: tuple[tuple[str, ...], ...] = (ALL, NO_COLOUR)
    min_size: int = 50  # of an initial region, pixels
    sigma: float = 0.8  # of the smoothing before the segmentation, pixels


# Table 5 of the paper: 1, 8 and 80 strategies
MODES = {
    "single": Settings(("hsv",), (100,), (ALL,)),
    "fast": Settings(),
    "quality": Settings(
        ("hsv", "lab", "rgi", "hue", "intensity"), (50, 100, 150, 300), (ALL, NO_COLOUR, ("fill",), ("size",))
    ),
}


def selective_search(
    image: Tensor, mode: str | Settings = "fast", generator: torch.Generator | None = None, top: int | None = None
) -> Tensor:
    """Propose boxes that may hold an object.

    Args:
        image: (3, H, W) RGB in [0, 1].
        mode: "single", "fast" or "quality" (1, 8 and 80 strategies), or settings of your own.
        generator: of the CPU, for the ranking; None for one with a fixed seed, the same at every call.
        top: how many boxes to give at most; None for all.
    Returns:
        (M, 4) pixels, ranked, the best first, each box once. The whole image is always among all of them.
    Raises:
        ValueError: an image that is none, an unknown mode, settings that name no strategy, a `top` under 1.
    Source: Uijlings et al., Selective Search for Object Recognition, 2013.
    """
    return selective_search_batch([image], mode, generator, top)[0]


def selective_search_batch(
    images: Sequence[Tensor],
    mode: str | Settings = "fast",
    generator: torch.Generator | None = None,
    top: int | None = None,
) -> list[Tensor]:
    """Do the `selective_search` of several images at once: all their strategies are grouped as one graph.

    Args:
        images: (3, H, W) each, RGB in [0, 1]; sizes may differ.
        mode, top: as in `selective_search`.
        generator: draws for one image after the other; None gives each image the boxes it gets on its own.
    Returns:
        Per image (M, 4), as `selective_search` gives them.
    Raises:
        ValueError: as `selective_search`.
    Source: Uijlings et al., Selective Search for Object Recognition, 2013.
    """
    settings = _settings(mode)
    if top is not None and top < 1:
        raise ValueError(f"top: expected a number from 1 on, or None, got {top}")
    if not images:
        return []
    segmentations = [graph for image in images for graph in _segmentations(_checked(image), settings)]
    sets = torch.stack([similarity_weights(names) for names in settings.similarities])  # (S, 4)
    regions, pairs, graph_of = _unite([graph for graph in segmentations for _ in sets])
    hierarchy = group(regions, pairs, graph_of, sets.repeat(len(segmentations), 1))
    of_image = hierarchy.graph // (len(sets) * len(segmentations) // len(images))
    proposals = []
    for number in range(len(images)):
        rows = of_image == number
        draws = generator or torch.Generator().manual_seed(SEED)
        proposals.append(rank(hierarchy.box[rows], hierarchy.position[rows], draws)[:top])
    return proposals


def rank(boxes: Tensor, positions: Tensor, generator: torch.Generator) -> Tensor:
    """Order boxes by their position in the hierarchy times a random number, so that no strategy's come first.

    Args:
        boxes: (N, 4) pixels.
        positions: (N,) in the hierarchy of each box's strategy, 1 is the whole image.
        generator: of the CPU.
    Returns:
        (M, 4) each box once, where its best-ranked copy stands; what several strategies find comes early.
    Source: Uijlings et al., Selective Search for Object Recognition, 2013, section 4.4.
    """
    factors = torch.rand(len(boxes), generator=generator).to(boxes.device)
    boxes = boxes[(positions * factors).argsort(stable=True)]
    different, which = boxes.unique(dim=0, return_inverse=True)
    first = torch.full((len(different),), len(boxes), device=boxes.device)
    first.scatter_reduce_(0, which, torch.arange(len(boxes), device=boxes.device), "amin")
    return boxes[first.sort().values]


def _segmentations(image: Tensor, settings: Settings) -> list[tuple[Regions, Tensor]]:
    """Regions and touching pairs of each colour space and scale."""
    graphs = []
    for space in settings.colour_spaces:
        converted = convert(image, space)
        bins = pixel_bins(converted)
        for scale in settings.scales:
            labels = segment(converted, scale, settings.min_size, settings.sigma)
            graphs.append((describe(labels, bins), touching(labels)))
    return graphs


def _unite(graphs: Sequence[tuple[Regions, Tensor]]) -> tuple[Regions, Tensor, Tensor]:
    """One graph of many that do not touch: (R) regions, (E, 2) pairs, and (R,) the graph of each region."""
    counts = torch.tensor([len(regions.size) for regions, _ in graphs])
    starts = (counts.cumsum(0) - counts).tolist()
    regions = Regions(*(torch.cat(values) for values in zip(*(regions for regions, _ in graphs), strict=True)))
    pairs = torch.cat([pairs + start for (_, pairs), start in zip(graphs, starts, strict=True)])
    return regions, pairs, torch.arange(len(graphs)).repeat_interleave(counts).to(pairs.device)


def _settings(mode: str | Settings) -> Settings:
    settings = MODES.get(mode, mode) if isinstance(mode, str) else mode
    if not isinstance(settings, Settings):
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, or Settings, got {mode!r}")
    if not (settings.colour_spaces and settings.scales and settings.similarities):
        raise ValueError(f"mode: expected at least one colour space, scale and set of similarities, got {settings}")
    return settings


def _checked(image: Tensor) -> Tensor:
    if not isinstance(image, Tensor) or not image.is_floating_point() or image.ndim != 3 or len(image) != 3:
        given = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"image: expected floats of shape (3, H, W), got {given}")
    if not image.numel():
        raise ValueError(f"image: expected at least one pixel, got {tuple(image.shape)}")
    low, high = image.aminmax()  # of any device: the segmentation needs the image on the host anyway
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # resizing may overshoot by rounding; NaN fails
        raise ValueError(f"image: expected numbers in [0, 1], got {low:.4g} to {high:.4g}")
    return image.float()
