"""Masks of VOC's folder SegmentationObject, and of data sets by name."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from rcnn_tutorial import data
from rcnn_tutorial.data.masks import encode_masks
from rcnn_tutorial.data.transforms import Augment
from tests.data.conftest import HEIGHT, WIDTH

BOXES = ((2, 3, 10, 12), (6, 5, 20, 15), (22, 1, 30, 9))
BORDER = 255


def numbers(*boxes):
    """(H, W) as VOC paints it: an object's number in its box, later ones on top, and 255 along two sides."""
    pixels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        pixels[y1:y2, x1:x2] = number
    pixels[0] = pixels[:, 0] = BORDER
    return pixels


def add(voc, id, pixels, boxes=BOXES, names=("cat", "dog", "cat"), mode="P", **options):
    voc.add(id, boxes, names, **options)
    folder = voc.root / "SegmentationObject"
    folder.mkdir(exist_ok=True)
    picture = Image.fromarray(pixels)  # grey
    if mode == "P":
        picture.putpalette([v for i in range(256) for v in (255 - i, i, i // 2)])
    picture.save(folder / f"{id}.png")
    return folder / f"{id}.png"


def test_a_mask_is_the_pixels_with_the_object_s_number(voc):
    pixels = numbers(*BOXES)
    add(voc, "a", pixels)
    target = voc.load("a", masks=True).target(0)
    assert target["masks"].dtype == torch.bool and target["masks"].shape == (3, HEIGHT, WIDTH)
    for number, mask in enumerate(target["masks"], start=1):
        assert np.array_equal(mask.numpy(), pixels == number) and mask.any()
    assert target["masks"][0].sum() == 72 - 28 and target["labels"].tolist() == [1, 2, 1]
    assert not target["masks"][:, 0].any() and "masks" not in voc.load("a").target(0)


def test_a_grey_picture_is_read_as_one_with_a_palette(voc):
    pixels = numbers(*BOXES)
    add(voc, "a", pixels)
    add(voc, "b", pixels, mode="L")
    dataset = voc.load("a", "b", masks=True)
    assert torch.equal(dataset.target(0)["masks"], dataset.target(1)["masks"])


def test_objects_that_are_left_out_keep_their_numbers(voc):
    """Those of other classes, and those without area."""
    add(voc, "a", numbers(*BOXES), names=("dog", "cat", "cat"))
    target = voc.load("a", masks=True, classes=("cat",), other_classes="skip").target(0)
    assert target["masks"].sum((1, 2)).tolist() == [140, 64]
    voc.edit("a", "<xmin>3</xmin>", "<xmin>10</xmin>")
    voc.edit("a", "<ymin>4</ymin>", "<ymin>12</ymin>")  # now a click without a drag
    dataset = voc.load("a", masks=True)
    assert dataset.dropped == 1 and dataset.target(0)["masks"].sum((1, 2)).tolist() == [140, 64]


def test_images_without_objects_have_no_masks(voc):
    add(voc, "a", np.zeros((HEIGHT, WIDTH), dtype=np.uint8), boxes=(), names=())
    assert voc.load("a", masks=True).target(0)["masks"].shape == (0, HEIGHT, WIDTH)


def test_objects_of_one_pixel(voc):
    pixels = numbers(BOXES[1])
    pixels[20, 28] = 2
    add(voc, "a", pixels, boxes=(BOXES[1], (28, 20, 29, 22)), names=("cat", "dog"))
    assert voc.load("a", masks=True).target(0)["masks"][1].nonzero().tolist() == [[20, 28]]


def test_masks_of_a_picture_that_the_camera_turned(voc):
    """The annotation is about the picture as it is seen, and so are its masks."""
    pixels = numbers(*BOXES)
    add(voc, "a", pixels)
    shown = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    shown[pixels == 2] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    Image.fromarray(np.rot90(shown).copy()).save(voc.root / "JPEGImages" / "a.jpg", exif=exif, quality=100)
    image, target = voc.load("a", masks=True)[0]
    assert image.shape == (3, HEIGHT, WIDTH)
    assert torch.equal(image[0] > 0.5, target["masks"][1])


def test_masks_go_through_the_augmentation(voc):
    pixels = numbers(*BOXES)
    add(voc, "a", pixels)
    painted = np.repeat((np.isin(pixels, (1, 2, 3)) * 255).astype(np.uint8)[..., None], 3, axis=2)
    Image.fromarray(painted).save(voc.root / "JPEGImages" / "a.jpg", quality=100)
    augment = Augment(voc.load("a", masks=True), seed=0, jitter=0.1, scale=(0.7, 1.4), min_visible=0)
    for epoch in range(8):
        augment.set_epoch(epoch)
        image, target = augment[0]
        both = (image.mean(0) > 0.5) & target["masks"].any(0)
        either = (image.mean(0) > 0.5) | target["masks"].any(0)
        assert both.sum() / either.sum() > 0.85


def test_the_split_of_the_pictures_with_masks_goes_first(voc):
    add(voc, "a", numbers(*BOXES))
    voc.add("b")
    voc.split("a", "b")
    voc.split("b", name="val")
    folder = voc.root / "ImageSets" / "Segmentation"
    folder.mkdir()
    (folder / "train.txt").write_text("a\n")
    assert voc.load(masks=True).ids == ("a",) and voc.load().ids == ("a", "b")
    with pytest.raises(ValueError, match=r"b\.png: no such file"):
        type(voc.load())(voc.root, "val", ("cat", "dog"), masks=True)


BAD = {
    "no file": (lambda path: path.unlink(), "no such file"),
    "another size": (lambda path: Image.new("P", (WIDTH, 20)).save(path), "the image is 32x20 pixels"),
    "colours": (lambda path: Image.new("RGB", (WIDTH, HEIGHT)).save(path), "expected numbers or a palette, got"),
    "no pixel": (
        lambda path: Image.fromarray(numbers(*BOXES[:2])).save(path),
        "no pixel has the number 3, that of an object in the annotation",
    ),
    "no picture": (lambda path: path.write_text("hello"), "not a readable image"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_masks_are_named_or_skipped(voc, case):
    spoil, words = BAD[case]
    spoil(add(voc, "bad", numbers(*BOXES)))
    add(voc, "good", numbers(*BOXES))
    with pytest.raises(ValueError, match=rf"1 bad file:\n.*bad\.png: .*{words}"):
        voc.load("bad", "good", masks=True)
    assert voc.load("bad", "good", masks=True, on_error="skip").ids == ("good",)


# By name


def test_a_folder_s_masks_are_asked_for(voc):
    voc.add("a")
    voc.split("a")
    with pytest.raises(ValueError, match=r"masks: there are none in .*, which has no folder SegmentationObject"):
        data.load_dataset(voc.root, "train", masks=True)
    add(voc, "a", numbers(*BOXES))
    assert len(data.load_dataset(voc.root, "train", masks=True).target(0)["masks"]) == 3
    assert len(data.load_dataset(voc.root, "train", classes=["dog"], masks=True).target(0)["masks"]) == 1
    assert "masks" not in data.load_dataset(voc.root, "train").target(0)


def test_the_scenes_masks_are_those_of_their_json(voc, monkeypatch):
    from rcnn_tutorial.data.generated import shapes

    voc.add("a", [(2, 3, 10, 12)], [shapes.CLASSES[2]])
    voc.split("a")
    mask = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[0, 3:12, 2:10] = torch.eye(9, 8, dtype=torch.bool)
    (code,) = encode_masks(mask)
    (voc.root / "annotations").mkdir()
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(shapes.CLASSES) if i > 0],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 2,
                "bbox": [2, 3, 8, 9],
                "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
                "iscrowd": 0,
                "area": 8,
            }
        ],
    }
    (voc.root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    monkeypatch.setattr(shapes, "ensure_shapes", lambda root: voc.root)
    dataset = data.load_dataset("shapes", "train", masks=True)
    assert dataset.classes == tuple(shapes.CLASSES) and torch.equal(dataset.target(0)["masks"], mask)
    alone = data.load_dataset("shapes", "train", classes=[shapes.CLASSES[1], shapes.CLASSES[2]], masks=True)
    assert torch.equal(alone.target(0)["masks"], mask) and alone.target(0)["labels"].tolist() == [2]
    with pytest.raises(ValueError, match=r"split 'trainval' has no .*instances_trainval\.json"):
        data.load_dataset("shapes", "trainval", masks=True)


@pytest.mark.parametrize("line", ["0 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6", "0 0.5 0.5 0.4 0.4"])
def test_a_folder_in_yolo_s_layout_has_masks_where_it_has_polygons(tmp_path, line):
    (tmp_path / "labels").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "classes.txt").write_text("cat\n")
    for i in range(4):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / f"{i}.png")
        (tmp_path / "labels" / f"{i}.txt").write_text(line)
    if len(line.split()) == 5:
        with pytest.raises(ValueError, match="masks: there are none in .*, where not every object is a polygon"):
            data.load_dataset(tmp_path, "train", masks=True)
    else:
        mask = data.load_dataset(tmp_path, "train", masks=True).target(0)["masks"]
        assert mask.shape == (1, HEIGHT, WIDTH) and mask.sum() == pytest.approx(0.4 * WIDTH * 0.5 * HEIGHT, rel=0.2)
