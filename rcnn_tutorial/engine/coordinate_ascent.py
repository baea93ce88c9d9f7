"""The linear SVM by coordinate ascent, in a page: what liblinear does, and the rule for `interior_point.py`."""

import numpy as np
import torch
from torch import Tensor


def coordinate_ascent(z: Tensor, limit: Tensor, tolerance: float = 1e-6) -> Tensor:
    """Find the w (D,) that minimises |w|^2 / 2 + sum of limit * max(0, 1 - z w), for z = y x (N, D) and limit = C (N,).

    At the optimum w = z^T pull with 0 <= pull <= limit: a window beyond its margin does not pull, and one that falls
    short pulls with all it has. So one window after the other gets the pull that puts it on its margin, or as near as
    the bounds allow, until the objective is provably within `tolerance` of its minimum.

    Source: Hsieh et al., ICML 2008, algorithm 1; what liblinear does for the hinge.
    """
    rows, limits, random = z.cpu().numpy(), limit.cpu().numpy(), np.random.default_rng(0)
    w, pull, squares = np.zeros(rows.shape[1]), np.zeros(len(rows)), (rows * rows).sum(axis=1)
    for _ in range(20_000):
        for i in random.permutation(len(rows)):
            wanted = min(max(pull[i] + (1 - rows[i] @ w) / squares[i], 0.0), limits[i])
            w += (wanted - pull[i]) * rows[i]
            pull[i] = wanted
        objective = w @ w / 2 + limits @ (1 - rows @ w).clip(min=0)
        bound = pull.sum() - w @ w / 2  # the dual objective: no w gets below
        if objective - bound <= tolerance * objective:
            return torch.from_numpy(w).to(z)
    raise RuntimeError("no SVM found by coordinate ascent; are the features scaled?")
