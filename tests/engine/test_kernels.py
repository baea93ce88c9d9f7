"""The kernels, without a GPU: what they compute by Triton's interpreter, what its compiler makes of them, who asks.

On a GPU the tests of `tests/ops` hold them against torchvision's operators.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rcnn_tutorial.engine import kernels
from rcnn_tutorial.ops.nms import nms
from tests.ops.test_nms import crowd

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.whole
def test_by_the_interpreter():
    pytest.importorskip("triton", reason="Triton comes with torch on Linux alone")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/engine/interpreted.py"]
    asked = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=asked, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


BINS = dict(BINS_Y=7, BINS_X=7, CHANNELS_LAST=False, BLOCK=256)
KERNELS = [  # file, kernel, types of what is no int32, constants, options
    ("suppression", "_overlaps", dict(boxes="*E", ends="*i32", words="*i64", threshold="fp32"), dict(WORD=64),
     dict(enable_fp_fusion=False)),
    ("suppression", "_scan", dict(words="*i64", ends="*i32", keep="*i1"), dict(WORD=64, CHUNK=2048),
     dict(num_warps=8, num_stages=1)),
    ("pooling", "_largest", dict(maps="*M", regions="*E", values="*M", switches="*i32", lowest="fp32"), BINS, {}),
    ("pooling", "_send_back", dict(gradients="*M", switches="*i32", total="*E"), dict(BLOCK=256), {}),
    ("alignment", "_means", dict(maps="*M", regions="*E", values="*M"), BINS | dict(POINTS=2, ALIGNED=False), {}),
    ("alignment", "_spread", dict(total="*E", regions="*E", gradients="*M"), BINS | dict(POINTS=0, ALIGNED=True), {}),
]  # fmt: skip


def typed(types, dtype):
    """The types where M is the map's and E that in which is computed."""
    exact = "fp64" if dtype == "fp64" else "fp32"
    return {key: kind.replace("M", dtype).replace("E", exact) for key, kind in types.items()}


@pytest.mark.parametrize(
    ("arch", "dtype", "ones"),
    [
        (75, "fp32", ["stride_x"]),
        (80, "fp32", ["stride_x"]),
        (90, "fp32", ["stride_x"]),
        (80, "fp64", ["stride_c"]),
        (80, "bf16", ["n", "channels", "height", "width", "stride_n", "stride_c", "stride_y", "stride_x"]),
    ],
)
def test_they_compile_for_a_gpu(arch, dtype, ones, tmp_path, monkeypatch):
    triton = pytest.importorskip("triton", reason="Triton comes with torch on Linux alone")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # nothing is taken from an earlier run
    for file, name, types, constants, options in KERNELS:
        kernel = getattr(__import__(f"rcnn_tutorial.engine.kernels.{file}", fromlist=[name]), name)
        types, single = typed(types, dtype), typed(types, "fp32")
        if dtype != "fp32" and types == single:
            continue
        constants = constants | {key: 1 for key in ones if key in kernel.arg_names}  # Triton makes a 1 a constant
        signature = {key: "constexpr" if key in constants else types.get(key, "i32") for key in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        built = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
        assert f".target sm_{arch}" in built.asm["ptx"] and len(built.asm["cubin"]) > 1000, name
        if name in ("_overlaps", "_largest"):  # what is compared with a threshold or cut into cells is divided exactly
            assert "div.rn" in built.asm["ptx"] and "div.full" not in built.asm["ptx"], name
        if name in ("_send_back", "_spread"):
            assert ".add.f" in built.asm["ptx"].replace("global.gpu.relaxed", ""), name


def test_who_may_ask_for_them(monkeypatch):
    monkeypatch.setattr(kernels, "_can_launch", lambda device: device == "cuda:0")
    one, other = SimpleNamespace(is_cuda=True, device="cuda:0"), SimpleNamespace(is_cuda=True, device="cuda:1")
    assert kernels.usable(one) and not kernels.usable(other)
    assert not kernels.usable(torch.zeros(1))
    with monkeypatch.context() as patch:
        patch.setenv("RCNN_PLAIN", "1")
        assert not kernels.usable(one)
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert kernels.usable(other) and not kernels.usable(torch.zeros(1))
    torch.use_deterministic_algorithms(True)
    try:
        assert not kernels.usable(one)
    finally:
        torch.use_deterministic_algorithms(False)


def test_without_triton_nothing_is_launched(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "rcnn_tutorial.engine.kernels.pooling", raising=False)
    assert not kernels._can_launch.__wrapped__(torch.device("cpu"))


def test_boxes_beyond_the_memory_of_their_masks_go_another_way(monkeypatch):
    monkeypatch.setattr(kernels, "usable", lambda tensor: True)
    monkeypatch.setattr(kernels, "MOST_BOXES", 99)
    asked = []
    monkeypatch.setattr(
        kernels, "survivors", lambda boxes, *_: asked.append(len(boxes)) or torch.ones(len(boxes), dtype=torch.bool)
    )
    boxes, scores, _ = crowd(100)
    assert len(nms(boxes[:99], scores[:99], 0.5)) == 99 and len(nms(boxes, scores, 0.5)) < 100
    assert asked == [99]


@pytest.mark.gpu
def test_no_kernel_waits_for_the_device(without_waiting):
    boxes, _, groups = (tensor.cuda() for tensor in crowd(500))
    groups, rois = groups.sort().values, torch.nn.functional.pad(boxes, (1, 0))
    x = torch.randn(1, 3, 40, 50, device="cuda", requires_grad=True)
    assert kernels.usable(boxes)

    def step():
        kept = kernels.survivors(boxes, groups, 0.5)
        pooled = kernels.roi_pool(x, rois, (3, 3), 0.1) + kernels.roi_align(x, rois, (3, 3), 0.1, -1, False)
        (pooled * kept[:, None, None, None]).sum().backward()

    step()  # compiles
    with without_waiting():
        step()
