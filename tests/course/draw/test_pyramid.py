import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import ConnectionPatch, Polygon

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw.maps import LIT
from rcnn_tutorial.course.draw.style import contrast
from tests.course.draw.figures import (
    IMAGE,
    edges,
    extents,
    fills,
    is_darker_where_higher,
    key,
    panels,
    pixels,
    rectangles,
    render,
    texts,
    ticks,
    titles,
    written,
)

BOX = torch.tensor([40.0, 20, 60, 40])


def stack(*sizes):
    return [torch.rand(size, generator=torch.Generator().manual_seed(size[0])) for size in sizes]


def inside():
    """Does every text and title lie on the figure?"""
    figure = plt.gcf()
    found = [t for ax in figure.axes for t in (*ax.texts, ax.title) if t.get_text()]
    places = [t.get_window_extent() for t in found]
    return all(p.x0 >= 0 and p.x1 <= figure.bbox.x1 and p.y0 >= 0 and p.y1 <= figure.bbox.y1 for p in places)


def test_level_table_writes_each_share_in_its_cell():
    first = {"C2": torch.tensor([0.25, 0.5]), "C3": torch.tensor([0.75, 1.0])}
    draw.level_table({"network": first, "pyramid": {"P2": torch.tensor([0.1, 0.3])}}, ("small", "large"), 0.25)
    render()
    left, right = panels()
    assert titles() == ["network", "pyramid"]
    assert written(left) == [("0.75", (0, 0)), ("1.00", (1, 0)), ("0.25", (0, 1)), ("0.50", (1, 1))]  # coarsest on top
    assert ticks(left.xaxis) == {0: "small", 1: "large"} and ticks(left.yaxis) == {0: "C3", 1: "C2"}
    assert left.get_ylim() == (1.5, -0.5) and ticks(right.yaxis) == {0: "P2"}
    shades = dict(zip(texts(left), fills(left), strict=True))
    light = [sum(to_rgb(shades[text])) for text in ("0.25", "0.50", "0.75", "1.00")]
    assert light == sorted(light, reverse=True) and len(set(light)) == 4
    assert fills(right)[0] == shades["0.25"]  # not above chance
    assert all(contrast(to_hex(t.get_color()), shades[t.get_text()]) > 4.5 for t in left.texts)
    label = plt.gcf().get_supxlabel()
    assert "named rightly" in label and "guessing gives 0.25" in label and inside()
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.level_table({}, (), 0.5)


def planes(ax):
    """The outline of every plane and of the object on it, in the coordinates of the axes, and the plane's colour."""
    patches = [p for p in ax.patches if isinstance(p, Polygon)]
    corners = [ax.transData.inverted().transform(p.get_transform().transform(p.get_xy()[:4])) for p in patches]
    colors = [to_hex(p.get_edgecolor()).upper() for p in patches]
    return list(zip(corners[::2], corners[1::2], colors[::2], strict=True))


def test_designs_stack_their_maps_by_stride():
    maps = {"single map": stack((15, 20)), "pyramid": stack((30, 40), (15, 20), (8, 10))}
    draw.designs(IMAGE, BOX, maps, {"single map": 0, "pyramid": 2})
    render()
    left, single, pyramid = panels()
    assert titles()[1:] == list(maps) and texts(left) == ["stride\n2", "stride\n4", "stride\n8"]
    assert [image.get_array().shape for image in pyramid.images] == [(60, 80, 3), (30, 40), (15, 20), (8, 10)]
    assert [color for _, _, color in planes(pyramid)] == [draw.PALE] * 3 + [draw.GOOD]
    assert [color for _, _, color in planes(single)] == [draw.PALE, draw.GOOD]
    objects = [p for p in pyramid.patches if isinstance(p, Polygon)][1::2]
    assert {to_hex(p.get_edgecolor()).upper() for p in objects} == {LIT}
    strength = [p.get_linewidth() for p in objects]
    assert strength[3] > max(strength[:3])  # on the map that reads it
    assert all(is_darker_where_higher(pyramid, i) for i in (1, 2, 3))
    outlines = [outline for outline, _, _ in planes(pyramid)]
    widths = [outline[1, 0] - outline[0, 0] for outline in outlines]
    assert widths[0] == pytest.approx(80) and widths[0] >= widths[1] > widths[2] > widths[3]
    tops, bottoms = [o[:, 1].max() for o in outlines], [o[:, 1].min() for o in outlines]
    assert (
        all(top < bottom for top, bottom in zip(tops, bottoms[1:], strict=False)) and tops[-1] < pyramid.get_ylim()[1]
    )
    assert planes(single)[1][0] == pytest.approx(planes(pyramid)[2][0])  # one stride, one height
    for (_, (_, y)), bottom, top in zip(written(left), bottoms[1:], tops[1:], strict=True):
        assert bottom < y < top  # each stride is written beside its planes
    for outline, box, _ in planes(pyramid):  # the object's corner has its place among the map's corners
        a, b, _, d = outline
        assert box[0] == pytest.approx(a + 40 / 80 * (b - a) + 20 / 60 * (d - a))
    assert inside()
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.designs(IMAGE, BOX, {}, {})


def test_a_design_of_resized_images_has_each_beside_its_map():
    maps = {"image pyramid": stack((30, 40), (15, 20)), "pyramid": stack((30, 40), (15, 20))}
    draw.designs(IMAGE, BOX, maps, resized={"image pyramid": (2, 1)})
    render()
    _, resized, pyramid = panels()
    assert [image.get_array().shape for image in resized.images] == [(30, 40), (60, 80, 3), (15, 20), (60, 80, 3)]
    assert [image.get_array().shape for image in pyramid.images] == [(60, 80, 3), (30, 40), (15, 20)]
    assert [color for _, _, color in planes(resized)] == [draw.GOOD] + [draw.PALE] * 3  # the finest reads it
    outlines = [outline for outline, _, _ in planes(resized)]
    (fine, large, coarse, small), widths = outlines, [outline[1, 0] - outline[0, 0] for outline in outlines]
    assert widths[1] == pytest.approx(2 * widths[3])  # as large as the network sees it
    for picture, feature_map in ((large, fine), (small, coarse)):
        assert picture[:, 1].min() == pytest.approx(feature_map[:, 1].min())  # on one floor
        assert picture[:, 0].max() < feature_map[:, 0].min()
    boxes = [box[:, 0].max() - box[:, 0].min() for _, box, _ in planes(resized)]
    assert boxes[1] == pytest.approx(2 * boxes[3])  # and so is the object
    arrows = [t for t in resized.texts if not t.get_text()]
    for arrow, picture, feature_map in zip(arrows, (large, small), (fine, coarse), strict=True):
        assert picture[:, 0].min() < arrow.xyann[0] < arrow.xy[0] < feature_map[:, 0].max()
        assert feature_map[:, 1].min() < arrow.xy[1] < feature_map[:, 1].max()
    assert [t.get_text() for t in resized.texts if t.get_text()] == ["x 2", "x 1"] and inside()


def test_addition_by_hand():
    draw.addition(torch.tensor([[1.0, 2], [3, 4]]), torch.arange(16.0).view(4, 4) * 10)
    render()
    coarse, arrow, above, plus, fine, equals, sums = panels()
    assert titles()[::2] == ["coarse map", "upsampled", "lateral", "sum"]
    assert texts(coarse) == ["1", "2", "3", "4"] and texts(fine)[:5] == ["0", "10", "20", "30", "40"]
    assert texts(above) == ["1", "1", "2", "2"] * 2 + ["3", "3", "4", "4"] * 2
    assert texts(sums)[:4] == ["1", "11", "22", "32"] and texts(sums)[-1] == "154"
    assert [texts(ax)[0] for ax in (plus, equals)] == ["+", "="] and arrow.texts[1].arrow_patch
    assert fills(above) == fills(sums) and fills(above)[::3][:2] == [fills(coarse)[0], fills(coarse)[1]]
    assert len(set(fills(above))) == 4 and set(fills(fine)) == {"#FFFFFF"}
    assert [fills(above)[4 * row + column] for row in (0, 2) for column in (0, 2)] == fills(coarse)
    for ax in (coarse, above, fine, sums):  # row by row, each number in its cell
        side = round(len(ax.texts) ** 0.5)
        places = [(column, row) for row in range(side) for column in range(side)]
        assert [r.get_xy() for r in rectangles(ax)] == places
        assert [place for _, place in written(ax)] == [(x + 0.5, y + 0.5) for x, y in places]
    cells = zip(rectangles(sums), sums.texts, strict=True)
    assert all(t.get_window_extent().width < r.get_window_extent().width for r, t in cells) and inside()


def test_addition_to_an_odd_size():
    draw.addition(torch.tensor([[1.0, -2], [3, 4]]), torch.tensor([[0.5, 0, 10], [-2.5, 1, 0], [0, 0, 12.5]]))
    assert texts(panels()[2]) == ["1", "1", "-2", "1", "1", "-2", "3", "3", "4"]
    assert texts(panels()[6]) == ["1.5", "1", "8", "-1.5", "2", "-2", "3", "3", "16.5"]


def test_merging_goes_down_level_by_level():
    coarse, fine = torch.tensor([[0.0, 1]]), torch.tensor([[0.0, 0, 5, 0], [0, 0, 0, -7]])
    above = coarse.repeat_interleave(2, 0).repeat_interleave(2, 1)
    levels = {"P4": (fine, above, fine + above, 9 * fine), "P5": (coarse, None, coarse, 2 * coarse)}
    draw.merging(IMAGE, levels)
    render()
    top, bottom, (seen,) = panels()[:7], panels()[7:14], panels()[14:]
    assert seen.get_title() == "the input" and pixels(seen) == ([*IMAGE.permute(1, 2, 0).tolist()], [0, 80, 60, 0])
    assert seen.get_window_extent().x1 < top[0].get_window_extent().x0
    assert titles()[:7:2] == ["lateral", "from above", "sum", "after 3 x 3"]
    assert texts(top[0]) == ["P5"] and texts(bottom[0]) == ["P4"]
    around = [each - each.mean() for each in levels["P4"]]
    shown = [torch.as_tensor(ax.images[0].get_array()) for ax in bottom[::2]]
    assert all(torch.allclose(a, b) for a, b in zip(shown, around, strict=True))
    assert torch.allclose(shown[0] + shown[1], shown[2])  # the colours add up, too
    limits = [ax.images[0].get_clim() for ax in bottom[::2]]
    assert limits[0] == limits[1] == limits[2] != limits[3] and all(low == -high for low, high in limits)
    assert 6 < limits[0][1] <= torch.cat(around[:3]).abs().max()
    shades = [to_hex(bottom[0].images[0].get_cmap()(share)).upper() for share in (0.0, 0.5, 1.0)]
    assert shades[::2] == [draw.BAD, draw.COLORS[0]] and contrast(shades[1], "white") < 1.02  # white is the mean
    assert not top[2].images and texts(top[1]) == [""] and texts(bottom[1]) == ["+"] and texts(bottom[3]) == ["="]
    (down,) = [a for a in plt.gcf().artists if isinstance(a, ConnectionPatch)]
    assert (down.axesA, down.axesB) == (top[4], bottom[2]) and inside()
    assert to_hex(down.get_edgecolor()).upper() == LIT and written(top[0]) == [("P5", (-0.08, 0.5))]
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.merging(IMAGE, {})


def test_level_anchors_mark_the_best():
    anchors = torch.tensor([[40.0, 20, 44, 24], [38, 18, 62, 42], [20, 0, 80, 60], [-90, -90, 90, 90], [0, 0, 9, 9]])
    draw.level_anchors(IMAGE, BOX, anchors, (0.04, 0.69, 0.11, 0.01, 0), (4, 8, 16, 32, 64))
    render()
    *shown, rest = panels()
    assert titles()[:2] == ["P2, stride 4: IoU 0.04", "P3, stride 8: IoU 0.69"] and titles()[4][:13] == "P6, stride 64"
    assert [ax.title.get_fontweight() for ax in shown] == ["normal", "bold"] + ["normal"] * 3
    assert [extents(ax)[1] for ax in shown] == anchors.tolist()
    assert [extents(ax)[2] for ax in shown] == [BOX.tolist()] * 5
    assert [edges(ax)[1] for ax in shown] == [draw.COLORS[0], draw.GOOD] + [draw.COLORS[0]] * 3
    across, down = ([s.tolist() for s in drawn.get_segments()] for drawn in shown[1].collections)
    assert across == [[[x, 0], [x, 60]] for x in range(8, 80, 8)]  # between 10 x 8 cells
    assert down == [[[0, y], [80, y]] for y in range(8, 60, 8)]
    across, up = 80 / 8, 60 / 8
    assert shown[0].get_xlim() == pytest.approx((-across, 80 + across)) and shown[0].get_ylim() == (60 + up, -up)
    assert inside() and key(rest.get_legend()) == {
        "best anchor of the level": (draw.COLORS[0], "-"), "best of all": (draw.GOOD, "-"), "object": ("#000000", ":"),
    }  # fmt: skip
    assert [r.get_linestyle() for r in rectangles(shown[0])[1:]] == ["-", ":"]


def test_level_anchors_with_every_panel_used():
    draw.level_anchors(IMAGE, BOX, BOX.expand(4, 4), (0.1, 0.2, 0.3, 0.2), (4, 8, 16, 32))
    assert len(panels()) == 4 and len(plt.gcf().legends) == 1 and panels()[0].get_xlim() == (-4, 84)
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.level_anchors(IMAGE, BOX, torch.zeros(0, 4), (), ())


def test_responses_name_letters_alone():
    maps = {letter: stack((15, 20), (8 + i, 10)) for i, letter in enumerate("abc")}
    draw.responses(IMAGE, maps, levels=("P2", "P3"))
    render()
    image, *shown = panels()
    assert titles() == ["", "P2", "P3", "", "", "", ""] and [texts(ax) for ax in shown[::2]] == [["a"], ["b"], ["c"]]
    assert [written(ax) for ax in shown[::2]] == [[(name, (-0.1, 0.5))] for name in "abc"]
    found = [ax.images[0].get_array().tolist() for ax in shown]
    assert found == [each.tolist() for row in maps.values() for each in row] and len(image.images) == 1
    assert shown[1].images[0].get_clim() == (maps["a"][1].min(), maps["a"][1].max()) and inside()
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.responses(IMAGE, {})


def test_arrows_lead_from_each_added_map_to_the_next_finer_one():
    maps = {"hierarchy": stack((30, 40), (15, 20)), "pyramid": stack((30, 40), (15, 20))}
    draw.designs(IMAGE, BOX, maps, added=["pyramid"])
    render()
    _, hierarchy, pyramid = panels()
    (fine, _, _), (coarse, _, _) = planes(pyramid)[1:]
    arrow, plus = pyramid.texts
    assert plus.get_text() == "+" and not hierarchy.texts
    assert coarse[:, 1].min() < arrow.xyann[1] < coarse[:, 1].max() and arrow.xyann[0] > coarse[:, 0].mean()
    assert arrow.xy[1] == pytest.approx(fine[:, 1].max()) and arrow.xy[0] > fine[:, 0].mean()
