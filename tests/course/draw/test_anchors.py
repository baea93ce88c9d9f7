import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw.anchors import DARK, HEAT, some
from tests.course.draw.figures import (
    IMAGE,
    TARGET,
    edges,
    extents,
    fills,
    key,
    labels,
    legend,
    looks,
    panels,
    rectangles,
    render,
    texts,
    thin,
    titles,
    written,
)

BORDER = [0, 0, 80, 60]
CENTRES = torch.cartesian_prod(torch.arange(8.0, 80, 16), torch.arange(8.0, 60, 16))  # (20, 2)
ANCHORS = torch.tensor([[-16, -8, 16, 8], [-32, -16, 32, 16], [-8, -16, 8, 16], [-16, -32, 16, 32.0]])


def outlined(ax):
    """Of the thin boxes on it, by kind: their colour, whether they are dashed, their corners."""
    return [
        (to_hex(c.get_edgecolor()).upper(), c.get_linestyle()[0][1] is not None, thin(c))
        for c in ax.collections
        if isinstance(c, PolyCollection)
    ]


def test_some_are_spread_over_all():
    boxes = torch.arange(100.0)[:, None].expand(-1, 4)
    assert some(boxes, 4)[:, 0].tolist() == [0, 33, 66, 99]
    assert (
        torch.equal(some(boxes, 100), boxes) and torch.equal(some(boxes, 300), boxes) and len(some(boxes[:0], 5)) == 0
    )


def test_anchors_have_a_colour_by_scale_and_dashes_by_shape():
    ax = draw.anchors_at(IMAGE, ANCHORS + torch.tensor([8.0, 24, 8, 24]), CENTRES, (8, 24))
    render()
    border, *drawn = rectangles(ax)
    assert border.get_bbox().extents.tolist() == BORDER
    looks = dict(zip(map(tuple, extents(ax)[1:]), zip(edges(ax)[1:], [r.get_linestyle() for r in drawn], strict=True),
                     strict=True))  # fmt: skip
    small, large = draw.COLORS[:2]
    assert looks == {
        (-8, 16, 24, 32): (small, "-"), (-24, 8, 40, 40): (large, "-"),
        (0, 8, 16, 40): (small, "--"), (-8, -8, 24, 56): (large, "--"),
    }  # fmt: skip
    assert edges(ax)[1:] == [large, large, small, small]  # the small ones on top
    assert ax.collections[0].get_offsets().tolist() == CENTRES.tolist()
    assert ax.lines[0].get_xydata().tolist() == [[8, 24]]
    assert ax.get_title() == "20 places, 4 anchors at each: 80"
    named = plt.gcf().legends[0]
    assert key(named) == {
        "scale 23": (small, "-"), "scale 45": (large, "-"),
        "height / width 1/2": ("#000000", "-"), "height / width 2": ("#000000", "--"),
    }  # fmt: skip
    assert named.get_window_extent().x1 <= plt.gcf().bbox.x1


def test_the_axes_hold_the_picture_and_the_anchors():
    limits = []
    for place in (CENTRES[0], CENTRES[-1]):
        anchors = ANCHORS + place.repeat(2)
        ax = draw.anchors_at(IMAGE, anchors, CENTRES, place.tolist())
        limits.append((ax.get_xlim(), ax.get_ylim()))
        (left, right), (bottom, top) = limits[-1]
        assert left < anchors[:, 0].min() and right > anchors[:, 2].max()
        assert top < anchors[:, 1].min() and bottom > anchors[:, 3].max()
        assert left <= 0 and right >= IMAGE.shape[2] and top <= 0 and bottom >= IMAGE.shape[1]
    assert limits == [((-26, 80), (60, -26)), ((0, 106), (90, 0))]


def test_only_the_chosen_anchors_are_strong():
    ax = draw.anchors_at(IMAGE, ANCHORS + 30, CENTRES, (30, 30), chosen=[2])
    render()
    assert extents(ax) == [BORDER, (ANCHORS[2] + 30).tolist()]
    faint = ax.collections[1:]
    assert len(faint) == 3 and all(c.get_alpha() < 0.5 for c in faint)
    small, large = draw.COLORS[:2]
    others = [(large, False, [(ANCHORS[i] + 30).tolist()]) for i in (1, 3)]
    assert outlined(ax) == [*others, (small, False, [(ANCHORS[0] + 30).tolist()])] and edges(ax)[1] == small
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.anchors_at(IMAGE, ANCHORS, CENTRES[:0], (30, 30))


def test_a_second_panel_enlarges_the_place():
    ax = draw.anchors_at(IMAGE, ANCHORS + 30, CENTRES, (30, 30), close=24)
    render()
    first, part = panels()
    assert first is ax and extents(part) == extents(ax)[1:] and edges(part) == edges(ax)[1:]
    assert (part.get_xlim(), part.get_ylim()) == ((18, 42), (42, 18))
    assert titles() == ["20 places, 4 anchors at each: 80", "24 x 24 pixels of it"]
    assert len(plt.gcf().legends) == 1


def test_objectness_has_a_panel_per_shape_and_one_scale():
    maps = torch.rand(6, 3, 4, generator=torch.Generator().manual_seed(0)) * 0.5
    draw.objectness(IMAGE, maps, [f"shape {i}" for i in range(6)], columns=2, title="untrained")
    render()
    *heats, bar = panels()
    assert titles()[:6] == [f"shape {i}" for i in range(6)] and plt.gcf().get_suptitle() == "untrained"
    assert [ax.get_subplotspec().colspan.start for ax in heats] == [0, 1] * 3
    for ax, expected in zip(heats, maps, strict=True):
        below, heat = ax.images
        assert (heat.get_array() == expected.numpy()).all() and heat.get_clim() == (0, 1)
        assert heat.get_extent() == below.get_extent() == [0, 80, 60, 0] and below.get_alpha() < 0.5
    assert bar.get_ylabel() == "objectness"
    alphas = [HEAT(value)[3] for value in (0.0, 0.5, 1.0)]
    assert alphas[0] == 0 and alphas == sorted(alphas)  # nothing there: the image is seen
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.objectness(IMAGE, maps, ["one name"])


def test_best_iou_has_a_curve_per_set_and_strokes_for_the_objects():
    sizes = torch.tensor([8.0, 16, 32, 64])
    curves = {"one scale": torch.tensor([0.1, 0.4, 1, 0.4]), "two scales": torch.tensor([0.4, 1, 1, 0.4])}
    draw.best_iou(sizes, curves, objects=torch.tensor([12.0, 40]))
    render()
    ax = plt.gca()
    first, second, line = ax.lines[:3]
    assert first.get_xdata().tolist() == second.get_xdata().tolist() == sizes.tolist()
    assert labels(ax) == ("side of the object, pixels (log scale)", "best IoU of an anchor")
    assert first.get_ydata().tolist() == curves["one scale"].tolist()
    assert second.get_ydata().tolist() == curves["two scales"].tolist() and second.get_lw() < first.get_lw()
    assert line.get_ydata() == [0.7, 0.7] and ax.get_xscale() == "log"
    strokes = ax.collections[0].get_segments()
    assert [s[0, 0] for s in strokes] == [12, 40] and max(s[:, 1].max() for s in strokes) < 0
    assert [t.get_text() for t in ax.get_xticklabels()] == ["8", "16", "32", "64"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0", "0.25", "0.5", "0.7", "1"]
    assert key(plt.gcf().legends[0]) == {
        "one scale": (draw.COLORS[0], "-"), "two scales": (draw.COLORS[1], "-"),
        "IoU 0.7: positive from here on": ("#000000", "--"), "objects of the data": ("#000000", "None"),
    } == dict(zip(legend(plt.gcf().legends[0]), map(looks, ax.lines), strict=True))  # fmt: skip
    plt.close("all")
    draw.best_iou(sizes, curves, line=0.5)
    assert not plt.gca().collections and plt.gca().lines[2].get_ydata() == [0.5, 0.5]
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.best_iou(sizes, {})


def test_labelled_anchors_part_the_positive_ones_from_a_few_others():
    negative, ignored, beyond = [10, 12, 20, 25.0], [5, 6, 9, 12.0], [-5, 12, 20, 25.0]
    best, worse = torch.tensor([[-6, 2, 20, 20], [30, 10, 70, 64.0]]), torch.tensor([[28, 8, 50, 64.0]])
    others = [beyond] * 9 + [negative] * 2000 + [ignored] * 3
    anchors = torch.cat((worse, best, torch.tensor(others)))
    state = torch.tensor([1] * 3 + [0] * 2009 + [-1] * 3)
    draw.labelled_anchors(IMAGE, anchors, state, TARGET["boxes"], shown=2)
    render()
    left, right = panels()
    # of the positive ones the best of each object, of the others none that leaves the picture
    assert extents(left) == [BORDER, *best.tolist(), *TARGET["boxes"].tolist()]
    assert extents(right) == [BORDER, *[negative] * 2, *[ignored] * 2, *TARGET["boxes"].tolist()]
    assert edges(left)[1:] == [draw.GOOD] * 2 + ["#000000"] * 2
    assert edges(right)[1:] == [draw.BAD] * 2 + [to_hex(DARK).upper()] * 2 + ["#000000"] * 2
    assert [r.get_linestyle() for r in rectangles(right)[1:]] == ["-"] * 2 + ["--"] * 2 + [":"] * 2
    assert key(plt.gcf().legends[0]) == {
        "positive (2 drawn)": (draw.GOOD, "-"), "negative (2 drawn)": (draw.BAD, "-"),
        "ignored (2 drawn)": (DARK, "--"), "object": ("#000000", ":"),
    }  # fmt: skip
    assert titles() == ["positive: 3", "negative: 2,009, ignored: 3"]
    for ax in (left, right):
        assert ax.get_xlim()[0] < -6 and ax.get_ylim()[0] > 64  # room for what leaves the picture


def test_labelled_anchors_without_a_positive():
    anchors = torch.tensor([[10, 10, 20, 20.0]])
    draw.labelled_anchors(IMAGE, anchors, torch.tensor([0]), TARGET["boxes"][:0])
    render()
    left, right = panels()
    assert extents(left) == [BORDER] and extents(right) == [BORDER, anchors[0].tolist()]
    assert edges(right)[1] == draw.BAD and titles() == ["positive: 0", "negative: 1, ignored: 0"]
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.labelled_anchors(IMAGE, anchors[:0], torch.tensor([]), TARGET["boxes"])


def test_moved_anchors_are_dashed_before_and_solid_after():
    before = torch.tensor([[-6, 2, 20, 20], [30, 10, 70, 64.0]])
    after = before + 3
    draw.moved_anchors(IMAGE, before, after, TARGET["boxes"])
    render()
    (ax,) = panels()
    assert extents(ax) == [BORDER, *before.tolist(), *after.tolist(), *TARGET["boxes"].tolist()]
    assert edges(ax)[1:] == [draw.COLORS[3]] * 2 + [draw.PROPOSAL] * 2 + [draw.TRUTH] * 2
    assert [r.get_linestyle() for r in rectangles(ax)[1:]] == ["--", "--", "-", "-", ":", ":"]
    assert key(plt.gcf().legends[0]) == {
        "anchor": (draw.COLORS[3], "--"), "moved by its offsets": (draw.PROPOSAL, "-"), "object": (draw.TRUTH, ":"),
    }  # fmt: skip
    assert ax.get_xlim()[0] < -6 and ax.get_ylim()[0] > 64 and not ax.get_title()
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.moved_anchors(IMAGE, before[:0], after[:0], TARGET["boxes"])


def test_sample_bar_enlarges_the_part_that_is_drawn():
    draw.sample_bar({"positive": 30, "ignored": 770, "negative": 3200}, {"positive": 28, "negative": 228})
    render()
    ax = plt.gca()
    bars = [(r.get_x(), r.get_width()) for r in rectangles(ax)]
    expected = [(0, 770), (770, 30), (800, 3200)]
    assert bars[:3] == [pytest.approx((x / 4000, w / 4000)) for x, w in expected]
    assert bars[3:] == [pytest.approx((0, 28 / 256)), pytest.approx((28 / 256, 228 / 256))]
    assert fills(ax) == [draw.PALE, draw.GOOD, draw.BAD, draw.GOOD, draw.BAD]
    ends = [line.get_xdata() for line in ax.lines]
    assert ends == [pytest.approx([772 / 4000, 0]), pytest.approx([1028 / 4000, 1])]
    assert written(ax)[:2] == [
        ("28", (pytest.approx(14 / 256, abs=1e-6), 2.1)),
        ("228 negative", (pytest.approx(142 / 256, abs=1e-6), 2.1)),
    ]
    of_image, of_sample = ax.texts[2:]
    assert (of_image.get_text(), of_image.get_ha()) == ("the image's 4,000 anchors", "left")
    assert (of_sample.get_text(), of_sample.get_ha()) == ("the mini-batch of 256 is 6.4 % of them", "right")
    for text in (of_image, of_sample):  # above the bar of the image
        assert text.get_window_extent().y0 > rectangles(ax)[0].get_window_extent().y1
    named = ["ignored: 770", "positive: 30, sampled 28", "negative: 3,200, sampled 228"]
    assert key(ax.get_legend()) == dict(zip(named, (draw.PALE, draw.GOOD, draw.BAD), strict=True))
    for text, bar in zip(ax.texts[:2], rectangles(ax)[3:], strict=True):
        inner, outer = text.get_window_extent(), bar.get_window_extent()
        assert outer.x0 < inner.x0 and inner.x1 < outer.x1 and outer.y0 < inner.y0 and inner.y1 < outer.y1


def test_sample_bar_without_a_positive():
    draw.sample_bar({"positive": 0, "ignored": 0, "negative": 3200}, {"positive": 0, "negative": 256})
    render()
    assert texts(plt.gca())[0] == "256 negative"
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.sample_bar({"positive": 0, "ignored": 9, "negative": 0}, {"positive": 0, "negative": 0})
