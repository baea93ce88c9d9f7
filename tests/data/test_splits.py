import json
import shutil

import pytest
import torch

from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.data.splits import Splits, load_splits
from tests.data.conftest import HEIGHT, WIDTH, Voc
from tests.data.test_load_dataset import labelled

CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


def notes_of(splits: Splits) -> str:
    return " ".join(splits.notes)


def sizes(splits):
    return {name: len(part) for name, part in splits.parts().items()}


def coco(file, names, pictures, categories=CATEGORIES, annotated=True):
    """A JSON file with an object on each picture, of each class in turn; the pictures are made in a folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, name in enumerate(names, start=1):
        picture = pictures / name
        picture.parent.mkdir(parents=True, exist_ok=True)
        save(picture)
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        category = categories[number % len(categories)]["id"]
        annotations.append({"id": number, "image_id": number, "category_id": category, "bbox": [2, 3, 8, 9]})
    content = {"images": images, "annotations": annotations if annotated else [], "categories": categories}
    file.write_text(json.dumps(content))
    return file


def save(path, size=(WIDTH, HEIGHT)):
    from PIL import Image

    Image.new("RGB", size, (255, 0, 0)).save(path)


def numbered(count, prefix="a"):
    return [f"{prefix}{i}.jpg" for i in range(count)]


def test_a_voc_folder_with_its_three_lists(voc):
    for name, split in (("a", "train"), ("b", "val"), ("c", "test")):
        voc.add(name, [(2, 3, 10, 12), (0, 0, 5, 5)], ["dog", "cat"])
        voc.split(name, name=split)
    splits = load_splits(str(voc.root))
    assert splits.name == str(voc.root) and splits.layout == "PASCAL VOC"
    assert splits.classes == splits.val.classes == ("background", "cat", "dog")
    assert [part.ids for part in splits.parts().values()] == [("a",), ("b",), ("c",)]
    assert splits.notes == ("2 classes: cat, dog.",)
    chosen = load_splits(voc.root, classes=["dog"])
    assert chosen.classes == ("background", "dog") and chosen.train.target(0)["labels"].tolist() == [1]
    assert "3 objects are left out, of other classes: cat." in chosen.notes


def test_a_voc_folder_with_trainval_alone(voc):
    for name in "abcdef":
        voc.add(name)
    voc.split(*"abcdef", name="trainval")
    splits = load_splits(voc.root)
    assert sizes(splits) == {"train": 5, "val": 1} and splits.test is None
    assert '"trainval" is used for training' in notes_of(splits) and "There is no test split." in splits.notes
    assert "1 of the 6 training pictures were taken, always the same ones" in notes_of(splits)
    assert set(splits.train.ids) | set(splits.val.ids) == set("abcdef")
    assert load_splits(voc.root).val.ids == splits.val.ids


def test_a_split_without_annotations_is_left_out(voc):
    for name in "abcd":
        voc.add(name)
        voc.image(f"{name}1")
    voc.split(*"abcd")
    voc.split("a1", "b1", name="val")
    voc.split("c1", "d1", name="test")
    splits = load_splits(voc.root)
    assert sizes(splits) == {"train": 3, "val": 1} and set(splits.train.ids) | set(splits.val.ids) == set("abcd")
    for split in ("val", "test"):
        assert f"The split '{split}': none of its 2 pictures has an annotation file" in notes_of(splits)


def test_too_few_pictures_to_take_some_for_validation(voc):
    voc.add("a")
    voc.split("a")
    with pytest.raises(ValueError, match="has 1 training picture, expected 3"):
        load_splits(voc.root)


def test_what_was_read_in_another_way_than_stated_is_said(voc):
    voc.add("a", [(2, 3, 10, 12), (0, 0, 5, 5)])
    voc.edit("a", "<xmax>10</xmax>", "<xmax>99</xmax>")
    voc.edit("a", "<xmax>5</xmax>", "<xmax>0</xmax>")
    voc.image("b")
    for split in ("train", "val"):
        voc.split("a", "b", name=split)
    (voc.root / "Annotations" / "bad.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"bad\.xml: not a readable XML"):
        load_splits(voc.root)
    (voc.root / "JPEGImages" / "bad.jpg").write_bytes(b"?")
    voc.split("a", "b", "bad", name="train")
    told = notes_of(load_splits(voc.root, on_error="skip"))
    for sentence in (
        "1 bad file is left out.",
        "2 pictures are taken to be without objects, for want of an annotation file.",
        "2 boxes are left out for want of area (a.jpg).",
        "2 boxes are clipped at the edge of the picture (a.jpg).",
    ):
        assert sentence in told


@pytest.mark.parametrize("pictures, annotations", [("JPEGImages", "Annotations"), ("images", "annotations")])
def test_a_voc_folder_without_lists_is_divided(voc, pictures, annotations):
    for i in range(10):
        voc.add(f"{i}")
    shutil.rmtree(voc.root / "ImageSets")
    (voc.root / "JPEGImages").rename(voc.root / pictures)
    (voc.root / "Annotations").rename(voc.root / annotations)
    splits = load_splits(voc.root)
    assert splits.layout == "PASCAL VOC" and sizes(splits) == {"train": 6, "val": 2, "test": 2}
    assert "divided at random, always alike: 6 train, 2 val, 2 test." in notes_of(splits)
    assert all(len(part.target(0)["boxes"]) == 1 for part in splits.parts().values())
    (voc.root / pictures / "3.jpg").unlink()
    with pytest.raises(ValueError, match=r"3\.jpg: no such file|there is no picture beside it"):
        load_splits(voc.root)


def test_a_flat_folder_is_divided_and_a_folder_of_splits_is_not(tmp_path):
    (tmp_path / "flat").mkdir()
    for i in range(20):
        labelled(tmp_path / "flat", f"{i}")
    splits = load_splits(tmp_path / "flat")
    assert splits.layout == "labelImg" and sizes(splits) == {"train": 14, "val": 3, "test": 3}
    assert "divided at random, always alike: 14 train, 3 val, 3 test." in notes_of(splits)
    assert splits.test.ids == load_dataset(tmp_path / "flat", "test").ids
    for split in ("train", "valid"):
        (tmp_path / "split" / split).mkdir(parents=True)
        labelled(tmp_path / "split" / split, "a")
    splits = load_splits(tmp_path / "split")
    assert sizes(splits) == {"train": 1, "val": 1} and "divided" not in notes_of(splits)


def yolo(folder, names):
    for name in names:
        picture = folder / "images" / name
        picture.parent.mkdir(parents=True, exist_ok=True)
        save(picture)
        text = (folder / "labels" / name).with_suffix(".txt")
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("1 0.5 0.5 0.25 0.5\n")


@pytest.mark.parametrize("form", ["folder", "yaml"])
def test_a_yolo_folder_and_its_yaml(tmp_path, form):
    yolo(tmp_path, ["train/a.jpg", "train/b.jpg", "val/c.jpg"])
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\ntrain: images/train\nval: images/val\n")
    splits = load_splits(tmp_path if form == "folder" else tmp_path / "data.yaml")
    assert splits.layout == "YOLO" and sizes(splits) == {"train": 2, "val": 1} and "divided" not in notes_of(splits)
    assert splits.classes == ("background", "cat", "dog")


def test_a_yolo_folder_without_splits_is_divided(tmp_path):
    yolo(tmp_path, numbered(10))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    splits = load_splits(tmp_path)
    assert sizes(splits) == {"train": 6, "val": 2, "test": 2} and "divided at random" in notes_of(splits)


def test_one_json_is_divided_always_alike(tmp_path):
    file = coco(tmp_path / "all.json", numbered(20), tmp_path)
    splits = load_splits(file)
    assert splits.layout == "COCO" and sizes(splits) == {"train": 14, "val": 3, "test": 3}
    assert splits.classes == ("background", "cat", "dog") and "divided at random" in notes_of(splits)
    ids = [id for part in splits.parts().values() for id in part.ids]
    assert sorted(ids) == list(range(1, 21))
    for part in splits.parts().values():
        for index, id in enumerate(part.ids):
            target = part.target(index)
            assert target["image_id"] == id and part.path(index).name == f"a{id - 1}.jpg"
            assert target["labels"].tolist() == [id % 2 + 1] and target["boxes"].tolist() == [[2, 3, 10, 12]]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in list(tmp_path.glob("a*")):
        shutil.copy(path, moved)
    assert [part.ids for part in load_splits(moved).parts().values()] == [p.ids for p in splits.parts().values()]


def test_the_layouts_divide_the_same_pictures_alike(tmp_path):
    """Or a detector that was trained on one form of a data set would be tested on another with what it has seen."""
    yolo(tmp_path / "yolo", numbered(20))
    (tmp_path / "yolo/classes.txt").write_text("cat\ndog\n")
    file = coco(tmp_path / "coco/all.json", numbered(20), tmp_path / "coco/images")
    divided = [
        {name: {part.path(i).name for i in range(len(part))} for name, part in load_splits(data).parts().items()}
        for data in (tmp_path / "yolo", file)
    ]
    assert divided[0] == divided[1] and {len(part) for part in divided[0].values()} == {14, 3}


def test_a_class_without_objects_to_train_on_is_said(tmp_path):
    names = numbered(6)
    coco(tmp_path / "annotations/instances_train.json", names[::2], tmp_path / "train")
    categories = [*CATEGORIES, {"id": 77, "name": "dgo"}]
    coco(tmp_path / "annotations/instances_val.json", names[1::2], tmp_path / "val", categories)
    splits = load_splits(tmp_path)
    assert "has an object of: dgo. Is a name misspelt?" in notes_of(splits)
    assert sum(splits.train.class_counts().values()) == 3 and splits.train.class_counts()["dgo"] == 0


@pytest.mark.parametrize(
    "json_at, pictures_at",
    [
        ("all.json", "."),
        ("all.json", "images"),
        ("annotations/all.json", "images"),
        ("annotations/all.json", "JPEGImages"),
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train2017.json", "images/train2017"),
        ("labels/all.json", "my pictures"),
        ("all.json", "my pictures"),
        ("annotations/all.json", "."),
    ],
)
def test_pictures_are_found_beside_a_json_file(tmp_path, json_at, pictures_at):
    (tmp_path / "aaa").mkdir()
    file = coco(tmp_path / "data" / json_at, numbered(4), tmp_path / "data" / pictures_at)
    splits = load_splits(file)
    assert splits.train.path(0).parent.resolve() == (tmp_path / "data" / pictures_at).resolve()


def test_pictures_that_are_not_found(tmp_path):
    file = coco(tmp_path / "annotations" / "all.json", ["a.jpg"], tmp_path / "far" / "away")
    with pytest.raises(
        ValueError, match=r"all\.json: its first picture 'a\.jpg' was not found; looked in .*annotations"
    ):
        load_splits(file)


def test_a_folder_as_coco_has_it(tmp_path):
    for split, count in (("train", 4), ("val", 2)):
        file = tmp_path / "annotations" / f"instances_{split}2017.json"
        coco(file, numbered(count, split), tmp_path / f"{split}2017")
    (tmp_path / "annotations" / "captions_train2017.json").write_text('{"categories": []}')
    splits = load_splits(tmp_path)
    assert splits.layout == "COCO" and sizes(splits) == {"train": 4, "val": 2}
    assert splits.val.path(0).name == "val0.jpg" and "divided" not in notes_of(splits)


def test_a_folder_as_roboflow_has_it(tmp_path):
    categories = [{"id": 0, "name": "pets", "supercategory": "none"}]
    categories += [{"id": i, "name": name, "supercategory": "pets"} for i, name in ((1, "dog"), (2, "cat"))]
    for split in ("train", "valid", "test"):
        file = coco(tmp_path / split / "_annotations.coco.json", numbered(6, split), tmp_path / split, categories[1:])
        content = json.loads(file.read_text())
        file.write_text(json.dumps(content | {"categories": categories}))
    splits = load_splits(tmp_path)
    assert sizes(splits) == {"train": 6, "val": 6, "test": 6} and splits.val.path(0).parent.name == "valid"
    assert splits.classes == ("background", "dog", "cat") == splits.test.classes  # "pets" has no objects


def test_files_that_number_their_categories_differently(tmp_path):
    coco(tmp_path / "train.json", numbered(2, "t"), tmp_path)
    other = [{"id": 7, "name": "dog"}, {"id": 9, "name": "cat"}, {"id": 11, "name": "emu"}]
    coco(tmp_path / "val.json", numbered(3, "v"), tmp_path, other)
    splits = load_splits(tmp_path)
    assert splits.classes == splits.val.classes == ("background", "cat", "dog", "emu")
    assert [splits.val.target(i)["labels"].tolist() for i in range(3)] == [[1], [3], [2]]
    chosen = load_splits(tmp_path, classes=["dog"])
    assert [len(chosen.val.target(i)["labels"]) for i in range(3)] == [0, 0, 1]


def test_a_json_file_without_annotations_is_no_split(tmp_path):
    coco(tmp_path / "train.json", numbered(4, "t"), tmp_path)
    coco(tmp_path / "test.json", numbered(2, "v"), tmp_path, annotated=False)
    splits = load_splits(tmp_path)
    assert splits.test is None and "test.json has no annotations" in notes_of(splits) and len(splits.val) == 1


def test_json_files_whose_use_nothing_says(tmp_path):
    for name in ("a", "b"):
        coco(tmp_path / f"{name}.json", numbered(2, name), tmp_path)
    with pytest.raises(ValueError, match=r"holds 2 JSON files \(a\.json, b\.json\), and no name says"):
        load_splits(tmp_path)
    (tmp_path / "a.json").rename(tmp_path / "val.json")
    (tmp_path / "b.json").rename(tmp_path / "test.json")
    with pytest.raises(ValueError, match="for test and val, but none for train"):
        load_splits(tmp_path)
    coco(tmp_path / "train.json", numbered(2, "t"), tmp_path)
    coco(tmp_path / "train_2.json", numbered(2, "t"), tmp_path)
    with pytest.raises(ValueError, match="two JSON files for the split 'train'"):
        load_splits(tmp_path)


def test_masks_where_all_files_have_them(tmp_path):
    file = coco(tmp_path / "all.json", numbered(6), tmp_path)
    with pytest.raises(ValueError, match=r"masks: there are none in .*all\.json"):
        load_splits(file, masks=True)
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[2, 3, 10, 3, 10, 12, 2, 12]]
    file.write_text(json.dumps(content))
    splits = load_splits(file, masks=True)
    for part in splits.parts().values():
        assert part.target(0)["masks"].shape == (1, HEIGHT, WIDTH) and part.target(0)["masks"].sum() == 72


def test_a_part_counts_what_is_its_own(voc):
    voc.add("a", [(2, 3, 10, 12), (0, 0, 5, 5)], ["cat", "emu"])
    voc.add("b", [(1, 1, 9, 9)])
    voc.edit("b", "<xmax>9</xmax>", "<xmax>99</xmax>")
    voc.image("c")
    voc.add("d", [(4, 4, 9, 9), (5, 5, 8, 8)])
    whole = voc.load("a", "b", "c", "d", other_classes="skip")
    part = whole.part([3, 0])
    assert part.ids == ("d", "a") and [part.path(i).stem for i in range(2)] == ["d", "a"] and len(part) == 2
    for index, place in enumerate((3, 0)):
        assert torch.equal(part.target(index)["boxes"], whole.target(place)["boxes"])
        assert part[index][1]["image_id"] == index
    assert (part.clipped, part.left_out, part.left_out_classes, part.unannotated) == (0, 1, {"emu": 1}, 0)
    rest = whole.part([1, 2])
    assert (rest.clipped, rest.left_out, rest.unannotated) == (1, 0, 1)
    assert (whole.clipped, whole.left_out, whole.unannotated, len(whole)) == (1, 1, 1, 4)
    assert len(whole.part([])) == 0


def test_a_folder_in_a_folder(tmp_path):
    voc = Voc(tmp_path / "unpacked" / "set")
    for name in "abc":
        voc.add(name)
    voc.split(*"abc")
    assert sizes(load_splits(tmp_path / "unpacked")) == {"train": 2, "val": 1}


def test_a_wrong_folder_or_file_is_told_what_was_there(tmp_path):
    (tmp_path / "holidays").mkdir()
    save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"no known layout\. Expected a folder in VOC's.*; there: a\.jpg, holidays/"):
        load_splits(tmp_path)
    with pytest.raises(ValueError, match="there: nothing"):
        load_splits(tmp_path / "holidays")
    with pytest.raises(FileNotFoundError, match="there is no '.*nowhere'; expected"):
        load_splits(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"a\.jpg is neither a JSON file"):
        load_splits(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(ValueError, match='no list of "images", so it is not a COCO JSON file'):
        load_splits(tmp_path / "a.json")


def test_data_sets_by_name(voc, monkeypatch, tmp_path):
    monkeypatch.setenv("RCNN_TUTORIAL_DATA", str(tmp_path / "data"))
    with pytest.raises(FileNotFoundError, match="get it by: rcnn-tutorial data fetch voc2007"):
        load_splits("voc2007")
    for name in "abc":
        voc.add(name)
        voc.split(name, name={"a": "train", "b": "val", "c": "test"}[name])
    (tmp_path / "data").mkdir()
    voc.root.rename(tmp_path / "data" / "voc2007")
    assert load_splits("voc2007").test.ids == ("c",)
