"""What the kernels compute, by Triton's interpreter on the CPU. `test_kernels.py` runs this file, in another process.

The interpreter must be asked for before Triton is imported, and would be there for every other test of the process.
"""

import math

import numpy as np
import pytest
import torch
import torchvision

from rcnn_tutorial.course import kernels as lesson
from rcnn_tutorial.engine import kernels
from rcnn_tutorial.engine.kernels import alignment, pooling, suppression
from rcnn_tutorial.ops.nms import batched_nms, nms
from rcnn_tutorial.ops.pooling import roi_align, roi_pool
from tests.ops.test_align import noise, untwisted
from tests.ops.test_nms import SIX, SIX_SCORES, crowd
from tests.ops.test_pooling import MAPS, feature_map, regions, seeded, value_and_gradient

HALF = [torch.float16, torch.bfloat16]
pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy's 0 / 0 is meant to be NaN


@pytest.fixture(autouse=True)
def everywhere(monkeypatch):
    """The operators take the kernels for tensors of the CPU too, and nothing else."""
    monkeypatch.setattr(kernels, "usable", lambda tensor: True)


# NMS


@pytest.mark.parametrize(
    ("n", "dtype"), [(1, torch.float32), (64, torch.float64), (65, torch.float32), (130, torch.float64)]
)
def test_nms_equals_torchvision(n, dtype):
    boxes, scores, _ = crowd(n, seed=n)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    for threshold in (0.25, 0.5):
        assert torch.equal(nms(boxes, scores, threshold), torchvision.ops.nms(boxes, scores, threshold))


@pytest.mark.parametrize("chunk", [16, 2048])
def test_nms_of_whole_pixels_with_ties_in_several_chunks(chunk, monkeypatch):
    monkeypatch.setattr(suppression, "CHUNK", chunk)
    boxes, scores, _ = crowd(200)
    boxes, scores = (boxes / 8).round(), (scores * 9).round()
    for threshold in (0.25, 0.75):  # many pairs have just this IoU
        assert torch.equal(nms(boxes, scores, threshold), torchvision.ops.nms(boxes, scores, threshold))


def test_six_boxes_by_hand():
    assert nms(SIX, SIX_SCORES, 0.5).tolist() == [0, 2, 3, 5]


@pytest.mark.parametrize("classes", [2, 12])
def test_batched_nms_equals_torchvision(classes):
    boxes, scores, groups = crowd(150, classes=classes)
    boxes = boxes.round() - 300  # torchvision's way by offsets needs them positive
    expected = torchvision.ops.batched_nms(boxes + 300, scores, groups, 0.5)
    assert torch.equal(batched_nms(boxes, scores, groups - 1, 0.5), expected)


def test_groups_that_begin_and_end_within_a_word():
    boxes = torch.tensor([0.0, 0, 9, 9]).expand(200, 4).contiguous()  # all the same: one of each group stays
    sizes = [1, 62, 1, 1, 70, 64, 1]
    groups = torch.arange(7).repeat_interleave(torch.tensor(sizes))
    expected = np.cumsum([0, *sizes[:-1]]).tolist()
    assert kernels.survivors(boxes, groups, 0.5).nonzero()[:, 0].tolist() == expected
    assert kernels.survivors(boxes, None, 0.5).nonzero()[:, 0].tolist() == [0]


@pytest.mark.parametrize("bits", [4, 32])
def test_words_are_those_of_the_lesson(bits):
    boxes, _, groups = crowd(40, classes=3)
    groups = groups.sort().values
    ends = torch.searchsorted(groups, groups, right=True, out_int32=True)
    words, expected = (f(boxes, ends, 0.25, bits) for f in (suppression.overlap_words, lesson._words))
    for word in range(len(words)):
        meant = (torch.arange(40) // bits <= word) & (word * bits < ends)  # a program may leave out the others
        assert torch.equal(words[word][meant], expected[word][meant])


def test_chain_keeps_every_second():
    x = torch.arange(150.0) * 3  # a box overlaps its neighbours alone, so a dropped one must not drop the next
    boxes = torch.stack((x, torch.zeros(150), x + 9, torch.ones(150)), dim=1)
    assert nms(boxes, torch.linspace(1, 0, 150), 0.4).tolist() == list(range(0, 150, 2))


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_the_threshold_is_a_float32(threshold):
    for n in (10, 50):  # two boxes whose IoU is the threshold, rounded to float32
        inner = round(n * threshold)
        boxes = torch.tensor([[0.0, 0, n, 1], [0, 0, inner, 1]])
        stays = not np.float32(inner) / np.float32(n) > np.float32(threshold)
        assert kernels.survivors(boxes, None, threshold).tolist() == [True, stays]


def test_nan_and_boxes_without_area_suppress_nobody():
    nan = math.nan
    boxes = torch.tensor([[0, 0, 5, 5], [nan, 0, 5, 5], [0, 0, 5, nan], [2, 2, 2, 2], [2, 2, 2, 2], [0, 0, 5, 5.0]])
    assert kernels.survivors(boxes, None, 0.0).tolist() == [True, True, True, True, True, False]


@pytest.mark.parametrize("dtype", HALF)
def test_nms_in_half_precision(dtype):
    boxes, scores, _ = crowd(130)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    assert torch.equal(nms(boxes, scores, 0.5), torchvision.ops.nms(boxes.float(), scores.float(), 0.5))


def test_no_boxes():
    none = torch.zeros(0, 4)
    assert nms(none, none[:, 0], 0.5).tolist() == []
    assert batched_nms(none, none[:, 0], torch.zeros(0, dtype=torch.int64), 0.5).tolist() == []


# RoI pooling


def assert_pools_as_torchvision(x, rois, size, scale):
    mine, gradient = value_and_gradient(roi_pool, x, rois, size, scale)
    theirs, expected = value_and_gradient(torchvision.ops.roi_pool, x, rois, size, scale)
    assert torch.equal(mine, theirs) and mine.dtype == theirs.dtype and mine.is_contiguous()
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize(
    ("dtype", "shape", "size", "scale"),
    [
        (torch.float32, (2, 3, 9, 13), (3, 4), 0.3),
        (torch.float64, (2, 3, 9, 13), (3, 4), 0.3),
        (torch.float32, (3, 2, 7, 5), (1, 7), 1 / 16),
        (torch.float32, (1, 1, 1, 6), 2, 1.0),
    ],
)
def test_roi_pool_equals_torchvision(kind, dtype, shape, size, scale):
    g = seeded(MAPS.index(kind))  # other regions for each kind of map
    assert_pools_as_torchvision(feature_map(kind, shape, g, dtype), regions(6, shape[0], shape[2:], scale, g, dtype),
                                size, scale)  # fmt: skip


def test_halves_are_rounded_away_from_zero():
    below = math.nextafter(0.5, 0)
    edges = [-1.5, -0.5, -below, below, 0.5, 2.5]
    pairs = zip(edges + edges, edges[::-1] + edges[2:] + edges[:2], strict=True)  # the axes are rounded apart
    boxes = torch.tensor([[0, x, y, x + 2, y + 2] for x, y in pairs], dtype=torch.float64)
    assert_pools_as_torchvision(torch.arange(30, dtype=torch.float64).view(1, 1, 5, 6), boxes, 2, 1.0)


def test_bin_ends_are_rounded_as_torchvision_rounds_them():
    x = torch.arange(60.0).expand(1, 1, 2, 60)  # 57 cells into 7 bins: in float32 the last ends at 58
    box = torch.tensor([[0, 0, 0, 56.0, 1]])
    assert_pools_as_torchvision(x, box, (1, 7), 1.0)
    assert roi_pool(x, box, (1, 7))[0, 0, 0, -1] == 57


@pytest.mark.parametrize("layout", ["channels last", "transposed", "every second"])
def test_roi_pool_of_any_memory_layout(layout, monkeypatch):
    monkeypatch.setattr(pooling, "BLOCK", 32)  # several programs for one region
    x, rois = feature_map("after ReLU", (2, 5, 8, 9), seeded(2)), regions(9, 2, (8, 9), 1.0, seeded(3))
    assert_pools_as_torchvision(arranged(x, layout), rois, (2, 3), 1.0)


def arranged(x, layout):
    """The same map with other strides."""
    if layout == "channels last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "transposed":
        return x.transpose(2, 3).contiguous().transpose(2, 3)
    return x.repeat_interleave(2, dim=3)[..., ::2]


@pytest.mark.parametrize("dtype", HALF)
def test_roi_pool_in_half_precision(dtype):
    x, rois = noise((2, 3, 8, 9), 4, dtype), regions(9, 2, (8, 9), 0.3, seeded(4)).to(dtype)
    mine, gradient = value_and_gradient(roi_pool, x, rois, 3, 0.3)
    exact, expected = value_and_gradient(
        lambda x, *rest: torchvision.ops.roi_pool(x.float(), *rest).to(dtype), x, rois.float(), 3, 0.3
    )
    assert torch.equal(mine, exact) and mine.dtype == gradient.dtype == dtype
    torch.testing.assert_close(gradient, expected)
    nothing = roi_pool(torch.full_like(x, math.nan), torch.tensor([[0, 0, 0, 20, 20]], dtype=dtype), 1, 0.3)
    assert (nothing == max(pooling.LOWEST, torch.finfo(dtype).min)).all()


def test_gradients_at_one_cell_add_up():
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 1, 1] = 1
    x.requires_grad_()
    roi_pool(x, torch.tensor([[0, 0, 0, 1, 1.0], [0, 1, 1, 2, 2]]), 1).backward(
        torch.tensor([2.0, 5.0]).view(2, 1, 1, 1)
    )
    assert x.grad.flatten().tolist() == [0, 0, 0, 0, 7, 0, 0, 0, 0]


# RoIAlign


def assert_aligns_as_torchvision(x, rois, *args, tolerance=None):
    mine, gradient = value_and_gradient(roi_align, x, rois, *args)
    theirs, expected = value_and_gradient(torchvision.ops.roi_align, x, rois, *args)
    torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(gradient, expected, rtol=tolerance, atol=tolerance)
    assert mine.is_contiguous()


@pytest.mark.parametrize("ratio", [-1, 0, 1, 3])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(
    ("dtype", "shape", "size", "scale", "tolerance"),
    [(torch.float64, (2, 3, 9, 13), (3, 4), 0.3, 1e-9), (torch.float32, (1, 2, 1, 5), 2, 1.0, 1e-5)],
)
def test_roi_align_equals_torchvision(ratio, aligned, dtype, shape, size, scale, tolerance):
    rois = untwisted(regions(6, shape[0], shape[2:], scale, seeded(5), dtype))
    assert_aligns_as_torchvision(noise(shape, 5, dtype), rois, size, scale, ratio, aligned, tolerance=tolerance)


@pytest.mark.parametrize("aligned", [False, True])
def test_points_at_and_beyond_the_borders(aligned):
    at = [-1.001, -1, -0.5, 0, 3.5, 4, 4.5, 5, 5.001]  # the one point of a region of one cell
    boxes = torch.tensor([[0, p - 0.5, q - 0.5, p + 0.5, q + 0.5] for p, q in zip(at + at, at + at[::-1], strict=True)],
                         dtype=torch.float64)  # fmt: skip
    assert_aligns_as_torchvision(noise((1, 1, 4, 5), 6, torch.float64), boxes, 1, 1.0, 1, aligned, tolerance=1e-12)


@pytest.mark.parametrize("layout", ["channels last", "transposed", "every second"])
def test_roi_align_of_any_memory_layout(layout, monkeypatch):
    monkeypatch.setattr(alignment, "BLOCK", 32)
    x, rois = noise((2, 5, 8, 9), 7), regions(5, 2, (8, 9), 1.0, seeded(7))
    assert_aligns_as_torchvision(arranged(x, layout), rois, (2, 3), 1.0, 2, tolerance=1e-5)


@pytest.mark.parametrize("dtype", HALF)
def test_roi_align_in_half_precision(dtype):
    x, rois = noise((2, 3, 8, 9), 8, dtype), regions(6, 2, (8, 9), 0.3, seeded(8)).to(dtype)
    mine, gradient = value_and_gradient(roi_align, x, rois, 3, 0.3, 2)
    exact, expected = value_and_gradient(
        lambda x, *rest: torchvision.ops.roi_align(x.float(), *rest).to(dtype), x, rois.float(), 3, 0.3, 2
    )
    torch.testing.assert_close(mine, exact)
    torch.testing.assert_close(gradient, expected)
    assert mine.dtype == gradient.dtype == dtype


def test_what_is_infinite_does_not_reach_points_beyond_the_map():
    x = torch.full((1, 1, 3, 3), math.inf)
    assert roi_align(x, torch.tensor([[0, 20.0, 20, 24, 24]]), 2).tolist() == [[[[0, 0], [0, 0]]]]


def test_a_gradient_for_the_boxes_is_left_to_the_other_form():
    boxes = torch.tensor([[1.1, 1.2, 4.3, 5.4]], dtype=torch.float64, requires_grad=True)
    x = noise((1, 2, 6, 6), 9, torch.float64)
    assert torch.autograd.gradcheck(lambda boxes: roi_align(x, [boxes], 2, 1.0, 2), boxes)
    assert not roi_pool(x, [boxes], 2).requires_grad


# Both poolings


@pytest.mark.parametrize("seed", range(6))
def test_random_cases_equal_torchvision(seed):
    g = seeded(seed)
    images, channels, height, width, h, w = torch.randint(1, 8, (6,), generator=g).tolist()
    shape, scale = (images, channels, 2 * height, 2 * width), 0.1 + torch.rand(1, generator=g).item()
    rois = untwisted(regions(3, images, shape[2:], scale, g, torch.float64))
    assert_pools_as_torchvision(feature_map(MAPS[seed % 4], shape, g, torch.float64), rois, (h, w), scale)
    x = noise(shape, seed, torch.float64)
    assert_aligns_as_torchvision(x, rois, (h, w), scale, seed % 3, seed % 2 == 0, tolerance=1e-9)


@pytest.mark.parametrize("pool", [roi_pool, roi_align])
def test_no_regions_and_no_channels(pool):
    for shape, count in (((2, 3, 5, 6), 0), ((2, 0, 5, 6), 2)):
        pooled, gradient = value_and_gradient(pool, torch.randn(shape), torch.zeros(count, 5), (4, 7))
        assert pooled.shape == (count, shape[1], 4, 7) and gradient.shape == shape and not gradient.any()


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of the check itself
def test_torch_knows_shapes_and_gradients():
    boxes, groups = crowd(20)[0], torch.arange(20) // 5
    rois = regions(3, 2, (5, 6), 1.0, seeded(10))
    x = noise((2, 2, 5, 6), 10).requires_grad_()
    torch.library.opcheck(pooling.roi_maxima, (x, rois, 2, 3))
    torch.library.opcheck(alignment.roi_means, (x, rois, 2, 3, 2, True))
    last = x.detach().contiguous(memory_format=torch.channels_last)
    for operator, *arguments in (
        (suppression.survivors, boxes, groups, 0.5),
        (alignment.roi_means_backward, torch.randn(3, 2, 2, 3), last, rois, 2, True),
        (pooling.roi_maxima_backward, torch.ones(2), torch.tensor([3, -1]).int(), [1, 1, 2, 2]),
    ):
        torch.library.opcheck(operator, tuple(arguments), test_utils=("test_schema", "test_faketensor"))
