from statistics import mean, stdev

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw.comparison import BLUES
from rcnn_tutorial.evaluation.resampling import student_interval
from rcnn_tutorial.nets.fpn import roi_levels
from tests.course.draw.figures import (
    extents,
    fills,
    key,
    labels,
    looks,
    panels,
    rectangles,
    render,
    texts,
    written,
)

NAMES = ("R-CNN", "SPPnet", "Fast R-CNN", "Faster R-CNN", "FPN")
TABLE = {
    "network passes": dict(zip(NAMES, ("200", "1", "1", "1", "1"), strict=True)),
    "proposals": dict(zip(NAMES, ["selective search"] * 3 + ["learned"] * 2, strict=True)),
}


def staircases():
    sides = torch.logspace(3, 9, 385, base=2)
    boxes = torch.stack((torch.zeros_like(sides), torch.zeros_like(sides), sides, sides), dim=1)
    return sides, {f"s0 = {s0}": roi_levels(boxes, 2, 5, 4, s0) for s0 in (224, 56)}


def test_staircase_marks_a_side():
    sides, levels = staircases()
    draw.staircase(sides, levels, 80)
    render()
    ax = plt.gca()
    first, one, second, other, line = ax.lines
    assert list(first.get_ydata()) == levels["s0 = 224"].tolist() and first.get_drawstyle() == "steps-post"
    assert (one.get_xydata().tolist(), other.get_xydata().tolist()) == ([[80, 2]], [[80, 4]])
    assert first.get_linewidth() > second.get_linewidth() and line.get_xdata() == [80, 80]
    assert ax.get_title() == "80 px: P2 with s0 = 224, P4 with s0 = 56"
    assert [t.get_text() for t in ax.get_yticklabels()] == ["P2", "P3", "P4", "P5"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["8", "16", "32", "64", "128", "256", "512"]
    assert key(ax.get_legend()) == {name: (color, "-") for name, color in zip(levels, draw.COLORS, strict=False)}
    assert [looks(line)[0] for line in (first, one, second, other)] == [draw.COLORS[i] for i in (0, 0, 1, 1)]
    assert labels(ax) == ("side of the region, pixels (log scale)", "level read") and ax.get_xscale() == "log"
    assert (
        torch.equal(torch.as_tensor(first.get_xdata()), sides)
        and list(second.get_ydata()) == levels["s0 = 56"].tolist()
    )


@pytest.mark.parametrize("side, level", [(8, 2), (223.9, 3), (224, 4), (900, 5), (1, 2)])
def test_the_marker_lies_on_the_staircase(side, level):
    sides = torch.tensor([8.0, 112, 224, 448, 512])
    draw.staircase(sides, {"rule": torch.tensor([2, 3, 4, 5, 5])}, side)
    assert plt.gca().lines[1].get_xydata().tolist() == [[side, level]]


def test_staircase_without_a_marker():
    draw.staircase(*staircases())
    assert len(plt.gca().lines) == 2 and not plt.gca().get_title()
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.staircase(torch.ones(3), {})


def test_level_shares_stack():
    draw.level_shares({"s0 = 224": {"P2": 0.88, "P3": 0.12}, "s0 = 56": {"P2": 0.28, "P3": 0.68, "P4": 0.04}})
    render()
    ax = plt.gca()
    assert [r.get_x() for r in rectangles(ax)] == pytest.approx([0, 0.88, 0, 0.28, 0.96])
    assert [r.get_width() for r in rectangles(ax)] == pytest.approx([0.88, 0.12, 0.28, 0.68, 0.04])
    assert fills(ax) == [BLUES[k] for k in (0, 1, 0, 1, 2)]
    assert written(ax) == [  # no room for 4 %
        ("88 %", (0.44, 0)), ("12 %", (0.94, 0)), ("28 %", (0.14, 1)), ("68 %", (0.62, 1)),
    ]  # fmt: skip
    assert ax.get_ylim() == (1.5, -0.5)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["s0 = 224", "s0 = 56"]
    assert key(plt.gcf().legends[0]) == {"P2": BLUES[0], "P3": BLUES[1], "P4": BLUES[2]}
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.level_shares({})


def test_by_size_has_means_spreads_and_seeds():
    draw.by_size({"single": [[0.1, 0.3], [0.4, 0.4], [0.5, 0.7]], "pyramid": [[0.4, 0.6], [0.5, 0.5], [0.6, 0.6]]})
    render()
    ax = plt.gca()
    assert [r.get_height() for r in rectangles(ax)] == pytest.approx([0.2, 0.4, 0.6, 0.5, 0.5, 0.6])
    assert fills(ax) == [draw.COLORS[0]] * 3 + [draw.COLORS[1]] * 3
    bars = [c for c in ax.collections if c.get_linewidth()[0] == 2]
    half = [(top - bottom) / 2 for (_, bottom), (_, top) in bars[0].get_segments()]
    assert half == pytest.approx([0.02**0.5, 0, 0.02**0.5])
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert list(dots[0].get_ydata()) == [0.1, 0.3, 0.4, 0.4, 0.5, 0.7]
    columns = [(x0, x1) for x0, _, x1, _ in extents(ax)]
    assert all(low < x < high for (low, high), pair in zip(columns, dots[0].get_xdata().reshape(3, 2), strict=False)
               for x in pair)  # fmt: skip
    assert all(a[1] < b[0] for a, b in zip(columns[:3], columns[3:], strict=True))
    assert [t.get_text() for t in ax.get_xticklabels()] == ["small", "medium", "large"]
    assert key(plt.gcf().legends[0]) == {"single": draw.COLORS[0], "pyramid": draw.COLORS[1]}
    assert labels(ax) == ("", "AP") and ax.get_ylim()[0] == 0
    assert list(dots[1].get_ydata()) == [0.4, 0.6, 0.5, 0.5, 0.6, 0.6]
    assert [text for text, _ in written(ax)] == ["0.20", "0.40", "0.60", "0.50", "0.50", "0.60"]
    assert all(low < x < high for (_, (x, _)), (low, high) in zip(written(ax), columns, strict=True))  # in its own bar
    assert all(y == 0 for _, (_, y) in written(ax))


GAINS = {"above": (0.1, 0.12, 0.11), "below": (-0.2, -0.24, -0.22), "open": (-0.1, 0.2, 0.02)}
KINDS = {"more": draw.GOOD, "less": draw.BAD, "not decided: the interval includes 0": draw.PALE}


def test_paired_differences_have_their_seeds_mean_and_interval():
    other = dict(zip(GAINS, reversed(GAINS.values()), strict=True))
    draw.paired({"small": GAINS, "large": other}, "AP")
    render()
    left, right = panels()
    assert plt.gcf().get_supxlabel() == "AP: a dot for each seed, bar = 95 % interval of the mean"
    assert [left.get_title(), right.get_title()] == ["small", "large"]
    assert [t.get_text() for t in left.get_yticklabels()] == list(GAINS) and left.get_ylim() == (2.5, -0.5)
    assert left.get_xlim() == right.get_xlim() and left.get_ylim() == right.get_ylim()  # one scale
    colors = (draw.GOOD, draw.BAD, draw.PALE)
    for ax, gains, expected in ((left, GAINS, colors), (right, other, colors[::-1])):
        zero, *drawn = ax.lines
        assert list(zero.get_xdata()) == [0, 0]
        for row, (seeds, color) in enumerate(zip(gains.values(), expected, strict=True)):
            bar, dots, middle = drawn[3 * row : 3 * row + 3]
            low, high = student_interval(mean(seeds), stdev(seeds), 3)
            assert list(bar.get_xdata()) == pytest.approx([low, high]) and list(bar.get_ydata()) == [row, row]
            assert list(dots.get_xdata()) == list(seeds) and all(abs(y - row) < 0.3 for y in dots.get_ydata())
            assert middle.get_xydata().tolist() == [[pytest.approx(mean(seeds)), row]]
            assert to_hex(bar.get_color()).upper() == to_hex(middle.get_color()).upper() == color.upper()
    assert key(plt.gcf().legends[0]) == KINDS


def test_the_mean_of_a_difference_stands_in_its_row_and_on_nothing():
    draw.paired({"all": GAINS})
    render()
    (ax,) = panels()
    assert [text for text, _ in written(ax)] == ["+0.11", "-0.22", "+0.04"]
    assert [y for _, (_, y) in written(ax)] == [0, 1, 2]
    words = [t.get_window_extent() for t in ax.texts]
    assert all(ax.bbox.x0 < box.x0 and box.x1 < ax.bbox.x1 for box in words)
    for line in ax.lines:
        points = ax.transData.transform(line.get_xydata())
        assert not any(box.contains(*point) for box in words for point in points)
    assert not any(box.x0 <= ax.transData.transform((0, 0))[0] <= box.x1 for box in words)
    for nothing in ({}, {"all": {}}):
        with pytest.raises(AssertionError, match="nothing was drawn"):
            draw.paired(nothing)


def test_differences_as_shares_of_a_gain_and_of_a_cost():
    draw.paired({"AP": GAINS, "time": GAINS}, "change", shares=True, costs=("time",))
    render()
    gain, cost = panels()
    assert texts(gain) == texts(cost) == ["+11 %", "-22 %", "+4 %"]
    colors = [[to_hex(line.get_color()).upper() for line in ax.lines[3::3]] for ax in (gain, cost)]
    assert colors == [[draw.GOOD, draw.BAD, draw.PALE], [draw.BAD, draw.GOOD, draw.PALE]]
    better, worse = ("better", "worse")
    assert key(plt.gcf().legends[0]) == {better: draw.GOOD, worse: draw.BAD, list(KINDS)[2]: draw.PALE}
    assert all(tick.get_text().endswith(" %") for tick in gain.get_xticklabels())


def test_by_size_with_the_names_below_the_bars():
    draw.by_size(
        {"single": [[0.1, 0.3], [0.4, 0.4]], "pyramid": [[0.4, 0.6], [0.5, 0.5]]}, ("small", "large"), named=True
    )
    render()
    ax = plt.gca()
    middles = [(x0 + x1) / 2 for x0, _, x1, _ in extents(ax)]  # small and large of one detector, then of the other
    below = {round(x, 6): tick.get_text() for x, tick in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)}
    assert [below[round(x, 6)] for x in middles] == ["single", "single", "pyramid", "pyramid"]
    assert written(ax)[-2:] == [("small", (0, 1.04)), ("large", (1, 1.04))] and not plt.gcf().legends


def test_by_size_of_one_seed_has_no_spread():
    draw.by_size({"single": [[0.1], [0.4]]}, ("below 32 px", "above"), "AP50")
    ax = plt.gca()
    assert not ax.collections and labels(ax) == ("", "AP50") and len(rectangles(ax)) == 2
    assert len(ax.lines) == 1
    draw.by_size({"single": [[0.1], [0.4]]}, ("below 32 px", "above"), dots=False)
    assert not plt.gca().lines and len(rectangles(plt.gca())) == 2
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.by_size({})


def seeds(x, y):
    return {"x": [0.95 * x, 1.05 * x, x], "y": [y - 0.02, y + 0.02, y]}


def test_trade_off_has_points_with_their_spread():
    values = ((2400, 0.46), (390, 0.37), (330, 0.44), (62, 0.55), (88, 0.58))
    draw.trade_off({name: seeds(*v) for name, v in zip(NAMES, values, strict=True)}, TABLE, "ms per image")
    render()
    ax, below = panels()
    assert ax.get_xscale() == "log" and ax.get_xlabel() == "ms per image"
    assert ax.get_ylabel() == f"AP (axis from {ax.get_ylim()[0]:.2f})" and ax.get_ylim()[0] > 0.3
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [dot.get_xydata()[0] for dot in dots] == [pytest.approx(v) for v in values]
    assert [to_hex(dot.get_color()).upper() for dot in dots] == list(draw.COLORS[:5])
    across, up = ([segment for c in ax.collections[k:10:2] for segment in c.get_segments()] for k in (0, 1))
    assert across[0][:, 0] == pytest.approx([2400 - 120, 2400 + 120]) and up[0][:, 1] == pytest.approx([0.44, 0.48])
    arrows = [(t.xyann, t.xy) for t in ax.texts if not t.get_text()]
    assert arrows == [(pytest.approx(a), pytest.approx(b)) for a, b in zip(values, values[1:], strict=False)]
    names = [t for t in ax.texts if t.get_text()]
    assert [(t.get_text(), t.xy) for t in names] == [(n, pytest.approx(v)) for n, v in zip(NAMES, values, strict=True)]
    assert [t.get_color() for t in names] == [draw.words(color) for color in draw.COLORS[:5]]
    heads = {t.get_text(): t.get_color() for t in below.texts if t.get_text() in NAMES}
    assert heads == {t.get_text(): t.get_color() for t in names}


def test_trade_off_without_a_table_is_the_points_alone():
    draw.trade_off({name: seeds(10 * (i + 1), 0.5) for i, name in enumerate(NAMES)}, {}, "ms")
    (ax,) = panels()
    assert labels(ax)[0] == "ms" and set(NAMES) <= set(texts(ax))
    draw.trade_off({name: seeds(10 * (i + 1), 0.5) for i, name in enumerate(NAMES)}, {}, "ms", ladder=False)
    assert plt.gca().get_ylim()[0] == 0 and labels(plt.gca()) == ("ms", "AP")


def test_trade_off_has_a_table_below():
    draw.trade_off({name: seeds(10 * (i + 1), 0.5) for i, name in enumerate(NAMES)}, TABLE, "ms")
    render()
    below = panels()[1]
    assert texts(below) == [
        *NAMES, "network passes", "200", "1", "1", "1", "1",
        "proposals", *["selective\nsearch"] * 3, "learned", "learned",
    ]  # fmt: skip
    places = {t.get_text(): t.get_position() for t in below.texts}
    assert places["200"][0] == places["R-CNN"][0] == 0 and places["FPN"][0] == 4
    assert places["FPN"][1] < places["200"][1] == places["network passes"][1] < places["learned"][1]
    assert below.get_ylim() == pytest.approx((0.45 + 0.45 + 0.7, 0))
    cells = [t.get_window_extent() for t in below.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(cells) for b in cells[:i])
    assert all(plt.gcf().bbox.x0 <= cell.x0 and cell.x1 <= plt.gcf().bbox.x1 for cell in cells)


@pytest.mark.parametrize("values", [
    ((300, 0.5), (301, 0.5), (300, 0.5), (320, 0.5), (300, 0.51)),
    ((3, 0.1), (300, 0.2), (20_000, 0.3), (150_000, 0.7), (900_000, 0.9)),
])  # fmt: skip
def test_names_stay_apart_and_on_the_axes(values):
    draw.trade_off({name: seeds(*v) for name, v in zip(NAMES, values, strict=True)}, TABLE, "ms")
    render()
    ax = panels()[0]
    names = [t.get_window_extent() for t in ax.texts if t.get_text()]
    assert not any(a.overlaps(b) for i, a in enumerate(names) for b in names[:i])
    assert all(ax.bbox.contains(*corner) for name in names for corner in name.corners())
    ticks = [t.get_window_extent() for t in ax.get_xticklabels() if ax.bbox.x0 <= t.get_window_extent().x0]
    assert len(ticks) > 1 and not any(a.overlaps(b) for a, b in zip(ticks, ticks[1:], strict=False))


def test_a_name_leaves_the_arrow_free():
    points = {"first": seeds(100, 0.3), "a detector of two stages, trained": seeds(10, 0.3), "last": seeds(100, 0.9)}
    draw.trade_off(points, {"passes": dict.fromkeys(points, "1")}, "ms")
    render()
    ax = panels()[0]
    name = next(t for t in ax.texts if t.get_text().startswith("a detector"))
    assert all(ax.bbox.contains(*corner) for corner in name.get_window_extent().corners())
    along = torch.linspace(0, 1, 100, dtype=torch.float64)[:, None]
    for a, b in (((100, 0.3), (10, 0.3)), ((10, 0.3), (100, 0.9))):
        start, end = torch.from_numpy(ax.transData.transform((a, b)))
        assert not name.get_window_extent().count_contains((start + along * (end - start)).numpy())
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.trade_off({}, TABLE, "ms")


def test_gains_stand_on_each_other():
    steps = {"one pass": (-0.101, -0.1, -0.099), "one network": (0.24, 0.25, 0.26), "pyramid": (0.03, -0.01, 0.01)}
    draw.gains(("R-CNN", 0.4), steps)
    render()
    ax = plt.gca()
    half = [(high - low) / 2 for low, high in (student_interval(mean(s), stdev(s), 3) for s in steps.values())]
    spans = [sorted((y0, y1)) for _, y0, _, y1 in extents(ax)]
    assert spans == [pytest.approx(s) for s in ([0.3, 0.4], [0.3, 0.55], [0.55, 0.56])]
    assert fills(ax) == [draw.BAD, draw.GOOD, draw.PALE]  # the last interval includes 0
    assert [(text, (x, pytest.approx(y, abs=1e-5))) for text, (x, y) in written(ax)] == [
        ("0.400", (0, 0.4)), ("-0.100", (1, 0.4)), ("+0.250", (2, round(0.55 + half[1], 6))),
        ("+0.010", (3, round(0.56 + half[2], 6))), ("0.560", (3.45, 0.56)),
    ]  # fmt: skip
    assert labels(ax) == ("", f"AP (axis from {ax.get_ylim()[0]:.2f})")
    assert [t.get_text() for t in ax.get_xticklabels()] == ["R-CNN", "one pass", "one network", "pyramid"]
    lines = [c.get_segments()[0][:, 1].tolist() for c in ax.collections]
    ends = zip((0.3, 0.55, 0.56), half, strict=True)
    assert lines == [pytest.approx([level - each, level + each]) for level, each in ends]  # 95 % intervals
    levels = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    assert [each[0] for each in levels] == pytest.approx([0.4, 0.3, 0.55, 0.56])
    top = ax.texts[2].get_window_extent().y0
    assert top >= ax.transData.transform((2, 0.55 + half[1]))[1]  # above its line
    assert key(plt.gcf().legends[0]) == KINDS
    draw.gains(("R-CNN", 0.4), {"unclear": (0.08, -0.02)}, ylabel="AP50")
    assert fills(plt.gca()) == [draw.PALE] and labels(plt.gca())[1].startswith("AP50 (axis from ")
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.gains(("R-CNN", 0.4), {})
