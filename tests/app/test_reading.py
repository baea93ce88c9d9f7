import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from rcnn_tutorial.app.planning import Wishes, decide
from rcnn_tutorial.app.reading import TOP, Skipping, data_fingerprint, evenly, prepared
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.data.images import FileError
from rcnn_tutorial.data.transforms import Augment
from tests.app.folder import own_folder


class Broken(Dataset):
    """Pictures of which some cannot be read."""

    classes = ("background", "leaf")

    def __init__(self, *bad):
        self.bad = bad

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index in self.bad:
            raise FileError(f"{index}.jpg", "torn")
        target = {
            "boxes": torch.tensor([[0.0, 0, 4, 4]]),
            "labels": torch.ones(1).long(),
            "image_id": torch.tensor(index),
        }
        return torch.full((3, 8, 8), index / 4), target

    def target(self, index):
        return {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "image_id": torch.tensor(index)}


def test_the_next_picture_stands_in_for_one_that_cannot_be_read(caplog):
    dataset = Skipping(Broken(1, 3))
    read = [dataset[index] for index in (0, 1, 2, 3, 1)]
    assert [int(target["image_id"]) for _, target in read] == [0, 2, 2, 0, 2]
    assert [float(image[0, 0, 0]) for image, _ in read] == [0, 0.5, 0.5, 0, 0.5]
    assert caplog.messages == ["left out: 1.jpg: torn", "left out: 3.jpg: torn"]
    assert dataset.classes == Broken.classes and int(dataset.target(3)["image_id"]) == 3
    with pytest.raises(ValueError, match="none of the 4 pictures can be read"):
        Skipping(Broken(0, 1, 2, 3))[2]


def test_what_a_plan_asks_for(tmp_path):
    dataset = load_dataset(own_folder(tmp_path / "data"), "train")

    def read(training=True, **wishes):
        plan = decide(Wishes("data", device="cpu", **wishes), dataset)
        return prepared(dataset, plan, tmp_path / "run", training)

    assert isinstance(read(), Augment) and read(augment=False) is read(training=False) is dataset
    assert read(seed=3).seed == 3
    assert isinstance(read(augment=False, on_error="skip"), Skipping)
    proposed = read(detector="fast_rcnn")
    assert isinstance(proposed, Augment) and proposed.dataset.options == {"top": TOP}
    assert not isinstance(read(detector="rcnn"), Augment)
    assert 0 < len(read(detector="rcnn")[0][1]["proposals"]) <= TOP
    assert list((tmp_path / "run/proposals").glob("*.pt"))


def test_pictures_are_taken_evenly():
    dataset = TensorDataset(torch.arange(100))
    assert [int(dataset[i][0]) for i in evenly(dataset, 4).indices] == [0, 33, 66, 99]
    assert len(evenly(dataset, 200)) == 100


def test_a_fingerprint_follows_the_annotations(tmp_path):
    folder = own_folder(tmp_path / "data")
    before = data_fingerprint(load_dataset(folder, "train"))
    assert before == data_fingerprint(load_dataset(folder, "train")) and len(before) == 64
    path = folder / "Annotations/00.xml"
    path.write_text(path.read_text().replace("<name>leaf</name>", "<name>stone</name>", 1))
    assert data_fingerprint(load_dataset(folder, "train")) != before
    assert data_fingerprint(TensorDataset(torch.zeros(2))) is None
