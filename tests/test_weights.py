from importlib import resources

import pytest
import torch

from rcnn_tutorial.weights import load_weights, save_weights


def test_weights_come_back_as_float32_rounded_to_half(tmp_path, monkeypatch):
    state = {"w": torch.tensor([1.0, 1 / 3, -7.25]), "steps": torch.tensor([3])}
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    save_weights(state, tmp_path / "some.pt")
    again = load_weights("some")
    assert again["w"].dtype == torch.float32 and torch.equal(again["w"], state["w"].half().float())
    assert torch.equal(again["steps"], state["steps"])


def test_unknown_weights():
    with pytest.raises(ValueError, match="no weights 'none' in the package"):
        load_weights("none")


@pytest.mark.parametrize(
    "file", [f for f in resources.files("rcnn_tutorial.weights").iterdir() if f.name.endswith("pt")]
)
def test_what_is_shipped_is_small_and_finite(file):
    assert file.stat().st_size <= 3_000_000
    assert all(value.isfinite().all() for value in load_weights(file.name[:-3]).values())
