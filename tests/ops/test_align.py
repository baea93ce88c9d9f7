import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from experiments.variants import roi_warp
from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.engine import bilinear
from rcnn_tutorial.ops.pooling import roi_align, roi_pool
from tests.ops.test_pooling import BAD_REGIONS, MAP, ROI, regions, seeded, value_and_gradient

RATIOS = [-1, 0, 1, 2, 3]


def noise(shape, seed, dtype=torch.float32):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def untwisted(rois):
    """With x1 <= x2 and y1 <= y2. Otherwise torchvision reads a negative number of points and fails."""
    low, high = rois[:, 1:3], rois[:, 3:]
    return torch.cat((rois[:, :1], torch.minimum(low, high), torch.maximum(low, high)), dim=1)


def assert_equals_torchvision(x, rois, *args, tolerance=None):
    close = dict(rtol=tolerance, atol=tolerance)
    mine, gradient = value_and_gradient(roi_align, x, rois, *args)
    theirs, expected = value_and_gradient(torchvision.ops.roi_align, x, rois, *args)
    torch.testing.assert_close(mine, theirs, **close)
    torch.testing.assert_close(gradient, expected, **close)
    assert mine.is_contiguous() and torch.equal(roi_align(x, rois, *args), mine)


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(1, 8), st.integers(1, 8)),
    st.sampled_from([1.0, 0.5, 1 / 16, 0.3]),
    st.sampled_from(RATIOS),
    st.booleans(),
    st.integers(0, 10000),
)
def test_equals_torchvision(shape, size, scale, ratio, aligned, seed):
    rois = regions(12, shape[0], shape[2:], scale, seeded(seed), torch.float64)
    if ratio <= 0 and aligned:
        rois = untwisted(rois)
    x = noise(shape, seed, torch.float64)
    assert_equals_torchvision(x, rois, size, scale, ratio, aligned, tolerance=1e-9)


@pytest.mark.parametrize("ratio", [-1, 2])
@pytest.mark.parametrize("aligned", [False, True])
def test_equals_torchvision_at_the_size_of_a_detector(ratio, aligned, device):
    x, rois = noise((2, 20, 38, 63), 0).to(device), untwisted(regions(300, 2, (38, 63), 1 / 16, seeded(0))).to(device)
    assert_equals_torchvision(x, rois, 7, 1 / 16, ratio, aligned, tolerance=2e-4)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("aligned", [False, True])
def test_points_at_and_beyond_the_borders(ratio, aligned, device):
    edges = [-3.0, -1.5, -1.0, -0.5, 0.0, 0.5, 3.5, 4.0, 4.5, 5.0, 6.0]
    spans = [(a, b) for a in edges for b in edges if a <= b or ratio > 0]  # also without area, and turned around
    # a GPU multiplies and adds in one step, so that a point on a limit may come to lie on either side of it
    off = 0.0 if device.type == "cpu" else 1e-6
    boxes = [
        [0, x1 + off, y1 + off, x2 + off, y2 + off]
        for (x1, x2), (y1, y2) in zip(spans, spans[5:] + spans[:5], strict=True)
    ]
    for shape in ((1, 2, 5, 4), (1, 1, 1, 1)):
        x = noise(shape, 1, torch.float64).to(device)
        rois = torch.tensor(boxes, dtype=torch.float64, device=device)
        assert_equals_torchvision(x, rois, (2, 3), 1.0, ratio, aligned, tolerance=1e-9)


def test_a_point_counts_up_to_one_cell_beyond_the_map():
    x = torch.ones(1, 1, 4, 5, dtype=torch.float64)
    at = [-1.001, -1, -0.5, 0, 3.5, 4, 4.5, 5, 5.001]  # the one point of a region of one cell
    boxes = torch.tensor([[0, p - 0.5, 1, p + 0.5, 2] for p in at], dtype=torch.float64)
    assert roi_align(x, boxes, 1, 1.0, 1).flatten().tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 0]
    boxes = boxes[:, [0, 2, 1, 4, 3]]
    assert roi_align(x, boxes, 1, 1.0, 1).flatten().tolist() == [0, 1, 1, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_plane_gives_its_value_at_the_centre_of_each_bin(ratio):
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    plane = (3 * x + 100 * y)[None, None]
    box = torch.tensor([[0, 8.0, 4, 48, 34]])  # columns 4 to 24, rows 2 to 17
    columns, rows = 4 + 5 * (torch.arange(4) + 0.5), 2 + 5 * (torch.arange(3) + 0.5)
    expected = 3 * columns + 100 * rows[:, None]
    torch.testing.assert_close(roi_align(plane, box, (3, 4), 0.5, ratio)[0, 0], expected)
    torch.testing.assert_close(roi_align(plane, box, (3, 4), 0.5, ratio, True)[0, 0], expected - 0.5 * 103)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_equals_float32_of_the_same_numbers(dtype, device):
    x, boxes = noise((2, 5, 12, 15), 2, dtype).to(device), regions(40, 2, (12, 15), 0.3, seeded(2)).to(device, dtype)
    mine, gradient = value_and_gradient(roi_align, x, boxes, 7, 0.3)
    upcast = lambda x, *a: torchvision.ops.roi_align(x.float(), *a).to(dtype)  # noqa: E731
    exact, expected = value_and_gradient(upcast, x, boxes.float(), 7, 0.3)
    torch.testing.assert_close(mine, exact)
    torch.testing.assert_close(gradient, expected)
    warped = roi_warp(x, boxes, 7, 0.3)
    assert torch.equal(warped, roi_warp(x.float(), boxes.float(), 7, 0.3).to(dtype)) and warped.dtype == dtype


def test_any_memory_layout(device):
    x, boxes = noise((2, 6, 10, 14), 3).to(device), regions(20, 2, (10, 14), 1.0, seeded(3)).to(device)
    expected = value_and_gradient(roi_align, x, boxes, 5)
    for other in (x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        assert not other.is_contiguous()
        torch.testing.assert_close(value_and_gradient(roi_align, other, boxes, 5), expected)
    every_second, columns = x.repeat_interleave(2, dim=3)[..., ::2], boxes.t().contiguous().t()
    torch.testing.assert_close(roi_align(every_second, columns, 5), expected[0])


@pytest.mark.parametrize("ratio", [-1, 2])
def test_in_portions(ratio, monkeypatch):
    x, boxes = noise((2, 6, 10, 14), 4, torch.float64), regions(30, 2, (10, 14), 1.0, seeded(4), torch.float64)
    monkeypatch.setattr(bilinear, "CPU_BYTES", 3 * 6 * 15 * 8)  # three regions
    assert_equals_torchvision(x, boxes, (3, 5), 1.0, ratio, tolerance=1e-9)
    boxes.requires_grad_()
    (pieces,) = torch.autograd.grad(roi_align(x, boxes, (3, 5), 1.0, ratio).square().sum(), boxes)
    monkeypatch.undo()
    (whole,) = torch.autograd.grad(roi_align(x, boxes, (3, 5), 1.0, ratio).square().sum(), boxes)
    torch.testing.assert_close(pieces, whole)


def test_a_region_without_points_has_no_gradient_and_disturbs_none():
    x, boxes = noise((1, 3, 10, 14), 8), torch.tensor([[0, 2.0, 1, 9, 6], [0, 7, 3, 5, 4], [0, 1, 2, 3, 3]])

    def gradient(boxes):
        boxes = boxes.clone().requires_grad_()
        pooled = roi_align(x, boxes, 2, 1.0, -1, True)
        return pooled, torch.autograd.grad(pooled.square().sum(), boxes)[0]

    (pooled, whole), (_, alone) = gradient(boxes), gradient(boxes[[0, 2]])
    assert not pooled[1].any() and not whole[1].any() and alone.any(1).all()
    torch.testing.assert_close(whole[[0, 2]], alone)


@pytest.mark.parametrize("pool", [roi_align, roi_warp])
def test_a_list_of_boxes(pool, device):
    x, rois = noise((3, 4, 10, 10), 5).to(device), regions(9, 3, (10, 10), 1.0, seeded(5)).to(device)
    rois = rois[rois[:, 0].argsort(stable=True)]
    rois = rois[rois[:, 0] != 1]
    parts = [rois[rois[:, 0] == i, 1:] for i in range(3)]
    assert len(parts[1]) == 0
    torch.testing.assert_close(pool(x, parts, (2, 3)), pool(x, rois, (2, 3)))


@pytest.mark.parametrize("args", [(1.0, -1), (1.0, 2)])
def test_no_regions(args, device):
    x = torch.randn(2, 3, 5, 6, device=device)
    for boxes in (torch.zeros(0, 5, device=device), [torch.zeros(0, 4, device=device)] * 2):
        pooled, gradient = value_and_gradient(roi_align, x, boxes, (4, 7), *args)
        assert pooled.shape == (0, 3, 4, 7) and pooled.device == x.device and not gradient.any()
    boxes = torch.zeros(0, 5, device=device, requires_grad=True)
    roi_align(x, boxes, 2, *args).sum().backward()
    assert boxes.grad.shape == (0, 5)
    assert roi_warp(x, boxes, (4, 7)).shape == (0, 3, 4, 7)


def test_inputs_are_left_alone():
    x, rois = noise((2, 3, 9, 9), 6), regions(20, 2, (9, 9), 1.0, seeded(6))
    before = x.clone(), rois.clone()
    for pool in (roi_align, roi_warp):
        value_and_gradient(pool, x, rois, 3)
    assert torch.equal(x, before[0]) and torch.equal(rois, before[1])


@pytest.mark.parametrize("args", [(roi_align, -1, False), (roi_align, 2, True), (roi_align, 3, False), (roi_warp,)])
def test_gradients_are_those_of_finite_differences(args):
    pool, *rest = args
    x = noise((2, 2, 7, 8), 7, torch.float64).requires_grad_()
    center, half = 2 + 3 * torch.rand(5, 2, generator=seeded(7)), 0.7 + 2 * torch.rand(5, 2, generator=seeded(8))
    boxes = torch.cat((center - half, center + half), dim=1).double() / 0.3  # two of them reach beyond the map
    index = torch.tensor([[0.0], [1], [0], [1], [1]], dtype=torch.float64)
    boxes.requires_grad_()

    def pooled(x, *parts):
        boxes = list(parts) if len(parts) > 1 else torch.cat((index, parts[0]), dim=1)
        return pool(x, boxes, (2, 3), 0.3, *rest)

    assert torch.autograd.gradcheck(pooled, (x, boxes), fast_mode=True)
    parts = [boxes[index[:, 0] == i].detach().requires_grad_() for i in range(2)]
    assert torch.autograd.gradcheck(pooled, (x, *parts), fast_mode=True)
    rois = torch.cat((index, boxes.detach()), 1).requires_grad_()
    pool(x, rois, (2, 3), 0.3, *rest).square().sum().backward()
    assert rois.grad[:, 1:].all() and not rois.grad[:, 0].any()


def warp_by_grid_sample(x, rois, size, scale):
    """The crop of (2h, 2w) points of each region by torch's own sampling, and its maxima of 2 x 2."""
    (height, width), (h, w) = x.shape[2:], size
    pooled = []
    for index, *box in rois:
        x1, y1, x2, y2 = (scale * side for side in box)
        across = x1 + (torch.arange(2 * w, dtype=x.dtype) + 0.5) * (x2 - x1).clamp(min=1) / (2 * w)
        down = y1 + (torch.arange(2 * h, dtype=x.dtype) + 0.5) * (y2 - y1).clamp(min=1) / (2 * h)
        near = ((across >= -1) & (across <= width)) & ((down >= -1) & (down <= height))[:, None]
        grid = torch.stack(torch.meshgrid(across / (width - 1), down / (height - 1), indexing="xy"), dim=-1) * 2 - 1
        crop = F.grid_sample(x[int(index)][None], grid[None], padding_mode="border", align_corners=True) * near
        pooled.append(crop.unflatten(3, (w, 2)).unflatten(2, (h, 2)).amax((3, 5)))
    return torch.cat(pooled)


def test_warping_is_a_crop_by_interpolation_and_its_maxima():
    for seed in range(5):
        x, rois = noise((2, 3, 9, 12), seed, torch.float64), regions(15, 2, (9, 12), 0.3, seeded(seed), torch.float64)
        mine = value_and_gradient(roi_warp, x, rois, (3, 2), 0.3)
        torch.testing.assert_close(mine, value_and_gradient(warp_by_grid_sample, x, rois, (3, 2), 0.3))


@pytest.mark.gpu
@pytest.mark.parametrize("args", [(roi_align, -1, False), (roi_align, 2, True), (roi_warp,)])
def test_a_gpu_gives_what_a_cpu_gives(args):
    pool, *rest = args
    results = []
    for device in ("cpu", "cuda"):
        x = noise((2, 16, 24, 32), 9, torch.float64).to(device).requires_grad_()
        rois = regions(100, 2, (24, 32), 1 / 16, seeded(9), torch.float64).to(device).requires_grad_()
        pooled = pool(x, rois, 7, 1 / 16, *rest)
        pooled.backward(noise(pooled.shape, 10, torch.float64).to(device))
        results.append([pooled.detach().cpu(), x.grad.cpu(), rois.grad.cpu()])
    torch.testing.assert_close(*results)


@pytest.mark.gpu
def test_a_gpu_is_not_waited_for(without_waiting):
    x, gradient = noise((2, 16, 24, 32), 9).cuda().requires_grad_(), noise((50, 16, 7, 7), 10).cuda()
    rois = regions(50, 2, (24, 32), 1 / 16, seeded(9)).cuda()
    for pool in (roi_pool, partial(roi_align, sampling_ratio=2)):
        pool(x, rois, 7, 1 / 16).backward(gradient)  # compiles the kernels, and for that waits
        with without_waiting():
            pool(x, rois, 7, 1 / 16).backward(gradient)


def test_only_interpolation_is_differentiable_in_the_boxes():
    x = noise((1, 4, 12, 16), 11).requires_grad_()
    boxes = torch.tensor([[0, 3.2, 1.7, 11.4, 9.1]], requires_grad=True)
    for name, pool in {"RoIAlign": roi_align, "RoI warping": roi_warp}.items():
        (gradient,) = torch.autograd.grad(pool(x, boxes, 3).sum(), boxes)
        moves = bool(gradient[0, 1:].all())
        claim("FRCNN-32", condition=moves, note=f"{name} has a non-zero gradient in each of a box's coordinates")
    (none,) = torch.autograd.grad(roi_pool(x, boxes, 3).sum(), boxes, allow_unused=True)
    still = none is None and torch.equal(roi_pool(x, boxes, 3), roi_pool(x, boxes + 0.05, 3))
    claim("FRCNN-32", condition=still, note="RoI pooling has none: a box moved by 0.05 cells is pooled the same")


def test_three_ways_to_pool_one_region():
    x = noise((1, 1, 38, 63), 12)
    box = torch.tensor([[0, 100.0, 60, 430, 250]])
    results = [value_and_gradient(pool, x, box, 7, 1 / 16) for pool in (roi_pool, roi_warp, roi_align)]
    for what, three in zip(("outputs", "gradients to the map"), zip(*results, strict=True), strict=True):
        apart = not any(torch.isclose(a, b).all() for a, b in itertools.combinations(three, 2))
        claim("FRCNN-29", condition=apart, agrees="differs", source="the crop is called RoI pooling",
              note=f"RoI pooling, warping and RoIAlign of one RoI: three {what}")  # fmt: skip
    pool, warp, align = (int(gradient.count_nonzero()) for _, gradient in results)
    spread = pool <= 49 < warp <= 4 * 49 < align
    claim("FRCNN-29", condition=spread, agrees="differs", source="the crop is called RoI pooling",
          note="cells with a gradient: at most 1 per bin, at most 4, more")  # fmt: skip


@pytest.mark.parametrize("pool", [roi_align, roi_warp])
@BAD_REGIONS
def test_bad_regions_are_named(pool, input, boxes, size, name):
    with pytest.raises(ValueError, match=f"^{name}: .*expected"):
        pool(input, boxes, size)


def test_a_sampling_ratio_is_whole():
    with pytest.raises(ValueError, match="^sampling_ratio: expected a whole number, got 1.5"):
        roi_align(MAP, ROI, 2, 1.0, 1.5)


# What rounding costs


def ramp(height=40, width=50, stride=16):
    """A map of 2 x + 3 y + 5, x and y in pixels at the middles of its cells."""
    y, x = (torch.arange(n, dtype=torch.float64) * stride + stride / 2 for n in (height, width))
    return (2 * x + 3 * y[:, None] + 5)[None, None]


def test_alignment_reads_a_ramp_exactly_and_pooling_does_not():
    features = ramp()
    g = seeded(0)
    corner = 20 + 300 * torch.rand(50, 2, generator=g, dtype=torch.float64)
    size = 40 + 200 * torch.rand(50, 2, generator=g, dtype=torch.float64)
    boxes = torch.cat((corner, corner + size), dim=1)
    place = (torch.arange(7, dtype=torch.float64) + 0.5) / 7
    middle_x, middle_y = (boxes[:, i, None] + size[:, i, None] * place for i in (0, 1))  # (50, 7) of the bins
    exact = 2 * middle_x[:, None, :] + 3 * middle_y[:, :, None] + 5
    found = roi_align(features, [boxes], 7, 1 / 16, 2, aligned=True)[:, 0]
    claim("MASK-02", (found - exact).abs().max().item(), 0, tol=1e-5, note="RoIAlign on a ramp, largest error")
    moved = (roi_pool(features, [boxes], 7, 1 / 16)[:, 0] - exact).abs().mean().item() / 5
    assert moved > 4  # pixels along both axes
    unaligned = roi_align(features, [boxes], 7, 1 / 16, 2)[:, 0] - exact
    assert torch.allclose(unaligned, torch.full_like(unaligned, 8.0 * 5))  # half a cell of 16 px on both axes


def test_a_sliding_window_is_read_smoothly_or_by_steps():
    features = ramp()
    start = torch.arange(64, dtype=torch.float64)[:, None] + 100
    boxes = F.pad(start, (0, 3))
    boxes[:, 1], boxes[:, 2], boxes[:, 3] = 96, start[:, 0] + 112, 208
    smooth, steps = roi_align(features, [boxes], 1, 1 / 16, 2, aligned=True), roi_pool(features, [boxes], 1, 1 / 16)
    smooth, steps = (values.flatten().diff() for values in (smooth, steps))
    claim("MASK-02", (smooth - 2).abs().max().item(), 0, tol=1e-5,
          note="RoIAlign, a window sliding by pixels: largest error of the change of 2 a pixel")  # fmt: skip
    changes = steps[steps != 0]
    claim("MASK-02", condition=len(changes) == 4 and bool((changes == 32).all()),
          note="RoI pooling changes at one pixel in 16, by the change of 16")  # fmt: skip


def test_how_far_rounding_moves_the_edges():
    """The cells that RoI pooling takes, read off a map of their columns; and those where it would cut off."""
    columns = torch.arange(70, dtype=torch.float64).expand(1, 1, 4, 70)
    left = torch.rand(20_000, generator=seeded(0), dtype=torch.float64) * 480
    right = left + 100 + 480 * torch.rand(20_000, generator=seeded(1), dtype=torch.float64)
    boxes = torch.stack((left, torch.zeros_like(left), right, torch.ones_like(left)), dim=1)
    first = -roi_pool(-columns, [boxes], 1, 1 / 16).flatten()
    last = roi_pool(columns, [boxes], 1, 1 / 16).flatten()
    rounded = torch.cat((16 * first - left, 16 * last - right)).abs()
    cut = torch.cat((left % 16, right % 16))
    for name, error, most, mean in (("rounding", rounded, 8, 4), ("floor", cut, 16, 8)):
        claim("MASK-03", error.max().item(), within=(most - 0.1, most), agrees="agrees",
              note=f"largest error of an edge at stride 16 by {name}, px")  # fmt: skip
        claim("MASK-03", error.mean().item(), within=(mean - 0.1, mean + 0.1), agrees="agrees",
              note=f"mean error of an edge at stride 16 by {name}, px")  # fmt: skip
