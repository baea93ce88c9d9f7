import pytest
import torch
from skimage import data

from rcnn_tutorial.course.photographs import PHOTOGRAPHS, load_photograph


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_photograph_is_a_smaller_copy(name):
    whole = torch.from_numpy(getattr(data, name)()).float() / 255  # (H, W, 3)
    small = load_photograph(name, 100)
    assert small.shape == (3, round(100 * whole.shape[0] / whole.shape[1]), 100)
    assert small.min() >= 0 and small.max() <= 1
    assert torch.allclose(small.mean(dim=(1, 2)), whole.mean(dim=(0, 1)), atol=0.01)
    assert small.std() > 0.1


def test_an_unknown_photograph():
    with pytest.raises(ValueError, match="name: expected one of astronaut, .*, got cat"):
        load_photograph("cat")
