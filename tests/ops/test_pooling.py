import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from experiments.variants import roi_warp
from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.course.pooling import sliding_pyramid_pool
from rcnn_tutorial.engine import maxima
from rcnn_tutorial.nets.backbones import vgg16
from rcnn_tutorial.ops.pooling import roi_align, roi_pool, spatial_pyramid_pool

MAPS = ["gaussian", "after ReLU", "whole numbers", "not finite"]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def feature_map(kind, shape, generator, dtype=torch.float32):
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    if kind == "after ReLU":
        return x.relu()
    if kind == "whole numbers":  # with both zeros, 0.0 and -0.0
        return x.round()
    if kind == "not finite":
        special = torch.tensor([float("nan"), float("inf"), -float("inf"), -3.4028234663852886e38, 0.0], dtype=dtype)
        chosen = torch.randint(12, shape, generator=generator)
        return torch.where(chosen < 5, special[chosen.clamp(max=4)], x)
    return x


def regions(count, images, size, scale, generator, dtype=torch.float32):
    """(R, 5) around a map of `size` cells: inside, across its border and beyond, also with x2 < x1."""
    height, width = size
    center = torch.rand(count, 2, generator=generator) * torch.tensor([1.6 * width, 1.6 * height])
    center = center - 0.3 * torch.tensor([width, height])
    half = (torch.rand(count, 2, generator=generator) - 0.1) * 0.6 * torch.tensor([width, height])
    boxes = torch.cat((center - half, center + half), dim=1)
    if torch.rand(1, generator=generator) < 0.5:  # borders on cells and on exact halves
        boxes = (2 * boxes).round() / 2
    index = torch.randint(images, (count, 1), generator=generator)
    return torch.cat((index, boxes / scale), dim=1).to(dtype)


def value_and_gradient(pool, x, *args):
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    pooled = pool(x, *args)
    weight = torch.randn(pooled.shape, generator=seeded(1), dtype=torch.float64).to(pooled)
    pooled.backward(weight)
    return pooled.detach(), x.grad


def assert_equals_torchvision(x, rois, size, scale):
    mine, gradient = value_and_gradient(roi_pool, x, rois, size, scale)
    theirs, expected = value_and_gradient(torchvision.ops.roi_pool, x, rois, size, scale)
    assert torch.equal(mine, theirs) and mine.dtype == theirs.dtype and mine.is_contiguous()
    assert torch.equal(roi_pool(x, rois, size, scale), theirs)  # the way without switches
    if x.device.type == "cpu":
        assert torch.equal(gradient, expected)  # to the last bit: the order of the sum is the same
    else:
        torch.testing.assert_close(gradient, expected)


@given(
    st.sampled_from(MAPS),
    st.sampled_from([torch.float32, torch.float64]),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 30), st.integers(1, 30)),
    st.tuples(st.integers(1, 8), st.integers(1, 8)),
    st.sampled_from([1.0, 0.5, 1 / 16, 0.3]),
    st.integers(0, 10000),
)
def test_equals_torchvision(kind, dtype, shape, size, scale, seed):
    g = seeded(seed)
    rois = regions(12, shape[0], shape[2:], scale, g, dtype)
    assert_equals_torchvision(feature_map(kind, shape, g, dtype), rois, size, scale)


@pytest.mark.parametrize("kind", MAPS)
def test_equals_torchvision_at_the_size_of_a_detector(kind, device):
    g = seeded(0)
    x = feature_map(kind, (2, 20, 38, 63), g)
    rois = regions(300, 2, (38, 63), 1 / 16, g)
    assert_equals_torchvision(x.to(device), rois.to(device), 7, 1 / 16)


@pytest.mark.parametrize("step_cost", [-(10**9), 10**9])
@pytest.mark.parametrize("kind", MAPS[:3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(4, 4), (2, 7), 1])
def test_both_ways_to_the_maxima_equal_torchvision(step_cost, kind, dtype, size, monkeypatch):
    monkeypatch.setattr(maxima, "STEP_COST", step_cost)  # cell by cell, or from tables
    g = seeded(19)
    x, rois = feature_map(kind, (3, 5, 24, 32), g, dtype), regions(100, 3, (24, 32), 1 / 8, g, dtype)
    ends = rois.clone()
    ends[:, 1:] = rois[:, 1:].sort(dim=1).values * 0.5  # many with cells only within the map
    corners = torch.tensor([[i, 0.0, 0, 8 * w, 8 * h] for i in range(3) for w in range(4) for h in range(4)]).to(dtype)
    for boxes in (rois, ends, corners):
        assert maxima._are_few(x, torch.tensor([[[0, 0, 1, 1]]])) is (step_cost < 0)
        assert_equals_torchvision(x, boxes, size, 1 / 8)


@pytest.mark.parametrize("pool", ["roi_pool", "roi_align", "roi_warp"])
@pytest.mark.parametrize("size", [(1, 5), (6, 2), (14, 7), (28, 3)])
def test_any_height_and_width(pool, size):
    x, rois = feature_map("gaussian", (2, 4, 24, 32), seeded(20)), regions(30, 2, (24, 32), 1 / 8, seeded(21))
    if pool == "roi_pool":
        assert_equals_torchvision(x, rois, size, 1 / 8)
        return
    if pool == "roi_align":
        mine, theirs = (p(x, rois, size, 1 / 8, 2) for p in (roi_align, torchvision.ops.roi_align))
    else:
        double = 2 * size[0], 2 * size[1]
        mine = roi_warp(x, rois, size, 1 / 8)
        theirs = F.max_pool2d(torchvision.ops.roi_align(x, rois, double, 1 / 8, 1), 2)
    torch.testing.assert_close(mine, theirs)
    assert mine.shape == (30, 4, *size)


def test_equals_torchvision_in_portions(monkeypatch):
    monkeypatch.setattr(maxima, "STEP_COST", 10**9)
    monkeypatch.setattr(maxima, "CPU_BYTES", (3 * 9 * 2 * 9 * 11 * 8, 7 * 9 * 3 * 8))
    g = seeded(2)
    x = feature_map("after ReLU", (2, 8, 9, 11), g)  # with switches 8 channels by 3, 50 regions by 7
    assert_equals_torchvision(x, regions(50, 2, (9, 11), 1.0, g), 3, 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_halves_are_rounded_away_from_zero(dtype, device):
    below = torch.nextafter(torch.tensor(0.5, dtype=dtype), torch.tensor(0.0, dtype=dtype)).item()
    edges = [-2.5, -1.5, -0.5, -below, below, 0.5, 1.5, 2.5, 3.5]
    boxes = torch.tensor([[0, x, y, x + 2, y + 2] for x in edges for y in edges], dtype=dtype, device=device)
    x = torch.arange(48, dtype=dtype, device=device).view(1, 1, 6, 8)
    assert_equals_torchvision(x, boxes, 2, 1.0)
    one = roi_pool(x, boxes.new_tensor([[0, 0.5, 2.5, 1.5, 3.5]]), 1)  # columns 1 and 2, rows 3 and 4
    assert one.item() == 4 * 8 + 2


def test_bin_ends_are_rounded_as_torchvision_rounds_them():
    x = torch.arange(60.0).expand(1, 1, 60, 60)  # 57 cells into 7 bins: in float32 the last ends at 58
    assert_equals_torchvision(x, torch.tensor([[0, 0, 0, 56.0, 56]]), 7, 1.0)
    assert roi_pool(x, torch.tensor([[0, 0, 0, 56.0, 56]]), 7)[0, 0, 0, -1] == 57


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_equals_float32_of_the_same_numbers(dtype, device):
    g = seeded(3)
    x = torch.randn(2, 5, 12, 15, generator=g).to(device, dtype)
    boxes = regions(40, 2, (12, 15), 0.3, g).to(device, dtype)
    mine, gradient = value_and_gradient(roi_pool, x, boxes, 7, 0.3)
    exact, expected = value_and_gradient(
        lambda x, *a: torchvision.ops.roi_pool(x.float(), *a).to(dtype), x, boxes.float(), 7, 0.3
    )
    assert torch.equal(mine, exact) and mine.dtype == dtype
    torch.testing.assert_close(gradient, expected)
    assert roi_pool(torch.full_like(x, float("nan")), boxes, 7, 0.3).isfinite().all()


def test_any_memory_layout(device):
    g = seeded(4)
    x = torch.randn(2, 6, 10, 14, generator=g).to(device)
    boxes = regions(20, 2, (10, 14), 1.0, g).to(device)
    theirs = value_and_gradient(torchvision.ops.roi_pool, x, boxes, 5)
    for other in (x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        assert not other.is_contiguous()
        mine = value_and_gradient(roi_pool, other, boxes, 5)
        assert torch.equal(mine[0], theirs[0])
        torch.testing.assert_close(mine[1], theirs[1], **({"rtol": 0, "atol": 0} if device.type == "cpu" else {}))
    every_second, columns = x.repeat_interleave(2, dim=3)[..., ::2], boxes.t().contiguous().t()
    assert torch.equal(roi_pool(every_second, columns, 5), theirs[0])


def test_a_list_of_boxes(device):
    g = seeded(5)
    x = torch.randn(3, 4, 10, 10, generator=g).to(device)
    rois = regions(9, 3, (10, 10), 1.0, g).to(device)
    rois = rois[rois[:, 0].argsort(stable=True)]
    rois = rois[rois[:, 0] != 1]
    parts = [rois[rois[:, 0] == i, 1:] for i in range(3)]
    assert len(parts[1]) == 0 and torch.equal(roi_pool(x, parts, (2, 3)), roi_pool(x, rois, (2, 3)))


def test_no_regions(device):
    x = torch.randn(2, 3, 5, 6, device=device)
    for boxes in (torch.zeros(0, 5, device=device), [torch.zeros(0, 4, device=device)] * 2):
        pooled, gradient = value_and_gradient(roi_pool, x, boxes, (4, 7))
        assert pooled.shape == (0, 3, 4, 7) and pooled.device == x.device and not gradient.any()
        assert roi_pool(x, boxes, (4, 7)).shape == (0, 3, 4, 7)
    assert spatial_pyramid_pool(x, (2, 1), torch.zeros(0, 5, dtype=torch.int64, device=device)).shape == (0, 15)


def test_a_bin_without_a_cell_gives_zero_and_no_gradient():
    x = torch.full((1, 1, 4, 4), -5.0)
    pooled, gradient = value_and_gradient(roi_pool, x, torch.tensor([[0, 2.0, 0, 5, 3]]), 2)
    assert pooled.tolist() == [[[[-5, 0], [-5, 0]]]]
    assert gradient.count_nonzero() == 2
    beyond, gradient = value_and_gradient(roi_pool, x, torch.tensor([[0, 9.0, 9, 12, 12], [0, -9, -9, -7, -7]]), 3)
    assert not beyond.any() and not gradient.any()


def test_nan_is_passed_over():
    x = torch.full((1, 1, 2, 2), float("nan"))
    pooled, gradient = value_and_gradient(roi_pool, x, torch.tensor([[0, 0.0, 0, 1, 1]]), 1)
    assert pooled.item() == torch.finfo(torch.float32).min and not gradient.any()
    x[0, 0, 1, 1] = -7
    pooled, gradient = value_and_gradient(roi_pool, x, torch.tensor([[0, 0.0, 0, 1, 1]]), 1)
    assert pooled.item() == -7 and gradient.nonzero().tolist() == [[0, 0, 1, 1]]


def test_inputs_are_left_alone():
    g = seeded(6)
    x, rois = torch.randn(2, 3, 9, 9, generator=g), regions(20, 2, (9, 9), 1.0, g)
    windows = torch.tensor([[1, 2, 0, 7, 9]])
    before = x.clone(), rois.clone(), windows.clone()
    value_and_gradient(roi_pool, x, rois, 3)
    spatial_pyramid_pool(x, (3, 1), windows)
    assert all(torch.equal(a, b) for a, b in zip((x, rois, windows), before, strict=True))


def test_gradient_goes_to_the_switches():
    x = torch.randperm(2 * 2 * 6 * 7, generator=seeded(7)).double().view(2, 2, 6, 7).requires_grad_()
    rois = regions(6, 2, (6, 7), 1.0, seeded(8), torch.float64).requires_grad_()
    numeric = torch.autograd.gradcheck(lambda x: roi_pool(x, rois.detach(), (3, 2)), x, eps=1e-3)
    claim("FAST-15", condition=numeric, note="the gradient of RoI pooling is that of finite differences, float64")

    pooled = roi_pool(x, rois, (3, 2))
    weight = torch.randn(pooled.shape, generator=seeded(9), dtype=torch.float64)
    pooled.backward(weight)
    expected = torch.zeros_like(x)
    for r, (index, *_) in enumerate(rois.tolist()):
        for c, value, dy in zip(
            torch.arange(2).repeat_interleave(6), pooled[r].flatten(), weight[r].flatten(), strict=True
        ):
            cell = (x[int(index), c] == value) & (value != 0)  # the values are distinct: the one that won
            expected[int(index), c] += dy * cell
    same = torch.allclose(x.grad, expected) and rois.grad is None
    claim("FAST-15", condition=same, note="sum of dL/dy over the bins that a cell won; none to the boxes")

    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 1] = 1
    x.requires_grad_()
    roi_pool(x, torch.tensor([[0, 0, 0, 1.0, 1], [0, 1, 1, 3, 3]]), 1).backward(torch.tensor([2.0, 5]).view(2, 1, 1, 1))
    claim("FAST-15", x.grad[0, 0, 1, 1].item(), 7.0, note="two overlapping RoIs share an argmax: gradients 2 and 5")
    assert x.grad.count_nonzero() == 1


@pytest.mark.parametrize("pool", [roi_pool, roi_align])
def test_there_is_no_second_derivative(pool):
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    pooled = pool(x, torch.tensor([[0, 0, 0, 3.0, 3]]), 2)
    (first,) = torch.autograd.grad(pooled.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first.sum().backward()


def roi_pool_loop(input, boxes, output_size, spatial_scale):
    """One bin at a time, as Fast R-CNN tells it in section 2.1, in Python's numbers: equal in float64."""
    h, w = output_size
    pooled = input.new_zeros(len(boxes), input.shape[1], h, w)
    for r, (image, *box) in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = (int(c * spatial_scale + math.copysign(0.5, c)) for c in box)
        bin_w, bin_h = max(x2 - x1 + 1, 1) / w, max(y2 - y1 + 1, 1) / h
        for i in range(h):
            for j in range(w):
                top, bottom = y1 + math.floor(i * bin_h), y1 + math.ceil((i + 1) * bin_h)
                left, right = x1 + math.floor(j * bin_w), x1 + math.ceil((j + 1) * bin_w)
                cells = input[int(image), :, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
                if cells.shape[1] and cells.shape[2]:
                    pooled[r, :, i, j] = cells.amax((1, 2))
    return pooled


def test_roi_pooling_is_the_loop():
    g = seeded(10)
    x = torch.randn(2, 3, 24, 32, generator=g, dtype=torch.float64)
    rois = regions(1000, 2, (24, 32), 1 / 16, g, torch.float64)
    same = torch.equal(roi_pool(x, rois, (4, 3), 1 / 16), roi_pool_loop(x, rois, (4, 3), 1 / 16))
    claim("FAST-03", condition=same, note="vectorised equals the loop, 1,000 random RoIs")
    ramp = torch.arange(6.0).view(1, 1, 6, 1)
    box = torch.tensor([[0, 0, 0, 0, 3.0]])  # rows 0 to 3
    ends = roi_pool(ramp, box, (7, 1)).flatten() + 1
    starts = -roi_pool(-ramp, box, (7, 1)).flatten()
    bins = list(zip(starts.int().tolist(), ends.int().tolist(), strict=True))
    expected = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4)]
    claim("FAST-03", condition=bins == expected, note="7 bins of 4 cells repeat: (0,1)(0,2)(1,2)(1,3)(2,3)(2,4)(3,4)")


def test_any_region_fits_the_first_fully_connected_layer():
    x = torch.randn(1, 512, 20, 30, generator=seeded(11))
    with torch.device("meta"):
        width = vgg16().fc6[0].in_features
    numbers = roi_pool(x, regions(1, 1, (20, 30), 1 / 16, seeded(0)), 7, 1 / 16).numel()
    assert numbers == width
    claim("FAST-02", numbers, 25088, note="input width of VGG16's fc6: numbers that RoI pooling gives it")
    shapes = {roi_pool(x, regions(3, 1, (20, 30), 1 / 16, seeded(s)), 7, 1 / 16).shape[1:] for s in range(4)}
    claim("FAST-02", condition=shapes == {(512, 7, 7)}, note="any RoI gives (512, 7, 7)")


def test_roi_pooling_is_one_level_of_the_pyramid():
    g = seeded(12)
    x = torch.randn(2, 4, 38, 50, generator=g)
    x1, y1 = torch.randint(48, (60,), generator=g), torch.randint(36, (60,), generator=g)
    x2 = x1 + 1 + (torch.rand(60, generator=g) * (50 - x1)).long()
    y2 = y1 + 1 + (torch.rand(60, generator=g) * (38 - y1)).long()
    windows = torch.stack((torch.arange(60) % 2, x1, y1, x2, y2), dim=1)
    last = torch.tensor([0, 0, 0, 1, 1])  # roi_pool's last cell belongs to the region
    boxes = (windows - last).float() * torch.tensor([1, 16, 16, 16, 16])
    same = torch.equal(roi_pool(x, boxes, 7, 1 / 16).flatten(1), spatial_pyramid_pool(x, (7,), windows))
    claim("FAST-04", condition=same, note="roi_pool 7x7 equals the level n = 7 on the same 60 windows")


def test_fifty_pixels_at_stride_sixteen():
    ramp = torch.arange(200.0).view(1, 1, 1, 200)  # a cell's number is its column

    def apart(stride):
        """Cells from the rounded left border of a proposal of 50 pixels to the right one, at places a pixel apart."""
        boxes = torch.tensor([[0.0, x, 0, x + 50, 1] for x in range(80)])
        last, first = roi_pool(ramp, boxes, 1, 1 / stride), -roi_pool(-ramp, boxes, 1, 1 / stride)
        return (last - first).flatten()

    cells = apart(16)
    assert set(cells.int().tolist()) == {3, 4}
    claim("FAST-05", cells.mean().item(), 20, within=(3.125, 3.125), agrees="differs",
          note="cells between the borders of a proposal of 50 pixels at stride 16, mean")  # fmt: skip
    claim("FAST-05", cells.max().item(), 20, within=(4, 4), agrees="differs", note="the same, at most")
    claim("FAST-05", apart(2.5).mean().item(), 20, note="the same at a stride of 2.5")


@given(
    st.sampled_from(MAPS[:3]),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(0, 10000),
)
def test_pyramid_has_the_bins_of_adaptive_pooling(kind, shape, levels, seed):
    def adaptive(x):
        return torch.cat([F.adaptive_max_pool2d(x, n).flatten(1) for n in levels], dim=1)

    x = feature_map(kind, shape, seeded(seed))
    mine, gradient = value_and_gradient(spatial_pyramid_pool, x, levels)
    theirs, expected = value_and_gradient(adaptive, x)
    assert torch.equal(mine, theirs) and torch.equal(spatial_pyramid_pool(x, levels), theirs)
    torch.testing.assert_close(gradient, expected)


def test_pyramid_of_a_window_is_that_of_the_crop(device):
    x = torch.randn(2, 3, 11, 13, generator=seeded(13)).to(device)
    windows = torch.tensor([[0, 0, 0, 13, 11], [1, 2, 3, 5, 10], [1, 12, 10, 13, 11], [0, 4, 0, 11, 2]], device=device)
    pooled = spatial_pyramid_pool(x, (4, 2, 1), windows)
    assert torch.equal(pooled, spatial_pyramid_pool(x, (4, 2, 1), windows.short()))
    for row, (i, x1, y1, x2, y2) in zip(pooled, windows.tolist(), strict=True):
        crop = x[i : i + 1, :, y1:y2, x1:x2]
        assert torch.equal(row, torch.cat([F.adaptive_max_pool2d(crop, n).flatten() for n in (4, 2, 1)]))


def test_pyramid_is_max_pooling_where_the_bins_divide_the_map():
    x = torch.randn(2, 3, 8, 8, generator=seeded(14))
    assert torch.equal(spatial_pyramid_pool(x, (4,)), F.max_pool2d(x, 2).flatten(1))
    assert spatial_pyramid_pool(x, (4, 2, 1)).shape == (2, 3 * 21)


def test_pyramid_has_one_length():
    sizes = torch.randint(6, 61, (30, 2), generator=seeded(15)).tolist()
    lengths = {spatial_pyramid_pool(torch.randn(1, 5, h, w), (4, 2, 1)).shape[1] for h, w in sizes}
    claim("SPP-03", condition=lengths == {5 * 21}, note="maps of 6 to 60 cells a side: one length, k filters x M bins")
    long = spatial_pyramid_pool(torch.randn(1, 256, 13, 10), (6, 3, 2, 1))
    bins = spatial_pyramid_pool(torch.randn(1, 1, 13, 10), (6, 3, 2, 1)).shape[1]
    claim("SPP-04", bins, 50, note="bins of the detection pyramid: numbers of one filter")
    claim("SPP-04", long.shape[1], 12800, note="length for 256 filters")


def test_pyramid_keeps_coarse_layout():
    covered, whole = True, True
    for a in range(1, 30):
        for n in (1, 2, 3, 6):
            at = torch.eye(a).view(1, a, 1, a)  # channel i is 1 in column i alone
            bins = spatial_pyramid_pool(at, (n,)).view(a, n, n)
            covered &= bool((bins.amax((1, 2)) == 1).all())
            i = torch.arange(n)
            low, high = i * a // n, ((i + 1) * a + n - 1) // n
            cell = torch.arange(a)[:, None]
            whole &= torch.equal(bins[:, 0], ((cell >= low) & (cell < high)).float())
    claim("SPP-05", condition=covered, note="n x n bins of 1 to 29 cells: every cell is in one")
    claim("SPP-05", condition=whole, note="bin i is [floor(i a / n), ceil((i + 1) a / n))")

    x = torch.randn(2, 8, 13, 10, generator=seeded(16))
    shuffled = x.flatten(2)[..., torch.randperm(130, generator=seeded(17))].view_as(x)
    one, other = spatial_pyramid_pool(x, (1, 2, 3)), spatial_pyramid_pool(shuffled, (1, 2, 3))
    claim("SPP-05", condition=torch.equal(one[:, :8], x.amax((2, 3))), note="the 1 x 1 level is the global maximum")
    layout = torch.equal(one[:, :8], other[:, :8]) and not (
        torch.equal(one[:, 8:40], other[:, 8:40]) or torch.equal(one[:, 40:], other[:, 40:])
    )
    claim("SPP-05", condition=layout, note="positions shuffled: the 1 x 1 level stays, the others change")


def test_the_sliding_rule_fails():
    def outputs(a, n):
        return sliding_pyramid_pool(torch.zeros(1, 1, a, a), n).shape[2]

    table = {13: {6: (3, 2, 6), 3: (5, 4, 3), 2: (7, 6, 2), 1: (13, 13, 1)},
             10: {6: (2, 1, 9), 3: (4, 3, 3), 2: (5, 5, 2), 1: (10, 10, 1)}}  # fmt: skip
    x = torch.randn(1, 2, 13, 13, generator=seeded(18))
    for a, levels in table.items():
        for n, (window, stride, expected) in levels.items():
            pooled = F.max_pool2d(x[:, :, :a, :a], window, stride)
            assert torch.equal(sliding_pyramid_pool(x[:, :, :a, :a], n), pooled)
            agrees = "agrees" if expected == n else "differs"
            claim("SPP-06", outputs(a, n), n, within=(expected, expected), agrees=agrees,
                  source="n outputs", note=f"sliding pool, a = {a}, n = {n}: {window}/{stride}, outputs")  # fmt: skip
    fails = {n: [a for a in range(6, 41) if outputs(a, n) != n] for n in (1, 2, 3, 4, 6)}
    expected = {1: [], 2: [], 3: [], 4: [6, 7, 11], 6: [8, 9, 10, 11, 15, 16, 17, 22, 23, 29]}
    claim("SPP-06", condition=fails == expected, agrees="differs", source="n x n for every a",
          note=f"does not give n x n for a in 6..40: {expected}")  # fmt: skip
    assert sliding_pyramid_pool(torch.zeros(2, 3, 10, 13), 6).shape == (2, 3, 9, 6)


MAP = torch.zeros(2, 4, 8, 9)
ROI = torch.tensor([[0.0, 1, 1, 3, 3]])


BAD_REGIONS = pytest.mark.parametrize(  # for every kind of pooling
    ("input", "boxes", "size", "name"),
    [
        (MAP[0], ROI, 2, "input"),
        (MAP.int(), ROI, 2, "input"),
        (MAP, ROI[:, 1:], 2, "boxes"),
        (MAP, ROI.int(), 2, "boxes"),
        (MAP, ROI[0], 2, "boxes"),
        (MAP, [ROI[:, 1:]], 2, "boxes"),
        (MAP, [ROI, ROI], 2, "boxes"),
        (MAP, ROI + 2, 2, "boxes"),
        (MAP, ROI - 1, 2, "boxes"),
        (MAP, ROI * float("nan"), 2, "boxes"),
        (MAP, ROI + torch.tensor([0, 0, 0, 0, float("inf")]), 2, "boxes"),
        (MAP, ROI, 0, "output_size"),
        (MAP, ROI, (2, 2, 2), "output_size"),
        (MAP, ROI, 2.5, "output_size"),
    ],
)


@BAD_REGIONS
def test_bad_regions_are_named(input, boxes, size, name):
    with pytest.raises(ValueError, match=f"^{name}: .*expected"):
        roi_pool(input, boxes, size)


@pytest.mark.parametrize(
    "window",
    [[2, 0, 0, 1, 1], [-1, 0, 0, 1, 1], [0, 3, 0, 3, 2], [0, 4, 0, 3, 2], [0, 0, -1, 3, 3], [0, 0, 0, 10, 8],
     [0, 0, 0, 9, 9], [0, 0, 5, 9, 5]],
)  # fmt: skip
def test_bad_windows_are_named(window):
    with pytest.raises(ValueError, match="^windows: expected"):
        spatial_pyramid_pool(MAP, (2, 1), torch.tensor([window]))


def test_other_bad_input_is_named():
    with pytest.raises(ValueError, match="^windows: expected integers"):
        spatial_pyramid_pool(MAP, (2, 1), ROI)
    with pytest.raises(ValueError, match="^features: "):
        spatial_pyramid_pool(MAP[0], (2, 1))
    for levels in ((), (2, 0), (1.5,)):
        with pytest.raises(ValueError, match="^levels: "):
            spatial_pyramid_pool(MAP, levels)
    for n in (0, 9):
        with pytest.raises(ValueError, match="^n: expected 1 to 8"):
            sliding_pyramid_pool(MAP, n)
