"""Position-sensitive pooling: each bin reads maps of its own."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from rcnn_tutorial.ops import pooling
from rcnn_tutorial.ops.pooling import ps_roi_align, ps_roi_pool, roi_align
from tests.ops.test_align import noise, untwisted
from tests.ops.test_pooling import BAD_REGIONS, MAP, MAPS, ROI, feature_map, regions, seeded, value_and_gradient

RATIOS = [-1, 0, 1, 2, 3]
BOTH = {"pool": ps_roi_pool, "align": ps_roi_align}
THEIRS = {"pool": torchvision.ops.ps_roi_pool, "align": torchvision.ops.ps_roi_align}


def of_torchvision(name, x, rois, *args):
    """Value and gradient; where torchvision divides nothing by nothing, the value is 0.

    Its pooling leaves the last row and column out of the values, but not out of the gradient. On a map without them
    the gradient leaves the same cells out.
    """
    value, gradient = value_and_gradient(THEIRS[name], x, rois, *args)
    if name == "align":
        return value.nan_to_num(nan=0.0), gradient
    return value, F.pad(value_and_gradient(THEIRS[name], x[..., :-1, :-1], rois, *args)[1], (0, 1, 0, 1))


def assert_equals_torchvision(name, x, rois, *args, tolerance=None):
    close = dict(rtol=tolerance, atol=tolerance)
    mine, gradient = value_and_gradient(BOTH[name], x, rois, *args)
    theirs, expected = of_torchvision(name, x, rois, *args)
    torch.testing.assert_close(mine, theirs, equal_nan=True, **close)
    torch.testing.assert_close(gradient, expected, **close)
    assert mine.is_contiguous()
    torch.testing.assert_close(BOTH[name](x, rois, *args), mine, rtol=0, atol=0, equal_nan=True)


@given(
    st.sampled_from(MAPS),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(2, 20), st.integers(2, 20)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from([1.0, 0.5, 1 / 16]),  # not 0.3: its gradient rounds borders in float32
    st.integers(0, 10000),
)
def test_pooling_equals_torchvision(kind, shape, size, scale, seed):
    n, c, height, width = shape
    rois = regions(12, n, (height, width), scale, seeded(seed), torch.float64)
    x = feature_map(kind, (n, c * size[0] * size[1], height, width), seeded(seed), torch.float64)
    assert_equals_torchvision("pool", x, rois, size, scale, tolerance=1e-9)


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from([1.0, 0.5, 1 / 16, 0.3]),
    st.sampled_from(RATIOS),
    st.integers(0, 10000),
)
def test_alignment_equals_torchvision(shape, size, scale, ratio, seed):
    n, c, height, width = shape
    rois = regions(12, n, (height, width), scale, seeded(seed), torch.float64)
    rois = untwisted(rois) if ratio <= 0 else rois
    x = noise((n, c * size[0] * size[1], height, width), seed, torch.float64)
    assert_equals_torchvision("align", x, rois, size, scale, ratio, tolerance=1e-9)


@pytest.mark.parametrize(("name", "rest"), [("pool", ()), ("align", (-1,)), ("align", (2,))])
def test_equals_torchvision_at_the_size_of_a_detector(name, rest, device):
    x, rois = noise((2, 7 * 49, 38, 63), 0).to(device), untwisted(regions(300, 2, (38, 63), 1 / 16, seeded(0)))
    assert_equals_torchvision(name, x, rois.to(device), 7, 1 / 16, *rest, tolerance=2e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_halves_are_rounded_away_from_zero(dtype):
    below = torch.nextafter(torch.tensor(0.5, dtype=dtype), torch.tensor(0.0, dtype=dtype)).item()
    edges = [-2.5, -1.5, -0.5, -below, below, 0.5, 1.5, 2.5, 3.5]
    boxes = torch.tensor([[0, x, y, x + 2, y + 3] for x in edges for y in edges], dtype=dtype)
    x = torch.arange(4 * 48, dtype=dtype).view(1, 4, 6, 8)
    torch.testing.assert_close(ps_roi_pool(x, boxes, 2), torchvision.ops.ps_roi_pool(x, boxes, 2))
    one = ps_roi_pool(x[:, :1], boxes.new_tensor([[0, 0.5, 2.5, 1.5, 3.5]]), 1)  # column 1 and row 3
    assert one.item() == 3 * 8 + 1


def test_the_last_row_and_column_are_never_read():
    x = torch.zeros(1, 1, 4, 5)
    x[..., -1, :] = x[..., -1] = 1000
    assert not ps_roi_pool(x, torch.tensor([[0, 0, 0, 5.0, 4], [0, 4, 3, 5, 4]]), 1).any()
    assert ps_roi_align(x, torch.tensor([[0, 0, 0, 5.0, 4]]), 1).any()


def test_the_gradient_is_that_of_the_values():
    """Torchvision's is, too, for regions that end before the last row and column; otherwise its gradient reads them."""
    x, rois = noise((2, 2 * 9, 24, 32), 3, torch.float64), regions(100, 2, (24, 32), 1.0, seeded(3), torch.float64)
    inner = untwisted(rois).minimum(torch.tensor([1.0, 30, 22, 31, 23], dtype=torch.float64))
    mine, theirs = (value_and_gradient(pool, x, inner, 3) for pool in (ps_roi_pool, torchvision.ops.ps_roi_pool))
    torch.testing.assert_close(mine, theirs)
    one, whole = torch.ones(1, 1, 4, 4, dtype=torch.float64), torch.tensor([[0, 0, 0, 4.0, 4]], dtype=torch.float64)
    gradients = {}
    for name, pool in {"mine": ps_roi_pool, "theirs": torchvision.ops.ps_roi_pool}.items():
        leaf = one.clone().requires_grad_()
        gradients[name] = torch.autograd.grad(pool(leaf, whole, 1).sum(), leaf)[0]
    last = one.clone()
    last[..., -1, :] += 1  # moves no value
    for pool in (ps_roi_pool, torchvision.ops.ps_roi_pool):
        assert torch.equal(pool(last, whole, 1), pool(one, whole, 1))
    assert not gradients["mine"][..., -1, :].any() and gradients["theirs"][..., -1, :].all()


@pytest.mark.parametrize(("h", "w"), [(3, 3), (2, 4), (1, 3)])
def test_each_bin_reads_its_own_map(h, w):
    """Every channel holds its own number everywhere: the pooled values tell which channel each bin has read."""
    x = torch.arange(2.0 * h * w).view(1, -1, 1, 1).expand(1, -1, 20, 30)
    box = torch.tensor([[0, 2.0, 3, 26, 17]])
    for name, pool in BOTH.items():
        read = pool(x, box, (h, w))[0]  # (2, h, w)
        expected = [[[(c * h + i) * w + j for j in range(w)] for i in range(h)] for c in range(2)]
        assert torch.equal(read.round(), torch.tensor(expected).float()), name
        torch.testing.assert_close(read, read.round())


def test_each_bin_reads_its_own_part_of_the_region():
    """Channels all alike, a ramp: what the bins read are the means over their own parts, as one RoIAlign has them."""
    ramp = torch.arange(30.0) + 100 * torch.arange(20.0)[:, None]
    x, box = ramp.expand(1, 6, 20, 30), torch.tensor([[0, 2.0, 3, 26, 17]])
    aligned = roi_align(ramp[None, None], box, (2, 3), 1.0, 2, True)
    torch.testing.assert_close(ps_roi_align(x, box, (2, 3), 1.0, 2), aligned)
    columns, rows = torch.tensor([2 + 3.5, 10 + 3.5, 18 + 3.5]), torch.tensor([[3 + 3.0], [10 + 3.0]])  # 8 by 7 cells
    torch.testing.assert_close(ps_roi_pool(x, box, (2, 3))[0, 0], columns + 100 * rows)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_equals_float32_of_the_same_numbers(name, dtype, device):
    x = noise((2, 12, 12, 15), 2, dtype).to(device)
    boxes = regions(40, 2, (12, 15), 0.3, seeded(2)).to(device, dtype)
    if name == "align":
        boxes = untwisted(boxes)
    mine, gradient = value_and_gradient(BOTH[name], x, boxes, (2, 3), 0.3)
    weight = torch.randn(mine.shape, generator=seeded(1), dtype=torch.float64).to(mine)  # of `value_and_gradient`
    leaf = x.float().requires_grad_()
    exact = BOTH[name](leaf, boxes.float(), (2, 3), 0.3)
    exact.backward(weight.float())
    assert mine.dtype == gradient.dtype == dtype
    assert torch.equal(mine, exact.to(dtype))
    torch.testing.assert_close(gradient, leaf.grad.to(dtype))


@pytest.mark.parametrize("pool", BOTH.values())
def test_any_memory_layout(pool, device):
    x, boxes = noise((2, 8, 10, 14), 3).to(device), regions(20, 2, (10, 14), 1.0, seeded(3)).to(device)
    expected = value_and_gradient(pool, x, boxes, 2)
    for other in (x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        assert not other.is_contiguous()
        torch.testing.assert_close(value_and_gradient(pool, other, boxes, 2), expected)


@pytest.mark.parametrize("pool", BOTH.values())
def test_a_list_of_boxes(pool, device):
    x, rois = noise((3, 12, 10, 10), 5).to(device), regions(9, 3, (10, 10), 1.0, seeded(5)).to(device)
    rois = rois[rois[:, 0].argsort(stable=True)]
    rois = rois[rois[:, 0] != 1]
    parts = [rois[rois[:, 0] == i, 1:] for i in range(3)]
    assert len(parts[1]) == 0
    torch.testing.assert_close(pool(x, parts, (2, 3)), pool(x, rois, (2, 3)), rtol=0, atol=0)


@pytest.mark.parametrize("pool", BOTH.values())
def test_no_regions(pool, device, monkeypatch):
    x = torch.randn(2, 12, 5, 6, device=device)
    for plain in ("0", "1"):
        monkeypatch.setenv("RCNN_PLAIN", plain)
        for boxes in (torch.zeros(0, 5, device=device), [torch.zeros(0, 4, device=device)] * 2):
            pooled, gradient = value_and_gradient(pool, x, boxes, (2, 3))
            assert pooled.shape == (0, 2, 2, 3) and pooled.device == x.device and not gradient.any()


@pytest.mark.parametrize("pool", BOTH.values())
def test_inputs_are_left_alone(pool):
    x, rois = noise((2, 18, 9, 9), 6), regions(20, 2, (9, 9), 1.0, seeded(6))
    before = x.clone(), rois.clone()
    value_and_gradient(pool, x, rois, 3)
    assert torch.equal(x, before[0]) and torch.equal(rois, before[1])


@pytest.mark.parametrize("args", [(ps_roi_pool,), (ps_roi_align, -1), (ps_roi_align, 2)])
def test_gradients_are_those_of_finite_differences(args):
    pool, *rest = args
    x = noise((2, 12, 7, 8), 7, torch.float64).requires_grad_()
    center, half = 2 + 3 * torch.rand(5, 2, generator=seeded(7)), 0.7 + 2 * torch.rand(5, 2, generator=seeded(8))
    boxes = torch.cat((center - half, center + half), dim=1).double() / 0.3  # two of them reach beyond the map
    index = torch.tensor([[0.0], [1], [0], [1], [1]], dtype=torch.float64)
    rois = torch.cat((index, boxes), dim=1)
    assert torch.autograd.gradcheck(lambda x: pool(x, rois, (2, 3), 0.3, *rest), x, fast_mode=True)
    boxes.requires_grad_()
    pooled = pool(x.detach(), torch.cat((index, boxes), dim=1), (2, 3), 0.3, *rest)
    assert pooled.requires_grad is (pool is ps_roi_align)
    if pool is ps_roi_align:
        fixed = x.detach()
        aligned = lambda boxes: pool(fixed, torch.cat((index, boxes), dim=1), (2, 3), 0.3, *rest)  # noqa: E731
        assert torch.autograd.gradcheck(aligned, boxes, fast_mode=True)
        (gradient,) = torch.autograd.grad(pooled.square().sum(), boxes)
        assert gradient.all()


def test_a_bin_without_a_cell_gives_zero_and_no_gradient():
    x = torch.full((1, 4, 4, 4), -5.0)
    pooled, gradient = value_and_gradient(ps_roi_pool, x, torch.tensor([[0, 2.0, 0, 5, 3]]), 2)
    assert pooled.tolist() == [[[[-5, 0], [-5, 0]]]]
    assert [bool(part.any()) for part in gradient[0]] == [True, False, True, False]
    beyond, gradient = value_and_gradient(ps_roi_pool, x, torch.tensor([[0, 9.0, 9, 12, 12], [0, -9, -9, -7, -7]]), 2)
    assert not beyond.any() and not gradient.any()


@pytest.mark.parametrize("rest", [(ps_roi_pool,), (ps_roi_align, -1), (ps_roi_align, 2)])
def test_the_rules_alone_give_the_same(rest, monkeypatch):
    pool, *ratio = rest
    x, rois = noise((2, 12, 24, 32), 9), regions(60, 2, (24, 32), 1 / 8, seeded(9))
    fast = value_and_gradient(pool, x, rois, (2, 3), 1 / 8, *ratio)

    def refuse(*_):
        raise AssertionError("a fast form was called")

    monkeypatch.setenv("RCNN_PLAIN", "1")
    monkeypatch.setattr(pooling, "bin_means", refuse)
    monkeypatch.setattr(pooling, "cell_means", refuse)
    torch.testing.assert_close(value_and_gradient(pool, x, rois, (2, 3), 1 / 8, *ratio), fast)


@pytest.mark.parametrize("pool", BOTH.values())
@BAD_REGIONS
def test_bad_regions_are_named(pool, input, boxes, size, name):
    with pytest.raises(ValueError, match=f"^{name}: .*expected"):
        pool(input, boxes, size)


@pytest.mark.parametrize("pool", BOTH.values())
@pytest.mark.parametrize("size", [3, (4, 2)])
def test_channels_are_a_multiple_of_the_bins(pool, size):
    with pytest.raises(ValueError, match="^input: .*expected"):
        pool(MAP, ROI, size)


def test_a_sampling_ratio_is_whole():
    with pytest.raises(ValueError, match="^sampling_ratio: expected a whole number, got 1.5"):
        ps_roi_align(MAP, ROI, 2, 1.0, 1.5)


@pytest.mark.gpu
@pytest.mark.parametrize("args", [(ps_roi_pool,), (ps_roi_align, -1), (ps_roi_align, 2)])
def test_a_gpu_gives_what_a_cpu_gives(args):
    pool, *rest = args
    x, rois = noise((2, 18, 24, 32), 9, torch.float64), regions(100, 2, (24, 32), 1 / 16, seeded(9), torch.float64)
    fixed = partial(pool, output_size=3, spatial_scale=1 / 16, **({"sampling_ratio": rest[0]} if rest else {}))
    expected = value_and_gradient(fixed, x, rois)
    for mine, theirs in zip(value_and_gradient(fixed, x.cuda(), rois.cuda()), expected, strict=True):
        torch.testing.assert_close(mine.cpu(), theirs)
