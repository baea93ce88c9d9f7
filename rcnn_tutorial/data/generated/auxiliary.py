"""Mini-batches of pictures of the auxiliary shapes, for the pre-training: one shape each, and its label."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.data.generated.shapes import auxiliary
from rcnn_tutorial.ops.warp import IMAGENET_MEAN


class AuxiliaryBatches(Dataset):
    """Item i of epoch e is a mini-batch drawn from (e, i), half of it mirrored.

    Training at several sizes in turn is SPPnet's (section 2.3).

    Args:
        first, count: which pictures of the endless series; they are made at once and held in memory.
        batches: in an epoch.
        batch: pictures in a mini-batch.
        sizes: sides of the crops, pixels, one for each epoch in turn: the same pictures, resized.
        seed: of the series.
        processes: that make the pictures; None for one per core, 0 to make them here.

    Attributes:
        images, labels: (N, 3, 64, 64) uint8 and (N,) int64.
    """

    def __init__(
        self,
        first: int,
        count: int,
        batches: int,
        batch: int = 64,
        sizes: tuple[int, ...] = (64,),
        seed: int = 1,
        processes: int | None = None,
    ):
        self.batches, self.batch, self.sizes, self.epoch = batches, batch, sizes, 0
        which = [seed] * count, range(first, first + count)
        if processes == 0:
            pairs = list(map(auxiliary, *which))
        else:  # not forked: once torch has threads of its own, a forked process may wait for ever
            with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
                pairs = list(pool.map(auxiliary, *which, chunksize=100))
        self.images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.tensor([label for _, label in pairs])

    @property
    def size(self) -> int:
        """Side of this epoch's crops."""
        return self.sizes[self.epoch % len(self.sizes)]

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.epoch * 1_000_003 + index)
        drawn = torch.randint(len(self.images), (self.batch,), generator=generator)
        crops, mirrored = prepare(self.images[drawn], self.size), torch.rand(self.batch, generator=generator) < 0.5
        crops[mirrored] = crops[mirrored].flip(-1)
        return crops, self.labels[drawn]


def prepare(images: Tensor, size: int = 64) -> Tensor:
    """Make pictures what a network wants: (N, 3, H, W) uint8 to (N, 3, size, size) floats, mean subtracted."""
    crops = images.float() / 255 - torch.tensor(IMAGENET_MEAN)[:, None, None]
    if size != crops.shape[-1]:
        crops = F.interpolate(crops, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return crops


@torch.no_grad()
def accuracy(net: torch.nn.Module, pictures: AuxiliaryBatches, size: int = 64) -> float:
    """Measure the share of the pictures that the network names rightly."""
    device = next(net.parameters()).device
    right = [
        (net(prepare(images.to(device), size)).argmax(1) == labels.to(device)).float()
        for images, labels in zip(pictures.images.split(250), pictures.labels.split(250), strict=True)
    ]
    return torch.cat(right).mean().item()
