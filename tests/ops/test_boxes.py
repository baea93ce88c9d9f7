import math

import pytest
import torch
import torchvision
from hypothesis import given
from torchvision.models.detection._utils import BoxCoder

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.ops.boxes import (
    box_area,
    box_iou,
    clip_boxes_to_image,
    decode,
    encode,
    remove_small_boxes,
    validate,
)
from tests.strategies import boxes


def tensor(*rows, **kwargs):
    return torch.tensor(rows, dtype=torch.float32, **kwargs)


def test_width_is_exclusive(device):
    assert box_area(tensor([3, 3, 7, 7], device=device)).tolist() == [16]  # and not 25: no + 1


def test_iou_by_hand(device):
    a = tensor([0, 0, 10, 10], device=device)
    others = tensor([0, 0, 10, 10], [20, 20, 30, 30], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4], device=device)
    iou = box_iou(a, others)[0].tolist()
    assert iou == pytest.approx([1, 0, 1 / 3, 0, 0.04])
    reverse = box_iou(others, a)[:, 0].tolist()
    with_one = box_iou(
        a + torch.tensor([0, 0, 1, 1], device=device), others + torch.tensor([0, 0, 1, 1], device=device)
    )
    claim("X-01", iou[0], 1.0, note="a box with itself")
    claim("X-01", iou[1], 0.0, note="two boxes apart")
    claim("X-01", iou[2], 1 / 3, tol=1e-7, note="10 px boxes, half overlap; x2 exclusive")
    claim("X-01", with_one[0, 2].item(), 66 / 176, tol=1e-7, note="the same with the + 1 of the released Caffe code")
    claim("X-01", condition=iou == reverse, note="symmetric")


@given(boxes(), boxes())
def test_iou_equals_torchvision(a, b):
    expected = torchvision.ops.box_iou(a, b)
    mine = box_iou(a, b)
    assert mine.shape == (len(a), len(b)) and mine.dtype == expected.dtype
    assert torch.equal(mine, expected.nan_to_num(0))  # two boxes without area: 0, not NaN
    assert torch.equal(mine, box_iou(b, a).t())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32])
def test_iou_other_types_equal_torchvision(dtype, device):
    a = (torch.rand(30, 2, generator=torch.Generator().manual_seed(0)) * 200).to(device)
    a = torch.cat((a, a + 40), dim=1).to(dtype)
    theirs = a.float() if dtype.itemsize == 2 else a
    assert torch.equal(box_iou(a, a), torchvision.ops.box_iou(theirs, theirs))
    assert torch.equal(box_area(a), torchvision.ops.box_area(theirs))


def test_a_box_whose_area_overflows_overlaps_nothing(device):
    boxes = tensor([0, 0, 10, 10], [0, 0, 1e20, 1e20], device=device)
    assert box_iou(boxes, boxes).tolist() == [[1, 0], [0, 0]]


def test_half_precision_areas_do_not_overflow(device):
    big = tensor([0, 0, 1000, 1000], device=device).half()
    assert box_area(big).item() == 1e6 and box_iou(big, big).item() == 1


def test_iou_of_padded_batches(device):
    a = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0)).to(device).cumsum(-1)
    b = torch.rand(3, 7, 4, generator=torch.Generator().manual_seed(1)).to(device).cumsum(-1)
    assert torch.equal(box_iou(a, b), torch.stack([box_iou(x, y) for x, y in zip(a, b, strict=True)]))


def test_iou_gradient():
    a = torch.tensor([[0.0, 0, 10, 10], [3, 1, 8, 9]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[4.0, 2, 12, 11]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: box_iou(x, b), a)
    torchvision.ops.box_iou(a, b).sum().backward()
    expected, a.grad = a.grad, None
    box_iou(a, b).sum().backward()
    assert torch.allclose(a.grad, expected)


@given(boxes())
def test_clip_and_remove_equal_torchvision(a):
    clipped = clip_boxes_to_image(a, (30, 50))
    assert torch.equal(clipped, torchvision.ops.clip_boxes_to_image(a, (30, 50)))
    for size in (0, 1, 3.0, 1e-2):
        assert torch.equal(remove_small_boxes(clipped, size), torchvision.ops.remove_small_boxes(clipped, size))


def test_clip_uses_width_for_x():
    assert clip_boxes_to_image(tensor([-5, -5, 500, 500]), (30, 50)).tolist() == [[0, 0, 50, 30]]


def test_encode_and_decode_by_hand(device):
    reference = tensor([100, 100, 164, 164], device=device)
    offsets = tensor([0.25, -0.125, math.log(2), 0], device=device)
    assert decode(offsets, reference)[0].tolist() == pytest.approx([84, 92, 212, 156], abs=1e-4)
    assert encode(tensor([84, 92, 212, 156], device=device), reference)[0].tolist() == pytest.approx(
        offsets[0].tolist(), abs=1e-6
    )


@given(boxes(1, area=True, dtype=torch.float64), boxes(1, area=True, dtype=torch.float64))
def test_encode_and_decode_equal_torchvision_and_are_inverse(a, b):
    n = min(len(a), len(b))
    a, b = a[:n], b[:n]
    for weights in ((1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)):
        coder = BoxCoder(weights)
        offsets = encode(a, b, weights)
        assert torch.allclose(offsets, coder.encode_single(a, b), rtol=1e-9, atol=1e-9)
        assert torch.allclose(decode(offsets, b, weights), coder.decode_single(offsets, b), rtol=1e-9, atol=1e-9)
        assert torch.allclose(decode(offsets, b, weights, clamp=None), a, rtol=1e-9, atol=1e-9)


def test_decode_several_boxes_per_reference():
    reference = tensor([0, 0, 10, 20], [5, 5, 15, 15])
    offsets = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)) * 0.1
    together = decode(offsets, reference[:, None])
    assert torch.equal(together, torch.stack([decode(offsets[:, k], reference) for k in range(3)], dim=1))


def test_decode_clamps_growth():
    wild = tensor([0, 0, 1000, 1000])
    assert (decode(wild, tensor([0, 0, 16, 16]))[0, 2:] - 8).tolist() == pytest.approx([500, 500], rel=1e-5)
    assert decode(wild, tensor([0, 0, 16, 16]), clamp=None).isinf().all()


def test_one_box_code_serves_every_reference():
    # A proposal or an anchor: the same two functions, and only the reference differs.
    truth = tensor([30, 40, 90, 80])
    for kind, reference in {"proposal": tensor([25, 45, 80, 85]), "anchor": tensor([0, 0, 128, 64])}.items():
        error = (decode(encode(truth, reference), reference) - truth).abs().max().item()
        claim("X-07", error, 0.0, tol=1e-4, note=f"round trip through an {kind}, pixels" if kind == "anchor" else
              "round trip through a proposal, pixels")  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(3), "shape"),
        (torch.zeros(2, 5), "shape"),
        ([[0, 0, 1, 1]], "list"),
        (torch.tensor([[0.0, 0, float("nan"), 1]]), "finite"),
        (torch.tensor([[0.0, 0, float("inf"), 1]]), "finite"),
        (torch.tensor([[5.0, 0, 4, 1]]), r"\[5.0, 0.0, 4.0, 1.0\]"),
        (torch.zeros(1, 4, dtype=torch.bool), "bool"),
    ],
)
def test_bad_boxes_are_named(bad, message):
    with pytest.raises(ValueError, match=f"reference: .*{message}"):
        validate(bad, "reference")


def test_encode_refuses_boxes_without_area():
    good, flat = tensor([0, 0, 4, 4]), tensor([0, 0, 4, 0])
    with pytest.raises(ValueError, match="reference: .*x1 < x2"):
        encode(good, flat)
    with pytest.raises(ValueError, match="boxes: .*x1 < x2"):
        encode(flat, good)


@pytest.mark.parametrize("call", [lambda b: box_iou(b, b), lambda b: clip_boxes_to_image(b, (5, 5)),
                                  lambda b: remove_small_boxes(b, 1), lambda b: decode(b, b)])  # fmt: skip
def test_wrong_shapes_are_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call(torch.zeros(3, 5))


def test_empty_boxes_pass_through():
    none = torch.zeros(0, 4)
    assert box_iou(none, tensor([0, 0, 1, 1])).shape == (0, 1)
    assert encode(none, none).shape == decode(none, none).shape == clip_boxes_to_image(none, (4, 4)).shape == (0, 4)
    assert remove_small_boxes(none, 1).shape == (0,)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_small_integers_do_not_overflow(kind):
    """Areas, overlaps and sides as torchvision has them, whose sums and products leave the type of the coordinates."""
    side = min(torch.iinfo(kind).max, 30_000)
    boxes = torch.tensor([[0, 0, side, side], [side // 3, side // 4, side, side - 1], [1, 2, side // 2, 9]], dtype=kind)
    assert torch.equal(box_area(boxes).long(), torchvision.ops.box_area(boxes.long()))
    expected = torchvision.ops.box_iou(boxes.long(), boxes.long())
    assert torch.allclose(box_iou(boxes, boxes), expected, rtol=0, atol=1e-6)
    if kind in (torch.uint8, torch.int8, torch.int16):  # where torchvision lifts too
        assert torch.equal(box_area(boxes), torchvision.ops.box_area(boxes))
        wide = torch.tensor([[torch.iinfo(kind).min // 2, 0, torch.iinfo(kind).max, 50]], dtype=kind)
        assert remove_small_boxes(wide, 20).tolist() == [0]
    assert torch.allclose(encode(boxes[:1], boxes[1:2]), encode(boxes[:1].float(), boxes[1:2].float()))
    assert torch.allclose(decode(torch.zeros(1, 4), boxes[1:2]), boxes[1:2].float())
    with pytest.raises(ValueError, match="x1 <= x2"):
        validate(boxes[:1, [2, 1, 0, 3]])
