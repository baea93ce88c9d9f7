"""torchvision's detector in this project's loop, on the data that later detectors meet it on."""

import json
import random
from statistics import mean, stdev

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch.utils.data import Subset

from benchmarks import measure
from benchmarks.cells import WhiteCells
from benchmarks.measure import RECORDS
from benchmarks.peer import tiny_faster_rcnn
from rcnn_tutorial.data import BCCD_CLASSES, load_dataset
from rcnn_tutorial.data.voc import write_annotation
from rcnn_tutorial.evaluation import coco_ap, predict, student_interval
from rcnn_tutorial.training import TrainSettings, train


def draw_cells(root):
    """Twelve pictures of red and violet discs where the photographs of BCCD are kept, in the same layout."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    luck, colors = random.Random(0), ("#C05050", "#6040A0", "#A070C0")
    for index in range(12):
        picture, boxes = Image.new("RGB", (160, 120), "#E0D8C8"), []
        for column in range(3):
            x, y, side = 50 * column + luck.randint(2, 10), luck.randint(2, 70), luck.randint(28, 40)
            boxes.append((x, y, x + side, y + side))
            ImageDraw.Draw(picture).ellipse((x, y, x + side - 1, y + side - 1), fill=colors[column])
        picture.save(root / "JPEGImages" / f"{index}.jpg")
        annotation = root / "Annotations" / f"{index}.xml"
        write_annotation(annotation, f"{index}.jpg", picture.size, np.array(boxes), BCCD_CLASSES)
    for split in ("train", "test"):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{index}\n" for index in range(12)))


@pytest.mark.parametrize(("name", "size"), [("shapes", (192, 256)), ("bccd", (120, 160))])
def test_the_peer_trains_and_is_measured(name, size, tmp_path, monkeypatch):
    if name == "bccd":  # the photographs are nobody's test data
        monkeypatch.setenv("RCNN_TUTORIAL_DATA", str(tmp_path))
        draw_cells(tmp_path / "bccd")
    dataset = load_dataset(name, "train")
    model = tiny_faster_rcnn(len(dataset.classes), size)
    history = train(model, dataset, TrainSettings(steps=30, batch_size=2, lr=0.01, warmup=5), progress=False)
    assert mean(history.total[-8:]) < 0.8 * mean(history.total[:3])
    detections, targets = predict(model, Subset(load_dataset(name, "test"), range(6)), progress=False)
    assert len(detections) == len(targets) == 6 and 0 <= coco_ap(detections, targets, dataset.classes)["AP50"] <= 1


def test_what_the_peer_makes_of_the_scenes_keeps_the_bounds():
    """Half of the generated scenes' table of properties; the other half is in the record of shapes."""
    record = json.loads((RECORDS / "train_peer_shapes_pretrained-cpu.json").read_text())
    assert record["settings"]["steps"] == 1500 and record["settings"]["batch_size"] == 8
    (found,) = record["runs"]
    assert 0.70 <= found["AP50"] <= 0.90
    kinds = {kind: found["failures"][kind] for kind in ("class", "place", "duplicate", "background")}
    assert all(count >= 0.05 * sum(kinds.values()) for count in kinds.values())


def test_a_record_is_resumed_under_the_same_settings_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "RECORDS", tmp_path)
    content = {"size": (192, 256), "seconds": 3}
    assert measure.resume("one", "cpu", content) == {}
    measure.write("one", "cpu", {**content, "runs": {"0": 0.5}})
    assert measure.resume("one", "cpu", content)["runs"] == {"0": 0.5}
    assert measure.resume("one", "cpu", {**content, "seconds": 4}) == {}


@pytest.mark.parametrize(("name", "seeds"), [("shapes", 5), ("bccd", 5), ("fpn_shapes", 5), ("fpn_bccd", 5)])
def test_ours_and_theirs_from_the_same_weights_are_as_accurate(name, seeds):
    runs = json.loads((RECORDS / f"pairs_{name}-cpu.json").read_text())["runs"].values()
    gains, seconds = (
        [run["ours"][key] - run["torchvision"][key] for run in runs if len(run) == 2] for key in ("AP", "seconds")
    )
    assert len(gains) >= seeds and abs(mean(gains)) < 0.01 and mean(seconds) < 0


@pytest.mark.parametrize(("name", "most"), [("cells", 0.04), ("fpn_cells", 0.02)])
def test_where_proposals_are_few_the_two_are_as_accurate(name, most):
    """One large object to a picture, five seeds: Student's interval holds 0, and no difference larger than `most`."""
    runs = json.loads((RECORDS / f"pairs_{name}-cpu.json").read_text())["runs"].values()
    gains = [run["ours"]["AP"] - run["torchvision"]["AP"] for run in runs]
    low, high = student_interval(mean(gains), stdev(gains), len(gains))
    assert len(runs) == 5 and low < 0 < high and max(-low, high) < most
    assert all(run[side]["AP"] > 0.6 for run in runs for side in ("ours", "torchvision"))


def test_a_picture_of_each_white_cell(tmp_path, monkeypatch):
    """Windows of their own size around one cell, the same at every reading, with the boxes moved along."""
    image = torch.arange(60 * 90.0).view(60, 90).div(60 * 90).mul(255).byte().numpy()
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / "bccd" / folder).mkdir(parents=True)
    Image.fromarray(image).convert("RGB").save(tmp_path / "bccd/JPEGImages/a.jpg", quality=95)
    boxes = torch.tensor([[10.0, 8, 30, 34], [50, 20, 84, 50], [1, 1, 9, 9]])
    write_annotation(tmp_path / "bccd/Annotations/a.xml", "a.jpg", (90, 60), boxes, ["WBC", "WBC", "RBC"])
    (tmp_path / "bccd/ImageSets/Main/test.txt").write_text("a\n")
    monkeypatch.setenv("RCNN_TUTORIAL_DATA", str(tmp_path))
    data, whole = WhiteCells("test"), load_dataset("bccd", "test")[0][0]
    assert len(data) == 2 and data.classes == ("background", "white cell")
    sizes = set()
    for index in range(2):
        picture, target = data[index]
        height, width = picture.shape[1:]
        left, top, right, bottom = target["boxes"][0].int().tolist()
        assert target["labels"].tolist() == [1] and 0 <= left < right <= width and 0 <= top < bottom <= height
        x1, y1, x2, y2 = boxes[index].int().tolist()
        assert (right - left, bottom - top) == (x2 - x1, y2 - y1)
        assert torch.equal(picture[:, top:bottom, left:right], whole[:, y1:y2, x1:x2])
        assert 1.1 < width / (right - left) < 2.7 and 1.1 < height / (bottom - top) < 2.7
        assert torch.equal(data[index][0], picture)
        sizes.add((height, width))
    assert len(sizes) == 2


@pytest.mark.parametrize(("name", "least"), [("shapes", 0.02), ("bccd", 0.02), ("fpn_shapes", 0.02), ("fpn_bccd", 0)])
def test_at_each_sides_best_settings_ours_is_ahead_for_the_same_seconds(name, least):
    record = json.loads((RECORDS / f"best_{name}-cpu.json").read_text())
    for side, best in record["best"].items():
        assert record["search"][best][side]["AP"] == max(found[side]["AP"] for found in record["search"].values())
    runs = record["runs"].values()
    gains = [run["ours"]["AP"] - run["torchvision"]["AP"] for run in runs]
    assert len(record["search"]) <= 6 and len(gains) >= 5
    assert mean(gains) > least and student_interval(mean(gains), stdev(gains), len(gains))[0] > 0
    assert mean(run["ours"]["seconds"] for run in runs) < 1.05 * mean(run["torchvision"]["seconds"] for run in runs)
