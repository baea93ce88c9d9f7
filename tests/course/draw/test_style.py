import inspect

import matplotlib.pyplot as plt
import pytest
import torch

from rcnn_tutorial.course import draw
from rcnn_tutorial.course.draw.style import _has_photo, _jpeg, _png, describe, ink, on_cpu, percent
from rcnn_tutorial.ops.assign import BACKGROUND, FOREGROUND, UNUSED
from tests.course.draw.figures import CLASSES, IMAGE, TARGET, panels, rectangles


def test_ink_has_the_higher_contrast_by_wcag():
    def luminance(color):
        channels = torch.tensor([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = torch.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return (linear @ torch.tensor([0.2126, 0.7152, 0.0722])).item()

    for color in (*draw.COLORS, draw.PALE, "#000000"):
        over = {"black": (luminance(color) + 0.05) / 0.05, "white": 1.05 / (luminance(color) + 0.05)}
        assert ink(color) == max(over, key=over.get), color
        below = luminance(draw.words(color)) + 0.05
        assert 1.05 / below >= 4.5 and (draw.words(color) == color.lower() or 1.05 / below < 4.9), color


@pytest.mark.parametrize(
    "share, text", [(0, "0 %"), (1e-6, "<0.01 %"), (0.0039, "0.39 %"), (0.0912, "9.1 %"), (0.25, "25 %"), (1, "100 %")]
)
def test_percent(share, text):
    assert percent(share) == text


def test_a_colour_has_its_meaning():
    """Green is right and foreground, orange-red wrong and background, grey what plays no part."""
    assert draw.STATES == {
        FOREGROUND: ("foreground", draw.GOOD), BACKGROUND: ("background", draw.BAD), UNUSED: ("unused", draw.PALE),
    }  # fmt: skip
    assert {
        "correct": draw.GOOD, "class": draw.COLORS[1], "place": draw.COLORS[5], "duplicate": draw.COLORS[3],
        "background": draw.BAD,
    } == draw.KIND_COLORS  # fmt: skip
    assert (draw.GOOD, draw.BAD, draw.PALE, draw.PLAIN.color) == ("#009E73", "#D55E00", "#767676", draw.GOOD)
    assert (draw.TRUTH, draw.PROPOSAL, draw.DETECTION, draw.MISTAKE, draw.IGNORED) == (
        "#000000", "#0072B2", draw.GOOD, draw.BAD, draw.PALE,
    )  # fmt: skip


def test_a_figure_is_described_by_what_stands_in_it():
    figure, (left, right) = plt.subplots(1, 2)
    left.plot([0, 1], label="mean")
    left.set(title="AP\nof five", xlabel="seconds", ylabel="AP")
    left.legend()
    draw.picture(IMAGE, right)
    for word in (*"aab", *"cdefghijklmn"):
        right.text(0, 0, word)
    said = "AP of five; x: seconds; y: AP; legend: mean. words in it: a, b, c, d, e, f, g, h, i, j, k, l, ..."
    assert describe(figure) == f"2 panels. {said}"
    right.remove()
    figure.suptitle("All")
    assert describe(figure) == "All. AP of five; x: seconds; y: AP; legend: mean"
    left.get_legend().remove()
    figure.legend()
    assert describe(figure) == "All. AP of five; x: seconds; y: AP. legend: mean"
    assert describe(plt.figure()) == "A picture without words"


def test_the_description_goes_with_the_picture():
    draw.network_map(draw.BOXES)
    png, told = _png(plt.gcf())
    assert png[1:4] == b"PNG" and told["alt"].startswith("words in it: picture, detector, suppress")
    assert _jpeg(plt.gcf()) is None
    draw.contact_sheet({"four": torch.rand(4, 3, 64, 64)})
    jpeg, told = _jpeg(plt.gcf())
    assert jpeg[:2] == b"\xff\xd8" and "four" in told["alt"] and _png(plt.gcf()) is None


def test_class_colours_start_over():
    assert draw.class_color(1) == draw.COLORS[0] == draw.class_color(len(draw.COLORS) + 1)


def test_many_crops_are_a_photograph():
    draw.contact_sheet({"one": torch.rand(1, 3, 64, 64)})
    assert not _has_photo(plt.gcf())
    draw.contact_sheet({"four": torch.rand(4, 3, 64, 64)})
    assert _has_photo(plt.gcf())


class Elsewhere(torch.Tensor):
    """A tensor that matplotlib cannot read until it is moved."""

    def cpu(self):
        return self.as_subclass(torch.Tensor) * 1

    def detach(self):
        return self

    def numpy(self):
        raise TypeError("can't convert a tensor of another device")


def test_pictures_take_tensors_of_any_device():
    far = torch.tensor([1.0, 2.0]).as_subclass(Elsewhere)
    with pytest.raises(TypeError, match="another device"):
        far.numpy()

    @on_cpu
    def read(one, *, nested):
        return [tensor.numpy().tolist() for tensor in (one, nested["a"][0], nested["a"][1][0])], nested["b"]

    assert read(far, nested={"a": [far, (far,)], "b": "text"}) == ([[1.0, 2.0]] * 3, "text")
    for name in draw.__all__:
        function = getattr(draw, name)
        if inspect.isfunction(function):
            takes = [str(parameter.annotation) for parameter in inspect.signature(function).parameters.values()]
            assert hasattr(function, "__wrapped__") or not any("Tensor" in kind for kind in takes), name


def test_tensors_of_a_gpu_are_drawn(device):
    target = {name: value.to(device) for name, value in TARGET.items()}
    draw.scene(IMAGE.to(device), target, CLASSES)
    assert len(rectangles(panels()[0])) >= len(TARGET["boxes"])
    draw.mask_scan(torch.eye(8, dtype=torch.bool, device=device), torch.ones(8, dtype=torch.bool, device=device))
    assert len(rectangles(panels()[0])) == 8 * 8 + 8
