import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Circle

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw.maps import LIT
from rcnn_tutorial.course.draw.regions import rounded
from rcnn_tutorial.ops.pooling import roi_pool
from tests.course.draw.figures import (
    edges,
    extents,
    fills,
    key,
    labels,
    looks,
    panels,
    pixels,
    points,
    rectangles,
    render,
    texts,
    titles,
    written,
)

MAP = torch.arange(64.0).view(8, 8)


@pytest.mark.parametrize(
    "roi", [(1.5, 2.5, 5.5, 6.5), (0, 0, 4, 4), (-0.5, 0.49, 2.51, 3), (3, 3, 3, 3), (2, 2, 1, 1.2)]
)
def test_rounding_is_that_of_roi_pooling(roi):
    x1, y1, x2, y2 = rounded(roi)
    pooled = roi_pool(MAP[None, None], torch.tensor([[0.0, *roi]]), 1)
    assert pooled.item() == MAP[max(y1, 0) : y2, max(x1, 0) : x2].max()
    assert rounded((-0.5, -1.4, 2.5, 3.49)) == [-1, -1, 4, 4]
    turned = roi_pool(-MAP[None, None], torch.tensor([[0.0, *roi]]), 1)
    assert -turned.item() == MAP[max(y1, 0) : y2, max(x1, 0) : x2].min()


def test_the_map_of_the_network_says_which_shapes_flow():
    draw.network_map(draw.FAST_RCNN, "RoI\npooling")
    render()
    shapes = {(first, last): shape for first, last, shape in draw.FAST_RCNN.arrows}
    assert shapes["conv\nnet", "RoI\npooling"] == "(C, h, w)" and shapes["RoIs", "RoI\npooling"] == "(R, 4)"
    assert shapes["RoI\npooling", "fc6\nfc7"] == "(R, C, 4, 4)"
    assert shapes["class\nscores", "loss"] == "(R, K+1)" and shapes["box\noffsets", "loss"] == "(R, 4K)"
    ax = plt.gca()
    words = [t.get_window_extent() for t in ax.texts if t.get_text().startswith("(")]
    parts = [patch.get_window_extent() for patch in ax.patches]
    assert len(words) == 7 and not any(word.overlaps(part) for word in words for part in parts)
    assert not any(a.overlaps(b) for k, a in enumerate(words) for b in words[:k])


def test_roi_numbers_show_the_map_both_roundings_and_the_way_back():
    roi, switches = (1.5, 0.5, 6.25, 4.25), torch.tensor([[[2, 3], [2, 6]], [[3, 4], [3, 4]]])
    draw.roi_numbers(MAP, roi, torch.tensor([[19.0, 22], [28, 28]]), switches)
    render()
    left, right = panels()
    assert titles() == ["the map", "pooled"]
    columns = [t.get_text() for t in left.get_xticklabels()]
    assert columns == ["0", "1", "$c_1$ = 2", "3", "4", "5", "$c_2$ = 6", "7"]
    dark = [tick.label2.get_color() == "black" for tick in left.xaxis.get_major_ticks()]
    assert dark == [name.startswith("$") for name in columns]
    numbers = {t.get_position(): t.get_text() for t in left.texts}
    assert numbers == {(c + 0.5, r + 0.5): f"{MAP[r, c]:g}" for r in range(8) for c in range(8)}
    assert texts(right) == ["19", "22", "28", "28"]
    *others, rounded_box, exact = rectangles(left)
    assert rounded_box.get_bbox().extents.tolist() == [2, 1, 7, 5]
    assert exact.get_bbox().extents.tolist() == pytest.approx([2, 1, 6.75, 4.75]) and exact.get_linestyle() == "--"
    assert edges(left)[-2:] == ["#000000", draw.PROPOSAL]
    chosen = [box for box, r in zip(extents(left), rectangles(left), strict=True) if looks(r) == draw.COLORS[6]]
    assert [[round(x - 0.15), round(y - 0.15)] for x, y, *_ in chosen] == [[3, 2], [6, 2], [4, 3], [4, 3]]
    bins = [[round(v) for v in b.get_bbox().extents.tolist()] for b in others[4:]]
    assert bins == [[2, 1, 5, 3], [4, 1, 7, 3], [2, 3, 5, 5], [4, 3, 7, 5]]
    zero = next(t for t in left.texts if t.get_text() == "0")
    assert zero.get_color() == draw.PALE and left.texts[1].get_color() == "black"
    assert min(t.get_fontsize() for t in left.texts + right.texts) >= 18
    assert set(key(plt.gcf().legends[0])) == {"RoI", "rounded", "chosen by a bin"}
    assert key(plt.gcf().legends[0])["RoI"] == (draw.PROPOSAL, "--")
    draw.roi_numbers(MAP, roi, torch.ones(2, 2), switches, ("gradient of the map", "gradient of the bins"))
    assert titles() == ["gradient of the map", "gradient of the bins"]


def test_roi_steps_count_what_changes():
    draw.roi_steps(MAP, [(1.5, 2.5, 5.5, 6.4)], [10, 11, 12], [0, 3, 0])
    render()
    left, right = panels()
    cells, exact = rectangles(left)
    assert cells.get_bbox().extents.tolist() == [2, 3, 7, 7] and cells.get_linestyle() == "-"
    assert exact.get_bbox().extents.tolist() == pytest.approx([2, 3, 6, 6.9]) and exact.get_linestyle() == "--"
    assert pixels(left)[0] == MAP.tolist()
    bars = [(r.get_x() + r.get_width() / 2, r.get_height()) for r in rectangles(right)]
    assert [(round(x), h) for x, h in bars] == [(10, 0), (11, 3), (12, 0)]
    assert titles() == ["one map", "1 of 3 steps change something"]
    assert labels(right) == ("left border of the RoI, pixels", "numbers that change") and right.get_ylim()[0] == 0
    assert key(left.get_legend()) == {"RoI at 10": (draw.PROPOSAL, "--"), "rounded": ("#000000", "-")}


def test_roi_steps_show_the_last_place_and_the_scene():
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    draw.roi_steps(MAP, [(1.5, 2.5, 5.5, 6.4), (1.9, 2.5, 5.9, 6.4)], [10, 11, 12], [0, 3, 0], image)
    render()
    left, _ = panels()
    _, first, last = rectangles(left)
    assert first.get_bbox().x0 == pytest.approx(2) and last.get_bbox().extents.tolist() == pytest.approx(
        [2.4, 3, 6.4, 6.9]
    )
    assert edges(left) == ["#000000", draw.PROPOSAL, draw.COLORS[1]]
    assert key(left.get_legend()) == {
        "RoI at 10": (draw.PROPOSAL, "--"), "at 13": (draw.COLORS[1], "--"), "rounded": ("#000000", "-"),
    }  # fmt: skip
    cells, scene = left.images
    assert cells.get_zorder() > scene.get_zorder() and 0.3 < cells.get_alpha() < 0.9
    assert cells.get_extent() == scene.get_extent() and titles()[0] == "one map, and the scene"
    assert torch.equal(torch.as_tensor(scene.get_array()), image.permute(1, 2, 0))


def test_the_weight_of_a_number_is_the_area_opposite_to_it():
    corners = torch.tensor([[8.0, 1], [3, 7]])
    draw.interpolation(corners, 0.25, 0.5)
    render()
    ax = plt.gca()
    areas, circles = {}, {}
    for patch in ax.patches:
        color = to_hex(patch.get_facecolor()).upper()
        if isinstance(patch, Circle):
            circles[color] = patch.center
        else:
            box = patch.get_bbox()
            areas[color] = box.width * box.height, (box.x0, box.y0)
    assert circles == dict(zip(draw.COLORS[:4], [(0, 0), (1, 0), (0, 1), (1, 1)], strict=True))
    assert [areas[c][0] for c in draw.COLORS[:4]] == pytest.approx([0.375, 0.125, 0.375, 0.125])
    assert [areas[c][1] for c in draw.COLORS[:4]] == [(0.25, 0.5), (0, 0.5), (0.25, 0), (0, 0)]
    said = {t.get_position(): t.get_text() for t in ax.texts}
    assert said[0, 0] == "8" and said[1, 0] == "1" and said[0, 1] == "3" and said[1, 1] == "7"
    assert sorted(texts(ax)) == sorted(["8", "1", "3", "7", "0.375", "0.125", "0.375", "0.125"])
    (point,) = ax.lines
    assert point.get_xydata().tolist() == [[0.25, 0.5]]


def test_align_numbers_show_points_and_means():
    pooled = torch.tensor([[1.25, 2.5]])
    draw.align_numbers(MAP, (1, 2, 5, 4), pooled, 2)
    render()
    left, right = panels()
    (exact,) = rectangles(left)
    assert exact.get_bbox().extents.tolist() == [1.5, 2.5, 5.5, 4.5] and edges(left) == [draw.PROPOSAL]
    middles, dots = left.lines
    assert len(middles.get_xydata()) == 64 and middles.get_xydata()[[0, -1]].tolist() == [[0.5, 0.5], [7.5, 7.5]]
    assert dots.get_xydata().tolist() == [[x, y] for y in (3, 4) for x in (2, 3, 4, 5)]
    assert texts(right) == ["1.25", "2.5"] and texts(left) == [f"{v:g}" for v in MAP.flatten().tolist()]
    assert titles() == ["the map", "mean of each bin"]
    lines = [segment.tolist() for lines in left.collections for segment in lines.get_segments()]
    assert [[3.5, 2.5], [3.5, 4.5]] in lines
    assert [t.get_text() for t in plt.gcf().legends[0].get_texts()] == ["RoI", "point", "middle of a cell"]


def test_slide_keeps_the_two_ways_of_pooling_apart():
    shifts, rounded_one, smooth = torch.tensor([0.0, 1, 2]), torch.tensor([1.0, 1, 2]), torch.tensor([1.0, 1.4, 1.9])
    draw.slide(shifts, [rounded_one, smooth], [smooth - 2, rounded_one])
    render()
    left, right = panels()
    assert titles() == ["one number: maximum or mean", "left border that is found"]
    jump, arrow = (t for t in right.texts[::-1])  # the largest step of the first detector, from 1 to 2
    assert jump.get_text() == "jump 0.5" and arrow.xy == pytest.approx((1.5, -0.6))
    assert arrow.xyann == pytest.approx((1.5, -0.1)) and -0.6 < jump.get_position()[1] < -0.1
    assert labels(left) == ("shift of the window, pixels", "pooled number")
    assert labels(right) == ("shift of the window, pixels", "error, pixels")
    assert [line.get_ydata().tolist() for line in left.lines] == [rounded_one.tolist(), smooth.tolist()]
    assert [line.get_ydata().tolist() for line in right.lines[:2]] == [(smooth - 2).tolist(), rounded_one.tolist()]
    assert [looks(line)[0] for line in right.lines[:2]] == [draw.COLORS[1], draw.COLORS[0]]
    assert [looks(line)[0] for line in left.lines] == [draw.COLORS[1], draw.COLORS[0]]
    said = [t.get_text() for t in plt.gcf().legends[0].get_texts()]
    assert said == ["RoI pooling: steps of the border up to 0.5", "RoIAlign: steps of the border up to 1.0"]
    assert left.get_ylim()[0] == 0


def test_landing_adds_up_in_shared_cells():
    rois = [(0, 0, 2, 2), (2, 1, 5, 4)]
    switches = [torch.tensor([[[0, 0], [1, 2]]]), torch.tensor([[[1, 2], [-1, -1]], [[4, 3], [4, 5]]])]
    gradient = torch.zeros(8, 8)
    gradient[0, 0], gradient[1, 2], gradient[4, 3] = 1, 3, -0.25
    ax = draw.landing(gradient, rois, switches)
    render()
    assert [(t.get_position(), t.get_text()) for t in ax.texts] == [
        ((0.5, 0.5), "1"),
        ((2.5, 1.5), "3"),
        ((3.5, 4.5), "-0.25"),
    ]
    cells = {tuple(r.get_xy()): to_hex(r.get_facecolor()).upper() for r in rectangles(ax) if r.get_fill()}
    assert cells == {(0, 0): draw.COLORS[0], (2, 1): LIT, (3, 4): draw.COLORS[1], (5, 4): draw.COLORS[1]}
    assert [b for b, r in zip(extents(ax), rectangles(ax), strict=True) if not r.get_fill()] == [
        [0, 0, 3, 3],
        [2, 1, 6, 5],
    ]
    assert [t.get_fontweight() for t in ax.texts] == ["normal", "bold", "normal"]
    assert {t.get_fontsize() for t in ax.texts} == {16}
    assert ax.get_xlim() == (-1, 7) and ax.get_ylim() == (6, -1)
    assert {c for c, r in zip(edges(ax), rectangles(ax), strict=True) if not r.get_fill()} == set(draw.COLORS[:2])
    assert key(ax.get_legend()) == {
        "chosen by RoI 1": draw.COLORS[0], "chosen by RoI 2": draw.COLORS[1], "by both: added up": LIT,
    }  # fmt: skip
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.landing(torch.zeros(8, 8), rois, switches)


def test_loss_curves_and_their_slopes():
    draw.loss_curves()
    render()
    left, right = panels()
    assert titles() == ["loss", "slope"] and labels(left) == labels(right) == ("error (dotted: -1 and 1)", "")
    assert key(right.get_legend()) == {"L2": (draw.COLORS[1], "-"), "smooth L1": (draw.COLORS[0], "-")}
    for ax, l2_at_10, smooth_at_10 in ((left, 50, 9.5), (right, 10, 1)):
        l2, first, smooth, second, *bounds = ax.lines
        assert (looks(l2)[0], looks(smooth)[0]) == (draw.COLORS[1], draw.COLORS[0])
        assert l2.get_xdata().tolist() == pytest.approx(torch.linspace(-10, 10, 1001).tolist(), abs=1e-5)
        assert [list(line.get_xdata()) for line in bounds] == [[-1, -1], [1, 1]] and ax.get_xlim() == (-10, 10)
        assert [points(dot) for dot in (first, second)] == [[(10, l2_at_10)], [(10, smooth_at_10)]]
        assert written(ax) == [(f"{value:g}", (10, value)) for value in (l2_at_10, smooth_at_10)]
        assert all(t.get_window_extent().x1 <= plt.gcf().bbox.x1 for t in ax.texts)
    values, slopes = ({line.get_label(): line.get_ydata() for line in ax.lines} for ax in panels())
    assert (values["L2"][-1], slopes["L2"][0]) == (50, -10)
    assert (values["smooth L1"][-1], slopes["smooth L1"][0], slopes["smooth L1"][-1]) == (9.5, -1, 1)
    for name in ("L2", "smooth L1"):
        steps = torch.as_tensor(values[name]).diff() / 0.02
        assert steps.tolist() == pytest.approx(((slopes[name][1:] + slopes[name][:-1]) / 2).tolist(), abs=0.01)


def test_kind_groups_have_means_and_spreads():
    draw.kind_groups({
        "R-CNN": [{"correct": 9, "class": 4, "place": 6}, {"correct": 9, "class": 8, "place": 6}],
        "Fast R-CNN": [{"correct": 9, "class": 3, "missed": 2}],
    })  # fmt: skip
    render()
    ax = plt.gca()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["class", "place", "missed"]
    assert [r.get_height() for r in rectangles(ax)] == [6, 6, 0, 3, 0, 2]
    assert fills(ax) == [draw.COLORS[0]] * 3 + [draw.COLORS[1]] * 3
    low, high = ax.collections[0].get_segments()[0][:, 1].tolist()
    assert (low, high) == pytest.approx((6 - 8**0.5, 6 + 8**0.5)) and len(ax.collections) == 1
    assert key(ax.get_legend()) == {"R-CNN": draw.COLORS[0], "Fast R-CNN": draw.COLORS[1]}
    told = ax.get_legend().get_title().get_text()
    assert told == "bar: mean of 2 trainings\nblack line: ± 1 standard deviation"
    assert labels(ax) == ("", "detections (missed: objects)")
    centres = [r.get_x() + r.get_width() / 2 for r in rectangles(ax)]
    assert centres[0] == pytest.approx(-centres[3]) and centres[0] < centres[3]


def test_kind_groups_say_below_each_kind_what_it_means():
    draw.kind_groups({"one": [dict.fromkeys(("missed", "duplicate", "class", "place", "background", "other"), 1)]})
    render()
    ax = plt.gca()
    names = [t.get_text() for t in ax.get_xticklabels()]
    below = {names[round(x)]: text for text, (x, _) in written(ax)}
    assert below == {
        "missed": "an object that\nno box hits",
        "duplicate": "a second box\nof an object",
        "class": "wrong class,\nIoU 0.5 or more",
        "place": "right class,\nIoU 0.1 to 0.5",
        "background": "all other\nwrong boxes",
        "other": "",
    }
    boxes = [t.get_window_extent() for t in (*ax.get_xticklabels(), *ax.texts) if t.get_text()]
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    assert min(box.y0 for box in boxes) >= 0 and min(t.get_fontsize() for t in ax.texts) >= 13
