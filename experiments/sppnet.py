"""SPPnet's choices, against their alternatives."""

from dataclasses import asdict

import torch

from experiments.scenes import Experiment, device
from rcnn_tutorial.data.generated.auxiliary import AuxiliaryBatches, accuracy
from rcnn_tutorial.data.generated.shapes import AUXILIARY_CLASSES
from rcnn_tutorial.detectors.rcnn_windows import FineTuning
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.training import TrainSettings, train

PICTURES, FRESH = 10_000, 2_000
TRAINING = TrainSettings(600, batch_size=1, lr=0.03, weight_decay=5e-4, schedule="cosine", warmup=100)
SIZES = {"64 alone": (64,), "64 and 52": (64, 52)}  # 52 is to 64 as 180 to 224


def sizes(seed: int) -> dict[str, dict]:
    """SPP-08: the same crops at one size, or at two, an epoch each in turn; accuracy at both on fresh pictures.

    All layers are trained, from the shipped convolutions on: from random ones 600 steps teach next to nothing.
    """
    fresh = AuxiliaryBatches(5 * PICTURES, FRESH, 0, processes=0)
    training = AuxiliaryBatches(seed * PICTURES, PICTURES, PICTURES // 64, processes=0)
    found = {}
    for name, training.sizes in SIZES.items():
        torch.manual_seed(seed)
        net = tiny_net(len(AUXILIARY_CLASSES), levels=(4, 2, 1))
        net.convs.load_state_dict(tiny_net(pretrained=True).convs.state_dict())
        net.to(device())
        train(FineTuning(net), training, TRAINING, progress=False)
        found[name] = {f"accuracy at {size}": round(accuracy(net, fresh, size), 4) for size in (64, 52)}
    return found


EXPERIMENTS = {
    "spp_08": Experiment(
        "one size of training pictures, or two in turn",
        ("SPP-08",),
        sizes,
        {"pictures": PICTURES, "fresh": FRESH, **asdict(TRAINING)},
    ),
}
