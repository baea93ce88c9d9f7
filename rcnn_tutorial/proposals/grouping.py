"""Selective search, second step: merge the two most similar neighbours until one region is left.

`grouping_steps` is the algorithm as it is told, one merge at a time. `group` runs any number of graphs at once and
merges in each round all pairs that are each other's most similar neighbour. Where a merge makes no region more
similar to a third than one of its parts was, both build the same hierarchy, whatever the order. The similarities
below break that rule now and then (the fill of a dented pair, the histogram of a mixture), and then the two
hierarchies differ a little.
"""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rcnn_tutorial.proposals.regions import Regions


class Merge(NamedTuple):
    """One step of `grouping_steps`: regions a and b become a new one, numbered after all before it."""

    a: int
    b: int
    similarity: float
    box: Tensor  # (4,) of the new region


class Hierarchy(NamedTuple):
    """All regions of G graphs, the R initial ones first, then those of M merges."""

    box: Tensor  # (R + M, 4)
    graph: Tensor  # (R + M,) int64
    position: Tensor  # (R + M,) int64, in the graph's hierarchy: 1 is the whole image, the initial regions are last
    children: Tensor  # (M, 2) int64, the two regions that region R + m was made of


def colour_similarity(a: Regions, b: Regions) -> Tensor:
    """Intersect the colour histograms: high for regions of like colours."""
    return torch.minimum(a.colour, b.colour).sum(-1)


def texture_similarity(a: Regions, b: Regions) -> Tensor:
    """Intersect the texture histograms: high for regions of like textures."""
    return torch.minimum(a.texture, b.texture).sum(-1)


def size_similarity(a: Regions, b: Regions) -> Tensor:
    """Prefer two small regions, so that regions grow at the same pace all over the image."""
    return 1 - (a.size + b.size) / a.image_size


def fill_similarity(a: Regions, b: Regions) -> Tensor:
    """Prefer two regions that fill the box around both to two that only touch at a corner."""
    x1, y1, x2, y2 = _enclosing(a.box, b.box).unbind(-1)
    return 1 - ((x2 - x1) * (y2 - y1) - a.size - b.size) / a.image_size


SIMILARITIES = {
    "colour": colour_similarity,
    "texture": texture_similarity,
    "size": size_similarity,
    "fill": fill_similarity,
}


def merged(a: Regions, b: Regions) -> Regions:
    """Describe the regions that a and b make together, without a look at the pixels.

    Args:
        a, b: regions with the same leading shape.
    Returns:
        `Regions` of that shape. The histograms are averages weighted by size.
    Source: Uijlings et al., Selective Search for Object Recognition, 2013, section 3.2.
    """
    size = a.size + b.size
    share = (a.size / size)[..., None]
    return Regions(
        size=size,
        box=_enclosing(a.box, b.box),
        colour=b.colour.lerp(a.colour, share),
        texture=b.texture.lerp(a.texture, share),
        image_size=a.image_size,
    )


def _enclosing(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat((torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])), dim=-1)


def _take(regions: Regions, index: Tensor) -> Regions:
    return Regions(*(values[index] for values in regions))


def grouping_steps(regions: Regions, pairs: Tensor, similarities: Sequence[str] = tuple(SIMILARITIES)) -> list[Merge]:
    """Group regions into a hierarchy, one merge at a time, as the paper tells it.

    Args:
        regions: R regions of one image.
        pairs: (E, 2) int64, which of them touch.
        similarities: names of `SIMILARITIES`; their sum is what counts.
    Returns:
        The merges in their order: R - 1 of them, since the regions of an image are connected.
    Raises:
        ValueError: an unknown similarity.
    Source: Uijlings et al., Selective Search for Object Recognition, 2013, algorithm 1.
    """
    weights = similarity_weights(similarities).to(regions.size.device)
    known = [Regions(*row) for row in zip(*regions, strict=True)]

    def queued(a: int, b: int) -> tuple[float, int, int]:
        return -_similarity(known[a], known[b], weights).item(), a, b  # the queue gives the smallest first

    neighbours: dict[int, set[int]] = {region: set() for region in range(len(known))}
    for a, b in pairs.tolist():
        neighbours[a].add(b)
        neighbours[b].add(a)
    queue = [queued(a, b) for a, b in pairs.tolist()]
    heapq.heapify(queue)
    merges = []
    while queue:
        negative, a, b = heapq.heappop(queue)
        if a not in neighbours or b not in neighbours:
            continue  # one of the two has become part of another region meanwhile
        new = len(known)
        known.append(merged(known[a], known[b]))
        merges.append(Merge(a, b, -negative, known[new].box))
        neighbours[new] = (neighbours.pop(a) | neighbours.pop(b)) - {a, b}
        for c in neighbours[new]:
            neighbours[c] = neighbours[c] - {a, b} | {new}
            heapq.heappush(queue, queued(c, new))
    return merges


def labels_at(labels: Tensor, merges: Sequence[Merge], n: int) -> Tensor:
    """Show the picture at one moment of `grouping_steps`.

    Args:
        labels: (H, W) int64, the initial regions.
        merges: as `grouping_steps` gives them.
        n: how many regions are left at that moment.
    Returns:
        (H, W) int64 with n different numbers. A region keeps its number until it is merged.
    Raises:
        ValueError: n under 1, or above the number of initial regions.
    """
    count = len(merges) + 1
    if not 1 <= n <= count:
        raise ValueError(f"n: expected 1 to {count} regions, got {n}")
    part_of = list(range(count + len(merges)))
    for step in reversed(range(count - n)):
        part_of[merges[step].a] = part_of[merges[step].b] = part_of[count + step]
    return torch.tensor(part_of, device=labels.device)[labels]


def similarity_weights(names: Sequence[str]) -> Tensor:
    """Put a one for each similarity that is named into a row (4,), in the order of `SIMILARITIES`.

    Args:
        names: keys of `SIMILARITIES`.
    Raises:
        ValueError: another name, or none.
    """
    if not names or not set(names) <= set(SIMILARITIES):
        raise ValueError(f"similarities: expected some of {', '.join(SIMILARITIES)}, got {tuple(names)}")
    return torch.tensor([float(name in names) for name in SIMILARITIES])


def _similarity(a: Regions, b: Regions, weights: Tensor) -> Tensor:
    return (torch.stack([measure(a, b) for measure in SIMILARITIES.values()], dim=-1) * weights).sum(-1)


def group(regions: Regions, pairs: Tensor, graph: Tensor, weights: Tensor) -> Hierarchy:
    """Group the regions of many graphs at once, all mutually best pairs in each round.

    Args:
        regions: R regions of G graphs, each graph connected.
        pairs: (E, 2) int64, which regions touch.
        graph: (R,) int64, of each region.
        weights: (G, 4) of the similarities colour, texture, size and fill in each graph.
    Returns:
        `Hierarchy`. In each graph positions follow the least similarity of all merges inside a region, the
        order in which one merge at a time would come to it.
    Source: Uijlings et al., Selective Search for Object Recognition, 2013, algorithm 1.
    """
    # A merged region takes the row of its first part; `node` says which region of the hierarchy is in which row.
    rows = Regions(*(values.clone() for values in regions))
    weights = weights.to(graph.device)[graph]  # (R, 4)
    node = torch.arange(len(graph), device=graph.device)
    height = torch.full_like(rows.size, torch.inf)
    boxes, graphs, heights, children = [rows.box.clone()], [graph], [height.clone()], [pairs[:0]]

    def similarity(pairs: Tensor) -> Tensor:
        a, b = pairs.unbind(1)
        return _similarity(_take(rows, a), _take(rows, b), weights[a])

    similar = similarity(pairs)
    total = len(graph)
    while len(pairs):
        best = _mutually_best(pairs, similar, len(graph))
        a, b = pairs[best].unbind(1)
        for values, together in zip(rows, merged(_take(rows, a), _take(rows, b)), strict=True):
            values[a] = together
        height[a] = torch.minimum(similar[best], torch.minimum(height[a], height[b]))
        children.append(torch.stack((node[a], node[b]), dim=1))
        node[a] = torch.arange(total, total + len(a), device=graph.device)
        total += len(a)
        boxes.append(rows.box[a])
        graphs.append(graph[a])
        heights.append(height[a])
        left, new = _redirected(pairs, a, b, len(graph))
        pairs, similar = torch.cat((pairs[left], new)), torch.cat((similar[left], similarity(new)))
    graph = torch.cat(graphs)
    return Hierarchy(torch.cat(boxes), graph, _positions(torch.cat(heights), graph), torch.cat(children))


def _mutually_best(pairs: Tensor, similar: Tensor, n: int) -> Tensor:
    """(E,) bool, pairs that are the most similar of both their regions; of equal ones the first counts."""
    order = similar.argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    best = rank.new_full((n,), len(order))
    best.scatter_reduce_(0, pairs.flatten(), rank.repeat_interleave(2), "amin")
    return (best[pairs] == rank[:, None]).all(1)


def _redirected(pairs: Tensor, a: Tensor, b: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """After the rows b have gone into the rows a: which pairs are left as they were, (E,) bool, and the new ones."""
    row = torch.arange(n, device=pairs.device)
    row[b] = a
    changed = torch.zeros(n, dtype=torch.bool, device=pairs.device)
    changed[torch.cat((a, b))] = True
    touched = changed[pairs].any(1)
    low, high = row[pairs[touched]].aminmax(dim=1)
    keys = (low * n + high)[low != high].unique()
    return ~touched, torch.stack((keys // n, keys % n), dim=1)


def _positions(height: Tensor, graph: Tensor) -> Tensor:
    """1, 2, 3, ... in each graph by growing height; of equal ones the region made last, which holds the others."""
    order = torch.arange(len(height), device=height.device).flip(0)
    order = order[height[order].argsort(stable=True)]
    order = order[graph[order].argsort(stable=True)]
    count = graph.bincount()
    position = torch.empty_like(graph)
    position[order] = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[graph[order]] + 1
    return position
