import pytest
import torch
from torch.utils.data import Subset

from rcnn_tutorial.app.fitting import fitting_size, path_of
from rcnn_tutorial.data import load_dataset
from tests.app.folder import own_folder


class Boxes(torch.utils.data.Dataset):
    """A picture for each list of sides of squares, all of one size."""

    def __init__(self, size, *sides):
        self.size, self.sides = size, sides

    def __len__(self):
        return len(self.sides)

    def __getitem__(self, index):
        return torch.empty(3, *self.size), self.target(index)

    def target(self, index):
        sides = self.sides[index]
        boxes = torch.tensor([[0.0, 0.0, side, side] for side in sides]).reshape(-1, 4)
        return {"boxes": boxes, "labels": torch.ones(len(sides), dtype=torch.int64)}


def test_pictures_as_small_as_the_scenes_stay_as_they_are():
    assert fitting_size(Boxes((192, 256), [8])) is None
    assert fitting_size(Boxes((256, 192), [8])) is None
    assert fitting_size(Boxes((193, 256), [80])) is not None


@pytest.mark.parametrize(
    "size, sides, expected",
    [
        ((1000, 1000), [200] * 9, 256),  # large objects: as small as it may be
        ((1000, 1000), [40] * 9, 400),  # 16 pixels are 40 of 1,000 at 400
        ((1000, 1000), [10] * 9, 512),  # small ones would need 1,600: as large as it may be
        ((300, 1000), [4] * 9, 304),  # most pictures are not enlarged, but to a multiple of 16
        ((1000, 1000), [], 256),  # no object to go by
        ((200, 400), [50], 192),
    ],
)
def test_nine_of_ten_objects_are_as_large_as_the_smallest_anchor(size, sides, expected):
    assert fitting_size(Boxes(size, sides)) == expected


def test_one_small_object_in_ten_is_not_waited_for():
    few = fitting_size(Boxes((1000, 1000), [5] + [40] * 19))
    many = fitting_size(Boxes((1000, 1000), [5] * 10 + [40] * 10))
    assert (few, many) == (400, 512)


def test_large_objects_bound_the_size_where_anchors_are_small():
    sides = [20] * 5 + [500] * 5
    assert fitting_size(Boxes((1000, 1000), sides), largest=256) == 512
    assert fitting_size(Boxes((1000, 1000), sides), largest=128) == 352  # 1.4 * 128 of 500


def test_boxes_count_in_shares_of_their_own_picture():
    """A picture of 500 pixels is resized to the same side as one of 1,000."""
    mixed = torch.utils.data.ConcatDataset([Boxes((1000, 1000), [40] * 5), Boxes((500, 500), [20] * 5)])
    assert fitting_size(mixed) == 400


def test_files_are_found_through_wrappers(tmp_path):
    dataset = load_dataset(own_folder(tmp_path / "data"), "train")
    assert path_of(Subset(dataset, [3, 1]), 1) == dataset.path(1)
    assert path_of(Boxes((8, 8), [1]), 0) is None
    assert fitting_size(Subset(dataset, [0])) is None
