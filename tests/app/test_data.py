import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from rcnn_tutorial.app.cli import app
from rcnn_tutorial.app.data import check, convert
from rcnn_tutorial.app.data_check import as_text, sheet
from rcnn_tutorial.data.splits import load_splits
from tests.data.test_report import add, noise


@pytest.fixture
def voc(tmp_path):
    from tests.data.conftest import Voc

    voc = Voc(tmp_path / "pets")
    add(voc, "a", [(0, 0, 32, 24), (3, 3, 9, 9)], ["cat", "dog"])
    add(voc, "b", [(3, 3, 9, 9), (3, 3, 9, 9), (5, 5, 20, 6)])
    add(voc, "c", [], split="val")
    return voc


def run(*arguments):
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


@pytest.mark.whole
def test_the_console_script_checks_converts_and_fetches(voc, tmp_path):
    """Each command as a user starts it; what the user can mend is told in one line."""

    def script(*arguments):
        command = [Path(sys.executable).with_name("rcnn-tutorial"), "data", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    checked = script("check", voc.root)
    assert checked.returncode == 0 and "1 x objects that are marked twice:" in checked.stdout
    assert (tmp_path / "pets-check.jpg").is_file()
    converted = script("convert", voc.root, "yolo", "--to", "yolo")
    assert converted.returncode == 0 and load_splits(tmp_path / "yolo").layout == "YOLO"
    again = script("convert", voc.root, "yolo", "--to", "yolo")
    assert again.returncode == 1 and again.stdout == ""
    assert (
        again.stderr.startswith("rcnn-tutorial: out must be a new or an empty folder") and "Trace" not in again.stderr
    )
    nothing = script("fetch", "voc2007", "--from", "nowhere", "--root", "data")
    assert nothing.returncode == 1 and nothing.stderr == "rcnn-tutorial: there is no nowhere\n"
    wrong = script("check", tmp_path / "nowhere")
    assert wrong.returncode == 1 and len(wrong.stderr.splitlines()) == 1 and "expected" in wrong.stderr


def test_help_needs_no_torch():
    code = "import sys; from rcnn_tutorial.app import cli, data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    told = run("check", "--help").output
    assert "Ends with status 1" in " ".join(told.split()) and "--json" in told


def test_check_tells_counts_and_findings(voc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("check", voc.root, "--json", "report.json")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    for line in (
        f"{voc.root}: PASCAL VOC",
        "2 classes: cat, dog.",
        "There is no test split.",
        "train val",
        "pictures 2 1",
        "without objects 0 1",
        "objects 5 0",
        "width / height of a box 1.00 to 15 -",
        "sides of a box, pixels 1.00 to 32 -",
        "size of a picture 32x24 32x24",
        "objects train val small medium large",
        "cat 4 0 4 0 0",
        "all 5 0 5 0 0",
        "1 x objects that are marked twice:",
        "1 x boxes of nearly the whole picture:",
        f"{voc.root}/JPEGImages/b.jpg: a cat of 15 x 1 pixels.",
        "The page of pictures is pets-check.jpg. The report is report.json.",
    ):
        assert line in lines, line
    assert not any("difficult" in line for line in lines)  # what there is none of is left out
    assert json.loads((tmp_path / "report.json").read_text())["splits"]["train"]["objects"] == 5
    with Image.open(tmp_path / "pets-check.jpg") as page:
        assert page.format == "JPEG" and page.width == 1199


def test_check_ends_with_1_where_a_file_cannot_be_read(voc, tmp_path):
    for i in range(12):
        (voc.root / "JPEGImages" / f"bad{i:02}.jpg").write_bytes(b"?")
    voc.split("a", *(f"bad{i:02}" for i in range(12)))
    result = run("check", voc.root, "--pictures", tmp_path / "page.png")
    assert result.exit_code == 1 and "12 files cannot be read:" in result.output and "  and 2 more" in result.output
    assert f"{voc.root}/JPEGImages/bad00.jpg: not a readable image" in result.output
    assert (tmp_path / "page.png").is_file()


def test_only_some_classes(voc, tmp_path):
    result = run("check", voc.root, "--classes", "dog", "--pictures", tmp_path / "page.png")
    assert "4 objects are left out, of other classes: cat." in result.output and "cat  " not in result.output


def test_a_data_set_without_faults_is_told_so(voc, tmp_path):
    names = [f"p{i:02}" for i in range(12)]
    for name in names:
        add(voc, name, [(3, 3, 9, 9), (5, 5, 20, 16)], ["cat", "dog"])
    voc.split(*names)
    assert "Nothing looks like a mistake." in as_text(check(voc.root))


def test_nothing_is_written_without_being_asked_for(voc, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    report = check(voc.root)
    assert report.classes == ("cat", "dog") and sorted(tmp_path.rglob("*")) == before


def panels(figure):
    return {ax.get_title(): ax for ax in figure.axes if ax.images}


def test_the_page_shows_findings_first_and_in_their_colour(voc):
    for i in range(30):
        add(voc, f"p{i:02}", [(3, 3, 9, 9)], picture=noise(i))
    report = check(voc.root)
    figure = sheet(report, load_splits(voc.root).parts())
    drawn = panels(figure)
    assert list(drawn)[:2] == ["train: b.jpg", "train: a.jpg"] and len(drawn) == 12
    first = drawn["train: b.jpg"]
    assert [text.get_text() for text in first.texts][-1] == "marked twice, very thin"
    assert {patch.get_edgecolor()[:3] for patch in first.patches} == {(213 / 255, 94 / 255, 0)}
    second = drawn["train: a.jpg"]
    boxes = {patch.get_bbox().bounds: patch.get_edgecolor()[:3] for patch in second.patches}
    assert boxes.keys() == {(0, 0, 32, 24), (3, 3, 6, 6)} and len(set(boxes.values())) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cat", "dog"]
    others = list(drawn)[2:]
    assert len(set(others)) == 10 and all(title.startswith(("train: p", "val")) for title in others)
    plain = next(ax for title, ax in drawn.items() if title.startswith("train: p"))
    assert [text.get_text() for text in plain.texts] == ["cat"]


def test_convert_writes_all_splits_and_says_what_was_lost(voc, tmp_path):
    voc.edit("a", "<difficult>0</difficult>", "<difficult>1</difficult>")
    result = run("convert", voc.root, tmp_path / "yolo", "--to", "yolo", "--link")
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    assert "2 difficult objects are kept without that mark" in told and "There is no test split." in told
    assert "Train on it by: rcnn-tutorial train" in told
    splits = load_splits(tmp_path / "yolo")
    assert splits.layout == "YOLO" and len(splits.train) == 2 and len(splits.val) == 1
    assert (tmp_path / "yolo" / "images" / "train" / "a.jpg").is_symlink()
    assert run("convert", voc.root, tmp_path / "other", "--to", "csv").exit_code == 2


def test_convert_refuses_bad_files_unless_they_are_to_be_skipped(voc, tmp_path):
    (voc.root / "JPEGImages" / "bad.jpg").write_bytes(b"?")
    voc.split("a", "b", "bad")
    voc.split("c", name="val")
    result = run("convert", voc.root, tmp_path / "coco", "--to", "coco")
    assert isinstance(result.exception, ValueError) and "bad.jpg" in str(result.exception)
    assert not (tmp_path / "coco").exists()
    assert (
        run(
            "convert", voc.root, tmp_path / "coco", "--to", "coco", "--on-error", "skip", "--classes", "dog,cat"
        ).exit_code
        == 0
    )
    assert json.loads((tmp_path / "coco" / "annotations" / "instances_val.json").read_text())["annotations"] == []
    stated = json.loads((tmp_path / "coco" / "annotations" / "instances_train.json").read_text())
    assert [category["name"] for category in stated["categories"]] == ["dog", "cat"] and len(stated["images"]) == 2


def test_masks_are_kept_where_all_pictures_have_them(tmp_path):
    from tests.data.test_convert import coco_with_masks
    from tests.data.test_report import WIDTH

    (tmp_path / "data").mkdir()
    coco_with_masks(tmp_path / "data")
    convert(tmp_path / "data", tmp_path / "voc", "voc")
    splits = load_splits(tmp_path / "voc", masks=True)
    assert splits.train.target(0)["masks"].shape[2] == WIDTH
    lists = tmp_path / "voc" / "ImageSets" / "Segmentation"
    lists.mkdir()
    for split, part in splits.parts().items():
        (lists / f"{split}.txt").write_text(f"{part.ids[0]}\n")
    notes = convert(tmp_path / "voc", tmp_path / "coco", "coco")
    assert notes[-1] == "3 of 6 pictures have masks, so masks are left out; --masks takes those."
    assert len(load_splits(tmp_path / "coco").train) == 4
    convert(tmp_path / "voc", tmp_path / "masked", "coco", masks=True)
    assert len(load_splits(tmp_path / "masked", masks=True).train) == 1
    convert(tmp_path / "data", tmp_path / "bare", "voc", masks=False)
    assert not (tmp_path / "bare" / "SegmentationObject").exists()


def test_fetch_says_where_the_data_set_is(tmp_path, monkeypatch):
    import zipfile

    from rcnn_tutorial.data import fetch as fetching
    from rcnn_tutorial.data.download import Source, digest

    parts = ("Annotations", "JPEGImages")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for part in parts:
            (tmp_path / "known" / part).mkdir(parents=True)
            (tmp_path / "known" / part / "a").write_bytes(part.encode())
            file.writestr(f"BCCD/{part}/a", part)
    source = Source("http://127.0.0.1:1/", "BCCD", parts, digest(tmp_path / "known", parts))
    monkeypatch.setattr(fetching, "BCCD", source)
    monkeypatch.setenv("RCNN_TUTORIAL_DATA", str(tmp_path / "data"))
    result = run("fetch", "bccd", "--from", tmp_path / "a.zip")
    assert result.exit_code == 0, result.output
    assert f"bccd is in {tmp_path / 'data' / 'bccd'}. Train on it by: rcnn-tutorial train bccd" in result.output
    result = run("fetch", "bccd", "--from", tmp_path / "a.zip", "--root", tmp_path / "other")
    assert f"rcnn-tutorial train {tmp_path / 'other' / 'bccd'}" in result.output
    assert "already" in run("fetch", "bccd").output
    assert run("fetch", "imagenet").exit_code == 2
