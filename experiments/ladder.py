"""The ladder: R-CNN, SPPnet, Fast R-CNN, Faster R-CNN and FPN on the same pictures, from the same network, trained for
about the same seconds (X-09).

`STEPS` are what fits into those seconds with all that a detector's training has, its proposals left out: they are
computed once. Seconds are the process's own, in one thread.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset
from torchvision.transforms.functional import resize

import rcnn_tutorial
from experiments import scenes as shared
from experiments.faster_rcnn import mirrored
from experiments.measure import by_size, measure
from experiments.scenes import PROPOSALS, TEST, TRAIN, Experiment, device
from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors.fast_rcnn import FastRCNN, FastRCNNSettings
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.detectors.rcnn import RCNN, RCNNSettings
from rcnn_tutorial.detectors.sppnet import SPPnet, SPPnetSettings
from rcnn_tutorial.evaluation import predict, recall
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.proposals.selective_search import selective_search
from rcnn_tutorial.training import train

STEPS = {
    "R-CNN": 380,
    "SPPnet": 24_000,
    "Fast R-CNN": 1750,
    "Fast R-CNN, RoIAlign": 1650,
    "Faster R-CNN": 1415,
    "FPN": 760,
}
STAGED = {"R-CNN": (RCNN, RCNNSettings, ()), "SPPnet": (SPPnet, SPPnetSettings, (4, 2, 1))}
ENDED = {
    "Fast R-CNN": (FastRCNN, FastRCNNSettings),
    "Fast R-CNN, RoIAlign": (FasterRCNN, FasterRCNNSettings),  # its second stage, on the proposals of selective search
    "Faster R-CNN": (FasterRCNN, FasterRCNNSettings),
    "FPN": (FPN, FPNSettings),
}
OWN = ("Faster R-CNN", "FPN")  # these propose themselves
CONVOLUTIONS = {
    "R-CNN": "net.convs",
    "SPPnet": "net.convs",
    "Fast R-CNN": "body",
    "Fast R-CNN, RoIAlign": "body",
    "Faster R-CNN": "body",
    "FPN": "body",
}
SEARCH = ("proposals/selective_search", "proposals/grouping", "proposals/regions", "proposals/dataset")
FITTED = ("detectors/rcnn", "detectors/rcnn_windows", "detectors/svm", "engine/interior_point", *SEARCH)
COMMON = ("detectors/two_stage", "detectors/select", "nets/heads")
PROPOSING = ("nets/rpn", *COMMON)
MODULES = {  # what holds the detector, apart from the operators and the network that all have
    "R-CNN": FITTED,
    "SPPnet": ("detectors/sppnet", *FITTED),
    "Fast R-CNN": ("detectors/fast_rcnn", *COMMON, *SEARCH),
    "Fast R-CNN, RoIAlign": ("detectors/faster_rcnn", *PROPOSING, *SEARCH),
    "Faster R-CNN": ("detectors/faster_rcnn", *PROPOSING),
    "FPN": ("detectors/fpn", "nets/fpn", *PROPOSING),
}
VAL = 50  # pictures that choose R-CNN's and SPPnet's threshold of NMS
TIMED = 20  # pictures whose selective search is timed
SIZE = (192, 256)  # height and width of the generated scenes, to which other pictures are brought
PACKAGE = Path(rcnn_tutorial.__file__).parent


class Resized(Dataset):
    """Pictures of one size, kept in memory."""

    def __init__(self, dataset: Dataset, classes: Sequence[str]):
        self.classes, self.items = classes, [self._smaller(*dataset[i]) for i in range(len(dataset))]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image, target = self.items[index]
        return image, dict(target)

    def target(self, index: int) -> dict[str, Tensor]:
        """The target alone."""
        return dict(self.items[index][1])

    @staticmethod
    def _smaller(image: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        down, across = (new / old for new, old in zip(SIZE, image.shape[1:], strict=True))
        factors = torch.tensor([across, down, across, down])
        return resize(image, SIZE, antialias=True), {**target, "boxes": target["boxes"] * factors}


def pictures(data: str, seed: int) -> dict[str, Dataset]:
    """What is trained on, what chooses the threshold of NMS, and what is tested, with proposals."""
    if data == "shapes":
        parts = {"train": ("train", seed * TRAIN, TRAIN), "val": ("val", 0, VAL), "test": ("test", 0, TEST)}
        return {name: shared.scenes(*part) for name, part in parts.items()}
    sets = {name: load_dataset(data, name) for name in ("train", "val", "test")}
    sets["val"] = Subset(sets["val"], range(VAL))
    kept, classes = shared.kept("proposals"), sets["train"].classes
    return {name: WithProposals(Resized(own, classes), cache=kept, top=PROPOSALS) for name, own in sets.items()}


def fitted(name: str, seed: int, parts: dict[str, Dataset]) -> nn.Module:
    """A detector, trained."""
    train_on, steps = parts["train"], STEPS[name]
    classes = train_on.classes
    if name in STAGED:
        kind, settings, levels = STAGED[name]
        net = tiny_net(pretrained=True, levels=levels)
        net.replace_classifier(len(classes), torch.Generator().manual_seed(seed))
        chosen = settings.tiny(steps)
        chosen = replace(chosen, fine_tuning=replace(chosen.fine_tuning, seed=seed))
        model = kind(net, classes, chosen).to(device())
        with TemporaryDirectory() as place:
            model.fit(train_on, parts["val"], FeatureCache(place), progress=False)
        return model
    kind, settings = ENDED[name]
    chosen = settings.tiny(steps)
    chosen = replace(chosen, training=replace(chosen.training, seed=seed))
    model = kind(tiny_net(pretrained=True), classes, chosen, seed=seed).to(device())
    if name == "Fast R-CNN":
        model.normalise_targets(train_on)
    train(model, mirrored(train_on.dataset if name in OWN else train_on, seed), chosen.training, progress=False)
    return model


@contextmanager
def clocked(owner: nn.Module, method: str, laps: Counter, name: str) -> Iterator[None]:
    """Milliseconds in a method of one module, and how many images or windows its first argument holds."""
    original = getattr(owner, method)

    def run(*args):
        start = process_time()
        output = original(*args)
        laps[name] += 1000 * (process_time() - start)
        laps[f"inputs of {name}"] += len(args[0])
        return output

    setattr(owner, method, run)
    try:
        yield
    finally:
        delattr(owner, method)  # the class has its own


def tested(name: str, model: nn.Module, test: Dataset) -> dict:
    """What a detector finds, and the milliseconds of an image by stage."""
    laps, images = Counter(), [test[index][0] for index in range(len(test))]
    with ExitStack() as clocks:
        clocks.enter_context(clocked(model.get_submodule(CONVOLUTIONS[name]), "forward", laps, "convolutions"))
        if name in OWN:
            for method in ("forward", "propose"):
                clocks.enter_context(clocked(model.rpn, method, laps, "proposals"))
        start = process_time()
        found, targets = predict(model, test.dataset if name in OWN else test, progress=False)
        laps["all"] = 1000 * (process_time() - start)
    each = {stage: laps[stage] / len(test) for stage in ("proposals", "convolutions")}
    each["regions"] = laps["all"] / len(test) - sum(each.values())
    if name in OWN:
        boxes = [model.proposals([image.to(device())])[0].cpu() for image in images]
    else:
        boxes = [test.target(index)["proposals"] for index in range(len(test))]
        start = process_time()
        for image in images[:TIMED]:
            selective_search(image, top=PROPOSALS)
        each["proposals"] = 1000 * (process_time() - start) / TIMED
    covered = recall(boxes, targets, top=PROPOSALS).tolist()
    return measure(found, targets, model.classes) | by_size(found, targets, model.classes) | {
        "recall at 0.5": round(covered[0], 4),
        "recall at 0.7": round(covered[1], 4),
        **{f"milliseconds, {stage}": round(value, 1) for stage, value in each.items()},
        "milliseconds": round(sum(each.values()), 1),
        "passes": round(laps["inputs of convolutions"] / len(test), 1),
    }  # fmt: skip


def lines(name: str) -> int:
    """How many lines that are not empty hold a detector."""
    files = ((PACKAGE / f"{file}.py").read_text(encoding="utf-8") for file in MODULES[name])
    return sum(bool(line.strip()) for text in files for line in text.splitlines())


def peak() -> int:
    """The most memory that this process has had, kilobytes; on Linux."""
    from resource import RUSAGE_SELF, getrusage  # not there on Windows

    return getrusage(RUSAGE_SELF).ru_maxrss


def climbed(name: str, data: str, seed: int) -> dict:
    """One detector's row: what it reaches, and what that takes."""
    torch.set_num_threads(1)
    parts = pictures(data, seed)
    for part in parts.values():  # proposals first: they are not counted as training
        for index in range(len(part)):
            part.target(index)
    before, start = peak(), process_time()
    model = fitted(name, seed, parts).eval()
    seconds, after = process_time() - start, peak()
    return tested(name, model, parts["test"]) | {
        "seconds": round(seconds, 1),
        "megabytes": round((after - before) / 1024),  # the peak of training above what lay there before
        "stages": 4 if name in STAGED else 1,
        "weights": sum(p.numel() for p in model.parameters()),
        "lines": lines(name),
    }


def ladder(data: str) -> Callable[[int], dict[str, dict]]:
    """The five detectors on one data set, each in a process of its own, whose memory is measured."""

    def run(seed: int) -> dict[str, dict]:
        rungs = shared.kept("rungs")
        with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
            return {
                name: rungs.get((name, steps, data, seed, VAL), lambda: pool.submit(climbed, name, data, seed).result())  # noqa: B023
                for name, steps in STEPS.items()
            }

    return run


EXPERIMENTS = {
    f"ladder_{data}": Experiment(
        "R-CNN to FPN", ("X-09",), ladder(data), {"proposals": PROPOSALS, "val": VAL, "steps": STEPS}
    )
    for data in ("shapes", "bccd")
}
