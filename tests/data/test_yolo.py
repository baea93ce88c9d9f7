import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw

from rcnn_tutorial.data.yolo import YoloDetection

WIDTH, HEIGHT = 64, 48
LINE = "1 0.5 0.5 0.25 0.5"  # 24 to 40 and 12 to 36 pixels
BOX = [24, 12, 40, 36]


class Yolo:
    """A folder to fill with pictures of 64x48."""

    def __init__(self, root):
        self.root = root
        self.root.mkdir()

    def listing(self, name="data.yaml", **content):
        content = {"names": ["cat", "dog", "ant"]} | content
        (self.root / name).write_text(yaml.safe_dump(content))

    def add(self, picture, *lines, labels=None, encoding="utf-8"):
        """A picture, and its labels where there are any; by default where images becomes labels."""
        path = self.root / picture
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (255, 0, 0)).save(path)
        if lines:
            file = self.root / (labels or picture.replace("images", "labels").rsplit(".", 1)[0] + ".txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
        return path

    def load(self, split="train", **options):
        return YoloDetection(self.root, split, **options)


@pytest.fixture
def yolo(tmp_path):
    return Yolo(tmp_path / "yolo")


def test_samples_follow_the_convention(yolo):
    yolo.listing()
    path = yolo.add("images/train/b.jpg", LINE, "0 0.25 0.25 0.5 0.5")
    yolo.add("images/train/a.jpg")
    dataset = yolo.load()
    assert dataset.classes == ("background", "cat", "dog", "ant") and dataset.path(1) == path
    assert dataset.ids == ("images/train/a", "images/train/b")
    image, target = dataset[1]
    assert image.shape == (3, HEIGHT, WIDTH) and image[0].min() > 0.9
    assert target["boxes"].tolist() == [BOX, [0, 0, 32, 24]] and target["boxes"].dtype == torch.float32
    assert target["labels"].tolist() == [2, 1] and target["labels"].dtype == torch.int64
    assert target["difficult"].tolist() == [False, False] and target["image_id"].item() == 1
    empty = dataset.target(0)  # a missing label file is no object
    assert empty["boxes"].shape == (0, 4) and empty["difficult"].shape == (0,) and "masks" not in empty
    assert dataset.unannotated == 1
    assert yolo.load(transform=lambda image, target: "changed")[0] == "changed"


LAYOUTS = {  # of each tool: the fields of data.yaml, and the folders of the pictures of train, val, test
    "Roboflow": (
        {"train": "../train/images", "val": "../valid/images", "test": "../test/images", "nc": 3},
        ("train/images", "valid/images", "test/images"),
    ),
    "Ultralytics": (
        {"path": "../datasets/mine", "train": "images/train", "val": "images/val", "test": "images/test"},
        ("images/train", "images/val", "images/test"),
    ),
    "absolute path of another machine": (
        {"path": "/content/mine", "train": "images/train", "val": "images/val", "test": "images/test"},
        ("images/train", "images/val", "images/test"),
    ),
    "absolute folders of another machine": (
        {"train": "/content/mine/train/images", "val": "/content/mine/valid/images", "test": "/content/none"},
        ("train/images", "valid/images", "test/images"),
    ),
    "only names": ({}, ("images/train", "images/valid", "images/test")),
    "lists": ({"train": ["a/images", "b/images"], "val": ["c"], "test": "d\\images"}, ("a/images", "c", "d/images")),
    "a path below": ({"path": "sub", "train": "t", "val": "v", "test": "e"}, ("sub/t", "sub/v", "sub/e")),
    "the folder above the images": ({"train": "train", "val": "./valid", "test": "test"},
                                    ("train/images", "valid/images", "test/images")),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYOUTS)
def test_where_tools_put_their_splits(yolo, case):
    fields, folders = LAYOUTS[case]
    yolo.listing(**fields)
    for i, folder in enumerate(folders):
        for k in range(i + 1):
            yolo.add(f"{folder}/{k}.jpg", LINE)
    if case == "lists":
        yolo.add("b/images/9.jpg", LINE)
    sizes = [len(yolo.load(split)) for split in ("train", "val", "test")]
    assert sizes == [1 + (case == "lists"), 2, 3] and len(yolo.load("valid")) == 2
    for split in ("train", "val", "test"):
        assert all(yolo.load(split).target(i)["boxes"].tolist() == [BOX] for i in range(len(yolo.load(split))))


def test_the_folder_itself_goes_before_its_neighbour(yolo):
    yolo.listing(train="../train/images")
    yolo.add("train/images/a.jpg", LINE)
    yolo.add("../train/images/b.jpg", LINE)
    assert yolo.load().ids == ("train/images/a",)


@pytest.mark.parametrize("line", ["images/1.png", "./images/1.png", "data/images/1.png", "images\\1.png"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_list_of_files(yolo, line, encoding):
    yolo.listing(train="train.txt")
    path = yolo.add("images/1.png", LINE, encoding=encoding)
    yolo.add("images/2.png", LINE)
    (yolo.root / "train.txt").write_bytes(f"{line}\n".encode(encoding))
    dataset = yolo.load()
    assert dataset.ids == ("images/1",) and dataset.path(0) == path and dataset.target(0)["boxes"].tolist() == [BOX]


def test_a_listed_picture_that_is_missing_is_named(yolo):
    yolo.listing(train="train.txt")
    yolo.add("images/1.png", LINE)
    (yolo.root / "train.txt").write_text("images/1.png\nimages/2.png\n")
    with pytest.raises(ValueError, match=r"images/2\.png: no such file"):
        yolo.load()


@pytest.mark.parametrize("place", ["classes.txt", "labels/classes.txt"])
def test_without_splits_the_pictures_are_divided_always_alike(yolo, place):
    """Label Studio's export, and labelImg's."""
    for i in range(20):
        yolo.add(f"images/{i:02}.jpg", LINE)
    (yolo.root / place).write_text("cat\ndog\nant\n")
    parts = [yolo.load(split).ids for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [14, 3, 3] and len({name for part in parts for name in part}) == 20
    assert parts[1] != sorted(f"images/{i:02}" for i in range(20))[:3] and yolo.load("valid").ids == parts[1]


def test_labels_beside_the_pictures(yolo):
    (yolo.root / "classes.txt").write_text("cat\ndog\n")
    for i in range(3):
        yolo.add(f"{i}.jpg", LINE)
    assert sorted(i for split in ("train", "val", "test") for i in yolo.load(split).ids) == ["0", "1", "2"]
    assert yolo.load().target(0)["labels"].tolist() == [2]


@pytest.mark.parametrize(
    "fields",
    [
        {"names": {0: "cat", 1: "dog", 2: "ant"}},
        {"names": {"0": "cat", "1": "dog"}},
        {"names": {4: "x", 1: "dog", 0: "cat"}, "nc": 3},
        {"names": ["cat", "dog"], "nc": 2},
    ],
)
def test_names_as_a_list_or_a_dict(yolo, fields):
    yolo.listing(**fields)
    yolo.add("images/train/a.jpg", LINE)
    dataset = yolo.load()
    assert dataset.classes[:3] == ("background", "cat", "dog") and dataset.target(0)["labels"].tolist() == [2]


def test_numbers_of_classes_may_have_gaps(yolo):
    yolo.listing(names={7: "dog", 3: "cat", 2021: 5})
    yolo.add("images/train/a.jpg", "7 .5 .5 .5 .5", "3 .5 .5 .5 .5", "2021 .5 .5 .5 .5")
    assert yolo.load().classes == ("background", "cat", "dog", "5")
    assert yolo.load().target(0)["labels"].tolist() == [2, 1, 3]


@pytest.mark.parametrize("name", ["data.yml", "coco8.yaml"])
def test_other_names_of_the_listing(yolo, name):
    yolo.listing(name)
    yolo.add("images/train/a.jpg", LINE)
    assert len(yolo.load()) == 1


TRIANGLE = "2 0.25 0.25 0.75 0.25 0.75 0.75"


def test_polygons_give_boxes_and_masks(yolo):
    yolo.listing()
    yolo.add("images/train/a.jpg", TRIANGLE, "0 0 0 0.5 0 0.5 0.5 0 0.5")
    yolo.add("images/train/b.jpg")
    dataset = yolo.load()
    target = dataset.target(0)
    assert target["boxes"].tolist() == [[16, 12, 48, 36], [0, 0, 32, 24]] and target["labels"].tolist() == [3, 1]
    assert dataset.target(1)["masks"].shape == (0, HEIGHT, WIDTH)
    square = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    square[:24, :32] = True
    assert torch.equal(target["masks"][1], square)
    picture = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(picture).polygon([(16, 12), (48, 12), (48, 36)], fill=1)
    drawn = torch.from_numpy(np.array(picture)).bool()
    assert (drawn & target["masks"][0]).sum() / (drawn | target["masks"][0]).sum() > 0.9
    yolo.add("images/train/c.jpg", LINE)  # one box among polygons: no masks
    assert "masks" not in yolo.load().target(0)


def test_the_box_of_a_pose(yolo):
    yolo.listing(kpt_shape=[2, 3])
    yolo.add("images/train/a.jpg", f"{LINE} 0.1 0.1 2 0.2 0.2 0", LINE)
    target = yolo.load().target(0)
    assert target["boxes"].tolist() == [BOX, BOX] and "masks" not in target
    yolo.add("images/train/a.jpg", f"{LINE} 0.1 0.1 0.2 0.2")
    with pytest.raises(ValueError, match=r"a\.txt: line 1: expected a class"):
        yolo.load()


@pytest.mark.parametrize("line", ["1.0 0.5 0.5 0.25 0.5", "  1\t5e-1  .5 0.250000 0.5  ", "01 0.5 0.5 0.25 0.5"])
def test_spellings_of_a_line(yolo, line):
    yolo.listing()
    yolo.add("images/train/a.jpg", "", line, "", encoding="utf-8-sig")
    assert yolo.load().target(0)["boxes"].tolist() == [BOX] and yolo.load().target(0)["labels"].tolist() == [2]


@pytest.mark.parametrize(
    ("line", "box", "clipped"),
    [
        ("0 0.5 0.5 1.000001 1.00005", [0, 0, 64, 48], 0),  # rounding
        ("0 0.333333 0.5 0.666667 1", [0, 0, 64 * 0.6666665, 48], 0),
        ("0 0 0.5 0.5 0.5", [0, 12, 16, 36], 1),  # half of it lies outside
        ("0 -0.00005 0 0.5 0 0.5 0.5", [0, 0, 32, 24], 0),
    ],
)
def test_rounding_is_not_counted_as_clipping(yolo, line, box, clipped):
    yolo.listing()
    yolo.add("images/train/a.jpg", line)
    dataset = yolo.load()
    assert dataset.target(0)["boxes"][0].tolist() == pytest.approx(box, abs=1e-5) and dataset.clipped == clipped


def test_boxes_without_area_are_dropped_with_their_masks(yolo):
    yolo.listing()
    yolo.add("images/train/a.jpg", "0 0.5 0.1 0.5 0.9 0.5 0.5", TRIANGLE)
    dataset = yolo.load()
    target = dataset.target(0)
    assert dataset.dropped == 1 and target["labels"].tolist() == [3] and target["masks"].shape[0] == 1
    yolo.add("images/train/a.jpg", "0 0.5 0.5 0 0.5", LINE)
    assert yolo.load().target(0)["boxes"].tolist() == [BOX]


BAD_LINES = {
    "word": ("cat 0.5 0.5 0.1 0.1", "expected numbers"),
    "commas": ("0,0.5,0.5,0.1,0.1", "expected numbers"),
    "class": ("3 0.5 0.5 0.1 0.1", "expected a class from 0 to 2, got '3 0.5"),
    "negative class": ("-1 0.5 0.5 0.1 0.1", "expected a class from 0 to 2"),
    "half a class": ("0.5 0.5 0.5 0.1 0.1", "expected a class from 0 to 2"),
    "class nan": ("nan 0.5 0.5 0.1 0.1", "expected a class from 0 to 2"),
    "pixels": ("0 320 240 100 50", "expected shares of the picture's sides, from 0 to 1"),
    "beyond": ("0 0.5 0.5 1.01 0.1", "expected shares"),
    "negative": ("0 -0.01 0.5 0.1 0.1", "expected shares"),
    "nan": ("0 nan 0.5 0.1 0.1", "expected shares"),
    "infinite": ("0 0.5 inf 0.1 0.1", "expected shares"),
    "polygon beyond": ("0 0.1 0.1 0.5 0.1 0.5 1.2", "expected shares"),
    "three numbers": ("0 0.5 0.5 0.1", "expected a class, and a centre"),
    "class alone": ("0", "expected a class, and a centre"),
    "with a score": ("0 0.5 0.5 0.1 0.1 0.9", "expected a class, and a centre"),
    "odd polygon": ("0 0.1 0.1 0.5 0.1 0.5 0.5 0.9", "expected a class, and a centre"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_lines_are_named_or_skipped(yolo, case):
    line, words = BAD_LINES[case]
    yolo.listing()
    yolo.add("images/train/a.jpg", LINE, "", line)
    yolo.add("images/train/b.jpg", LINE)
    with pytest.raises(ValueError, match=rf"1 bad file:\n.*labels/train/a\.txt: line 3: {words}"):
        yolo.load()
    dataset = yolo.load(on_error="skip")
    assert dataset.ids == ("images/train/b",) and [f.rsplit("/", 1)[1] for f in dataset.skipped] == ["a.txt"]


BAD_LISTINGS = {
    "no names": ("train: images", "names is None, expected a list"),
    "empty names": ("names: []", r"names is \[\], expected a list"),
    "names of a file": ("names: obj.names", "names is 'obj.names', expected a list"),
    "number": ("names: [a, b]\nnc: 3", "nc is 3, but there are 2 names"),
    "yes and no": ("names: [yes, no]", "names holds True, expected text: put it in quotation marks"),
    "nothing": ("names: [a, null]", "names holds None, expected text"),
    "keys": ("names: {a: 0}", r"names has the keys \['a'\], expected whole numbers"),
    "twice": ("names: [a, b, a]", "names must differ"),
    "list": ("- a\n- b", "expected fields such as names"),
    "no yaml": ("names: [a", "not a readable YAML file"),
    "code": ("names: !!python/object/apply:os.getcwd []", "not a readable YAML file"),
}


@pytest.mark.parametrize("case", BAD_LISTINGS)
def test_a_bad_listing_is_named(yolo, case):
    text, words = BAD_LISTINGS[case]
    (yolo.root / "data.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"data\.yaml: {words}"):
        yolo.load()


def test_a_class_called_background_can_be_left_to_classes(yolo):
    yolo.listing(names=["background", "cat"])
    yolo.add("images/train/a.jpg", LINE)
    with pytest.raises(ValueError, match=r"data\.yaml: a class is named .background."):
        yolo.load()
    assert yolo.load(classes=("cat",)).target(0)["labels"].tolist() == [1]


def test_missing_splits_and_folders(yolo, tmp_path):
    with pytest.raises(ValueError, match=r"root must hold data\.yaml or classes\.txt"):
        YoloDetection(tmp_path, "train")
    yolo.listing()
    yolo.add("images/train/a.jpg", LINE)
    with pytest.raises(ValueError, match=r"split 'test' is not in .*images; there: train"):
        yolo.load("test")
    yolo.listing(train="images/train", val="images/train")
    with pytest.raises(ValueError, match=r"split 'test' is not in .*data\.yaml; there: train, val"):
        yolo.load("test")
    yolo.listing(test="pictures")
    with pytest.raises(ValueError, match=r"split 'test' is \['pictures'\] by .*data\.yaml, which is not there"):
        yolo.load("test")


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_split_without_any_labels_is_a_mistake(yolo, on_error):
    yolo.listing()
    yolo.add("images/train/a.jpg")
    with pytest.raises(
        ValueError, match=r"'train': none of its 1 pictures has an annotation file.*labels.train.a\.txt"
    ):
        yolo.load(on_error=on_error)


def test_labels_without_a_picture_are_named(yolo):
    yolo.listing()
    yolo.add("images/train/a.jpg", LINE)
    yolo.add("images/train/b.heic.jpg", LINE).rename(yolo.root / "images/train/b.heic")
    with pytest.raises(ValueError, match=r"labels/train/b\.heic\.txt: no picture in .*images/train"):
        yolo.load()
    assert yolo.load(on_error="skip").ids == ("images/train/a",)


def test_hidden_files_of_other_systems(yolo):
    yolo.listing()
    yolo.add("images/train/a.jpg", LINE)
    for name in ("images/train/._a.jpg", "images/train/.DS_Store", "labels/train/._a.txt", "._data.yaml"):
        (yolo.root / name).write_bytes(b"\0\5\x16\7")
    (yolo.root / "labels" / "train.cache").write_bytes(b"\0")
    assert yolo.load().ids == ("images/train/a",)


def test_bad_images_are_named_or_skipped(yolo):
    yolo.listing()
    yolo.add("images/train/a.jpg", LINE)
    yolo.add("images/train/b.jpg", LINE).write_text("hello")
    Image.new("RGB", (7, 9)).save(yolo.add("images/train/c.jpg", LINE))
    with pytest.raises(ValueError, match=r"2 bad files:\n.*b\.jpg: not a readable image.*\n.*c\.jpg: 7x9 pixels"):
        yolo.load()
    assert yolo.load(on_error="skip").ids == ("images/train/a",)


def test_a_subset_of_the_classes(yolo):
    yolo.listing()
    yolo.add("images/train/a.jpg", TRIANGLE, LINE, "0 0.5 0.5 0.5 0.5")
    with pytest.raises(ValueError, match=r"a\.txt: class 'cat' is none of ant, dog"):
        yolo.load(classes=("ant", "dog"))
    dataset = yolo.load(classes=("ant", "dog"), other_classes="skip")
    assert dataset.target(0)["labels"].tolist() == [1, 2] and dataset.left_out_classes == {"cat": 1}
    assert "masks" in yolo.load(classes=("ant",), other_classes="skip").target(0)
    with pytest.raises(ValueError, match=r"classes: 'cart' is not in .*data\.yaml; there: ant, cat, dog"):
        yolo.load(classes=("cart",))


def test_a_camera_s_rotation_counts(yolo):
    """The shares are about the picture as a viewer shows it."""
    yolo.listing()
    exif = Image.Exif()
    exif[0x0112] = 6
    path = yolo.add("images/train/a.jpg", LINE)
    Image.new("RGB", (WIDTH, HEIGHT)).save(path, exif=exif)
    image, target = yolo.load()[0]
    assert image.shape == (3, WIDTH, HEIGHT) and target["boxes"].tolist() == [[18, 16, 30, 48]]
