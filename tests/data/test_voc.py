import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rcnn_tutorial.data.files import find_images
from rcnn_tutorial.data.voc import VOC_CLASSES, VOCDetection, find_classes, write_annotation
from tests.data.conftest import HEIGHT, WIDTH, Voc


def coordinates(limit):
    """Ordered pairs of float32 in [0, limit], many of them whole numbers or at the border."""
    numbers = st.one_of(st.integers(0, limit).map(float), st.floats(2**-10, limit, width=32))
    return st.tuples(numbers, numbers).filter(lambda pair: pair[0] != pair[1]).map(sorted)


BOXES = st.tuples(coordinates(WIDTH), coordinates(HEIGHT)).map(
    lambda pair: [pair[0][0], pair[1][0], pair[0][1], pair[1][1]]
)
OBJECTS = st.lists(
    st.tuples(
        BOXES.filter(lambda box: np.float32(box[2]) - np.float32(box[0]) != 1),
        st.sampled_from(["cat", "dog", "<b> & 'ü'"]),
        st.booleans(),
    ),
    max_size=4,
)


@given(objects=OBJECTS)
def test_what_is_written_is_read_back_to_the_bit(tmp_path_factory, objects):
    voc = Voc(tmp_path_factory.mktemp("voc") / "voc")
    classes = ("cat", "dog", "<b> & 'ü'")
    boxes, names, difficult = zip(*objects, strict=True) if objects else ((), (), ())
    voc.add("a", boxes, names, difficult)
    dataset = voc.load("a", classes=classes)
    target = dataset.target(0)
    assert torch.equal(target["boxes"], torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    assert [dataset.classes[label] for label in target["labels"]] == list(names)
    assert target["difficult"].tolist() == list(difficult)
    assert dataset.clipped == dataset.dropped == 0


def test_written_numbers_are_1_based_inclusive_integers(tmp_path):
    write_annotation(tmp_path / "a.xml", "a.jpg", (256, 192), torch.tensor([[0.0, 9, 100, 192]]), ["cat"])
    text = (tmp_path / "a.xml").read_text()
    for tag, value in {
        "xmin": 1,
        "ymin": 10,
        "xmax": 100,
        "ymax": 192,
        "width": 256,
        "height": 192,
        "difficult": 0,
    }.items():
        assert f"<{tag}>{value}</{tag}>" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": (32.5, 24)}, "size"),
        ({"size": (0, 24)}, "size"),
        ({"boxes": torch.zeros(1, 5)}, r"\(N, 4\)"),
        ({"boxes": torch.zeros(4)}, r"\(N, 4\)"),
        ({"names": ["cat", "dog"]}, "2 names"),
        ({"difficult": []}, "0 difficult"),
        ({"names": ["a\0b"]}, "names"),
        ({"names": [" cat"]}, "names"),
        ({"names": [""]}, "names"),
        ({"boxes": torch.tensor([[0, 0, 33.0, 5]])}, "32x24"),
        ({"boxes": torch.tensor([[0, 0, 5, 24.5]])}, "32x24"),
        ({"boxes": torch.tensor([[-1.0, 0, 5, 5]])}, "32x24"),
        ({"boxes": torch.tensor([[0, 0, float("nan"), 5]])}, "nan"),
        ({"boxes": torch.tensor([[3.0, 0, 3, 5]])}, "area"),
        ({"boxes": torch.tensor([[3.0, 4, 4, 5]])}, "one pixel"),
    ],
)
def test_write_annotation_refuses(tmp_path, change, words):
    arguments = {"size": (WIDTH, HEIGHT), "boxes": torch.tensor([[0.0, 0, 5, 5]]), "names": ["cat"], "difficult": None}
    with pytest.raises(ValueError, match=words):
        write_annotation(tmp_path / "a.xml", "a.jpg", **(arguments | change))
    assert not (tmp_path / "a.xml").exists()


def test_samples_follow_the_convention(voc):
    voc.add("a", [(2, 3, 10, 12), (0, 0, 32, 24)], ["dog", "cat"], [True, False])
    voc.add("b", [])
    dataset = voc.load("b", "a")
    assert dataset.classes == ("background", "cat", "dog") and dataset.ids == ("b", "a") and len(dataset) == 2
    assert dataset.path(1) == voc.root / "JPEGImages" / "a.jpg"
    image, target = dataset[1]
    assert image.shape == (3, HEIGHT, WIDTH) and image.dtype == torch.float32 and image[0].min() > 0.9
    assert target["boxes"].tolist() == [[2, 3, 10, 12], [0, 0, 32, 24]] and target["boxes"].dtype == torch.float32
    assert target["labels"].tolist() == [2, 1] and target["labels"].dtype == torch.int64
    assert target["difficult"].tolist() == [True, False] and target["difficult"].dtype == torch.bool
    assert target["image_id"].item() == 1 and target["image_id"].dtype == torch.int64
    empty = dataset[0][1]
    assert empty["boxes"].shape == (0, 4) and empty["labels"].shape == empty["difficult"].shape == (0,)
    assert torch.equal(dataset.target(-1)["boxes"], target["boxes"])
    with pytest.raises(IndexError):
        dataset[2]


def test_a_target_can_be_changed_without_changing_the_data_set(voc):
    voc.add("a")
    dataset = voc.load("a")
    dataset[0][1]["boxes"].zero_()
    assert dataset.target(0)["boxes"].tolist() == [[2, 3, 10, 12]]


def test_the_transform_is_applied(voc):
    voc.add("a")
    assert voc.load("a", transform=lambda image, target: (image.shape, sorted(target)))[0] == (
        (3, 24, 32),
        ["boxes", "difficult", "image_id", "labels"],
    )


def test_annotations_are_parsed_once(voc):
    voc.add("a")
    dataset = voc.load("a")
    voc.annotation("a").unlink()
    assert dataset[0][1]["boxes"].tolist() == [[2, 3, 10, 12]]


@pytest.mark.parametrize("text", ["3", "3.0", " 3 ", "0.3e1", "\n3\n", "+3"])
def test_spellings_of_a_number(voc, text):
    voc.add("a")
    voc.edit("a", "<xmin>3<", f"<xmin>{text}<")
    assert voc.load("a").target(0)["boxes"].tolist() == [[2, 3, 10, 12]]


@pytest.mark.parametrize(
    ("old", "difficult"), [("<difficult>1</difficult>", False), ("1</difficult>", True), (">1</d", False)]
)
def test_the_difficult_flag_may_be_missing_or_empty(voc, old, difficult):
    voc.add("a", difficult=[True])
    voc.edit("a", old, {">1</d": "></d", "1</difficult>": " 1 </difficult>"}.get(old, ""))
    assert voc.load("a").target(0)["difficult"].tolist() == [difficult]


def test_parts_of_an_object_are_not_objects(voc):
    voc.add("a")
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    voc.edit("a", "<object>", f"<object>{part}")
    target = voc.load("a").target(0)
    assert target["boxes"].tolist() == [[2, 3, 10, 12]] and target["labels"].tolist() == [1]


SHARES = {"xmin>3": "xmin>0.1", "ymin>4": "ymin>0", "xmax>10": "xmax>1.0004", "ymax>12": "ymax>0.5"}


def test_boxes_as_shares_are_refused_by_name(voc):
    voc.add("good")
    voc.add("bad", [(2, 3, 10, 12)] * 2)
    for old, new in SHARES.items():
        voc.edit("bad", old, new)
    with pytest.raises(
        ValueError, match=r"1 bad file:\n.*bad\.xml: all its boxes lie between 0 and 1, .*multiply them"
    ):
        voc.load("good", "bad")
    assert voc.load("good", "bad", on_error="skip").ids == ("good",)
    voc.add("bad", [(2, 3, 10, 12), (4, 4, 8, 8)])
    for old, new in SHARES.items():
        voc.edit("bad", old, new)  # one box in pixels: numbers, however small, are pixels
    assert voc.load("bad").target(0)["boxes"].tolist() == [[0, 0, pytest.approx(1.0004), 0.5], [4, 4, 8, 8]]


def test_a_click_at_the_first_pixel_is_no_share(voc):
    voc.add("a", [(2, 3, 10, 12)])
    for old in ("xmin>3", "ymin>4", "xmax>10", "ymax>12"):
        voc.edit("a", old, f"{old[:5]}1")
    assert voc.load("a").dropped == 1


@pytest.mark.parametrize("text", ["a\nb\n", "a\r\nb\r\n", "\n a \n\n\nb", "a  1\nb -1\n", "a\t0\nb  1", "\ufeffa\nb\n"])
def test_split_files(voc, text):
    voc.add("a")
    voc.add("b")
    voc.split(text=text)
    assert voc.load().ids == ("a", "b")


def test_a_split_that_is_not_utf8_names_what_it_lacks(voc):
    (voc.root / "ImageSets" / "Main" / "train.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match=r"caf.\.jpg: no such file, but train names it"):
        voc.load()


def test_names_with_spaces_and_numbers(voc):
    for id in ("IMG 1", "IMG", "v1.0"):
        voc.add(id)
    assert voc.load("IMG 1", "IMG -1", "v1.0 1").ids == ("IMG 1", "IMG", "v1.0")


def test_other_image_formats(voc):
    voc.add("a").unlink()
    voc.image("a", suffix=".png")
    (voc.root / "JPEGImages" / "a.txt").write_text("not an image")
    assert voc.load("a").path(0).name == "a.png"
    voc.image("a")
    assert voc.load("a").path(0).name == "a.jpg"


def test_a_missing_size_is_the_image_s(voc):
    voc.add("a", [(2, 3, 32, 24)])
    voc.edit("a", "<size>", "<old>")
    voc.edit("a", "</size>", "</old>")
    assert voc.load("a")[0][1]["boxes"].tolist() == [[2, 3, 32, 24]]


@pytest.mark.parametrize("stored", [(WIDTH, HEIGHT), (HEIGHT, WIDTH)])
def test_a_camera_s_rotation_is_applied_where_the_annotation_counts_on_it(voc, stored):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = voc.add("a", [(2, 3, 32, 24)])
    Image.new("RGB", stored).save(path, exif=exif)
    image, target = voc.load("a")[0]
    assert image.shape == (3, HEIGHT, WIDTH) and target["boxes"].tolist() == [[2, 3, 32, 24]]


def test_boxes_that_reach_outside_are_clipped_and_counted(voc):
    voc.add("a", [(2, 3, 10, 12), (4, 4, 8, 8)])
    voc.edit("a", "<xmin>3<", "<xmin>0<")
    voc.edit("a", "<ymax>12<", "<ymax>25<")
    voc.add("b")
    dataset = voc.load("a", "b")
    assert dataset.target(0)["boxes"].tolist() == [[0, 3, 10, 24], [4, 4, 8, 8]]
    assert dataset.clipped == 1 and dataset.clipped_files == {str(dataset.path(0)): 1} and dataset.dropped == 0


@pytest.mark.parametrize(
    ("edits", "boxes"),
    [
        ({"xmin>3": "xmin>10", "ymin>4": "ymin>12"}, []),  # one point: a click
        ({"xmin>3": "xmin>10"}, [[9, 3, 10, 12]]),  # a line one pixel wide
        ({"xmin>3": "xmin>11"}, []),  # x1 == x2
        ({"xmin>3": "xmin>40", "xmax>10": "xmax>50"}, []),  # to the right of the image
        ({"ymin>4": "ymin>-9", "ymax>12": "ymax>-2"}, []),  # above it
    ],
)
def test_boxes_without_area_are_dropped_and_counted(voc, edits, boxes):
    voc.add("a", [(2, 3, 10, 12), (4, 4, 8, 8)], ["dog", "cat"], [False, True])
    for old, new in edits.items():
        voc.edit("a", old, new)
    dataset = voc.load("a")
    target = dataset.target(0)
    assert target["boxes"].tolist() == [*boxes, [4, 4, 8, 8]]
    assert target["labels"].tolist() == [*[2] * len(boxes), 1] and target["difficult"].tolist()[-1]
    assert dataset.dropped == 1 - len(boxes) and dataset.clipped == 0
    assert dataset.dropped_files == ({} if boxes else {str(dataset.path(0)): 1})


ENTITIES = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;">]><annotation>&c;</annotation>'
)


def bad_xml(old, new):
    return lambda voc, id: voc.edit(id, old, new)


def write(text):
    return lambda voc, id: voc.annotation(id).write_text(text)


def shrink(path, size):
    """A picture of another size, and an annotation that leaves the size to it."""
    Image.new("RGB", size).save(path)
    path.parent.with_name("Annotations").joinpath("bad.xml").write_text("<annotation/>")


BAD_ANNOTATIONS = {
    "truncated": (bad_xml("</annotation>", ""), "not a readable XML"),
    "empty": (write(""), "not a readable XML"),
    "entities": (write(ENTITIES), "not a readable XML.*Entit"),
    "another document": (write("<html/>"), "<html>"),
    "class": (bad_xml("cat", "unicorn"), "'unicorn' is none of cat, dog"),
    "background": (bad_xml("cat", "background"), "'background' is none"),
    "no name": (bad_xml("<name>cat</name>", ""), "without <name>"),
    "no box": (bad_xml("bndbox", "polygon"), "without <name> or <bndbox>"),
    "no number": (bad_xml("<xmin>3</xmin>", ""), "<xmin>"),
    "word": (bad_xml("<xmin>3", "<xmin>three"), "'three'"),
    "nan": (bad_xml("<xmin>3", "<xmin>NaN"), "finite"),
    "infinite": (bad_xml("<xmax>10", "<xmax>inf"), "finite"),
    "huge": (bad_xml("<xmax>10", "<xmax>1e999"), "finite"),
    "swapped x": (bad_xml("<xmax>10", "<xmax>1"), "exchanged"),
    "swapped y": (bad_xml("<ymax>12", "<ymax>2"), "exchanged"),
    "size of another image": (
        bad_xml("<width>32", "<width>24"),
        "the image is 32x24 pixels, its annotation says 24x24",
    ),
    "nan size": (bad_xml("<width>32", "<width>nan"), "finite"),
    "no size": (bad_xml("<width>32", "<width>0"), "size 0x24"),
    "half a pixel": (bad_xml("<width>32", "<width>32.5"), "size 32.5x24 is not in whole pixels"),
    "difficult": (bad_xml("<difficult>0", "<difficult>perhaps"), "<difficult> is 'perhaps', expected 0, 1, true"),
    "difficult number": (bad_xml("<difficult>0", "<difficult>2"), "<difficult> is '2', expected 0, 1, true"),
}
BAD_IMAGES = {
    "tiny": (lambda path: shrink(path, (9, 7)), "9x7 pixels, expected at least 8 on each side"),
    "flat": (lambda path: shrink(path, (7, 90)), "7x90 pixels, expected at least 8 on each side"),
    "no image": (lambda path: path.unlink(), "no such file"),
    "text": (lambda path: path.write_text("hello"), "not a readable image"),
    "empty image": (lambda path: path.write_bytes(b""), "not a readable image"),
}


@pytest.mark.parametrize("case", [*BAD_ANNOTATIONS, *BAD_IMAGES])
def test_bad_files_are_named_or_skipped(voc, case):
    for id in ("good", "bad", "last"):
        voc.add(id)
    if case in BAD_ANNOTATIONS:
        spoil, words = BAD_ANNOTATIONS[case]
        spoil(voc, "bad")
        name = "bad.jpg" if case == "size of another image" else "bad.xml"
    else:
        spoil, words = BAD_IMAGES[case]
        spoil(voc.root / "JPEGImages" / "bad.jpg")
        name = "bad.jpg"
    with pytest.raises(ValueError, match=f"1 bad file:\n.*{name}: .*{words}"):
        voc.load("good", "bad", "last")
    dataset = voc.load("good", "bad", "last", on_error="skip")
    assert dataset.ids == ("good", "last") and [int(t["image_id"]) for _, t in dataset] == [0, 1]
    ((file, reason),) = dataset.skipped.items()
    assert file.endswith(name) and file not in reason


def test_a_truncated_image_is_found_when_read_or_skipped(voc):
    voc.add("good")
    path = voc.add("bad")
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    dataset = voc.load("good", "bad")
    assert len(dataset) == 2
    with pytest.raises(ValueError, match=r"bad\.jpg: not a readable image"):
        dataset[1]
    skipping = voc.load("good", "bad", on_error="skip")
    assert skipping.ids == ("good",) and list(skipping.skipped) == [str(path)]


def test_one_error_names_many_bad_files(voc):
    for i in range(14):
        voc.add(f"a{i:02}")
        if i:
            voc.annotation(f"a{i:02}").write_text("<")
    with pytest.raises(ValueError, match="13 bad files:") as error:
        voc.load(*(f"a{i:02}" for i in range(14)))
    assert [f"a{i:02}.xml" in str(error.value) for i in range(14)] == [0 < i < 11 for i in range(14)]
    assert "and 3 more" in str(error.value)


def test_bad_arguments(voc, tmp_path):
    voc.add("a")
    voc.split("a")
    with pytest.raises(ValueError, match="split 'test' is not in .*there: train"):
        VOCDetection(voc.root, "test")
    with pytest.raises(ValueError, match="root"):
        VOCDetection(tmp_path / "nowhere", "train")
    with pytest.raises(ValueError, match="on_error"):
        voc.load("a", on_error="ignore")
    for classes in (("background", "cat"), ("cat", "cat"), "cat"):
        with pytest.raises(ValueError, match="classes"):
            voc.load("a", classes=classes)


def test_nothing_left_is_an_empty_data_set(voc):
    voc.add("a")
    voc.annotation("a").write_text("<")
    dataset = voc.load("a", on_error="skip")
    assert len(dataset) == dataset.clipped == dataset.dropped == 0 and len(dataset.skipped) == 1


def test_the_20_classes_of_voc():
    assert len(VOC_CLASSES) == 20 and list(VOC_CLASSES) == sorted(VOC_CLASSES) and VOC_CLASSES[14] == "person"


SIZE = "<size><width>32</width><height>24</height><depth>3</depth></size>"


@pytest.mark.parametrize(
    "size",
    ["<size><width>0</width><height>0</height></size>", "<size/>", "<size><depth>3</depth></size>",
     "<size><width>32.0</width><height>24.0</height></size>", ""],
)  # fmt: skip
def test_the_size_in_other_words_is_the_picture_s(voc, size):
    voc.add("a", [(2, 3, 10, 12)])
    text = "".join(line.strip() for line in voc.annotation("a").read_text().splitlines())
    assert SIZE in text
    voc.annotation("a").write_text(text.replace(SIZE, size).replace("<ymax>12", "<ymax>40"))
    assert voc.load("a").target(0)["boxes"].tolist() == [[2, 3, 10, 24]]


DIFFICULT = {"Unspecified": False, "false": False, "NO": False, "0.0": False, "true": True, "Yes": True, "1.0": True}


@pytest.mark.parametrize("text", DIFFICULT)
def test_difficult_in_words(voc, text):
    voc.add("a")
    voc.edit("a", "<difficult>0<", f"<difficult>{text}<")
    assert voc.load("a").target(0)["difficult"].tolist() == [DIFFICULT[text]]


def test_a_picture_without_an_annotation_has_no_objects(voc):
    voc.add("a")
    voc.image("b")
    dataset = voc.load("b", "a")
    assert dataset.ids == ("b", "a") and len(dataset.target(0)["boxes"]) == 0 and len(dataset.target(1)["boxes"]) == 1
    assert dataset[0][0].shape == (3, HEIGHT, WIDTH) and not dataset.skipped


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_split_without_any_annotation_is_a_mistake(voc, on_error):
    voc.add("a")
    voc.image("b")
    voc.image("c")
    with pytest.raises(ValueError, match=r"'train': none of its 2 pictures has an annotation file.*Annotations.b\.xml"):
        voc.load("b", "c", on_error=on_error)


def test_a_name_without_picture_and_annotation_is_a_mistake(voc):
    voc.add("a")
    for line in ("b", "b.jpg", "sub\\b.jpg"):
        with pytest.raises(ValueError, match=r"1 bad file:\n.*/b\.jpg: no such file, but train names it"):
            voc.load("a", line)


LINES = ["cam/1", "cam/1.jpg", "cam\\1.jpg", "cam/1.xml", "cam/1  -1", '"cam/1" 1', "cam/1.jpg 1"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line", LINES)
def test_pictures_in_subfolders_and_lines_of_other_tools(voc, line, encoding):
    for folder in ("JPEGImages", "Annotations"):
        (voc.root / folder / "cam").mkdir()
    voc.add("cam/1", difficult=[True])
    voc.add("1")
    (voc.root / "ImageSets" / "Main" / "train.txt").write_bytes(f"{line}\r\n1\r\n".encode(encoding))
    dataset = voc.load()
    assert dataset.ids == ("cam/1", "1") and dataset.path(0) == voc.root / "JPEGImages" / "cam" / "1.jpg"
    assert [dataset.target(i)["difficult"].tolist() for i in range(2)] == [[True], [False]]


def test_a_name_in_quotation_marks(voc):
    voc.add("IMG 1")
    assert voc.load('"IMG 1"', '"IMG 1"  -1').ids == ("IMG 1", "IMG 1")


def test_hidden_files_of_other_systems(voc):
    voc.add("a")
    for name in ("JPEGImages/._a.jpg", "JPEGImages/.DS_Store", "JPEGImages/Thumbs.db", "Annotations/._a.xml"):
        (voc.root / name).write_bytes(b"\0\5\x16\7")
    (voc.root / "JPEGImages" / ".trash").mkdir()
    (voc.root / "JPEGImages" / ".trash" / "a.jpg").write_bytes(b"")
    assert voc.load("a")[0][0].shape == (3, HEIGHT, WIDTH) and find_classes(voc.root) == ("cat",)
    assert list(find_images(voc.root / "JPEGImages")) == ["a"]


def test_jfif(voc):
    path = voc.add("a")
    path.rename(path.with_suffix(".jfif"))
    assert voc.load("a")[0][0].shape == (3, HEIGHT, WIDTH)


def test_valid_is_val(voc):
    voc.add("a")
    voc.split("a", name="valid")
    assert VOCDetection(voc.root, "val", ("cat",)).ids == VOCDetection(voc.root, "valid", ("cat",)).ids == ("a",)
    voc.add("b")
    voc.split("b", name="val")
    assert VOCDetection(voc.root, "val", ("cat",)).ids == ("b",)


def test_a_subset_of_the_classes_is_asked_for_by_name(voc):
    voc.add("a", [(2, 3, 10, 12), (0, 0, 5, 5), (1, 1, 9, 9)], ["dog", "cat", "ant"], [True, False, False])
    with pytest.raises(ValueError, match=r"a\.xml: class 'ant' is none of dog, cat"):
        voc.load("a", classes=("dog", "cat"))
    dataset = voc.load("a", classes=("ant", "dog"), other_classes="skip")
    target = dataset.target(0)
    assert target["labels"].tolist() == [2, 1] and target["boxes"].tolist() == [[2, 3, 10, 12], [1, 1, 9, 9]]
    assert target["difficult"].tolist() == [True, False]
    assert dataset.left_out == 1 and dataset.left_out_classes == {"cat": 1} and dataset.dropped == dataset.clipped == 0
    with pytest.raises(ValueError, match="other_classes must be"):
        voc.load("a", other_classes="drop")


def test_what_is_left_out_is_said(voc, caplog):
    for name in "abc":
        voc.add(name)
    voc.annotation("b").write_text("<")
    voc.annotation("c").write_text("<")
    assert voc.load("a").skipped == {} and not caplog.text
    voc.load("a", "b", "c", on_error="skip")
    assert "left out: 2 bad files:" in caplog.text and "b.xml" in caplog.text and "c.xml" in caplog.text
