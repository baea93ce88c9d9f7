"""The report on a data set as a person reads it: a table, sentences, and a page of its pictures."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rcnn_tutorial.course import draw
from rcnn_tutorial.data.dataset import DetectionDataset
from rcnn_tutorial.data.report import MEANINGS, SIZES, Finding, Report
from rcnn_tutorial.data.splits import many

SHORT = {
    "leakage": "in two splits",
    "twice": "there twice",
    "double": "marked twice",
    "thin": "very thin",
    "whole": "nearly the whole picture",
    "size": "of another size",
}  # what stands under a picture
LISTED = 3  # findings of a kind that are told with their file
BAD_LISTED = 10  # bad files that are told
PER_KIND = 3  # pictures of a kind of findings on the page, as long as there are other kinds
CROWDED = 15  # objects in a picture from which on their names are left out
COLUMNS, ROWS = 3, 4  # of the page
TALLEST = 1.5  # height / width of a panel; a taller picture is drawn smaller
TITLE = 34  # letters that fit above a picture


def as_text(report: Report) -> str:
    """Tell a report in words and tables, which fit on a terminal of 80 columns.

    Args:
        report: of `examine`.
    Returns:
        Lines of text.
    """
    lines = [f"{report.name}: {report.layout}", *report.notes, ""]
    lines += [*_counts(report), "", *_classes(report), ""]
    if report.bad_files:
        lines.append(f"{many(len(report.bad_files), 'file')} cannot be read:")
        lines += [f"  {file}: {reason}" for file, reason in list(report.bad_files.items())[:BAD_LISTED]]
        lines += _more(len(report.bad_files) - BAD_LISTED)
    for kind, meaning in MEANINGS.items():
        findings = [finding for finding in report.findings if finding.kind == kind]
        if findings:
            lines += [f"{len(findings)} x {meaning}:", *(f"  {finding.text}" for finding in findings[:LISTED])]
            lines += _more(len(findings) - LISTED)
    if not report.bad_files and not report.findings:
        lines.append("Nothing looks like a mistake.")
    return "\n".join(lines)


def _more(count: int) -> list[str]:
    return [f"  and {count} more"] if count > 0 else []


def _counts(report):
    """A column for each split, and a line for each count that is not zero in all of them."""
    splits = report.splits.values()
    lines = {
        "pictures": [s.pictures for s in splits],
        "  without objects": [s.empty for s in splits],
        "  without a file of objects": [s.unannotated for s in splits],
        "objects": [s.objects for s in splits],
        "  difficult, not trained on": [s.difficult for s in splits],
        "  crowds, not trained on": [s.crowd for s in splits],
        "  clipped to the picture": [s.clipped for s in splits],
        "left out for want of area": [s.dropped for s in splits],
        "left out, of other classes": [s.left_out for s in splits],
    }
    rows = [[name, *(f"{count:,}" for count in counts)] for name, counts in lines.items() if any(counts)]
    rows.append(["width / height of a box", *(_range(s.aspect) for s in splits)])
    rows.append(["sides of a box, pixels", *(_range(s.sides) for s in splits)])
    rows.append(["size of a picture", *(_sizes(s.picture_sizes) for s in splits)])
    return _table([["", *report.splits], *rows])


def _range(bounds):
    if bounds is None:
        return "-"
    return " to ".join(f"{bound:.2f}" if bound < 10 else f"{bound:.0f}" for bound in bounds)


def _sizes(sizes):
    return next(iter(sizes)) if len(sizes) == 1 else f"{len(sizes)} sizes" if sizes else "-"


def _classes(report):
    """A line for each class, with its objects in each split, and how many of all of them are small or large."""
    rows = []
    for name in report.classes:
        counts = [split.by_class[name] for split in report.splits.values()]
        sizes = [sum(s.by_class_and_size[name][size] for s in report.splits.values()) for size in SIZES]
        rows.append([name, *(f"{count:,}" for count in [*counts, *sizes])])
    sums = [split.objects for split in report.splits.values()]
    sums += [sum(split.by_size[size] for split in report.splits.values()) for size in SIZES]
    rows.append(["all", *(f"{count:,}" for count in sums)])
    return _table([["objects", *report.splits, *SIZES], *rows])


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they need to be; the first one is of words, the others of numbers."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def sheet(report: Report, parts: dict[str, DetectionDataset]) -> Figure:
    """Draw a page of pictures with their boxes, those in which something looks like a mistake first.

    A box that was found suspicious is vermillion, and what was found stands above the picture. All others have the
    colour of their class.

    Args:
        report: of `examine`.
        parts: the splits that it is about.
    Returns:
        A figure of up to 12 pictures.
    """
    shown = _chosen(report.findings, parts)
    assert shown, "nothing was drawn"
    rows = -(-len(shown) // COLUMNS)
    ratios = [height / width for split, index in shown for width, height in [parts[split].size(index)]]
    heights = [min(max(ratios[start : start + COLUMNS]), TALLEST) for start in range(0, len(shown), COLUMNS)]
    size = (10.9, 3.6 * sum(heights) + 0.6 * rows + 0.5)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=size, height_ratios=heights, squeeze=False)
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    panels = list(zip(axes.flat, shown, strict=False))
    for ax, (split, index) in panels:
        draw.picture(parts[split][index][0], ax)
    names = {_color(label): name for label, name in enumerate(report.classes, start=1)}
    if len(names) == len(report.classes):  # else a colour means two classes
        handles = [Line2D([], [], color=color, label=name) for color, name in names.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    figure.draw_without_rendering()  # from here on the panels have their sizes, by which labels find their places
    for ax, place in panels:
        _panel(ax, parts[place[0]], place, [f for f in report.findings if (f.split, f.index) == place])
    return figure


def _chosen(findings: Sequence[Finding], parts: dict[str, DetectionDataset]) -> list[tuple[str, int]]:
    """Split and index of the pictures on the page: a few of each kind of findings, the other findings, and others."""
    first, rest, counts = [], [], dict.fromkeys(MEANINGS, 0)
    for finding in findings:
        if finding.split is not None:
            (first if counts[finding.kind] < PER_KIND else rest).append((finding.split, finding.index))
            counts[finding.kind] += 1
    every = [(name, index) for name, part in parts.items() for index in range(len(part))]
    step = max(1, len(every) // (COLUMNS * ROWS))
    return list(dict.fromkeys([*first, *rest, *every[::step]]))[: COLUMNS * ROWS]


def _color(label: int) -> str:
    """The colour of a class, none of which is that of a mistake."""
    colors = [color for color in draw.COLORS if color != draw.MISTAKE]
    return colors[(label - 1) % len(colors)]


def _panel(ax: Axes, part: DetectionDataset, place: tuple[str, int], findings: Sequence[Finding]) -> None:
    target = part.target(place[1])
    marked = {i for finding in findings for i in finding.objects}
    labels = target["labels"].tolist()
    texts = [part.classes[k] if len(labels) < CROWDED or i in marked else "" for i, k in enumerate(labels)]
    order = sorted(range(len(labels)), key=lambda i: i in marked)  # the marked ones on top
    for i in order:
        style = draw.Style(draw.MISTAKE, 3) if i in marked else draw.Style(_color(labels[i]), 1.5)
        draw.boxes(ax, target["boxes"][i : i + 1], [texts[i]] if texts[i] else None, style)
    draw.part_labels(ax)
    name = f"{place[0]}: {part.path(place[1]).name}"
    ax.set_title(name if len(name) <= TITLE else f"{name[: TITLE - 1]}…", fontsize=12)
    if findings:
        kinds = ", ".join(SHORT[kind] for kind in dict.fromkeys(finding.kind for finding in findings))
        ax.text(0.5, -0.02, kinds, transform=ax.transAxes, ha="center", va="top", fontsize=12,
                color=draw.words(draw.MISTAKE))  # fmt: skip
