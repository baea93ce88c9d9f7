"""The small YOLO: which cell answers for which object, and the sum of squares by hand."""

import pytest
import torch

from rcnn_tutorial.course.relatives import GridDetector, shipped_stages
from rcnn_tutorial.course.relatives.grid import responsible_cells
from tests.course.relatives.training import overfitted
from tests.detectors.scenes import CLASSES, batch


@pytest.fixture(scope="module")
def model():
    return GridDetector(shipped_stages(), CLASSES)


def test_the_cell_of_an_objects_centre():
    boxes = torch.tensor([[0.0, 0, 0.2, 0.2], [0.4, 0.1, 0.6, 0.3], [0.5, 0.5, 1.5, 1.5], [0.8, 0.9, 0.9, 0.95]])
    cell, first = responsible_cells(boxes, 4)
    assert cell.tolist() == [0, 2, 15, 15]  # centres (0.1, 0.1), (0.5, 0.2), (1, 1) and (0.85, 0.925)
    assert first.tolist() == [True, True, True, False]
    assert [len(part) for part in responsible_cells(boxes[:0], 4)] == [0, 0]


def test_fifty_random_centres_fill_as_many_cells_as_chance_says():
    centers = torch.rand(2000, 50, 2, generator=torch.Generator().manual_seed(0)) * 0.998
    kept = [responsible_cells(torch.cat((c, c + 0.002), dim=1), 7)[1].sum().item() for c in centers]
    assert sum(kept) / len(kept) == pytest.approx(49 * (1 - (48 / 49) ** 50), abs=0.15)  # 31.5


def exact(model, objects, labels):
    """Predictions (S S, K) and (S S, B, 5) that say exactly these objects, each by the first box of its cell."""
    s, k = model.cells, len(model.classes) - 1
    classes, numbers = torch.zeros(s * s, k), torch.zeros(s * s, model.boxes, 5)
    center, size = (objects[:, :2] + objects[:, 2:]) / 2, objects[:, 2:] - objects[:, :2]
    for c, d, label in zip(center.tolist(), size.tolist(), labels.tolist(), strict=True):
        column, row = int(c[0] * s), int(c[1] * s)
        classes[row * s + column, label - 1] = 1
        within = [c[0] * s - column, c[1] * s - row, d[0] ** 0.5, d[1] ** 0.5, 1]
        numbers[row * s + column, 0] = torch.tensor(within)
    return classes, numbers


OBJECTS, LABELS = torch.tensor([[0.1, 0.2, 0.4, 0.5], [0.6, 0.55, 0.9, 0.95]]), torch.tensor([2, 5])


def test_exact_predictions_cost_nothing_and_become_the_boxes(model):
    classes, numbers = exact(model, OBJECTS, LABELS)
    for name, loss in model.losses(classes, numbers, OBJECTS, LABELS).items():
        assert loss.item() == pytest.approx(0, abs=1e-9), name
    cell, _ = responsible_cells(OBJECTS, model.cells)
    torch.testing.assert_close(model.corners(numbers)[cell, 0], OBJECTS)


def test_the_loss_by_hand(model):
    classes, numbers = exact(model, OBJECTS, LABELS)
    (one, _), _ = responsible_cells(OBJECTS, model.cells)
    classes[one, 0] += 0.5  # another class
    numbers[one, 0, 0] += 0.1  # a tenth of a cell to the right
    numbers[one, 1, 4] = 0.4  # the other box of this cell, which is to be empty
    numbers[0, 0, 4] = 0.6  # of a cell without an object
    losses = model.losses(classes, numbers, OBJECTS, LABELS)
    shift = 0.1 / model.cells
    iou = (0.3 - shift) / (0.3 + shift)
    assert losses["class"].item() == pytest.approx(0.5**2)
    assert losses["box"].item() == pytest.approx(5 * 0.1**2, rel=1e-4)
    assert losses["confidence"].item() == pytest.approx((1 - iou) ** 2 + 0.5 * (0.4**2 + 0.6**2), rel=1e-4)


def test_the_box_that_overlaps_most_is_responsible(model):
    classes, numbers = exact(model, OBJECTS, LABELS)
    numbers = numbers.flip(1)  # the second box of each cell is exact, the first has no size
    assert sum(model.losses(classes, numbers, OBJECTS, LABELS).values()).item() == pytest.approx(0, abs=1e-9)


def test_of_two_objects_in_a_cell_one_counts(model):
    both = torch.cat((OBJECTS[:1], OBJECTS[:1] + 0.01))
    assert len(set(responsible_cells(both, model.cells)[0].tolist())) == 1
    classes, numbers = exact(model, both[:1], LABELS[:1])
    assert sum(model.losses(classes, numbers, both, LABELS).values()).item() == pytest.approx(0, abs=1e-9)


def test_detections_are_in_the_pixels_of_each_image(model):
    images = [torch.rand(3, 192, 256), torch.rand(3, 100, 150)]
    classes, numbers = exact(model, OBJECTS, LABELS)
    whole = torch.cat((classes, numbers.flatten(1)), dim=1).t().unflatten(1, (model.cells, model.cells))
    handle = model.head.register_forward_hook(lambda *_: whole.expand(len(images), -1, -1, -1))
    found = model.eval()(images)
    handle.remove()
    for image, one in zip(images, found, strict=True):
        side = torch.tensor([image.shape[2], image.shape[1]] * 2)
        assert one["labels"].tolist() == [2, 5] and one["scores"].tolist() == pytest.approx([1, 1])
        torch.testing.assert_close(one["boxes"], OBJECTS * side)


def test_pictures_without_objects(model):
    images, targets = batch(2)
    targets[1] = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    for some in (targets, targets[1:] * 2):
        losses = model.train()(images, some)
        assert losses.keys() == {"class", "box", "confidence"}
        sum(losses.values()).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    with pytest.raises(ValueError, match="^targets"):
        model(images)


def test_it_overfits_eight_pictures():
    losses, ap50 = overfitted(GridDetector(shipped_stages(), CLASSES), lr=0.02)
    assert losses[-1] < 0.3 * losses[0] and ap50 > 0.3
