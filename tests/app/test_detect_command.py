"""`rcnn-tutorial detect`, in this process, and a few times as a program of its own."""

import csv
import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from typer.testing import CliRunner

from rcnn_tutorial.app import detect as detect_module
from rcnn_tutorial.app import detect_folder
from rcnn_tutorial.app.cli import app
from rcnn_tutorial.app.detect import detect
from rcnn_tutorial.app.detect_command import table
from rcnn_tutorial.app.detect_folder import detect_into
from rcnn_tutorial.data import videos
from rcnn_tutorial.data.coco import CocoDetection
from rcnn_tutorial.data.generated.shapes import CLASSES, scene
from rcnn_tutorial.data.images import check_image, read_image
from rcnn_tutorial.data.videos import Video
from rcnn_tutorial.evaluation import coco_ap
from tests.app.pictures import BOX, FindsColours, picture

SCRIPT = Path(sys.executable).with_name("rcnn-tutorial")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with pictures of one name in two subfolders, and the working folder of the command."""
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    picture().save(tmp_path / "photos/a/1.png")
    picture((120, 90), (10, 20, 30, 50), (50, 20, 90, 70)).save(tmp_path / "photos/b/1.png")
    picture((60, 40), None).save(tmp_path / "photos/b/2.jpg")
    picture().save(tmp_path / "photos/b/3.webp", lossless=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def colours(monkeypatch):
    """The detector of every file of weights is the one that finds colours."""
    devices = []

    def model_of(weights, device=None):
        devices.append(device)
        return FindsColours(masks=weights == "masks.pt")

    monkeypatch.setattr(detect_module, "model_of", model_of)
    return devices


def run(*arguments, status=0):
    result = CliRunner().invoke(app, ["detect", "weights.pt", *map(str, arguments)])
    assert result.exit_code == status, (result.output, result.exception)
    return result


def pixels(file):
    return read_image(file).mul(255).round().permute(1, 2, 0).int().numpy()  # (H, W, 3)


def content(file):
    return json.loads(Path(file).read_text())


def test_one_command_draws_and_writes_json_and_csv(folder):
    told = run("photos").output
    here = Path("runs/detect")
    assert sorted(p.relative_to(here).as_posix() for p in here.rglob("*.*")) == [
        "a/1.png", "b/1.png", "b/2.jpg", "b/3.webp.jpg", "detections.csv", "detections.json"
    ]  # fmt: skip
    assert check_image(here / "b/1.png") == (120, 90) and (here / "b/3.webp.jpg").read_bytes()[6:10] == b"JFIF"
    assert pixels(here / "a/1.png")[BOX[1], BOX[0] + 20].tolist() == [0, 114, 178]  # the first colour
    rows = list(csv.DictReader((here / "detections.csv").read_text().splitlines()))
    assert list(rows[0]) == ["file", "class", "score", "x1", "y1", "x2", "y2"]
    assert [(r["file"], r["x1"]) for r in rows] == [("a/1.png", "30.00"), ("b/1.png", "10.00"), ("b/3.webp", "30.00")]
    assert {(r["class"], r["score"]) for r in rows} == {("red", "0.9000")}
    for words in ("class  objects  pictures  mean score", "red          3         3        0.90", "4 pictures in",
                  "Drawn: runs/detect", "Detections: runs/detect/detections.json"):  # fmt: skip
        assert words in told
    assert "left out" not in told and "selective search" not in told and "AP" not in told


def test_the_json_is_a_data_set_of_coco(folder):
    run("photos", "--threshold", "0.3")
    written = content("runs/detect/detections.json")
    assert written["images"][1] == {"id": 2, "file_name": "b/1.png", "width": 120, "height": 90}
    assert written["categories"] == [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
    first, _, blue, _ = written["annotations"]
    assert first == {"id": 1, "image_id": 1, "category_id": 1, "bbox": [30, 20, 50, 40], "area": 2000, "score": 0.9,
                     "iscrowd": 0}  # fmt: skip
    assert (blue["category_id"], blue["image_id"], blue["bbox"], blue["score"]) == (2, 2, [50, 20, 40, 50], 0.4)
    assert written["info"]["threshold"] == 0.3 and written["info"]["folder"] == str(folder / "photos")
    read = CocoDetection("photos", "runs/detect/detections.json")
    assert read.classes == ("background", "red", "blue") and len(read) == 4
    assert read.target(0)["boxes"].tolist() == [list(BOX)] and read.target(1)["labels"].tolist() == [1, 2]
    assert read.target(2)["boxes"].shape == (0, 4)


def test_each_run_has_a_folder_of_its_own_unless_one_is_named(folder):
    for expected in ("runs/detect", "runs/detect2", "runs/detect3"):
        assert f"Drawn: {expected}\n" in run("photos/a").output and Path(expected, "1.png").is_file()
    run("photos/a", "--output", "there/deep")
    assert Path("there/deep/1.png").is_file() and Path("there/deep/detections.json").is_file()
    run("photos", ".", "--output", "there")  # the drawn ones are not looked at
    assert len(content("there/detections.json")["images"]) == 4
    assert not Path("runs/detect4").exists()


def test_files_may_go_elsewhere_and_nothing_be_drawn(folder):
    run("photos", "--no-pictures", "--json", "j/all.json", "--csv", "c/all.csv")
    assert len(content("j/all.json")["images"]) == 4 and Path("c/all.csv").is_file() and not Path("runs").exists()
    assert "Drawn" not in run("photos", "--no-pictures").output
    assert sorted(p.name for p in Path("runs/detect").iterdir()) == ["detections.csv", "detections.json"]


def test_options_reach_the_detector_and_the_pictures(folder, colours, monkeypatch):
    assert (
        "blue"
        in run("photos", "--threshold", "0.2", "--classes", "blue, red", "--batch", "2", "--device", "cpu").output
    )
    assert colours == ["cpu"]
    told = run("photos", "--threshold", "0.2", "--classes", "blue").output
    assert "red" not in told and content("runs/detect2/detections.json")["categories"] == [{"id": 1, "name": "blue"}]
    result = CliRunner().invoke(app, ["detect", "weights.pt", "photos", "--classes", "green"])
    assert isinstance(result.exception, ValueError) and "classes: expected some of red, blue" in str(result.exception)
    labelled, without, scores, plain = (drawn(*options) for options in (
        (), ("--hide-labels",), ("--hide-labels", "--show-scores"), ("--hide-labels", "--hide-scores")))  # fmt: skip
    assert labelled > without == scores > plain == 0


def drawn(*options):
    """How many pixels of a label stand above the box."""
    run("photos/a", "--output", "labels", *options)
    above = pixels("labels/1.png")[: BOX[1] - 2]
    return int((np.abs(above - 60).max(axis=2) > 20).sum())


def test_masks_are_in_the_json_and_in_the_pictures(folder):
    detect_into("out", FindsColours(masks=True), "photos/a", progress=False)
    read = CocoDetection("photos/a", "out/detections.json")
    assert read.target(0)["masks"].sum() == (BOX[2] - BOX[0]) * (BOX[3] - BOX[1])
    inside = pixels("out/1.png")[40, 55]
    assert np.abs(inside - (0.6 * np.array((220, 30, 30)) + 0.4 * np.array((0, 114, 178)))).max() <= 1


def test_no_original_is_written_over(folder):
    before = {path: path.read_bytes() for path in Path("photos").rglob("*.*")}
    Path("instances.json").write_text("{}")
    for options in (["photos", "--output", "photos"], ["photos/a/1.png", "--output", "photos/a"],
                    ["photos", "--json", "photos/a/1.png"], ["photos", "--csv", "photos/a/../b/2.jpg"]):  # fmt: skip
        result = CliRunner().invoke(app, ["detect", "weights.pt", *options])
        assert "would be written over a file that is read here" in str(result.exception), options
    assert before == {path: path.read_bytes() for path in Path("photos").rglob("*.*")} and not Path("runs").exists()


def test_drawings_of_files_whose_names_would_meet_stay_apart(folder):
    picture((50, 40)).save("photos/b/3.webp.jpg")
    results = detect_into("out", FindsColours(), "photos/b", progress=False)
    assert sorted(path.name for path in results.drawn) == ["1.png", "2.jpg", "3.webp-2.jpg", "3.webp.jpg"]
    assert check_image("out/3.webp-2.jpg") == (50, 40) and check_image("out/3.webp.jpg") == (100, 80)


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_written(folder):
    Path("photos/a/2.png").write_bytes(b"nothing")
    assert "1 file could not be read and left out." in run("photos").output
    assert len(content("runs/detect/detections.json")["images"]) == 4


def test_ctrl_c_keeps_what_was_found(folder, monkeypatch):
    def answer(self, image):
        if image.shape[1:] == (90, 120):
            raise KeyboardInterrupt
        return detector_answer(self, image)

    detector_answer = FindsColours.answer
    monkeypatch.setattr(FindsColours, "answer", answer)
    assert "Interrupted: the files hold what was found so far." in run("photos", status=130).output
    assert [image["file_name"] for image in content("runs/detect/detections.json")["images"]] == ["a/1.png"]


def film(path, frames=6):
    """A red object that moves four pixels to the right in each frame, and is away in the last one."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (96, 80))
    for number in range(frames):
        left = 10 + 4 * number
        shown = picture((96, 80), (left, 20, left + 40, 60) if number < frames - 1 else None)
        writer.write(np.array(shown)[..., ::-1])
    writer.release()


def test_a_video_becomes_an_annotated_video_and_its_frames_have_numbers(folder):
    film("photos/a/film.avi")
    told = run("photos/a", "--batch", "4").output
    written = content("runs/detect/detections.json")
    images = [(image["file_name"], image.get("frame")) for image in written["images"]]
    assert images == [("1.png", None), *(("film.avi", number) for number in range(6))]
    lefts = [a["bbox"][0] for a in written["annotations"]]
    assert np.abs(np.array(lefts) - [30, 10, 14, 18, 22, 26]).max() <= 1  # none in the last frame
    rows = list(csv.DictReader(Path("runs/detect/detections.csv").read_text().splitlines()))
    assert [(row["file"], row["frame"]) for row in rows][:2] == [("1.png", ""), ("film.avi", "0")] and len(rows) == 6
    video = Video("runs/detect/film.avi.mp4")
    assert video.count == 6 and video.rate == pytest.approx(10) and "7 pictures in" in told
    frame = next(iter(video))[1].mul(255).permute(1, 2, 0).numpy()
    assert frame.shape == (80, 96, 3)
    assert np.abs(frame[59, 20:40].mean(axis=0) - (0, 114, 178)).max() < 70  # the lower edge of its box


def test_every_leaves_frames_out_and_two_videos_stay_apart(folder):
    film("photos/a/film.avi")
    film("photos/b/film.avi")
    results = detect_into(None, FindsColours(), ["photos/a/film.avi", "photos/b/film.avi"], every=2, progress=False)
    assert [d.frame for d in results.detected] == [0, 2, 4, 0, 2, 4]
    assert [path.as_posix() for path in results.drawn] == ["runs/detect/a/film.avi.mp4", "runs/detect/b/film.avi.mp4"]
    assert [(Video(path).count, Video(path).rate) for path in results.drawn] == [(3, 5.0), (3, 5.0)]
    assert repr(results.detected[0]) == "Detected(film.avi, frame 0, 96x80: red 0.90)"


def test_a_video_without_a_library_is_left_out_and_told(folder, monkeypatch):
    film("photos/a/film.avi")
    monkeypatch.setattr(videos, "find_spec", lambda name: None)
    assert "1 file could not be read and left out." in run("photos/a").output
    result = CliRunner().invoke(app, ["detect", "weights.pt", "photos/a/film.avi"])
    assert "film.avi: this is a video, and no library is installed that reads it" in str(result.exception)


def test_where_only_reading_is_possible_no_video_is_drawn(folder, monkeypatch):
    film("photos/a/film.avi")
    monkeypatch.setattr(detect_folder, "can_write", lambda: False)
    results = detect_into("out", FindsColours(), "photos/a/film.avi", progress=False)
    assert len(results.detected) == 6 and not results.drawn
    monkeypatch.setattr(videos, "can_write", lambda: False)
    assert "No video was drawn, because OpenCV writes it" in run("photos/a").output
    assert "No video" not in run("photos/a", "--no-pictures").output + run("photos/a/1.png").output


def test_the_table_counts_objects_and_pictures(folder):
    lines = table(detect(FindsColours(), "photos", 0.3, progress=False)).splitlines()
    assert [line.split() for line in lines] == [
        ["class", "objects", "pictures", "mean", "score"], ["red", "3", "3", "0.90"], ["blue", "1", "1", "0.40"],
        ["all", "4", "3"],
    ]  # fmt: skip
    assert table([]).splitlines()[-1].split() == ["all", "0", "0"]


def instances(file, **changes):
    """A COCO file of the pictures with ids of its own; the reds are its objects."""
    names = {"a/1.png": (100, 80), "b/1.png": (120, 90), "b/2.jpg": (60, 40), "b/3.webp": (100, 80)}
    images = [{"id": 500 + i, "file_name": n, "width": s[0], "height": s[1]} for i, (n, s) in enumerate(names.items())]
    whole = {"images": images, "annotations": [], "categories": [{"id": 90, "name": "blue"}, {"id": 7, "name": "red"}]}
    Path(file).write_text(json.dumps(whole | changes))


def test_results_for_coco_have_the_ids_of_the_file(folder):
    instances("instances.json")
    told = run("photos", "--coco-results", "instances.json", "--threshold", "0.3").output
    results = content("runs/detect/detections.json")
    assert results[0] == {"image_id": 500, "category_id": 7, "bbox": [30, 20, 50, 40], "area": 2000, "score": 0.9}
    assert [(r["image_id"], r["category_id"]) for r in results] == [(500, 7), (501, 7), (501, 90), (503, 7)]
    assert "For the AP, add --threshold 0." in told
    run("photos/b", "--coco-results", "instances.json", "--threshold", "0")  # "b/1.png", though the folder is b
    assert {r["image_id"] for r in content("runs/detect2/detections.json")} == {501, 503}


def test_a_coco_file_that_does_not_fit_is_refused_before_anything_is_detected(folder):
    def refused(*options):
        return str(CliRunner().invoke(app, ["detect", "weights.pt", "photos", "--coco-results", *options]).exception)

    instances("i.json", images=[{"id": 1, "file_name": "a/1.png"}])
    assert "i.json lists no image of this name" in refused("i.json") and "b/1.png" in refused("i.json")
    instances("i.json", categories=[{"id": 1, "name": "red"}])
    assert "no category is called 'blue'; there: red; choose some by classes" in refused("i.json")
    assert refused("i.json", "--classes", "red") == "None"
    instances("j.json", images=[{"id": 1, "file_name": "a/1.png"}, {"id": 2, "file_name": "a\\1.png"}])
    assert "two of its images have one file name" in refused("j.json")
    Path("k.json").write_text("[1]")
    assert "expected COCO's JSON" in refused("k.json") and "no such file" in refused("none.json")
    assert "would be written over" in refused("i.json", "--classes", "red", "--json", "i.json")


def test_the_results_give_the_ap_of_coco_ap(tmp_path, monkeypatch):
    """Scenes, the shipped FPN, and pycocotools as everybody calls it."""
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    truth = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 11 * k, "name": c} for k, c in enumerate(CLASSES) if k],
    }
    targets = []
    Path("in").mkdir()
    for i in range(3):
        drawn = scene(0, 300_000 + i)
        Image.fromarray(drawn.image).save(f"in/{i}.png")
        truth["images"].append({"id": 70 - i, "file_name": f"{i}.png", "width": 256, "height": 192})
        for (x1, y1, x2, y2), label in zip(drawn.boxes.tolist(), drawn.labels.tolist(), strict=True):
            truth["annotations"].append({
                "id": len(truth["annotations"]) + 1, "image_id": 70 - i, "category_id": 11 * label, "iscrowd": 0,
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)
            })  # fmt: skip
        targets.append({"boxes": torch.from_numpy(drawn.boxes), "labels": torch.from_numpy(drawn.labels)})
    Path("truth.json").write_text(json.dumps(truth))
    detect_into("out", "fpn", "in", 0.0, device="cpu", draw=False, instances="truth.json", progress=False)
    with redirect_stdout(io.StringIO()):
        data = COCO("truth.json")
        evaluation = COCOeval(data, data.loadRes("out/detections.json"), "bbox")
        evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
    answers = [found.answer() for found in detect("fpn", "in", 0.0, device="cpu", progress=False)]
    expected = coco_ap(answers, targets, CLASSES)
    assert evaluation.stats[:3].tolist() == pytest.approx([expected[key] for key in ("AP", "AP50", "AP75")], abs=1e-6)
    assert expected["AP"] > 0.3


def test_help_answers_without_torch():
    code = "import sys; from rcnn_tutorial.app.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code, "detect", "--help"], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "False"
    for option in ("--threshold", "--output", "--json", "--csv", "--coco-results", "--classes", "--device", "--batch",
                   "--every", "--no-pictures", "--hide-labels", "--hide-scores"):  # fmt: skip
        assert option in ran.stdout


@pytest.mark.whole
def test_the_program_detects_in_a_folder_and_ends_errors_in_one_line(folder):
    def script(*arguments):
        return subprocess.run([SCRIPT, "detect", *arguments], capture_output=True, text=True, cwd=folder)

    ran = script("fast_rcnn", "photos", "--threshold", "0.2", "--device", "cpu")
    assert ran.returncode == 0 and "Drawn: runs/detect" in ran.stdout and ran.stderr == ""
    assert "is given 200 proposals of selective search" in ran.stdout and (folder / "runs/detect/b/1.png").is_file()
    ran = script("fpn", "nothing")
    assert ran.returncode == 1 and ran.stderr == "rcnn-tutorial: nothing: no such file or folder\n"
