"""An evaluation that several processes share gives what one process gives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from rcnn_tutorial.evaluation import coco_ap, predict, predict_together, prediction
from tests.evaluation.test_predict import Detector, data
from tests.evaluation.together import PICTURES, detector_and_pictures

ROOT = Path(__file__).parents[2]


def simulated(monkeypatch, processes, dataset, **options):
    """What each of several processes returns, and the sizes of its mini-batches: one after the other in this one."""
    kept, sizes = [], []

    def first_pass(value):
        kept.append(value)
        return [value]

    for gather in (first_pass, lambda _: kept):
        results = []
        for rank in range(processes):
            model = Detector()
            monkeypatch.setattr(prediction, "process_rank", lambda rank=rank: (rank, processes))
            monkeypatch.setattr(prediction, "gathered", gather)
            try:
                results.append(predict_together(model, dataset, progress=False, **options))
            except KeyError:  # in the first pass the other parts are not there yet
                results.append(None)
            sizes.append([size for size, _ in model.calls])
    return results, sizes[:processes]


@pytest.mark.parametrize(
    ("count", "processes", "expected"),
    [
        (10, 3, [[4], [4], [2]]),
        (17, 2, [[4, 4, 1], [4, 4]]),
        (3, 4, [[3], [], [], []]),
        (0, 2, [[], []]),
    ],
)
def test_each_process_has_its_batches_and_all_get_the_same_lists(monkeypatch, count, processes, expected):
    results, sizes = simulated(monkeypatch, processes, data(range(20, 20 + count)))
    assert sizes == expected
    for detections, targets in results:
        assert [d["boxes"][0, 2].item() for d in detections] == list(range(20, 20 + count))
        assert [int(t["image_id"]) for t in targets] == list(range(20, 20 + count))


def test_a_limit_counts_for_all_together(monkeypatch):
    results, sizes = simulated(monkeypatch, 2, data(range(20, 40)), limit=5, batch_size=2)
    assert sizes == [[2, 1], [2]] and all(len(detections) == 5 for detections, _ in results)
    for options in ({"batch_size": 0}, {"limit": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: expected at least 1, got 0"):
            predict_together(Detector(), data([20]), **options)


def test_an_error_names_the_picture_of_the_data_set(monkeypatch):
    """And not its place in the part of the process."""
    pictures = data(range(20, 28))
    pictures[6] = (pictures[6][0], {"boxes": torch.zeros(2, 4), "labels": torch.zeros(0, dtype=torch.int64)})
    monkeypatch.setattr(prediction, "process_rank", lambda: (1, 2))
    with pytest.raises(ValueError, match=r"dataset\[6\]"):
        predict_together(Detector(), pictures, batch_size=2, progress=False)


def test_alone_it_is_predict():
    ours, theirs = (f(Detector(), data(range(20, 27)), 2, progress=False) for f in (predict_together, predict))
    assert [d["boxes"].tolist() for d in ours[0]] == [d["boxes"].tolist() for d in theirs[0]]
    assert [t["image_id"] for t in ours[1]] == [t["image_id"] for t in theirs[1]]


@pytest.mark.whole
@pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")
def test_three_processes_of_torchrun(tmp_path):
    """FPN on pictures of different sizes: the same detections to the last bit, and so the same AP, in every process.

    Seven pictures in mini-batches of two leave the last process with fewer; of two pictures two processes have none.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=3"]
    command += ["-m", "tests.evaluation.together", str(tmp_path)]
    environment = {key: value for key, value in os.environ.items() if key != "LOCAL_RANK"}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, pictures = detector_and_pictures()
        for count in PICTURES:
            detections, targets = predict(model, pictures, batch_size=2, limit=count, progress=False)
            assert sum(len(detected["boxes"]) for detected in detections) > 0
            for rank in range(3):
                found = torch.load(tmp_path / f"{count}-{rank}.pt")
                assert len(found["detections"]) == len(found["targets"]) == count
                for mine, alone in zip(found["detections"], detections, strict=True):
                    assert mine.keys() == alone.keys() and all(torch.equal(mine[key], alone[key]) for key in alone)
                for mine, alone in zip(found["targets"], targets, strict=True):
                    assert torch.equal(mine["boxes"], alone["boxes"]) and mine["image_id"] == alone["image_id"]
                assert found["AP"] == coco_ap(detections, targets, model.classes)["AP"]
    finally:
        torch.set_num_threads(threads)
