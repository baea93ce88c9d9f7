import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw.network_map import LIT, UNLIT
from tests.course.draw.figures import render, texts, written


def fills_by_name(ax):
    """The colour of each part: its box and its name have one middle."""
    names = {place: text for text, place in written(ax)}
    middles = [patch.get_bbox().get_points().mean(axis=0) for patch in ax.patches]
    places = [tuple(round(float(v), 6) for v in middle) for middle in middles]
    return {names[place]: to_hex(p.get_facecolor()).upper() for place, p in zip(places, ax.patches, strict=True)}


def test_the_current_part_is_lit():
    draw.network_map(draw.BOXES, "suppress")
    ax = plt.gca()
    colors = fills_by_name(ax)
    assert set(colors) == set(draw.BOXES.parts)
    assert {name for name, color in colors.items() if color == LIT} == {"suppress"}
    assert {color for name, color in colors.items() if name != "suppress"} == {UNLIT}
    draw.network_map(draw.BOXES, ["objects", "match"])
    assert {name for name, color in fills_by_name(plt.gca()).items() if color == LIT} == {"objects", "match"}
    draw.network_map(draw.BOXES)
    assert set(fills_by_name(plt.gca()).values()) == {UNLIT}


def test_shapes_stand_on_the_arrows_in_their_direction():
    network = draw.NetworkMap(
        {"one": (0, 0), "two": (1, 0), "below": (0, 1), "three": (2, 0)},
        (("one", "two", "(N, 4)"), ("below", "three", "(M,)")),
    )
    draw.network_map(network)
    render()
    ax = plt.gca()
    arrows = [t for t in ax.texts if getattr(t, "arrow_patch", None)]
    ends = [(a.xyann, a.xy) for a in arrows]
    assert all(start[0] < end[0] for start, end in ends)
    assert 0 < ends[0][0][0] < ends[0][1][0] < 1 and ends[0][0][1] == ends[0][1][1] == 0
    assert ends[1][0][1] == 1 and ends[1][1][0] == 2 and 0 < ends[1][1][1] < 0.5  # from the row below up into "three"
    places = {text: place for text, place in written(ax) if text.startswith("(")}
    assert places["(N, 4)"][0] == 0.5 and places["(N, 4)"][1] < 0 and 0.9 < places["(M,)"][1] < 1
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_the_road_of_the_first_notebook():
    draw.network_map(draw.BOXES)
    assert [t for t in texts(plt.gca()) if t.startswith("(")] == ["(3, H, W)", "(N, 4)", "(K, 4)", "(M, 4)", "(K,)"]
    assert [(a, b) for a, b, _ in draw.BOXES.arrows] == [
        ("picture", "detector"), ("detector", "suppress"), ("suppress", "match"), ("objects", "match"),
        ("match", "AP"),
    ]  # fmt: skip


def test_no_word_leaves_its_part_and_no_shape_lies_on_a_part():
    draw.network_map(draw.BOXES)
    render()
    ax = plt.gca()
    parts = [patch.get_window_extent() for patch in ax.patches]
    for text in ax.texts:
        if not text.get_text():
            continue
        where = text.get_window_extent()
        holding = [p for p in parts if where.overlaps(p)]
        if text.get_text() in draw.BOXES.parts:
            (part,) = holding
            assert part.x0 < where.x0 and where.x1 < part.x1 and part.y0 < where.y0 and where.y1 < part.y1
        else:
            assert not holding, text.get_text()


def test_a_part_that_is_not_there():
    with pytest.raises(ValueError, match="lit: expected some of picture, .*, got supress"):
        draw.network_map(draw.BOXES, "supress")
