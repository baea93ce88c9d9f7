"""The evaluation of a detector: every number against pycocotools or by hand, its files, its errors, its command."""

import contextlib
import io
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from typer.testing import CliRunner

from rcnn_tutorial import build, evaluate
from rcnn_tutorial.app.cli import app
from rcnn_tutorial.app.evaluate import WORST, _Watch
from rcnn_tutorial.app.measures import Report
from rcnn_tutorial.app.pages import worst_images
from rcnn_tutorial.data.coco import CocoDetection
from rcnn_tutorial.evaluation import coco_ap, coco_intervals, failures, match_detections, size_thirds, voc_ap

CLASSES = ("background", "leaf", "stone")
SIZE = (100, 80)
SPLITS = {"train": 4, "val": 5, "test": 6}


class Answers(nn.Module):
    """Gives what it was told for the picture whose upper left pixel has that red, and marks masks where asked."""

    def __init__(self, answers, classes=CLASSES):
        super().__init__()
        self.answers, self.classes = answers, classes

    def forward(self, images):
        return [dict(self.answers[round(float(image[0, 0, 0]) * 255)]) for image in images]


def width_of(path):
    with Image.open(path) as picture:
        return picture.width


def answer(rows):
    """Of rows x1, y1, x2, y2, label, score."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return {"boxes": table[:, :4], "labels": table[:, 4].long(), "scores": table[:, 5]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures in COCO's layout, as JSON for each split: leaves and stones, ids of their own, one crowd."""
    root = tmp_path_factory.mktemp("coco")
    rng = np.random.default_rng(0)
    number = 0
    for split, count in SPLITS.items():
        (root / split).mkdir()
        images, annotations = [], []
        for _ in range(count):
            number += 1
            pixels = rng.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
            pixels[0, 0] = number
            Image.fromarray(pixels).save(root / split / f"{number}.png")
            images.append({"id": 100 + number, "file_name": f"{number}.png", "width": SIZE[0], "height": SIZE[1]})
            for _ in range(3 + number % 2):
                w, h = rng.integers(8, 50, 2).tolist()
                x, y = rng.integers(0, 50), rng.integers(0, 30)
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": 100 + number, "category_id": int(rng.choice([7, 3])),
                     "bbox": [int(x), int(y), w, h], "area": w * h, "iscrowd": int(len(annotations) == 5)}
                )  # fmt: skip
        content = {"images": images, "annotations": annotations,
                   "categories": [{"id": 3, "name": "leaf"}, {"id": 7, "name": "stone"}]}  # fmt: skip
        (root / f"instances_{split}.json").write_text(json.dumps(content))
        for picture in (root / split).iterdir():
            picture.rename(root / picture.name)
        (root / split).rmdir()
    return root


@pytest.fixture(scope="module")
def detector(folder):
    """Finds each object a little off, some as the other class, and something where nothing is; no two scores equal."""
    generator, answers = torch.Generator().manual_seed(1), {}
    for split in SPLITS:
        content = json.loads((folder / f"instances_{split}.json").read_text())
        for image in content["images"]:
            rows = []
            for a in content["annotations"]:
                if a["image_id"] == image["id"]:
                    x, y, w, h = a["bbox"]
                    moved = torch.randint(-4, 5, (4,), generator=generator).tolist()
                    off = torch.rand(2, generator=generator).tolist()
                    label = (1 if a["category_id"] == 3 else 2) if off[0] < 0.8 else 1
                    rows.append([x + moved[0], y + moved[1], x + w + moved[2], y + h + moved[3], label, off[1]])
            rows.append([60, 50, 99, 79, 2, float(torch.rand(1, generator=generator))])
            answers[image["id"] - 100] = answer(sorted(rows, key=lambda row: -row[5]))
    return Answers(answers)


@pytest.fixture(scope="module")
def report(folder, detector, tmp_path_factory):
    """The evaluation of the detector on the test pictures, the folder of its files, and the figures in it."""
    matplotlib.use("Agg")
    files, figures, save = tmp_path_factory.mktemp("files"), [], Figure.savefig

    def saved(figure, *arguments, **options):
        figures.append(figure)
        save(figure, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", saved)
        return evaluate(detector, folder, folder=files, progress=False), files, figures


def test_pycocotools_says_the_same_of_the_files(folder, report):
    measured, files, _ = report
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "instances_test.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(files / "detections.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"]
    stats = [math.nan if value == -1 else value for value in evaluation.stats[:6]]
    assert [measured.coco[name] for name in names] == pytest.approx(stats, abs=1e-6, nan_ok=True)
    assert 0.1 < measured.coco["AP"] < 0.9
    per_class = evaluation.eval["precision"][:, :, :, 0, 2].mean(axis=(0, 1))  # categories by their ids: leaf, stone
    assert [measured.per_class[name].ap for name in CLASSES[1:]] == pytest.approx(per_class.tolist(), abs=1e-6)


def test_the_other_numbers_are_those_of_the_evaluation(report):
    measured, _, _ = report
    pair = measured.detections, measured.targets
    assert measured.voc == {method: voc_ap(*pair, CLASSES, method=method).map for method in ("all", "11")}
    assert measured.voc["all"] != measured.voc["11"]
    assert measured.bounds == size_thirds(measured.targets)
    assert measured.thirds["AP_large"] == coco_ap(*pair, CLASSES, measured.bounds)["AP_large"]
    assert measured.failures == failures(*pair, 0.5).counts
    interval = coco_intervals(*pair, CLASSES, generator=torch.Generator().manual_seed(0))["AP50"]
    assert measured.intervals["AP50"].low == interval.low < measured.coco["AP50"] < interval.high
    assert f"{interval.low:.3f} to {interval.high:.3f}" in str(measured)
    matched = match_detections(*pair)
    for label, name in enumerate(CLASSES[1:], start=1):
        of = measured.per_class[name]
        assert (of.best_f1, of.threshold) == matched.best_f1(label)
        assert of.objects == matched.positives(label)
    assert sum(of.objects for of in measured.per_class.values()) == measured.objects
    for kind, count in measured.failures.items():
        assert sum(of.failures[kind] for of in measured.per_class.values()) == count, kind


def test_failures_belong_to_the_class_that_was_said_and_misses_to_the_true_one():
    from rcnn_tutorial.app.measures import measure

    truth = {"boxes": torch.tensor([[0.0, 0, 10, 10], [30, 30, 50, 50]]), "labels": torch.tensor([1, 1])}
    found = answer([[0, 0, 10, 10, 2, 0.9], [30, 30, 50, 50, 1, 0.8], [60, 60, 70, 70, 2, 0.7], [0, 0, 9, 9, 1, 0.1]])
    told = dict(model="m", data="d", split="test", milliseconds=math.nan, device="cpu", notes=())
    measured = measure([found], [truth], CLASSES, samples=5, **told)
    leaf, stone = (measured.per_class[name].failures for name in CLASSES[1:])
    assert leaf == {"correct": 1, "class": 0, "place": 0, "duplicate": 0, "background": 0, "missed": 1}
    assert stone == {"correct": 0, "class": 1, "place": 0, "duplicate": 0, "background": 1, "missed": 0}
    assert math.isnan(measured.per_class["stone"].ap) and measured.results()["per_class"]["stone"]["ap"] is None
    table = str(measured)
    assert "Of the 3 detections" in table and "1 are correct" in table and "takes" not in table
    line = next(line for line in table.splitlines() if line.startswith("stone"))
    assert line.split()[1:] == ["0", "-", "-", "-", "-"]


def test_a_report_without_detections_or_objects():
    from rcnn_tutorial.app.measures import measure

    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
    told = dict(model="m", data="d", split="test", milliseconds=1.0, device="cpu", notes=())
    nothing = measure([empty | {"scores": torch.zeros(0)}], [empty], CLASSES, samples=3, **told)
    assert nothing.objects == 0 and nothing.bounds is None and nothing.masks is None
    assert json.loads(json.dumps(nothing.results(), allow_nan=False))["coco"]["AP"] is None
    assert "smallest third" not in str(nothing) and worst_images(nothing) == []


def test_masks_are_measured_where_both_sides_have_them():
    from rcnn_tutorial.app.measures import measure

    masks = torch.zeros(1, 20, 20, dtype=torch.bool)
    masks[:, 2:12, 2:12] = True
    truth = {"boxes": torch.tensor([[2.0, 2, 12, 12]]), "labels": torch.tensor([1]), "masks": masks}
    half = masks.clone()
    half[:, 2:6] = False
    told = dict(model="m", data="d", split="test", milliseconds=1.0, device="cpu", notes=())
    found = truth | {"scores": torch.ones(1), "masks": half[:, None]}
    measured = measure([found], [truth], CLASSES, samples=3, **told)
    assert measured.coco["AP"] == pytest.approx(1) and measured.masks is not None
    assert (
        measured.masks["AP50"] == pytest.approx(1) and measured.masks["AP75"] == 0 and "AP50 of masks" in str(measured)
    )


def test_the_results_file_has_all_numbers(report):
    measured, files, _ = report
    results = json.loads((files / "results.json").read_text())
    assert results["coco"]["AP50"] == measured.coco["AP50"] and results["images"] == SPLITS["test"]
    assert results["per_class"]["leaf"]["failures"] == measured.per_class["leaf"].failures
    assert results["intervals"]["AP"] == {
        "value": measured.intervals["AP"].value, "low": measured.intervals["AP"].low,
        "high": measured.intervals["AP"].high, "samples": 200,
    }  # fmt: skip
    assert results["milliseconds"] > 0


def test_the_worst_pictures_come_first(report):
    measured, files, _ = report
    order = worst_images(measured, 100)

    def count(image):
        wrong = sum(kind not in ("correct", "below", "ignored") for kind in measured.failed.kinds[image])
        return wrong + int(measured.failed.missed[image].sum())

    counts = [count(image) for image in order]
    assert counts == sorted(counts, reverse=True) and min(counts) > 0
    assert sum(counts) == sum(n for kind, n in measured.failures.items() if kind != "correct")
    assert worst_images(measured, 2) == order[:2]
    for name in (WORST, "curves.png"):
        assert width_of(files / name) > 900


def test_the_page_says_what_failed(report, folder):
    measured, _, (page, curves) = report
    dataset = CocoDetection(folder, folder / "instances_test.json")
    first = worst_images(measured)[0]
    kinds, missed = measured.failed.kinds[first], measured.failed.missed[first]
    title = f"{kinds.count('correct')} correct, {sum(k in ('class', 'place', 'background') for k in kinds)} wrong"
    assert page.axes[1].get_title() == f"{title}, {int(missed.sum())} missed"
    assert page.axes[0].get_title() == f"truth of {dataset.path(first).name}"
    words = " ".join(text.get_text() for text in page.axes[1].texts)
    for i, kind in enumerate(kinds):
        if kind in ("class", "place", "background"):
            assert f"{kind}: {CLASSES[measured.detections[first]['labels'][i]]}" in words
    of = measured.per_class["leaf"]
    assert curves.axes[0].get_title() == f"leaf: AP50 {of.ap50:.2f}"
    precision, recall = measured.matched.precision_recall(1)
    assert np.allclose(curves.axes[0].lines[0].get_xdata(), recall)
    assert np.allclose(curves.axes[0].lines[0].get_ydata(), precision)


def test_a_page_of_an_earlier_report_does_not_stay(report, folder, tmp_path):
    measured, _, _ = report
    (tmp_path / WORST).write_text("old")
    found = [target | {"scores": torch.ones(len(target["labels"]))} for target in measured.targets]
    perfect = Answers({i + 1 + SPLITS["train"] + SPLITS["val"]: d for i, d in enumerate(found)})
    evaluate(perfect, folder, folder=tmp_path, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "detections.json", "results.json"]


def test_a_data_set_of_its_own_and_a_limit(folder, detector):
    dataset = CocoDetection(folder, folder / "instances_val.json")
    measured = evaluate(detector, dataset, "val", limit=2, progress=False)
    assert isinstance(measured, Report) and measured.images == 2 and measured.data == "CocoDetection"
    assert str(measured).startswith("Answers on CocoDetection, val: 2 pictures with")


def test_without_test_pictures_those_for_validation_are_taken(folder, detector, tmp_path):
    for path in folder.iterdir():
        if path.name != "instances_test.json":
            (tmp_path / path.name).symlink_to(path)
    measured = evaluate(detector, tmp_path, progress=False)
    assert measured.split == "val" and measured.images == SPLITS["val"]
    assert "There are no pictures to test on" in str(measured)
    assert evaluate(detector, tmp_path, "train", progress=False).images == SPLITS["train"]


def test_classes_that_do_not_match(folder, detector):
    other = Answers(detector.answers, ("background", "leaf", "branch"))
    with pytest.raises(ValueError, match="has no class branch, which the detector knows; it has stone") as error:
        evaluate(other, folder, progress=False)
    assert f"rcnn-tutorial train {folder}" in str(error.value)


def test_a_detector_of_fewer_classes_or_another_order(folder, detector):
    def relabelled(labels, classes):
        answers = {}
        for number, found in detector.answers.items():
            stay = torch.tensor([int(label) in labels for label in found["labels"]], dtype=torch.bool)
            answers[number] = {key: value[stay] for key, value in found.items()}
            answers[number]["labels"] = torch.tensor([labels[int(k)] for k in answers[number]["labels"]]).long()
        return evaluate(Answers(answers, classes), folder, progress=False)

    both = evaluate(detector, folder, progress=False)
    stones = relabelled({2: 1}, ("background", "stone"))
    assert list(stones.per_class) == ["stone"] and stones.coco["AP"] == both.per_class["stone"].ap
    assert any("left out" in note and "leaf" in note for note in stones.notes)
    swapped = relabelled({1: 2, 2: 1}, ("background", "stone", "leaf"))
    assert swapped.per_class["leaf"].ap == both.per_class["leaf"].ap


def test_what_cannot_be_evaluated(folder, detector, tmp_path):
    with pytest.raises(ValueError, match='split: expected "train", "val" or "test", got \'tests\''):
        evaluate(detector, folder, "tests")
    with pytest.raises(ValueError, match="threshold: expected a score from 0 to 1, got 50"):
        evaluate(detector, folder, threshold=50)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):  # before anything is computed
        evaluate(Answers({}), folder, folder=tmp_path / "file" / "folder")


def test_time_is_that_of_the_model_without_its_first_call(monkeypatch):
    times = iter([0.0, 50.0, 100.0, 100.2, 200.0, 200.4])
    monkeypatch.setattr("rcnn_tutorial.app.evaluate.perf_counter", lambda: next(times))
    model = Answers({0: answer([])})
    watch = _Watch(model)
    with watch:
        for images in (2, 2, 1):
            model([torch.zeros(3, 8, 8)] * images)
    model([torch.zeros(3, 8, 8)])  # is not looked at any more
    assert watch.milliseconds() == pytest.approx(1000 * 0.6 / 3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The file of an FPN that has learned nothing."""
    path = tmp_path_factory.mktemp("weights") / "fpn.pt"
    build("fpn", CLASSES).save(path)
    return path


def test_the_command(folder, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["evaluate", str(weights), str(folder), "--limit", "2", "--json", "out/numbers.json", "--batch", "1"]
    Path("runs/evaluate").mkdir(parents=True)  # of an earlier evaluation
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0 and f"{weights} on {folder}, test: 2 pictures" in done.output
    files = Path("runs/evaluate2")
    assert f"The files are in {files}: results.json, detections.json" in done.output
    assert (files / "results.json").read_text() == Path("out/numbers.json").read_text()
    chosen = CliRunner().invoke(app, [*arguments, "--output", "here", "--split", "val"], catch_exceptions=False)
    assert "val: 2 pictures" in chosen.output and Path("here/detections.json").exists()


def test_a_bad_file_is_refused_or_skipped(folder, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = shutil.copytree(folder, tmp_path / "data")
    bad = next(data.rglob("*.png"))
    bad.write_bytes(b"no picture")
    arguments = ["evaluate", str(weights), str(data), "--limit", "1"]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1 and bad.name in str(refused.exception)
    assert not Path("runs/evaluate").exists()  # nothing empty is left
    assert CliRunner().invoke(app, [*arguments, "--on-error", "skip"], catch_exceptions=False).exit_code == 0


def test_help_does_not_load_torch():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom rcnn_tutorial.app.cli import app\n"
        "done = CliRunner().invoke(app, ['evaluate', '--help'])\n"
        "assert done.exit_code == 0 and 'AP by class' in done.output, done.output\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.whole
def test_the_program_evaluates_what_is_shipped(tmp_path):
    program = Path(sys.executable).with_name("rcnn-tutorial")
    arguments = ["evaluate", "fpn", "shapes", "--limit", "12", "--output", "report"]
    done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fpn on shapes, test: 12 pictures" in done.stdout
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["coco"]["AP50"] > 0.6
    assert width_of(tmp_path / "report" / WORST) > 900
    wrong = subprocess.run([program, "evaluate", "fpn", "no folder"], cwd=tmp_path, capture_output=True, text=True)
    assert wrong.returncode == 1 and wrong.stderr.startswith("rcnn-tutorial: ") and "Traceback" not in wrong.stderr
