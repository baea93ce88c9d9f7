"""A picture with its detections: as a figure, and painted into its pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from PIL import Image

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw.painted import COVER, label_texts, place_labels
from rcnn_tutorial.course.draw.style import COLORS
from rcnn_tutorial.data.masks import encode_masks
from rcnn_tutorial.evaluation.detected import Detected
from tests.course.draw.figures import edges, extents, pixels, texts

WIDTH, HEIGHT = 320, 240
BOXES = [(40, 60, 120, 160), (150, 100, 300, 220)]
GREY = torch.full((3, HEIGHT, WIDTH), 0.5)


def detected(boxes=BOXES, masks=None, size=(WIDTH, HEIGHT)):
    labels = torch.arange(len(boxes)) % 2 + 1
    return Detected(
        path=Path("x.jpg"),
        size=size,
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=labels,
        names=tuple(("", "disc", "ring")[k] for k in labels.tolist()),
        scores=torch.linspace(0.9, 0.5, len(boxes)),
        runs=None if masks is None else encode_masks(masks),
    )


def rgb(color):
    return tuple(round(255 * v) for v in to_rgb(color))


def test_the_figure_has_a_box_and_words_for_each_detection():
    ax = draw.detections(GREY, detected())
    assert extents(ax) == [list(box) for box in BOXES] and edges(ax) == list(COLORS[:2])
    assert texts(ax) == ["disc 0.90", "ring 0.50"] and np.allclose(pixels(ax)[0], 0.5)
    assert texts(draw.detections(GREY, detected(), scores=False)) == ["disc", "ring"]
    assert texts(draw.detections(GREY, detected(), names=False)) == ["0.90", "0.50"]
    assert not extents(draw.detections(GREY, detected([])))


def test_words_of_the_figure_do_not_lie_on_each_other():
    ax = draw.detections(GREY, detected([(40, 60, 120, 160), (42, 62, 120, 160), (41, 61, 121, 161)]))
    ax.figure.canvas.draw()
    places = [text.get_window_extent() for text in ax.texts]
    assert len(places) == 3 and not any(a.overlaps(b) for i, a in enumerate(places) for b in places[:i])


def test_masks_lie_on_the_figure():
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, 60:160, 40:120] = True
    ax = draw.detections(GREY, detected(masks=masks))
    assert len(ax.images) == 3 and texts(ax) == ["disc 0.90", "ring 0.50"]


def test_what_is_painted_has_the_size_of_the_picture_and_its_boxes_where_they_are():
    raster = np.array(draw.painted(GREY, detected(), names=False, scores=False))
    assert raster.shape == (HEIGHT, WIDTH, 3)
    for (x1, y1, x2, y2), color in zip(BOXES, COLORS, strict=False):
        for row in (raster[y1, x1:x2], raster[y2 - 1, x1:x2], raster[y1:y2, x1], raster[y1:y2, x2 - 1]):
            assert (row == rgb(color)).all()
        assert (raster[y1 + 4 : y2 - 4, x1 + 4 : x2 - 4] == 128).all()  # the inside stays
        assert (raster[y1 - 3 : y1 - 1, x1:x2] == 128).all() and (raster[y1 - 1, x1:x2] == 255).all()
    nothing = np.array(draw.painted(GREY, detected([])))
    assert (nothing == 128).all()


def test_a_label_has_the_colour_of_its_class_and_readable_letters():
    raster = np.array(draw.painted(GREY, detected([(40, 60, 120, 160)])))
    label = raster[46:59, 40:100]
    assert (label == rgb(COLORS[0])).all(axis=2).mean() > 0.4
    assert (label > 180).all(axis=2).sum() > 20  # white letters on blue
    second = Detected(None, (WIDTH, HEIGHT), torch.tensor([BOXES[0]]).float(), torch.tensor([2]), ("ring",),
                      torch.tensor([0.9]))  # fmt: skip
    label = np.array(draw.painted(GREY, second))[46:59, 40:100]
    assert (label == rgb(COLORS[1])).all(axis=2).mean() > 0.4 and (label < 90).all(axis=2).sum() > 20


def test_letters_and_lines_grow_with_the_picture():
    shares = []
    for scale in (1, 4):
        size = (WIDTH * scale, HEIGHT * scale)
        image = torch.full((3, HEIGHT * scale, WIDTH * scale), 0.5)
        box = [tuple(v * scale for v in BOXES[0])]
        with_label = np.array(draw.painted(image, detected(box, size=size))) != 128
        without = np.array(draw.painted(image, detected(box, size=size), False, False)) != 128
        rows = (with_label.any(axis=(1, 2)) & ~without.any(axis=(1, 2))).sum()
        shares.append(int(rows))
    assert shares[0] >= 8 and 2 * shares[0] < shares[1] < 4 * shares[0]


def test_the_better_detection_lies_on_top():
    raster = np.array(draw.painted(GREY, detected([(40, 60, 120, 160), (40, 100, 200, 200)]), False, False))
    assert tuple(raster[130, 40]) == rgb(COLORS[0])


def test_masks_are_tinted_and_small_ones_lie_on_top():
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, 60:160, 40:300], masks[1, 100:120, 160:200] = True, True
    raster = np.array(draw.painted(GREY, detected(masks=masks), False, False)).astype(float)
    first = (1 - COVER) * 128 + COVER * np.array(rgb(COLORS[0]))
    assert np.abs(raster[90, 60] - first).max() <= 1
    assert np.abs(raster[110, 180] - ((1 - COVER) * first + COVER * np.array(rgb(COLORS[1])))).max() <= 1
    assert (raster[20:40] == 128).all()


def test_a_file_is_painted_as_a_viewer_shows_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (HEIGHT, WIDTH), (128, 128, 128)).save(tmp_path / "x.png", exif=exif)
    expected = draw.painted(torch.full((3, HEIGHT, WIDTH), 128 / 255), detected())
    for image in (tmp_path / "x.png", Image.open(tmp_path / "x.png")):
        assert np.array_equal(np.array(draw.painted(image, detected())), np.array(expected))


def test_a_picture_of_another_size_is_refused():
    for function in (draw.painted, draw.detections):
        with pytest.raises(ValueError, match="image: expected 320x240 pixels, as detected, got 100x240"):
            function(GREY[:, :, :100], detected())


def test_a_label_that_is_wider_than_the_picture_is_cut():
    narrow = detected([(2, 20, 30, 50)], size=(40, 60))
    raster = np.array(draw.painted(torch.full((3, 60, 40), 0.5), narrow))
    assert (raster[:18] == rgb(COLORS[0])).all(axis=2).any()  # something was written above the box
    assert label_texts(narrow) == ["disc 0.90"]


sides = st.integers(-20, 340)
box = st.tuples(sides, sides, st.integers(1, 200), st.integers(1, 200)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
label = st.tuples(st.integers(10, 150), st.integers(8, 40))


@settings(max_examples=25)
@given(st.lists(st.tuples(box, label), max_size=30))
def test_no_label_lies_on_another_or_leaves_the_picture(items):
    boxes, sizes = [item[0] for item in items], [item[1] for item in items]
    places = place_labels(boxes, sizes, (WIDTH, HEIGHT))
    areas = [(x, y, x + w, y + h) for (x, y), (w, h) in ((p, s) for p, s in zip(places, sizes, strict=True) if p)]
    for i, (x1, y1, x2, y2) in enumerate(areas):
        assert min(x1, y1) >= 0 and x2 <= WIDTH and y2 <= HEIGHT
        assert not any(x1 < d and c < x2 and y1 < f and e < y2 for c, e, d, f in areas[:i])


def test_labels_stand_above_their_boxes_where_there_is_room_and_near_them_where_there_is_none():
    label = (60, 20)
    assert place_labels([(40, 60, 120, 160)], [label], (WIDTH, HEIGHT)) == [(40, 40)]
    assert place_labels([(40, 5, 120, 160)], [label], (WIDTH, HEIGHT)) == [(40, 0)]  # within the picture
    assert place_labels([(300, 60, 320, 160)], [label], (WIDTH, HEIGHT)) == [(260, 40)]
    places = place_labels([(40, 60, 120, 160)] * 20, [label] * 20, (WIDTH, HEIGHT))
    assert places[:2] == [(40, 40), (40, 60)] and sum(place is not None for place in places) >= 12
    for x, y in filter(None, places):
        assert -120 <= x - 40 <= 140 and -80 <= y - 60 <= 160  # at most three heights of a label away from the box
    assert (
        place_labels([(0, 0, 9, 9)], [(60, 20)], (40, 40)) == [None] == place_labels([(0, 0, 9, 9)], [(0, 9)], (40, 40))
    )
