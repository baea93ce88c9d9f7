import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from rcnn_tutorial.proposals.regions import COLOUR_SPACES, convert, describe, pixel_bins, segment, touching
from tests.proposals.scenes import patches, scene


def random_image(seed=0, height=24, width=31, channels=3):
    """Smooth, so that derivatives of all sizes occur."""
    small = torch.rand(1, channels, 6, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, size=(height, width), mode="bicubic")[0].clamp(0, 1)


def slow_colour(image, labels):
    n = int(labels.max()) + 1
    counts = torch.zeros(n, 3, 25, dtype=torch.float64)
    for channel, plane in enumerate(image):
        for value, label in zip(plane.flatten().tolist(), labels.flatten().tolist(), strict=True):
            counts[label, channel, min(int(value * 25), 24)] += 1
    return counts.flatten(1) / counts.sum((1, 2))[:, None]


def slow_texture(image, labels):
    """Derivatives in eight orientations; what points the other way counts as none."""
    x = np.arange(-4, 5)
    smooth = np.exp(-(x**2) / 2) / np.exp(-(x**2) / 2).sum()
    slope = x * smooth / (x**2 * smooth).sum()
    n = int(labels.max()) + 1
    counts = torch.zeros(n, 3, 8, 10, dtype=torch.float64)
    for channel, plane in enumerate(image.double().numpy()):
        right = correlate1d(correlate1d(plane, smooth, 0, mode="nearest"), slope, 1, mode="nearest")
        down = correlate1d(correlate1d(plane, smooth, 1, mode="nearest"), slope, 0, mode="nearest")
        for index, degrees in enumerate((0, 180, 90, 270, 45, 225, -45, 135)):
            angle = math.radians(degrees)
            steep = right * math.cos(angle) + down * math.sin(angle)
            for value, label in zip(steep.ravel().tolist(), labels.flatten().tolist(), strict=True):
                counts[label, channel, index, min(max(int(value / 0.4 * 10), 0), 9)] += 1
    return counts.flatten(1) / counts.sum((1, 2, 3))[:, None]


@pytest.mark.parametrize("seed", range(3))
def test_description_equals_the_slow_loops(seed, device):
    image, labels = random_image(seed), patches(seed)
    regions = describe(labels.to(device), pixel_bins(image.to(device)))
    n = int(labels.max()) + 1
    assert regions.colour.shape == (n, 75) and regions.texture.shape == (n, 240)
    assert torch.allclose(regions.colour.cpu().double(), slow_colour(image, labels), atol=1e-6)
    assert torch.allclose(regions.texture.cpu().double(), slow_texture(image, labels), atol=1e-6)
    for label in range(n):
        y, x = (labels == label).nonzero().unbind(1)
        assert regions.box[label].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert regions.size[label] == len(x)
        assert regions.image_size[label] == labels.numel()


def test_steep_and_extreme_values_are_in_the_last_bins():
    image = torch.zeros(3, 20, 20)
    image[0, :, 10:] = 1  # the steepest step there is, to the right
    regions = describe(torch.zeros(20, 20, dtype=torch.int64), pixel_bins(image))
    colour = regions.colour.view(3, 25)
    assert colour[0, 0] == colour[0, 24] == pytest.approx(1 / 6) and colour[1, 0] == pytest.approx(1 / 3)
    texture = regions.texture.view(3, 8, 10)
    assert texture[0, 0, 9] == pytest.approx(2 / 20 / 24)  # the pixels beside the step: 0.364, of 0.4
    assert texture[0, 1, 0] == texture[1, 0, 0] == pytest.approx(1 / 24)
    backwards = describe(torch.zeros(20, 20, dtype=torch.int64), pixel_bins(image.flip(2))).texture.view(3, 8, 10)
    assert torch.equal(backwards[0, 1], texture[0, 0]) and torch.equal(backwards[0, 0], texture[0, 1])


def test_one_channel_fills_a_third():
    image, labels = random_image(channels=1), patches(0)
    regions = describe(labels, pixel_bins(image))
    assert regions.colour.shape[1] == 75 and regions.texture.shape[1] == 240
    assert torch.allclose(regions.colour[:, :25].sum(1), torch.ones(len(regions.size)))
    assert torch.allclose(regions.texture[:, :80].sum(1), torch.ones(len(regions.size)))


@pytest.mark.parametrize("seed", range(3))
def test_touching_equals_the_slow_loop(seed, device):
    labels = patches(seed)
    grid = labels.tolist()
    expected = set()
    for y, row in enumerate(grid):
        for x, label in enumerate(row):
            for other in ([row[x + 1]] if x + 1 < len(row) else []) + ([grid[y + 1][x]] if y + 1 < len(grid) else []):
                if other != label:
                    expected.add((min(label, other), max(label, other)))
    assert touching(labels.to(device)).tolist() == [list(pair) for pair in sorted(expected)]


def test_touching_at_a_corner_is_not_touching():
    assert touching(torch.tensor([[0, 1], [2, 0]])).tolist() == [[0, 1], [0, 2]]
    assert touching(torch.zeros(1, 1, dtype=torch.int64)).shape == (0, 2)


def test_colour_spaces_by_hand():
    red_white_black = torch.tensor([[1.0, 1, 0], [0, 1, 0], [0, 1, 0]])[:, None]
    expected = {
        "rgb": red_white_black,
        "hsv": torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0]])[:, None],
        "lab": torch.tensor([[0.5324, 1, 0], [0.8160, 0.5020, 0.5020], [0.7655, 0.5020, 0.5020]])[:, None],
        "rgi": torch.tensor([[1, 1 / 3, 0], [0, 1 / 3, 0], [1 / 3, 1, 0]])[:, None],
        "hue": torch.zeros(1, 1, 3),
        "intensity": torch.tensor([[[1 / 3, 1, 0]]]),
    }
    assert set(expected) == set(COLOUR_SPACES)
    for space, values in expected.items():
        assert torch.allclose(convert(red_white_black, space), values, atol=1e-3), space
    with pytest.raises(ValueError, match="^space: .*'cmyk'"):
        convert(red_white_black, "cmyk")


def test_colour_spaces_stay_in_range():
    image = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    for space in COLOUR_SPACES:
        converted = convert(image, space)
        assert converted.dtype == torch.float32 and converted.min() >= 0 and converted.max() <= 1


def test_segments_of_a_plain_picture():
    image = torch.zeros(3, 30, 40)
    image[:, 5:15, 10:30] = 1
    labels = segment(image, 50, 20, 0.1)
    assert labels.dtype == torch.int64 and labels.unique().tolist() == [0, 1]
    assert torch.equal(labels == 1, image[0] == 1)


def test_scale_and_least_size_make_larger_segments():
    image, _ = scene(0)
    counts = [int(segment(image, scale, 10, 0.8).max()) for scale in (10, 100, 1000)]
    assert counts[0] > counts[1] > counts[2]
    for least in (10, 60):
        assert segment(image, 20, least, 0.8).flatten().bincount().min() >= least
    assert not torch.equal(segment(image, 20, 10, 0.2), segment(image, 20, 10, 1.5))
