"""The kernels of `engine.kernels` in a lesson: compiled on a GPU, interpreted on a CPU, replaced where neither works.

Triton decides when it is imported whether it compiles or interprets. Ask for the operators before anything that imports
it, and torchvision does.
"""

import ast
import os
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rcnn_tutorial.engine import kernels
from rcnn_tutorial.engine.nms import survivors
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.ops.pooling import roi_align, roi_pool


class Operators(NamedTuple):
    """The operators of a lesson, and a sentence that says what they run on."""

    nms_words: Callable
    survivors: Callable
    roi_pool: Callable
    roi_align: Callable
    told: str


def operators(device: str) -> Operators:
    """Choose what computes in a lesson: the kernels, or the package's other operators where they cannot run.

    Args:
        device: "cuda" for compiled kernels, "cpu" for interpreted ones.
    Returns:
        The operators, with the same results in every case.
    Raises:
        RuntimeError: Triton was imported before, and compiles.
    """
    if find_spec("triton") is None or (device != "cpu" and not kernels.usable(torch.zeros(1, device=device))):
        told = "Triton does not run here, so the package's other operators take the place of the kernels."
        return Operators(_words, survivors, roi_pool, roi_align, told)
    told = "The kernels are compiled for the GPU."
    if device == "cpu":
        if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
            raise RuntimeError("Triton was imported already, and compiles: restart and ask for the operators first")
        os.environ["TRITON_INTERPRET"] = "1"
        warnings.filterwarnings("ignore", "invalid value", RuntimeWarning, "triton")  # 0 / 0 is meant to be NaN
        told = "Triton's interpreter runs the kernels on the CPU, one program after another."
    from rcnn_tutorial.engine.kernels.suppression import overlap_words

    return Operators(overlap_words, kernels.survivors, kernels.roi_pool, kernels.roi_align, told)


def _words(boxes: Tensor, ends: Tensor, threshold: float, bits: int) -> Tensor:
    """What `overlap_words` writes."""
    n = len(boxes)
    i = torch.arange(n, device=boxes.device)
    above = (box_iou(boxes, boxes) > threshold) & (i[:, None] < i) & (i < ends[:, None])
    padded = torch.nn.functional.pad(above, (0, -n % bits)).long().unflatten(1, (-1, bits))  # (N, words, bits)
    return (padded << torch.arange(bits, device=boxes.device)).sum(dim=2).T


def listing(file: str, name: str) -> None:
    """Print a function of a file of `engine.kernels` as it stands there.

    Args:
        file: without its ending, such as "pooling".
        name: of the function.
    """
    source = (Path(kernels.__file__).parent / f"{file}.py").read_text(encoding="utf-8")
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    first, last = functions[name].decorator_list[0].lineno, functions[name].end_lineno
    print("\n".join(source.splitlines()[first - 1 : last]))
