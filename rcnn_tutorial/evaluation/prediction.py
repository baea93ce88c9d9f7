"""A detector's answers for a whole data set."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm.auto import tqdm

from rcnn_tutorial.data.masks import encode_masks, mask_areas
from rcnn_tutorial.data.targets import check_target, collate
from rcnn_tutorial.data.wrappers import check_classes, length
from rcnn_tutorial.engine.devices import mapped
from rcnn_tutorial.engine.processes import gathered, process_rank

Predicted = tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]  # detections and targets of each picture


def predict(
    model: nn.Module,
    dataset: Dataset,
    batch_size: int = 4,
    limit: int | None = None,
    progress: bool = True,
    workers: int = 0,
) -> Predicted:
    """Run a detector over a data set, in its order.

    The model runs in eval mode on its own device; afterwards each of its modules is in the mode that it had. Random
    numbers of training are not touched.

    Args:
        model: called as `model(images)`, or as `model(images, proposals=...)` where targets carry `proposals`.
        dataset: of pairs (image, target), of the model's classes.
        batch_size: images at a time.
        limit: only the first so many images; None for all.
        progress: show a bar.
        workers: processes that load images; 0 to load in this one.
    Returns:
        detections and targets, one dict per image each, on the CPU. Masks, which are large, are kept as run lengths:
        `masks` is a list as `data.masks.encode_masks` gives it and `decode_masks` unpacks it. Of a target's masks the
        `area` (N,) in square pixels stays, and the masks themselves where the detector gives masks to compare.
    Raises:
        ValueError: a batch size or limit under 1, other classes than the model's, a target that is none.
    """
    _check(batch_size, limit)
    count = length(dataset) if limit is None else min(limit, length(dataset))
    return _predicted(model, dataset, range(count), batch_size, progress, workers)


def predict_together(
    model: nn.Module,
    dataset: Dataset,
    batch_size: int = 4,
    limit: int | None = None,
    progress: bool = True,
    workers: int = 0,
) -> Predicted:
    """Run a detector over a data set in all processes that `torchrun` started, each on its part of the pictures.

    Every process calls it, with the same weights and the same arguments, and every process gets all detections: the
    same lists in the same order as `predict` gives in one process, since the same pictures share a mini-batch.
    Without `torchrun` it is `predict`.

    Args, Returns, Raises: as for `predict`. The first process shows the bar, of its own part.
    """
    _check(batch_size, limit)
    count = length(dataset) if limit is None else min(limit, length(dataset))
    rank, processes = process_rank()
    batches = [range(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
    mine = [index for batch in batches[rank::processes] for index in batch]
    parts = gathered((mine, _predicted(model, dataset, mine, batch_size, progress and rank == 0, workers)))
    known = {
        index: pair for indices, lists in parts for index, pair in zip(indices, zip(*lists, strict=True), strict=True)
    }
    return [known[index][0] for index in range(count)], [known[index][1] for index in range(count)]


def _check(batch_size: int, limit: int | None) -> None:
    """Refuse numbers of pictures that are none."""
    for name, value in (("batch_size", batch_size), ("limit", 1 if limit is None else limit)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")


@torch.no_grad()
def _predicted(
    model: nn.Module, dataset: Dataset, indices: Sequence[int], batch_size: int, progress: bool, workers: int
) -> Predicted:
    """Detections and targets of some pictures of a data set, in the order of `indices`."""
    classes = check_classes(model, dataset)
    part = Subset(dataset, indices)
    loader = DataLoader(part, batch_size, num_workers=workers, collate_fn=collate, generator=torch.Generator())
    parameter = next(model.parameters(), torch.empty(0))
    detections, targets = [], []
    with eval_mode(model), tqdm(total=len(indices), disable=not progress, leave=False, unit="image") as bar:
        for images, batch_targets in loader:
            more = {}
            if "proposals" in batch_targets[0]:
                more["proposals"] = [target["proposals"].to(parameter.device) for target in batch_targets]
            batch_detections = model([image.to(parameter.device) for image in images], **more)
            for image, target, detected in zip(images, batch_targets, batch_detections, strict=True):
                name = f"dataset[{indices[len(targets)]}]"
                target = check_target(mapped(target, Tensor.cpu), name, classes, area=False, size=image.shape[-2:])
                targets.append(_small(target, keep_masks="masks" in detected))
                detections.append({key: encode_masks(v) if key == "masks" else v.cpu() for key, v in detected.items()})
            bar.update(len(images))
    return detections, targets


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Let a model detect; afterwards each of its modules is in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]  # frozen parts may already be in eval mode
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _small(target: dict, keep_masks: bool) -> dict:
    """The target with the area of its masks, and the masks as run lengths or not at all."""
    if "masks" not in target:
        return target
    small = {key: value for key, value in target.items() if key != "masks"}
    if "area" not in target:
        small["area"] = mask_areas(target["masks"])
    return small | {"masks": encode_masks(target["masks"])} if keep_masks else small
