"""What R-CNN trains on fixed features: one linear SVM per class, and a ridge regression of the offsets.

A linear SVM minimises, over its weight w and bias b,

    (|w|^2 + (b / B)^2) / 2 + sum over the windows of C * max(0, 1 - y * (w . x + b)),      y = 1 or -1,

where a positive's C is larger. The bias is the weight of one more feature with the constant value B, and is
penalised as any other: so liblinear does it, and with a large B hardly.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class SVMSettings:
    """How SVMs are trained, on features of mean norm 20; the defaults are those of R-CNN's code."""

    cost: float = 1e-3  # C of a negative
    positive_weight: float = 2.0  # C of a positive is so many times larger
    bias_feature: float = 10.0  # B
    margin: float = -1.0  # a negative is hard above this score (RCNN-12; the code says -1.0001)
    easy: float = -1.2  # and leaves the cache below this one
    refit: int = 2000  # train again as soon as some class has so many new negatives
    passes: int = 1  # over the images, after a first SVM from the first image

    def __post_init__(self):
        for name in ("cost", "positive_weight", "bias_feature", "refit", "passes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        if not self.easy <= self.margin:
            raise ValueError(f"easy: expected at most margin = {self.margin}, got {self.easy}")


SVM = SVMSettings()


def feature_scale(features: Tensor, norm: float = 20.0) -> Tensor:
    """The factor that gives features a mean norm of 20, for which the SVM's C is meant.

    Args:
        features: (N, D), a sample of the training windows.
        norm: mean Euclidean norm wanted.
    Returns:
        () factor.
    Raises:
        ValueError: not (N, D), or on a CPU only zeros.
    """
    if features.ndim != 2 or not len(features):
        raise ValueError(f"features: expected (N, D) with N > 0, got {tuple(features.shape)}")
    mean = features.float().norm(dim=1).mean()
    if features.device.type == "cpu" and not 0 < mean < torch.inf:
        raise ValueError(f"features: expected a finite mean norm above 0, got {mean}")
    return norm / mean


def fit_svm(
    features: Tensor, positive: Tensor, used: Tensor | None = None, settings: SVMSettings = SVM
) -> tuple[Tensor, Tensor]:
    """K linear SVMs, each telling one class from the rest; the optimum that liblinear converges to (`-s 3`).

    Args:
        features: (N, D) of N windows, as scaled by `feature_scale`.
        positive: (N, K) bool, is the window an example of the class.
        used: (N, K) bool, is it in the training set of the class at all; without it all are.
        settings: cost, positive_weight and bias_feature count here.
    Returns:
        weight (K, D) and bias (K,), as `F.linear` takes them; solved in float64, returned in the features' type
            (float32 for half precision).
    Raises:
        ValueError: other shapes or types; on a CPU also features that are not finite.
    Source: R-CNN, section 2.3 (RCNN-12).
    """
    used = _check(features, positive, used)
    x = F.pad(features.double(), (0, 1), value=settings.bias_feature)  # (N, D + 1)
    found = []
    for own, rows in zip(positive.t(), used.t(), strict=True):  # each class has its own rows: nothing to batch
        y = torch.where(own[rows], 1.0, -1.0).double()
        limit = settings.cost * torch.where(own[rows], settings.positive_weight, 1.0).double()
        found.append(_solve(y[:, None] * x[rows], limit))
    found = torch.stack(found)  # (K, D + 1)
    found = found.to(torch.promote_types(features.dtype, torch.float32))
    return found[:, :-1], found[:, -1] * settings.bias_feature


def _solve(z: Tensor, limit: Tensor, tolerance: float = 1e-8) -> Tensor:
    """The w (D,) that minimises |w|^2 / 2 + sum of limit * max(0, 1 - z w), for z = y x (N, D) and limit (N,).

    By Mehrotra's interior point method. At the optimum w = z^T pull, where each row pulls with 0 <= pull <= limit,
    and z w = 1 + beyond - short: a row beyond its margin does not pull (pull * beyond = 0), one that falls short
    pulls with all it has ((limit - pull) * short = 0). Newton's method solves these equations with both products
    equal to some number above 0, which shrinks. The sum of the products is the duality gap: the objective is no
    farther from its minimum. It ends below `tolerance` times the objective.
    """
    if not len(z):
        return z.new_zeros(z.shape[1])
    basis = None
    if len(z) < z.shape[1]:  # N rows span N dimensions at most, and w lies among them
        basis, rest = torch.linalg.qr(z.t())  # (D, N) and (N, N)
        z = rest.t()
    identity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    pull = limit * (limit.sum() / (limit @ z).square().sum()).clamp(max=0.5)  # the best multiple of `limit`, or half
    w = pull @ z
    excess = z @ w - 1
    # (4, N), all above 0: pull, limit - pull, beyond, short
    state = torch.stack((pull, limit - pull, excess.clamp(min=0) + 1, (-excess).clamp(min=0) + 1))
    for _ in range(100):
        pull, room, beyond, short = state
        gap = pull @ beyond + room @ short
        if gap <= tolerance * (w @ w / 2 + limit @ (1 - z @ w).clamp(min=0)):  # about 15 times: waits for the device
            return w if basis is None else basis @ w
        factor, failed = torch.linalg.cholesky_ex(identity + z.t() @ (_stiffness(state)[:, None] * z))
        if failed:
            break
        _, change = _newton(z, w, state, factor, 0, 0)
        ahead = state + _longest(state, change) * change
        shrink = (ahead[0] @ ahead[2] + ahead[1] @ ahead[3]) / gap
        target = shrink**3 * gap / (2 * len(z))
        dw, change = _newton(z, w, state, factor, target - change[0] * change[2], target - change[1] * change[3])
        length = 0.99 * _longest(state, change)
        w, state = w + length * dw, state + length * change
    raise RuntimeError(f"no SVM found, the duality gap is still {gap:.3g}; are the features scaled?")


def _newton(
    z: Tensor, w: Tensor, state: Tensor, factor: Tensor, below: Tensor | int, above: Tensor | int
) -> tuple[Tensor, Tensor]:
    """Change of w and of the state towards pull * beyond = below and room * short = above."""
    pull, room, beyond, short = state
    force = _stiffness(state) * (1 - z @ w + below / pull - above / room)
    dw = torch.cholesky_solve((force @ z)[:, None], factor)[:, 0]
    dpull = force - _stiffness(state) * (z @ dw)
    dbeyond, dshort = (below - beyond * dpull) / pull - beyond, (above + short * dpull) / room - short
    return dw, torch.stack((dpull, -dpull, dbeyond, dshort))


def _stiffness(state: Tensor) -> Tensor:
    pull, room, beyond, short = state
    return 1 / (beyond / pull + short / room)


def _longest(state: Tensor, change: Tensor) -> Tensor:
    """How much of a change, 1 at most, leaves all of the state at or above 0."""
    return torch.where(change < 0, -state / change, torch.inf).amin().clamp(max=1)


def svm_objective(
    features: Tensor,
    positive: Tensor,
    weight: Tensor,
    bias: Tensor,
    used: Tensor | None = None,
    settings: SVMSettings = SVM,
) -> Tensor:
    """What an SVM minimises.

    Args:
        features, positive, used, settings: as `fit_svm` takes them.
        weight, bias: (K, D) and (K,).
    Returns:
        (K,) float64.
    Raises:
        ValueError: as `fit_svm`.
    """
    used = _check(features, positive, used)
    scores = F.linear(features.double(), weight.double(), bias.double())  # (N, K)
    cost = settings.cost * torch.where(positive, settings.positive_weight, 1.0) * used
    hinge = (1 - torch.where(positive, scores, -scores)).clamp(min=0)
    penalty = weight.double().square().sum(dim=1) + (bias.double() / settings.bias_feature).square()
    return penalty / 2 + (cost * hinge).sum(dim=0)


def _check(features: Tensor, positive: Tensor, used: Tensor | None) -> Tensor:
    """`used`, all True where there is none."""
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(f"features: expected floats of shape (N, D), got {features.dtype} {tuple(features.shape)}")
    if features.device.type == "cpu" and not features.isfinite().all():
        raise ValueError("features: expected finite numbers, got inf or nan")
    used = torch.ones_like(positive) if used is None else used
    for name, mask in (("positive", positive), ("used", used)):
        if mask.dtype != torch.bool or mask.ndim != 2 or mask.shape != positive.shape or len(mask) != len(features):
            expected = f"({len(features)}, K)"
            raise ValueError(f"{name}: expected bool of shape {expected}, got {mask.dtype} {tuple(mask.shape)}")
    return used


def fit_ridge(features: Tensor, targets: Tensor, penalty: float = 1000.0) -> tuple[Tensor, Tensor]:
    """Linear functions of the features that come closest to the targets, with small weights, in closed form.

    As in R-CNN's code the targets are centred, so that the penalty pulls towards their mean; the bias is the weight
    of a constant feature 1 and penalised too. (That code also decorrelates the targets, which changes nothing.)

    Args:
        features: (N, D) of proposals of one class that overlap an object well (IoU > 0.6); R-CNN takes pool5
            scaled to a mean norm of 20, for which the penalty is meant.
        targets: (N, T); for boxes T = 4, the offsets of `encode`.
        penalty: factor of the squared weights.
    Returns:
        weight (T, D) and bias (T,), as `F.linear` takes them; zeros where N = 0. Solved in float64.
    Raises:
        ValueError: other shapes, or a penalty that is not above 0.
    Source: R-CNN, appendix C (RCNN-13).
    """
    if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets):
        expected = f"(N, D) and (N, T), got {tuple(features.shape)} and {tuple(targets.shape)}"
        raise ValueError(f"features, targets: expected {expected}")
    if not penalty > 0:
        raise ValueError(f"penalty: expected a number above 0, got {penalty}")
    mean = targets.double().sum(dim=0) / max(len(targets), 1)
    x, t = F.pad(features.double(), (0, 1), value=1.0), targets.double() - mean
    wide = len(x) < x.shape[1]  # x^T (x x^T + penalty)^-1 is the same as (x^T x + penalty)^-1 x^T
    gram = x @ x.t() if wide else x.t() @ x
    gram.diagonal().add_(penalty)
    solved = torch.cholesky_solve(t if wide else x.t() @ t, torch.linalg.cholesky(gram))
    solved = x.t() @ solved if wide else solved  # (D + 1, T)
    dtype = torch.promote_types(features.dtype, torch.float32)
    return solved[:-1].t().to(dtype), (solved[-1] + mean).to(dtype)
