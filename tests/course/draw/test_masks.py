import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from rcnn_tutorial.course import draw
from rcnn_tutorial.data.masks import encode_masks
from tests.course.draw.figures import CLASSES, IMAGE, TARGET, pixels, render, texts, thin, written

MASKS = torch.zeros(2, 60, 80, dtype=torch.bool)
MASKS[0, 5:20, 5:12] = True
MASKS[1, 10:50, 30:70] = torch.eye(40, dtype=torch.bool)
FORMS = {"bool": MASKS, "detector": MASKS[:, None], "probabilities": MASKS * 0.7, "runs": encode_masks(MASKS)}


def painted(ax):
    """For each colour the pixels that it covers."""
    found = {}
    for layer in ax.images[1:]:
        rgba = torch.tensor(layer.get_array())
        inside = rgba[..., 3] > 0
        (color,) = {to_hex(tuple(c)).upper() for c in rgba[inside][:, :3].tolist()} or {None}
        assert list(layer.get_extent()) == [0, 80, 60, 0] and (rgba[inside][:, 3] - 0.55).abs().max() < 1e-6
        found[color] = inside
    return found


@pytest.mark.parametrize("form", FORMS)
def test_masks_lie_on_their_pixels_in_the_colours_of_their_classes(form):
    ax = draw.masks(IMAGE, TARGET | {"masks": FORMS[form]}, CLASSES)
    render()
    assert pixels(ax) == (IMAGE.permute(1, 2, 0).tolist(), [0, 80, 60, 0])
    found = painted(ax)
    assert len(found) == 2 and all(torch.equal(found[draw.class_color(i + 1)], MASKS[i]) for i in range(2))
    assert written(ax) == [("disc", (5, 5)), ("ring", (30, 10))]
    boxes = {to_hex(c.get_edgecolor()[0]).upper(): thin(c) for c in ax.collections}
    assert boxes == {draw.class_color(i + 1): [TARGET["boxes"][i].tolist()] for i in range(2)}


def test_small_masks_lie_on_large_ones_and_texts_may_be_given():
    _, ax = plt.subplots()
    answer = {"boxes": torch.tensor([[5.0, 5, 12, 20], [0, 0, 80, 60]]), "labels": torch.tensor([1, 2])}
    answer["masks"] = torch.stack((MASKS[0], torch.ones(60, 80, dtype=torch.bool)))
    assert draw.masks(IMAGE, answer, CLASSES, ["47 %", "100 %"], ax) is ax
    assert [int((torch.tensor(layer.get_array())[..., 3] > 0).sum()) for layer in ax.images[1:]] == [4800, 105]
    assert texts(ax) == ["47 %", "100 %"]


@pytest.mark.parametrize("none", [torch.zeros(0, 60, 80).bool(), torch.zeros(0, 1, 60, 80).bool(), []])
def test_without_objects(none):
    answer = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "masks": none}
    ax = draw.masks(IMAGE, answer, CLASSES)
    assert len(ax.images) == 1 and not ax.texts
