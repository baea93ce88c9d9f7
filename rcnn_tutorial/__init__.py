"""Two-stage object detection, from R-CNN to FPN: the package behind the notebooks.

`import rcnn_tutorial` loads nothing else. The names below are imported from their modules when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rcnn_tutorial.app.detect import detect
    from rcnn_tutorial.app.evaluate import evaluate
    from rcnn_tutorial.app.train import fit
    from rcnn_tutorial.data import load_dataset
    from rcnn_tutorial.detectors import build, load
    from rcnn_tutorial.evaluation import coco_ap, predict, voc_ap
    from rcnn_tutorial.training import TrainSettings, train

    __version__: str

__all__ = [
    "TrainSettings",
    "build",
    "coco_ap",
    "detect",
    "evaluate",
    "fit",
    "load",
    "load_dataset",
    "predict",
    "train",
    "voc_ap",
]

_MODULES = {
    "TrainSettings": "training",
    "build": "detectors",
    "coco_ap": "evaluation",
    "detect": "app.detect",
    "evaluate": "app.evaluate",
    "fit": "app.train",
    "load": "detectors",
    "load_dataset": "data",
    "predict": "evaluation",
    "train": "training",
    "voc_ap": "evaluation",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        value = _version()
    elif name in _MODULES:
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # so that Python finds it there the next time
    return value


def _version() -> str:
    from importlib import metadata  # here, because it takes ten times as long to import as this module

    try:
        return metadata.version("rcnn-tutorial")
    except metadata.PackageNotFoundError:  # a folder of the sources that was never installed
        return "unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
