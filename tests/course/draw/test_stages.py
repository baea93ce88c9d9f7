import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw.stages import LOCKS, readable
from tests.course.draw.figures import (
    fills,
    key,
    labels,
    looks,
    panels,
    points,
    rectangles,
    render,
    texts,
    ticks,
    written,
)


def colors(ax, kind, of="get_facecolor"):
    return [to_hex(getattr(p, of)()).upper() for p in ax.patches if isinstance(p, kind)]


def arrows(ax):
    """Where each arrow begins and ends."""
    return [patch._posA_posB for patch in ax.patches if isinstance(patch, FancyArrowPatch)]


def apart(ax):
    """Do no two texts of it touch?"""
    places = [t.get_window_extent() for t in ax.texts]
    return not any(a.overlaps(b) for i, a in enumerate(places) for b in places[:i])


ERROR = "mat1 and mat2 shapes cannot be multiplied (1x220224 and 1536x256)"


def test_layer_table_shows_where_it_fails():
    draw.layer_table([("conv5", "(96, 37, 62)", "ok"), ("fc6", ERROR, "fails"), ("fc7", "", "not reached")])
    render()
    ax = plt.gca()
    assert [t.replace("\n", " ") for t in texts(ax)] == ["conv5", "(96, 37, 62)", "fc6", ERROR, "fc7", ""]
    assert [place for _, place in written(ax)] == [(x, row) for row in range(3) for x in (0, 1.7)]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first layer on top, arrows to the next
    assert all(x == a == 0 and row < y < b < row + 1 for row, ((x, y), (a, b)) in enumerate(arrows(ax)))
    assert colors(ax, FancyBboxPatch) == [draw.GOOD, draw.BAD, "#FFFFFF"]
    assert colors(ax, FancyArrowPatch) == ["#000000", draw.PALE]
    assert to_hex(ax.texts[3].get_color()).upper() == draw.BAD and ax.texts[1].get_color() == "black"
    assert ax.texts[3].get_window_extent().x1 <= plt.gcf().bbox.x1


def test_the_error_fits_beside_a_second_stack():
    _, axes = plt.subplots(1, 2, figsize=(12, 4.8))
    for ax in axes:
        draw.layer_table([("conv5", "(96, 37, 62)", "ok"), ("fc6", ERROR, "fails"), ("fc7", "", "not reached")], ax)
    render()
    assert axes[0].texts[3].get_window_extent().x1 < axes[1].patches[0].get_window_extent().x0
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.layer_table([], axes[0].figure.add_subplot())


def test_locks_are_open_where_a_stage_trains():
    draw.locks({"fine-tuning": {"conv1": False, "fc6": True}, "SVM": {"conv1": False, "svm": True}})
    render()
    ax = plt.gca()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["fine-tuning", "SVM"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["conv1", "fc6", "svm"]
    found = {tuple(line.get_xydata()[0]): line for line in ax.lines}
    assert {place: line.get_marker() is LOCKS[True]["marker"] for place, line in found.items()} == {
        (0, 0): False, (0, 1): True, (1, 0): False, (1, 2): True,
    }  # fmt: skip
    assert found[0, 1].get_color() == draw.GOOD and found[0, 0].get_color() == draw.PALE
    assert ax.xaxis.get_ticks_position() == "top"
    assert key(ax.get_legend()) == {"trained": (draw.GOOD, "-"), "kept": (draw.PALE, "-")}
    opened, shut = (h.get_marker().vertices for h in ax.get_legend().legend_handles)
    assert opened[:, 1].max() > shut[:, 1].max()  # its shackle is lifted


def test_flow_writes_what_goes_through_the_disk():
    draw.flow({
        "R-CNN": [("selective search", 4e8), ("warp and convolutions", 369e9), ("fc7", 164e9), ("a", None), ("b", None),
                  ("SVM", 5)],
        "Fast R-CNN": [("selective search", 4e8), ("network", None)],
    })  # fmt: skip
    render()
    ax = plt.gca()
    said = dict(written(ax)[:1] + [w for w in written(ax) if w[0].startswith("Fast")])
    assert said == {"R-CNN: 533 GB on disk": (-0.36, -0.48), "Fast R-CNN: 400 MB on disk": (-0.36, 0.52)}
    inside = [(t.replace("\n", " "), place) for t, place in written(ax) if not t.endswith(("GB", "MB", "on disk"))]
    assert inside == [
        ("selective search", (0, 0)), ("warp and convolutions", (1, 0)), ("fc7", (2, 0)), ("a", (3, 0)), ("b", (4, 0)),
        ("SVM", (5, 0)), ("selective search", (0, 1)), ("network", (1, 1)),
    ]  # fmt: skip
    handed = [(t, place) for t, place in written(ax) if t.endswith(("GB", "MB"))]
    assert handed == [(t, (x + 0.5, y - 0.27)) for t, x, y in
                      (("400 MB", 0, 0), ("369 GB", 1, 0), ("164 GB", 2, 0), ("400 MB", 0, 1))]  # fmt: skip
    starts = [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (0, 1)]
    for (x, y), ((a, b), (c, d)) in zip(starts, arrows(ax), strict=True):
        assert x < a < c < x + 1 and b == d == y
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert [t for t in texts(ax) if t.endswith(("GB", "MB"))] == ["400 MB", "369 GB", "164 GB", "400 MB"]
    assert colors(ax, FancyArrowPatch) == [draw.BAD] * 3 + [draw.PALE] * 2 + [draw.BAD]
    assert len(colors(ax, FancyBboxPatch)) == 8 and "warp and\nconvolutions" in texts(ax)
    assert apart(ax)
    assert key(ax.get_legend()) == {"through the disk": (draw.BAD, "-"), "in memory": (draw.PALE, "-")}
    boxes = [p.get_window_extent() for p in ax.patches if isinstance(p, FancyBboxPatch)]
    name = ax.texts[texts(ax).index("warp and\nconvolutions")].get_window_extent()
    assert boxes[1].x0 < name.x0 and name.x1 < boxes[1].x1
    assert not any(box.overlaps(t.get_window_extent()) for t in ax.texts if t.get_text().endswith("B") for box in boxes)


@pytest.mark.parametrize("size, text", [
    (0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (999_600, "1 MB"), (369.4e9, "369 GB"), (1006e9, "1.01 TB"),
    (2.5e15, "2.5e+03 TB"),
])  # fmt: skip
def test_readable(size, text):
    assert readable(size) == text


def test_cost_curves_name_their_lines_and_mark_the_crossing():
    draw.cost_curves([1, 10, 1000], {"windows": [2, 20, 2000], "one pass": [24, 24, 24]}, crossing=12)
    render()
    ax = plt.gca()
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert labels(ax) == ("windows", "multiply-adds") and written(ax)[2] == (" 12 windows", (12, 0.98))
    assert [list(line.get_xdata()) for line in ax.lines[:2]] == [[1, 10, 1000]] * 2
    assert [looks(line)[0] for line in ax.lines[:2]] == list(draw.COLORS[:2])
    assert [list(line.get_ydata()) for line in ax.lines[:2]] == [[2, 20, 2000], [24, 24, 24]]
    assert ax.lines[2].get_xdata() == [12, 12]
    assert texts(ax) == ["one pass", "windows", " 12 windows"]
    assert [t.xy for t in ax.texts[:2]] == [(1000, 24), (1000, 2000)]
    assert [t.get_color() for t in ax.texts[:2]] == [draw.words(c) for c in (draw.COLORS[1], draw.COLORS[0])]
    assert apart(ax)
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.cost_curves([1, 10], {})


def test_gradient_norms_are_points_on_a_log_axis():
    draw.gradient_norms({"conv1": 0.0, "conv2": 0.012, "conv3": 0.5})
    render()
    (ax,) = panels()
    assert ax.get_yscale() == "log" and labels(ax) == ("", "norm of the gradient (log scale)")
    assert not rectangles(ax)  # bars would begin nowhere
    assert [points(line) for line in ax.lines] == [[(1, 0.012)], [(2, 0.5)]]
    assert {line.get_marker() for line in ax.lines} == {"o"}
    assert written(ax) == [("none", (0, 0.012)), ("0.012", (1, 0.012)), ("0.5", (2, 0.5))]
    assert ax.get_ylim() == (0.004, 1.5) and ticks(ax.xaxis) == {0: "conv1", 1: "conv2", 2: "conv3"}
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.gradient_norms({})


def test_cost_bars_are_multiples_of_the_first():
    draw.cost_bars({"2 images": 4, "4 images": 8.4}, "seconds of a step")
    render()
    ax = plt.gca()
    assert [r.get_width() for r in rectangles(ax)] == [1, 2.1] and fills(ax) == [draw.GOOD, draw.BAD]
    assert texts(ax) == ["1 x", "2.1 x"] and ticks(ax.yaxis) == {0: "2 images", 1: "4 images"}
    assert labels(ax) == ("seconds of a step", "") and ax.get_ylim()[0] > ax.get_ylim()[1]


def test_time_shares_highlight_one_stage():
    draw.time_shares(
        {
            "R-CNN": {"proposals": 1, "convolutions": 3},
            "Fast R-CNN": {"proposals": 0.38, "pooling": 0.01, "convolutions": 0.01},
        },
        "proposals",
    )
    render()
    ax = plt.gca()
    assert [t.get_text() for t in ax.get_yticklabels()] == ["R-CNN", "Fast R-CNN"]
    assert ticks(ax.yaxis) == {0: "R-CNN", 1: "Fast R-CNN"} and ax.get_ylim() == (1.5, -0.5)
    assert written(ax) == [  # no room for 2.5 %
        ("25 %", (0.125, 0)), ("75 %", (0.625, 0)), ("4.0 s", (1.01, 0)), ("95 %", (0.475, 1)), ("400 ms", (1.01, 1)),
    ]  # fmt: skip
    assert [r.get_y() + r.get_height() / 2 for r in rectangles(ax)] == pytest.approx([0, 0, 1, 1, 1])
    assert [r.get_width() for r in rectangles(ax)] == pytest.approx([0.25, 0.75, 0.95, 0.025, 0.025])
    assert [r.get_x() for r in rectangles(ax)] == pytest.approx([0, 0.25, 0, 0.95, 0.975])
    search, network, pooling = draw.PROPOSAL, draw.COLORS[5], draw.COLORS[3]
    assert fills(ax) == [search, network, search, pooling, network]
    assert key(plt.gcf().legends[0]) == {"proposals": search, "convolutions": network, "pooling": pooling}
    bold = [t.get_text() for t in (*ax.texts, *plt.gcf().legends[0].get_texts()) if t.get_weight() == "bold"]
    assert bold == ["25 %", "95 %", "proposals"]


def test_a_stage_has_its_colour_in_every_picture_and_one_row_says_small_shares():
    draw.time_shares({"here": {"resizing": 1, "fully connected": 1, "convolutions": 48}}, "convolutions")
    render()
    assert fills(plt.gca()) == [draw.PALE, draw.COLORS[1], draw.COLORS[5]]
    assert [t.get_text() for t in plt.gcf().legends[0].get_texts()] == [
        "resizing 2 %", "fully connected 2 %", "convolutions",
    ]  # fmt: skip


def test_the_map_of_sppnet_has_one_map_for_all_windows():
    draw.network_map(draw.SPPNET, "pyramid")
    render()
    ax = plt.gca()
    into = {(a, shape) for a, b, shape in draw.SPPNET.arrows if b == "pyramid"}
    assert into == {("conv net", "map\n(C, h, w)"), ("scale,\nproject", "cells\n(P, 4)")}
    assert [b for a, b, _ in draw.SPPNET.arrows if a == "pyramid"] == [
        "fc6, fc7",
        "ridge",
    ]  # as in R-CNN
    assert "(P, 21 C)" in texts(ax) and sum(n * n for n in (4, 2, 1)) == 21
    parts = [patch.get_window_extent() for patch in ax.patches]
    for text in ax.texts:
        if not text.get_text():
            continue
        where = text.get_window_extent()
        holding = [p for p in parts if where.overlaps(p)]
        if text.get_text() in draw.SPPNET.parts:
            (part,) = holding
            assert part.x0 < where.x0 and where.x1 < part.x1
        else:
            assert not holding, text.get_text()
    upwards = next(t for t in ax.texts if getattr(t, "arrow_patch", None) and t.xy[0] == t.xyann[0])
    assert upwards.xyann[0] == 2 and upwards.xyann[1] > upwards.xy[1] > 0  # from the pyramid up to the ridge
