import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw.maps import LIT, bin_maxima
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
    rectangles,
    render,
    texts,
    ticks,
    titles,
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


def test_roi_grid_shows_both_roundings_and_what_is_pooled():
    roi = (1.5, 2.5, 5.5, 6.4)
    switches = bin_maxima(MAP, rounded(roi), 2)
    before = torch.tensor([[36.0, 37], [52, 55]])
    draw.roi_grid(MAP, roi, switches, before)
    render()
    left, right = panels()
    *bins, solid, dashed = rectangles(left)
    assert solid.get_bbox().extents.tolist() == [2, 3, 7, 7] and solid.get_linestyle() == "-"
    assert dashed.get_bbox().extents.tolist() == pytest.approx(roi) and dashed.get_linestyle() == "--"
    assert edges(left)[-2:] == [draw.GOOD, "#000000"] and pixels(left)[0] == MAP.tolist()
    assert [[round(v) for v in b.get_bbox().extents.tolist()] for b in bins] == [
        [2, 3, 5, 5], [4, 3, 7, 5], [2, 5, 5, 7], [4, 5, 7, 7],
    ]  # fmt: skip
    assert {tuple(line.get_xydata()[0]) for line in left.lines} == {(4.5, 4.5), (6.5, 4.5), (4.5, 6.5), (6.5, 6.5)}
    assert titles() == ["5 x 4 cells into 2 x 2 bins", "pooled: 2 of 4 changed"]
    assert right.images[0].get_array().tolist() == [[36, 38], [52, 54]]
    assert [[round(v) for v in box] for box in extents(right)] == [[1, 0, 2, 1], [1, 1, 2, 2]]
    assert right.images[0].get_clim()[0] == left.images[0].get_clim()[0] == 0
    assert edges(right) == [draw.BAD] * 2
    named = key(plt.gcf().legends[0])
    assert named.pop("RoI") == ("#000000", "--") and named.pop("rounded") == (draw.GOOD, "-") and len(named) == 1
    assert left.get_xlim() == (0, 9) and left.get_ylim() == (9, 1)


def test_roi_grid_keeps_its_view_and_counts_empty_bins_as_zero():
    switches = bin_maxima(MAP + 1, (6, 6, 10, 8), 2)
    draw.roi_grid(MAP + 1, (6, 6, 9, 7), switches, view=(0, 0, 12, 8))
    render()
    left, right = panels()
    assert left.get_xlim() == (0, 12) and left.get_ylim() == (8, 0)
    assert right.images[0].get_array().tolist() == [[56, 0], [64, 0]] and right.get_title() == "pooled"
    draw.roi_grid(MAP, (2, 3, 4, 6), bin_maxima(MAP, (2, 3, 5, 7), 2)[:1])
    assert titles()[0] == "3 x 4 cells into 2 x 1 bins"
    bins = rectangles(panels()[0])[:-2]
    assert [[round(v) for v in b.get_bbox().extents.tolist()] for b in bins] == [[2, 3, 4, 7], [3, 3, 5, 7]]


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
    assert titles() == ["loss", "slope"] and labels(left) == labels(right) == ("error", "")
    assert key(right.get_legend()) == {"L2": (draw.COLORS[1], "-"), "smooth L1": (draw.COLORS[0], "-")}
    for ax in (left, right):
        l2, smooth, *bounds = ax.lines
        assert (looks(l2)[0], looks(smooth)[0]) == (draw.COLORS[1], draw.COLORS[0])
        assert l2.get_xdata().tolist() == pytest.approx(torch.linspace(-4, 4, 401).tolist())
        assert [list(line.get_xdata()) for line in bounds] == [[-1, -1], [1, 1]]
    values, slopes = ({line.get_label(): line.get_ydata() for line in ax.lines} for ax in panels())
    assert (values["L2"][-1], slopes["L2"][0]) == (8, -4)
    assert (values["smooth L1"][-1], slopes["smooth L1"][0], slopes["smooth L1"][-1]) == (3.5, -1, 1)
    for name in ("L2", "smooth L1"):
        steps = torch.as_tensor(values[name]).diff() / 0.02
        assert steps.tolist() == pytest.approx(((slopes[name][1:] + slopes[name][:-1]) / 2).tolist(), abs=0.01)


def test_target_histograms_have_one_scale():
    before = torch.tensor([[0.1, 0.2, -1, 0], [0.3, 0.2, 1, 9]])
    draw.target_histograms(before, torch.tensor([[-1.0, -1, -1, -1], [0.998, 1, 1, 1]]))
    render()
    assert titles()[0] == "tx: mean 0.20, std 0.10" and titles()[3] == "th: mean 4.50, std 4.50"
    assert titles()[4] == "tx: mean 0.00, std 1.00"
    assert [title.split(":")[0] for title in titles()] == ["tx", "ty", "tw", "th"] * 2
    assert plt.gcf().get_supxlabel() == "target"
    assert [ax.get_ylabel() for ax in panels()] == ["before", "", "", "", "after", "", "", ""]
    colors = [to_hex(ax.patches[0].get_facecolor()).upper() for ax in panels()]
    assert colors == [draw.PALE] * 4 + [draw.GOOD] * 4
    assert len({ax.get_xlim() for ax in panels()}) == 1
    bins = [ax.patches[0].get_data() for ax in panels()]
    assert all(each.values.sum() == 2 for each in bins)  # 9 is in the last bin
    assert bins[3].values[-1] == 1 and bins[1].values[32] + bins[1].values[31] == 2
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.target_histograms(before[:0], before)


def test_singular_values_mark_the_rank():
    draw.singular_values({"fc6": torch.tensor([4.0, 2, 1]), "fc7": torch.tensor([3.0, 0.1])}, {"fc6": 2, "fc7": 1})
    render()
    ax = plt.gca()
    every, kept, chosen = ax.lines[:3]
    assert (
        list(every.get_xdata()) == [1, 2, 3]
        and list(every.get_ydata()) == [4, 2, 1]
        and list(kept.get_ydata()) == [4, 2]
    )
    assert chosen.get_xydata().tolist() == [[2, 2]] and ax.lines[5].get_xydata().tolist() == [[1, 3]]
    named = {"fc6: t = 2 of 3": (draw.COLORS[0], "-"), "fc7: t = 1 of 2": (draw.COLORS[1], "-")}
    assert key(ax.get_legend()) == named and ax.get_yscale() == "log"
    assert [looks(line)[0] for line in ax.lines] == [draw.COLORS[0]] * 3 + [draw.COLORS[1]] * 3
    assert labels(ax) == ("singular value number", "singular value") and kept.get_linewidth() > every.get_linewidth()
    assert list(kept.get_xdata()) == [1, 2]


def test_compression_is_ordered_by_its_parameters():
    draw.compression([None, 8, 77], [0.5, 0.3, 0.49], [6, 3, 4], [1, 0.035, 0.333])
    render()
    left, right = panels()
    assert titles() == ["AP", "ms per image"]
    assert [list(line.get_ydata()) for line in left.lines] == [[0.5, 0.5], [0.3, 0.49, 0.5]]
    assert [list(line.get_ydata()) for line in right.lines] == [[6, 6], [3, 4, 6]]
    for ax, color in ((left, draw.COLORS[0]), (right, draw.COLORS[1])):
        assert ticks(ax.xaxis) == {0: "3.5 %\nt=8", 1: "33 %\nt=77", 2: "100 %\nfull"}
        assert labels(ax) == ("parameters of the head", "") and looks(ax.lines[1]) == (color, "-")
        assert ax.lines[1].get_xdata().tolist() == [0, 1, 2] and ax.get_ylim()[0] == 0


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
    assert labels(ax) == ("", "detections (missed: objects)")
    centres = [r.get_x() + r.get_width() / 2 for r in rectangles(ax)]
    assert centres[0] == pytest.approx(-centres[3]) and centres[0] < centres[3]
    assert texts(ax) == []
