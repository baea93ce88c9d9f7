"""What a recipe is: the complete settings behind a published figure, and what a run of it costs."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.data.coco import CocoDetection
from rcnn_tutorial.data.dataset import DetectionDataset
from rcnn_tutorial.data.transforms import Augment
from rcnn_tutorial.data.voc import VOC_CLASSES, VOCDetection
from rcnn_tutorial.detectors import build
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.proposals.selective_search import selective_search
from rcnn_tutorial.training import TrainSettings

FITTED = ("rcnn", "sppnet")  # detectors whose last layer has an output for each class, and which `fit` trains


@dataclass(frozen=True)
class Network:
    """The network that a detector starts from.

    Attributes:
        title: as the paper calls it.
        make: called with torchvision's name of the weights, or with None for random ones; gives the network.
        weights: torchvision's name of the pre-trained weights; None where there are none.
        note: how it differs from the paper's, or where else weights are to be had; a full sentence, or nothing.
    """

    title: str
    make: Callable[[str | None], nn.Module]
    weights: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Recipe:
    """The settings behind a published figure, what they should lead to, and what that costs.

    Attributes:
        name: of the recipe.
        detector: its name among `rcnn_tutorial.detectors.DETECTORS`.
        data: "voc2007" or "coco2017".
        splits: the part that is trained on, and the part that the figure is measured on.
        network: that the detector starts from.
        settings: of the detector, and of its training.
        expected: the published figures, from 0 to 1: "mAP" of eleven points (VOC 2007), or "AP" and "mask AP" (COCO).
        source: where they stand.
        hours, memory: of the training; memory in GB, of each GPU unless `cost` says otherwise.
        cost: on which machine, and whether the two are published or our estimate.
        flip: probability that a picture is mirrored, the only augmentation of these recipes.
        proposals: options of selective search, where proposals come from outside.
        with_objects: train on pictures with objects alone.
        gpus: that the published run had.
        differences: what is otherwise here than in the source; full sentences.
        code: the source text of the settings, with the place of each value.
    """

    name: str
    detector: str
    data: str
    splits: tuple[str, str]
    network: Network
    settings: Any
    expected: Mapping[str, float]
    source: str
    hours: float
    memory: float
    cost: str
    code: str
    flip: float = 0.0
    proposals: Mapping[str, Any] | None = None
    with_objects: bool = False
    gpus: int = 1
    differences: tuple[str, ...] = ()

    @property
    def training(self) -> TrainSettings:
        """The settings of the training; of R-CNN and SPPnet those of the fine-tuning."""
        return self.settings.fine_tuning if self.detector in FITTED else self.settings.training

    @property
    def command(self) -> str:
        """The line to type, with as many GPUs as the published run had."""
        folder = {"voc2007": "VOCdevkit/VOC2007", "coco2017": "coco2017"}[self.data]
        several = f"torchrun --nproc_per_node={self.gpus} -m rcnn_tutorial"
        return f"{'rcnn-tutorial' if self.gpus == 1 else several} train {folder} --recipe {self.name}"

    def build(self, classes: Sequence[str], pretrained: bool = True, net: nn.Module | None = None) -> Any:
        """Make the detector, ready to be trained.

        Args:
            classes: names, background first.
            pretrained: start from torchvision's weights, which are downloaded at the first use; else from random ones.
            net: a pre-trained network of your own instead.
        Raises:
            ValueError: there are no pre-trained weights of this network.
        """
        network = self.network
        if net is None and pretrained and network.weights is None:
            raise ValueError(
                f"The recipe {self.name} starts from {network.title}, and torchvision has no weights of it. "
                f"{network.note} Give a pre-trained network by build(classes, net=...), or start from random weights "
                "by pretrained=False; the published figure is out of reach then."
            )
        net = net or network.make(network.weights if pretrained else None)
        if self.detector in FITTED:
            net.replace_classifier(len(classes), torch.Generator().manual_seed(0))  # pyright: ignore[reportCallIssue]
        return build(self.detector, classes, self.settings, net)

    def data_sets(self, folder: str | Path, cache: FeatureCache | None = None) -> tuple[Dataset, Dataset]:
        """Read the two parts of the data: what is trained on, augmented, and what the figure is measured on.

        Args:
            folder: VOC2007, with JPEGImages and Annotations; or the one with annotations, train2017 and val2017.
            cache: for proposals; without one they stay in memory.
        Raises:
            ValueError: no such part, or bad files.
        """
        train, test = (self._read(Path(folder), split) for split in self.splits)
        counts = train.object_counts()
        chosen: Any = Subset(train, [i for i, count in enumerate(counts) if count]) if self.with_objects else train
        measured: Any = test
        if self.proposals is not None:
            chosen, measured = (
                WithProposals(part, selective_search, cache, **self.proposals) for part in (chosen, test)
            )
        if self.flip:
            chosen = Augment(chosen, self.training.seed, flip=self.flip, jitter=0.0, scale=(1.0, 1.0))
        return chosen, measured

    def _read(self, folder: Path, split: str) -> DetectionDataset:
        if self.data == "voc2007":
            return VOCDetection(folder, split, VOC_CLASSES)
        return CocoDetection(folder / split, folder / "annotations" / f"instances_{split}.json")


def recipe(name: str, stated: Callable[[], Any], *used: Callable, **facts: Any) -> Recipe:
    """Make a recipe of the function that states its settings, and keep its source text and that of those it uses."""
    code = "\n\n".join(inspect.getsource(function) for function in (stated, *used))
    return Recipe(name, settings=stated(), code=code, **facts)
