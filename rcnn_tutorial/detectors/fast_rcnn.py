"""Fast R-CNN: one network, one loss (Girshick, ICCV 2015).

    images -> convolutions -> maps -+
    proposals ----------------------+-> RoI pooling -> fc6, fc7 -+-> class scores
                                                                 +-> box offsets, for each class

The paper turns a pre-trained classifier into a detector by three changes (section 2.2): its last max-pooling becomes
RoI pooling, its last layer becomes two, and it takes images and their proposals. Then everything is trained at once,
which R-CNN and SPPnet do in stages. Proposals still come from outside: here it is the two-stage detector of
`two_stage.py` whose proposals are given.

What is its own stays in this file: the surgery, the normalisation of the offsets by their statistics in the data set,
the choice among several scales, and fully connected layers made thin by truncated SVD.

Otherwise than in the paper, a mini-batch is counted per image, 64 windows where two images share 128, and windows are
compared with objects in the pixels of the resized image.

What cost accuracy when it was wrong: offsets that are not normalised are so small that the class loss outweighs them;
background windows from an IoU of 0 on help a network that has met few empty places.
"""

from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from rcnn_tutorial.data.targets import trained_on
from rcnn_tutorial.data.wrappers import check_classes, target_of
from rcnn_tutorial.detectors.sppnet import closest_scale
from rcnn_tutorial.detectors.two_stage import TwoStage, TwoStageSettings, given
from rcnn_tutorial.engine.checks import as_rois, expect
from rcnn_tutorial.engine.devices import grouped
from rcnn_tutorial.nets.backbones import VGG16, ConvNet, receptive_field, smallest_side
from rcnn_tutorial.nets.preprocess import Batch, Preprocess
from rcnn_tutorial.ops.assign import FOREGROUND, match
from rcnn_tutorial.ops.boxes import box_iou, decode, encode
from rcnn_tutorial.ops.warp import IMAGENET_MEAN
from rcnn_tutorial.saving import describe
from rcnn_tutorial.training import TrainSettings


@dataclass(frozen=True)
class FastRCNNSettings(TwoStageSettings):
    """Fast R-CNN's settings; the defaults are the paper's.

    Attributes: those of TwoStageSettings, and
        scales: several shorter sides in place of `min_size`: training draws one for each batch, and in detection each
            window reads the one that shows it nearest `side` x `side` (section 2.4). Empty for none.
        side: pixels.
    """

    rpn: None = None
    rois: int = 64  # section 2.3: 128 from two images
    training: TrainSettings = TrainSettings(40_000, batch_size=2, lr=1e-3, weight_decay=5e-4, milestones=(30_000,))
    scales: tuple[int, ...] = ()
    side: float = 224

    @classmethod
    def tiny(cls, steps: int = 600, **changes) -> "FastRCNNSettings":
        """The laptop's: images half as large again, all layers trained, a short training at a higher rate."""
        training = TrainSettings(steps, batch_size=2, lr=0.02, schedule="cosine", warmup=steps // 10, clip_norm=10.0)
        tiny = {"min_size": 288, "max_size": None, "side": 64, "training": training}
        return cls(**(tiny | {"background": (0.0, 0.5), "nms_threshold": 0.4} | changes))


class FastRCNN(TwoStage):
    """The detector, made of a classifier.

    Args:
        net: pre-trained; its convolutions, fc6 and fc7 become the detector's own.
        classes: names, background first.
        settings: of the detector.
        mean, std: RGB in [0, 1], what normalises the pixels.
        seed: of the new layers, and of `generator`, which draws the mini-batches.
    Raises:
        ValueError: a network whose last convolution has no pooling to replace, or a spatial pyramid of several levels.
    """

    name = "fast_rcnn"
    target_mean: Tensor
    target_std: Tensor

    def __init__(
        self,
        net: ConvNet,
        classes: Sequence[str],
        settings: FastRCNNSettings | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = (1.0, 1.0, 1.0),
        seed: int = 0,
    ):
        settings, parts = settings or FastRCNNSettings(), without_pooling(net)
        super().__init__(**parts, classes=classes, settings=settings, mean=mean, std=std, seed=seed)
        self.network = describe(net)
        self.register_buffer("target_mean", torch.zeros(4))  # until `normalise_targets` sets both
        self.register_buffer("target_std", 1 / torch.tensor(settings.weights))
        longest, divisor, smallest = settings.max_size, settings.divisor, parts["smallest"]
        self.scales = [Preprocess(mean, std, scale, longest, divisor, smallest) for scale in settings.scales]

    def normalise_targets(self, dataset: Dataset) -> None:
        """Set the mean and deviation of the four offsets, over all foreground windows of a data set (section 2.3).

        Args:
            dataset: of (image, target) with `target["proposals"]` (M, 4).
        Raises:
            ValueError: fewer than two foreground windows.
        """
        offsets, classes = [], check_classes(self, dataset)
        for index in range(len(dataset)):  # pyright: ignore[reportArgumentType]
            target = trained_on(target_of(dataset, index, classes))
            windows = torch.cat((target["proposals"], target["boxes"])).clamp(min=0)  # as in training
            truth, state = match(box_iou(windows, target["boxes"]), self.settings.foreground, (0.0, 0.0))
            positive = state == FOREGROUND
            offsets.append(encode(target["boxes"][truth[positive]], windows[positive]))
        every = torch.cat(offsets).double()
        expect(len(every) >= 2, "dataset", "two foreground windows at least", len(every))
        self.target_mean.copy_(every.mean(dim=0))
        self.target_std.copy_(every.std(dim=0).clamp(min=1e-6))

    def encode(self, boxes: Tensor, reference: Tensor) -> Tensor:
        """The normalised offsets that the head is to predict."""
        return (encode(boxes, reference) - self.target_mean) / self.target_std

    def decode(self, offsets: Tensor, reference: Tensor) -> Tensor:
        """The box that each class makes of each window: (R, K, 4) and (R, 4) to (R, K, 4)."""
        return decode(offsets * self.target_std + self.target_mean, reference[:, None])

    def maps(self, images: Sequence[Tensor]) -> tuple[Batch, list[Tensor]]:
        """The images as one tensor, at one of the scales drawn at random where there are several, and their map."""
        if not self.scales:
            return super().maps(images)
        batch = self.scales[int(torch.randint(len(self.scales), (), generator=self.generator))](images)
        return batch, [self.body(batch.tensor)]

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> list[dict[str, Tensor]]:
        """Detections of images with their proposals, each window read at the scale that suits its size."""
        if not self.scales or proposals is None:
            return super().detect(images, proposals)
        batches = [preprocess(images) for preprocess in self.scales]
        boxes = [given(batch, proposals) for batch in batches]  # (B, P, 4) at each scale
        windows = zip(batches[0].to_original(boxes[0]), batches[0].originals, strict=True)
        scales, side = self.settings.scales, self.settings.side
        chosen = torch.cat([closest_scale(window, size, scales, side) for window, size in windows])  # (B P,)
        order, counts = grouped(chosen, len(scales))  # scale after scale
        rois = [as_rois(list(scaled), batch.tensor) for batch, scaled in zip(batches, boxes, strict=True)]  # (B P, 5)
        read = zip(batches, rois, order.split(counts.tolist()), strict=True)
        parts = [self.pool_map(self.body(batch.tensor), own[rows], self.strides[0]) for batch, own, rows in read]
        pooled = torch.cat(parts)[order.argsort()]  # (B P, C, n, n), in the order of the boxes
        return self.classify(batches[0], pooled, boxes[0])


def without_pooling(net: ConvNet) -> dict[str, Any]:
    """The parts of a classifier as `TwoStage` takes them, its last pooling left out for RoI pooling to replace.

    VGG16's layers below conv3_1 are not trained (section 4.5).

    Raises:
        ValueError: a spatial pyramid of several levels, or no pooling after the last convolution.
    """
    last, body = net.layers[-1], net.convs
    if net.levels:
        expect(len(net.levels) == 1, "net", "one level, as fc6 is to read RoIs", net.levels)
        (output_size,) = net.levels
    else:
        *convs, block = cast(list[nn.Sequential], list(net.convs))
        expect(isinstance(block[-1], nn.MaxPool2d), "net", "a pooling after the last convolution", block[-1])
        body = nn.Sequential(*convs, block[:-1])
        output_size = isqrt(net.pool5_length // last.channels)
    layers = (*net.layers[:-1], replace(last, pool=0))
    stride = receptive_field(layers).stride
    body[: 4 if net.layers == VGG16 else 0].requires_grad_(False)
    return {
        "body": body,
        "strides": (stride,),
        "channels": last.channels,
        "hidden": nn.Sequential(OrderedDict(flatten=nn.Flatten(), fc6=net.fc6, fc7=net.fc7)),
        "width": net.classifier.in_features,
        "output_size": output_size,
        "smallest": max(stride, smallest_side(layers)),
    }


def truncated_svd(layer: nn.Linear, rank: int) -> nn.Sequential:
    """Two thin layers in place of a thick one: W (u x v) is about U_t (u x t) times S_t V_t^T (t x v).

    Args:
        layer: with v inputs and u outputs; it stays as it is.
        rank: t, how many singular values are kept.
    Returns:
        Two linear layers and nothing between them: S_t V_t^T without a bias, then U_t with the layer's bias. They have
        t (u + v) weights, on the layer's device and of its type. The squared differences from W sum to the squares of
        the singular values left out.
    Raises:
        ValueError: a rank outside 1..min(u, v).
    Source: Fast R-CNN, section 3.1.
    """
    full = min(layer.out_features, layer.in_features)
    expect(1 <= rank <= full, "rank", f"1 to {full}", rank)
    weight = layer.weight.detach()
    exact = torch.promote_types(weight.dtype, torch.float32)
    left, sigma, right = torch.linalg.svd(weight.to(exact), full_matrices=False)  # (u, m), (m,), (m, v)
    first = nn.Linear(layer.in_features, rank, bias=False, device="meta")  # meta: draws no random weights
    second = nn.Linear(rank, layer.out_features, bias=layer.bias is not None, device="meta")
    first.weight = nn.Parameter((sigma[:rank, None] * right[:rank]).to(weight.dtype).contiguous())
    second.weight = nn.Parameter(left[:, :rank].to(weight.dtype).contiguous())
    if layer.bias is not None:
        second.bias = nn.Parameter(layer.bias.detach().clone())
    return nn.Sequential(first, second).train(layer.training)


def compress(module: nn.Module, ranks: dict[str, int]) -> nn.Module:
    """A copy of a trained module with some of its linear layers replaced by `truncated_svd`.

    Args:
        module: it stays as it is.
        ranks: from the names of the layers, as in `module.named_modules()`, to their ranks, such as
            {"head.hidden.fc6.0": 1024}.
    Returns:
        The copy; it shares no weight with the module.
    Raises:
        ValueError: no linear layer has the name, or a rank does not suit its layer.
    Source: Fast R-CNN, section 3.1.
    """
    linear = [name for name, layer in module.named_modules() if name and isinstance(layer, nn.Linear)]
    for name in ranks:
        expect(name in linear, "ranks", f"names of linear layers, {linear}", repr(name))
    module = deepcopy(module)
    if isinstance(module, TwoStage):
        module.network = None  # it is another network now, which no file can describe
    for name, rank in ranks.items():
        module.set_submodule(name, truncated_svd(cast(nn.Linear, module.get_submodule(name)), rank))
    return module
