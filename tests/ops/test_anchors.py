import math

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.nets.rpn import RPN, RPNSettings
from rcnn_tutorial.ops.anchors import (
    ANCHORS,
    anchor_grid,
    caffe_anchors,
    exact_anchors,
    grid_size,
    inside,
    torchvision_anchors,
)
from rcnn_tutorial.ops.boxes import box_area, box_iou

SCALES, RATIOS, STRIDE = (128, 256, 512), (0.5, 1.0, 2.0), 16
PAPER = 600, 1000  # height and width
# py-faster-rcnn's, counted from 0, both corners inside the box
CAFFE = [
    [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199], [-56, -56, 71, 71], [-120, -120, 135, 135],
    [-248, -248, 263, 263], [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359],
]  # fmt: skip


def sides(anchors):
    return anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]


def test_exact_anchors_have_the_areas_and_ratios_asked_for():
    anchors = exact_anchors(SCALES, RATIOS, STRIDE)
    width, height = sides(anchors)
    areas = torch.tensor([float(s * s) for s in SCALES]).repeat(3)
    ratios = torch.tensor(RATIOS).repeat_interleave(3)
    claim("FRCNN-11", (box_area(anchors) / areas - 1).abs().max().item(), 0, tol=1e-5, note="areas are scale^2")
    claim("FRCNN-11", (height / width - ratios).abs().max().item(), 0, tol=1e-5, note="ratios are 1:2, 1:1, 2:1")
    assert ((anchors[:, :2] + anchors[:, 2:]) / 2 - STRIDE / 2).abs().max() < 1e-4  # about the middle of a cell

    claim("FRCNN-12", height[0].item(), 128 / math.sqrt(2), tol=1e-3, note="short side at N = 128")
    claim("FRCNN-12", width[0].item(), 128 * math.sqrt(2), tol=1e-3, note="long side at N = 128: 2 N / sqrt 2")
    claim("FRCNN-12", width[2].item(), 724.1, tol=0.05, note="long side at N = 512")
    claim("FRCNN-12", (width[6] * height[6]).item(), 128 * 128, tol=0.1, note="area of the tall one at N = 128")
    assert torch.allclose(width[:3], height[6:]) and torch.allclose(height[:3], width[6:])


def test_caffe_anchors_are_the_released_table():
    anchors = caffe_anchors(SCALES, RATIOS, STRIDE)
    table = torch.tensor(CAFFE) + torch.tensor([0, 0, 1, 1])
    claim("FRCNN-11", condition=torch.equal(anchors, table.float()), note="py-faster-rcnn's nine anchors, exactly")
    width, height = sides(anchors)
    assert (width[::3].tolist(), height[::3].tolist()) == ([184, 128, 88], [96, 128, 176])
    more = box_area(anchors[::3]) / 128**2
    for found, expected, ratio in zip(more, (1.078, 1, 0.945), (0.522, 1, 2), strict=True):
        claim("FRCNN-11", found.item(), expected, tol=5e-4, note=f"area of a rounded anchor of ratio {ratio}, in N^2")
    assert torch.allclose((height / width)[::3], torch.tensor([0.522, 1, 2]), atol=5e-4)
    assert torch.equal(caffe_anchors(SCALES, RATIOS, 8).round(), caffe_anchors(SCALES, RATIOS, 8))


@pytest.mark.parametrize("scales", [SCALES, (16, 32, 64, 128), (32,), (33, 47.5)])
@pytest.mark.parametrize("ratios", [RATIOS, (2.0, 0.3), (1.0,)])
def test_cells_equal_torchvision(scales, ratios):
    theirs = AnchorGenerator((scales,), (ratios,)).cell_anchors[0]
    assert torch.equal(torchvision_anchors(scales, ratios, STRIDE), theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grids_equal_torchvision(dtype, device):
    generator = AnchorGenerator(((32, 64), (64, 90), (128, 256)), (RATIOS,) * 3)
    for sizes in ([(12, 20), (6, 10), (3, 5)], [(4, 4), (2, 2), (1, 1)]):
        strides = [[torch.tensor(s, device=device)] * 2 for s in (8, 16, 32)]
        generator.set_cell_anchors(dtype, device)
        theirs = generator.grid_anchors(sizes, strides)
        for scales, size, stride, expected in zip(generator.sizes, sizes, (8, 16, 32), theirs, strict=True):
            mine = anchor_grid(torchvision_anchors(scales, RATIOS, stride), size, stride, dtype, device)
            assert mine.dtype == dtype and mine.device.type == device.type
            assert torch.allclose(mine, expected, rtol=0, atol=1e-9) and len(mine) == 6 * size[0] * size[1]


@pytest.mark.parametrize("kind", list(ANCHORS))
@pytest.mark.parametrize(("height", "width", "stride"), [(0, 3, 16), (1, 1, 16), (2, 3, 12.5), (3, 2, 4)])
def test_order_of_the_grid(kind, height, width, stride):
    """Row by row, cell by cell; in a cell the ratios outside, the scales inside."""
    cell = ANCHORS[kind]((32, 64), RATIOS, 16)
    grid = anchor_grid(cell, (height, width), stride, torch.float64)
    expected = [
        [a[0] + x * stride, a[1] + y * stride, a[2] + x * stride, a[3] + y * stride]
        for y in range(height)
        for x in range(width)
        for a in cell.tolist()
    ]
    assert grid.shape == (height * width * 6, 4) and grid.tolist() == expected
    tall, area = (cell[:, 3] - cell[:, 1]) / (cell[:, 2] - cell[:, 0]), box_area(cell)
    assert (tall[2:] > tall[:-2] * 1.5).all() and (area[1::2] > area[::2] * 2).all()


def test_places_and_anchors_of_the_published_input():
    floor, ceil = grid_size(PAPER, STRIDE), grid_size(PAPER, STRIDE, ceil=True)
    assert (floor, ceil) == ((37, 62), (38, 63))
    cell = exact_anchors(SCALES, RATIOS, STRIDE)
    for size, places, note in ((floor, 2294, "rounded down"), (ceil, 2394, "rounded up"), ((40, 60), 2400, "as told")):
        anchors = anchor_grid(cell, size, STRIDE)
        claim("FRCNN-08", len(anchors) / len(cell), 2400, tol=120, within=(places, places), source="about 2,400",
              note=f"places at 1000 x 600, {note}")  # fmt: skip
        agrees, exactly = "agrees" if note == "rounded down" else "differs", 9 * places
        claim("FRCNN-09", len(anchors), 20_000, tol=1000, within=(exactly, exactly), agrees=agrees,
              source="about 20,000", note=f"anchors at 1000 x 600, {note}")  # fmt: skip


@pytest.mark.parametrize("ceil", [False, True])
def test_a_map_of_four_halvings(ceil):
    for side in range(16, 200, 7):
        pool = torch.nn.MaxPool2d(2, 2, ceil_mode=ceil)
        cells = torch.zeros(1, 1, side, 16)
        for _ in range(4):
            cells = pool(cells)
        assert grid_size((side, 16), 16, ceil) == tuple(cells.shape[-2:])


def test_anchors_that_do_not_cross_the_border():
    def left(kind, image, ceil):
        anchors = anchor_grid(ANCHORS[kind](SCALES, RATIOS, STRIDE), grid_size(image, STRIDE, ceil), STRIDE)
        return int(inside(anchors, image).sum()), len(anchors), anchors[inside(anchors, image)]

    def check(found, exactly, note, agrees="differs"):
        claim(
            "FRCNN-10", found, 6000, tol=300, within=(exactly, exactly), agrees=agrees, source="about 6,000", note=note
        )

    for ceil, shape in ((False, "62 x 37"), (True, "63 x 38")):
        check(left("caffe", PAPER, ceil)[0], 8151, f"py-faster-rcnn's anchors on {shape} places of 1000 x 600")
        check(left("exact", PAPER, ceil)[0], 8044, f"exact areas on {shape} places of 1000 x 600")
    count, whole, kept = left("caffe", PAPER, True)
    claim("FRCNN-10", 100 * count / whole, 30, tol=1.5, within=(37.75, 37.85), agrees="differs",
          source="6,000 of 20,000", note="their share, %")  # fmt: skip
    width, height = sides(kept)
    claim("FRCNN-10", int(((width == 352) & (height == 704)).sum()), 0, note="of 352 x 704")
    small, whole, _ = left("caffe", (600, 800), True)
    check(small, 5944, "an image of 800 x 600", agrees="agrees")
    assert whole == 17_100


def test_the_border_belongs_to_the_image(device):
    boxes = torch.tensor([[0, 0, 20, 10], [-0.01, 0, 20, 10], [0, -0.01, 20, 10], [0, 0, 20.01, 10], [0, 0, 20, 10.01]])
    boxes = boxes.to(device)
    assert inside(boxes, (10, 20)).tolist() == [True, False, False, False, False]
    sizes = torch.tensor([[10, 20], [20, 30], [9, 90]], device=device)
    several = inside(boxes, sizes)
    assert several.shape == (3, 5) and several.device.type == device.type
    for mine, size in zip(several, sizes.tolist(), strict=True):
        assert torch.equal(mine, inside(boxes, tuple(size)))
    assert torch.equal(inside(boxes.expand(3, 5, 4), sizes), several)
    assert inside(boxes[:0], (10, 20)).shape == (0,)


def test_anchors_are_pixels_of_the_image():
    net = tiny_net(7)
    body = torch.nn.Sequential(*net.convs[:4])
    rpn = RPN(96, (8,), RPNSettings(scales=(32, 64), inside=False))
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        images = [torch.rand(1, 3, *size, generator=g) for size in ((96, 128), (96, 128), (96, 136))]
        first, second, larger = (rpn([body(image)]) for image in images)
    differ = not torch.allclose(first.logits, second.logits)
    same = torch.equal(first.anchors, second.anchors) and len(larger.anchors) > len(first.anchors)
    claim("FRCNN-13", condition=differ and same, note="two images of one size have the same anchors")

    centers = anchor_grid(exact_anchors(SCALES, RATIOS, STRIDE), (3, 4), STRIDE)[::9].unflatten(0, (3, 4))
    centers = (centers[..., :2] + centers[..., 2:]) / 2
    steps = torch.cat((centers[..., 0].diff(dim=1).flatten(), centers[..., 1].diff(dim=0).flatten()))
    claim("FRCNN-13", condition=bool((steps - 16).abs().max() < 1e-3), note="consecutive centres lie 16 px apart")

    truth, size = first.anchors[(5 * 16 + 7) * 6 + 2][None], torch.tensor([[96, 128]])
    state = rpn.label(first.anchors, [truth], size).state[0]
    wrong = rpn.label(first.anchors, [truth / 8], size).state[0]  # cells of the map
    best = box_iou(first.anchors, truth / 8).max().item()
    claim(
        "FRCNN-13",
        condition=bool(state[(5 * 16 + 7) * 6 + 2] == 1) and best < 0.3 and not ((state == 1) & (wrong == 1)).any(),
        note="an object given in cells: no anchor reaches IoU 0.3, no positive is right",
    )
    offsets = [ANCHORS[kind](SCALES, RATIOS, STRIDE)[4, [0, 2]].mean().item() for kind in ("caffe", "torchvision")]
    assert offsets == [8, 0]


def random_objects(count, low, high, generator):
    """Sides of low to high, height / width of 0.5 to 2, somewhere in 1000 x 600."""
    found = torch.zeros(0, 4)
    while len(found) < count:
        size = low + (high - low) * torch.rand(4 * count, 2, generator=generator)
        ratio = size[:, 1] / size[:, 0]
        size = size[(ratio >= 0.5) & (ratio <= 2)]
        corner = torch.rand(len(size), 2, generator=generator) * (torch.tensor([1000.0, 600]) - size)
        found = torch.cat((found, torch.cat((corner, corner + size), dim=1)))
    return found[:count]


def test_most_objects_need_the_rescue():
    anchors = anchor_grid(exact_anchors(SCALES, RATIOS, STRIDE), (38, 63), STRIDE)
    anchors = anchors[inside(anchors, PAPER)]
    share = {}
    for low, high in ((96, 500), (32, 96)):
        objects = random_objects(200, low, high, torch.Generator().manual_seed(0))
        share[low] = 100 * (box_iou(anchors, objects).amax(dim=0) < 0.7).float().mean().item()
    rarely = dict(expected="< 10", agrees="differs", source="rarely")
    claim(
        "FRCNN-16",
        share[96],
        within=(42, 58),
        note="% of objects of 96 to 500 px without an anchor of IoU 0.7",
        **rarely,
    )
    claim("FRCNN-16", share[32], within=(100, 100), note="% of objects of 32 to 96 px without one", **rarely)

    squares = exact_anchors(SCALES, (1.0,), STRIDE)
    side = torch.arange(1280, 5121) / 10
    centered = side[:, None] * torch.tensor([-0.5, -0.5, 0.5, 0.5]) + STRIDE / 2
    best = box_iou(centered, squares).amax(dim=1)
    claim("FRCNN-16", best[side == 181].item(), 0.5, tol=2e-3, note="best IoU of a square anchor with side 181")
    gap = side[(best < 0.7) & (side < 256)]
    claim("FRCNN-16", gap.min().item(), 153.0, tol=0.11, note="shortest side without a square anchor of 0.7, px")
    claim("FRCNN-16", gap.max().item(), 214.2, tol=0.11, note="longest one, px")


@pytest.mark.parametrize("kind", list(ANCHORS))
@pytest.mark.parametrize(
    ("scales", "ratios", "name"),
    [((), (1.0,), "scales"), ((32, 0), (1.0,), "scales"), ((32,), (), "ratios"), ((32,), (-1.0,), "ratios")],
)
def test_bad_settings_are_named(kind, scales, ratios, name):
    with pytest.raises(ValueError, match=f"{name}: expected numbers above 0"):
        ANCHORS[kind](scales, ratios, 16)


def test_bad_input_is_named():
    for stride in (0, 12, -4):
        with pytest.raises(ValueError, match="stride: expected a power of two"):
            grid_size((64, 64), stride)
    for wrong in (torch.zeros(4), torch.zeros(3, 5)):
        with pytest.raises(ValueError, match=r"cell: expected \(A, 4\)"):
            anchor_grid(wrong, (2, 2), 16)
        with pytest.raises(ValueError, match=r"boxes: expected \(..., N, 4\)"):
            inside(wrong, (2, 2))
