import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from rcnn_tutorial.course import draw
from tests.course.draw.figures import edges, extents, legend, panels, points, rectangles, render, texts, titles, written

BITS = torch.zeros(4, 4, dtype=torch.bool)
BITS[0, 1] = BITS[1, 2] = BITS[2, 3] = True
LATER = torch.ones(4, 4).triu(1).bool()
MAP = torch.arange(20.0).view(4, 5)


def of_color(ax, color):
    """Corners of the boxes that are filled with it."""
    return [r.get_bbox().extents.tolist() for r in rectangles(ax) if to_hex(r.get_facecolor()).upper() == color]


def test_mask_words_shows_pairs_and_words():
    words = torch.tensor([[2, 0, 0, 0], [0, 1, 2, 0]])
    draw.mask_words(BITS, LATER, words, (0, 1))
    render()
    left, right = panels()
    places = [(1.5, 0.5), (2.5, 0.5), (3.5, 0.5), (2.5, 1.5), (3.5, 1.5), (3.5, 2.5)]
    assert written(left) == list(zip("100101", places, strict=True))
    assert of_color(left, draw.COLORS[5]) == [[1, 0, 2, 1], [2, 1, 3, 2], [3, 2, 4, 3]]
    assert extents(left)[-1] == [2, 0, 4, 2] and edges(left)[-1] == draw.BAD  # the tile of program (0, 1)
    assert (left.get_xlabel(), left.get_ylabel()) == ("box that may be suppressed", "box that may suppress")
    assert titles() == ["1: row would suppress column. Framed: program (0, 1)", "what is written"]
    assert [text for text, _ in written(right)] == ["2", "0", "0", "0", "0", "1", "2", "0"]
    assert [t.get_text() for t in right.texts if t.get_weight() == "bold"] == ["0", "1"]
    assert [t.get_text() for t in right.get_xticklabels()] == ["word 0", "word 1"]


def test_mask_scan_adds_the_bits_of_kept_boxes_alone():
    draw.mask_scan(BITS, torch.tensor([True, False, True, False]))
    render()
    (ax,) = panels()
    assert texts(ax) == list("0100010001010101")
    assert of_color(ax, draw.BAD) == [[1, 0, 2, 1], [3, 2, 4, 3]]  # set by boxes 0 and 2
    asked = [r for r in rectangles(ax) if r.get_linewidth() == 4]
    assert [r.get_xy() for r in asked] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    black = "#000000"
    assert [to_hex(r.get_edgecolor()).upper() for r in asked] == [draw.GOOD, black, draw.GOOD, black]
    assert [t.get_text() for t in ax.get_yticklabels()][:2] == [
        "box 0 is kept: OR with its word",
        "box 1 is dropped: nothing",
    ]


def test_pool_steps_read_in_row_order_and_keep_the_largest():
    falling = 19 - MAP
    draw.pool_steps(falling, [(0, 0, 2, 2), (2, 0, 4, 2)], [1, 2, 3])
    render()
    assert titles() == ["step 1", "step 2", "step 3"]
    assert texts(panels()[0]) == [f"{number:g}" for number in falling.flatten().tolist()]
    read, best = [], []
    for ax in panels():
        filled = [r for r in rectangles(ax) if r.get_fill()]
        read.append([r.get_xy() for r in filled])
        best.append([tuple(round(v) for v in r.get_xy()) for r in rectangles(ax) if r.get_width() == 0.84])
    assert read == [[(0, 0), (2, 0)], [(1, 0), (3, 0)], [(0, 1), (2, 1)]]
    assert best == [[(0, 0), (2, 0)]] * 3  # numbers fall, so the first stays
    assert legend(plt.gcf().legends[0]) == ["read in this step", "largest so far: value and switch"]
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.pool_steps(MAP, [(0, 0, 2, 2)], [])


def test_align_points_lie_between_the_cells_that_they_read():
    shares = torch.zeros(4, 5)
    shares[0, 1], shares[1, 1] = 0.75, 0.25
    draw.align_points(MAP, [0.5, 0, 2.5, 2], (1, 2), 2, shares)
    render()
    left, right = panels()
    assert titles() == ["forward: the last point reads four cells", "backward: what a gradient of 1 adds"]
    dots = [(1.25, 1.0), (1.75, 1.0), (1.25, 2.0), (1.75, 2.0)]  # the first cell's centre is drawn at 0.5
    assert points(left.lines[0]) == points(right.lines[0]) == dots
    assert [points(line) for line in left.lines[1:]] == [
        [(1.75, 2.0), centre] for centre in ((1.5, 1.5), (1.5, 2.5), (2.5, 1.5), (2.5, 2.5))
    ]
    assert extents(left) == [[2, 0.5, 3, 2.5], [1, 0.5, 2, 2.5], [1, 1, 2, 2], [1, 2, 2, 3], [2, 1, 3, 2], [2, 2, 3, 3]]
    assert edges(left)[:2] == ["#000000", draw.BAD]  # the first bin is lit
    filled = [r for r in rectangles(right) if r.get_fill()]
    assert [(r.get_xy(), round(r.get_alpha(), 2)) for r in filled] == [((1, 0), 0.9), ((1, 1), 0.3)]
    assert texts(right)[:7] == ["0", "0.75", "0", "0", "0", "0", "0.25"] and texts(left)[:3] == ["0", "1", "2"]
