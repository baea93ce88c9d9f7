import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.data.masks import mask_areas
from rcnn_tutorial.data.transforms import Augment, flip, jitter_colour, zoom

WIDTH, HEIGHT = 32, 24


def make_target(boxes, proposals=((0, 0, 32, 24),)):
    """A target whose masks fill the whole pixels of their boxes."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
    for mask, box in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[box[1] : box[3], box[0] : box[2]] = True
    return {
        "boxes": boxes,
        "labels": torch.arange(1, len(boxes) + 1),
        "masks": masks,
        "difficult": torch.arange(len(boxes)) % 2 == 0,
        "iscrowd": torch.arange(len(boxes)) % 2 == 1,
        "proposals": torch.tensor(proposals, dtype=torch.float32).reshape(-1, 4),
        "image_id": torch.tensor(5),
    }


def boxes_in(width, height):
    def pair(limit):
        numbers = st.integers(0, 4 * limit).map(lambda n: n / 4)
        return st.tuples(numbers, numbers).filter(lambda p: p[0] != p[1]).map(sorted)

    return st.lists(
        st.tuples(pair(width), pair(height)).map(lambda p: [p[0][0], p[1][0], p[0][1], p[1][1]]), max_size=5
    )


IMAGES = st.integers(0, 2**31).map(
    lambda seed: torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))
)


class Scenes(Dataset):
    """A bright rectangle on dark ground, its box, its mask, and itself as a proposal."""

    classes = ("background", "bright")

    def __init__(self, boxes=((4, 6, 20, 18), (10, 2, 30, 22), (0, 0, 9, 11), (16, 12, 32, 24))):
        self.boxes = boxes

    def __len__(self):
        return len(self.boxes)

    def __getitem__(self, index):
        target = make_target([self.boxes[index]], [self.boxes[index]])
        return 0.2 + 0.6 * target["masks"].float().expand(3, -1, -1), target


def same(a, b):
    return torch.equal(a[0], b[0]) and a[1].keys() == b[1].keys() and all(torch.equal(a[1][k], b[1][k]) for k in a[1])


@given(image=IMAGES, boxes=boxes_in(WIDTH, HEIGHT), proposals=boxes_in(WIDTH, HEIGHT))
def test_two_flips_are_none(image, boxes, proposals):
    target = make_target(boxes, proposals)
    assert same(flip(*flip(image, target)), (image, target))


def test_flip_by_hand():
    image = torch.zeros(3, HEIGHT, WIDTH)
    image[:, 3:12, 2:10] = 1
    flipped, target = flip(image, make_target([[2, 3, 10, 12]], [[0, 0, 5, 24]]))
    assert target["boxes"].tolist() == [[22, 3, 30, 12]] and target["proposals"].tolist() == [[27, 0, 32, 24]]
    assert torch.equal(flipped[0].bool(), target["masks"][0]) and target["masks"][0, 3:12, 22:30].all()


@st.composite
def windows(draw):
    left, top = draw(st.integers(-20, WIDTH - 1)), draw(st.integers(-20, HEIGHT - 1))
    return left, top, left + draw(st.integers(1, 60)), top + draw(st.integers(1, 60))


@given(
    image=IMAGES,
    boxes=boxes_in(WIDTH, HEIGHT),
    proposals=boxes_in(WIDTH, HEIGHT),
    window=windows(),
    min_visible=st.sampled_from([0, 0.2, 1]),
)
def test_after_a_zoom_boxes_lie_inside_and_fields_belong_together(image, boxes, proposals, window, min_visible):
    before = make_target(boxes, proposals)
    zoomed, target = zoom(image, before, window, min_visible)
    assert zoomed.shape == image.shape and zoomed.min() >= 0 and zoomed.max() <= 1
    limit = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    for key in ("boxes", "proposals"):
        found = target[key]
        assert (found >= 0).all() and (found <= limit).all() and (found[:, :2] < found[:, 2:]).all()
    kept = target["labels"] - 1
    assert torch.equal(target["difficult"], before["difficult"][kept])
    assert torch.equal(target["iscrowd"], before["iscrowd"][kept])
    assert target["masks"].shape == (len(kept), HEIGHT, WIDTH) and target["masks"].dtype == torch.bool
    assert target["image_id"] == 5 and len(target["boxes"]) == len(kept)


def test_zoom_by_hand():
    boxes = [[8, 6, 16, 12], [0, 0, 4, 4], [20, 6, 25, 12], [20, 6, 24.5, 12]]
    image = torch.zeros(3, HEIGHT, WIDTH)
    zoomed, target = zoom(image, make_target(boxes, boxes), (8, 6, 24, 18))  # twice as large
    assert target["boxes"].tolist() == [[0, 0, 16, 12], [24, 0, 32, 12], [24, 0, 32, 12]]
    assert target["labels"].tolist() == [1, 3, 4]
    assert torch.equal(target["proposals"], target["boxes"])
    _, target = zoom(image, make_target(boxes, boxes), (8, 6, 24, 18), min_visible=0.85)
    assert target["labels"].tolist() == [1, 4] and target["difficult"].tolist() == [True, False]
    _, target = zoom(image, make_target(boxes, boxes), (-16, -12, 48, 36))  # half as large, centred
    assert target["boxes"].tolist()[0] == [12, 9, 16, 12] and target["labels"].tolist() == [1, 2, 3, 4]


def test_masks_and_pixels_move_with_the_boxes():
    image = torch.zeros(3, HEIGHT, WIDTH)
    image[:, 6:12, 8:16] = 1
    zoomed, target = zoom(image, make_target([[8, 6, 16, 12]]), (4, 3, 20, 15))  # twice as large
    expected = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    expected[6:18, 8:24] = True
    assert target["boxes"].tolist() == [[8, 6, 24, 18]]
    assert torch.equal(target["masks"][0], expected) and torch.equal(zoomed[0] > 0.5, expected)


def test_areas_grow_with_the_zoom_and_shrink_with_what_is_cut():
    whole_and_half = make_target([[8, 6, 16, 12], [20, 6, 28, 12]]) | {"area": torch.tensor([40.0, 30])}
    _, target = zoom(torch.zeros(3, HEIGHT, WIDTH), whole_and_half, (8, 6, 24, 18))  # twice as large
    assert target["area"].tolist() == [160, 60] and target["area"].dtype == torch.float32


def test_masks_go_through_every_change_with_their_boxes():
    scenes = Scenes()
    augment = Augment(scenes, seed=1, scale=(0.5, 2))
    for epoch in range(10):
        augment.set_epoch(epoch)
        for index in range(len(scenes)):
            image, target = augment[index]
            assert target["masks"].shape == (len(target["boxes"]), *image.shape[1:])
            assert target["masks"].dtype == torch.bool
            for mask, (x1, y1, x2, y2) in zip(target["masks"], target["boxes"].tolist(), strict=True):
                assert mask.sum() == pytest.approx((x2 - x1) * (y2 - y1), rel=0.3, abs=12)
                assert mask[round((y1 + y2) / 2 - 0.5), round((x1 + x2) / 2 - 0.5)]


def test_around_the_picture_is_its_mean_colour():
    image = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    zoomed, _ = zoom(image, make_target([]), (-32, -24, 64, 48))
    assert torch.allclose(zoomed[:, :6].mean((1, 2)), image.mean((1, 2)), atol=1e-5)
    assert torch.allclose(zoomed[:, 8:16, 11:21].mean((1, 2)), image.mean((1, 2)), atol=0.05)
    assert zoomed[:, 8:16, 11:21].std() > 10 * zoomed[:, :6, :].std(dim=(1, 2)).max()


def test_the_whole_window_changes_nothing():
    sample = torch.rand(3, HEIGHT, WIDTH), make_target([[1, 2, 3, 4]])
    assert same(zoom(*sample, (0, 0, WIDTH, HEIGHT)), sample)


@pytest.mark.parametrize("window", [(5, 5, 5, 9), (5, 9, 8, 9), (8, 5, 5, 9)])
def test_a_window_without_area_is_refused(window):
    with pytest.raises(ValueError, match="window"):
        zoom(torch.zeros(3, HEIGHT, WIDTH), make_target([]), window)


def test_jitter_by_hand():
    image = torch.tensor([0.2, 0.4, 0.6]).reshape(3, 1, 1).repeat(1, 2, 2)
    grey = 0.2989 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6
    assert torch.equal(jitter_colour(image, 1, 1, 1), image)
    assert torch.allclose(jitter_colour(image, 1.5, 1, 1), image * 1.5)
    assert torch.allclose(jitter_colour(image, 1, 0, 1), torch.full_like(image, grey), atol=1e-3)
    assert torch.allclose(jitter_colour(image, 1, 1, 0), torch.full_like(image, grey), atol=1e-3)
    assert jitter_colour(image, 2, 1, 1).max() == 1


def test_a_sample_depends_on_seed_epoch_and_index_alone():
    scenes = Scenes(((4, 6, 20, 18), (4, 6, 20, 18)))
    augment = Augment(scenes, seed=3)
    first = augment[0]
    torch.rand(5)
    assert same(augment[0], first) and same(augment[-2], first) and same(Augment(scenes, seed=3)[0], first)
    others = [augment[1], Augment(scenes, seed=4)[0]]
    augment.set_epoch(1)
    others.append(augment[0])
    assert not any(same(other, first) for other in others)
    augment.set_epoch(0)
    assert same(augment[0], first)
    with pytest.raises(IndexError):
        augment[2]


def test_the_global_generator_is_left_alone():
    augment, state = Augment(Scenes(), seed=0), torch.get_rng_state()
    augment[0]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_persistent_workers_see_the_epoch_and_agree_with_the_main_process():
    augment = Augment(Scenes(), seed=1)
    loader = DataLoader(augment, batch_size=2, num_workers=2, collate_fn=list, persistent_workers=True)
    for epoch in (0, 1, 5):
        augment.set_epoch(epoch)
        alone = Augment(Scenes(), seed=1)
        alone.set_epoch(epoch)
        samples = [sample for batch in loader for sample in batch]
        assert len(samples) == 4 and all(same(sample, alone[i]) for i, sample in enumerate(samples))


def test_boxes_stay_on_their_objects():
    scenes, seen = Scenes(((4, 6, 16, 14), (14, 4, 26, 18), (0, 0, 9, 11), (20, 14, 32, 24))), 0
    augment = Augment(scenes, seed=0, scale=(0.6, 1.7))
    for epoch in range(25):
        augment.set_epoch(epoch)
        for image, target in (augment[i] for i in range(len(scenes))):
            for box, mask in zip(target["boxes"], target["masks"], strict=True):
                rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
                tight = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                assert (tight - box).abs().max() <= 0.75
                assert torch.equal(target["proposals"], target["boxes"])
                assert image[:, mask].mean() > image[:, ~mask].mean() + 0.1
                seen += 1
    assert seen > 90


def test_half_of_the_images_are_mirrored_and_nothing_else_changes():
    scenes = Scenes(((4, 6, 20, 18),) * 400)
    mirrored = Augment(scenes, seed=0, jitter=0, scale=(1, 1))
    for i in range(200):
        assert same(mirrored[i], scenes[i]) or same(mirrored[i], flip(*scenes[i]))
    rate = np.mean([mirrored._draws(i)[3] < mirrored.flip for i in range(10_000)])
    claim("FAST-14", float(rate), 0.5, tol=0.015, note="share of 10,000 draws that mirror")
    once = flip(*scenes[0])
    claim("FAST-14", condition=same(flip(*once), scenes[0]) and not same(once, scenes[0]), note="two flips are none")


def test_the_strengths_are_those_asked_for():
    scenes = Scenes(((4, 6, 20, 18),) * 400)
    plain = Augment(scenes, seed=0, flip=0, jitter=0, scale=(1, 1))
    assert all(same(plain[i], scenes[i]) for i in range(3))
    flipped = Augment(scenes, seed=0, flip=0.25, jitter=0, scale=(1, 1))
    share = np.mean([not same(flipped[i], scenes[i]) for i in range(400)])
    assert 0.17 < share < 0.33
    zoomed = Augment(scenes, seed=0, flip=0, jitter=0, scale=(0.5, 0.9))
    widths = np.array([zoomed[i][1]["boxes"][0, [0, 2]].diff().item() for i in range(400)]) / 16
    assert widths.min() > 0.47 and widths.max() < 0.93 and np.ptp(widths) > 0.35
    jittered = Augment(scenes, seed=0, flip=0, jitter=0.3, scale=(1, 1))
    brightness = np.array([jittered[i][0].mean().item() for i in range(400)]) / scenes[0][0].mean().item()
    assert brightness.min() > 0.69 and brightness.max() < 1.31 and np.ptp(brightness) > 0.5


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_window_lies_anywhere_along_both_sides(scale):
    """Left and top edges of the window cover all that is possible, and neither follows the other."""
    augment = Augment(Scenes(((0, 0, 32, 24),) * 400), seed=0, flip=0, jitter=0, scale=(scale, scale))
    windows = np.array([augment._window(WIDTH, HEIGHT, *augment._draws(i)[4:]) for i in range(400)])
    size = np.array([WIDTH, HEIGHT]) / scale
    assert (windows[:, 2:] - windows[:, :2] == size).all()
    corner = windows[:, :2] / (np.array([WIDTH, HEIGHT]) - size)  # in [0, 1] across what is possible
    assert corner.min() >= 0 and corner.max() <= 1 and (np.ptp(corner, axis=0) > 0.95).all()
    assert (np.abs(corner.mean(axis=0) - 0.5) < 0.05).all() and abs(np.corrcoef(corner.T)[0, 1]) < 0.15


def test_a_sample_is_seen_through_the_window_that_was_drawn():
    augment = Augment(Scenes(((4, 6, 20, 18),) * 20), seed=0, flip=0, jitter=0, scale=(0.5, 2), min_visible=1)
    for i in range(20):
        window = augment._window(WIDTH, HEIGHT, *augment._draws(i)[4:])
        assert same(augment[i], zoom(*augment.dataset[i], window, min_visible=1))


def test_attributes_pass_through_and_pickling_works():
    augment = pickle.loads(pickle.dumps(Augment(Scenes(), seed=0)))
    assert augment.classes == ("background", "bright") and len(augment) == 4 and not hasattr(augment, "nothing")
    assert same(augment[1], Augment(Scenes(), seed=0)[1])


def test_images_without_objects():
    sample = torch.rand(3, HEIGHT, WIDTH), make_target([], [])
    _, target = Augment([sample], seed=0)[0]
    assert target["boxes"].shape == target["proposals"].shape == (0, 4) and target["masks"].shape == (0, HEIGHT, WIDTH)


def test_a_field_that_would_be_left_behind_is_refused():
    sample = torch.zeros(3, HEIGHT, WIDTH), make_target([]) | {"keypoints": torch.zeros(0, 17, 2)}
    with pytest.raises(ValueError, match="keypoints"):
        Augment([sample], seed=0)[0]


@pytest.mark.parametrize(
    "settings",
    [{"seed": -1}, {"flip": 1.5}, {"jitter": -0.1}, {"min_visible": 2}, {"scale": (0, 1)}, {"scale": (2, 1)}],
)
def test_settings_out_of_range(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Augment(Scenes(), **({"seed": 0} | settings))


def test_whole_numbers_and_half_precision_are_zoomed_as_exactly():
    image = torch.rand(3, 400, 400)
    target = {"boxes": torch.tensor([[2.0, 2, 300, 390]]), "labels": torch.tensor([1])}
    proposals = torch.tensor([[10, 40, 50, 80]])
    expected = zoom(image, target | {"proposals": proposals.float()}, (0, 0, 380, 380))[1]
    whole = zoom(image, target | {"proposals": proposals}, (0, 0, 380, 380))[1]
    assert torch.equal(whole["proposals"], expected["proposals"])
    half = zoom(image, target | {"boxes": target["boxes"].half()}, (0, 0, 380, 380))[1]
    assert torch.equal(half["boxes"], expected["boxes"]) and len(half["boxes"]) == 1


def test_masks_of_255_are_those_of_1():
    masks = torch.zeros(1, 8, 8, dtype=torch.uint8)
    masks[0, 2:4, 2:6] = 255
    assert mask_areas(masks).tolist() == mask_areas(masks.bool()).tolist() == [8]
