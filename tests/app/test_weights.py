"""What the command says of weights: of all that there are, and of one file, whatever is in it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch.utils.data import TensorDataset
from typer.testing import CliRunner

from rcnn_tutorial import build, load
from rcnn_tutorial.app import weights as module
from rcnn_tutorial.app.cli import app
from rcnn_tutorial.app.weights import CHECKPOINT, DETECTOR, STATE, contents, weights
from rcnn_tutorial.compat import NAMED
from rcnn_tutorial.detectors import DETECTORS
from rcnn_tutorial.saving import RESNETS
from rcnn_tutorial.training import TrainSettings
from rcnn_tutorial.training.checkpoint import Run

CLASSES = ("background", "leaf", "stone")
RESNET18 = "resnet18-f37072fd.pth"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No network, and a cache of its own, in which there is one of torchvision's files."""

    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / RESNET18).write_bytes(b"")
    return cache


def said(*arguments):
    done = CliRunner().invoke(app, ["weights", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_all_that_is_shipped_is_listed_with_its_record():
    listed = {entry.name: entry for entry in weights().shipped}
    assert list(listed) == list(DETECTORS)
    root = Path(module.__file__).parents[1]
    for name, entry in listed.items():
        recorded = json.loads((root / "course" / "records" / f"{name}.json").read_text())["test"].values()
        assert {"AP": entry.ap, "AP50": entry.ap50}.items() <= max(recorded, key=lambda row: row["AP"]).items()
        assert entry.size == entry.path.stat().st_size and entry.classes[1:] == (
            "square",
            "bar",
            "ring",
            "disc",
            "star5",
            "star6",
        )
    assert "fpn             2.9 MB  AP 0.616  AP50 0.841" in said()


def test_what_torchvision_offers_is_what_this_package_takes(alone):
    offered = weights().offered
    detectors = {entry.name.partition("_Weights")[0]: entry for entry in offered if entry.kind == "detector"}
    assert set(detectors) == set(NAMED)
    assert detectors["MaskRCNN_ResNet50_FPN"].published == {"AP": 37.9, "mask AP": 34.6}
    networks = [entry for entry in offered if entry.kind == "network"]
    named = {str(entry.name.partition("_Weights")[0]).lower() for entry in networks}
    assert named == {*RESNETS, "alexnet", "vgg16"}
    for entry in offered:
        assert entry.path.parent == alone and entry.there == (entry.path.name == RESNET18), entry
        state = torchvision.models.get_weight(entry.name)
        assert entry.url == state.url and abs(entry.size / 2**20 - state.meta["_file_size"]) < 1e-3


def test_the_table_says_what_is_there_and_where_the_rest_goes(alone):
    output = said()
    lines = {line.split()[0]: line for line in output.splitlines() if "_Weights." in line}
    assert [name for name, line in lines.items() if "in the cache" in line] == ["ResNet18_Weights.IMAGENET1K_V1"]
    assert "102.5 MB  top 1 80.9" in lines["ResNet50_Weights.IMAGENET1K_V2"]
    assert str(alone) in output and "TORCH_HOME" in output
    assert "VGG16_Weights.IMAGENET1K_FEATURES" not in lines  # without a last layer, and without a published figure


def test_one_of_torchvision_says_which_file_goes_where(alone):
    missing = said("FasterRCNN_ResNet50_FPN_Weights.COCO_V1")
    assert "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth\n  and put it here\n" in missing and str(alone) in missing
    there = said("ResNet18_Weights.IMAGENET1K_V1")
    assert f"The file is there already: {alone / RESNET18}" in there and "put it" not in there


def test_a_detector(tmp_path):
    path = tmp_path / "best.pt"
    model = build("fpn", CLASSES)
    model.save(path, half=True)
    for file in (path, str(path), tmp_path):  # a training's folder is its best weights
        found = contents(file)
        assert (found.path, found.kind, found.detector, found.classes) == (path, DETECTOR, "fpn", CLASSES)
    assert found.numbers == sum(value.numel() for value in model.state_dict().values())
    assert found.types == ("float16",) and found.steps is None and found.size == path.stat().st_size
    assert found.settings["rpn"]["nms_threshold"] == 0.7 and found.network.startswith("5 convolutions")
    os.utime(path, (0, 1_000_000_000))
    output = said(path)
    assert "written 2001-09-0" in output and "2 classes: leaf, stone" in output and "  detector: fpn" in output
    assert "      nms_threshold: 0.7\n" in output and "\n    nms_threshold: 0.4\n" in output


def test_networks_are_named(tmp_path):
    content = {"detector": "fpn", "classes": CLASSES, "settings": {}, "weights": {}}
    for network, words in (({"resnet": "resnet18"}, "resnet18"), (None, "load(path, net=...)")):
        torch.save(content | {"network": network}, tmp_path / "net.pt")
        assert words in contents(tmp_path / "net.pt").network


def test_a_shipped_one():
    found = contents("mask_rcnn")
    assert found.detector == "mask_rcnn" and found.classes == load("mask_rcnn").classes


def test_a_checkpoint(tmp_path):
    data = TensorDataset(torch.zeros(8))
    data.classes = CLASSES
    run = Run(build("faster_rcnn", CLASSES), data, TrainSettings(steps=40, batch_size=2, lr=0.125))
    run.history.losses["class"] = [0.5, 0.25, 0.125]
    run.save(tmp_path / "checkpoint.pt")
    found = contents(tmp_path / "checkpoint.pt")
    assert (found.kind, found.classes, found.steps, found.detector) == (CHECKPOINT, CLASSES, 3, None)
    assert found.settings["lr"] == 0.125
    assert "steps done: 3" in said(tmp_path / "checkpoint.pt")


def test_a_table_of_weights(tmp_path):
    torch.save({"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.int64)}, tmp_path / "net.pth")
    found = contents(tmp_path / "net.pth")
    assert (found.kind, found.numbers, found.types) == (STATE, 10, ("float32", "int64"))


class Malicious:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_files_that_are_refused_in_one_line(tmp_path):
    whole = tmp_path / "whole.pt"
    build("fpn", CLASSES).save(whole)
    cases = {
        "malicious": (lambda path: torch.save({"detector": Malicious(str(tmp_path / "made"))}, path), "asks to run"),
        "cut": (lambda path: path.write_bytes(whole.read_bytes()[:50_000]), "cut short or damaged"),
        "empty": (lambda path: path.write_bytes(b""), "cut short or damaged"),
        "text": (lambda path: path.write_text("weights"), "cut short or damaged"),
        "number": (lambda path: torch.save(3, path), "holds something else"),
        "list": (lambda path: torch.save([torch.zeros(2)], path), "holds something else"),
        "values": (lambda path: torch.save({"a": 1}, path), "holds something else"),
        "half": (lambda path: torch.save({"detector": "fpn", "classes": 3}, path), "holds something else"),
        "settings": (
            lambda path: torch.save(
                {"detector": "fpn", "classes": ["b"], "network": {"layers": []}, "settings": 3, "weights": {}}, path
            ),
            "holds something else",
        ),
        "checkpoint": (lambda path: torch.save({"identity": {}, "model": {}}, path), "holds something else"),
    }
    for name, (make, expected) in cases.items():
        path = tmp_path / f"{name}.pt"
        make(path)
        with pytest.raises(ValueError, match=expected) as error:
            contents(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value), name
    assert not (tmp_path / "made").exists()
    with pytest.raises(FileNotFoundError, match="nothing: there is no such file, and no weights of that name"):
        contents("nothing")


def test_a_name_cannot_command_the_terminal(tmp_path):
    build("fpn", ("background", "\x1b[2Jcat")).save(tmp_path / "odd.pt")
    output = said(tmp_path / "odd.pt")
    assert "1 classes: ?[2Jcat" in output and "\x1b" not in output


def test_help_does_not_load_torch():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom rcnn_tutorial.app.cli import app\n"
        "done = CliRunner().invoke(app, ['weights', '--help'])\n"
        "assert done.exit_code == 0 and 'Nothing is downloaded' in done.output, done.output\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.whole
def test_the_program_lists_and_refuses(tmp_path):
    program = Path(sys.executable).with_name("rcnn-tutorial")
    listed = subprocess.run([program, "weights"], cwd=tmp_path, capture_output=True, text=True)
    assert listed.returncode == 0 and "fpn " in listed.stdout and "RetinaNet_ResNet50_FPN_V2_Weights" in listed.stdout
    torch.save({"detector": Malicious(str(tmp_path / "made"))}, tmp_path / "bad.pt")
    refused = subprocess.run([program, "weights", "bad.pt"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 1 and refused.stdout == ""
    assert refused.stderr.startswith("rcnn-tutorial: bad.pt: asks to run") and refused.stderr.count("\n") == 1
    assert not (tmp_path / "made").exists()
