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
    fills,
    is_grey,
    key,
    panels,
    pixels,
    rectangles,
    render,
    texts,
    thin,
    ticks,
    titles,
    written,
)


def test_pipeline_shows_windows_beside_detections_right_and_wrong():
    windows = TARGET["boxes"].repeat(10, 1)
    answer = {
        "boxes": torch.cat((TARGET["boxes"][:1], TARGET["boxes"][:1])),
        "labels": torch.tensor([1, 2]),
        "scores": torch.tensor([0.9, 0.4]),
    }
    draw.pipeline(IMAGE, windows, answer, TARGET, CLASSES)
    render()
    left, right = panels()
    assert titles() == ["20 windows", "1 of 2 objects found, 1 box wrong"]
    assert thin(left.collections[0]) == windows.tolist() and left.images[0].get_alpha() < 0.5
    assert to_hex(left.collections[0].get_edgecolor()[0]).upper() == draw.PROPOSAL
    assert is_grey(left) and is_grey(right) and pixels(right)[1] == [0, 80, 60, 0]
    assert left.collections[0].get_alpha() < 0.5  # faded beside the best windows of both objects
    assert extents(left)[:2] == TARGET["boxes"].tolist() == extents(right)[:2]
    assert sorted(extents(left)[2:]) == sorted(TARGET["boxes"].tolist())
    assert edges(left) == [draw.TRUTH] * 2 + [draw.PROPOSAL] * 2
    assert [r.get_linestyle() for r in rectangles(right)] == [":", ":", "-", "-"]
    assert edges(right)[2:] == [draw.MISTAKE, draw.GOOD]  # what is right on top
    assert sorted(texts(right)) == ["disc 0.90", "ring 0.40"]
    assert [text.get_text() for text in plt.gcf().legends[0].get_texts()] == [
        "object", "best window of an object", "right", "wrong",
    ]  # fmt: skip


def test_pipeline_lights_the_window_that_fits_an_object_best():
    near, far = TARGET["boxes"] + 1, TARGET["boxes"] + torch.tensor([0, 0, 9, 9.0])
    empty = {key: value[:0] for key, value in TARGET.items()} | {"scores": torch.zeros(0)}
    draw.pipeline(IMAGE, torch.cat((far, near)), empty, TARGET, CLASSES)
    assert sorted(extents(panels()[0])[2:]) == sorted(near.tolist())


def test_pipeline_without_detections():
    empty = {key: value[:0] for key, value in TARGET.items()} | {"scores": torch.zeros(0)}
    draw.pipeline(IMAGE, TARGET["boxes"][:0], empty, TARGET, CLASSES)
    render()
    assert titles() == ["0 windows", "0 of 2 objects found, 0 boxes wrong"]


def test_time_bar_has_the_share_of_each_stage():
    draw.time_bar({"proposals": 0.5, "network": 1.5})
    render()
    assert written(plt.gca()) == [("proposals\n25 %", (0.125, 0)), ("network\n75 %", (0.625, 0))]
    assert titles() == ["2.0 s"]


def test_time_bar_names_narrow_stages_below():
    draw.time_bar({"selective search": 0.5, "warp": 0.00001, "network": 9.0, "SVM": 0.5, "nothing": 0.0})
    render()
    ax = plt.gca()
    assert texts(ax) == ["network\n90 %"]
    named = ["selective search 5 %", "warp <0.01 %", "SVM 5 %", "nothing 0 %"]
    assert key(ax.get_legend()) == dict(zip(named, [fills(ax)[i] for i in (0, 1, 3, 4)], strict=True))
    assert ax.get_title() == "10.0 s"
    lefts, widths = zip(*((p.get_x(), p.get_width()) for p in ax.patches), strict=True)
    assert lefts == pytest.approx([0, 0.05, 0.05, 0.95, 1], abs=1e-4)
    assert sum(widths) == pytest.approx(1)
    assert fills(ax) == list(draw.COLORS[:5])


def test_time_bar_names_many_narrow_stages_in_rows():
    draw.time_bar({"network": 9.0} | {f"selective search {i}": 0.01 for i in range(6)})
    render()
    below, figure = plt.gca().get_legend().get_window_extent(), plt.gcf().bbox
    assert below.x0 >= 0 and below.y0 >= 0 and below.x1 <= figure.x1
    assert plt.gca().patches[0].get_window_extent().width > 0.9 * figure.width


def test_time_bar_breaks_long_names():
    draw.time_bar({"selective search": 0.2, "network": 0.8})
    render()
    ax = plt.gca()
    assert texts(ax)[0] == "selective\nsearch\n20 %" and ax.get_legend() is None
    text, bar = ax.texts[0].get_window_extent(), ax.patches[0].get_window_extent()
    assert bar.x0 < text.x0 and text.x1 < bar.x1 and bar.y0 < text.y0 and text.y1 < bar.y1


def test_time_bar_of_nothing():
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.time_bar({})


def test_time_bars_share_one_axis_and_one_colour_for_a_stage():
    draw.time_bars({"two": {"maps": 0.1, "RPN": 0.05, "head": 0.1}, "one": {"maps": 0.08, "subnets": 0.07}})
    render()
    ax = plt.gca()
    assert [(p.get_x(), p.get_width()) for p in ax.patches] == [
        pytest.approx(pair) for pair in [(0, 100), (100, 50), (150, 100), (0, 80), (80, 70)]
    ]
    assert texts(ax) == ["100", "50", "100", " 250 ms", "80", "70", " 150 ms"]
    assert [text.get_position()[0] for text in ax.texts[:3]] == pytest.approx([50, 125, 200])
    assert ax.get_xlabel() == "milliseconds for a picture"
    assert [name for _, name in sorted((y, name) for y, name in ticks(ax.yaxis).items())] == ["two", "one"]
    assert ax.get_xlim()[0] == 0 and ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row on top
    colors = dict(zip(("maps", "RPN", "head", "subnets"), draw.COLORS, strict=False))
    assert fills(ax) == [colors[stage] for stage in ("maps", "RPN", "head", "maps", "subnets")]
    (names,) = plt.gcf().legends
    assert key(names) == colors
    assert all(text.get_window_extent().x1 <= plt.gcf().bbox.x1 for text in ax.texts)


def test_a_short_stage_has_no_number():
    draw.time_bars({"one": {"maps": 0.1, "rest": 0.001}})
    assert texts(plt.gca()) == ["100", " 101 ms"]


def test_time_bars_of_nothing():
    with pytest.raises(AssertionError, match="nothing was drawn"):
        draw.time_bars({})
