import shutil
import unicodedata
from pathlib import Path

import pytest
import torch
from PIL import Image

from rcnn_tutorial import data
from rcnn_tutorial.data.files import pick_split
from rcnn_tutorial.data.voc import find_classes, write_annotation
from tests.data.conftest import HEIGHT, WIDTH


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
    with pytest.raises(FileNotFoundError, match="rcnn-tutorial data fetch bccd"):
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
    from rcnn_tutorial.data.generated import shapes

    voc.add("a", names=[shapes.CLASSES[2]])
    voc.split("a")
    monkeypatch.setattr(shapes, "ensure_shapes", lambda root: voc.root if root == data.data_root() else None)
    dataset = data.load_dataset("shapes", "train")
    assert dataset.classes == tuple(shapes.CLASSES) and dataset.target(0)["labels"].tolist() == [2]


def labelled(folder, name, objects=("cat",)):
    """A picture with its XML beside it, as labelImg leaves them."""
    path = folder / f"{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    boxes = torch.tensor([[2.0, 3, 10, 12]] * len(objects)).reshape(-1, 4)
    write_annotation(path.with_suffix(".xml"), path.name, (WIDTH, HEIGHT), boxes, objects)
    return path


def test_the_folder_of_labelimg_is_divided_always_alike(tmp_path):
    for i in reversed(range(20)):
        labelled(tmp_path, f"{i:02}", ("dog", "cat"))
    parts = {split: data.load_dataset(tmp_path, split) for split in ("train", "val", "test", "valid")}
    assert parts["train"].classes == ("background", "cat", "dog")
    assert [len(part) for part in parts.values()] == [14, 3, 3, 3] and parts["valid"].ids == parts["val"].ids
    assert sorted(parts["train"].ids + parts["val"].ids + parts["test"].ids) == [f"{i:02}" for i in range(20)]
    # the same on each machine: digests, and no generator of random numbers
    assert parts["val"].ids == ("09", "13", "17") and parts["test"].ids == ("03", "07", "08")
    assert parts["val"].target(0)["labels"].tolist() == [2, 1]
    with pytest.raises(ValueError, match=r"split 'trainval' is not in .*; there: train, val, test"):
        data.load_dataset(tmp_path, "trainval")


def test_the_order_of_a_folder_does_not_count(tmp_path, monkeypatch):
    for i in range(9):
        labelled(tmp_path, f"cam{i % 2}/{i}")
    before = data.load_dataset(tmp_path, "train").ids
    listed = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda *arguments: reversed(list(listed(*arguments))))
    assert data.load_dataset(tmp_path, "train").ids == before and "/" in before[0] and len(before) == 7


def test_composed_and_decomposed_names_draw_one_lot():
    composed, decomposed = ([unicodedata.normalize(form, f"é{i}") for i in range(9)] for form in ("NFC", "NFD"))
    assert composed != decomposed
    for split in ("train", "val", "test"):
        first, second = (pick_split(names, split, "here") for names in (composed, decomposed))
        assert first == [unicodedata.normalize("NFC", name) for name in second]


def test_too_few_pictures_to_divide(tmp_path):
    labelled(tmp_path, "a")
    labelled(tmp_path, "b")
    with pytest.raises(ValueError, match="expected 3 pictures at least, to divide into train, val and test, got 2"):
        data.load_dataset(tmp_path, "train")
    labelled(tmp_path, "c")
    assert [len(data.load_dataset(tmp_path, split)) for split in ("train", "val", "test")] == [1, 1, 1]


def test_subfolders_with_xml_are_the_splits(tmp_path):
    """Roboflow's export in VOC's format."""
    for split, count in {"train": 3, "valid": 2, "test": 1}.items():
        for i in range(count):
            labelled(tmp_path, f"{split}/{i}", ("ant",) if split == "train" else ("cat",))
    for split, count in {"train": 3, "val": 2, "valid": 2, "test": 1}.items():
        dataset = data.load_dataset(tmp_path, split)
        assert len(dataset) == count and dataset.classes == ("background", "ant", "cat")
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(ValueError, match=r"split 'test' is not in .*; there: train, valid"):
        data.load_dataset(tmp_path, "test")


def test_pictures_and_xml_that_miss_each_other(tmp_path, caplog):
    for name in "abc":
        labelled(tmp_path, f"train/{name}")
    assert data.load_dataset(tmp_path, "train").unannotated == 0 and not caplog.text
    (tmp_path / "train" / "a.xml").unlink()
    dataset = data.load_dataset(tmp_path, "train")
    assert [len(dataset.target(i)["boxes"]) for i in range(3)] == [0, 1, 1] and dataset.unannotated == 1
    assert "1 of 3 pictures of split 'train'" in caplog.text and "have no XML and count as pictures" in caplog.text
    (tmp_path / "train" / "b.jpg").unlink()
    with pytest.raises(ValueError, match=r"train/b\.xml: there is no picture beside it"):
        data.load_dataset(tmp_path, "train")
    assert data.load_dataset(tmp_path, "train", on_error="skip").ids == ("train/a", "train/c")


def test_bad_files_are_skipped_where_asked(voc):
    for name in "abc":
        voc.add(name)
    voc.annotation("b").write_text("<")
    voc.split("a", "b", "c")
    with pytest.raises(ValueError, match=r"b\.xml: not a readable XML file"):
        data.load_dataset(voc.root, "train")
    dataset = data.load_dataset(voc.root, "train", on_error="skip")
    assert dataset.ids == ("a", "c") and list(dataset.skipped) == [str(voc.annotation("b"))]


def test_a_subset_of_the_classes(voc):
    voc.add("a", [(2, 3, 10, 12), (0, 0, 5, 5), (1, 1, 9, 9)], ["zebra", "ant", "zebra"])
    voc.add("b", [(2, 3, 10, 12)], ["mole"])
    voc.split("a")
    dataset = data.load_dataset(voc.root, "train", classes=("mole", "ant"))
    assert dataset.classes == ("background", "mole", "ant") and dataset.target(0)["labels"].tolist() == [2]
    assert dataset.left_out == 2 and dataset.left_out_classes == {"zebra": 2}
    with pytest.raises(ValueError, match=r"classes: 'moles' is not in .*voc; there: ant, mole, zebra"):
        data.load_dataset(voc.root, "train", classes=("moles",))
    with pytest.raises(ValueError, match="classes must be different names"):
        data.load_dataset(voc.root, "train", classes=("ant", "ant"))


def test_a_subset_of_a_named_data_set(voc, monkeypatch, tmp_path):
    monkeypatch.setenv("RCNN_TUTORIAL_DATA", str(tmp_path / "data"))
    voc.add("a", [(2, 3, 10, 12), (0, 0, 5, 5)], ["WBC", "RBC"])
    voc.split("a")
    (tmp_path / "data").mkdir()
    voc.root.rename(tmp_path / "data" / "bccd")
    dataset = data.load_dataset("bccd", "train", classes=("Platelets", "RBC"))
    assert dataset.target(0)["labels"].tolist() == [2] and dataset.left_out_classes == {"WBC": 1}
    with pytest.raises(ValueError, match=r"classes: 'wbc' is not in"):
        data.load_dataset("bccd", "train", classes=("wbc",))


def test_yolo_folders_by_their_listing(tmp_path):
    path = labelled(tmp_path, "images/train/a")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "a.txt").write_text("1 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.25 0.25\n")
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")  # goes before the XML that lies there too
    dataset = data.load_dataset(str(tmp_path), "train", lambda image, target: (image.shape, target["labels"].tolist()))
    assert dataset[0] == ((3, HEIGHT, WIDTH), [2, 1]) and dataset.path(0) == path
    dataset = data.load_dataset(tmp_path, "train", classes=["dog"])
    assert dataset.target(0)["labels"].tolist() == [1] and dataset.left_out_classes == {"cat": 1}
    (tmp_path / "labels" / "train" / "a.txt").write_text("2 0.5 0.5 0.5 0.5")
    with pytest.raises(ValueError, match=r"a\.txt: line 1"):
        data.load_dataset(tmp_path, "train")
    assert len(data.load_dataset(tmp_path, "train", on_error="skip")) == 0


def test_yolo_folders_without_names_say_what_is_missing(tmp_path):
    labelled(tmp_path, "images/a").with_suffix(".xml").unlink()
    (tmp_path / "labels").mkdir()
    with pytest.raises(ValueError, match=r"root must hold data\.yaml or classes\.txt"):
        data.load_dataset(tmp_path, "train")


def test_an_empty_folder_is_no_data_set(tmp_path):
    with pytest.raises(ValueError, match=r'"shapes", "bccd" or a folder with Annotations \(VOC\), with data.yaml'):
        data.load_dataset(tmp_path, "train")
