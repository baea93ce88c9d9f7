"""`rcnn-tutorial train` as functions: what a run's folder holds, and how a run is left, gone on with and refused."""

import csv
import json
import math
import subprocess
import sys

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import rcnn_tutorial
from rcnn_tutorial.app import record, runs
from rcnn_tutorial.app.cli import app
from rcnn_tutorial.app.console import plain
from rcnn_tutorial.app.detect import detect
from rcnn_tutorial.app.planning import decide
from rcnn_tutorial.app.train import fit, resume
from rcnn_tutorial.detectors import load
from rcnn_tutorial.training import loop
from tests.app.folder import own_coco, own_folder, quick

QUIET = {"batch": 2, "device": "cpu", "progress": False}
WRITTEN = [
    ".lock", "best.pt", "checkpoint.pt", "curves.png", "history.csv", "last.pt", "results.json", "settings.json",
    "tensorboard", "validation.jpg",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def narrow():
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        yield


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return own_folder(tmp_path_factory.mktemp("own") / "data")


@pytest.fixture(scope="module")
def whole(own, tmp_path_factory):
    """An undisturbed run of six steps."""
    return fit(own, folder=tmp_path_factory.mktemp("runs") / "whole", steps=6, **QUIET)


@pytest.fixture(autouse=True)
def without_pictures(whole, monkeypatch):
    """They take longer than the steps; the undisturbed run has them."""
    monkeypatch.setattr(runs, "draw_curves", lambda history, path: path.touch())
    monkeypatch.setattr(record, "draw_curves", lambda history, path: path.touch())
    monkeypatch.setattr(record, "draw_detections", lambda model, dataset, path: path.touch())


def rows_of(folder):
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def interrupt_after(monkeypatch, steps):
    """Ctrl-C in the middle of a step."""
    import signal

    usual = loop._step

    def step(run, number, *rest):
        if number == steps - 1:
            signal.raise_signal(signal.SIGINT)
        return usual(run, number, *rest)

    monkeypatch.setattr(loop, "_step", step)


def test_a_runs_folder_holds_all_that_is_known_of_it(whole, own):
    assert sorted(path.name for path in whole.folder.iterdir()) == WRITTEN
    settings = json.loads((whole.folder / "settings.json").read_text())
    assert settings["classes"] == ["background", "leaf", "stone"] and settings["layout"] == "PASCAL VOC"
    assert settings["plan"]["settings"]["training"]["steps"] == 6 and settings["plan"]["data"] == str(own)
    assert settings["pictures"] == {"train": 5, "val": 2, "test": 1}
    assert settings["versions"]["torch"] == torch.__version__ and settings["machine"]["threads"] == 1
    assert len(settings["fingerprint"]["train"]) == 64
    for name, size in (("curves.png", 960), ("validation.jpg", 959)):
        with Image.open(whole.folder / name) as image:
            assert abs(image.width - size) <= 2


def test_the_rows_of_history_are_the_steps(whole):
    rows = rows_of(whole.folder)
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    for name, losses in whole.history.losses.items():
        assert [float(row[name]) for row in rows] == losses
    assert [float(row["total"]) for row in rows] == pytest.approx(whole.history.total)
    assert [bool(row["AP"]) for row in rows] == [False] * 5 + [True]
    assert float(rows[-1]["AP"]) == whole.history.evaluations[-1]["AP"]


def test_the_results_are_those_of_the_weights_that_are_kept(whole):
    results = json.loads((whole.folder / "results.json").read_text())
    assert results["pictures"] == 2 and list(results["boxes"]["per_class"]) == ["leaf", "stone"]
    assert results["boxes"]["AP"] == whole.history.evaluations[-1]["AP"] == whole.results["boxes"]["AP"]
    assert set(results["voc"]["per_class"]) == {"leaf", "stone"}
    best, last = (load(whole.folder / f"{name}.pt").state_dict() for name in ("best", "last"))
    assert all(value.equal(last[name]) for name, value in best.items())
    assert whole.next_commands[0] == f"rcnn-tutorial detect {whole.folder} PICTURES"


def test_tensorboard_reads_the_losses(whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole.folder / "tensorboard")).Reload()
    assert {"loss/total", "loss/class", "validation/AP", "lr"} <= set(events.Tags()["scalars"])
    losses = [event.value for event in events.Scalars("loss/class")]
    assert losses == pytest.approx(whole.history.losses["class"])


def test_after_ctrl_c_a_run_goes_on_to_the_last_bit(own, whole, tmp_path, monkeypatch, handler):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4)
        with pytest.raises(KeyboardInterrupt, match="Stopped after 4 of 6 steps.*train --resume"):
            fit(own, folder=folder, steps=6, **QUIET)
    assert (folder / "checkpoint.pt").is_file() and (folder / "curves.png").is_file()
    assert len(rows_of(folder)) == 4
    assert len(detect(folder, torch.zeros(3, 80, 100), progress=False)) == 1  # by last.pt, as there is no best.pt yet
    resumed = resume(folder, progress=False)
    assert resumed.history.losses == whole.history.losses
    assert [row["total"] for row in rows_of(folder)] == [row["total"] for row in rows_of(whole.folder)]
    assert plain(resumed.results["boxes"]) == plain(whole.results["boxes"])  # with null where there is no number
    begun = json.loads((folder / "settings.json").read_text())["earlier"]
    assert len(begun) == 1 and begun[0]["versions"]["torch"] == torch.__version__


def test_fewer_steps_than_are_done_are_refused_before_anything_is_written(own, tmp_path, capsys):
    folder = tmp_path / "run"
    fit(own, folder=folder, steps=2, **QUIET)
    before = (folder / "settings.json").read_bytes()
    with pytest.raises(ValueError, match="run has 2 steps already, so there can be no fewer of them, got 1"):
        resume(folder, steps=1, progress=False)
    assert (folder / "settings.json").read_bytes() == before
    resume(folder)
    assert f"All 2 steps are done. To train for longer: rcnn-tutorial train --resume {folder} --steps 4" in (
        capsys.readouterr().out
    )


def test_a_folder_without_weights_says_how_to_go_on(tmp_path):
    with pytest.raises(FileNotFoundError, match="has neither best.pt nor last.pt, which a training writes.$"):
        detect(tmp_path, torch.zeros(3, 80, 100))
    (tmp_path / "settings.json").touch()
    with pytest.raises(FileNotFoundError, match="Go on by: rcnn-tutorial train --resume"):
        detect(tmp_path, torch.zeros(3, 80, 100))


def test_the_best_weights_are_measured_and_given_and_not_the_last(own, tmp_path, monkeypatch):
    found = iter([0.5, 0.1])
    monkeypatch.setattr(record, "numbers", lambda *arguments: dict.fromkeys(record.NUMBERS, next(found)))
    monkeypatch.setattr(runs, "decide", lambda *arguments: decide(*arguments).with_training(evaluate_every=1))
    fitted = fit(own, folder=tmp_path / "run", steps=2, **QUIET)
    best, last = (load(tmp_path / f"run/{name}.pt").state_dict() for name in ("best", "last"))
    given = fitted.model.state_dict()
    assert all(value.equal(best[name]) for name, value in given.items())
    assert not all(value.equal(last[name]) for name, value in given.items())
    assert [row["AP"] for row in rows_of(tmp_path / "run")] == ["0.5", "0.1"]


def test_ctrl_c_while_the_results_are_measured_says_how_to_go_on(own, tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "conclude", stop)
        with pytest.raises(KeyboardInterrupt, match="^Stopped. Go on by: rcnn-tutorial train --resume .*run$"):
            fit(own, folder=tmp_path / "run", steps=1, **QUIET)
        patch.setattr(runs, "step_cost", stop)
        with pytest.raises(KeyboardInterrupt, match="^$"):
            fit(own, folder=tmp_path / "not_begun", steps=1, **QUIET)
    assert not (tmp_path / "not_begun").exists()
    assert resume(tmp_path / "run", progress=False).results["pictures"] == 2


def test_a_finished_run_goes_on_with_more_steps(own, tmp_path):
    first = fit(own, folder=tmp_path / "run", steps=2, **QUIET)
    longer = resume(tmp_path / "run", steps=4, progress=False)
    assert longer.history.losses["class"][:2] == first.history.losses["class"]
    assert longer.history.steps == 4 and len(rows_of(tmp_path / "run")) == 4
    assert json.loads((tmp_path / "run/settings.json").read_text())["plan"]["settings"]["training"]["steps"] == 4
    rates = [0.025, 0.0125, 0.0125, 0.025 * (1 + math.cos(0.75 * math.pi)) / 2]  # from there on those of four steps
    assert longer.history.lr == pytest.approx(rates)


def test_a_folder_with_a_run_is_refused_with_both_ways_out(whole, own):
    before = (whole.folder / "settings.json").read_bytes()
    with pytest.raises(ValueError, match=r"has a training already.*--resume .*whole; or choose another.*--folder"):
        fit(own, folder=whole.folder, steps=1, **QUIET)
    assert (whole.folder / "settings.json").read_bytes() == before


def test_without_a_folder_runs_are_counted(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [fit(own, steps=1, **QUIET).folder for _ in range(2)]
    assert [str(folder) for folder in folders] == ["runs/fpn", "runs/fpn2"]


def test_what_cannot_be_resumed_is_refused(own, tmp_path):
    with pytest.raises(ValueError, match="has no run to go on with"):
        resume(tmp_path)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ValueError, match="settings.json is damaged"):
        resume(tmp_path)
    (tmp_path / "settings.json").write_text('{"plan": {"detector": "fpn"}}')
    with pytest.raises(ValueError, match="settings.json: expected the settings of a training"):
        resume(tmp_path)


def test_fast_rcnn_has_proposals_and_normalised_offsets(own, tmp_path):
    fitted = fit(own, "fast_rcnn", folder=tmp_path / "run", steps=1, **QUIET)
    assert fitted.model.target_mean.abs().sum() > 0
    assert len(list((tmp_path / "run/proposals").glob("*.pt"))) == 7  # of 5 and 2 pictures


@pytest.mark.whole
@pytest.mark.parametrize("detector", ["faster_rcnn", "retinanet", "mask_rcnn", "rcnn", "sppnet"])
def test_every_detector_trains(detector, own, tmp_path):
    own = own_coco(tmp_path / "coco") if detector == "mask_rcnn" else own
    fitted = fit(own, detector, folder=tmp_path / "run", steps=2, device="cpu", progress=False)
    assert fitted.history.steps == 2 and len(rows_of(tmp_path / "run")) == 2
    assert load(tmp_path / "run/best.pt").name == detector == fitted.model.name
    assert "AP" in fitted.results["boxes"]
    if detector in ("rcnn", "sppnet"):  # whose later stages are done anew, from the features that are kept
        assert str(resume(tmp_path / "run", progress=False).results["boxes"]) == str(fitted.results["boxes"])


def test_mask_rcnn_wants_masks(own, tmp_path):
    with pytest.raises(ValueError, match="learns from masks, which .* does not have.*--detector fpn"):
        fit(own, "mask_rcnn", folder=tmp_path / "run", **QUIET)


def test_the_command_is_the_function(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["train", str(own), "--steps", "2", "--batch", "2", "--device", "cpu", "--name", "first"]
    result = CliRunner().invoke(app, [*arguments, "--classes", "stone"])
    assert result.exit_code == 0, result.output
    for said in ("1 class: stone.", "One step takes", "Next:", "rcnn-tutorial detect runs/first PICTURES"):
        assert said in result.output
    settings = json.loads((tmp_path / "runs/first/settings.json").read_text())
    assert settings["classes"] == ["background", "stone"] and settings["plan"]["wanted"] == ["stone"]
    again = CliRunner().invoke(app, ["train", "--resume", "runs/first", "--steps", "3"])
    assert again.exit_code == 0 and len(rows_of(tmp_path / "runs/first")) == 3
    refused = CliRunner().invoke(app, ["train", "--resume", "runs/first", "--batch", "2"])
    assert refused.exit_code == 1 and "--resume takes batch from runs/first" in str(refused.exception)
    assert "DATA is missing" in str(CliRunner().invoke(app, ["train"]).exception)


def test_help_answers_without_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from rcnn_tutorial.app.cli import app\n"
        "result = CliRunner().invoke(app, ['train', '--help']); assert result.exit_code == 0, result.output\n"
        "assert '--resume' in result.output and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fit_is_a_name_of_the_package():
    assert rcnn_tutorial.fit is fit
