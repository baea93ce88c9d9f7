import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from rcnn_tutorial import draw
from rcnn_tutorial.draw.stages import LOCKS, readable
from tests.draw.figures import fills, legend, panels, rectangles, render, texts, titles


def colors(ax, kind, of="get_facecolor"):
    return [to_hex(getattr(p, of)()).upper() for p in ax.patches if isinstance(p, kind)]


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
    assert legend(ax.get_legend()) == ["trained", "kept"]


def test_flow_writes_what_goes_through_the_disk():
    draw.flow({
        "R-CNN": [("selective search", 4e8), ("warp and convolutions", 369e9), ("fc7", 164e9), ("a", None), ("b", None),
                  ("SVM", 5)],
        "Fast R-CNN": [("selective search", 4e8), ("network", None)],
    })  # fmt: skip
    render()
    ax = plt.gca()
    assert "R-CNN: 533 GB on disk" in texts(ax) and "Fast R-CNN: 400 MB on disk" in texts(ax)
    assert [t for t in texts(ax) if t.endswith(("GB", "MB"))] == ["400 MB", "369 GB", "164 GB", "400 MB"]
    assert colors(ax, FancyArrowPatch) == [draw.BAD] * 3 + [draw.PALE] * 2 + [draw.BAD]
    assert len(colors(ax, FancyBboxPatch)) == 8 and "warp and\nconvolutions" in texts(ax)
    assert apart(ax) and legend(ax.get_legend()) == ["through the disk", "in memory"]
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
    assert [list(line.get_ydata()) for line in ax.lines[:2]] == [[2, 20, 2000], [24, 24, 24]]
    assert ax.lines[2].get_xdata() == [12, 12]
    assert texts(ax) == ["one pass", "windows", " 12 windows"]
    assert [t.xy for t in ax.texts[:2]] == [(1000, 24), (1000, 2000)]
    assert [t.get_color() for t in ax.texts[:2]] == [draw.COLORS[1], draw.COLORS[0]]
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.cost_curves([1, 10], {})


def test_speed_up_keeps_its_names_apart():
    draw.speed_up([10, 2000], {"1 scale": [1, 24], "5 scales": [0.5, 23]}, {"paper": (2000, 24.5), "new": (500, 102)})
    render()
    ax = plt.gca()
    assert texts(ax) == ["5 scales", "1 scale", "paper: 24.5", "new: 102"] and apart(ax)
    assert [line.get_xydata()[-1].tolist() for line in ax.lines[3:]] == [[2000, 24.5], [500, 102]]
    assert all(t.get_window_extent().x1 <= plt.gcf().bbox.x1 for t in ax.texts)


def test_gradient_norms_beside_the_cost():
    draw.gradient_norms({"conv1": 0.0, "conv2": 0.012, "conv3": 0.5}, {"2 images": 3.0, "128 images": 184.5})
    render()
    left, right = panels()
    assert titles() == ["norm of the gradient (log scale)", "cost of the mini-batch"]
    assert texts(left) == ["0", "0.012", "0.5"] and left.get_yscale() == "log"
    assert [r.get_height() for r in rectangles(left)] == [0, 0.012, 0.5]
    assert left.get_ylim() == (0.004, 1)
    assert texts(right) == ["1 x", "61.5 x"]


def test_cost_bars_are_multiples_of_the_first():
    draw.cost_bars({"2 images": 4, "4 images": 8.4})
    render()
    ax = plt.gca()
    assert [r.get_width() for r in rectangles(ax)] == [1, 2.1] and fills(ax) == [draw.GOOD, draw.BAD]
    assert texts(ax) == ["1 x", "2.1 x"] and [t.get_text() for t in ax.get_yticklabels()] == ["2 images", "4 images"]


def test_time_shares_highlight_one_stage():
    draw.time_shares(
        {"R-CNN": {"search": 1, "network": 3}, "Fast R-CNN": {"search": 0.38, "head": 0.01, "network": 0.01}}, "search"
    )
    render()
    ax = plt.gca()
    assert [t.get_text() for t in ax.get_yticklabels()] == ["R-CNN", "Fast R-CNN"]
    assert texts(ax) == ["25 %", "75 %", "4.0 s", "95 %", "400 ms"]  # no room for 2.5 %
    assert [r.get_width() for r in rectangles(ax)] == pytest.approx([0.25, 0.75, 0.95, 0.025, 0.025])
    assert [r.get_x() for r in rectangles(ax)] == pytest.approx([0, 0.25, 0, 0.95, 0.975])
    network, head = draw.COLORS[0], draw.COLORS[5]
    assert fills(ax) == [draw.BAD, network, draw.BAD, head, network]
    assert legend(plt.gcf().legends[0]) == ["search", "network", "head"]
