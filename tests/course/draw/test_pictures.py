import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from rcnn_tutorial.course import draw
from tests.course.draw.figures import (
    CLASSES,
    IMAGE,
    TARGET,
    edges,
    extents,
    panels,
    pixels,
    rectangles,
    render,
    texts,
    titles,
    written,
)


def test_scene_marks_difficult_objects():
    ax = draw.scene(IMAGE, TARGET, CLASSES)
    render()
    assert written(ax) == [("disc", (5, 5)), ("ring?", (30, 10))]
    assert edges(ax) == [to_hex(t.get_bbox_patch().get_facecolor()).upper() for t in ax.texts]
    assert edges(ax) == [draw.class_color(1), draw.class_color(2)]
    assert pixels(ax) == (IMAGE.permute(1, 2, 0).tolist(), [0, 80, 60, 0]) and ax.images[0].get_alpha() == 1
    assert ax.get_xlim() == (0, 80) and ax.get_ylim() == (60, 0)
    assert [r.get_linestyle() for r in rectangles(ax)] == ["-", "--"]
    assert extents(ax) == TARGET["boxes"].tolist()


def test_scene_without_objects():
    ax = draw.scene(IMAGE, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}, CLASSES)
    render()
    assert not rectangles(ax) and ax.images


def test_a_faint_picture_is_pale():
    assert draw.picture(IMAGE, faint=True).images[0].get_alpha() < 0.5


@pytest.mark.parametrize("x, y", [(0, 0), (30, 30), (75, 30), (75, 0), (-4, 58)])
def test_labels_stay_inside_the_picture(x, y):
    ax = draw.picture(IMAGE)
    draw.label(ax, x, y, "background: disc", draw.GOOD)
    render()
    text, picture = ax.texts[0].get_window_extent(), ax.get_window_extent()
    assert picture.x0 - 2 <= text.x0 and text.x1 <= picture.x1 + 2
    assert picture.y0 - 2 <= text.y0 and text.y1 <= picture.y1 + 2


def test_a_label_that_does_not_fit_above_stands_in_its_box_or_below_it():
    ax = draw.picture(IMAGE)
    draw.boxes(ax, torch.tensor([[10, 2, 30, 40], [40, 2, 60, 9], [10, 20, 30, 40.0]]), ["high", "flat", "low"])
    assert written(ax) == [("high", (10, 2)), ("flat", (40, 9)), ("low", (10, 20))]
    assert [t.get_va() for t in ax.texts] == ["top", "top", "bottom"]


def outlined(ax):
    """For each colour of thin outlines the boxes drawn in it."""
    found = {}
    for lines in ax.collections:
        corners = [path.vertices for path in lines.get_paths()]
        boxes = [[*c.min(axis=0).tolist(), *c.max(axis=0).tolist()] for c in corners]
        found[to_hex(lines.get_edgecolor()[0]).upper()] = boxes
    return found


def test_crowd_counts_the_boxes_of_each_answer():
    more = {"boxes": TARGET["boxes"].repeat(2, 1), "labels": torch.tensor([2, 1, 1, 2])}
    draw.crowd(IMAGE, ("before", more), ("after", TARGET))
    render()
    left, right = panels()
    assert titles() == ["before: 4 boxes", "after: 2 boxes"]
    first, second = TARGET["boxes"].tolist()
    assert outlined(left) == {draw.class_color(1): [second, first], draw.class_color(2): [first, second]}
    assert outlined(right) == {draw.class_color(1): [first], draw.class_color(2): [second]}
    assert not texts(left) and pixels(left) == pixels(right)
    draw.crowd(IMAGE, ("alone", TARGET))
    assert titles() == ["alone: 2 boxes"]
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.crowd(IMAGE)


def test_many_boxes_are_thin_lines_on_a_pale_picture():
    few = {"boxes": TARGET["boxes"].repeat(15, 1), "labels": TARGET["labels"].repeat(15)}
    many = {"boxes": TARGET["boxes"].repeat(16, 1), "labels": TARGET["labels"].repeat(16)}
    for answers, width, alpha in (([few], 2, 1), ([few, many], 1.5, 0.35)):
        plt.close("all")
        draw.crowd(IMAGE, *(("some", answer) for answer in answers))
        for ax in panels():
            assert {lines.get_linewidth()[0] for lines in ax.collections} == {width}
            assert ax.images[0].get_alpha() == alpha


def test_crowd_shows_and_counts_a_part():
    draw.crowd(IMAGE, ("part", TARGET), part=(0, 0, 30, 25))
    ax = plt.gca()
    assert titles() == ["part: 1 boxes"] and outlined(ax) == {draw.class_color(1): [TARGET["boxes"][0].tolist()]}
    assert ax.get_xlim() == (0, 30) and ax.get_ylim() == (25, 0)


def test_pixel_grid_writes_each_value_into_its_pixel():
    grey = torch.tensor([[0, 40, 117], [118, 160, 255.0]])
    draw.pixel_grid(grey.expand(3, -1, -1) / 255, (1, 0, 3, 1))
    render()
    ax = plt.gca()
    middles = [(x + 0.5, y + 0.5) for y in range(2) for x in range(3)]
    assert written(ax) == list(zip(("0", "40", "117", "118", "160", "255"), middles, strict=True))
    assert [t.get_color() for t in ax.texts] == ["white", "white", "white", "black", "black", "black"]
    assert pixels(ax) == (grey.tolist(), [0, 3, 2, 0]) and extents(ax) == [[1, 0, 3, 1]]
    assert ax.images[0].get_clim() == (0, 255) and ax.get_xlabel() == "x, pixels" and ax.get_ylabel() == "y, pixels"
    assert list(ax.get_xticks()) == [0, 1, 2, 3] and list(ax.get_yticks()) == [0, 1, 2]


def test_words_that_lie_on_each_other_are_parted():
    ax = draw.picture(IMAGE)
    places = [(5, 5), (6, 5), (7, 6), (50, 50)]
    for x, y in places:
        draw.label(ax, x, y, "a word", draw.GOOD)
    draw.part_labels(ax)
    render()
    where = [t.get_window_extent() for t in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(where) for b in where[:i])
    assert all(ax.bbox.y0 - 1 <= w.y0 and w.y1 <= ax.bbox.y1 + 1 for w in where)
    assert [t.get_position()[0] for t in ax.texts] == pytest.approx([5, 6, 7, 50])
    assert written(ax)[0][1] == (5, 5) and written(ax)[3][1] == (50, 50)  # who does not lie on another stays


def test_a_word_that_moves_stays_beside_the_word_that_it_makes_room_for():
    ax = draw.picture(IMAGE)
    for x in (30, 31):
        draw.label(ax, x, 30, "a word", draw.GOOD)
    draw.part_labels(ax)
    render()
    first, second = (t.get_window_extent() for t in ax.texts)
    gap = max(first.y0 - second.y1, second.y0 - first.y1)
    assert 0 < gap < 0.7 * first.height


def test_outlines_are_one_object():
    ax = draw.picture(IMAGE)
    draw.outlines(ax, TARGET["boxes"], "white", 0.5)
    render()
    first, second = (path.vertices.tolist() for path in ax.collections[0].get_paths())
    assert first == [[5, 5], [20, 5], [20, 20], [5, 20], [5, 5]]
    assert second == [[30, 10], [70, 10], [70, 50], [30, 50], [30, 10]]


def test_contact_sheet_names_rows_and_frames_boxes():
    crops = torch.rand(5, 3, 16, 16)
    draw.contact_sheet({"tight": crops[:3], "context": crops[3:], "no more": crops[:0]}, {"context": ["a", "b"]}, 4)
    render()
    assert [len(ax.images) for ax in panels()] == [1, 1, 1, 1, 1, 0, 0, 0, 0]
    assert [texts(ax) for ax in panels()[::3]] == [["tight"], ["context"], ["no more", "none"]]
    assert titles()[3:6] == ["a", "b", ""] and written(panels()[0]) == [("tight", (-0.1, 0.5))]
    shown = [pixels(ax)[0] for ax in panels() if ax.images]
    assert shown == [crop.permute(1, 2, 0).tolist() for crop in crops]
    assert all(extents(ax) == [[4, 4, 12, 12]] for ax in panels() if ax.images)
    draw.contact_sheet({"tight": crops[:1], "context": crops[1:2]}, frame={"context": 2})
    assert [extents(ax) for ax in panels()] == [[], [[2, 2, 14, 14]]]


def test_contact_sheet_of_nothing():
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.contact_sheet({"pass 1": torch.zeros(0, 3, 8, 8)})
