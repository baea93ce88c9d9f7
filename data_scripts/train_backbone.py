"""Pre-train the small network on pictures of the 20 auxiliary shapes, none of which is a class of the scenes.

    python data_scripts/train_backbone.py

Writes rcnn_tutorial/weights/backbone.pt, and rcnn_tutorial/records/backbone.json with the accuracy on pictures that
were not trained on. About ten minutes on two CPU cores.
"""

import argparse
import json
import platform
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.data.shapes import AUXILIARY_CLASSES, auxiliary
from rcnn_tutorial.detectors.rcnn_fit import FineTuning
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.ops.warp import IMAGENET_MEAN
from rcnn_tutorial.training import TrainSettings, train
from rcnn_tutorial.weights import save_weights

PACKAGE = Path(__file__).parents[1] / "rcnn_tutorial"
BATCH, SEED = 64, 1
MEAN = torch.tensor(IMAGENET_MEAN)[:, None, None]


class Pictures(Dataset):
    """Item i is mini-batch i, drawn from (seed, i) and half of it mirrored; the pictures are held in memory."""

    def __init__(self, first: int, count: int, batches: int):
        self.batches = batches
        with ProcessPoolExecutor() as pool:
            pairs = list(pool.map(auxiliary, [SEED] * count, range(first, first + count), chunksize=100))
        self.images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.tensor([label for _, label in pairs])

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(index)
        drawn = torch.randint(len(self.images), (BATCH,), generator=generator)
        crops, mirrored = crop(self.images[drawn]), torch.rand(BATCH, generator=generator) < 0.5
        crops[mirrored] = crops[mirrored].flip(-1)
        return crops, {"boxes": torch.zeros(BATCH, 4), "labels": self.labels[drawn]}


def crop(images: Tensor) -> Tensor:
    """As the network wants them: (N, 3, 64, 64) uint8 to float, mean subtracted."""
    return images.float() / 255 - MEAN


@torch.no_grad()
def accuracy(net: torch.nn.Module, pictures: Pictures) -> float:
    right = [
        (net(crop(images)).argmax(1) == labels).float()
        for images, labels in zip(pictures.images.split(250), pictures.labels.split(250), strict=True)
    ]
    return torch.cat(right).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=40_000)
    parser.add_argument("--steps", type=int, default=5_000)
    options = parser.parse_args()
    settings = TrainSettings(
        options.steps, batch_size=1, lr=0.1, weight_decay=5e-4, schedule="cosine", warmup=options.steps // 4, seed=SEED
    )
    training, fresh = Pictures(0, options.pictures, options.steps), Pictures(options.pictures, 2_000, 0)
    torch.manual_seed(SEED)
    net = tiny_net(len(AUXILIARY_CLASSES), norm="batch")
    history = train(FineTuning(net), training, settings)
    net.eval().fold()
    save_weights(net.state_dict(), PACKAGE / "weights/backbone.pt")
    shipped = tiny_net(pretrained=True).eval()
    record = {
        "what": "tiny_net on the auxiliary shapes",
        "settings": {"pictures": options.pictures, "pictures_per_step": BATCH, **asdict(settings)},
        "versions": {"python": platform.python_version(), **{n: version(n) for n in ("torch", "numpy", "pillow")}},
        "last_loss": round(float(np.mean(history.total[-50:])), 4),
        "accuracy": {"training": round(accuracy(shipped, training), 4), "fresh": round(accuracy(shipped, fresh), 4)},
        "seconds": round(sum(history.seconds)),
    }
    (PACKAGE / "records/backbone.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record["accuracy"]))


if __name__ == "__main__":
    main()
