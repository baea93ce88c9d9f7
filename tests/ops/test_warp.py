import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.ops.warp import IMAGENET_MEAN, dilate, warp
from tests.strategies import boxes as some_boxes


def ramp(height=40, width=60, dtype=torch.float64, device="cpu"):
    """x, y and x - 2y at the pixels' centres: bilinear interpolation is exact on it."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack((x, y, x - 2 * y)).to(device, dtype)


def noise(height=40, width=60, seed=0, dtype=torch.float32):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def slow_warp(image, boxes, size, context, fill):
    """The definition, one pixel of the result at a time; pixels' centres at .5, the image ends at its borders."""
    height, width = image.shape[1:]
    warped = torch.empty(len(boxes), 3, size, size, dtype=image.dtype)
    for r, (x1, y1, x2, y2) in enumerate(boxes.double().tolist()):
        scale_x, scale_y = (x2 - x1) / (size - 2 * context), (y2 - y1) / (size - 2 * context)
        for i in range(size):
            for j in range(size):
                x, y = x1 + (j + 0.5 - context) * scale_x, y1 + (i + 0.5 - context) * scale_y
                warped[r, :, i, j] = bilinear(image, x, y) if 0 <= x < width and 0 <= y < height else fill
    return warped


def bilinear(image, x, y):
    height, width = image.shape[1:]
    x, y = min(max(x - 0.5, 0), width - 1), min(max(y - 0.5, 0), height - 1)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    u, v = x - left, y - top
    above = (1 - u) * image[:, top, left] + u * image[:, top, right]
    below = (1 - u) * image[:, bottom, left] + u * image[:, bottom, right]
    return (1 - v) * above + v * below


def test_dilation_by_hand(device):
    box = torch.tensor([[100.0, 200, 200, 250]], device=device)
    x1, y1, x2, y2 = dilate(box)[0].tolist()
    claim("RCNN-05", (x2 - x1) / 100, 1.16410, tol=5e-6, note="factor per side")
    claim("RCNN-05", x2 - x1, 116.41, tol=5e-3, note="width of a 100x50 box, dilated")
    claim("RCNN-05", y2 - y1, 58.21, tol=5e-3, note="height of a 100x50 box, dilated")
    claim("RCNN-05", (x2 - x1) * (y2 - y1) / 5000, 1.35514, tol=5e-5, note="factor of the area")
    assert (x1 + x2) / 2 == pytest.approx(150) and (y1 + y2) / 2 == pytest.approx(225)


@given(some_boxes(dtype=torch.float64), st.integers(1, 30), st.integers(0, 100))
def test_dilated_box_has_the_context_on_each_side(boxes, context, room):
    size = 2 * context + 1 + room
    grown = dilate(boxes, context, size)
    pixel = (grown[:, 2:] - grown[:, :2]) / size  # of the result, in the image
    assert torch.allclose(grown[:, :2] + context * pixel, boxes[:, :2])
    assert torch.allclose(grown[:, 2:] - context * pixel, boxes[:, 2:])
    assert torch.equal(dilate(boxes, 0, size), dilate(boxes, 0, 1))


def test_original_box_lands_on_16_to_211(device):
    image = torch.zeros(3, 100, 120, device=device)
    image[:, 30:60, 40:90] = 1
    found = warp(image, torch.tensor([[40.0, 30, 90, 60]], device=device), fill=0)[0, 0] > 0.5
    rows, columns = found.any(1).nonzero()[:, 0], found.any(0).nonzero()[:, 0]
    claim("RCNN-05", rows.min().item(), 16, note="first row of the box in the warped window")
    claim("RCNN-05", rows.max().item() + 1, 211, note="row behind the box in the warped window")
    assert (columns.min(), columns.max() + 1) == (16, 211)


def test_a_circle_in_a_wide_box_becomes_tall():
    y, x = torch.meshgrid(torch.arange(120) + 0.5, torch.arange(160) + 0.5, indexing="ij")
    image = (((x - 80) ** 2 + (y - 60) ** 2).sqrt() < 20).float().expand(3, -1, -1)
    window = warp(image, torch.tensor([[20.0, 30, 140, 90]]), fill=0)  # 120 x 60
    claim("RCNN-04", condition=window.shape == (1, 3, 227, 227), note="a 2:1 box becomes 227x227")
    blob = window[0, 0] > 0.5
    ratio = blob.any(0).sum() / blob.any(1).sum()
    claim("RCNN-04", ratio.item(), 0.5, tol=0.02, note="width : height of a circle in a 2:1 box, warped")


@pytest.mark.parametrize("context", [0, 2])
def test_equals_the_definition(context):
    image = noise(12, 17, dtype=torch.float64)
    boxes = torch.tensor(
        [[2, 3, 9, 8], [2.3, 1.7, 15.9, 11.2], [-4, -3, 5, 6], [10, 8, 30, 30], [3, 4, 4, 5], [-9, -9, 40, 40]]
    ).double()
    fill = torch.tensor([0.1, 0.5, 0.9]).double()
    expected = slow_warp(image, boxes, 9, context, fill)
    assert torch.allclose(warp(image, boxes, 9, context, fill), expected, atol=1e-12)
    assert torch.allclose(warp(image.float(), boxes.float(), 9, context, fill), expected.float(), atol=1e-5)


def test_equals_interpolation_of_the_crop():
    # Away from the border of the crop, beyond which `interpolate` sees nothing.
    image = noise()
    expected = F.interpolate(image[None, :, 5:35, 10:50], (80, 80), mode="bilinear")[0]
    found = warp(image, torch.tensor([[10.0, 5, 50, 35]]), 80, 0)[0]
    assert torch.allclose(found[:, 2:-2, 1:-1], expected[:, 2:-2, 1:-1], atol=1e-5)


@given(some_boxes(area=True, min_count=1, max_count=8, dtype=torch.float64))
def test_a_ramp_is_reproduced(boxes):
    boxes = boxes.clamp(-10, 70)
    boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) > 0.1).all(1)]
    size, context = 16, 3
    grown = dilate(boxes, context, size)
    steps = (torch.arange(size) + 0.5) / size
    x = grown[:, 0, None] + steps * (grown[:, 2] - grown[:, 0])[:, None]
    y = grown[:, 1, None] + steps * (grown[:, 3] - grown[:, 1])[:, None]
    x, y = x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)
    found = warp(ramp(), boxes, size, context, fill=-1e6)
    centres = (x >= 0.5) & (x <= 59.5) & (y >= 0.5) & (y <= 39.5)
    expected = torch.stack((x, y, x - 2 * y), dim=1)
    assert torch.allclose(found.permute(0, 2, 3, 1)[centres], expected.permute(0, 2, 3, 1)[centres], atol=1e-6)
    outside = (x < 0) | (x >= 60) | (y < 0) | (y >= 40)
    assert (found.permute(0, 2, 3, 1)[outside] == -1e6).all()


def test_outside_is_exactly_the_fill(device):
    image = noise().to(device)
    boxes = torch.tensor([[-50.0, -50, -20, -20], [100, 10, 130, 30], [-30, -20, 90, 60]], device=device)
    window = warp(image, boxes, 32, 4)
    mean = torch.tensor(IMAGENET_MEAN, device=device)[:, None, None]
    assert (window[:2] == mean).all()
    third = window[2]  # its width is 120, grown to 160: the image begins at (160 - 60) / 2 / 160 * 32 = 10
    assert (third[:, :, :10] == mean).all() and (third[:, :, -10:] == mean).all()
    assert (third[:, 10:22, 10:22] != mean).all()
    assert torch.equal(warp(image, boxes[:1], 8, 0, fill=0.25), torch.full((1, 3, 8, 8), 0.25, device=device))


def test_the_border_does_not_blend_with_the_fill(device):
    image = torch.ones(3, 10, 10, device=device)
    window = warp(image, torch.tensor([[-10.0, -10, 20, 20]], device=device), 300, 0, fill=0)
    assert torch.allclose(window[:, :, 100:200, 100:200], torch.ones((), device=device), atol=1e-5)
    assert window.sum().item() == pytest.approx(3 * 100 * 100, rel=1e-5)


def test_one_pixel():
    image = torch.zeros(3, 5, 5)
    image[:, 2, 3] = 1
    window = warp(image, torch.tensor([[3.0, 2, 4, 3]]), 227, fill=0)[0, 0]
    assert window.max() == window[113, 113] == 1 and window[113, 16] == pytest.approx(0.5, abs=0.01)


def test_no_boxes(device):
    image, none = noise().to(device), torch.zeros(0, 4, device=device)
    found = warp(image, none, 8, 1)
    assert found.shape == (0, 3, 8, 8) and found.device.type == device.type


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype, device):
    image = noise(300, 400).to(device, dtype)
    boxes = torch.tensor([[200.0, 100, 391, 290], [300, 200, 333, 260]], device=device).to(dtype)
    found = warp(image, boxes, 64, 4)
    assert found.dtype == dtype
    assert torch.equal(found, warp(image.float(), boxes.float(), 64, 4).to(dtype))


def test_gradient_to_the_image():
    image = noise(6, 7, dtype=torch.float64).requires_grad_()
    boxes = torch.tensor([[1.0, 1, 5, 4], [-2, 0, 3, 9]]).double()
    assert torch.autograd.gradcheck(lambda i: warp(i, boxes, 5, 1), image)


def test_gradient_does_not_repeat_the_image():
    # 2,000 copies of this image would be 18 GB.
    image = noise(1000, 750).requires_grad_()
    boxes = torch.tensor([[10.0, 20, 100, 90]]).repeat(2000, 1)
    warp(image, boxes, 4, 0).sum().backward()
    assert image.grad.shape == image.shape and image.grad.sum().item() == pytest.approx(2000 * 48, rel=1e-3)


def test_a_part_of_the_boxes_is_a_part_of_the_result():
    boxes = torch.tensor([[0.0, 0, 20, 20]]) + torch.arange(50)[:, None]
    parts = [warp(noise(), part, 24, 2) for part in boxes.split(16)]
    assert torch.equal(torch.cat(parts), warp(noise(), boxes, 24, 2))


IMAGE, BOX = torch.zeros(3, 8, 8), torch.tensor([[1.0, 1, 4, 4]])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (dict(image=IMAGE[0]), "image"),
        (dict(image=IMAGE.byte()), "image"),
        (dict(boxes=torch.zeros(2, 5)), "boxes"),
        (dict(boxes=BOX[0]), "boxes"),
        (dict(boxes=torch.zeros(1, 4)), "boxes"),
        (dict(context=114), "context"),
        (dict(context=-1), "context"),
        (dict(fill=(0.0, 1.0)), "fill"),
    ],
)
def test_bad_input_is_named(change, name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        warp(**{"image": IMAGE, "boxes": BOX, **change})
