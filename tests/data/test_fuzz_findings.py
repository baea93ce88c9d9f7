"""What the fuzzer found, each by name: files that readers took for something else, or that ended them otherwise."""

import json
import os
import signal
import struct
import warnings
import zlib
from contextlib import contextmanager

import pytest
from PIL import Image

from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.data.coco import CocoDetection
from rcnn_tutorial.data.files import has_annotation, plain_number, read_file
from rcnn_tutorial.data.images import FileError, check_image, read_image
from tests.data.fuzz import place
from tests.data.fuzz_folders import Special, layout_of, write
from tests.data.fuzz_yolo import BOMB

HUGE = 10**400


@contextmanager
def changed(name, **changes):
    """A folder with other content in some files; the names stand for paths, as `label` for that of picture b."""
    layout = layout_of(name)
    paths = {
        "picture": layout.pictures["b"],
        "label": layout.annotations["b"],
        "listing": "data.yaml",
        "json": "a.json",
    }
    paths["split"] = "ImageSets/Main/train.txt"
    for key, content in changes.items():
        layout.files[paths[key]] = content
    with place() as folder:
        write(layout.files, folder)
        yield layout, folder


def refused(name, words, public=True, skipped=True, **changes):
    """The error names what is wrong; the other two pictures are read where bad ones are skipped."""
    with changed(name, **changes) as (layout, folder):
        with pytest.raises(ValueError, match=words):
            layout.load(folder, "raise", public)
        if not skipped:
            with pytest.raises(ValueError, match=words):
                layout.load(folder, "skip", public)
            return
        dataset = layout.load(folder, "skip", public)
        assert [dataset.path(i).stem for i in range(len(dataset))] == ["a", "c"] and len(dataset.skipped) == 1


def edited(name, old, new):
    layout = layout_of(name)
    content = layout.files[layout.annotations["b"]]
    assert old in content
    return content.replace(old, new, 1)


# XML


@pytest.mark.parametrize("number", ["1e9999999", "-1e99999999999", "1e400"])
def test_a_decimal_too_large_for_a_float(number):
    """Subtracting 1 from it raised decimal.Overflow."""
    content = edited("voc", b"<xmin>5</xmin>", f"<xmin>{number}</xmin>".encode())
    refused("voc", r"b\.xml: <xmin> is .*, expected a finite number", label=content)


def test_a_number_with_an_underscore():
    """Python reads 1_0 as 10: a slip of the finger moved a box."""
    content = edited("voc", b"<xmin>5</xmin>", b"<xmin>0_5</xmin>")
    refused("voc", r"b\.xml: <xmin> is '0_5', expected a number", label=content)
    content = edited("yolo", b"0 0.5", b"0 0_0.5")
    refused("yolo", r"b\.txt: line 1: expected numbers", label=content)
    assert plain_number("1e1") == 10


@pytest.mark.parametrize(
    ("old", "tag"),
    [(b"<xmin>5</xmin>", "xmin"), (b"<name>ant</name>", "name"), (b"<difficult>0</difficult>", "difficult")],
)
def test_two_values_of_one_field_of_an_object(old, tag):
    """The first was taken without a word."""
    content = edited("voc", old, old + old)
    refused("voc", rf"b\.xml: <\w+> has 2 <{tag}>, expected one", label=content)


def test_two_boxes_or_sizes():
    content = edited("voc", b"</object>", b"<bndbox/></object>")
    refused("voc", r"b\.xml: <object> has 2 <bndbox>", label=content)
    content = edited("voc", b"<object>", b"<size/><object>")
    refused("voc", r"b\.xml: <annotation> has 2 <size>", label=content)


def test_objects_called_background():
    """The error named neither the folder nor what to do."""
    content = edited("voc", b"ant", b"background")
    refused("voc", r'objects are named "background" as label 0 is; leave them out by `classes`', skipped=False,
            label=content)  # fmt: skip
    with changed("voc", label=content) as (_, folder):
        dataset = load_dataset(folder, "train", classes=["ant", "cat"])
        assert dataset.left_out_classes == {"background": 1}


@pytest.mark.parametrize("line", [b"/", b"x" * 5000, b"..", b"a\0b"])
def test_a_line_of_a_split_that_can_be_no_name(line):
    """`/` raised an error without a file, and a name longer than any file's ended the reading that skips bad files."""
    with changed("voc", split=b"a\n" + line + b"\nc\n") as (layout, folder):
        with pytest.raises(ValueError, match="1 bad file:\n"):
            layout.load(folder, "raise", True)
        assert layout.load(folder, "skip", True).ids == ("a", "c")


# Something else in the place of a file


OTHERS = {"folder": Special("folder"), "pipe": Special("fifo"), "lost": Special("link", "nowhere")}


@pytest.mark.parametrize("name", ["voc", "labelimg", "yolo"])
@pytest.mark.parametrize("kind", OTHERS)
def test_something_else_in_place_of_an_annotation(name, kind):
    """The picture counted as one without objects; a link whose target was moved away lost all of its objects."""
    refused(name, r"b\.(xml|txt): not a file, but a folder, a pipe, or a link to what is not there", label=OTHERS[kind])


def test_what_may_be_no_annotation(tmp_path):
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").symlink_to("a.txt")
    assert has_annotation(tmp_path / "a.txt") and has_annotation(tmp_path / "b.txt")
    assert not has_annotation(tmp_path / "c.txt")


@pytest.mark.parametrize("name", ["voc", "labelimg", "coco", "yolo"])
@pytest.mark.parametrize("kind", OTHERS)
def test_something_else_in_place_of_a_picture(name, kind):
    """A pipe was waited for without end, and in YOLO's layout the picture was left out without a word."""
    refused(name, r"b\.(jpg|xml|txt): ", picture=OTHERS[kind])


@pytest.mark.parametrize(("name", "key"), [("coco", "json"), ("yolo", "listing")])
def test_a_pipe_in_place_of_the_list(name, key):
    """It was waited for without end."""
    refused(name, "Not a file", skipped=False, **{key: Special("fifo")})


def test_a_device_is_not_read(tmp_path):
    (tmp_path / "a.jpg").symlink_to("/dev/zero")
    with pytest.raises(OSError, match=r"Not a file: .*a\.jpg"):
        read_file(tmp_path / "a.jpg")
    with pytest.raises(FileError, match=r"a\.jpg: not a file"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="has other permissions")
@pytest.mark.parametrize("name", ["voc", "labelimg", "coco", "yolo"])
@pytest.mark.parametrize("key", ["label", "picture"])
def test_a_file_without_permission_is_skipped_with_the_bad_ones(name, key):
    """PermissionError ended the reading of YOLO's labels that skips bad files."""
    if (name, key) == ("coco", "label"):
        return
    layout = layout_of(name)
    locked = Special("locked", layout.files[layout.annotations["b"] if key == "label" else layout.pictures["b"]])
    with changed(name, **{key: locked}) as (layout, folder):
        root = os.geteuid() == 0  # who may read everything
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(ValueError, match=r"b\.(jpg|xml|txt): .*Permission denied"):
                layout.load(folder, "raise", True)
            assert len(layout.load(folder, "skip", True)) == 2
        finally:
            if root:
                os.seteuid(0)


# JSON


def coco(change):
    content = json.loads(layout_of("coco").files["a.json"])
    b = next(a for a in content["annotations"] if a["image_id"] == 6)
    change(content, b)
    return json.dumps(content).encode()


@pytest.mark.parametrize("field", ["bbox", "area", "segmentation"])
@pytest.mark.parametrize("value", [HUGE, -HUGE])
def test_a_whole_number_too_long_for_a_float(field, value):
    """It raised OverflowError, without the file, also where bad ones were to be skipped."""

    def change(content, annotation):
        annotation[field] = {"bbox": [value, 0, 3, 3], "area": value, "segmentation": [[value, 0, 3, 3]]}[field]

    refused("coco", r"b\.jpg: (bbox|area|polygon)", json=coco(change))


def test_booleans_are_no_coordinates():
    """`true` was read as 1."""
    for change in (
        lambda _, a: a.update(bbox=[True, 0, 3, 3]),
        lambda _, a: a.update(segmentation=[[True, 0, 3, 0, 3, 3]]),
        lambda _, a: a.update(segmentation=[[True, 0, 3, 3]]),
    ):
        refused("coco", r"b\.jpg: (bbox|polygon|the segmentation)", json=coco(change))


def test_a_polygon_that_is_a_dict():
    """Without a bbox it raised a TypeError."""

    def change(content, annotation):
        annotation["segmentation"] = [[0, 0, 3, 0, 3, 3], {}]
        del annotation["bbox"]

    refused("coco", r"b\.jpg: polygon \{\} must be numbers", json=coco(change))


@pytest.mark.parametrize(
    ("old", "new"), [('"images": [', '"images": [], "images": ['), ('"id": 6', '"id": 9, "id": 6')]
)
def test_a_key_that_stands_twice(old, new):
    """The last one was taken without a word."""
    content = coco(lambda *_: None).decode().replace(old, new, 1).encode()
    refused(
        "coco", r"a\.json: not a readable JSON file \(an object has the key '\w+' twice", skipped=False, json=content
    )


@pytest.mark.parametrize("counts", ["o" * 200_000, "PPYo17", "\u00ffPY17", "P PY17", "PPPPPPPP0PY17"])
def test_runs_of_other_characters_or_without_an_end(counts):
    """Characters that no RLE has were read as numbers, an unfinished number fell away, and a long one took minutes."""
    change = lambda _, a: a["segmentation"].update(counts=counts)  # noqa: E731
    refused("coco", r"b\.jpg: the runs of an RLE must be whole numbers", json=coco(change))


def test_a_name_that_is_no_text():
    """Half a letter was a class, and printing its name raised an error."""
    content = coco(lambda content, _: content["categories"][0].update(name="\ud800"))
    refused("coco", r"a\.json: a category is named '\\ud800', which is no text", skipped=False, json=content)
    refused("yolo", r"data\.yaml: names holds '\\ud800', expected text", skipped=False,
            listing=b'names: [ant, "\\uD800"]')  # fmt: skip


def test_a_file_name_longer_than_any():
    """With a backslash in it, looking for it raised an error that ended the reading that skips bad files."""
    change = lambda content, _: content["images"][1].update(file_name="\\" + "x" * 300)  # noqa: E731
    refused("coco", "xxx: not a readable image", json=coco(change))


# YAML


@contextmanager
def within(seconds):
    """Long enough for what is refused at once."""

    def stop(*_):
        raise AssertionError(f"took more than {seconds} seconds")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


MERGES = b"x0: &x0 {a: b}\n" + b"".join(
    b"x%d: &x%d\n  <<: [%s]\n" % (i, i, b", ".join([b"*x%d" % (i - 1)] * 9)) for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        (b"x0: &x0 [a]\n" + BOMB + b"names: *x8\n", "names holds"),
        (b"x0: &x0 [a]\n" + BOMB + b"names: [a, b]\nnc: *x8\n", "nc is"),
        (b"x0: &x0 [a]\n" + BOMB + b"names: {0: a, 1: *x8}\n", "names holds"),
        (b"x0: &x0 [a]\n" + BOMB + b"names: [a, b]\nkpt_shape: *x8\n", "kpt_shape is"),
        (b"x0: &x0 [a]\n" + BOMB + b"names: [a, b]\ntrain: *x8\n", "path and train must be a path"),
        (MERGES + b"names: [ant, cat]\n", "<< is not understood"),
    ],
    ids=["names", "number", "a name", "key points", "place", "merged"],
)
def test_yaml_that_expands_without_end(listing, words):
    """The error message wrote out a list of 43 million entries, and "<<" filled the memory."""
    with within(10):
        refused("yolo", words, skipped=False, listing=listing)


@pytest.mark.parametrize("value", ["!!int ''", "!!int '-'", "!!bool maybe", "!!timestamp maybe", "2001-99-99"])
def test_yaml_whose_values_are_not_of_their_type(value):
    """They raised an IndexError, a KeyError or an AttributeError."""
    refused("yolo", r"data\.yaml: not a readable YAML file", skipped=False, listing=f"names: [ant, {value}]".encode())


@pytest.mark.parametrize("names", ["{0: ant, 0: cat}", "[ant, cat]\nnames: [cat, ant]"])
def test_a_key_that_stands_twice_in_yaml(names):
    """The last one was taken without a word: classes got other names."""
    refused("yolo", r"data\.yaml: .*a key stands twice", skipped=False, listing=f"names: {names}\n".encode())


@pytest.mark.parametrize(
    "names", ["{.inf: ant}", "{.nan: ant}", "{0: ant, 1.5: cat}", "{no: ant, yes: cat}", "{-1: ant}"]
)
def test_numbers_of_classes_that_are_none(names):
    """1.5 and `yes` were read as 1, and .inf raised an OverflowError."""
    refused("yolo", r"data\.yaml: names has the keys .*, expected whole numbers", skipped=False,
            listing=f"names: {names}\n".encode())  # fmt: skip


def test_a_number_of_a_class_as_text_and_as_a_number():
    """One of the two names fell away."""
    refused("yolo", "of which two are the same number", skipped=False, listing=b"names: {0: ant, 1: cat, '1': dog}\n")


@pytest.mark.parametrize("shape", ["17", "ab", "[a]", "[.nan]", "[-2, 2]", "{a: 1}", "[true, 2]"])
def test_key_points_that_are_none(shape):
    """They raised a TypeError, or an error without the file."""
    refused("yolo", r"data\.yaml: kpt_shape is .*, expected a list of whole numbers", skipped=False,
            listing=f"names: [ant, cat]\nkpt_shape: {shape}\n".encode())  # fmt: skip


@pytest.mark.parametrize("line", ["/", ".", "x" * 5000, "a\0b"])
def test_a_line_of_a_list_that_can_be_no_name(line):
    """`/` raised an error without a file, and a long name one that ended the reading that skips bad files."""
    layout = layout_of("yolo")
    layout.files["data.yaml"] = b"names: [ant, cat]\ntrain: train.txt\n"
    layout.files["train.txt"] = f"images/train/a.jpg\n{line}\nimages/train/c.jpg\n".encode()
    with place() as folder:
        write(layout.files, folder)
        with pytest.raises(ValueError, match="bad file"):
            layout.load(folder, "raise", True)
        assert len(layout.load(folder, "skip", True)) == 2


# Pictures


def png(width, height, content=b""):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + content + chunk(b"IDAT", zlib.compress(bytes(500))) + chunk(b"IEND", b"")


def test_a_header_that_promises_more_than_the_file_can_hold(tmp_path):
    """324 MB were taken for 81 million pixels of a file of 100 bytes."""
    path = tmp_path / "a.png"
    path.write_bytes(png(9000, 9000))
    for use in (check_image, read_image):
        with pytest.raises(FileError, match=r"a\.png: too many pixels to be meant \(9000x9000 in \d+ bytes\)"):
            use(path)
    Image.new("RGB", (4000, 4000)).save(path)  # black, and as small as a picture of this size can be
    assert check_image(path) == (4000, 4000)


def test_postscript_is_no_picture(tmp_path, monkeypatch):
    """Pillow would start Ghostscript on it, whatever its suffix."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 12\n%%EndComments\nshowpage\n")
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    for use in (check_image, read_image):
        with pytest.raises(FileError, match="not a readable image"):
            use(path)


def test_metadata_that_cannot_be_read_leaves_the_pixels(tmp_path):
    """Pillow warned on the screen, and with warnings as errors a good picture was refused."""
    Image.new("RGB", (16, 12), (255, 0, 0)).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    exif = b"\xff\xe1" + struct.pack(">H", 30) + b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(12)
    (tmp_path / "a.jpg").write_bytes(content[:2] + exif + content[2:])
    (tmp_path / "b.png").write_bytes(png(8, 8, struct.pack(">I", 8) + b"acTL" + bytes(8) + b"\x8d\xbb\x46\x9b"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_image(tmp_path / "a.jpg").shape == (3, 12, 16)
        for use in (check_image, read_image):
            use(tmp_path / "a.jpg")
    assert not caught


def test_an_error_message_is_no_longer_than_a_page():
    error = FileError("a.json", "x" * 10_000_000 + "the end")
    assert len(str(error)) < 1100 and str(error).endswith("the end")


def test_the_box_and_the_masks_of_the_readings_agree(tmp_path):
    """Runs that are left are still those of pycocotools, which read past the end of an unfinished number."""
    layout = layout_of("coco")
    with place() as folder:
        write(layout.files, folder)
        dataset = CocoDetection(folder / "images", folder / "a.json")
        assert dataset[1][1]["masks"].sum() == 64
