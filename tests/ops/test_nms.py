import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.course.nms_steps import nms_steps
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.ops.nms import batched_nms, nms, nms_mask
from tests.strategies import scored_boxes

# A .9, B .8, C .7, D .6, E .5, F .55 of exercise 00-2
SIX = torch.tensor(
    [[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10], [0, 0, 10, 5], [40, 40, 50, 50], [41, 40, 51, 50.0]]
)
SIX_SCORES = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.55])
THRESHOLDS = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1 / 3])


def crowd(n, seed=0, classes=5):
    """n boxes around n / 20 centres, as a detector gives them."""
    g = torch.Generator().manual_seed(seed)
    centers = torch.rand(max(n // 20, 1), 2, generator=g) * 500
    center = centers[torch.randint(len(centers), (n,), generator=g)] + torch.randn(n, 2, generator=g) * 8
    half = 20 + 20 * torch.rand(n, 2, generator=g)
    boxes = torch.cat((center - half, center + half), dim=1)
    return boxes, torch.rand(n, generator=g), torch.randint(classes, (n,), generator=g)


def slow_nms(boxes, scores, threshold):
    """The definition, with Python's numbers."""
    left = sorted(range(len(boxes)), key=lambda i: (-scores[i].item(), i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if not box_iou(boxes[best : best + 1], boxes[i : i + 1]).item() > threshold]
    return kept


def assert_as_promised(kept, boxes, scores, threshold):
    """Exactly torchvision's indices on a CPU; on a GPU a pair within 1e-6 of the threshold is decided either way."""
    if boxes.device.type == "cpu":
        assert torch.equal(kept, torchvision.ops.nms(boxes, scores, threshold))
        return
    kept, boxes, scores = kept.cpu(), boxes.cpu().double(), scores.cpu()
    order = scores.argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    assert (rank[kept].diff() > 0).all()
    iou = box_iou(boxes[kept], boxes).masked_fill(rank[kept][:, None] >= rank, 0)  # with the boxes of lower rank
    dropped = torch.ones(len(boxes), dtype=torch.bool)
    dropped[kept] = False
    assert (iou[:, kept] <= threshold + 1e-6).all()
    assert (iou[:, dropped].amax(0) > threshold - 1e-6).all()


def test_six_boxes_by_hand(device):
    assert nms(SIX.to(device), SIX_SCORES.to(device), 0.5).tolist() == [0, 2, 3, 5]


def test_steps_say_who_dropped_whom():
    steps = nms_steps(SIX, SIX_SCORES, 0.5)
    assert [(s.box, s.by) for s in steps] == [(0, None), (1, 0), (2, None), (3, None), (5, None), (4, 5)]
    assert steps[1].iou == pytest.approx(70 / 130) and steps[3].iou == pytest.approx(0.5) and steps[0].iou == 0


@given(scored_boxes(), THRESHOLDS)
def test_equals_torchvision_the_definition_and_the_steps(given_boxes, threshold):
    boxes, scores = given_boxes
    expected = torchvision.ops.nms(boxes, scores, threshold).tolist()
    assert nms(boxes, scores, threshold).tolist() == expected
    assert slow_nms(boxes, scores, threshold) == expected
    assert [s.box for s in nms_steps(boxes, scores, threshold) if s.by is None] == expected


@pytest.mark.parametrize("n", [1, 255, 256, 257, 1024 + 256, 3000])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_torchvision_across_blocks(n, whole, dtype, device):
    boxes, scores, _ = crowd(n, seed=n)
    if whole:  # on whole pixels, and scores in steps: ties everywhere
        boxes, scores = boxes.round(), (scores * 20).round()
    boxes, scores = boxes.to(device, dtype), scores.to(device, dtype)
    for threshold in (0.3, 0.5, 0.7):
        assert_as_promised(nms(boxes, scores, threshold), boxes, scores, threshold)


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.3, 0.4, 0.6, 0.8])
def test_iou_at_the_threshold_equals_torchvision(threshold, device):
    # Two boxes whose IoU is the threshold up to rounding: (0, 0, n, 1) and its part of n * threshold.
    for n in (10, 20, 50):
        boxes = torch.tensor([[0.0, 0, n, 1], [0, 0, round(n * threshold), 1]], device=device)
        scores = torch.tensor([1.0, 0.5], device=device)
        assert torch.equal(nms(boxes, scores, threshold), torchvision.ops.nms(boxes, scores, threshold))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_equals_float32_of_the_same_numbers(dtype, device):
    boxes, scores, _ = crowd(600)
    boxes, scores = boxes.to(device, dtype), scores.to(device, dtype)
    assert_as_promised(nms(boxes, scores, 0.5), boxes.float(), scores.float(), 0.5)


@given(scored_boxes(max_count=60), THRESHOLDS, st.integers(0, 1000))
def test_batched_equals_nms_per_group(given_boxes, threshold, seed):
    boxes, scores = given_boxes
    groups = torch.randint(-2, 4, (len(boxes),), generator=torch.Generator().manual_seed(seed))
    kept = batched_nms(boxes, scores, groups, threshold)
    expected = []
    for g in groups.unique():
        mine = (groups == g).nonzero()[:, 0]
        expected += mine[torchvision.ops.nms(boxes[mine], scores[mine], threshold)].tolist()
    assert sorted(kept.tolist()) == sorted(expected)
    order = [(-scores[i].item(), i.item()) for i in kept]
    assert order == sorted(order)


@pytest.mark.parametrize("n", [700, 5000])  # torchvision: shifted coordinates, and a loop over the classes
def test_batched_equals_torchvision(n, device):
    boxes, scores, groups = (t.to(device) for t in crowd(n, classes=20))
    mine = batched_nms(boxes.round(), scores, groups, 0.5)
    assert torch.equal(mine, torchvision.ops.batched_nms(boxes.round(), scores, groups, 0.5))


@pytest.mark.parametrize("n, most", [(40, 3), (1500, 1), (1500, 20), (3000, 150), (3000, 4000)])
def test_the_best_of_each_group_are_those_of_all_survivors(n, most):
    boxes, scores, groups = crowd(n, seed=most)
    scores = (scores * 50).round() / 50  # with ties
    every, some = nms_mask(boxes, scores, groups, 0.5), nms_mask(boxes, scores, groups, 0.5, most)
    assert (every | ~some).all()  # nobody else is marked
    for group in groups.unique():
        wanted, found = ((mask & (groups == group)).nonzero()[:, 0] for mask in (every, some))
        first, second = (each[scores[each].argsort(descending=True, stable=True)][:most] for each in (wanted, found))
        assert torch.equal(first, second)
    if most == 20:
        assert some.sum() < every.sum()  # the rest was not decided


def test_negative_coordinates_do_not_mix_groups():
    boxes = torch.tensor([[-10.0, -10, 0, 0], [-10, -10, 0, 0]])
    assert batched_nms(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), 0.5).tolist() == [0, 1]


def test_greedy_nms_keeps_its_promises():
    boxes, scores, groups = crowd(400, seed=3)
    kept = nms(boxes, scores, 0.5)
    claim(
        "X-02", condition=kept.tolist() == slow_nms(boxes, scores, 0.5), note="fast form equals brute force, 400 boxes"
    )
    shuffle = torch.randperm(400, generator=torch.Generator().manual_seed(1))
    again = shuffle[nms(boxes[shuffle], scores[shuffle], 0.5)]
    claim("X-02", condition=torch.equal(kept, again), note="the order of the input does not matter")
    worst = box_iou(boxes[kept], boxes[kept]).fill_diagonal_(0).max().item()
    claim("X-02", condition=worst <= 0.5, note="no two kept boxes overlap above the threshold")
    second = nms(boxes[kept], scores[kept], 0.5)
    claim("X-02", condition=second.tolist() == list(range(len(kept))), note="a second pass changes nothing")
    both = batched_nms(torch.cat((boxes, boxes)), torch.cat((scores, scores)), torch.arange(800) // 400, 0.5)
    claim("X-02", condition=len(both) == 2 * len(kept), note="classes are independent")


def test_chain_keeps_every_second():
    # Each box overlaps its neighbours alone, so a dropped box must not drop the next.
    x = torch.arange(600.0) * 3
    boxes = torch.stack((x, torch.zeros(600), x + 9, torch.ones(600)), dim=1)
    assert nms(boxes, torch.linspace(1, 0, 600), 0.4).tolist() == list(range(0, 600, 2))


def test_inputs_are_left_alone():
    boxes, scores, groups = crowd(2000)
    before = boxes.clone(), scores.clone(), groups.clone()
    batched_nms(boxes, scores, groups, 0.5)
    assert all(torch.equal(a, b) for a, b in zip((boxes, scores, groups), before, strict=True))


def test_empty(device):
    none = torch.zeros(0, 4, device=device)
    assert nms(none, none[:, 0], 0.5).tolist() == []
    kept = batched_nms(none, none[:, 0], torch.zeros(0, dtype=torch.int64, device=device), 0.5)
    assert kept.tolist() == [] and kept.dtype == torch.int64 and kept.device.type == device.type
    assert nms_steps(none, none[:, 0], 0.5) == []


@pytest.mark.parametrize(
    ("boxes", "scores", "threshold", "name"),
    [
        (torch.zeros(3, 5), torch.zeros(3), 0.5, "boxes"),
        (torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3), 0.5, "boxes"),
        (torch.full((1, 4), float("nan")), torch.zeros(1), 0.5, "boxes"),
        (torch.zeros(3, 4), torch.zeros(2), 0.5, "scores"),
        (torch.zeros(3, 4), torch.zeros(3), 1.5, "iou_threshold"),
        (torch.zeros(3, 4), torch.zeros(3), float("nan"), "iou_threshold"),
    ],
)
def test_bad_input_is_named(boxes, scores, threshold, name):
    for call in (nms, nms_steps):
        with pytest.raises(ValueError, match=f"^{name}: "):
            call(boxes, scores, threshold)


def test_one_group_per_box():
    with pytest.raises(ValueError, match="idxs"):
        batched_nms(torch.zeros(3, 4), torch.zeros(3), torch.zeros(2, dtype=torch.int64), 0.5)
