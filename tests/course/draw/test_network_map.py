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
    shapes = [t for t in texts(plt.gca()) if "(" in t]
    assert shapes == ["(3, H, W)", "(N, 4)", "(K, 4)", "(M, 4)", "hit or not\n(K,)"]
    assert [(a, b) for a, b, _ in draw.BOXES.arrows] == [
        ("picture", "detector"), ("detector", "suppress"), ("suppress", "match"), ("objects", "match"),
        ("match", "AP"),
    ]  # fmt: skip


def test_the_road_of_r_cnn():
    draw.network_map(draw.RCNN)
    render()
    ax = plt.gca()
    ends = {(a, b): shape.replace("\n", " ") for a, b, shape in draw.RCNN.arrows}
    assert ends["warp", "conv net"] == "(P, 3, 64, 64)" and ends["selective\nsearch", "warp"] == "(P, 4)"
    assert ends["conv net", "ridge"] == "pool5 (P, 1536)" and ends["fc6, fc7", "SVMs"] == "fc7 (P, 256)"
    assert {a for a, b in ends if b == "NMS"} == {"ridge", "SVMs"}
    down = next(t for t in ax.texts if getattr(t, "arrow_patch", None) and t.xy[0] == t.xyann[0])
    assert down.xy[0] == 3 and 0 < down.xyann[1] < down.xy[1] < 1  # from the convolutions to fc6
    beside = next(place for text, place in written(ax) if text == "pool5")
    assert beside[0] > 3 and down.xyann[1] < beside[1] < down.xy[1]


@pytest.mark.parametrize("network", [draw.BOXES, draw.RCNN, draw.MASK_RCNN])
def test_no_word_leaves_its_part_and_no_shape_lies_on_a_part(network):
    draw.network_map(network)
    render()
    ax = plt.gca()
    parts = [patch.get_window_extent() for patch in ax.patches]
    for text in ax.texts:
        if not text.get_text():
            continue
        where = text.get_window_extent()
        holding = [p for p in parts if where.overlaps(p)]
        if text.get_text() in network.parts:
            (part,) = holding
            assert part.x0 < where.x0 and where.x1 < part.x1 and part.y0 < where.y0 and where.y1 < part.y1
        else:
            assert not holding, text.get_text()


def test_a_part_that_is_not_there():
    with pytest.raises(ValueError, match="lit: expected some of picture, .*, got supress"):
        draw.network_map(draw.BOXES, "supress")


def test_arrows_between_rows_of_one_column_stand_upright():
    draw.network_map(draw.NetworkMap({"low": (0, 1), "high": (0, 0)}, (("low", "high", "x 2"),)))
    render()
    (arrow,) = [t for t in plt.gca().texts if getattr(t, "arrow_patch", None)]
    (x1, y1), (x2, y2) = arrow.xyann, arrow.xy
    assert x1 == x2 == 0 and 1 > y1 > y2 > 0
    assert dict(written(plt.gca()))["x 2"][0] > 0


def test_the_pyramid():
    draw.network_map(draw.FPN, lit="level")
    render()
    ax = plt.gca()
    assert {name for name, color in fills_by_name(ax).items() if color == LIT} == {"level"}
    arrows = {(a, b): what for a, b, what in draw.FPN.arrows}
    for k in (2, 3, 4, 5):
        assert arrows[f"C{k}", f"M{k}"] == "1 x 1" and arrows[f"M{k}", f"P{k}"] == "3 x 3"
    for k in (2, 3, 4):
        assert arrows[f"M{k + 1}", f"M{k}"] == "x 2" and (f"C{k}", f"C{k + 1}") in arrows
    sizes = {6: (3, 4), 5: (6, 8), 4: (12, 16), 3: (24, 32), 2: (48, 64)}  # of 192 x 256 pixels
    for k, (rows, columns) in sizes.items():
        assert arrows[f"P{k}", "RPN"] == f"{rows} x {columns}" and (rows * 2**k, columns * 2**k) == (192, 256)
    assert ("P5", "P6") in arrows and arrows["P2", "level"] == "P2 to P5" and ("level", "head") in arrows
    (x, _), *_ = [t.get_position() for t in ax.texts if t.get_text() == "P2 to P5"]
    assert draw.FPN.parts["RPN"][0] < x < draw.FPN.parts["level"][0]
    framed = {t.get_text() for t in ax.texts if t.get_bbox_patch()}
    assert framed == {"1 x 1", "3 x 3", "x 2"} == set(draw.FPN.operations)  # what is done has a box, sizes have none
    rows = [draw.FPN.parts[f"P{k}"][1] for k in (6, 5, 4, 3, 2)]
    assert rows == sorted(rows)
    words = [t for t in ax.texts if t.get_text()]
    parts = [patch.get_window_extent() for patch in ax.patches]
    names = [t for t in words if t.get_text() in draw.FPN.parts]
    for text in words:
        if text not in names:
            assert not any(text.get_window_extent().overlaps(part) for part in parts), text.get_text()
