from functools import partial

import pytest
import torch
from torch.utils.data import Dataset

from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.data.transforms import Augment
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.proposals.selective_search import selective_search
from rcnn_tutorial.proposals.windows import random_boxes, sliding_windows


class Noise(Dataset):
    classes = ("background", "thing")

    def __init__(self, count=3):
        generator = torch.Generator().manual_seed(0)
        self.images = [torch.rand(3, 48, 64, generator=generator) for _ in range(count)]
        self.read = 0

    def __len__(self):
        return len(self.images)

    def target(self, index):
        return {"boxes": torch.tensor([[4, 4, 20, 24.0]]), "labels": torch.tensor([1])}

    def __getitem__(self, index):
        self.read += 1
        return self.images[index], self.target(index)


def corners(image, n=2):
    corners.calls += 1
    return torch.tensor([[0, 0, 8.0 + k, image.shape[1]] for k in range(n)])


def rows(image, n=2):
    return torch.tensor([[0, 0, image.shape[2], float(n)]])


def test_targets_carry_what_the_proposer_gives():
    data = WithProposals(Noise(), mode="single", top=7)
    image, target = data[1]
    assert len(data) == 3 and data.classes == ("background", "thing")
    assert torch.equal(target["proposals"], selective_search(image, mode="single", top=7))
    assert target["boxes"].tolist() == [[4, 4, 20, 24]]
    assert "proposals" not in data.dataset.target(1)


def test_any_proposer_will_do():
    def grid(image, n):
        return sliding_windows(tuple(image.shape[1:]), n)

    def random(image, n):
        return random_boxes(tuple(image.shape[1:]), n, torch.Generator().manual_seed(0))

    shapes = [WithProposals(Noise(), propose, n=9)[0][1]["proposals"].shape for propose in (grid, random)]
    claim("RCNN-02", condition=shapes == [(9, 4), (9, 4)], note="another proposer changes one argument and no code")


def test_each_image_is_proposed_for_once_and_read_no_more_than_needed():
    corners.calls, images = 0, Noise()
    data = WithProposals(images, corners)
    for _ in range(2):
        for index in range(3):
            assert data[index][1]["proposals"].shape == (2, 4)
    read = images.read
    assert torch.equal(data.target(2)["proposals"], data[2][1]["proposals"])
    assert corners.calls == 3 and images.read == read + 1


def test_target_alone_before_anything_is_known():
    corners.calls = 0
    assert WithProposals(Noise(), corners).target(1)["proposals"].shape == (2, 4) and corners.calls == 1
    pairs = list(Noise())
    assert WithProposals(pairs, corners).target(0)["proposals"].shape == (2, 4)


def test_the_cache_tells_options_proposers_and_images_apart(tmp_path):
    cache, corners.calls = FeatureCache(tmp_path), 0
    for _ in range(2):
        for n in (2, 3):
            data = WithProposals(Noise(), corners, cache, n=n)
            assert [len(data[i][1]["proposals"]) for i in range(3)] == [n, n, n]
    assert corners.calls == 6 and cache.size() > 0
    assert len(WithProposals(Noise(), selective_search, cache, mode="single")[0][1]["proposals"]) > 0
    assert len(list(tmp_path.glob("*.pt"))) == 7
    assert len(WithProposals(Noise(), rows, cache, n=2)[0][1]["proposals"]) == 1  # the same options and image


class Proposer:
    def __init__(self, n):
        self.n = n

    def propose(self, image):
        return rows(image, self.n)

    __call__ = propose


def test_a_cache_refuses_what_shares_its_name_with_others(tmp_path):
    cache = FeatureCache(tmp_path)

    def inner(image):
        return rows(image, 3)

    for propose in (lambda image: rows(image), inner, partial(rows, n=3), Proposer(3), Proposer(3).propose):
        assert WithProposals(Noise(), propose)[0][1]["proposals"].shape == (1, 4)
        with pytest.raises(ValueError, match="propose: a cache knows it by its name, expected a function at the top"):
            WithProposals(Noise(), propose, cache)
    assert not list(tmp_path.iterdir())


def test_augmentation_moves_the_proposals_with_the_boxes():
    data = WithProposals(Noise(), lambda image: torch.tensor([[4, 4, 20, 24.0]]))
    moved = Augment(data, seed=3)
    for index in range(3):
        _, target = moved[index]
        assert torch.allclose(target["proposals"], target["boxes"])
