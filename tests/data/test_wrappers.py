"""Torch's wrappers change nothing but which images there are."""

import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, random_split

from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.data.transforms import Augment
from rcnn_tutorial.data.wrappers import OnDevice, at_most, classes_of, prepare, set_epoch, target_of
from rcnn_tutorial.evaluation import predict
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.training import TrainSettings, train


class Pictures(Dataset):
    """Pictures that count how often they are read."""

    def __init__(self, count, first=0, classes=("background", "a")):
        self.count, self.first, self.classes, self.read = count, first, classes, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.read += 1
        generator = torch.Generator().manual_seed(self.first + range(self.count)[index])
        return torch.rand(3, 16, 24, generator=generator), self.target(index)

    def target(self, index):
        number = self.first + range(self.count)[index]
        return {"boxes": torch.tensor([[1.0, 2, 9 + number, 12]]), "labels": torch.tensor([1])}


class Watch(torch.nn.Module):
    """What a training shows a model."""

    def __init__(self):
        super().__init__()
        self.weight, self.shown, self.numbers = torch.nn.Parameter(torch.zeros(1)), [], []

    def forward(self, images, targets):
        self.shown.append(tuple(round(float(image.mean()), 6) for image in images))
        self.numbers.append([len(target.get("proposals", ())) for target in targets])
        return {"loss": self.weight.sum()}


def halves(dataset):
    return random_split(dataset, [2, 2], generator=torch.Generator().manual_seed(0))[0]


WRAPPED = {  # and how many different pictures there are then
    "nothing": (lambda data: data, 4),
    "Subset": (lambda data: Subset(data, [3, 0, 1]), 3),
    "ConcatDataset": (lambda data: ConcatDataset([data, data]), 4),
    "random_split": (halves, 2),
    "Subset of ConcatDataset": (lambda data: Subset(ConcatDataset([Subset(data, [3, 2]), data]), [0, 1, 2]), 3),
}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("wrap", "pictures"), WRAPPED.values(), ids=WRAPPED)
def test_each_epoch_shows_other_pictures(wrap, pictures, workers):
    model, data, epochs = Watch(), wrap(Augment(Pictures(4), seed=0)), 3
    train(model, data, TrainSettings(epochs * len(data), batch_size=1, workers=workers), progress=False)
    assert len(set(model.shown)) == epochs * pictures


def test_the_first_pictures_are_as_many_as_there_are():
    assert [len(at_most(Pictures(4), count)) for count in (3, 4, 200)] == [3, 4, 4]
    assert (
        classes_of(at_most(Pictures(4), 2)) == ("background", "a")
        and at_most(Pictures(4), 9)[3][1]["boxes"][0, 2] == 12
    )


def test_an_epoch_is_told_to_all_that_lies_inside():
    one, other = (Augment(Pictures(2), seed=0) for _ in range(2))
    set_epoch(Subset(ConcatDataset([Subset(one, [0]), other]), [0, 1]), 7)
    assert int(one._epoch) == int(other._epoch) == 7


def test_class_names_are_found_inside():
    for wrap, _ in WRAPPED.values():
        assert classes_of(wrap(Augment(Pictures(4), seed=0))) == ("background", "a")
    assert classes_of(WithProposals(Subset(Pictures(4), [1]))) == ("background", "a")
    assert classes_of([(0, 1)]) is None and classes_of(Subset([(0, 1)], [0])) is None
    with pytest.raises(ValueError, match="expected the same classes in all its parts"):
        classes_of(ConcatDataset([Pictures(2), Pictures(2, classes=("background", "b"))]))


def test_targets_are_found_inside_without_reading_pixels():
    first, second = Pictures(3), Pictures(4, first=10)
    data = Subset(ConcatDataset([first, Subset(second, [3, 1])]), [4, 2, 3])
    assert [target_of(data, index)["boxes"][0, 2].item() for index in range(3)] == [9 + 11, 9 + 2, 9 + 13]
    assert first.read == second.read == 0
    assert target_of([(torch.zeros(3, 4, 4), second.target(0))], 0)["boxes"][0, 2] == 19
    with pytest.raises(ValueError, match=r"dataset\[0\]: expected the keys"):
        target_of([(torch.zeros(3, 4, 4), {})], 0)


class Corner:
    """A proposer that counts its calls, of one process."""

    def __init__(self):
        self.calls = 0
        self.__qualname__ = "Corner"  # by which a cache knows it

    def __call__(self, image):
        self.calls += 1
        return torch.tensor([[0.0, 0, 8, 8], [1, 1, 9, 9]])


@pytest.mark.parametrize(("wrap", "pictures"), WRAPPED.values(), ids=WRAPPED)
def test_workers_do_not_compute_proposals_anew(wrap, pictures, monkeypatch):
    propose, model = Corner(), Watch()
    data = wrap(WithProposals(Pictures(4), propose))
    train(model, data, TrainSettings(8, batch_size=1, workers=1), progress=False)
    assert propose.calls == pictures  # here, before there is a worker
    monkeypatch.setattr(Corner, "__call__", None)
    train(model, data, TrainSettings(8, batch_size=1, workers=1), progress=False)
    assert model.numbers == [[2]] * 16


def test_proposals_on_disk_are_left_to_the_workers(tmp_path):
    propose = Corner()
    prepare(Subset(WithProposals(Pictures(4), propose, FeatureCache(tmp_path)), [1]), [0])
    assert propose.calls == 0


def test_proposals_of_a_subset_are_those_of_its_pictures():
    data = Subset(WithProposals(Pictures(4), lambda image: torch.tensor([[0, 0, 8, 8 * image.mean()]])), [3, 0])
    before = [data[index][1]["proposals"] for index in range(2)]
    prepare(data, range(2))
    assert [torch.equal(data[i][1]["proposals"], boxes) for i, boxes in enumerate(before)] == [True, True]
    assert torch.equal(target_of(data, 0)["proposals"], before[0]) and not torch.equal(*before)


def test_proposals_of_changing_pictures_are_refused():
    for inside in (Augment(Pictures(4), seed=0), Subset(Augment(Pictures(4), seed=0), [0])):
        with pytest.raises(ValueError, match="dataset: expected one without random changes, got Augment"):
            WithProposals(inside)


def test_predict_takes_any_wrapper():
    class Nothing(torch.nn.Module):
        def forward(self, images):
            empty = torch.zeros(0, 4)
            return [{"boxes": empty, "labels": empty[:, 0].long(), "scores": empty[:, 0]} for _ in images]

    data = Subset(ConcatDataset([Pictures(3), Pictures(4, first=10)]), [6, 0])
    _, targets = predict(Nothing(), data, progress=False)
    assert [target["boxes"][0, 2].item() for target in targets] == [9 + 13, 9]


def test_a_data_set_on_a_device():
    """Pictures and targets lie there, also under a wrapper, and the class names are still found."""
    data = OnDevice(Subset(Pictures(3), [2, 1]), "meta")
    image, target = data[0]
    assert len(data) == 2 and classes_of(data) == ("background", "a")
    assert {tensor.device.type for tensor in (image, *target.values(), *data.target(1).values())} == {"meta"}
    assert OnDevice(Pictures(3), "cpu").target(2)["boxes"].tolist() == Pictures(3).target(2)["boxes"].tolist()
    image, target = OnDevice(Pictures(3), "cpu")[1]
    assert torch.equal(image, Pictures(3)[1][0]) and torch.equal(target["labels"], torch.tensor([1]))
