import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw.maps import LIT, bin_maxima, cell_map, cut, winners
from rcnn_tutorial.nets.backbones import Field
from rcnn_tutorial.ops.pooling import spatial_pyramid_pool
from tests.course.draw.figures import (
    IMAGE,
    edges,
    extents,
    is_darker_where_higher,
    key,
    labels,
    legend,
    looks,
    panels,
    pixels,
    rectangles,
    render,
    ticks,
    titles,
    written,
)

MAP = torch.rand(8, 10, generator=torch.Generator().manual_seed(1))


def test_a_map_is_dark_where_it_is_high_and_its_cells_are_units():
    ax = cell_map(MAP, plt.gca())
    assert pixels(ax) == (MAP.tolist(), [0, 10, 8, 0])
    low, high = ax.images[0].get_clim()
    assert low == MAP.min() and high == pytest.approx(low + 1.7 * (MAP.max() - MAP.min()).item())
    assert is_darker_where_higher(ax)
    across, down = (c.get_segments() for c in ax.collections)
    assert [s.tolist() for s in across] == [[[0, y], [10, y]] for y in range(9)]
    assert [s.tolist() for s in down] == [[[x, 0], [x, 8]] for x in range(11)]
    cell_map(MAP, ax, (0.0, 2.0))
    assert ax.images[1].get_clim() == (0, pytest.approx(3.4))


def test_receptive_shows_the_same_cell_twice():
    feature_map = torch.rand(6, 8, generator=torch.Generator().manual_seed(2))
    draw.receptive(IMAGE, feature_map, (2, 5), Field(size=20, stride=10, first=4.0))
    render()
    left, right = panels()
    assert titles() == ["sees 20 x 20 pixels around (54, 24)", "row 2, column 5"]
    assert extents(left) == [[44, 14, 64, 34]] and extents(right) == [[5, 2, 6, 3]]
    assert edges(left) == edges(right) == [LIT] and rectangles(right)[0].get_facecolor()[3] == 0  # its grey is seen
    low, high = right.images[0].get_clim()  # a few cells are darker than middle grey
    shades = (feature_map - low) / (high - low)
    assert low == feature_map.min() and 0 < (shades > 1 / 1.7).float().mean() <= 0.1
    assert left.lines[0].get_xydata().tolist() == [[54, 24]] and looks(left.lines[0])[0] == LIT
    dots = left.collections[0].get_offsets()
    assert pixels(left)[0] == IMAGE.permute(1, 2, 0).tolist() and pixels(right)[0] == feature_map.tolist()
    assert dots.shape == (48, 2) and dots.min(axis=0).tolist() == [4, 4] and dots.max(axis=0).tolist() == [74, 54]


def test_receptive_shows_what_lies_in_the_padding():
    draw.receptive(IMAGE, torch.rand(6, 8), (0, 7), Field(size=20, stride=10, first=4.0))
    render()
    ax = panels()[0]
    assert ax.get_xlim() == (0, 86) and ax.get_ylim() == (60, -8)


def test_a_patch_moves_over_a_grid_that_stays():
    field = Field(size=20, stride=10, first=5.0)
    rows = {"start": (10, torch.tensor([0.0, 4, 2])), "half a stride on": (15, torch.tensor([0.0, 3, 3]))}
    draw.moving_patch(rows, 8, field)
    render()
    (ax,) = panels()
    boxes = extents(ax)
    assert boxes[0] == pytest.approx([10, 0, 18, 0.26]) and boxes[4] == pytest.approx([15, 1, 23, 1.26])
    for row in (0, 1):
        cells = boxes[4 * row + 1 : 4 * row + 4]
        assert [cell[::2] for cell in cells] == [[0, 10], [10, 20], [20, 30]]
        assert all(row + 0.3 < cell[1] < cell[3] < row + 1 for cell in cells)
    said = [(text, place[0]) for text, place in written(ax)]
    assert said == [
        ("start", 14), ("0.0", 5), ("4.0", 15), ("2.0", 25),
        ("half a stride on", 19), ("0.0", 5), ("3.0", 15), ("3.0", 25),
    ]  # fmt: skip
    shades = [sum(r.get_facecolor()[:3]) for r in rectangles(ax)]
    assert shades[2] < shades[6] == shades[7] < shades[3] < shades[1] == 3  # the larger, the darker
    assert list(ticks(ax.xaxis)) == [5, 15, 25] and labels(ax)[0] == "centre of the cell, pixels"
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.moving_patch({}, 8, field)


def test_curves_of_a_patch_stand_beside_its_true_place():
    centres = torch.arange(16.0, 33)
    draw.patch_curves(centres, {"strongest": centres.floor(), "mean": centres - 2}, 3 + centres % 8, 8)
    render()
    above, below = panels()
    truth, first, second = above.lines[:3]
    assert truth.get_xydata().tolist() == [[x, x] for x in range(16, 33)] and truth.get_linestyle() == ":"
    assert [line.get_ydata().tolist() for line in (first, second)] == [list(range(16, 33)), list(range(14, 31))]
    assert key(above.get_legend()) == {
        "the patch itself": (draw.TRUTH, ":"), "strongest": (draw.BAD, "-"), "mean": (draw.COLORS[0], "-"),
    }  # fmt: skip
    assert below.lines[0].get_ydata().tolist() == (3 + centres % 8).tolist() and below.get_ylim()[0] == 0
    for ax in panels():
        assert [line.get_xdata()[0] for line in ax.lines if list(line.get_ydata()) == [0, 1]] == [16, 24, 32]
    assert labels(above)[1] == "place, pixels" and labels(below) == ("centre of the patch, pixels", "its response")
    assert "do not start at 0" in above.get_title(loc="right")
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.patch_curves(centres, {}, centres, 8)


def test_a_projection_lights_the_cells_whose_numbers_it_gives():
    draw.projection(IMAGE, torch.tensor([13.0, 8, 52, 31]), torch.tensor([1, 1, 5, 3]), Field(20, 10, 7.0), (5, 7))
    render()
    (ax,) = panels()
    back, window = rectangles(ax)
    assert extents(ax) == [[12, 12, 52, 32], [13, 8, 52, 31]]
    assert edges(ax) == [LIT, draw.PROPOSAL] and (back.get_linestyle(), window.get_linestyle()) == ("--", "-")
    pale, lit = (dots.get_offsets().tolist() for dots in ax.collections)
    assert lit == [[x, y] for y in (17, 27) for x in (17, 27, 37, 47)] and len(pale) == 35 - 8
    assert min(pale) == [7, 7] and max(pale) == [67, 47]
    assert list(key(plt.gcf().legends[0])) == ["window", "its 2 x 4 cells", "back in pixels"]


@pytest.mark.parametrize("cells, n, expected", [
    (10, 6, [(0, 2), (1, 4), (3, 5), (5, 7), (6, 9), (8, 10)]),
    (8, 4, [(0, 2), (2, 4), (4, 6), (6, 8)]),
    (2, 3, [(0, 1), (0, 2), (1, 2)]),
])  # fmt: skip
def test_bins_are_those_of_the_pyramid(cells, n, expected):
    assert cut(0, cells, n) == expected
    assert cut(-3, cells - 3, n) == [(low - 3, high - 3) for low, high in expected]


def test_maxima_are_those_that_are_pooled():
    window = (1, 2, 9, 7)
    places = bin_maxima(MAP, window, 3)
    pooled = spatial_pyramid_pool(MAP[None, None], [3], torch.tensor([[0, *window]]))
    assert MAP[places[..., 0], places[..., 1]].flatten().tolist() == pooled[0].tolist()


def test_bins_beyond_the_map_have_no_maximum():
    places = bin_maxima(MAP, (-2, 6, 4, 12), 3)
    assert (places[:, 0] == -1).all() and (places[1:] == -1).all()
    assert MAP[tuple(places[0, 1])] == MAP[6:8, 0:2].max() and MAP[tuple(places[0, 2])] == MAP[6:8, 2:4].max()


def test_a_bin_at_the_border_has_the_maximum_of_its_cells_on_the_map():
    places = bin_maxima(MAP, (6, -1, 12, 5), 3)
    assert MAP[tuple(places[0, 0])] == MAP[0, 6:8].max() and MAP[tuple(places[2, 1])] == MAP[3:5, 8:10].max()
    places = bin_maxima(MAP, (-1, 0, 5, 3), 3)
    assert MAP[tuple(places[1, 0])] == MAP[1, 0] and MAP[tuple(places[1, 2])] == MAP[1, 3:5].max()


def test_winners_of_several_bins_look_otherwise():
    ax = cell_map(MAP, plt.gca())
    assert winners(torch.tensor([[[1, 2], [1, 2]], [[4, 5], [-1, -1]]]), ax) == 2
    render()
    several, one = ax.lines
    assert [line.get_xydata().tolist() for line in (several, one)] == [[[2.5, 1.5]], [[5.5, 4.5]]]
    assert [line.get_label() for line in (several, one)] == ["kept by several bins", "kept by one bin"]
    assert several.get_marker() != one.get_marker() and several.get_markersize() > one.get_markersize()
    assert {looks(line)[0] for line in ax.lines} == {LIT} and not written(ax)
    assert {line.get_markerfacecolor() for line in ax.lines} == {"none"}  # rings: the cell's grey is seen


NUMBERS = torch.tensor([[3, 1, 4, 1, 5], [6, 5, 3, 5, 8], [11, 3, 2, 6, 4]])


def test_numbers_are_pooled_by_hand():
    draw.pool_by_hand(NUMBERS, (2, 1))
    render()
    numbers, fine, single = panels()
    assert titles() == ["3 x 5 cells in 2 x 2 bins", "2 x 2", "1 x 1"]
    assert [text for text, _ in written(numbers)] == [str(v) for v in NUMBERS.flatten().tolist()]
    assert dict(written(numbers))["11"] == (0.5, 2.5)
    pooled = spatial_pyramid_pool(NUMBERS[None, None].float(), (2, 1))[0].tolist()
    assert [float(text) for ax in (fine, single) for text, _ in written(ax)] == pooled
    assert [place for _, place in written(fine)] == [(0.5, 0.5), (1.5, 0.5), (0.5, 1.5), (1.5, 1.5)]
    frames = [[round(v) for v in corners] for corners in extents(numbers)]
    assert frames == [[0, 0, 3, 2], [2, 0, 5, 2], [0, 1, 3, 3], [2, 1, 5, 3]]  # row 1 and column 2 are shared
    assert edges(numbers) == edges(fine) and len(set(edges(numbers))) == 4
    rings = {line.get_markeredgecolor(): tuple(line.get_xydata()[0]) for line in numbers.lines}
    assert rings == dict(zip(edges(numbers), [(0.5, 1.5), (4.5, 1.5), (0.5, 2.5), (4.5, 1.5)], strict=True))
    assert numbers.get_ylim()[0] > numbers.get_ylim()[1]


def test_pyramid_bins_has_a_picture_and_a_map_for_each_window():
    window, cells = torch.tensor([5.0, 10, 60, 50]), (1, 1, 7, 6)
    draw.pyramid_bins([(IMAGE, window, MAP, cells), (IMAGE, window, 2 * MAP, (6, 2, 9, 7))], 2)
    render()
    left, right, below, last = panels()
    kept = [len(bin_maxima(MAP, own, 2).view(-1, 2).unique(dim=0)) for own in (cells, (6, 2, 9, 7))]
    assert titles() == [
        "",
        f"5 x 6 cells: 4 bins keep {kept[0]} of them",
        "",
        f"5 x 3 cells: 4 bins keep {kept[1]} of them",
    ]
    assert extents(left) == extents(below) == [[5, 10, 60, 50]] and edges(left) == [draw.PROPOSAL]
    assert pixels(right)[0] == MAP.tolist() and pixels(last)[0] == (2 * MAP).tolist()
    assert right.get_xlim() == (0.7, 7.3) and right.get_ylim() == (6.3, 0.7)
    found = {tuple(line.get_xydata()[0] - 0.5) for line in right.lines}
    assert found == {(x, y) for y, x in bin_maxima(MAP, cells, 2).view(-1, 2).tolist()}
    down, across = (lines.get_segments() for lines in last.collections[-2:])  # the borders, also within a cell
    assert [segment.tolist() for segment in down] == [[[x, 2], [x, 7]] for x in (6, 7.5, 9)]
    assert [segment.tolist() for segment in across] == [[[6, y], [9, y]] for y in (2, 4.5, 7)]
    assert {to_hex(c).upper() for lines in last.collections[-2:] for c in lines.get_colors()} == {draw.PROPOSAL}
    assert legend(plt.gcf().legends[0]) == ["kept by one bin", "kept by several bins"]
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.pyramid_bins([], 2)
    with pytest.raises(AssertionError, match="not finite"):
        draw.pyramid_bins([(IMAGE, window, MAP / 0, cells)], 2)


def test_by_scale_colours_and_counts():
    windows = torch.tensor([[0, 0, 10, 10], [20, 20, 40, 50], [5, 5, 60, 50.0]])
    draw.by_scale(IMAGE, windows, torch.tensor([2, 0, 2]), ["480", "576", "688"])
    render()
    assert extents(plt.gca()) == windows[[1, 0, 2]].tolist()
    assert edges(plt.gca()) == [draw.COLORS[0], draw.COLORS[2], draw.COLORS[2]]
    found = plt.gcf().legends[0]
    named = ["480: 1 window", "576: 0 windows", "688: 2 windows"]
    assert key(found) == {name: (color, "-") for name, color in zip(named, draw.COLORS, strict=False)}
    assert found.get_title().get_text() == "scale read"
    assert found.get_window_extent().x1 <= plt.gcf().bbox.x1
