"""What each of the processes does that `torchrun` starts in test_processes.py: one job after the other."""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.training import TrainSettings, join_processes, train
from tests.training.job import Rectangles, Toy


def detector(folder):
    """Train FPN for three steps, and leave its losses, its weights and the state of its sampling."""
    device = join_processes()
    settings = FPNSettings.tiny(3)
    model = FPN(tiny_net(pretrained=True), Rectangles.classes, settings).to(device)
    history = train(model, Rectangles(8, mirror=False), settings.training, progress=False)
    left = {"losses": history.losses, "weights": model.state_dict(), "sampling": model.generator.get_state()}
    torch.save(left, folder / f"{dist.get_rank()}.pt")


def evaluation(folder):
    """Evaluate for longer than the processes wait for each other in a step."""
    meeting, ranks = f"file://{folder / 'meeting'}", {"rank": int(os.environ["RANK"]), "world_size": 2}
    dist.init_process_group("gloo", init_method=meeting, timeout=timedelta(seconds=2), **ranks)
    assert join_processes().type == "cpu"  # joined already
    settings = TrainSettings(steps=3, batch_size=2, lr=0.05, evaluate_every=2)

    def patient(model):
        time.sleep(4 if model.seen and len(model.seen) == 2 else 0)  # the first time, with a step to come
        return {"AP": 0.5}

    history = train(Toy(), Rectangles(6), settings, evaluate=patient, progress=False)
    torch.save(history.evaluations, folder / f"{dist.get_rank()}.pt")


if __name__ == "__main__":
    for job in (detector, evaluation):
        place = Path(sys.argv[1]) / job.__name__
        place.mkdir(exist_ok=True)
        job(place)
        dist.destroy_process_group()
