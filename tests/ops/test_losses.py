import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import hinge_loss
from torchvision.models.detection.roi_heads import fastrcnn_loss

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.ops.losses import (
    count_drawn,
    generalized_box_iou_loss,
    hinge,
    multi_task_loss,
    sigmoid_focal_loss,
    smooth_l1,
)


def by_hand(device="cpu"):
    """Three RoIs, two classes: the mini-batch of FAST-07."""
    p = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], device=device)
    offsets = torch.zeros(3, 2, 4, device=device)
    offsets[0, 0, 0], offsets[0, 1, 0] = 0.5, 3
    offsets[1, :, 0] = 4
    offsets[2, 1] = torch.tensor([2.0, 0, 0, 1])
    labels = torch.tensor([1, 0, 2], device=device)
    return p.log().requires_grad_(), offsets.requires_grad_(), labels, torch.zeros(3, 4, device=device)


def mini_batch(seed, rois, classes, dtype=torch.float64):
    """Some RoIs of every kind: a class, background, padding."""
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(rois, classes + 1, generator=g, dtype=dtype) * 3
    offsets = torch.randn(rois, classes, 4, generator=g, dtype=dtype)
    labels = torch.randint(-1, classes + 1, (rois,), generator=g)
    targets = (torch.randn(rois, 4, generator=g, dtype=dtype) * 2).round(decimals=1)
    return scores.requires_grad_(), offsets.requires_grad_(), labels, targets


def test_two_losses_by_hand(device):
    scores, offsets, labels, targets = by_hand(device)
    losses = multi_task_loss(scores, offsets, labels, targets)
    log_loss, box = losses["class"].item(), losses["box"].item()
    assert log_loss == pytest.approx((0.3567 + 0.6931 + 0.2231) / 3, abs=1e-4)
    assert box == pytest.approx((0.125 + 0 + 1.5 + 0.5) / 3)
    claim("FAST-07", log_loss + box, 1.133, tol=5e-4, note="both losses of three RoIs")
    losses["box"].backward()
    # slope x below 1, then 1; RoI 1 is background, and the class that is not u learns nothing
    expected = torch.zeros(3, 2, 4, device=device)
    expected[0, 0, 0], expected[2, 1, 0], expected[2, 1, 3] = 0.5 / 3, 1 / 3, 1 / 3
    assert torch.allclose(offsets.grad, expected)
    claim("FAST-07", offsets.grad[1].abs().max().item(), 0.0, note="box gradient of a background RoI")
    others = torch.stack((offsets.grad[0, 1], offsets.grad[2, 0])).abs().max().item()
    claim("FAST-07", others, 0.0, note="gradient of the offsets of the other classes")


def test_scores_learn_from_every_roi():
    scores, offsets, labels, targets = by_hand()
    multi_task_loss(scores, offsets, labels, targets)["class"].backward()
    assert torch.allclose(scores.grad, (scores.detach().exp() - F.one_hot(labels, 3)) / 3)  # softmax - target
    assert offsets.grad is None


@given(st.integers(0, 2**31), st.integers(0, 20), st.integers(1, 5), st.sampled_from([1.0, 1 / 9, 0.5]))
def test_values_and_gradients_equal_torch(seed, rois, classes, beta):
    scores, offsets, labels, targets = mini_batch(seed, rois, classes)
    mine = multi_task_loss(scores, offsets, labels, targets, normalizer=7.0, beta=beta)
    grads = torch.autograd.grad(mine["class"] + 2 * mine["box"], (scores, offsets))

    positive = (labels > 0).nonzero()[:, 0]
    chosen = offsets[positive, labels[positive] - 1]
    log_loss = F.cross_entropy(scores, labels, ignore_index=-1, reduction="sum") / 7
    box = F.smooth_l1_loss(chosen, targets[positive], beta=beta, reduction="sum") / 7
    expected = torch.autograd.grad(log_loss + 2 * box, (scores, offsets))
    assert torch.allclose(mine["class"], log_loss, rtol=1e-9) and torch.allclose(mine["box"], box, rtol=1e-9)
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(grads, expected, strict=True))


@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(1, 5))
def test_equals_torchvision(seed, rois, classes):
    scores, offsets, labels, targets = mini_batch(seed, rois, classes)
    labels = labels.clamp(min=0)  # torchvision has no padding, and offsets of the background that nobody reads
    with_background = torch.cat((torch.full((rois, 1, 4), 9.0), offsets), dim=1).flatten(1)
    expected = fastrcnn_loss(scores, with_background, [labels], [targets])
    mine = multi_task_loss(scores, offsets, labels, targets, beta=1 / 9)
    assert torch.allclose(torch.stack((mine["class"], mine["box"])), torch.stack(expected), rtol=1e-9)


@given(st.lists(st.floats(-100, 100), max_size=30), st.sampled_from([1.0, 1 / 9, 0.5, 3.0]))
def test_smooth_l1_equals_torch(values, beta):
    x = torch.tensor([*values, 0.0, beta, -beta], dtype=torch.float64, requires_grad=True)
    expected = F.smooth_l1_loss(x, torch.zeros_like(x), beta=beta, reduction="none")
    assert torch.allclose(smooth_l1(x, beta), expected, rtol=1e-12)
    grads = [torch.autograd.grad(y.sum(), x)[0] for y in (smooth_l1(x, beta), expected)]
    assert torch.allclose(*grads, rtol=1e-12)


def test_smooth_l1_resists_outliers(device):
    x = torch.tensor([1 - 1e-6, 1, 1 + 1e-6, 10, -10], dtype=torch.float64, device=device, requires_grad=True)
    loss = smooth_l1(x)
    slope = torch.autograd.grad(loss.sum(), x)[0].tolist()
    square = torch.autograd.grad((0.5 * x**2).sum(), x)[0].tolist()
    for i, side in enumerate(("below", "at", "above")):
        claim("FAST-08", loss[i].item(), 0.5, tol=2e-6, note=f"value {side} 1")
        claim("FAST-08", slope[i], 1.0, tol=2e-6, note=f"slope {side} 1")
    claim("FAST-08", slope[3], 1.0, note="slope at 10")
    claim("FAST-08", square[3], 10.0, note="slope at 10 of half the square")
    assert slope[4] == -1

    def norms(difference):
        x = difference.clone().requires_grad_()
        return [torch.autograd.grad(y.sum(), x)[0].norm().item() for y in (smooth_l1(x), 0.5 * x**2)]

    usual = torch.full((16,), 0.5, dtype=torch.float64, device=device)
    outlier = torch.cat((usual[1:], usual.new_tensor([1000.0])))
    assert norms(usual) == [2, 2]
    claim("FAST-08", norms(outlier)[0], (15 / 4 + 1) ** 0.5, tol=1e-9, note="gradient norm, 1 outlier of 1000 in 16")
    claim("FAST-08", norms(outlier)[1], (15 / 4 + 1e6) ** 0.5, tol=1e-9, note="the same, half the square")


def test_padding_counts_in_no_sum(device):
    scores, offsets, labels, targets = (x.detach().to(device) for x in mini_batch(0, 12, 3))
    labels[:4] = torch.tensor([1, 0, 3, -1])
    real = labels >= 0
    whole = multi_task_loss(scores, offsets, labels, targets)
    alone = multi_task_loss(scores[real], offsets[real], labels[real], targets[real])
    assert 0 < real.sum() < 12 and alone["box"] > 0
    for name in ("class", "box"):
        assert torch.allclose(whole[name], alone[name], rtol=1e-12)


def test_two_halves_with_one_normalizer_make_the_whole():
    scores, offsets, labels, targets = mini_batch(0, 12, 3)
    whole = multi_task_loss(scores, offsets, labels, targets, normalizer=64)
    halves = [
        multi_task_loss(scores[s], offsets[s], labels[s], targets[s], normalizer=64) for s in (slice(5), slice(5, 12))
    ]
    for name in ("class", "box"):
        assert torch.allclose(whole[name], halves[0][name] + halves[1][name], rtol=1e-12) and whole[name] > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype, device):
    scores, offsets, labels, targets = (x.detach().to(device) for x in mini_batch(0, 600, 5, torch.float32))
    for values in ((scores.to(dtype), offsets.to(dtype), targets), [x.to(dtype) for x in (scores, offsets, targets)]):
        expected = multi_task_loss(values[0].float(), values[1].float(), labels, values[2].float())
        found = multi_task_loss(values[0], values[1], labels, values[2])
        with torch.autocast(device.type, dtype=dtype):
            within = multi_task_loss(values[0], values[1], labels, values[2])
            assert count_drawn(labels >= 0).dtype == torch.float32
        for losses in (found, within):
            assert all(loss.dtype == torch.float32 for loss in losses.values())
            torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("normalizer", [None, 128.0])
@pytest.mark.parametrize("labels", [[], [-1, -1]])
def test_without_rois_losses_are_zero_and_have_a_gradient(labels, normalizer, device):
    rois = len(labels)
    scores = torch.zeros(rois, 4, device=device, requires_grad=True)
    offsets = torch.zeros(rois, 3, 4, device=device, requires_grad=True)
    labels = torch.tensor(labels, dtype=torch.int64, device=device)
    losses = multi_task_loss(scores, offsets, labels, torch.zeros(rois, 4, device=device), normalizer)
    assert losses["class"].item() == losses["box"].item() == 0
    (losses["class"] + losses["box"]).backward()
    assert not scores.grad.any() and not offsets.grad.any()


@pytest.mark.parametrize("nothing", [float("nan"), float("inf")])
def test_what_is_not_looked_at_may_be_anything(nothing, device):
    scores, offsets, labels, targets = (x.detach() for x in by_hand(device))
    scores = torch.cat((scores, torch.full((1, 3), nothing, device=device))).requires_grad_()
    offsets = torch.cat((offsets, torch.full((1, 2, 4), nothing, device=device)))
    offsets[1] = nothing  # background
    offsets.requires_grad_()
    labels = torch.cat((labels, labels.new_tensor([-1])))
    targets = torch.cat((targets, torch.full((1, 4), nothing, device=device)))
    targets[1] = nothing
    losses = multi_task_loss(scores, offsets, labels, targets)
    assert (losses["class"] + losses["box"]).item() == pytest.approx(1.133, abs=5e-4)
    (losses["class"] + losses["box"]).backward()
    assert scores.grad.isfinite().all() and offsets.grad.isfinite().all()
    assert not scores.grad[3].any() and not offsets.grad[[1, 3]].any()


def test_large_scores_do_not_overflow():
    _, offsets, labels, targets = by_hand()
    scores = torch.tensor([[-1e4, 1e4, 0], [1e4, 0, 0], [0, 0, 1e4]], requires_grad=True)
    loss = multi_task_loss(scores, offsets, labels, targets)["class"]
    loss.backward()
    assert loss.item() == 0 and scores.grad.isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scores": torch.zeros(3)}, r"scores: expected \(R, K\+1\)"),
        ({"scores": torch.zeros(3, 1)}, r"scores: expected \(R, K\+1\)"),
        ({"offsets": torch.zeros(3, 3, 4)}, r"offsets: expected \(3, 2, 4\)"),  # a slot for the background
        ({"offsets": torch.zeros(3, 8)}, r"offsets: expected \(3, 2, 4\)"),
        ({"labels": torch.zeros(2, dtype=torch.int64)}, r"labels: expected \(3,\)"),
        ({"labels": torch.zeros(3)}, "labels: expected int64"),
        ({"labels": torch.tensor([0, 1, 3])}, "labels: expected -1 to 2, got 0 to 3"),
        ({"labels": torch.tensor([0, 1, -2])}, "labels: expected -1 to 2, got -2 to 1"),
        ({"targets": torch.zeros(3, 2, 4)}, r"targets: expected \(3, 4\)"),
        ({"normalizer": 0}, "normalizer: expected a number above 0, got 0"),
        ({"beta": 0.0}, "beta: expected a number above 0"),
    ],
)
def test_bad_input_is_named(wrong, message):
    scores, offsets, labels, targets = by_hand()
    good = {"scores": scores, "offsets": offsets, "labels": labels, "targets": targets}
    with pytest.raises(ValueError, match=message):
        multi_task_loss(**{**good, **wrong})


def questions(seed, shape, dtype=torch.float64):
    """Logits, and answers of 0 and 1."""
    g = torch.Generator().manual_seed(seed)
    inputs = (4 * torch.randn(shape, generator=g, dtype=torch.float64)).to(dtype).requires_grad_()
    return inputs, torch.randint(0, 2, shape, generator=g).to(dtype)


def focal(loss, inputs, targets, *args):
    inputs = inputs.detach().clone().requires_grad_()
    value = loss(inputs, targets, *args)
    (gradient,) = torch.autograd.grad(value.sum(), inputs)
    return value.detach(), gradient


def test_focal_loss_by_hand(device):
    p = torch.tensor([0.9, 0.5, 0.1], device=device)
    loss = sigmoid_focal_loss(p.logit(), torch.tensor([1.0, 1, 0], device=device))
    # 0.25 (1 - 0.9)^2 -log 0.9; 0.25 * 0.25 * log 2; 0.75 (1 - 0.9)^2 -log 0.9
    torch.testing.assert_close(loss.cpu(), torch.tensor([0.000263401, 0.0433217, 0.000790204]))


@given(
    st.integers(0, 2**31),
    st.sampled_from([-1.0, 0.0, 0.25, 1.0]),
    st.sampled_from([0.0, 0.5, 2.0, 5.0]),
    st.sampled_from(["none", "mean", "sum"]),
)
def test_focal_loss_equals_torchvision(seed, alpha, gamma, reduction):
    inputs, targets = questions(seed, (7, 3))
    mine = focal(sigmoid_focal_loss, inputs, targets, alpha, gamma, reduction)
    theirs = focal(torchvision.ops.sigmoid_focal_loss, inputs, targets, alpha, gamma, reduction)
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_focal_loss_of_extreme_logits_equals_torchvision(dtype, device):
    inputs = torch.tensor([-1e4, -100, -20, 0, 20, 100, 1e4], device=device).to(dtype).repeat(2)
    targets = torch.arange(2, device=device).repeat_interleave(7).to(dtype)
    mine = focal(sigmoid_focal_loss, inputs, targets)
    theirs = focal(torchvision.ops.sigmoid_focal_loss, inputs, targets)
    assert mine[0].isfinite().all() and mine[1].isfinite().all() and mine[0].dtype == dtype
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_focal_loss_of_nothing(device):
    none = torch.zeros(0, 3, device=device)
    value, gradient = focal(sigmoid_focal_loss, none, none, 0.25, 2.0, "sum")
    assert value == 0 and gradient.shape == (0, 3)
    assert sigmoid_focal_loss(none, none).shape == (0, 3)


def test_without_weights_focal_loss_is_the_log_loss():
    inputs, targets = questions(3, (20,))
    expected = F.binary_cross_entropy_with_logits(inputs, targets)
    torch.testing.assert_close(sigmoid_focal_loss(inputs, targets, -1, 0, "mean"), expected)


def test_the_balanced_log_loss():
    """The logarithm with a minus, alpha at the yes and 1 - alpha at the no."""
    inputs, targets = (values.double() for values in questions(4, (50,)))
    weights = 0.25 * targets + 0.75 * (1 - targets)
    expected = F.binary_cross_entropy_with_logits(inputs, targets, weights, reduction="sum").item()
    found = sigmoid_focal_loss(inputs, targets, alpha=0.25, gamma=0, reduction="sum").item()
    claim("RET-01", found, expected, tol=1e-9, note="balanced log loss of 50 answers beside the library's")
    plain = F.binary_cross_entropy_with_logits(inputs, targets, reduction="sum").item()
    found = sigmoid_focal_loss(inputs, targets, alpha=-1, gamma=0, reduction="sum").item()
    claim("RET-02", abs(found - plain), 0, tol=1e-7, note="with gamma = 0 the focal loss is the log loss")


def test_focal_losses_gradient():
    inputs = torch.tensor([-50.0, -3, -0.2, 0.4, 2, 50], dtype=torch.float64).repeat(2).requires_grad_()
    targets = torch.tensor([0.0, 1], dtype=torch.float64).repeat_interleave(6)
    good = torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, targets), inputs)
    finite = sigmoid_focal_loss(inputs, targets).isfinite().all().item()
    claim("RET-02", condition=good and finite, note="gradients by differences, and finite at logits of 50 and -50")


def focal_at(p, alpha=-1.0, gamma=0.0):
    """The loss of a yes of probability p."""
    p = torch.tensor([p], dtype=torch.float64)
    return sigmoid_focal_loss(p.logit(), torch.ones_like(p), alpha, gamma).item()


def test_how_much_the_focal_loss_takes_away():
    claim("RET-03", focal_at(0.9), 0.10536, tol=5e-6, note="log loss of an easy answer, p = 0.9")
    for p, factor in ((0.5, 4), (0.9, 100), (0.968, 976.6), (0.99, 10_000)):
        found = focal_at(p) / focal_at(p, gamma=2.0)
        claim("RET-03", found, factor, tol=factor * 1e-4, note=f"what gamma = 2 divides the loss by at p = {p}")


def test_alpha_cannot_tell_easy_from_hard():
    def ratio(alpha, gamma):
        return focal_at(0.6, alpha, gamma) / focal_at(0.99, alpha, gamma)

    same = {round(ratio(alpha, 0.0), 6) for alpha in (0.1, 0.25, 0.5, 0.9)}
    claim("RET-04", condition=len(same) == 1, note="loss at 0.6 over loss at 0.99: the same for every alpha")
    grows = [ratio(0.25, gamma) for gamma in (0.0, 1.0, 2.0, 5.0)]
    claim("RET-04", condition=sorted(set(grows)) == grows, note="and it grows with gamma")


@given(st.integers(0, 2**31), st.sampled_from(["none", "mean", "sum"]), st.sampled_from([torch.float32, torch.float64]))
def test_giou_loss_equals_torchvision(seed, reduction, dtype):
    g = torch.Generator().manual_seed(seed)
    corner = 20 * torch.rand(2, 9, 2, generator=g, dtype=dtype)
    boxes = torch.cat((corner, corner + 15 * torch.rand(2, 9, 2, generator=g, dtype=dtype)), dim=2)
    boxes[1, :2] = boxes[0, :2]  # equal ones
    boxes[0, 2, 2:] = boxes[0, 2, :2]  # one without area
    values = []
    for loss in (generalized_box_iou_loss, torchvision.ops.generalized_box_iou_loss):
        one = boxes[0].clone().requires_grad_()
        value = loss(one, boxes[1], reduction)
        values.append((value.detach(), torch.autograd.grad(value.sum(), one)[0]))
    torch.testing.assert_close(values[0], values[1])


def test_giou_loss_by_hand_and_of_nothing():
    apart = (
        torch.tensor([[0.0, 0, 2, 2]]),
        torch.tensor([[4.0, 0, 6, 2]]),
    )  # 4 of 12 are gap
    assert generalized_box_iou_loss(*apart).item() == pytest.approx(1 + 4 / 12)
    none = torch.zeros(0, 4)
    assert generalized_box_iou_loss(none, none, "mean") == 0 and generalized_box_iou_loss(none, none).shape == (0,)
    with pytest.raises(ValueError, match="boxes2: expected"):
        generalized_box_iou_loss(apart[0], none)
    with pytest.raises(ValueError, match="reduction: expected"):
        generalized_box_iou_loss(*apart, reduction="most")


@given(st.integers(0, 2**31), st.integers(2, 30))
def test_hinge_equals_scikit_learn(seed, count):
    scores, targets = questions(seed, (count,))
    targets[:2] = torch.tensor([0.0, 1])
    mine = hinge(scores, targets > 0).mean().item()
    assert mine == pytest.approx(hinge_loss(targets.numpy(), scores.detach().numpy()))


def test_hinge_by_hand(device):
    scores = torch.tensor([2.0, 0.5, -1, -3, 0.25], device=device, requires_grad=True)
    loss = hinge(scores, torch.tensor([True, True, True, False, False], device=device))
    assert loss.tolist() == [0, 0.5, 2, 0, 1.25]
    loss.sum().backward()
    assert scores.grad.tolist() == [0, -1, -1, 0, 1]
    assert hinge(scores[:0], torch.zeros(0, dtype=torch.bool, device=device)).shape == (0,)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: sigmoid_focal_loss(torch.zeros(3), torch.zeros(2)), "targets"),
        (lambda: sigmoid_focal_loss(torch.zeros(3), torch.zeros(3), alpha=1.5), "alpha"),
        (lambda: sigmoid_focal_loss(torch.zeros(3), torch.zeros(3), reduction="max"), "reduction"),
        (lambda: hinge(torch.zeros(3), torch.zeros(3)), "positive"),
        (lambda: hinge(torch.zeros(3), torch.zeros(2, dtype=torch.bool)), "positive"),
    ],
)
def test_bad_input_of_the_other_losses_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call()
