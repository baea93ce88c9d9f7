import contextlib
import io
import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from rcnn_tutorial.data import convert as conversion
from rcnn_tutorial.data.convert import convert
from rcnn_tutorial.data.splits import load_splits
from rcnn_tutorial.data.voc import write_annotation
from tests.data.conftest import HEIGHT, WIDTH
from tests.data.test_report import add, noise

FRACTIONS = [(0.1, 0.3, 31.7, 23.9), (1 / 3, 2, 2 / 3 + 1, 4.1), (5, 6, 7, 8)]


@pytest.fixture
def source(voc):
    generator = np.random.default_rng(0)
    for i in range(6):
        corners = np.sort(generator.uniform(0, 1, (4, 2, 2)), axis=1).reshape(4, 4) * ((WIDTH, HEIGHT) * 2)
        boxes = corners.round(3).astype(np.float32)
        add(voc, f"a{i}", [*boxes.tolist(), *FRACTIONS], ["cat", "dog", "emu", "cat", "cat", "dog", "emu"],
            split=("train", "train", "train", "train", "val", "test")[i])  # fmt: skip
    add(voc, "empty", [])
    return voc


def content(splits):
    """{picture: sorted objects} of each split; boxes in pixels, names in place of labels."""
    found = {}
    for split, part in splits.parts().items():
        for index in range(len(part)):
            target = part.target(index)
            flags = {key: target[key].tolist() for key in ("difficult", "iscrowd") if key in target}
            rows = [
                (splits.classes[label], *box, *(key for key, values in flags.items() if values[i]))
                for i, (label, box) in enumerate(
                    zip(target["labels"].tolist(), target["boxes"].tolist(), strict=True)
                )
            ]  # fmt: skip
            found[split, part.path(index).name] = rows
    return found


def numbers(found):
    return np.array([row[1:5] for rows in found.values() for row in rows])


def names(found):
    return [(place, [row[0] for row in rows]) for place, rows in found.items()]


def test_there_and_back_again(source, tmp_path):
    """VOC to COCO and YOLO, and back to VOC, each read by the project's own reader."""
    first = load_splits(source.root)
    before = content(first)
    assert len(numbers(before)) == 42
    convert(first, tmp_path / "coco", "coco")
    coco = load_splits(tmp_path / "coco")
    assert coco.layout == "COCO" and coco.classes == first.classes and content(coco) == before
    convert(coco, tmp_path / "yolo", "yolo")
    yolo = load_splits(tmp_path / "yolo")
    assert yolo.layout == "YOLO" and names(content(yolo)) == names(before)
    assert np.abs(numbers(content(yolo)) - numbers(before)).max() <= 1e-5
    convert(yolo, tmp_path / "new", "voc")
    voc = load_splits(tmp_path / "new")
    assert voc.layout == "PASCAL VOC" and content(voc) == content(yolo) and voc.classes == first.classes
    convert(first, tmp_path / "same", "voc")
    assert content(load_splits(tmp_path / "same")) == before
    for path in source.root.glob("JPEGImages/*.jpg"):
        for copy in tmp_path.rglob(path.name):
            assert copy.read_bytes() == path.read_bytes()
    assert len(list(tmp_path.rglob("a0.jpg"))) == 5


def test_a_large_picture_to_a_thousandth_of_a_pixel(voc, tmp_path):
    big = (4000, 3000)
    Image.new("L", big).save(voc.root / "JPEGImages" / "a.jpg", quality=5)
    box = torch.tensor([[0.125, 1.5, 3999.75, 2999.0], [1234.5677, 17.003, 2345.678, 99.9]])
    write_annotation(voc.annotation("a"), "a.jpg", big, box, ["cat", "cat"])
    voc.split("a")
    voc.split("a", name="val")
    convert(load_splits(voc.root), tmp_path / "yolo", "yolo")
    read = load_splits(tmp_path / "yolo").train.target(0)["boxes"]
    assert (read.double() - box.double()).abs().max() <= 1e-3


def test_pycocotools_reads_what_was_written(source, tmp_path):
    source.edit("a0", "<difficult>0</difficult>", "<difficult>1</difficult>")
    splits = load_splits(source.root)
    convert(splits, tmp_path / "coco", "coco")
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(tmp_path / "coco" / "annotations" / "instances_train.json"))
    assert [c["name"] for c in theirs.loadCats(theirs.getCatIds())] == ["cat", "dog", "emu"]
    for index, image in enumerate(theirs.loadImgs(sorted(theirs.getImgIds()))):
        assert (image["width"], image["height"]) == (WIDTH, HEIGHT)
        assert (tmp_path / "coco" / "train" / image["file_name"]).is_file()
        rows = theirs.loadAnns(theirs.getAnnIds(imgIds=image["id"]))
        target = splits.train.target(index)
        boxes = np.array([row["bbox"] for row in rows]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        assert np.abs(boxes - target["boxes"].numpy()).max(initial=0) <= 1e-5
        assert [row["category_id"] for row in rows] == target["labels"].tolist()
        assert [row.get("difficult", 0) for row in rows] == target["difficult"].int().tolist()
        for row, (x1, y1, x2, y2) in zip(rows, target["boxes"].tolist(), strict=True):
            assert row["area"] == pytest.approx((x2 - x1) * (y2 - y1), rel=1e-4) and row["iscrowd"] == 0


def coco_with_masks(folder, crowd=0, polygons=True):
    """Six pictures with two objects each: a triangle, and a rectangle as polygon or as runs."""
    images, annotations = [], []
    for number in range(1, 7):
        noise(number).save(folder / f"p{number}.jpg")
        images.append({"id": 10 * number, "file_name": f"p{number}.jpg", "width": WIDTH, "height": HEIGHT})
        runs = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * 4 + 2, 3, HEIGHT - 3, 3, HEIGHT * (WIDTH - 5) - 5]}
        square = [[4, 2, 6, 2, 6, 5, 4, 5]] if polygons else runs
        for i, (box, shape) in enumerate((([10, 3, 12, 9], [[10, 3, 22, 3, 16, 12]]), ([4, 2, 2, 3], square))):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": 10 * number, "category_id": 3 + i, "bbox": box, "area": 7.5,
                 "segmentation": shape, "iscrowd": crowd if i else 0}
            )  # fmt: skip
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 3, "name": "zebra"}, {"id": 4, "name": "ant"}]
    (folder / "all.json").write_text(json.dumps(content))
    return load_splits(folder, masks=True)


def same_masks(one, other):
    for split, part in one.parts().items():
        for index in range(len(part)):
            assert torch.equal(part.target(index)["masks"], other.parts()[split].target(index)["masks"])


@pytest.mark.parametrize("polygons", [True, False])
def test_masks_go_from_coco_to_coco_and_voc(tmp_path, polygons):
    (tmp_path / "data").mkdir()
    splits = coco_with_masks(tmp_path / "data", polygons=polygons)
    assert splits.train.target(0)["masks"][1].sum() == 6
    convert(splits, tmp_path / "coco", "coco")
    again = load_splits(tmp_path / "coco", masks=True)
    same_masks(splits, again)
    assert again.train.ids == splits.train.ids and again.classes == ("background", "zebra", "ant")
    assert again.train.target(0)["area"].tolist() == [7.5, 7.5]  # as stated, and not the mask's
    assert again.train.segmentations(0)[0] == [[10, 3, 22, 3, 16, 12]]  # polygons stay polygons
    notes = convert(splits, tmp_path / "voc", "voc")
    voc = load_splits(tmp_path / "voc", masks=True, classes=("zebra", "ant"))
    same_masks(splits, voc)
    assert notes == ("VOC's layout has no list of classes: whoever reads it sorts the names that it finds.",)
    with Image.open(next((tmp_path / "voc" / "SegmentationObject").iterdir())) as picture:
        assert picture.mode == "P" and picture.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


def test_masks_go_to_yolo_where_all_are_polygons(tmp_path):
    (tmp_path / "data").mkdir()
    splits = coco_with_masks(tmp_path / "data")
    assert convert(splits, tmp_path / "yolo", "yolo") == ()
    yolo = load_splits(tmp_path / "yolo", masks=True)
    assert yolo.classes == splits.classes and content(yolo).keys() == content(splits).keys()
    for split, part in splits.parts().items():
        for index in range(len(part)):
            read = yolo.parts()[split].target(index)
            assert (read["boxes"] - part.target(index)["boxes"]).abs().max() <= 1e-5
            assert (read["masks"] ^ part.target(index)["masks"]).sum() <= 2  # corners on the border of two pixels


def test_masks_that_yolo_cannot_hold(tmp_path):
    (tmp_path / "data").mkdir()
    notes = convert(coco_with_masks(tmp_path / "data", polygons=False), tmp_path / "yolo", "yolo")
    assert any("6 objects are not a single polygon" in note and "boxes written" in note for note in notes)
    yolo = load_splits(tmp_path / "yolo")
    assert np.allclose(yolo.train.target(0)["boxes"], [[10, 3, 22, 12], [4, 2, 6, 5]], atol=1e-5)
    assert "masks" not in yolo.train.target(0)


def test_crowds_and_difficult_objects(source, tmp_path):
    (tmp_path / "data").mkdir()
    splits = coco_with_masks(tmp_path / "data", crowd=1)
    notes = convert(splits, tmp_path / "yolo", "yolo")
    assert notes == ("6 crowds are left out, because YOLO's layout has none.",)
    assert all(len(rows) == 1 for rows in content(load_splits(tmp_path / "yolo")).values())
    notes = convert(splits, tmp_path / "new", "voc")
    assert "6 crowds are marked as difficult, because VOC's layout has no crowds." in notes
    assert load_splits(tmp_path / "new").train.target(0)["difficult"].tolist() == [False, True]
    convert(splits, tmp_path / "coco", "coco")
    assert load_splits(tmp_path / "coco").train.target(0)["iscrowd"].tolist() == [False, True]
    source.edit("a0", "<difficult>0</difficult>", "<difficult>1</difficult>")
    hard = load_splits(source.root)
    notes = convert(hard, tmp_path / "yolo2", "yolo")
    assert notes == ("7 difficult objects are kept without that mark, because YOLO's layout has none.",)
    convert(hard, tmp_path / "new2", "voc")
    assert content(load_splits(tmp_path / "new2")) == content(hard)


def test_masks_that_overlap_or_have_no_pixel(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    coco_with_masks(folder)
    file = folder / "all.json"
    stated = json.loads(file.read_text())
    first = [a for a in stated["annotations"] if a["image_id"] == 10]
    first[1]["segmentation"], first[1]["bbox"] = [[10, 3, 22, 3, 16, 12]], [10, 3, 12, 9]
    second = [a for a in stated["annotations"] if a["image_id"] == 20]
    second[1]["segmentation"], second[1]["bbox"] = [[1, 1, 1.1, 1, 1.1, 1.1]], [1, 1, 1.5, 1.5]
    third = [a for a in stated["annotations"] if a["image_id"] == 30]
    third[1]["segmentation"], third[1]["bbox"] = [[14, 4, 18, 4, 18, 6, 14, 6]], [14, 4, 4, 2]
    file.write_text(json.dumps(stated))
    notes = convert(load_splits(folder, masks=True), tmp_path / "voc", "voc")
    assert any("masks are changed where" in note or "mask is changed where" in note for note in notes)
    voc = load_splits(tmp_path / "voc", masks=True)
    for part in voc.parts().values():
        for index in range(len(part)):
            masks = part.target(index)["masks"]
            assert masks.flatten(1).any(dim=1).all() and masks.sum(dim=0).max() <= 1
            if part.ids[index] == "p3":
                assert masks[1].sum() == 8  # the smaller one lies on top and is whole


def test_more_objects_than_a_byte_can_number(voc, tmp_path):
    boxes = [[x, y, x + 1, y + 2] for x in range(0, 32) for y in range(0, 20, 2)]
    add(voc, "a", boxes)
    add(voc, "b", split="val")
    (voc.root / "SegmentationObject").mkdir()
    pixels = np.zeros((HEIGHT, WIDTH), np.uint16)
    for number, (x, y, _, _) in enumerate(boxes, start=1):
        pixels[y : y + 2, x] = number
    Image.fromarray(pixels).save(voc.root / "SegmentationObject" / "a.png")
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[3:12, 2:10] = 1
    Image.fromarray(pixels).save(voc.root / "SegmentationObject" / "b.png")
    splits = load_splits(voc.root, masks=True)
    convert(splits, tmp_path / "again", "voc")
    same_masks(splits, load_splits(tmp_path / "again", masks=True))


def test_boxes_of_one_pixel_and_classes_without_objects(tmp_path):
    from tests.data.test_splits import coco

    file = coco(tmp_path / "data" / "all.json", [f"{i}.jpg" for i in range(4)], tmp_path / "data")
    stated = json.loads(file.read_text())
    stated["categories"].append({"id": 9, "name": "unseen"})
    stated["annotations"][0]["bbox"] = [3, 3, 1, 1]
    file.write_text(json.dumps(stated))
    notes = convert(load_splits(file), tmp_path / "voc", "voc")
    assert "1 box is of a single pixel left out" in " ".join(notes)
    assert "No object is of the class 'unseen', so it is not in the new data set." in notes
    assert sum(len(rows) for rows in content(load_splits(tmp_path / "voc")).values()) == 3


@pytest.mark.parametrize("layout", ["voc", "yolo"])
def test_areas_that_get_lost_are_told_where_they_are_not_the_box_s(tmp_path, layout):
    from tests.data.test_splits import coco

    file = coco(tmp_path / "data" / "all.json", [f"{i}.jpg" for i in range(4)], tmp_path / "data")
    splits = load_splits(file)
    assert not any("areas" in note for note in convert(splits, tmp_path / "one", layout))
    stated = json.loads(file.read_text())
    stated["annotations"][0]["area"] = 11
    file.write_text(json.dumps(stated))
    notes = convert(load_splits(file), tmp_path / "two", layout)
    assert any(note.startswith("1 picture is written without the stated areas") for note in notes)


@pytest.mark.parametrize("layout", ["voc", "coco", "yolo"])
def test_pictures_of_one_name_stay_apart(tmp_path, layout):
    for split in ("train", "val"):
        for name in ("a", "B", "cam1/a", "cam2/b"):
            path = tmp_path / "data" / split / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise(len(name)).save(path)
            write_annotation(
                path.with_suffix(".xml"), path.name, (WIDTH, HEIGHT), torch.tensor([[1.0, 2, 5, 9]]), ["cat"]
            )
    splits = load_splits(tmp_path / "data")
    convert(splits, tmp_path / "out", layout)
    again = load_splits(tmp_path / "out")
    stems = [p.path(i).stem for p in again.parts().values() for i in range(len(p))]
    assert sorted(stems) == sorted(
        f"{split}_{name}" for split in ("train", "val") for name in ("B", "a", "a_2", "b_2")
    )  # fmt: skip
    assert len({stem.casefold() for stem in stems}) == 8


@pytest.mark.parametrize("layout", ["voc", "coco", "yolo"])
def test_a_picture_that_the_camera_turned_is_written_upright(voc, tmp_path, layout):
    """As it is seen where the boxes are about that, and else as it is stored."""
    seen = noise(3)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, picture in (("seen", seen.rotate(90, expand=True)), ("stored", seen)):
        voc.add(name)
        picture.save(voc.root / "JPEGImages" / f"{name}.jpg", exif=exif, quality=95)
        voc.split(name, name={"seen": "train", "stored": "val"}[name])
    splits = load_splits(voc.root)
    notes = convert(splits, tmp_path / "out", layout)
    assert "2 pictures with a rotation noted by the camera were written upright." in notes
    again = load_splits(tmp_path / "out")
    for split, part in again.parts().items():
        image, target = part[0]
        assert image.shape == (3, HEIGHT, WIDTH) and target["boxes"].tolist() == [[2, 3, 10, 12]]
        assert (image - splits.parts()[split][0][0]).abs().mean() < 0.03
        with Image.open(part.path(0)) as picture:
            assert picture.size == (WIDTH, HEIGHT) and not picture.getexif().get(0x0112)


def test_links_in_place_of_copies(source, tmp_path):
    splits = load_splits(source.root)
    convert(splits, tmp_path / "yolo", "yolo", link=True)
    path = tmp_path / "yolo" / "images" / "train" / "a0.jpg"
    assert path.is_symlink() and path.resolve() == (source.root / "JPEGImages" / "a0.jpg").resolve()
    assert names(content(load_splits(tmp_path / "yolo"))) == names(content(splits))


def test_a_folder_with_something_in_it_is_refused(source, tmp_path):
    splits = load_splits(source.root)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("my only copy")
    with pytest.raises(ValueError, match=r"out must be a new or an empty folder, got .*full"):
        convert(splits, tmp_path / "full", "coco")
    with pytest.raises(ValueError, match="out must be a new"):
        convert(splits, tmp_path / "full" / "thesis.txt", "coco")
    assert os.listdir(tmp_path / "full") == ["thesis.txt"]
    with pytest.raises(ValueError, match="layout must be one of voc, coco, yolo, got 'csv'"):
        convert(splits, tmp_path / "new", "csv")
    (tmp_path / "empty").mkdir()
    convert(splits, tmp_path / "empty", "coco")
    assert (tmp_path / "empty" / "annotations").is_dir()


def test_nothing_is_left_where_the_disk_is_full(source, tmp_path, monkeypatch):
    splits, before = load_splits(source.root), sorted(tmp_path.iterdir())

    copyfile = shutil.copyfile

    def full(source, target):
        if source.name == "a3.jpg":
            raise OSError(28, "No space left on device", str(target))
        return copyfile(source, target)

    monkeypatch.setattr(conversion.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        convert(splits, tmp_path / "out", "yolo")
    assert sorted(tmp_path.iterdir()) == before
