"""`torchrun ... -m rcnn_tutorial train`: several processes, and what happens when one of them dies."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image

from rcnn_tutorial.data.voc import write_annotation
from tests.app.dying import STEP

ROOT = Path(__file__).parents[2]
STEPS, SAVED = 7, 2
pytestmark = [
    pytest.mark.whole,
    pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed"),
    pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs signals and Gloo"),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder as labelImg leaves it: rectangles in the dark."""
    folder, random = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    for number in range(10):
        pixels = random.integers(0, 90, (72, 96, 3), dtype=np.uint8)
        x, y = (int(value) for value in random.integers(4, 20, 2))
        pixels[y : y + 40, x : x + 50] = random.integers(150, 255, 3)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        box = torch.tensor([[x, y, x + 50, y + 40]])
        write_annotation(folder / f"{number}.xml", f"{number}.png", (96, 72), box, ["cat"])
    return folder


def torchrun(module, pictures, folder, *options):
    """Train in two processes of one machine; returns what was printed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *options]
    command += ["-m", module, "train", str(pictures), "--backbone", "tiny", "--steps", str(STEPS), "--batch", "4"]
    command += ["--save-every", str(SAVED), "--device", "cpu", "--folder", str(folder)]
    environment = {key: value for key, value in os.environ.items() if key != "LOCAL_RANK"}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def undisturbed(pictures, tmp_path_factory):
    """The folder of a training that nothing happens to, and what it prints."""
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    return folder, torchrun("rcnn_tutorial", pictures, folder)


def losses(folder):
    """Every loss and rate of every step, as history.csv has them."""
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    return [{name: row[name] for name in ("total", "objectness", "rpn_box", "class", "box", "lr")} for row in rows]


def test_only_the_first_process_prints_and_writes(undisturbed):
    folder, done = undisturbed
    assert done.stdout.count("Training fpn in") == 1 and done.stdout.count("rcnn-tutorial detect") == 1
    assert "Traceback" not in done.stderr and len(losses(folder)) == STEPS
    names = {path.name for path in folder.iterdir()}
    assert {"best.pt", "last.pt", "checkpoint.pt", "history.csv", "results.json", "settings.json"} <= names
    assert not (folder.parent / "runs").exists() and not list(folder.glob("*.part"))


def test_a_training_survives_the_death_of_a_process(pictures, undisturbed, tmp_path):
    """torchrun begins anew after one of two processes is killed, and the losses are those of the undisturbed run."""
    folder = tmp_path / "disturbed"
    done = torchrun("tests.app.dying", pictures, folder, "--max-restarts=1")
    assert "Signal 9" in done.stderr or "-9" in done.stderr, "nobody died"
    assert STEP % SAVED > 0 and STEP < STEPS  # some steps are done twice, and some are left
    assert losses(folder) == losses(undisturbed[0])
    first, second = (torch.load(run / "last.pt")["weights"] for run in (folder, undisturbed[0]))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
