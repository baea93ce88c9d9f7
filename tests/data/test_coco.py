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


def test_several_polygons_are_one_mask_and_a_stroke_beside_adds_nothing(coco):
    far = [20, 15, 25, 15, 25, 20, 20, 20]
    masks = coco.load(
        annotation(segmentation=[*SQUARE, far]), annotation(segmentation=[*SQUARE, [20, 15, 25, 20], [28, 2]])
    ).target(0)["masks"]
    assert masks[0, 5, 5] and masks[0, 17, 22] and not masks[0, 13, 15] and masks[1].sum() == 72


RECTANGLES = {
    "x, y, width, height": [[2, 3, 8, 9]],
    "two corners": [[2, 3, 10, 12]],
    "flat": [2, 3, 8, 9],
    "flat corners": [2, 3, 10, 12],
    "pairs": [[2, 3], [10, 12]],
    "an empty polygon beside": [[2, 3, 8, 9], []],
}


@pytest.mark.parametrize("case", RECTANGLES)
def test_four_numbers_that_the_box_confirms_are_a_rectangle(coco, case):
    target = coco.load(annotation(segmentation=RECTANGLES[case])).target(0)
    expected = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    expected[3:12, 2:10] = True
    assert torch.equal(target["masks"][0], expected) and target["area"].tolist() == [72]


def test_a_rectangle_is_drawn_as_pycocotools_draws_it(coco):
    stated = [2.4, 3.7, 8.3, 9.1]  # the box is rounded
    code = coco_mask.merge(coco_mask.frPyObjects(np.array([stated]), HEIGHT, WIDTH))
    target = coco.load(annotation(segmentation=[stated], bbox=[2, 4, 8, 9])).target(0)
    assert coco_mask.encode(np.asfortranarray(target["masks"][0].numpy().astype(np.uint8))) == code


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
    "polygon of words": ({"segmentation": ["a", "b", "c"]}, "polygon a "),
    "flat odd polygon": ({"segmentation": [2, 3, 10, 3, 10, 12, 2]}, "polygon .2, 3, "),
    "flat stroke": ({"segmentation": [2, 3, 10, 3]}, "fewer than three corners; four numbers are read where"),
    "stroke": ({"segmentation": [[1, 1, 5, 5]]}, r"segmentation \[\[1, 1, 5, 5\]\] has fewer than three corners"),
    "specks": ({"segmentation": [[1, 1], [2, 3, 10, 12]]}, "has fewer than three corners"),
    "stroke without a box": ({"segmentation": [[2, 3, 8, 9]], "bbox": None}, "has fewer than three corners"),
    "whole category": ({"category_id": 3.5}, "category_id is 3.5, expected int"),
    "boolean category": ({"category_id": True}, "category_id is True, expected int"),
    "negative area": ({"area": -3}, "area is -3, expected a number of at least 0"),
    "area nan": ({"area": float("nan")}, "area is nan"),
    "infinite area": ({"area": float("inf")}, "area is inf"),
    "area word": ({"area": "large"}, "area is 'large'"),
    "area list": ({"area": [3]}, r"area is \[3\]"),
    "boolean area": ({"area": True}, "area is True"),
    "crowd word": ({"iscrowd": "perhaps"}, "iscrowd is 'perhaps', expected 0, 1, true or false"),
    "crowd number": ({"iscrowd": 2}, "iscrowd is 2, expected 0, 1"),
    "crowd null": ({"iscrowd": None}, "iscrowd is None, expected 0, 1"),
    "crowd list": ({"iscrowd": [0]}, r"iscrowd is \[0\], expected 0, 1"),
    "difficult half": ({"difficult": 0.5}, "difficult is 0.5, expected 0, 1"),
    "difficult empty": ({"difficult": ""}, "difficult is '', expected 0, 1"),
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


@pytest.mark.parametrize(
    "case", ["missing", "text", "truncated", "another size", "another height alone", "half a pixel", "tiny"]
)
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
    elif case == "another height alone":
        coco.content["images"][0] = {"id": 7, "file_name": "a.jpg", "height": 23}
    elif case == "half a pixel":
        coco.content["images"][0]["width"] = 32.5
    else:
        coco.content["images"][0] |= {"width": 9, "height": 7}
        Image.new("RGB", (9, 7)).save(path)
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
        ('{"images": [], "annotations": null, "categories": []}', 'no list of "annotations"'),
        ('{"annotations": [], "categories": []}', 'no list of "images"'),
        ('{"images": [], "annotations": [], "categories": {}}', 'no list of "categories"'),
        ('{"images": [3], "annotations": [], "categories": []}', '"images" must be a list of objects'),
        ('{"images": [{"id": "x"}], "annotations": [], "categories": []}', "id is 'x', expected int"),
        ('{"images": [], "annotations": [{"image_id": 5}], "categories": []}', "image 5, which is not listed"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "name is None, expected str"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
            r"the categories \[1, 2\] have one name, 'a'",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 4, "name": "background"}]}',
            'a category is named "background"',
        ),
        ('{"images": [{"id": 1}, {"id": "1"}], "annotations": [], "categories": []}', "ids of images must differ"),
        ('{"images": [{"id": 1e300}], "annotations": [], "categories": []}', "id is 1e.300, expected int"),
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


TWO = [[2, 3, 10, 3, 10, 12, 2, 12], [12, 3, 20, 3, 20, 9]]
RIGHT = plain(np.arange(HEIGHT)[:, None].repeat(WIDTH, 1) * 0 + (np.arange(WIDTH) > 24))
SPELLINGS = {  # of an annotation: its changes, the box and the number of pixels that it then has
    "string ids": ({"image_id": "7", "category_id": "3", "id": "1"}, [2, 3, 10, 12], 72),
    "float ids": ({"image_id": 7.0, "category_id": 3.0, "id": 1.0}, [2, 3, 10, 12], 72),
    "flat polygon": ({"segmentation": SQUARE[0]}, [2, 3, 10, 12], 72),
    "corners": ({"segmentation": [[2, 3], [10, 3], [10, 12], [2, 12]]}, [2, 3, 10, 12], 72),
    "an empty polygon beside": ({"segmentation": [[], *SQUARE]}, [2, 3, 10, 12], 72),
    "no box": ({"bbox": ...}, [2, 3, 10, 12], 72),
    "no box, two polygons": ({"bbox": ..., "segmentation": TWO}, [2, 3, 20, 12], 72 + 24),
    "no box, runs": ({"bbox": ..., "segmentation": {"size": [HEIGHT, WIDTH], "counts": RIGHT}}, [25, 0, 32, 24], 168),
    "area as text": ({"area": "72.0"}, [2, 3, 10, 12], 72),
    "area null": ({"area": None}, [2, 3, 10, 12], 72),
}


@pytest.mark.parametrize("case", SPELLINGS)
def test_what_tools_write_in_other_words_is_read(coco, case):
    changes, box, pixels = SPELLINGS[case]
    written = annotation(**{key: value for key, value in changes.items() if value is not ...})
    for key in (key for key, value in changes.items() if value is ...):
        del written[key]
    target = coco.load(written).target(0)
    assert target["boxes"].tolist() == [box] and target["labels"].tolist() == [1] and target["image_id"] == 7
    assert abs(int(target["masks"].sum()) - pixels) <= 3  # a slanted edge cuts pixels
    assert target["area"].tolist() == [target["masks"].sum()]


def test_an_empty_polygon_is_no_segmentation(coco):
    target = coco.load(annotation(segmentation=[[]]), annotation(id=2)).target(0)
    assert "masks" not in target and target["area"].tolist() == [72, 72]


FALSE = (0, 0.0, False, "0", "0.0", "false", "False")
TRUE = (1, 1.0, True, "1", "1.0", "true", "TRUE", " true ")


@pytest.mark.parametrize("field", ["iscrowd", "difficult"])
@pytest.mark.parametrize("value", FALSE + TRUE, ids=repr)
def test_flags_are_read_by_their_meaning(coco, field, value):
    target = coco.load(annotation(**{field: value})).target(0)
    other = {"iscrowd": "difficult", "difficult": "iscrowd"}[field]
    assert target[field].tolist() == [value in TRUE] and target[other].tolist() == [False]


SIZES = {
    "integral floats": {"width": 32.0, "height": 24.0},
    "text": {"width": "32", "height": "24"},
    "no size": {},
    "nulls": {"width": None, "height": None},
    "zeros": {"width": 0, "height": 0},
    "no width": {"height": 24},
    "no height": {"width": 32},
}


@pytest.mark.parametrize("case", SIZES)
def test_the_size_of_a_picture_in_other_words(coco, case):
    coco.content["images"][0] = {"id": 7.0, "file_name": "a.jpg"} | SIZES[case]
    dataset = coco.load(annotation(bbox=[2, 3, 8, 30]))
    assert dataset.ids == (7, 9) and type(dataset.ids[0]) is int
    assert dataset.target(0)["boxes"].tolist() == [[2, 3, 10, 24]] and dataset[0][0].shape == (3, HEIGHT, WIDTH)


def test_windows_paths(coco):
    (coco.root / "images" / "sub").mkdir()
    coco.content["images"] = [coco.image(7, "sub/a.jpg"), coco.image(9, "b.jpg")]
    coco.content["images"][0]["file_name"] = "sub\\a.jpg"
    assert coco.load(annotation()).path(0) == coco.root / "images" / "sub" / "a.jpg"
    coco.content["images"][0]["file_name"] = "sub\\none.jpg"
    with pytest.raises(ValueError, match=r"sub/none\.jpg: no such file"):
        coco.load(annotation())


def test_a_file_without_annotations_has_pictures(coco):
    del coco.content["annotations"]
    dataset = coco.load()
    assert dataset.ids == (7, 9) and [len(dataset.target(i)["boxes"]) for i in range(2)] == [0, 0]


def test_stray_annotations_are_named_or_counted(coco, caplog):
    strays = [annotation(id=2, image_id=70), annotation(id=3, image_id=None), annotation(id=4, image_id="seven")]
    with pytest.raises(ValueError, match=r"a\.json: an annotation of image 70, which is not listed, and 2 more"):
        coco.load(annotation(), *strays)
    dataset = coco.load(annotation(), *strays, on_error="skip")
    assert dataset.ids == (7, 9) and dataset.target(0)["labels"].tolist() == [1]
    ((file, reason),) = dataset.skipped.items()
    assert file.endswith("a.json") and "and 2 more" in reason
    assert "left out: 1 bad file:" in caplog.text and "image 70" in caplog.text


def test_a_stray_annotation_does_not_take_the_masks(coco):
    stray = annotation(id=2, image_id=70, segmentation=[])
    assert "masks" in coco.load(annotation(), stray, on_error="skip").target(0)


def test_classes_fix_names_and_order(coco):
    for names, label in ((("zebra", "cat", "dog"), 2), (("dog", "zebra", "cat"), 3)):
        dataset = coco.load(annotation(), classes=names)
        assert dataset.classes == ("background", *names) and dataset.target(0)["labels"].tolist() == [label]
        assert dataset.category_ids[label - 1] == 3 and dataset.left_out == 0
    dataset = coco.load(annotation(), classes=("ant", "cat"))  # a class without a category has no objects
    assert dataset.category_ids == (None, 3) and dataset.target(0)["labels"].tolist() == [2]


def test_files_that_number_their_categories_differently_agree(coco):
    names = ("cat", "dog", "zebra")
    first = coco.load(annotation(category_id=17), classes=names)
    coco.content["categories"] = [{"id": i, "name": name} for i, name in enumerate(("dog", "zebra", "cat"))]
    second = coco.load(annotation(category_id=0), classes=names)
    assert first.classes == second.classes and first.target(0)["labels"].tolist() == second.target(0)["labels"].tolist()


def test_a_subset_of_the_classes(coco):
    written = [annotation(), annotation(id=2, category_id=17, segmentation=[]), annotation(id=3, category_id=90)]
    with pytest.raises(ValueError, match=r"a\.jpg: class 'dog' is none of cat, zebra"):
        coco.load(*written, classes=("cat", "zebra"))
    dataset = coco.load(*written, classes=("zebra", "cat"), other_classes="skip")
    assert dataset.target(0)["labels"].tolist() == [2, 1] and dataset.target(0)["masks"].shape[0] == 2
    assert dataset.left_out == 1 and dataset.left_out_classes == {"dog": 1} and dataset.dropped == 0
    with pytest.raises(ValueError, match=r"classes: 'cart' is not in .*a\.json; there: cat, dog, zebra"):
        coco.load(*written, classes=("cart",), other_classes="skip")


@pytest.mark.parametrize("classes", ["cat", ("cat", "cat"), ("background", "cat")])
def test_classes_that_are_none(coco, classes):
    with pytest.raises(ValueError, match="classes must be"):
        coco.load(annotation(), classes=classes)


def test_a_category_called_background_can_be_left_to_classes(coco):
    coco.content["categories"].append({"id": 0, "name": "background"})
    assert coco.load(annotation(), classes=("cat", "dog")).target(0)["labels"].tolist() == [1]


def test_an_unknown_way_with_other_classes(coco):
    with pytest.raises(ValueError, match='other_classes must be "raise" or "skip", got \'drop\''):
        coco.load(annotation(), other_classes="drop")
