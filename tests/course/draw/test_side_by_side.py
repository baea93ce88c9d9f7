"""What the pictures of the comparison say."""

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.literature import TABLE


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_the_table_as_overviews_print_it_says_nothing_of_training_and_machine():
    draw.published(TABLE, hidden=True)
    said = texts(plt.gca())
    assert "Faster R-CNN" in said and "70.4 mAP" in said and "34.4 AP" in said
    assert {"tested on", "VOC 2012"} < set(said) and not {"trained on", "VOC 07+12", "Titan X"} & set(said)
    assert len(plt.gca().patches) == len(TABLE)


def test_equal_entries_of_a_column_have_one_colour():
    draw.published(TABLE)
    ax = plt.gca()
    assert {"tested on", "trained on", "GPU"} <= set(texts(ax))
    boxes = [(patch.get_x() + patch.get_width() / 2, patch.get_y() + patch.get_height() / 2) for patch in ax.patches]
    words = {(round(t.get_position()[0], 2), round(t.get_position()[1], 1)): t.get_text() for t in ax.texts}
    columns = {}
    for patch, (x, y) in zip(ax.patches, boxes, strict=True):
        columns.setdefault(round(x, 2), {})[words[round(x, 2), round(y, 1)]] = to_hex(patch.get_facecolor())
    colors = [color for column in columns.values() for color in column.values()]
    assert len(set(colors)) == len(colors)  # as many as there are different entries in all three columns
    assert len(columns) == 3 and len(ax.patches) == 3 * len(TABLE)


def test_cells_say_how_many_centres_they_hold():
    objects = torch.tensor([[0.0, 0, 20, 20], [4, 4, 20, 20], [60, 60, 90, 90]])
    draw.grid_cells(torch.rand(3, 100, 100), objects, [0, 0, 5], 3)
    ax = plt.gca()
    assert sorted(texts(ax)) == ["1", "2"]
    filled = {patch.get_label(): to_hex(patch.get_facecolor()).upper() for patch in ax.patches}
    assert (filled["2 in cell 0"], filled["1 in cell 5"]) == (draw.BAD, draw.GOOD)
    assert ax.get_title() == "3 centres in 2 cells: 1 left out"
    dots = [line for line in ax.lines if line.get_marker() in ("o", "X")]
    assert [dot.get_xydata()[0].tolist() for dot in dots] == [[10, 10], [12, 12], [75, 75]]
    assert [dot.get_marker() for dot in dots] == ["o", "X", "o"]  # the second object is left out
    own = [to_hex(dot.get_color()).upper() for dot in dots]
    framed = [to_hex(patch.get_edgecolor()).upper() for patch in ax.patches[-3:]]
    assert own == framed and len(set(own)) == 3 and not {draw.GOOD, draw.BAD} & set(own)
    assert [patch.get_xy() for patch in ax.patches[-3:]] == [(0, 0), (4, 4), (60, 60)]


def test_objects_that_share_a_colour_differ_in_their_lines():
    objects = torch.tensor([[10.0 * k, 0, 10 * k + 8, 8] for k in range(9)])
    draw.grid_cells(torch.rand(3, 100, 100), objects, list(range(9)), 3)
    looks = [(to_hex(patch.get_edgecolor()), patch.get_linestyle()) for patch in plt.gca().patches[-9:]]
    assert len(set(looks)) == 9


def test_the_count_of_a_cell_lies_on_no_centre():
    objects = torch.tensor([[0.0, 0, 8, 8], [20, 20, 36, 36]])
    draw.grid_cells(torch.rand(3, 90, 90), objects, [0, 0], 3)
    (text,) = plt.gca().texts
    x, y = text.get_position()
    assert all(abs(x - cx) + abs(y - cy) > 20 for cx, cy in ((4, 4), (28, 28)))


def test_each_bin_is_lit_on_its_own_map():
    maps = torch.arange(4 * 16).view(4, 4, 4).float()
    pooled = torch.tensor([[1.0, 2], [3, 4]])
    draw.sensitive_maps(maps, (0, 0, 4, 2), pooled)
    *panels, result = plt.gcf().axes
    corners = [panel.patches[0].get_xy() for panel in panels]
    assert corners == [(0, 0), (2, 0), (0, 1), (2, 1)]
    assert [panel.patches[0].get_width() for panel in panels] == [2] * 4
    assert [panel.patches[0].get_height() for panel in panels] == [1] * 4
    assert texts(panels[1]) == [str(n) for n in range(16, 32)]
    assert texts(result) == ["1", "2", "3", "4"] and result.get_title() == "vote 2.5"
    assert [panel.get_title() for panel in panels] == ["upper left", "upper right", "lower left", "lower right"]
    colors = [to_hex(panel.patches[0].get_facecolor()) for panel in panels]
    assert colors == [to_hex(patch.get_facecolor()) for patch in result.patches] and len(set(colors)) == 4


def test_nothing_is_not_drawn():
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.published([])
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.grid_cells(torch.rand(3, 9, 9), torch.zeros(0, 4), [], 3)
