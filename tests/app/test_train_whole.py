"""The console script `rcnn-tutorial train`, killed and interrupted at moments that nobody chose."""

import csv
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.app.folder import own_folder

SCRIPT = Path(sys.executable).with_name("rcnn-tutorial")
STEPS = 16

pytestmark = [pytest.mark.whole, pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")]


def start(folder, *arguments):
    return subprocess.Popen(
        [SCRIPT, "train", *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def losses(run):
    with open(run / "history.csv", newline="", encoding="utf-8") as file:
        return [[row[name] for name in ("objectness", "rpn_box", "class", "box", "lr")] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with pictures and an undisturbed run, begun with one command."""
    root = tmp_path_factory.mktemp("place")
    own_folder(root / "data")
    process = start(root, "data", "--steps", str(STEPS), "--batch", "2", "--device", "cpu", "--name", "whole")
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "rcnn-tutorial detect runs/whole PICTURES" in output
    return root


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_ended_at_any_moment_it_goes_on_to_the_last_bit(place, end, handler):
    run, chance = place / "runs" / end.name, random.Random(end.name)
    arguments = ["data", "--steps", str(STEPS), "--batch", "2", "--device", "cpu", "--name", end.name]
    process = start(place, *arguments, "--save-every", "1")
    for _ in range(2):
        wait_for(process, run / "checkpoint.pt")
        time.sleep(chance.uniform(0.05, 0.4))
        process.send_signal(end)
        _, errors = process.communicate(timeout=240)
        if process.returncode == 0:
            break  # it had come to its end before
        if end == signal.SIGINT:
            assert process.returncode == 130 and f"rcnn-tutorial train --resume runs/{end.name}" in errors
            assert "Traceback" not in errors
        else:
            assert process.returncode == -signal.SIGKILL
        process = start(place, "--resume", f"runs/{end.name}")
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert losses(run) == losses(place / "runs/whole")
    assert (run / "results.json").is_file() and (run / "validation.jpg").is_file()


def wait_for(process, checkpoint):
    """Until there is a newer checkpoint than at the beginning, or the process has come to its end."""
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > before):
        time.sleep(0.01)


def test_errors_are_one_line(place):
    for arguments, said in (
        (["data", "--name", "whole", "--folder", "runs/whole"], "has a training already"),
        (["nowhere"], "nowhere"),
        (["data", "--detector", "yolo"], "detector"),
    ):
        process = start(place, *arguments)
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 1 and said in errors and "Traceback" not in errors
        assert len(errors.strip().splitlines()) == 1
