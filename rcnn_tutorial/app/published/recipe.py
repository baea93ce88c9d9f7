"""What a recipe is: the complete settings behind a published figure, and what a run of it costs."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.data import data_root
from rcnn_tutorial.data.dataset import DetectionDataset
from rcnn_tutorial.data.splits import Splits, load_splits
from rcnn_tutorial.data.transforms import Augment
from rcnn_tutorial.data.voc import VOC_CLASSES, VOCDetection
from rcnn_tutorial.detectors import build
from rcnn_tutorial.nets.backbones import ConvNet
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
        splits: names of the part that is trained on, and of the part that the figure is measured on.
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
        several = f"torchrun --nproc_per_node={self.gpus} -m rcnn_tutorial"
        return f"{'rcnn-tutorial' if self.gpus == 1 else several} train {self.data} --recipe {self.name}"

    def build(
        self, classes: Sequence[str], pretrained: bool = True, net: nn.Module | None = None, seed: int = 0
    ) -> Any:
        """Make the detector, ready to be trained.

        Args:
            classes: names, background first.
            pretrained: start from torchvision's weights, which are downloaded at the first use; else from random ones.
            net: a pre-trained network of your own instead.
            seed: of all random weights, and of the mini-batches.
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
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
            torch.manual_seed(seed)
            net = net or network.make(network.weights if pretrained else None)
        if self.detector in FITTED:
            cast(ConvNet, net).replace_classifier(len(classes), torch.Generator().manual_seed(seed))
            return build(self.detector, classes, self.settings, net)
        return build(self.detector, classes, self.settings, net, seed=seed)

    def splits_of(self, data: str | os.PathLike) -> Splits:
        """Read the data: the part that is trained on, and the part that the figure is measured on.

        Args:
            data: the folder of VOC 2007 or of COCO 2017, or the name of one that `rcnn-tutorial data fetch` got.
        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: a folder of something else, or bad files.
        """
        if self.data == "coco2017":
            return load_splits(data, masks=self.detector == "mask_rcnn")
        root = _voc_folder(Path(data))
        trained, val, test = (VOCDetection(root, split, VOC_CLASSES) for split in ("trainval", "val", "test"))
        note = (
            "It is trained on all pictures of trainval, as it was published. Those of val are a part of them: what is "
            "measured there during the training is too good. The published figure is of test."
        )
        return Splits(str(data), "PASCAL VOC", trained.classes, trained, val, test, (note,))

    def prepared(self, part: Dataset, training: bool, cache: FeatureCache | None = None) -> Dataset:
        """Give pictures as the detector of this recipe wants them: with proposals, mirrored, without empty pictures.

        Args:
            part: of the data, as `splits_of` reads it.
            training: whether it is to be trained on; otherwise no picture is mirrored or left out.
            cache: for proposals; without one they stay in memory.
        """
        if training and self.with_objects:
            counts = cast(DetectionDataset, part).object_counts()
            part = Subset(part, [index for index, count in enumerate(counts) if count])
        if self.proposals is not None:
            part = WithProposals(part, selective_search, cache, **self.proposals)
        if training and self.flip:
            part = Augment(part, self.training.seed, flip=self.flip, jitter=0.0, scale=(1.0, 1.0))
        return part


def _voc_folder(data: Path) -> Path:
    """The folder that holds VOC 2007's JPEGImages, in or at what the user gave."""
    root = data_root() / data if data == Path("voc2007") and not data.exists() else data
    for folder in (root, root / "VOC2007", root / "VOCdevkit" / "VOC2007"):
        if (folder / "Annotations").is_dir():
            return folder
    raise FileNotFoundError(f"There is no VOC 2007 in {root}. Get it by: rcnn-tutorial data fetch voc2007")


def recipe(name: str, stated: Callable[[], Any], *used: Callable, **facts: Any) -> Recipe:
    """Make a recipe of the function that states its settings, and keep its source text and that of those it uses."""
    code = "\n\n".join(inspect.getsource(function) for function in (stated, *used))
    return Recipe(name, settings=stated(), code=code, **facts)
