import pytest
import torch

from rcnn_tutorial.course import kernels
from rcnn_tutorial.ops.pooling import roi_align, roi_pool

BOXES = torch.tensor([[0, 0, 9, 9], [1, 0, 10, 9], [30, 0, 39, 9], [0, 0, 9, 9], [30, 0, 39, 9.0]])


def test_without_triton_the_other_operators_are_taken(monkeypatch):
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    run = kernels.operators("cpu")
    assert run.told.startswith("Triton does not run here")
    assert run.roi_pool is roi_pool and run.roi_align is roi_align
    ends = torch.tensor([3, 3, 3, 5, 5])
    assert run.nms_words(BOXES, ends, 0.5, 2).tolist() == [[2, 0, 0, 0, 0], [0] * 5, [0] * 5]
    assert run.nms_words(BOXES, torch.full((5,), 5), 0.5, 4).tolist() == [[10, 8, 0, 0, 0], [0, 0, 1, 0, 0]]
    assert run.survivors(BOXES, torch.tensor([0, 0, 0, 1, 1]), 0.5).tolist() == [True, False, True, True, True]
    assert run.survivors(BOXES, None, 0.5).tolist() == [True, False, True, False, False]


def test_an_interpreter_that_comes_too_late_is_refused(monkeypatch):
    pytest.importorskip("triton", reason="Triton comes with torch on Linux alone")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(RuntimeError, match="restart"):
        kernels.operators("cpu")


def test_a_listing_is_the_function_with_its_decorator(capsys):
    kernels.listing("suppression", "_either")
    assert capsys.readouterr().out == "@triton.jit\ndef _either(a, b):\n    return a | b\n"
    with pytest.raises(KeyError):
        kernels.listing("suppression", "nothing")
