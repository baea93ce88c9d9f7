"""Make docs/benchmarks.md and its pictures of what `python -m benchmarks` recorded: python -m benchmarks.page."""

import json
from io import BytesIO
from os.path import commonprefix
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmarks import measure
from benchmarks.paper_scale import PAPERS
from rcnn_tutorial.cache import fingerprint
from rcnn_tutorial.course.draw.style import COLORS

DOCS = Path(__file__).parent.parent / "docs"
BLUE, ORANGE = COLORS[0], COLORS[4]
DEVICES = {"cpu": "On a CPU", "cuda": "On a GPU"}
AIMS = """| what | ratio that is aimed at |
|---|---|
| NMS, RoI pooling and RoIAlign | at most 1.0, if possible 0.7 |
| FPN on ResNet-50, step and test image, float32 | at most 1.0 |
| FPN on ResNet-50, step and test image, bfloat16, channels-last, compiled | at most 0.67 |
"""
INTRODUCTION = """# Times and memory beside torchvision

`make bench` measures our operators and detectors in turns with torchvision's, and writes this page. The figures are \
those of one machine on one day. They stand in [benchmarks/records](../benchmarks/records), and nobody changes them by \
hand.

A *ratio* is our time divided by torchvision's. It is taken round by round, and the median of the rounds is shown. \
Below 1.0 ours is faster. In the pictures a black line marks 1.0, and the axis of the ratios is logarithmic.

On a CPU a time is the processor's, of one thread, so that other programs on the machine hardly count. On a GPU it is \
the time of the wall, once the GPU has finished its work. *MB* is the most memory in use at once, beyond what was in \
use before the call. The column *rounds* says how often a row was measured after a call that warmed it up. *Cold* \
means that there was time for that first call alone.
"""
SECTIONS = {  # part: heading, what the picture shows
    "nms": (
        "Non-maximum suppression",
        "Faster R-CNN gives NMS 6,000 boxes of a picture in detection and 12,000 in training, and the RPN of the "
        "tutorial gives it 1,000. *Proposals* are moved anchors. *Clustered* boxes lie around objects, as those of a "
        "trained detector do. Of *disjoint* boxes none is dropped, and of a *chain* every second one is.",
    ),
    "pooling": (
        "RoI pooling and RoIAlign",
        "The maps are VGG16's for a picture of 600 x 1000 pixels, the finest of FPN for two pictures of 800 x 1333, "
        "and the small ones of the notebooks. RoIAlign reads 2 x 2 points of a bin, and *adaptive* RoIAlign reads more "
        "points in larger regions.",
    ),
    "tiny": (
        "The tutorial's detectors",
        "Both sides have the same small network, the same weights and the same settings. A *step* is the forward and "
        "the backward pass of a training step. A circle is the ratio of the times, and a square that of the memory.",
    ),
    "papers": (
        "The papers' detectors",
        "A circle is the time of one picture with 2,000 proposals, and a square is the time on the GPU of the paper. "
        "torchvision has none of these detectors. The weights are random, and proposals and NMS are left out. Of the "
        "windows of R-CNN, which are alike, some are computed and the time is multiplied.",
    ),
    "paper": (
        "FPN at the paper's size",
        "FPN on ResNet-50 reads pictures of 800 x 1333 pixels. The weights are random, and both sides have the same. "
        "A GPU alone is measured in bfloat16, too. *bfloat16* means autocast on both sides. *Compiled* means that ours "
        "is in channels-last besides, and that its body and its heads are compiled, while torchvision's runs as it "
        "comes.",
    ),
}
# seconds on the papers' GPUs, by the names of our rows
REPORTED = {
    "R-CNN, ZF-5": PAPERS["SPPnet, ECCV 2014"]["R-CNN"],
    "SPPnet, 1 scale, ZF-5": PAPERS["SPPnet, ECCV 2014"]["SPPnet, 1 scale"],
    "SPPnet, 5 scales, ZF-5": PAPERS["SPPnet, ECCV 2014"]["SPPnet, 5 scales"],
    "R-CNN, VGG16": PAPERS["Fast R-CNN, ICCV 2015"]["R-CNN"],
    "Fast R-CNN, VGG16": PAPERS["Fast R-CNN, ICCV 2015"]["Fast R-CNN"],
    "Fast R-CNN, SVD, VGG16": PAPERS["Fast R-CNN, ICCV 2015"]["Fast R-CNN, SVD"],
}


def records() -> dict[str, dict]:
    """Those that are there, by device."""
    paths = {device: measure.RECORDS / f"bench-{device}.json" for device in DEVICES}
    return {device: json.loads(path.read_text(encoding="utf-8")) for device, path in paths.items() if path.exists()}


def measured(record: dict, part: str) -> list[dict]:
    return [row for row in record["rows"] if row["part"] == part and "left_out" not in row]


def picture_of(device: str, part: str) -> Path:
    return DOCS / f"benchmarks_{device}_{part}.png"


# The text


def text(found: dict[str, dict]) -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for device, heading in DEVICES.items():
        parts.append(f"## {heading}\n")
        parts.append(of_record(device, found[device]) if device in found else MISSING[device])
    parts.append(f"## What is aimed at on a GPU\n\n{AIMS}")
    return "\n".join(parts)


COMMAND = '`make bench BENCH="--device cuda --minutes 5"`'
MISSING = {
    "cpu": 'The figures of a CPU are still to be taken: `make bench BENCH="--device cpu"` writes them.\n',
    "cuda": f"The figures of a GPU are still to be taken: {COMMAND} writes them where a GPU is at hand.\n",
}


def of_record(device: str, record: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    before, after = record["load"]
    parts = [
        f"Measured on {record['date']} on {record['device']} ({record['machine']}), {record['threads']} "
        f"thread{'s' * (record['threads'] != 1)}, with {versions}, at commit {record['commit']}. The run took "
        f"{record['minutes_taken']} of {record['minutes']:g} minutes. The load of the machine was {before} before it "
        f"and {after} after it.\n"
    ]
    for part, (heading, told) in SECTIONS.items():
        parts.append(f"### {heading}, {device.replace('cuda', 'GPU').replace('cpu', 'CPU')}\n\n{told}\n")
        if rows := measured(record, part):
            parts.append(f"![{alternative(part, rows)}]({picture_of(device, part).name})\n")
            parts.append(table(part, rows))
        left_out = [row for row in record["rows"] if row["part"] == part and "left_out" in row]
        parts += [f"Left out: {row['name']}. {row['left_out']}\n" for row in left_out]
    return "\n".join(parts)


def alternative(part: str, rows: list[dict]) -> str:
    """What the picture shows, for who cannot see it."""
    if part == "papers":
        return f"Seconds of a picture for {len(rows)} detectors, beside those of the papers; the table has the numbers."
    below = sum(row["ratio"] < 1 for row in rows)
    return f"Ratios to torchvision: {below} of {len(rows)} are below 1.0; the table has the numbers."


def table(part: str, rows: list[dict]) -> str:
    head, line = (PAPERS_HEAD, papers_line) if part == "papers" else (RATIOS_HEAD, ratios_line)
    dashes = "|---|" + "---:|" * (head.count("|") - 2)
    return "\n".join([head, dashes, *map(line, rows)]) + "\n"


RATIOS_HEAD = "| | ours, ms | torchvision, ms | ratio | ours, MB | torchvision, MB | rounds |"
PAPERS_HEAD = "| | seconds of a picture | the paper's GPU | windows computed | rounds |"


def ratios_line(row: dict) -> str:
    ours, theirs = (number(row[side]) for side in ("ours_ms", "theirs_ms"))
    memory = " | ".join("" if row[side] is None else f"{row[side]:,.1f}" for side in ("ours_mb", "theirs_mb"))
    return f"| {row['name']} | {ours} | {theirs} | {row['ratio']:.2f} | {memory} | {rounds(row)} |"


def papers_line(row: dict) -> str:
    reported = REPORTED.get(row["name"], "")
    return f"| {row['name']} | {number(total(row))} | {reported} | {row['timed']:,} | {rounds(row)} |"


def rounds(row: dict) -> str:
    return str(row["rounds"]) if row["warm"] else "cold"


def total(row: dict) -> float:
    return sum(row["seconds"].values())


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# The pictures


def ratios(part: str, rows: list[dict]) -> Figure:
    """Two points to a row: forward alone and with the backward pass, or time and memory; one for NMS."""
    names = list(dict.fromkeys(split(row["name"])[0] for row in rows))
    series: dict[str, list[tuple[float, int]]] = {}
    for row in rows:
        name, passes = split(row["name"])
        series.setdefault(passes or "time", []).append((row["ratio"], names.index(name)))
        if part in ("tiny", "paper") and row["theirs_mb"]:
            series.setdefault("memory", []).append((row["ours_mb"] / row["theirs_mb"], names.index(name)))
    figure, axes = canvas(names, "ours / torchvision's; left of the black line ours takes less")
    axes.axvline(1, color="black", linewidth=1.5)
    apart = (-0.15, 0.15) if len(series) > 1 else (0.0,)
    for (label, points), marker, color, above in zip(series.items(), "os", (BLUE, ORANGE), apart, strict=False):
        values, places = zip(*points, strict=True)
        axes.plot(values, [place + above for place in places], marker, color=color, markersize=9, label=label)
    if len(series) > 1:
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
    values = [ratio for points in series.values() for ratio, _ in points] + [0.5, 2.0]
    logarithmic(axes, min(values) / 1.15, max(values) * 1.15)
    return figure


def split(name: str) -> tuple[str, str]:
    for ending in ("forward and backward", "forward"):
        if name.endswith(f", {ending}"):
            return name.removesuffix(f", {ending}"), ending
    return name, ""


def seconds(rows: list[dict]) -> Figure:
    """A circle for each detector, and a square at the paper's time."""
    label = "seconds of a picture; the axis is logarithmic and does not start at 0"
    figure, axes = canvas([row["name"] for row in rows], label)
    values = [total(row) for row in rows]
    reported = [(REPORTED[row["name"]], place) for place, row in enumerate(rows) if row["name"] in REPORTED]
    axes.plot(values, range(len(rows)), "o", color=BLUE, markersize=9, label="here")
    axes.plot(*zip(*reported, strict=True), "s", color=ORANGE, markersize=9, label="the paper's GPU")
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    limits = values + [value for value, _ in reported]
    logarithmic(axes, min(limits) / 1.5, max(limits) * 1.5)
    return figure


def canvas(names: list[str], label: str) -> tuple[Figure, Axes]:
    """960 pixels wide, with a row to each name, the first one on top; what all names begin with is its title."""
    start = commonprefix(names).rpartition(", ")[0] if len(names) > 1 else ""
    figure, axes = plt.subplots(figsize=(9.6, 1.3 + 0.33 * len(names)), dpi=100, layout="constrained")
    axes.set_yticks(range(len(names)), [name.removeprefix(f"{start}, ") for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#DDDDDD")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(start, fontsize="medium", loc="left")
    figure.supxlabel(label, fontsize="medium")
    return figure, axes


def logarithmic(axes: Axes, low: float, high: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    steps = (1, 2, 5) if high / low < 100 else (1,)
    ticks = [step * 10.0**power for power in range(-3, 5) for step in steps]
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.grid(axis="x", color="#DDDDDD")


def draw(part: str, rows: list[dict]) -> Figure:
    with plt.rc_context({"font.size": 13}):  # 18 pixels
        return seconds(rows) if part == "papers" else ratios(part, rows)


def comment(rows: list[dict]) -> str:
    """What the picture's file says of the rows that it shows."""
    return fingerprint(rows)


def save(figure: Figure, path: Path, words: str) -> None:
    """In 64 colours, which are enough for points and lines and take a fifth of the bytes."""
    picture, info = BytesIO(), PngInfo()
    figure.savefig(picture)
    info.add_text("Comment", words)
    Image.open(picture).convert("RGB").quantize(64).save(path, pnginfo=info, optimize=True)


def main() -> None:
    found = records()
    for device, record in found.items():
        for part in SECTIONS:
            if rows := measured(record, part):
                figure = draw(part, rows)
                save(figure, picture_of(device, part), comment(rows))
                plt.close(figure)
    page = DOCS / "benchmarks.md"
    page.write_text(text(found), encoding="utf-8")
    print("written to", page)


if __name__ == "__main__":
    main()
