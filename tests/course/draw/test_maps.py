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
    fills,
    is_darker_where_higher,
    key,
    legend,
    looks,
    panels,
    pixels,
    rectangles,
    render,
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
    assert edges(left) == edges(right) == fills(right) == [LIT]
    assert left.lines[0].get_xydata().tolist() == [[54, 24]] and looks(left.lines[0])[0] == LIT
    dots = left.collections[0].get_offsets()
    assert pixels(left)[0] == IMAGE.permute(1, 2, 0).tolist() and pixels(right)[0] == feature_map.tolist()
    assert dots.shape == (48, 2) and dots.min(axis=0).tolist() == [4, 4] and dots.max(axis=0).tolist() == [74, 54]


def test_receptive_shows_what_lies_in_the_padding():
    draw.receptive(IMAGE, torch.rand(6, 8), (0, 7), Field(size=20, stride=10, first=4.0))
    render()
    ax = panels()[0]
    assert ax.get_xlim() == (0, 86) and ax.get_ylim() == (60, -8)


def test_shift_strip_marks_the_peaks():
    first, second = torch.zeros(6, 8), torch.zeros(6, 8)
    first[2, 3], second[2, 5] = 4, 2
    draw.shift_strip([IMAGE, IMAGE.flip(2)], [first, second], ["here", "moved"])
    render()
    shown = [IMAGE.permute(1, 2, 0), IMAGE.flip(2).permute(1, 2, 0), first, second]
    assert [pixels(ax)[0] for ax in panels()] == [each.tolist() for each in shown]
    assert edges(panels()[3]) == ["#000000", LIT] and fills(panels()[3])[1] == LIT
    assert titles() == ["here", "moved", "row 2, column 3: 4.00", "row 2, column 5: 2.00"]
    assert [extents(ax) for ax in panels()] == [[], [], [[3, 2, 4, 3]] * 2, [[3, 2, 4, 3], [5, 2, 6, 3]]]
    assert [r.get_linestyle() for r in rectangles(panels()[3])] == ["--", "-"]
    assert panels()[2].images[0].get_clim() == panels()[3].images[0].get_clim() == (0, pytest.approx(6.8))


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


def test_winners_count_their_bins():
    ax = cell_map(MAP, plt.gca())
    winners(torch.tensor([[[1, 2], [1, 2]], [[4, 5], [-1, -1]]]), ax)
    render()
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[2.5, 1.5]], [[5.5, 4.5]]]
    assert written(ax) == [("2", (2.5, 1.5))] and {looks(line)[0] for line in ax.lines} == {LIT}
    assert ax.lines[0].get_markersize() > ax.lines[1].get_markersize()  # room for the number


def test_pyramid_bins_has_a_panel_per_window():
    windows = [(1, 1, 5, 5), (0, 0, 10, 8), (6, 2, 9, 7)]
    draw.pyramid_bins(MAP, windows, 2)
    render()
    whole, *parts = panels()
    assert titles() == ["the map", "4 x 4 cells: 4 bins", "10 x 8 cells: 4 bins", "3 x 5 cells: 4 bins"]
    assert extents(whole) == [list(window) for window in windows]
    for ax, window, color in zip(parts, windows, edges(whole), strict=True):
        *bins, frame = rectangles(ax)
        assert pixels(ax)[0] == pixels(whole)[0] == MAP.tolist()
        assert ax.get_xlim() == (window[0] - 0.5, window[2] + 0.5) and ax.get_ylim() == (
            window[3] + 0.5,
            window[1] - 0.5,
        )
        assert frame.get_bbox().extents.tolist() == list(window)
        assert to_hex(frame.get_edgecolor()).upper() == color and len(bins) == 4
        found = {tuple(line.get_xydata()[0] - 0.5) for line in ax.lines}
        assert found == {(x, y) for y, x in bin_maxima(MAP, window, 2).view(-1, 2).tolist()}
    assert extents(parts[2])[1] == pytest.approx([7.16, 2.16, 8.84, 4.84])  # shares cells with its neighbours
    assert {color for ax in parts for color in edges(ax)[:-1]} == {draw.COLORS[0]}  # of the bins
    assert looks(plt.gcf().legends[0].legend_handles[0])[0] == LIT
    assert legend(plt.gcf().legends[0]) == ["maximum of a bin; with a number, of that many"]


def test_pyramid_bins_of_nothing():
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.pyramid_bins(MAP, [], 2)
    with pytest.raises(AssertionError, match="not finite"):
        draw.pyramid_bins(MAP / 0, [(0, 0, 4, 4)], 2)


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


def test_map_strip_has_a_panel_for_each_map():
    draw.map_strip({"lateral": MAP, "sum": 3 * MAP})
    render()
    assert titles() == ["lateral", "sum"]
    shown = [ax.images[0].get_array() for ax in panels()]
    assert (shown[0] == MAP.numpy()).all() and (shown[1] == 3 * MAP.numpy()).all()
    clims = [ax.images[0].get_clim() for ax in panels()]
    assert [low for low, _ in clims] == [MAP.min(), 3 * MAP.min()] and clims[1][1] == pytest.approx(3 * clims[0][1])
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.map_strip({})
