"""The ladder's records as a table and as points: R-CNN to FPN, with the papers' figures beside ours (X-09)."""

from collections.abc import Callable, Sequence
from statistics import mean, stdev

from rcnn_tutorial.course.records import by_variant, load

DETECTORS = ("R-CNN", "SPPnet", "Fast R-CNN", "Faster R-CNN", "FPN")
PROPOSERS = ("selective search", "selective search", "selective search", "a network", "a network")
SHIPPED = {  # the detectors of the package, trained on all scenes: record, part
    "R-CNN": ("rcnn", "CNN + SVM + regression"),
    "SPPnet": ("sppnet", "CNN + SVM + regression"),
    "Fast R-CNN": ("fast_rcnn", "Fast R-CNN"),
    "Faster R-CNN": ("faster_rcnn", "Faster R-CNN"),
    "FPN": ("fpn", "FPN"),
}
CHANGES = {  # what each step of the ladder changes, and the two variants between which it lies
    "maps of five sizes, shared by all windows": ("R-CNN", "SPPnet"),
    "one network, one loss, one size": ("SPPnet", "Fast R-CNN"),
    "RoIAlign, four smaller images in a batch": ("Fast R-CNN", "Fast R-CNN, RoIAlign"),
    "learned proposals": ("Fast R-CNN, RoIAlign", "Faster R-CNN"),
    "a pyramid": ("Faster R-CNN", "FPN"),
}


def _plain(value: float) -> str:
    return f"{value:,.0f}"


def _share(value: float) -> str:
    return f"{value:.3f}"


X_LABEL = "milliseconds per image, proposals included, one CPU thread (log scale)"
Row = tuple[str, str, Callable[[float], str], bool]
ROWS: tuple[Row, ...] = (  # title, metric, format, whether its spread is shown
    ("AP", "AP", _share, True),
    ("AP50", "AP50", _share, True),
    ("AP75", "AP75", _share, True),
    ("AP, smallest third", "AP_small_third", _share, True),
    ("AP, middle third", "AP_middle_third", _share, True),
    ("AP, largest third", "AP_large_third", _share, True),
    ("AP, COCO's small", "AP_small", _share, True),
    ("AP, COCO's medium", "AP_medium", _share, True),
    ("AP, COCO's large", "AP_large", _share, True),
    ("recall of 200 proposals, IoU 0.5", "recall at 0.5", _share, True),
    ("recall of 200 proposals, IoU 0.7", "recall at 0.7", _share, True),
    ("ms per image", "milliseconds", _plain, False),
    ("of these: proposals", "milliseconds, proposals", _plain, False),
    ("convolutions", "milliseconds, convolutions", _plain, False),
    ("all that is done to regions", "milliseconds, regions", _plain, False),
    ("seconds of training", "seconds", _plain, False),
    ("stages of training", "stages", _plain, False),
    ("passes per image", "passes", _plain, False),
    ("memory in training, MB", "megabytes", _plain, False),
    ("weights, thousands", "weights", lambda value: _plain(value / 1000), False),
    ("lines of code", "lines", _plain, False),
)
PAPERS = {  # Fast R-CNN's tables 1 and 4 (L), Faster R-CNN's 3 and 5, FPN's 3 and 5 and its section 5.2.2
    "mAP, VOC 2007, VGG16, % (SPPnet's training left difficult objects out)": ("66.0", "63.1", "66.9", "69.9", ""),
    "AP, COCO minival, ResNet-50, %": ("", "", "", "31.6", "33.9; 34.3 with shared maps"),
    "seconds per image, VGG16 on a GPU; the first three without proposals": ("47.0", "2.3", "0.32", "0.198", ""),
    "seconds per image, ResNet-50 on a newer GPU": ("", "", "", "0.32", "0.148"),
    "hours of training, GPU": ("84", "25", "9.5", "", ""),
    "passes per image": ("about 2,000", "5", "1", "1", "1"),
    "proposals per image": ("about 2,000", "about 2,000", "about 2,000", "300; 1,000 on COCO", "1,000"),
}


def table(record: dict, spread: bool = True) -> dict[str, list[str]]:
    """For each property of the detectors its value for each of `DETECTORS`: the mean over seeds and, if so wished,
    the standard deviation.

    Args:
        record: of `experiments.run ladder_...`.
        spread: with standard deviations, where training decides the value.
    """
    found = {}
    for title, metric, form, varies in ROWS:
        values = by_variant(record, metric)
        found[title] = [
            form(mean(values[name])) + (f" ± {form(stdev(values[name]))}" if spread and varies else "")
            for name in DETECTORS
        ]
    return found


def shipped(metric: str = "AP") -> list[float]:
    """What the detectors of the package reach on all test scenes; one training each."""
    return [load(name)["test"][part][metric] for name, part in SHIPPED.values()]


def under(record: dict) -> dict[str, dict[str, str]]:
    """For `draw.trade_off`: what stands below the points."""
    return {title: dict(zip(DETECTORS, cells, strict=True)) for title, cells in _kinds(table(record)).items()}


def _kinds(known: dict[str, list[str]]) -> dict[str, Sequence[str]]:
    return {"proposals": PROPOSERS} | {title: known[title] for title in ("passes per image", "stages of training")}


def summary(found: dict[str, dict]) -> dict[str, list[str]]:
    """The rows that fit on one page, of records of several data sets, and the papers' accuracies and times.

    Args:
        found: from a data set's name to its record.
    """
    first = table(next(iter(found.values())), spread=False)
    rows = _kinds(first)
    for name, record in found.items():
        rows[f"AP, {name}"] = table(record)["AP"]
    rows["AP, shapes, the package's own detectors"] = [_share(value) for value in shipped()]
    rows |= {title: first[title] for title in ("AP, smallest third", "ms per image", "seconds of training")}
    return rows | {f"paper: {title}": list(PAPERS[title]) for title in list(PAPERS)[:4]}


def markdown(rows: dict[str, Sequence[str]], detectors: Sequence[str] = DETECTORS) -> str:
    """A table with a column for each detector, as Markdown."""
    lines = [("", *detectors), ("---",) * (1 + len(detectors)), *((title, *cells) for title, cells in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def points(record: dict, x: str = "milliseconds", y: str = "AP") -> dict[str, dict[str, list[float]]]:
    """For `draw.trade_off`: of each detector x and y of every seed."""
    across, up = by_variant(record, x), by_variant(record, y)
    return {name: {"x": across[name], "y": up[name]} for name in DETECTORS}


def shipped_points(record: dict) -> dict[str, dict[str, list[float]]]:
    """For `draw.trade_off`: the accuracy of the package's own detectors, and the time of the same networks in a record.

    Args:
        record: of `experiments.run ladder_shapes`, whose times are taken.
    """
    across = by_variant(record, "milliseconds")
    return {name: {"x": [mean(across[name])], "y": [ap]} for name, ap in zip(DETECTORS, shipped(), strict=True)}


def gains(record: dict, metric: str = "AP") -> dict[str, list[float]]:
    """For `draw.gains`: what each change adds with every seed."""
    values = by_variant(record, metric)
    return {
        change: [new - old for new, old in zip(values[after], values[before], strict=True)]
        for change, (before, after) in CHANGES.items()
    }
