"""A data set with the proposals that Fast R-CNN and its elders train on and detect with."""

import inspect
from collections.abc import Callable, Sequence

from torch import Tensor
from torch.utils.data import Dataset

from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.data.wrappers import classes_of, layers, length, target_of
from rcnn_tutorial.proposals.selective_search import selective_search


class WithProposals(Dataset):
    """A data set whose targets carry `proposals` (M, 4), computed once for each image.

    Put `Augment` around it, not inside: it moves the proposals with the boxes.

    Args:
        dataset: of (image, target), without random changes.
        propose: called as propose(image, **options), gives (M, 4) boxes in pixels, the best first. R-CNN works with any
            method that proposes boxes (R-CNN, section 2.1).
        cache: keeps the proposals on disk; without one they stay in memory. It knows `propose` by its name, which must
            therefore be that of a function at the top of a module, whose result depends on nothing but its arguments
            (or of an object that states a `__qualname__`).
        options: for `propose`, such as mode="fast" and top=200; plain values.

    Attributes:
        classes: of the data set.
    Raises:
        ValueError: a data set that changes with the epoch: the proposals of one epoch are wrong in the next. A cache
            for a lambda, a function inside a function, a method or an object: others share its name.
    """

    def __init__(
        self,
        dataset: Dataset,
        propose: Callable[..., Tensor] = selective_search,
        cache: FeatureCache | None = None,
        **options,
    ):
        changing = [type(layer).__name__ for layer in layers(dataset) if hasattr(layer, "set_epoch")]
        if changing:
            raise ValueError(
                f"dataset: expected one without random changes, got {changing[0]}; put that around this one"
            )
        name = getattr(propose, "__qualname__", "<object>")
        if cache is not None and ("<" in name or inspect.ismethod(propose)):
            raise ValueError(
                f"propose: a cache knows it by its name, expected a function at the top of a module, got {propose!r}; "
                "give what it depends on as options, or go without a cache"
            )
        self.dataset, self.propose, self.cache, self.options = dataset, propose, cache, options
        self.classes = classes_of(dataset)
        self._known: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return length(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image, target = self.dataset[index]
        if index not in self._known:
            self._known[index] = self._proposals(image)
        return image, {**target, "proposals": self._known[index]}

    def target(self, index: int) -> dict[str, Tensor]:
        """Give the target alone; the image is read only where its proposals are not known yet."""
        if index not in self._known:
            return self[index][1]
        return {**target_of(self.dataset, index, area=False), "proposals": self._known[index]}

    def prepare(self, indices: Sequence[int]) -> None:
        """Compute the proposals of these images, unless a cache on disk shares them between processes."""
        if self.cache is None:
            for index in indices:
                self.target(index)

    def _proposals(self, image: Tensor) -> Tensor:
        if self.cache is None:
            return self.propose(image, **self.options)
        name = f"{self.propose.__module__}.{self.propose.__qualname__}"
        return self.cache.get((name, self.options, image), lambda: self.propose(image, **self.options))
