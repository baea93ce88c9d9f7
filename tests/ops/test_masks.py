"""Masks cut to cells and pasted back, beside loops over cells and pixels."""

import math

import pytest
import torch

from rcnn_tutorial.ops import masks as masks_module
from rcnn_tutorial.ops.masks import cut_masks, paste_masks
from tests.detectors.scenes import scene, scene_masks

HEIGHT, WIDTH = 24, 32


def between(values, y, x, outside):
    """The value of a grid, whose cell k lies at k, between its four neighbours."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            share = (1 - abs(y - row)) * (1 - abs(x - column))
            total += share * outside(values, row, column)
    return total


def zero_outside(values, row, column):
    inside = 0 <= row < len(values) and 0 <= column < len(values[0])
    return float(values[row][column]) if inside else 0.0


def nearest_outside(values, row, column):
    return float(values[min(max(row, 0), len(values) - 1)][min(max(column, 0), len(values[0]) - 1)])


def cut_by_loops(mask, box, m, aligned):
    """Each cell is the mean of points, at least one to a pixel, as far apart as the cell's sides allow."""
    x1, y1, x2, y2 = box.tolist()
    shift = 0.5 if aligned else 0.0
    height, width = (y2 - y1, x2 - x1) if aligned else (max(y2 - y1, 1), max(x2 - x1, 1))
    n_y, n_x = math.ceil(height / m), math.ceil(width / m)
    cells = torch.zeros(m, m, dtype=torch.float64)
    for i in range(m):
        for j in range(m):
            points = []
            for a in range(n_y):
                for b in range(n_x):
                    y = y1 + (i + (a + 0.5) / n_y) * height / m - shift
                    x = x1 + (j + (b + 0.5) / n_x) * width / m - shift
                    beyond = not (-1 <= y <= len(mask) and -1 <= x <= len(mask[0]))
                    points.append(0.0 if beyond else between(mask, y, x, nearest_outside))
            cells[i, j] = sum(points) / len(points)
    return cells


def paste_by_loops(mask, box, size):
    """Each pixel asks which cell its middle lies in, as a fraction, and reads the four around."""
    (x1, y1, x2, y2), m = box.tolist(), len(mask)
    pasted = torch.zeros(size, dtype=torch.float64)
    for y in range(size[0]):
        for x in range(size[1]):
            row = (y + 0.5 - y1) / (y2 - y1) * m - 0.5
            column = (x + 0.5 - x1) / (x2 - x1) * m - 0.5
            pasted[y, x] = between(mask, row, column, zero_outside)
    return pasted


def some(count=12, seed=0):
    """Masks (R, 24, 32), and boxes in double precision, some of them beyond the border or below a pixel."""
    g = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, HEIGHT, WIDTH, generator=g) > 0.4
    corner = torch.rand(count, 2, generator=g, dtype=torch.float64) * 22 - 4
    size = 0.3 + 22 * torch.rand(count, 2, generator=g, dtype=torch.float64) ** 2
    return masks, torch.cat((corner, corner + size), dim=1)


@pytest.mark.parametrize("aligned", [True, False])
def test_cutting_is_the_loop_over_cells(aligned):
    masks, boxes = some()
    found = cut_masks(masks, boxes, 7, aligned)
    for mask, box, cells in zip(masks, boxes, found, strict=True):
        assert torch.allclose(cells, cut_by_loops(mask.tolist(), box, 7, aligned), rtol=0, atol=1e-9)
    assert found.min() < 1e-9 and found.max() > 1 - 1e-9 and found.std() > 0.2


def test_pasting_is_the_loop_over_pixels():
    g = torch.Generator().manual_seed(2)
    _, boxes = some()
    masks = torch.rand(len(boxes), 6, 6, generator=g, dtype=torch.float64)
    found = paste_masks(masks, boxes, (HEIGHT, WIDTH), threshold=None)
    for mask, box, pasted in zip(masks, boxes, found, strict=True):
        assert torch.allclose(pasted, paste_by_loops(mask.tolist(), box, (HEIGHT, WIDTH)), rtol=0, atol=1e-9)
    assert (
        torch.equal(paste_masks(masks, boxes, (HEIGHT, WIDTH)), found > 0.5) and 0.02 < (found > 0.5).sum() / 9216 < 1
    )


@pytest.mark.parametrize(("m", "pixels"), [(4, 1), (4, 2), (5, 3)])
def test_cells_of_whole_pixels_hold_their_mean(m, pixels):
    """So that a target half a pixel beside its object is seen at once."""
    masks, _ = some(1)
    side = m * pixels
    box = torch.tensor([[6.0, 3, 6 + side, 3 + side]])
    part = masks[0, 3 : 3 + side, 6 : 6 + side].float()
    expected = part.unflatten(0, (m, pixels)).unflatten(2, (m, pixels)).mean(dim=(1, 3))
    assert torch.allclose(cut_masks(masks, box, m)[0], expected, atol=1e-6)
    assert not torch.allclose(cut_masks(masks, box, m, aligned=False)[0], expected, atol=0.05)


def test_what_is_cut_pixel_for_pixel_comes_back():
    masks, _ = some(3)
    boxes = torch.tensor([[6.0, 3, 20, 17], [0, 0, 14, 14], [18, 10, 32, 24]])
    again = paste_masks(cut_masks(masks, boxes, 14), boxes, (HEIGHT, WIDTH))
    for mask, pasted, (x1, y1, x2, y2) in zip(masks, again, boxes.int().tolist(), strict=True):
        expected = torch.zeros_like(mask)
        expected[y1:y2, x1:x2] = mask[y1:y2, x1:x2]
        assert torch.equal(pasted, expected)


def test_a_large_object_comes_back_with_few_errors():
    """A disc across 3.4 pixels of each cell; moved by a pixel it would lose 4 % of its IoU."""
    y, x = torch.meshgrid(torch.arange(120) + 0.5, torch.arange(140) + 0.5, indexing="ij")
    disc = (((x - 70.3) ** 2 + (y - 60.1) ** 2) < 48**2)[None]
    box = torch.tensor([[22.3, 12.1, 118.3, 108.1]])
    again = paste_masks(cut_masks(disc, box, 28), box, (120, 140))
    iou = (again & disc).sum() / (again | disc).sum()
    moved = again.roll(1, dims=2)
    assert iou > 0.99 > 0.975 > (moved & disc).sum() / (moved | disc).sum()


def test_torchvisions_grid_costs_iou():
    """The figures of docs/equality.md: the scenes' masks, cut to 28 x 28 and pasted back."""
    ious = {True: [], False: []}
    for index in range(12):
        boxes, masks = scene(index)[1]["boxes"], scene_masks(index)
        for aligned, found in ious.items():
            again = paste_masks(cut_masks(masks, boxes, 28, aligned), boxes, (192, 256), aligned)
            found.append((again & masks).sum((1, 2)) / (again | masks).sum((1, 2)))
    ours, theirs = (torch.cat(found).mean() for found in ious.values())
    assert 0.98 < ours < 1 and 0.89 < theirs < 0.94


def test_objects_of_one_pixel():
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, 5, 9] = masks[1, 0, 0] = True
    boxes = torch.tensor([[9.0, 5, 10, 6], [0, 0, 1, 1]])
    cells = cut_masks(masks, boxes, 14)
    assert cells[:, 6:8, 6:8].min() > 0.9 and cells.min() > 0.2
    assert torch.equal(paste_masks(cells, boxes, (HEIGHT, WIDTH)), masks)
    assert torch.equal(paste_masks(torch.ones(2, 14, 14), boxes, (HEIGHT, WIDTH)), masks)


def test_a_mask_that_leaves_its_box():
    """What lies beyond the box is not cut, and comes back by at most half a cell."""
    whole = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
    box = torch.tensor([[10.25, 6.25, 22.25, 18.25]])
    cells = cut_masks(whole, box, 4)  # cells of 3 pixels
    assert torch.allclose(cells, torch.ones(1, 4, 4))
    soft = paste_masks(cells, box, (HEIGHT, WIDTH), threshold=None)[0]
    rows, columns = soft.nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 19, 9, 23)  # 1.5 pixels beyond
    across, down = (soft[12] > 0.5).nonzero()[:, 0], (soft[:, 16] > 0.5).nonzero()[:, 0]
    assert across.tolist() == list(range(10, 22)) and down.tolist() == list(range(6, 18))  # middles in the box


def test_a_box_far_outside_has_no_pixels():
    box = torch.tensor([[100.0, 100, 120, 120]])
    assert not cut_masks(torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool), box, 5).any()
    assert not paste_masks(torch.ones(1, 5, 5), box, (HEIGHT, WIDTH)).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_none(dtype):
    boxes = torch.zeros(0, 4, dtype=dtype)
    cells = cut_masks(torch.zeros(0, HEIGHT, WIDTH, dtype=torch.bool), boxes, 14)
    assert cells.shape == (0, 14, 14) and cells.dtype == dtype
    pasted = paste_masks(cells, boxes, (HEIGHT, WIDTH))
    assert pasted.shape == (0, HEIGHT, WIDTH) and pasted.dtype == torch.bool


def test_portions_change_nothing(monkeypatch):
    masks, boxes = some()
    cells = cut_masks(masks, boxes, 7)
    pasted = paste_masks(cells, boxes, (HEIGHT, WIDTH), threshold=None)
    for most in (1, 2 * HEIGHT * WIDTH, 5 * HEIGHT * WIDTH):
        monkeypatch.setattr(masks_module, "MOST", most)
        assert torch.equal(cut_masks(masks, boxes, 7), cells)
        assert torch.allclose(paste_masks(cells, boxes, (HEIGHT, WIDTH), threshold=None), pasted, atol=1e-12)


def test_half_precision_is_pasted_in_single():
    _, boxes = some()
    masks = torch.rand(len(boxes), 6, 6).bfloat16()
    found = paste_masks(masks, boxes.float(), (HEIGHT, WIDTH), threshold=None)
    assert found.dtype == torch.float32
    assert torch.equal(found, paste_masks(masks.float(), boxes.float(), (HEIGHT, WIDTH), threshold=None))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, b: cut_masks(m[:3], b, 7), r"masks: expected \(R, H, W\) of 12 boxes"),
        (lambda m, b: cut_masks(m[:, None], b, 7), r"masks: expected \(R, H, W\) of 12 boxes"),
        (lambda m, b: cut_masks(m, b * float("nan"), 7), "boxes: expected finite"),
        (lambda m, b: paste_masks(m.double(), b, (9, 9)), r"masks: expected \(R, m, m\) of 12 boxes"),
        (lambda m, b: paste_masks(m[:3, :5, :5].double(), b, (9, 9)), r"masks: expected \(R, m, m\) of 12 boxes"),
        (lambda m, b: paste_masks(m[:, :5, :5].double(), b.flip(1), (9, 9)), "boxes: expected finite numbers with x1"),
    ],
)
def test_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(*some())
