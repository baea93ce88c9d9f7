import pytest

from rcnn_tutorial import data
from rcnn_tutorial.data.voc import find_classes


def test_a_folder_s_classes_are_the_sorted_names_found_in_it(voc):
    voc.add("a", [(2, 3, 10, 12), (0, 0, 5, 5)], ["zebra", "ant"])
    voc.add("b", [(2, 3, 10, 12)], ["mole"])
    voc.split("a")
    assert find_classes(voc.root) == ("ant", "mole", "zebra")
    dataset = data.load_dataset(voc.root, "train")
    assert dataset.classes == ("background", "ant", "mole", "zebra") and dataset.target(0)["labels"].tolist() == [3, 1]


def test_a_folder_without_objects_has_no_classes(voc):
    voc.add("a", [])
    with pytest.raises(ValueError, match="no objects in"):
        find_classes(voc.root)


def test_data_sets_by_name(voc, monkeypatch, tmp_path):
    monkeypatch.setenv("RCNN_TUTORIAL_DATA", str(tmp_path / "data"))
    assert data.data_root() == tmp_path / "data"
    with pytest.raises(FileNotFoundError, match=r"python data_scripts/download_bccd\.py"):
        data.load_dataset("bccd", "train")
    voc.add("a", names=["WBC"])
    voc.split("a")
    (tmp_path / "data").mkdir()
    voc.root.rename(tmp_path / "data" / "bccd")
    dataset = data.load_dataset("bccd", "train", transform=lambda image, target: "changed")
    assert dataset.classes == ("background", "RBC", "WBC", "Platelets") and dataset[0] == "changed"
    assert dataset.target(0)["labels"].tolist() == [2]
    with pytest.raises(ValueError, match="'nonsense'"):
        data.load_dataset("nonsense", "train")
    monkeypatch.delenv("RCNN_TUTORIAL_DATA")
    assert data.data_root().name == "rcnn_tutorial"


def test_shapes_are_made_where_the_data_sets_are(voc, monkeypatch):
    from rcnn_tutorial.data import shapes

    voc.add("a", names=[shapes.CLASSES[2]])
    voc.split("a")
    monkeypatch.setattr(shapes, "ensure_shapes", lambda root: voc.root if root == data.data_root() else None)
    dataset = data.load_dataset("shapes", "train")
    assert dataset.classes == tuple(shapes.CLASSES) and dataset.target(0)["labels"].tolist() == [2]
