"""A detector's answers for a whole data set."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm.auto import tqdm

from rcnn_tutorial.data.targets import check_target
from rcnn_tutorial.data.wrappers import check_classes


@torch.no_grad()
def predict(
    model: nn.Module,
    dataset: Dataset,
    batch_size: int = 4,
    limit: int | None = None,
    progress: bool = True,
    workers: int = 0,
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
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
        detections and targets, one dict per image each, on the CPU. Of masks, which are large, a target keeps the
        `area` (N,) in square pixels, which is all that `coco_ap` reads.
    Raises:
        ValueError: a batch size or limit under 1, other classes than the model's, a target that is none.
    """
    for name, value in (("batch_size", batch_size), ("limit", 1 if limit is None else limit)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    count = len(dataset) if limit is None else min(limit, len(dataset))
    classes = check_classes(model, dataset)
    part = Subset(dataset, range(count))
    loader = DataLoader(part, batch_size, num_workers=workers, collate_fn=list, generator=torch.Generator())
    parameter = next(model.parameters(), torch.empty(0))
    detections, targets = [], []
    with eval_mode(model), tqdm(total=count, disable=not progress, leave=False, unit="image") as bar:
        for batch in loader:
            images = [image.to(parameter.device) for image, _ in batch]
            more = {}
            if "proposals" in batch[0][1]:
                more["proposals"] = [target["proposals"].to(parameter.device) for _, target in batch]
            for answer in model(images, **more):
                detections.append({key: value.cpu() for key, value in answer.items()})
            for _, target in batch:
                target = check_target(target, f"dataset[{len(targets)}]", classes, area=False)
                targets.append(_without_masks(target))
            bar.update(len(batch))
    return detections, targets


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Inside it a model detects; afterwards each of its modules is in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]  # frozen parts may already be in eval mode
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _without_masks(target: dict[str, Tensor]) -> dict[str, Tensor]:
    target = dict(target)
    if "masks" in target:
        area = target.pop("masks").flatten(1).sum(1)
        target.setdefault("area", area)
    return target
