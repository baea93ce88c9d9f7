import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from rcnn_tutorial.data.coco import CocoDetection

WIDTH, HEIGHT = 32, 24
SQUARE = [[2, 3, 10, 3, 10, 12, 2, 12]]


def annotation(**changes):
    return {
        "id": 1,
        "image_id": 7,
        "category_id": 3,
        "bbox": [2, 3, 8, 9],
        "segmentation": SQUARE,
        "iscrowd": 0,
    } | changes


class Coco:
    """A folder of images and a JSON file to write; image 7 is a.jpg, image 9 is b.jpg."""

    def __init__(self, root):
        self.root = root
        (root / "images").mkdir(parents=True)
        self.content = {
            "images": [self.image(7, "a.jpg"), self.image(9, "b.jpg")],
            "categories": [{"id": 90, "name": "zebra"}, {"id": 3, "name": "cat"}, {"id": 17, "name": "dog"}],
            "annotations": [],
        }

    def image(self, id, name):
        Image.new("RGB", (WIDTH, HEIGHT), (0, 255, 0)).save(self.root / "images" / name)
        return {"id": id, "file_name": name, "width": WIDTH, "height": HEIGHT}

    def load(self, *annotations, text=None, **options):
        file = self.root / "a.json"
        content = self.content | {"annotations": list(annotations)} if annotations else self.content
        file.write_text(json.dumps(content) if text is None else text)
        return CocoDetection(self.root / "images", file, **options)


@pytest.fixture
def coco(tmp_path):
    return Coco(tmp_path / "coco")


def test_samples_follow_the_convention(coco):
    dataset = coco.load(
        annotation(category_id=90, bbox=[2, 3, 8.5, 9]),
        annotation(id=2, category_id=17, bbox=[0, 0, 32, 24], iscrowd=1, difficult=1),
    )
    assert dataset.classes == ("background", "cat", "dog", "zebra") and dataset.category_ids == (3, 17, 90)
    assert dataset.ids == (7, 9) and len(dataset) == 2 and dataset.path(1).name == "b.jpg"
    image, target = dataset[0]
    assert image.shape == (3, HEIGHT, WIDTH) and image[1].min() > 0.9
    assert target["boxes"].tolist() == [[2, 3, 10.5, 12], [0, 0, 32, 24]] and target["boxes"].dtype == torch.float32
    assert target["labels"].tolist() == [3, 2] and target["labels"].dtype == torch.int64
    assert target["iscrowd"].tolist() == target["difficult"].tolist() == [False, True]
    assert target["iscrowd"].dtype == target["difficult"].dtype == target["masks"].dtype == torch.bool
    assert target["image_id"].item() == 7 and target["masks"].shape == (2, HEIGHT, WIDTH)


def test_images_without_annotations_are_kept(coco):
    target = coco.load(annotation())[1][1]
    assert target["boxes"].shape == (0, 4) and target["masks"].shape == (0, HEIGHT, WIDTH)
    assert target["labels"].shape == target["iscrowd"].shape == target["difficult"].shape == (0,)
    assert target["image_id"].item() == 9


def test_a_whole_file_without_annotations(coco):
    assert [len(coco.load().target(i)["boxes"]) for i in range(2)] == [0, 0]


def test_the_transform_is_applied(coco):
    assert coco.load(transform=lambda image, target: "changed")[0] == "changed"


def test_a_polygon_fills_its_inside(coco):
    mask = coco.load(annotation()).target(0)["masks"][0]
    expected = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    expected[3:12, 2:10] = True
    assert torch.equal(mask, expected)


def test_several_polygons_are_one_mask_and_a_stroke_has_none(coco):
    far = [20, 15, 25, 15, 25, 20, 20, 20]
    masks = coco.load(annotation(segmentation=[*SQUARE, far]), annotation(segmentation=[[1, 1, 5, 5]])).target(0)[
        "masks"
    ]
    assert masks[0, 5, 5] and masks[0, 17, 22] and not masks[0, 13, 15] and not masks[1].any()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), density=st.floats(0, 1))
def test_rle_is_what_pycocotools_encodes(tmp_path_factory, seed, density):
    coco = Coco(tmp_path_factory.mktemp("coco") / "coco")
    random = np.random.default_rng(seed)
    blobs = np.kron(random.random((4, 4)) < density, np.ones((6, 8))).astype(bool)
    masks = np.stack([random.random((HEIGHT, WIDTH)) < density, blobs, np.ones((HEIGHT, WIDTH), bool)])
    compressed = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode() for mask in masks]
    size = [HEIGHT, WIDTH]
    dataset = coco.load(
        *(annotation(segmentation={"size": size, "counts": c}) for c in [*compressed, *map(plain, masks)])
    )
    assert np.array_equal(dataset.target(0)["masks"].numpy(), np.concatenate([masks, masks]))


def plain(mask):
    """Run lengths down the columns, background first."""
    column_wise = mask.T.ravel()
    ends = np.flatnonzero(np.diff(column_wise)) + 1
    runs = np.diff([0, *ends, column_wise.size]).tolist()
    return [0, *runs] if column_wise[0] else runs


def test_no_masks_where_an_annotation_lacks_one(coco):
    bare = annotation(id=2)
    del bare["segmentation"]
    assert "masks" not in coco.load(annotation(), bare).target(0)
    assert "masks" not in coco.load(annotation(), annotation(segmentation=[])).target(0)


def test_boxes_are_clipped_or_dropped_with_all_their_fields(coco):
    empty = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    dataset = coco.load(
        annotation(bbox=[5, 5, 0, 4], segmentation=empty, iscrowd=1, difficult=1, category_id=17),
        annotation(bbox=[40, 5, 4, 4], segmentation=empty, iscrowd=1, difficult=1, category_id=17),
        annotation(bbox=[-2, 3, 8, 30]),
    )
    target = dataset.target(0)
    assert target["boxes"].tolist() == [[0, 3, 6, 24]] and target["labels"].tolist() == [1]
    assert target["masks"].sum() == 72 and not target["iscrowd"].any() and not target["difficult"].any()
    file = str(dataset.path(0))
    assert (dataset.clipped, dataset.dropped) == (1, 2)
    assert dataset.clipped_files == {file: 1} and dataset.dropped_files == {file: 2}


RLE = {"size": [HEIGHT, WIDTH], "counts": [700, HEIGHT * WIDTH - 700]}
BAD_ANNOTATIONS = {
    "nan": ({"bbox": [2, float("nan"), 8, 9]}, "not finite"),
    "infinite": ({"bbox": [2, 3, float("inf"), 9]}, "not finite"),
    "negative width": ({"bbox": [2, 3, -1, 9]}, "exchanged"),
    "three numbers": ({"bbox": [2, 3, 8]}, "expected .x, y, width, height"),
    "text box": ({"bbox": ["2", 3, 8, 9]}, "expected .x, y, width, height"),
    "no box": ({"bbox": None}, "bbox is None"),
    "category": ({"category_id": 4}, "category 4 is not listed"),
    "category type": ({"category_id": "cat"}, "category_id is 'cat'"),
    "flat polygon": ({"segmentation": [2, 3, 10, 3, 10, 12]}, "polygon 2 "),
    "odd polygon": ({"segmentation": [[2, 3, 10, 3, 10, 12, 2]]}, "polygon"),
    "nan polygon": ({"segmentation": [[2, float("nan"), 10, 3, 10, 12]]}, "polygon"),
    "far polygon": ({"segmentation": [[2, 3, 1e9, 3, 10, 12]]}, "near the image"),
    "word": ({"segmentation": "abc"}, "polygons, or RLE"),
    "rle of another size": ({"segmentation": RLE | {"size": [WIDTH, HEIGHT]}}, r"RLE of size \[24, 32\]"),
    "short rle": ({"segmentation": RLE | {"counts": [10, 20]}}, "cover 768 pixels"),
    "long rle": ({"segmentation": RLE | {"counts": [10, 2000]}}, "cover 768 pixels"),
    "negative rle": ({"segmentation": RLE | {"counts": [800, -32]}}, "cover 768 pixels"),
    "no counts": ({"segmentation": {"size": [HEIGHT, WIDTH]}}, "cover 768 pixels"),
    "short string": ({"segmentation": RLE | {"counts": "1"}}, "cover 768 pixels"),
    "noise": ({"segmentation": RLE | {"counts": "~é~ \0"}}, "cover 768 pixels"),
}


@pytest.mark.parametrize("case", BAD_ANNOTATIONS)
def test_bad_annotations_name_their_image_or_are_skipped(coco, case):
    changes, words = BAD_ANNOTATIONS[case]
    good = annotation(id=2, image_id=9)
    with pytest.raises(ValueError, match=rf"1 bad file:\n.*a\.jpg: .*{words}"):
        coco.load(annotation(**changes), good)
    dataset = coco.load(annotation(**changes), good, on_error="skip")
    assert dataset.ids == (9,) and list(dataset.skipped) == [str(coco.root / "images" / "a.jpg")]
    image, target = dataset[0]
    assert target["masks"].sum() == 72 and target["image_id"] == 9 and target["labels"].tolist() == [1]


@pytest.mark.parametrize("case", ["missing", "text", "truncated", "another size", "no width"])
def test_bad_images_are_named_or_skipped(coco, case):
    path = coco.root / "images" / "a.jpg"
    if case == "missing":
        path.unlink()
    elif case == "text":
        path.write_text("hello")
    elif case == "truncated":
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:-500])
    elif case == "another size":
        coco.content["images"][0]["width"] = 31
    else:
        del coco.content["images"][0]["width"]
    with pytest.raises(ValueError, match=r"a\.jpg: "):
        coco.load(annotation())[0]
    dataset = coco.load(annotation(), on_error="skip")
    assert dataset.ids == (9,) and list(dataset.skipped) == [str(path)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a readable JSON"),
        ('{"images": [', "not a readable JSON"),
        ("[" * 100_000, "not a readable JSON"),
        ("\udcff", "not a readable JSON"),
        ("[]", 'no list of "images"'),
        ('{"images": [], "categories": []}', 'no list of "annotations"'),
        ('{"images": [], "annotations": [], "categories": {}}', 'no list of "categories"'),
        ('{"images": [3], "annotations": [], "categories": []}', '"images" must be a list of objects'),
        ('{"images": [{"id": "x"}], "annotations": [], "categories": []}', "id is 'x', expected int"),
        ('{"images": [], "annotations": [{"image_id": 5}], "categories": []}', "image 5, which is not listed"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "name is None, expected str"),
        ('{"images": [{"id": 1}, {"id": 1}], "annotations": [], "categories": []}', "ids of images must differ"),
    ],
)
def test_a_malformed_file_is_named(coco, text, words):
    file = coco.root / "a.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=f"a.json: .*{words}"):
        CocoDetection(coco.root / "images", file)


def test_a_missing_file_is_named(coco):
    with pytest.raises(ValueError, match=r"nothing\.json: no such file"):
        CocoDetection(coco.root, coco.root / "nothing.json")
