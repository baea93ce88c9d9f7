import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw.anchors import DARK
from rcnn_tutorial.course.draw.stages import STAGE_COLORS
from tests.course.draw.figures import (
    IMAGE,
    TARGET,
    edges,
    extents,
    fills,
    key,
    labels,
    panels,
    rectangles,
    render,
    texts,
    thin,
    ticks,
    titles,
    written,
)

TRUTHS = TARGET["boxes"]
FAR = torch.tensor([[60, 40, 78, 58.0]])
NEAR = TRUTHS + 1


def outlined(ax):
    """Colour and corners of the thin boxes on it, by kind."""
    return [(to_hex(c.get_edgecolor()).upper(), thin(c)) for c in ax.collections if c.get_paths()]


def test_filter_steps_show_which_objects_are_still_covered():
    many = FAR + torch.arange(5000.0)[:, None] / 5000  # each a little further
    draw.filter_steps(IMAGE, {"decode": torch.cat((many, NEAR)), "NMS": NEAR}, TRUTHS)
    render()
    ax, last = panels()
    assert titles() == ["decode: 5,002 boxes, 2 of 2 covered", "NMS: 2 boxes, 2 of 2 covered"]
    ((color, drawn),) = outlined(ax)
    assert color == draw.PROPOSAL and len(drawn) == 15  # from the first to the last
    assert drawn[0] == many[0].tolist() and drawn[-1] == NEAR[-1].tolist()
    assert outlined(last) == [(draw.PROPOSAL, NEAR.tolist())]
    assert edges(ax)[1:] == [draw.GOOD, draw.GOOD] and extents(ax)[1:] == TRUTHS.tolist() and not texts(ax)
    assert ax.get_xlim() == pytest.approx((-12, 92)) and ax.get_ylim() == pytest.approx((69, -9))
    assert key(plt.gcf().legends[0]) == {
        "box (15 of each step drawn)": (draw.PROPOSAL, "-"), "covered (IoU of 0.7)": (draw.GOOD, "-"),
        "not covered": (draw.BAD, "--"),
    }  # fmt: skip


def test_filter_steps_dash_and_letter_the_objects_that_are_lost():
    steps = {"decode": NEAR, "best": torch.cat((FAR, NEAR[:1])), "NMS": FAR, "none": NEAR[:0]}
    draw.filter_steps(IMAGE, steps, TRUTHS, shown=1)
    render()
    assert [texts(ax) for ax in panels()] == [[], ["B"], ["A", "B"], ["A", "B"]]
    ax = panels()[1]
    assert edges(ax)[1:] == [draw.GOOD, draw.BAD] and extents(ax)[1:] == TRUTHS.tolist()
    assert [r.get_linestyle() for r in rectangles(ax)[1:]] == ["-", "--"]
    assert titles()[1:] == [
        "best: 2 boxes, 1 of 2 covered",
        "NMS: 1 boxes, 0 of 2 covered",
        "none: 0 boxes, 0 of 2 covered",
    ]
    plt.close("all")
    draw.filter_steps(IMAGE, {"NMS": NEAR}, TRUTHS, threshold=0.99)
    assert edges(panels()[0])[1:] == [draw.BAD, draw.BAD]
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.filter_steps(IMAGE, {}, TRUTHS)


def test_the_map_of_faster_rcnn_follows_its_forward_pass():
    arrows = [(first.split("\n")[0], last.split("\n")[0]) for first, last, _ in draw.FASTER_RCNN.arrows]
    assert arrows == [
        ("picture", "convs"), ("convs", "3 x 3"), ("convs", "RoIAlign"), ("3 x 3", "objectness"),
        ("3 x 3", "offsets"), ("objectness", "filter"), ("offsets", "filter"), ("anchors", "filter"),
        ("filter", "RoIAlign"), ("RoIAlign", "head"),
    ]  # fmt: skip
    shapes = {last.split("\n")[0]: [] for _, last, _ in draw.FASTER_RCNN.arrows}
    for _, last, shape in draw.FASTER_RCNN.arrows:
        shapes[last.split("\n")[0]].append(shape)
    assert shapes["filter"] == ["(A, h, w)", "(4A, h, w)", "(hwA, 4)"] and shapes["RoIAlign"][1] == "(≤ 300, 4)"
    losses = [name for name in draw.FASTER_RCNN.parts if "\n" in name]
    assert losses == ["objectness\nlog loss", "offsets\nsmooth L1", "head\n2 losses"]


def test_on_the_map_of_faster_rcnn_no_word_leaves_its_part_or_lies_on_another():
    draw.network_map(draw.FASTER_RCNN)
    render()
    ax = panels()[0]
    parts = [patch.get_window_extent() for patch in ax.patches]
    words = [t for t in ax.texts if t.get_text()]
    for text in words:
        where = text.get_window_extent()
        holding = [part for part in parts if where.overlaps(part)]
        if text.get_text() in draw.FASTER_RCNN.parts:
            (part,) = holding
            assert part.x0 < where.x0 and where.x1 < part.x1 and part.y0 < where.y0 and where.y1 < part.y1
        else:
            assert not holding, text.get_text()
    places = [text.get_window_extent() for text in words]
    assert not any(a.overlaps(b) for i, a in enumerate(places) for b in places[:i])


@pytest.mark.parametrize("count, grid", [(1, (1, 1)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3))])
def test_proposals_strip_takes_two_rows_for_more_than_three(count, grid):
    draw.proposals_strip(IMAGE, [("step", FAR)] * count, TRUTHS)
    render()
    shape = panels()[0].get_subplotspec().get_gridspec().get_geometry()
    assert shape == grid and sum(bool(ax.images) for ax in panels()) == count
    assert panels()[0].title.get_window_extent().y1 <= plt.gcf().bbox.y1 + 1


def test_proposals_strip_colours_those_near_an_object():
    draw.proposals_strip(IMAGE, [("step 0", FAR), ("step 100", torch.cat((FAR, FAR, NEAR)))], TRUTHS)
    render()
    first, second = panels()
    assert titles() == ["step 0: 0 of 1 near an object", "step 100: 2 of 4 near an object"]
    assert outlined(first) == [(DARK, FAR.tolist())]
    assert outlined(second) == [(DARK, FAR.tolist() * 2), (draw.GOOD, NEAR.tolist())]
    assert extents(second) == TRUTHS.tolist() and {r.get_linestyle() for r in rectangles(second)} == {":"}
    named = {"IoU of at least 0.5 with an object": (draw.GOOD, "-"), "less": (DARK, "-"), "object": ("#000000", ":")}
    assert key(plt.gcf().legends[0]) == named


def test_gradient_table_is_filled_where_a_gradient_arrives():
    reached = torch.tensor([[True, True, False], [True, False, True]])
    draw.gradient_table(reached, ["objectness", "class"], ["trunk", "score layer", "head of the detector"])
    render()
    ax = plt.gca()
    places = [(r.get_x() + r.get_width() / 2, r.get_y() + r.get_height() / 2) for r in rectangles(ax)]
    filled = {place: color == draw.GOOD for place, color in zip(places, fills(ax), strict=True)}
    assert filled == {(column, row): bool(reached[row, column]) for row in range(2) for column in range(3)}
    assert set(fills(ax)) == {draw.GOOD, "#FFFFFF"} and texts(ax) == []
    assert set(zip(fills(ax), edges(ax), strict=True)) == {(draw.GOOD, draw.GOOD), ("#FFFFFF", draw.PALE)}
    assert ax.xaxis.get_ticks_position() == "top"
    assert ticks(ax.xaxis) == {0: "trunk", 1: "score layer", 2: "head of the\ndetector"}
    assert ticks(ax.yaxis) == {0: "objectness", 1: "class"} and ax.get_ylim() == (1.5, -0.5)
    assert key(ax.get_legend()) == {"a gradient arrives": draw.GOOD, "none": "#FFFFFF"}


def test_gradient_table_writes_norms():
    draw.gradient_table(torch.tensor([[0.0123, 5], [0, 4]]), ["a", "b"], ["trunk", "head"])
    render()
    ax = plt.gca()
    assert written(ax) == [("0.012", (0, 0)), ("5", (1, 0)), ("4", (1, 1))]
    assert fills(ax) == [draw.GOOD, draw.GOOD, "#FFFFFF", draw.GOOD]
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.gradient_table(torch.zeros(0, 0), [], [])


def test_stage_times_have_one_scale_and_their_milliseconds():
    seconds = {
        "old": {"proposals": 0.25, "convolutions": 0.02, "regions": 0.01},
        "new": {"proposals": 0.004, "convolutions": 0.02, "regions": 0.01},
    }
    draw.stage_times(seconds)
    render()
    ax = plt.gca()
    spans = [(r.get_x(), r.get_width(), round(r.get_y() + r.get_height() / 2)) for r in rectangles(ax)]
    expected = [(0, 250, 0), (250, 20, 0), (270, 10, 0), (0, 4, 1), (4, 20, 1), (24, 10, 1)]
    assert spans == [pytest.approx(span) for span in expected]
    colors = [STAGE_COLORS[stage] for stage in seconds["old"]]
    assert fills(ax) == colors * 2 and key(plt.gcf().legends[0]) == dict(zip(seconds["old"], colors, strict=True))
    told = [("280 ms\n(250 + 20 + 10)", 280, 0), ("34 ms\n(4 + 20 + 10)", 34, 1)]
    for (text, (x, y)), (words, end, row) in zip(written(ax), told, strict=True):
        assert text == words and y == row and end < x < end + 10
    assert ticks(ax.yaxis) == {0: "old", 1: "new"} and ax.get_ylim() == (1.5, -0.5)
    assert labels(ax) == ("milliseconds for a picture", "") and ax.get_xlim()[0] == 0
    assert all(t.get_window_extent().x1 <= plt.gcf().bbox.x1 for t in ax.texts)
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.stage_times({})


def test_missed_by_group_has_shares_and_counts_of_each_detector():
    missed = {"NMS at 0.4": {"small": 10, "twins": 3}, "NMS at 0.9": {"small": 10, "twins": 1}}
    draw.missed_by_group({"small": 40, "twins": 4}, missed)
    render()
    ax = plt.gca()
    assert [r.get_width() for r in rectangles(ax)] == pytest.approx([0.25, 0.75, 0.25, 0.25])
    rows = [r.get_y() + r.get_height() / 2 for r in rectangles(ax)]
    assert [round(row) for row in rows] == [0, 1, 0, 1] and rows[0] < 0 < rows[2] and rows[1] < 1 < rows[3]
    assert fills(ax) == [draw.COLORS[0]] * 2 + [draw.COLORS[1]] * 2
    assert texts(ax) == ["0.25 (10 of 40)", "0.75 (3 of 4)", "0.25 (10 of 40)", "0.25 (1 of 4)"]
    assert key(plt.gcf().legends[0]) == dict(zip(missed, draw.COLORS, strict=False))
    assert ticks(ax.yaxis) == {0: "small", 1: "twins"} and ax.get_xlim() == (0, 1) and ax.get_ylim() == (1.5, -0.5)
    assert labels(ax) == ("share of these objects that is missed", "")
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.missed_by_group({"small": 40}, {})
