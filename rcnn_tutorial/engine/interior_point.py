"""The linear SVM by Mehrotra's interior point method; the rule is in `coordinate_ascent.py`."""

import torch
from torch import Tensor


def interior_point(z: Tensor, limit: Tensor, tolerance: float = 1e-8) -> Tensor:
    """The w (D,) that minimises |w|^2 / 2 + sum of limit * max(0, 1 - z w), for z = y x (N, D) and limit (N,).

    At the optimum w = z^T pull, where each row pulls with 0 <= pull <= limit, and z w = 1 + beyond - short: a row
    beyond its margin does not pull (pull * beyond = 0), one that falls short pulls with all it has
    ((limit - pull) * short = 0). Newton's method solves these equations with both products equal to some number
    above 0, which shrinks. The sum of the products is the duality gap: the objective is no farther from its minimum.
    It ends below `tolerance` times the objective.

    Args:
        z: (N, D) float64, rows of the windows times 1 or -1.
        limit: (N,) float64, the cost of each.
        tolerance: of the duality gap, relative to the objective.
    Returns:
        (D,) float64.
    Raises:
        RuntimeError: the numbers are out of reach.
    """
    if not len(z):
        return z.new_zeros(z.shape[1])
    basis = None
    if len(z) < z.shape[1]:  # N rows span N dimensions at most, and w lies among them
        basis, triangle = torch.linalg.qr(z.t())  # (D, N) and (N, N)
        z = triangle.t()
    identity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    pull = limit * (limit.sum() / (limit @ z).square().sum()).clamp(max=0.5)  # the best multiple of `limit`, or half
    w = pull @ z
    excess = z @ w - 1
    # (4, N), all above 0: pull, limit - pull, beyond, short
    state = torch.stack((pull, limit - pull, excess.clamp(min=0) + 1, (-excess).clamp(min=0) + 1))
    gap = z.new_zeros(())
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
