"""Fully connected layers made smaller after training: a truncated singular value decomposition."""

from copy import deepcopy

import torch
from torch import nn


def truncated_svd(layer: nn.Linear, rank: int) -> nn.Sequential:
    """Two thin layers in place of a thick one: W (u x v) is about U_t (u x t) times S_t V_t^T (t x v).

    Args:
        layer: with v inputs and u outputs; it stays as it is.
        rank: t, how many singular values are kept.
    Returns:
        Two linear layers and nothing between them: S_t V_t^T without a bias, then U_t with the layer's bias. They have
        t (u + v) weights, on the layer's device and of its type. The squared differences from W sum to the squares of
        the singular values left out.
    Raises:
        ValueError: a rank outside 1..min(u, v).
    Source: Fast R-CNN, section 3.1 (FAST-19, FAST-20).
    """
    full = min(layer.out_features, layer.in_features)
    if not 1 <= rank <= full:
        raise ValueError(f"rank: expected 1 to {full}, got {rank}")
    weight = layer.weight.detach()
    exact = torch.promote_types(weight.dtype, torch.float32)
    left, sigma, right = torch.linalg.svd(weight.to(exact), full_matrices=False)  # (u, m), (m,), (m, v)
    first = nn.Linear(layer.in_features, rank, bias=False, device="meta")  # meta: draws no random weights
    second = nn.Linear(rank, layer.out_features, bias=layer.bias is not None, device="meta")
    first.weight = nn.Parameter((sigma[:rank, None] * right[:rank]).to(weight.dtype).contiguous())
    second.weight = nn.Parameter(left[:, :rank].to(weight.dtype).contiguous())
    if layer.bias is not None:
        second.bias = nn.Parameter(layer.bias.detach().clone())
    return nn.Sequential(first, second).train(layer.training)


def compress(module: nn.Module, ranks: dict[str, int]) -> nn.Module:
    """A copy of a trained module with some of its linear layers replaced by `truncated_svd`.

    Args:
        module: it stays as it is.
        ranks: from the names of the layers, as in `module.named_modules()`, to their ranks: {"fc6.0": 1024}.
    Returns:
        The copy; it shares no weight with the module.
    Raises:
        ValueError: no linear layer has the name, or a rank does not suit its layer.
    Source: FAST-19, FAST-20.
    """
    linear = [name for name, layer in module.named_modules() if name and isinstance(layer, nn.Linear)]
    for name in ranks:
        if name not in linear:
            raise ValueError(f"ranks: expected names of linear layers, {linear}, got {name!r}")
    module = deepcopy(module)
    for name, rank in ranks.items():
        module.set_submodule(name, truncated_svd(module.get_submodule(name), rank))
    return module


def largest_useful_rank(out_features: int, in_features: int, times: float = 1) -> int:
    """The largest rank that makes a layer at least `times` times smaller; biases are not counted.

    Args:
        out_features: u.
        in_features: v.
        times: u v / (t (u + v)), at least. At 1 the bound is where it breaks even, u v / (u + v): every rank below
            makes the layer smaller, and the bound itself, where it is a whole number, leaves it as large as it was.
    Returns:
        The largest t with times t (u + v) <= u v; 0 if no rank does it.
    Raises:
        ValueError: times < 1.
    Source: FAST-19.
    """
    if not times >= 1:
        raise ValueError(f"times: expected at least 1, got {times}")
    return int(out_features * in_features // (times * (out_features + in_features)))
