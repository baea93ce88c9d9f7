import functools
import hashlib
import json
import runpy
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from defusedxml import ElementTree
from numpy.random import RandomState
from PIL import Image
from pycocotools import mask as coco_mask
from skimage.measure import points_in_poly

from rcnn_tutorial.data.generated import shapes
from rcnn_tutorial.data.generated.outline import OUTLINES, area, fit, rasterise
from rcnn_tutorial.data.generated.scene import arrange
from rcnn_tutorial.data.generated.shapes import (
    AUXILIARY_CLASSES,
    CLASSES,
    DISTRACTORS,
    auxiliary,
    ensure_shapes,
    make_shapes,
    scene,
)

SCRIPTS = Path(__file__).parents[3] / "data_scripts"
COUNTS = {"train": 4, "val": 2, "test": 3, "auxiliary": 40}
ANNOTATIONS = "4409632b8fe26466"  # of the first 40 scenes

# Bounds of the properties of the whole data set
BOUNDS = {
    "close_pair": (0.06, 0.10),
    "at_border": (0.20, 0.35),
    "elongated": (0.15, 0.40),
    "large": (0.15, 1),
    "empty": (0.04, 0.06),
    "difficult": (0.02, 0.06),
    "most_objects": (10, 10),
    "shortest_side": (3, 12),
    "longest_side": (155, 161),
    **dict.fromkeys(CLASSES[1:], (0.14, 0.19)),
}


@pytest.fixture(scope="module")
def scenes():
    return [scene(1, 100_000 + index) for index in range(160)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes") / "set"
    make_shapes(root, 1, **COUNTS)
    return root


def digest(items):
    total = hashlib.sha256()
    for item in items:
        for array in (item.boxes, item.labels, item.masks, item.difficult):
            total.update(array.tobytes())
    return total.hexdigest()[:16]


def test_selective_search_is_held_to_its_bounds():
    found = json.loads(files("rcnn_tutorial.course.records").joinpath("shapes.json").read_text())["selective_search"]
    at_half, at_seven_tenths = found["recall_of_200_at_0.5"], found["recall_of_200_at_0.7"]
    assert found["scenes"] == 150
    assert 0.90 <= at_half <= 0.97 and at_seven_tenths <= at_half - 0.12
    assert found["proposals_per_image"] >= 500 and found["share_with_iou_0.5"] <= 0.10


def test_record_keeps_the_bounds():
    record = json.loads(files("rcnn_tutorial.course.records").joinpath("shapes.json").read_text())
    assert record["settings"] == {"version": shapes.VERSION, "seed": 1, "splits": ["train", "val", "test"]}
    assert record["properties"]["scenes"] == 1750
    for name, (low, high) in BOUNDS.items():
        assert low <= record["properties"][name] <= high, name


def test_a_sample_has_the_properties(scenes):
    properties = runpy.run_path(str(SCRIPTS / "measure_shapes.py"))["properties"]
    measured = properties((item.boxes, item.labels, item.difficult) for item in scenes)
    record = json.loads(files("rcnn_tutorial.course.records").joinpath("shapes.json").read_text())["properties"]
    for name in set(BOUNDS) - {"most_objects", "shortest_side", "longest_side"}:
        number = measured["scenes" if name == "empty" else "objects"]
        spread = 2 * np.sqrt(record[name] / number)  # objects of one scene are not independent: twice the binomial's
        assert abs(measured[name] - record[name]) < 2 * spread, name
    assert measured["most_objects"] <= 10
    assert abs(measured["mean_objects"] - record["mean_objects"]) < 0.6


def test_properties_of_a_known_scene():
    properties = runpy.run_path(str(SCRIPTS / "measure_shapes.py"))["properties"]
    boxes = np.array([[0, 10, 20, 30], [5, 10, 25, 30], [5, 10, 25, 30], [100, 20, 200, 50]], dtype=np.float32)
    empty = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool))
    found = properties([(boxes, np.array([1, 1, 2, 2]), np.array([0, 0, 0, 1], bool)), empty])
    expected = {
        "close_pair": 0.5,
        "at_border": 0.25,
        "elongated": 0.25,
        "large": 0.25,
        "small": 0.75,
        "difficult": 0.25,
    }
    expected |= {"empty": 0.5, "square": 0.5, "disc": 0, "objects": 4, "shortest_side": 20, "longest_side": 100}
    assert {name: found[name] for name in expected} == expected


def test_annotations_are_the_same_everywhere(scenes):
    assert digest(scenes[:40]) == ANNOTATIONS


def test_two_calls_give_the_same_bytes_and_two_seeds_do_not(scenes):
    assert np.array_equal(scene(1, 100_007).image, scenes[7].image)
    assert not np.array_equal(scene(2, 100_007).image, scenes[7].image)
    assert np.array_equal(auxiliary(1, 7)[0], auxiliary(1, 7)[0])
    assert not np.array_equal(auxiliary(1, 7)[0], auxiliary(1, 27)[0])


def test_types_and_ranges(scenes):
    for item in scenes:
        number = len(item.labels)
        assert item.image.shape == (192, 256, 3) and item.image.dtype == np.uint8
        assert item.boxes.shape == (number, 4) and item.boxes.dtype == np.float32
        assert item.masks.shape == (number, 192, 256) and item.masks.dtype == bool
        assert item.labels.dtype == np.int64 and item.difficult.dtype == bool and item.difficult.shape == (number,)
        assert number <= 10 and np.isin(item.labels, range(1, len(CLASSES))).all()


def test_boxes_are_tight_and_masks_disjoint(scenes):
    for item in scenes:
        assert item.masks.sum(0).max(initial=0) <= 1
        for box, mask in zip(item.boxes, item.masks, strict=True):
            ys, xs = np.nonzero(mask)
            assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_pictures_have_contrast(scenes):
    """Every object differs from what surrounds it, in the picture and not only in the annotation."""
    for item in scenes[:60]:
        for (x1, y1, x2, y2), mask in zip(item.boxes.astype(int), item.masks, strict=True):
            window = np.s_[max(y1 - 3, 0) : y2 + 3, max(x1 - 3, 0) : x2 + 3]
            inside, outside = item.image[window][mask[window]], item.image[window][~mask[window]]
            assert np.abs(inside.mean(0) - outside.mean(0)).max() > 4 or inside.std() > 12


def test_nothing_is_hidden_too_far():
    hidden = []
    for seed in range(80):
        layout = arrange(RandomState([5, seed]))
        for index, figure in enumerate(layout.figures):
            share = layout.seen(index) / figure.raster.mask.sum()
            if figure.label:
                hidden.append(1 - share)
                assert share >= 0.55 and layout.seen(index) >= 0.45 * figure.whole
                x1, y1, x2, y2 = layout.box(index)
                aspect = max(x2 - x1, y2 - y1) / min(x2 - x1, y2 - y1)
                assert figure.name != "square" or aspect < 1.35
                assert figure.name != "bar" or aspect > 1.6
            elif figure.name != "ribbon":
                assert (layout.owner[figure.raster.window] > index).mean() < 0.02
    assert max(hidden) > 0.35 and np.mean(np.array(hidden) > 0) > 0.15


def test_classes_do_not_overlap():
    assert len(AUXILIARY_CLASSES) == 20
    assert len({*CLASSES, *DISTRACTORS, *AUXILIARY_CLASSES}) == 7 + 4 + 20
    assert {auxiliary(1, index)[1] for index in range(20)} == set(range(20))
    assert auxiliary(1, 3)[0].shape == (64, 64, 3)


@pytest.mark.parametrize("name", OUTLINES)
def test_pixels_are_those_whose_centre_is_inside(name):
    random = RandomState(3)
    contours = [contour + [30.3, 24.6] for contour in fit(OUTLINES[name](random), 33.0, 1.05, 52.0)]
    centres = np.stack(np.meshgrid(np.arange(60) + 0.5, np.arange(40) + 0.5), axis=2).reshape(-1, 2)
    inside = sum(points_in_poly(centres, contour).astype(int) for contour in contours) % 2 == 1
    raster = rasterise(contours, 40, 60)
    mask = np.zeros((40, 60), dtype=bool)
    mask[raster.window] = raster.mask
    assert (mask != inside.reshape(40, 60)).sum() <= 2  # vertices are rounded to 1/96 px
    whole = rasterise([contour + 20 for contour in contours], 100, 100)
    assert whole.alpha.sum() == pytest.approx(area(contours), rel=0.01)
    assert np.ptp(contours[0], axis=0).max() == pytest.approx(52)


def test_a_square_covers_whole_pixels_and_parts():
    corners = np.array([[1, 1], [4, 1], [4, 2.5], [1, 2.5]])
    raster = rasterise([corners + 0.0], 5, 6)
    assert raster.window == (slice(1, 3), slice(1, 4))
    assert raster.mask.tolist() == [[True] * 3, [False] * 3]  # a centre on the lower edge is outside
    np.testing.assert_allclose(raster.alpha, [[1] * 3, [1 / 3] * 3])
    assert rasterise([corners + 10.0], 5, 6) is None
    assert rasterise([corners / 20], 5, 6) is None


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools, under numpy 2
def test_files_agree_with_each_other_and_with_the_scenes(folder):
    for split, count in list(COUNTS.items())[:3]:
        stems = (folder / f"ImageSets/Main/{split}.txt").read_text().split()
        content = json.loads((folder / f"annotations/instances_{split}.json").read_text())
        assert len(stems) == len(content["images"]) == count
        assert [entry["name"] for entry in content["categories"]] == list(CLASSES[1:])
        assert [entry["id"] for entry in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
        for stem, image in zip(stems, content["images"], strict=True):
            item = scene(1, int(stem))
            assert image == {"id": int(stem), "file_name": f"{stem}.jpg", "width": 256, "height": 192}
            assert_same(item, [entry for entry in content["annotations"] if entry["image_id"] == image["id"]])
            objects = ElementTree.parse(folder / f"Annotations/{stem}.xml").findall("object")
            assert [entry.findtext("name") for entry in objects] == [CLASSES[label] for label in item.labels]
            assert [int(entry.findtext("difficult")) for entry in objects] == item.difficult.tolist()
            corners = [
                [float(entry.find("bndbox").findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax")] for entry in objects
            ]
            assert corners == (item.boxes + [1, 1, 0, 0]).tolist()
            picture = np.array(Image.open(folder / f"JPEGImages/{stem}.jpg")).astype(float)
            assert np.abs(picture - item.image).mean() < 8
    both = (folder / "ImageSets/Main/trainval.txt").read_text().split()
    assert len(both) == len(set(both)) == COUNTS["train"] + COUNTS["val"]
    assert len(list((folder / "JPEGImages").iterdir())) == 9


def assert_same(item, entries):
    assert len(entries) == len(item.labels)
    for entry, box, label, mask, flag in zip(
        entries, item.boxes.tolist(), item.labels, item.masks, item.difficult, strict=True
    ):
        assert entry["bbox"] == [box[0], box[1], box[2] - box[0], box[3] - box[1]]
        assert (entry["category_id"], entry["difficult"], entry["iscrowd"]) == (label, flag, 0)
        assert entry["area"] == mask.sum()
        assert np.array_equal(coco_mask.decode(entry["segmentation"]), mask)


def test_auxiliary_pictures_lie_in_one_folder_per_class(folder):
    assert sorted(path.name for path in (folder / "auxiliary").iterdir()) == sorted(AUXILIARY_CLASSES)
    for path in (folder / "auxiliary").glob("*/*.jpg"):
        assert AUXILIARY_CLASSES[auxiliary(1, int(path.stem))[1]] == path.parent.name
    assert len(list((folder / "auxiliary").glob("*/*.jpg"))) == COUNTS["auxiliary"]


def test_a_smaller_set_holds_the_same_scenes(folder, tmp_path):
    make_shapes(tmp_path, 1, train=1, val=0, test=1, auxiliary=0)
    for path in tmp_path.glob("JPEGImages/*.jpg"):
        assert path.read_bytes() == (folder / "JPEGImages" / path.name).read_bytes()
    assert (tmp_path / "ImageSets/Main/val.txt").read_text() == ""
    assert json.loads((tmp_path / "annotations/instances_val.json").read_text())["images"] == []


def test_bad_arguments(folder, tmp_path):
    with pytest.raises(ValueError, match="root must be a new or an empty folder"):
        make_shapes(folder)
    with pytest.raises(ValueError, match="val must not be negative, got -1"):
        make_shapes(tmp_path / "new", val=-1)


def test_ensure_makes_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(shapes, "make_shapes", lambda root, seed: (calls.append(seed), Path(root).mkdir()))
    assert ensure_shapes(tmp_path) == ensure_shapes(tmp_path) == tmp_path / "shapes-v1"
    assert ensure_shapes(tmp_path, seed=2) == tmp_path / "shapes-v1-seed2"
    assert calls == [1, 2]


def test_an_interrupted_attempt_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    def interrupted(root, seed):
        make_shapes(root, seed, train=1, val=0, test=0, auxiliary=0)
        raise KeyboardInterrupt

    monkeypatch.setattr(shapes, "make_shapes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure_shapes(tmp_path)
    assert not (tmp_path / "shapes-v1").exists()
    monkeypatch.setattr(shapes, "make_shapes", functools.partial(make_shapes, train=2, val=0, test=0, auxiliary=0))
    done = ensure_shapes(tmp_path)
    assert len(list(done.glob("JPEGImages/*"))) == 2
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["shapes-v1"]


def test_two_processes_at_once_make_it_once(tmp_path):
    code = """if True:
        import os, sys, time
        from pathlib import Path
        from rcnn_tutorial.data.generated import shapes

        def slow(root, seed):
            print("making")
            Path(root).mkdir()
            time.sleep(1)

        folder = Path(sys.argv[1])
        (folder / f"ready{os.getpid()}").touch()
        while len(list(folder.glob("ready*"))) < 2:
            time.sleep(0.01)
        shapes.make_shapes = slow
        print(shapes.ensure_shapes(folder).name)
    """
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=SCRIPTS.parent) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0].split() for process in running]
    assert sorted(outputs, key=len) == [["shapes-v1"], ["making", "shapes-v1"]]


def test_the_script_says_what_it_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shapes, "make_shapes", functools.partial(make_shapes, **COUNTS))
    monkeypatch.setattr(sys, "argv", ["make_shapes.py", "--root", str(tmp_path)])
    runpy.run_path(str(SCRIPTS / "make_shapes.py"), run_name="__main__")
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == str(tmp_path / "shapes-v1")
    assert "train: 4 images" in printed.out and "auxiliary: 40 images" in printed.out
    assert printed.err == ""
