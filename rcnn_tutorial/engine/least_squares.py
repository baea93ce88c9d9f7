"""Ridge regression in closed form, by whichever of two equal equations is the smaller."""

import torch
from torch import Tensor


def ridge(x: Tensor, t: Tensor, penalty: float) -> Tensor:
    """Find the w (D, T) that minimises |x w - t|^2 + penalty |w|^2: (x^T x + penalty)^-1 x^T t.

    Where there are fewer rows than features this is computed as x^T (x x^T + penalty)^-1 t, which is the same.

    Args:
        x: (N, D).
        t: (N, T).
        penalty: above 0.
    Returns:
        (D, T), of their type.
    Raises:
        None.
    """
    wide = len(x) < x.shape[1]
    gram = x @ x.t() if wide else x.t() @ x
    gram.diagonal().add_(penalty)
    factor = torch.linalg.cholesky(gram)
    return x.t() @ torch.cholesky_solve(t, factor) if wide else torch.cholesky_solve(x.t() @ t, factor)
