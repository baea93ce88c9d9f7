"""Pre-train the small network on pictures of the 20 auxiliary shapes, none of which is a class of the scenes.

    python data_scripts/train_backbone.py
    python data_scripts/train_backbone.py --pyramid

Writes rcnn_tutorial/weights/backbone.pt, and rcnn_tutorial/course/records/backbone.json with the accuracy on pictures
that were not trained on. About ten minutes on two CPU cores. With --pyramid the convolutions are those of backbone.pt,
a spatial pyramid follows them, and only the fully connected layers are trained, on two sizes of pictures, an epoch
each in turn: backbone_spp.pt and backbone_spp.json.
"""

import argparse
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rcnn_tutorial.data.generated.auxiliary import AuxiliaryBatches, accuracy
from rcnn_tutorial.data.generated.shapes import AUXILIARY_CLASSES
from rcnn_tutorial.detectors.rcnn_windows import FineTuning
from rcnn_tutorial.nets.backbones import ConvNet, tiny_net
from rcnn_tutorial.training import TrainSettings, train
from rcnn_tutorial.weights import save_weights

PACKAGE = Path(__file__).parents[1] / "rcnn_tutorial"
SEED, LEVELS = 1, (4, 2, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=40_000)
    parser.add_argument("--steps", type=int, help="default: 5,000, with --pyramid 2,500")
    parser.add_argument("--pyramid", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    steps = options.steps or (2_500 if options.pyramid else 5_000)
    settings = TrainSettings(
        steps, batch_size=1, lr=0.03 if options.pyramid else 0.1, weight_decay=5e-4, schedule="cosine",
        warmup=steps // 4, seed=SEED,
    )  # fmt: skip
    sizes = (64, 52) if options.pyramid else (64,)  # 52 is to 64 as 180 to 224
    training = AuxiliaryBatches(0, options.pictures, options.pictures // 64 if options.pyramid else steps, sizes=sizes)
    fresh = AuxiliaryBatches(options.pictures, 2_000, 0)
    torch.manual_seed(SEED)
    name, levels = ("backbone_spp", LEVELS) if options.pyramid else ("backbone", ())
    if options.pyramid:
        net = tiny_net(len(AUXILIARY_CLASSES), levels=levels)
        net.convs.load_state_dict(tiny_net(pretrained=True).convs.state_dict())
        net.convs.requires_grad_(False)
    else:
        net = tiny_net(len(AUXILIARY_CLASSES), norm="batch")
    history = train(FineTuning(net.to(options.device)), training, settings)
    fold(net.cpu())
    save_weights(net.state_dict(), PACKAGE / f"weights/{name}.pt")
    shipped = tiny_net(pretrained=True, levels=levels).eval()
    record = {
        "what": f"tiny_net{' with a pyramid' if options.pyramid else ''} on the auxiliary shapes",
        "settings": {"pictures": options.pictures, "pictures_per_step": 64, "sizes": sizes, **asdict(settings)},
        "versions": {"python": platform.python_version(), **{n: version(n) for n in ("torch", "numpy", "pillow")}},
        "last_loss": round(float(np.mean(history.total[-50:])), 4),
        "accuracy": {"training": round(accuracy(shipped, training), 4), "fresh": round(accuracy(shipped, fresh), 4)},
        "seconds": round(sum(history.seconds)),
    }
    if options.pyramid:
        record["accuracy"]["fresh at 52"] = round(accuracy(shipped, fresh, 52), 4)
    (PACKAGE / f"course/records/{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record["accuracy"]))


def fold(net: ConvNet) -> None:
    """Put each batch normalisation into the convolution before it, with the statistics gathered so far.

    What the network computes in eval mode stays the same, and from now on does not depend on the mode.
    """
    for i, block in enumerate(net.eval().convs):
        convolution, norm, *others = block.children()
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            net.convs[i] = nn.Sequential(fuse_conv_bn_eval(convolution, norm), *others)


if __name__ == "__main__":
    main()
