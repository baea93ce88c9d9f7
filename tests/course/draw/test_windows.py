import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from rcnn_tutorial.course import draw
from rcnn_tutorial.ops.assign import BACKGROUND, FOREGROUND, UNUSED
from tests.course.draw.figures import (
    IMAGE,
    TARGET,
    edges,
    extents,
    fills,
    is_darker_where_higher,
    key,
    looks,
    panels,
    pixels,
    rectangles,
    render,
    texts,
    ticks,
    titles,
    written,
)
from tests.course.draw.figures import labels as labels_of

TRUTHS = TARGET["boxes"]


def test_grouping_shows_the_mean_of_each_region():
    image = torch.tensor([[0.0, 1, 1, 0.5]]).expand(3, 2, 4)
    labels = torch.tensor([[7, 7, 2, 2]]).expand(2, 4)
    moments = [(labels, 2), (torch.zeros_like(labels), 1)]
    draw.grouping((image, moments), (1 - image, moments))
    render()
    assert titles() == ["picture", "2 regions", "1 region"] * 2
    first, parts, whole, second, *_ = (ax.images[0].get_array() for ax in panels())
    assert first[0, :, 0].tolist() == [0, 1, 1, 0.5] and second[0, :, 0].tolist() == [1, 0, 0, 0.5]
    assert parts[0, :, 0].tolist() == parts[1, :, 2].tolist() == [0.5, 0.5, 0.75, 0.75]
    assert whole[1, :, 2].tolist() == [0.625] * 4


def test_a_region_map_has_a_letter_in_each_pixel_and_lights_the_best_pair():
    labels = torch.tensor([[0, 0, 1], [2, 2, 1]])
    draw.region_map(torch.zeros(3, 2, 3), labels, {"AB": 1.25, "AC": 2.5, "BC": 0.75})
    render()
    left, right = panels()
    letters = {place: text for text, place in written(left)}
    assert letters == {
        (0.5, 0.5): "A",
        (1.5, 0.5): "A",
        (2.5, 0.5): "B",
        (0.5, 1.5): "C",
        (1.5, 1.5): "C",
        (2.5, 1.5): "B",
    }
    assert pixels(left)[0] == [[[0.5] * 3] * 3] * 2 and labels_of(left) == ("x, pixels", "y, pixels")
    assert [bar.get_width() for bar in right.patches] == [1.25, 2.5, 0.75] and texts(right) == ["1.25", "2.50", "0.75"]
    assert fills(right) == [draw.PALE, draw.GOOD, draw.PALE] and right.get_xlabel() == "similarity"
    assert ticks(right.yaxis) == {0: "AB", 1: "AC", 2: "BC"} and right.get_ylim()[0] > right.get_ylim()[1]


def test_numbered_crops_stand_beside_their_windows():
    windows = torch.tensor([[5, 5, 20, 20], [30, 10, 60, 50], [0, 40, 10, 50], [60, 40, 80, 60.0]])
    tight, loose = torch.rand(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    draw.numbered_crops(IMAGE, windows, {"tight": tight, "loose": loose}, {"tight": 0, "loose": 2})
    render()
    whole, *crops = panels()
    assert extents(whole) == windows.tolist() and texts(whole) == ["1", "2", "3", "4"]
    assert set(edges(whole)) == {draw.PROPOSAL} and pixels(whole)[0] == IMAGE.permute(1, 2, 0).tolist()
    assert [texts(ax) for ax in crops] == [["1"], ["2"], ["3"], ["4"]] * 2
    shown = [*tight, *loose]
    assert all(pixels(ax)[0] == crop.permute(1, 2, 0).tolist() for ax, crop in zip(crops, shown, strict=True))
    assert [extents(ax) for ax in crops] == [[]] * 4 + [[[2, 2, 6, 6]]] * 4
    assert [ax.get_title() for ax in crops] == ["", "tight", "", "", "", "loose", "", ""]
    left = whole.get_position().x1
    places = [ax.get_position() for ax in crops]
    assert all(place.x0 > left for place in places) and places[0].x0 < places[1].x0 < places[2].x0
    assert places[0].y0 > places[3].y0 > places[4].y0 > places[7].y0
    assert [places[3].x0, places[4].x0] == pytest.approx([places[0].x0] * 2)
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.numbered_crops(IMAGE, windows[:0], {"tight": tight[:0]}, {"tight": 0})


def test_windows_by_iou_shows_a_rule_and_its_bounds():
    windows = torch.tensor([[5, 5, 20, 20], [30, 10, 60, 50], [0, 40, 10, 50.0]])
    state = torch.tensor([FOREGROUND, UNUSED, BACKGROUND])
    draw.windows_by_iou(IMAGE, TARGET, windows, torch.tensor([1, 0.75, 0.1]), state, (0.3, 1.0), "IoU with a bar")
    render()
    left, right = panels()
    assert left.get_title() == "1 foreground, 1 background, 1 unused"
    by_window = dict(zip(map(tuple, extents(left)), edges(left), strict=True))
    assert [by_window[tuple(w)] for w in windows.tolist()] == [draw.GOOD, draw.PALE, draw.BAD]
    assert [r.get_linestyle() for r in rectangles(left)[:2]] == [":", ":"]
    assert texts(left) == ["1", "2", "3"] and {t.get_fontsize() for t in left.texts} == {18}
    for text, window in zip(left.texts, windows.tolist(), strict=True):  # inside a corner, in its window's colour
        (x, y), (x1, y1, x2, y2) = text.get_position(), window
        assert (x, text.get_ha()) in ((x1, "left"), (x2, "right"))
        assert (y, text.get_va()) in ((y1, "top"), (y2, "bottom"))
        assert to_hex(text.get_bbox_patch().get_facecolor()).upper() == by_window[tuple(window)]
    assert labels_of(right) == ("IoU with a bar", "window") and right.get_xlim()[0] == 0
    assert [bar.get_width() for bar in right.patches] == pytest.approx([1, 0.75, 0.1])
    told = [(t.get_text(), t.get_color()) for t in right.get_yticklabels()]
    assert told == list(zip("123", map(draw.words, (draw.GOOD, draw.PALE, draw.BAD)), strict=True))
    assert fills(right) == [draw.GOOD, draw.PALE, draw.BAD] and texts(right) == ["1.00", "0.75", "0.10"]
    assert [line.get_xdata()[0] for line in right.lines] == [0.3, 1.0]
    assert all(to_hex(t.get_bbox_patch().get_facecolor()) == "#ffffff" for t in right.texts)  # on top of a bound
    assert key(plt.gcf().legends[0]) == {
        "foreground": (draw.GOOD, "-"), "background": (draw.BAD, "-"), "unused": (draw.PALE, "-"),
        "object": ("#000000", ":"),
    }  # fmt: skip


def test_windows_of_one_object_do_not_hide_each_others_numbers():
    windows = torch.tensor([[30, 10, 70, 50]]).repeat(4, 1) + torch.arange(4.0)[:, None] * 0.1
    state = torch.full((4,), FOREGROUND)
    draw.windows_by_iou(IMAGE, TARGET, windows, torch.ones(4), state, (0.5,), "IoU")
    render()
    places = [t.get_window_extent() for t in panels()[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(places) for b in places[:i])


def test_coverage_draws_the_count():
    count = torch.zeros(60, 80, dtype=torch.int64)
    count[:15] = 8
    draw.coverage(count, IMAGE)
    render()
    picture, heat, bar = panels()
    assert heat.get_title() == "up to 8 windows, 2 on average" and heat.images[0].get_extent() == [0, 80, 60, 0]
    assert pixels(picture)[0] == IMAGE.permute(1, 2, 0).tolist() and not is_darker_where_higher(heat)
    assert (heat.images[0].get_array() == count.numpy()).all() and heat.images[0].get_clim() == (0, 8)
    assert bar.get_ylabel() == "windows that cover the pixel" and len(picture.images) == 1
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.coverage(torch.zeros(60, 80), IMAGE)


def test_moves_point_from_proposals_to_refined_boxes():
    before, after = TRUTHS + torch.tensor([[2.0, -1, 3, 4]]), TRUTHS + 0.5
    ax = draw.moves(IMAGE, before, after, TRUTHS)
    render()
    assert extents(ax) == [*before.tolist(), *after.tolist(), *TRUTHS.tolist()]
    assert [r.get_linestyle() for r in rectangles(ax)] == ["--", "--", "-", "-", ":", ":"]
    arrows = [(list(t.xyann), list(t.xy)) for t in ax.texts]
    corners = [
        (b[i : i + 2], a[i : i + 2]) for b, a in zip(before.tolist(), after.tolist(), strict=True) for i in (0, 2)
    ]
    assert arrows == corners
    assert edges(ax) == [draw.PROPOSAL] * 2 + [draw.GOOD] * 2 + ["#000000"] * 2
    named = {"proposal": (draw.PROPOSAL, "--"), "refined": (draw.GOOD, "-"), "object": ("#000000", ":")}
    assert key(ax.get_legend()) == named


def test_one_move_is_cut_out_with_its_object():
    before, after = torch.tensor([[32, 12, 60, 40.0]]), torch.tensor([[31, 11, 68, 48.0]])
    ax = draw.moves(IMAGE, before, after, TRUTHS)
    render()
    assert extents(ax) == [*before.tolist(), *after.tolist(), TRUTHS[1].tolist()]
    assert ax.get_xlim() == (22, 78) and ax.get_ylim() == (58, 2)
    assert ax.get_title() == f"IoU {28 * 28 / 1600:.2f} to {37 * 37 / 1600:.2f}"


def test_iou_histogram_marks_the_means():
    before, after = torch.tensor([0.52, 0.54, 0.68, 0.62]), torch.tensor([0.72, 0.74, 0.88, 1.0])
    draw.iou_histogram(before, after)
    render()
    ax = plt.gca()
    first, second = (p.get_data() for p in ax.patches)
    assert first.values[10] == 2 and first.values.sum() == 4 and second.values[-1] == 1
    assert [line.get_xdata()[0] for line in ax.lines] == pytest.approx([0.59, 0.835])
    assert second.values[14] == 2 and first.values[12] == first.values[13] == 1
    assert key(ax.get_legend()) == {"before, mean 0.59": draw.PALE, "after, mean 0.84": (draw.GOOD, "-")}
    assert [looks(line) for line in ax.lines] == [(draw.PALE, "--"), (draw.GOOD, "--")]
    assert [looks(ax.patches[0]), to_hex(ax.patches[1].get_edgecolor()).upper()] == [draw.PALE, draw.GOOD]
    assert labels_of(ax) == ("IoU with the object", "windows") and ax.get_xlim() == (0, 1)
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.iou_histogram(before[:0], after[:0])
