import dataclasses
import json
import random

import numpy as np
import pytest
from PIL import Image

from rcnn_tutorial.data.alike import same_pictures
from rcnn_tutorial.data.report import MEANINGS, Finding, examine
from rcnn_tutorial.data.splits import load_splits
from tests.data.conftest import HEIGHT, WIDTH


def noise(seed, size=(WIDTH, HEIGHT)):
    """A picture unlike all others; its patches are large, so that compression leaves them."""
    cells = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.NEAREST)


def add(voc, name, boxes=((2, 3, 10, 12),), names=None, split="train", picture=None):
    path = voc.add(name, boxes, names)
    (picture or noise(int.from_bytes(name.encode()))).save(path, quality=95)
    lines = voc.root / "ImageSets" / "Main" / f"{split}.txt"
    lines.write_text((lines.read_text() if lines.exists() else "") + f"{name}\n")
    return path


def report_of(voc, **options):
    return examine(load_splits(voc.root, on_error="skip", **options))


def kinds(report):
    return [finding.kind for finding in report.findings if finding.kind != "rare"]


def test_the_counts(voc):
    add(voc, "a", [(2, 3, 10, 12), (0, 0, 32, 24)], ["dog", "cat"])
    add(voc, "b", [(1, 1, 9, 3)], ["cat"])
    voc.edit("b", "<xmax>9</xmax>", "<xmax>99</xmax>")
    voc.edit("b", "<difficult>0</difficult>", "<difficult>1</difficult>")
    add(voc, "c", [])
    add(voc, "d", [(2, 2, 9, 9)], split="val")
    voc.edit("d", "<xmin>3</xmin>", "<xmin>10</xmin>")
    voc.annotation("e").unlink(missing_ok=True)
    voc.image("e")
    voc.split("a", "b", "c", "e")
    report = report_of(voc)
    train, val = report.splits["train"], report.splits["val"]
    assert report.classes == ("cat", "dog") and report.layout == "PASCAL VOC" and not report.bad_files
    assert dataclasses.asdict(train) == {
        "pictures": 4,
        "empty": 2,
        "unannotated": 1,
        "objects": 3,
        "difficult": 1,
        "crowd": 0,
        "clipped": 1,
        "dropped": 0,
        "left_out": 0,
        "by_class": {"cat": 2, "dog": 1},
        "by_size": {"small": 3, "medium": 0, "large": 0},
        "by_class_and_size": {
            "cat": {"small": 2, "medium": 0, "large": 0},
            "dog": {"small": 1, "medium": 0, "large": 0},
        },
        "aspect": (0.889, 15.5),
        "sides": (2.0, 32.0),
        "picture_sizes": {"32x24": 4},
    }
    assert (val.pictures, val.empty, val.dropped, val.aspect, val.sides) == (1, 1, 1, None, None)
    assert report_of(voc, classes=["dog"]).splits["train"].left_out == 2


def test_sizes_have_the_bounds_of_coco(voc):
    for name, side in (("a", 31), ("b", 33), ("c", 95), ("d", 97)):
        path = add(voc, name, [])
        noise(side, (128, 128)).save(path)
        text = f"<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{side}</xmax><ymax>{side}</ymax>"
        voc.edit(name, ">32<", ">128<")
        voc.edit(name, ">24<", ">128<")
        voc.edit(name, "</annotation>", f"{text}</bndbox></object></annotation>")
    train = examine(load_splits(voc.root)).splits
    assert sum((np.array(list(s.by_size.values())) for s in train.values()), np.zeros(3)).tolist() == [1, 2, 1]


def test_suspicious_boxes(voc):
    add(voc, "a", [(2, 3, 10, 4), (0, 0, 32, 23), (5, 5, 15, 15), (5, 6, 15, 15), (5, 5, 9, 9), (20, 5, 21.9, 9)])
    add(voc, "b", [(5, 5, 15, 15), (5, 5, 15, 15), (4, 4, 7, 7), (6, 6, 8, 8)], ["cat", "dog", "cat", "cat"])
    add(voc, "c", [(0, 0, 32, 20)])
    add(voc, "d", split="val")
    findings = [f for f in report_of(voc).findings if f.kind != "rare"]
    seen = [(f.kind, f.split, f.index, f.objects) for f in findings]
    assert seen == [
        ("double", "train", 0, (2, 3)),
        ("double", "train", 1, (0, 1)),
        ("thin", "train", 0, (0,)),
        ("thin", "train", 0, (5,)),
        ("whole", "train", 0, (1,)),
    ]
    texts = [f.text.split(": ")[1] for f in findings]
    assert texts[:3] == ["the same cat twice.", "one box as cat and as dog.", "a cat of 8 x 1 pixels."]
    assert texts[4] == "a cat of 96% of the picture." and "a.jpg" in findings[0].text


def test_pictures_that_are_there_twice_and_in_two_splits(voc):
    add(voc, "a", picture=noise(1))
    add(voc, "b", picture=noise(2))
    add(voc, "c", picture=noise(1))
    add(voc, "d", split="val", picture=noise(2))
    add(voc, "e", split="val", picture=noise(3))
    findings = report_of(voc).findings
    assert [(f.kind, f.split, f.index) for f in findings[:2]] == [("leakage", "val", 0), ("twice", "train", 2)]
    assert findings[0].text.endswith("b.jpg (train).") and "d.jpg (val) is the same picture as" in findings[0].text
    assert [f.kind for f in findings[2:]] == ["rare"]


def test_a_picture_that_was_saved_again(tmp_path):
    files = [tmp_path / f"{i}.jpg" for i in range(45)]
    for i, file in enumerate(files[:40]):
        noise(i, (200, 150)).save(file, quality=95)
    noise(7, (200, 150)).save(files[40], quality=50)
    noise(7, (200, 150)).save(files[41].with_suffix(".png"))
    noise(7, (200, 148)).save(files[42])
    moved = noise(7, (200, 150))
    moved.paste((255, 255, 255), (20, 20, 30, 30))  # little of it changes, but much there
    moved.save(files[43])
    Image.fromarray(np.full((150, 200), 40_000, np.uint16)).save(files[44].with_suffix(".png"))
    files[41], files[44] = files[41].with_suffix(".png"), files[44].with_suffix(".png")
    seen = []
    assert same_pictures(files, seen.append) == [(7, 40), (7, 41)] and seen == [1] * 45


def test_copies_are_found_whatever_their_brightness(tmp_path):
    """Also where compression moves a quarter of the picture into another step of brightness."""
    for seed in range(30):
        noise(seed, (160, 120)).save(tmp_path / f"{seed:02}a.jpg", quality=95)
        noise(seed, (160, 120)).save(tmp_path / f"{seed:02}b.jpg", quality=random.Random(seed).randint(40, 90))
    pairs = same_pictures(sorted(tmp_path.iterdir()), lambda n: None)
    assert pairs == [(2 * i, 2 * i + 1) for i in range(30)]


def test_pictures_of_another_size(voc):
    for i in range(19):
        add(voc, f"a{i:02}")
    path = add(voc, "b", [])
    noise(1, (24, 32)).save(path)
    voc.edit("b", "<width>32</width>", "<width>24</width>")
    voc.edit("b", "<height>24</height>", "<height>32</height>")
    report = report_of(voc)
    (found,) = [f for f in report.findings if f.kind == "size"]
    assert found.text.endswith("b.jpg: 24x32 pixels, most are 32x24.")
    for i in range(2):
        voc.split(*(f"a{i:02}" for i in range(6)), "b")
    assert "size" not in kinds(report_of(voc))  # pictures of all sizes, as cameras take them


def test_rare_classes_and_names_that_are_nearly_the_same(voc):
    add(voc, "a", [(i, 0, i + 5, 9) for i in range(0, 22, 2)], ["Cat"] + ["cat"] * 10)
    add(voc, "b", [(2, 3, 10, 12)], ["traffic-light"], split="val")
    add(voc, "c", [(2, 3, 10, 12)], ["traffic light"], split="val")
    found = [(f.kind, f.text) for f in report_of(voc).findings]
    assert [text for kind, text in found if kind == "rare"] == [
        "Cat: 1 object in the training pictures.",
        "traffic light: 0 objects in the training pictures.",
        "traffic-light: 0 objects in the training pictures.",
    ]
    assert [text for kind, text in found if kind == "case"] == [
        "'Cat' and 'cat' may be meant as one class.",
        "'traffic light' and 'traffic-light' may be meant as one class.",
    ]
    chosen = report_of(voc, classes=["cat"])
    assert "'cat' and 'Cat' may be meant as one class." in [f.text for f in chosen.findings]


def test_bad_files_and_the_report_as_json(voc):
    add(voc, "a", [(0, 0, 32, 24)])
    add(voc, "b", split="val")
    (voc.root / "JPEGImages" / "bad.jpg").write_bytes(b"?")
    voc.split("a", "bad")
    splits = load_splits(voc.root, on_error="skip")
    report = examine(splits)
    assert list(report.bad_files) == [str(voc.root / "JPEGImages" / "bad.jpg")]
    content = json.loads(json.dumps(report.as_json(splits.parts())))
    assert content["splits"]["train"]["objects"] == 1 and list(content["bad_files"]) == list(report.bad_files)
    assert content["findings"][0] == {
        "kind": "whole",
        "text": f"{voc.root}/JPEGImages/a.jpg: a cat of 100% of the picture.",
        "split": "train",
        "objects": [0],
        "file": f"{voc.root}/JPEGImages/a.jpg",
    }
    assert content["findings"][-1]["file"] is None and set(content) == {f.name for f in dataclasses.fields(report)}


def test_findings_have_a_kind_that_has_a_meaning():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Finding("twice", "").kind = "other"
    assert list(MEANINGS)[0] == "leakage"
