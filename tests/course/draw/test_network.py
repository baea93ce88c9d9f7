from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw import network
from rcnn_tutorial.course.draw.anchors import DARK
from rcnn_tutorial.course.draw.network import BAND
from tests.course.draw.figures import (
    CLASSES,
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


def test_side_by_side_has_bars_of_one_scale():
    nothing = {key: value[:0] for key, value in TARGET.items()}
    draw.side_by_side(
        IMAGE,
        {
            "Fast R-CNN": (TRUTHS.repeat(10, 1), TARGET, {"selective search": 1.5, "trunk": 0.5}),
            "Faster R-CNN": (FAR, nothing, {"trunk": 0.5, "RPN": 0.125}),
        },
        CLASSES,
    )
    render()
    left, right, long, short = panels()
    assert titles()[:2] == ["Fast R-CNN: 20 proposals", "Faster R-CNN: 1 proposal"]
    assert outlined(left) == [("#FFFFFF", TRUTHS.tolist() * 10)] and outlined(right) == [("#FFFFFF", FAR.tolist())]
    assert extents(left) == TRUTHS.tolist() and texts(left) == ["disc", "ring"] and extents(right) == []
    assert edges(left) == [draw.class_color(1), draw.class_color(2)]
    assert [(r.get_x(), r.get_width()) for r in rectangles(long)] == [(0, 1.5), (1.5, 0.5)]
    assert [(r.get_x(), r.get_width()) for r in rectangles(short)] == [(0, 0.5), (0.5, 0.125)]
    assert long.get_xlim() == short.get_xlim() and long.get_xlim()[1] > 2
    assert written(long) == [(" 2 s", (2, 0))] and written(short) == [(" 625 ms", (0.625, 0))]
    searched, trunk, rpn = draw.COLORS[:3]
    assert fills(long) == [searched, trunk] and fills(short) == [trunk, rpn]
    assert key(plt.gcf().legends[0]) == {"selective search": searched, "trunk": trunk, "RPN": rpn}
    assert long.texts[0].get_window_extent().x1 <= long.get_window_extent().x1


def test_filter_strip_shows_which_objects_are_still_found():
    many = FAR + torch.arange(5000.0)[:, None] / 5000  # each a little further
    steps = [("decoded", torch.cat((many, NEAR)), 1.0), ("NMS", torch.cat((FAR, NEAR[:1])), 0.4)]
    draw.filter_strip(IMAGE, steps, TRUTHS)
    render()
    before, after = panels()
    assert titles() == ["decoded\n5,002 boxes, recall 1.00", "NMS\n2 boxes, recall 0.40"]
    ((color, some),) = outlined(before)
    assert color == draw.COLORS[0] and len(some) == 300  # from the first to the last
    assert some[0] == many[0].tolist() and some[-1] == NEAR[-1].tolist()
    assert outlined(after) == [(draw.COLORS[0], [*FAR.tolist(), NEAR[0].tolist()])]
    assert edges(before)[1:] == [draw.GOOD, draw.GOOD] and edges(after)[1:] == [draw.GOOD, draw.BAD]
    assert extents(after)[1:] == TRUTHS.tolist() and rectangles(after)[2].get_linestyle() == "--"
    assert before.get_xlim() == after.get_xlim() == pytest.approx((-9.6, 89.6))
    assert key(plt.gcf().legends[0]) == {
        "box, at most 300": (draw.COLORS[0], "-"), "object found": (draw.GOOD, "-"),
        "object not found": (draw.BAD, "--"),
    }  # fmt: skip
    plt.close("all")
    draw.filter_strip(IMAGE, steps, TRUTHS, threshold=0.99)
    assert edges(panels()[0])[1:] == [draw.BAD, draw.BAD]
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.filter_strip(IMAGE, [], TRUTHS)


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
    assert titles() == ["step 0: 0 of 1", "step 100: 2 of 4"]
    assert outlined(first) == [(DARK, FAR.tolist())]
    assert outlined(second) == [(DARK, FAR.tolist() * 2), (draw.GOOD, NEAR.tolist())]
    assert extents(second) == TRUTHS.tolist() and {r.get_linestyle() for r in rectangles(second)} == {":"}
    named = {"IoU of at least 0.5 with an object": (draw.GOOD, "-"), "less": (DARK, "-"), "object": ("#000000", ":")}
    assert key(plt.gcf().legends[0]) == named


def frames_of(data):
    film = Image.open(BytesIO(data))
    for i in range(film.n_frames):
        film.seek(i)
        yield np.asarray(film.convert("RGB")), film.info["duration"]


def found(frame, box, color):
    """Is every pixel on the edge of a box (pixels of the frame) of that colour?"""
    x1, y1, x2, y2 = (int(c) for c in box)
    inside = frame[y1:y2, x1:x2]
    edge = np.concatenate((inside[0], inside[-1], inside[:, 0], inside[:, -1]))
    return (edge == [round(255 * c) for c in to_rgb(color)]).all()


def test_gif_writes_the_moment_and_counts_those_near_an_object(monkeypatch):
    told = []
    monkeypatch.setattr(network, "_write", lambda frame, text: told.append(text))
    moments = [("step 0", FAR), ("step 1", torch.cat((FAR, FAR, NEAR)))]
    frames = [frame for frame, _ in frames_of(draw.proposals_gif(IMAGE, moments, TRUTHS, width=160, at_most=3))]
    assert told == ["the objects", "step 0: 0 of 1 near an object", "step 1: 2 of 4 near an object"]
    assert [found(frames[2], 2 * box, draw.GOOD) for box in NEAR] == [True, False]  # the fourth is not drawn
    assert found(frames[2], 2 * FAR[0], draw.COLORS[0])


def test_gif_has_a_frame_for_the_objects_and_one_for_each_moment():
    moments = [("step 0", FAR), ("step 1", FAR), ("step 2", FAR[:0]), ("step 3", NEAR[1:])]
    data = draw.proposals_gif(IMAGE, moments, TRUTHS, width=160, seconds=0.3)
    frames, durations = zip(*frames_of(data), strict=True)
    assert frames[0].shape == (120 + BAND, 160, 3) and durations == (300, 300, 300, 300, 1200)
    far = [found(frame, 2 * FAR[0], draw.COLORS[0]) for frame in frames]
    assert far == [False, True, True, False, False]  # also where the frame before had the same box
    assert [found(frame, 2 * NEAR[1], draw.GOOD) for frame in frames] == [False] * 4 + [True]
    assert all(found(frame, 2 * TRUTHS[0], "black") for frame in frames)
    assert (frames[3][1:119, 1:159] == frames[0][1:119, 1:159]).all()  # nothing of the boxes before is left
    bands = [frame[-BAND:] for frame in frames]
    assert all((band == 255).any() for band in bands)
    assert not any((a == b).all() for i, a in enumerate(bands) for b in bands[:i])


def test_gif_shows_a_box_as_large_as_the_picture():
    whole = torch.tensor([[0, 0, 80, 60.0]])
    frames = [frame for frame, _ in frames_of(draw.proposals_gif(IMAGE, [("a", whole[:0])] * 2, whole, width=160))]
    assert len(frames) == 3 and all((frame[1:119, [0, 1, 158, 159]] == 0).all() for frame in frames)


def test_gif_of_twenty_moments_is_small():
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(1, 3, 8, 12, generator=generator)
    image = torch.nn.functional.interpolate(patches, (192, 256), mode="bilinear")[0]
    moments = []
    for step in range(20):
        low = torch.rand(300, 2, generator=generator) * 150
        size = torch.rand(300, 2, generator=generator) * 80 + 10
        moments.append((f"step {step}", torch.cat((low, low + size), dim=1)))
    data = draw.proposals_gif(image, moments, TRUTHS)
    assert len(data) < 250_000
    assert len(list(frames_of(data))) == 21
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.proposals_gif(image, [], TRUTHS)


def test_gif_of_boxes_without_area():
    thin = torch.tensor([[3, 3, 3, 9], [5, 5, 9, 5.0]])
    assert len(list(frames_of(draw.proposals_gif(IMAGE, [("a", thin)], TRUTHS)))) == 2


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


def test_missed_by_size_counts_every_object():
    sides = torch.tensor([5, 16, 20, 31, 200.0])
    found = {"one": torch.tensor([False, True, False, False, True]), "other": torch.tensor([True] * 4 + [False])}
    draw.missed_by_size(sides, found, [16, 32, 64])
    render()
    ax = plt.gca()
    named = ["below 16\n1 object", "16 to 32\n3 objects", "32 to 64\n0 objects", "64 and more\n1 object"]
    assert [t.get_text() for t in ax.get_xticklabels()] == named
    assert labels(ax) == ("side of the object, pixels", "share missed")
    assert [t.get_text() for t in ax.get_yticklabels()][:2] == ["0 %", "20 %"]
    assert [round(r.get_x() + r.get_width() / 2, 6) for r in rectangles(ax)] == [-0.2, 0.8, 2.8, 0.2, 1.2, 3.2]
    assert [r.get_height() for r in rectangles(ax)] == pytest.approx([1, 2 / 3, 0, 0, 0, 1])
    assert texts(ax) == ["100 %", "67 %", "0 %", "0 %", "0 %", "100 %"]
    assert fills(ax) == [draw.COLORS[0]] * 3 + [draw.COLORS[1]] * 3
    assert key(ax.get_legend()) == {"one": draw.COLORS[0], "other": draw.COLORS[1]}
    assert max(t.get_window_extent().y1 for t in ax.texts) <= plt.gcf().bbox.y1


def test_missed_by_size_of_one_detector():
    draw.missed_by_size(torch.tensor([5, 50.0]), {"one": torch.tensor([False, True])}, [32])
    assert plt.gca().get_legend() is None
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.missed_by_size(torch.zeros(0), {"one": torch.zeros(0, dtype=torch.bool)}, [32])
