"""Several processes that `torchrun` starts, as README says, on a CPU by Gloo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from rcnn_tutorial.training import join_processes

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed"),
    pytest.mark.whole,
]


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What both processes leave, a folder for each job; nothing may be printed, warnings neither."""
    folder = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "tests.training.together", str(folder)]
    environment = {key: value for key, value in os.environ.items() if key != "LOCAL_RANK"}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "default"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "Warning" in line and "tests/" not in line], done.stderr
    return lambda job: [torch.load(folder / job / f"{rank}.pt") for rank in range(2)]


def test_a_detector_in_two_processes(left):
    """Equal losses and weights; each process draws samples of its own."""
    first, second = left("detector")
    assert len(first["losses"]["class"]) == 3 and first["losses"] == second["losses"]
    assert all(torch.equal(value, second["weights"][name]) for name, value in first["weights"].items())
    assert not torch.equal(first["sampling"], second["sampling"])


def test_an_evaluation_may_take_longer_than_a_step_may(left):
    first, second = left("evaluation")
    assert [found["AP"] for found in first] == [0.5, 0.5] and second == []


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert join_processes().type == ("cuda" if torch.cuda.is_available() else "cpu") and not dist.is_initialized()
