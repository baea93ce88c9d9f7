import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.svm import LinearSVC

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.detectors.svm import (
    SVM,
    SVMSettings,
    feature_scale,
    fit_ridge,
    fit_svm,
)
from rcnn_tutorial.engine.coordinate_ascent import coordinate_ascent
from rcnn_tutorial.engine.interior_point import interior_point
from rcnn_tutorial.ops.boxes import box_iou, decode, encode


def crowd(n=300, d=20, k=3, seed=0):
    """Features of mean norm 20 around 3k centres, as a rectified layer gives them; the first k are the classes."""
    g = torch.Generator().manual_seed(seed)
    kind = torch.randint(3 * k, (n,), generator=g)
    features = (torch.randn(n, d, generator=g) + 0.6 * torch.randn(3 * k, d, generator=g)[kind]).relu()
    return features * feature_scale(features), kind[:, None] == torch.arange(k)


def svm_objective(features, positive, weight, bias, used=None, settings=SVM):
    """What the K SVMs of weight (K, D) and bias (K,) pay, (K,) float64; all else is as `fit_svm` takes it."""
    used = torch.ones_like(positive) if used is None else used
    scores = F.linear(features.double(), weight.double(), bias.double())  # (N, K)
    cost = settings.cost * torch.where(positive, settings.positive_weight, 1.0) * used
    hinge = (1 - torch.where(positive, scores, -scores)).clamp(min=0)
    penalty = weight.double().square().sum(dim=1) + (bias.double() / settings.bias_feature).square()
    return penalty / 2 + (cost * hinge).sum(dim=0)


def margins(features, positive, settings=SVM):
    """The rows y x (N, D + 1) of one class's problem, and the cost of each."""
    x = torch.cat((features.double(), torch.full((len(features), 1), float(settings.bias_feature))), dim=1)
    y = torch.where(positive, 1.0, -1.0).double()
    return y[:, None] * x, settings.cost * torch.where(positive, settings.positive_weight, 1.0).double()


def coordinate_descent(features, positive, settings):
    w = coordinate_ascent(*margins(features, positive, settings), tolerance=1e-9)
    return w[:-1], w[-1] * settings.bias_feature


def test_two_windows_by_hand(device):
    # Both windows pull: the negative with all it has, C = 0.001, the positive with p <= 0.002, just so that it
    # scores 1: w = 20 (p + 0.001), b = 100 (p - 0.001), 20 w + b = 1, so p = 0.0014.
    weight, bias = fit_svm(torch.tensor([[20.0], [-20]], device=device), torch.tensor([[True], [False]], device=device))
    assert weight.item() == pytest.approx(0.048, rel=1e-4) and bias.item() == pytest.approx(0.04, rel=1e-4)


def test_equals_a_stored_solution_of_liblinear(device):
    # scikit-learn 1.9.1: LinearSVC(C=1e-3, loss="hinge", class_weight={1: 2, -1: 1}, intercept_scaling=10, tol=1e-12)
    i, j = torch.arange(60, dtype=torch.float64)[:, None], torch.arange(5, dtype=torch.float64)
    u = torch.frac((i * 12.9898 + j * 78.233).sin().abs() * 43758.5453)
    features = ((u - 0.3) * feature_scale(u - 0.3)).to(device)
    positive = torch.stack((u[:, 0] + u[:, 1] > 1.1, u[:, 2] - u[:, 3] * 0.5 > 0.4), dim=1).to(device)
    expected = torch.tensor(
        [
            [0.10167024, 0.07902957, 0.01603205, -0.01531157, -0.04065554],
            [0.02011404, -0.03172188, 0.11712445, -0.06925181, -0.01455872],
        ],
        dtype=torch.float64,
        device=device,
    )
    weight, bias = fit_svm(features, positive)
    assert torch.allclose(weight, expected, atol=2e-5)
    assert bias.tolist() == pytest.approx([-0.7190353, -0.4686001], abs=2e-4)
    objective = svm_objective(features, positive, weight, bias)
    assert objective.tolist() == pytest.approx([0.03486116094, 0.02973502784], rel=1e-7)


@pytest.mark.parametrize(
    "settings",
    [
        SVMSettings(),
        SVMSettings(cost=0.1, positive_weight=1),
        SVMSettings(bias_feature=0.5),
        SVMSettings(bias_feature=30, positive_weight=5),
    ],
)
def test_equals_coordinate_descent(settings):
    features, positive = crowd(60, 8, 2)
    weight, bias = fit_svm(features.double(), positive, settings=settings)
    found = svm_objective(features, positive, weight, bias, settings=settings)
    for k in range(2):
        w, b = coordinate_descent(features, positive[:, k], settings)
        reached = svm_objective(features, positive[:, k : k + 1], w[None], b[None], settings=settings)
        assert found[k].item() == pytest.approx(reached.item(), rel=1e-5)
        assert torch.allclose(features.double() @ weight[k] + bias[k], features.double() @ w + b, atol=0.02)


@pytest.mark.parametrize(("n", "d"), [(300, 20), (120, 200)])
def test_the_plain_rule_and_the_fast_one_agree(n, d, monkeypatch):
    """Both within 1e-6 of the least objective; scores, which are about 1 at the margin, within 0.002."""
    features, positive = crowd(n, d)
    fast = fit_svm(features, positive)
    monkeypatch.setenv("RCNN_PLAIN", "1")
    plain = fit_svm(features, positive)
    assert not torch.equal(plain[0], fast[0])  # another solver
    first, second = (svm_objective(features, positive, *svm) for svm in (plain, fast))
    assert torch.allclose(first, second, rtol=2e-6)
    assert torch.allclose(features @ plain[0].t() + plain[1], features @ fast[0].t() + fast[1], atol=2e-3)


def test_the_plain_rule_ends_at_the_bounds_that_its_pulls_allow():
    """By hand: of two equal windows on either side each pulls with all it has, and of one the pull is 1 / |z|^2."""
    z = torch.tensor([[2.0, 0], [-2, 0]], dtype=torch.float64)
    assert coordinate_ascent(z, torch.tensor([0.1, 0.05]).double()).tolist() == pytest.approx([0.1, 0])
    assert coordinate_ascent(z[:1], torch.tensor([1.0]).double()).tolist() == pytest.approx([0.5, 0])
    assert coordinate_ascent(z[:1], torch.tensor([0.1]).double()).tolist() == pytest.approx([0.2, 0])
    assert interior_point(z[:1], torch.tensor([0.1]).double()).tolist() == pytest.approx([0.2, 0])


@pytest.mark.parametrize(("n", "d"), [(400, 30), (150, 300)])
def test_equals_liblinear(n, d):
    features, positive = crowd(n, d)
    weight, bias = fit_svm(features.double(), positive)
    found = svm_objective(features, positive, weight, bias)
    for k in range(positive.shape[1]):
        peer = LinearSVC(
            C=1e-3, loss="hinge", class_weight={True: 2.0, False: 1.0}, intercept_scaling=10, tol=1e-8,
            max_iter=1_000_000, random_state=0,
        )  # fmt: skip
        peer.fit(features.double().numpy(), positive[:, k].numpy())
        w, b = torch.from_numpy(peer.coef_), torch.from_numpy(peer.intercept_)
        reached = svm_objective(features, positive[:, k : k + 1], w, b)
        assert found[k].item() == pytest.approx(reached.item(), rel=1e-6)
        assert torch.allclose(features.double() @ weight[k] + bias[k], features.double() @ w[0] + b, atol=5e-3)


def test_no_other_svm_is_better(device):
    features, positive = (t.to(device) for t in crowd(200, 10))
    weight, bias = fit_svm(features.double(), positive)
    best = svm_objective(features, positive, weight, bias)
    g = torch.Generator().manual_seed(0)
    for size in (1e-4, 1e-3, 1e-2):
        for _ in range(20):
            dw, db = torch.randn(3, 10, generator=g).to(weight) * size, torch.randn(3, generator=g).to(bias) * size
            assert (svm_objective(features, positive, weight + dw, bias + db) > best).all()


def test_objective_by_hand():
    features, positive = torch.tensor([[1.0, 0], [0, 2], [3, 3]]), torch.tensor([[True], [False], [False]])
    weight, bias = torch.tensor([[0.5, 1.0]]), torch.tensor([-2.0])  # scores -1.5, 0, 2.5
    expected = (0.25 + 1) / 2 + (2 / 10) ** 2 / 2 + 1e-3 * (2 * 2.5 + 1 + 3.5)
    assert svm_objective(features, positive, weight, bias).item() == pytest.approx(expected)
    used = torch.tensor([[True], [True], [False]])
    assert svm_objective(features, positive, weight, bias, used).item() == pytest.approx(expected - 3.5e-3)


def test_each_class_has_its_own_rows(device):
    features, positive = (t.to(device) for t in crowd(200, 10))
    used = torch.rand(200, 3, generator=torch.Generator().manual_seed(1)).to(device) < 0.5
    weight, bias = fit_svm(features, positive, used)
    for k in range(3):
        rows = used[:, k]
        w, b = fit_svm(features[rows], positive[rows, k : k + 1])
        assert torch.allclose(weight[k], w[0], atol=1e-5) and torch.allclose(bias[k], b[0], atol=1e-4)


def test_more_features_than_rows():
    features, positive = crowd(80, 12)
    weight, bias = fit_svm(features, positive)
    turn = torch.linalg.qr(torch.randn(200, 200, generator=torch.Generator().manual_seed(0)))[0][:12]
    turned, turned_bias = fit_svm(features @ turn, positive)  # the same problem in 200 dimensions
    assert torch.allclose(turned @ turn.t(), weight, atol=1e-4) and torch.allclose(turned_bias, bias, atol=1e-3)


def test_the_bias_is_penalised():
    # All on one side: without a penalty the bias alone would do, and the weights would be 0.
    features = torch.full((10, 1), 20.0)
    weight, bias = fit_svm(features, torch.zeros(10, 1, dtype=torch.bool))
    assert weight.item() * 10 == pytest.approx(bias.item() / 10 * 20, rel=1e-3)  # as features of 20 and 10 share it
    assert weight.item() * 20 + bias.item() == pytest.approx(-1, abs=1e-4)


def test_classes_without_windows(device):
    features, positive = (t.to(device) for t in crowd(50, 6))
    used = torch.ones_like(positive)
    used[:, 1] = False
    weight, bias = fit_svm(features, positive & used, used)
    assert (weight[1] == 0).all() and bias[1] == 0 and (weight[0] != 0).any()
    weight, bias = fit_svm(features[:0], positive[:0])
    assert weight.shape == (3, 6) and not weight.any() and not bias.any() and weight.device.type == device.type


def test_contradictions_and_repetitions():
    features, positive = crowd(100, 6, 1)
    features, positive = features.repeat(3, 1), torch.cat((positive, positive, ~positive))
    weight, bias = fit_svm(features.double(), positive)
    w, b = coordinate_descent(features, positive[:, 0], SVMSettings())
    reached = svm_objective(features, positive, w[None], b[None])
    assert svm_objective(features, positive, weight, bias).item() == pytest.approx(reached.item(), rel=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1, 10])
@pytest.mark.parametrize("cost", [1e-6, 1.0])
def test_other_scales_of_features_and_cost(scale, cost):
    features, positive = crowd(80, 10, 1)
    features = features.double() * scale
    settings = SVMSettings(cost=cost, bias_feature=10 * scale)
    weight, bias = fit_svm(features, positive, settings=settings)
    # The same problem in other units: w / s for features s x, and the cost times s^2.
    unit = SVMSettings(cost=cost * scale**2)
    w, b = fit_svm(features / scale, positive, settings=unit)
    assert torch.allclose(weight * scale, w, rtol=1e-3, atol=1e-4 * w.abs().max().item())
    assert bias.item() == pytest.approx(b.item(), rel=1e-3, abs=1e-4)


def test_numbers_out_of_reach_are_told():
    g = torch.Generator().manual_seed(0)
    features, positive = torch.randn(20, 30, generator=g).repeat(2, 1), torch.rand(40, 1, generator=g) < 0.3
    fit_svm(features, positive, settings=SVMSettings(cost=1e3))
    with pytest.raises(RuntimeError, match="are the features scaled"):
        fit_svm(features * 1e5, positive, settings=SVMSettings(cost=1e3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_solved_in_float64(dtype):
    features, positive = crowd(100, 10)
    features = features.to(dtype)
    weight, bias = fit_svm(features, positive)
    expected, expected_bias = fit_svm(features.float(), positive)
    assert weight.dtype == bias.dtype == torch.float32
    assert torch.equal(weight, expected) and torch.equal(bias, expected_bias)


def test_scaled_features_have_mean_norm_20(device):
    features = torch.tensor([[3.0, 4], [0, 15]], device=device)
    assert feature_scale(features).item() == 2
    assert (features * feature_scale(features)).norm(dim=1).mean().item() == 20


# Ridge regression


def pairs(n=200, d=30, seed=0):
    g = torch.Generator().manual_seed(seed)
    features = torch.randn(n, d, generator=g).relu()
    targets = features @ torch.randn(d, 4, generator=g) * 0.05 + 0.1 + 0.05 * torch.randn(n, 4, generator=g)
    return features * feature_scale(features), targets


@pytest.mark.parametrize(("n", "d"), [(200, 30), (31, 30), (30, 30), (20, 50), (1, 4)])
def test_ridge_is_the_least_squares_of_the_augmented_system(n, d, device):
    features, targets = pairs(n, d)
    weight, bias = fit_ridge(features.to(device), targets.to(device), 100.0)
    x = np.concatenate([features.double().numpy(), np.ones((n, 1))], axis=1)
    mean = targets.double().numpy().mean(0)
    rows = np.concatenate([x, 10.0 * np.eye(d + 1)])  # sqrt(100): the penalty as rows with target 0, bias included
    right = np.concatenate([targets.double().numpy() - mean, np.zeros((d + 1, 4))])
    expected = np.linalg.lstsq(rows, right, rcond=None)[0]
    assert np.allclose(weight.cpu().numpy(), expected[:-1].T, atol=1e-6)
    assert np.allclose(bias.cpu().numpy(), expected[-1] + mean, atol=1e-6)


def test_decorrelating_the_targets_changes_nothing():
    # R-CNN's code regresses (t - mean) T with T = (covariance + 0.001)^(-1/2), and takes T back afterwards.
    features, targets = (t.double() for t in pairs())
    mean = targets.mean(0)
    values, vectors = torch.linalg.eigh((targets - mean).t() @ (targets - mean) / len(targets))
    turn = vectors @ torch.diag((values + 0.001) ** -0.5) @ vectors.t()
    x = torch.cat((features, torch.ones(len(features), 1)), dim=1)
    solved = torch.linalg.solve(x.t() @ x + 1000 * torch.eye(31).double(), x.t() @ ((targets - mean) @ turn))
    expected = x @ solved @ torch.linalg.inv(turn) + mean
    weight, bias = fit_ridge(features, targets)
    assert torch.allclose(features @ weight.t() + bias, expected, atol=1e-9)


def test_a_large_penalty_leaves_the_mean():
    features, targets = pairs()
    weight, bias = fit_ridge(features, targets, 1e12)
    assert weight.abs().max() < 1e-6 and torch.allclose(bias, targets.mean(0), atol=1e-5)


def test_no_pairs_no_move(device):
    weight, bias = fit_ridge(torch.zeros(0, 7, device=device), torch.zeros(0, 4, device=device))
    assert weight.shape == (4, 7) and not weight.any() and bias.tolist() == [0, 0, 0, 0]


def test_refined_boxes_fit_better():
    g = torch.Generator().manual_seed(5)
    corner = torch.rand(600, 2, generator=g) * 100
    truth = torch.cat((corner, corner + 20 + 60 * torch.rand(600, 2, generator=g)), dim=1)
    proposals = decode(0.12 * torch.randn(600, 4, generator=g), truth)
    # What a network might tell: the offsets, mixed, rectified, and with noise.
    offsets = encode(truth, proposals)
    features = (offsets @ torch.randn(4, 64, generator=g) + 0.1 * torch.randn(600, 64, generator=g)).relu()
    features = features * feature_scale(features)
    good = box_iou(truth, proposals).diagonal() > 0.6
    learn, held_out = good & (torch.arange(600) < 400), torch.arange(600) >= 400
    weight, bias = fit_ridge(features[learn], offsets[learn])
    refined = decode(features[held_out] @ weight.t() + bias, proposals[held_out])
    before = box_iou(truth, proposals).diagonal()[held_out].mean().item()
    after = box_iou(truth[held_out], refined).diagonal().mean().item()
    claim("RCNN-13", condition=after > before + 0.05, note="mean IoU of held-out generated proposals rises")
    round_trip = (decode(offsets, proposals) - truth).abs().max().item()
    claim("RCNN-13", round_trip / 180, 0, tol=1e-5, note="encode and decode back, of the largest coordinate")


FEATURES, POSITIVE = torch.zeros(5, 3), torch.zeros(5, 2, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: fit_svm(FEATURES[0], POSITIVE), "features"),
        (lambda: fit_svm(FEATURES.long(), POSITIVE), "features"),
        (lambda: fit_svm(FEATURES / 0, POSITIVE), "features"),
        (lambda: fit_svm(FEATURES, POSITIVE[:, 0]), "positive"),
        (lambda: fit_svm(FEATURES, POSITIVE[:4]), "positive"),
        (lambda: fit_svm(FEATURES, POSITIVE.long()), "positive"),
        (lambda: fit_svm(FEATURES, POSITIVE, POSITIVE[:, :1]), "used"),
        (lambda: SVMSettings(cost=0), "cost"),
        (lambda: SVMSettings(bias_feature=-1), "bias_feature"),
        (lambda: SVMSettings(easy=-0.5), "easy"),
        (lambda: feature_scale(FEATURES), "features"),
        (lambda: feature_scale(FEATURES[:0]), "features"),
        (lambda: fit_ridge(FEATURES, torch.zeros(4, 4)), "features, targets"),
        (lambda: fit_ridge(FEATURES, torch.zeros(5, 4), 0), "penalty"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        call()
