import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgb

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw.mask_branch import ALIGNED, POOLED, mask_iou, right_masks
from rcnn_tutorial.course.draw.style import class_color, describe
from rcnn_tutorial.data.masks import encode_masks
from tests.course.draw.figures import (
    CLASSES,
    IMAGE,
    key,
    labels,
    legend,
    looks,
    panels,
    points,
    rectangles,
    render,
    texts,
    titles,
    written,
)

MASKS = torch.zeros(2, 60, 80, dtype=torch.bool)
MASKS[0, 5:20, 5:15] = True
MASKS[1, 15:45, 35:60] = True
ANSWER = {
    "boxes": torch.tensor([[5.0, 5, 15, 20], [35, 15, 60, 45]]),
    "labels": torch.tensor([1, 2]),
    "scores": torch.tensor([0.9, 0.6]),
    "masks": MASKS[:, None],
}
TRUTH = {"boxes": ANSWER["boxes"], "labels": ANSWER["labels"], "masks": encode_masks(MASKS)}


def layers(ax):
    """For each mask that is laid over the picture its colour and the number of its pixels."""
    found = []
    for image in ax.images[1:]:
        rgba = torch.tensor(image.get_array())
        inside = rgba[..., 3] > 0
        (color,) = {to_hex(tuple(c)).upper() for c in rgba[inside][:, :3].tolist()}
        found.append((color, int(inside.sum())))
    return found


def grey(ax):
    """Is the picture below the masks without colours, and neither black nor white?"""
    below = torch.tensor(ax.images[0].get_array())
    return (
        torch.equal(below[..., 0], below[..., 1])
        and torch.equal(below[..., 1], below[..., 2])
        and len(below.unique()) > 2
    )


def borders(ax):
    """The colours of the masks' borders, in the order of drawing."""
    return [to_hex(c.get_edgecolor()[0]).upper() for c in ax.collections if not isinstance(c, LineCollection)]


def extent_of_border(ax, which=0):
    return ax.collections[which].get_paths()[0].get_extents().extents.tolist()


def test_paint_lays_each_mask_in_its_colour_with_its_border():
    ax = draw.picture(IMAGE)
    draw.paint(ax, MASKS, [draw.GOOD, draw.BAD])
    assert layers(ax) == [(draw.GOOD, 150), (draw.BAD, 750)]
    assert borders(ax) == [draw.GOOD, draw.BAD]
    x1, y1, x2, y2 = extent_of_border(ax)  # between the middles of the pixels inside and outside
    assert (x1, y1, x2, y2) == (5, 5, 15, 20)
    ax = draw.picture(IMAGE)
    draw.paint(ax, MASKS, [draw.GOOD, draw.BAD], strength=0)
    assert layers(ax) == [] and borders(ax) == [draw.GOOD, draw.BAD]


def test_instances_have_the_colours_of_their_classes_which_the_legend_names():
    draw.instances({"one": (IMAGE, ANSWER, CLASSES), "two": (IMAGE, ANSWER, CLASSES)}, threshold=0.7)
    assert titles() == ["one: 1 masks", "two: 1 masks"]
    for ax in panels():
        assert grey(ax) and layers(ax) == [(class_color(1), 150)]
        (box,) = (p for p in ax.patches)
        assert box.get_bbox().extents.tolist() == [5, 5, 15, 20] and box.get_linestyle() == ":"
    assert key(plt.gcf().legends[0]) == {"disc": class_color(1)}
    draw.instances({"one": (IMAGE, ANSWER, CLASSES)}, threshold=0.5)
    assert key(plt.gcf().legends[0]) == {"disc": class_color(1), "ring": class_color(2)}
    assert layers(panels()[0]) == [(class_color(1), 150), (class_color(2), 750)]
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.instances({})


def test_fill_shares_has_a_dot_for_each_object_and_the_median_as_a_bar():
    draw.fill_shares({"disc": [0.7, 0.8, 0.9], "star": [0.2, 0.4]})
    (ax,) = panels()
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.8, 0.3])
    assert [y for line in ax.lines for _, y in points(line)] == [0.7, 0.8, 0.9, 0.2, 0.4]
    assert texts(ax) == ["0.80", "0.30"] and [t.get_text() for t in ax.get_xticklabels()] == ["disc", "star"]
    assert ax.get_ylim()[0] == 0 and "share of its box" in labels(ax)[1]


def test_ramp_slide_tells_how_far_each_rule_is_off():
    starts = torch.arange(5.0)
    pooled, aligned = torch.tensor([3.0, 3, 3, 9, 9]), starts + 2
    draw.ramp_slide(starts, starts + 2, {"RoI pooling": pooled, "RoIAlign": aligned})
    (ax,) = panels()
    one, two, middle = ax.lines
    assert points(one) == list(zip(starts.tolist(), pooled.tolist(), strict=True))
    assert points(two) == points(middle) == list(zip(starts.tolist(), aligned.tolist(), strict=True))
    told = key(plt.gcf().legends[0])
    assert told["RoI pooling: off by up to 4"][0] == POOLED and told["RoIAlign: off by up to 0"][0] == ALIGNED
    assert told["middle of the bin"] == (draw.TRUTH, ":")
    assert labels(ax) == ("left border of the window, pixels", "where the bin looks, pixels")
    render()
    place = plt.gcf().legends[0].get_window_extent()
    assert place.x0 >= 0 and place.x1 <= plt.gcf().bbox.x1


def test_border_shifts_tell_the_largest_and_the_mean():
    places = torch.tensor([0.0, 4, 8, 12])
    draw.border_shifts(places, {"rounded": torch.tensor([0.0, -4, 8, 4]), "down": torch.tensor([0.0, -4, -8, -12])})
    assert titles() == ["rounded: up to 8.0, mean 4.0", "down: up to 12.0, mean 6.0"]
    left, right = panels()
    assert points(left.lines[0])[2] == (8, 8) and points(right.lines[0])[3] == (12, -12)
    assert labels(left) == ("a border, pixels", "it moves by, pixels") and left.get_ylim() == right.get_ylim()


def test_two_readings_show_whole_cells_above_and_points_below():
    ramp = [16.0 * c for c in range(8)]
    draw.two_readings(ramp, (22, 94), {"RoI pooling": [32, 80], "RoIAlign": [40, 76]}, points=2)
    render()
    upper, lower = panels()
    assert [ax.get_title("left") for ax in panels()] == ["RoI pooling", "RoIAlign"]
    for ax, bins, read in ((upper, [(8, 56), (56, 104)], [32, 80]), (lower, [(22, 58), (58, 94)], [40, 76])):
        *drawn, region = rectangles(ax)
        assert [(r.get_x(), r.get_x() + r.get_width()) for r in drawn] == bins
        assert (region.get_x(), region.get_x() + region.get_width()) == (22, 94) and region.get_linestyle() == "--"
        cells, places = texts(ax)[:8], texts(ax)[8:]
        assert cells == [f"{number:g}" for number in ramp] and places == [str(at) for at in read]
        assert all(abs(x - number) < 8 for (_, (x, _)), number in zip(written(ax), ramp, strict=False))
        middles, signs = ax.lines[:2]
        assert [x for x, _ in points(middles)] == ramp and [x for x, _ in points(signs)] == read
        (exact,) = (c for c in ax.collections if ":" in str(c.get_linestyle()) or c.get_linewidth()[0] == 3)
        assert [segment[0][0] for segment in exact.get_segments()] == [40, 76]
    assert [x for x, _ in points(lower.lines[2])] == [31, 49, 67, 85] and len(upper.lines) == 2
    assert looks(rectangles(upper)[0]) == POOLED and looks(rectangles(lower)[0]) == ALIGNED
    told = legend(plt.gcf().legends[0])
    assert told == ["region", "middle of its bins", "where a bin looks", "point", "middle of a cell"]
    place = plt.gcf().legends[0].get_window_extent()
    assert place.x0 >= 0 and place.x1 <= plt.gcf().bbox.x1


def test_bins_that_share_a_cell_overlap_as_in_roi_pooling():
    draw.two_readings([0.0, 8, 16, 24, 32], (8, 16), {"RoI pooling": [10, 22], "RoIAlign": [10, 14]})
    upper, _ = panels()
    assert [(r.get_x(), r.get_width()) for r in rectangles(upper)[:2]] == [(4, 8), (12, 8)]
    draw.two_readings([0.0, 8, 16, 24, 32], (8, 24), {"RoI pooling": [12, 20], "RoIAlign": [12, 20]})
    upper, _ = panels()
    assert [(r.get_x(), r.get_width()) for r in rectangles(upper)[:2]] == [(4, 16), (12, 16)]


def test_mask_questions_show_an_answer_and_beside_it_the_gradients():
    logits = torch.tensor([[[4.0, -4], [0, 0]], [[0, 0], [0, 0]]])
    one = torch.zeros(2, 2, 2)
    one[0, 0, 1] = -0.5
    other = torch.full((2, 2, 2), 0.25)
    draw.mask_questions(IMAGE, MASKS[1], logits, {"sigmoid": one, "softmax": other}, ("disc", "ring"))
    axes = panels()
    assert titles() == [
        "RoI", "mask of disc", "sigmoid: sum 0.50", "softmax: sum 1.00",
        "mask of ring", "sigmoid: all 0", "softmax: sum 1.00",
    ]  # fmt: skip
    assert torch.tensor(axes[0].images[0].get_array()).equal(IMAGE.permute(1, 2, 0))
    assert borders(axes[0])[-1] == draw.TRUTH and extent_of_border(axes[0], -1) == [35, 15, 60, 45]
    answers = torch.tensor(axes[1].images[0].get_array())
    assert answers[0, 0] > 0.98 and answers[0, 1] < 0.02 and answers[1, 0] == 0.5
    for ax, values in ((axes[2], one[0]), (axes[3], other[0]), (axes[5], one[1])):
        assert torch.tensor(ax.images[0].get_array()).equal(values)
        assert ax.images[0].get_clim() == (-0.5, 0.5)  # one scale for all
    red, _, blue = (axes[2].images[0].get_cmap()(share)[:3] for share in (0.95, 0.5, 0.05))
    assert red[0] > red[2] and blue[2] > blue[0]  # red goes down
    told = key(plt.gcf().legends[0])
    lowers, raises = (to_rgb(told[f"a step {what} the logit"]) for what in ("lowers", "raises"))
    assert lowers[0] > lowers[2] and raises[2] > raises[0] and to_rgb(told["mask: yes"]) == (0, 0, 0)
    assert told["true border"] == (draw.TRUTH, ":")


def test_cut_and_paste_colours_what_is_wrong():
    truth = torch.tensor([[1, 1, 0], [1, 1, 0]]).bool()
    pasted = torch.tensor([[1, 1, 1], [1, 0, 0]]).bool()
    draw.cut_and_paste({"small": (truth, torch.tensor([[1.0, 0.5], [1, 0.5]]), pasted)})
    mask, cut, back, errors = panels()
    assert titles() == ["mask", "cut to 2 x 2", "pasted", "IoU 0.60, 2 wrong"] and mask.get_ylabel() == "small"
    assert torch.tensor(cut.images[0].get_array()).tolist() == [[1, 0.5], [1, 0.5]]
    assert torch.tensor(back.images[0].get_array()).bool().equal(pasted)
    shown = torch.tensor(errors.images[0].get_array())
    good, bad = (torch.tensor(to_rgb(color)) for color in (draw.DETECTION, draw.MISTAKE))
    assert torch.allclose(shown[0, 0], good) and torch.allclose(shown[0, 2], bad) and torch.allclose(shown[1, 1], bad)
    assert shown[1, 2].tolist() == [1, 1, 1] and legend(plt.gcf().legends[0]) == ["right", "wrong pixels"]


def test_the_iou_of_masks():
    first = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 0]]])
    second = torch.tensor([[[1, 0], [1, 0]], [[1, 1], [0, 0]], [[0, 0], [0, 0]]])
    assert torch.allclose(mask_iou(first, second), torch.tensor([[1 / 3, 1, 0], [0, 0, 0]]).double())


def test_an_object_is_found_once_and_by_its_class():
    twice = {key: torch.cat((value, value[:1])) for key, value in ANSWER.items()}
    masks, right = right_masks(twice, TRUTH, IMAGE, 0.5)
    assert len(masks) == 3 and right.tolist() == [True, True, False]
    other = ANSWER | {"labels": torch.tensor([2, 2])}
    assert right_masks(other, TRUTH, IMAGE, 0.5)[1].tolist() == [False, True]
    assert right_masks(ANSWER, TRUTH, IMAGE, 0.7)[1].tolist() == [True]
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "masks": MASKS[:0]}
    assert right_masks(ANSWER, none, IMAGE, 0.5)[1].tolist() == [False, False]


def test_own_masks_stand_side_by_side_and_are_counted():
    before = ANSWER | {"masks": MASKS.flip(2)[:, None]}
    draw.own_masks(IMAGE, TRUTH, before, ANSWER, threshold=0.5)
    left, right = panels()
    assert titles() == ["before: 0 right, 2 wrong", "after: 2 right, 0 wrong"]
    assert "before: 0 right, 2 wrong" in describe(plt.gcf())
    assert {color for color, _ in layers(left)} == {draw.MISTAKE} and grey(left) and grey(right)
    assert layers(right) == [(draw.DETECTION, 150), (draw.DETECTION, 750)]
    assert all(borders(ax).count(draw.TRUTH) == 2 for ax in panels())
    assert legend(plt.gcf().legends[0]) == ["right", "wrong", "true border"]
    draw.own_masks(IMAGE, TRUTH, before, ANSWER, threshold=0.7)
    assert titles() == ["before: 0 right, 1 wrong", "after: 1 right, 0 wrong"]


def test_worst_masks_have_their_titles_and_both_borders():
    items = [(IMAGE, MASKS[0], MASKS[1], f"ring {k}") for k in range(3)]
    draw.worst_masks(items)
    assert titles() == ["ring 0", "ring 1", "ring 2"]
    ax = panels()[0]
    assert layers(ax) == [(draw.MISTAKE, 750)] and borders(ax)[-1] == draw.TRUTH and grey(ax)
    assert extent_of_border(ax, -1) == [5, 5, 15, 20]
    assert legend(plt.gcf().legends[0]) == ["mask that was found", "true border"]


def test_the_road_of_mask_r_cnn():
    draw.network_map(draw.MASK_RCNN)
    render()
    branch = [(a, b) for a, b, _ in draw.MASK_RCNN.arrows if "mask" in (a + b).lower()]
    assert branch == [
        ("pyramid", "RoIAlign\n(masks)"), ("class\nand box", "RoIAlign\n(masks)"),
        ("RoIAlign\n(masks)", "mask\nhead"), ("mask\nhead", "K masks"), ("K masks", "paste"),
    ]  # fmt: skip
    assert ("class\nand box", "RoIAlign\n(masks)", "(D, 4)") in draw.MASK_RCNN.arrows  # detections, not proposals
    assert ("class\nand box", "paste", "") in draw.MASK_RCNN.arrows
    places = dict(written(plt.gca()))
    assert places["mask\nhead"][1] > places["box\nhead"][1]  # the third branch lies below
