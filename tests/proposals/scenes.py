"""Random pictures with objects in them, and random segmentations."""

import torch


def scene(seed, height=96, width=128, objects=6):
    """(3, H, W) image of noisy ellipses on a noisy ground, and a target with their boxes."""
    g = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    image = torch.rand(3, 1, 1, generator=g).expand(3, height, width).clone()
    boxes = []
    for _ in range(objects):
        half = 6 + 14 * torch.rand(2, generator=g)
        centre = half + torch.rand(2, generator=g) * (torch.tensor([width, height]) - 2 * half)
        inside = ((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 <= 1
        image[:, inside] = torch.rand(3, 1, generator=g)
        boxes.append(torch.cat((centre - half, centre + half)))
    image = (image + 0.03 * torch.randn(image.shape, generator=g)).clamp(0, 1)
    return image, {"boxes": torch.stack(boxes), "labels": torch.ones(objects, dtype=torch.int64)}


def patches(seed, height=24, width=31, count=12):
    """(H, W) labels: every pixel belongs to the nearest of `count` random points. All of 0 ... count - 1 occur."""
    g = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 2, generator=g) * torch.tensor([height, width])
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    nearest = torch.cdist(torch.stack((y, x), dim=-1).flatten(0, 1).float(), points).argmin(1)
    return nearest.unique(return_inverse=True)[1].view(height, width)
