"""What the tests of training share: data, models, and trainings to be run in processes of their own."""

import io
import json
import os
import shutil
import signal
from dataclasses import asdict, replace

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import Dataset

from benchmarks.peer import tiny_faster_rcnn
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.ops.losses import count_drawn
from rcnn_tutorial.training import TrainSettings, train

torch.set_num_threads(1)
SETTINGS = TrainSettings(
    steps=56, batch_size=2, lr=0.01, schedule="cosine", warmup=10, clip_norm=5.0, seed=3,
    evaluate_every=7, checkpoint_every=4, log_every=1,
)  # fmt: skip
QUICK = TrainSettings(steps=12, batch_size=2, lr=0.05, checkpoint_every=5)


class Rectangles(Dataset):
    """Bright and dark rectangles on noise, mirrored in some epochs."""

    classes = ("background", "bright", "dark")

    def __init__(self, images: int, height: int = 64, width: int = 96, mirror: bool = True):
        self.images, self.height, self.width, self.mirror, self.epoch = images, height, width, mirror, 0

    def __len__(self):
        return self.images

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, index):
        random = np.random.default_rng(index)
        image = torch.from_numpy(random.uniform(0.4, 0.6, (3, self.height, self.width)).astype(np.float32))
        boxes, labels = [], []
        for left in range(4, self.width - 30, 32):
            label = int(random.integers(3))
            if label:
                w, h = random.integers(12, 28, 2)
                top = random.integers(self.height - h)
                image[:, top : top + h, left : left + w] = 0.9 if label == 1 else 0.1
                boxes.append([left, top, left + w, top + h])
                labels.append(label)
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        if self.mirror and np.random.default_rng((self.epoch, index)).random() < 0.5:
            image, boxes = (
                image.flip(2),
                torch.stack([self.width - boxes[:, 2], boxes[:, 1], self.width - boxes[:, 0], boxes[:, 3]], 1),
            )
        target = {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64), "image_id": torch.tensor(index)}
        return image, target


def detector(seed: int = 0) -> nn.Module:
    return tiny_faster_rcnn(
        len(Rectangles.classes), size=(64, 96), anchors=(16, 24), width=8, head=32, seed=seed,
        rpn_pre_nms_top_n_train=100, rpn_post_nms_top_n_train=50, rpn_batch_size_per_image=32,
        box_batch_size_per_image=32,
    )  # fmt: skip


class Toy(nn.Module):
    """A loss for every image and one for those with an odd number; one layer is in neither."""

    def __init__(self, generator: torch.Generator | None = None):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.features, self.odd, self.unused = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)
        self.generator = generator
        self.seen = []

    def forward(self, images, targets):
        self.seen.append([int(target["image_id"]) for target in targets])
        features = self.features(torch.stack([image.mean((1, 2)) for image in images]))  # (B, 4)
        counts = torch.tensor([float(len(target["boxes"])) for target in targets]).to(features)
        odd = features[counts.new_tensor([number % 2 for number in self.seen[-1]]) == 1]
        noise = 0.0 if self.generator is None else torch.rand((), generator=self.generator)
        return {
            "all": (features.sum(1) - counts).square().mean() + noise,
            "odd": self.odd(odd).square().sum() / len(images) if len(odd) else features.new_zeros(()),
        }


def run(model=None, settings=QUICK, folder=None, dataset=None, **more):
    model = Toy() if model is None else model
    return train(model, Rectangles(7) if dataset is None else dataset, settings, folder, progress=False, **more)


def killed_training(folder, death=None):
    """A training that dies without a farewell: (steps, seconds) after its start, or while it writes a checkpoint."""
    if isinstance(death, str):
        _die_while_writing(death)
    calls = []

    def clock(history):
        calls.append(history.steps)
        if isinstance(death, tuple) and len(calls) == death[0]:
            signal.setitimer(signal.ITIMER_REAL, death[1])  # nothing handles its signal: the system ends the process

    def evaluate(model):
        return {"sum": sum(weights.double().sum() for weights in model.parameters()), "noise": torch.rand(())}

    history = train(detector(), Rectangles(7), SETTINGS, folder, evaluate=evaluate, on_log=clock, progress=False)
    (folder / "history.json").write_text(json.dumps(asdict(history)))


def _die_while_writing(moment):
    """Of the second checkpoint, so that there is one to go on from."""
    written, save, rename = [], torch.save, os.replace

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def half_a_file(state, file):
        written.append(True)
        if len(written) < 2:
            return save(state, file)
        content = io.BytesIO()
        save(state, content)
        file.write(content.getvalue()[: len(content.getvalue()) // 2])
        file.flush()
        die()

    def around_the_renaming(source, target):
        written.append(True)
        if len(written) == 2 and moment == "before renaming":
            die()
        rename(source, target)
        if len(written) == 2:
            die()

    if moment == "half a file":
        torch.save = half_a_file
    else:
        os.replace = around_the_renaming


def shared_training(rank, processes, meeting, folder, settings, noisy):
    """One of several processes that train together; each leaves what it saw in the folder."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes)
    model = Toy(torch.Generator().manual_seed(rank) if noisy else None)

    def keep_the_last_checkpoint(history):
        (folder / "earlier").mkdir(exist_ok=True)
        shutil.copy(folder / "checkpoint.pt", folder / "earlier")

    history = train(model, Rectangles(6), settings, folder, on_log=keep_the_last_checkpoint, progress=False)
    torch.save({"losses": history.losses, "model": model.state_dict(), "seen": model.seen}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def losses_and_gradients(images: list[int], wrap=lambda model: model) -> dict:
    """Of a detector that asks for more samples than there are, so that it takes all: no draw tells two runs apart."""
    settings = FasterRCNNSettings.tiny(rois=900, share=1.0)
    settings = replace(settings, rpn=replace(settings.rpn, samples=9000, share=1.0, after_nms=(40, 40)))
    model = FasterRCNN(tiny_net(pretrained=True), Rectangles.classes, settings).double()
    data = Rectangles(9, mirror=False)
    pictures, targets = zip(*(data[index] for index in images), strict=True)
    shared = wrap(model)  # has to live until the gradients are there
    losses = shared([picture.double() for picture in pictures], list(targets))
    sum(losses.values()).backward()
    values = {name: loss.detach() for name, loss in losses.items()}
    return {"losses": values, "gradients": {name: weights.grad for name, weights in model.named_parameters()}}


def shared_losses(rank, meeting, folder, images):
    """One of the processes that share a mini-batch, with its images."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=len(images))
    found = losses_and_gradients(images[rank], nn.parallel.DistributedDataParallel)
    if rank == 0:  # alone, as in an evaluation: the others are not waited for
        with torch.no_grad():
            found["alone"] = count_drawn(torch.ones(7, dtype=torch.bool))
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()
